//! Bodies of requests: JSON of a bounded size, with what is wrong with it told by its place.

use std::ops::Deref;
use std::time::Duration;

use rocket::data::{Data, FromData, Outcome, ToByteUnit};
use rocket::request::Request;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::idempotency::Fingerprint;
use crate::problem::ApiError;
use crate::requests::{Exchange, managed};

/// Most bytes of a body that is not a file.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// Most bytes of what an edge sends: the rows of a report with all that they may say.
const EDGE_BODY_BYTES_MAX: u64 = 1 << 20;

/// How long a body may take to come.
#[derive(Debug, Clone, Copy)]
pub struct BodyTime(pub Duration);

/// A body as its type wants it.
#[derive(Debug)]
pub struct Body<T> {
    value: T,
    /// Of its bytes.
    pub fingerprint: Fingerprint,
}

impl<T> Body<T> {
    /// What it says.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Body<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A body of an edge, which may be larger.
#[derive(Debug)]
pub struct EdgeBody<T>(pub T);

#[rocket::async_trait]
impl<'r, T: DeserializeOwned> FromData<'r> for EdgeBody<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        match read::<T>(request, data, EDGE_BODY_BYTES_MAX).await {
            Ok(body) => Outcome::Success(Self(body.into_value())),
            Err(error) => Outcome::Error(Exchange::of(request).refuse(error)),
        }
    }
}

#[rocket::async_trait]
impl<'r, T: DeserializeOwned> FromData<'r> for Body<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        match read(request, data, BODY_BYTES_MAX).await {
            Ok(body) => Outcome::Success(body),
            Err(error) => Outcome::Error(Exchange::of(request).refuse(error)),
        }
    }
}

async fn read<T: DeserializeOwned>(request: &Request<'_>, data: Data<'_>, limit: u64) -> Result<Body<T>, ApiError> {
    if !request.content_type().is_some_and(|kind| kind.is_json()) {
        return Err(ApiError::NotJsonType);
    }
    let BodyTime(time) = *managed(request)?;
    let bytes = timeout(time, data.open(limit.bytes()).into_bytes()).await;
    let bytes = bytes.map_err(|_| ApiError::BodySlow { seconds: time.as_secs() })?.map_err(|_| ApiError::BodyCut)?;
    if !bytes.is_complete() {
        return Err(ApiError::BodyTooLarge { limit });
    }
    let bytes = bytes.into_inner();
    let fingerprint = Sha256::digest(&bytes).into();
    from_slice(&bytes).map(|value| Body { value, fingerprint })
}

fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        // The library repeats the place in its own words.
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
        ApiError::Json { line, column, reason }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[allow(dead_code, reason = "only read from the body")]
        name: String,
    }

    #[test]
    fn what_is_wrong_is_told_by_its_name_and_place() {
        let told = |text: &str| from_slice::<Wanted>(text.as_bytes()).expect_err("a mistake").to_string();
        assert_eq!(
            told("{\"name\":\"a\",\n \"nane\":1}"),
            "the body cannot be used: line 2, column 7: unknown field `nane`, expected `name`"
        );
        assert!(told("{}").ends_with("missing field `name`"));
        assert!(told("{\"name\":\"a\",\"name\":\"b\"}").ends_with("duplicate field `name`"));
        assert!(told("[").contains("line 1, column 1"));
        // Nested deeper than any value that is wanted.
        assert!(told(&"[".repeat(10_000)).starts_with("the body cannot be used"));
    }
}
