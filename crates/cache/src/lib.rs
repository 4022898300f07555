//! The hybrid cache of finished renditions: memory, then disk, then one shared fill.
//!
//! Owns the foyer cache and everything foyer leaves to its user: the cache key, the on-disk entry format, freshness,
//! single flight, putting a better rendition in the place of a draft, purging, the lock on the cache folder, keeping hot entries on a disk that evicts first in, first out.
//! It must not know HTTP servers, image libraries, tenants or policy: a rendition carries their ids as plain numbers.
//!
//! Reading order: [`CacheKey`] names an entry, [`Rendition`] is one, [`CacheConfig`] becomes [`CacheSettings`],
//! [`RenditionCache`] is used by request handlers, [`Bans`] is what has been purged.
//!
//! What foyer 0.22 does that this crate is built around:
//! - Unserialised inserts lose entries at restart, so every insert takes one mutex.
//! - Recovery forgets the order of blocks, so the folder keeps it and an own picker evicts the oldest block.
//! - With no clean block after recovery foyer never writes again, so the folder makes sure that there is one.
//! - A failed write can kill foyer's flusher without a word, so space is reserved at the start and flushes are watched.
//! - Its own fetch-on-miss rewrites entries on every hit, so fills go through an own single flight.

mod etag;
mod key;
mod rendition;

mod ban_log;
mod bans;
mod config;
mod disk_state;
mod entry_format;
mod eviction;
mod folder;
mod metrics;
mod portable;

mod disk_writes;
mod draft;
mod entry;
mod flight;
mod store;
mod tiers;
mod write_log;

mod cache;

pub use ban_log::{bans_from_bytes, bans_to_bytes};
pub use bans::{ANY_TAG, Bans, PurgeError, Scope, Subject, TimedBans};
pub use cache::{CacheOpenError, CloseReport, Filled, Flight, Lookup, RenditionCache, Role, Tier};
pub use config::{CacheConfig, CacheSettings, ConfigMistake, ConfigMistakes};
pub use disk_state::{DiskFault, DiskState};
pub use draft::Draft;
pub use entry::Entry;
pub use etag::ETag;
pub use flight::FlightError;
pub use key::{CacheKey, KeyBuilder};
pub use portable::{PORTABLE_OVERHEAD_BYTES_MAX, Portable};
pub use rendition::{
    BODY_BYTES_MAX, CLOCK_STEP_MAX, CONTENT_TYPE_BYTES_MAX, Freshness, Lifetime, NOT_HELD_BEFORE, Rendition,
    RenditionError, RenditionParts, Renewal, SOURCE_ETAG_BYTES_MAX, SourceValidators, TAGS_MAX, UnixMillis,
};
