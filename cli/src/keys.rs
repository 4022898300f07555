//! `calotype keys`: a tenant's API keys.
//!
//! A new key is printed once, on standard output, alone on its line; nobody can have it shown again.

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, ApiArguments, KEY_HELP, Query, encoded};
use crate::client::printable;
use crate::credentials::random_word;
use crate::media::Page;

/// Arguments of `calotype keys`.
#[derive(Args)]
#[command(after_help = KEY_HELP)]
pub struct KeysArguments {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Makes a key and prints it: the only time that it is shown.
    Create(CreateArguments),
    /// Lists keys, the oldest first: id, scopes, state and name of each.
    List(ListArguments),
    /// Revokes keys: within a second they are good for nothing.
    Revoke(RevokeArguments),
}

#[derive(Args)]
struct CreateArguments {
    /// What it is for, to know it by.
    name: String,
    /// What it may do; may be given several times.
    #[arg(long, required = true)]
    scope: Vec<Scope>,
    /// When it ends, as in RFC 3339: 2030-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    #[value(name = "media:read")]
    MediaRead,
    #[value(name = "media:write")]
    MediaWrite,
    #[value(name = "delivery:write")]
    DeliveryWrite,
    #[value(name = "admin")]
    Admin,
}

#[derive(Args)]
struct ListArguments {
    /// All that is known, one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Args)]
struct RevokeArguments {
    /// Their ids.
    #[arg(required = true, value_name = "ID")]
    keys: Vec<String>,
    #[command(flatten)]
    api: ApiArguments,
}

/// Runs the command.
pub fn run(arguments: &KeysArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.command {
        KeysCommand::Create(arguments) => runtime.block_on(create(arguments)),
        KeysCommand::List(arguments) => runtime.block_on(list(arguments)),
        KeysCommand::Revoke(arguments) => runtime.block_on(revoke(arguments)),
    }
}

async fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Made {
        key: String,
    }
    let scopes = arguments.scope.iter().filter_map(|scope| Some(scope.to_possible_value()?.get_name().to_owned()));
    let mut order = json!({ "name": arguments.name, "scopes": scopes.collect::<Vec<_>>() });
    if let Some(end) = &arguments.expires_at {
        order["expires_at"] = end.as_str().into();
    }
    let api = Api::of(&arguments.api)?;
    let made: Made = api.post("/v1/api-keys", &order, &random_word()?).await?.json()?;
    println!("{}", printable(&made.key));
    Ok(())
}

async fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let api = Api::of(&arguments.api)?;
    let mut cursor = None::<String>;
    loop {
        let query = Query::default().with("limit", Some("100")).with("cursor", cursor.as_deref());
        let page: Page<Value> = api.get(&format!("/v1/api-keys{}", query.as_str())).await?.json()?;
        for key in &page.items {
            println!("{}", if arguments.json { key.to_string() } else { line(key) });
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

fn line(key: &Value) -> String {
    let text = |name: &str| printable(key[name].as_str().unwrap_or_default());
    let scopes: Vec<_> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let state = match (key["revoked_at"].is_string(), key["expires_at"].as_str()) {
        (true, _) => "revoked".to_owned(),
        (false, Some(end)) => format!("until {}", printable(end)),
        (false, None) => "in use".to_owned(),
    };
    format!("{}  {}…  {}  {state}  {}", text("id"), text("prefix"), printable(&scopes.join(",")), text("name"))
}

async fn revoke(arguments: &RevokeArguments) -> anyhow::Result<()> {
    let api = Api::of(&arguments.api)?;
    let mut failed = 0;
    for id in &arguments.keys {
        match api.delete(&format!("/v1/api-keys/{}", encoded(id, ""))).await {
            Ok(_) => println!("{}: revoked", printable(id)),
            Err(error) => {
                failed += 1;
                println!("{}: {error:#}", printable(id));
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} keys were not revoked", arguments.keys.len());
    Ok(())
}
