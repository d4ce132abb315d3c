//! Answers of the listener: status and delay, with seeded failures so that a run can be repeated.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Status of a simulated failure.
const FAILURE: u16 = 500;

/// Options that decide the answer to a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerBehaviour {
    /// Share of attempts that fail, from 0 to 1.
    pub(super) fail: f64,
    pub(super) seed: u64,
    /// Status of the attempts that do not fail.
    pub(super) status: u16,
    /// Delay before each answer is sent.
    pub(super) delay: Duration,
}

impl AnswerBehaviour {
    /// Returns the status for this attempt at the delivery `name`. The same seed gives the same
    /// status, in any order of arrival.
    pub(super) fn choose_status(&self, name: &str, attempt: u32) -> u16 {
        if self.draw_share(name, attempt) < self.fail {
            FAILURE
        } else {
            self.status
        }
    }

    /// Returns a uniformly distributed number from 0 up to, but not including, 1.
    fn draw_share(&self, name: &str, attempt: u32) -> f64 {
        let digest = Sha256::new()
            .chain_update(self.seed.to_be_bytes())
            .chain_update(attempt.to_be_bytes());
        let digest = digest.chain_update(name).finalize();
        let word = u32::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"));
        f64::from(word) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Parses `200ms`, `1.5s` or a number of seconds, up to an hour.
pub(super) fn parse_delay(text: &str) -> Result<Duration, String> {
    const LONGEST_S: f64 = 3600.0;
    let (number, unit_s) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(millis), _) => (millis, 0.001),
        (None, Some(seconds)) => (seconds, 1.0),
        (None, None) => (text, 1.0),
    };
    let seconds = number
        .trim()
        .parse::<f64>()
        .ok()
        .map(|number| number * unit_s);
    let seconds = seconds.filter(|seconds| (0.0..=LONGEST_S).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a time up to an hour, such as 200ms or 1.5s".to_owned())
}

/// Parses a share from 0 to 1.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.2".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_share_fails_and_the_same_ones_with_the_same_seed() {
        let answers = |seed, fail| -> Vec<u16> {
            let behaviour = AnswerBehaviour {
                fail,
                seed,
                status: 204,
                delay: Duration::ZERO,
            };
            (1..=10_000)
                .map(|number| behaviour.choose_status("ticket/T-1", number))
                .collect()
        };
        let failing = |answers: &[u16]| answers.iter().filter(|status| **status == 500).count();
        assert!(
            (1_800..2_200).contains(&failing(&answers(1, 0.2))),
            "{}",
            failing(&answers(1, 0.2))
        );
        assert_eq!(answers(1, 0.2), answers(1, 0.2));
        assert_ne!(answers(1, 0.2), answers(2, 0.2));
        assert_eq!(
            (failing(&answers(1, 0.0)), failing(&answers(1, 1.0))),
            (0, 10_000)
        );
        assert!(
            answers(1, 0.2)
                .iter()
                .all(|status| [204, 500].contains(status))
        );
    }

    #[test]
    fn a_delay_is_read_with_its_unit() {
        for (text, millis) in [
            ("200ms", 200),
            ("1.5s", 1500),
            ("2", 2000),
            ("0", 0),
            ("3600", 3_600_000),
        ] {
            assert_eq!(
                parse_delay(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "-1", "soon", "1h", "3601", "NaN", "inf"] {
            assert!(parse_delay(text).is_err(), "{text}");
        }
        assert_eq!(parse_share("0.2"), Ok(0.2));
        assert!(
            ["", "2", "-0.1", "20%", "NaN"]
                .into_iter()
                .all(|text| parse_share(text).is_err())
        );
    }
}
