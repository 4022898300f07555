//! Delivery URLs and the one canonical [`Transform`] they mean.
//!
//! Must not do IO and must not read a clock or the environment: the same bytes always give the same answer.
//!
//! Read in this order: [`native`] splits a raw request target into tenant, ops and source; [`table`] is the
//! one list of ops that the parser, the printer and the documentation derive from; [`value`] holds a type for
//! each kind of value, with its limits; [`Transform`] is the validated, canonical form that the rest of the
//! program sees; [`signing`] says what a signature covers. Other dialects will be further modules beside [`native`]
//! that produce the same [`Ops`].
//!
//! ```
//! use transform_url::native;
//!
//! let request = native::parse(b"/demo/w=400,dpr=2,f=auto/@local/beach.jpg", None)?;
//! let transform = request.ops().expect("not the original").resolve(|_| None)?;
//! assert_eq!(transform.to_string(), "width=800");
//! # Ok::<(), transform_url::UrlError>(())
//! ```

pub mod encoding;
mod error;
pub mod native;
mod ops;
pub mod reference;
pub mod signing;
mod source;
pub mod table;
mod transform;
pub mod value;

pub use error::{UrlError, ValueError};
pub use source::{OriginName, Source, TenantSlug};
pub use table::Ops;
pub use transform::Transform;

/// Longest request target that is read, in bytes.
pub const URL_BYTES_MAX: usize = 4096;
