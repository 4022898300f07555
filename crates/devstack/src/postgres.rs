//! A private Postgres with pgvector: a cluster in a folder of its own, reached through a socket in that folder.
//!
//! `script/postgres` fetches the programs. Must not be used for anything that matters as [`Life::Temporary`]: a power cut loses
//! everything, and so does its end.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;

/// The folder of programs, if it is not beside the build.
pub const PROGRAMS_VARIABLE: &str = "CALOTYPE_POSTGRES";

/// How long a cluster may take to be made, to start, and to stop.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Time between two looks at a server that starts.
const POLL: Duration = Duration::from_millis(10);

/// Where clusters of root lie that nobody else could reach where they belong.
pub const ELSEWHERE: &str = "/var/lib/calotype";

/// How long statements may take that are run by hand.
const STATEMENTS_LIMIT: Duration = Duration::from_secs(60);

/// The one with all rights, by the socket only.
pub const SUPERUSER: &str = "postgres";

/// Runs a server and ends it when standard input ends, which whoever started it holds open: even `kill -9` of that process leaves
/// no server behind. SIGTERM ends the server in order. (The watch is killed: another signal may come before it is more than a copy of this, which
/// takes it as its own.) Removes the folder that `$0` names.
const WATCHED: &str = r#"
exec 3<&0
"$@" &
server=$!
trap 'kill -INT $server' TERM
{ read -r _ <&3; kill -QUIT $server; } &
watch=$!
while kill -0 $server 2>/dev/null; do wait $server; status=$?; done
kill -KILL $watch 2>/dev/null
wait $watch 2>/dev/null
[ -z "$0" ] || rm -rf "$0"
exit $status
"#;

/// Longest name of a socket, in bytes (`sun_path` of unix(7), less its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How long what is in a cluster lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// For ever: nothing is lost that was committed, even if the machine fails.
    Kept,
    /// As long as the folder, if the machine does not fail: for tests, which are much faster so.
    Volatile,
    /// As long as the server, which removes its folder at its end.
    Temporary,
}

/// Where the programs are and the cluster is.
#[derive(Debug, Clone)]
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    life: Life,
    owner: Owner,
}

/// A running server. Dropping it kills it; it also ends with the process that started it, however that ends.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    cluster: Cluster,
    /// Closed when this is dropped or this process ends.
    _alive: ChildStdin,
}

/// Who runs the server: Postgres refuses root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Ourselves,
    Nobody,
}

impl Owner {
    fn of_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::Nobody } else { Self::Ourselves }
    }

    /// Debian's `nobody` and `nogroup`.
    const NOBODY: u32 = 65_534;

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self == Self::Nobody {
            command.uid(Self::NOBODY).gid(Self::NOBODY);
        }
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        command
    }

    /// Whether it may enter a folder, once that is its own: those above may be closed.
    async fn may_enter(self, folder: &Path) -> bool {
        let above = folder.parent().unwrap_or(folder);
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", "cd \"$0\""]).arg(above).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.is_ok_and(|status| status.success())
    }

    fn give(self, folder: &Path) -> std::io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Nobody => std::os::unix::fs::chown(folder, Some(Self::NOBODY), Some(Self::NOBODY)),
        }
    }
}

/// The folder of Postgres' programs: what the environment names, else `postgres` beside the folder of the build.
///
/// # Errors
/// When it is not there, with what makes it.
pub fn programs() -> anyhow::Result<PathBuf> {
    let found = match std::env::var_os(PROGRAMS_VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        None => {
            let program = std::env::current_exe()?;
            // target/debug/deps/test, target/release/calotype: the folder `target` is one of those above.
            let beside = program.ancestors().skip(1).take(4).map(|folder| folder.join("postgres/bin"));
            beside.into_iter().find(|folder| folder.join("postgres").is_file()).unwrap_or_default()
        }
    };
    ensure!(
        found.join("postgres").is_file() && found.join("initdb").is_file(),
        "no Postgres was found: script/postgres fetches it, or {PROGRAMS_VARIABLE} names the folder of its programs"
    );
    Ok(found)
}

