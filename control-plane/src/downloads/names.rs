//! What files are called in an archive: so that every system can unpack it, and nothing lands outside of where it is unpacked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Longest part of a path, in bytes: what file systems take.
const PART_BYTES_MAX: usize = 255;

/// What Windows takes for devices, whatever follows the first dot.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];

/// Names that are each given once.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// In small letters, since for most desktops `A.jpg` and `a.jpg` are the same file; and which number the next one of this name is tried with.
    given: HashMap<String, u64>,
}

impl Names {
    /// No file will be called as this folder is, nor as those that it is in.
    pub(super) fn keep_for_folders(&mut self, folders: &str) {
        let path = safe_folders(folders).to_lowercase();
        self.given.extend(path.match_indices('/').map(|(at, _)| (path[..at].to_owned(), 2)));
    }

    /// A path for a file of this name, within these folders: another one than all before. Folders are made safe as names are.
    pub(super) fn path(&mut self, folders: &str, name: &str) -> String {
        let folders = safe_folders(folders);
        let name = safe(name);
        let (stem, extension) = match name.rfind('.') {
            Some(at) if at > 0 => name.split_at(at),
            _ => (&name[..], ""),
        };
        let plain = format!("{folders}{name}");
        let mut number = match self.given.entry(plain.to_lowercase()) {
            Entry::Vacant(free) => {
                free.insert(2);
                return plain;
            }
            Entry::Occupied(taken) => *taken.get(),
        };
        loop {
            let ending = format!(" ({number}){extension}");
            let path = format!("{folders}{}{ending}", shortened(stem, PART_BYTES_MAX.saturating_sub(ending.len())));
            number += 1;
            if let Entry::Vacant(free) = self.given.entry(path.to_lowercase()) {
                free.insert(2);
                self.given.insert(plain.to_lowercase(), number);
                return path;
            }
        }
    }
}

/// The path of folders, with a slash after each.
fn safe_folders(folders: &str) -> String {
    folders.split('/').filter(|part| !part.is_empty()).map(|part| safe(part) + "/").collect()
}

/// A part of a path out of any text: no separators, nothing that leads elsewhere, nothing that a system refuses.
pub(super) fn safe(text: &str) -> String {
    let is_refused = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let replaced: String = text.chars().map(|c| if is_refused(c) || is_invisible(c) { '_' } else { c }).collect();
    // Neither "." nor ".." is left by this.
    let trimmed = replaced.trim_start().trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    let name = if trimmed.is_empty() { "_" } else { trimmed };
    let first = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_port =
        |port: &str| first.strip_prefix(port).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    let is_device = DEVICES.contains(&&first[..]) || is_port("COM") || is_port("LPT");
    let name = if is_device { format!("_{name}") } else { name.to_owned() };
    let (stem, extension) = match name.rfind('.') {
        // What is this long is no extension.
        Some(at) if at > 0 && name.len() - at <= 32 => name.split_at(at),
        _ => (&name[..], ""),
    };
    format!("{}{extension}", shortened(stem, PART_BYTES_MAX - extension.len()))
}

/// Whether it turns text around, or cannot be seen: `gpj.exe` must not look like `exe.jpg`.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The beginning of a text, at most so many bytes.
fn shortened(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_come_again_are_told_apart() {
        let mut names = Names::default();
        let mut path = |folders: &str, name: &str| names.path(folders, name);
        assert_eq!(path("", "beach.jpg"), "beach.jpg");
        assert_eq!(path("", "Beach.JPG"), "Beach (2).JPG");
        assert_eq!(path("", "beach.jpg"), "beach (3).jpg");
        assert_eq!(path("2026/summer", "beach.jpg"), "2026/summer/beach.jpg");
        assert_eq!(path("", "beach (2).jpg"), "beach (2) (2).jpg");
        assert_eq!((path("", ".profile"), path("", ".profile")), (".profile".to_owned(), ".profile (2)".to_owned()));
        assert_eq!(path("", "été"), "été");
    }

    /// Phones call all pictures the same. Were each number tried for each of them, this would take minutes.
    #[test]
    fn a_name_that_comes_again_and_again_is_found_another_one_at_once() {
        let mut names = Names::default();
        let all: HashSet<String> = (0..50_000).map(|_| names.path("", "image.jpg")).collect();
        assert!(all.len() == 50_000 && all.contains("image (50000).jpg"));
    }

    #[test]
    fn no_file_is_called_as_a_folder_is() {
        let mut names = Names::default();
        names.keep_for_folders("Summer/beach");
        assert_eq!(names.path("", "summer"), "summer (2)");
        assert_eq!(names.path("Summer", "beach"), "Summer/beach (2)");
        assert_eq!(names.path("Summer/beach", "a"), "Summer/beach/a");
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for (given, kept) in [
            ("..", "_"),
            (".", "_"),
            ("", "_"),
            ("../../etc/passwd", ".._.._etc_passwd"),
            ("C:\\a.txt", "C__a.txt"),
            ("a\0b\n", "a_b_"),
            ("nul.txt", "_nul.txt"),
            ("com1", "_com1"),
            ("COM10.jpg", "COM10.jpg"),
            ("console.log", "console.log"),
            ("a. . ", "a"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
        ] {
            assert_eq!(safe(given), kept, "{given:?}");
        }
        assert_eq!(Names::default().path("../a/./b", "c"), "_/a/_/b/c");
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let mut names = Names::default();
        let long = "é".repeat(300) + ".jpeg";
        for path in [names.path("", &long), names.path("", &long)] {
            assert!(path.len() <= PART_BYTES_MAX && path.ends_with(".jpeg"), "{path}");
        }
        assert!(safe(&("a.".to_owned() + &"b".repeat(400))).len() <= PART_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn every_name_is_another_one_and_stays_below(all in prop::collection::vec((".{0,12}", "\\PC{0,300}|[.a ]{0,4}"), 1..30)) {
            let mut names = Names::default();
            let mut seen = HashSet::new();
            for (folders, name) in &all {
                let path = names.path(folders, name);
                prop_assert!(seen.insert(path.to_lowercase()), "{}", path);
                for part in path.split('/') {
                    prop_assert!(!matches!(part, "" | "." | "..") && part.len() <= PART_BYTES_MAX, "{:?}", part);
                    prop_assert!(!part.contains(['\\', ':', '\0', '\n']), "{:?}", part);
                }
            }
        }
    }
}
