//! Runs the programs that do one thing again and again and print what it took as JSON.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::process::Command;

/// Longest time for one run.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Seconds for one time.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// User and system time.
    pub cpu: f64,
}

#[derive(Deserialize)]
struct Printed {
    count: f64,
    cpu_seconds: f64,
}

/// Runs `command` to its end and reads what it printed.
///
/// # Errors
/// When it fails or does not end.
pub async fn measured(command: &mut Command) -> anyhow::Result<Took> {
    let (stdout, _) = output(command).await?;
    let printed: Printed = serde_json::from_slice(&stdout).context("what a program printed cannot be read")?;
    Ok(Took { cpu: printed.cpu_seconds / printed.count })
}

/// Runs `command` to its end; what it wrote to standard output and standard error.
///
/// # Errors
/// When it fails or does not end.
pub async fn output(command: &mut Command) -> anyhow::Result<(Vec<u8>, String)> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = tokio::time::timeout(TIME_LIMIT, command.output())
        .await
        .with_context(|| format!("{name} does not end"))?
        .with_context(|| format!("{name} cannot be started"))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{name} failed: {complaint}");
    Ok((output.stdout, complaint))
}
