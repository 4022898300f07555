//! A control plane with a place for uploads, forms to send to it, and looks into the store behind its back.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use devstack::s3::{S3Keys, S3Server};
use http::Method;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Row};
use tempfile::TempDir;
use testkit::control_plane::{ControlPlane, EDGE_TOKEN, RunningWorker, TestTenant};
use testkit::database::{TestDatabase, WORKER};
use testkit::edge::EdgeSetup;
use testkit::faulty::FaultyRelay;
use testkit::http::{Request, Response};
use testkit::images;
use testkit::port::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uploads::{Pointer, PublicId, Target, pointer_path};

/// The bucket of uploads.
const BUCKET: &str = "uploads";

/// Between the parts of forms.
pub const BOUNDARY: &str = "----a-boundary-of-this-test";

/// A picture that differs from others by its colour.
pub fn picture(colour: [u8; 3]) -> Vec<u8> {
    images::png::rgb(&images::swatches(&[colour], 64), &images::png::Extras::default())
}

/// A form, written by hand.
#[derive(Debug, Default, Clone)]
pub struct TestForm(Vec<u8>);

impl TestForm {
    /// With a file as its only part so far.
    pub fn file(bytes: &[u8]) -> Self {
        Self::default().add("file", Some("beach.png"), bytes)
    }

    /// With another part.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.add(name, None, value.as_bytes())
    }

    /// With another part, whatever it is.
    pub fn add(mut self, name: &str, filename: Option<&str>, bytes: &[u8]) -> Self {
        let filename = filename.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
        self.0.extend_from_slice(head.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// All of it, without its end.
    pub fn open(self) -> Vec<u8> {
        self.0
    }

    /// All of it.
    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.0
    }

    /// A request that sends it.
    pub fn request(self, method: Method, target: &str, key: &str) -> Request {
        Request::new(method, target)
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .header("authorization", format!("Bearer {key}"))
            .body(self.bytes())
    }
}

/// An upload of which the first part was sent.
pub struct HalfUpload {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HalfUpload {
    /// Sends the rest and reads the status and the body of the answer; `None` when the connection ended without one.
    pub async fn finish(mut self) -> Option<(u16, Value)> {
        // It may be refused before all of it was sent.
        let _ = self.stream.write_all(&self.rest).await;
        let mut answer = Vec::new();
        let read = self.stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(30), read).await.expect("an answer in time");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).expect("JSON of a known length")))
    }
}

/// A control plane with a store, and a tenant.
pub struct MediaRig {
    pub api: ControlPlane,
    pub shop: TestTenant,
    pub relay: Option<FaultyRelay>,
    settings: Vec<(&'static str, String)>,
    folder: TempDir,
    _server: Option<S3Server>,
}

impl MediaRig {
    /// With a folder.
    pub async fn start() -> Self {
        Self::with_folder(&[]).await
    }

