//! Settings of an S3 store, and the client made from them.
//!
//! Must not read files or ask metadata services for credentials: they are given, or come from the environment where the
//! caller says so. Must not show a secret in any output.

use std::fmt;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use serde::{Deserialize, Serialize, Serializer};

use crate::ObjectPath;

/// Which bucket, where, as whom, and how patiently.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Objects are kept under this path of the bucket; `None` = at its root.
    pub prefix: Option<ObjectPath>,
    /// Base URL of the server (`https://minio.example:9000`); `None` = AWS.
    pub endpoint: Option<String>,
    /// Region of the bucket. Servers other than AWS mostly take any; `us-east-1` is the customary one.
    pub region: String,
    /// Whether the bucket is the first segment of the path rather than a part of the host name. `None` = yes if an
    /// endpoint is given: own servers seldom have a wildcard DNS name.
    pub path_style: Option<bool>,
    /// As whom.
    pub credentials: S3Credentials,
    /// How patiently.
    pub limits: S3Limits,
}

impl S3Config {
    /// A bucket of AWS in `us-east-1`, with default limits. Set the other fields as needed.
    #[must_use]
    pub fn new(bucket: impl Into<String>, credentials: S3Credentials) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: None,
            credentials,
            limits: S3Limits::default(),
        }
    }
}

/// Limits on the traffic with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S3Limits {
    /// For a connection, TLS included. More than 0; default 3 s.
    pub connect_timeout: Duration,
    /// For the head of an answer in each attempt, and for each pause within a body. More than 0; default 5 s. Attempts
    /// that send a body get a second more for every 64 KiB of it.
    pub read_timeout: Duration,
    /// How often a request is tried, the first time included. 1..=10; default 3. Only failures of the network and of
    /// the server are tried again, after a pause of 0 to 50 ms that doubles up to 1 s.
    pub attempts: u32,
    /// Size of the parts of an upload of unknown length.
    pub part_size: PartSize,
    /// Size of what the server copies in one go; what is larger it copies in parts of this size. Default 256 MiB.
    pub copy_size: PartSize,
}

impl Default for S3Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(5),
            attempts: 3,
            part_size: PartSize::default(),
            copy_size: PartSize(256 * 1024 * 1024),
        }
    }
}

/// Size of an upload part in bytes: 5 MiB..=5 GiB (the limits of S3), by default 8 MiB. Up to four parts of an upload
/// are in memory at once, and an upload has at most 10,000: with parts of 8 MiB no stream can be longer than 78 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartSize(u64);

impl PartSize {
    /// The smallest part that S3 takes, the last one of an upload apart.
    pub const MIN: Self = Self(5 * 1024 * 1024);
    /// The largest part that S3 takes.
    pub const MAX: Self = Self(5 * 1024 * 1024 * 1024);

    /// `None` outside the limits of S3.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&bytes).then_some(Self(bytes))
    }

    /// The size in bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Default for PartSize {
    fn default() -> Self {
        Self(8 * 1024 * 1024)
    }
}

/// Text that no output shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret in.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Defaults of settings are told, and what hides a secret is told in its place.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// As whom requests are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// Given outright.
    Static {
        /// Public name of the key.
        access_key_id: String,
        /// Secret of the key.
        secret_access_key: Secret,
        /// For temporary credentials.
        session_token: Option<Secret>,
    },
    /// From `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set, `AWS_SESSION_TOKEN`, read once when the store is
    /// made.
    Environment,
}

impl S3Credentials {
    /// A key without session.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, secret_access_key: Secret) -> Self {
        Self::Static { access_key_id: access_key_id.into(), secret_access_key, session_token: None }
    }
}

