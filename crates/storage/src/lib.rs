//! Where originals and finished files live: one facade over a folder and an S3 bucket.
//!
//! It must not know media, HTTP serving or tenants: it moves named bytes, says precisely why it could not, and puts a
//! limit on everything it does. Callers pick a store once and use [`ObjectStore`] from then on; a conformance suite in
//! `tests/` holds both kinds to the same behaviour.
//!
//! What differs between the kinds, on purpose:
//! - a folder keeps no content type and no cache header, and its ETags are weak (see [`FolderStore`]);
//! - a folder cannot sign URLs ([`StorageError::Unsupported`]), and takes no parts from others ([`S3Store::begin_parts`]);
//! - a folder cannot hold `a` and `a/b` at the same time, a bucket can.

mod path;
mod range;

mod error;

mod object;

mod body;

mod folder;
mod s3;

mod settings;
mod store;

pub use body::ObjectBody;
pub use error::{BoxError, StorageError};
pub use folder::{FolderError, FolderStore};
pub use object::{
    GetOptions, ListCursor, ListEntry, ListLimit, ListPage, Object, ObjectMeta, PutOptions, Stored, Validators,
};
pub use path::{ObjectPath, ObjectPrefix, PATH_BYTES_MAX, PathError};
pub use range::{ByteRange, ServedRange};
pub use s3::{
    PartSize, PresignExpiry, PresignMethod, PresignedUrl, S3Config, S3ConfigError, S3Credentials, S3Limits, S3Store,
    Secret, StoredPart,
};
pub use settings::StoreSettings;
pub use store::ObjectStore;
