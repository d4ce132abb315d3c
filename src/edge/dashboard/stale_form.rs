//! Check that nobody changed an object after its edit form was loaded, and the comparison shown if somebody did.

use maud::{Markup, html};

use super::form::FormFields;
use crate::event::Timestamp;

/// Hidden field with the time of the last change that the form knows, in microseconds.
pub(super) const SEEN: &str = "seen";

/// Field of a form with two values: its label, the stored value, and the typed one.
pub(super) type FieldDifference = (&'static str, String, String);

/// Returns the time of the last change that `fields` know; the earliest time of all if they tell
/// none, so that they pass for stale.
pub(super) fn seen_change(fields: &FormFields) -> Timestamp {
    Timestamp::from_micros(fields.text(SEEN).parse().unwrap_or_default())
}

/// Writes `changed_at` for the field [`SEEN`].
pub(super) fn seen_value(changed_at: Timestamp) -> String {
    changed_at.as_micros().to_string()
}

/// Fields of `labels` (name and label) in which `typed` differs from `stored`, by their `texts`.
pub(super) fn find_differences(
    labels: &[(&'static str, &'static str)],
    stored: &FormFields,
    typed: &FormFields,
    texts: impl Fn(&FormFields, &'static str) -> Vec<String>,
) -> Vec<FieldDifference> {
    let value_of = |fields, name| {
        let mut values = texts(fields, name);
        values.retain(|value| !value.is_empty());
        values.sort_unstable();
        values.join(", ")
    };
    let compare =
        |(name, label): &(_, _)| (*label, value_of(stored, *name), value_of(typed, *name));
    let all = labels.iter().map(compare);
    all.filter(|(_, stored, typed)| stored != typed).collect()
}

/// Renders `differences` beside each other, under a title with `note`.
pub(super) fn render_comparison(note: &Markup, differences: &[FieldDifference]) -> Markup {
    html! {
        section.panel {
            header {
                h2 { "Stored meanwhile" }
                span.muted.small { (note) }
            }
            div.inside {
                @if differences.is_empty() {
                    p { "Nothing that this form changes: your fields are what is stored." }
                } @else {
                    table.cards {
                        thead { tr {
                            th scope="col" { "Field" }
                            th scope="col" { "Stored" }
                            th scope="col" { "Yours" }
                        } }
                        tbody { @for (label, stored, typed) in differences { tr {
                            td.first { (label) }
                            td data-label="Stored" { code { (stored) } }
                            td data-label="Yours" { code { (typed) } }
                        } } }
                    }
                    p.hint { "Save once more to store yours." }
                }
            }
        }
    }
}
