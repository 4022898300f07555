//! Owns the stopping of a running evaluation at its deadline.
//!
//! libvips tells an image's progress each time a strip of pixels is made. That is where the clock is read, and past the
//! deadline the image is marked killed, which makes every thread working on it give up. An encoder or decoder that is busy
//! between two strips (AV1 above all) is not interrupted: the pixel limits bound that time.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use libvips::bindings;

use super::image::Image;

/// A deadline that images can be put under. Clones watch the same deadline.
#[derive(Clone)]
pub(crate) struct Watch(Arc<State>);

struct State {
    deadline: Instant,
    expired: AtomicBool,
}

impl Watch {
    /// A watch that runs out at `deadline`.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self(Arc::new(State { deadline, expired: AtomicBool::new(false) }))
    }

    /// Whether the deadline has passed, now or when an evaluation was stopped.
    pub(crate) fn is_expired(&self) -> bool {
        self.0.check()
    }

    /// Stops any evaluation of `image`, or of what is made from it, once the deadline has passed.
    pub(crate) fn guard(&self, image: &Image) {
        let state: *const State = Arc::into_raw(Arc::clone(&self.0));
        // SAFETY: the three arguments after the instance match the "eval" signal's C signature (see `on_eval`); transmuting
        // between function pointer types is how GLib takes handlers.
        let handler = unsafe {
            std::mem::transmute::<
                unsafe extern "C" fn(*mut bindings::VipsImage, *mut bindings::VipsProgress, *mut c_void),
                unsafe extern "C" fn(),
            >(on_eval)
        };
        // SAFETY: `image` is live; the signal owns one count of the Arc and gives it to `release` when the image goes.
        unsafe {
            bindings::vips_image_set_progress(image.as_ptr(), 1);
            bindings::g_signal_connect_data(
                image.as_ptr().cast(),
                c"eval".as_ptr(),
                Some(handler),
                state.cast_mut().cast(),
                Some(release),
                0,
            );
        }
    }
}

impl State {
    fn check(&self) -> bool {
        if self.expired.load(Ordering::Relaxed) {
            return true;
        }
        let expired = Instant::now() >= self.deadline;
        if expired {
            self.expired.store(true, Ordering::Relaxed);
        }
        expired
    }
}

unsafe extern "C" fn on_eval(
    image: *mut bindings::VipsImage,
    _progress: *mut bindings::VipsProgress,
    data: *mut c_void,
) {
    // SAFETY: `data` is the Arc's pointee, kept alive by the connection that is calling.
    let state = unsafe { &*data.cast::<State>() };
    if state.check() {
        // SAFETY: `image` is the live image the signal was emitted on; the flag is made to be set from any thread.
        unsafe { bindings::vips_image_set_kill(image, 1) };
    }
}

unsafe extern "C" fn release(data: *mut c_void, _closure: *mut bindings::GClosure) {
    // SAFETY: takes back the count that `guard` gave away; GLib calls this once per connection.
    drop(unsafe { Arc::from_raw(data.cast::<State>()) });
}
