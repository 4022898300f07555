//! Parts that others send with URLs of their own.

use http::StatusCode;
use storage::{ObjectStore, PresignExpiry, PresignMethod, S3Store, StorageError, StoredPart};
use testkit::http::{Request, Response, send, split_url};

use crate::stores::{config, noise, path, read, s3};

const PART: usize = 5 * 1024 * 1024;

async fn put(url: &str, body: impl Into<bytes::Bytes>) -> Response {
    let (server, target) = split_url(url).unwrap();
    send(server, &Request::put(target, body)).await.unwrap()
}

fn minute() -> PresignExpiry {
    PresignExpiry::from_secs(60).unwrap()
}

#[tokio::test]
async fn parts_that_come_in_any_order_make_the_object() {
    let place = s3().await;
    let store = S3Store::new(config(&format!("http://{}", place.server_address()))).unwrap();
    let (name, bytes) = (path("u/film"), noise(PART + 10));
    let upload = store.begin_parts(&name).await.unwrap();
    assert_eq!(store.list_parts(&name, &upload).await.unwrap(), []);
    let mut sent = Vec::new();
    for (number, span) in [(2, PART..PART + 10), (1, 0..PART)] {
        let part = bytes.slice(span);
        let size = part.len() as u64;
        let url = store.presign_part((&name, &upload), number, size, minute()).await.unwrap();
        assert_eq!(put(url.as_str(), part.slice(1..)).await.status, StatusCode::FORBIDDEN, "a byte is missing");
        let response = put(url.as_str(), part).await;
        assert_eq!(response.status, StatusCode::OK, "{}", response.text());
        sent.insert(0, StoredPart { number, size, etag: response.header("etag").unwrap().to_owned() });
    }
    assert_eq!(store.list_parts(&name, &upload).await.unwrap(), sent);
    let wrong = vec![StoredPart { etag: "\"x\"".to_owned(), ..sent[0].clone() }, sent[1].clone()];
    let refused = store.complete_parts(&name, &upload, wrong).await;
    assert!(matches!(refused, Err(StorageError::Rejected { .. })), "{refused:?}");
    assert_eq!(store.complete_parts(&name, &upload, sent.clone()).await.unwrap().size, bytes.len() as u64);
    assert!(read(&place.store, "u/film").await == bytes);
    // It is over: nothing of it can be used again.
    let url = store.presign_part((&name, &upload), 1, 1, minute()).await.unwrap();
    assert_eq!(put(url.as_str(), "x").await.status, StatusCode::NOT_FOUND);
    assert!(matches!(store.complete_parts(&name, &upload, sent).await, Err(StorageError::NotFound)));
    assert!(matches!(store.list_parts(&name, &upload).await, Err(StorageError::NotFound)));
    store.abort_parts(&name, &upload).await.expect("there is none");
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let place = s3().await;
    let store = S3Store::new(config(&format!("http://{}", place.server_address()))).unwrap();
    let upload = store.begin_parts(&path("film")).await.unwrap();
    let url = store.presign_part((&path("film"), &upload), 1, 4, minute()).await.unwrap();
    assert_eq!(put(url.as_str(), "four").await.status, StatusCode::OK);
    store.abort_parts(&path("film"), &upload).await.unwrap();
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    assert!(matches!(store.list_parts(&path("film"), &upload).await, Err(StorageError::NotFound)));
}

#[tokio::test]
async fn a_url_for_so_many_bytes_takes_no_others() {
    let place = s3().await;
    let store: ObjectStore = S3Store::new(config(&format!("http://{}", place.server_address()))).unwrap().into();
    let url = store.presign(PresignMethod::PutExactly(4), &path("four"), minute()).await.unwrap();
    for wrong in ["", "123", "12345"] {
        assert_eq!(put(url.as_str(), wrong).await.status, StatusCode::FORBIDDEN, "{wrong:?}");
    }
    assert_eq!(put(url.as_str(), "1234").await.status, StatusCode::OK);
    assert_eq!(read(&store, "four").await, "1234");
}
