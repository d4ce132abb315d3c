//! Power cuts, kills and failing disks at every moment of the journal, against a simple model of
//! the log: acknowledged records stay, and nothing else appears.
//!
//! `HOOKYARD_POWER_CUTS` sets the number of crashes, `HOOKYARD_POWER_CUT_SEED` the first seed. A
//! failure prints both, and the steps that led to it.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use hookyard::clock::{Clock, ManualClock};
use hookyard::event::{EntityKey, Kind, Position, Timestamp};
use hookyard::journal::{
    BaseRow, ChangeVerdict, ContentFilter, DataFolder, Journal, JournalLimits, JournalReadError,
    JournalSubmission, LogMark, LogStart, RecordDraft, RemovedSegments, SegmentJournal,
    SegmentRewriteError, SegmentSummary, StoreOpenError, SubmissionResult, TableChange,
    TableChanges, TableSubmission,
};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::simulated_disk::{
    DiskFault, OperationKind, ScriptedFailure, SeededDraws, SimulatedDisk,
};
use crate::store_opening::chain;

const CUTS: &str = "HOOKYARD_POWER_CUTS";
const SEED: &str = "HOOKYARD_POWER_CUT_SEED";

/// Crashes of a run that nobody set: a few seconds.
const DEFAULT_CUTS: usize = 300;

/// Long enough for everything on a busy machine; a longer wait means that the journal hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const SYNC_INTERVAL: Duration = Duration::from_secs(10);

#[test]
fn no_power_cut_kill_or_disk_failure_loses_an_acknowledged_record_or_brings_back_a_refused_one() {
    let cuts = read_variable(CUTS).unwrap_or(DEFAULT_CUTS as u64) as usize;
    let first_seed = read_variable(SEED).unwrap_or(1);

    let (mut done, mut failures) = (0, Vec::new());
    for seed in first_seed.. {
        let mut history = CrashHistory::new(seed);
        let result = panic::catch_unwind(AssertUnwindSafe(|| history.run()));
        if let Err(cause) = result {
            let cause = cause
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| cause.downcast_ref::<&str>().copied());
            failures.push(format!(
                "{}\n{}\nrepeat it: {SEED}={seed} {CUTS}=1 cargo test --test it power_cuts",
                history.steps.join("\n"),
                cause.unwrap_or("a panic"),
            ));
        }
        done += history.crashes;
        if done >= cuts || failures.len() == 3 {
            break;
        }
    }

    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    eprintln!("{done} crashes from seed {first_seed} on");
}

fn read_variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Record of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelRecord {
    entity: usize,
    /// `None` for a failed event.
    sequence: Option<u64>,
    received_at: i64,
    bytes: Vec<u8>,
}

impl ModelRecord {
    fn to_draft(&self) -> RecordDraft {
        let id = format!("SUP-{}", self.entity);
        RecordDraft {
            entity: EntityKey::try_new(Kind::Ticket, &id).expect("a valid id"),
            sequence: self.sequence,
            received_at: Timestamp::from_micros(self.received_at),
            bytes: self.bytes.clone(),
        }
    }
}

/// Content of a submission.
#[derive(Clone, Debug)]
enum SubmittedContent {
    Records(Vec<ModelRecord>),
    Changes(TableChanges),
    /// Records whose sequence numbers do not follow.
    Gap(Vec<ModelRecord>),
}

/// Fate of a submission as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubmissionFate {
    Waiting,
    Settled(u64),
    Rejected,
    Dropped,
}

struct ModelSubmission {
    content: SubmittedContent,
    /// Content after a rewriting that is not known to be on the disk whole.
    rewritten: Option<SubmittedContent>,
    fate: Arc<Mutex<SubmissionFate>>,
}

impl ModelSubmission {
    /// Group without changes that the journal may write when it is closed.
    fn closing_group() -> Self {
        let changes = TableChanges {
            table: 0,
            changes: Vec::new(),
        };
        Self {
            content: SubmittedContent::Changes(changes),
            rewritten: None,
            fate: Arc::new(Mutex::new(SubmissionFate::Dropped)),
        }
    }

    /// Returns the numbers of records and of groups of table changes.
    fn counts(&self) -> (usize, usize) {
        match &self.content {
            SubmittedContent::Records(records) => (records.len(), 0),
            SubmittedContent::Changes(_) => (0, 1),
            SubmittedContent::Gap(_) => (0, 0),
        }
    }

    fn is_settled(&self) -> bool {
        matches!(*self.fate.lock(), SubmissionFate::Settled(_))
    }
}

/// Content of a record after a rewriting.
const REWRITTEN: &[u8] = b"rewritten";
/// Content of a record that retention has removed.
const EXPIRED: &[u8] = b"expired";

/// Filter of a rewriting: it replaces a third of the records, and drops a third of the rows.
#[derive(Clone, Copy, Debug)]
struct ThirdsFilter {
    remainder: u64,
    /// Position after the last record that is durable: only such records are rewritten.
    end: u64,
    /// Content of the records that are replaced.
    replacement: &'static [u8],
}

impl ContentFilter for ThirdsFilter {
    fn replace_record(&self, position: Position, record: &Bytes) -> Option<Bytes> {
        let is_chosen = self.chooses(position.get()) && record != self.replacement;
        is_chosen.then(|| Bytes::from_static(self.replacement))
    }

