//! A setting before it is judged: its value as it was written, and where.

use toml::de::DeValue;

use super::problem::SettingOrigin;
use super::secret::Secret;

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum SettingValue {
    /// From the environment: text that becomes what its key wants.
    Raw(Secret),
    Text(Secret),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<DraftSetting>),
    /// Something that no key takes, under its name.
    Other(&'static str),
    /// Already read.
    Taken,
}

impl SettingValue {
    pub(super) fn read(value: &DeValue<'_>, place: &dyn Fn(usize) -> SettingOrigin) -> Self {
        match value {
            DeValue::String(text) => Self::Text(Secret::new(text.as_ref())),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Self::Integer(number),
                    Err(_) => Self::Other("a number beyond 64 bits"),
                }
            }
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or(Self::Other("a number"), Self::Float),
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| DraftSetting {
                        value: Self::read(item.get_ref(), place),
                        place: place(item.span().start),
                    })
                    .collect(),
            ),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// Whether it gives nothing: an empty text or list.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Raw(text) | Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) | Self::Taken => {
                false
            }
        }
    }

    /// What it is, for a message that says what was expected instead.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Raw(_) | Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Other(name) => name,
            Self::Taken => "nothing",
        }
    }
}

/// A value and where it was set.
#[derive(Clone, Debug)]
pub(super) struct DraftSetting {
    pub(super) value: SettingValue,
    pub(super) place: SettingOrigin,
}
