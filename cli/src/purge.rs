//! `calotype purge`: takes content back, at one edge or several.
//!
//! Must not print the token, nor take it from the command line, where other users of the machine would see it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{ArgGroup, Args};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use serde::Serialize;
use tokio::time::timeout;

use crate::client::Server;
use crate::credentials::Credentials;

/// Holds the edge's token; the name of its own setting.
const TOKEN_VARIABLE: &str = "CALOTYPE_PROXY__ADMIN_TOKEN";

/// How long an edge may take: it waits for its disk.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `calotype purge`.
#[derive(Args)]
#[command(
    group = ArgGroup::new("what").required(true),
    after_help = "The token comes from CALOTYPE_PROXY__ADMIN_TOKEN in the environment, or from credentials.json in the \
    state folder, where `calotype up` keeps it."
)]
pub struct PurgeArguments {
    /// Whose pictures; not needed with a whole --url.
    #[arg(long)]
    tenant: Option<String>,
    /// One delivery URL's path, such as /demo/w=400/@local/a.jpg, in every format.
    #[arg(long, group = "what", value_name = "PATH")]
    url: Option<String>,
    /// Everything made of, or with, a source such as @local/a.jpg.
    #[arg(long, group = "what")]
    source: Option<String>,
    /// Everything with this tag.
    #[arg(long, group = "what")]
    tag: Option<String>,
    /// Everything of the tenant, or without --tenant everything of everybody.
    #[arg(long, group = "what")]
    all: bool,
    /// The edges' admin ports; may be given several times.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    admin: Vec<String>,
    /// Where state is kept.
    #[arg(long, env = "CALOTYPE_DATA", default_value = ".data")]
    data: PathBuf,
}

/// What the admin port takes.
#[derive(Serialize)]
struct Order<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

/// Runs the command: every edge is asked, and each that did not do it is told.
pub fn run(arguments: &PurgeArguments) -> anyhow::Result<()> {
    let token = token(arguments)?;
    let order = Order {
        tenant: arguments.tenant.as_deref(),
        url: arguments.url.as_deref(),
        source: arguments.source.as_deref(),
        tag: arguments.tag.as_deref(),
        all: arguments.all,
    };
    let body = Bytes::from(serde_json::to_vec(&order)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = 0;
    for admin in &arguments.admin {
        let asked = runtime.block_on(async { timeout(ANSWER_LIMIT, ask(admin, &token, body.clone())).await });
        match asked.unwrap_or_else(|_| bail!("no answer within {ANSWER_LIMIT:?}")) {
            Ok(()) => println!("{admin}: purged"),
            Err(error) => {
                failed += 1;
                println!("{admin}: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} edges did not purge", arguments.admin.len());
    Ok(())
}

fn token(arguments: &PurgeArguments) -> anyhow::Result<String> {
    match std::env::var(TOKEN_VARIABLE) {
        Ok(token) => Ok(token),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{TOKEN_VARIABLE} is not UTF-8"),
        Err(std::env::VarError::NotPresent) => Credentials::read(&arguments.data)?
            .and_then(|credentials| credentials.admin_token)
            .with_context(|| format!("there is no token: set {TOKEN_VARIABLE} to the edge's admin_token")),
    }
}

async fn ask(admin: &str, token: &str, body: Bytes) -> anyhow::Result<()> {
    let server = Server::parse(admin)?;
    let request = Request::post(server.target("/purge"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .context("the token or URL cannot be sent")?;
    let answer = server.send(request).await?;
    ensure!(answer.status == StatusCode::OK, "{}", answer.refusal());
    Ok(())
}
