//! Downloads: collections and folders as archives, as those unpack them who have never heard of us; and what goes wrong on the way.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::control_plane::{ADMIN_KEY, MASTER_KEY, body};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::Fault;
use testkit::http::{Request, Response, split_url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{ok, problem};

/// Stores some bytes; the medium.
async fn store(rig: &MediaRig, filename: &str, folder: &str, bytes: &[u8]) -> Value {
    let form = TestForm::default().add("file", Some(filename), bytes).text("folder", folder);
    ok(&rig.post(form).await, 201)
}

/// A collection of these.
async fn collection(rig: &MediaRig, name: &str, media: &[&Value]) -> String {
    let (api, key) = (&rig.api, &rig.shop.key[..]);
    let made = id(&ok(&api.json(Method::POST, key, "/v1/collections", &json!({"name": name})).await, 201));
    let ids: Vec<String> = media.iter().map(|medium| id(medium)).collect();
    ok(&api.json(Method::POST, key, &format!("/v1/collections/{made}/media"), &json!({"ids": ids})).await, 200);
    made
}

async fn download(rig: &MediaRig, query: &str) -> Response {
    rig.api.get(&rig.shop.key, &format!("/v1/downloads?{query}")).await
}

async fn link(rig: &MediaRig, wanted: &Value) -> Response {
    rig.api.json(Method::POST, &rig.shop.key, "/v1/downloads", wanted).await
}

async fn metric(rig: &MediaRig, name: &str) -> u64 {
    let metrics = rig.api.send(&Request::get("/metrics")).await.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    line.unwrap_or_default() as u64
}

/// What Python makes of an archive: the content of each file, by its path.
#[track_caller]
fn unpacked(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    const PROGRAM: &str = "
import io, json, sys, tarfile, zipfile
data = sys.stdin.buffer.read()
if data[:2] == b'PK':
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    assert all(one.compress_type == zipfile.ZIP_STORED for one in archive.infolist())
    files = [(one.filename, archive.read(one)) for one in archive.infolist()]
else:
    archive = tarfile.open(fileobj=io.BytesIO(data), mode='r|')
    files = [(one.name, archive.extractfile(one).read()) for one in archive]
assert len(files) == len(dict(files))
print(json.dumps({name: content.hex() for name, content in files}))
";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3 is there");
    let mut input = python.stdin.take().expect("it reads");
    let sent = archive.to_vec();
    let sending = std::thread::spawn(move || input.write_all(&sent));
    let done = python.wait_with_output().expect("it ends");
    sending.join().expect("no panic").expect("it reads all");
    assert!(done.status.success(), "it is no good archive");
    let files: BTreeMap<String, String> = serde_json::from_slice(&done.stdout).expect("JSON");
    let bytes = |hex: &str| {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    };
    files.into_iter().map(|(path, hex)| (path, bytes(&hex))).collect()
}

fn paths(archive: &[u8]) -> Vec<String> {
    unpacked(archive).into_keys().collect()
}

/// Asks for an archive and reads until the connection ends: what was announced, and what came.
async fn until_it_ends(rig: &MediaRig, query: &str) -> (Option<usize>, Vec<u8>) {
    let mut stream = TcpStream::connect(rig.api.addr()).await.expect("it listens");
    let request = format!(
        "GET /v1/downloads?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.shop.key
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer));
    drop(read.await.expect("it ends"));
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..at].to_vec()).expect("text").to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    (length, answer.split_off(at + 4))
}

