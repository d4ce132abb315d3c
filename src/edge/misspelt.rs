//! Members that are nearly what a request may have: passed over as others are, they would leave undone what was asked for.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::fields::Faults;

/// How many slips a name may have, where it is twice as long.
const SLIPS_MAX: usize = 2;
/// The shortest beginning of a name, in characters, that is taken for that name.
const BEGINNING_MIN: usize = 3;
/// The most names that are looked at; a body of a megabyte could have a hundred thousand.
const LOOKED_AT_MAX: usize = 200;
/// The longest name that is shown, in characters.
const SHOWN_CHARS: usize = 64;

/// Notes each member of the object `json` that is nearly one of `known`, the members of `whole`; those in `shown` are members of
/// answers, which may be sent back as they came.
pub(super) fn refuse(json: &str, known: &[&'static str], shown: &[&str], whole: &str, faults: &mut Faults) {
    let given: BTreeMap<String, IgnoredAny> = serde_json::from_str(json).unwrap_or_default();
    let is_other = |name: &&String| !known.contains(&name.as_str()) && !shown.contains(&name.as_str());
    for name in given.keys().filter(is_other).take(LOOKED_AT_MAX) {
        if let Some(meant) = meant(name, known) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
            faults.add(name, format!("is no member of {whole}, did you mean {meant}?"));
        }
    }
}

/// The one of `known` that `name` is most like, if it is like one: a few slips away, or longer or shorter at its end.
fn meant(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let given = flat(name);
    let length = given.chars().count();
    let slips_max = SLIPS_MAX.min(length / 2);
    let slips = |known: &'static str| {
        let candidate = flat(known);
        let is_begun = length >= BEGINNING_MIN && (candidate.starts_with(&given) || given.starts_with(&candidate));
        // What is far longer is not compared: that would take as long as it is.
        let near = candidate.chars().count().abs_diff(length) <= slips_max;
        let slips = near.then(|| strsim::damerau_levenshtein(&given, &candidate)).filter(|slips| *slips <= slips_max);
        slips.or(is_begun.then_some(SLIPS_MAX)).map(|slips| (slips, known))
    };
    known.iter().copied().filter_map(slips).min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// `name` as it is in every style of writing several words as one.
fn flat(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = ["url", "events", "filter", "signing", "is_active", "retry_schedule_s"];

    #[test]
    fn a_slip_is_told_from_a_name_of_another_thing() {
        for (name, known) in [
            ("filters", Some("filter")),
            ("fitler", Some("filter")),
            ("filter_expression", Some("filter")),
            ("signings", Some("signing")),
            ("evnts", Some("events")),
            ("isActive", Some("is_active")),
            ("retry_schedule", Some("retry_schedule_s")),
            ("retrySchedule", Some("retry_schedule_s")),
            ("retry", Some("retry_schedule_s")),
            ("uri", Some("url")),
            ("org", None),
            ("u", None),
            ("", None),
            ("owner", None),
            ("tags", None),
        ] {
            assert_eq!(meant(name, &KNOWN), known, "{name}");
        }
        assert_eq!(meant(&"events".repeat(100_000), &KNOWN), Some("events"), "soon enough");
    }
}
