//! Owns the bytes that libvips decodes from.
//!
//! libvips decodes lazily and may read the bytes as long as any image made from them lives. So the bytes belong to the
//! library's source object, which every such image keeps alive, and no lifetime has to be threaded through the pipeline.

use std::ffi::c_void;

use bytes::Bytes;
use libvips::bindings;

use super::error::VipsError;

/// Bytes in memory as libvips reads them, with a read position: one decode needs one source.
pub(crate) struct Source {
    raw: *mut bindings::VipsSource,
}

impl Source {
    /// A source over `bytes`, without a copy.
    pub(crate) fn new(bytes: Bytes) -> Result<Self, VipsError> {
        let owner = Box::new(bytes);
        // SAFETY: the memory is kept alive below until the source object itself is finalised; libvips only reads it.
        let raw = unsafe { bindings::vips_source_new_from_memory(owner.as_ptr().cast(), owner.len() as _) };
        if raw.is_null() {
            return Err(VipsError::take("source"));
        }
        unsafe extern "C" fn drop_bytes(data: *mut c_void) {
            // SAFETY: `data` is the box handed over below, and GLib calls this once.
            drop(unsafe { Box::from_raw(data.cast::<Bytes>()) });
        }
        // SAFETY: `raw` is a live GObject; GLib takes the box and gives it to `drop_bytes` when the object is finalised,
        // which is after its last user has let go.
        unsafe {
            bindings::g_object_set_data_full(
                raw.cast(),
                c"calotype-bytes".as_ptr(),
                Box::into_raw(owner).cast(),
                Some(drop_bytes),
            );
        }
        Ok(Self { raw })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::VipsSource {
        self.raw
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference this value owns.
        unsafe { bindings::g_object_unref(self.raw.cast()) };
    }
}
