//! Misspelt members of a request: ignored like other unknown members, they would silently change
//! nothing.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::fields::{FieldErrors, shorten_name};
use crate::suggest::nearest_member;

/// Names that are compared at most; a body of a megabyte could have a hundred thousand.
const CHECKED_NAMES_MAX: usize = 200;

/// Records each member of the object `json` that is close to a name in `known`, the members of
/// `whole`. Members in `read_only` are parts of answers, which a caller may send back.
pub(super) fn refuse_misspelt_members(
    json: &str,
    known: &[&'static str],
    read_only: &[&str],
    whole: &str,
    errors: &mut FieldErrors,
) {
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_str(json).unwrap_or_default();
    let is_unknown =
        |name: &&String| !known.contains(&name.as_str()) && !read_only.contains(&name.as_str());
    for name in members.keys().filter(is_unknown).take(CHECKED_NAMES_MAX) {
        if let Some(nearest) = nearest_member(name, known) {
            errors.add(
                shorten_name(name),
                format!("is no member of {whole}, did you mean {nearest}?"),
            );
        }
    }
}
