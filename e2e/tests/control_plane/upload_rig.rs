//! What tests of uploads share: files to send, the requests that send them, and looks at what has come of them.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row};
use testkit::control_plane::TestTenant;
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::http::{Request, Response, send, split_url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::media_rig::MediaRig;
use crate::support::ok;

/// Size of the parts of an upload that is not huge.
pub const PART: usize = 5 << 20;

/// Bytes that no two places have in common, and no two seeds.
pub fn noise(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 24).to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The two kinds of stores.
pub async fn both(settings: &[(&'static str, String)]) -> [MediaRig; 2] {
    [MediaRig::with_folder(settings).await, MediaRig::with_bucket(TestDatabase::new().await, settings).await]
}

/// Begins a direct upload.
pub async fn begin(rig: &MediaRig, order: &Value) -> Value {
    ok(&rig.api.json(Method::POST, &rig.shop.key, "/v1/uploads", order).await, 201)
}

/// Sends bytes to a URL.
pub async fn put(url: &str, bytes: impl Into<Bytes>) -> Response {
    let (server, target) = split_url(url).expect("an address");
    send(server, &Request::put(target, bytes)).await.expect("an answer")
}

/// The URL of a part, by its number.
#[track_caller]
pub fn url(upload: &Value, number: u64) -> String {
    let urls = upload["urls"].as_array().expect("URLs");
    let part = urls.iter().find(|part| part["number"] == number).unwrap_or_else(|| panic!("{number}: {upload}"));
    part["url"].as_str().expect("a URL").to_owned()
}

/// What a part of these bytes is.
pub fn part(bytes: &Bytes, number: usize) -> Bytes {
    bytes.slice((number - 1) * PART..bytes.len().min(number * PART))
}

/// Sends a part; its entity tag.
pub async fn put_part(upload: &Value, bytes: &Bytes, number: usize) -> String {
    let answer = put(&url(upload, number as u64), part(bytes, number)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("etag").expect("a tag").to_owned()
}

/// Sends all parts of an upload.
pub async fn put_all(upload: &Value, bytes: &Bytes) {
    for number in 1..=bytes.len().div_ceil(PART) {
        put_part(upload, bytes, number).await;
    }
}

pub async fn complete_with(rig: &MediaRig, upload: &str, body: &Value) -> Response {
    rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/uploads/{upload}/complete"), body).await
}

pub async fn complete(rig: &MediaRig, upload: &str) -> Response {
    complete_with(rig, upload, &json!({})).await
}

/// An upload as its tenant sees it.
pub async fn look(rig: &MediaRig, upload: &str) -> Value {
    ok(&rig.api.get(&rig.shop.key, &format!("/v1/uploads/{upload}")).await, 200)
}

/// A request of tus.
pub fn tus(method: Method, target: impl Into<String>, tenant: &TestTenant) -> Request {
    let request = Request::new(method, target).header("authorization", format!("Bearer {}", tenant.key));
    request.header("tus-resumable", "1.0.0")
}

/// Begins an upload of tus with this said of it; where it is.
pub async fn create(rig: &MediaRig, bytes: usize, said: &[(&str, &str)]) -> String {
    let said: Vec<_> = said.iter().map(|(key, value)| format!("{key} {}", base64(value.as_bytes()))).collect();
    let request = tus(Method::POST, "/v1/tus", &rig.shop).header("upload-length", bytes.to_string());
    let answer = rig.api.send(&request.header("upload-metadata", said.join(","))).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("upload-offset"), Some("0"));
    answer.header("location").expect("a place").to_owned()
}

/// The id of an upload of tus.
pub fn id_in(location: &str) -> &str {
    location.rsplit('/').next().expect("a name")
}

/// A request that brings bytes.
pub fn patch(rig: &MediaRig, location: &str, offset: usize, bytes: impl Into<Bytes>) -> Request {
    let request = tus(Method::PATCH, location, &rig.shop).header("upload-offset", offset.to_string());
    request.header("content-type", "application/offset+octet-stream").body(bytes)
}

/// Brings bytes, which have to be taken; the answer.
pub async fn append(rig: &MediaRig, location: &str, offset: usize, bytes: impl Into<Bytes>) -> Response {
    let answer = rig.api.send(&patch(rig, location, offset, bytes)).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    answer
}

/// How far an upload is, by its own word.
pub async fn offset(rig: &MediaRig, location: &str) -> usize {
    let answer = rig.api.send(&tus(Method::HEAD, location, &rig.shop)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.headers);
    answer.header("upload-offset").expect("an offset").parse().expect("a number")
}

/// A connection over which an upload goes on, and has not ended.
pub struct Half {
    pub stream: TcpStream,
}

impl Half {
    /// Sends the head of a request of this target, and the first bytes of its body.
    pub async fn send(rig: &MediaRig, head: &str, length: usize, bytes: &[u8]) -> Self {
        let head = format!("{head}Host: {}\r\nContent-Length: {length}\r\n\r\n", rig.api.addr());
        let mut stream = TcpStream::connect(rig.api.addr()).await.expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(bytes).await.expect("it reads");
        Self { stream }
    }

    /// One that brings bytes of an upload of tus, of which not all come.
    pub async fn patch(rig: &MediaRig, location: &str, offset: usize, length: usize, bytes: &[u8]) -> Self {
        let head = format!(
            "PATCH {location} HTTP/1.1\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n\
             Content-Type: application/offset+octet-stream\r\n",
            rig.shop.key
        );
        Self::send(rig, &head, length, bytes).await
    }

    /// Sends a byte now and then until there is an answer; its status.
    pub async fn trickle(self) -> u16 {
        let (mut from, mut to) = self.stream.into_split();
        let sent = async {
            while to.write_all(&[1]).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await
        };
        let mut answer = [0; 12];
        let read = async { from.read_exact(&mut answer).await.expect("an answer") };
        let limited = tokio::time::timeout(std::time::Duration::from_secs(30), read);
        tokio::select! {
            () = sent => unreachable!("it ends with the answer"),
            read = limited => read.expect("an answer in time"),
        };
        String::from_utf8_lossy(&answer[9..]).parse().expect("a status")
    }

    /// The status of the answer.
    pub async fn status(mut self) -> u16 {
        let mut answer = vec![0; 12];
        let read = self.stream.read_exact(&mut answer);
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), read).await.expect("an answer in time");
        read.expect("an answer");
        String::from_utf8_lossy(&answer[9..]).parse().expect("a status")
    }
}

/// How many bytes the rows say have come of an upload.
pub async fn received(rig: &MediaRig, upload: &str) -> i64 {
    let statement = format!("SELECT received FROM uploads WHERE id = '{upload}'");
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&rig.superuser().await).await;
    row.expect("it is there").get(0)
}

/// Waits until the only upload is a medium. Where that could not be made at once, a worker goes on.
pub async fn until_done(rig: &MediaRig) {
    eventually("a medium", async || {
        rig.sql("UPDATE uploads SET due_at = now() WHERE state = 'completing'").await;
        rig.worker().await;
        (rig.count("uploads WHERE state = 'done'").await == 1).then_some(())
    })
    .await;
}

/// Fails unless a medium of this public id has these bytes, and nothing is left of uploads that are over.
pub async fn assert_taken(rig: &MediaRig, public_id: &str, bytes: &[u8]) {
    assert!(rig.stored(public_id) == bytes, "other bytes than were sent");
    let medium = ok(&rig.api.get(&rig.shop.key, &format!("/v1/media/by-public-id/{public_id}")).await, 200);
    assert_eq!((&medium["bytes"], &medium["sha256"]), (&bytes.len().into(), &sha256(bytes).into()));
    assert_swept(rig).await;
}

/// Fails unless nothing is left below the names of uploads that are over, after a worker's round.
pub async fn assert_swept(rig: &MediaRig) {
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.incoming(), Vec::<String>::new());
    rig.assert_tidy().await;
}
