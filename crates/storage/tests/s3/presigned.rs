//! URLs that others use without credentials.

use http::{Method, StatusCode};
use storage::{ObjectStore, PresignExpiry, PresignMethod};
use testkit::http::{Request, Response, send, split_url};

use crate::stores::{SECRET_KEY, path, put, read, s3};

async fn sign(store: &ObjectStore, method: PresignMethod, name: &str) -> String {
    let url = store.presign(method, &path(name), PresignExpiry::from_secs(60).unwrap()).await.unwrap();
    let shown = format!("{url:?}");
    assert!(!shown.contains("Signature="), "{shown}");
    url.as_str().to_owned()
}

async fn fetch(method: Method, url: &str, body: &str) -> Response {
    let (server, target) = split_url(url).unwrap();
    let request =
        if method == Method::PUT { Request::put(target, body.to_owned()) } else { Request::new(method, target) };
    send(server, &request).await.unwrap()
}

#[tokio::test]
async fn anybody_with_the_url_reads_the_object() {
    let place = s3().await;
    for name in ["object", "a/ü b+c%2F.jpg"] {
        put(&place.store, name, name).await;
        let url = sign(&place.store, PresignMethod::Get, name).await;
        assert!(!url.contains(SECRET_KEY));
        let response = fetch(Method::GET, &url, "").await;
        assert_eq!((response.status, response.text().as_str()), (StatusCode::OK, name));
    }
}

#[tokio::test]
async fn anybody_with_the_url_writes_the_object() {
    let place = s3().await;
    let url = sign(&place.store, PresignMethod::Put, "uploads/new object").await;
    let response = fetch(Method::PUT, &url, "from a browser").await;
    assert_eq!(response.status, StatusCode::OK, "{}", response.text());
    assert_eq!(read(&place.store, "uploads/new object").await, "from a browser");
}

#[tokio::test]
async fn a_url_is_good_for_one_thing_only() {
    let place = s3().await;
    put(&place.store, "object", "x").await;
    put(&place.store, "secret", "x").await;
    let url = sign(&place.store, PresignMethod::Get, "object").await;
    let refused = [
        fetch(Method::PUT, &url, "y").await,
        fetch(Method::GET, &url.replace("/object?", "/secret?"), "").await,
        fetch(Method::GET, &url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"), "").await,
        fetch(Method::GET, url.split('?').next().unwrap(), "").await,
    ];
    for response in refused {
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{}", response.text());
    }
    assert_eq!(read(&place.store, "object").await, "x");
}