    fn hides_record(&self, position: Position, _: &EntityKey) -> bool {
        self.chooses(position.get())
    }

    fn judge_change(&self, _: u8, change: &TableChange) -> ChangeVerdict {
        match change {
            TableChange::Put { key, .. } if u64::from(key[0]) % 3 == self.remainder => {
                ChangeVerdict::Drop
            }
            _ => ChangeVerdict::Keep,
        }
    }
}

impl ThirdsFilter {
    fn chooses(self, position: u64) -> bool {
        position % 3 == self.remainder && position < self.end
    }

    /// Returns `content`, whose records begin at `position`, as the filter leaves it.
    fn rewrite(self, content: &SubmittedContent, position: u64) -> SubmittedContent {
        let mut content = content.clone();
        match &mut content {
            SubmittedContent::Records(records) => {
                for (record, position) in records.iter_mut().zip(position..) {
                    if self.chooses(position) {
                        record.bytes = self.replacement.to_vec();
                    }
                }
            }
            SubmittedContent::Changes(changes) => {
                let table = changes.table;
                let is_kept =
                    |change: &TableChange| self.judge_change(table, change) == ChangeVerdict::Keep;
                changes.changes.retain(is_kept);
            }
            SubmittedContent::Gap(_) => unreachable!("refused ones are not kept"),
        }
        content
    }
}

/// Sets the fate of a submission, and ends the wait for it.
struct FateReporter {
    fate: Arc<Mutex<SubmissionFate>>,
    _done: mpsc::Sender<()>,
}

impl FateReporter {
    fn settle(self, fate: SubmissionFate) {
        *self.fate.lock() = fate;
    }
}

impl Drop for FateReporter {
    fn drop(&mut self) {
        let mut fate = self.fate.lock();
        if *fate == SubmissionFate::Waiting {
            *fate = SubmissionFate::Dropped;
        }
    }
}

/// One process after the other on one disk: each opens the journal, works, and ends in some way.
struct CrashHistory {
    draws: SeededDraws,
    folder: TempDir,
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    limits: JournalLimits,
    /// Submissions that may be in the log, in order.
    submissions: Vec<ModelSubmission>,
    /// Number of submissions that must be in the log.
    firm: usize,
    /// Number of those that must be, unless the page cache was lost: more, with a sync interval.
    settled: usize,
    is_cache_lost: bool,
    /// Number of failures of the disk before the journal was opened.
    earlier_failures: usize,
    /// Mark of a journal that failed in this process.
    failed_at: Option<LogMark>,
    /// Places at which the journal may begin: the newest that is certain, and those behind it whose
    /// base file may be on the disk.
    starts: Vec<LogStart>,
    /// Removes segments from the beginning of the journal now and then.
    removes_segments: bool,
    /// Filter of a rewriting that was interrupted, and has to be done again.
    unfinished_rewriting: Option<ThirdsFilter>,
    /// Contents of the newest submissions that were lost, which their senders send again.
    lost: VecDeque<SubmittedContent>,
    /// Entities that wrote since the journal was opened, whose sequence numbers it checks.
    checked_entities: Vec<usize>,
    crashes: usize,
    steps: Vec<String>,
}

impl CrashHistory {
    fn new(seed: u64) -> Self {
        let mut draws = SeededDraws::new(seed);
        let piece_bytes = if draws.one_in(4) { 4096 } else { 512 };
        let limits = JournalLimits {
            queue: 256,
            commit_records: [1, 4, 64][draws.below(3)],
            commit_bytes: [4096, 1 << 20][draws.below(2)],
            sync_interval: draws.one_in(5).then_some(SYNC_INTERVAL),
            segment_bytes: [16, 64, 256][draws.below(3)] * 1024,
        };
        let steps = vec![format!("seed {seed}, pieces of {piece_bytes}, {limits:?}")];
        Self {
            draws,
            folder: tempfile::tempdir().expect("a temporary folder"),
            disk: SimulatedDisk::new(piece_bytes),
            clock: Arc::new(ManualClock::starting_at(Timestamp::from_micros(1))),
            limits,
            submissions: Vec::new(),
            firm: 0,
            settled: 0,
            is_cache_lost: false,
            earlier_failures: 0,
            failed_at: None,
            starts: vec![LogStart::BEGINNING],
            removes_segments: true,
            unfinished_rewriting: None,
            lost: VecDeque::new(),
            checked_entities: Vec::new(),
            crashes: 0,
            steps,
        }
    }

    fn run(&mut self) {
        let lives = 4 + self.draws.below(24);
        for _ in 0..lives {
            self.plan_trouble();
            self.live();
            self.end_life();
        }

        self.step("a last life without trouble");
        self.disk = self.disk.kill(0);
        self.disk.heal();
        self.failed_at = None;
        for _ in 0..2 {
            let journal = self
                .open()
                .unwrap_or_else(|error| panic!("{}", chain(&error)));
            self.check_content(&journal);
            self.work(&journal, 2);
            self.rewrite(&journal);
            assert!(self.unfinished_rewriting.is_none());
            assert!(self.submissions.iter().all(ModelSubmission::is_settled));
            self.close(journal);
        }
    }

    fn step(&mut self, step: impl Into<String>) {
        let operations = self.disk.operations();
        self.steps.push(format!("[{operations}] {}", step.into()));
    }

