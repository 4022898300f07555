//! What edges are told that the database keeps sealed: the secrets of signing keys and of origins.
//!
//! In the database a part with secrets is `{"config": …, "sealed": …}`, in changes and snapshots alike; an edge is told one value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isolation::TenantKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tenancy::feed::kind;

use crate::sealing::{Place, Seal};

/// A part as the database keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// What is not secret.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// What is, in base64; Postgres breaks its lines.
    pub sealed: Option<String>,
}

impl Sealed {
    /// A part of this, and of this that was sealed.
    pub fn new(config: Value, sealed: Option<&[u8]>) -> Self {
        Self { config, sealed: sealed.map(|sealed| STANDARD.encode(sealed)) }
    }
}

/// A part as edges are told of it. One that cannot be opened is left out: it would hold up the changes of all tenants.
pub fn opened(seal: &Seal, tenant: TenantKey, kind: &str, name: &str, body: Value) -> Option<Value> {
    let place = match kind {
        kind::SIGNING_KEY => Place { tenant, kind: kind::SIGNING_KEY, name },
        kind::ORIGIN => Place { tenant, kind: kind::ORIGIN, name },
        _ => return Some(body),
    };
    let opened = open(seal, place, body);
    if opened.is_none() {
        tracing::error!(%tenant, kind, name, "edges are not told of a secret that cannot be opened");
    }
    opened
}

fn open(seal: &Seal, place: Place<'_>, body: Value) -> Option<Value> {
    let Sealed { config, sealed } = serde_json::from_value(body).ok()?;
    let Some(sealed) = sealed else { return Some(config) };
    let sealed = STANDARD.decode(sealed.replace('\n', "")).ok()?;
    let secret = String::from_utf8(seal.open(&sealed, place).ok()?).ok()?;
    match config {
        Value::Object(config) => Some(Value::Object(merged(config, serde_json::from_str(&secret).ok()?))),
        _ => Some(Value::String(secret)),
    }
}

/// Puts what is in `more` into `into`, table by table.
fn merged(mut into: Map<String, Value>, more: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in more {
        let value = match (into.remove(&key), value) {
            (Some(Value::Object(into)), Value::Object(more)) => Value::Object(merged(into, more)),
            (_, value) => value,
        };
        into.insert(key, value);
    }
    into
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_back_to_where_they_belong() {
        let (into, more) = (json!({"s3": {"bucket": "b"}, "tags": [1]}), json!({"s3": {"secret_access_key": "x"}}));
        let (Value::Object(into), Value::Object(more)) = (into, more) else { panic!("objects") };
        let whole = json!({"s3": {"bucket": "b", "secret_access_key": "x"}, "tags": [1]});
        assert_eq!(Value::Object(merged(into, more)), whole);
    }
}
