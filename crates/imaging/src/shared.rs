//! Owns the decoded pictures that renders of one source share while they are under way together.
//!
//! Never changes a result: what is shared is what each of them would have decoded, at the very scale it would have asked
//! its decoder for, so that a rendition has the same bytes whether or not it was made in company. Must not start, order or
//! wait for renders: one that comes while another decodes does so itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::probe::Scale;
use crate::vips::{Image, MemoryImage, VipsError};

/// Decoded pictures of sources that several renders are under way for, within a budget of memory.
#[derive(Debug)]
pub struct SharedDecodes {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    sources: Mutex<HashMap<u64, Weak<SharedSource>>>,
}

/// What is decoded of a source: one page at one scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeLevel {
    pub(crate) scale: Scale,
    pub(crate) page: u32,
}

/// A render's share in the decoded pictures of its source, as long as it is under way.
#[derive(Debug)]
pub struct Share {
    decodes: Arc<SharedDecodes>,
    key: u64,
    // Taken when it is dropped, and not before.
    source: Option<Arc<SharedSource>>,
    /// `None` if its bytes are others.
    member: Option<u64>,
    level: DecodeLevel,
    has_reused: AtomicBool,
}

#[derive(Debug, Default)]
struct SharedSource {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Everybody under way.
    members: HashMap<u64, Member>,
    next_member: u64,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Member {
    /// The same for all: whoever comes is held against one of them.
    bytes: Bytes,
    has_begun: bool,
}

#[derive(Debug)]
struct Level {
    level: DecodeLevel,
    /// Members that will use it, or do.
    users: usize,
    /// Those of them that have not begun.
    waiting: usize,
    picture: Picture,
}

#[derive(Debug)]
enum Picture {
    /// Nobody has decoded it.
    Absent,
    /// Somebody does.
    Coming,
    /// Here it is.
    Decoded(Arc<Decoded>),
}

/// A decoded picture, with the memory that it takes.
#[derive(Debug)]
struct Decoded {
    image: MemoryImage,
    _room: Room,
}

#[derive(Debug)]
struct Room {
    decodes: Arc<SharedDecodes>,
    bytes: u64,
}

impl SharedDecodes {
    /// With memory for so many bytes of decoded pictures; 0 shares nothing.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicU64::new(0), sources: Mutex::default() })
    }

    /// Takes part for a render that will decode `level` of `source`, which `key` names. The bytes are compared with those of
    /// the others under way: one name may have had another content a moment ago. `None` if it has.
    pub fn join(self: &Arc<Self>, key: u64, source: &Bytes, level: DecodeLevel) -> Option<Share> {
        if self.limit_bytes == 0 {
            return None;
        }
        let shared = {
            let mut sources = lock(&self.sources);
            let known = sources.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::default();
                sources.insert(key, Arc::downgrade(&new));
                new
            })
        };
        // From here on the share gives everything back.
        let member = lock(&shared.state).enter(source, level);
        let share = Share {
            decodes: Arc::clone(self),
            key,
            source: Some(shared),
            member,
            level,
            has_reused: AtomicBool::new(false),
        };
        member.is_some().then_some(share)
    }

    /// What decoded pictures take now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.limit_bytes)
        });
        taken.is_ok().then(|| Room { decodes: Arc::clone(self), bytes })
    }
}

impl State {
    fn enter(&mut self, source: &Bytes, level: DecodeLevel) -> Option<u64> {
        let is_same = |other: &Member| other.bytes.as_ptr() == source.as_ptr() || other.bytes == *source;
        if !self.members.values().next().is_none_or(is_same) {
            return None;
        }
        self.next_member += 1;
        self.members.insert(self.next_member, Member { bytes: source.clone(), has_begun: false });
        if self.level(level).is_none() {
            self.levels.push(Level { level, users: 0, waiting: 0, picture: Picture::Absent });
        }
        let known = self.level(level)?;
        known.users += 1;
        known.waiting += 1;
        Some(self.next_member)
    }

    /// Notes that a member waits no longer, once.
    fn begin(&mut self, member: u64, level: DecodeLevel) -> Option<&mut Level> {
        let has_begun = std::mem::replace(&mut self.members.get_mut(&member)?.has_begun, true);
        let known = self.level(level)?;
        known.waiting -= usize::from(!has_begun);
        Some(known)
    }

    fn leave(&mut self, member: u64, level: DecodeLevel) {
        if let Some(known) = self.begin(member, level) {
            known.users -= 1;
        }
        self.members.remove(&member);
        self.levels.retain(|known| known.users > 0);
    }

    fn level(&mut self, level: DecodeLevel) -> Option<&mut Level> {
        self.levels.iter_mut().find(|known| known.level == level)
    }
}

impl Share {
    /// Whether it was spared decoding.
    pub fn has_reused(&self) -> bool {
        self.has_reused.load(Ordering::Relaxed)
    }

    /// The decoded picture of `level`, if it is worth sharing: out of memory, or into memory by decoding what `open` gives. An
    /// error of the decoder is nobody's but who decodes for itself.
    pub(crate) fn picture(&self, level: DecodeLevel, open: impl FnOnce() -> Result<Image, VipsError>) -> Option<Image> {
        let source = self.source.as_ref().filter(|_| level == self.level)?;
        {
            let mut state = lock(&source.state);
            let known = state.begin(self.member?, level)?;
            match &known.picture {
                Picture::Decoded(decoded) => {
                    let decoded = Arc::clone(decoded);
                    drop(state);
                    self.has_reused.store(true, Ordering::Relaxed);
                    return decoded.image.view().ok();
                }
                Picture::Absent if known.waiting > 0 => known.picture = Picture::Coming,
                Picture::Absent | Picture::Coming => return None,
            }
        }
        let decoded = open().ok().and_then(|image| self.decode(&image));
        let view = decoded.as_ref().and_then(|decoded| decoded.image.view().ok());
        // This render still takes part, so the level is still there.
        if let Some(known) = lock(&source.state).level(level) {
            known.picture = decoded.map_or(Picture::Absent, |decoded| Picture::Decoded(Arc::new(decoded)));
        }
        view
    }

    fn decode(&self, image: &Image) -> Option<Decoded> {
        let room = self.decodes.take(image.memory_bytes())?;
        Some(Decoded { image: MemoryImage::new(image).ok()?, _room: room })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(source) = self.source.take() else { return };
        if let Some(member) = self.member {
            lock(&source.state).leave(member, self.level);
        }
        let mut sources = lock(&self.decodes.sources);
        drop(source);
        if sources.get(&self.key).is_some_and(|source| source.strong_count() == 0) {
            sources.remove(&self.key);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.decodes.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Nothing is left half done by a panic while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
