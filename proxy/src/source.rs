//! What originals are read from: an object store or a web server, with one face for both.
//!
//! Must not decide who may read what, nor what is kept of it. Guarding the network is the business of `fetch`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use fetch::{CacheTags, FetchError, Fetcher, Freshness, Url};
use futures_util::Stream;
use storage::{ByteRange, ObjectBody, ObjectMeta, ObjectPath, ObjectStore, ServedRange, StorageError, Validators};
use tenancy::HttpOrigin;
use thiserror::Error;

use crate::uploads::TenantUploads;

/// Where originals are read from. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder or a bucket.
    Objects(ObjectStore),
    /// A tenant's uploads, by their public ids.
    Uploads(TenantUploads),
    /// A web server, or all that a tenant's URLs may lead to.
    Web(WebSource),
}

/// A guarded client, and the base URL of an origin.
#[derive(Debug, Clone)]
pub struct WebSource {
    /// The client; its rule is that of the policy.
    pub fetcher: Fetcher,
    /// Whose paths are asked for; `None` where sources are whole URLs.
    pub base: Option<Arc<HttpOrigin>>,
}

/// Which original.
#[derive(Debug, Clone)]
pub enum SourcePath {
    /// A path in an origin.
    Object(ObjectPath),
    /// A whole URL.
    Url(Box<Url>),
}

impl SourcePath {
    /// The path or URL as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Object(path) => path.as_str(),
            Self::Url(url) => url.as_str(),
        }
    }
}

/// How to read an original.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Only these bytes; whoever cannot serve ranges answers with all of them.
    pub range: Option<ByteRange>,
    /// Only if it differs from this.
    pub if_changed: Option<Validators>,
    /// Largest body in bytes that is of use.
    pub bytes_max: u64,
    /// When the body must have come, if a web server sends it.
    pub deadline: Option<Instant>,
}

impl Ask {
    /// For all of it.
    pub fn new(bytes_max: u64) -> Self {
        Self { range: None, if_changed: None, bytes_max, deadline: None }
    }

    fn for_web(&self) -> fetch::GetOptions {
        let range = self.range.map(|range| match range {
            ByteRange::From(first) => fetch::Range::From(first),
            ByteRange::Span(first, last) => fetch::Range::Span(first, last),
            ByteRange::Last(count) => fetch::Range::Last(count),
        });
        let if_changed = self.if_changed.clone();
        let if_changed =
            if_changed.map(|ours| fetch::Validators { etag: ours.etag, last_modified: ours.last_modified });
        fetch::GetOptions { bytes_max: self.bytes_max, range, if_changed, deadline: self.deadline }
    }
}

/// What is known of an original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMeta {
    /// Size of the whole in bytes; `None` = it shows at the end.
    pub size: Option<u64>,
    /// Its type: a claim.
    pub content_type: Option<String>,
    /// Entity tag as HTTP writes it.
    pub etag: Option<String>,
    /// When it was last written.
    pub last_modified: Option<SystemTime>,
    /// How long its server lets it be kept. Stores say nothing of it.
    pub freshness: Freshness,
    /// What its server wants it to be purged by; `None` if it says nothing.
    pub tags: Option<CacheTags>,
}

/// That an original did not change, and what its source says of it now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotModified {
    /// How long that may be relied on.
    pub freshness: Freshness,
    /// Its tags, if they are told again.
    pub tags: Option<CacheTags>,
}

impl SourceMeta {
    /// What to ask with next time.
    pub fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), last_modified: self.last_modified }
    }
}

impl From<ObjectMeta> for SourceMeta {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            size: Some(meta.size),
            content_type: meta.content_type,
            etag: meta.etag,
            last_modified: meta.last_modified,
            freshness: Freshness::default(),
            tags: None,
        }
    }
}

impl From<fetch::Meta> for SourceMeta {
    fn from(meta: fetch::Meta) -> Self {
        Self {
            size: meta.size,
            content_type: meta.content_type,
            etag: meta.etag,
            last_modified: meta.last_modified,
            freshness: meta.freshness,
            tags: meta.tags,
        }
    }
}

/// An original, or a range of one, on its way.
pub struct SourceObject {
    /// What is known of the whole.
    pub meta: SourceMeta,
    /// The bytes that `body` holds; `None` = all of them.
    pub range: Option<ServedRange>,
    /// The bytes.
    pub body: SourceBody,
}

/// The bytes of an original as a stream. One that was cut short ends with an error.
pub enum SourceBody {
    /// From a store.
    Object(ObjectBody),
    /// From a web server.
    Web(Box<fetch::Body>),
}

impl SourceBody {
    /// Gathers it in one buffer.
    ///
    /// # Errors
    /// Whatever ends the stream, and a body over `limit_bytes`.
    pub async fn collect(self, limit_bytes: u64) -> Result<Bytes, SourceError> {
        match self {
            Self::Object(body) => Ok(body.collect(limit_bytes).await?),
            // Its limit was given when it was asked for.
            Self::Web(body) => Ok(body.collect().await?),
        }
    }
}