#[tokio::test]
async fn a_collection_comes_as_an_archive() {
    let rig = MediaRig::start().await;
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let first = store(&rig, "beach.bin", "", &big).await;
    let second = store(&rig, "Beach.bin", "a/b", b"two").await;
    let third = store(&rig, "\u{e9}t\u{e9}.txt", "", b"three").await;
    // Without a name of its own, it is called as in URLs.
    let form = TestForm::default().add("file", None, b"four").text("public_id", "photos/last");
    let fourth = ok(&rig.post(form).await, 201);
    let of = collection(&rig, "Summer \"26\": \u{e9}t\u{e9}", &[&second, &first, &third, &fourth]).await;
    let expected = BTreeMap::from([
        ("Beach.bin".to_owned(), b"two".to_vec()),
        ("beach (2).bin".to_owned(), big),
        ("\u{e9}t\u{e9}.txt".to_owned(), b"three".to_vec()),
        ("last.txt".to_owned(), b"four".to_vec()),
    ]);
    for format in ["zip", "tar"] {
        let query = format!("collection={of}&format={format}");
        let archive = download(&rig, &query).await;
        assert_eq!(archive.status, 200, "{}", archive.text());
        assert_eq!(archive.header("content-length"), Some(&archive.body.len().to_string()[..]));
        let kind = if format == "zip" { "application/zip" } else { "application/x-tar" };
        assert_eq!((archive.header("content-type"), archive.header("accept-ranges")), (Some(kind), Some("none")));
        assert_eq!(
            archive.header("content-disposition").expect("a name"),
            format!(
                "attachment; filename=\"Summer _26__ _t_.{format}\"; filename*=UTF-8''Summer%20_26__%20%C3%A9t%C3%A9.{format}"
            )
        );
        assert!(unpacked(&archive.body) == expected, "{:?}", paths(&archive.body));

        let head = Request::head(format!("/v1/downloads?{query}"));
        let head = rig.api.send(&head.header("authorization", format!("Bearer {}", rig.shop.key))).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), archive.header("content-length"));
    }
    eventually("all have ended", async || (metric(&rig, "calotype_api_downloads_running").await == 0).then_some(()))
        .await;
    assert_eq!(metric(&rig, "calotype_api_downloads_total{end=\"whole\"}").await, 2, "HEAD sends none");
}

#[tokio::test]
async fn a_folder_comes_with_those_within_it() {
    let rig = MediaRig::start().await;
    for (name, folder) in [("t", ""), ("a", "x"), ("b", "x/y"), ("a", "x/y"), ("c", "x!"), ("y", "x"), ("d", "x/y z")] {
        store(&rig, name, folder, format!("{folder}/{name}").as_bytes()).await;
    }
    let of = async |query: &str| paths(&download(&rig, query).await.body);
    // A file that is called as a folder beside it makes way.
    assert_eq!(of("folder=x").await, ["a.txt", "y z/d.txt", "y.txt", "y/a.txt", "y/b.txt"]);
    assert_eq!(of("folder=x&subfolders=false&format=tar").await, ["a.txt", "y.txt"]);
    assert_eq!(of("folder=x/y").await, ["a.txt", "b.txt"]);
    assert_eq!(of("folder=&subfolders=false").await, ["t.txt"]);
    assert_eq!(of("folder=&format=tar").await.len(), 7);
    let archive = download(&rig, "folder=x/y%20z").await;
    assert!(archive.header("content-disposition").expect("a name").contains("filename=\"y z.zip\""));
    assert_eq!(unpacked(&archive.body)["d.txt"], b"x/y z/d");

    // What is not served is not sent.
    rig.sql("UPDATE media SET state = 'quarantined' WHERE filename = 'b'").await;
    rig.sql("UPDATE media SET state = 'rejected' WHERE filename = 'd'").await;
    assert_eq!(of("folder=x").await, ["a.txt", "y.txt", "y/a.txt"]);
    problem(&download(&rig, "folder=x/y%20z").await, 404, "download-empty");
    problem(&download(&rig, "folder=nowhere").await, 404, "not-found");
    problem(&download(&rig, "collection=00000000-0000-7000-8000-000000000000").await, 404, "not-found");
    for bad in ["", "format=zip", "folder=x&collection=1", "folder=../x", "folder=x&format=rar", "folder=x&x=1"] {
        problem(&download(&rig, bad).await, 422, "bad-field");
    }
}

