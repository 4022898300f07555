//! URLs that take a part without any other key, where the store cannot sign any itself.
//!
//! A URL is good for one part of one upload, of exactly so many bytes, until a time. The key is the database's, the same for all
//! processes and never shown. Whether a URL is good is known before anything is asked of the database.

use hmac::{Hmac, Mac};
use isolation::{Database, TenantKey};
use sha2::Sha256;
use uuid::Uuid;

use super::Incoming;
use crate::media::hexadecimal;
use crate::problem::ApiError;

/// What URLs are signed with.
pub(super) struct UrlKey(Vec<u8>);

/// One part of one upload, as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPart {
    /// Whose it is.
    pub tenant: TenantKey,
    /// Of which upload.
    pub upload: Uuid,
    /// Which part, from 1.
    pub number: u16,
    /// How many bytes it has.
    pub bytes: u64,
    /// Until when the URL is good, in Unix seconds.
    pub expires: i64,
}

impl SignedPart {
    /// What is signed: nothing in it has a space.
    fn message(&self) -> String {
        let Self { tenant, upload, number, bytes, expires } = self;
        format!("PUT {tenant} {upload} {number} {bytes} {expires}")
    }

    /// The path and query of the URL.
    fn target(&self, signature: &str) -> String {
        let Self { tenant, upload, number, bytes, expires } = self;
        format!(
            "/v1/uploads/{upload}/parts/{number}?tenant={tenant}&bytes={bytes}&expires={expires}&signature={signature}"
        )
    }

    /// What a query says of a part, and its signature. Whatever cannot be read is no part.
    fn parse<'a>(
        upload: &str,
        number: &str,
        query: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<(Self, &'a str)> {
        let [mut tenant, mut bytes, mut expires, mut signature] = [None; 4];
        for (name, value) in query {
            let place = match name {
                "tenant" => &mut tenant,
                "bytes" => &mut bytes,
                "expires" => &mut expires,
                "signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let part = Self {
            tenant: tenant?.parse().ok()?,
            upload: upload.parse().ok()?,
            number: number.parse().ok()?,
            bytes: bytes?.parse().ok()?,
            expires: expires?.parse().ok()?,
        };
        Some((part, signature?))
    }
}

impl UrlKey {
    async fn find(database: &Database) -> Result<Self, ApiError> {
        let key = sqlx::query_scalar!(r#"SELECT upload_url_key() AS "key!""#).fetch_one(database.across()).await?;
        Ok(Self(key))
    }

    fn mac(&self, part: &SignedPart) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        mac.chain_update(part.message())
    }

    fn sign(&self, part: &SignedPart) -> String {
        part.target(&hexadecimal(&self.mac(part).finalize().into_bytes()))
    }

    fn is_signed(&self, part: &SignedPart, signature: &str) -> bool {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes = signature.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.is_some_and(|bytes| self.mac(part).verify_slice(&bytes).is_ok())
    }
}

impl Incoming {
    async fn url_key(&self) -> Result<&UrlKey, ApiError> {
        self.url_key.get_or_try_init(|| UrlKey::find(self.library.database())).await
    }

    /// The path and query of a URL for a part.
    ///
    /// # Errors
    /// [`ApiError::Database`].
    pub(super) async fn sign(&self, part: &SignedPart) -> Result<String, ApiError> {
        Ok(self.url_key().await?.sign(part))
    }

    /// The part that a URL is good for.
    ///
    /// # Errors
    /// [`ApiError::UrlRefused`].
    pub async fn signed_part<'a>(
        &self,
        (upload, number): (&str, &str),
        query: impl Iterator<Item = (&'a str, &'a str)>,
        now: i64,
    ) -> Result<SignedPart, ApiError> {
        let (part, signature) = SignedPart::parse(upload, number, query).ok_or(ApiError::UrlRefused)?;
        let is_good = self.url_key().await?.is_signed(&part, signature) && now < part.expires;
        if is_good { Ok(part) } else { Err(ApiError::UrlRefused) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> SignedPart {
        SignedPart { tenant: Uuid::from_u128(1).into(), upload: Uuid::from_u128(2), number: 3, bytes: 4, expires: 5 }
    }

    #[test]
    fn a_url_is_good_for_what_it_says_and_nothing_else() {
        let key = UrlKey(vec![7; 32]);
        let target = key.sign(&part());
        let (path, query) = target.split_once('?').expect("a query");
        let mut path = path.split('/').skip(3);
        let (upload, number) = (path.next().expect("an id"), path.nth(1).expect("a number"));
        let fields = || query.split('&').filter_map(|field| field.split_once('='));
        let (read, signature) = SignedPart::parse(upload, number, fields()).expect("ours");
        assert_eq!(read, part());
        assert!(key.is_signed(&read, signature));
        for other in [
            SignedPart { tenant: Uuid::from_u128(9).into(), ..part() },
            SignedPart { upload: Uuid::from_u128(9), ..part() },
            SignedPart { number: 34, bytes: 4, ..part() },
            SignedPart { bytes: 5, ..part() },
            SignedPart { expires: 6, ..part() },
        ] {
            assert!(!key.is_signed(&other, signature), "{other:?}");
        }
        assert!(!UrlKey(vec![8; 32]).is_signed(&read, signature));
        for bad in ["", "0", "zz", &signature[1..], &format!("{signature}00"), "ü"] {
            assert!(!key.is_signed(&read, bad), "{bad:?}");
        }
        assert!(SignedPart::parse(upload, number, fields().skip(1)).is_none(), "something is missing");
        assert!(SignedPart::parse(upload, number, fields().chain([("more", "1")])).is_none());
        assert!(SignedPart::parse(upload, number, fields().chain(fields())).is_none(), "something is there twice");
    }
}
