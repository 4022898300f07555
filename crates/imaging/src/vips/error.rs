//! Owns the failure of one libvips call and the reading of the library's error buffer.
//!
//! The buffer is one for the whole process, so under load its text may belong to a neighbour's failure. Nothing above may
//! decide anything by reading it: it is for the log.

use std::ffi::CStr;

use libvips::bindings;

/// Longest text kept from the library's buffer, in bytes: a corrupt file can make a decoder very talkative.
const DETAIL_BYTES_MAX: usize = 1024;

/// A libvips operation that failed.
///
/// `detail` is the library's own text: for the log, never for a client, since it may name files.
#[derive(Debug, Clone, thiserror::Error)]
#[error("libvips {operation} failed: {detail}")]
pub struct VipsError {
    /// The operation by its libvips name.
    pub operation: &'static str,
    /// What the library wrote into its error buffer, shortened.
    pub detail: String,
}

impl VipsError {
    /// The failure of `operation`, with the library's error buffer, which is emptied.
    pub(super) fn take(operation: &'static str) -> Self {
        // SAFETY: returns a fresh NUL-terminated string that the caller owns; the library locks its buffer meanwhile.
        let text = unsafe { bindings::vips_error_buffer_copy() };
        if text.is_null() {
            return Self::new(operation, "no detail");
        }
        // SAFETY: `text` is not null, NUL-terminated, and nobody else holds it.
        let detail = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: `text` was allocated by GLib for us and is not used after this.
        unsafe { bindings::g_free(text.cast()) };
        Self::new(operation, &detail)
    }

    /// A failure that the library did not tell about.
    pub(crate) fn new(operation: &'static str, detail: &str) -> Self {
        let mut detail = detail.trim().replace('\n', "; ");
        if detail.len() > DETAIL_BYTES_MAX {
            // The newest text is the last; what comes before may be what others got over.
            let start = detail.ceil_char_boundary(detail.len() - DETAIL_BYTES_MAX);
            detail.drain(..start);
        }
        Self { operation, detail }
    }
}
