//! Removal of the content of sources with days of their own, from records that stay.
//!
//! ```text
//!  plan: records that are old enough, and that nobody is owed
//!    └─> states of their entities are stored
//!          └─> base file: image of the derived rows, and the new cuts
//!                └─> segments are rewritten: records before the cuts keep an outline
//!                      └─> copies in tables are rewritten: kept records, and what dead letters quote
//!                            └─> base file again, if there were copies
//!                                  └─> row of the table of finished removals
//! ```
//!
//! The base file comes first, because nothing can be derived from an outline again. A row of a table
//! comes last: without it, a crash may have left segments partly rewritten, and copies in the base file;
//! the next opening does all that again. While there are copies in tables, all later segments may hold
//! them too; so these copies go last.
//!
//! Content goes at most [`SLACK`] after its days and the end of what is owed. So each segment is
//! rewritten once for each source, and once more for each [`SLACK`] of the time in which it was written.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::info;

use super::base_writing::write_base;
use super::content_copies::CopiesInTables;
use super::content_cuts::ContentCuts;
use super::deps::RetentionDeps;
use super::error::RetentionError;
use super::expired_content::ExpiredContentFilter;
use super::finished_cuts::FinishedCutTable;
use super::plan::SourceRetention;
use super::record_keeping::{self, HeldEntities, RecordSelection};
use crate::audit::SUCCESS;
use crate::entity::c2s_lead;
use crate::event::{Position, Timestamp};
use crate::journal::{Journal, JournalReadError, LogStart, find_position_at};
use crate::projection::{ProjectionImage, ProjectionRemoval, RemovedPart, StoredRecord};

/// Time for which content is left in its segment after its days, and between two removals, so that
/// much goes at once: each removal writes the base file anew.
const SLACK: Duration = Duration::from_secs(24 * 3_600);

/// Time between two looks at content that is owed beyond its days.
const PAUSE: Duration = Duration::from_secs(3_600);

/// Time until the next attempt after one that failed, since it may read many segments.
const RETRY_PAUSE: Duration = Duration::from_secs(300);

/// Operation of the audit log; its object is the first position behind the removed content.
const REMOVAL: &str = "content.remove";

/// Removal of content during one opening of the store.
pub(super) struct ContentRemoval {
    retention: SourceRetention,
    /// Time for which undelivered events are held for a subscriber.
    hold: Duration,
    /// Cuts in force; `None` until they are read.
    cuts: Option<ContentCuts>,
    /// `true` if the segments hold nothing before the cuts, as far as this opening knows.
    is_rewritten: bool,
    /// `true` if the base file may hold copies that were removed.
    is_base_old: bool,
    /// Time before which nothing is due.
    idle_until: Timestamp,
    /// `true` if the last attempt failed.
    has_failed: bool,
}

impl ContentRemoval {
    pub(super) fn new(retention: SourceRetention, hold: Duration) -> Self {
        Self {
            retention,
            hold,
            cuts: None,
            is_rewritten: false,
            is_base_old: false,
            idle_until: Timestamp::default(),
            has_failed: false,
        }
    }

    /// Returns `true` in the pause after an attempt that failed.
    pub(super) fn is_pausing(&self, now: Timestamp) -> bool {
        self.has_failed && now < self.idle_until
    }

    /// Removes the content that is old enough and not owed. Returns `false` if some has to wait.
    ///
    /// # Errors
    /// [`RetentionError`]; the work goes on after [`RETRY_PAUSE`] then.
    pub(super) fn look_once(
        &mut self,
        deps: &RetentionDeps,
        now: Timestamp,
        is_stopping: &AtomicBool,
    ) -> Result<bool, RetentionError> {
        if self.retention.is_empty() || now < self.idle_until {
            return Ok(true);
        }
        let removed = self.remove_content(deps, now, is_stopping);
        self.has_failed = removed.is_err();
        if self.has_failed {
            self.idle_until = now.saturating_add(RETRY_PAUSE);
        }
        removed
    }

    /// Loads the cuts in force. What an earlier opening did not finish, it may have left anywhere.
    fn load_cuts(&mut self, deps: &RetentionDeps) -> Result<ContentCuts, RetentionError> {
        let mut cuts = ContentCuts::load(&deps.journal)?;
        finished_cuts(deps).finish(&mut cuts)?;
        self.is_rewritten = cuts.first_undone().is_none();
        self.is_base_old = !self.is_rewritten;
        self.cuts = Some(cuts.clone());
        Ok(cuts)
    }

