//! Events that announce the begin and the end of a condition.

use serde_json::json;

use super::board::{AlertChange, WatchEnd};
use super::subject::AlertSubject;
use crate::event::Timestamp;
use crate::subscriber::OperationalEvent;

/// Name of the event that announces the begin of a condition.
pub(super) const RAISED_EVENT: &str = "alert.raised";
/// Name of the event that announces the end of a condition.
const CLEARED_EVENT: &str = "alert.cleared";

/// Makes the event that announces `change`, found at `now`; `None` if its entity cannot have a name.
pub(super) fn announce_change(change: &AlertChange, now: Timestamp) -> Option<OperationalEvent> {
    let AlertChange {
        subject,
        is_raised,
        value,
        limit,
        watch_end,
        sample,
    } = change;
    let mut data = json!({
        "alert": subject.condition(),
        "subject": subject.about(),
        "message": describe_change(change),
        "value": value,
        "limit": limit,
    });
    if let Some(reason) = watch_end {
        data["reason"] = name_reason(*reason).into();
    }
    if !sample.is_empty() {
        let names = sample.iter().map(ToString::to_string);
        data["sample"] = names.collect::<Vec<_>>().into();
    }
    Some(OperationalEvent {
        entity: subject.entity()?,
        event_type: if *is_raised {
            RAISED_EVENT
        } else {
            CLEARED_EVENT
        },
        cause: format!("{subject}:{}", now.as_micros()),
        data,
    })
}

/// Describes `change` in a sentence for people, as a chat message would have it.
fn describe_change(change: &AlertChange) -> String {
    let AlertChange {
        subject,
        is_raised,
        value,
        limit,
        watch_end,
        sample,
    } = change;
    if let Some(reason) = watch_end {
        return describe_watch_end(subject, *reason);
    }
    match (subject, is_raised) {
        (AlertSubject::BacklogAge(subscriber), true) => format!(
            "Deliveries to {subscriber} are late: the oldest has waited for more than {}.",
            describe_seconds(*limit)
        ),
        (AlertSubject::BacklogAge(subscriber), false) => {
            format!("Deliveries to {subscriber} are no longer late.")
        }
        (AlertSubject::CertificateEnd, true) => match value.unwrap_or_default() {
            0 => "The certificate of the node has ended: clients refuse it.".to_owned(),
            left => format!(
                "The certificate of the node ends in {} h, less than {}.",
                left / 3_600,
                describe_seconds(*limit)
            ),
        },
        (AlertSubject::CertificateEnd, false) => {
            "The certificate of the node is valid for long enough again.".to_owned()
        }
        (AlertSubject::DiskSpace, true) => format!(
            "Disk space is low: {} free, below {}.",
            describe_bytes(value.unwrap_or_default()),
            describe_bytes(*limit)
        ),
        (AlertSubject::DiskSpace, false) => format!(
            "Disk space is sufficient again: {} free.",
            describe_bytes(value.unwrap_or_default())
        ),
        (AlertSubject::LateSubscribers, true) => {
            let names: Vec<_> = sample.iter().map(ToString::to_string).collect();
            format!(
                "Deliveries to {} subscribers are late, among them {}.",
                value.unwrap_or_default(),
                names.join(", ")
            )
        }
        (AlertSubject::LateSubscribers, false) => format!(
            "Deliveries to {} subscribers are late, no more than {limit}.",
            value.unwrap_or_default()
        ),
        (AlertSubject::ProjectionLag, true) => format!(
            "Reads are {} records behind, more than {limit}.",
            value.unwrap_or_default()
        ),
        (AlertSubject::ProjectionLag, false) => "Reads have caught up.".to_owned(),
        (AlertSubject::SilentSource(source), true) => format!(
            "Source {source} is silent: it has sent nothing for more than {}.",
            describe_seconds(*limit)
        ),
        (AlertSubject::SilentSource(source), false) => {
            format!("Source {source} is no longer silent.")
        }
    }
}

const fn name_reason(reason: WatchEnd) -> &'static str {
    match reason {
        WatchEnd::Paused => "paused",
        WatchEnd::Disabled => "disabled",
        WatchEnd::Deleted => "deleted",
        WatchEnd::TurnedOff => "turned_off",
    }
}

/// Describes the end of a watch, which does not say that the condition is over.
fn describe_watch_end(subject: &AlertSubject, reason: WatchEnd) -> String {
    let watched = match subject {
        AlertSubject::BacklogAge(subscriber) => format!("Deliveries to {subscriber} are"),
        AlertSubject::CertificateEnd => "The certificate of the node is".to_owned(),
        AlertSubject::DiskSpace => "Disk space is".to_owned(),
        AlertSubject::LateSubscribers => "The number of late subscribers is".to_owned(),
        AlertSubject::ProjectionLag => "The lag of reads is".to_owned(),
        AlertSubject::SilentSource(source) => format!("Source {source} is"),
    };
    let reason = match reason {
        WatchEnd::Paused => ": the subscriber is paused",
        WatchEnd::Disabled => ": it is disabled",
        WatchEnd::Deleted => ": the subscriber was deleted",
        WatchEnd::TurnedOff => "",
    };
    format!("{watched} not watched any more{reason}.")
}

fn describe_bytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Writes a time in the largest unit that divides it.
fn describe_seconds(seconds: u64) -> String {
    let units = [(3_600, "h"), (60, "min")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}