    /// Chooses the operation at which this life stops, and failures before it.
    fn plan_trouble(&mut self) {
        if !self.draws.one_in(4) {
            self.disk.heal();
        }
        let stop = match self.draws.below(4) {
            0 => Some(self.draws.below(8)),
            1 | 2 => Some(self.draws.below(60)),
            _ => None,
        };
        if let Some(spared) = stop {
            self.disk.stop_after(spared);
            self.step(format!("it will stop after {spared} operations"));
        }

        while self.draws.one_in(2) {
            let kinds = [
                OperationKind::Write,
                OperationKind::Sync,
                OperationKind::Sync,
                OperationKind::Create,
                OperationKind::Rename,
                OperationKind::Remove,
                OperationKind::SyncFolder,
            ];
            let kind = kinds[self.draws.below(kinds.len())];
            let fault = match (kind, self.draws.below(6)) {
                (OperationKind::Write, 0 | 1) => DiskFault::ShortWrite,
                (OperationKind::Write | OperationKind::Create, 2 | 3) => DiskFault::Full,
                (_, 4) | (OperationKind::Sync, 5) => DiskFault::ReadOnly,
                _ => DiskFault::Io,
            };
            let failure = ScriptedFailure {
                kind,
                spared: self.draws.below(8),
                times: [1, 1, 2, 2, 3, usize::MAX][self.draws.below(6)],
                fault,
            };
            self.step(format!("planned {failure:?}"));
            self.disk.plan_failure(failure);
        }
    }

    fn live(&mut self) {
        let journal = match self.open() {
            Ok(journal) => journal,
            Err(error) => return self.step(format!("it does not open: {}", chain(&error))),
        };
        if self.disk.is_stopped() {
            // The spare segment took the last operation, so nothing can be read.
            journal.close();
            return self.disk.forget_spares();
        }
        self.check_content(&journal);
        let batches = self.draws.below(5).saturating_sub(1);
        self.work(&journal, batches);
        self.close(journal);
    }

    /// Opens the journal; an error must have a reason.
    fn open(&mut self) -> Result<Arc<SegmentJournal>, StoreOpenError> {
        self.earlier_failures = self.disk.failures();
        match self.open_journal() {
            Ok(journal) => {
                self.disk.expect_spare();
                self.disk.wait_until_idle();
                self.step("opened");
                Ok(journal)
            }
            Err(error) => {
                self.disk.forget_spares();
                let is_expected = self.disk.is_stopped() || self.has_disk_failed();
                assert!(is_expected, "it does not open: {}", chain(&error));
                self.is_cache_lost |= self.has_disk_failed();
                Err(error)
            }
        }
    }

    fn open_journal(&self) -> Result<Arc<SegmentJournal>, StoreOpenError> {
        let folder = DataFolder::open(&self.folder.path().join("store"))?;
        SegmentJournal::open(
            &folder,
            self.disk.as_disk(),
            self.limits,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            <_>::default(),
            self.failed_at,
        )
    }

    /// Is true after a failure since the last opening: the cache may show what is never written.
    fn has_disk_failed(&self) -> bool {
        self.disk.failures() > self.earlier_failures || self.disk.is_read_only()
    }

    /// Compares everything in the journal with the model, which then takes it as the truth.
    fn check_content(&mut self, journal: &Arc<SegmentJournal>) {
        let (records, groups) = read_everything(journal.as_ref())
            .unwrap_or_else(|error| panic!("it cannot be read: {}", chain(&error)));
        let start = self.check_start(journal);
        let removed_records = start.position.get() as usize - 1;
        let removed_groups = start.change as usize - 1;
        let content_end = start.content_position.get() as usize;

        // The log must be the first submissions, whole, up to some number of them, without those
        // that were removed from its beginning.
        let (mut record_count, mut group_count, mut found) = (0, 0, 0);
        for submission in &self.submissions {
            let (more_records, more_groups) = submission.counts();
            if record_count + more_records > removed_records + records.len()
                || group_count + more_groups > removed_groups + groups.len()
            {
                break;
            }
            (record_count, group_count) = (record_count + more_records, group_count + more_groups);
            found += 1;
        }
        self.step(format!(
            "found {found} of {} submissions ({} settled, {} firm): {} records, {} groups of changes",
            self.submissions.len(),
            self.settled,
            self.firm,
            records.len(),
            groups.len()
        ));
        assert_eq!(
            (record_count, group_count),
            (
                removed_records + records.len(),
                removed_groups + groups.len()
            ),
            "whole submissions in order"
        );
        assert!(found >= self.firm, "an acknowledged submission is lost");
        if !self.is_cache_lost {
            assert!(
                found >= self.settled,
                "a settled submission is lost without a power cut"
            );
        }
        if self.failed_at.take().is_some() {
            let rest = &self.submissions[self.settled.min(found)..found];
            assert!(
                rest.iter().all(|submission| submission.counts() == (0, 0)),
                "a submission is there that was reported as lost by this process"
            );
        }
        let lost = self.submissions.split_off(found);
        self.lost = lost.into_iter().map(|one| one.content).collect();

        let mut expected_records = Vec::new();
        let mut expected_groups = Vec::new();
        for submission in &self.submissions {
            // Each of them in two versions, if a rewriting was interrupted.
            let rewritten = submission.rewritten.as_ref();
            match (
                &submission.content,
                rewritten.unwrap_or(&submission.content),
            ) {
                (SubmittedContent::Records(records), SubmittedContent::Records(rewritten)) => {
                    expected_records.extend(records.iter().zip(rewritten));
                }
                (SubmittedContent::Changes(changes), SubmittedContent::Changes(rewritten)) => {
                    expected_groups.push((changes, rewritten));
                }
                _ => unreachable!("refused ones are not kept, and others keep their kind"),
            }
            // What can be read is acknowledged to every reader.
            let mut fate = submission.fate.lock();
            if !matches!(*fate, SubmissionFate::Settled(_)) {
                *fate = SubmissionFate::Settled(0);
            }
        }
        let mut received_at = 0;
        for (expected, _) in expected_records.drain(..removed_records) {
            received_at = received_at.max(expected.received_at);
        }
        let expected_groups = expected_groups.split_off(removed_groups);
        for (index, (record, (expected, rewritten))) in
            records.iter().zip(expected_records).enumerate()
        {
            received_at = received_at.max(expected.received_at);
            assert_eq!(record.0, received_at, "receive time of record {index}");
            assert!(
                record.1 != EXPIRED || removed_records + index + 1 < content_end,
                "record {index} has lost its content before a base file says so"
            );
            assert!(
                record.1 == expected.bytes || record.1 == rewritten.bytes,
                "bytes of record {index}"
            );
        }
        for (index, (changes, (expected, rewritten))) in
            groups.iter().zip(expected_groups).enumerate()
        {
            assert!(
                changes == expected || changes == rewritten,
                "group {} of changes",
                index + 1
            );
        }
        (self.firm, self.settled, self.is_cache_lost) = (found, found, false);
        self.checked_entities.clear();
    }

