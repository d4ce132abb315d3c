//! The settings before they are judged: the defaults, overlaid by the file, overlaid by the
//! environment, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::custom::{CUSTOM_SOURCES_KEY, CustomSourceTable};
use super::dev::DevSecrets;
use super::problem::{ConfigProblem, SettingOrigin};
use super::secret::Secret;
use super::setting::{DraftSetting, SettingValue};
use crate::suggest::nearest_key;

mod custom;

/// The embedded defaults; the keys in it are the keys there are.
const DEFAULTS: &str = include_str!("../../config/default.toml");

const PREFIX: &str = "HOOKYARD_";

/// Ours, but no settings: where the benchmarks keep their data, and what `hookyard listen` verifies
/// with.
const NON_SETTING_VARIABLES: [&str; 2] = ["HOOKYARD_BENCH_DIR", "HOOKYARD_LISTEN_SECRET"];

/// The settings of every key there is, and what was wrong on the way to them.
#[derive(Clone, Debug)]
pub struct ConfigDraft {
    pub(super) settings: BTreeMap<String, DraftSetting>,
    /// The configured sources, whose keys are among the settings too.
    pub(super) custom: Vec<CustomSourceTable>,
    pub(super) file: Option<PathBuf>,
    pub(super) problems: Vec<ConfigProblem>,
    /// Whether the file could not be read as a whole, so that nothing can be said of what is in it.
    pub(super) is_broken: bool,
}

impl ConfigDraft {
    /// Reads `file`, if there is one, and the variables of `env` that set something, on top of the
    /// defaults.
    ///
    /// Problems are kept and reported when the draft is finished, together with those found then.
    #[must_use]
    pub fn from_toml<N, V>(file: Option<&Path>, env: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let mut draft = Self::default_settings();
        if let Some(path) = file {
            draft.read_file(path);
        }
        for (name, value) in env {
            draft.read_variable(&name.into().to_string_lossy(), value.into());
        }
        draft
    }

    fn default_settings() -> Self {
        let table = DeTable::parse(DEFAULTS).expect("the embedded defaults are tested to be TOML");
        let mut leaves = BTreeMap::new();
        flatten_table(table.get_ref(), "", &mut leaves);
        Self {
            settings: leaves,
            custom: Vec::new(),
            file: None,
            problems: Vec::new(),
            is_broken: false,
        }
    }

