//! TLS as a client: ring, and the certificate authorities of the operating system.
//!
//! Must not fail where there are none: a container without certificates can still fetch over http.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

/// The settings that all fetchers share, for other clients of a service too. The authorities are read once (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
pub fn client_config() -> ClientConfig {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (taken, ignored) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            tracing::warn!(ignored, errors = ?found.errors, "no certificate authorities are found: nothing can be fetched over https");
        }
        Arc::new(roots)
    });
    with_roots(Arc::clone(roots))
}

fn with_roots(roots: Arc<RootCertStore>) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
