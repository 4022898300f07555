//! What the playground can show: pictures and presets of the open tenants.
//!
//! Must not read objects, only names. A store that fails or hangs costs its own list and nothing else.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;
use storage::{ListLimit, ObjectPath, ObjectPrefix, ObjectStore, StorageError};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use transform_url::OriginName;

use crate::origins::OpenOrigin;
use crate::source::Source;
use crate::tenants::{ActivePolicy, ActiveTenant};

/// For the whole list, all origins together.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Pictures of one origin; more make no better page.
const PICTURES_MAX: usize = 200;

/// Pages of an origin's objects that are looked through for them.
const PAGES_MAX: usize = 5;

/// Origins that are listed; those of further tenants are left out.
const ORIGINS_MAX: usize = 100;

/// Origins that are listed at the same time.
const AT_A_TIME: usize = 8;

/// Names of pictures end so. Only names are looked at: what a file is shows when the edge reads it.
const EXTENSIONS: [&str; 12] =
    ["avif", "gif", "heic", "heif", "jpeg", "jpg", "jxl", "png", "svg", "tif", "tiff", "webp"];

/// One open tenant.
#[derive(Debug, Serialize)]
pub struct TenantPictures {
    name: String,
    presets: Vec<String>,
    origins: Vec<OriginPictures>,
}

/// One origin of a tenant.
#[derive(Debug, Serialize)]
struct OriginPictures {
    name: String,
    /// Sources as they are written in a URL.
    pictures: Vec<String>,
    /// There are more than are listed.
    more: bool,
    /// Why there are none. The store's own words are for the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
}

/// Everything that can be picked under this policy, in the order of the names.
pub async fn list(active: &Arc<ActivePolicy>, io: &Handle) -> Vec<TenantPictures> {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut tenants: Vec<&Arc<ActiveTenant>> = active.tenants().filter(|active| active.tenant.open).collect();
    tenants.sort_unstable_by_key(|active| active.tenant.slug.as_str());
    let mut wanted = Vec::new();
    let mut found = Vec::with_capacity(tenants.len());
    for (at, active) in tenants.into_iter().enumerate() {
        let tenant = &active.tenant;
        let mut names: Vec<&OriginName> = tenant.origins.keys().collect();
        names.sort_unstable();
        names.truncate(ORIGINS_MAX - wanted.len());
        for name in names {
            wanted.extend(active.origins.get(tenant, name).map(|open| (at, name.clone(), open)));
        }
        let mut presets: Vec<String> = tenant.presets.keys().map(ToString::to_string).collect();
        presets.sort_unstable();
        found.push(TenantPictures { name: tenant.slug.to_string(), presets, origins: Vec::new() });
    }
    let listings = wanted.into_iter().map(|(at, name, origin)| async move {
        let listed = list_origin(&name, &origin, io, deadline).await;
        if let Err(reason) = &listed {
            tracing::warn!(origin = %name, reason, "the playground cannot list an origin");
        }
        (at, answer(&name, listed))
    });
    let mut listings = stream::iter(listings).buffered(AT_A_TIME);
    while let Some((at, pictures)) = listings.next().await {
        found[at].origins.push(pictures);
    }
    found
}

fn answer(name: &OriginName, listed: Result<(Vec<String>, bool), String>) -> OriginPictures {
    let problem = listed.is_err().then_some("cannot be listed");
    let (pictures, more) = listed.unwrap_or_default();
    OriginPictures { name: name.to_string(), pictures, more, problem }
}

/// The pictures of an origin and whether there are more, or the reason for the log.
async fn list_origin(
    name: &OriginName,
    origin: &OpenOrigin,
    io: &Handle,
    deadline: Instant,
) -> Result<(Vec<String>, bool), String> {
    // What a web server has, nobody can list.
    let Source::Objects(store) = origin.store.clone()? else { return Ok((Vec::new(), false)) };
    let too_late = |_| format!("not listed within {TIME_LIMIT:?}");
    let permit = timeout_at(deadline, Arc::clone(&origin.listing).acquire_owned()).await.map_err(too_late)?;
    let name = name.clone();
    // Goes on when nobody waits any more: only so does the permit tell that a thread is still in the store's hands.
    let listing = io.spawn(async move {
        let pictures = pictures_of(&store, &name).await;
        drop(permit);
        pictures
    });
    let listed = timeout_at(deadline, listing).await.map_err(too_late)?;
    listed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn pictures_of(store: &ObjectStore, origin: &OriginName) -> Result<(Vec<String>, bool), StorageError> {
    let mut pictures = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let page = store.list(&ObjectPrefix::all(), after.as_ref(), ListLimit::MAX).await?;
        for entry in page.entries.iter().filter(|entry| is_picture(&entry.path)) {
            if pictures.len() == PICTURES_MAX {
                return Ok((pictures, true));
            }
            let source = transform_url::Source::Origin { origin: origin.clone(), path: entry.path.as_str().to_owned() };
            pictures.push(source.to_string());
        }
        after = page.next;
        if after.is_none() {
            return Ok((pictures, false));
        }
    }
    Ok((pictures, true))
}

/// By the ending, and without characters that a URL must not hold.
fn is_picture(path: &ObjectPath) -> bool {
    let path = path.as_str();
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known)) && !path.bytes().any(|b| b.is_ascii_control())
}
