//! The second level: edges that share renditions and purges, and a store that fails them.

use std::path::{Path, PathBuf};

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::faulty::Fault;

use crate::support::{BUCKET, S3Rig, cache_status, photo, purge, with_token};

const TARGET: &str = "/demo/w=30,f=jpeg/@s3/a.jpg";
const FOUND: &str = "Calotype; hit; detail=second-level";
const FRESH: &str = "max_age_seconds = 3600";

/// An S3 server with originals, another with the second level.
struct Rig {
    originals: S3Rig,
    shared: S3Rig,
}

impl Rig {
    async fn start() -> Self {
        let rig = Self { originals: S3Rig::start().await, shared: S3Rig::start().await };
        rig.originals.put("a.jpg", photo(400, 300));
        rig
    }

    fn edge(&self) -> EdgeSetup {
        with_token(self.originals.edge())
            .set("second_level.bucket", format!("\"{BUCKET}\""))
            .set("second_level.endpoint", format!("\"{}\"", self.shared.relay.url()))
            .set("second_level.access_key_id", "\"test-key\"")
            .set("second_level.secret_access_key", "\"test-secret\"")
    }

    /// An edge that knows all purges, so that it reads the second level.
    async fn start_edge(&self, tenant: &str) -> Edge {
        let edge = self.edge().tenant(tenant).start().await;
        eventually("all purges", async || {
            (edge.metric("calotype_second_level_purges_known").await == 1.0).then_some(())
        })
        .await;
        edge
    }

    /// The files of renditions in the store.
    fn renditions(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { walk(&entry.path(), into) } else { into.push(entry.path()) }
            }
        }
        let mut files = Vec::new();
        walk(&self.shared.bucket().join("renditions"), &mut files);
        files
    }
}

