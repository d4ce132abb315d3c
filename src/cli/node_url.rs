//! Base URLs of nodes: from a listen address, or from the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{Client, ClientBuilder, Url};

use crate::config::Config;

/// Returns the URL of a node on this machine that listens on `bind`.
pub(super) fn base_url(bind: &str) -> String {
    let Ok(address) = bind.parse::<SocketAddr>() else {
        return format!("http://{bind}");
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Returns the URL at which a command on this machine reaches the admin API of the node of `config`.
pub(super) fn admin_base(config: &Config) -> String {
    let bind = config.admin.bind.as_ref().unwrap_or(&config.server.bind);
    with_scheme(config, base_url(bind))
}

/// Returns the URL at which a sender on this machine reaches the node of `config`.
pub(super) fn sender_base(config: &Config) -> String {
    with_scheme(config, base_url(&config.server.bind))
}

/// Returns the URL of a listener of the node of `config` that has bound `address`.
pub(super) fn listener_url(config: &Config, address: SocketAddr) -> String {
    with_scheme(config, base_url(&address.to_string()))
}

fn with_scheme(config: &Config, base: String) -> String {
    match &config.server.tls {
        Some(_) => base.replacen("http://", "https://", 1),
        None => base,
    }
}

/// Begins the client of a command. `is_own` says that the node is the configured one, on this machine: its
/// certificate names the host that others call, and nobody stands between.
pub(super) fn client_builder(is_own: bool) -> ClientBuilder {
    // Directly: a proxy of the environment is meant for hosts outside.
    Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(is_own)
}

/// Checks a `--url` argument: an http or https URL.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let is_http = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    let expected = || "expected a URL that begins with http:// or https://".to_owned();
    is_http.then(|| text.to_owned()).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_reached_on_loopback() {
        assert_eq!(base_url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(base_url("[::]:80"), "http://[::1]:80");
        assert_eq!(base_url("192.0.2.1:80"), "http://192.0.2.1:80");
    }
}