/// Puts an empty folder of a new name into [`ELSEWHERE`], and a link to it in the place of `folder`, which must be empty.
fn move_elsewhere(folder: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(ELSEWHERE)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let place = Path::new(ELSEWHERE).join(format!("postgres-{:x}-{}", now.as_nanos(), std::process::id()));
    fs::create_dir(&place)?;
    fs::remove_dir(folder)?;
    symlink(&place, folder)?;
    Ok(place)
}

impl Cluster {
    /// The cluster in `folder`, which is made if it is not there. As root, the cluster is given to `nobody`, who must be able to
    /// enter the folders above.
    ///
    /// # Errors
    /// When there are no programs, or the folder cannot be made.
    pub async fn prepare(folder: &Path, life: Life) -> anyhow::Result<Self> {
        let (programs, owner) = (programs()?, Owner::of_process());
        let mut cluster = Self { programs, folder: folder.to_owned(), life, owner };
        let socket = cluster.socket();
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX,
            "the path {} is too long for a socket, at most {SOCKET_PATH_BYTES_MAX} bytes",
            socket.display()
        );
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        owner.give(folder)?;
        if !cluster.may_run_programs().await {
            cluster.copy_programs().await?;
        }
        if !cluster.data().join("PG_VERSION").exists() {
            cluster.make().await?;
        }
        Ok(cluster)
    }

    /// The cluster that belongs to `folder` and lasts. As root, where nobody else may enter `folder`, it lies in [`ELSEWHERE`]
    /// and `folder` is a link to it.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub async fn prepare_kept(folder: &Path) -> anyhow::Result<Self> {
        let owner = Owner::of_process();
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        // A link that leads somewhere is followed.
        let mut place = folder.canonicalize()?;
        if !owner.may_enter(&place).await {
            place = move_elsewhere(folder).with_context(|| format!("{ELSEWHERE} cannot be used"))?;
        }
        Self::prepare(&place, Life::Kept).await
    }

    /// A copy of a running server's cluster in `folder`, which follows it once started. What is kept lasts as long as there.
    ///
    /// # Errors
    /// As [`Self::prepare`], or when the server cannot be copied.
    pub async fn prepare_replica(of: &Postgres, folder: &Path) -> anyhow::Result<Self> {
        let cluster = Self { folder: folder.to_owned(), ..of.cluster.clone() };
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        cluster.owner.give(folder)?;
        let mut command = cluster.owner.command(&cluster.programs.join("pg_basebackup"));
        command.arg("--host").arg(&of.cluster.folder).args(["--username", SUPERUSER, "--checkpoint", "fast"]);
        command.args(["--write-recovery-conf", "--no-sync", "--pgdata"]).arg(cluster.data());
        let output = command.current_dir("/").kill_on_drop(true).output().await.context("no pg_basebackup")?;
        ensure!(output.status.success(), "no copy: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(cluster)
    }

    /// Whether whoever runs the server may run it: a checkout in root's home is closed to others.
    async fn may_run_programs(&self) -> bool {
        let mut command = self.owner.command(&self.programs.join("postgres"));
        command.arg("--version").current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.is_ok_and(|status| status.success())
    }

    /// Puts the programs, and what lies beside them, into the cluster's own folder.
    async fn copy_programs(&mut self) -> anyhow::Result<()> {
        let (whole, copy) =
            (self.programs.parent().context("programs lie in a folder")?.to_owned(), self.folder.join("programs"));
        let owner = format!("{0}:{0}", Owner::NOBODY);
        let run = async |program: &str, arguments: &[&std::ffi::OsStr]| {
            let output = Command::new(program).args(arguments).output().await.context("the system's own program")?;
            ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
            anyhow::Ok(())
        };
        if !copy.exists() {
            run("cp", &["-a".as_ref(), whole.as_os_str(), copy.as_os_str()]).await?;
            run("chown", &["-R".as_ref(), owner.as_ref(), copy.as_os_str()]).await?;
        }
        self.programs = copy.join("bin");
        ensure!(
            self.may_run_programs().await,
            "Postgres refuses root, and nobody else may run it: {}",
            whole.display()
        );
        Ok(())
    }

    async fn make(&self) -> anyhow::Result<()> {
        // Made beside and renamed: what is only half made must not be taken for a cluster.
        let half = self.folder.join("data.new");
        if half.exists() {
            fs::remove_dir_all(&half).with_context(|| format!("{} cannot be removed", half.display()))?;
        }
        let mut command = self.owner.command(&self.programs.join("initdb"));
        command.arg("--pgdata").arg(&half).args(["--username", SUPERUSER, "--auth", "trust"]);
        command.args(["--encoding", "UTF8", "--locale", "C.UTF-8"]);
        if self.life != Life::Kept {
            command.arg("--no-sync");
        }
        let output = command.current_dir("/").kill_on_drop(true).output().await.context("initdb cannot be started")?;
        ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        fs::rename(&half, self.data()).with_context(|| format!("{} cannot be made", self.data().display()))
    }

    /// Starts the server. Returns once it takes connections.
    ///
    /// # Errors
    /// When it does not; the message has the end of its log.
    pub async fn start(self) -> anyhow::Result<Postgres> {
        let mut command = self.owner.command(Path::new("/bin/sh"));
        let removed = if self.life == Life::Temporary { self.folder.as_path() } else { Path::new("") };
        command.args(["-c", WATCHED]).arg(removed);
        command.arg(self.programs.join("postgres")).arg("-D").arg(self.data());
        let set = |name: &str, value: &str| format!("--{name}={value}");
        command.arg(set("listen_addresses", ""));
        command.arg(set("unix_socket_directories", &self.folder.display().to_string()));
        command.args([set("unix_socket_permissions", "0700"), set("timezone", "UTC"), set("max_connections", "200")]);
        if self.life != Life::Kept {
            // What was committed is with the system, so it outlives the server.
            command.args([set("fsync", "off"), set("full_page_writes", "off")]);
        }
        // A server that has crashed leaves its word that it is ready.
        let before = fs::read_to_string(self.status()).unwrap_or_default();
        let log = fs::File::create(self.log())?;
        self.owner.give(&self.log())?;
        command.current_dir("/").stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process::start(command).context("Postgres cannot be started")?;
        let alive = process.take_stdin().context("a shell without standard input")?;
        let mut postgres = Postgres { process, cluster: self, _alive: alive };
        postgres.until_ready(&before).await?;
        Ok(postgres)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The file in which the server says who it is and, in its eighth line, what it does.
    fn status(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }
}

impl Postgres {
    /// Waits until the server says that it is ready, in other words than it did `before`.
    async fn until_ready(&mut self, before: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let status = fs::read_to_string(self.cluster.status()).unwrap_or_default();
            if status != before && status.lines().nth(7).map(str::trim) == Some("ready") {
                return Ok(());
            }
            tokio::select! {
                ended = self.process.exited() => bail!("Postgres ended while starting ({}): {}", ended?, self.last_words()),
                () = sleep(POLL) => {}
            }
            ensure!(Instant::now() < deadline, "Postgres is not ready within {START_LIMIT:?}: {}", self.last_words());
        }
    }

    /// The URL of a database for a user.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@localhost/{database}?host={}", self.cluster.folder.display())
    }

    /// Runs statements, one after the other, as the one with all rights. They may have psql's own commands in them.
    ///
    /// # Errors
    /// When one fails, with what the server said; the rest is not run.
    pub async fn run(&self, statements: &str) -> anyhow::Result<()> {
        let mut command = self.cluster.owner.command(&self.cluster.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", "-", "--username", SUPERUSER]);
        command.arg("--host").arg(&self.cluster.folder).arg(SUPERUSER).current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut psql = command.spawn().context("psql cannot be started")?;
        let mut input = psql.stdin.take().context("it has a standard input")?;
        let run = async {
            input.write_all(statements.as_bytes()).await?;
            drop(input);
            psql.wait_with_output().await
        };
        let output = timeout(STATEMENTS_LIMIT, run).await.context("Postgres does not answer")??;
        ensure!(output.status.success(), "Postgres refuses: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Waits for its end, which something else has caused.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn exited(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.exited().await
    }

    /// Stops it in order, so that it starts again without recovery.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(self) -> anyhow::Result<Cluster> {
        self.process.stop(STOP_LIMIT).await?;
        Ok(self.cluster)
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn crash(mut self) -> anyhow::Result<Cluster> {
        self.process.signal_group(Signal::KILL)?;
        self.process.exited().await?;
        // Its children notice by themselves, and only then may another server start.
        Ok(self.cluster)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.cluster.log()).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
