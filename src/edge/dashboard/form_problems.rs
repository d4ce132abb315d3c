//! Problems of the fields of a form that was refused, shown beside each field.

use maud::{Markup, html};

use super::layout::sentence;
use crate::edge::error::ApiError;

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
        html! { @for problem in self.texts(name) { p.error { (sentence(problem)) } } }
    }

    /// Problems of the field `name`, its items and its members.
    fn texts<'n>(self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let errors = self.0.map_or(&[][..], ApiError::field_errors);
        let found = errors.iter().filter(move |error| {
            let rest = error.field.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        });
        found.map(move |error| {
            // The name of the whole field stands on its label; that of an item tells which one.
            let problem = error
                .detail
                .strip_prefix(name)
                .map(|rest| rest.strip_prefix(' '));
            problem.flatten().unwrap_or(&error.detail)
        })
    }
}
