//! `--check-health`: asks the edge that runs with the same settings whether it is ready. For containers, whose images have no
//! other HTTP client.
//!
//! Must not start or change anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// Longest wait for the connection, and for each read and write after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks `admin` for `/readyz`.
///
/// # Errors
/// When nobody answers there, or the answer is not 200.
pub fn check(admin: SocketAddr) -> anyhow::Result<()> {
    let status = ask(admin).with_context(|| format!("no edge answers on admin_listen = {admin}"))?;
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("the edge on admin_listen = {admin} is not ready: {status}"),
    }
}

/// The status line.
fn ask(admin: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&admin, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection.
    connection.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.take(1024).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
