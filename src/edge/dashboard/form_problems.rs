//! Problems of the fields of a form that was refused, shown beside each field.

use maud::{Markup, html};

use super::layout::sentence;
use crate::edge::error::ApiError;
use crate::edge::field_error::FieldError;

/// Error of the last attempt to save a form, if there was one.
#[derive(Clone, Copy)]
pub(super) struct FormProblems<'a>(Option<&'a ApiError>);

impl<'a> FormProblems<'a> {
    pub(super) const fn new(error: Option<&'a ApiError>) -> Self {
        Self(error)
    }

    /// Renders the notice above the form.
    pub(super) fn notice(self) -> Markup {
        let Some(error) = self.0 else {
            return html! {};
        };
        html! {
            div.notice.bad role="alert" {
                p {
                    strong { "Not saved. " }
                    @if error.field_errors().is_empty() { (sentence(&error.to_string())) }
                    @else { "The fields marked below need another value." }
                }
            }
        }
    }

    /// Value of `aria-invalid` for the field `name`.
    pub(super) fn invalid(self, name: &str) -> Option<&'static str> {
        self.texts(name).next().map(|_| "true")
    }

    /// Renders what is wrong with the field `name`.
    pub(super) fn render(self, name: &str) -> Markup {
        html! { @for problem in self.texts(name) { p.error { (problem) } } }
    }

    /// Problems of the field `name`, its items and its members, as sentences.
    fn texts<'n>(self, name: &'n str) -> impl Iterator<Item = String> + use<'a, 'n> {
        let errors = self.0.map_or(&[][..], ApiError::field_errors);
        let found = errors.iter().filter(move |error| {
            let rest = error.field.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        });
        found.map(move |error| describe(error, name))
    }
}

/// Writes the problem of the field `name` or of a part of it. The name stands on the label of the form,
/// so the sentence begins with a word for it, or with the place of the item.
fn describe(error: &FieldError, name: &str) -> String {
    let problem = error.detail.strip_prefix(&*error.field);
    let Some(problem) = problem.and_then(|problem| problem.strip_prefix(' ')) else {
        return sentence(&error.detail);
    };
    let part = error.field.strip_prefix(name).unwrap_or_default();
    let index = part
        .strip_prefix('[')
        .and_then(|part| part.strip_suffix(']'));
    let index = index.and_then(|index| index.parse::<usize>().ok());
    match (part, index) {
        ("", _) => sentence(&format!("this {problem}")),
        (_, Some(index)) => sentence(&format!("item {} {problem}", index + 1)),
        (part, None) => sentence(&format!("{} {problem}", part.trim_start_matches('.'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Is refused", "Events[0] is no valid pattern" and "Retry_schedule_s[1] must be" stood beside the
    /// fields.
    #[test]
    fn a_problem_is_a_sentence_about_the_field_or_its_item() {
        for (field, name, detail, said) in [
            ("url", "url", "url is refused: no", "This is refused: no."),
            (
                "retry_schedule_s[1]",
                "retry_schedule_s",
                "retry_schedule_s[1] must be a number",
                "Item 2 must be a number.",
            ),
            (
                "seen",
                "seen",
                "load the page again",
                "Load the page again.",
            ),
        ] {
            let error = FieldError {
                field: field.into(),
                detail: detail.to_owned(),
            };
            assert_eq!(describe(&error, name), said);
        }
    }
}
