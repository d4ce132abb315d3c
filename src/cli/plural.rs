//! Numbers of things in the output, with the singular or the plural of the noun.

use std::fmt::Display;

/// Formats `number` with the singular `one` or the plural `many`.
pub(super) fn format_count<N: Display + PartialEq + From<u8>>(
    number: N,
    one: &str,
    many: &str,
) -> String {
    let name = if number == N::from(1) { one } else { many };
    format!("{number} {name}")
}
