//! File of `delivery.credentials_file`: what this node shows to the servers of subscribers that ask who
//! calls, one table for each server.
//!
//! ```toml
//! [[server]]
//! origin = "https://api.example"          # scheme, host and port of the subscriptions' URLs
//! certificate = "client.pem"              # certificate and key (PEM), relative to this file
//! key = "client.key"
//!
//! [server.oauth2]                         # client credentials (RFC 6749, section 4.4)
//! token_url = "https://login.example/oauth/token"
//! client_id = "hookyard"
//! client_secret = "…"
//! scope = "hooks"
//! client_authentication = "basic"         # or "body"
//! [server.oauth2.parameters]              # what the server asks for besides
//! audience = "https://api.example"
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::secret::Secret;
use super::web_url::parse_web_url;

/// Most servers of one file.
const SERVERS_MAX: usize = 10_000;

/// Credentials for one server of subscribers.
#[derive(Clone, Debug)]
pub struct OutboundCredential {
    /// URL with the scheme, host and port of the server, and the path `/`.
    pub origin: Url,
    /// Certificate that this node shows, with its key.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// Client that gets access tokens for this node.
    pub oauth2: Option<OAuth2Client>,
    /// File with the key of the certificate.
    pub key_file: Option<PathBuf>,
    /// SHA-256 of all this, the contents of the files included.
    pub fingerprint: [u8; 32],
}

/// Client of an authorization server, by the grant `client_credentials`.
#[derive(Clone, Debug)]
pub struct OAuth2Client {
    /// Endpoint that issues the tokens.
    pub token_url: Url,
    /// Name under which the server knows the client.
    pub client_id: String,
    /// Secret that only the server and the client know.
    pub client_secret: Secret,
    /// Form that carries name and secret.
    pub client_authentication: ClientAuthentication,
    /// Parameters of a request for a token besides those of the grant, `scope` among them.
    pub parameters: BTreeMap<String, String>,
}

/// Form in which a client proves itself (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// HTTP Basic authentication, which every server must take.
    #[default]
    Basic,
    /// Parameters `client_id` and `client_secret` in the body.
    Body,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsFile {
    #[serde(default)]
    server: Vec<toml::Spanned<ServerTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    origin: String,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    oauth2: Option<OAuth2Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OAuth2Table {
    token_url: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    client_authentication: ClientAuthentication,
    scope: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

/// Reads the credentials in the file at `path`.
///
/// # Errors
/// The first problem, with its line. It quotes no value, since any may be a secret.
pub(super) fn read_credentials(path: &Path) -> Result<Vec<OutboundCredential>, String> {
    let name = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
    let file: CredentialsFile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        format!("{name}:{line}: {}", first_line(error.message()))
    })?;
    if file.server.len() > SERVERS_MAX {
        return Err(format!(
            "{name}: expected at most {SERVERS_MAX} servers, found {}",
            file.server.len()
        ));
    }

    let folder = path.parent().unwrap_or(Path::new(""));
    let mut origins = HashSet::new();
    let mut credentials = Vec::with_capacity(file.server.len());
    for table in file.server {
        let start = table.span().start;
        let problem = |detail: &str| format!("{name}:{}: {detail}", line_of(start));
        let credential = table.into_inner().read(folder);
        let credential = credential.map_err(|detail| problem(&detail))?;
        if !origins.insert(credential.origin.clone()) {
            return Err(problem("this origin has an earlier table"));
        }
        credentials.push(credential);
    }
    Ok(credentials)
}

/// First line of a message of the parser; the others may quote the file.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

impl ServerTable {
    fn read(self, folder: &Path) -> Result<OutboundCredential, String> {
        let mut hash = Sha256::new();
        let origin = parse_web_url(&self.origin).map_err(|error| format!("origin: {error}"))?;
        if origin.path() != "/" || origin.query().is_some() || origin.fragment().is_some() {
            return Err(
                "origin: expected scheme and host alone, such as https://api.example".into(),
            );
        }
        if origin.scheme() != "https" {
            return Err("origin: expected https, because http would show a credential".into());
        }
        let (certificate, key_file) = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (folder.join(certificate), folder.join(key));
                let read = read_certified_key(&certificate, &key, &mut hash)?;
                (Some(Arc::new(read)), Some(key))
            }
            (None, None) => (None, None),
            (Some(_), None) => return Err("key: missing beside certificate".into()),
            (None, Some(_)) => return Err("certificate: missing beside key".into()),
        };
        if certificate.is_none() && self.oauth2.is_none() {
            return Err("expected certificate and key, oauth2, or both".into());
        }
        let oauth2 = self.oauth2.map(OAuth2Table::read).transpose()?;
        if let Some(client) = &oauth2 {
            client.add_to(&mut hash);
        }
        Ok(OutboundCredential {
            origin,
            certificate,
            oauth2,
            key_file,
            fingerprint: hash.finalize().into(),
        })
    }
}

impl OAuth2Table {
    fn read(self) -> Result<OAuth2Client, String> {
        let client_secret = Secret::new(self.client_secret);
        let token_url = parse_web_url(&self.token_url);
        let mut parameters = self.parameters;
        for name in ["grant_type", "client_id", "client_secret", "scope"] {
            if parameters.contains_key(name) {
                return Err(format!("oauth2.parameters: {name} has a key of its own"));
            }
        }
        if self.client_id.is_empty() || client_secret.is_empty() {
            return Err("oauth2: expected client_id and client_secret that are not empty".into());
        }
        parameters.extend(self.scope.map(|scope| ("scope".to_owned(), scope)));
        let token_url = token_url.map_err(|error| format!("oauth2.token_url: {error}"))?;
        if token_url.scheme() != "https" && !is_loopback(&token_url) {
            return Err(
                "oauth2.token_url: expected https, because http would show the secret".into(),
            );
        }
        Ok(OAuth2Client {
            token_url,
            client_id: self.client_id,
            client_secret,
            client_authentication: self.client_authentication,
            parameters,
        })
    }
}

