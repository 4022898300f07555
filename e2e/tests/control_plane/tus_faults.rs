//! What breaks while an upload comes by tus: connections, processes, the store, the database. Whoever comes back asks how far it is,
//! and goes on there.

use http::{Method, StatusCode};
use serde_json::json;
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::Fault;
use testkit::http::{send, split_url};

use crate::media_rig::MediaRig;
use crate::support::problem;
use crate::upload_rig::{
    Half, append, assert_taken, begin, both, create, id_in, look, noise, offset, patch, put, received, tus, url,
};

/// More than one piece that is stored by itself.
const LARGE: usize = 20 << 20;

const PIECE: usize = 8 << 20;

async fn bucket() -> MediaRig {
    MediaRig::with_bucket(TestDatabase::new().await, &[]).await
}

/// Waits until this much of an upload is stored.
async fn until_received(rig: &MediaRig, location: &str, bytes: usize) {
    eventually("bytes", async || (received(rig, id_in(location)).await >= bytes as i64).then_some(())).await;
}

#[tokio::test]
async fn what_came_before_the_connection_broke_is_kept() {
    for rig in both(&[]).await {
        let bytes = noise(LARGE, 1);
        let location = create(&rig, LARGE, &[("public_id", "a")]).await;
        let sent = 13_000_001;
        let half = Half::patch(&rig, &location, 0, LARGE, &bytes[..sent]).await;
        until_received(&rig, &location, PIECE).await;
        drop(half);
        // All of it but what the kernel had not handed over when the connection ended: here it was waited for.
        eventually("the rest", async || (offset(&rig, &location).await == sent).then_some(())).await;
        append(&rig, &location, sent, bytes.slice(sent..)).await;
        assert_taken(&rig, "a", &bytes).await;
    }
}

#[tokio::test]
async fn who_comes_back_ends_who_waits_at_a_dead_connection() {
    for rig in both(&[]).await {
        let bytes = noise(LARGE, 2);
        let location = create(&rig, LARGE, &[("public_id", "a")]).await;
        // It stays open, and nothing more ever comes.
        let dead = Half::patch(&rig, &location, 0, LARGE, &bytes[..1_000_000]).await;
        eventually("a writer", async || (rig.count("uploads WHERE writer IS NOT NULL").await == 1).then_some(())).await;
        eventually("its bytes", async || (offset(&rig, &location).await == 1_000_000).then_some(())).await;
        assert_eq!(dead.status().await, 423);
        // Without asking first, too.
        let dead = Half::patch(&rig, &location, 1_000_000, LARGE - 1_000_000, &bytes[1_000_000..1_001_000]).await;
        eventually("a writer", async || (rig.count("uploads WHERE writer IS NOT NULL").await == 1).then_some(())).await;
        problem(&rig.api.send(&patch(&rig, &location, 1_000_000, "x")).await, 409, "upload-offset");
        append(&rig, &location, 1_001_000, bytes.slice(1_001_000..)).await;
        assert_eq!(dead.status().await, 423);
        assert_taken(&rig, "a", &bytes).await;
    }
}

