//! Checks the form of secrets: a line break at the end is removed with a warning, a space at an end
//! is warned of, a secret that can be guessed is refused or warned of.

use super::super::Config;
use super::super::draft::{ConfigDraft, custom_section};
use super::super::problem::ConfigProblem;
use super::super::secret::Secret;
use super::ConfigPurpose;

/// Fewest bytes of a secret. 16 random letters and digits have about 95 bits; names, dates and
/// words are shorter.
const SECRET_MIN_BYTES: usize = 16;
/// Fewest bytes of a secret without a warning: the least of Standard Webhooks, 192 bits.
const SECRET_GOOD_BYTES: usize = 24;

/// Keys of the secrets that authenticate senders or users, outside of configured sources.
pub(in crate::config) const SECRET_KEYS: [&str; 16] = [
    "admin.token",
    "telemetry.metrics_token",
    "telemetry.otlp_headers",
    "store.encryption_key",
    "store.former_encryption_keys",
    "cluster.postgres_url",
    "cluster.secret",
    "sources.support.api_keys",
    "sources.support.secrets",
    "sources.leads.secrets",
    "sources.c2s.tokens",
    "sources.c2s.enrichment.key",
    "sources.crm.tokens",
    "sources.instagram.app_secrets",
    "sources.instagram.verify_token",
    "sources.instagram.access_token",
];

impl ConfigDraft {
    /// Keys of all secrets, those of configured sources too.
    pub(in crate::config) fn secret_keys(&self) -> Vec<String> {
        let sections = self.custom.iter().map(|table| &table.section);
        let of_sources = sections.flat_map(|section| {
            ["secrets", "verify_token"].map(|name| format!("{section}.{name}"))
        });
        let keys = SECRET_KEYS.map(str::to_owned).into_iter();
        keys.chain(of_sources).collect()
    }

    /// Returns every secret of an enabled source with its key, but those of configured sources.
    pub(super) fn list_secrets(config: &Config) -> Vec<(&'static str, &Secret)> {
        let lists = Self::list_enabled_secrets(config).into_iter();
        lists
            .flat_map(|(key, secrets)| secrets.iter().map(move |secret| (key, secret)))
            .filter(|(_, secret)| !secret.is_empty())
            .collect()
    }

    /// Removes the line breaks at the end of secrets, which files and shells add. No sender signs
    /// with them.
    pub(super) fn trim_secrets(&mut self) {
        for key in self.secret_keys() {
            let Some(setting) = self.settings.get_mut(&key) else {
                continue;
            };
            if setting.value.trim_line_end() {
                let detail = "a secret ends in a line break, which is left out";
                let warning = ConfigProblem::for_key(&key, setting.origin.clone(), detail);
                self.warnings.push(warning);
            }
            if setting.value.has_outer_space() {
                let detail = "a secret begins or ends with a space, which counts";
                let warning = ConfigProblem::for_key(&key, setting.origin.clone(), detail);
                self.warnings.push(warning);
            }
        }
    }

    /// Refuses secrets that can be guessed, or warns of them unless `config` is for a node in
    /// production.
    pub(super) fn check_secret_lengths(&mut self, config: &Config, purpose: ConfigPurpose) {
        for (key, shortest) in Self::list_secret_lengths(config) {
            let origin = self.origin_of(&[&key]);
            let report = |detail: String| ConfigProblem::for_key(&key, origin, detail);
            if shortest >= SECRET_GOOD_BYTES {
                continue;
            }
            if shortest >= SECRET_MIN_BYTES || purpose != ConfigPurpose::Node {
                self.warnings.push(report(format!(
                    "a secret has fewer than {SECRET_GOOD_BYTES} bytes and may be guessed; \
                     `hookyard secret new` prints a longer one"
                )));
            } else {
                self.problems.push(report(format!(
                    "expected secrets of at least {SECRET_MIN_BYTES} bytes, better \
                     {SECRET_GOOD_BYTES}; `hookyard secret new` prints one, and --dev takes any"
                )));
            }
        }
    }

