//! The parts that the API is measured with: a Postgres of its own, a control plane and edges that follow it, in one folder.
//!
//! Nothing is pinned to a core: all of them share the machine with the clients, as on a small host. Must not measure.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use devstack::postgres::{Cluster, Life, Postgres, SUPERUSER};
use devstack::process::{Process, answers};
use http::Method;
use tempfile::TempDir;
use testkit::http::{self as client, Connection, Request, Response};
use tokio::process::Command;

use super::seed;
use crate::cpu_time;
use crate::edge::free_address;
use crate::memory;

/// How long anything may take to start, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);

const DATABASE: &str = "calotype";
const ADMIN_KEY: &str = "the operator's key of this study only";
/// What edges are known by.
pub const EDGE_TOKEN: &str = "the token of all edges of this study only";
const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A control plane on a database.
pub struct Service {
    process: Process,
    /// Where the API is.
    pub address: SocketAddr,
    /// Its process.
    pub id: u32,
    home: TempDir,
    postgres: Postgres,
    /// What it was started with.
    settings: Vec<(&'static str, String)>,
    /// The cluster's: whoever runs the server has to be let in.
    _cluster: TempDir,
}

impl Service {
    /// A Postgres that loses nothing, with all tables, and a control plane without rates that keeps uploads in a folder.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(control_plane: &Path) -> anyhow::Result<Self> {
        Self::start_with(control_plane, &[]).await
    }

    /// The same with these settings beside its own; with a bucket there is no folder.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start_with(control_plane: &Path, more: &[(&'static str, String)]) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("calotype-api-").tempdir()?;
        let cluster = tempfile::Builder::new().prefix("calotype-postgres-").tempdir()?;
        let postgres = Cluster::prepare(cluster.path(), Life::Kept).await?.start().await?;
        postgres.run(&format!("CREATE DATABASE {DATABASE};")).await?;
        let mut migrate = command(control_plane);
        migrate.arg("migrate").env("CALOTYPE_CONTROL_PLANE__MIGRATE_URL", postgres.url(SUPERUSER, DATABASE));
        let status = migrate.stdout(Stdio::null()).stderr(log(&home, "migrate")?).status().await?;
        ensure!(status.success(), "the migrations ended with {status}");
        postgres
            .run("CREATE ROLE app LOGIN IN ROLE calotype_app; CREATE ROLE worker LOGIN IN ROLE calotype_worker;")
            .await?;
        let (address, uploads) = (free_address()?, home.path().join("uploads"));
        std::fs::create_dir(&uploads)?;
        let mut serve = command(control_plane);
        let mut settings = vec![
            ("LISTEN", address.to_string()),
            ("DATABASE_URL", postgres.url("app", DATABASE)),
            ("WORKER_URL", postgres.url("worker", DATABASE)),
            ("ADMIN_KEY", ADMIN_KEY.to_owned()),
            ("EDGE_TOKEN", EDGE_TOKEN.to_owned()),
            ("MASTER_KEY", MASTER_KEY.to_owned()),
            ("RATE_PER_SECOND", "0".to_owned()),
            // All keys come from one address, and each is new at first.
            ("ADDRESS_RATE_PER_SECOND", "0".to_owned()),
        ];
        if !more.iter().any(|(name, _)| *name == "UPLOADS__BUCKET") {
            settings.push(("UPLOADS__FOLDER", uploads.display().to_string()));
        }
        settings.extend_from_slice(more);
        serve.envs(environment(&settings));
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(&home, "control-plane")?);
        let process = Process::start(serve).context("the control plane cannot be started")?;
        let id = process.id().context("the control plane has ended at once")?;
        answers(address, "/readyz", START_LIMIT).await.context("the control plane")?;
        Ok(Self { process, address, id, home, postgres, settings, _cluster: cluster })
    }

    /// Has a worker do all that there is to do.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker(&self, control_plane: &Path) -> anyhow::Result<Process> {
        let mut worker = command(control_plane);
        worker.args(["worker", "--once"]).envs(environment(&self.settings));
        worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(&self.home, "worker")?);
        Process::start(worker).context("the worker cannot be started")
    }

    /// A worker that goes on.
    ///
    /// # Errors
    /// When it does not start.
    pub fn steady_worker(&self, control_plane: &Path) -> anyhow::Result<Process> {
        let mut worker = command(control_plane);
        worker.arg("worker").envs(environment(&self.settings));
        worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(&self.home, "worker")?);
        Process::start(worker).context("the worker cannot be started")
    }

    /// Runs statements with all rights.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn sql(&self, statements: &str) -> anyhow::Result<()> {
        self.postgres.run(&format!("\\connect {DATABASE}\n{statements}")).await
    }

    /// Where the database is, with all rights.
    pub fn database_url(&self) -> String {
        self.postgres.url(SUPERUSER, DATABASE)
    }

    /// A keep-alive connection to the API.
    ///
    /// # Errors
    /// When it takes none.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address).await
    }

    /// The folder that uploads are kept in, where there is no bucket.
    pub fn uploads(&self) -> PathBuf {
        self.home.path().join("uploads")
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time::of_tree(self.id)
    }

    /// An edge that knows nothing yet.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub fn edge(&self, name: &str, proxy: &Path) -> anyhow::Result<EdgeHome> {
        let folder = self.home.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(EdgeHome {
            proxy: proxy.to_owned(),
            uploads: self.home.path().join("uploads"),
            folder,
            control_plane: self.address,
            listen: free_address()?,
            admin: free_address()?,
        })
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// When something does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop(STOP_LIMIT).await?;
        self.postgres.stop().await?;
        Ok(())
    }
}