#[tokio::test]
async fn who_has_asked_before_does_not_end_who_comes_later() {
    let rig = bucket().await;
    let bytes = noise(LARGE, 9);
    let location = create(&rig, LARGE, &[("public_id", "a")]).await;
    rig.relay().set_for(1, Fault::StallBeforeHead);
    let before = rig.relay().requests();
    let slow = Half::patch(&rig, &location, 0, LARGE, &vec![7; PIECE]).await;
    rig.relay().wait_for_requests(before + 1).await.expect("a piece");
    // Who asks how far it is waits for the writer, and meanwhile another one takes its place.
    let (addr, asked) = (rig.api.addr(), crate::upload_rig::tus(http::Method::HEAD, &location, &rig.shop));
    let waiting = tokio::spawn(async move { send(addr, &asked).await });
    eventually("a wish", async || (rig.count("uploads WHERE writer_wanted").await == 1).then_some(())).await;
    rig.sql("UPDATE uploads SET writer = gen_random_uuid(), writer_wanted = false").await;
    let answer = waiting.await.expect("no panic").expect("an answer");
    assert_eq!(answer.header("upload-offset"), Some("0"));
    assert_eq!(rig.count("uploads WHERE writer IS NOT NULL AND NOT writer_wanted").await, 1, "the later one goes on");
    rig.relay().heal();
    assert_eq!(slow.status().await, 423);
    append(&rig, &location, 0, bytes.clone()).await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn a_writer_that_does_not_let_go_changes_nothing_any_more() {
    let rig = bucket().await;
    let bytes = noise(LARGE, 3);
    let location = create(&rig, LARGE, &[("public_id", "a")]).await;
    rig.relay().set_for(1, Fault::StallBeforeHead);
    let before = rig.relay().requests();
    // Its first piece is on the way to the store, and stays there.
    let slow = Half::patch(&rig, &location, 0, LARGE, &vec![7; PIECE]).await;
    rig.relay().wait_for_requests(before + 1).await.expect("a piece");
    assert_eq!(offset(&rig, &location).await, 0, "it is told in time that nothing counts");
    append(&rig, &location, 0, bytes.slice(..PIECE)).await;
    rig.relay().heal();
    assert_eq!(slow.status().await, 423);
    append(&rig, &location, PIECE, bytes.slice(PIECE..)).await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn another_process_goes_on() {
    for rig in both(&[]).await {
        let bytes = noise(LARGE, 4);
        let location = create(&rig, LARGE, &[("public_id", "a")]).await;
        let dead = Half::patch(&rig, &location, 0, LARGE, &bytes[..1_000_000]).await;
        eventually("a writer", async || (rig.count("uploads WHERE writer IS NOT NULL").await == 1).then_some(())).await;
        let (addr, other) = rig.beside();
        tokio::select! {
            done = other => panic!("the other process has ended: {done:?}"),
            () = async {
                let rest = async |from: usize| send(addr, &patch(&rig, &location, from, bytes.slice(from..))).await;
                let answer = eventually("the other process", async || rest(0).await.ok()).await;
                // The first has given up what it had got.
                problem(&answer, 409, "upload-offset");
                let from = received(&rig, id_in(&location)).await as usize;
                assert!(from > 0, "what it had got is kept");
                assert_eq!(rest(from).await.expect("an answer").status, 204);
            } => {}
        }
        assert_eq!(dead.status().await, 423);
        assert_taken(&rig, "a", &bytes).await;
    }
}

#[tokio::test]
async fn killed_while_bytes_come() {
    for rig in both(&[]).await {
        let bytes = noise(LARGE, 5);
        let location = create(&rig, LARGE, &[("public_id", "a")]).await;
        let half = Half::patch(&rig, &location, 0, LARGE, &bytes[..PIECE + 1_000_000]).await;
        until_received(&rig, &location, PIECE).await;
        let rig = rig.restart_after_crash().await;
        drop(half);
        let at = offset(&rig, &location).await;
        assert_eq!(at, PIECE, "what was stored is there, and nothing else is told");
        append(&rig, &location, at, bytes.slice(at..)).await;
        assert_taken(&rig, "a", &bytes).await;
    }
}

#[tokio::test]
async fn killed_while_a_piece_is_stored() {
    let rig = bucket().await;
    let bytes = noise(LARGE, 6);
    let location = create(&rig, LARGE, &[("public_id", "a")]).await;
    append(&rig, &location, 0, bytes.slice(..1_000_000)).await;
    rig.relay().set(Fault::StallBeforeHead);
    let before = rig.relay().requests();
    let half = Half::patch(&rig, &location, 1_000_000, LARGE - 1_000_000, &[1; 1000]).await;
    rig.relay().wait_for_requests(before + 1).await.expect("the piece before is read");
    let rig = rig.restart_after_crash().await;
    rig.relay().heal();
    drop(half);
    assert_eq!(offset(&rig, &location).await, 1_000_000);
    append(&rig, &location, 1_000_000, bytes.slice(1_000_000..)).await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn killed_after_the_last_byte_and_before_the_medium() {
    for rig in both(&[]).await {
        let location = create(&rig, 4, &[("public_id", "a")]).await;
        let lock = rig.superuser().await;
        let lock = lock.begin_with("BEGIN; LOCK TABLE media IN ACCESS EXCLUSIVE MODE").await.expect("it is free");
        let (addr, last) = (rig.api.addr(), patch(&rig, &location, 0, "four"));
        let sent = tokio::spawn(async move { drop(send(addr, &last).await) });
        eventually("the object", async || (rig.objects().len() == 1).then_some(())).await;
        let rig = rig.restart_after_crash().await;
        sent.await.expect("no panic");
        lock.rollback().await.expect("given back");
        // Nothing has to be sent again, and nobody has to ask.
        assert_eq!(offset(&rig, &location).await, 4);
        rig.sql("UPDATE uploads SET due_at = now()").await;
        rig.worker().await;
        assert_eq!(look(&rig, id_in(&location)).await["state"], "done");
        assert_taken(&rig, "a", b"four").await;
    }
}

#[tokio::test]
async fn a_store_that_fails_is_told_and_what_was_stored_counts() {
    let rig = bucket().await;
    let bytes = noise(LARGE, 7);
    let location = create(&rig, LARGE, &[("public_id", "a")]).await;
    append(&rig, &location, 0, bytes.slice(..PIECE)).await;
    rig.relay().set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    problem(&rig.api.send(&patch(&rig, &location, PIECE, bytes.slice(PIECE..))).await, 503, "store-unavailable");
    rig.relay().heal();
    assert_eq!(offset(&rig, &location).await, PIECE);
    // It fails again when the medium is made: the client is told that its bytes are there, and they are.
    append(&rig, &location, PIECE, bytes.slice(PIECE..LARGE - 1)).await;
    let before = rig.relay().requests();
    let last = patch(&rig, &location, LARGE - 1, bytes.slice(LARGE - 1..));
    let (addr, relay) = (rig.api.addr(), rig.relay());
    let (answer, ()) = tokio::join!(send(addr, &last), async {
        // The last object is read, written with the byte that was missing, and the one before deleted.
        relay.wait_for_requests(before + 2).await.expect("the last object");
        relay.set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    });
    assert_eq!(answer.expect("an answer").status, 204);
    relay.heal();
    rig.sql("UPDATE uploads SET due_at = now() WHERE state = 'completing'").await;
    rig.worker().await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn a_database_that_is_restarted_meanwhile() {
    let mut rig = MediaRig::with_bucket(TestDatabase::alone().await, &[]).await;
    let bytes = noise(LARGE, 8);
    let location = create(&rig, LARGE, &[("public_id", "a")]).await;
    let mut half = Half::patch(&rig, &location, 0, LARGE, &bytes[..PIECE]).await;
    until_received(&rig, &location, PIECE).await;
    rig.api.database.crash().await;
    use tokio::io::AsyncWriteExt;
    // It is not told that bytes count of which no row says so.
    let _ = half.stream.write_all(&bytes[PIECE..]).await;
    assert_eq!(half.status().await, 503);
    rig.api.database.start_again().await;
    let at = eventually("how far it is", async || {
        let answer = rig.api.send(&tus(Method::HEAD, &location, &rig.shop)).await;
        let offset = answer.header("upload-offset").filter(|_| answer.status == 200)?;
        Some(offset.parse::<usize>().expect("a number"))
    })
    .await;
    assert_eq!(at, PIECE);
    append(&rig, &location, at, bytes.slice(at..)).await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn no_tenant_takes_all_places() {
    let rig = MediaRig::with_folder(&[("UPLOADS_RECEIVING", "4".to_owned())]).await;
    let mut halves = Vec::new();
    for _ in 0..4 {
        let location = create(&rig, 4000, &[]).await;
        halves.push(Half::patch(&rig, &location, 0, 4000, &[1; 1000]).await);
        eventually("a writer", async || (rig.count("uploads WHERE writer IS NOT NULL").await > 0).then_some(())).await;
    }
    let mine = create(&rig, 4, &[]).await;
    let busy = rig.api.send(&patch(&rig, &mine, 0, "four")).await;
    assert!(problem(&busy, 503, "busy").contains("its share"), "{}", busy.text());
    assert_eq!(busy.header("retry-after"), Some("1"));
    // Half of a direct upload has a place as well, where we take it ourselves.
    let direct = begin(&rig, &json!({"bytes": 4})).await;
    problem(&put(&url(&direct, 1), "four").await, 503, "busy");
    let other = rig.api.tenant("other").await;
    let begun = rig.api.send(&tus(Method::POST, "/v1/tus", &other).header("upload-length", "4")).await;
    let request = tus(Method::PATCH, begun.header("location").expect("a place"), &other).header("upload-offset", "0");
    let request = request.header("content-type", "application/offset+octet-stream").body("four");
    assert_eq!(rig.api.send(&request).await.status, 204, "there are places for others");
}

#[tokio::test]
async fn who_sends_byte_by_byte_is_given_up_and_what_came_is_kept() {
    let settings = [("UPLOAD_WAIT_SECONDS", "1".to_owned()), ("UPLOAD_BYTES_PER_SECOND", "1000000".to_owned())];
    let rig = MediaRig::with_folder(&settings).await;
    let location = create(&rig, 4000, &[]).await;
    let direct = begin(&rig, &json!({"bytes": 4000})).await;
    let put = url(&direct, 1);
    let (_, target) = split_url(&put).expect("an address");
    for half in [
        Half::patch(&rig, &location, 0, 4000, &[1; 1000]).await,
        Half::send(&rig, &format!("PUT {target} HTTP/1.1\r\n"), 4000, &[1; 1000]).await,
    ] {
        assert_eq!(half.trickle().await, 408);
    }
    let kept = offset(&rig, &location).await;
    assert!((1000..4000).contains(&kept), "{kept}");
    append(&rig, &location, kept, vec![1; 4000 - kept]).await;
}

#[tokio::test]
async fn many_at_once_are_told_to_wait() {
    let rig = MediaRig::with_folder(&[("UPLOADS_RECEIVING", "1".to_owned())]).await;
    let (one, two) = (create(&rig, 4000, &[]).await, create(&rig, 4, &[]).await);
    let half = Half::patch(&rig, &one, 0, 4000, &[1; 1000]).await;
    eventually("a writer", async || (rig.count("uploads WHERE writer IS NOT NULL").await == 1).then_some(())).await;
    let busy = rig.api.send(&patch(&rig, &two, 0, "four")).await;
    problem(&busy, 503, "busy");
    assert_eq!(busy.header("retry-after"), Some("1"));
    drop(half);
    eventually("its place", async || (rig.api.send(&patch(&rig, &two, 0, "four")).await.status == 204).then_some(()))
        .await;
}
