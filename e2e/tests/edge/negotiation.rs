//! `f=auto`: what the client accepts decides, in three classes that share renditions.

use testkit::edge::EdgeSetup;
use testkit::http::{Request, Response};
use testkit::images;

use crate::support::{cache_status, photo};

const TARGET: &str = "/demo/w=40/@local/a.jpg";

fn with_accept(target: &str, accept: &str) -> Request {
    Request::get(target).header("accept", accept)
}

fn kind_and_status(answer: &Response) -> (&str, &str) {
    (answer.header("content-type").unwrap_or_default(), cache_status(answer))
}

#[tokio::test]
async fn clients_of_one_class_share_a_rendition() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let (miss, hit) = ("Calotype; fwd=uri-miss; stored", "Calotype; hit; detail=memory");
    for (accept, kind, status) in [
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/avif", miss),
        ("image/avif,image/webp,*/*", "image/avif", hit),
        ("image/avif;q=0.5", "image/avif", hit),
        ("image/webp,*/*", "image/webp", miss),
        ("image/avif;q=0,image/webp", "image/webp", hit),
        ("image/avif;q=0.2,image/webp;q=0.9", "image/webp", hit),
        ("image/png,image/*;q=0.8,*/*;q=0.5", "image/jpeg", miss),
        ("*/*", "image/jpeg", hit),
        ("image/avif;q=0,image/webp;q=0", "image/jpeg", hit),
        ("nonsense;;;,q=", "image/jpeg", hit),
    ] {
        let answer = edge.send(&with_accept(TARGET, accept)).await;
        assert_eq!(kind_and_status(&answer), (kind, status), "{accept}");
        assert_eq!(answer.header("vary"), Some("accept"));
    }
    let without = edge.get(TARGET).await;
    assert_eq!(kind_and_status(&without), ("image/jpeg", hit));
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 3.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_given_format_does_not_care_who_asks() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    for (format, kind) in [("jpeg", "image/jpeg"), ("png", "image/png"), ("webp", "image/webp"), ("avif", "image/avif")]
    {
        let target = format!("/demo/w=40,f={format}/@local/a.jpg");
        for accept in ["image/avif", "*/*"] {
            let answer = edge.send(&with_accept(&target, accept)).await;
            assert_eq!(answer.header("content-type"), Some(kind));
            assert_eq!(answer.header("vary"), None);
        }
    }
}

#[tokio::test]
async fn an_old_client_gets_png_for_transparency() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("disc.png", images::png::rgba(&images::hard_edged(64, [200, 30, 30], [0, 0, 0])));
    let answer = edge.send(&with_accept("/demo/w=32/@local/disc.png", "*/*")).await;
    assert_eq!(answer.header("content-type"), Some("image/png"));
    assert!(images::decode(&answer.body).color().has_alpha());
}
