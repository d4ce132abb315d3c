//! Certificates that this node trusts when it calls a server: those built in, those of the operating
//! system, and those of a key of the configuration.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tracing::warn;

/// Error of a file with certificates.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file cannot be read or holds something else.
    #[error("{key}: cannot read certificates from {}", path.display())]
    Unreadable {
        /// Key of the configuration that names the file.
        key: &'static str,
        /// The path as it is configured.
        path: PathBuf,
        /// Failure of the file, or of its content.
        source: pem::Error,
    },
    /// A file holds no certificate that can sign others.
    #[error("{key}: no usable certificate in {}", path.display())]
    NoCertificate {
        /// Key of the configuration that names the file.
        key: &'static str,
        /// The path as it is configured.
        path: PathBuf,
    },
}

/// Reads the certificates to trust, those of `ca_files` among them, which are the value of `key`.
///
/// # Errors
/// [`RootsError`] if a file holds no certificate.
pub(crate) fn read_roots(
    key: &'static str,
    ca_files: &[PathBuf],
) -> Result<Arc<RootCertStore>, RootsError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // A certificate that rustls cannot use is left out: a system's store holds a few such.
    roots.add_parsable_certificates(system_certificates().iter().cloned());
    for path in ca_files {
        let path = path.clone();
        let certificates = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        let certificates: Vec<CertificateDer<'static>> = match certificates {
            Ok(certificates) => certificates,
            Err(source) => return Err(RootsError::Unreadable { key, path, source }),
        };
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(RootsError::NoCertificate { key, path });
        }
    }
    Ok(Arc::new(roots))
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
