//! Form above a list that filters it: the same for every list.

use maud::{Markup, html};

use super::elements::select_option;
use super::form::FormFields;

/// Form that sends its fields as the query of the list's page, and shows what the query has now.
pub(super) struct FilterForm<'a> {
    path: &'a str,
    query: &'a FormFields,
    button: &'a str,
    fields: Vec<Markup>,
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
        self.fields.push(html! {
            div.field {
                label for=(name) { (label) }
                select id=(name) name=(name) {
                    @for (value, label) in options { (select_option(value, label, current)) }
                }
            }
        });
        self
    }

    /// Adds a field to write in.
    pub(super) fn text(self, name: &str, label: &str) -> Self {
        self.example(name, label, "")
    }

    /// Adds a field to write in that shows `example` while it is empty.
    pub(super) fn example(mut self, name: &str, label: &str, example: &str) -> Self {
        let example = Some(example).filter(|example| !example.is_empty());
        self.fields.push(html! {
            div.field {
                label for=(name) { (label) }
                input type="text" id=(name) name=(name) value=(self.query.text(name))
                    placeholder=[example];
            }
        });
        self
    }

    pub(super) fn render(self) -> Markup {
        html! {
            form.filters method="get" action=(self.path) aria-label="Filter" {
                @for field in &self.fields { (field) }
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
