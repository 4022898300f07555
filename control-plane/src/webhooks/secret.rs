//! Secrets of webhooks, and what is signed with them, as Standard Webhooks 1.0 says.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use isolation::TenantKey;
use sha2::Sha256;
use uuid::Uuid;

use crate::problem::ApiError;
use crate::sealing::{Place, Seal};

/// What a secret begins with when it is shown.
const PREFIX: &str = "whsec_";

/// Bytes of a secret.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Bytes of one that is made here.
const MADE_BYTES: usize = 32;

/// What a webhook's requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when the system has no random numbers.
    pub fn generate() -> Result<Self, ApiError> {
        let mut bytes = vec![0; MADE_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| ApiError::Internal)?;
        Ok(Self(bytes))
    }

    /// One that a tenant has already.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        let why = || format!("is {PREFIX:?} and base64 of {} to {} bytes", BYTES.start(), BYTES.end());
        let bytes =
            bytes.filter(|bytes| BYTES.contains(&bytes.len())).ok_or_else(|| ApiError::field("secret", why()))?;
        Ok(Self(bytes))
    }

    /// As it is shown.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The signature of a request: its id, the time of the attempt in seconds since 1970, and its body.
    pub fn sign(&self, id: Uuid, timestamp: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// As the database keeps it.
    ///
    /// # Errors
    /// [`ApiError::NoMasterKey`].
    pub fn seal(&self, seal: &Seal, tenant: TenantKey, webhook: Uuid) -> Result<Vec<u8>, ApiError> {
        seal.seal(&self.0, place(tenant, &webhook.to_string()))?.ok_or(ApiError::NoMasterKey)
    }

    /// Out of the database.
    ///
    /// # Errors
    /// [`ApiError::Seal`].
    pub fn open(sealed: &[u8], seal: &Seal, tenant: TenantKey, webhook: Uuid) -> Result<Self, ApiError> {
        Ok(Self(seal.open(sealed, place(tenant, &webhook.to_string()))?))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a secret belongs to.
fn place(tenant: TenantKey, webhook: &str) -> Place<'_> {
    Place { tenant, kind: "webhook", name: webhook }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_shown() {
        let secret = Secret::generate().expect("random numbers");
        let read = Secret::parse(&secret.to_text()).expect("our own");
        assert!(read == secret && secret.0.len() == MADE_BYTES);
        for bytes in [24, 64] {
            assert!(Secret::parse(&format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]))).is_ok());
        }
        let of = |bytes| format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        for bad in ["", PREFIX, "whsec_?", &of(23), &of(65), &STANDARD.encode([7; 32])] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("24 bytes");
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key");
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        let expected = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(STANDARD.encode(mac.finalize().into_bytes()), expected, "the secret is read as they read it");
        let id = Uuid::nil();
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key");
        mac.update(format!("{id}.1.x").as_bytes());
        assert_eq!(secret.sign(id, 1, b"x"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    }
}
