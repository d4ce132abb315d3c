//! CPF, the Brazilian taxpayer number: eleven digits, of which the last two are check digits.
//!
//! ```text
//! 5 2 9 . 9 8 2 . 2 4 7 - 2 5
//! └──── nine digits ────┘ │ └ second check digit: weights 11 … 2 over the ten before it
//!                         └── first check digit: weights 10 … 2 over the nine before it
//! each: (sum of digit × weight) × 10 mod 11, where 10 counts as 0
//! ```

use std::fmt;

const DIGITS: usize = 11;

/// Valid CPF. Its `Debug` output hides the digits; only [`Cpf::digits`] reveals them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Cpf(String);

impl Cpf {
    /// Parses a CPF, ignoring its formatting; returns `None` if a check digit is wrong.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_formatting =
            |character: char| matches!(character, '.' | '-' | '/') || character.is_whitespace();
        let digits: String = text
            .chars()
            .filter(|character| !is_formatting(*character))
            .collect();
        let values: Vec<u32> = digits
            .chars()
            .map(|digit| digit.to_digit(10))
            .collect::<Option<_>>()?;
        // Eleven equal digits have valid check digits, but no such CPF was ever issued.
        let has_different_digits = values.windows(2).any(|pair| pair[0] != pair[1]);
        let has_valid_check_digits = values.len() == DIGITS
            && compute_check_digit(&values[..9]) == values[9]
            && compute_check_digit(&values[..10]) == values[10];
        (has_different_digits && has_valid_check_digits).then_some(Self(digits))
    }

    /// Parses a CPF that JSON contained as a number, so that its leading zeros are lost.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        Self::parse(&format!("{number:011}"))
    }

    /// Returns the eleven digits without formatting.
    pub(super) fn digits(&self) -> &str {
        &self.0
    }
}

fn compute_check_digit(digits: &[u32]) -> u32 {
    let weights = (2..=digits.len() as u32 + 1).rev();
    let sum: u32 = digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| digit * weight)
        .sum();
    sum * 10 % 11 % 10
}

impl fmt::Debug for Cpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cpf(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn check_digits_are_verified_and_formatting_is_ignored() {
        for text in [
            "529.982.247-25",
            "52998224725",
            " 529 982 247/25 ",
            "111.444.777-35",
            "00000000191",
        ] {
            assert!(Cpf::parse(text).is_some(), "{text}");
        }
        let wrong = [
            "529.982.247-24",
            "529.982.247-15",
            "5299822472",
            "529982247255",
            "111.111.111-11",
            "",
            "x2998224725",
        ];
        for text in wrong {
            assert_eq!(Cpf::parse(text), None, "{text}");
        }
        assert_eq!(
            Cpf::from_number(191).expect("leading zeros").digits(),
            "00000000191"
        );
        assert_eq!(
            Cpf::from_number(52_998_224_725)
                .expect("all digits")
                .digits(),
            "52998224725"
        );
    }

    #[test]
    fn it_does_not_show_itself() {
        assert_eq!(format!("{:?}", Cpf::parse("52998224725")), "Some(Cpf(…))");
    }

    proptest! {
        /// Check digits exist to detect a single wrong digit.
        #[test]
        fn one_wrong_digit_is_noticed(
            nine in prop::collection::vec(0..10_u32, 9),
            place in 0..11_usize,
            by in 1..10_u32,
        ) {
            let mut digits = nine;
            digits.push(compute_check_digit(&digits));
            digits.push(compute_check_digit(&digits));
            let text = |digits: &[u32]| digits.iter().map(u32::to_string).collect::<String>();
            prop_assume!(digits.windows(2).any(|pair| pair[0] != pair[1]));
            prop_assert!(Cpf::parse(&text(&digits)).is_some());
            digits[place] = (digits[place] + by) % 10;
            // 10 counts as 0, so a check digit of 0 misses one digit in eleven.
            prop_assume!(digits[9] != 0 && digits[10] != 0);
            prop_assert!(Cpf::parse(&text(&digits)).is_none());
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Cpf::parse(&text);
        }
    }
}
