//! `calotype up [FOLDER]`: the whole product on loopback, with a folder of pictures as tenant `demo`'s origin.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use devstack::process::Process;
use tokio::signal::unix::{SignalKind, signal};
use transform_url::encoding::encode_source;

use crate::credentials::Credentials;
use crate::private_file;
use crate::sign::Signer;

/// How long a part may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a part may take to stop; more than its own drain limit.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Where access events go, in the state folder: too many for a terminal.
const ACCESS_LOG: &str = "access.log";

/// The setting of the page to try ops on.
const PLAYGROUND: &str = "CALOTYPE_PROXY__PLAYGROUND";

/// How many example URLs are printed.
const EXAMPLES: usize = 3;

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
    /// Where state is kept.
    #[arg(long, env = "CALOTYPE_DATA", default_value = ".data")]
    data: PathBuf,
    /// A policy file of your own instead of the demo's.
    #[arg(long, conflicts_with = "folder")]
    policy: Option<PathBuf>,
}

/// Runs the command until Ctrl-C or SIGTERM.
pub fn run(arguments: &UpArguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.data).with_context(|| format!("{} cannot be made", arguments.data.display()))?;
    let data = arguments.data.canonicalize()?;
    let (policy, examples) = match &arguments.policy {
        Some(policy) => (policy.canonicalize().with_context(|| policy.display().to_string())?, Examples::default()),
        None => demo_policy(arguments.folder.as_deref(), &data)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments, &data, &policy, &examples))
}

async fn serve(arguments: &UpArguments, data: &Path, policy: &Path, examples: &Examples) -> anyhow::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = Credentials::read_or_make(data)?.admin_token.unwrap_or_default();
    let mut edge = start_edge(arguments, data, policy, &token)?;
    tokio::select! {
        ready = ready(&mut edge, arguments.admin_listen) => ready?,
        _ = term.recv() => return stop(edge).await,
        _ = int.recv() => return stop(edge).await,
    }
    greet(arguments, data, policy, examples);
    tokio::select! {
        status = edge.exited() => bail!("the edge ended by itself: {}", status?),
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    println!("\nstopping…");
    stop(edge).await
}

async fn stop(edge: Process) -> anyhow::Result<()> {
    edge.stop(STOP_LIMIT).await.map(drop)
}

fn start_edge(arguments: &UpArguments, data: &Path, policy: &Path, token: &str) -> anyhow::Result<Process> {
    let program = std::env::current_exe()?.with_file_name("proxy");
    let access_log = data.join(ACCESS_LOG);
    let access_log =
        File::create(&access_log).with_context(|| format!("{} cannot be written", access_log.display()))?;
    let mut command = tokio::process::Command::new(&program);
    command
        .arg("--stop-with-parent")
        .stdout(access_log)
        .env("CALOTYPE_PROXY__LISTEN", arguments.listen.to_string())
        .env("CALOTYPE_PROXY__ADMIN_LISTEN", arguments.admin_listen.to_string())
        .env("CALOTYPE_PROXY__POLICY_FILE", policy)
        // The disk cache's library walks the stack for each of its errors otherwise.
        .env("RUST_LIB_BACKTRACE", "0");
    // What the caller has set wins over what suits a developer's machine.
    for (name, value) in [
        (PLAYGROUND, true.to_string()),
        ("CALOTYPE_PROXY__ADMIN_TOKEN", token.to_owned()),
        ("CALOTYPE_PROXY__CACHE__DIR", data.join("cache").display().to_string()),
        ("CALOTYPE_PROXY__CACHE__DISK_BYTES", (1u64 << 30).to_string()),
        ("CALOTYPE_PROXY__LOG__FORMAT", "text".to_owned()),
        ("CALOTYPE_PROXY__LOG__LEVEL", "warn,proxy=info".to_owned()),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Process::start(command)
        .with_context(|| format!("{} cannot be started; build it with: cargo build --release", program.display()))
}

async fn ready(edge: &mut Process, admin: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    tokio::select! {
        status = edge.exited() => bail!("the edge ended while starting: {}", status?),
        answers = devstack::process::answers(admin, "/readyz", START_LIMIT) => {
            answers.with_context(|| format!("the edge did not answer on {admin} within {:?}", started.elapsed()))
        }
    }
}

fn greet(arguments: &UpArguments, data: &Path, policy: &Path, examples: &Examples) {
    let (edge, admin) = (arguments.listen, arguments.admin_listen);
    println!("Calotype serves pictures on http://{edge}");
    for example in &examples.open {
        println!("  http://{edge}{example}");
    }
    if let Some(example) = &examples.signed {
        println!("Signed for an hour; `calotype sign PATH` signs others:\n  http://{edge}{example}");
    }
    if std::env::var_os(PLAYGROUND).is_none_or(|set| set == "true") {
        println!("Try it: http://{admin}/playground");
    }
    println!("Admin:  http://{admin}/readyz  http://{admin}/metrics");
    println!("Policy: {} (changes apply at once)", policy.display());
    println!("Access: {}", data.join(ACCESS_LOG).display());
    println!("Stop with Ctrl-C.");
}

/// URLs to try, without their host.
#[derive(Default)]
struct Examples {
    open: Vec<String>,
    signed: Option<String>,
}

/// Writes the demo's policy; returns it and what can be tried with it.
fn demo_policy(folder: Option<&Path>, data: &Path) -> anyhow::Result<(PathBuf, Examples)> {
    let folder = match folder {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("the folder {} cannot be used", folder.display()))?
        }
        None => {
            let samples = data.join("samples");
            devstack::samples::write(&samples)?;
            samples
        }
    };
    if !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    let Some(text) = folder.to_str() else { bail!("the path {} is not UTF-8", folder.display()) };
    let signer = Signer::of_credentials(Credentials::read_or_make(data)?)
        .with_context(|| Credentials::path(data).display().to_string())?;
    let policy = data.join("policy.toml");
    let content = format!(
        "# Written anew by each `calotype up`. To keep changes, copy it and start with: calotype up --policy FILE\n\
         [tenants.{}]\nopen = true\noriginals = true\norigins.local.folder = {}\n{}keys.{} = {}\n",
        signer.tenant,
        quoted(text),
        registered_logo(&folder),
        signer.key,
        quoted(signer.secret.expose()),
    );
    private_file::write(&policy, &content)?;
    Ok((policy, examples(&folder, &signer)?))
}

/// A logo in the folder is registered, so that overlays can be tried.
fn registered_logo(folder: &Path) -> String {
    let logo = ["logo.svg", "logo.png"].into_iter().find(|name| folder.join(name).is_file());
    logo.map(|name| format!("images.logo = \"@local/{name}\"\n")).unwrap_or_default()
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// URLs of a few files of the folder that are pictures by their first bytes.
fn examples(folder: &Path, signer: &Signer) -> anyhow::Result<Examples> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .take(1000)
        .filter(|name| is_picture(&folder.join(name)))
        .collect();
    names.sort();
    names.truncate(EXAMPLES);
    let paths: Vec<String> = names.iter().map(|name| format!("/w=400,f=auto/@local/{}", encode_source(name))).collect();
    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3600;
    let tenant = &signer.tenant;
    Ok(Examples {
        open: paths.iter().map(|path| format!("/{tenant}{path}")).collect(),
        signed: paths.first().map(|path| format!("/{tenant}{}", signer.sign(path, Some(in_an_hour)))),
    })
}

fn is_picture(path: &Path) -> bool {
    // Asked first: opening a pipe would wait for its other end.
    if !path.is_file() {
        return false;
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.is_ok() && imaging::SourceFormat::sniff(&start).is_some()
}
