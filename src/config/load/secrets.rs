//! Checks the form of secrets: a line break at the end is removed with a warning, a secret that can
//! be guessed is refused or warned of.

use super::super::Config;
use super::super::draft::ConfigDraft;
use super::super::problem::ConfigProblem;
use super::super::secret::Secret;
use super::ConfigPurpose;

/// Fewest bytes of a secret. 16 random letters and digits have about 95 bits; names, dates and
/// words are shorter.
const SECRET_MIN_BYTES: usize = 16;
/// Fewest bytes of a secret without a warning: the least of Standard Webhooks, 192 bits.
const SECRET_GOOD_BYTES: usize = 24;

/// Keys of the secrets that authenticate senders or users, outside of configured sources.
pub(in crate::config) const SECRET_KEYS: [&str; 12] = [
    "admin.token",
    "telemetry.metrics_token",
    "store.encryption_key",
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
    /// Removes the line breaks at the end of secrets, which files and shells add. No sender signs
    /// with them.
    pub(super) fn trim_secrets(&mut self) {
        let sections = self.custom.iter().map(|table| &table.section);
        let of_sources = sections.flat_map(|section| {
            ["secrets", "verify_token"].map(|name| format!("{section}.{name}"))
        });
        let keys: Vec<String> = SECRET_KEYS
            .map(str::to_owned)
            .into_iter()
            .chain(of_sources)
            .collect();
        for key in keys {
            let Some(setting) = self.settings.get_mut(&key) else {
                continue;
            };
            if setting.value.trim_line_end() {
                let detail = "a secret ends in a line break, which is left out";
                let warning = ConfigProblem::for_key(&key, setting.origin.clone(), detail);
                self.warnings.push(warning);
            }
        }
    }

    /// Refuses secrets that can be guessed, or warns of them unless `config` is for a node in
    /// production.
    pub(super) fn check_secret_lengths(&mut self, config: &Config, purpose: ConfigPurpose) {
        for (key, shortest) in self.list_secret_lengths(config) {
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

    /// Returns each key with secrets of an enabled source, with the length of the shortest one.
    fn list_secret_lengths(&self, config: &Config) -> Vec<(String, usize)> {
        let sources = &config.sources;
        let token = std::slice::from_ref(&config.admin.token);
        let metrics = &config.telemetry.metrics_token;
        let lists: [(&str, bool, &[Secret]); 8] = [
            ("admin.token", true, token),
            (
                "telemetry.metrics_token",
                !metrics.is_empty(),
                std::slice::from_ref(metrics),
            ),
            (
                "sources.support.api_keys",
                sources.support.enabled,
                &sources.support.api_keys,
            ),
            (
                "sources.support.secrets",
                sources.support.enabled,
                &sources.support.secrets,
            ),
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
                sources.instagram.enabled,
                &sources.instagram.app_secrets,
            ),
        ];
        let of_sections = lists.into_iter().filter_map(|(key, is_enabled, secrets)| {
            // An empty secret counts as missing, which is another problem.
            let lengths = secrets.iter().map(|secret| secret.expose().len());
            let shortest = lengths.filter(|length| *length > 0).min();
            Some((key.to_owned(), shortest.filter(|_| is_enabled)?))
        });

        let of_sources = sources.custom.iter().filter_map(|custom| {
            let name = Some(custom.name.as_str());
            let table = self
                .custom
                .iter()
                .find(|table| table.name.as_deref() == name)?;
            let shortest = custom.source.secret_lengths().min();
            let key = format!("{}.secrets", table.section);
            Some((key, shortest.filter(|_| custom.enabled)?))
        });
        of_sections.chain(of_sources).collect()
    }
}

#[cfg(test)]
mod tests {
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
