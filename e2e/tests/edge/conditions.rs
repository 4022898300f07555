//! HEAD, conditions and ranges on renditions (RFC 9110).

use testkit::edge::{Edge, EdgeSetup, picture};
use testkit::http::{Request, Response};

use crate::support::photo;

const TARGET: &str = "/demo/w=60,f=jpeg/@local/a.jpg";

async fn edge_and_whole() -> (Edge, Response) {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let whole = edge.get(TARGET).await;
    picture(&whole, "image/jpeg");
    (edge, whole)
}

fn etag(answer: &Response) -> String {
    answer.header("etag").expect("there").to_owned()
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let (edge, whole) = edge_and_whole().await;
    let head = edge.send(&Request::head(TARGET)).await;
    assert_eq!(head.status, 200);
    assert!(head.body.is_empty());
    for name in ["content-length", "content-type", "etag", "cache-control", "accept-ranges"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    let missing = edge.send(&Request::head("/demo/w=60/@local/nothing.jpg")).await;
    assert_eq!((missing.status.as_u16(), missing.body.len()), (404, 0));
    assert!(missing.header("content-length").expect("of the problem") != "0");
}

#[tokio::test]
async fn a_head_that_misses_fills_the_cache() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let head = edge.send(&Request::head(TARGET)).await;
    let get = edge.get(TARGET).await;
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(crate::support::cache_status(&get), "Calotype; hit; detail=memory");
}

#[tokio::test]
async fn if_none_match() {
    let (edge, whole) = edge_and_whole().await;
    let tag = etag(&whole);
    for (condition, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", W/\"another\", {tag}"), 304),
        (format!("\"other\",W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
        (tag.trim_matches('"').to_owned(), 200),
        (String::new(), 200),
    ] {
        for request in [Request::get(TARGET), Request::head(TARGET)] {
            let answer = edge.send(&request.header("if-none-match", &condition)).await;
            assert_eq!(answer.status.as_u16(), status, "{condition}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
            if status == 304 {
                assert!(answer.body.is_empty());
                assert_eq!(answer.header("cache-control"), whole.header("cache-control"));
                assert_eq!(answer.header("content-type"), None);
            }
        }
    }
}

#[tokio::test]
async fn not_modified_goes_before_a_range() {
    let (edge, whole) = edge_and_whole().await;
    let request = Request::get(TARGET).header("if-none-match", etag(&whole)).header("range", "bytes=0-3");
    assert_eq!(edge.send(&request).await.status, 304);
}

#[tokio::test]
async fn ranges() {
    let (edge, whole) = edge_and_whole().await;
    let size = whole.body.len();
    for (range, first, last) in [
        ("bytes=0-9".to_owned(), 0, 9),
        ("bytes=10-10".to_owned(), 10, 10),
        ("bytes=5-".to_owned(), 5, size - 1),
        ("bytes=-7".to_owned(), size - 7, size - 1),
        (format!("bytes=-{}", size * 2), 0, size - 1),
        (format!("bytes=3-{}", size * 2), 3, size - 1),
    ] {
        let part = edge.send(&Request::get(TARGET).header("range", &range)).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {first}-{last}/{size}").as_str()));
        assert_eq!(part.body, whole.body.slice(first..=last), "{range}");
        assert_eq!(part.header("content-length"), Some(part.body.len().to_string().as_str()));
        assert_eq!(part.header("etag"), whole.header("etag"));
        assert_eq!(part.header("content-type"), Some("image/jpeg"));
    }
}

#[tokio::test]
async fn ranges_that_are_ignored_give_the_whole_picture() {
    let (edge, whole) = edge_and_whole().await;
    for range in ["bytes=0-1,4-5", "bytes=0-0,-1", "pixels=0-9", "bytes=9-3", "bytes=x-y", "bytes="] {
        let answer = edge.send(&Request::get(TARGET).header("range", range)).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &whole.body), "{range}");
        assert_eq!(answer.header("content-range"), None);
    }
    let head = edge.send(&Request::head(TARGET).header("range", "bytes=0-1")).await;
    assert_eq!(head.status, 200, "a range means nothing with HEAD");
    assert_eq!(head.header("content-length"), whole.header("content-length"));
}

#[tokio::test]
async fn a_range_behind_the_end() {
    let (edge, whole) = edge_and_whole().await;
    let size = whole.body.len();
    for range in [format!("bytes={size}-"), format!("bytes={}-{}", size + 5, size + 9)] {
        let answer = edge.send(&Request::get(TARGET).header("range", &range)).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (416, 0), "{range}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{size}").as_str()));
    }
}

#[tokio::test]
async fn if_range() {
    let (edge, whole) = edge_and_whole().await;
    let tag = etag(&whole);
    for (condition, status) in
        [(tag.clone(), 206), (format!("W/{tag}"), 200), ("\"other\"".to_owned(), 200), ("nonsense".to_owned(), 200)]
    {
        let request = Request::get(TARGET).header("range", "bytes=0-3").header("if-range", &condition);
        assert_eq!(edge.send(&request).await.status.as_u16(), status, "{condition}");
    }
}
