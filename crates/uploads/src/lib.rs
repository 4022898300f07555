//! Where uploads are in the object store: the contract between the control plane, which writes them, and edges, which read them.
//!
//! The bytes of an upload are an object that never changes ([`object_path`]); a replaced upload is another object. A small object beside
//! it, the pointer ([`pointer_path`]), tells which of them a public id means now, so that an edge needs nothing but the store.
//! Must not do IO, and must not know HTTP or SQL.

mod paths;
mod pointer;
mod public_id;

pub use paths::{incoming_path, incoming_prefix, object_path, pointer_path};
pub use pointer::{POINTER_BYTES_MAX, Pointer, PointerError, Target};
pub use public_id::{PUBLIC_ID_BYTES_MAX, PublicId, PublicIdError};
