//! `calotype upload FILE…`: sends files to the control plane and prints where they are delivered.

mod form;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::{Request, StatusCode};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use tokio::fs::File;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::form::{Form, Gate};
use crate::api::{Api, ApiArguments, KEY_HELP};
use crate::client::{Answer, printable};
use crate::credentials::random_word;

/// Tries of a file after the first, and the time before the first of them; each later one waits twice as long.
const RETRIES: u32 = 4;
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Longest time that a server may ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How long nothing may move: neither does the server take a byte, nor does it answer.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// From so many bytes on, the server is asked before they are sent, and how long it may take until they are sent all the same.
const ASK_BYTES_MIN: u64 = 1024 * 1024;
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// Arguments of `calotype upload`.
#[derive(Args)]
#[command(after_help = KEY_HELP)]
pub struct UploadArguments {
    /// What to upload.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The folder that they are put into, such as summer/2026.
    #[arg(long)]
    folder: Option<String>,
    /// The name in URLs, for one FILE; without it one is made up.
    #[arg(long)]
    public_id: Option<String>,
    /// A tag; may be given several times.
    #[arg(long)]
    tag: Vec<String>,
    #[command(flatten)]
    api: ApiArguments,
}

/// What the control plane tells of an upload.
#[derive(Deserialize)]
struct Uploaded {
    url: String,
}

/// Why a try has failed.
enum Failure {
    /// It may be another matter the next time, not before the given one.
    Passing(anyhow::Error, Option<Duration>),
    /// It will be the same again.
    Lasting(anyhow::Error),
}

struct Uploader<'a> {
    api: Api,
    arguments: &'a UploadArguments,
}

/// Runs the command: every file is tried, and each that was not uploaded is told.
pub fn run(arguments: &UploadArguments) -> anyhow::Result<()> {
    let count = arguments.files.len();
    ensure!(arguments.public_id.is_none() || count == 1, "--public-id is the name of one file, not of {count}");
    let uploader = Uploader { api: Api::of(&arguments.api)?, arguments };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = 0;
    for file in &arguments.files {
        let progress = progress(file);
        let uploaded = runtime.block_on(uploader.upload(file, &progress));
        progress.finish_and_clear();
        match uploaded {
            Ok(url) => println!("{}", printable(&url)),
            Err(error) => {
                failed += 1;
                tell(&format!("calotype: {}: {error:#}", file.display()));
            }
        }
    }
    ensure!(failed == 0, "{failed} of {count} files were not uploaded");
    Ok(())
}

#[allow(clippy::print_stderr, reason = "a command tells its errors there")]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// A bar on standard error, if that is a terminal.
fn progress(file: &Path) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(style.expect("the template is fixed"));
    bar.set_message(printable(&file.file_name().unwrap_or_default().to_string_lossy()));
    bar
}

impl Uploader<'_> {
    /// Tries until it is there, or trying is of no use. The server takes all tries for the same one by their key.
    async fn upload(&self, path: &Path, progress: &ProgressBar) -> anyhow::Result<String> {
        let key = random_word()?;
        let (mut left, mut wait) = (RETRIES, RETRY_AFTER);
        loop {
            let (error, at_least) = match self.attempt(path, &key, progress).await {
                Ok(url) => return Ok(url),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error, _)) if left == 0 => {
                    return Err(error.context(format!("given up after {} tries", RETRIES + 1)));
                }
                Err(Failure::Passing(error, at_least)) => (error, at_least),
            };
            progress.suspend(|| tell(&format!("calotype: {}: {error:#}; trying again", path.display())));
            sleep(at_least.unwrap_or_default().clamp(wait, RETRY_AFTER_MAX)).await;
            (left, wait) = (left - 1, wait * 2);
        }
    }

    async fn attempt(&self, path: &Path, key: &str, progress: &ProgressBar) -> Result<String, Failure> {
        let request = self.request(path, key, progress).await.map_err(Failure::Lasting)?;
        let sent = tokio::select! {
            sent = self.api.server.send(request) => sent,
            () = stalled(progress) => return Err(Failure::Passing(anyhow::anyhow!("nothing moves"), None)),
        };
        match sent {
            Ok(answer) => read(&answer),
            Err(error) if is_about_the_file(&error) => Err(Failure::Lasting(error)),
            Err(error) => Err(Failure::Passing(error, None)),
        }
    }

    async fn request(&self, path: &Path, key: &str, progress: &ProgressBar) -> anyhow::Result<Request<form::FormBody>> {
        // Asked first: opening a pipe would wait for its other end.
        ensure!(tokio::fs::metadata(path).await.context("cannot be read")?.is_file(), "is not a file");
        let file = File::open(path).await.context("cannot be read")?;
        let bytes = file.metadata().await.context("cannot be read")?.len();
        progress.reset();
        progress.set_length(bytes);

        // At most 70 characters (RFC 2046, section 5.1.1).
        let mut form = Form::new(random_word()?);
        let texts = [("public_id", &self.arguments.public_id), ("folder", &self.arguments.folder)];
        for (name, value) in texts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            form.text(name, value);
        }
        self.arguments.tag.iter().for_each(|tag| form.text("tags", tag));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let content_type = form.content_type();
        let may_go_on = Arc::new(Notify::new());
        let asks = bytes >= ASK_BYTES_MIN;
        let body = form.file(&name, file, bytes, gate(&may_go_on, asks), progress.clone());
        let mut request = Request::post(self.api.server.target("/v1/media"))
            .header(AUTHORIZATION, &self.api.authorization)
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, body.len())
            .header("idempotency-key", key)
            .body(body)
            .context("the request cannot be made")?;
        if asks {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    may_go_on.notify_one();
                }
            });
        }
        Ok(request)
    }
}

/// Opens at once, or when the server says so (RFC 9110, section 10.1.1): what it refuses need not be sent.
fn gate(may_go_on: &Arc<Notify>, asks: bool) -> Gate {
    let may_go_on = Arc::clone(may_go_on);
    Box::pin(async move {
        if asks {
            // A server that does not know of this says nothing.
            let _ = timeout(ASK_LIMIT, may_go_on.notified()).await;
        }
    })
}

/// Ends when nothing was sent for a while.
async fn stalled(progress: &ProgressBar) {
    loop {
        let before = progress.position();
        sleep(STALL_LIMIT).await;
        if progress.position() == before {
            return;
        }
    }
}

/// Whether reading the file has failed, and not the connection.
fn is_about_the_file(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(hyper::Error::is_user)
}

fn read(answer: &Answer) -> Result<String, Failure> {
    let refusal = || anyhow::anyhow!(answer.refusal());
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => {
            answer.json().map(|uploaded: Uploaded| uploaded.url).map_err(Failure::Lasting)
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Err(Failure::Passing(refusal(), answer.retry_after)),
        // The try before, whose connection was lost, is not over yet.
        StatusCode::CONFLICT if answer.code().as_deref() == Some("idempotency-running") => {
            Err(Failure::Passing(refusal(), answer.retry_after))
        }
        _ => Err(Failure::Lasting(refusal())),
    }
}
