//! Fields of an HTML form, in a body or a query.

use std::borrow::Cow;

use crate::event::Timestamp;

/// Fields in the order in which they were sent. A name may occur several times.
#[derive(Clone, Debug, Default)]
pub(super) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Makes fields of these names and values.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Parses `application/x-www-form-urlencoded` bytes. Line ends become `\n`: browsers send `\r\n`
    /// whatever the page held.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let owned = |text: Cow<'_, str>| text.replace("\r\n", "\n");
        let pairs = form_urlencoded::parse(bytes);
        Self(
            pairs
                .map(|(name, value)| (owned(name), owned(value)))
                .collect(),
        )
    }

    /// Completes the fields `since` and `until`, which a browser sends without a time zone, to UTC.
    pub(super) fn with_utc_times(mut self) -> Self {
        let times = self.0.iter_mut();
        for (_, value) in times.filter(|(name, _)| matches!(name.as_str(), "since" | "until")) {
            *value = as_utc(value);
        }
        self
    }

    /// Drops the fields without a value.
    pub(super) fn without_empty(mut self) -> Self {
        self.0.retain(|(_, value)| !value.is_empty());
        self
    }

    /// Drops the fields that are not called one of `names`.
    pub(super) fn only(mut self, names: &[&str]) -> Self {
        self.0.retain(|(name, _)| names.contains(&name.as_str()));
        self
    }

    /// Drops the fields called `name`.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    /// Returns all fields, each with its name and value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the fields with `name` set to `value`, in place of what it had.
    pub(super) fn with(self, name: &str, value: &str) -> Self {
        let mut fields = self.without(name);
        fields.0.push((name.to_owned(), value.to_owned()));
        fields
    }

    /// Returns the text of the field `name`, without spaces around it; empty if it was not sent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// Returns the text of the field `name` as it was sent, but for its line ends; empty if it was not
    /// sent.
    pub(super) fn raw(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns the texts of all fields called `name`.
    pub(super) fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(known, _)| known == name);
        found.map(|(_, value)| value.trim())
    }

    /// Returns true if the field was sent, as a ticked box is.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.all(name).next().is_some()
    }

    /// Writes the fields as a query, without a question mark.
    pub(super) fn to_query(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.0)
            .finish()
    }
}

/// Completes `2026-01-31T10:30`, as a browser sends a local time, to a time in UTC.
pub(super) fn as_utc(text: &str) -> String {
    [format!("{text}:00Z"), format!("{text}Z")]
        .into_iter()
        .find(|text| Timestamp::parse(text).is_some())
        .unwrap_or_else(|| text.to_owned())
}

/// Writes `time` for a field of a form, in UTC to the second.
pub(super) fn field_value(time: Timestamp) -> String {
    time.to_string().chars().take(19).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_form_is_in_utc() {
        assert_eq!(as_utc("2026-01-31T10:30"), "2026-01-31T10:30:00Z");
        assert_eq!(as_utc("2026-01-31T10:30:15"), "2026-01-31T10:30:15Z");
        assert_eq!(
            as_utc("2026-01-31T10:30:15+02:00"),
            "2026-01-31T10:30:15+02:00"
        );
        assert_eq!(as_utc("soon"), "soon");
        let query = FormFields::parse(b"since=2026-01-31T10%3A30&at=2026-01-31T10%3A30");
        let query = query.with_utc_times();
        assert_eq!(query.text("since"), "2026-01-31T10:30:00Z");
        assert_eq!(query.text("at"), "2026-01-31T10:30");
        let time = Timestamp::parse("2026-01-31T10:30:15.120Z").expect("a time");
        assert_eq!(field_value(time), "2026-01-31T10:30:15");
    }

    #[test]
    fn fields_are_read_and_written() {
        let fields = FormFields::parse(b"a=1&b=&a=+2+&text=x%0D%0Ay%26");
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((fields.text("text"), fields.text("none")), ("x\ny&", ""));
        assert!(fields.has("b") && !fields.has("c"));

        let query = fields.without_empty().with("a", "3").to_query();
        assert_eq!(query, "text=x%0Ay%26&a=3");
    }
}
