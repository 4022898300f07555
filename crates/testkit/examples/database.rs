//! Runs a command with `DATABASE_URL` set to an empty database that has all tables.
//!
//! `script/queries` checks statements with it:  cargo run -p testkit --example database -- COMMAND [ARGUMENT…]

use std::process::ExitCode;

use anyhow::Context;
use testkit::database::TestDatabase;
use tokio::process::Command;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("what is to be run?")?;
    let database = TestDatabase::new().await;
    let status = Command::new(program).args(words).env("DATABASE_URL", database.superuser_url()).status().await?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
