//! The playground as a developer sees it, in a real browser.

use serde_json::Value;
use testkit::edge::{Edge, EdgeSetup, eventually};
use testkit::images;
use testkit::webdriver::Browser;

use crate::support::photo;

/// The page in a window of this size; `None` where no browser is installed.
async fn open(edge: &Edge, width: u32, height: u32) -> Option<Browser> {
    let Some(browser) = Browser::start(width, height).await.expect("the driver that is there works") else {
        eprintln!("skipped: chromedriver is not installed");
        return None;
    };
    browser.navigate(&format!("http://{}/playground", edge.admin_addr())).await.expect("a page");
    Some(browser)
}

async fn text(browser: &Browser, selector: &str) -> String {
    browser.text(&browser.find(selector).await.expect("there")).await.expect("text")
}

async fn value(browser: &Browser, selector: &str) -> String {
    let value = browser.property(&browser.find(selector).await.expect("there"), "value").await.expect("a field");
    value.as_str().expect("text").to_owned()
}

/// Waits until an element shows this.
async fn shows(browser: &Browser, selector: &str, expected: &str) {
    eventually(&format!("{expected:?} in {selector}"), async || {
        (text(browser, selector).await == expected).then_some(())
    })
    .await;
}

/// Picks a picture as a mouse does.
async fn pick(browser: &Browser, source: &str) {
    let selector = format!("#pictures input[value='{source}']");
    let picture = eventually("the pictures", async || browser.find(&selector).await.ok()).await;
    browser.click(&picture).await.expect("it can be picked");
}

/// Types into a control in place of what is there.
async fn set(browser: &Browser, selector: &str, keys: &str) {
    let field = browser.find(selector).await.expect("there");
    browser.clear(&field).await.expect("a field");
    browser.send_keys(&field, keys).await.expect("a field");
}

/// Takes one of a select's options.
async fn choose(browser: &Browser, selector: &str, option: &str) {
    let option = browser.find(&format!("{selector} option[value='{option}']")).await.expect("there");
    browser.click(&option).await.expect("it can be chosen");
}

fn edge_with_pictures() -> EdgeSetup {
    let setup = EdgeSetup::new().set("playground", true).tenant("presets.thumb = \"w=60\"");
    setup.put("beach.jpg", photo(600, 400));
    setup.put("my disc.png", images::png::rgba(&images::hard_edged(200, [200, 30, 30], [0, 255, 0])));
    setup
}

#[tokio::test]
async fn turning_ops_shows_picture_url_and_facts_and_a_reload_keeps_them() {
    let edge = edge_with_pictures().start().await;
    let Some(browser) = open(&edge, 1400, 1000).await else { return };
    shows(&browser, "#dimensions", "600 × 400").await;

    pick(&browser, "@local/my%20disc.png").await;
    shows(&browser, "#dimensions", "200 × 200").await;
    set(&browser, "#op-width", "120").await;
    choose(&browser, "#op-format", "webp").await;
    shows(&browser, "#dimensions", "120 × 120").await;
    shows(&browser, "#type", "image/webp").await;
    let url = format!("http://{}/demo/w=120,f=webp/@local/my%20disc.png", edge.addr());
    assert_eq!(value(&browser, "#url").await, url);
    assert!(text(&browser, "#bytes").await.replace(',', "").parse::<u64>().expect("a number") > 0);
    assert_eq!(text(&browser, "#status").await, "200 OK");
    assert_eq!(text(&browser, "#cache").await, "miss");
    let timing = text(&browser, "#timing").await;
    for phase in ["fetch ", "queue ", "transform "] {
        assert!(timing.contains(phase), "{timing}");
    }
    let srcset = text(&browser, "#srcset").await;
    for candidate in ["w=60,f=webp/@local/my%20disc.png 60w", &format!("{url} 120w"), "w=240,f=webp"] {
        assert!(srcset.contains(candidate), "{srcset}");
    }
    browser.click(&browser.find("#copy-url").await.expect("there")).await.expect("a button");
    shows(&browser, "#copy-url", "Copied").await;
    shows(&browser, "#copy-url", "Copy").await;
    // For people: what it looks like.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/playground.png"), browser.screenshot().await.expect("there"))
        .expect("Cargo has made the folder");

    browser.reload().await.expect("a page");
    shows(&browser, "#dimensions", "120 × 120").await;
    assert_eq!(value(&browser, "#url").await, url);
    assert_eq!(
        (value(&browser, "#op-width").await, value(&browser, "#op-format").await),
        ("120".into(), "webp".into())
    );
    assert_eq!(text(&browser, "#cache").await, "hit (memory)");
    let picked = eventually("the pictures", async || browser.find("#pictures :checked").await.ok()).await;
    assert_eq!(browser.property(&picked, "value").await.expect("there"), "@local/my%20disc.png");
    browser.close().await.expect("it ends");
    edge.stop().await;
}

