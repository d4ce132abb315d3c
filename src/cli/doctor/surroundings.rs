//! Checks of what is around a store: free space, permissions, and the targets of deliveries.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::Url;

use super::finding::DoctorFinding;
use crate::config::Config;
use crate::event::Timestamp;
use crate::subscriber::attempt::target_address::{check_target_host, check_target_url};

/// Segments that must fit into the free space: the journal allocates one ahead.
const SEGMENTS_MIN: u64 = 2;
/// Segments below which free space is short: some 250 MB by default.
const SEGMENTS_LOW: u64 = 16;

/// Keys of a configuration whose values are secrets.
const SECRET_KEYS: [&str; 10] = [
    "token",
    "tokens",
    "secrets",
    "api_keys",
    "app_secrets",
    "verify_token",
    "access_token",
    "encryption_key",
    "former_encryption_keys",
    "proxy_url",
];

/// Compares the free space at the data folder with what the journal takes next.
pub(super) fn check_free_space(folder: &Path, segment_bytes: u64) -> DoctorFinding {
    const CHECK: &str = "free space";
    // The folder may not exist yet; it will be on the disk of its nearest parent.
    let existing = folder.ancestors().find(|path| path.exists());
    let place = existing.unwrap_or(Path::new("."));
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(error) => {
            let detail = format!("cannot be read: {error}");
            return DoctorFinding::warning(CHECK, detail, "Look at it with `df`");
        }
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let detail = format!("{} MB free at {}", free / 1_000_000, place.display());
    let advice = "Free some space: a node without room for the journal accepts no events";
    if free < SEGMENTS_MIN * segment_bytes {
        DoctorFinding::problem(CHECK, detail, advice)
    } else if free < SEGMENTS_LOW * segment_bytes {
        DoctorFinding::warning(CHECK, detail, advice)
    } else {
        DoctorFinding::ok(CHECK, detail)
    }
}

/// Checks that the certificate of the node's own TLS is valid for long enough; `None` without TLS.
pub(super) fn check_certificate(config: &Config, now: Timestamp) -> Option<DoctorFinding> {
    const CHECK: &str = "certificate";
    const ADVICE: &str = "Renew it, and run `hookyard reload`";
    let tls = config.server.tls.as_ref()?;
    let Some(life) = tls.life(now) else {
        let detail = format!("the end of {} cannot be read", tls.cert_file.display());
        return Some(DoctorFinding::warning(CHECK, detail, "Look at the file"));
    };
    Some(match tls.describe_expiry(now) {
        Some(detail) if life.is_zero() => DoctorFinding::problem(CHECK, detail, ADVICE),
        Some(detail) => DoctorFinding::warning(CHECK, detail, ADVICE),
        None => DoctorFinding::ok(CHECK, format!("valid for {} days", life.as_secs() / 86_400)),
    })
}

/// Checks that others cannot read the data folder, nor a configuration file with secrets.
pub(super) fn check_permissions(folder: &Path, config: Option<&Path>) -> Vec<DoctorFinding> {
    const CHECK: &str = "permissions";
    let mut findings = Vec::new();
    if let Some(mode) = open_mode(folder) {
        let detail = format!("{} is open to others (mode {mode:o})", folder.display());
        let advice = format!("chmod 700 {}", folder.display());
        findings.push(DoctorFinding::warning(CHECK, detail, advice));
    }
    if let Some(file) = config.filter(|file| holds_secret(file))
        && let Some(mode) = open_mode(file)
    {
        let detail = format!(
            "{} holds secrets and is open to others (mode {mode:o})",
            file.display()
        );
        let advice = format!(
            "chmod 600 {}, or give secrets in the environment",
            file.display()
        );
        findings.push(DoctorFinding::warning(CHECK, detail, advice));
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::ok(CHECK, "closed to others"));
    }
    findings
}

/// Returns the mode of a file or folder that group or others may use.
fn open_mode(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

fn holds_secret(file: &Path) -> bool {
    let table = fs::read_to_string(file)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| has_secret(&table))
}

