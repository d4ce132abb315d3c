//! What is wrong with a configuration: every problem with its place, all of them at once.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was made. Problems are shown in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SettingOrigin {
    /// In the defaults, that is, nowhere by the operator.
    Defaults,
    /// In the file, on a line counted from 1 where one is known.
    File(PathBuf, Option<usize>),
    /// In this environment variable.
    Environment(String),
}

/// One thing that is wrong. Never shows a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    place: SettingOrigin,
    key: Option<String>,
    detail: String,
}

impl ConfigProblem {
    /// Something wrong at `place` that is about no single key.
    pub(super) fn without_key(place: SettingOrigin, detail: impl Into<String>) -> Self {
        Self {
            place,
            key: None,
            detail: detail.into(),
        }
    }

    /// Something wrong with `key`, set at `place`.
    pub(super) fn for_key(key: &str, place: SettingOrigin, detail: impl Into<String>) -> Self {
        Self {
            place,
            key: Some(key.to_owned()),
            detail: detail.into(),
        }
    }

    /// Whether it is the file's.
    pub(super) fn is_in_file(&self) -> bool {
        matches!(self.place, SettingOrigin::File(..))
    }

    /// The key it is about, such as `server.bind`, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            SettingOrigin::Defaults => {}
            SettingOrigin::File(path, Some(line)) => write!(f, "{}:{line}: ", path.display())?,
            SettingOrigin::File(path, None) => write!(f, "{}: ", path.display())?,
            SettingOrigin::Environment(variable) => write!(f, "{variable}: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// Everything that is wrong with a configuration, in the order of the file, then the environment.
/// Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<ConfigProblem>);

impl ConfigError {
    /// `Err` with `problems` in their order, or `Ok` if there are none.
    pub(super) fn fail_if_any(mut problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        Err(Self(problems))
    }

    /// The problems, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigProblem> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a problem:")?,
            count => write!(f, "the configuration has {count} problems:")?,
        }
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}
