//! Folders, files and ports of one edge under test.
//!
//! Must not run anything: that is the parent's business.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::clock::Clock;
use crate::port::Port;

/// The tenant of every edge under test: open, with originals.
pub const TENANT: &str = "demo";

/// The tenant's origin that [`EdgeSetup::put`] writes to.
pub const FOLDER_ORIGIN: &str = "local";

/// An edge that is not running: a folder with originals, cache, settings and policy, and two ports that stay its own.
#[derive(Debug)]
pub struct EdgeSetup {
    home: TempDir,
    listen: Port,
    admin: Port,
    tls: Option<Port>,
    settings: BTreeMap<String, String>,
    file_blocks_max: Option<u32>,
    tenant_keys: String,
    tables: String,
    environment: BTreeMap<String, String>,
}

impl Default for EdgeSetup {
    fn default() -> Self {
        Self::new()
    }
}

impl EdgeSetup {
    /// New folders and ports; small caches, and threads for a small machine.
    ///
    /// # Panics
    /// When the system gives no folder or no port.
    #[must_use]
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder can be made");
        fs::create_dir(home.path().join("originals")).expect("the folder is new");
        let port = || Port::keep().expect("a port is free");
        let setup = Self {
            home,
            listen: port(),
            admin: port(),
            tls: None,
            settings: BTreeMap::new(),
            file_blocks_max: None,
            tenant_keys: String::new(),
            tables: String::new(),
            environment: BTreeMap::new(),
        };
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        let (cache, policy) = (quoted(setup.cache_dir()), quoted(setup.home().join("policy.toml")));
        let (listen, admin) = (setup.addr(), setup.admin_addr());
        setup
            .set("listen", format!("\"{listen}\""))
            .set("admin_listen", format!("\"{admin}\""))
            .set("policy_file", policy)
            .set("cache.dir", cache)
            .set("cache.memory_bytes", 8 << 20)
            .set("cache.disk_bytes", 64 << 20)
            .set("originals.disk_bytes", 32 << 20)
            .set("threads", 1)
    }

    /// Sets one setting, such as `transform.queue`, to a TOML value: a text needs its quotes.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// Serves over TLS too, with the certificates of a folder that is empty so far.
    ///
    /// # Panics
    /// When there is no port, or no folder can be made.
    #[must_use]
    pub fn tls(mut self) -> Self {
        let port = Port::keep().expect("a port is free");
        let folder = self.certificates();
        fs::create_dir(&folder).expect("the folder is new");
        let address = port.address;
        self.tls = Some(port);
        self.set("tls.listen", format!("\"{address}\""))
            .set("tls.certificates", format!("{:?}", folder.display().to_string()))
    }

    /// No longer serves over TLS.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        self.settings.retain(|key, _| !key.starts_with("tls."));
        self.tls = None;
        self
    }

    /// Where it serves over TLS.
    ///
    /// # Panics
    /// Without [`Self::tls`].
    #[must_use]
    pub fn tls_addr(&self) -> SocketAddr {
        self.tls.as_ref().expect("TLS was set up").address
    }

    /// Folder of the certificates.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.home.path().join("certificates")
    }

    /// Lets the process write no file beyond so many blocks of 512 or 1024 bytes, as the shell counts them; a longer
    /// write fails as on a full disk. It holds for the log and the access events too.
    #[must_use]
    pub fn file_blocks_max(mut self, blocks: u32) -> Self {
        self.file_blocks_max = Some(blocks);
        self
    }

    /// Adds keys to the tenant's table in the policy.
    #[must_use]
    pub fn tenant(mut self, keys: &str) -> Self {
        self.tenant_keys.push_str(keys);
        self.tenant_keys.push('\n');
        self
    }

    /// Adds whole tables to the policy.
    #[must_use]
    pub fn tables(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self.tables.push('\n');
        self
    }

    /// Sets a variable of the process's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Gives the process a wall clock that a test sets.
    #[must_use]
    pub fn clock(self, clock: &Clock) -> Self {
        let (library, file) = (clock.library().display().to_string(), clock.file().display().to_string());
        self.env("LD_PRELOAD", &library).env("TEST_CLOCK_FILE", &file)
    }

    /// The policy as TOML.
    #[must_use]
    pub fn policy(&self) -> String {
        let folder = self.originals().display().to_string();
        format!(
            "[tenants.{TENANT}]\nopen = true\noriginals = true\norigins.{FOLDER_ORIGIN}.folder = {folder:?}\n{}{}",
            self.tenant_keys, self.tables
        )
    }

    /// Replaces the policy file as a whole, as an editor would; a running edge reloads it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_policy(&self, text: &str) {
        let part = self.home.path().join("policy.part");
        fs::write(&part, text).expect("the folder is ours");
        fs::rename(part, self.home.path().join("policy.toml")).expect("the folder is ours");
    }

    /// Where [`Edge`](super::Edge) serves pictures.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listen.address
    }

    /// Where it serves health and metrics.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.address
    }

    /// Folder of everything, for what a test needs beside.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Folder of the origin `@local`.
    #[must_use]
    pub fn originals(&self) -> PathBuf {
        self.home.path().join("originals")
    }

    /// Folder of the cache, unless set otherwise.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// Writes an original; folders in its name are made. It is replaced as a whole if it exists.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.originals().join(name);
        let folder = path.parent().expect("it lies under the originals");
        fs::create_dir_all(folder).expect("the folder is ours");
        let part = self.home.path().join("original.part");
        fs::write(&part, bytes).expect("the folder is ours");
        fs::rename(part, path).expect("the folder is ours");
    }

    /// The access events of the last run that have been written.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        read_events(&self.home.path().join("events"))
    }

    /// The log of the last run.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// The log of the run before.
    #[must_use]
    pub fn log_before(&self) -> String {
        fs::read_to_string(self.home.path().join("log.before")).unwrap_or_default()
    }

    /// Lets another process take over from it.
    #[must_use]
    pub fn upgradable(self) -> Self {
        let path = format!("{:?}", self.upgrade_socket().display().to_string());
        self.set("upgrade_socket", path)
    }

    /// The socket over which another process takes over.
    #[must_use]
    pub fn upgrade_socket(&self) -> PathBuf {
        self.home.path().join("upgrade")
    }

    pub(super) fn write_files(&self) {
        let mut settings = "[proxy]\n".to_owned();
        for (key, value) in &self.settings {
            writeln!(settings, "{key} = {value}").expect("writing to a text cannot fail");
        }
        fs::write(self.home.path().join("edge.toml"), settings).expect("the folder is ours");
        self.write_policy(&self.policy());
    }

    /// The program with its settings; `captured` sends its output to the files that [`Self::events`] and
    /// [`Self::log`] read.
    pub(super) fn command(&self, captured: bool) -> Command {
        let mut command = match self.file_blocks_max {
            None => Command::new(program("proxy")),
            Some(blocks) => {
                // Without the trap, the limit is a deadly signal and not an error.
                let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &script, "sh"]).arg(program("proxy"));
                shell
            }
        };
        command.arg("--config").arg(self.home.path().join("edge.toml")).stdin(Stdio::null());
        without_settings_of_ours(&mut command);
        command.envs(&self.environment);
        if captured {
            let file = |name: &str| {
                let path = self.home.path().join(name);
                // The process before may still run and write.
                let _ = fs::rename(&path, path.with_extension("before"));
                File::create(path).expect("the folder is ours")
            };
            command.stdout(file("events")).stderr(file("log"));
        }
        command
    }
}

/// The path of a program of the workspace: beside the folder of the test executable.
///
/// # Panics
/// When it was not built: Cargo builds other packages' programs only when told to.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("tests lie in a folder deps of the target folder");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing; build it with: cargo build --workspace --bins", path.display());
    path
}

/// The events that a program has written to a file so far.
///
/// # Panics
/// When a whole line is not JSON.
pub(crate) fn read_events(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// A developer's environment must not change what is tested.
pub fn without_settings_of_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if ["CALOTYPE_", "AWS_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}