#[tokio::test]
async fn a_refusal_is_shown_in_place_of_the_picture() {
    let edge = edge_with_pictures().start().await;
    let Some(browser) = open(&edge, 1400, 1000).await else { return };
    shows(&browser, "#dimensions", "600 × 400").await;
    set(&browser, "#op-width", "99999").await;
    shows(&browser, "#problem-code", "bad-value").await;
    let detail = text(&browser, "#problem-detail").await;
    assert!(detail.contains("width") && detail.contains("8192"), "{detail}");
    assert_eq!(text(&browser, "#status").await, "400 Bad Request");
    let picture = browser.find("#picture").await.expect("there");
    assert_eq!(browser.property(&picture, "hidden").await.expect("there"), true);

    browser.click(&browser.find("#ops button[type=reset]").await.expect("there")).await.expect("a button");
    shows(&browser, "#dimensions", "600 × 400").await;
    assert_eq!(browser.property(&picture, "hidden").await.expect("there"), false);
    // An edge that is gone is told too.
    let admin = edge.admin_addr();
    edge.kill().await;
    set(&browser, "#op-width", "50").await;
    eventually("what went wrong", async || text(&browser, "#problem-detail").await.contains("No answer").then_some(()))
        .await;
    assert!(testkit::http::get(admin, "/healthz").await.is_err());
    browser.close().await.expect("it ends");
}

#[tokio::test]
async fn facts_presets_and_shared_links() {
    let edge = edge_with_pictures().start().await;
    let Some(browser) = open(&edge, 1400, 1000).await else { return };
    shows(&browser, "#dimensions", "600 × 400").await;
    choose(&browser, "#op-format", "json").await;
    eventually("JSON", async || text(&browser, "#text").await.contains("\"width\": 600").then_some(())).await;
    assert_eq!(text(&browser, "#type").await, "application/json");

    let page = format!("http://{}/playground", edge.admin_addr());
    browser
        .navigate(&format!("{page}#/demo/p=thumb,v=a%2Cb%2F%C3%A4/@local/beach.jpg?accept=none"))
        .await
        .expect("a page");
    shows(&browser, "#dimensions", "60 × 40").await;
    shows(&browser, "#type", "image/jpeg").await;
    let shared = format!("http://{}/demo/p=thumb,v=a%2Cb%2F%C3%A4/@local/beach.jpg", edge.addr());
    assert_eq!(value(&browser, "#url").await, shared);
    let presets = browser.execute("return document.querySelector('#op-preset-choices option').value", &[]).await;
    assert_eq!(presets.expect("offered"), "thumb");
    let nothing = "return document.querySelectorAll('#op-preset-choices option').length";
    assert_eq!(browser.execute(nothing, &[]).await.expect("a number"), 1);
    browser.close().await.expect("it ends");
    edge.stop().await;
}

#[tokio::test]
async fn every_control_has_a_name_and_no_width_needs_scrolling_sideways() {
    let edge = edge_with_pictures().start().await;
    let Some(browser) = open(&edge, 1400, 1000).await else { return };
    for (width, dimensions) in [(1400, "600 × 400"), (1000, "600 × 400"), (400, "600 × 400")] {
        browser.resize(width, 900).await.expect("a window");
        shows(&browser, "#dimensions", dimensions).await;
        let sizes = browser.execute("return [innerWidth, document.documentElement.scrollWidth]", &[]).await;
        assert_eq!(sizes.expect("numbers"), serde_json::json!([width, width]));
    }
    let nameless = "return [...document.querySelectorAll('input, select, button')].filter((control) => \
        !control.labels?.length && !control.ariaLabel && !control.textContent).map((control) => control.outerHTML)";
    assert_eq!(browser.execute(nameless, &[]).await.expect("a list"), Value::Array(Vec::new()));
    // Each op has its control, and the arrow keys go from picture to picture.
    let controls = "return fetch('/playground/ops.json').then((answer) => answer.json()).then((ops) => \
        ops.filter((op) => !document.getElementById(`op-${op.name}`)).map((op) => op.name))";
    assert_eq!(browser.execute(controls, &[]).await.expect("a list"), Value::Array(Vec::new()));
    let picture = browser.find("#pictures input[value='@local/beach.jpg']").await.expect("there");
    browser.send_keys(&picture, "\u{e014}").await.expect("arrow right");
    shows(&browser, "#dimensions", "200 × 200").await;
    browser.close().await.expect("it ends");
    edge.stop().await;
}
