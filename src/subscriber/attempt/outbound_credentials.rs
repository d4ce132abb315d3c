//! Credentials that this node shows to the servers of subscribers: a client certificate in the
//! handshake, an access token in the request.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::RootCertStore;
use url::Host;

use super::access_tokens::AccessTokens;
use super::delivery_origin::DeliveryOrigin;
use super::prepared_target::DeliveryRequest;
use super::tls::{TlsSetupError, build_tls_config};
use crate::clock::Clock;
use crate::config::{DeliveryConfig, OutboundCredential};
use crate::trusted_roots::read_roots;

/// Credentials by the host and port of a server that speaks TLS.
type CredentialsByServer = HashMap<(Host<String>, u16), Arc<ServerCredential>>;

/// TLS settings of all connections, and the credentials of some servers.
pub(super) struct OutboundCredentials {
    roots: Arc<RootCertStore>,
    /// Settings for servers without a credential.
    plain: TlsConnector,
    clock: Arc<dyn Clock>,
    by_server: RwLock<CredentialsByServer>,
}

struct ServerCredential {
    /// Fingerprint of the definition, to tell if a reload has changed it.
    fingerprint: [u8; 32],
    tls: TlsConnector,
    tokens: Option<Arc<AccessTokens>>,
}

impl OutboundCredentials {
    /// # Errors
    /// The certificates of `delivery.ca_files` cannot be read, or TLS cannot be set up.
    pub(super) fn try_new(
        config: &DeliveryConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsSetupError> {
        let roots = read_roots("delivery.ca_files", &config.ca_files)?;
        let plain = TlsConnector::from(Arc::new(build_tls_config(&roots, None)?));
        let credentials = Self {
            roots,
            plain,
            clock,
            by_server: RwLock::default(),
        };
        credentials.replace(config)?;
        Ok(credentials)
    }

    /// Replaces all credentials by those of `config`; returns `true` if any differs.
    ///
    /// # Errors
    /// TLS cannot be set up; the former credentials stay.
    pub(super) fn replace(&self, config: &DeliveryConfig) -> Result<bool, TlsSetupError> {
        let mut renewed = CredentialsByServer::new();
        let mut kept = 0;
        for credential in &config.credentials {
            let server = server_of(credential).expect("an https URL has a host and a port");
            // A credential that has not changed keeps its token.
            let known = self.by_server.read().get(&server).cloned();
            let known = known.filter(|known| known.fingerprint == credential.fingerprint);
            kept += usize::from(known.is_some());
            let prepared = match known {
                Some(known) => known,
                None => Arc::new(self.prepare(credential, config)?),
            };
            renewed.insert(server, prepared);
        }

        let mut by_server = self.by_server.write();
        let has_changed = kept < renewed.len() || renewed.len() < by_server.len();
        *by_server = renewed;
        Ok(has_changed)
    }

    /// Returns the TLS settings of connections to `origin`.
    pub(super) fn tls_connector(&self, origin: &DeliveryOrigin) -> TlsConnector {
        let by_server = self.by_server.read();
        let credential = match by_server.is_empty() {
            true => None,
            false => by_server.get(&(origin.host.clone(), origin.port)),
        };
        credential.map_or_else(|| self.plain.clone(), |known| known.tls.clone())
    }

    /// Returns the source of the access tokens for `request`; `None` if its server asks for none or the
    /// subscription shows something of its own.
    pub(super) fn access_tokens(&self, request: &DeliveryRequest<'_>) -> Option<Arc<AccessTokens>> {
        let origin = request.origin();
        let by_server = self.by_server.read();
        if by_server.is_empty() || !origin.is_tls || request.has_authorization() {
            return None;
        }
        let credential = by_server.get(&(origin.host.clone(), origin.port))?;
        credential.tokens.clone()
    }

    fn prepare(
        &self,
        credential: &OutboundCredential,
        config: &DeliveryConfig,
    ) -> Result<ServerCredential, TlsSetupError> {
        let tls = build_tls_config(&self.roots, credential.certificate.as_ref())?;
        let tokens = credential.oauth2.as_ref().map(|client| {
            let proxy = config.proxy_url.as_ref();
            AccessTokens::try_new(client, tls.clone(), proxy, Arc::clone(&self.clock))
        });
        Ok(ServerCredential {
            fingerprint: credential.fingerprint,
            tokens: tokens.transpose()?.map(Arc::new),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }
}

fn server_of(credential: &OutboundCredential) -> Option<(Host<String>, u16)> {
    let origin = &credential.origin;
    Some((origin.host()?.to_owned(), origin.port_or_known_default()?))
}
