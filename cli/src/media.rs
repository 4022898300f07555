//! `calotype media`: what a tenant has uploaded.
//!
//! Must not know more of media than the API tells.

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, ApiArguments, KEY_HELP, Query, encoded};
use crate::client::{Answer, printable};

/// Arguments of `calotype media`.
#[derive(Args)]
#[command(after_help = KEY_HELP)]
pub struct MediaArguments {
    #[command(subcommand)]
    command: MediaCommand,
}

#[derive(Subcommand)]
enum MediaCommand {
    /// Lists media, the newest first: id, kind, bytes and public id of each.
    List(ListArguments),
    /// Prints all that is known of a medium, as JSON.
    Get(OneArguments),
    /// Deletes media. Edges stop serving them at once.
    Delete(DeleteArguments),
}

#[derive(Args)]
struct ListArguments {
    /// Those in this folder only; empty is the top.
    #[arg(long)]
    folder: Option<String>,
    /// Those with this tag only.
    #[arg(long)]
    tag: Option<String>,
    /// Those of this kind only.
    #[arg(long)]
    kind: Option<Kind>,
    /// Those whose public id begins so.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// How many, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// All that is known, one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

/// What a medium is.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Image,
    Video,
    Audio,
    Document,
    File,
}

#[derive(Args)]
struct OneArguments {
    /// Its id, or its public id.
    #[arg(value_name = "MEDIUM")]
    medium: String,
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Args)]
struct DeleteArguments {
    /// Their ids or public ids.
    #[arg(required = true, value_name = "MEDIUM")]
    media: Vec<String>,
    #[command(flatten)]
    api: ApiArguments,
}

/// A page of a list, as the API gives it.
#[derive(Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What the next page is asked for with, if there is one.
    pub next_cursor: Option<String>,
}

/// Most things on a page of the API.
const PAGE_MAX: u32 = 100;

/// Runs the command.
pub fn run(arguments: &MediaArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.command {
        MediaCommand::List(arguments) => runtime.block_on(list(arguments)),
        MediaCommand::Get(arguments) => runtime.block_on(get(arguments)),
        MediaCommand::Delete(arguments) => runtime.block_on(delete(arguments)),
    }
}

async fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let api = Api::of(&arguments.api)?;
    let kind = arguments.kind.and_then(|kind| Some(kind.to_possible_value()?.get_name().to_owned()));
    let (mut left, mut cursor) = (arguments.limit, None::<String>);
    while left > 0 {
        let query = Query::default()
            .with("folder", arguments.folder.as_deref())
            .with("tag", arguments.tag.as_deref())
            .with("kind", kind.as_deref())
            .with("public_id_prefix", arguments.prefix.as_deref())
            .with("limit", Some(&left.min(PAGE_MAX).to_string()))
            .with("cursor", cursor.as_deref());
        let page: Page<Value> = api.get(&format!("/v1/media{}", query.as_str())).await?.json()?;
        for medium in &page.items {
            println!("{}", if arguments.json { medium.to_string() } else { line(medium) });
        }
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

fn line(medium: &Value) -> String {
    let text = |name: &str| printable(medium[name].as_str().unwrap_or_default());
    format!("{}  {:<8}  {:>12}  {}", text("id"), text("kind"), medium["bytes"], text("public_id"))
}

async fn get(arguments: &OneArguments) -> anyhow::Result<()> {
    let medium: Value = find(&Api::of(&arguments.api)?, &arguments.medium).await?.json()?;
    println!("{medium:#}");
    Ok(())
}

async fn delete(arguments: &DeleteArguments) -> anyhow::Result<()> {
    let api = Api::of(&arguments.api)?;
    let mut failed = 0;
    for name in &arguments.media {
        match delete_one(&api, name).await {
            Ok(()) => println!("{}: deleted", printable(name)),
            Err(error) => {
                failed += 1;
                println!("{}: {error:#}", printable(name));
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} media were not deleted", arguments.media.len());
    Ok(())
}

async fn delete_one(api: &Api, name: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Medium {
        id: String,
    }
    let medium: Medium = find(api, name).await?.json()?;
    api.delete(&format!("/v1/media/{}", encoded(&medium.id, ""))).await.map(drop)
}

/// What the API tells of a medium by either of its names. One whose public id looks like an id is found by its id first.
///
/// # Errors
/// Those of [`Api::get`].
pub async fn find(api: &Api, name: &str) -> anyhow::Result<Answer> {
    if is_id(name)
        && let Ok(answer) = api.get(&format!("/v1/media/{name}")).await
    {
        return Ok(answer);
    }
    api.get(&format!("/v1/media/by-public-id/{}", encoded(name, "/"))).await
}

/// Whether a text is a UUID as the API writes them.
fn is_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_a_public_id() {
        assert!(is_id("0198c1de-0000-7000-8000-00000000abcd"));
        for text in ["", "beach.jpg", "0198c1de-0000-7000-8000-00000000abcx", "0198c1de000070008000-00000000abcd"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
