//! Hop count: the deliveries that an event has passed through, from node to node or back to the same
//! one. It ends a loop, in which a subscriber is one of the node's own sources.

/// Header of a delivery, and of a request with an event that came by a delivery.
pub const HOPS_HEADER: &str = "x-hookyard-hops";

/// Hops after which an event is not delivered any more. A chain of nodes has two or three.
pub const HOPS_MAX: u8 = 8;

/// Returns the hop count that the header values `values` tell, at most [`HOPS_MAX`]. Of several the
/// highest counts. A value that is no number counts nothing: no other program sends this header, and
/// an event is never refused for it.
pub fn parse_hops<'v>(values: impl Iterator<Item = &'v [u8]>) -> u8 {
    let parse = |value: &[u8]| {
        let digits = value.trim_ascii();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(digits).ok()?.parse().ok();
        // A number too large for u8 exceeds the maximum anyway.
        is_number.then(|| number.unwrap_or(HOPS_MAX).min(HOPS_MAX))
    };
    values.filter_map(parse).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_counts_and_nonsense_counts_nothing() {
        let table: [(&[&str], u8); 9] = [
            (&[], 0),
            (&["0"], 0),
            (&["3"], 3),
            (&[" 7 "], 7),
            (&["1", "5", "2"], 5),
            (&["8"], 8),
            (&["9"], 8),
            (&["99999999999999999999"], 8),
            (&["", "-1", "+2", "1.5", "x", "\u{663}"], 0),
        ];
        for (values, expected) in table {
            let values = values.iter().map(|value| value.as_bytes());
            assert_eq!(parse_hops(values), expected);
        }
    }
}
