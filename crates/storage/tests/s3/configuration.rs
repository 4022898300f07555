//! Mistakes in the configuration, each by name.

use std::time::Duration;

use storage::{PartSize, PresignExpiry, S3Config, S3ConfigError, S3Credentials, S3Store};

use crate::stores::config;

fn check(change: impl FnOnce(&mut S3Config), expected: Option<S3ConfigError>) {
    let mut config = config("http://127.0.0.1:9000");
    change(&mut config);
    assert_eq!(S3Store::new(config.clone()).err(), expected, "{config:?}");
}

#[tokio::test]
async fn endpoints_are_base_urls() {
    for endpoint in ["http://127.0.0.1:9000", "http://localhost/", "https://[::1]:9000", "https://s3.example"] {
        check(|config| config.endpoint = Some(endpoint.to_owned()), None);
    }
    check(|config| config.endpoint = None, None);
    for endpoint in ["", "localhost:9000", "ftp://x", "http://", "http://x/path", "http://x/?q", "http://x y/"] {
        let expected = S3ConfigError::Endpoint { endpoint: endpoint.to_owned() };
        check(|config| config.endpoint = Some(endpoint.to_owned()), Some(expected));
    }
    let expected = S3ConfigError::Endpoint { endpoint: "host".to_owned() };
    check(|config| config.endpoint = Some("http://user:password@host".to_owned()), Some(expected));
}

#[tokio::test]
async fn buckets_and_regions_are_names() {
    for bucket in ["", "a/b", "..", "a b", "ä"] {
        check(|config| config.bucket = bucket.to_owned(), Some(S3ConfigError::Bucket { bucket: bucket.to_owned() }));
    }
    for region in ["", "eu/west", "eu west"] {
        check(|config| config.region = region.to_owned(), Some(S3ConfigError::Region { region: region.to_owned() }));
    }
}

#[tokio::test]
async fn limits_have_ranges() {
    for attempts in [0, 11] {
        check(|config| config.limits.attempts = attempts, Some(S3ConfigError::Limit { name: "attempts" }));
    }
    let zero = Duration::ZERO;
    check(|config| config.limits.connect_timeout = zero, Some(S3ConfigError::Limit { name: "connect_timeout" }));
    check(|config| config.limits.read_timeout = zero, Some(S3ConfigError::Limit { name: "read_timeout" }));
    let sizes = [PartSize::MIN.get() - 1, PartSize::MIN.get(), PartSize::MAX.get(), PartSize::MAX.get() + 1];
    assert_eq!(sizes.map(|bytes| PartSize::new(bytes).is_some()), [false, true, true, false]);
    let expiries = [0, 1, 604_800, 604_801].map(|seconds| PresignExpiry::from_secs(seconds).is_some());
    assert_eq!(expiries, [false, true, true, false]);
}

#[tokio::test]
async fn credentials_of_the_environment_must_be_there() {
    // The environment of the tests may have them; then the store opens.
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let missing = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].into_iter().find(|name| !set(name));
    let expected = missing.map(|name| S3ConfigError::MissingVariable { name });
    check(|config| config.credentials = S3Credentials::Environment, expected);
}
