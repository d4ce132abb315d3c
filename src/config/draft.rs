//! Settings before validation: the defaults, then the file, then the environment, each with its
//! origin.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::custom::{CUSTOM_SOURCES_KEY, CustomSourceTable};
use super::dev::DevSecrets;
use super::file_permissions::describe_open_file;
use super::problem::{ConfigProblem, SettingOrigin};
use super::secret::Secret;
use super::setting::{DraftSetting, SettingValue};
use crate::provider::find_preset;
use crate::suggest::nearest_key;

mod custom;

pub(super) use custom::custom_section;

/// Embedded defaults, each with its reason. A key is known if it stands here.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

const PREFIX: &str = "HOOKYARD_";

/// Variables with the prefix that are no settings: the data folder of the benchmarks and the secret
/// of `hookyard listen`.
const NON_SETTING_VARIABLES: [&str; 2] = ["HOOKYARD_BENCH_DIR", "HOOKYARD_LISTEN_SECRET"];

/// End of the name of a variable that names a file with the secret.
const FILE_SUFFIX: &str = "_FILE";

/// Variable in which systemd gives the folder of the credentials of a service.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Sections of earlier versions and their new names, which resemble the old names too little to be
/// suggested.
const RENAMED_SECTIONS: [(&str, &str); 1] = [("calls", "call_log")];

/// Settings of all known keys, and the problems found while reading them.
#[derive(Clone, Debug)]
pub struct ConfigDraft {
    pub(super) settings: BTreeMap<String, DraftSetting>,
    /// Configured sources; their keys are among `settings` too.
    pub(super) custom: Vec<CustomSourceTable>,
    pub(super) file: Option<PathBuf>,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<ConfigProblem>,
    /// True if the file could not be read as a whole, so its settings are unknown.
    pub(super) is_broken: bool,
    pub(super) is_development: bool,
}

