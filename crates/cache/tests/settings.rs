//! Settings: everything wrong is reported at once, everything left out is filled in.

mod support;

use std::path::{Path, PathBuf};

use cache::{CacheConfig, ConfigMistakes};
use support::{MIB, config};

fn bad_fields(config: CacheConfig) -> Vec<&'static str> {
    let ConfigMistakes(mistakes) = config.validate().expect_err("the settings are bad");
    mistakes.iter().map(|mistake| mistake.field).collect()
}

fn disk_of(disk_bytes: u64) -> CacheConfig {
    config(Path::new("/cache"), 64 * MIB, disk_bytes)
}

#[test]
fn the_default_is_memory_only() {
    let settings = CacheConfig::default().validate().expect("the default is good");
    assert_eq!(settings.dir(), None);
    assert_eq!(settings.disk_entry_bytes_max(), 0);
    assert_eq!(settings.memory_entry_bytes_max(), 2 * MIB);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let config = CacheConfig {
        dir: PathBuf::new(),
        memory_bytes: 5,
        disk_bytes: 64 * MIB,
        block_bytes: Some(1000),
        buffer_bytes: Some(64 * MIB),
        queue_bytes: Some(1),
        flights_max: 0,
        ..CacheConfig::default()
    };
    let mistakes = config.clone().validate().expect_err("the settings are bad");
    assert_eq!(
        bad_fields(config),
        ["memory_bytes", "flights_max", "dir", "block_bytes", "buffer_bytes", "queue_bytes"]
    );
    let text = mistakes.to_string();
    assert!(text.starts_with("memory_bytes = 5: expected 1048576 to 1099511627776; flights_max = 0"), "{text}");
}

#[test]
fn each_limit_holds() {
    let good = |config: CacheConfig| config.validate().is_ok();
    assert!(good(disk_of(16 * MIB)));
    assert_eq!(bad_fields(disk_of(16 * MIB - 1)), ["disk_bytes"]);
    assert!(good(disk_of(64 << 40)));
    assert_eq!(bad_fields(disk_of(u64::MAX)), ["disk_bytes"]);
    assert_eq!(bad_fields(CacheConfig { memory_bytes: u64::MAX, ..CacheConfig::default() }), ["memory_bytes"]);

    let block = |bytes| CacheConfig { block_bytes: Some(bytes), ..disk_of(64 * MIB) };
    assert!(good(block(MIB)));
    assert!(good(block(8 * MIB)));
    assert_eq!(bad_fields(block(8 * MIB + 4096)), ["block_bytes"]);
    assert_eq!(bad_fields(block(MIB + 1)), ["block_bytes"]);
    assert_eq!(bad_fields(block(0)), ["block_bytes"]);
    let many = CacheConfig { block_bytes: Some(MIB), ..disk_of(64 << 40) };
    assert_eq!(bad_fields(many), ["block_bytes"]);

    let buffer = |bytes| CacheConfig { buffer_bytes: Some(bytes), ..disk_of(64 * MIB) };
    assert!(good(buffer(MIB)));
    assert!(good(buffer(8 * MIB)));
    assert_eq!(bad_fields(buffer(8 * MIB + 1)), ["buffer_bytes"]);
    assert_eq!(bad_fields(buffer(0)), ["buffer_bytes"]);
}

#[test]
fn defaults_suit_every_size_of_disk() {
    let mut disk_bytes = 16 * MIB;
    while disk_bytes <= 64 << 40 {
        for disk_bytes in [disk_bytes, disk_bytes + 12_345_678] {
            if let Err(mistakes) = disk_of(disk_bytes.min(64 << 40)).validate() {
                panic!("the defaults for {disk_bytes} bytes are bad: {mistakes}");
            }
        }
        disk_bytes *= 2;
    }
    let largest_entry = |disk_bytes| disk_of(disk_bytes).validate().expect("good").disk_entry_bytes_max();
    assert!(largest_entry(16 * MIB) > 900 << 10);
    assert!(largest_entry(1 << 30) > 31 * MIB);
}
