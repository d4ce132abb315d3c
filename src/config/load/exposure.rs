//! Warnings of settings that let others in: secrets that others can read, one secret in two roles,
//! and networks that are everybody.

use std::collections::HashMap;
use std::path::Path;

use ipnet::IpNet;

use super::super::Config;
use super::super::delivery::CREDENTIALS_FILE;
use super::super::draft::{ConfigDraft, custom_section};
use super::super::file_permissions::describe_open_file;
use super::super::problem::{ConfigProblem, SettingOrigin};
use super::super::setting::SettingValue;

const TLS_KEY: &str = "server.tls.key";

/// Shortest prefixes of networks that are no large part of the internet: 10.0.0.0/8, and fc00::/7.
const NARROW_PREFIXES: (u8, u8) = (8, 7);

impl ConfigDraft {
    /// Warns of what `config` leaves open.
    pub(super) fn check_exposure(&mut self, config: &Config) {
        self.check_file_permissions();
        self.check_credentials_permissions(config);
        self.check_key_permissions(config);
        self.check_verify_tokens(config);
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
        if holds_secret && describe_open_file(&path).is_some() {
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
            if let Some(detail) = describe_open_file(file) {
                self.warn(CREDENTIALS_FILE, detail);
            }
        }
    }

    fn check_key_permissions(&mut self, config: &Config) {
        let file = config
            .written
            .settings
            .get(TLS_KEY)
            .map(|setting| &setting.value);
        let file = match file {
            Some(SettingValue::Text(file) | SettingValue::Raw(file)) if !file.is_empty() => {
                file.clone()
            }
            _ => return,
        };
        if let Some(detail) = describe_open_file(Path::new(file.expose())) {
            self.warn(TLS_KEY, detail);
        }
    }

    /// Warns of a secret that opens two doors: whoever has it for one has the other too.
    fn check_shared_secrets(&mut self, config: &Config) {
        let built_in = Self::list_secrets(config).into_iter();
        let built_in = built_in.map(|(key, secret)| (key.to_owned(), secret.expose().as_bytes()));
        let custom = config.sources.custom.iter().filter(|custom| custom.enabled);
        let custom = custom.flat_map(|custom| {
            let key = format!("{}.secrets", custom_section(custom.name.as_str()));
            let secrets = custom.source.secrets();
            secrets.map(move |secret| (key.clone(), secret))
        });
        let mut owners = HashMap::<&[u8], String>::new();
        for (key, secret) in built_in.chain(custom) {
            let owner = owners.entry(secret).or_insert_with(|| key.clone());
            if *owner != key {
                self.warn(&key, format!("a secret is the same as one of {owner}"));
            }
        }
    }

    fn check_network(&mut self, key: &str, networks: &[IpNet], consequence: &str) {
        // Joined: 0.0.0.0/1 and 128.0.0.0/1 are everything together.
        let joined = IpNet::aggregate(&networks.to_vec());
        let (v4, v6) = NARROW_PREFIXES;
        let widest = joined.iter().map(|network| match network {
            IpNet::V4(network) => (network.prefix_len(), v4),
            IpNet::V6(network) => (network.prefix_len(), v6),
        });
        let Some((prefix, _)) = widest.filter(|(prefix, narrow)| prefix < narrow).min() else {
            return;
        };
        let part = match prefix {
            0 => "the whole internet",
            _ => "a large part of the internet",
        };
        self.warn(key, format!("a network is {part}: {consequence}"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

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
    fn networks_that_are_wide_only_together_are_warned_of() {
        for (networks, part) in [
            ("0.0.0.0/1,128.0.0.0/1", Some("the whole internet")),
            ("::/1,8000::/1", Some("the whole internet")),
            ("2000::/3", Some("a large part of the internet")),
            ("64.0.0.0/3", Some("a large part of the internet")),
            ("10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7", None),
        ] {
            let env = [("ADMIN__TOKEN", ONE), ("SERVER__TRUSTED_PROXIES", networks)];
            let found = warnings(None, &env);
            let is_right = match part {
                Some(part) => found.len() == 1 && found[0].contains(part),
                None => found.is_empty(),
            };
            assert!(is_right, "{networks}: {found:?}");
        }
    }

    #[test]
    fn a_secret_of_a_configured_source_in_two_roles_and_a_short_verify_token_are_warned_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h.toml");
        let source = |name: &str, secret: &str| {
            format!(
                "[[sources.custom]]\nname = \"{name}\"\npreset = \"github\"\nsecrets = [\"{secret}\"]\n"
            )
        };
        let write = |text: String| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner");
            warnings(Some(&path), &[("ADMIN__TOKEN", ONE)])
        };
        assert_eq!(write(source("a", TWO)), Vec::<String>::new());
        let found = write(source("a", ONE) + &source("b", TWO) + &source("c", TWO));
        assert!(
            found.len() == 2
                && found[0]
                    .contains("custom.a.secrets: a secret is the same as one of admin.token")
                && found[1]
                    .contains("custom.c.secrets: a secret is the same as one of sources.custom.b"),
            "{found:?}"
        );
        let of_meta = source("a", TWO).replace("github", "meta");
        let found = write(of_meta + "verify_token = \"guess\"\n");
        assert!(
            found
                .iter()
                .any(|line| line.contains("verify_token: a token has fewer")),
            "{found:?}"
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