#[tokio::test]
async fn a_link_needs_no_key_and_is_good_for_one_archive_and_a_while() {
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    let (one, other) = (store(&rig, "a.txt", "x", b"one").await, store(&rig, "b.txt", "", b"two").await);
    let of = collection(&rig, "c", &[&one, &other]).await;
    let made = ok(&link(&rig, &json!({"collection": of, "expires_in_seconds": 600})).await, 201);
    assert_eq!((&made["files"], &made["bytes"]), (&json!(2), &json!(6)));
    let (address, target) = split_url(made["url"].as_str().expect("a URL")).expect("a URL");
    assert_eq!(address, rig.api.addr());
    let follow = async |target: &str| rig.api.send(&Request::get(target)).await;
    assert_eq!(paths(&follow(&target).await.body), ["a.txt", "b.txt"]);
    // What is in it is what there is then.
    assert_eq!(rig.delete(&id(&other)).await.status, 204);
    assert_eq!(paths(&follow(&target).await.body), ["a.txt"]);

    let folder = ok(&link(&rig, &json!({"folder": "x", "format": "tar"})).await, 201);
    let (_, of_folder) = split_url(folder["url"].as_str().expect("a URL")).expect("a URL");
    assert_eq!(paths(&follow(&of_folder).await.body), ["a.txt"]);

    let blog = rig.api.tenant("blog").await;
    for bad in [
        target.replace(&rig.shop.id, &blog.id),
        target.replacen("token=", "token=A", 1),
        target[..target.len() - 4].to_owned(),
        format!("{target}&format=tar"),
        "/v1/downloads/link".to_owned(),
    ] {
        problem(&follow(&bad).await, 403, "url-refused");
    }
    let short = ok(&link(&rig, &json!({"folder": "x", "expires_in_seconds": 1})).await, 201);
    let (_, short) = split_url(short["url"].as_str().expect("a URL")).expect("a URL");
    let refused =
        eventually("it is over", async || Some(follow(&short).await).filter(|answer| answer.status == 403)).await;
    problem(&refused, 403, "url-refused");
    for bad in [
        json!({"folder": "x", "expires_in_seconds": 0}),
        json!({"folder": "x", "expires_in_seconds": 604_801}),
        json!({}),
    ] {
        problem(&link(&rig, &bad).await, 422, "bad-field");
    }
    problem(&link(&rig, &json!({"folder": "nowhere"})).await, 404, "not-found");

    // A tenant that is suspended sends nothing.
    let suspend = json!({"state": "suspended"});
    ok(&rig.api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &suspend).await, 200);
    problem(&follow(&target).await, 403, "url-refused");
}

#[tokio::test]
async fn without_a_master_key_there_are_no_links() {
    let rig = MediaRig::start().await;
    store(&rig, "a.txt", "x", b"one").await;
    problem(&link(&rig, &json!({"folder": "x"})).await, 501, "no-master-key");
    assert_eq!(download(&rig, "folder=x").await.status, 200);
}

