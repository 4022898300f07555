//! The browser for tests: that its commands do what they say, and that nothing of it stays behind.

use serde_json::json;
use testkit::edge::eventually;
use testkit::images::decode;
use testkit::webdriver::Browser;

const PAGE: &str = "data:text/html,<title>t</title><body style='background:rgb(200,30,30)'>\
    <input id=name value=old><button onclick=\"out.textContent='Hello '+document.querySelector('input').value\">go</button>\
    <p id=out></p><p hidden id=unseen>unseen</p>";

async fn browser() -> Option<Browser> {
    let browser = Browser::start(500, 400).await.expect("the driver that is there works");
    if browser.is_none() {
        eprintln!("skipped: chromedriver is not installed");
    }
    browser
}

/// Processes of a group that have not ended.
fn running(group: u32) -> Vec<String> {
    let all = std::fs::read_dir("/proc").expect("Linux has it");
    let stats = all.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats
        .filter(|stat| {
            // The name before it is in brackets and may hold anything (proc(5)).
            let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
            let fields: Vec<&str> = rest.split(' ').collect();
            fields[0] != "Z" && fields[2].parse() == Ok(group)
        })
        .collect()
}

#[tokio::test]
async fn commands_do_what_they_say() {
    let Some(browser) = browser().await else { return };
    browser.navigate(PAGE).await.expect("a page");
    let field = browser.find("#name").await.expect("there");
    assert_eq!(browser.property(&field, "value").await.expect("there"), "old");
    browser.clear(&field).await.expect("a field");
    browser.send_keys(&field, "wörld \"1\"").await.expect("a field");
    browser.click(&browser.find("button").await.expect("there")).await.expect("a button");
    let out = browser.find("#out").await.expect("there");
    assert_eq!(browser.text(&out).await.expect("there"), "Hello wörld \"1\"");
    assert_eq!(browser.text(&browser.find("#unseen").await.expect("there")).await.expect("there"), "");
    let sum = browser.execute("return arguments[0] + arguments[1].length", &[json!(2), json!([1, 2, 3])]).await;
    assert_eq!(sum.expect("a number"), 5);

    let missing = browser.find("#missing").await.expect_err("there is none");
    assert!(format!("{missing:#}").contains("no such element"), "{missing:#}");
    assert!(browser.execute("throw new Error('on purpose')", &[]).await.is_err());

    browser.resize(400, 500).await.expect("a window");
    assert_eq!(browser.execute("return innerWidth", &[]).await.expect("a number"), 400);
    let shot = decode(&browser.screenshot().await.expect("a picture")).to_rgb8();
    assert_eq!((shot.width(), shot.get_pixel(390, 200).0), (400, [200, 30, 30]));
    browser.reload().await.expect("a page");
    let field = browser.find("#name").await.expect("there");
    assert_eq!(browser.property(&field, "value").await.expect("there"), "old");
    browser.close().await.expect("it ends");
}

#[tokio::test]
async fn nothing_stays_behind_whether_it_is_closed_or_dropped() {
    for is_closed in [true, false] {
        let Some(browser) = browser().await else { return };
        browser.navigate(PAGE).await.expect("a page");
        let group = browser.process_group().expect("it runs");
        assert!(running(group).len() > 2, "a shell, a driver, a browser");
        if is_closed {
            browser.close().await.expect("it ends");
        } else {
            drop(browser);
        }
        eventually("the end of every process", async || running(group).is_empty().then_some(())).await;
    }
}
