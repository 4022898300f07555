//! Names that are refused before any store sees them.

use storage::{ObjectPath, ObjectPrefix, PATH_BYTES_MAX, PathError};

fn check(path: &str, expected: Result<(), PathError>) {
    assert_eq!(ObjectPath::new(path).map(drop), expected, "path {path:?}");
}

fn check_prefix(prefix: &str, expected: Result<(), PathError>) {
    assert_eq!(ObjectPrefix::new(prefix).map(drop), expected, "prefix {prefix:?}");
}

#[test]
fn paths_are_segments() {
    for path in ["a", "a/b", "...", "..a/b..", "a/.b", " ", "%2e%2e/%2F", "\\..\\..\\a", "日本語/ü"] {
        check(path, Ok(()));
    }
    check("", Err(PathError::Empty));
    for path in ["/", "/a", "//a", "/etc/passwd"] {
        check(path, Err(PathError::Absolute));
    }
    for path in ["a/", "a//", "a//b"] {
        check(path, Err(PathError::EmptySegment));
    }
    for path in [".", "..", "../a", "a/..", "a/../b", "a/.", "./a", "a/./b", "a/../../etc/passwd", "../"] {
        check(path, Err(PathError::DotSegment));
    }
    for path in ["\0", "a\0b", "a/\0"] {
        check(path, Err(PathError::Nul));
    }
    check(".calotype-unfinished", Err(PathError::Reserved));
    check(".calotype-unfinished/x", Err(PathError::Reserved));
    check("x/.calotype-unfinished", Ok(()));
}

#[test]
fn the_limit_counts_bytes() {
    check(&"a".repeat(PATH_BYTES_MAX), Ok(()));
    check(&"a".repeat(PATH_BYTES_MAX + 1), Err(PathError::TooLong { bytes: PATH_BYTES_MAX + 1 }));
    check(&"ü".repeat(PATH_BYTES_MAX / 2), Ok(()));
    check(&"ü".repeat(PATH_BYTES_MAX / 2 + 1), Err(PathError::TooLong { bytes: PATH_BYTES_MAX + 2 }));
}

#[test]
fn prefixes_are_starts_of_paths() {
    for prefix in ["", "a", "a/", "a/b", "...", "a/.b"] {
        check_prefix(prefix, Ok(()));
    }
    check_prefix("/", Err(PathError::Absolute));
    check_prefix("a//", Err(PathError::EmptySegment));
    check_prefix("../", Err(PathError::DotSegment));
    check_prefix("a/..", Err(PathError::DotSegment));
    check_prefix("a\0", Err(PathError::Nul));
    check_prefix(".calotype-unfinished/", Err(PathError::Reserved));
}
