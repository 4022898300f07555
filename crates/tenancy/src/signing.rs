//! What a tenant's policy says about signatures: whether they are needed, by which keys, and what goes without.
//!
//! Must not judge a request: the edge does.

use std::collections::{BTreeMap, BTreeSet};

use transform_url::signing::KeyName;
use transform_url::value::Name;

use crate::Secret;

/// A tenant's rules for signed and unsigned URLs. The default has no keys and lets nothing through unsigned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signing {
    /// Every URL must be signed.
    pub required: bool,
    /// A signed URL must carry an expiry.
    pub expiry_required: bool,
    /// The keys that sign, by the name in `kid`; each secret is of a length in
    /// [`SECRET_BYTES`](transform_url::signing::SECRET_BYTES).
    pub keys: BTreeMap<KeyName, Secret>,
    /// What goes without a signature where none is required and the tenant is not open.
    pub unsigned: Unsigned,
}

/// The allow-lists of unsigned URLs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unsigned {
    /// Widths in device pixels, 1..=8192: `width` with `dpr` multiplied in.
    pub widths: BTreeSet<u32>,
    /// Presets, all of them registered.
    pub presets: BTreeSet<Name>,
}

impl Unsigned {
    /// True when nothing goes without a signature.
    pub fn is_empty(&self) -> bool {
        self.widths.is_empty() && self.presets.is_empty()
    }
}
