//! Section `[alerts]`: bounds beyond which the node announces a condition as an event.

use std::time::Duration;

use super::draft::ConfigDraft;
use super::values::{DAY_S, HOUR_S};

/// Longest bound of an age, in seconds: ten years.
const AGE_MAX_S: f64 = 10.0 * 366.0 * DAY_S;

/// Section `[alerts]`: conditions that the node announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertsConfig {
    /// Time between two looks at the conditions.
    pub check_interval: Duration,
    /// Age of the oldest event that a subscriber is owed; `None` watches no subscriber.
    pub backlog_age: Option<Duration>,
    /// Least free space of the data folder's disk, in bytes; 0 does not watch the disk.
    pub disk_free_bytes: u64,
    /// Records that reads may be behind; 0 does not watch them.
    pub projection_lag: u64,
    /// Rest of the life of the node's certificate below which it should be replaced; `None` watches it
    /// not.
    pub certificate_life: Option<Duration>,
    /// Time without an event after which an active source counts as silent; `None` watches no source.
    pub source_silence: Option<Duration>,
}

impl ConfigDraft {
    pub(super) fn read_alerts(&mut self) -> AlertsConfig {
        AlertsConfig {
            check_interval: self.read_seconds("alerts.check_interval_s", HOUR_S),
            backlog_age: self.read_age("alerts.backlog_age_s", "seconds", 1.0),
            disk_free_bytes: self.read_integer("alerts.disk_free_bytes", 0..=i64::MAX),
            projection_lag: self.read_integer("alerts.projection_lag", 0..=i64::MAX),
            certificate_life: self.read_age("alerts.certificate_days", "days", DAY_S),
            source_silence: self.read_age("alerts.source_silent_h", "hours", HOUR_S),
        }
    }

    /// Reads an age in `unit`s of `unit_s` seconds; 0 is none.
    fn read_age(&mut self, key: &str, unit: &str, unit_s: f64) -> Option<Duration> {
        let age = self.read_number_of(key, unit, 0.0..=AGE_MAX_S / unit_s);
        (age > 0.0).then(|| Duration::from_secs_f64(age * unit_s))
    }
}
