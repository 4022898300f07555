//! TLS: which certificate a client is shown, and what becomes of it while the files change.

use std::os::unix::fs::symlink;

use testkit::edge::{Edge, EdgeSetup, Signal, eventually, picture};
use testkit::http::{Connection, Request};
use testkit::http2::Http2;
use testkit::tls::{Hello, Pair, connect, presented, put};

use crate::support::{Warm, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@local/a.jpg";

/// What a client that asks for `name` is shown; `None` when it is refused.
async fn shown(edge: &Edge, name: &str) -> Option<Vec<u8>> {
    presented(edge.setup().tls_addr(), Hello::to(name)).await.ok()
}

async fn eventually_shown(edge: &Edge, name: &str, expected: &Pair) {
    eventually("the certificate", async || (shown(edge, name).await.as_ref() == Some(&expected.der)).then_some(()))
        .await;
}

/// Waits until so many pairs were refused since the start.
async fn eventually_refused(edge: &Edge, count: f64) {
    let series = "calotype_tls_certificate_loads_total{result=\"refused\"}";
    eventually("a refusal", async || (edge.metric(series).await >= count).then_some(())).await;
}

/// An edge with a certificate `a` for `a.test`.
async fn with_a() -> (Edge, Pair) {
    let setup = EdgeSetup::new().tls();
    let pair = Pair::new(&["a.test"], 30);
    pair.put(&setup.certificates(), "a");
    setup.put("a.jpg", photo(60, 40));
    (setup.start().await, pair)
}

#[tokio::test]
async fn the_same_pictures_as_without_it() {
    let setup = EdgeSetup::new().tls().set("h2c", true);
    Pair::new(&["a.test"], 30).put(&setup.certificates(), "a");
    setup.put("a.jpg", photo(60, 40));
    let edge = setup.start().await;
    let plain = picture(&edge.get(TARGET).await, "image/jpeg");
    let address = edge.setup().tls_addr();
    for tls12 in [false, true] {
        let hello = Hello { alpn: &["http/1.1"], tls12, ..Hello::to("a.test") };
        let stream = connect(address, hello).await.expect("a handshake");
        let mut connection = Connection::over(address, stream).await.expect("HTTP/1.1");
        for _ in 0..3 {
            let answer = connection.send(&Request::get(TARGET)).await.expect("an answer");
            assert_eq!(picture(&answer, "image/jpeg"), plain);
        }
        let range = connection.send(&Request::get(TARGET).header("range", "bytes=0-3")).await.expect("an answer");
        assert_eq!((range.status.as_u16(), range.body), (206, plain.slice(0..4)));

        let stream = connect(address, Hello { tls12, ..Hello::to("a.test") }).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut connection = Http2::over(stream, "https").await.expect("HTTP/2");
        assert_eq!(picture(&connection.get("a.test", TARGET).await.expect("an answer"), "image/jpeg"), plain);
    }
    for event in edge.events(11).await {
        assert_eq!(event["client"], "127.0.0.1", "{event}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_exact_name_beats_a_wildcard_which_stands_for_one_label() {
    let setup = EdgeSetup::new().tls();
    let pairs = [&["a.test", "b.test"][..], &["*.a.test"], &["x.a.test"]].map(|names| Pair::new(names, 30));
    for (pair, name) in pairs.iter().zip(["one", "two", "three"]) {
        pair.put(&setup.certificates(), name);
    }
    let edge = setup.start().await;
    let table = [
        ("a.test", Some(0)),
        ("B.Test", Some(0)),
        ("x.a.test", Some(2)),
        ("y.a.test", Some(1)),
        ("Y.A.TEST", Some(1)),
        ("z.y.a.test", None),
        ("c.test", None),
        ("test", None),
    ];
    for (name, expected) in table {
        assert!(shown(&edge, name).await == expected.map(|pair: usize| pairs[pair].der.clone()), "{name}");
    }
    let refused = async |reason: &str| {
        edge.metric(&format!("calotype_tls_handshakes_refused_total{{reason=\"{reason}\"}}")).await
    };
    assert_eq!((refused("unknown_name").await, refused("no_name").await), (3.0, 0.0));
    let nameless = Hello { name: None, ..Hello::to("") };
    assert!(presented(edge.setup().tls_addr(), nameless).await.is_err());
    assert_eq!(refused("no_name").await, 1.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_default_is_for_clients_that_name_nothing_known() {
    let setup = EdgeSetup::new().tls().set("tls.default_certificate", "\"b\"");
    let (a, b) = (Pair::new(&["a.test"], 30), Pair::new(&["b.test"], 30));
    a.put(&setup.certificates(), "a");
    b.put(&setup.certificates(), "b");
    let edge = setup.start().await;
    assert_eq!(shown(&edge, "a.test").await, Some(a.der));
    assert_eq!(shown(&edge, "other.test").await, Some(b.der.clone()));
    let nameless = Hello { name: None, ..Hello::to("") };
    assert_eq!(presented(edge.setup().tls_addr(), nameless).await.expect("a certificate"), b.der);
    edge.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_the_old_ones_go_on() {
    let (edge, old) = with_a().await;
    let address = edge.setup().tls_addr();
    let stream = connect(address, Hello { alpn: &["http/1.1"], ..Hello::to("a.test") }).await.expect("a handshake");
    let mut running = Connection::over(address, stream).await.expect("HTTP/1.1");
    picture(&running.send(&Request::get(TARGET)).await.expect("an answer"), "image/jpeg");
    assert_eq!(shown(&edge, "a.test").await, Some(old.der));

    let new = Pair::new(&["a.test", "late.test"], 60);
    new.put(&edge.setup().certificates(), "a");
    eventually_shown(&edge, "a.test", &new).await;
    assert_eq!(shown(&edge, "late.test").await, Some(new.der));
    picture(&running.send(&Request::get(TARGET)).await.expect("the same connection"), "image/jpeg");

    let beside = Pair::new(&["b.test"], 60);
    beside.put(&edge.setup().certificates(), "b");
    eventually_shown(&edge, "b.test", &beside).await;
    for file in ["b.pem", "b.key"] {
        std::fs::remove_file(edge.setup().certificates().join(file)).expect("ours");
    }
    eventually("its end", async || shown(&edge, "b.test").await.is_none().then_some(())).await;
    edge.stop().await;
}

#[tokio::test]
async fn what_cannot_be_used_never_replaces_what_works() {
    let (edge, good) = with_a().await;
    let folder = edge.setup().certificates();
    let (pem, key) = (folder.join("a.pem"), folder.join("a.key"));
    let other = Pair::new(&["a.test"], 30);
    let expired = Pair::new(&["a.test"], -3);
    let now = time_now();
    let early = Pair::lasting(&["a.test"], now + DAY, now + DAY * 9);
    let nameless = Pair::new(&[], 30);
    let cases: [(&str, &str, &str, &str); 8] = [
        ("no PEM at all", "rubbish", &good.key, "holds no certificate"),
        ("half a certificate", &good.certificate[..good.certificate.len() / 2], &good.key, "not PEM"),
        ("no key", &good.certificate, "rubbish", "no private key"),
        ("the key of another", &good.certificate, &other.key, "the key is not the certificate's"),
        ("an expired one", &expired.certificate, &expired.key, "has expired"),
        ("one of tomorrow", &early.certificate, &early.key, "not valid yet"),
        ("one without a name", &nameless.certificate, &nameless.key, "names no host"),
        (
            "a certificate that is none",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &good.key,
            "not X.509",
        ),
    ];
    let mut refusals = 0.0;
    for (case, certificate, secret, reason) in cases {
        put(&key, secret);
        put(&pem, certificate);
        eventually(case, async || edge.log().contains(reason).then_some(())).await;
        refusals += 1.0;
        eventually_refused(&edge, refusals).await;
        assert_eq!(shown(&edge, "a.test").await.as_ref(), Some(&good.der), "{case}");
    }
    std::fs::remove_file(&key).expect("ours");
    put(&pem, &other.certificate);
    eventually("the missing key", async || edge.log().contains("a.key cannot be read").then_some(())).await;
    assert_eq!(shown(&edge, "a.test").await.as_ref(), Some(&good.der));

    put(&key, &other.key);
    eventually_shown(&edge, "a.test", &other).await;
    edge.stop().await;
}

const DAY: time::Duration = time::Duration::days(1);

fn time_now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

#[tokio::test]
async fn a_folder_as_certbot_keeps_it() {
    let setup = EdgeSetup::new().tls();
    let archive = setup.home().join("archive");
    let live = setup.certificates().join("a.test");
    std::fs::create_dir_all(&archive).expect("ours");
    std::fs::create_dir_all(&live).expect("ours");
    put(&setup.certificates().join("README"), "not a certificate");
    let link = |name: &str, target: &str| {
        let part = setup.home().join("link");
        symlink(archive.join(target), &part).expect("ours");
        std::fs::rename(part, live.join(name)).expect("ours");
    };
    let (old, new) = (Pair::new(&["a.test"], 30), Pair::new(&["a.test"], 90));
    for (pair, number) in [(&old, 1), (&new, 2)] {
        put(&archive.join(format!("fullchain{number}.pem")), &pair.certificate);
        put(&archive.join(format!("privkey{number}.pem")), &pair.key);
    }
    link("fullchain.pem", "fullchain1.pem");
    link("privkey.pem", "privkey1.pem");
    let edge = setup.start().await;
    assert_eq!(shown(&edge, "a.test").await.as_ref(), Some(&old.der));

    // Half of a renewal: the new certificate with the old key.
    let relink = |name: &str, target: &str| {
        let part = edge.setup().home().join("link");
        symlink(archive.join(target), &part).expect("ours");
        std::fs::rename(part, live.join(name)).expect("ours");
    };
    relink("fullchain.pem", "fullchain2.pem");
    eventually_refused(&edge, 1.0).await;
    assert_eq!(shown(&edge, "a.test").await.as_ref(), Some(&old.der));
    relink("privkey.pem", "privkey2.pem");
    eventually_shown(&edge, "a.test", &new).await;
    edge.stop().await;
}

#[tokio::test]
async fn when_the_first_one_ends_is_a_metric_and_a_readable_key_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let (edge, _) = with_a().await;
    let not_after = "calotype_tls_certificate_not_after_timestamp_seconds";
    let in_days = async |days: i64| {
        let end = edge.metric(not_after).await - time_now().unix_timestamp() as f64;
        (end - (DAY * days as i32).as_seconds_f64()).abs() < 3600.0
    };
    assert!(in_days(30).await);
    assert_eq!(edge.metric("calotype_tls_certificates").await, 1.0);
    let folder = edge.setup().certificates();
    Pair::new(&["b.test"], 10).put(&folder, "b");
    eventually("the other one", async || (edge.metric("calotype_tls_certificates").await == 2.0).then_some(())).await;
    assert!(in_days(10).await);
    assert!(!edge.log().contains("may be read or replaced"), "{}", edge.log());
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.join("b.key"), open).expect("ours");
    eventually("a warning", async || edge.log().contains("may be read or replaced").then_some(())).await;
    edge.stop().await;
}

#[tokio::test]
async fn without_a_certificate_it_starts_and_refuses_until_there_is_one() {
    let edge = EdgeSetup::new().tls().start().await;
    let warm = Warm::up(&edge).await;
    assert!(shown(&edge, "a.test").await.is_none());
    assert!(edge.log().contains("there is no certificate yet"), "{}", edge.log());
    let pair = Pair::new(&["a.test"], 30);
    pair.put(&edge.setup().certificates(), "a");
    eventually_shown(&edge, "a.test", &pair).await;
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_expired_one_is_shown_where_there_is_no_other() {
    let setup = EdgeSetup::new().tls();
    let expired = Pair::new(&["a.test"], -3);
    expired.put(&setup.certificates(), "a");
    let edge = setup.start().await;
    assert_eq!(shown(&edge, "a.test").await, Some(expired.der));
    assert!(edge.log().contains("the certificate has expired"), "{}", edge.log());
    edge.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_before_anything_starts() {
    let setup = EdgeSetup::new().tls().set("tls.certificates", "\"/nowhere/at/all\"");
    let ended = setup.run_to_end(&["--check-config"]).await;
    assert_eq!(ended.status.code(), Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("/nowhere/at/all"), "{}", ended.stderr);
    let setup = EdgeSetup::new();
    let address = setup.addr();
    let ended = setup.set("tls.listen", format!("\"{address}\"")).run_to_end(&["--check-config"]).await;
    assert_eq!(ended.status.code(), Some(64), "{}", ended.stderr);
    for mistake in ["tls.certificates", "must differ from listen"] {
        assert!(ended.stderr.contains(mistake), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn clients_that_speak_no_tls_or_stop_half_way_hold_nothing_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (edge, pair) = with_a().await;
    let address = edge.setup().tls_addr();
    let mut half = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("taken");
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.expect("sent");
        half.push(stream);
    }
    let mut plain = tokio::net::TcpStream::connect(address).await.expect("taken");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.expect("sent");
    let mut received = Vec::new();
    // Closing with the request unread may show as a reset.
    let _ = plain.read_to_end(&mut received).await;
    assert!(!received.starts_with(b"HTTP"), "{}", received.escape_ascii());
    assert_eq!(shown(&edge, "a.test").await, Some(pair.der));
    edge.signal(Signal::TERM);
    assert_eq!(edge.exited().await.0.code(), Some(0));
}
