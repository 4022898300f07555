//! What only a folder can do wrong: links, pipes, permissions, files that change, crashes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod stores;

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use storage::{
    FolderStore, GetOptions, ListLimit, ObjectPrefix, ObjectStore, PresignExpiry, PresignMethod, PutOptions,
    StorageError,
};

use stores::{folder, get, noise, path, put, read};

const MIB: usize = 1024 * 1024;

async fn names(store: &ObjectStore) -> Vec<String> {
    let page = store.list(&ObjectPrefix::all(), None, ListLimit::MAX).await.unwrap();
    page.entries.into_iter().map(|entry| entry.path.as_str().to_owned()).collect()
}

#[tokio::test]
async fn links_that_lead_out_are_refused() {
    let place = folder().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let root = place.path();
    fs::create_dir(root.join("sub")).unwrap();
    symlink("/etc/passwd", root.join("passwd")).unwrap();
    symlink(outside.path(), root.join("out")).unwrap();
    symlink("../..", root.join("sub/up")).unwrap();
    let relative = Path::new("..").join(outside.path().file_name().unwrap());
    symlink(&relative, root.join("sideways")).unwrap();
    symlink("out", root.join("twice")).unwrap();
    // An absolute link leads out even if it comes back: where the folder is mounted is not the folder's business.
    fs::write(root.join("inside"), "inside").unwrap();
    symlink(root.join("inside"), root.join("absolute")).unwrap();

    for name in ["passwd", "out/secret", "sub/up/etc/passwd", "sideways/secret", "twice/secret", "absolute"] {
        let answer = get(&place.store, name).await;
        assert!(matches!(answer, Err(StorageError::OutsideStore)), "get {name}: {answer:?}");
        let answer = place.store.head(&path(name)).await;
        assert!(matches!(answer, Err(StorageError::OutsideStore)), "head {name}: {answer:?}");
        let answer = place.store.delete(&path(name)).await;
        assert!(matches!(answer, Err(StorageError::OutsideStore)), "delete {name}: {answer:?}");
    }
    for name in ["out/new", "out/deep/new", "sideways/new", "sub/up/new", "twice/new"] {
        let answer = place.store.put(&path(name), "x".into(), PutOptions::default()).await;
        assert!(matches!(answer, Err(StorageError::OutsideStore)), "put {name}: {answer:?}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was written outside");
    assert_eq!(names(&place.store).await, ["inside"]);
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn putting_over_a_link_replaces_the_link() {
    let place = folder().await;
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, place.path().join("link")).unwrap();
    put(&place.store, "link", "new").await;
    assert_eq!(read(&place.store, "link").await, "new");
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
}

#[tokio::test]
async fn links_that_stay_inside_are_followed() {
    let place = folder().await;
    put(&place.store, "real/deep/file", "bytes").await;
    symlink("real/deep/file", place.path().join("file")).unwrap();
    symlink("real/deep", place.path().join("dir")).unwrap();
    symlink("../real/../real/deep/file", place.path().join("real/roundabout")).unwrap();
    for name in ["file", "dir/file", "real/roundabout"] {
        assert_eq!(read(&place.store, name).await, "bytes", "{name}");
        assert_eq!(place.store.head(&path(name)).await.unwrap().size, 5, "{name}");
    }
    // Linked files are listed, linked folders are not entered.
    assert_eq!(names(&place.store).await, ["file", "real/deep/file", "real/roundabout"]);
    place.store.delete(&path("file")).await.unwrap();
    assert_eq!(read(&place.store, "real/deep/file").await, "bytes");
}

#[tokio::test]
async fn what_is_no_regular_file_is_no_object_and_never_blocks() {
    let place = folder().await;
    let root = place.path();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    fs::create_dir(root.join("folder")).unwrap();
    symlink("gone", root.join("dangling")).unwrap();
    symlink("circle", root.join("circle")).unwrap();
    let long = "x".repeat(300);
    for name in ["pipe", "socket", "folder", "dangling", "circle", &long] {
        let limit = Duration::from_secs(20);
        let answer = tokio::time::timeout(limit, get(&place.store, name)).await.expect("blocked");
        assert!(matches!(answer, Err(StorageError::NotFound)), "get {name}: {answer:?}");
        let answer = place.store.head(&path(name)).await;
        assert!(matches!(answer, Err(StorageError::NotFound)), "head {name}: {answer:?}");
        place.store.delete(&path(name)).await.unwrap();
    }
    assert!(root.join("pipe").exists() && root.join("folder").exists(), "delete removes objects only");
    assert_eq!(names(&place.store).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_permissions_of_the_system_hold() {
    let place = folder().await;
    put(&place.store, "locked", "bytes").await;
    let file = place.path().join("locked");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read it all the same; then so may the store.
    match (fs::read(&file), get(&place.store, "locked").await) {
        (Ok(bytes), Ok(object)) => assert_eq!(object.body.collect(5).await.unwrap(), bytes),
        (Err(_), Err(StorageError::AccessDenied { source })) => {
            let source = source.downcast_ref::<io::Error>().expect("the system's error is kept");
            assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
        }
        (system, store) => panic!("the system says {system:?}, the store {store:?}"),
    }
}

#[tokio::test]
async fn a_file_that_shrinks_while_read_is_truncated() {
    let place = folder().await;
    put(&place.store, "file", noise(3 * MIB)).await;
    let mut body = get(&place.store, "file").await.unwrap().body;
    let first = body.next().await.unwrap().unwrap();
    let left = first.len() as u64 + 10;
    File::options().write(true).open(place.path().join("file")).unwrap().set_len(left).unwrap();
    let error = body.next().await.unwrap().unwrap_err();
    match error {
        StorageError::Truncated { expected, got, source: None } => assert_eq!((expected, got), (3 * MIB as u64, left)),
        other => panic!("{other:?}"),
    }
    assert!(body.next().await.is_none(), "nothing comes after an error");

    // The same when it is gathered in one go.
    let body = get(&place.store, "file").await.unwrap().body;
    assert_eq!(body.collect(u64::MAX).await.unwrap().len() as u64, left);
    put(&place.store, "file", noise(3 * MIB)).await;
    let body = get(&place.store, "file").await.unwrap().body;
    File::options().write(true).open(place.path().join("file")).unwrap().set_len(7).unwrap();
    let answer = body.collect(u64::MAX).await;
    assert!(matches!(answer, Err(StorageError::Truncated { got: 7, .. })), "{answer:?}");
}

#[tokio::test]
async fn a_file_that_grows_or_changes_while_read_is_not_taken_for_whole() {
    let place = folder().await;
    let grow = |file: &Path| {
        use io::Write;
        File::options().append(true).open(file).unwrap().write_all(b"more").unwrap();
    };
    let touch = |file: &Path| {
        File::options().write(true).open(file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    for change in [&grow as &dyn Fn(&Path), &touch] {
        put(&place.store, "file", noise(3 * MIB)).await;
        let streamed = get(&place.store, "file").await.unwrap().body;
        let collected = get(&place.store, "file").await.unwrap().body;
        change(&place.path().join("file"));
        let chunks: Vec<_> = StreamExt::collect(streamed).await;
        let (last, rest) = chunks.split_last().unwrap();
        assert!(matches!(last, Err(StorageError::Changed)), "{last:?}");
        assert!(rest.iter().all(Result::is_ok));
        assert!(matches!(collected.collect(u64::MAX).await, Err(StorageError::Changed)));
    }
}

#[tokio::test]
async fn a_reader_keeps_the_version_it_opened() {
    let place = folder().await;
    let old = noise(3 * MIB);
    put(&place.store, "file", old.clone()).await;
    let body = get(&place.store, "file").await.unwrap().body;
    put(&place.store, "file", "new").await;
    assert!(body.collect(u64::MAX).await.unwrap() == old);
}

#[tokio::test]
async fn etags_tell_versions_of_the_same_size_apart() {
    let place = folder().await;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..5 {
        put(&place.store, "file", format!("version {round}")).await;
        let etag = place.store.head(&path("file")).await.unwrap().etag.unwrap();
        assert!(etag.starts_with("W/\""), "{etag}");
        // The file of the version before was there while this one was written, so the inodes differ.
        assert!(seen.insert(etag.clone()), "{etag} twice in {seen:?}");
    }
}

#[tokio::test]
async fn unfinished_files_never_show() {
    let place = folder().await;
    put(&place.store, "file", "old").await;
    let (chunk_taken, taken) = tokio::sync::oneshot::channel();
    let mut chunk_taken = Some(chunk_taken);
    let endless = stream::iter(0..).then(move |round| {
        let chunk_taken = if round == 3 { chunk_taken.take() } else { None };
        async move {
            match round {
                0..3 => Ok::<_, io::Error>(noise(MIB)),
                _ => {
                    chunk_taken.map(|sender| sender.send(()));
                    std::future::pending().await
                }
            }
        }
    });
    let mut endless = Box::pin(endless);
    {
        let target = path("file");
        let upload = place.store.put_stream(&target, &mut endless, u64::MAX, PutOptions::default());
        tokio::select! {
            ended = upload => panic!("{ended:?}"),
            seen = taken => seen.unwrap(),
        }
        // The upload is dropped here, midway.
    }
    place.wait_for_leftovers(0).await;
    assert_eq!(names(&place.store).await, ["file"]);
    assert_eq!(read(&place.store, "file").await, "old");
}

#[tokio::test]
async fn what_a_crash_left_behind_is_removed_a_day_later() {
    let dir = tempfile::tempdir().unwrap();
    let unfinished = dir.path().join(".calotype-unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("young"), "x").unwrap();
    fs::write(unfinished.join("old"), "x").unwrap();
    let two_days_ago = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    File::options().write(true).open(unfinished.join("old")).unwrap().set_modified(two_days_ago).unwrap();

    let store = ObjectStore::from(FolderStore::open(dir.path()).unwrap());
    assert_eq!(names(&store).await, Vec::<String>::new());
    assert!(unfinished.join("old").exists(), "reading removes nothing");
    put(&store, "file", "x").await;
    assert!(!unfinished.join("old").exists() && unfinished.join("young").exists());
    assert_eq!(names(&store).await, ["file"]);
}

#[tokio::test]
async fn reading_leaves_no_trace() {
    let place = folder().await;
    fs::write(place.path().join("file"), "x").unwrap();
    read(&place.store, "file").await;
    names(&place.store).await;
    place.store.delete(&path("missing")).await.unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn names_that_a_folder_cannot_hold_are_rejected() {
    let place = folder().await;
    put(&place.store, "file", "x").await;
    put(&place.store, "folder/file", "x").await;
    let long = format!("folder/{}", "x".repeat(300));
    for name in ["file/below", "folder", &long] {
        let answer = place.store.put(&path(name), "y".into(), PutOptions::default()).await;
        assert!(matches!(answer, Err(StorageError::Rejected { .. })), "{name}: {answer:?}");
    }
    assert_eq!(names(&place.store).await, ["file", "folder/file"]);
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn names_that_are_not_text_are_left_out_of_listings() {
    let place = folder().await;
    let odd = std::ffi::OsStr::from_bytes(b"latin-\xFC.jpg");
    fs::write(place.path().join(odd), "x").unwrap();
    put(&place.store, "file", "x").await;
    assert_eq!(names(&place.store).await, ["file"]);
}

#[tokio::test]
async fn new_files_are_readable_for_others_as_the_umask_allows() {
    let place = folder().await;
    fs::write(place.path().join("by-hand"), "x").unwrap();
    put(&place.store, "by-store", "x").await;
    let mode = |name| fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("by-store"), mode("by-hand"));
}

#[tokio::test]
async fn a_folder_signs_no_urls() {
    let place = folder().await;
    let expiry = PresignExpiry::from_secs(60).unwrap();
    let answer = place.store.presign(PresignMethod::Get, &path("file"), expiry).await;
    assert!(matches!(answer, Err(StorageError::Unsupported { what: "sign URLs" })), "{answer:?}");
}

#[tokio::test]
async fn only_folders_can_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    for name in ["missing", "file"] {
        let error = FolderStore::open(dir.path().join(name)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    // A link on the way to the folder is the operator's choice.
    symlink(dir.path(), dir.path().join("link")).unwrap();
    let store = ObjectStore::from(FolderStore::open(dir.path().join("link")).unwrap());
    let object = store.get(&path("file"), GetOptions::default()).await.unwrap();
    assert_eq!(object.body.collect(1).await.unwrap(), Bytes::from_static(b"x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_go_with_their_last_object_and_keep_nobody_from_writing() {
    let place = folder().await;
    put(&place.store, "a/b/kept", "x").await;
    put(&place.store, "a/b/c/d", "x").await;
    place.store.delete(&path("a/b/c/d")).await.unwrap();
    assert!(!place.path().join("a/b/c").exists() && place.path().join("a/b/kept").exists());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = place.store.clone();
        writers.spawn(async move {
            for round in 0..50 {
                let name = path(&format!("deep/er/{writer}-{round}"));
                store.put(&name, Bytes::from_static(b"x"), PutOptions::default()).await.unwrap();
                store.delete(&name).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert!(!place.path().join("deep").exists());
    place.store.delete(&path("a/b/kept")).await.unwrap();
    assert!(!place.path().join("a").exists() && place.path().exists());
}