    fn remove_content(
        &mut self,
        deps: &RetentionDeps,
        now: Timestamp,
        is_stopping: &AtomicBool,
    ) -> Result<bool, RetentionError> {
        let cuts = match &self.cuts {
            Some(cuts) => cuts.clone(),
            None => self.load_cuts(deps)?,
        };
        if !self.is_rewritten {
            // An earlier opening may not have come to the end.
            return self.finish_removal(deps, cuts, now, is_stopping);
        }
        if !self.is_due(deps, &cuts, now)? {
            return Ok(true);
        }

        let mut ends = Vec::new();
        for (source, keep_for) in &self.retention {
            ends.push((source, find_end(deps, now.saturating_sub(*keep_for))?));
        }
        let advance = |end: Position, pending: Option<Position>| {
            let mut new_cuts = cuts.clone();
            for (source, old_enough) in &ends {
                let pending = pending.filter(|_| source.as_str() == c2s_lead::SOURCE.as_str());
                let end = pending.map_or(end, |pending| end.min(pending));
                new_cuts.advance(source, end.min(*old_enough));
            }
            new_cuts
        };
        let latest = ends.iter().map(|(_, end)| *end).max();
        let latest = latest.unwrap_or(Position::FIRST);
        let held_from = find_end(deps, now.saturating_sub(self.hold))?;
        let owed = find_owed(deps, latest, held_from, now, self.hold)?;
        if advance(owed, None).first_undone().is_none() {
            return Ok(false);
        }

        // Whatever is found from here on does not change soon.
        let pending = self.find_pending(deps, &cuts, latest, held_from)?;
        let mut needed = owed.min(find_dead_letter(deps, latest, held_from));
        loop {
            let new_cuts = advance(needed, pending);
            self.idle_until = now.saturating_add(PAUSE);
            if new_cuts.first_undone().is_none() {
                return Ok(true);
            }
            let held = held_from..needed;
            match prepare_removal(deps, &new_cuts, held, now, is_stopping)? {
                // The segments may hold former dead letters nevertheless.
                Preparation::Nothing => {}
                Preparation::Done => self.idle_until = now.saturating_add(SLACK),
                Preparation::NotYet => {
                    self.idle_until = now;
                    return Ok(false);
                }
                Preparation::Held(position) => {
                    needed = position;
                    continue;
                }
            }
            return self.finish_removal(deps, new_cuts, now, is_stopping);
        }
    }