    /// Warns of tokens of a subscription that can be guessed: whoever has one can only answer a
    /// provider's request to subscribe.
    pub(super) fn check_verify_tokens(&mut self, config: &Config) {
        let (instagram, custom) = (&config.sources.instagram, config.sources.custom.iter());
        let of_sources = custom.filter(|custom| custom.enabled).map(|custom| {
            let section = custom_section(custom.name.as_str());
            (format!("{section}.verify_token"), &custom.verify_token)
        });
        let built_in = (
            "sources.instagram.verify_token".to_owned(),
            &instagram.verify_token,
        );
        let built_in = instagram.enabled.then_some(built_in);
        for (key, token) in built_in.into_iter().chain(of_sources) {
            if !token.is_empty() && token.expose().len() < SECRET_MIN_BYTES {
                let detail = format!(
                    "a token has fewer than {SECRET_MIN_BYTES} bytes and may be guessed; \
                     `hookyard secret new` prints a longer one"
                );
                let origin = self.origin_of(&[&key]);
                self.warnings
                    .push(ConfigProblem::for_key(&key, origin, detail));
            }
        }
    }

    /// Returns the secrets of each key of an enabled source, but those of configured sources.
    fn list_enabled_secrets(config: &Config) -> Vec<(&'static str, &[Secret])> {
        let sources = &config.sources;
        let (support, instagram) = (&sources.support, &sources.instagram);
        let one = std::slice::from_ref;
        let lists: [(&str, bool, &[Secret]); 8] = [
            ("admin.token", true, one(&config.admin.token)),
            (
                "telemetry.metrics_token",
                true,
                one(&config.telemetry.metrics_token),
            ),
            (
                "sources.support.api_keys",
                support.enabled,
                &support.api_keys,
            ),
            ("sources.support.secrets", support.enabled, &support.secrets),
            (
                "sources.leads.secrets",
                sources.leads.enabled,
                &sources.leads.secrets,
            ),
            (
                "sources.c2s.tokens",
                sources.c2s.enabled,
                &sources.c2s.tokens,
            ),
            (
                "sources.crm.tokens",
                sources.crm.enabled,
                &sources.crm.tokens,
            ),
            (
                "sources.instagram.app_secrets",
                instagram.enabled,
                &instagram.app_secrets,
            ),
        ];
        let enabled = lists.into_iter().filter(|(_, is_enabled, _)| *is_enabled);
        enabled.map(|(key, _, secrets)| (key, secrets)).collect()
    }