    /// With a folder and these settings.
    pub async fn with_folder(more: &[(&'static str, String)]) -> Self {
        Self::on(TestDatabase::new().await, more).await
    }

    /// With a folder and these settings, on this database.
    pub async fn on(database: TestDatabase, more: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let settings = vec![("UPLOADS__FOLDER", folder.path().display().to_string())];
        Self::launch(database, folder, settings, more, (None, None)).await
    }

    /// With a bucket behind a relay.
    pub async fn with_bucket(database: TestDatabase, more: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let keys = S3Keys { access_key: "test-key".into(), secret_key: "test-secret".into() };
        let server = S3Server::start(folder.path(), &[BUCKET], keys, 0).await.expect("an S3 server");
        let relay = FaultyRelay::start(server.address()).await.expect("a relay");
        let settings = vec![
            ("UPLOADS__BUCKET", BUCKET.to_owned()),
            ("UPLOADS__ENDPOINT", relay.url()),
            ("UPLOADS__ACCESS_KEY_ID", "test-key".to_owned()),
            ("UPLOADS__SECRET_ACCESS_KEY", "test-secret".to_owned()),
        ];
        Self::launch(database, folder, settings, more, (Some(server), Some(relay))).await
    }

    async fn launch(
        database: TestDatabase,
        folder: TempDir,
        mut settings: Vec<(&'static str, String)>,
        more: &[(&'static str, String)],
        (server, relay): (Option<S3Server>, Option<FaultyRelay>),
    ) -> Self {
        settings.extend_from_slice(more);
        let api = ControlPlane::start_with(database, &settings).await;
        let shop = api.tenant("shop").await;
        Self { api, shop, relay, settings, folder, _server: server }
    }

    /// An edge that follows the control plane and serves what is in the store. It is not running.
    pub fn edge(&self) -> EdgeSetup {
        let setup = EdgeSetup::new();
        let feed = setup.home().join("feed").display().to_string();
        let setup = setup
            .set("control_plane.url", format!("\"http://{}\"", self.api.addr()))
            .set("control_plane.token", format!("{EDGE_TOKEN:?}"))
            .set("control_plane.dir", format!("{feed:?}"));
        let stores = self.settings.iter().filter_map(|(name, value)| Some((name.strip_prefix("UPLOADS__")?, value)));
        stores.fold(setup, |setup, (name, value)| {
            setup.set(&format!("uploads.{}", name.to_lowercase()), format!("{value:?}"))
        })
    }

    /// The relay before the bucket.
    pub fn relay(&self) -> &FaultyRelay {
        self.relay.as_ref().expect("it has a bucket")
    }

    /// Stops the control plane, and drops its database; the store is there for as long as what this gives.
    pub async fn without_control_plane(self) -> (TempDir, Option<S3Server>) {
        drop(self.api.stop().await);
        (self.folder, self._server)
    }

    /// Kills the control plane as a crash would, and starts it anew.
    pub async fn restart_after_crash(self) -> Self {
        Self { api: self.api.restart_after_crash().await, ..self }
    }

    /// Another control plane on the same database and store: where it will be, and what runs it until it is dropped.
    pub fn beside(&self) -> (SocketAddr, impl Future<Output = Output>) {
        let port = Port::keep().expect("a port is free");
        let (address, mut settings) = (port.address, self.settings.clone());
        settings.push(("LISTEN", address.to_string()));
        let run = async move {
            let _kept = port;
            self.api.run(&[], &settings).await
        };
        (address, run)
    }

    /// How many files the folder has that are not finished.
    pub fn unfinished(&self) -> usize {
        std::fs::read_dir(self.root().join(".calotype-unfinished")).into_iter().flatten().count()
    }

    /// Sends a form as a new medium.
    pub async fn post(&self, form: TestForm) -> Response {
        self.api.send(&form.request(Method::POST, "/v1/media", &self.shop.key)).await
    }

    /// Sends the first bytes of a form as a new medium.
    pub async fn begin(&self, form: TestForm, bytes: usize) -> HalfUpload {
        let mut body = form.bytes();
        let head = format!(
            "POST /v1/media HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
            self.shop.key,
            body.len()
        );
        let rest = body.split_off(bytes);
        let mut stream = TcpStream::connect(self.api.addr()).await.expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(&body).await.expect("it reads");
        HalfUpload { stream, rest }
    }

    /// Sends a file for a medium that is there.
    pub async fn put(&self, id: &str, file: &[u8]) -> Response {
        let target = format!("/v1/media/{id}/file");
        self.api.send(&TestForm::file(file).request(Method::PUT, &target, &self.shop.key)).await
    }

    /// A medium.
    pub async fn get(&self, id: &str) -> Response {
        self.api.get(&self.shop.key, &format!("/v1/media/{id}")).await
    }

    /// Changes what is said of a medium.
    pub async fn patch(&self, id: &str, change: &Value) -> Response {
        self.api.json(Method::PATCH, &self.shop.key, &format!("/v1/media/{id}"), change).await
    }

    /// A request that changes what is said of a medium.
    pub fn patch_request(&self, id: &str, change: &Value) -> Request {
        Request::new(Method::PATCH, format!("/v1/media/{id}"))
            .header("authorization", format!("Bearer {}", self.shop.key))
            .header("content-type", "application/json")
            .body(change.to_string())
    }

    /// Deletes a medium.
    pub async fn delete(&self, id: &str) -> Response {
        self.api.delete(&self.shop.key, &format!("/v1/media/{id}")).await
    }

    /// One round of a worker, which has to succeed.
    pub async fn worker(&self) {
        let done = self.try_worker().await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// One round of a worker.
    pub async fn try_worker(&self) -> Output {
        let mut settings = self.settings.clone();
        settings.push(("WORKER_URL", self.api.database.url(WORKER)));
        settings.push(("API_URL", format!("http://{}", self.api.addr())));
        self.api.run(&["worker", "--once"], &settings).await
    }

    /// A worker that goes on, with these settings beside those of the rest.
    pub fn start_worker(&self, more: &[(&'static str, String)]) -> RunningWorker {
        self.api.worker(&[&self.settings[..], more].concat())
    }

    /// The database with all rights.
    pub async fn superuser(&self) -> PgPool {
        PgPool::connect(&self.api.database.superuser_url()).await.expect("reached")
    }

    /// Runs a statement with all rights; how many rows it touched.
    pub async fn sql(&self, statement: &str) -> u64 {
        let superuser = self.superuser().await;
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&superuser).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}")).rows_affected()
    }

    /// A number out of the database.
    pub async fn count(&self, from: &str) -> i64 {
        let statement = format!("SELECT count(*) FROM {from}");
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&self.superuser().await).await.expect("read")
    }

    /// Puts media into the database behind everybody's back, of 10 bytes each, in this folder (empty is the top) and with these tags, as
    /// Postgres writes an array. Their bytes are nowhere, their pointers count as written,
    /// and they are older than all others.
    pub async fn seed(&self, count: usize, folder: &str, tags: &str) {
        let (shop, ends) = (&self.shop.id, folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]));
        for end in ends.filter(|end| *end > 0) {
            let path = &folder[..end];
            self.sql(&format!(
                "INSERT INTO folders (tenant_id, path) VALUES ('{shop}', '{path}') ON CONFLICT DO NOTHING"
            ))
            .await;
        }
        self.sql(&format!(
            "INSERT INTO media (tenant_id, id, public_id, folder, kind, revision, content_type, bytes, sha256, tags)
             SELECT '{shop}', id, id, nullif('{folder}', ''), 'image', id, 'image/png', 10, sha256(''), '{tags}'
             FROM (SELECT overlay(gen_random_uuid()::text PLACING '00000000' FROM 1)::uuid AS id FROM generate_series(1, {count})) AS ids"
        ))
        .await;
        self.sql("UPDATE pointers SET published = generation").await;
    }

    /// Fails unless folders and tags have as many media and bytes as is counted.
    pub async fn assert_counts(&self) {
        let is = "SELECT tenant_id, 'folder' AS kind, coalesce(folder, '') AS name, count(*) AS media, sum(bytes)::bigint AS bytes
                  FROM media GROUP BY 1, 3
                  UNION ALL
                  SELECT tenant_id, 'tag', tag, count(*), sum(bytes)::bigint FROM media, unnest(tags) AS all_tags (tag) GROUP BY 1, 3";
        let counted = "SELECT tenant_id, kind, name, media, bytes FROM media_counts";
        for (one, other) in [(is, counted), (counted, is)] {
            assert_eq!(self.count(&format!("(({one}) EXCEPT ALL ({other})) AS wrong")).await, 0, "{one}");
        }
    }

    /// Lets time pass: what waits for its time is due.
    pub async fn all_is_due(&self) {
        self.sql("UPDATE stored_objects SET due_at = now()").await;
        self.sql("UPDATE pointers SET try_at = now()").await;
    }

    /// Where the store keeps its files.
    pub fn root(&self) -> PathBuf {
        match self.relay {
            Some(_) => self.folder.path().join(BUCKET),
            None => self.folder.path().to_owned(),
        }
    }

    /// What the pointer of a public id of the tenant says.
    pub fn pointer(&self, public_id: &str) -> Option<Pointer> {
        let id = PublicId::new(public_id).expect("a public id");
        let bytes = std::fs::read(self.root().join(pointer_path(&self.shop.id, &id).as_str())).ok()?;
        Some(Pointer::from_bytes(&self.shop.id, &bytes).expect("a pointer"))
    }

    /// Where a public id of the tenant leads to.
    #[track_caller]
    pub fn target(&self, public_id: &str) -> Target {
        match self.pointer(public_id) {
            Some(Pointer::Here(target)) => target,
            other => panic!("{public_id} leads nowhere: {other:?}"),
        }
    }

    /// The bytes that a public id of the tenant leads to.
    #[track_caller]
    pub fn stored(&self, public_id: &str) -> Vec<u8> {
        let target = self.target(public_id);
        let bytes = std::fs::read(self.root().join(&target.object)).expect("a pointer leads to bytes");
        assert_eq!(bytes.len() as u64, target.bytes);
        bytes
    }

    /// The names of all objects with bytes of media.
    pub fn objects(&self) -> BTreeSet<String> {
        let is_of_media = |name: &String| name.starts_with("t/") && name.split('/').nth(2) == Some("m");
        self.files().into_iter().filter(is_of_media).collect()
    }

    /// The names of all objects of uploads that are on their way in.
    pub fn incoming(&self) -> Vec<String> {
        self.files().into_iter().filter(|name| name.starts_with("u/")).collect()
    }

    /// The names of files that the S3 server keeps of uploads in parts that are not over.
    pub fn leftovers(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".upload")).collect()
    }

    /// The names of all files of the store.
    fn files(&self) -> BTreeSet<String> {
        fn walk(root: &Path, folder: &Path, into: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(root, &path, into);
                } else {
                    into.insert(path.strip_prefix(root).expect("below it").display().to_string());
                }
            }
        }
        let mut names = BTreeSet::new();
        walk(&self.root(), &self.root(), &mut names);
        names
    }

