//! Where a medium stands.

use std::str::FromStr;

/// Where a medium, or what is to take the place of its bytes, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaState {
    /// Its bytes have not passed yet: it is not served.
    Quarantined,
    /// It is being made ready.
    Processing,
    /// It can be watched, and is not ready.
    Playable,
    /// It is as it should be.
    Ready,
    /// It could not be made ready.
    Failed,
    /// Its bytes have not passed: it is not served, and they are deleted after a while.
    Rejected,
}

impl MediaState {
    const ALL: [Self; 6] =
        [Self::Quarantined, Self::Processing, Self::Playable, Self::Ready, Self::Failed, Self::Rejected];

    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Processing => "processing",
            Self::Playable => "playable",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    /// Whether edges may serve it: the same as `is_served` of the database.
    pub fn is_served(self) -> bool {
        !matches!(self, Self::Quarantined | Self::Rejected)
    }
}

impl FromStr for MediaState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}