    /// Compares the beginning of the journal and its base file with the model.
    fn check_start(&mut self, journal: &Arc<SegmentJournal>) -> LogStart {
        let start = journal.start();
        assert!(
            self.starts.contains(&start),
            "it begins at {start:?}, not at one of {:?}",
            self.starts
        );
        self.starts = vec![start];

        let mut rows = Vec::new();
        if let Some(mut base) = journal.read_base().expect("a whole base file") {
            while let Some(more) = base.read_rows().expect("a whole base file") {
                rows.extend(more);
            }
        }
        assert!(rows == base_rows(&start), "the rows of {start:?}");

        let first_files = self.disk.list_files();
        let names = first_files
            .iter()
            .filter_map(|(path, _)| path.file_name()?.to_str()?.strip_suffix(".segment"));
        let mut numbers = names.map(|name| name.parse::<u64>().expect("a number"));
        assert!(
            numbers.all(|number| number >= start.segment),
            "no file before {start:?} is left"
        );
        start
    }

    /// Writes a base file and removes segments from the beginning, as far as the disk allows.
    fn remove_segments(&mut self, journal: &Arc<SegmentJournal>) {
        // With a sync interval, a full segment may be synced before its end is published.
        let end = *journal.durable_end().borrow();
        let segments: Vec<SegmentSummary> = match journal.summarize_segments() {
            Ok(segments) => segments
                .into_iter()
                .filter(|segment| segment.first_position <= end)
                .collect(),
            Err(error) => {
                assert!(self.disk.is_stopped(), "{}", chain(&error));
                return;
            }
        };
        if segments.len() < 2 {
            return;
        }
        let first = segments[1 + self.draws.below(segments.len() - 1)];
        let index = first.first_position.get() as usize;
        let times = self.records().take(index).map(|record| record.received_at);
        let start = LogStart {
            segment: first.number,
            position: first.first_position,
            change: first.first_change,
            // Of the first kept record, or of the last one if there is none yet.
            received_at: Timestamp::from_micros(times.max().unwrap_or_default()),
            content_position: journal.start().content_position.max(first.first_position),
        };
        self.step(format!("remove what is before {start:?}"));

        let Some(removed) = self.begin_at(journal, start) else {
            return;
        };
        if let Err(error) = journal.remove_segments(removed) {
            self.step(format!("not all segments removed: {error}"));
        }
        self.disk.wait_until_idle();
        assert_eq!(journal.start(), start);
        let last = Position::new(start.position.get() - 1);
        if last >= Position::FIRST {
            let removed = journal.read_frame_at(last);
            assert!(
                matches!(removed, Err(JournalReadError::Removed { .. })),
                "{last} was removed"
            );
        }
    }

    /// Writes a base file and takes content out of records that stay, as far as the disk allows.
    fn remove_content(&mut self, journal: &Arc<SegmentJournal>) {
        // What was begun must come to its end first: it has another filter.
        if self.unfinished_rewriting.is_some() {
            return;
        }
        let end = *journal.durable_end().borrow();
        let start = LogStart {
            content_position: end,
            ..journal.start()
        };
        self.step(format!("remove content: {start:?}"));
        if self.begin_at(journal, start).is_none() {
            return;
        }
        let remainder = self.draws.below(3) as u64;
        self.rewrite_with(
            journal,
            ThirdsFilter {
                remainder,
                end: end.get(),
                replacement: EXPIRED,
            },
        );
    }

