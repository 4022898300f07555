//! The control plane's API, as a tenant: whose key, where, and what an answer means.
//!
//! Must not print the key, nor take it from the command line, where other users of the machine would see it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Builder;
use serde::Serialize;
use tokio::time::timeout;

use crate::client::{Answer, Server};
use crate::credentials::Credentials;

/// Holds a tenant's key.
const KEY_VARIABLE: &str = "CALOTYPE_API_KEY";

/// Where the control plane is, if nobody says.
const SERVER: &str = "http://127.0.0.1:8000";

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Said at the end of the help of every command that asks the API.
pub const KEY_HELP: &str = "The key comes from CALOTYPE_API_KEY in the environment, or from credentials.json in the \
    state folder, where `calotype up` keeps it.";

/// Where the API is, and where its key is kept.
#[derive(Args)]
pub struct ApiArguments {
    /// Where the control plane is; without it, where `calotype up` has started it.
    #[arg(long, env = "CALOTYPE_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Where state is kept.
    #[arg(long, env = "CALOTYPE_DATA", default_value = ".data")]
    pub data: PathBuf,
}

/// The API, with a key.
pub struct Api {
    /// Where it is.
    pub server: Server,
    /// The key as it is sent.
    pub authorization: HeaderValue,
}

impl Api {
    /// The one that the arguments, the environment and the state folder name.
    ///
    /// # Errors
    /// When there is no key, or no such server can be.
    pub fn of(arguments: &ApiArguments) -> anyhow::Result<Self> {
        let kept = Credentials::read(&arguments.data)?;
        let key = match std::env::var(KEY_VARIABLE) {
            Ok(key) => key,
            Err(std::env::VarError::NotUnicode(_)) => bail!("{KEY_VARIABLE} is not UTF-8"),
            Err(std::env::VarError::NotPresent) => {
                let key = kept.as_ref().and_then(|kept| kept.api_key.clone());
                key.with_context(|| format!("there is no key: set {KEY_VARIABLE}, or run `calotype up` once"))?
            }
        };
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {key}")).context("the key has characters that no key has")?;
        authorization.set_sensitive(true);
        let server = arguments.server.clone().or_else(|| kept.and_then(|kept| kept.server));
        let server = Server::parse(server.as_deref().unwrap_or(SERVER)).context("--server")?;
        Ok(Self { server, authorization })
    }

    /// Asks for a path, query included.
    ///
    /// # Errors
    /// When there is no answer in time, or a refusal: its text, with the stable code.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.get_as(path, "application/json").await
    }

    /// The same in another form.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_as(&self, path: &str, form: &'static str) -> anyhow::Result<Answer> {
        self.send(Request::get(self.server.target(path)).header(ACCEPT, form), None).await
    }

    /// Deletes what is at a path.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Request::delete(self.server.target(path)), None).await
    }

    /// Sends JSON to a path, as a request that may come twice under the same `once`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: &impl Serialize, once: &str) -> anyhow::Result<Answer> {
        let request = Request::post(self.server.target(path))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", once);
        self.send(request, Some(serde_json::to_vec(body)?)).await
    }

    async fn send(&self, request: Builder, body: Option<Vec<u8>>) -> anyhow::Result<Answer> {
        let request = request.header(AUTHORIZATION, &self.authorization);
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let asked = self.server.send(request.body(body).context("the request cannot be made")?);
        let answered = timeout(ANSWER_LIMIT, asked).await;
        let answer = answered.unwrap_or_else(|_| bail!("no answer within {ANSWER_LIMIT:?}"))?;
        if answer.status.is_success() { Ok(answer) } else { bail!(answer.refusal()) }
    }
}

/// A path's query out of what was given.
#[derive(Default)]
pub struct Query(String);

impl Query {
    /// With a field, if there is a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encoded(value, ""));
        }
        self
    }

    /// With its question mark; empty if nothing was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text as a part of a URL, of whose special characters only `kept` stand for themselves.
pub fn encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
        if is_plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_what_was_given_and_no_value_ends_early() {
        let query = Query::default().with("a", None).with("tag", Some("r&d=ü x")).with("limit", Some("5"));
        assert_eq!(query.as_str(), "?tag=r%26d%3D%C3%BC%20x&limit=5");
        assert_eq!(Query::default().with("a", None).as_str(), "");
        assert_eq!(encoded("a b/c?d", "/"), "a%20b/c%3Fd");
    }
}
