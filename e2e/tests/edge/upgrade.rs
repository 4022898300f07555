//! One process taking over from another: nothing is refused or lost, the cache and its purges change hands, and whoever
//! survives serves.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use testkit::edge::{Edge, EdgeSetup, Signal, eventually, picture, problem_code};
use testkit::faulty::Fault;
use testkit::http::{self, Connection, Request, Response};
use testkit::http2::{Http2, finish};
use testkit::tls::{Hello, Pair, presented};
use testkit::upgrade::{Predecessor, Successor};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{S3Rig, Warm, cache_status, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@local/a.jpg";
const TOKEN: &str = "correct horse battery";

fn setup() -> EdgeSetup {
    let setup = EdgeSetup::new().upgradable().set("admin_token", format!("{TOKEN:?}"));
    setup.put("a.jpg", photo(60, 40));
    setup
}

async fn purge_at(admin: SocketAddr, source: &str) -> anyhow::Result<Response> {
    let body = json!({ "tenant": "demo", "source": source }).to_string();
    let request = Request::new(::http::Method::POST, "/purge").body(body);
    http::send(admin, &request.header("authorization", format!("Bearer {TOKEN}"))).await
}

async fn purge(edge: &Edge, source: &str) -> Response {
    purge_at(edge.admin_addr(), source).await.expect("the admin port answers")
}

async fn eventually_with_disk(edge: &Edge) {
    eventually("the folder", async || {
        let readiness = edge.admin("/readyz").await;
        (readiness.status == 200 && readiness.text().contains("\"cache_disk\":\"ready\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_new_process_serves_with_the_cache_of_the_old_one() {
    let edge = setup().tls().start().await;
    let pair = Pair::new(&["a.test"], 30);
    pair.put(&edge.setup().certificates(), "a");
    let body = picture(&edge.get(TARGET).await, "image/jpeg");
    let (edge, old) = edge.upgrade().await;
    assert_eq!(old.exited().await.code(), Some(0), "{}", edge.setup().log_before());
    eventually_with_disk(&edge).await;
    assert_eq!(edge.metric("calotype_cache_disk_available").await, 1.0);
    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), &hit.body), ("Calotype; hit; detail=disk", &body));
    assert_eq!(presented(edge.setup().tls_addr(), Hello::to("a.test")).await.expect("a handshake"), pair.der);

    // And again, and after a stop of the usual kind.
    let (edge, old) = edge.upgrade().await;
    assert_eq!(old.exited().await.code(), Some(0), "{}", edge.setup().log_before());
    eventually_with_disk(&edge).await;
    let edge = edge.stop().await.start().await;
    assert_eq!(cache_status(&edge.get(TARGET).await), "Calotype; hit; detail=disk");
    edge.stop().await;
}

#[tokio::test]
async fn addresses_come_and_go_with_the_settings() {
    let edge = setup().start().await;
    Warm::up(&edge).await;
    let pair = Pair::new(&["a.test"], 30);
    let (edge, old) = edge
        .upgrade_to(|setup| {
            let setup = setup.tls();
            pair.put(&setup.certificates(), "a");
            setup
        })
        .await;
    let tls = edge.setup().tls_addr();
    assert_eq!(presented(tls, Hello::to("a.test")).await.expect("a handshake"), pair.der);
    assert_eq!(old.exited().await.code(), Some(0));
    Warm::up(&edge).await;
    let (edge, old) = edge.upgrade_to(EdgeSetup::without_tls).await;
    assert_eq!(old.exited().await.code(), Some(0));
    assert!(TcpStream::connect(tls).await.is_err(), "nobody listens there any more");
    Warm::up(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_new_process_that_cannot_listen_everywhere_leaves_the_old_one_as_it_was() {
    let edge = setup().start().await;
    let warm = Warm::up(&edge).await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    // The environment wins over the file, which the running edge's setup goes on using.
    let ended = edge.setup().run_with(&["--upgrade"], &[("CALOTYPE_PROXY__ADMIN_LISTEN", &address)]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot be listened on"), "{}", ended.stderr);
    eventually("the old one", async || (purge(&edge, "@local/b.jpg").await.status == 200).then_some(())).await;
    warm.assert_hit(&edge).await;
    let (edge, old) = edge.upgrade().await;
    assert_eq!(old.exited().await.code(), Some(0));
    edge.stop().await;
}

#[tokio::test]
async fn requests_of_the_old_process_are_finished_while_the_new_one_serves_from_memory() {
    let rig = S3Rig::start().await;
    rig.put("slow.jpg", photo(60, 40));
    let edge = rig.edge().upgradable().set("h2c", true).start().await;
    let slow = "/demo/w=40,f=jpeg/@s3/slow.jpg";
    let mut busy = Connection::open(edge.addr()).await.expect("taken");
    let mut streams = Http2::open(edge.addr()).await.expect("HTTP/2");
    rig.relay.set(Fault::StallBeforeHead);
    let stream = streams.start(::http::Method::GET, "edge", slow, &[]).await.expect("sent");
    let waiting = tokio::spawn(async move { (busy.send(&Request::get(slow)).await, busy) });
    rig.relay.wait_for_requests(1).await.expect("the store is asked");

    let (edge, old) = edge.upgrade().await;
    // The old one, which has the folder, answers until it has stopped to accept.
    eventually("the new one, without the folder", async || {
        let disk = edge.readiness().await["cache_disk"].as_str().expect("a text").to_owned();
        let available = edge.metric("calotype_cache_disk_available").await;
        (disk.contains("in use by another process") && available == 0.0).then_some(())
    })
    .await;
    Warm::up(&edge).await;
    assert!(!waiting.is_finished());

    rig.relay.heal();
    let (answer, _) = waiting.await.expect("no panic");
    let answer = answer.expect("an answer");
    picture(&answer, "image/jpeg");
    assert_eq!(answer.header("connection"), Some("close"));
    picture(&finish(stream).await.expect("an answer"), "image/jpeg");
    streams.ended().await.expect("in order");
    assert_eq!(old.exited().await.code(), Some(0), "{}", edge.setup().log_before());
    eventually_with_disk(&edge).await;
    assert_eq!(cache_status(&edge.get(slow).await), "Calotype; hit; detail=disk");
    edge.stop().await;
}

#[tokio::test]
async fn purges_before_and_after_hold_and_one_between_is_refused_but_not_forgotten() {
    let rig = S3Rig::start().await;
    rig.put("slow.jpg", photo(60, 40));
    let edge = rig.edge().upgradable().set("admin_token", format!("{TOKEN:?}")).start().await;
    for name in ["before", "between", "after", "kept"] {
        edge.setup().put(&format!("{name}.jpg"), photo(60, 40));
        picture(&edge.get(&format!("/demo/w=40,f=jpeg/@local/{name}.jpg")).await, "image/jpeg");
    }
    assert_eq!(purge(&edge, "@local/before.jpg").await.status, 200);
    rig.relay.set(Fault::StallBeforeHead);
    let address = edge.addr();
    let waiting = tokio::spawn(async move { http::get(address, "/demo/w=40/@s3/slow.jpg").await });
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    let (edge, old) = edge.upgrade().await;
    // The old one may still answer at first, and says that it is being replaced.
    let refused = eventually("an answer of the new one", async || {
        let answer = purge(&edge, "@local/between.jpg").await;
        (problem_code(&answer) != "upgrading").then_some(answer)
    })
    .await;
    assert_eq!((refused.status.as_u16(), problem_code(&refused).as_str()), (503, "purge-not-durable"));
    rig.relay.heal();
    waiting.await.expect("no panic").expect("an answer");
    assert_eq!(old.exited().await.code(), Some(0));
    eventually_with_disk(&edge).await;
    assert_eq!(purge(&edge, "@local/after.jpg").await.status, 200);

    let edge = edge.kill().await.start().await;
    for (name, status) in [
        ("before", "Calotype; fwd=uri-miss; stored"),
        ("between", "Calotype; fwd=uri-miss; stored"),
        ("after", "Calotype; fwd=uri-miss; stored"),
        ("kept", "Calotype; hit; detail=disk"),
    ] {
        assert_eq!(cache_status(&edge.get(&format!("/demo/w=40,f=jpeg/@local/{name}.jpg")).await), status, "{name}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_new_process_that_dies_before_it_serves_changes_nothing() {
    let edge = setup().start().await;
    let warm = Warm::up(&edge).await;
    for _ in 0..3 {
        let path = edge.setup().upgrade_socket();
        let successor = tokio::task::spawn_blocking(move || Successor::ask(&path)).await.expect("no panic");
        let successor = successor.expect("the sockets");
        let mut addresses = successor.addresses().expect("listening sockets");
        addresses.sort();
        let mut expected = [edge.addr(), edge.admin_addr()];
        expected.sort();
        assert_eq!(addresses, expected);
        // The other one would not know of it.
        let refused = purge(&edge, "@local/warm.jpg").await;
        assert_eq!((refused.status.as_u16(), problem_code(&refused).as_str()), (503, "upgrading"));
        warm.assert_hit(&edge).await;
        drop(successor);
        eventually("the old one", async || {
            let purged = purge(&edge, "@local/other.jpg").await;
            (purged.status == 200).then_some(())
        })
        .await;
        warm.assert_hit(&edge).await;
    }
    let (edge, old) = edge.upgrade().await;
    assert_eq!(old.exited().await.code(), Some(0));
    eventually_with_disk(&edge).await;
    edge.stop().await;
}

/// An edge that takes over from the test; it is given the sockets of its addresses, then `word`, if any.
async fn after(word: Option<&'static [u8; 8]>) -> (EdgeSetup, JoinHandle<anyhow::Result<()>>) {
    let setup = setup();
    let predecessor = Predecessor::bind(&setup.upgrade_socket()).expect("the folder is ours");
    let sockets =
        [setup.addr(), setup.admin_addr()].map(|address| TcpListener::bind(address).expect("the port is ours"));
    (setup, tokio::task::spawn_blocking(move || predecessor.give(&sockets, word)))
}

#[tokio::test]
async fn an_old_process_that_is_killed_in_the_middle_leaves_the_new_one_serving() {
    let (setup, old) = after(None).await;
    let edge = setup.start_with(&["--upgrade"]).await;
    old.await.expect("no panic").expect("it asked");
    eventually("the end of the old one", async || edge.log().contains("has ended without a word").then_some(())).await;
    eventually_with_disk(&edge).await;
    Warm::up(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_new_process_that_is_too_late_ends() {
    let (setup, old) = after(Some(b"too late")).await;
    let ended = setup.run_to_end(&["--upgrade"]).await;
    old.await.expect("no panic").expect("it asked");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("had given up waiting"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_old_process_that_is_killed_while_it_drains_gives_the_folder_up() {
    let rig = S3Rig::start().await;
    rig.put("slow.jpg", photo(60, 40));
    let edge = rig.edge().upgradable().start().await;
    let warm = Warm::up(&edge).await;
    rig.relay.set(Fault::StallBeforeHead);
    let address = edge.addr();
    let waiting = tokio::spawn(async move { http::get(address, "/demo/w=40/@s3/slow.jpg").await });
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    let (edge, old) = edge.upgrade().await;
    old.kill().await;
    assert!(waiting.await.expect("no panic").is_err());
    rig.relay.heal();
    eventually_with_disk(&edge).await;
    Warm::up(&edge).await;
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_new_process_that_is_killed_while_the_old_one_drains_leaves_a_whole_cache() {
    let rig = S3Rig::start().await;
    rig.put("slow.jpg", photo(60, 40));
    let edge = rig.edge().upgradable().start().await;
    Warm::up(&edge).await;
    rig.relay.set(Fault::StallBeforeHead);
    let address = edge.addr();
    let slow = "/demo/w=40,f=jpeg/@s3/slow.jpg";
    let waiting = tokio::spawn(async move { http::get(address, slow).await });
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    let (edge, old) = edge.upgrade().await;
    let setup = edge.kill().await;
    rig.relay.heal();
    picture(&waiting.await.expect("no panic").expect("an answer"), "image/jpeg");
    assert_eq!(old.exited().await.code(), Some(0));
    let edge = setup.start().await;
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    assert_eq!(cache_status(&edge.get(slow).await), "Calotype; hit; detail=disk");
    edge.stop().await;
}

#[tokio::test]
async fn without_an_edge_to_take_over_from_it_starts_as_usual() {
    let edge = setup().start_with(&["--upgrade"]).await;
    assert!(edge.log().contains("no edge is there to take over from"), "{}", edge.log());
    Warm::up(&edge).await;
    // What a killed process leaves behind is no edge either.
    let edge = edge.kill().await.start_with(&["--upgrade"]).await;
    let (edge, old) = edge.upgrade().await;
    assert_eq!(old.exited().await.code(), Some(0));
    edge.stop().await;
}

#[tokio::test]
async fn mistakes_are_told() {
    let ended = EdgeSetup::new().run_to_end(&["--upgrade"]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("--upgrade needs the setting upgrade_socket"), "{}", ended.stderr);
    let ended = EdgeSetup::new().set("upgrade_socket", "\"/nowhere/at/all\"").run_to_end(&[]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("upgrade_socket = /nowhere/at/all cannot be bound"), "{}", ended.stderr);
    // The running edge keeps its socket: nobody else's start takes it away.
    let edge = setup().start().await;
    let ended = edge.setup().run_to_end(&[]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("cannot be listened on"), "{}", ended.stderr);
    let (edge, old) = edge.upgrade().await;
    assert_eq!(old.exited().await.code(), Some(0));
    edge.stop().await;
}

#[tokio::test]
async fn the_service_manager_is_told_who_serves() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("notify");
    let manager = tokio::net::UnixDatagram::bind(&path).expect("a socket");
    let told = async || {
        let mut text = [0; 100];
        let length = tokio::time::timeout(std::time::Duration::from_secs(30), manager.recv(&mut text)).await;
        String::from_utf8_lossy(&text[..length.expect("it is told").expect("a datagram")]).into_owned()
    };
    let edge = setup().env("NOTIFY_SOCKET", &path.display().to_string()).start().await;
    assert_eq!(told().await, format!("READY=1\nMAINPID={}", edge.id()));
    let (edge, old) = edge.upgrade().await;
    assert_eq!(told().await, format!("READY=1\nMAINPID={}", edge.id()));
    assert_eq!(old.exited().await.code(), Some(0));
    edge.stop().await;
    assert_eq!(told().await, "STOPPING=1");
}

/// What became of the requests of a load.
#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    /// Sent again, because a connection that had been used before was closed without a byte of an answer: so RFC 9110,
    /// section 9.2.2, has every client do.
    repeated: u64,
    /// Connections that were not taken.
    refused: u64,
    failures: Vec<String>,
}

/// Clients that go on until they are told to stop; half of them with a new connection each time. `serving` says where to
/// connect to, as a balancer does.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    fn start(serving: impl Fn() -> SocketAddr + Clone + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..8).map(|n| tokio::spawn(client(serving.clone(), Arc::clone(&stop), n % 2 == 0))).collect();
        Self { stop, clients }
    }

    async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for client in self.clients {
            let tally = client.await.expect("no panic");
            all.answered += tally.answered;
            all.repeated += tally.repeated;
            all.refused += tally.refused;
            all.failures.extend(tally.failures);
        }
        all
    }
}

async fn client(serving: impl Fn() -> SocketAddr, stop: Arc<AtomicBool>, keeps: bool) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::SeqCst) {
        let is_reused = kept.is_some();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match Connection::open(serving()).await {
                Ok(connection) => connection,
                Err(_) => {
                    tally.refused += 1;
                    tokio::task::yield_now().await;
                    continue;
                }
            },
        };
        match connection.send(&Request::get(TARGET)).await {
            Ok(answer) if answer.status == 200 => {
                tally.answered += 1;
                kept = Some(connection).filter(|_| keeps && answer.header("connection") != Some("close"));
            }
            Ok(answer) => tally.failures.push(format!("{} {}", answer.status, answer.text())),
            Err(_) if is_reused => tally.repeated += 1,
            Err(error) => tally.failures.push(format!("{error:#}")),
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_under_load_fails_no_request() {
    let mut edge = setup().set("access_log", false).start().await;
    let address = edge.addr();
    let load = Load::start(move || address);
    for _ in 0..3 {
        let (new, old) = edge.upgrade().await;
        assert_eq!(old.exited().await.code(), Some(0), "{}", new.setup().log_before());
        eventually_with_disk(&new).await;
        edge = new;
    }
    let tally = load.stop().await;
    assert!(tally.failures.is_empty() && tally.refused == 0, "{tally:?}");
    assert!(tally.answered > 100, "{tally:?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_fails_no_request_of_a_balancer_that_watches_readiness() {
    let first = setup().set("drain_notice_seconds", 3).start().await;
    let second = setup().start().await;
    let addresses = [first.addr(), second.addr()];
    let is_ready = Arc::new(AtomicBool::new(true));
    let watched = Arc::clone(&is_ready);
    let load = Load::start(move || addresses[usize::from(!watched.load(Ordering::SeqCst))]);
    first.events(100).await;
    first.signal(Signal::TERM);
    let admin = first.admin_addr();
    eventually("the drain", async || {
        let ready = http::get(admin, "/readyz").await.is_ok_and(|ready| ready.status == 200);
        (!ready).then_some(())
    })
    .await;
    is_ready.store(false, Ordering::SeqCst);
    assert_eq!(first.exited().await.0.code(), Some(0));
    let tally = load.stop().await;
    assert!(tally.failures.is_empty() && tally.refused == 0, "{tally:?}");
    assert!(tally.answered > 100, "{tally:?}");
    second.stop().await;
}