    /// Writes a base file, and lets the journal begin at `start`; `None` if the disk does not allow it.
    fn begin_at(
        &mut self,
        journal: &Arc<SegmentJournal>,
        start: LogStart,
    ) -> Option<RemovedSegments> {
        let written = journal.begin_base(&start).and_then(|mut base| {
            base_rows(&start)
                .iter()
                .try_for_each(|row| base.push_row(row))?;
            // The rename may be on the disk even if it is reported as failed.
            self.starts.push(start);
            base.finish()
        });
        if let Err(error) = written {
            self.step(format!("no base file: {error}"));
            return None;
        }
        self.starts = vec![start];
        Some(journal.begin_at(start))
    }

    /// Submits `batches` times many submissions at once.
    fn work(&mut self, journal: &Arc<SegmentJournal>, batches: usize) {
        for _ in 0..batches {
            if self.draws.one_in(3) {
                self.clock.advance(SYNC_INTERVAL / 3);
            }

            // A first submission keeps the commit thread busy until all others are queued, so that
            // the same seed always makes the same commits.
            let begin = self.submissions.len();
            self.disk.hold();
            let plug = match self.draw_lost() {
                Some(content) => content,
                None => SubmittedContent::Records(self.draw_records(1)),
            };
            let plug = self.submit(journal, plug);
            self.disk
                .wait_until_blocked(|| plug.as_ref().is_none_or(is_over));
            let mut waiting = Vec::from_iter(plug.filter(|plug| !is_over(plug)));
            let has_failed = waiting.is_empty();
            let more = self.draws.below(12);
            for _ in 0..if has_failed { 0 } else { more } {
                let content = self.draw_content();
                waiting.extend(self.submit(journal, content));
            }
            self.disk.release();
            for waiting in waiting {
                let ended = waiting.recv_timeout(PATIENCE);
                assert_eq!(
                    ended,
                    Err(RecvTimeoutError::Disconnected),
                    "the journal hangs"
                );
            }
            self.disk.wait_until_idle();
            self.check_reads(journal);
            if self.check_fates(begin) {
                return self.submit_to_failed(journal);
            }
            if self.removes_segments && self.draws.one_in(6) {
                self.remove_segments(journal);
            }
            if self.draws.one_in(4) {
                match self.draws.one_in(2) {
                    true => self.rewrite(journal),
                    false => self.remove_content(journal),
                }
                self.check_reads(journal);
                if journal.watch_failure().borrow().is_some() {
                    return self.submit_to_failed(journal);
                }
            }
        }
    }

    /// Rewrites all segments, and goes on with a rewriting that was interrupted. Until one has come
    /// to its end, each record and each group may be there in both versions.
    fn rewrite(&mut self, journal: &Arc<SegmentJournal>) {
        let drawn = ThirdsFilter {
            remainder: self.draws.below(3) as u64,
            end: journal.durable_end().borrow().get(),
            replacement: REWRITTEN,
        };
        let filter = match self.unfinished_rewriting {
            // The base file names its end.
            Some(unfinished) if unfinished.replacement == EXPIRED => unfinished,
            Some(unfinished) => ThirdsFilter {
                remainder: unfinished.remainder,
                ..drawn
            },
            None => drawn,
        };
        self.rewrite_with(journal, filter);
    }

    fn rewrite_with(&mut self, journal: &Arc<SegmentJournal>, filter: ThirdsFilter) {
        self.unfinished_rewriting = Some(filter);
        let mut position = 1;
        for submission in &mut self.submissions {
            submission.rewritten = Some(filter.rewrite(&submission.content, position));
            position += submission.counts().0 as u64;
        }

        let numbers = journal.segment_numbers();
        let result = numbers.iter().try_fold(0, |count, number| {
            let is_rewritten = journal.rewrite_segment(*number, &filter)?;
            Ok::<_, SegmentRewriteError>(count + usize::from(is_rewritten))
        });
        self.disk.wait_until_idle();
        match result {
            Ok(count) => {
                self.step(format!("{filter:?}: {count} of {} segments", numbers.len()));
                self.unfinished_rewriting = None;
                for submission in &mut self.submissions {
                    let rewritten = submission.rewritten.take();
                    submission.content = rewritten.expect("each has one");
                }
            }
            Err(error) => {
                self.step(format!("{filter:?}: {}", chain(&error)));
                let is_expected = self.disk.is_stopped() || self.has_disk_failed();
                assert!(is_expected, "no reason: {}", chain(&error));
            }
        }
    }

    /// Submits a record that is not in the model: it must not appear.
    fn submit_to_failed(&mut self, journal: &Arc<SegmentJournal>) {
        let record = self.draw_record(0, None);
        let submission = JournalSubmission {
            drafts: vec![record.to_draft()],
            settle: Box::new(|_| ()),
        };
        // It is refused, or dropped if the thread is about to end.
        let _ = journal.append(submission);
    }

    /// Takes the next lost submission, with new sequence numbers. An equal one may be in the
    /// remainder of a torn commit.
    fn draw_lost(&mut self) -> Option<SubmittedContent> {
        if self.draws.one_in(3) {
            return None;
        }
        let mut content = self.lost.pop_front()?;
        if let SubmittedContent::Records(records) = &mut content {
            if records.is_empty() {
                return None;
            }
            for index in 0..records.len() {
                let entity = records[index].entity;
                let earlier = records[..index].iter();
                let earlier = earlier.filter(|one| one.entity == entity && one.sequence.is_some());
                let next = self.last_sequence(entity) + earlier.count() as u64 + 1;
                records[index].sequence = records[index].sequence.and(Some(next));
            }
        }
        Some(content)
    }

