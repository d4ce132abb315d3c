//! Removal of the content of sources with days of their own, from records that stay.
//!
//! ```text
//!  plan: records that are old enough, and that nobody is owed
//!    └─> states of their entities are stored
//!          └─> base file: image of the derived rows, and the new cuts
//!                └─> kept records and segments are rewritten: records before the cuts keep an outline
//! ```
//!
//! The base file comes first, because nothing can be derived from an outline again. A crash leaves
//! the segments behind it partly rewritten; the next opening rewrites the rest.
//!
//! Content goes at most [`SLACK`] after its days. So each segment is rewritten once for each source,
//! and once more for each [`SLACK`] of the time in which it was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::info;

use super::base_writing::write_base;
use super::content_cuts::ContentCuts;
use super::deps::RetentionDeps;
use super::error::RetentionError;
use super::expired_content::ExpiredContentFilter;
use super::plan::SourceRetention;
use super::record_keeping::{self, RecordSelection};
use crate::event::{Position, Timestamp};
use crate::journal::{ContentFilter, Journal, JournalReadError, LogStart, find_position_at};
use crate::projection::{ProjectionImage, ProjectionRemoval, RemovedPart};
use crate::table_store::KeptRecordTable;

/// Time for which content is left in its segment after its days, so that much goes at once: each
/// removal writes the base file anew.
const SLACK: Duration = Duration::from_secs(24 * 3_600);

/// Shortest time between two removals, for content that subscribers were owed beyond its days.
const PAUSE: Duration = Duration::from_secs(3_600);

/// Removal of content during one opening of the store.
pub(super) struct ContentRemoval {
    retention: SourceRetention,
    /// Time for which undelivered events are held for a subscriber.
    hold: Duration,
    /// Cuts in force; `None` until they are read.
    cuts: Option<ContentCuts>,
    /// `true` if the segments hold nothing before the cuts, as far as this opening knows.
    is_rewritten: bool,
    /// Time before which nothing is due.
    idle_until: Timestamp,
}

impl ContentRemoval {
    pub(super) fn new(retention: SourceRetention, hold: Duration) -> Self {
        Self {
            retention,
            hold,
            cuts: None,
            is_rewritten: false,
            idle_until: Timestamp::default(),
        }
    }

