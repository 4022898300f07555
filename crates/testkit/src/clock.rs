//! A wall clock that a test sets, for an edge that was not built for it: a small library that is preloaded into its process.
//!
//! Must not touch the clock of the machine, nor the clocks that measure time: a deadline is a deadline. libfaketime does the
//! same and more, but hangs with an allocator that asks for the time while it starts.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The wall clock of the processes that it was given to, by [`Self::give_to`] or [`EdgeSetup::clock`](crate::edge::EdgeSetup::clock).
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// A clock that is right. Needs a C compiler, as building the workspace does.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().expect("a folder can be made") };
        clock.shift(0);
        let source = clock.folder.path().join("shift.c");
        std::fs::write(&source, include_str!("clock/shift.c")).expect("the folder is ours");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built =
            Command::new(compiler).args(["-O1", "-shared", "-fPIC", "-o"]).arg(clock.library()).arg(source).output();
        let built = built.expect("a C compiler is there");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        clock
    }

    /// From now on it is `seconds` ahead of the true time, or behind it if negative.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn shift(&self, seconds: i64) {
        use std::os::unix::fs::FileExt;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(self.file()).expect("the folder is ours");
        // Eight bytes in place: whoever reads sees the old or the new number.
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("the folder is ours");
    }

    /// Gives it to a process that is to be started.
    pub fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library()).env("TEST_CLOCK_FILE", self.file());
    }

    /// What is preloaded.
    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join("shift.so")
    }

    /// Where the seconds are.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
