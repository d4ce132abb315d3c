//! Amount of money: a decimal number with the digits that were sent, and exact sums without
//! rounding.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Maximum of digits before the decimal point in an amount from outside.
pub const WHOLE_DIGITS_MAX: usize = 18;
/// Maximum of digits after the decimal point.
pub const FRACTION_DIGITS_MAX: usize = 18;

/// Decimal number as a count of units of its last digit: `50000.00` is 5,000,000 units at scale 2.
///
/// An amount has at most 36 digits and the units hold 38, so a sum has room for a hundred times the
/// largest amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decimal {
    units: i128,
    scale: u8,
}

impl Decimal {
    /// Parses a number in JSON's syntax, with or without exponent. Returns `None` for more than
    /// [`FRACTION_DIGITS_MAX`] digits after the point, and for more than 38 digits in all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty()
            || mantissa.ends_with('.')
            || !(whole.bytes().chain(fraction.bytes())).all(is_digit)
        {
            return None;
        }
        let exponent: i64 = exponent.parse().ok()?;
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        let digits = format!("{whole}{fraction}");
        // A positive exponent that moves the point beyond the last digit adds zeros.
        let zeros = 10_i128.checked_pow(u32::try_from(scale.min(0).checked_neg()?).ok()?)?;
        let units = digits.parse::<i128>().ok()?.checked_mul(zeros)?;
        let scale = u8::try_from(scale.max(0))
            .ok()
            .filter(|scale| usize::from(*scale) <= FRACTION_DIGITS_MAX)?;

        Some(Self {
            units: sign * units,
            scale,
        })
    }

    /// Returns true if at most [`WHOLE_DIGITS_MAX`] digits stand before the point.
    #[must_use]
    pub fn is_bounded(self) -> bool {
        self.units.unsigned_abs() / 10_u128.pow(self.scale.into())
            < 10_u128.pow(WHOLE_DIGITS_MAX as u32)
    }

    /// Returns true if the number is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.units < 0
    }

    /// Exact sum, with as many digits after the point as the longer operand; `None` if it has more
    /// than 38 digits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Some(Self {
            units: self.units_at(scale)?.checked_add(other.units_at(scale)?)?,
            scale,
        })
    }

    /// Exact difference, under the rules of [`Self::checked_add`].
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self {
            units: other.units.checked_neg()?,
            ..other
        })
    }

    fn units_at(self, scale: u8) -> Option<i128> {
        self.units
            .checked_mul(10_i128.checked_pow((scale - self.scale).into())?)
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let digits = format!("{:0width$}", self.units.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.is_negative() { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("expected a decimal number"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn the_digits_stay_as_they_were() {
        for text in [
            "0",
            "50000.00",
            "0.10",
            "-0.5",
            "999999999999999999.999999999999999999",
            "1000000",
        ] {
            assert_eq!(decimal(text).to_string(), text);
        }
        for (text, digits) in [
            ("1.0E7", "10000000"),
            ("1.5e1", "15"),
            ("15e-1", "1.5"),
            ("2.50e1", "25.0"),
        ] {
            assert_eq!(
                decimal(text).to_string(),
                digits,
                "an exponent only moves the point"
            );
        }
        assert_eq!(decimal("-0.00").to_string(), "0.00", "zero has no sign");
    }

    #[test]
    fn what_is_too_long_or_no_number_is_refused() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1e",
            "1e+",
            "+1",
            "1,5",
            "1 ",
            "--1",
            "NaN",
            "1e9999999999999999999",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
        for text in [
            "1e40",
            "1e-19",
            "0.0000000000000000001",
            &"9".repeat(40),
            &format!("0.{}", "0".repeat(70_000)),
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:.50}");
        }
        assert!(
            decimal("999999999999999999.9").is_bounded()
                && !decimal("1000000000000000000").is_bounded()
        );
        assert!(!decimal("-1e18").is_bounded());
    }

    #[test]
    fn sums_are_exact_and_may_fall_below_zero() {
        let mut sum = Decimal::default();
        for _ in 0..10 {
            sum = sum.checked_add(decimal("0.10")).expect("small");
        }
        assert_eq!(sum.to_string(), "1.00", "ten times a tenth");
        assert_eq!(
            sum.checked_sub(decimal("1.005"))
                .expect("small")
                .to_string(),
            "-0.005"
        );
        assert_eq!(
            decimal(&"9".repeat(38)).checked_add(decimal("0.1")),
            None,
            "no digit is dropped for room"
        );
    }

    proptest! {
        #[test]
        fn adding_and_taking_away_gives_back_the_value(
            units in any::<[i64; 2]>(),
            scales in [0..=18_u8, 0..=18_u8],
        ) {
            let [a, b] = [0, 1].map(|i| Decimal {
                units: units[i].into(),
                scale: scales[i],
            });
            let back = a
                .checked_add(b)
                .expect("fits")
                .checked_sub(b)
                .expect("fits");
            prop_assert_eq!(back.checked_sub(a).expect("fits").units, 0);
            prop_assert_eq!(
                Decimal::parse(&a.to_string()),
                Some(a),
                "what is shown is read back"
            );
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eE]{0,50}") {
            if let Some(decimal) = Decimal::parse(&text) {
                prop_assert_eq!(Decimal::parse(&decimal.to_string()), Some(decimal));
            }
        }
    }
}
