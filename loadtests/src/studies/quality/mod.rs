//! Qualities: which numbers of which encoder look alike, and how our defaults compare with another server's.

mod alike;
mod peers;

use super::Desk;
use crate::gallery;

/// The formats that have a quality, as URLs name them.
const FORMATS: [&str; 4] = ["jpeg", "webp", "avif", "jxl"];

/// The report.
///
/// # Errors
/// When a picture cannot be made, encoded or scored.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    let stills = desk.stills()?;
    Ok(gallery::describe(&stills) + &alike::study(desk, &stills)? + &peers::study(desk).await?)
}