    fn draw_content(&mut self) -> SubmittedContent {
        if let Some(content) = self.draw_lost() {
            return content;
        }
        match self.draws.below(8) {
            0 | 1 => SubmittedContent::Changes(self.draw_changes()),
            2 if !self.checked_entities.is_empty() => {
                let drawn = self.draws.below(self.checked_entities.len());
                let entity = self.checked_entities[drawn];
                let sequence = self.last_sequence(entity) + 2 * self.draws.below(2) as u64;
                SubmittedContent::Gap(vec![self.draw_record(entity, Some(sequence))])
            }
            // An empty one is a fence.
            _ => {
                let count = self.draws.below(4);
                SubmittedContent::Records(self.draw_records(count))
            }
        }
    }

    fn draw_records(&mut self, count: usize) -> Vec<ModelRecord> {
        let mut records: Vec<ModelRecord> = Vec::new();
        for _ in 0..count {
            let entity = self.draws.below(6);
            let earlier = records
                .iter()
                .filter(|one| one.entity == entity && one.sequence.is_some());
            let sequence = self.last_sequence(entity) + earlier.count() as u64 + 1;
            let sequence = (!self.draws.one_in(10)).then_some(sequence);
            records.push(self.draw_record(entity, sequence));
        }
        records
    }

    fn draw_record(&mut self, entity: usize, sequence: Option<u64>) -> ModelRecord {
        let bytes = match self.draws.below(40) {
            0 => 60_000 + self.draws.below(300_000),
            1..4 => 5_000 + self.draws.below(40_000),
            4..12 => self.draws.below(5_000),
            _ => self.draws.below(200),
        };
        ModelRecord {
            entity,
            sequence,
            received_at: self.draws.below(1_000_000) as i64,
            bytes: self.draw_bytes(bytes),
        }
    }

