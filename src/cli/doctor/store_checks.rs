//! Checks of the store: its lock and format, its journal, its clock, and its derived data.

use std::path::Path;
use std::time::Duration;

use super::finding::DoctorFinding;
use crate::derived;
use crate::error_chain::format_error_chain;
use crate::event::Timestamp;
use crate::journal::{
    ContentCipher, DataFolder, JournalReport, StoreOpenError, VerifiedPart, verify_journal,
};

/// Time by which a clock may be behind the newest event without a word.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// State of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreUse {
    /// There is no store yet.
    Absent,
    /// No process uses the store.
    Stopped,
    /// A node uses the store.
    Running,
    /// The store cannot be opened.
    Refused,
}

/// Checks that there is a store that this program reads, and tells if a node uses it.
pub(super) fn check_lock(folder: &Path) -> (StoreUse, DoctorFinding) {
    const CHECK: &str = "store";
    let shown = folder.display();
    if matches!(folder.join("FORMAT").try_exists(), Ok(false)) {
        let is_lost = folder.join("journal").exists();
        let finding = match is_lost {
            true => DoctorFinding::problem(
                CHECK,
                format!("{shown} has a journal, and its file FORMAT is missing"),
                "Restore a backup into a new folder, and keep this one",
            ),
            false => DoctorFinding::warning(
                CHECK,
                format!("there is no store at {shown}"),
                "The first start creates one; check store.path if there should be one",
            ),
        };
        let found = match is_lost {
            true => StoreUse::Refused,
            false => StoreUse::Absent,
        };
        return (found, finding);
    }
    match DataFolder::open(folder) {
        Ok(data) => {
            let version = data.format_version();
            let detail = format!("{shown} has format {version}, and no node uses it");
            (StoreUse::Stopped, DoctorFinding::ok(CHECK, detail))
        }
        Err(StoreOpenError::InUse(_)) => {
            let detail = format!("a node uses {shown}");
            (StoreUse::Running, DoctorFinding::ok(CHECK, detail))
        }
        Err(error) => {
            let advice = "Follow the advice of the error; nothing was changed";
            let problem = DoctorFinding::problem(CHECK, format_error_chain(&error), advice);
            (StoreUse::Refused, problem)
        }
    }
}

/// Checks that the segments of the journal belong together and the newest one is whole, and
/// compares its last time with `now`.
pub(super) fn check_journal(
    folder: &Path,
    cipher: &ContentCipher,
    usage: StoreUse,
    now: Timestamp,
) -> Vec<DoctorFinding> {
    const CHECK: &str = "journal";
    let report = match verify_journal(folder, cipher, VerifiedPart::NewestSegment) {
        Ok(report) => report,
        Err(error) => {
            let advice = "Restore a backup into a new folder, and keep this one";
            return vec![DoctorFinding::problem(
                CHECK,
                format_error_chain(&error),
                advice,
            )];
        }
    };
    let mut findings = Vec::new();
    for damage in &report.damage {
        let detail = format!(
            "{} is damaged at byte {}, position {}",
            damage.file.display(),
            damage.offset,
            damage.position
        );
        let advice = "Restore a backup into a new folder; `hookyard verify` names all damage";
        findings.push(DoctorFinding::problem(CHECK, detail, advice));
    }
    if let Some((file, offset)) = report
        .torn_tail
        .as_ref()
        .filter(|_| usage == StoreUse::Stopped)
    {
        let detail = format!(
            "{} ends at byte {offset} in an incomplete commit, which nobody was told of",
            file.display()
        );
        let advice = "The next start drops it, or --repair now";
        findings.push(DoctorFinding::warning(CHECK, detail, advice));
    }
    if report.encrypted_parts > 0 {
        let detail = "its newest content is encrypted with a key that is not configured";
        let advice = "Set that key, as store.encryption_key or in store.former_encryption_keys";
        findings.push(DoctorFinding::problem(CHECK, detail, advice));
    }
    if findings.is_empty() {
        let detail = format!(
            "all segments are there, and the newest is whole; the next event has position {}",
            report.end
        );
        findings.push(DoctorFinding::ok(CHECK, detail));
    }
    findings.push(check_clock(&report, now));
    findings
}

/// Compares the receive time of the newest event, before which no later one can be, with `now`.
fn check_clock(report: &JournalReport, now: Timestamp) -> DoctorFinding {
    const CHECK: &str = "clock";
    match report.last_received_at {
        Some(last) if last > now.saturating_add(CLOCK_TOLERANCE) => {
            let detail = format!(
                "the newest event was received at {last}, and it is {now} now; until then every \
                 event gets that time"
            );
            let advice = "Set the system's clock. If it is right, and was wrong when that event \
                          came, stop the node and run `hookyard doctor --repair-times`: events of \
                          the future get the present time";
            DoctorFinding::problem(CHECK, detail, advice)
        }
        Some(last) => DoctorFinding::ok(CHECK, format!("the newest event was received at {last}")),
        None => DoctorFinding::ok(CHECK, "no event to compare it with in the newest segment"),
    }
}

/// Checks that the derived data of a stopped node can be opened.
pub(super) fn check_derived_data(folder: &Path) -> DoctorFinding {
    const CHECK: &str = "derived data";
    const ADVICE: &str =
        "The next start derives it again from the journal, or --repair now; no event is lost";
    match derived::inspect_derived_data(&folder.join("derived")) {
        Ok(None) => DoctorFinding::ok(CHECK, "its files are whole"),
        Ok(Some(damage)) => DoctorFinding::warning(CHECK, damage, ADVICE),
        Err(error) => DoctorFinding::problem(
            CHECK,
            format!("cannot read {}/derived: {error}", folder.display()),
            "Check the permissions of the folder, and the disk",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::FindingState;
    use super::*;
    use crate::event::Position;

    #[test]
    fn a_newest_event_of_the_future_is_a_problem() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let report = |last| JournalReport {
            records: 1,
            changes: 0,
            end: Position::new(2),
            last_received_at: last,
            damage: Vec::new(),
            torn_tail: None,
            outdated_blocks: 0,
            encrypted_parts: 0,
        };
        for (last, state) in [
            (None, FindingState::Ok),
            (Some(at(1_000)), FindingState::Ok),
            (Some(at(1_060)), FindingState::Ok),
            (Some(at(1_061)), FindingState::Problem),
        ] {
            assert_eq!(
                check_clock(&report(last), at(1_000)).state,
                state,
                "{last:?}"
            );
        }
    }
}
