//! Runs wrk, the client of the hit figure: it is cheap enough to fill a server's core from another one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

/// Connections that are kept alive and always busy.
pub const CONNECTIONS: u32 = 32;

/// What wrk saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered {
    /// Requests answered with 2xx or 3xx.
    pub requests: u64,
    /// Requests per second.
    pub per_second: f64,
}

/// Asks for `target` as often as the server answers, for so many whole seconds.
///
/// # Errors
/// When wrk fails, or a single answer was missing or not a 2xx or 3xx.
pub async fn run(wrk: &Path, server: SocketAddr, target: &str, seconds: u64) -> anyhow::Result<Answered> {
    let mut command = Command::new(wrk);
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), &format!("http://{server}{target}")]);
    let finished = tokio::time::timeout(Duration::from_secs(seconds + 30), command.kill_on_drop(true).output());
    let output = finished.await.context("wrk does not end")?.context("wrk cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {}{text}", String::from_utf8_lossy(&output.stderr));
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Answered> {
    let (mut requests, mut per_second) = (None, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with("Socket errors:") || line.starts_with("Non-2xx or 3xx responses:") {
            bail!("wrk saw failures: {line}");
        }
        if let Some(at) = line.find(" requests in ") {
            requests = line[..at].parse().ok();
        }
        if let Some(rate) = line.strip_prefix("Requests/sec:") {
            per_second = rate.trim().parse().ok();
        }
    }
    match (requests, per_second) {
        (Some(requests), Some(per_second)) if requests > 0 => Ok(Answered { requests, per_second }),
        _ => bail!("wrk's report cannot be read: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 4s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n\
        \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   421.06us  103.31us   3.26ms   84.91%\n\
        \x20 300521 requests in 4.10s, 14.4GB read\nRequests/sec:  73299.91\nTransfer/sec:      3.5GB\n";

    #[test]
    fn the_report_is_read() {
        let answered = parse(REPORT).expect("is a report");
        assert_eq!(answered, Answered { requests: 300_521, per_second: 73_299.91 });
    }

    #[test]
    fn one_failed_answer_spoils_the_round() {
        for line in ["  Non-2xx or 3xx responses: 1\n", "  Socket errors: connect 0, read 1, write 0, timeout 0\n"] {
            let error = parse(&format!("{REPORT}{line}")).expect_err("has failures");
            assert!(error.to_string().contains("failures"), "{error}");
        }
        assert!(parse("unable to connect").is_err());
    }
}
