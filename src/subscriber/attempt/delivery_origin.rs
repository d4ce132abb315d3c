//! The server that a delivery goes to, as far as a connection depends on it.

use url::{Host, Url};

/// Destination of a connection. Attempts with equal origins share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DeliveryOrigin {
    /// True if only public addresses may be called, as for a URL given by the API.
    pub(super) is_checked: bool,
    pub(super) is_tls: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

impl DeliveryOrigin {
    /// Returns the origin of `url`; `None` unless it is an http or https URL with a host.
    pub(super) fn from_url(url: &Url, is_checked: bool) -> Option<Self> {
        Some(Self {
            is_checked,
            is_tls: match url.scheme() {
                "https" => true,
                "http" => false,
                _ => return None,
            },
            host: url.host()?.to_owned(),
            port: url.port_or_known_default()?,
        })
    }
}
