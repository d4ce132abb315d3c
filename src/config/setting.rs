//! Setting before validation: its value as written, and its origin.

use toml::de::DeValue;

use super::problem::SettingOrigin;
use super::secret::Secret;

/// Value of a setting as it was written.
#[derive(Clone, Debug)]
pub(super) enum SettingValue {
    /// Text of an environment variable, parsed when the type of its key is known.
    Raw(Secret),
    Text(Secret),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<DraftSetting>),
    /// Value of a type that no key accepts, with the type's name.
    Other(&'static str),
    /// Placeholder of a value that validation has taken.
    Taken,
}

impl SettingValue {
    pub(super) fn read(value: &DeValue<'_>, origin_at: &dyn Fn(usize) -> SettingOrigin) -> Self {
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
                        value: Self::read(item.get_ref(), origin_at),
                        origin: origin_at(item.span().start),
                    })
                    .collect(),
            ),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// Tells if the value is an empty text or an empty list.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Raw(text) | Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) | Self::Taken => {
                false
            }
        }
    }

    /// Removes the line breaks at the end of the text, or of each text in the list; returns true if
    /// there were any.
    pub(super) fn trim_line_end(&mut self) -> bool {
        match self {
            Self::Raw(text) | Self::Text(text) => {
                let trimmed = text.expose().trim_end_matches(['\r', '\n']);
                let has_line_end = trimmed.len() < text.expose().len();
                if has_line_end {
                    *text = Secret::new(trimmed);
                }
                has_line_end
            }
            Self::List(items) => items
                .iter_mut()
                .fold(false, |is_any, item| item.value.trim_line_end() | is_any),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) | Self::Taken => {
                false
            }
        }
    }

    /// Returns true if a text begins or ends with a space. The items of a variable are trimmed.
    pub(super) fn has_outer_space(&self) -> bool {
        match self {
            Self::Text(text) => text.expose().trim() != text.expose(),
            Self::List(items) => items.iter().any(|item| item.value.has_outer_space()),
            Self::Raw(_)
            | Self::Integer(_)
            | Self::Float(_)
            | Self::Boolean(_)
            | Self::Other(_)
            | Self::Taken => false,
        }
    }

    /// Names the type of the value, for a message that also names the expected type.
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

/// Value of a setting and its origin.
#[derive(Clone, Debug)]
pub(super) struct DraftSetting {
    pub(super) value: SettingValue,
    pub(super) origin: SettingOrigin,
}
