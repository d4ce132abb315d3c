//! Geometry of plots in SVG, for the dashboard and for reports: the points of a line, the end of a
//! scale, and the digits of a rate.

use std::fmt::Write;

/// Writes the points of a line as `x y L x y …`, for the `d` of a path after its `M`.
pub(crate) fn format_points(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (x, y) in points {
        let before = if text.is_empty() { "" } else { " L" };
        // Writing to a string does not fail.
        let _ = write!(text, "{before}{x:.1} {y:.1}");
    }
    text
}

/// Rounds up to 1, 2 or 5 times a power of ten, at least 1.
pub(crate) fn round_up_scale(value: f64) -> f64 {
    let mut power = 1.0;
    while power * 10.0 < value {
        power *= 10.0;
    }
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(power)
}

/// Writes a rate with as many digits as a person compares.
pub(crate) fn format_rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 0.1 => format!("{rate:.2}"),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (value, top) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (4.0, 5.0),
            (7.0, 10.0),
            (11.0, 20.0),
            (501.0, 1000.0),
        ] {
            assert_eq!(round_up_scale(value), top, "{value}");
        }
    }

    #[test]
    fn points_and_rates_have_few_digits() {
        assert_eq!(
            format_points([(0.0, 120.0), (7.25, 4.0)]),
            "0.0 120.0 L7.2 4.0"
        );
        assert_eq!(format_points([]), "");
        for (rate, text) in [(0.0, "0"), (0.04, "0.04"), (2.25, "2.2"), (1_234.5, "1234")] {
            assert_eq!(format_rate(rate), text);
        }
    }
}
