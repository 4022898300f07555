//! Which certificate a handshake gets: the one for the name, else one for all names beside it, else the default.
//!
//! Must not wait or lock: it runs in every handshake.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::metrics::TlsMetrics;

/// Certificates by name; replaced as a whole.
pub(super) struct CertificateResolver {
    names: ArcSwap<Names>,
    metrics: TlsMetrics,
}

/// Certificates by name.
#[derive(Default)]
pub(super) struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Names {
    /// Of several certificates for a name, the one that lasts longest. `default` names one of them.
    pub(super) fn new<'a>(
        certificates: impl Iterator<Item = (&'a str, &'a Certificate)>,
        default: Option<&str>,
    ) -> Self {
        let mut certificates: Vec<_> = certificates.collect();
        certificates.sort_by_key(|(_, certificate)| certificate.not_after);
        let mut names = Self::default();
        for (title, certificate) in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut names.wildcard, parent),
                    None => (&mut names.exact, name.as_str()),
                };
                map.insert(name.to_owned(), Arc::clone(&certificate.key));
            }
            if default == Some(title) {
                names.default = Some(Arc::clone(&certificate.key));
            }
        }
        names
    }

    pub(super) fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// `name` in lower case.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        // A wildcard stands for exactly one label (RFC 6125, section 6.4.3).
        let beside = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(beside)
    }
}

impl CertificateResolver {
    pub(super) fn new(metrics: TlsMetrics) -> Self {
        Self { names: ArcSwap::default(), metrics }
    }

    /// For the handshakes from now on; connections keep what they began with.
    pub(super) fn replace(&self, names: Names) {
        self.names.store(Arc::new(names));
    }
}

impl std::fmt::Debug for CertificateResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateResolver")
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let names = self.names.load();
        let named = hello.server_name().map(str::to_ascii_lowercase);
        let found = named.as_deref().and_then(|name| names.find(name)).or(names.default.as_ref());
        if found.is_none() {
            let reason = if named.is_some() { &self.metrics.unknown_name } else { &self.metrics.without_name };
            reason.inc();
        }
        found.cloned()
    }
}