    /// Fails unless the store has what the database says and nothing else, and every pointer says what its id means.
    pub async fn assert_tidy(&self) {
        let rows = sqlx::query(
            "SELECT tenant_id, id, revision, public_id, bytes, encode(sha256, 'hex'), state IN ('quarantined', 'rejected')
             FROM media",
        );
        let rows = rows.fetch_all(&self.superuser().await).await.expect("read");
        let mut expected = BTreeSet::new();
        for row in &rows {
            let (tenant, id, revision) = (row.get::<uuid::Uuid, _>(0), row.get::<uuid::Uuid, _>(1), row.get(2));
            let object = uploads::object_path(tenant, id, revision).to_string();
            if tenant.to_string() == self.shop.id && row.get(6) {
                assert_eq!(self.pointer(row.get(3)), Some(Pointer::Gone));
            } else if tenant.to_string() == self.shop.id {
                let target = self.target(row.get(3));
                assert_eq!((&target.object, target.bytes as i64, target.sha256), (&object, row.get(4), row.get(5)));
            }
            expected.insert(object);
        }
        assert_eq!(self.objects(), expected, "objects and rows");
        assert_eq!(self.count("stored_objects").await, 0, "objects that are still to be looked at");
        assert_eq!(
            self.count("pointers WHERE published < generation OR claim IS NOT NULL").await,
            0,
            "pointers to write"
        );
    }
}

/// The id of a medium.
#[track_caller]
pub fn id(medium: &Value) -> String {
    medium["id"].as_str().unwrap_or_else(|| panic!("no id in {medium}")).to_owned()
}
