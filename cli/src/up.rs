//! `calotype up [FOLDER]`: the whole product on loopback, with a folder of pictures as an origin of the tenant `demo`.
//!
//! Each part is a process of its own, and so is the database, unless there is one. Must not leave one of them behind, however it
//! ends itself.

mod database;
mod demo;
mod parts;
mod secrets;
mod tenant;

use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use devstack::process::{Process, answers};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use self::database::DatabaseUrls;
use self::demo::Examples;
use self::parts::Parts;
use self::secrets::Secrets;
use self::tenant::Tenants;
use crate::client::Server;
use crate::credentials::Credentials;
use crate::private_file;
use crate::sign::Signer;

/// How long a part may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where access events go, in the state folder: too many for a terminal.
const ACCESS_LOG: &str = "access.log";

/// The same for requests to the control plane.
const REQUEST_LOG: &str = "requests.log";

/// The header that `curl -H @FILE` reads, so that no key has to be on a command line.
const AUTHORIZATION: &str = "authorization";

/// The setting of the page to try ops on.
const PLAYGROUND: &str = "CALOTYPE_PROXY__PLAYGROUND";

/// Arguments of `calotype up`.
#[derive(Args)]
pub struct UpArguments {
    /// Pictures to serve; without it, a few painted samples.
    folder: Option<PathBuf>,
    /// Where pictures are served.
    #[arg(long, env = "CALOTYPE_PROXY__LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where health and metrics are served.
    #[arg(long, env = "CALOTYPE_PROXY__ADMIN_LISTEN", default_value = "127.0.0.1:9180")]
    admin_listen: SocketAddr,
    /// Where the API of the control plane is served.
    #[arg(long, env = "CALOTYPE_CONTROL_PLANE__LISTEN", default_value = "127.0.0.1:8000")]
    api_listen: SocketAddr,
    /// Where state is kept.
    #[arg(long, env = "CALOTYPE_DATA", default_value = ".data")]
    data: PathBuf,
    /// A policy file with further tenants.
    #[arg(long)]
    policy: Option<PathBuf>,
}

/// Runs the command until Ctrl-C or SIGTERM.
pub fn run(arguments: &UpArguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.data).with_context(|| format!("{} cannot be made", arguments.data.display()))?;
    let data = arguments.data.canonicalize()?;
    let _alone = lock(&data)?;
    let folder = demo::folder(arguments.folder.as_deref(), &data)?;
    let policy =
        arguments.policy.as_ref().map(|policy| policy.canonicalize().with_context(|| policy.display().to_string()));
    let policy = policy.transpose()?;
    // Told before anything is started, and before somebody else's server is taken for ours.
    for address in [arguments.listen, arguments.admin_listen, arguments.api_listen] {
        TcpListener::bind(address).with_context(|| format!("{address} cannot be listened on"))?;
    }
    let credentials = Credentials::read_or_make(&data)?;
    let secrets = Secrets::read_or_make(&data)?;
    let objects = data.join("objects");
    std::fs::create_dir_all(&objects).with_context(|| format!("{} cannot be made", objects.display()))?;
    let up = Up { arguments, data, objects, folder, policy, secrets };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(up.until_stopped(credentials))
}

/// Held as long as this process lives: two would write over each other's state.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another `calotype up` uses {}", data.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

struct Up<'a> {
    arguments: &'a UpArguments,
    data: PathBuf,
    /// Where uploads are kept.
    objects: PathBuf,
    /// What is served as it lies.
    folder: PathBuf,
    policy: Option<PathBuf>,
    secrets: Secrets,
}

