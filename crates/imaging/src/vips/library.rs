//! Owns the start of libvips in this process: version, what is blocked, how much it may keep and how many threads it takes.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use libvips::bindings;

use super::error::VipsError;

/// Operations that libvips counts as untrusted and this project uses all the same.
///
/// SVG and JPEG XL are fuzzed upstream and much asked for; everything else in that class (ImageMagick, PDF, OpenSlide,
/// MATLAB, …) stays shut.
const UNBLOCKED: [&CStr; 3] = [c"VipsForeignLoadSvg", c"VipsForeignLoadJxl", c"VipsForeignSaveJxl"];

/// The version of the libvips this process runs on, which is not the one it was compiled against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub micro: u16,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Why libvips could not be started.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LibraryError {
    #[error("libvips did not start")]
    Init(#[source] VipsError),
    #[error("libvips {found} is older than the oldest supported {oldest}")]
    TooOld { found: Version, oldest: Version },
}

/// Proof that libvips is started in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    version: Version,
}

impl Library {
    /// Starts libvips once for the process; later calls return the first outcome.
    ///
    /// It is never shut down: `vips_shutdown` is only safe when no thread uses the library any more, and the process ends
    /// right after anyway.
    pub(crate) fn start(oldest: Version) -> Result<Self, LibraryError> {
        static STARTED: OnceLock<Result<Library, LibraryError>> = OnceLock::new();
        STARTED.get_or_init(|| Self::init(oldest)).clone()
    }

    fn init(oldest: Version) -> Result<Self, LibraryError> {
        // SAFETY: called once per process (the caller's OnceLock), with a NUL-terminated string that outlives the call.
        if unsafe { bindings::vips_init(c"calotype".as_ptr()) } != 0 {
            return Err(LibraryError::Init(VipsError::take("init")));
        }
        let version = running_version();
        if version < oldest {
            return Err(LibraryError::TooOld { found: version, oldest });
        }
        // SAFETY: plain setters on an initialised library, before any operation runs.
        unsafe {
            // The operation cache never hits on distinct pictures, and would keep a tenant's pixels alive.
            bindings::vips_cache_set_max(0);
            bindings::vips_cache_set_max_mem(0);
            bindings::vips_cache_set_max_files(0);
            // Parallelism is across pictures, not within one: no hand-over, and a fair share for each tenant.
            bindings::vips_concurrency_set(1);
            bindings::vips_block_untrusted_set(1);
            for name in UNBLOCKED {
                bindings::vips_operation_block_set(name.as_ptr(), 0);
            }
        }
        silence_warnings();
        Ok(Self { version })
    }

    /// The version of the running library.
    pub(crate) fn version(self) -> Version {
        self.version
    }
}

/// Frees what libvips keeps for the calling thread; to be called once when a thread that rendered ends.
pub(crate) fn finish_thread() {
    // SAFETY: frees thread-local state only; libvips makes it again if the thread goes on to use the library.
    unsafe { bindings::vips_thread_shutdown() };
}

/// Whether the running library was built with the operation `name` and does not block it.
pub(crate) fn has_operation(_library: Library, name: &CStr) -> bool {
    // SAFETY: the library is initialised (the argument proves it); a null or owned operation comes back.
    let operation = unsafe { bindings::vips_operation_new(name.as_ptr()) };
    if operation.is_null() {
        // SAFETY: plain call; forgets the "no such operation" that was just written.
        unsafe { bindings::vips_error_clear() };
        return false;
    }
    // SAFETY: reads the flags of the live operation made above, and then drops the only reference to it.
    let flags = unsafe {
        let flags = bindings::vips_operation_get_flags(operation);
        bindings::g_object_unref(operation.cast());
        flags
    };
    flags & bindings::VipsOperationFlags_VIPS_OPERATION_BLOCKED == 0
}

fn running_version() -> Version {
    // SAFETY: plain getter; 0, 1 and 2 name the three parts.
    let part = |flag| u16::try_from(unsafe { bindings::vips_version(flag) }).unwrap_or(0);
    Version { major: part(0), minor: part(1), micro: part(2) }
}

/// Keeps decoders' warnings off stderr: a client could fill the log with one odd picture asked for again and again.
fn silence_warnings() {
    unsafe extern "C" fn ignore(
        _domain: *const c_char,
        _level: bindings::GLogLevelFlags,
        _text: *const c_char,
        _data: *mut c_void,
    ) {
    }
    let levels = bindings::GLogLevelFlags_G_LOG_LEVEL_WARNING | bindings::GLogLevelFlags_G_LOG_LEVEL_INFO;
    // The second one complains of sizes that no picture can have.
    for domain in [c"VIPS", c"GLib-GObject"] {
        // SAFETY: the handler is a function without state and lives as long as the process.
        unsafe { bindings::g_log_set_handler(domain.as_ptr(), levels, Some(ignore), std::ptr::null_mut()) };
    }
}