async fn written(edge: &Edge, count: f64) {
    eventually("a rendition in the second level", async || {
        (edge.metric("calotype_second_level_writes_total{result=\"written\"}").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_one_edge_made_another_need_not_make() {
    let rig = Rig::start().await;
    let one = rig.start_edge(FRESH).await;
    let made = one.get(TARGET).await;
    written(&one, 1.0).await;
    let asked = rig.originals.relay.requests();

    let two = rig.start_edge(FRESH).await;
    let found = two.get(TARGET).await;
    assert_eq!((cache_status(&found), &found.body), (FOUND, &made.body));
    assert_eq!(found.header("etag"), made.header("etag"));
    assert_eq!(cache_status(&two.get(TARGET).await), "Calotype; hit; detail=memory");
    assert_eq!(rig.originals.relay.requests(), asked, "nobody asked for the original");
    assert_eq!(two.events(2).await[0]["cache"], "second-level");
    // A problem is nobody's business but one's own.
    assert_problem(&one.get("/demo/w=30/@s3/none.jpg").await, 404, "source-not-found");
    written(&one, 1.0).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_tenant_may_keep_out_of_it() {
    let rig = Rig::start().await;
    let one = rig.start_edge(FRESH).await;
    picture(&one.get(TARGET).await, "image/jpeg");
    written(&one, 1.0).await;
    let private = rig.start_edge("max_age_seconds = 3600\nsecond_level = false").await;
    assert_eq!(cache_status(&private.get(TARGET).await), "Calotype; fwd=uri-miss; stored");
    assert_eq!(private.metric("calotype_second_level_writes_total{result=\"written\"}").await, 0.0);
    one.stop().await;
    private.stop().await;
}

#[tokio::test]
async fn what_one_edge_purges_no_edge_serves() {
    let rig = Rig::start().await;
    let one = rig.start_edge(FRESH).await;
    let two = rig.start_edge(FRESH).await;
    picture(&one.get(TARGET).await, "image/jpeg");
    written(&one, 1.0).await;
    assert_eq!(cache_status(&two.get(TARGET).await), FOUND);

    assert_eq!(purge(&one, r#"{"source":"@s3/a.jpg","tenant":"demo"}"#).await.status.as_u16(), 200);
    // The other edge hears of it, and drops what it has in memory.
    eventually("the purge at the other edge", async || {
        (two.metric("calotype_second_level_purges_total").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(cache_status(&two.get(TARGET).await), "Calotype; fwd=uri-miss; stored");
    // An edge that was not born yet.
    let three = rig.start_edge(FRESH).await;
    assert_ne!(cache_status(&three.get(TARGET).await), FOUND);
    assert_eq!(cache_status(&one.get(TARGET).await), "Calotype; fwd=uri-miss; stored");
    // Killed without a cache.
    let setup = one.kill().await;
    std::fs::remove_dir_all(setup.cache_dir()).expect("there");
    let one = setup.start().await;
    assert_ne!(cache_status(&one.get(TARGET).await), FOUND);
    for edge in [one, two, three] {
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_purge_that_cannot_be_shared_is_not_acknowledged() {
    let rig = Rig::start().await;
    let edge = rig.start_edge(FRESH).await;
    picture(&edge.get(TARGET).await, "image/jpeg");
    rig.shared.relay.set(Fault::Reset);
    assert_problem(&purge(&edge, r#"{"all":true}"#).await, 503, "purge-not-shared");
    // It is in force here all the same, and fills do without the second level.
    assert_eq!(cache_status(&edge.get(TARGET).await), "Calotype; fwd=uri-miss; stored");
    rig.shared.relay.heal();
    assert_eq!(purge(&edge, r#"{"all":true}"#).await.status.as_u16(), 200);
    edge.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_or_hangs_costs_no_picture() {
    let rig = Rig::start().await;
    let edge = rig.start_edge(FRESH).await;
    for (width, fault) in [(40, Fault::Reset), (41, Fault::StallBeforeHead)] {
        rig.shared.relay.set(fault);
        for number in 0..3 {
            let answer = edge.get(&format!("/demo/w={},f=jpeg/@s3/a.jpg", width * 10 + number)).await;
            picture(&answer, "image/jpeg");
        }
    }
    let skipped = edge.metric("calotype_second_level_reads_total{result=\"skipped\"}").await;
    let failed = edge.metric("calotype_second_level_reads_total{result=\"failed\"}").await;
    assert!(failed >= 1.0 && skipped >= 1.0, "{failed} failed, {skipped} skipped");
    edge.kill().await;
}

#[tokio::test]
async fn before_all_purges_are_known_nothing_is_read() {
    let rig = Rig::start().await;
    let one = rig.start_edge(FRESH).await;
    picture(&one.get(TARGET).await, "image/jpeg");
    written(&one, 1.0).await;
    rig.shared.relay.set(Fault::Reset);
    let two = rig.edge().tenant(FRESH).start().await;
    assert_eq!(cache_status(&two.get(TARGET).await), "Calotype; fwd=uri-miss; stored");
    assert_eq!(two.metric("calotype_second_level_reads_total{result=\"skipped\"}").await, 1.0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn what_is_damaged_there_is_made_anew() {
    let rig = Rig::start().await;
    let one = rig.start_edge(FRESH).await;
    let made = one.get(TARGET).await;
    written(&one, 1.0).await;
    one.stop().await;
    let files = rig.renditions();
    let [file] = files.as_slice() else { panic!("one rendition: {files:?}") };
    let whole = std::fs::read(file).expect("there");
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [&b""[..], b"noise", &whole[..middle], &flipped] {
        std::fs::write(file, damaged).expect("ours");
        let edge = rig.start_edge(FRESH).await;
        let answer = edge.get(TARGET).await;
        assert_eq!((cache_status(&answer), &answer.body), ("Calotype; fwd=uri-miss; stored", &made.body));
        // It mends the store too; a write that came later would undo the next damage.
        written(&edge, 1.0).await;
        assert_eq!(rig.renditions(), files);
        edge.kill().await;
    }
}

#[tokio::test]
async fn what_is_too_old_there_still_saves_the_transform() {
    let rig = Rig::start().await;
    let at_once = "max_age_seconds = 0\nstale_while_revalidate_seconds = 0";
    let one = rig.start_edge(at_once).await;
    let made = one.get(TARGET).await;
    written(&one, 1.0).await;
    let two = rig.start_edge(at_once).await;
    let renewed = two.get(TARGET).await;
    assert_eq!((cache_status(&renewed), &renewed.body), ("Calotype; fwd=stale; fwd-status=304; stored", &made.body));
    let three = rig.start_edge(at_once).await;
    rig.originals.relay.set(Fault::Reset);
    let held = three.get(TARGET).await;
    assert_eq!((cache_status(&held), &held.body), ("Calotype; fwd=stale; detail=stale-if-error", &made.body));
    for edge in [one, two, three] {
        edge.stop().await;
    }
}