    /// Returns the first position from `held_from` to before `end` of an event that is pending with its
    /// content. One that is pending for longer is resolved as failed once its content is gone.
    fn find_pending(
        &self,
        deps: &RetentionDeps,
        cuts: &ContentCuts,
        end: Position,
        held_from: Position,
    ) -> Result<Option<Position>, RetentionError> {
        let source = c2s_lead::SOURCE.as_str();
        if !self.retention.contains_key(source) {
            return Ok(None);
        }
        let journal = Arc::clone(&deps.journal) as Arc<dyn Journal>;
        let open = ProjectionRemoval::open(&deps.derived, journal)?.find_open_events(end)?;
        let from = held_from.max(cuts.cut_of(source).before);
        Ok(open.pending.range(from..).next().copied())
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

    /// Removes the content before `cuts`, which are in the base file, and its copies. Returns `false`
    /// if a backup keeps the base file.
    fn finish_removal(
        &mut self,
        deps: &RetentionDeps,
        cuts: ContentCuts,
        now: Timestamp,
        is_stopping: &AtomicBool,
    ) -> Result<bool, RetentionError> {
        self.cuts = Some(cuts.clone());
        self.is_rewritten = false;
        let filter = content_filter(deps, &cuts, now);
        let copies = CopiesInTables::find(deps, &filter)?;
        let rewritten = self.rewrite_segments(deps, &filter, copies.is_some(), is_stopping)?;
        if let Some(copies) = &copies {
            self.is_base_old = true;
            copies.remove(deps, &filter)?;
        }
        if self.is_base_old {
            deps.tables.write_cursor()?;
            deps.derived.sync()?;
            let start = deps.journal.start();
            let done = cuts.clone().into_done();
            if !write_and_begin(deps, start, &done, is_stopping)? {
                return Ok(false);
            }
            self.is_base_old = false;
        }
        finished_cuts(deps).store(&cuts)?;

        if rewritten > 0 || copies.is_some() {
            info!(
                segments = rewritten,
                before = %cuts.end(),
                "content removed by the retention of its source"
            );
            let end = cuts.end().to_string();
            deps.audit.append_act(now, REMOVAL, Some(end), SUCCESS);
        }
        self.cuts = Some(cuts.into_done());
        self.is_rewritten = true;
        Ok(true)
    }

    /// Rewrites the segments that may hold what `filter` removes, and all later ones if they may hold
    /// copies of it. Returns their number.
    fn rewrite_segments(
        &mut self,
        deps: &RetentionDeps,
        filter: &ExpiredContentFilter,
        has_copies: bool,
        is_stopping: &AtomicBool,
    ) -> Result<u64, RetentionError> {
        let mut undone = filter.cuts.clone();
        let first = undone.first_undone().unwrap_or(Position::FIRST);
        let segments = deps.journal.summarize_segments()?;
        let mut rewritten = 0_u64;
        for (index, segment) in segments.iter().enumerate() {
            let end = match segments.get(index + 1) {
                Some(next) => next.first_position,
                None => *deps.journal.durable_end().borrow(),
            };
            let is_later = has_copies && first <= end;
            if !is_later && !undone.concern(segment.first_position, end) {
                continue;
            }
            if is_stopping.load(Ordering::Relaxed) {
                return Err(RetentionError::Stopping);
            }
            let is_rewritten = deps.journal.rewrite_segment(segment.number, filter)?;
            rewritten += u64::from(is_rewritten);
            // After an error, the work goes on here.
            undone.finish_before(end);
            if !has_copies {
                self.cuts = Some(undone.clone());
            }
        }
        Ok(rewritten)
    }
}

fn content_filter(
    deps: &RetentionDeps,
    cuts: &ContentCuts,
    removed_at: Timestamp,
) -> ExpiredContentFilter {
    ExpiredContentFilter {
        cuts: cuts.clone(),
        removed_at,
        journal: Arc::clone(&deps.journal) as Arc<dyn Journal>,
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

/// Returns the position from `held_from` to before `end` of the first event with a dead letter, or `end`.
fn find_dead_letter(deps: &RetentionDeps, end: Position, held_from: Position) -> Position {
    let dead_letters = deps.owed.dead_letters_before(end);
    let first = dead_letters.range(held_from..).next();
    first.map_or(end, |first| end.min(*first))
}

fn finished_cuts(deps: &RetentionDeps) -> FinishedCutTable {
    FinishedCutTable::open(&deps.tables, deps.journal.incarnations().newest())
}

/// Result of the preparation of a removal.
enum Preparation {
    /// There is no content to remove.
    Nothing,
    /// The content is not needed any more.
    Done,
    /// The derived data is not on the disk yet, or a backup reads the journal.
    NotYet,
    /// A record at this position is needed by an entity that cannot be restored.
    Held(Position),
}

/// Stores what is needed of the content before `cuts`, so that it can be removed. Entities that cannot
/// be restored keep their records in the range `held`.
fn prepare_removal(
    deps: &RetentionDeps,
    cuts: &ContentCuts,
    held: Range<Position>,
    now: Timestamp,
    is_stopping: &AtomicBool,
) -> Result<Preparation, RetentionError> {
    let RetentionDeps {
        journal, derived, ..
    } = deps;
    if ProjectionImage::begin(derived)?.position() < cuts.end() {
        return Ok(Preparation::NotYet);
    }

    let former = journal.start();
    let removal = ProjectionRemoval::open(derived, Arc::clone(journal) as Arc<dyn Journal>)?;
    let is_concerned = |stored: &StoredRecord| {
        let record = &stored.record;
        record.has_content() && cuts.is_undone(&record.source, stored.position)
    };
    let (mut count, mut entities) = (0, HeldEntities::new());
    for (from, end) in cuts.undone_ranges() {
        let selection = RecordSelection {
            from: from.max(former.position),
            end,
            is_concerned: &is_concerned,
            outlines_stay: true,
        };
        count += record_keeping::keep_outlines(
            journal.as_ref(),
            &removal,
            deps.state_limits,
            &selection,
            &mut entities,
            is_stopping,
        )?;
    }
    if !entities.is_empty() {
        deps.metrics.set_retention_held_entities(entities.len());
    }
    let tails = entities.values();
    let first_held = tails
        .filter_map(|tail| tail.range(held.clone()).next())
        .min();
    if let Some(position) = first_held {
        return Ok(Preparation::Held(*position));
    }
    if count == 0 && CopiesInTables::find(deps, &content_filter(deps, cuts, now))?.is_none() {
        return Ok(Preparation::Nothing);
    }

    // The rows on the disk must not need the content, whatever happens from now on.
    removal.mark_prepared(cuts.end())?;
    deps.tables.write_cursor()?;
    derived.sync()?;
    let start = LogStart {
        content_position: former.content_position.max(cuts.end()),
        ..former
    };
    if write_and_begin(deps, start, cuts, is_stopping)? {
        Ok(Preparation::Done)
    } else {
        Ok(Preparation::NotYet)
    }
}

/// Writes the base file with `cuts`, and lets the journal begin at `start`. Returns `false` if a backup
/// keeps the former base file.
fn write_and_begin(
    deps: &RetentionDeps,
    start: LogStart,
    cuts: &ContentCuts,
    is_stopping: &AtomicBool,
) -> Result<bool, RetentionError> {
    let RetentionDeps {
        journal, derived, ..
    } = deps;
    let nothing = RemovedPart::none();
    let start_and_cuts = (start, cuts);
    let base = write_base(
        journal,
        derived,
        start_and_cuts,
        &nothing,
        u64::MAX,
        is_stopping,
    )?;
    let Some(base) = base else {
        return Ok(false);
    };
    Ok(journal.begin_with_base(base, start)?.is_some())
}