    /// Returns each key with secrets of an enabled source, with the length of the shortest one.
    fn list_secret_lengths(config: &Config) -> Vec<(String, usize)> {
        let lists = Self::list_enabled_secrets(config).into_iter();
        let of_sections = lists.filter_map(|(key, secrets)| {
            // An empty secret counts as missing, which is another problem.
            let lengths = secrets.iter().map(|secret| secret.expose().len());
            Some((key.to_owned(), lengths.filter(|length| *length > 0).min()?))
        });

        let of_sources = config.sources.custom.iter().filter_map(|custom| {
            let shortest = custom.source.secret_lengths().min();
            let key = format!("{}.secrets", custom_section(custom.name.as_str()));
            Some((key, shortest.filter(|_| custom.enabled)?))
        });
        of_sections.chain(of_sources).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::ConfigError;

    const LONG: &str = "0123456789abcdef01234567";
    const FAIR: &str = "0123456789abcdef";

    fn load(env: &[(&str, &str)], purpose: ConfigPurpose) -> Result<Vec<String>, Vec<String>> {
        let lines = |problems: &mut dyn Iterator<Item = &ConfigProblem>| -> Vec<String> {
            problems.map(ToString::to_string).collect()
        };
        let env = env
            .iter()
            .map(|(key, value)| (format!("HOOKYARD_{key}"), *value));
        match ConfigDraft::from_toml(None, env).finish(purpose) {
            Ok(config) => Ok(lines(&mut config.warnings.iter())),
            Err(error) => Err(lines(&mut ConfigError::iter(&error))),
        }
    }

    fn token(text: &str, purpose: ConfigPurpose) -> Result<Vec<String>, Vec<String>> {
        load(&[("ADMIN__TOKEN", text)], purpose)
    }

    #[test]
    fn a_short_secret_is_refused_but_for_trials_and_tools() {
        assert_eq!(token(LONG, ConfigPurpose::Node), Ok(Vec::new()));
        let weak = "HOOKYARD_ADMIN__TOKEN: admin.token: a secret has fewer than 24 bytes and may be \
                    guessed; `hookyard secret new` prints a longer one";
        for purpose in [
            ConfigPurpose::Node,
            ConfigPurpose::Trial,
            ConfigPurpose::Tool,
        ] {
            assert_eq!(token(FAIR, purpose), Ok(vec![weak.to_owned()]));
        }
        for purpose in [ConfigPurpose::Trial, ConfigPurpose::Tool] {
            assert_eq!(token("hush", purpose), Ok(vec![weak.to_owned()]));
        }
        let refused = "HOOKYARD_ADMIN__TOKEN: admin.token: expected secrets of at least 16 bytes, \
                       better 24; `hookyard secret new` prints one, and --dev takes any";
        assert_eq!(
            token(&FAIR[1..], ConfigPurpose::Node),
            Err(vec![refused.to_owned()])
        );
    }

    #[test]
    fn a_line_break_at_the_end_is_left_out_with_a_warning() {
        for end in ["\n", "\r\n", "\n\n"] {
            let warnings = token(&format!("{LONG}{end}"), ConfigPurpose::Node);
            let expected = "HOOKYARD_ADMIN__TOKEN: admin.token: a secret ends in a line break, \
                            which is left out";
            assert_eq!(warnings, Ok(vec![expected.to_owned()]), "{end:?}");
        }
        let env = [
            ("ADMIN__TOKEN", LONG),
            ("SOURCES__LEADS__ENABLED", "true"),
            (
                "SOURCES__LEADS__SECRETS",
                "0123456789abcdef01234567,0123456789abcdef01234567\n",
            ),
        ];
        let warnings = load(&env, ConfigPurpose::Node).expect("valid");
        assert!(
            warnings[0].contains("sources.leads.secrets: a secret ends"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_secret_may_stand_in_a_file_that_a_variable_or_systemd_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
        let other = "76543210fedcba9876543210";
        write("token", &format!("{LONG}\n"));
        write("list", &format!("{LONG}\n\n{other}\n"));
        write("hookyard.admin.token", other);
        for name in ["token", "list", "hookyard.admin.token"] {
            let own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path(name), own).expect("its owner");
        }
        let load = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), *value));
            ConfigDraft::from_toml(None, env).finish(ConfigPurpose::Trial)
        };

        let (token, list) = (path("token"), path("list"));
        let folder_path = folder.path().display().to_string();
        let config = load(&[
            ("HOOKYARD_ADMIN__TOKEN_FILE", &token),
            ("HOOKYARD_SOURCES__CRM__TOKENS_FILE", &list),
            ("CREDENTIALS_DIRECTORY", &folder_path),
        ]);
        let config = config.expect("valid");
        assert!(
            config.admin.token.matches(LONG.as_bytes()),
            "a variable overrides a credential"
        );
        let tokens = config.sources.crm.tokens.iter().map(Secret::expose);
        assert_eq!(tokens.collect::<Vec<_>>(), [LONG, other]);
        assert!(config.warnings.is_empty(), "a file ends in a line break");

        let config = load(&[("CREDENTIALS_DIRECTORY", &folder_path)]).expect("valid");
        assert!(config.admin.token.matches(other.as_bytes()));

        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&token, open).expect("its owner");
        let config = load(&[("HOOKYARD_ADMIN__TOKEN_FILE", &token)]).expect("valid");
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.len() == 1 && warnings[0].contains("token can be read by everybody"),
            "{warnings:?}"
        );

        let missing = path("none");
        for env in [
            &[("HOOKYARD_ADMIN__TOKEN_FILE", missing.as_str())][..],
            &[
                ("HOOKYARD_ADMIN__TOKEN_FILE", &token),
                ("HOOKYARD_ADMIN__TOKEN", LONG),
            ],
            &[
                ("HOOKYARD_ADMIN__TOKEN", LONG),
                ("HOOKYARD_ADMIN__TOKEN_FILE", &token),
            ],
            &[
                ("HOOKYARD_ADMIN__TOKEN", LONG),
                ("HOOKYARD_SERVER__BIND_FILE", &token),
            ],
        ] {
            assert!(load(env).is_err(), "{env:?}");
        }
    }

    #[test]
    fn the_shortest_secret_of_each_enabled_source_counts() {
        let two = format!("{LONG},hush");
        let env = |enabled| {
            [
                ("ADMIN__TOKEN", LONG),
                ("SOURCES__CRM__ENABLED", enabled),
                ("SOURCES__CRM__TOKENS", two.as_str()),
            ]
        };
        let problems = load(&env("true"), ConfigPurpose::Node).expect_err("guessable");
        assert!(
            problems.len() == 1 && problems[0].contains("sources.crm.tokens: expected secrets"),
            "{problems:?}"
        );
        assert_eq!(load(&env("false"), ConfigPurpose::Node), Ok(Vec::new()));
    }
}
