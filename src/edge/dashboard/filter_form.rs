//! Form above a list that filters it: the same for every list.

use actix_web::ResponseError;
use maud::{Markup, html};

use super::elements::{empty_state, select_option};
use super::form::{FormFields, field_value};
use super::form_problems::FormProblems;
use super::layout::{DashboardSection, PageContent, sentence};
use super::visit::{PageReply, PageVisit};
use crate::edge::error::ApiError;
use crate::event::Timestamp;

/// Form that sends its fields as the query of the list's page, and shows what the query has now.
pub(super) struct FilterForm<'a> {
    path: &'a str,
    query: &'a FormFields,
    button: &'a str,
    /// Name of each field, with its label and input.
    fields: Vec<(String, Markup)>,
}

impl<'a> FilterForm<'a> {
    /// Creates the form of the list at `path`, which `query` filters now.
    pub(super) const fn new(path: &'a str, query: &'a FormFields) -> Self {
        Self {
            path,
            query,
            button: "Filter",
            fields: Vec::new(),
        }
    }

    /// Writes `label` on the button in place of `Filter`.
    pub(super) const fn button(mut self, label: &'a str) -> Self {
        self.button = label;
        self
    }

    /// Adds a choice of `options`, each a value and its label; the first of them is no filter.
    pub(super) fn choice<'o>(
        mut self,
        name: &str,
        label: &str,
        options: impl IntoIterator<Item = (&'o str, &'o str)>,
    ) -> Self {
        let current = self.query.text(name);
        let field = html! {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for (value, label) in options { (select_option(value, label, current)) }
            }
        };
        self.fields.push((name.to_owned(), field));
        self
    }

    /// Adds a field to write in.
    pub(super) fn text(self, name: &str, label: &str) -> Self {
        self.example(name, label, "")
    }

    /// Adds a field to write in that shows `example` while it is empty.
    pub(super) fn example(mut self, name: &str, label: &str, example: &str) -> Self {
        let example = Some(example).filter(|example| !example.is_empty());
        let field = html! {
            label for=(name) { (label) }
            input type="text" id=(name) name=(name) value=(self.query.text(name))
                placeholder=[example];
        };
        self.fields.push((name.to_owned(), field));
        self
    }

    /// Adds the fields `since` and `until`, in UTC.
    pub(super) fn times(mut self) -> Self {
        for (name, label) in [("since", "Since (UTC)"), ("until", "Until (UTC)")] {
            let time = Timestamp::parse(self.query.text(name));
            let field = html! {
                label for=(name) { (label) }
                input type="datetime-local" step="1" id=(name) name=(name)
                    value=(time.map(field_value).unwrap_or_default());
            };
            self.fields.push((name.to_owned(), field));
        }
        self
    }

    pub(super) fn render(self) -> Markup {
        self.render_with(FormProblems::new(None))
    }

    /// Renders the page of the list `title` whose filter is wrong: the form as it was sent, with the
    /// problem of each field.
    pub(super) fn refuse(
        self,
        visit: &PageVisit<'_>,
        (section, title): (DashboardSection, &'static str),
        error: &ApiError,
    ) -> PageReply {
        visit.context.call.note_outcome(error.code());
        let is_own = |name: &str| self.fields.iter().any(|(known, _)| known == name);
        let problems = error.field_errors().iter();
        // The page of a list, for example, is no field of the form.
        let others: Vec<_> = problems
            .filter(|problem| !is_own(&problem.field))
            .map(|problem| sentence(&problem.detail))
            .collect();
        let all = self.path.to_owned();
        let body = html! {
            div.panel {
                (self.render_with(FormProblems::new(Some(error))))
                (empty_state("Nothing is listed: the filter is wrong.", html! {
                    @for problem in &others { (problem) " " }
                    a href=(all) { "Show all" } "."
                }))
            }
        };
        PageReply::Content(error.status_code(), PageContent::new(section, title, body))
    }

    fn render_with(self, problems: FormProblems<'_>) -> Markup {
        html! {
            form.filters method="get" action=(self.path) aria-label="Filter" {
                @for (name, field) in &self.fields {
                    div.field { (field) (problems.render(name)) }
                }
                button type="submit" { (self.button) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_shows_the_query_and_nothing_else_of_it() {
        let query = FormFields::parse(b"state=paused&text=%3Cb%3E&page=3");
        let form = FilterForm::new("/list", &query)
            .choice("state", "State", [("", "All"), ("paused", "Paused")])
            .example("text", "Text", "lead.created")
            .render()
            .into_string();
        assert!(
            form.contains("<option value=\"paused\" selected>Paused"),
            "{form}"
        );
        assert!(
            form.contains("value=\"&lt;b&gt;\" placeholder=\"lead.created\""),
            "{form}"
        );
        assert!(
            !form.contains("page"),
            "a new filter begins at its first page: {form}"
        );
    }
}