fn has_secret(table: &toml::Table) -> bool {
    table.iter().any(|(key, value)| match value {
        toml::Value::Table(inner) => has_secret(inner),
        toml::Value::String(text) => !text.is_empty() && SECRET_KEYS.contains(&key.as_str()),
        toml::Value::Array(list) => {
            let is_list_of_secrets = !list.is_empty() && SECRET_KEYS.contains(&key.as_str());
            let has_inner = |value: &toml::Value| value.as_table().is_some_and(has_secret);
            is_list_of_secrets || list.iter().any(has_inner)
        }
        _ => false,
    })
}

/// Checks that the hosts of `urls` resolve, and that deliveries may go to an address of each.
pub(super) fn check_targets(urls: &[String], config: &Config) -> Vec<DoctorFinding> {
    const CHECK: &str = "targets";
    let problems = urls
        .iter()
        .filter_map(|url| Some((url, find_target_problem(url, config)?)));
    let mut findings: Vec<_> = problems
        .map(|(url, problem)| {
            let advice = "Correct the URL or the resolver, or name the network in \
                          delivery.allow_targets";
            DoctorFinding::problem(CHECK, format!("{}: {problem}", host_of(url)), advice)
        })
        .collect();
    if findings.is_empty() {
        let detail = format!("the hosts of {} subscriptions may be called", urls.len());
        findings.push(DoctorFinding::ok(CHECK, detail));
    }
    findings
}

/// Returns the host of `url`; the rest may hold a secret.
fn host_of(url: &str) -> String {
    let host = Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| "a URL without a host".into())
}

fn find_target_problem(url: &str, config: &Config) -> Option<String> {
    let allowed = &config.delivery.allow_targets;
    if let Err(error) = check_target_url(url, allowed) {
        return Some(error.to_string());
    }
    let url = Url::parse(url).ok()?;
    let port = url.port_or_known_default().unwrap_or(443);
    let addresses = match (url.host_str()?.trim_matches(['[', ']']), port).to_socket_addrs() {
        Ok(addresses) => addresses.map(|address| address.ip()).collect::<Vec<_>>(),
        Err(error) => return Some(format!("host name lookup failed: {error}")),
    };
    let mut errors = addresses.iter().map(|address| {
        let url = match address {
            IpAddr::V4(address) => format!("http://{address}/"),
            IpAddr::V6(address) => format!("http://[{address}]/"),
        };
        let url = Url::parse(&url).map_err(|error| error.to_string())?;
        check_target_host(&url, allowed).map_err(|error| error.to_string())
    });
    match addresses.is_empty() {
        true => Some("host name has no address".into()),
        // The node connects to no other address than those that may be called.
        false if errors.any(|checked| checked.is_ok()) => None,
        false => Some("host resolves only to addresses that may not be called".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_any_section_is_found() {
        for (text, has) in [
            ("[admin]\ntoken = \"x\"", true),
            ("[sources.support]\nsecrets = [\"x\"]", true),
            ("[[sources.custom]]\nname = \"a\"\nsecrets = [\"x\"]", true),
            (
                "[admin]\ntoken = \"\"\n[server]\nbind = \"127.0.0.1:1\"",
                false,
            ),
        ] {
            assert_eq!(has_secret(&text.parse().expect("TOML")), has, "{text}");
        }
    }

    #[test]
    fn a_target_on_this_machine_is_a_problem_unless_it_is_allowed() {
        let config = |allowed| {
            let env = [
                ("HOOKYARD_ADMIN__TOKEN", "t"),
                ("HOOKYARD_DELIVERY__ALLOW_TARGETS", allowed),
            ];
            crate::config::load_config(None, env).expect("valid")
        };
        let url = "http://127.0.0.1:9/hook?key=s3cret".to_owned();
        let found = check_targets(std::slice::from_ref(&url), &config(""));
        assert!(found[0].detail.starts_with("127.0.0.1: "), "{found:?}");
        assert!(!found[0].detail.contains("s3cret"), "{found:?}");
        let found = check_targets(&[url], &config("127.0.0.0/8"));
        assert_eq!(found[0].advice, None, "{found:?}");
    }
}
