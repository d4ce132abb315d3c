//! Warnings of settings that let others in: secrets that others can read, one secret in two roles,
//! and networks that are everybody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipnet::IpNet;

use super::super::Config;
use super::super::delivery::CREDENTIALS_FILE;
use super::super::draft::ConfigDraft;
use super::super::problem::{ConfigProblem, SettingOrigin};

/// Permission of a file that lets everybody on the machine read it.
const READABLE_BY_OTHERS: u32 = 0o004;

impl ConfigDraft {
    /// Warns of what `config` leaves open.
    pub(super) fn check_exposure(&mut self, config: &Config) {
        self.check_file_permissions();
        self.check_credentials_permissions(config);
        self.check_shared_secrets(config);
        self.check_network(
            "server.trusted_proxies",
            &config.server.trusted_proxies,
            "every caller may name any client address in X-Forwarded-For",
        );
        self.check_network(
            "delivery.allow_targets",
            &config.delivery.allow_targets,
            "a subscription may reach every address, also those of this machine and its network",
        );
    }

    fn warn(&mut self, key: &str, detail: impl Into<String>) {
        let origin = self.origin_of(&[key]);
        self.warnings
            .push(ConfigProblem::for_key(key, origin, detail));
    }

    fn check_file_permissions(&mut self) {
        let Some(path) = self.file.clone() else {
            return;
        };
        let holds_secret = self.secret_keys().iter().any(|key| {
            let setting = self.settings.get(key);
            setting.is_some_and(
                |setting| matches!(&setting.origin, SettingOrigin::File(file, _) if *file == path),
            )
        });
        if holds_secret && is_readable_by_others(&path) {
            let detail = "holds secrets and can be read by everybody on this machine; \
                          `chmod o-r` it, or set the secrets by variables";
            let origin = SettingOrigin::File(path, None);
            self.warnings
                .push(ConfigProblem::without_key(origin, detail));
        }
    }

    fn check_credentials_permissions(&mut self, config: &Config) {
        let delivery = &config.delivery;
        let servers = || delivery.credentials.iter();
        let own = servers().any(|server| server.oauth2.is_some());
        let own = own.then_some(&delivery.credentials_file);
        let keys = servers().filter_map(|server| server.key_file.as_ref());
        for file in own.into_iter().chain(keys) {
            if is_readable_by_others(file) {
                let file = file.display();
                let detail =
                    format!("{file} can be read by everybody on this machine; `chmod o-r` it");
                self.warn(CREDENTIALS_FILE, detail);
            }
        }
    }

    /// Warns of a secret that opens two doors: whoever has it for one has the other too.
    fn check_shared_secrets(&mut self, config: &Config) {
        let secrets = Self::list_secrets(config);
        for (index, (key, secret)) in secrets.iter().enumerate() {
            let other = secrets[..index]
                .iter()
                .find(|(other, value)| other != key && value.matches(secret.expose().as_bytes()));
            if let Some((other, _)) = other {
                self.warn(key, format!("a secret is the same as one of {other}"));
            }
        }
    }

    fn check_network(&mut self, key: &str, networks: &[IpNet], consequence: &str) {
        if networks.iter().any(|network| network.prefix_len() == 0) {
            self.warn(
                key,
                format!("a network is the whole internet: {consequence}"),
            );
        }
    }
}

fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & READABLE_BY_OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigPurpose;

    const ONE: &str = "0123456789abcdef01234567";
    const TWO: &str = "76543210fedcba9876543210";

    fn warnings(file: Option<&std::path::Path>, env: &[(&str, &str)]) -> Vec<String> {
        let env = env
            .iter()
            .map(|(key, value)| (format!("HOOKYARD_{key}"), *value));
        let config = ConfigDraft::from_toml(file, env).finish(ConfigPurpose::Node);
        let config = config.expect("valid");
        config.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_secret_in_two_roles_and_networks_of_everybody_are_warned_of() {
        let crm = [("ADMIN__TOKEN", ONE), ("SOURCES__CRM__ENABLED", "true")];
        let both = |token| [&crm[..], &[("SOURCES__CRM__TOKENS", token)]].concat();
        assert_eq!(warnings(None, &both(TWO)), Vec::<String>::new());
        let shared = warnings(None, &both(ONE));
        assert_eq!(
            shared,
            [
                "HOOKYARD_SOURCES__CRM__TOKENS: sources.crm.tokens: a secret is the same as one of admin.token"
            ]
        );

        let open = [
            ("ADMIN__TOKEN", ONE),
            ("SERVER__TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0"),
            ("DELIVERY__ALLOW_TARGETS", "::/0"),
        ];
        let open = warnings(None, &open);
        assert!(
            open.len() == 2 && open.iter().all(|line| line.contains("the whole internet")),
            "{open:?}"
        );
    }

    #[test]
    fn a_file_with_secrets_that_others_can_read_is_warned_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h.toml");
        let with_mode = |text: &str, mode| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its owner");
            warnings(Some(&path), &[("ADMIN__TOKEN", ONE)]).len()
        };
        let secret = format!("[telemetry]\nmetrics_token = \"{TWO}\"\n");
        assert_eq!(with_mode(&secret, 0o644), 1);
        assert_eq!(
            with_mode(&secret, 0o640),
            0,
            "a group is the operator's choice"
        );
        assert_eq!(
            with_mode("[server]\nworkers = 1\n", 0o644),
            0,
            "it holds no secret"
        );
    }
}