    /// Draws bytes that compress well, or not at all.
    fn draw_bytes(&mut self, count: usize) -> Vec<u8> {
        if self.draws.one_in(3) {
            return vec![self.draws.below(256) as u8; count];
        }
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.draws.next_u64().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    fn draw_changes(&mut self) -> TableChanges {
        let mut changes = Vec::new();
        for _ in 0..1 + self.draws.below(4) {
            let key = vec![self.draws.below(8) as u8; 1 + self.draws.below(3)];
            changes.push(match self.draws.below(8) {
                0 => TableChange::Remove { key },
                1 => TableChange::RemovePrefix { prefix: key },
                2 => TableChange::Put {
                    key,
                    value: self.draw_bytes(20_000),
                },
                _ => {
                    let count = self.draws.below(300);
                    let value = self.draw_bytes(count);
                    TableChange::Put { key, value }
                }
            });
        }
        TableChanges {
            table: 1 + self.draws.below(4) as u8,
            changes,
        }
    }

    fn last_sequence(&self, entity: usize) -> u64 {
        let numbered = self.records().filter(|one| one.entity == entity);
        numbered.filter_map(|one| one.sequence).max().unwrap_or(0)
    }

    /// Submits `content`; `None` if the journal is closed.
    fn submit(
        &mut self,
        journal: &Arc<SegmentJournal>,
        content: SubmittedContent,
    ) -> Option<mpsc::Receiver<()>> {
        let fate = Arc::new(Mutex::new(SubmissionFate::Waiting));
        let (sender, done) = mpsc::channel();
        let reporter = FateReporter {
            fate: Arc::clone(&fate),
            _done: sender,
        };

        let result = match &content {
            SubmittedContent::Records(records) | SubmittedContent::Gap(records) => {
                journal.append(JournalSubmission {
                    drafts: records.iter().map(ModelRecord::to_draft).collect(),
                    settle: Box::new(move |result: SubmissionResult| match result {
                        Ok(first) => reporter.settle(SubmissionFate::Settled(first.get())),
                        Err(_) => reporter.settle(SubmissionFate::Rejected),
                    }),
                })
            }
            SubmittedContent::Changes(changes) => journal.append_changes(TableSubmission {
                changes: Arc::new(changes.clone()),
                settle: Box::new(move |number| reporter.settle(SubmissionFate::Settled(number))),
            }),
        };
        // A refused submission is not in the model: it must never appear.
        result.ok()?;
        if let SubmittedContent::Records(records) = &content {
            let checked = records.iter().filter(|record| record.sequence.is_some());
            self.checked_entities
                .extend(checked.map(|record| record.entity));
        }
        self.submissions.push(ModelSubmission {
            content,
            rewritten: None,
            fate,
        });
        Some(done)
    }

    /// Checks the fates of the submissions from `begin` on, and removes the rejected ones. Returns
    /// true if the journal has failed.
    fn check_fates(&mut self, begin: usize) -> bool {
        let mut numbers = (1, 1);
        let mut has_failed = false;
        for (index, submission) in self.submissions.iter().enumerate() {
            let fate = *submission.fate.lock();
            let number = match &submission.content {
                SubmittedContent::Records(records) => {
                    numbers.0 += records.len() as u64;
                    numbers.0 - records.len() as u64
                }
                SubmittedContent::Changes(_) => {
                    numbers.1 += 1;
                    numbers.1 - 1
                }
                SubmittedContent::Gap(_) => {
                    assert!(
                        matches!(fate, SubmissionFate::Rejected | SubmissionFate::Dropped),
                        "a gap is {fate:?}"
                    );
                    has_failed |= fate == SubmissionFate::Dropped;
                    continue;
                }
            };
            if index < begin {
                continue;
            }
            match fate {
                SubmissionFate::Settled(settled) => {
                    assert_eq!(settled, number, "submission {index}");
                    assert!(!has_failed, "settled after one that failed");
                }
                SubmissionFate::Dropped => has_failed = true,
                SubmissionFate::Waiting | SubmissionFate::Rejected => {
                    panic!("submission {index} is {fate:?}")
                }
            }
        }
        self.submissions
            .retain(|submission| !matches!(submission.content, SubmittedContent::Gap(_)));
        let settled = self.submissions[begin..]
            .iter()
            .filter(|submission| submission.is_settled())
            .count();
        self.step(format!(
            "{settled} of {} submissions settled",
            self.submissions.len() - begin
        ));
        has_failed
    }

    /// Reads some positions, below and at the durable end.
    fn check_reads(&mut self, journal: &Arc<SegmentJournal>) {
        let end = journal.durable_end().borrow().get();
        let after = journal.read_frame_at(Position::new(end));
        assert!(
            after.is_ok_and(|frame| frame.is_none()),
            "nothing at the end"
        );
        let begin = journal.start().position.get();
        for _ in 0..2 {
            if end == begin || self.disk.is_stopped() {
                break;
            }
            let position = begin + self.draws.below((end - begin) as usize) as u64;
            let position = Position::new(position);
            let frame = match journal.read_frame_at(position) {
                Ok(frame) => frame.expect("it is durable"),
                Err(error) => panic!("{position}: {}", chain(&error)),
            };
            let entry = frame.entry(position).expect("its frame");
            let expected = self
                .records()
                .nth(position.get() as usize - 1)
                .expect("in the model");
            let is_rewritten = self.unfinished_rewriting.is_some_and(|filter| {
                filter.chooses(position.get()) && entry.bytes == filter.replacement
            });
            assert!(
                entry.bytes == expected.bytes || is_rewritten,
                "bytes at {position}"
            );
            if let Some(recent) = journal.recent_frame_at(position) {
                assert_eq!(recent, frame);
            }
        }
    }

    fn records(&self) -> impl Iterator<Item = &ModelRecord> {
        self.submissions
            .iter()
            .flat_map(|submission| match &submission.content {
                SubmittedContent::Records(records) => records.as_slice(),
                SubmittedContent::Changes(_) | SubmittedContent::Gap(_) => &[],
            })
    }

    /// Ends the use of the journal, and notes what must be there from now on.
    fn close(&mut self, journal: Arc<SegmentJournal>) {
        journal.close();
        let has_failed = journal.watch_failure().borrow().is_some();
        self.failed_at = journal.failed_mark();
        let durable_end = journal.durable_end().borrow().get();
        drop(journal);
        self.disk.forget_spares();

        let settled = self.submissions.iter().take_while(|one| one.is_settled());
        self.settled = settled.count();
        let is_synced = self.limits.sync_interval.is_none() || !has_failed;
        if is_synced {
            self.firm = self.settled;
            self.submissions.push(ModelSubmission::closing_group());
            return;
        }
        // With a sync interval, settled records may not be on the disk yet; settled changes are.
        self.is_cache_lost |= self.has_disk_failed();
        let mut position = 1;
        for (index, submission) in self.submissions.iter().enumerate() {
            let (records, groups) = submission.counts();
            position += records as u64;
            let is_durable = records > 0 && position <= durable_end;
            if is_durable || groups > 0 && submission.is_settled() {
                self.firm = self.firm.max(index + 1);
            }
        }
        self.submissions.push(ModelSubmission::closing_group());
    }

    /// Ends the process, or its use of the disk.
    fn end_life(&mut self) {
        let seed = self.draws.next_u64();
        match self.draws.below(8) {
            0..5 => {
                self.step("power cut");
                self.disk = self.disk.power_cut(seed);
                (self.failed_at, self.is_cache_lost) = (None, true);
            }
            7 if !self.disk.is_stopped() => {
                self.step("open again");
                self.disk.evict_clean(seed);
            }
            _ => {
                self.step("kill");
                self.disk = self.disk.kill(seed);
                self.failed_at = None;
            }
        }
        self.crashes += 1;
    }
}

/// A bit that changed on the disk after its commit was acknowledged.
#[test]
fn a_flipped_bit_in_acknowledged_bytes_is_reported_with_its_segment_and_never_passed_over() {
    let flips = read_variable(CUTS).unwrap_or(DEFAULT_CUTS as u64) as usize;
    let seed = read_variable(SEED).unwrap_or(1);
    let mut history = CrashHistory::new(seed);
    history.limits.segment_bytes = 64 * 1024;
    history.limits.sync_interval = None;
    let mut acknowledged = Vec::new();
    while history.disk.list_files().len() < 5 {
        let journal = history.open().expect("opens");
        history.check_content(&journal);
        history.work(&journal, 6);
        acknowledged = history.used_bytes();
        // Closing ends the log with a block that says that everything before it was synced.
        history.close(journal);
    }
    let journal = history.open().expect("opens");
    history.check_content(&journal);
    let expected = read_everything(journal.as_ref()).expect("it is whole");
    history.close(journal);

    let whole = history.disk.clone();
    let mut reports = [0; 3];
    for flip in 0..flips {
        let (path, used) = &acknowledged[history.draws.below(acknowledged.len())];
        // Headers and the newest commits are a small part of all bytes, but decide the most.
        let offset = match history.draws.below(4) {
            0 => history.draws.below(64),
            1 => used - 1 - history.draws.below(*used.min(&300)),
            _ => history.draws.below(*used),
        };
        let bit = history.draws.below(8);
        history.disk = whole.kill(0);
        history.disk.flip_bit(path, offset, bit);
        let place = format!(
            "flip {flip} of seed {seed}: {}, byte {offset}, bit {bit}",
            path.display()
        );
        reports[history.check_flip(path, &expected, &place)] += 1;
    }
    eprintln!("opening, reading, harmless: {reports:?}");
    assert!(reports[0] > 0 && reports[1] > 0, "both happen: {reports:?}");
}

impl CrashHistory {
    /// Paths of the segments with the lengths of their content, without the zeros at their ends.
    fn used_bytes(&self) -> Vec<(PathBuf, usize)> {
        let files = self.disk.list_files().into_iter();
        let files = files.map(|(path, _)| {
            let content = self.disk.read_file(&path);
            let used = content
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            (path, used)
        });
        files.filter(|(_, used)| *used > 0).collect()
    }

