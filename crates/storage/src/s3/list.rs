//! Listing keys.
//!
//! Must not hand out a key that is no valid path (`a//b`, the `folder/` markers of some tools): such keys are skipped,
//! and the cursor still passes over them.

use std::borrow::Cow;

use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::S3Store;
use super::error::failed;
use super::read::to_system_time;
use crate::{ListCursor, ListEntry, ListLimit, ListPage, ObjectPath, ObjectPrefix, StorageError};

impl S3Store {
    pub(crate) async fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ListCursor>,
        limit: ListLimit,
    ) -> Result<ListPage, StorageError> {
        let own = &self.bucket.prefix;
        let prefix = format!("{own}{}", prefix.as_str());
        let answer = self
            .bucket
            .client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .set_prefix((!prefix.is_empty()).then_some(prefix))
            .set_start_after(after.map(|after| format!("{own}{}", after.as_str())))
            .max_keys(i32::from(limit.get()))
            // Keys may hold characters that XML cannot.
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(|error| failed(error, self.read_timeout()))?;

        let encoded = answer.encoding_type == Some(EncodingType::Url);
        let mut entries = Vec::new();
        let mut last = None;
        for object in answer.contents.unwrap_or_default() {
            let Some(key) = object.key.as_deref().and_then(|key| if encoded { decode(key) } else { Some(key.into()) })
            else {
                continue;
            };
            let Some(name) = key.strip_prefix(own.as_str()) else { continue };
            last = Some(ListCursor(name.to_owned()));
            let (Ok(path), Some(Ok(size))) = (ObjectPath::new(name), object.size.map(u64::try_from)) else { continue };
            entries.push(ListEntry { path, size, last_modified: object.last_modified.and_then(to_system_time) });
        }
        let next = last.filter(|_| answer.is_truncated == Some(true));
        Ok(ListPage { entries, next })
    }
}

/// Undoes `encoding-type=url`, which writes a space as `+`. `None` if the key is not UTF-8.
fn decode(key: &str) -> Option<Cow<'_, str>> {
    if key.contains('+') {
        let spaced = key.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8().ok().map(|key| Cow::Owned(key.into_owned()));
    }
    percent_decode_str(key).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes_keys_once() {
        assert_eq!(decode("a+b%2Bc%2520%C3%A9/d").as_deref(), Some("a b+c%20é/d"));
        assert_eq!(decode("%FF"), None);
    }
}
