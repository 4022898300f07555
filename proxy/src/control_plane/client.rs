//! What the control plane is asked, over HTTP.
//!
//! Must not know what is made of the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fetch::{FetchConfig, FetchError, FetchLimits, Fetcher, GetOptions, HeaderMap, PostOptions, PrivateHosts, Url};
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use tenancy::TenantId;
use tenancy::feed::{FeedAnswer, Snapshot};
use tenancy::usage::UsageReport;
use thiserror::Error;
use traces::{Incoming, Kind, Span};

use super::journal::Position;

/// How long the control plane may wait until it has something to tell.
const WAIT: Duration = Duration::from_secs(25);

/// Time for its answer beyond that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for a page of a snapshot.
const PAGE_LIMIT: Duration = Duration::from_secs(120);

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It cannot be reached, or refuses.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What it says cannot be read.
    #[error("its answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    /// It does not say anything.
    #[error("it does not answer in time")]
    Late,
}

/// A client of one control plane.
pub struct Client {
    base: Url,
    fetcher: Fetcher,
}

impl Client {
    /// A client that is known by `token`.
    ///
    /// # Errors
    /// A token that no header can have.
    pub fn new(base: Url, token: &str) -> Result<Self, header::InvalidHeaderValue> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, authorization)]);
        let own = base.clone();
        let config = FetchConfig {
            ports: base.port_or_known_default().into_iter().collect(),
            // The operator's own word, unlike that of tenants.
            private: PrivateHosts::new(base.host_str()),
            headers,
            limits: FetchLimits { head_timeout: WAIT + PATIENCE, ..FetchLimits::default() },
            ..FetchConfig::new(Arc::new(move |url| url.origin() == own.origin()))
        };
        Ok(Self { base, fetcher: Fetcher::new(config) })
    }

    /// Changes after a position, as soon as there are some.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn feed(&self, position: Option<&Position>) -> Result<FeedAnswer, ClientError> {
        let mut url = self.url("internal/v1/feed");
        if let Some(Position { epoch, seq }) = position {
            url.query_pairs_mut()
                .append_pair("epoch", epoch)
                .append_pair("after", &seq.to_string())
                .append_pair("wait", &WAIT.as_secs().to_string());
        }
        traced("feed", self.get(url, WAIT + PATIENCE)).await
    }

    /// A page of all tenants: the first one, or that after `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn snapshot(&self, after: Option<&TenantId>) -> Result<Snapshot, ClientError> {
        let mut url = self.url("internal/v1/snapshot");
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after.as_str());
        }
        traced("snapshot", self.get(url, PAGE_LIMIT)).await
    }

    /// Reports usage. It is counted when this returns; after an error that is not known.
    ///
    /// # Errors
    /// [`ClientError::Fetch`].
    pub async fn report(&self, report: &UsageReport) -> Result<(), ClientError> {
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let deadline = Instant::now() + PATIENCE;
        let headers = HeaderMap::from_iter([json]);
        let options = PostOptions { headers, deadline, body_time: Duration::ZERO, answer_bytes_max: 0 };
        let body = Bytes::from(serde_json::to_vec(report)?);
        let url = self.url("internal/v1/usage");
        match traced("usage", self.fetcher.post(&url, body, &options)).await?.status {
            StatusCode::OK => Ok(()),
            status => Err(FetchError::Status(status).into()),
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: Url, limit: Duration) -> Result<T, ClientError> {
        let options = GetOptions { deadline: Some(Instant::now() + limit), ..GetOptions::new(ANSWER_BYTES_MAX) };
        let response = self.fetcher.get(&url, &options).await?;
        Ok(serde_json::from_slice(&response.body.collect().await?)?)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}

/// Begins a trace, which the control plane may go on with.
async fn traced<T>(name: &'static str, asking: impl Future<Output = T>) -> T {
    Span::begin(name, Kind::Internal, Incoming::Nothing).over(asking).await
}
