//! Owns the start of the engine and what the running library can do.
//!
//! Must not know how a picture is made; `render` and `probe` do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::encoding::Encoding;
use crate::format::SourceFormat;
use crate::trial;
use crate::vips::{Library, LibraryError, Version, VipsError, finish_thread};

/// The oldest libvips this crate is written for: the one of Debian 12.
const OLDEST: Version = Version { major: 8, minor: 14, micro: 0 };

/// How the engine is started.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Encodings not to offer although the library can write them, for a host whose build of one is broken.
    pub without_encodings: BTreeSet<Encoding>,
}

/// Why the engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// libvips failed to initialise.
    #[error("libvips did not start")]
    Library(#[source] VipsError),
    /// The library is older than what is supported.
    #[error("libvips {found} is older than the oldest supported {oldest}")]
    TooOld {
        /// What is installed.
        found: Version,
        /// What is needed.
        oldest: Version,
    },
    /// A format that everything else falls back to is missing from the library.
    #[error("libvips {version} cannot read and write {format}")]
    Missing {
        /// The library.
        version: Version,
        /// The format.
        format: &'static str,
    },
}

/// What the running library reads and writes, found out by trial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Formats it decodes.
    pub reads: BTreeSet<SourceFormat>,
    /// Encodings it writes.
    pub writes: BTreeSet<Encoding>,
    /// Formats it does not decode, and why.
    pub cannot_read: BTreeMap<SourceFormat, &'static str>,
    /// Encodings it does not write, and why.
    pub cannot_write: BTreeMap<Encoding, &'static str>,
}

impl Capabilities {
    /// Tried once for the process: codecs do not come and go.
    fn of(library: Library) -> &'static Self {
        static TRIED: OnceLock<Capabilities> = OnceLock::new();
        TRIED.get_or_init(|| {
            let mut can = Self::default();
            for format in SourceFormat::ALL {
                match trial::reads(library, format) {
                    Ok(()) => drop(can.reads.insert(format)),
                    Err(reason) => drop(can.cannot_read.insert(format, reason)),
                }
            }
            for encoding in Encoding::ALL {
                match trial::writes(library, encoding) {
                    Ok(()) => drop(can.writes.insert(encoding)),
                    Err(reason) => drop(can.cannot_write.insert(encoding, reason)),
                }
            }
            can
        })
    }

    fn without(mut self, encodings: &BTreeSet<Encoding>) -> Self {
        for encoding in encodings {
            self.writes.remove(encoding);
            self.cannot_write.insert(*encoding, "it is turned off");
        }
        self
    }
}

/// The started engine. Cheap to clone, usable from any thread at the same time.
#[derive(Debug, Clone)]
pub struct Engine {
    version: Version,
    capabilities: std::sync::Arc<Capabilities>,
}

impl Engine {
    /// Starts libvips, once for the process, and tries what it can do, which takes some hundredths of a second; starting again
    /// is cheap and gives an equal engine.
    ///
    /// One libvips thread a picture, no operation cache, untrusted loaders blocked except SVG and JPEG XL.
    ///
    /// # Errors
    /// [`StartError`] if the library fails, is too old, or lacks JPEG, PNG or WebP.
    pub fn start(options: &EngineOptions) -> Result<Self, StartError> {
        let library = Library::start(OLDEST).map_err(|error| match error {
            LibraryError::Init(source) => StartError::Library(source),
            LibraryError::TooOld { found, oldest } => StartError::TooOld { found, oldest },
        })?;
        let version = library.version();
        let capabilities = Capabilities::of(library).clone().without(&options.without_encodings);
        for (format, encoding) in [
            (SourceFormat::Jpeg, Encoding::Jpeg),
            (SourceFormat::Png, Encoding::Png),
            (SourceFormat::Webp, Encoding::Webp),
        ] {
            let wanted = !options.without_encodings.contains(&encoding);
            if !capabilities.reads.contains(&format) || (wanted && !capabilities.writes.contains(&encoding)) {
                return Err(StartError::Missing { version, format: format.name() });
            }
        }
        Ok(Self { version, capabilities: std::sync::Arc::new(capabilities) })
    }

    /// The version of the running library.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the running library reads and writes.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// Frees what libvips keeps for the calling thread. To be called on a thread that rendered, when it ends.
pub fn thread_finished() {
    finish_thread();
}
