use std::io::Read;
use std::net::{TcpListener, TcpStream};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn body(length: usize, seed: u8) -> Bytes {
    (0..length).map(|n| (n % 251) as u8 ^ seed).collect::<Vec<u8>>().into()
}

/// Both ends of a connection; the first does not block.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    near.set_nonblocking(true).expect("a socket");
    (near, listener.accept().expect("it was connected").0)
}

#[test]
fn what_is_kept_reads_as_before_and_is_given_back() {
    let file = MemFile::new(1 << 20).expect("a file");
    let kept = file.keep(body(50_000, 7));
    assert_eq!(kept, body(50_000, 7));
    assert!(file.holds(&kept) && file.holds(&kept[49_999..]));
    assert_eq!(file.held_bytes(), 13 * 4096);
    let part = kept.slice(100..200);
    drop(kept);
    assert_eq!(part, body(50_000, 7)[100..200]);
    assert_eq!(file.held_bytes(), 13 * 4096, "some of it is still read");
    drop(part);
    assert_eq!(file.held_bytes(), 0);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.file.metadata().expect("it is open"));
    assert_eq!(blocks, 0, "no page is left");
}

#[test]
fn what_does_not_fit_stays_where_it_is() {
    let file = MemFile::new(0).expect("a file");
    for length in [0, 1, BODY_BYTES_MIN - 1, BODY_BYTES_MAX + 1] {
        let other = Bytes::from(vec![1; length]);
        let kept = file.keep(other.clone());
        assert_eq!(kept.as_ptr(), other.as_ptr(), "{length} bytes");
        assert!(!file.holds(&other));
    }
    let longest = file.keep(body(BODY_BYTES_MAX, 0));
    assert!(file.holds(&longest));
    assert_eq!(file.keep(longest.clone()).as_ptr(), longest.as_ptr(), "it is kept once");
    // As many as there is room for, and not one more.
    let many: Vec<_> = (1..=64).map(|_| file.ranges.lock().take(BODY_BYTES_MAX as u64)).collect();
    assert_eq!(many.iter().flatten().count(), 63);
    assert!(!file.holds(&file.keep(body(BODY_BYTES_MIN, 0))));
}

#[test]
fn bytes_that_are_not_kept_are_not_sent() {
    let file = MemFile::new(1 << 20).expect("a file");
    let (near, _far) = connection();
    assert_eq!(file.send(near.as_fd(), &body(50_000, 1)), None);
    let elsewhere = MemFile::new(1 << 20).expect("another").keep(body(50_000, 1));
    assert_eq!(file.send(near.as_fd(), &elsewhere), None);
}

#[test]
fn a_socket_takes_what_it_has_room_for() {
    let file = MemFile::new(1 << 20).expect("a file");
    let kept = file.keep(body(BODY_BYTES_MAX, 3));
    let (near, mut far) = connection();
    let mut sent = 0;
    while let Some(count) = file.send(near.as_fd(), &kept[sent..]) {
        sent += count;
    }
    assert!((1..kept.len()).contains(&sent), "{sent} bytes without a reader");
    drop(near);
    let mut arrived = Vec::new();
    far.read_to_end(&mut arrived).expect("it was sent");
    assert!(arrived == kept[..sent]);
}

#[test]
fn what_waits_in_a_socket_stays_as_it_was_when_its_place_is_taken_again() {
    let file = MemFile::new(1 << 20).expect("a file");
    let (near, mut far) = connection();
    let mut expected = Vec::new();
    for seed in 0..20 {
        let kept = file.keep(body(20_000, seed));
        let Some(sent) = file.send(near.as_fd(), &kept) else { break };
        expected.extend_from_slice(&kept[..sent]);
    }
    assert!(expected.len() > 40_000, "some bodies waited at the same time");
    assert_eq!(file.ranges.lock().take(20_000).map(|range| range.start), Some(0), "all of them in one place");
    drop(near);
    let mut arrived = Vec::new();
    far.read_to_end(&mut arrived).expect("it was sent");
    assert!(arrived == expected);
}

#[test]
fn a_client_that_left_is_sent_nothing() {
    let file = MemFile::new(1 << 20).expect("a file");
    let kept = file.keep(body(50_000, 1));
    let (near, far) = connection();
    drop(far);
    while file.send(near.as_fd(), &kept).is_some() {}
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    /// Whatever is kept and given back in whatever order, what is there reads as it was, and nothing else takes memory.
    #[test]
    fn bodies_do_not_touch_each_other(steps in vec((0..100_000usize, 0..8usize), 1..30)) {
        let file = MemFile::new(1 << 20).expect("a file");
        let mut here: Vec<Option<(Bytes, u8)>> = vec![None; 8];
        for (seed, (length, place)) in steps.into_iter().enumerate() {
            here[place] = Some((file.keep(body(length, seed as u8)), seed as u8));
            for (kept, seed) in here.iter().flatten() {
                prop_assert!(*kept == body(kept.len(), *seed));
            }
            let bodies = here.iter().flatten().filter(|(kept, _)| file.holds(kept));
            let held: u64 = bodies.map(|(kept, _)| occupied_bytes(kept.len()) as u64).sum();
            prop_assert_eq!(file.held_bytes(), held);
        }
    }
}