/// Nobody takes what came for all of it; and who asks for the rest gets it, and is told.
#[tokio::test]
async fn a_file_that_is_missing_cuts_the_archive_off_or_is_left_out() {
    let rig = MediaRig::start().await;
    for name in ["a.txt", "b.txt", "missing.txt"] {
        store(&rig, name, "x", name.repeat(600_000).as_bytes()).await;
    }
    let media = ok(&rig.api.get(&rig.shop.key, "/v1/media?folder=x").await, 200);
    let lost = media["items"].as_array().expect("a list").iter().find(|medium| medium["filename"] == "b.txt");
    let lost = rig.target(lost.expect("it is there")["public_id"].as_str().expect("a name")).object;
    std::fs::remove_file(rig.root().join(lost)).expect("it is there");
    for format in ["zip", "tar"] {
        let (announced, came) = until_it_ends(&rig, &format!("folder=x&format={format}")).await;
        assert!(came.len() < announced.expect("it is known"), "{} came", came.len());
        assert!(came.len() > 1_000_000, "what comes before it is sent: {}", came.len());
        let (announced, came) = until_it_ends(&rig, &format!("folder=x&format={format}&skip_missing=true")).await;
        assert_eq!(announced, None);
        let came = unchunked(&came);
        let files = unpacked(&came);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a.txt", "missing (2).txt", "missing.txt"]);
        assert_eq!(files["missing (2).txt"], b"These files could not be found:\nb.txt\n");
    }
    eventually("they are counted", async || {
        let ended = async |end| metric(&rig, &format!("calotype_api_downloads_total{{end=\"{end}\"}}")).await;
        ((ended("failed").await, ended("whole").await) == (2, 2)).then_some(())
    })
    .await;
    let log = rig.api.log();
    assert!(log.contains("an archive was cut off") && log.contains("b.txt"), "{log}");
}

/// What stands in the chunks of a body that ends as it should.
#[track_caller]
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let at = body.windows(2).position(|two| two == b"\r\n").expect("the size of a chunk");
        let size = std::str::from_utf8(&body[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a size");
        if size == 0 {
            return all;
        }
        all.extend_from_slice(&body[at + 2..at + 2 + size]);
        body = &body[at + 4 + size..];
    }
}

/// The store breaks off in the middle of a file, and is away for a moment: the archive is whole all the same.
#[tokio::test]
async fn a_file_that_breaks_off_is_gone_on_with() {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &[]).await;
    let (big, small) = (vec![7; 4_000_000], b"small".to_vec());
    store(&rig, "big.bin", "x", &big).await;
    store(&rig, "small.bin", "x", &small).await;
    let expected = BTreeMap::from([("big.bin".to_owned(), big), ("small.txt".to_owned(), small)]);
    let whole = async |fault| {
        rig.relay().set_for(1, fault);
        let archive = download(&rig, "folder=x").await;
        let files = unpacked(&archive.body);
        assert!(files.values().eq(expected.values()), "{:?}", files.keys());
    };
    whole(Fault::Truncate { after_bytes: 1_500_000 }).await;
    whole(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE)).await;
    whole(Fault::Reset).await;

    // And if it stays away, the connection is cut.
    rig.relay().set(Fault::Truncate { after_bytes: 1000 });
    let (announced, came) = until_it_ends(&rig, "folder=x").await;
    assert!(came.len() < announced.expect("it is known"));
    rig.relay().heal();
}

#[tokio::test]
async fn a_client_that_takes_nothing_gives_its_place_back() {
    let settings = [("DOWNLOAD_STALL_SECONDS", "1".to_owned()), ("DOWNLOADS_OF_TENANT", "1".to_owned())];
    let rig = MediaRig::with_folder(&settings).await;
    store(&rig, "big.bin", "x", &vec![7; 40_000_000]).await;
    let mut stream = TcpStream::connect(rig.api.addr()).await.expect("it listens");
    let request =
        format!("GET /v1/downloads?folder=x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", rig.shop.key);
    stream.write_all(request.as_bytes()).await.expect("it reads");
    stream.readable().await.expect("it begins");
    eventually("it is cut off", async || {
        (metric(&rig, "calotype_api_downloads_total{end=\"left\"}").await == 1).then_some(())
    })
    .await;
    assert_eq!(metric(&rig, "calotype_api_downloads_running").await, 0);
    assert_eq!(download(&rig, "folder=x&format=tar").await.status, 200);
}

