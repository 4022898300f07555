//! The tools: what each takes, what it answers, and whether it changes anything.
//!
//! What goes wrong is an answer of the tool and no error of the protocol, so that the assistant reads it and can do better.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::schemars::{self, JsonSchema};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;
use transform_url::table::TABLE;

use super::delivery::{Delivery, Place, path_of, path_of_source};
use super::medium::{Job, MediaPage, Medium};
use crate::api::{Api, Query, encoded};
use crate::credentials::random_word;
use crate::media::{Page, find};

/// Tools that work at the same time; others wait.
const AT_ONCE: usize = 8;

/// Media of a page, unless the assistant says: what is long is read by nobody.
const ITEMS: u32 = 20;

/// Most media of a page.
const ITEMS_MAX: u32 = 50;

/// How long an upload is waited for, unless the assistant says, and at most, in seconds.
const WAIT_SECONDS: u64 = 20;
const WAIT_SECONDS_MAX: u64 = 60;

/// Time between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The tools of one tenant.
#[derive(Clone)]
pub struct Tools(Arc<Shared>);

struct Shared {
    api: Api,
    delivery: Delivery,
    places: Semaphore,
}

/// Which media are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListMedia {
    /// Those in this folder only, such as "summer/2026"; an empty text is the top.
    folder: Option<String>,
    /// Those with this tag only.
    tag: Option<String>,
    /// Those of this kind only.
    kind: Option<Kind>,
    /// Those whose public id begins so.
    public_id_prefix: Option<String>,
    /// How many, 1 to 50; 20 if not said.
    #[schemars(range(min = 1, max = 50))]
    limit: Option<u32>,
    /// The next_cursor of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Image,
    Video,
    Audio,
    Document,
    File,
}

/// Which medium is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetMedia {
    /// Its id or its public id.
    medium: String,
}

/// What is to be taken in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UploadFromUrl {
    /// Where it is: a public http or https URL.
    url: String,
    /// Its name in URLs; without it one is made up.
    public_id: Option<String>,
    /// The folder that it is put into.
    folder: Option<String>,
    /// Its tags.
    #[serde(default)]
    tags: Vec<String>,
    /// What else is said of it.
    metadata: Option<Map<String, Value>>,
    /// How long to wait for it, 0 to 60; 20 if not said.
    #[schemars(range(min = 0, max = 60))]
    wait_seconds: Option<u64>,
}

/// What became of an upload.
#[derive(Debug, Serialize, JsonSchema)]
struct Uploaded {
    /// done, or where the work still is: queued, delayed or running.
    state: String,
    /// The medium's id; get_media finds it by this once it is there.
    id: String,
    /// The medium, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    medium: Option<Medium>,
    /// Why it is not served, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_served: Option<String>,
}

/// Which rendition is wanted. Either public_id or source is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeliveryUrl {
    /// Of an upload: its public id, as it is, not encoded.
    public_id: Option<String>,
    /// Of something else, as it stands in URLs: "@origin/path.jpg", or a whole URL that the tenant allows.
    source: Option<String>,
    /// What is done to it, such as "w=800,h=600,fit=cover,f=auto"; "-" is the original as it is. f=auto if not said.
    ops: Option<String>,
    /// Seconds from now until the URL is refused; needs a signing key.
    expires_in_seconds: Option<u64>,
}

/// A delivery URL.
#[derive(Debug, Serialize, JsonSchema)]
struct DeliveryUrlMade {
    /// The URL.
    url: String,
    /// Whether it is signed. What is not signed is refused if the tenant's policy wants signatures.
    signed: bool,
    /// What is done to the original, in the canonical form; absent for the original itself and for presets.
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical: Option<String>,
    /// Why nothing is served under the URL yet, or any more, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_served: Option<String>,
}

/// What is taken back: exactly one of them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Purge {
    /// The path of one delivery URL, such as "/shop/w=400/beach", in every format.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Everything made of, or with, a source: a public id, or "@origin/path.jpg".
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Everything with this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// true: everything of the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
}

/// A purge that edges are told of, within moments.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Purged {
    /// The purge's id.
    id: String,
}

