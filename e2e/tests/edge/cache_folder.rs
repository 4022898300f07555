//! A cache folder that cannot be used, was damaged, is full, or belongs to another process: pictures are served all the
//! same, and `/readyz` says what is wrong.

use std::path::Path;

use testkit::edge::{Edge, EdgeSetup, picture};

use crate::support::{Warm, cache_status, photo};

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// The edge is ready, says this of its disk, and serves from memory.
async fn assert_memory_only(edge: &Edge, fault: &str) {
    let readiness = edge.readiness().await;
    assert_eq!(readiness["ready"], true);
    let disk = readiness["cache_disk"].as_str().expect("a text");
    assert!(disk.contains(fault), "{disk}");
    assert_eq!(edge.metric("calotype_cache_disk_available").await, 0.0);
    assert!(edge.log().contains("the cache has no disk"), "{}", edge.log());
    Warm::up(edge).await;
}

#[tokio::test]
async fn that_is_no_folder() {
    let setup = EdgeSetup::new();
    let file = setup.home().join("file");
    std::fs::write(&file, "in the way").expect("ours");
    let edge = setup.set("cache.dir", quoted(&file)).start().await;
    assert_memory_only(&edge, "cannot be used").await;
    edge.stop().await;

    let setup = EdgeSetup::new();
    let file = setup.home().join("file");
    std::fs::write(&file, "in the way").expect("ours");
    let edge = setup.set("cache.dir", quoted(&file.join("cache"))).start().await;
    assert_memory_only(&edge, "cannot be used").await;
    edge.stop().await;
}

#[tokio::test]
async fn whose_files_cannot_be_written() {
    let setup = EdgeSetup::new();
    // A folder where a file should be refuses root as well.
    std::fs::create_dir_all(setup.cache_dir().join("position")).expect("ours");
    let edge = setup.start().await;
    assert_memory_only(&edge, "cannot be used").await;
    edge.stop().await;
}

#[tokio::test]
async fn in_use_by_another_edge() {
    let first = EdgeSetup::new().start().await;
    let second = EdgeSetup::new().set("cache.dir", quoted(&first.setup().cache_dir())).start().await;
    assert_memory_only(&second, "in use by another process").await;
    second.stop().await;

    let warm = Warm::up(&first).await;
    assert_eq!(first.readiness().await["cache_disk"], "ready");
    warm.assert_hit(&first).await;
    first.stop().await;
}

#[tokio::test]
async fn without_room() {
    // No file may grow beyond this: how an ordinary user gets "no space" out of a kernel. Less than one block.
    let edge = EdgeSetup::new().file_blocks_max(512).start().await;
    assert_memory_only(&edge, "more bytes").await;
    edge.stop().await;
}

#[tokio::test]
async fn turned_off() {
    let edge = EdgeSetup::new().set("cache.disk_bytes", 0).start().await;
    assert_eq!(edge.readiness().await["cache_disk"], "off");
    Warm::up(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn overwritten_with_garbage() {
    check_damage(|bytes| bytes.fill(0xa5)).await;
}

#[tokio::test]
async fn with_flipped_bytes_everywhere() {
    check_damage(|bytes| bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 0x10)).await;
}

#[tokio::test]
async fn with_files_cut_short() {
    let (edge, expected) = filled().await;
    let setup = edge.stop().await;
    for path in block_files(&setup) {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("ours");
        file.set_len(5000).expect("ours");
    }
    assert_right(&setup.start().await, &expected).await;
}

type Expected = Vec<(String, bytes::Bytes)>;

/// After `damage` to every file with renditions, every picture is right, and none came from the disk.
async fn check_damage(damage: impl Fn(&mut Vec<u8>)) {
    let (edge, expected) = filled().await;
    let setup = edge.stop().await;
    let mut damaged = 0;
    for path in block_files(&setup) {
        let mut bytes = std::fs::read(&path).expect("ours");
        if bytes.iter().any(|byte| *byte != 0) {
            damage(&mut bytes);
            std::fs::write(&path, bytes).expect("ours");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the cache has written nothing");
    assert_right(&setup.start().await, &expected).await;
}

async fn assert_right(edge: &Edge, expected: &Expected) {
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    for (target, body) in expected {
        let answer = edge.get(target).await;
        assert_eq!(cache_status(&answer), "Calotype; fwd=uri-miss; stored");
        assert_eq!(picture(&answer, "image/jpeg"), body.clone());
    }
}

/// An edge with some renditions in its cache, each larger than the distance of the damage.
async fn filled() -> (Edge, Expected) {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(400, 300));
    let mut expected = Vec::new();
    for width in 200..210 {
        let target = format!("/demo/w={width},f=jpeg/@local/a.jpg");
        let body = picture(&edge.get(&target).await, "image/jpeg");
        assert!(body.len() > 2000);
        expected.push((target, body));
    }
    (edge, expected)
}

fn block_files(setup: &EdgeSetup) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(setup.cache_dir().join("blocks")).expect("the cache has been there");
    folder.map(|file| file.expect("readable").path()).collect()
}
