//! URLs for the bytes of a medium, for whoever judges them: good for one revision, and for a while.
//!
//! A bucket signs its own. For a folder the API itself serves them, to whoever has what the master key has sealed: nothing is kept, and
//! every process that has the key knows it. Must not be given to anybody but those whom a tenant has named: edges may not serve these bytes.

use std::time::Duration;

use isolation::TenantKey;
use storage::{ObjectStore, PresignExpiry, PresignMethod, StorageError};
use time::OffsetDateTime;
use uploads::object_path;
use uuid::Uuid;

use crate::config::ControlPlaneSettings;
use crate::problem::ApiError;
use crate::sealing::{Place, Seal};

/// What is sealed.
const KIND: &str = "bytes_url";

/// Longest token that is looked at, in characters: ours have 92.
const TOKEN_CHARACTERS_MAX: usize = 128;

/// Makes URLs, and knows them again.
#[derive(Debug)]
pub struct BytesUrls {
    seal: Seal,
    base: String,
}

impl BytesUrls {
    /// With the keys and the address of these settings.
    pub fn new(settings: &ControlPlaneSettings) -> Self {
        let base = settings.api_url.trim_end_matches('/');
        let base = if base.is_empty() { format!("http://{}", settings.listen) } else { base.to_owned() };
        Self { seal: settings.seal(), base }
    }

    /// A URL for these bytes.
    ///
    /// # Errors
    /// [`ApiError::NoMasterKey`] for a folder; [`ApiError::Store`] when the bucket's keys cannot be had.
    pub async fn url(
        &self,
        store: &ObjectStore,
        tenant: TenantKey,
        (media, revision): (Uuid, Uuid),
        time: Duration,
    ) -> Result<String, ApiError> {
        let seconds =
            u32::try_from(time.as_secs()).ok().and_then(PresignExpiry::from_secs).ok_or(ApiError::Internal)?;
        let path = object_path(tenant.as_uuid(), media, revision);
        match store.presign(PresignMethod::Get, &path, seconds).await {
            Ok(url) => Ok(url.as_str().to_owned()),
            Err(StorageError::Unsupported { .. }) => {
                let until = OffsetDateTime::now_utc() + time;
                let token = self.token(tenant, (media, revision), until.unix_timestamp())?;
                Ok(format!("{}/v1/media/{media}/bytes?tenant={tenant}&token={token}", self.base))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn token(&self, tenant: TenantKey, (media, revision): (Uuid, Uuid), until: i64) -> Result<String, ApiError> {
        let what = [&revision.as_bytes()[..], &until.to_be_bytes()].concat();
        let place = Place { tenant, kind: KIND, name: &media.to_string() };
        self.seal.seal_token(&what, place)?.ok_or(ApiError::NoMasterKey)
    }

    /// The revision that a token is good for.
    ///
    /// # Errors
    /// [`ApiError::UrlRefused`].
    pub fn revision(&self, tenant: TenantKey, media: Uuid, token: &str, now: OffsetDateTime) -> Result<Uuid, ApiError> {
        self.opened(tenant, media, token)
            .filter(|(_, until)| now.unix_timestamp() < *until)
            .map(|(revision, _)| revision)
            .ok_or(ApiError::UrlRefused)
    }

    fn opened(&self, tenant: TenantKey, media: Uuid, token: &str) -> Option<(Uuid, i64)> {
        let place = Place { tenant, kind: KIND, name: &media.to_string() };
        let what = self.seal.open_token(token, TOKEN_CHARACTERS_MAX, place)?;
        let (revision, until) = what.split_at_checked(16)?;
        Some((Uuid::from_slice(revision).ok()?, i64::from_be_bytes(until.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretText;

    fn urls(key: &str) -> BytesUrls {
        let settings =
            ControlPlaneSettings { master_key: SecretText::from(key.to_owned()), ..ControlPlaneSettings::default() };
        BytesUrls::new(&settings)
    }

    #[test]
    fn a_token_is_good_for_its_bytes_and_its_time_only() {
        let urls = urls("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let (tenant, media, revision) = (TenantKey::generate(), Uuid::from_u128(1), Uuid::from_u128(2));
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        let token = urls.token(tenant, (media, revision), 100).expect("a key is there");
        assert!(token.len() <= TOKEN_CHARACTERS_MAX, "{}", token.len());
        assert_eq!(urls.revision(tenant, media, &token, at(99)).expect("in time"), revision);
        assert!(urls.revision(tenant, media, &token, at(100)).is_err());
        assert!(urls.revision(TenantKey::generate(), media, &token, at(99)).is_err());
        assert!(urls.revision(tenant, Uuid::from_u128(3), &token, at(99)).is_err());
        for bad in ["", "§", &token[1..], &token[..token.len() - 4], &"A".repeat(92), &"A".repeat(4096)] {
            assert!(urls.revision(tenant, media, bad, at(99)).is_err(), "{bad}");
        }
        assert!(
            self::urls("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").revision(tenant, media, &token, at(99)).is_err()
        );
    }
}
