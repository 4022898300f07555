//! What several topics share: a rendition that stays warm, and an S3 origin behind a relay that misbehaves on demand.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use std::path::PathBuf;

use bytes::Bytes;
use devstack::s3::{S3Keys, S3Server};
use tempfile::TempDir;
use testkit::edge::{Edge, EdgeSetup, eventually};
use testkit::faulty::FaultyRelay;
use testkit::http::{self, Request, Response};
use testkit::images;
use testkit::web::WebServer;

/// The bucket of [`S3Rig`].
pub const BUCKET: &str = "pictures";

/// A JPEG like a photograph.
pub fn photo(width: u32, height: u32) -> Vec<u8> {
    images::jpeg::rgb(&images::photo(width, height), &images::jpeg::Extras::default())
}

/// A PNG of one colour, so that old and new bytes differ for sure.
pub fn plain(colour: [u8; 3]) -> Vec<u8> {
    images::png::rgb(&images::swatches(&[colour], 64), &images::png::Extras::default())
}

/// What purges need.
pub const TOKEN: &str = "a token for this test only";

/// An edge that takes purges.
pub fn with_token(setup: EdgeSetup) -> EdgeSetup {
    setup.set("admin_token", format!("\"{TOKEN}\""))
}

/// Orders a purge.
pub async fn purge(edge: &Edge, order: &str) -> Response {
    let request = Request::new(::http::Method::POST, "/purge").header("authorization", format!("Bearer {TOKEN}"));
    http::send(edge.admin_addr(), &request.body(order.to_owned())).await.expect("the admin port answers")
}

/// The answer once an origin is well again. Deadlines are short where origins are ill, and the machine may be busy with other
/// tests.
pub async fn healed(edge: &Edge, target: &str) -> Response {
    eventually("the picture", async || Some(edge.get(target).await).filter(|answer| answer.status == 200)).await
}

/// `Cache-Status` of an answer.
pub fn cache_status(response: &Response) -> &str {
    response.header("cache-status").unwrap_or_default()
}

/// A rendition in the cache's memory: whatever else goes wrong, it goes on being served.
pub struct Warm {
    body: Bytes,
}

impl Warm {
    const TARGET: &str = "/demo/w=40,f=jpeg/@local/warm.jpg";
    const HIT: &str = "Calotype; hit; detail=memory";

    pub async fn up(edge: &Edge) -> Self {
        edge.setup().put("warm.jpg", photo(120, 80));
        let first = edge.get(Self::TARGET).await;
        assert_eq!(first.status.as_u16(), 200, "{}", first.text());
        // An edge that takes over its cache folder at this moment finds it on disk once.
        let is_in_memory = async || (cache_status(&edge.get(Self::TARGET).await) == Self::HIT).then_some(());
        eventually("a picture in memory", is_in_memory).await;
        Self { body: first.body }
    }

    pub async fn assert_hit(&self, edge: &Edge) {
        let hit = edge.get(Self::TARGET).await;
        assert_eq!((hit.status.as_u16(), cache_status(&hit)), (200, Self::HIT));
        assert_eq!(hit.body, self.body);
    }
}

/// An S3 server with one bucket, and a relay before it.
pub struct S3Rig {
    pub relay: FaultyRelay,
    server: S3Server,
    folder: TempDir,
}

impl S3Rig {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = S3Keys { access_key: "test-key".into(), secret_key: "test-secret".into() };
        let server = S3Server::start(folder.path(), &[BUCKET], keys, 0).await.expect("an S3 server");
        let relay = FaultyRelay::start(server.address()).await.expect("a relay");
        Self { relay, server, folder }
    }

    /// Puts an object into the bucket.
    pub fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path: PathBuf = self.folder.path().join(BUCKET).join(key);
        std::fs::write(path, bytes).expect("the folder is ours");
    }

    /// The folder that the bucket is kept in.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// The path of an object's requests at the relay.
    pub fn path(key: &str) -> String {
        format!("/{BUCKET}/{key}")
    }

    /// The policy's key for an origin `name` with this secret.
    pub fn origin(&self, name: &str, bucket: &str, secret: &str) -> String {
        format!(
            "origins.{name}.s3 = {{ bucket = \"{bucket}\", endpoint = \"{}\", access_key_id = \"{}\", \
             secret_access_key = \"{secret}\" }}",
            self.relay.url(),
            self.server.keys().access_key,
        )
    }

    /// An edge whose tenant has the bucket as `@s3`.
    pub fn edge(&self) -> EdgeSetup {
        EdgeSetup::new().tenant(&self.origin("s3", BUCKET, &self.server.keys().secret_key))
    }
}

/// A web server and a relay before it.
pub struct WebRig {
    pub relay: FaultyRelay,
    pub server: WebServer,
}

impl WebRig {
    pub async fn start() -> Self {
        let server = WebServer::start().await.expect("a web server");
        let relay = FaultyRelay::start(server.address()).await.expect("a relay");
        Self { relay, server }
    }

    /// An edge whose tenant has the server's folder `/img/` as `@web`.
    pub fn edge(&self) -> EdgeSetup {
        let base_url = format!("{}/img/", self.relay.url());
        let origin = format!("base_url = \"{base_url}\", allow_private = [\"127.0.0.1\"]");
        EdgeSetup::new().tenant(&format!("origins.web.http = {{ {origin}, headers = {{ x-key = \"s3cret\" }} }}"))
    }
}
