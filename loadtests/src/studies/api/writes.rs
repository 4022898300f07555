//! Uploads: what one client waits, and the memory that several take at once.

use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Method;
use testkit::http::Request;
use testkit::images;

use super::service::{Service, ask, request};
use crate::memory;
use crate::report::{Goal, Row, Unit};

/// Uploads at once while memory is looked at.
const AT_ONCE: usize = 8;

const BOUNDARY: &str = "----of-a-study";

const MIB: f64 = 1024.0 * 1024.0;

/// All of them, so many times each.
///
/// # Errors
/// When an upload is refused.
pub async fn measure(service: &Service, times: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (small, large) = (file(5_000_000), file(50_000_000));
    // The first one makes folders.
    upload(service, &small, 0).await?;
    let mut waits = Vec::new();
    for number in 0..times {
        waits.push(upload(service, &small, number).await?);
    }
    rows.push(Row::percentile("upload of 5 MB, p50", Unit::Milliseconds, 50, waits.clone())?);
    let row = Row::percentile("upload of 5 MB, p95", Unit::Milliseconds, 95, waits)?;
    rows.push(row.with_goal(Goal::Below(150.0)));
    let mut growth = Vec::new();
    for _ in 0..3 {
        memory::forget_peak(service.id)?;
        let before = memory::resident_bytes(service.id)?;
        let all: Vec<_> = (0..AT_ONCE).map(|number| upload(service, &small, number)).collect();
        try_join_all(all).await?;
        let peak = memory::peak_bytes(service.id)?;
        growth.push(peak.saturating_sub(before) as f64 / AT_ONCE as f64 / MIB);
    }
    let what = format!("memory for each of {AT_ONCE} uploads of 5 MB at once, MiB");
    rows.push(Row::worst(what, Unit::Points, Goal::Below(16.0), growth)?);
    let mut waits = Vec::new();
    for number in 0..times / 3 {
        waits.push(upload(service, &large, number).await?);
    }
    let row = Row::percentile("upload of 50 MB, p95", Unit::Milliseconds, 95, waits)?;
    rows.push(row.with_goal(Goal::Below(1000.0)));
    Ok(rows)
}

/// A picture, and after it what no header tells of.
fn file(bytes: usize) -> Bytes {
    let mut file = images::png::rgb(&images::photo(64, 64), &images::png::Extras::default());
    let mut state = 1_u32;
    while file.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        file.extend_from_slice(&state.to_le_bytes());
    }
    file.truncate(bytes);
    file.into()
}

/// A form with a file, and with a public id if one is given.
pub fn form(file: &[u8], public_id: Option<&str>) -> Vec<u8> {
    let mut form = Vec::with_capacity(file.len() + 1000);
    if let Some(id) = public_id {
        let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"public_id\"\r\n\r\n{id}\r\n");
        form.extend_from_slice(part.as_bytes());
    }
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n");
    form.extend_from_slice(head.as_bytes());
    form.extend_from_slice(file);
    form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    form
}

/// A request that sends a form.
pub fn sending(method: Method, target: impl Into<String>, tenant: usize, form: impl Into<Bytes>) -> Request {
    let request = request(method, target, tenant).body(form);
    request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
}

/// Milliseconds until an upload was answered.
async fn upload(service: &Service, file: &[u8], tenant: usize) -> anyhow::Result<f64> {
    let request = sending(Method::POST, "/v1/media", tenant, form(file, None));
    let mut connection = service.connect().await?;
    let started = Instant::now();
    ask(&mut connection, &request).await.context("an upload")?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
