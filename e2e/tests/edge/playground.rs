//! The playground without a browser: off unless asked for, what it offers, what it may load.

use serde_json::{Value, json};
use testkit::edge::{Edge, EdgeSetup};
use testkit::faulty::Fault;
use testkit::http::{self, Request, Response};

use crate::support::{BUCKET, S3Rig, photo};

const PARTS: [(&str, &str); 7] = [
    ("/playground", "text/html; charset=utf-8"),
    ("/playground/style.css", "text/css; charset=utf-8"),
    ("/playground/script.js", "text/javascript; charset=utf-8"),
    ("/playground/urls.js", "text/javascript; charset=utf-8"),
    ("/playground/config.json", "application/json"),
    ("/playground/ops.json", "application/json"),
    ("/playground/pictures.json", "application/json"),
];

fn playground() -> EdgeSetup {
    EdgeSetup::new().set("playground", true)
}

fn json_of(answer: &Response) -> Value {
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

async fn pictures(edge: &Edge) -> Value {
    json_of(&edge.admin("/playground/pictures.json").await)
}

#[tokio::test]
async fn is_off_unless_asked_for() {
    let edge = EdgeSetup::new().start().await;
    for (path, _) in PARTS {
        assert_eq!(edge.admin(path).await.status, 404, "{path}");
    }
    let index = edge.admin("/").await;
    assert!(index.text().contains("href=/metrics") && !index.text().contains("playground"), "{}", index.text());
    edge.stop().await;
}

#[tokio::test]
async fn every_part_has_its_type_and_may_load_nothing_from_elsewhere() {
    let edge = playground().start().await;
    let origin = format!("http://{}", edge.addr());
    for (path, content_type) in PARTS {
        let answer = edge.admin(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let policy = answer.header("content-security-policy").expect("there");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert_eq!(policy.matches(&origin).count(), 2, "pictures and answers come from the edge: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    }
    assert!(edge.admin("/").await.text().contains("href=/playground"));
    assert_eq!(edge.admin("/playground/").await.status, 200);
    for path in ["/playground/nothing", "/playgrounds", "/playground/../metrics", "/playground/style.css/"] {
        assert_eq!(edge.admin(path).await.status, 404, "{path}");
    }
    for (path, _) in PARTS {
        assert_ne!(edge.get(path).await.status, 200, "{path} is public");
    }
    edge.stop().await;
}

#[tokio::test]
async fn the_edge_is_found_where_it_listens() {
    let edge = playground().start().await;
    let expected = json!({ "edge": format!("http://{}", edge.addr()) });
    assert_eq!(json_of(&edge.admin("/playground/config.json").await), expected);
    let forged = Request::get("/playground/config.json").header("host", "elsewhere.example; script-src *");
    assert_eq!(json_of(&http::send(edge.admin_addr(), &forged).await.expect("an answer")), expected);
    edge.stop().await;
}

#[tokio::test]
async fn every_op_of_the_reference_is_there() {
    let edge = playground().start().await;
    let ops = json_of(&edge.admin("/playground/ops.json").await);
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ops.md")).expect("there");
    let names: Vec<&str> =
        reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for op in ops.as_array().expect("a list") {
        let name = op["name"].as_str().expect("a name");
        // Sources have a table of their own.
        assert!(names.contains(&name), "{name}");
        for key in ["doc", "allowed"] {
            assert!(op[key].as_str().is_some_and(|text| !text.is_empty()), "{op}");
        }
        found.push(name);
    }
    let documented = reference.split("<!-- end -->").next().expect("a part").matches("\n| `").count();
    assert_eq!(found.len(), documented, "{found:?}");

    let op = |name: &str| ops.as_array().expect("a list").iter().find(|op| op["name"] == name).expect("there").clone();
    let (width, fit, quality) = (op("width"), op("fit"), op("quality"));
    assert_eq!((&width["short"], &width["range"]), (&json!("w"), &json!({ "min": "1", "max": "8192", "whole": true })));
    assert_eq!((&fit["default"], &fit["only_choices"]), (&json!("scale-down"), &json!(true)));
    assert!(fit["choices"].as_array().expect("a list").contains(&json!("squeeze")));
    assert_eq!((&quality["choices"][0], &quality["only_choices"]), (&json!("low"), &json!(false)));
    edge.stop().await;
}

#[tokio::test]
async fn lists_pictures_and_presets_of_open_tenants_only() {
    let setup = playground();
    let folder = format!("origins.local.folder = {:?}", setup.originals().display().to_string());
    let setup = setup
        .tenant("presets.thumb = \"w=20\"\npresets.card = \"w=30\"")
        .tables(&format!("[tenants.closed]\n{folder}\n[tenants.another]\nopen = true\n{folder}"));
    let edge = setup.start().await;
    for name in ["b.JPG", "a/ä b,[1].webp", "letter.txt", "jpg", "a.jpg.bak", "line\nbreak.png"] {
        edge.setup().put(name, photo(60, 40));
    }
    let sources = ["@local/a/%C3%A4%20b,%5B1%5D.webp", "@local/b.JPG"];
    let origins = json!([{ "name": "local", "pictures": sources, "more": false }]);
    let expected = json!([
        { "name": "another", "presets": [], "origins": origins },
        { "name": "demo", "presets": ["card", "thumb"], "origins": origins },
    ]);
    assert_eq!(pictures(&edge).await, expected);
    for source in sources {
        assert_eq!(edge.get(&format!("/demo/w=20/{source}")).await.status, 200, "{source}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_long_list_has_an_end() {
    let edge = playground().start().await;
    for number in 0..201 {
        edge.setup().put(&format!("{number:03}.jpg"), b"");
    }
    let listed = pictures(&edge).await;
    let origin = &listed[0]["origins"][0];
    assert_eq!(origin["pictures"].as_array().map(Vec::len), Some(200));
    assert_eq!((&origin["pictures"][199], &origin["more"]), (&json!("@local/199.jpg"), &json!(true)));
    edge.stop().await;
}

#[tokio::test]
async fn broken_and_hanging_origins_break_nothing_but_themselves() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let setup = rig.edge().set("playground", true).tenant("origins.gone.folder = \"/nonexistent/calotype\"");
    let edge = setup.tenant(&rig.origin("wrong", BUCKET, "another-secret")).start().await;
    edge.setup().put("b.jpg", photo(60, 40));
    let broken = |name: &str| json!({ "name": name, "pictures": [], "more": false, "problem": "cannot be listed" });
    let fine = |name: &str, source: &str| json!({ "name": name, "pictures": [source], "more": false });

    let answer = edge.admin("/playground/pictures.json").await;
    let origins = [broken("gone"), fine("local", "@local/b.jpg"), fine("s3", "@s3/a.jpg"), broken("wrong")];
    assert_eq!(json_of(&answer)[0]["origins"], json!(origins));
    for private in ["secret", "test-key", "/nonexistent", &rig.relay.url()] {
        assert!(!answer.text().contains(private), "{private} is in {}", answer.text());
    }

    rig.relay.set(Fault::StallBeforeHead);
    // Health is answered while lists are waited for, and the lists end.
    let (one, other, ()) = tokio::join!(pictures(&edge), pictures(&edge), async {
        for _ in 0..5 {
            assert_eq!(edge.admin("/healthz").await.text(), "ok\n");
        }
    });
    for listed in [one, other] {
        assert_eq!(listed[0]["origins"][1], fine("local", "@local/b.jpg"));
        assert_eq!(listed[0]["origins"][2], broken("s3"));
    }
    assert!(edge.log().contains("cannot list an origin"), "{}", edge.log());
    edge.stop().await;
}

#[tokio::test]
async fn scripts_of_other_origins_may_read_where_an_answer_came_from() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let target = "/demo/w=40,f=jpeg/@local/a.jpg";
    for target in [target, target, "/demo/-/@local/a.jpg", "/demo/w=0/@local/a.jpg"] {
        let answer = edge.get(target).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{target}");
        let exposed = answer.header("access-control-expose-headers").expect("there");
        for name in ["cache-status", "server-timing", "x-request-id"] {
            assert!(exposed.contains(name), "{exposed}");
        }
    }
    edge.stop().await;
}