impl Up<'_> {
    async fn until_stopped(&self, mut credentials: Credentials) -> anyhow::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut parts = Parts::default();
        let ended = tokio::select! {
            ended = self.run(&mut parts, &mut credentials) => ended,
            _ = term.recv() => Ok(()),
            _ = int.recv() => Ok(()),
        };
        if ended.is_ok() {
            println!("\nstopping…");
        }
        let stopped = parts.stop().await;
        ended.and(stopped)
    }

    /// Starts one part after the other, and goes on until one of them ends.
    async fn run(&self, parts: &mut Parts, credentials: &mut Credentials) -> anyhow::Result<()> {
        let (urls, is_private) = match database::given()? {
            Some(url) => (DatabaseUrls::of(&url), false),
            None => {
                let postgres = parts.database.insert(database::start(&self.data).await?);
                database::make_users(postgres).await?;
                (DatabaseUrls::of_private(postgres), true)
            }
        };
        let migration = parts.migration.insert(self.start(self.control_plane(&urls, credentials), Some("migrate"))?);
        let status = migration.exited().await?;
        if !status.success() {
            bail!("the database cannot be brought up to date: {status}");
        }
        parts.migration = None;

        let mut control_plane = self.control_plane(&urls, credentials);
        control_plane.stdout(self.log(REQUEST_LOG)?);
        parts.control_plane = Some(self.start(control_plane, None)?);
        parts.worker = Some(self.start(self.control_plane(&urls, credentials), Some("worker"))?);
        ready(parts, self.arguments.api_listen).await?;
        let server = format!("http://{}", self.arguments.api_listen);
        let tenants = Tenants { server: Server::parse(&server)?, data: &self.data, is_private };
        tokio::select! {
            made = tenants.make(credentials) => made?,
            ended = parts.one_ended() => return Err(ended),
        }
        self.note(credentials, server)?;

        parts.edge = Some(self.start(self.edge(credentials)?, None)?);
        ready(parts, self.arguments.admin_listen).await?;
        self.greet(&demo::examples(&self.folder, &Signer::of_credentials(Credentials::read_or_make(&self.data)?)?)?);
        Err(parts.one_ended().await)
    }

    /// Notes where the control plane is, and the header that asks it.
    fn note(&self, credentials: &mut Credentials, server: String) -> anyhow::Result<()> {
        if credentials.server.as_ref() != Some(&server) {
            credentials.server = Some(server);
            credentials.write(&self.data)?;
        }
        let key = credentials.api_key.as_deref().unwrap_or_default();
        private_file::write(&self.data.join(AUTHORIZATION), &format!("Authorization: Bearer {key}\n"))
    }

    fn start(&self, mut command: Command, task: Option<&str>) -> anyhow::Result<Process> {
        command.arg("--stop-with-parent").args(task).stdin(Stdio::null());
        let program = Path::new(command.as_std().get_program()).display().to_string();
        Process::start(command)
            .with_context(|| format!("{program} cannot be started; build it with: cargo build --release"))
    }

    fn log(&self, name: &str) -> anyhow::Result<File> {
        let path = self.data.join(name);
        File::create(&path).with_context(|| format!("{} cannot be written", path.display()))
    }

    fn control_plane(&self, urls: &DatabaseUrls, credentials: &Credentials) -> Command {
        let mut command = Command::new(sibling("control-plane"));
        command
            .env("CALOTYPE_CONTROL_PLANE__LISTEN", self.arguments.api_listen.to_string())
            .env("CALOTYPE_CONTROL_PLANE__DATABASE_URL", &urls.app)
            .env("CALOTYPE_CONTROL_PLANE__MIGRATE_URL", &urls.migrate)
            .env("CALOTYPE_CONTROL_PLANE__WORKER_URL", &urls.worker)
            .env("CALOTYPE_CONTROL_PLANE__ADMIN_KEY", credentials.admin_key.as_deref().unwrap_or_default())
            .env("CALOTYPE_CONTROL_PLANE__EDGE_TOKEN", &self.secrets.edge_token)
            .env("CALOTYPE_CONTROL_PLANE__MASTER_KEY", &self.secrets.master_key)
            .env("CALOTYPE_CONTROL_PLANE__UPLOADS__FOLDER", &self.objects)
            .env("CALOTYPE_CONTROL_PLANE__DELIVERY_URL", format!("http://{}", self.arguments.listen));
        suit(
            &mut command,
            &[
                ("CALOTYPE_CONTROL_PLANE__LOG__FORMAT", "text".to_owned()),
                ("CALOTYPE_CONTROL_PLANE__LOG__LEVEL", "warn,rocket=error,control_plane::routes=error".to_owned()),
            ],
        );
        command
    }

    fn edge(&self, credentials: &Credentials) -> anyhow::Result<Command> {
        let mut command = Command::new(sibling("proxy"));
        command
            .arg("--config")
            .arg(demo::write_settings(&self.folder, &credentials.tenant, &self.data)?)
            .stdout(self.log(ACCESS_LOG)?)
            .env("CALOTYPE_PROXY__LISTEN", self.arguments.listen.to_string())
            .env("CALOTYPE_PROXY__ADMIN_LISTEN", self.arguments.admin_listen.to_string())
            .env("CALOTYPE_PROXY__CONTROL_PLANE__URL", format!("http://{}", self.arguments.api_listen))
            .env("CALOTYPE_PROXY__CONTROL_PLANE__TOKEN", &self.secrets.edge_token)
            .env("CALOTYPE_PROXY__CONTROL_PLANE__DIR", self.data.join("feed"))
            .env("CALOTYPE_PROXY__UPLOADS__FOLDER", &self.objects)
            // The disk cache's library walks the stack for each of its errors otherwise.
            .env("RUST_LIB_BACKTRACE", "0");
        if let Some(policy) = &self.policy {
            command.env("CALOTYPE_PROXY__POLICY_FILE", policy);
        }
        suit(
            &mut command,
            &[
                (PLAYGROUND, true.to_string()),
                ("CALOTYPE_PROXY__ADMIN_TOKEN", credentials.admin_token.clone().unwrap_or_default()),
                ("CALOTYPE_PROXY__CACHE__DIR", self.data.join("cache").display().to_string()),
                ("CALOTYPE_PROXY__CACHE__DISK_BYTES", (1u64 << 30).to_string()),
                ("CALOTYPE_PROXY__LOG__FORMAT", "text".to_owned()),
                ("CALOTYPE_PROXY__LOG__LEVEL", "warn,proxy=info".to_owned()),
            ],
        );
        Ok(command)
    }

    fn greet(&self, examples: &Examples) {
        let (edge, admin, api) = (self.arguments.listen, self.arguments.admin_listen, self.arguments.api_listen);
        let program = std::env::current_exe().map_or("calotype".into(), |path| path.display().to_string());
        let data = self.data.display();
        println!("Calotype serves pictures on http://{edge}");
        for example in &examples.open {
            println!("  http://{edge}{example}");
        }
        if let Some(example) = &examples.signed {
            println!("Signed for an hour; `calotype sign PATH` signs others:\n  http://{edge}{example}");
        }
        println!("Upload: {program} upload --data {data} photo.jpg");
        println!("        curl -H @{data}/{AUTHORIZATION} -F file=@photo.jpg http://{api}/v1/media");
        println!("API:    http://{api}/v1, keys in {}", Credentials::path(&self.data).display());
        if std::env::var_os(PLAYGROUND).is_none_or(|set| set == "true") {
            println!("Try it: http://{admin}/playground");
        }
        println!("Admin:  http://{admin}/readyz  http://{admin}/metrics  http://{api}/metrics");
        if let Some(policy) = &self.policy {
            println!("Policy: {} (changes apply at once)", policy.display());
        }
        println!("Logs:   {data}/{ACCESS_LOG}  {data}/{REQUEST_LOG}");
        println!("Stop with Ctrl-C.");
    }
}

/// A program beside this one.
fn sibling(name: &str) -> PathBuf {
    std::env::current_exe().map_or(name.into(), |path| path.with_file_name(name))
}

/// Sets what suits a developer's machine. What the caller has set wins over it.
fn suit(command: &mut Command, settings: &[(&str, String)]) {
    for (name, value) in settings {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
}

/// Waits until the part that was started last answers there.
async fn ready(parts: &mut Parts, address: SocketAddr) -> anyhow::Result<()> {
    tokio::select! {
        ended = parts.one_ended() => Err(ended.context("while starting")),
        answers = answers(address, "/readyz", START_LIMIT) => answers.context("no part answers there"),
    }
}
