//! Members that are nearly what a request may have: passed over as others are, they would leave
//! undone what was asked for.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::fields::{FieldErrors, shorten_name};
use crate::suggest::nearest_member;

/// The most names that are looked at; a body of a megabyte could have a hundred thousand.
const CHECKED_NAMES_MAX: usize = 200;

/// Notes each member of the object `json` that is nearly one of `known`, the members of `whole`;
/// those in `shown` are members of answers, which may be sent back as they came.
pub(super) fn refuse(
    json: &str,
    known: &[&'static str],
    shown: &[&str],
    whole: &str,
    faults: &mut FieldErrors,
) {
    let given: BTreeMap<String, IgnoredAny> = serde_json::from_str(json).unwrap_or_default();
    let is_other =
        |name: &&String| !known.contains(&name.as_str()) && !shown.contains(&name.as_str());
    for name in given.keys().filter(is_other).take(CHECKED_NAMES_MAX) {
        if let Some(meant) = nearest_member(name, known) {
            faults.add(
                shorten_name(name),
                format!("is no member of {whole}, did you mean {meant}?"),
            );
        }
    }
}
