//! Last wall time that a node knows of the time before its start.
//!
//! ```text
//!  text  <wall time, µs> <boot id> <time since the boot, µs>
//! ```

use std::fmt;
use std::time::Duration;

use crate::event::Timestamp;

/// Moment since a machine was started. Two moments of one boot are as far apart as their times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootMoment {
    /// Id of the boot, which no other boot of any machine has.
    pub boot_id: String,
    /// Time since the boot, also while the machine was suspended.
    pub since: Duration,
}

/// Wall time at which a store was in use last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastKnownTime {
    /// Time that the clock showed, in UTC.
    pub wall: Timestamp,
    /// Moment of the machine at that time; `None` if only an event has the time.
    pub moment: Option<BootMoment>,
}

impl LastKnownTime {
    /// Last time of a store that tells no more than the time of its newest event.
    #[must_use]
    pub const fn of_event(wall: Timestamp) -> Self {
        Self { wall, moment: None }
    }

    /// Parses the text that [`fmt::Display`] writes; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let wall = Timestamp::from_micros(words.next()?.parse().ok()?);
        let boot_id = words.next()?.to_owned();
        let since = Duration::from_micros(words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self {
            wall,
            moment: Some(BootMoment { boot_id, since }),
        })
    }

    /// Returns the wall time at `now`, if that is a later moment of the same boot.
    pub(super) fn wall_at(&self, now: &BootMoment) -> Option<Timestamp> {
        let then = self.moment.as_ref()?;
        let elapsed = now.since.checked_sub(then.since)?;
        (then.boot_id == now.boot_id).then(|| self.wall.saturating_add(elapsed))
    }
}

impl fmt::Display for LastKnownTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.wall.as_micros())?;
        if let Some(BootMoment { boot_id, since }) = &self.moment {
            write!(f, " {boot_id} {}", since.as_micros())?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_time_never_changes() {
        let known = LastKnownTime {
            wall: Timestamp::from_micros(5),
            moment: Some(BootMoment {
                boot_id: "b-1".into(),
                since: Duration::from_micros(7),
            }),
        };
        assert_eq!(known.to_string(), "5 b-1 7\n");
        assert_eq!(LastKnownTime::parse("5 b-1 7\n"), Some(known));
        for text in ["", "5", "5 b-1", "x b-1 7", "5 b-1 7 8"] {
            assert_eq!(LastKnownTime::parse(text), None, "{text}");
        }
    }
}