/// An error with all its causes, in words.
fn told(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[tool_router]
impl Tools {
    /// For a tenant of the API, with what makes its URLs.
    pub fn new(api: Api, delivery: Delivery) -> Self {
        Self(Arc::new(Shared { api, delivery, places: Semaphore::new(AT_ONCE) }))
    }

    /// Lists uploaded media, the newest first: all, or those in a folder, with a tag, of a kind, or whose public id begins with a
    /// text.
    #[tool(annotations(
        title = "List media",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn list_media(&self, Parameters(wanted): Parameters<ListMedia>) -> Result<Json<MediaPage>, String> {
        let limit = wanted.limit.unwrap_or(ITEMS);
        if !(1..=ITEMS_MAX).contains(&limit) {
            return Err(format!("limit is 1 to {ITEMS_MAX}"));
        }
        let kind = wanted.kind.and_then(|kind| serde_json::to_value(kind).ok());
        let query = Query::default()
            .with("folder", wanted.folder.as_deref())
            .with("tag", wanted.tag.as_deref())
            .with("kind", kind.as_ref().and_then(Value::as_str))
            .with("public_id_prefix", wanted.public_id_prefix.as_deref())
            .with("limit", Some(&limit.to_string()))
            .with("cursor", wanted.cursor.as_deref());
        let _place = self.place().await;
        let answer = self.0.api.get(&format!("/v1/media{}", query.as_str())).await.map_err(told)?;
        let Page { items, next_cursor } = answer.json().map_err(told)?;
        Ok(Json(MediaPage { items, next_cursor }))
    }

    /// Tells all that is known of one medium: size, pixels, tags, metadata, where it is delivered.
    #[tool(annotations(
        title = "Get a medium",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn get_media(&self, Parameters(wanted): Parameters<GetMedia>) -> Result<Json<Medium>, String> {
        let _place = self.place().await;
        self.medium(&wanted.medium).await.map(Json).map_err(told)
    }

    /// Takes in what is at a public URL as a new medium, and waits for it for a while. Refused if there is one of that public id.
    #[tool(annotations(
        title = "Upload from a URL",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn upload_from_url(&self, Parameters(wanted): Parameters<UploadFromUrl>) -> Result<Json<Uploaded>, String> {
        let wait = wanted.wait_seconds.unwrap_or(WAIT_SECONDS);
        if wait > WAIT_SECONDS_MAX {
            return Err(format!("wait_seconds is 0 to {WAIT_SECONDS_MAX}"));
        }
        let _place = self.place().await;
        self.upload(&wanted, Duration::from_secs(wait)).await.map(Json).map_err(told)
    }

    /// Makes the URL under which a rendition of a medium is delivered: resized, cropped, in another format. Nothing is rendered until
    /// somebody asks for the URL. Signed if there is a key. The server's instructions list all ops.
    #[tool(annotations(
        title = "Get a delivery URL",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn delivery_url(&self, Parameters(wanted): Parameters<DeliveryUrl>) -> Result<Json<DeliveryUrlMade>, String> {
        let _place = self.place().await;
        self.url(&wanted).await.map(Json).map_err(told)
    }

    /// Takes renditions back from every cache, so that they are made anew when they are next asked for. Originals stay. Exactly one of
    /// url, source, tag and all is given.
    #[tool(annotations(
        title = "Purge caches",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn purge(&self, Parameters(what): Parameters<Purge>) -> Result<Json<Purged>, String> {
        let _place = self.place().await;
        let purge = async { self.0.api.post("/v1/purge", &what, &random_word()?).await?.json() };
        purge.await.map(Json).map_err(told)
    }
}

impl Tools {
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.places.acquire().await.ok()
    }

    async fn medium(&self, name: &str) -> anyhow::Result<Medium> {
        find(&self.0.api, name).await?.json()
    }

    async fn upload(&self, wanted: &UploadFromUrl, wait: Duration) -> anyhow::Result<Uploaded> {
        let mut order = json!({ "url": wanted.url, "tags": wanted.tags });
        let texts = [("public_id", &wanted.public_id), ("folder", &wanted.folder)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))) {
            order[name] = text.into();
        }
        if let Some(metadata) = &wanted.metadata {
            order["metadata"] = metadata.clone().into();
        }
        let mut job: Job = self.0.api.post("/v1/media/fetch", &order, &random_word()?).await?.json()?;
        let asked = Instant::now();
        while !job.is_over() && asked.elapsed() < wait {
            sleep(LOOK_EVERY).await;
            job = self.0.api.get(&format!("/v1/jobs/{}", encoded(&job.id, ""))).await?.json()?;
        }
        let Job { id, state, error } = job;
        match state.as_str() {
            "done" => {
                let medium = self.medium(&id).await?;
                Ok(Uploaded { not_served: medium.why_not_served(), medium: Some(medium), state, id })
            }
            "failed" | "cancelled" => anyhow::bail!("the upload has {state}: {}", error.unwrap_or_default()),
            _ => Ok(Uploaded { state, id, medium: None, not_served: None }),
        }
    }

    async fn url(&self, wanted: &DeliveryUrl) -> anyhow::Result<DeliveryUrlMade> {
        let (place, source, not_served) = match (&wanted.public_id, &wanted.source) {
            (Some(public_id), None) => {
                let source = path_of(public_id)?;
                // It tells whether there is one, and where it is delivered.
                let path = format!("/v1/media/by-public-id/{}", encoded(public_id, "/"));
                let medium: Medium = self.0.api.get(&path).await?.json()?;
                (Place::of_medium(&medium.url, &medium.public_id)?, source, medium.why_not_served())
            }
            (None, Some(source)) => (self.0.delivery.place()?, path_of_source(source)?.to_owned(), None),
            _ => anyhow::bail!("give either public_id or source"),
        };
        let ops = wanted.ops.as_deref().unwrap_or("f=auto");
        let made = self.0.delivery.url(&place, ops, &source, wanted.expires_in_seconds)?;
        Ok(DeliveryUrlMade { url: made.url, signed: made.is_signed, canonical: made.canonical, not_served })
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let about = Implementation::new("calotype", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(about)
            .with_instructions(instructions())
    }
}

/// What an assistant has to know of delivery URLs: all ops, out of the table that the edge reads them by.
fn instructions() -> String {
    let mut text = "Calotype keeps originals and makes renditions of them when they are asked for, by URL. Ops are name=value, with \
        commas between them, such as w=800,h=600,fit=cover,f=auto. All ops:\n"
        .to_owned();
    for spec in TABLE {
        let short = spec.short.map(|short| format!(" ({short})")).unwrap_or_default();
        let meaning = spec.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("- {}{short}: {} {meaning}\n", spec.name, (spec.allowed)()));
    }
    text
}
