//! One certificate with its key: read from PEM, matched, its names and its lifetime known.
//!
//! Must not look at a clock: whether it is in its lifetime is the folder's question.

use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate chain with its key.
#[derive(Debug)]
pub(super) struct Certificate {
    /// What rustls presents.
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names of the leaf, in lower case, some starting with `*.`.
    pub(super) names: Vec<String>,
    /// Unix seconds.
    pub(super) not_before: i64,
    /// Unix seconds.
    pub(super) not_after: i64,
}

/// Why a pair is no certificate to serve with.
#[derive(Debug, Error)]
pub(super) enum CertificateFault {
    #[error("the certificate is not PEM: {0}")]
    CertificatePem(pem::Error),
    #[error("the certificate file holds no certificate")]
    NoCertificate,
    #[error("the key file holds no private key: {0}")]
    KeyPem(pem::Error),
    #[error("the certificate is not X.509")]
    NotX509,
    #[error("the certificate names no host: it needs a DNS name among its subject alternative names")]
    NoName,
    #[error("the key is not the certificate's")]
    Mismatch,
    #[error("certificate or key cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl Certificate {
    /// Reads a chain, leaf first, and its key.
    ///
    /// # Errors
    /// [`CertificateFault`].
    pub(super) fn parse(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, CertificateFault> {
        let chain = CertificateDer::pem_slice_iter(chain_pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(CertificateFault::CertificatePem)?;
        let leaf = chain.first().ok_or(CertificateFault::NoCertificate)?;
        let (names, not_before, not_after) = read_leaf(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(CertificateFault::KeyPem)?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateFault::Mismatch,
            error => CertificateFault::Unusable(error),
        })?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }
}

fn read_leaf(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, i64, i64), CertificateFault> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateFault::NotX509)?;
    let alternatives = parsed.subject_alternative_name().map_err(|_| CertificateFault::NotX509)?;
    let general_names = alternatives.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let names: Vec<String> = general_names
        .iter()
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None })
        .collect();
    if names.is_empty() {
        return Err(CertificateFault::NoName);
    }
    let validity = parsed.validity();
    Ok((names, validity.not_before.timestamp(), validity.not_after.timestamp()))
}
