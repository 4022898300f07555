//! Owns every call into libvips: a small safe layer over its C interface.
//!
//! It must not know transforms, formats or limits; those live above and speak only in the safe types exported here.
//! Operations are called **by name with only the options given**: generated wrappers that set every option they were
//! generated with fail on an older library that lacks one of them. This is the only folder of the project that may hold
//! `unsafe`.
#![allow(unsafe_code)]

mod error;
mod image;
mod library;
mod memory_image;
mod operation;
mod source;
mod strips;
mod watch;

pub use error::VipsError;
pub(crate) use image::{BandFormat, Image, Interpretation};
pub use library::Version;
pub(crate) use library::{Library, LibraryError, finish_thread, has_operation};
pub(crate) use memory_image::MemoryImage;
pub(crate) use operation::Operation;
pub(crate) use source::Source;
pub(crate) use strips::Strips;
pub(crate) use watch::Watch;
