//! `calotype usage`: what the tenant has used.

use clap::{Args, ValueEnum};

use crate::api::{Api, ApiArguments, KEY_HELP, Query};

/// Arguments of `calotype usage`.
#[derive(Args)]
#[command(after_help = KEY_HELP)]
pub struct UsageArguments {
    /// The first day, such as 2026-11-01; without it the API's default.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// A row for each day, or for each month.
    #[arg(long)]
    by: Option<By>,
    /// JSON, with the sums; else it is CSV.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Day,
    Month,
}

/// Runs the command.
pub fn run(arguments: &UsageArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let by = arguments.by.and_then(|by| Some(by.to_possible_value()?.get_name().to_owned()));
        let query = Query::default()
            .with("from", arguments.from.as_deref())
            .with("to", arguments.to.as_deref())
            .with("by", by.as_deref());
        let api = Api::of(&arguments.api)?;
        let path = format!("/v1/usage{}", query.as_str());
        if arguments.json {
            let usage: serde_json::Value = api.get(&path).await?.json()?;
            println!("{usage:#}");
        } else {
            let answer = api.get_as(&path, "text/csv").await?;
            answer.text()?.lines().for_each(|row| println!("{}", crate::client::printable(row)));
        }
        Ok(())
    })
}