impl OAuth2Client {
    /// Adds all members to `hash`, each with its length before it.
    fn add_to(&self, hash: &mut Sha256) {
        let authentication = format!("{:?}", self.client_authentication);
        let members = [
            self.token_url.as_str(),
            &self.client_id,
            self.client_secret.expose(),
            &authentication,
        ];
        let parameters = self.parameters.iter();
        let parameters = parameters.flat_map(|(name, value)| [name.as_str(), value]);
        for member in members.into_iter().chain(parameters) {
            hash.update((member.len() as u64).to_be_bytes());
            hash.update(member);
        }
    }
}

/// True for a server on this machine, to which nobody listens on the way.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// Reads a certificate and its key, and adds their files to `hash`.
fn read_certified_key(
    certificate: &Path,
    key: &Path,
    hash: &mut Sha256,
) -> Result<CertifiedKey, String> {
    let mut read_file = |path: &Path| {
        let bytes = fs::read(path).map(Zeroizing::new)?;
        hash.update(&*bytes);
        Ok::<_, std::io::Error>(bytes)
    };
    let unreadable = |key: &str, path: &Path, error: &dyn std::fmt::Display| {
        format!("{key}: {} cannot be read: {error}", path.display())
    };
    let pem = read_file(certificate);
    let pem = pem.map_err(|error| unreadable("certificate", certificate, &error))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable("certificate", certificate, &error))?;
    if chain.is_empty() {
        return Err(format!(
            "certificate: no certificate found in {}; expected PEM with BEGIN CERTIFICATE",
            certificate.display()
        ));
    }
    let pem = read_file(key).map_err(|error| unreadable("key", key, &error))?;
    let private_key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unreadable("key", key, &error))?;
    CertifiedKey::from_der(chain, private_key, &ring::default_provider())
        .map_err(|error| format!("key: {} cannot be used: {error}", key.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    /// Reads a file with `text`; an error comes without the path of the file.
    fn read(text: &str) -> Result<Vec<OutboundCredential>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("credentials.toml");
        fs::write(&path, text).expect("written");
        read_credentials(&path).map_err(|error| error.replace(&path.display().to_string(), "F"))
    }

    const OAUTH2: &str = "[[server]]\norigin = \"https://API.example:443\"\n[server.oauth2]\n\
        token_url = \"https://login.example/token\"\nclient_id = \"me\"\nclient_secret = \"hush\"\n";

    #[test]
    fn a_client_is_read_with_what_its_server_asks_for() {
        let text = format!(
            "{OAUTH2}scope = \"a b\"\nclient_authentication = \"body\"\n\
             [server.oauth2.parameters]\naudience = \"x\"\n"
        );
        let read = read(&text).expect("valid");
        assert_eq!(read[0].origin.as_str(), "https://api.example/");
        let client = read[0].oauth2.as_ref().expect("a client");
        assert_eq!(client.client_authentication, ClientAuthentication::Body);
        let parameters: Vec<_> = client.parameters.iter().collect();
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [of("audience", "x"), of("scope", "a b")];
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name, value)).collect();
        assert_eq!(parameters, expected);
        assert!(!format!("{read:?}").contains("hush"));
    }

    #[test]
    fn a_problem_has_its_line_and_no_secret() {
        let twice = format!("{OAUTH2}{}", OAUTH2.replace(":443", ""));
        let taken = format!("{OAUTH2}parameters = {{ scope = \"hush\" }}\n");
        for (text, expected) in [
            ("[[server]]\n", "F:1: missing field `origin`"),
            (
                "[[server]]\norigin = \"https://a.example\"\n",
                "F:1: expected certificate and key, oauth2, or both",
            ),
            (
                "\n[[server]]\norigin = \"https://a.example/x\"\n",
                "F:2: origin: expected scheme and host alone, such as https://api.example",
            ),
            (
                "[[server]]\norigin = \"http://a.example\"\n",
                "F:1: origin: expected https, because http would show a credential",
            ),
            (
                "[[server]]\norigin = \"https://a.example\"\nkey = \"k\"\n",
                "F:1: certificate: missing beside key",
            ),
            (
                &OAUTH2.replace("https://login", "http://login"),
                "F:1: oauth2.token_url: expected https, because http would show the secret",
            ),
            (&twice, "F:7: this origin has an earlier table"),
            (&taken, "F:1: oauth2.parameters: scope has a key of its own"),
        ] {
            assert_eq!(read(text).expect_err(text), expected, "{text}");
        }
        let misspelt = read(&OAUTH2.replace("client_id", "client")).expect_err("unknown");
        assert!(
            misspelt.starts_with("F:5: unknown field `client`"),
            "{misspelt}"
        );
        let broken = read(&OAUTH2.replace("\"hush\"", "\"hush")).expect_err("no TOML");
        assert!(
            broken.starts_with("F:6: ") && !broken.contains("hush"),
            "{broken}"
        );
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_file_of_credentials_is_read_or_refused(text in damaged_text(&[
            &format!("{OAUTH2}scope = \"ä b\"\nclient_authentication = \"body\"\n[server.oauth2.parameters]\naudience = \"x\"\n"),
            "# ä\n[[server]]\norigin = \"https://b.example\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n",
        ])) {
            if let Err(problem) = read(&text) {
                prop_assert!(!problem.contains("hush"), "{}", problem);
            }
        }
    }
}