    /// Removes the content that is old enough and not owed. Returns `false` if some has to wait.
    ///
    /// # Errors
    /// [`RetentionError`]; the work begins again then.
    pub(super) fn look_once(
        &mut self,
        deps: &RetentionDeps,
        now: Timestamp,
        is_stopping: &AtomicBool,
    ) -> Result<bool, RetentionError> {
        if self.retention.is_empty() {
            return Ok(true);
        }
        let cuts = match &self.cuts {
            Some(cuts) => cuts.clone(),
            None => ContentCuts::load(&deps.journal)?,
        };
        if !self.is_rewritten {
            // An earlier opening may not have come to the end.
            self.rewrite_segments(deps, cuts, now, is_stopping)?;
            return Ok(true);
        }
        if now < self.idle_until || !self.is_due(deps, &cuts, now)? {
            return Ok(true);
        }

        let mut ends = Vec::new();
        for (source, keep_for) in &self.retention {
            ends.push((source, find_end(deps, now.saturating_sub(*keep_for))?));
        }
        let advance = |end: Position| {
            let mut new_cuts = cuts.clone();
            for (source, old_enough) in &ends {
                new_cuts.advance(source, end.min(*old_enough));
            }
            new_cuts
        };
        let latest = ends.iter().map(|(_, end)| *end).max();
        let latest = latest.unwrap_or(Position::FIRST);
        let held_from = find_end(deps, now.saturating_sub(self.hold))?;
        let owed = find_owed(deps, latest, held_from, now, self.hold)?;
        if advance(owed).first_undone().is_none() {
            return Ok(false);
        }

        // Whatever is found from here on does not change soon.
        let new_cuts = advance(owed.min(find_waiting(deps, latest, held_from)?));
        self.idle_until = now.saturating_add(PAUSE);
        let Some(first) = new_cuts.first_undone() else {
            return Ok(true);
        };
        match prepare_removal(deps, &new_cuts, first, is_stopping)? {
            Preparation::Nothing => self.cuts = Some(new_cuts.into_done()),
            Preparation::Done => self.rewrite_segments(deps, new_cuts, now, is_stopping)?,
            Preparation::NotYet => {
                self.idle_until = now;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns `true` if the first record behind the cut of some source is older than its days and
    /// [`SLACK`].
    fn is_due(
        &mut self,
        deps: &RetentionDeps,
        cuts: &ContentCuts,
        now: Timestamp,
    ) -> Result<bool, JournalReadError> {
        let mut next: Option<Timestamp> = None;
        for (source, keep_for) in &self.retention {
            let start = deps.journal.start().position;
            let first = cuts.cut_of(source).before.max(start);
            let frame = deps.journal.read_frame_at(first)?;
            let received_at = match frame.as_ref().and_then(|frame| frame.entry(first)) {
                Some(entry) => entry.received_at,
                None => now,
            };
            let due = received_at.saturating_add(*keep_for).saturating_add(SLACK);
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        self.idle_until = next.unwrap_or(now);
        Ok(self.idle_until <= now)
    }

    /// Rewrites the segments that may hold content before `cuts`, which are in the base file.
    fn rewrite_segments(
        &mut self,
        deps: &RetentionDeps,
        cuts: ContentCuts,
        now: Timestamp,
        is_stopping: &AtomicBool,
    ) -> Result<(), RetentionError> {
        self.cuts = Some(cuts.clone());
        self.is_rewritten = false;
        let filter = ExpiredContentFilter {
            cuts,
            removed_at: now,
        };
        let segments = deps.journal.summarize_segments()?;
        let mut rewritten = 0_u64;
        for (index, segment) in segments.iter().enumerate() {
            let end = match segments.get(index + 1) {
                Some(next) => next.first_position,
                None => *deps.journal.durable_end().borrow(),
            };
            if !filter.cuts.concern(segment.first_position, end) {
                continue;
            }
            if is_stopping.load(Ordering::Relaxed) {
                return Err(RetentionError::Stopping);
            }
            let is_rewritten = deps.journal.rewrite_segment(segment.number, &filter)?;
            rewritten += u64::from(is_rewritten);
        }
        if rewritten > 0 {
            info!(
                segments = rewritten,
                before = %filter.cuts.end(),
                "content removed by the retention of its source"
            );
        }
        self.cuts = Some(filter.cuts.into_done());
        self.is_rewritten = true;
        Ok(())
    }
}

/// Returns the position of the first durable record that was received at `time` or later.
fn find_end(deps: &RetentionDeps, time: Timestamp) -> Result<Position, JournalReadError> {
    let end = *deps.journal.durable_end().borrow();
    find_position_at(deps.journal.as_ref(), time, end)
}

/// Returns the first position that a delivery needs. Lets the delivery stage give up what was received
/// before the record at `held_from`, as far as it is before `end`.
fn find_owed(
    deps: &RetentionDeps,
    end: Position,
    held_from: Position,
    now: Timestamp,
    hold: Duration,
) -> Result<Position, RetentionError> {
    let owed = deps.owed.first_owed(now, hold)?;
    let expired = end.min(held_from);
    if owed < expired {
        deps.owed.expire_before(expired, now)?;
    }
    Ok(owed)
}

/// Returns the position from `held_from` to before `end` of the first event that is pending or has a
/// dead letter, or `end`.
fn find_waiting(
    deps: &RetentionDeps,
    end: Position,
    held_from: Position,
) -> Result<Position, RetentionError> {
    if held_from >= end {
        return Ok(end);
    }
    let journal = Arc::clone(&deps.journal) as Arc<dyn Journal>;
    let open = ProjectionRemoval::open(&deps.derived, journal)?.find_open_events(end)?;
    let dead_letters = deps.owed.dead_letters_before(end);
    let waiting = [open.pending, dead_letters];
    let first = waiting
        .iter()
        .filter_map(|one| one.range(held_from..).next());
    Ok(first.copied().min().map_or(end, |first| first.min(end)))
}

/// Result of the preparation of a removal.
enum Preparation {
    /// There is no content to remove.
    Nothing,
    /// The content is not needed any more.
    Done,
    /// The derived data is not on the disk yet, or a backup reads the journal.
    NotYet,
}

/// Stores what is needed of the content from `first` to `cuts`, so that it can be removed.
fn prepare_removal(
    deps: &RetentionDeps,
    cuts: &ContentCuts,
    first: Position,
    is_stopping: &AtomicBool,
) -> Result<Preparation, RetentionError> {
    let RetentionDeps {
        journal, derived, ..
    } = deps;
    if ProjectionImage::begin(derived)?.position() < cuts.end() {
        return Ok(Preparation::NotYet);
    }

    let filter = ExpiredContentFilter {
        cuts: cuts.clone(),
        removed_at: deps.clock.wall(),
    };
    KeptRecordTable::new(&deps.tables)
        .replace_records(&|position, record| filter.replace_record(position, record))?;
    let former = journal.start();
    let selection = RecordSelection {
        from: first.max(former.position),
        end: cuts.end(),
        is_concerned: &|stored| {
            let record = &stored.record;
            record.has_content() && cuts.contain(&record.source, stored.position)
        },
    };
    let removal = ProjectionRemoval::open(derived, Arc::clone(journal) as Arc<dyn Journal>)?;
    let count = record_keeping::keep_outlines(
        journal.as_ref(),
        &removal,
        deps.state_limits,
        &selection,
        is_stopping,
    )?;
    if count == 0 {
        return Ok(Preparation::Nothing);
    }

    // The rows on the disk must not need the content, whatever happens from now on.
    deps.tables.write_cursor()?;
    derived.sync()?;
    let start = LogStart {
        content_position: former.content_position.max(cuts.end()),
        ..former
    };
    let nothing = RemovedPart::none();
    let base = write_base(
        journal,
        derived,
        (start, cuts),
        &nothing,
        u64::MAX,
        is_stopping,
    )?;
    let Some(base) = base else {
        return Ok(Preparation::NotYet);
    };
    match journal.begin_with_base(base, start)? {
        Some(_) => Ok(Preparation::Done),
        None => Ok(Preparation::NotYet),
    }
}
