//! SIGKILL in the middle of a fill, an insert, a purge, a reload: the next start finds what was promised, and nothing half.

use std::collections::BTreeSet;
use std::path::Path;

use testkit::edge::{Edge, EdgeSetup, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Connection, Request};
use testkit::images;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{S3Rig, TOKEN, cache_status, photo, with_token};

const MISS: &str = "Calotype; fwd=uri-miss; stored";
const DISK: &str = "Calotype; hit; detail=disk";

async fn settled(edge: &Edge) {
    eventually("an empty queue of writes", async || {
        (edge.metric("calotype_cache_unflushed_entries").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn in_the_middle_of_a_fill() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let mut edge = rig.edge().start().await;
    let kept = "/demo/w=30,f=jpeg/@s3/a.jpg";
    let body = picture(&edge.get(kept).await, "image/jpeg");
    settled(&edge).await;
    // Of an original of its own, which the edge does not have.
    let target = "/demo/w=200,f=jpeg,v=1/@s3/a.jpg";
    for fault in [Fault::StallBeforeHead, Fault::StallInBody { after_bytes: 1000 }] {
        let asked = rig.relay.requests();
        rig.relay.set(fault);
        let address = edge.addr();
        let client = tokio::spawn(async move { http::get(address, target).await });
        rig.relay.wait_for_requests(asked + 1).await.expect("the store is asked");
        let setup = edge.kill().await;
        assert!(client.await.expect("no panic").is_err(), "who waited is told by the end of the connection");
        rig.relay.heal();
        edge = setup.start().await;
        let hit = edge.get(kept).await;
        assert_eq!((cache_status(&hit), &hit.body), (DISK, &body));
    }
    let made = edge.get(target).await;
    assert_eq!(cache_status(&made), MISS, "half a fill is none");
    assert_eq!(images::decode(&picture(&made, "image/jpeg")).width(), 200);
    edge.stop().await;
}

/// Clients that ask for ever new renditions until the edge is gone; what they were answered comes through the channel.
fn fill_until_it_ends(edge: &Edge, first: usize) -> mpsc::UnboundedReceiver<(String, bytes::Bytes)> {
    let (answers, received) = mpsc::unbounded_channel();
    for client in 0..4 {
        let (address, answers) = (edge.addr(), answers.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await.expect("taken");
            for number in (first + client..).step_by(4) {
                // Versioned, so that nothing is asked of the origin again; each width has many versions.
                let target = format!("/demo/w={},f=jpeg,v={number}/@local/a.jpg", 100 + number % 50);
                let Ok(answer) = connection.send(&Request::get(&target)).await else { return };
                // The edge may be killed within an answer; what came whole is told.
                let _ = answers.send((target, picture(&answer, "image/jpeg")));
            }
        });
    }
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_inserts() {
    let mut edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(200, 150));
    let mut told = Vec::new();
    for round in 0..3 {
        let mut answers = fill_until_it_ends(&edge, round * 100_000);
        for _ in 0..60 + 17 * round {
            told.push(answers.recv().await.expect("the edge answers"));
        }
        edge = edge.kill().await.start().await;
        assert_eq!(edge.readiness().await["cache_disk"], "ready");
        while let Some(answer) = answers.recv().await {
            told.push(answer);
        }
        // Renditions that had not reached the disk are made again; none is another's, none is half.
        let mut hits = 0;
        for (target, body) in &told {
            let again = edge.get(target).await;
            assert_eq!(picture(&again, "image/jpeg"), body, "{target}");
            hits += usize::from(cache_status(&again) == DISK);
        }
        assert!(hits * 2 > told.len(), "only {hits} of {} were on disk in round {round}", told.len());
    }
    edge.stop().await;
}

fn versioned(number: usize) -> String {
    format!("/demo/w=30,f=jpeg,v=1/@local/{number}.jpg")
}

/// Purges the sources of these numbers, one after the other, until the edge is gone; tells what was acknowledged.
async fn purge_until_it_ends(address: std::net::SocketAddr, numbers: Vec<usize>, done: mpsc::UnboundedSender<usize>) {
    for number in numbers {
        let order = Request::new(::http::Method::POST, "/purge").header("authorization", format!("Bearer {TOKEN}"));
        let order = order.body(format!(r#"{{"source":"@local/{number}.jpg","tenant":"demo"}}"#));
        match http::send(address, &order).await {
            Ok(answer) if answer.status == 200 => drop(done.send(number)),
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_purges() {
    const NAMED: usize = 400;
    const OTHERS: usize = 20;
    let mut edge = with_token(EdgeSetup::new()).start().await;
    let bytes = photo(60, 40);
    (0..NAMED + OTHERS).for_each(|number| edge.setup().put(&format!("{number}.jpg"), &bytes));
    for round in 0..2 {
        for number in 0..NAMED + OTHERS {
            picture(&edge.get(&versioned(number)).await, "image/jpeg");
        }
        settled(&edge).await;
        let (done, mut acknowledged) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let numbers = (client..NAMED).step_by(4).collect();
            clients.spawn(purge_until_it_ends(edge.admin_addr(), numbers, done.clone()));
        }
        drop(done);
        let mut purged = BTreeSet::new();
        while purged.len() < 30 + 11 * round {
            purged.insert(acknowledged.recv().await.expect("the edge answers"));
        }
        edge = edge.kill().await.start().await;
        clients.join_all().await;
        while let Some(number) = acknowledged.recv().await {
            purged.insert(number);
        }
        assert!(purged.len() < NAMED, "the kill came too late to be in the middle");
        for number in purged {
            assert_eq!(cache_status(&edge.get(&versioned(number)).await), MISS, "{number} was purged before the kill");
        }
        for number in NAMED..NAMED + OTHERS {
            assert_eq!(cache_status(&edge.get(&versioned(number)).await), DISK, "{number} was never purged");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn in_the_middle_of_a_reload() {
    let setup = EdgeSetup::new();
    // A file of its own, which a start of the edge does not write anew.
    let (policy, part) = (setup.home().join("live.toml"), setup.home().join("live.part"));
    let base = setup.policy();
    let write = |width: u32| {
        // Many tenants, so that reading it takes a while.
        let others: String = (0..2000).map(|n| format!("[tenants.t{n}]\npresets.p = \"w={width}\"\n")).collect();
        std::fs::write(&part, format!("{base}presets.thumb = \"w={width},f=jpeg\"\n{others}")).expect("ours");
        std::fs::rename(&part, &policy).expect("ours");
    };
    write(20);
    let mut edge = setup.set("policy_file", quoted(&policy)).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    for round in 1..=6 {
        write(20 + round);
        if round % 2 == 0 {
            // At the latest now it is being read or has been.
            eventually("the reload", async || (edge.metric("calotype_policy_sequence").await > 1.0).then_some(()))
                .await;
            write(20 + round);
        }
        edge = edge.kill().await.start().await;
        assert_eq!(edge.readiness().await["policy_sequence"], 1);
        let made = picture(&edge.get("/demo/p=thumb/@local/a.jpg").await, "image/jpeg");
        assert_eq!(images::decode(&made).width(), 20 + round, "what the file says is in force");
    }
    edge.stop().await;
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
