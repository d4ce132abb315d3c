//! Reads `[[sources.custom]]` into the same flat settings as every other key.
//!
//! The keys of the source `billing` are `sources.custom.billing.secrets` and so on. So the
//! environment can set them (`HOOKYARD_SOURCES__CUSTOM__BILLING__SECRETS`), and a misspelled key
//! finds its nearest.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::custom::{CUSTOM_SOURCES_KEY, CustomSourceTable, RESERVED_NAMES};
use super::super::problem::{ConfigProblem, SettingOrigin};
use super::super::secret::Secret;
use super::super::setting::{DraftSetting, SettingValue};
use super::ConfigDraft;
use crate::event::Kind;
use crate::suggest::nearest_key;

/// Returns every key of a table except `name`, with its default value.
fn defaults() -> [(&'static str, SettingValue); 35] {
    let text = || SettingValue::Text(Secret::default());
    [
        ("charset", text()),
        ("client_certificate", SettingValue::Text(Secret::new("off"))),
        ("decompress", SettingValue::Boolean(false)),
        ("enabled", SettingValue::Boolean(true)),
        ("entity", text()),
        ("event", text()),
        ("form_json", text()),
        ("idempotency_key", text()),
        ("idempotency_window_h", SettingValue::Integer(24)),
        ("items", text()),
        ("occurred_at", text()),
        ("preset", text()),
        ("rate_per_minute", SettingValue::Integer(0)),
        ("require_signed_time", SettingValue::Boolean(false)),
        ("retention_days", SettingValue::Integer(0)),
        ("scheme.algorithm", text()),
        ("scheme.audience", text()),
        ("scheme.body_hash", text()),
        ("scheme.covers", SettingValue::List(Vec::new())),
        ("scheme.encoding", text()),
        ("scheme.format", text()),
        ("scheme.header", text()),
        ("scheme.issuer", text()),
        ("scheme.label", text()),
        ("scheme.parts", text()),
        ("scheme.prefix", text()),
        ("scheme.signed", text()),
        ("scheme.timestamp_header", text()),
        ("scheme.tolerance_s", SettingValue::Integer(0)),
        ("schema_violations", text()),
        ("schemas", text()),
        ("secrets", SettingValue::List(Vec::new())),
        ("tolerance_s", SettingValue::Integer(0)),
        ("validation_token", SettingValue::Boolean(false)),
        ("verify_token", text()),
    ]
}

impl ConfigDraft {
    /// Reads the list `value` of `[[sources.custom]]`, one table at a time.
    pub(super) fn read_custom(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key_origin: SettingOrigin,
        origin_at: &dyn Fn(usize) -> SettingOrigin,
    ) {
        let DeValue::Array(tables) = value.get_ref() else {
            return self.problems.push(ConfigProblem::for_key(
                CUSTOM_SOURCES_KEY,
                key_origin,
                "expected tables, each under [[sources.custom]]",
            ));
        };
        for table in tables {
            let table_origin = origin_at(table.span().start);
            match table.get_ref() {
                DeValue::Table(inner) => self.read_custom_table(inner, table_origin, origin_at),
                other => {
                    let found = SettingValue::read(other, origin_at).describe();
                    self.problems.push(ConfigProblem::for_key(
                        CUSTOM_SOURCES_KEY,
                        table_origin,
                        format!("expected a table, found {found}"),
                    ));
                }
            }
        }
    }

    fn read_custom_table(
        &mut self,
        table: &DeTable<'_>,
        table_origin: SettingOrigin,
        origin_at: &dyn Fn(usize) -> SettingOrigin,
    ) {
        let name = self.read_custom_name(table, &table_origin, origin_at);
        // Unique label: a valid name contains no `#`.
        let label = name
            .as_deref()
            .map_or_else(|| format!("#{}", self.custom.len() + 1), key_label);
        let section = format!("{CUSTOM_SOURCES_KEY}.{label}");
        for (key, value) in defaults() {
            self.settings.insert(
                format!("{section}.{key}"),
                DraftSetting {
                    value,
                    origin: SettingOrigin::Defaults,
                },
            );
        }
        for (key, value) in table {
            let key_origin = origin_at(key.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("name", _) => {}
                ("scheme", DeValue::Table(scheme)) => {
                    for (key, value) in scheme {
                        let key_origin = origin_at(key.span().start);
                        self.set_custom_key(
                            &section,
                            &format!("scheme.{}", key.get_ref()),
                            value.get_ref(),
                            key_origin,
                            origin_at,
                        );
                    }
                }
                ("scheme", other) => {
                    let found = SettingValue::read(other, origin_at).describe();
                    let detail = format!(
                        "expected a table such as {{ header = \"X-Signature\", … }}, found {found}"
                    );
                    self.problems.push(ConfigProblem::for_key(
                        &format!("{section}.scheme"),
                        key_origin,
                        detail,
                    ));
                }
                (key, value) => self.set_custom_key(&section, key, value, key_origin, origin_at),
            }
        }
        self.custom.push(CustomSourceTable {
            section,
            name,
            origin: table_origin,
        });
    }

    fn set_custom_key(
        &mut self,
        section: &str,
        key: &str,
        value: &DeValue<'_>,
        key_origin: SettingOrigin,
        origin_at: &dyn Fn(usize) -> SettingOrigin,
    ) {
        if let Some(setting) = self.settings.get_mut(&format!("{section}.{key}")) {
            *setting = DraftSetting {
                value: SettingValue::read(value, origin_at),
                origin: key_origin,
            };
            return;
        }
        let known = defaults().map(|(key, _)| key);
        let hint = match nearest_key(key, known.into_iter().chain(["name"])) {
            Some(nearest) => format!("the nearest is `{nearest}`"),
            None => format!("there are name, {}", known.join(", ")),
        };
        self.problems.push(ConfigProblem::without_key(
            key_origin,
            format!("unknown key `{key}` of a configured source; {hint}"),
        ));
    }

    /// Returns the name of the source, or reports that `table` has no valid one.
    fn read_custom_name(
        &mut self,
        table: &DeTable<'_>,
        table_origin: &SettingOrigin,
        origin_at: &dyn Fn(usize) -> SettingOrigin,
    ) -> Option<String> {
        let found = table.iter().find(|(key, _)| key.get_ref() == "name");
        let checked = match found.map(|(_, value)| value.get_ref()) {
            Some(DeValue::String(name)) => self.check_custom_name(name),
            Some(other) => Err(format!(
                "expected a string, found {}",
                SettingValue::read(other, origin_at).describe()
            )),
            None => Err("missing: it is in the path, /in/<name>".to_owned()),
        };
        let key_origin = found.map_or_else(
            || table_origin.clone(),
            |(key, _)| origin_at(key.span().start),
        );
        checked
            .map_err(|detail| {
                self.problems.push(ConfigProblem::for_key(
                    &format!("{CUSTOM_SOURCES_KEY}.name"),
                    key_origin,
                    detail,
                ))
            })
            .ok()
    }

    fn check_custom_name(&self, name: &str) -> Result<String, String> {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(format!(
                "expected 1 to 64 of a-z, 0-9, _ and -, found {name:?}"
            ));
        }
        if RESERVED_NAMES.contains(&name) || Kind::BUILT_IN.iter().any(|kind| kind.as_str() == name)
        {
            return Err(format!("{name:?} is a reserved name; choose another"));
        }
        // The names `a-b` and `a_b` would share one environment variable.
        if self.has_custom_section(&custom_section(name)) {
            return Err(format!(
                "{name:?} is the name of another configured source, or differs only in - and _"
            ));
        }
        Ok(name.to_owned())
    }
}

impl ConfigDraft {
    /// Tells if there is a configured source whose keys begin with `section`.
    pub(in crate::config) fn has_custom_section(&self, section: &str) -> bool {
        self.settings.contains_key(&format!("{section}.enabled"))
    }
}

/// Returns the prefix of the keys of the configured source with this valid name.
pub(in crate::config) fn custom_section(name: &str) -> String {
    format!("{CUSTOM_SOURCES_KEY}.{}", key_label(name))
}

/// Spelling of a name in keys, limited to the characters of an environment variable.
fn key_label(name: &str) -> String {
    name.replace('-', "_")
}
