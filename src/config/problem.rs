//! Problems of a configuration, each with its origin, reported all together.

use std::fmt;
use std::path::PathBuf;

/// Origin of a setting. Problems are shown in the order of the variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SettingOrigin {
    /// Embedded default; the operator did not set the key.
    Defaults,
    /// Development mode, which sets what the operator did not set.
    Development,
    /// Configuration file, with the line (from 1) if it is known.
    File(PathBuf, Option<usize>),
    /// Environment variable with this name.
    Environment(String),
}

impl SettingOrigin {
    pub(super) const fn is_defaults(&self) -> bool {
        matches!(self, Self::Defaults)
    }
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("default"),
            Self::Development => f.write_str("dev"),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
        }
    }
}

/// Single problem of a configuration. Its text never shows a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    origin: SettingOrigin,
    key: Option<String>,
    detail: String,
}

impl ConfigProblem {
    /// Creates a problem at `place` that belongs to no single key.
    pub(super) fn without_key(origin: SettingOrigin, detail: impl Into<String>) -> Self {
        Self {
            origin,
            key: None,
            detail: detail.into(),
        }
    }

    /// Creates a problem of `key`, which was set at `place`.
    pub(super) fn for_key(key: &str, origin: SettingOrigin, detail: impl Into<String>) -> Self {
        Self {
            origin,
            key: Some(key.to_owned()),
            detail: detail.into(),
        }
    }

    /// Tells if the problem lies in the configuration file.
    pub(super) fn is_in_file(&self) -> bool {
        matches!(self.origin, SettingOrigin::File(..))
    }

    /// Key with the problem, such as `server.bind`; `None` if no single key has it.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.is_defaults() {
            write!(f, "{}: ", self.origin)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// All problems of a configuration: those of the file in its order, then those of the environment.
/// Never empty. The warnings come after them, so that one look finds everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
    warnings: Vec<ConfigProblem>,
}

impl ConfigError {
    /// Returns `Err` with the sorted `problems`, or the `warnings` if there are none.
    pub(super) fn fail_if_any(
        mut problems: Vec<ConfigProblem>,
        warnings: Vec<ConfigProblem>,
    ) -> Result<Vec<ConfigProblem>, Self> {
        if problems.is_empty() {
            return Ok(warnings);
        }
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Err(Self { problems, warnings })
    }

    /// Iterates over the problems in their order of display.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigProblem> {
        self.problems.iter()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration has a problem:")?,
            count => write!(f, "the configuration has {count} problems:")?,
        }
        let (mut problems, mut warnings) = (self.problems.iter(), self.warnings.iter());
        problems.try_for_each(|problem| write!(f, "\n  {problem}"))?;
        warnings.try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl std::error::Error for ConfigError {}
