//! Section `[server.tls]`: the certificate that the node presents, its key, and the authorities of the
//! clients that it knows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig as RustlsConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::event::Timestamp;

/// Time before the end of a certificate in which it should be replaced. Certificates of common authorities
/// are renewed a month before their end, so two weeks before it something is wrong.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// Certificate of the node, and settings of its handshakes.
#[derive(Clone)]
pub struct ServerTls {
    /// File that holds the node's certificate.
    pub cert_file: PathBuf,
    /// Time at which the certificate ends; `None` if that cannot be read.
    pub ends_at: Option<Timestamp>,
    /// Settings of each handshake; `None` for a command, which needs no key.
    pub acceptor: Option<Arc<RustlsConfig>>,
    /// Asks clients for certificates of `server.tls.client_ca`.
    pub knows_clients: bool,
}

/// Files that the section names.
pub(super) struct ServerTlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Certificates of the authorities of clients; empty to ask for none.
    pub(super) client_ca: PathBuf,
}

/// Problem of a file, with the key of the setting that names it.
pub(super) type TlsFileProblem = (&'static str, String);

const CERT: &str = "server.tls.cert";
const KEY: &str = "server.tls.key";
const CLIENT_CA: &str = "server.tls.client_ca";

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("cert_file", &self.cert_file)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Rest of the certificate's life at `now`, zero after its end; `None` if its end cannot be read.
    #[must_use]
    pub fn life(&self, now: Timestamp) -> Option<Duration> {
        let ends_at = self.ends_at?;
        match ends_at > now {
            true => Some(ends_at.distance(now)),
            false => Some(Duration::ZERO),
        }
    }

    /// Describes a certificate that has ended at `now` or ends within two weeks.
    #[must_use]
    pub fn describe_expiry(&self, now: Timestamp) -> Option<String> {
        let (file, ends_at) = (self.cert_file.display(), self.ends_at?);
        if ends_at <= now {
            return Some(format!(
                "the certificate in {file} ended at {ends_at}; clients refuse it"
            ));
        }
        (ends_at <= now.saturating_add(CERTIFICATE_WARNING)).then(|| {
            let days = ends_at.distance(now).as_secs() / 86_400;
            format!("the certificate in {file} ends at {ends_at}, in {days} days")
        })
    }
}

impl ServerTlsFiles {
    /// Reads the certificate alone, as far as a command may read it.
    pub(super) fn read_certificate(&self) -> ServerTls {
        let chain = read_certificates(CERT, &self.cert).unwrap_or_default();
        ServerTls {
            cert_file: self.cert.clone(),
            ends_at: chain.first().and_then(read_end),
            acceptor: None,
            knows_clients: !self.client_ca.as_os_str().is_empty(),
        }
    }

    /// Reads all files, and checks that they belong together.
    ///
    /// # Errors
    /// The first problem, with its key.
    pub(super) fn read_all(&self) -> Result<ServerTls, TlsFileProblem> {
        let chain = read_certificates(CERT, &self.cert)?;
        let ends_at = chain.first().and_then(read_end);
        let key = self.read_key()?;

        let provider = Arc::new(ring::default_provider());
        let builder = RustlsConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| (CERT, error.to_string()))?;
        let knows_clients = !self.client_ca.as_os_str().is_empty();
        let builder = match knows_clients {
            false => builder.with_no_client_auth(),
            true => {
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(self.read_authorities()?),
                    provider,
                );
                // Each source says if it needs one.
                let verifier = verifier.allow_unauthenticated().build();
                let verifier = verifier.map_err(|error| (CLIENT_CA, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };

        let acceptor = builder.with_single_cert(chain, key);
        let mut acceptor = acceptor.map_err(|error| self.describe_mismatch(&error))?;
        acceptor.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ServerTls {
            cert_file: self.cert.clone(),
            ends_at,
            acceptor: Some(Arc::new(acceptor)),
            knows_clients,
        })
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, TlsFileProblem> {
        let file = self.key.display();
        PrivateKeyDer::from_pem_file(&self.key).map_err(|error| match error {
            PemError::NoItemsFound => (
                KEY,
                format!(
                    "no private key found in {file}; expected PEM with BEGIN PRIVATE KEY, BEGIN RSA PRIVATE \
                     KEY or BEGIN EC PRIVATE KEY"
                ),
            ),
            error => (KEY, describe_unreadable(&self.key, &error)),
        })
    }

    fn read_authorities(&self) -> Result<RootCertStore, TlsFileProblem> {
        let mut roots = RootCertStore::empty();
        let certificates = read_certificates(CLIENT_CA, &self.client_ca)?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        match added {
            0 => Err(no_certificate(CLIENT_CA, &self.client_ca)),
            _ => Ok(roots),
        }
    }

    fn describe_mismatch(&self, error: &rustls::Error) -> TlsFileProblem {
        let (cert, key) = (self.cert.display(), self.key.display());
        match error {
            rustls::Error::InconsistentKeys(_) => (
                KEY,
                format!("the key in {key} does not match the first certificate in {cert}"),
            ),
            rustls::Error::InvalidCertificate(_) => (
                CERT,
                format!("the first certificate in {cert} cannot be used: {error}"),
            ),
            error => (KEY, format!("the key in {key} cannot be used: {error}")),
        }
    }
}

fn read_certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFileProblem> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(no_certificate(key, path)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err((key, describe_unreadable(path, &error))),
    }
}

fn no_certificate(key: &'static str, path: &Path) -> TlsFileProblem {
    let file = path.display();
    let detail = format!("no certificate found in {file}; expected PEM with BEGIN CERTIFICATE");
    (key, detail)
}

fn describe_unreadable(path: &Path, error: &PemError) -> String {
    match error {
        PemError::Io(error) => format!("{} cannot be read: {error}", path.display()),
        error => format!("{} is no valid PEM: {error}", path.display()),
    }
}

fn read_end(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let end = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    i64::try_from(end.as_micros())
        .ok()
        .map(Timestamp::from_micros)
}

/// Returns the subject of a client's `certificate`, such as `CN=billing,O=Example`; `None` if it cannot be
/// read.
#[must_use]
pub fn read_subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.subject.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{damage_cases, damaged};

    /// Certificate with a subject in DER and in PEM, and its key in PEM.
    fn sample() -> (Vec<u8>, String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CommonName, "billing");
        name.push(rcgen::DnType::OrganizationName, "Example");
        let certificate = params.self_signed(&key).expect("a certificate");
        (
            certificate.der().to_vec(),
            certificate.pem(),
            key.serialize_pem(),
        )
    }

    proptest! {
        #![proptest_config(damage_cases(64))]

        #[test]
        fn any_certificate_or_key_is_read_or_refused((der, cert, key) in Just(sample()).prop_flat_map(
            |(der, cert, key)| (damaged(&[der]), damaged(&[&cert]), damaged(&[&key, &cert])),
        )) {
            let _ = read_subject(&CertificateDer::from(der));
            let folder = tempfile::tempdir()?;
            let file = |name: &str, bytes: &[u8]| {
                let path = folder.path().join(name);
                std::fs::write(&path, bytes).map(|()| path)
            };
            let files = ServerTlsFiles {
                client_ca: file("ca.pem", &cert)?,
                cert: file("cert.pem", &cert)?,
                key: file("key.pem", &key)?,
            };
            let _ = files.read_certificate().describe_expiry(Timestamp::from_micros(0));
            let _ = files.read_all();
        }
    }
}