/// Which setting of an S3 store is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3ConfigError {
    /// The name of the bucket is empty, too long or has characters that no bucket has.
    #[error("`{bucket}` is not the name of a bucket")]
    Bucket {
        /// The name given.
        bucket: String,
    },
    /// The endpoint is not a base URL.
    #[error("the endpoint `{endpoint}` is not an http(s) URL without path, query and user")]
    Endpoint {
        /// The endpoint given.
        endpoint: String,
    },
    /// The region is empty or not in the characters of a host name.
    #[error("`{region}` is not a region")]
    Region {
        /// The region given.
        region: String,
    },
    /// A variable that holds a part of the credentials is unset, empty or not text.
    #[error("the environment variable {name} is not set")]
    MissingVariable {
        /// Its name.
        name: &'static str,
    },
    /// A limit outside its range.
    #[error("{name} is out of range")]
    Limit {
        /// Its name.
        name: &'static str,
    },
}

/// Makes the client. Connections are made when they are needed.
pub(super) fn client(config: &S3Config) -> Result<Client, S3ConfigError> {
    check(config)?;
    let limits = &config.limits;
    let mut builder = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(config.region.clone()))
        .credentials_provider(credentials(&config.credentials)?)
        .http_client(http_client(config.endpoint.as_deref()))
        .force_path_style(config.path_style.unwrap_or(config.endpoint.is_some()))
        .timeout_config(timeouts(limits, limits.read_timeout))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(limits.attempts)
                .with_initial_backoff(Duration::from_millis(50))
                .with_max_backoff(Duration::from_secs(1)),
        )
        // Bodies are watched here, with our limit; the SDK's watch would be a second one with its own idea.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // The SDK's newer default, a checksum trailer on everything, is refused by many servers that are not AWS.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    builder.set_endpoint_url(config.endpoint.clone());
    Ok(Client::from_conf(builder.build()))
}

/// The limits of one attempt that is given `attempt` until the head of its answer. The SDK's own read timeout stays
/// unset: it is a part of the key of its connection pool, so a varying one would never reuse a connection.
pub(super) fn timeouts(limits: &S3Limits, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(limits.connect_timeout).operation_attempt_timeout(attempt).build()
}

fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        // No certificates are loaded where none are used; a container may have none.
        builder.build_http()
    } else {
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    }
}

fn credentials(credentials: &S3Credentials) -> Result<Credentials, S3ConfigError> {
    let (key, secret, token) = match credentials {
        S3Credentials::Static { access_key_id, secret_access_key, session_token } => {
            (access_key_id.clone(), secret_access_key.0.clone(), session_token.as_ref().map(|token| token.0.clone()))
        }
        S3Credentials::Environment => {
            (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?, variable("AWS_SESSION_TOKEN").ok())
        }
    };
    Ok(Credentials::new(key, secret, token, None, "calotype"))
}

fn variable(name: &'static str) -> Result<String, S3ConfigError> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(S3ConfigError::MissingVariable { name })
}

fn check(config: &S3Config) -> Result<(), S3ConfigError> {
    let in_bucket = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=255).contains(&config.bucket.len())
        || !config.bucket.bytes().all(in_bucket)
        || matches!(config.bucket.as_str(), "." | "..")
    {
        return Err(S3ConfigError::Bucket { bucket: config.bucket.clone() });
    }
    if !(1..=64).contains(&config.region.len())
        || !config.region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Err(S3ConfigError::Region { region: config.region.clone() });
    }
    if let Some(endpoint) = &config.endpoint
        && !is_base_url(endpoint)
    {
        // What stands before an `@` may be a password.
        let endpoint = endpoint.rsplit('@').next().unwrap_or_default().to_owned();
        return Err(S3ConfigError::Endpoint { endpoint });
    }
    let limits = &config.limits;
    let hour = Duration::from_secs(3600);
    for (name, wrong) in [
        ("connect_timeout", limits.connect_timeout.is_zero() || limits.connect_timeout > hour),
        ("read_timeout", limits.read_timeout.is_zero() || limits.read_timeout > hour),
        ("attempts", !(1..=10).contains(&limits.attempts)),
    ] {
        if wrong {
            return Err(S3ConfigError::Limit { name });
        }
    }
    Ok(())
}

fn is_base_url(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
        && uri.path() == "/"
        && uri.query().is_none()
}