impl ConfigDraft {
    /// Reads `file`, if given, and the variables of `env` on top of the defaults.
    ///
    /// Problems are collected; [`ConfigDraft::finish`] reports them together with those of
    /// validation.
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
        let variables = draft.key_variables();
        let mut credentials = None;
        for (name, value) in env {
            let (name, value) = (name.into(), value.into());
            if name == CREDENTIALS_VARIABLE {
                credentials = Some(PathBuf::from(value));
                continue;
            }
            draft.read_variable(&name.to_string_lossy(), value, &variables);
        }
        if let Some(folder) = credentials {
            draft.read_credentials(&folder);
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
            warnings: Vec::new(),
            is_broken: false,
            is_development: false,
        }
    }

    /// Path of the data folder as set so far; it is not validated yet.
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

    /// Applies the defaults of `--dev`: enables every source that the operator did not switch,
    /// allows subscribers on this machine, and fills in `secrets`.
    pub fn apply_dev_mode(&mut self, secrets: &DevSecrets) {
        self.is_development = true;
        // Only the switches of sources. A switch below a source needs settings that only an
        // operator has.
        let is_switch = |key: &str| {
            let name = key
                .strip_prefix("sources.")
                .and_then(|key| key.strip_suffix(".enabled"));
            name.is_some_and(|name| !name.contains('.'))
        };
        for (_, setting) in self.settings.iter_mut().filter(|(key, _)| is_switch(key)) {
            if setting.origin == SettingOrigin::Defaults {
                setting.value = SettingValue::Boolean(true);
                setting.origin = SettingOrigin::Development;
            }
        }
        if let Some(setting) = self
            .settings
            .get_mut("delivery.allow_targets")
            .filter(|s| s.origin == SettingOrigin::Defaults)
        {
            // First trials usually deliver to a receiver on the same machine.
            let loopback = ["127.0.0.0/8", "::1/128"].map(|network| DraftSetting {
                value: SettingValue::Text(Secret::new(network)),
                origin: SettingOrigin::Development,
            });
            setting.value = SettingValue::List(loopback.into());
            setting.origin = SettingOrigin::Development;
        }
        self.fill_missing_secrets(secrets);
    }

    /// Fills in `secrets` where neither the file nor the environment sets a value.
    pub fn fill_missing_secrets(&mut self, secrets: &DevSecrets) {
        for (made, secret) in secrets.iter() {
            let text = SettingValue::Text(secret.clone());
            let value = match made.is_list() {
                true => SettingValue::List(vec![DraftSetting {
                    value: text,
                    origin: SettingOrigin::Development,
                }]),
                false => text,
            };
            if let Some(setting) = self
                .settings
                .get_mut(made.key)
                .filter(|setting| setting.value.is_empty())
            {
                setting.value = value;
                setting.origin = SettingOrigin::Development;
            }
        }
    }

    /// Adds the problem that the secrets of `--dev` cannot be read.
    pub fn report_unreadable_secrets(&mut self, detail: impl Into<String>) {
        let origin = SettingOrigin::Development;
        self.problems
            .push(ConfigProblem::without_key(origin, detail));
    }

    fn read_file(&mut self, path: &Path) {
        self.file = Some(path.to_owned());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                let origin = SettingOrigin::File(path.to_owned(), None);
                self.is_broken = true;
                return self.problems.push(ConfigProblem::without_key(
                    origin,
                    format!("cannot be read: {error}"),
                ));
            }
        };
        let line_ends: Vec<_> = text.match_indices('\n').map(|(end, _)| end).collect();
        let origin_at = |offset| {
            let line = 1 + line_ends.partition_point(|end| *end < offset);
            SettingOrigin::File(path.to_owned(), Some(line))
        };
        match DeTable::parse(&text) {
            Ok(table) => self.overlay(table.get_ref(), "", &origin_at),
            Err(error) => {
                // Only the message: the full error quotes the line, which may hold a secret.
                let origin = origin_at(error.span().map_or(text.len(), |span| span.start));
                self.is_broken = true;
                self.problems.push(ConfigProblem::without_key(
                    origin,
                    format!("not TOML: {}", error.message()),
                ));
            }
        }
    }

    fn overlay(
        &mut self,
        table: &DeTable<'_>,
        path: &str,
        origin_at: &dyn Fn(usize) -> SettingOrigin,
    ) {
        for (name, value) in table {
            let key = join_key(path, name.get_ref());
            let key_origin = origin_at(name.span().start);
            if let Some(setting) = self.settings.get_mut(&key) {
                *setting = DraftSetting {
                    value: SettingValue::read(value.get_ref(), origin_at),
                    origin: key_origin,
                };
                continue;
            }
            if key == CUSTOM_SOURCES_KEY {
                self.read_custom(value, key_origin, origin_at);
                continue;
            }
            let is_section = self.sections().any(|section| section == key);
            match (value.get_ref(), is_section) {
                (DeValue::Table(inner), true) => self.overlay(inner, &key, origin_at),
                (other, true) => {
                    let found = SettingValue::read(other, origin_at).describe();
                    self.problems.push(ConfigProblem::for_key(
                        &key,
                        key_origin,
                        format!("expected a table, found {found}"),
                    ));
                }
                (DeValue::Table(_), false) => {
                    let renamed = RENAMED_SECTIONS.iter().find(|(old, _)| *old == key);
                    let nearest = renamed
                        .map(|(_, new)| *new)
                        .or_else(|| nearest_key(&key, self.sections()));
                    let hint = suggest_preset(&key).unwrap_or_else(|| {
                        nearest.map_or_else(
                            || self.list_alternatives(&key),
                            |nearest| format!("the nearest is `{nearest}`"),
                        )
                    });
                    self.problems.push(ConfigProblem::without_key(
                        key_origin,
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
                        key_origin,
                        format!("unknown key `{key}`; {hint}"),
                    ));
                }
            }
        }
    }

    /// Returns the variables of all keys. There can be many: they are built once.
    fn key_variables(&self) -> KeyVariables {
        KeyVariables {
            keys: self
                .keys()
                .map(|key| (env_variable_name(key), key.to_owned()))
                .collect(),
            secret_keys: self.secret_keys().into_iter().collect(),
        }
    }

    /// Reads a variable that has the prefix; other variables are ignored.
    fn read_variable(&mut self, name: &str, value: OsString, variables: &KeyVariables) {
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
        // The name of a configured source may contain two underscores.
        let key = variables.keys.get(name).cloned().unwrap_or(key);
        let origin = SettingOrigin::Environment(name.to_owned());
        let Ok(value) = value.into_string() else {
            return self
                .problems
                .push(ConfigProblem::without_key(origin, "not UTF-8"));
        };

        if let Some(setting) = self.settings.get_mut(&key) {
            if is_set_by_other(setting, name) {
                return self.problems.push(set_twice(&key, origin));
            }
            *setting = DraftSetting {
                value: SettingValue::Raw(Secret::new(value)),
                origin,
            };
            return;
        }
        let of_file = name.strip_suffix(FILE_SUFFIX);
        let of_file = of_file.and_then(|name| variables.keys.get(name));
        if let Some(key) = of_file.filter(|key| variables.secret_keys.contains(*key)) {
            return self.read_secret_file(key, Path::new(&value), origin);
        }

        let section = key.rsplit_once('.').map(|(section, _)| section);
        let of_preset = section.and_then(suggest_preset);
        let hint = match (of_preset, nearest_key(&key, self.keys())) {
            (Some(table), _) => table,
            (None, Some(nearest)) => format!(
                "the nearest is `{nearest}` ({})",
                env_variable_name(nearest)
            ),
            // Ignored: container platforms set variables such as HOOKYARD_PORT for a service of
            // that name.
            (None, None) if !key.contains('.') => return,
            (None, None) => self.list_alternatives(&key),
        };
        let detail = match key.contains('.') {
            true => format!("sets the unknown key `{key}`; {hint}"),
            false => format!("sets no key: two underscores separate the levels; {hint}"),
        };
        self.problems
            .push(ConfigProblem::without_key(origin, detail));
    }

    /// Reads the credentials that systemd puts into `folder`, each named as `hookyard.` and the key of
    /// a secret. Variables override them.
    fn read_credentials(&mut self, folder: &Path) {
        for key in self.secret_keys() {
            let file = folder.join(format!("hookyard.{key}"));
            let setting = self.settings.get(&key);
            let is_set = setting
                .is_some_and(|setting| matches!(setting.origin, SettingOrigin::Environment(_)));
            if !is_set && file.exists() {
                let origin = SettingOrigin::File(file.clone(), None);
                self.read_secret_file(&key, &file, origin);
            }
        }
    }

    /// Sets `key` to the secret in `file`, or to its secrets, one on each line.
    fn read_secret_file(&mut self, key: &str, file: &Path, origin: SettingOrigin) {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                let detail = format!("{} cannot be read: {error}", file.display());
                return self
                    .problems
                    .push(ConfigProblem::for_key(key, origin, detail));
            }
        };
        if let Some(detail) = describe_open_file(file) {
            let warning = ConfigProblem::for_key(key, origin.clone(), detail);
            self.warnings.push(warning);
        }
        let Some(setting) = self.settings.get_mut(key) else {
            return;
        };
        let variable = format!("{}{FILE_SUFFIX}", env_variable_name(key));
        if is_set_by_other(setting, &variable) {
            return self.problems.push(set_twice(key, origin));
        }
        let lines = text.lines().map(str::trim_end);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        setting.value = match (&setting.value, lines.as_slice()) {
            (SettingValue::List(_), lines) => SettingValue::List(
                lines
                    .iter()
                    .map(|line| DraftSetting {
                        value: SettingValue::Text(Secret::new(*line)),
                        origin: origin.clone(),
                    })
                    .collect(),
            ),
            (_, lines) => SettingValue::Text(Secret::new(lines.join("\n"))),
        };
        setting.origin = origin;
    }

    /// Lists alternatives to a `key` that resembles no known key: the keys of its section, else all
    /// sections.
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

    /// Returns every proper prefix of a key, such as `sources` and `sources.support` for
    /// `sources.support.enabled`.
    fn sections(&self) -> impl Iterator<Item = &str> {
        self.keys()
            .flat_map(|key| key.match_indices('.').map(move |(end, _)| &key[..end]))
            .chain([CUSTOM_SOURCES_KEY])
    }
}

/// Keys by the names of the variables that set them.
struct KeyVariables {
    keys: HashMap<String, String>,
    /// Keys of secrets, which a file may hold.
    secret_keys: HashSet<String>,
}

/// Describes the table of a source if `key` is a section that is named after a preset.
fn suggest_preset(key: &str) -> Option<String> {
    let preset = find_preset(key.strip_prefix("sources.")?)?.name;
    Some(format!(
        "write [[sources.custom]] with name = {preset:?} and preset = {preset:?}"
    ))
}

/// Returns true if a variable of another name has set the key.
fn is_set_by_other(setting: &DraftSetting, variable: &str) -> bool {
    matches!(&setting.origin, SettingOrigin::Environment(other) if other != variable)
}

fn set_twice(key: &str, origin: SettingOrigin) -> ConfigProblem {
    let detail = format!("set twice: by {} and by a file", env_variable_name(key));
    ConfigProblem::for_key(key, origin, detail)
}

/// Returns the environment variable that sets `key`.
pub(crate) fn env_variable_name(key: &str) -> String {
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
                        origin: SettingOrigin::Defaults,
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
