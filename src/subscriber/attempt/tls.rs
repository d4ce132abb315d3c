//! Certificates that this node trusts when it calls a subscriber: those built in, those of the
//! operating system, and those of `delivery.ca_files`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tracing::warn;

/// Failure to set up TLS for deliveries.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file of `delivery.ca_files` cannot be read or holds something else.
    #[error("delivery.ca_files: cannot read certificates from {}", path.display())]
    Unreadable {
        /// The path as it is configured.
        path: PathBuf,
        /// Failure of the file, or of its content.
        source: pem::Error,
    },
    /// A file of `delivery.ca_files` holds no certificate that can sign others.
    #[error("delivery.ca_files: no usable certificate in {}", path.display())]
    NoCertificate {
        /// The path as it is configured.
        path: PathBuf,
    },
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up")]
    Protocol(#[from] rustls::Error),
    /// The client that gets access tokens cannot be set up.
    #[error("the client of authorization servers cannot be set up")]
    TokenClient(#[from] reqwest::Error),
}

/// Reads the certificates that all deliveries trust, those of `ca_files` among them.
///
/// # Errors
/// [`TlsSetupError`] if a file holds no certificate.
pub(super) fn read_roots(ca_files: &[PathBuf]) -> Result<Arc<RootCertStore>, TlsSetupError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // A certificate that rustls cannot use is left out: a system's store holds a few such.
    roots.add_parsable_certificates(system_certificates().iter().cloned());
    for path in ca_files {
        let path = path.clone();
        let certificates = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        let certificates: Vec<CertificateDer<'static>> = match certificates {
            Ok(certificates) => certificates,
            Err(source) => return Err(TlsSetupError::Unreadable { path, source }),
        };
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(TlsSetupError::NoCertificate { path });
        }
    }
    Ok(Arc::new(roots))
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

/// Certificates of the operating system, read once: a store is opened again after each failure.
fn system_certificates() -> &'static [CertificateDer<'static>] {
    static CERTIFICATES: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        if let Some(error) = loaded.errors.first() {
            warn!(%error, "certificates of the operating system not read");
        }
        loaded.certs
    })
}