    /// Checks that damage in the file `path` is reported with its name, by the opening (0) or the
    /// reading (1), or does not matter (2).
    fn check_flip(&self, path: &Path, expected: &StoredContent, place: &str) -> usize {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let journal = match self.open_journal() {
            Ok(journal) => journal,
            Err(error) => {
                assert!(chain(&error).contains(name), "{place}: {}", chain(&error));
                return 0;
            }
        };
        let content = read_everything(journal.as_ref());
        journal.close();
        match content {
            Ok(content) => {
                assert!(content == *expected, "{place}: passed over");
                2
            }
            Err(error) => {
                let text = chain(&error);
                assert!(text.contains(name), "{place}: {text}");
                assert!(text.contains("position"), "{place}: {text}");
                1
            }
        }
    }
}

/// A segment that somebody removed leaves a hole, which is not the same as a shorter log.
#[test]
fn a_missing_segment_that_is_not_the_last_is_reported_with_its_name() {
    let mut history = CrashHistory::new(1);
    history.limits.segment_bytes = 16 * 1024;
    history.removes_segments = false;
    while history.used_bytes().len() < 4 {
        let journal = history.open().expect("opens");
        history.check_content(&journal);
        history.work(&journal, 4);
        history.close(journal);
    }

    let used = history.used_bytes();
    let whole = history.disk.clone();
    for (path, _) in &used[..used.len() - 1] {
        history.disk = whole.kill(0);
        history.disk.as_disk().remove(path).expect("removes");
        let Err(error) = history.open_journal() else {
            panic!("it opens without {}", path.display());
        };
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert!(chain(&error).contains(name), "{}", chain(&error));
    }
}

/// Rows of the base file that belong to `start`: none for a journal that has no base file.
fn base_rows(start: &LogStart) -> Vec<BaseRow> {
    if *start == LogStart::BEGINNING {
        return Vec::new();
    }
    let mut draws = SeededDraws::new(start.segment ^ (start.content_position.get() << 16));
    let count = draws.below(30);
    let rows = (0..count).map(|key| BaseRow {
        section: draws.below(4) as u8,
        key: vec![key as u8],
        value: draws.next_u64().to_le_bytes().repeat(draws.below(4_000)),
    });
    rows.collect()
}

fn is_over(waiting: &mpsc::Receiver<()>) -> bool {
    waiting.try_recv() == Err(mpsc::TryRecvError::Disconnected)
}

type StoredRecord = (i64, bytes::Bytes);
type StoredContent = (Vec<StoredRecord>, Vec<TableChanges>);

/// Reads all records with their receive times, and all groups of table changes.
fn read_everything(journal: &SegmentJournal) -> Result<StoredContent, JournalReadError> {
    let end = *journal.durable_end().borrow();
    let mut records = Vec::new();
    let LogStart {
        mut position,
        change: first_change,
        ..
    } = journal.start();
    while position < end {
        let frame = journal.read_frame_at(position)?.expect("it is durable");
        assert_eq!(frame.first, position, "frames follow each other");
        let entries = frame.entries.iter();
        records.extend(entries.map(|entry| (entry.received_at.as_micros(), entry.bytes.clone())));
        position = frame.end();
    }
    assert_eq!(position, end, "the durable end is the end of a frame");

    let mut groups = Vec::new();
    let next = journal.read_changes(first_change, &mut |number, changes| {
        assert_eq!(
            number,
            first_change + groups.len() as u64,
            "numbers follow each other"
        );
        groups.push(changes);
    })?;
    assert_eq!(next, first_change + groups.len() as u64);
    Ok((records, groups))
}