/// What an edge keeps over a stop.
pub struct EdgeHome {
    proxy: PathBuf,
    uploads: PathBuf,
    folder: PathBuf,
    control_plane: SocketAddr,
    listen: SocketAddr,
    admin: SocketAddr,
}

/// A running edge.
pub struct Edge {
    process: Process,
    id: u32,
    /// Where it serves pictures.
    pub address: SocketAddr,
    admin: SocketAddr,
}

impl EdgeHome {
    /// Starts it. Returns once it knows its tenants.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(&self) -> anyhow::Result<Edge> {
        let mut edge = command(&self.proxy);
        let path = |name: &str| self.folder.join(name).display().to_string();
        let settings = [
            ("LISTEN", self.listen.to_string()),
            ("ADMIN_LISTEN", self.admin.to_string()),
            ("CONTROL_PLANE__URL", format!("http://{}", self.control_plane)),
            ("CONTROL_PLANE__TOKEN", EDGE_TOKEN.to_owned()),
            ("CONTROL_PLANE__DIR", path("feed")),
            ("UPLOADS__FOLDER", self.uploads.display().to_string()),
            ("CACHE__DIR", path("cache")),
            ("CACHE__DISK_BYTES", (1_u64 << 30).to_string()),
            ("ORIGINALS__DISK_BYTES", (256_u64 << 20).to_string()),
            ("ACCESS_LOG", "false".to_owned()),
        ];
        edge.envs(settings.map(|(name, value)| (format!("CALOTYPE_PROXY__{name}"), value)));
        let log = File::options().append(true).create(true).open(self.folder.join("log"))?;
        edge.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Process::start(edge).context("the edge cannot be started")?;
        let id = process.id().context("the edge has ended at once")?;
        answers(self.admin, "/readyz", START_LIMIT).await.with_context(|| {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            format!("the edge; its log ends: {}", log.lines().last().unwrap_or("(empty)"))
        })?;
        Ok(Edge { process, id, address: self.listen, admin: self.admin })
    }
}

impl Edge {
    /// How many tenants it knows, and the number of the last change that is in force.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn knows(&self) -> anyhow::Result<(u64, u64)> {
        let answer = client::get(self.admin, "/metrics").await?;
        let metrics = crate::metrics::Metrics::new(answer.text());
        let number = |name| metrics.sum(name, "") as u64;
        Ok((number("calotype_feed_tenants"), number("calotype_feed_sequence")))
    }

    /// Its resident memory in bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        memory::resident_bytes(self.id)
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        let status = self.process.stop(STOP_LIMIT).await?;
        ensure!(status.success(), "the edge ended with {status}");
        Ok(())
    }
}

/// A request of a tenant.
pub fn request(method: Method, target: impl Into<String>, tenant: usize) -> Request {
    Request::new(method, target).header("authorization", format!("Bearer {}", seed::key(tenant)))
}

/// Sends a request whose answer must be a success.
///
/// # Errors
/// On any other answer.
pub async fn ask(connection: &mut Connection, request: &Request) -> anyhow::Result<Response> {
    let answer = connection.send(request).await?;
    ensure!(answer.status.is_success(), "answered {}: {}", answer.status, answer.text());
    Ok(answer)
}

/// A program with nothing of the environment that could change what is measured.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LD_LIBRARY_PATH"));
    command
}

fn environment(settings: &[(&'static str, String)]) -> impl Iterator<Item = (String, String)> {
    settings.iter().map(|(name, value)| (format!("CALOTYPE_CONTROL_PLANE__{name}"), value.clone()))
}

fn log(home: &TempDir, name: &str) -> anyhow::Result<File> {
    Ok(File::create(home.path().join(format!("{name}.log")))?)
}