#[tokio::test]
async fn a_tenant_has_so_many_archives_at_once_and_of_such_a_size() {
    let settings = [
        ("DOWNLOADS_OF_TENANT", "1".to_owned()),
        ("DOWNLOADS_RUNNING", "2".to_owned()),
        ("DOWNLOAD_FILES", "2".to_owned()),
        ("DOWNLOAD_BYTES", "40000003".to_owned()),
    ];
    let rig = MediaRig::with_folder(&settings).await;
    store(&rig, "big.bin", "x", &vec![7; 40_000_000]).await;
    let begin = async |key: &str| {
        let mut stream = TcpStream::connect(rig.api.addr()).await.expect("it listens");
        let request = format!("GET /v1/downloads?folder=x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        stream.readable().await.expect("it begins");
        stream
    };
    let held = begin(&rig.shop.key).await;
    problem(&download(&rig, "folder=x").await, 429, "too-many-downloads");
    let mut others = Vec::new();
    for slug in ["blog", "news"] {
        let other = rig.api.tenant(slug).await;
        let form = TestForm::file(&vec![7; 40_000_000]).text("folder", "x");
        ok(&rig.api.send(&form.request(Method::POST, "/v1/media", &other.key)).await, 201);
        others.push(other);
    }
    let _also_held = begin(&others[0].key).await;
    let busy = rig.api.get(&others[1].key, "/v1/downloads?folder=x").await;
    problem(&busy, 503, "busy");
    drop(held);
    eventually("its place is free", async || {
        (rig.api.get(&others[1].key, "/v1/downloads?folder=x").await.status == 200).then_some(())
    })
    .await;

    store(&rig, "a.txt", "x", b"two").await;
    assert_eq!(rig.api.send(&head(&rig.shop.key, "folder=x")).await.status, 200);
    let too_much = rig.put(&id(&store(&rig, "b.txt", "y", b"1").await), b"more").await;
    ok(&too_much, 200);
    store(&rig, "c.txt", "y", &vec![7; 40_000_000]).await;
    let why = problem(&download(&rig, "folder=y").await, 422, "download-too-large");
    assert!(why.contains("40000003 bytes"), "{why}");
    store(&rig, "d.txt", "x", b"3").await;
    let why = problem(&download(&rig, "folder=x").await, 422, "download-too-large");
    assert!(why.contains("2 files"), "{why}");
}

fn head(key: &str, query: &str) -> Request {
    Request::head(format!("/v1/downloads?{query}")).header("authorization", format!("Bearer {key}"))
}

/// What is sent counts, and who may send nothing more this month sends no archives either.
#[tokio::test]
async fn archives_count_as_bandwidth() {
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    store(&rig, "a.bin", "x", &[7; 10_000]).await;
    let link = ok(&link(&rig, &json!({"folder": "x"})).await, 201);
    let (_, link) = split_url(link["url"].as_str().expect("a URL")).expect("a URL");
    let archive = download(&rig, "folder=x").await;
    let used = eventually("it is counted", async || {
        let used = body(&rig.api.get(&rig.shop.key, "/v1/usage").await);
        let sum = |name: &str| used["totals"][name].as_u64().unwrap_or_else(|| panic!("{used}"));
        (sum("requests") > 0).then(|| (sum("requests"), sum("bytes")))
    })
    .await;
    assert_eq!(used, (1, archive.body.len() as u64));

    let quotas = json!({"bandwidth_bytes": 15_000});
    ok(&rig.api.json(Method::PUT, ADMIN_KEY, "/v1/tenants/shop/quotas", &quotas).await, 200);
    assert_eq!(rig.api.send(&Request::get(&link)).await.status, 200);
    let refused = eventually("it is used up", async || {
        Some(download(&rig, "folder=x").await).filter(|answer| answer.status != 200)
    })
    .await;
    problem(&refused, 429, "quota-bandwidth");
    problem(&rig.api.send(&Request::get(&link)).await, 429, "quota-bandwidth");
}

#[tokio::test]
async fn without_a_store_there_is_nothing_to_download() {
    let api = testkit::control_plane::ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    problem(&api.get(&shop.key, "/v1/downloads?folder=").await, 404, "download-empty");
}
