//! Query parameters, read by name; unknown and wrong parameters are reported together.

use actix_web::web::Query;

use super::error::ApiError;
use super::fields::{FieldErrors, shorten_name};
use crate::event::{Kind, Timestamp};
use crate::projection::PageRequest;
use crate::suggest::nearest_name;

/// Items of a page if the request gives no `page_size`.
const PAGE_SIZE_DEFAULT: u64 = 20;
/// Largest `page_size` that a request may give.
pub(super) const PAGE_SIZE_MAX: u64 = 100;
/// Largest `page` that a request may give: beyond any list, and small enough that its product with
/// the page size does not overflow.
pub(super) const PAGE_MAX: u64 = u32::MAX as u64;

/// Query parameters of a request, with the errors found in them.
#[derive(Debug)]
pub(super) struct QueryParameters {
    pairs: Vec<(String, String)>,
    errors: FieldErrors,
}

impl QueryParameters {
    /// Parses a query string; parameters other than `known`, and repeated ones, become errors.
    #[must_use]
    pub(super) fn parse(query: &str, known: &[&'static str]) -> Self {
        let mut errors = FieldErrors::default();
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map(Query::into_inner)
            .unwrap_or_default();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                errors.add(
                    shorten_name(name),
                    format!("is not a known parameter; known: {}", known.join(", ")),
                );
            } else if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                errors.add(name.clone(), "must be given once");
            }
        }
        Self { pairs, errors }
    }

    /// Takes the text of the parameter `name`.
    pub(super) fn take_text(&mut self, name: &'static str) -> Option<String> {
        let (_, value) = self.pairs.iter_mut().find(|(known, _)| known == name)?;
        Some(std::mem::take(value))
    }

    /// Reads `page` and `page_size`, or their defaults.
    pub(super) fn page_request(&mut self) -> PageRequest {
        PageRequest {
            page: self.number("page", 1, PAGE_MAX),
            page_size: self.number("page_size", PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX),
        }
    }

    /// Reads the RFC 3339 time `name`.
    pub(super) fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        let text = self.take_text(name)?;
        // A plus sign that was not percent-encoded arrives as a space, as in `10:30:00 02:00`.
        let time = Timestamp::parse(&text).or_else(|| Timestamp::parse(&text.replace(' ', "+")));
        if time.is_none() {
            self.errors.add(name, "must be an RFC 3339 time");
        }
        time
    }

    /// Reads the entity kind `name`.
    pub(super) fn kind(&mut self, name: &'static str) -> Option<Kind> {
        let text = self.take_text(name)?;
        let kind = Kind::parse(&text);
        if kind.is_none() {
            let names = Kind::BUILT_IN.map(Kind::as_str);
            let nearest = nearest_name(&text, names);
            let hint = nearest.map(|nearest| format!("; did you mean {nearest}?"));
            self.errors.add(
                name,
                format!(
                    "must be one of {}, or custom:<name> for a name that is configured{}",
                    names.join(", "),
                    hint.unwrap_or_default()
                ),
            );
        }
        kind
    }

    /// Reads the parameter `name`, whose value is one of `choices`.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.take_text(name)?;
        let chosen = choices
            .iter()
            .find(|(choice, _)| *choice == text)
            .map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.errors
                .add(name, format!("must be one of {}", names.join(", ")));
        }
        chosen
    }

    /// Records that `name` is wrong; `problem` continues the sentence that begins with the name.
    pub(super) fn add_error(&mut self, name: &'static str, problem: &str) {
        self.errors.add(name, problem);
    }

    /// Returns `value` if no parameter was wrong.
    ///
    /// # Errors
    /// [`ApiError::InvalidFields`] with every wrong parameter.
    pub(super) fn finish<T>(self, value: T) -> Result<T, ApiError> {
        self.errors.finish(value)
    }

    fn number(&mut self, name: &'static str, default: u64, most: u64) -> u64 {
        let Some(text) = self.take_text(name) else {
            return default;
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text
            .parse()
            .ok()
            .filter(|number| digits && (1..=most).contains(number));
        number.unwrap_or_else(|| {
            self.errors
                .add(name, format!("must be a whole number from 1 to {most}"));
            default
        })
    }
}

/// Parses a whole number in its only accepted spelling: `007` and `+7` are refused, so that each
/// resource has one path.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    text.parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<(u64, u64), Vec<String>> {
        let mut parameters = QueryParameters::parse(query, &["page", "page_size"]);
        let page = parameters.page_request();
        parameters
            .finish((page.page, page.page_size))
            .map_err(fields)
    }

    fn fields(error: ApiError) -> Vec<String> {
        let ApiError::InvalidFields(errors) = error else {
            panic!("{error}")
        };
        errors
            .into_iter()
            .map(|error| error.field.into_owned())
            .collect()
    }

    #[test]
    fn pages_have_defaults_and_bounds() {
        assert_eq!(page(""), Ok((1, 20)));
        assert_eq!(page("page=3&page_size=100"), Ok((3, 100)));
        for query in [
            "page_size=0",
            "page_size=101",
            "page_size=-1",
            "page_size=",
            "page_size=ten",
            "page_size=%2B7",
        ] {
            assert_eq!(page(query), Err(vec!["page_size".into()]), "{query}");
        }
        assert_eq!(
            page("page=0&page_size=1000"),
            Err(vec!["page".into(), "page_size".into()])
        );
        assert_eq!(page("page=18446744073709551615"), Err(vec!["page".into()]));
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        assert_eq!(
            page("pagesize=3&page=1&page=2"),
            Err(vec!["pagesize".into(), "page".into()])
        );
    }

    #[test]
    fn a_time_may_have_an_unencoded_plus() {
        for query in [
            "since=2025-12-04T12:30:00%2B02:00",
            "since=2025-12-04T12:30:00+02:00",
            "since=2025-12-04T10:30:00Z",
        ] {
            let mut parameters = QueryParameters::parse(query, &["since"]);
            assert_eq!(
                parameters.time("since"),
                Timestamp::parse("2025-12-04T10:30:00Z"),
                "{query}"
            );
        }
        let mut parameters = QueryParameters::parse("since=yesterday&kind=car", &["since", "kind"]);
        assert_eq!(
            (parameters.time("since"), parameters.kind("kind")),
            (None, None)
        );
        assert_eq!(
            fields(parameters.finish(()).expect_err("both wrong")),
            ["since", "kind"]
        );
    }
}