    /// Where the data folder is, as far as this draft says.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        match self
            .settings
            .get("store.path")
            .map(|setting| &setting.value)
        {
            Some(SettingValue::Text(path) | SettingValue::Raw(path)) => path.expose().into(),
            _ => PathBuf::new(),
        }
    }

    /// Enables every source that is not switched off or on, allows subscribers on this machine, and
    /// fills in `secrets`.
    pub fn apply_dev_mode(&mut self, secrets: &DevSecrets) {
        // Of the sources themselves only: what one of them does besides calls for settings that
        // only an operator has.
        let is_switch = |key: &str| {
            let name = key
                .strip_prefix("sources.")
                .and_then(|key| key.strip_suffix(".enabled"));
            name.is_some_and(|name| !name.contains('.'))
        };
        for (_, setting) in self.settings.iter_mut().filter(|(key, _)| is_switch(key)) {
            if setting.place == SettingOrigin::Defaults {
                setting.value = SettingValue::Boolean(true);
            }
        }
        if let Some(setting) = self
            .settings
            .get_mut("delivery.allow_targets")
            .filter(|s| s.place == SettingOrigin::Defaults)
        {
            // A receiver on the same machine is what a person tries first.
            let loopback = ["127.0.0.0/8", "::1/128"].map(|network| DraftSetting {
                value: SettingValue::Text(Secret::new(network)),
                place: SettingOrigin::Defaults,
            });
            setting.value = SettingValue::List(loopback.into());
        }
        self.fill_missing_secrets(secrets);
    }

    /// Fills in `secrets` where neither the file nor the environment gives any.
    pub fn fill_missing_secrets(&mut self, secrets: &DevSecrets) {
        for (made, secret) in secrets.iter() {
            let text = SettingValue::Text(secret.clone());
            let value = match made.is_list() {
                true => SettingValue::List(vec![DraftSetting {
                    value: text,
                    place: SettingOrigin::Defaults,
                }]),
                false => text,
            };
            if let Some(setting) = self
                .settings
                .get_mut(made.key)
                .filter(|setting| setting.value.is_empty())
            {
                setting.value = value;
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        self.file = Some(path.to_owned());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                let place = SettingOrigin::File(path.to_owned(), None);
                self.is_broken = true;
                return self.problems.push(ConfigProblem::without_key(
                    place,
                    format!("cannot be read: {error}"),
                ));
            }
        };
        let place = |offset| SettingOrigin::File(path.to_owned(), Some(line_number(&text, offset)));
        match DeTable::parse(&text) {
            Ok(table) => self.overlay(table.get_ref(), "", &place),
            Err(error) => {
                // Only the message: the error's own display quotes the line, which may hold a
                // secret.
                let place = place(error.span().map_or(text.len(), |span| span.start));
                self.is_broken = true;
                self.problems.push(ConfigProblem::without_key(
                    place,
                    format!("not TOML: {}", error.message()),
                ));
            }
        }
    }

    fn overlay(&mut self, table: &DeTable<'_>, path: &str, place: &dyn Fn(usize) -> SettingOrigin) {
        for (name, value) in table {
            let key = join_key(path, name.get_ref());
            let here = place(name.span().start);
            if let Some(setting) = self.settings.get_mut(&key) {
                *setting = DraftSetting {
                    value: SettingValue::read(value.get_ref(), place),
                    place: here,
                };
                continue;
            }
            if key == CUSTOM_SOURCES_KEY {
                self.read_custom(value, here, place);
                continue;
            }
            let is_section = self.sections().any(|section| section == key);
            match (value.get_ref(), is_section) {
                (DeValue::Table(inner), true) => self.overlay(inner, &key, place),
                (other, true) => {
                    let found = SettingValue::read(other, place).describe();
                    self.problems.push(ConfigProblem::for_key(
                        &key,
                        here,
                        format!("expected a table, found {found}"),
                    ));
                }
                (DeValue::Table(_), false) => {
                    let hint = nearest_key(&key, self.sections()).map_or_else(
                        || self.list_alternatives(&key),
                        |nearest| format!("the nearest is `{nearest}`"),
                    );
                    self.problems.push(ConfigProblem::without_key(
                        here,
                        format!("unknown section `{key}`; {hint}"),
                    ));
                }
                (_, false) => {
                    let hint = nearest_key(&key, self.keys().chain([CUSTOM_SOURCES_KEY]))
                        .map_or_else(
                            || self.list_alternatives(&key),
                            |nearest| format!("the nearest is `{nearest}`"),
                        );
                    self.problems.push(ConfigProblem::without_key(
                        here,
                        format!("unknown key `{key}`; {hint}"),
                    ));
                }
            }
        }
    }

    /// Takes the variables with our prefix; all others are somebody else's.
    fn read_variable(&mut self, name: &str, value: OsString) {
        let Some(path) = name
            .strip_prefix(PREFIX)
            .filter(|_| !NON_SETTING_VARIABLES.contains(&name))
        else {
            return;
        };
        let key = path
            .split("__")
            .map(str::to_lowercase)
            .collect::<Vec<_>>()
            .join(".");
        // The name of a configured source may have two underscores of its own.
        let key = self
            .keys()
            .find(|known| env_variable_name(known) == name)
            .map_or(key, str::to_owned);
        let place = SettingOrigin::Environment(name.to_owned());
        let Ok(value) = value.into_string() else {
            return self
                .problems
                .push(ConfigProblem::without_key(place, "not UTF-8"));
        };
        if let Some(setting) = self.settings.get_mut(&key) {
            *setting = DraftSetting {
                value: SettingValue::Raw(Secret::new(value)),
                place,
            };
            return;
        }
        let hint = match nearest_key(&key, self.keys()) {
            Some(nearest) => format!(
                "the nearest is `{nearest}` ({})",
                env_variable_name(nearest)
            ),
            // Not meant for us: container platforms make variables like HOOKYARD_PORT for a service
            // of that name.
            None if !key.contains('.') => return,
            None => self.list_alternatives(&key),
        };
        let detail = match key.contains('.') {
            true => format!("sets the unknown key `{key}`; {hint}"),
            false => format!("sets no key, since two underscores stand between the levels; {hint}"),
        };
        self.problems
            .push(ConfigProblem::without_key(place, detail));
    }

    /// What could stand instead of `key`, which resembles nothing: the keys of its section, or else
    /// the sections.
    fn list_alternatives(&self, key: &str) -> String {
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let keys: Vec<_> = self
            .keys()
            .filter_map(|key| key.strip_prefix(section)?.strip_prefix('.'))
            .collect();
        if !keys.is_empty() {
            return format!("`{section}` has {}", keys.join(", "));
        }
        let sections: BTreeSet<_> = self
            .keys()
            .filter_map(|key| key.rsplit_once('.'))
            .map(|(name, _)| name)
            .collect();
        format!(
            "the sections are {}",
            sections.into_iter().collect::<Vec<_>>().join(", ")
        )
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Every proper prefix of a key: `sources` and `sources.support` for `sources.support.enabled`.
    fn sections(&self) -> impl Iterator<Item = &str> {
        self.keys()
            .flat_map(|key| key.match_indices('.').map(move |(end, _)| &key[..end]))
            .chain([CUSTOM_SOURCES_KEY])
    }
}

/// The environment variable that sets `key`.
pub(super) fn env_variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn flatten_table(table: &DeTable<'_>, path: &str, leaves: &mut BTreeMap<String, DraftSetting>) {
    for (name, value) in table {
        let key = join_key(path, name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => flatten_table(inner, &key, leaves),
            leaf => {
                let value = SettingValue::read(leaf, &|_| SettingOrigin::Defaults);
                leaves.insert(
                    key,
                    DraftSetting {
                        value,
                        place: SettingOrigin::Defaults,
                    },
                );
            }
        }
    }
}

fn join_key(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn line_number(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}
