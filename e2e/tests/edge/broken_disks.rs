//! A cache disk that fills up, damages what is on it, or loses its folder, all of it while the edge runs. How the edge starts on
//! a disk that is broken already is told in `cache_folder`.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::http::Response;

use crate::support::{cache_status, photo, purge, with_token};

const MISS: &str = "Calotype; fwd=uri-miss; stored";
const DISK: &str = "Calotype; hit; detail=disk";
const MEMORY: &str = "Calotype; hit; detail=memory";

type Made = BTreeMap<String, Bytes>;

fn setup() -> EdgeSetup {
    // So little memory that most of what is made below is on disk only.
    with_token(EdgeSetup::new()).set("cache.memory_bytes", 1 << 20)
}

/// Renditions of some 20 KB, several MiB of them, all on disk.
async fn fill(edge: &Edge) -> Made {
    edge.setup().put("a.jpg", photo(600, 400));
    let mut made = Made::new();
    for width in 400..550 {
        let target = format!("/demo/w={width},q=90,f=jpeg/@local/a.jpg");
        let body = picture(&edge.get(&target).await, "image/jpeg");
        made.insert(target, body);
    }
    assert!(made.values().map(Bytes::len).sum::<usize>() > 3 << 20, "they would fit in memory");
    eventually("an empty queue of writes", async || {
        (edge.metric("calotype_cache_unflushed_entries").await == 0.0).then_some(())
    })
    .await;
    made
}

/// Asks for all of them; each is right. Returns how many came from where.
async fn check(edge: &Edge, made: &Made) -> BTreeMap<String, usize> {
    let mut came = BTreeMap::new();
    for (target, body) in made {
        let answer = edge.get(target).await;
        assert_eq!(picture(&answer, "image/jpeg"), body, "{target}");
        *came.entry(cache_status(&answer).to_owned()).or_insert(0) += 1;
    }
    came
}

async fn purge_source(edge: &Edge, source: &str) -> Response {
    purge(edge, &format!(r#"{{"source":"{source}","tenant":"demo"}}"#)).await
}

/// No byte may be written to any file from now on: how an ordinary user gets a full, or a read-only, disk out of a kernel.
#[tokio::test]
async fn that_takes_no_more_writes() {
    let edge = setup().file_blocks_max(4_000_000).start().await;
    let made = fill(&edge).await;
    edge.setup().put("b.jpg", photo(60, 40));
    edge.limit_file_size(0);

    // What is new is answered, and the state is told.
    let fault = eventually("the fault", async || {
        for width in 20..40 {
            picture(&edge.get(&format!("/demo/w={width},f=jpeg/@local/b.jpg")).await, "image/jpeg");
        }
        edge.readiness().await["cache_disk"].as_str().filter(|state| *state != "ready").map(str::to_owned)
    })
    .await;
    assert!(fault.contains("cache folder"), "{fault}");
    assert_eq!(edge.readiness().await["ready"], true);
    assert_eq!(edge.metric("calotype_cache_disk_available").await, 0.0);

    // What is on disk is read.
    let came = check(&edge, &made).await;
    assert_eq!(came.get(MISS), None, "{came:?}");
    assert!(came.get(DISK).is_some_and(|hits| *hits > 50), "{came:?}");

    // A purge that cannot be written down says so, and is in force.
    assert_problem(&purge_source(&edge, "@local/b.jpg").await, 503, "purge-not-durable");
    assert_eq!(cache_status(&edge.get("/demo/w=20,f=jpeg/@local/b.jpg").await), MISS);

    // A disk that works again is found as it was.
    let edge = edge.kill().await.start().await;
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    assert_eq!(check(&edge, &made).await.get(MISS), None);
    edge.stop().await;
}

#[tokio::test]
async fn that_flips_bits() {
    let edge = setup().start().await;
    let made = fill(&edge).await;
    let edge = edge.stop().await.start().await;
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    let folder = std::fs::read_dir(edge.setup().cache_dir().join("blocks")).expect("the cache is there");
    for path in folder.map(|entry| entry.expect("readable").path()) {
        let mut bytes = std::fs::read(&path).expect("ours");
        // Within the first third only, so that some entries are left whole.
        let damaged = bytes.len() / 3;
        bytes[..damaged].iter_mut().step_by(5000).for_each(|byte| *byte ^= 0x20);
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("ours");
        // In place: the edge has the file open.
        file.write_all_at(&bytes[..damaged], 0).expect("ours");
    }
    let came = check(&edge, &made).await;
    let count = |status: &str| came.get(status).copied().unwrap_or(0);
    assert!(count(MISS) > 10 && count(DISK) > 10, "{came:?}");
    assert_eq!(count(MISS) + count(DISK) + count(MEMORY), made.len(), "{came:?}");
    // What was made anew is kept as ever.
    assert_eq!(check(&edge, &made).await.get(MISS), None);
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    edge.stop().await;
}

#[tokio::test]
async fn whose_folder_is_deleted() {
    let edge = setup().start().await;
    let made = fill(&edge).await;
    std::fs::remove_dir_all(edge.setup().cache_dir()).expect("ours");
    // The files are open still.
    let came = check(&edge, &made).await;
    assert_eq!(came.get(MISS), None, "{came:?}");
    purge_source(&edge, "@local/a.jpg").await;
    assert_eq!(check(&edge, &made).await.get(MISS), Some(&made.len()));
    let edge = edge.kill().await.start().await;
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    // A new folder knows of no purge, and has nothing that one could have taken back.
    assert_eq!(check(&edge, &made).await.get(MISS), Some(&made.len()));
    edge.stop().await;
}
