//! Reads `[server.tls]` and the sources that ask for client certificates.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::draft::ConfigDraft;
use super::super::problem::ConfigProblem;
use super::super::server_tls::{ServerTls, ServerTlsFiles};
use super::super::{Config, ConfigPurpose};

/// Values of `client_certificate`, each with its meaning.
const CHOICES: [(&str, bool); 2] = [("off", false), ("required", true)];

impl ConfigDraft {
    /// Reads the section, and its files as far as `purpose` needs them.
    pub(super) fn read_server_tls(&mut self, purpose: ConfigPurpose) -> Option<ServerTls> {
        let mut read = |key: &str| PathBuf::from(self.read_text(key, |_| Ok(())));
        let files = ServerTlsFiles {
            cert: read("server.tls.cert"),
            key: read("server.tls.key"),
            client_ca: read("server.tls.client_ca"),
        };
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        let pairs = [
            ("server.tls.cert", "server.tls.key"),
            ("server.tls.key", "server.tls.cert"),
        ];
        let has_all = is_set(&files.cert) && is_set(&files.key);
        let has_any = is_set(&files.cert) || is_set(&files.key) || is_set(&files.client_ca);
        if !has_all {
            let missing = if is_set(&files.cert) {
                pairs[1].0
            } else {
                pairs[0].0
            };
            if has_any {
                let origin = self.origin_of(&[
                    missing,
                    "server.tls.cert",
                    "server.tls.key",
                    "server.tls.client_ca",
                ]);
                let detail = "missing: TLS needs the files of a certificate and of its key";
                self.problems
                    .push(ConfigProblem::for_key(missing, origin, detail));
            }
            return None;
        }
        if purpose == ConfigPurpose::Tool {
            // A command calls the node, and may not read its key.
            return Some(files.read_certificate());
        }

        let read = files.read_all();
        let report = |(key, detail): (&'static str, String)| {
            let origin = self.origin_of(&[key]);
            self.problems
                .push(ConfigProblem::for_key(key, origin, detail));
        };
        read.map_err(report).ok()
    }

    /// Reads which sources ask for client certificates.
    pub(super) fn read_certified_sources(&mut self) -> BTreeSet<String> {
        let certified = self.source_sections().into_iter().filter(|(_, section)| {
            self.read_choice(&format!("{section}.client_certificate"), &CHOICES)
        });
        certified.map(|(name, _)| name).collect()
    }

    /// Reports a source that asks for certificates of clients that the node does not know.
    pub(super) fn check_certified_sources(&mut self, config: &Config) {
        let tls = config.server.tls.as_ref();
        let is_broken = self.problems.iter().any(|problem| {
            problem
                .key()
                .is_some_and(|key| key.starts_with("server.tls."))
        });
        if is_broken || tls.is_some_and(|tls| tls.knows_clients) {
            return;
        }
        for name in &config.sources.certified {
            let key = format!("{}.client_certificate", self.section_of_source(name));
            let origin = self.origin_of(&[&key]);
            let detail = "expected server.tls with client_ca, the authorities of the clients";
            self.problems
                .push(ConfigProblem::for_key(&key, origin, detail));
        }
    }
}
