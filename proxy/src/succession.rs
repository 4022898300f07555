//! Where this process stands in the row of those that serve on the same sockets: which it takes over from, and how the
//! next one finds it.
//!
//! Must not know how sockets change hands: that is `upgrade.rs`.

use std::sync::Arc;

use anyhow::Context;
use cache::Bans;

use crate::config::EdgeSettings;
use crate::drain::Drain;
use crate::sockets::Sockets;
use crate::systemd;
use crate::upgrade::{Predecessor, UpgradeSocket};

/// What is known before the cache is opened.
pub struct Succession {
    upgrade_socket: Option<UpgradeSocket>,
    /// Bound already, unless they may be another edge's.
    bound: Option<Sockets>,
}

/// What is left to do once this process serves.
pub struct Beginning {
    upgrade_socket: Option<UpgradeSocket>,
    predecessor: Option<Predecessor>,
}

impl Succession {
    /// Binds what does not depend on another process.
    ///
    /// # Errors
    /// When an address or `upgrade_socket` cannot be bound, or an upgrade is wanted without the latter.
    pub fn prepare(settings: &EdgeSettings, upgrade: bool) -> anyhow::Result<Self> {
        let path = settings.upgrade_socket.as_deref();
        anyhow::ensure!(!upgrade || path.is_some(), "--upgrade needs the setting upgrade_socket");
        let upgrade_socket = path.map(UpgradeSocket::bind).transpose()?;
        let bound = if upgrade { None } else { Some(Sockets::open(settings, Vec::new())?) };
        Ok(Self { upgrade_socket, bound })
    }

    /// The sockets, which in an upgrade are the running edge's.
    ///
    /// # Errors
    /// When the running edge does not give them, or an address cannot be bound.
    pub fn sockets(self, settings: &EdgeSettings) -> anyhow::Result<(Sockets, Beginning)> {
        let Self { upgrade_socket, bound } = self;
        if let Some(sockets) = bound {
            return Ok((sockets, Beginning { upgrade_socket, predecessor: None }));
        }
        let path = settings.upgrade_socket.as_deref().context("an upgrade has its socket")?;
        let (predecessor, inherited) = match Predecessor::find(path)? {
            Some((predecessor, inherited)) => (Some(predecessor), inherited),
            None => {
                tracing::warn!(upgrade_socket = %path.display(), "no edge is there to take over from");
                (None, Vec::new())
            }
        };
        let sockets = Sockets::open(settings, inherited)?;
        Ok((sockets, Beginning { upgrade_socket, predecessor }))
    }
}

impl Beginning {
    /// This process serves: the one before is to stop, the next may come. Blocks while the one before answers.
    pub fn begin(self, drain: &Arc<Drain>, bans: Arc<Bans>) {
        if let Some(predecessor) = self.predecessor
            && let Err(error) = predecessor.replace()
        {
            tracing::error!("{error:#}; this one stops");
            drain.refuse();
            return;
        }
        systemd::serving();
        let Some(upgrade_socket) = self.upgrade_socket else { return };
        if let Err(error) = upgrade_socket.serve(Arc::clone(drain), bans) {
            tracing::error!("{error:#}; the next upgrade needs a restart");
        }
    }
}
