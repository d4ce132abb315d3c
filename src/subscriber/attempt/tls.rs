//! TLS settings of connections to subscribers.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::trusted_roots::RootsError;

/// Failure to set up TLS for deliveries.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file of `delivery.ca_files` cannot be used.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up")]
    Protocol(#[from] rustls::Error),
    /// The client that gets access tokens cannot be set up.
    #[error("the client of authorization servers cannot be set up")]
    TokenClient(#[from] reqwest::Error),
}

/// Builds the TLS settings of connections that trust `roots`. A server that asks for a certificate gets
/// `certificate`.
///
/// # Errors
/// [`TlsSetupError`] if TLS itself cannot be set up.
pub(super) fn build_tls_config(
    roots: &Arc<RootCertStore>,
    certificate: Option<&Arc<CertifiedKey>>,
) -> Result<ClientConfig, TlsSetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let resolver = SingleCertAndKey::from(Arc::clone(certificate));
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