impl Stream for SourceBody {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::Object(body) => Pin::new(body).poll_next(cx).map_err(Into::into),
            Self::Web(body) => Pin::new(body).poll_next(cx).map_err(Into::into),
        }
    }
}

/// Why an original cannot be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A store's reason.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// The guarded client's reason.
    #[error(transparent)]
    Web(#[from] FetchError),
    /// An upload is the one that was asked with.
    #[error("the upload has not changed")]
    Unchanged(NotModified),
}

impl SourceError {
    /// More bytes than are of use.
    pub fn too_large(limit: u64) -> Self {
        StorageError::TooLarge { limit }.into()
    }

    /// What the source says of the original, if it says that nothing changed.
    pub fn not_modified(&self) -> Option<NotModified> {
        match self {
            Self::Store(StorageError::NotModified) => Some(NotModified::default()),
            Self::Unchanged(unchanged) => Some(unchanged.clone()),
            Self::Web(FetchError::NotModified(meta)) => {
                Some(NotModified { freshness: meta.freshness, tags: meta.tags.clone() })
            }
            _ => None,
        }
    }

    /// True when there is no such original.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StorageError::NotFound),
            Self::Web(error) => matches!(error, FetchError::Status(status) if [404, 410].contains(&status.as_u16())),
            Self::Unchanged(_) => false,
        }
    }

    /// The size of the whole, if a range lies outside of it.
    pub fn unsatisfied_size(&self) -> Option<u64> {
        match self {
            Self::Store(StorageError::RangeNotSatisfiable { size }) => Some(*size),
            Self::Web(FetchError::RangeNotSatisfiable { size }) => *size,
            _ => None,
        }
    }
}

impl Source {
    /// False for a folder of this machine.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Objects(store) => !matches!(store, ObjectStore::Folder(_)),
            Self::Uploads(uploads) => uploads.is_remote(),
            Self::Web(_) => true,
        }
    }

    /// Opens an original for reading. When this returns, what is known of it is there and the body waits to be read.
    ///
    /// # Errors
    /// Those of the store or the client; "not modified" and "range not satisfiable" only if asked for.
    pub async fn get(&self, path: &SourcePath, ask: &Ask) -> Result<SourceObject, SourceError> {
        match (self, path) {
            (Self::Objects(store), SourcePath::Object(path)) => {
                let options = storage::GetOptions { range: ask.range, if_changed: ask.if_changed.clone() };
                let object = store.get(path, options).await?;
                Ok(SourceObject {
                    meta: object.meta.into(),
                    range: object.range,
                    body: SourceBody::Object(object.body),
                })
            }
            (Self::Uploads(uploads), SourcePath::Object(path)) => {
                let (meta, range, body) = uploads.get(path.as_str(), ask).await?;
                Ok(SourceObject { meta, range, body: SourceBody::Object(body) })
            }
            (Self::Objects(_) | Self::Uploads(_), SourcePath::Url(_)) => Err(cannot_fetch()),
            (Self::Web(web), path) => {
                let response = web.fetcher.get(&*web.url(path)?, &ask.for_web()).await?;
                let range = response.range.map(|range| ServedRange { first: range.first, last: range.last });
                let body = SourceBody::Web(Box::new(response.body));
                Ok(SourceObject { meta: response.meta.into(), range, body })
            }
        }
    }

    /// What is known of an original, without its bytes.
    ///
    /// # Errors
    /// Those of the store or the client.
    pub async fn head(&self, path: &SourcePath, ask: &Ask) -> Result<SourceMeta, SourceError> {
        match (self, path) {
            (Self::Objects(store), SourcePath::Object(path)) => Ok(store.head(path).await?.into()),
            (Self::Uploads(uploads), SourcePath::Object(path)) => Ok(uploads.head(path.as_str()).await?),
            (Self::Objects(_) | Self::Uploads(_), SourcePath::Url(_)) => Err(cannot_fetch()),
            (Self::Web(web), path) => Ok(web.fetcher.head(&*web.url(path)?, &ask.for_web()).await?.into()),
        }
    }
}

impl WebSource {
    fn url<'a>(&self, path: &'a SourcePath) -> Result<std::borrow::Cow<'a, Url>, SourceError> {
        use std::borrow::Cow;
        match (path, &self.base) {
            (SourcePath::Url(url), _) => Ok(Cow::Borrowed(url)),
            (SourcePath::Object(path), Some(base)) => Ok(Cow::Owned(base.url_of(path.as_str()))),
            (SourcePath::Object(_), None) => Err(cannot_fetch()),
        }
    }
}

/// The decision never pairs them so.
fn cannot_fetch() -> SourceError {
    StorageError::Unsupported { what: "read such a source" }.into()
}
