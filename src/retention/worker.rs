//! Worker of the retention: a thread that looks at the journal now and then, and removes segments and
//! content.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::content_removal::ContentRemoval;
use super::cut::{self, CutOutcome};
use super::deps::RetentionDeps;
use super::error::RetentionError;
use super::plan::{self, RetentionPolicy, SourceRetention};
use crate::audit::SUCCESS;
use crate::event::{Position, Timestamp};
use crate::journal::{Journal, JournalReadError, LogStart, SegmentSummary};

/// Time between two looks. A look that finds nothing to do costs a few system calls.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks that are left out after one that found segments still needed, because it reads the rows of
/// all lanes.
const LOOKS_LEFT_OUT: u32 = 4;

/// First and longest pause after an attempt to remove segments that failed.
const CUT_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Operation of the audit log; its object is the first position that is left.
const REMOVAL: &str = "events.remove";

/// Handle of the worker's thread.
pub struct RetentionWorker {
    /// Dropped to end the thread.
    stop: Mutex<Option<mpsc::Sender<()>>>,
    /// Ends a removal that is under way.
    is_stopping: Arc<AtomicBool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl RetentionWorker {
    /// Starts the thread; `None` if `policy` keeps everything for ever, and so do all `sources`.
    ///
    /// # Errors
    /// The error of the operating system if the thread cannot be started.
    pub fn start(
        policy: RetentionPolicy,
        sources: SourceRetention,
        deps: RetentionDeps,
    ) -> std::io::Result<Option<Self>> {
        if !policy.is_enabled() && sources.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = mpsc::channel();
        let mut pass = RetentionPass::new(policy, sources, deps);
        let is_stopping = Arc::clone(&pass.is_stopping);
        let thread = thread::Builder::new()
            .name("retention".into())
            .spawn(move || pass.repeat_until_stopped(&stopped))?;
        Ok(Some(Self {
            stop: Mutex::new(Some(stop)),
            is_stopping,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Ends the thread. A removal that is under way is given up unless it has come to its end.
    /// Blocks until the thread has ended.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stop.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            // The panic hook has logged any panic of the thread; the next one begins again.
            let _ = thread.join();
        }
    }
}

/// State of the worker's thread.
struct RetentionPass {
    policy: RetentionPolicy,
    content: ContentRemoval,
    deps: RetentionDeps,
    /// Receive times of the first records behind full segments, by the segments' numbers.
    times_behind: HashMap<u64, Timestamp>,
    /// Bytes that a removal must free to be worth its base file.
    worthwhile_bytes: u64,
    is_stopping: Arc<AtomicBool>,
    /// Looks to leave out, because the last one found segments that are still needed.
    looks_left_out: u32,
    cut_pause: CutPause,
    /// Monotonic time since which each look that did something has failed.
    failing_since: Option<Duration>,
}

/// Growing pause after attempts to remove segments that failed: each may read all that was to go. Times
/// are monotonic.
#[derive(Clone, Copy, Debug, Default)]
struct CutPause {
    /// Length of the last pause; zero after an attempt that did not fail.
    length: Duration,
    until: Duration,
}

impl CutPause {
    fn is_over(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// Begins a pause twice as long as the last one.
    fn note_failure(&mut self, now: Duration) {
        let (first, longest) = CUT_PAUSES;
        self.length = (self.length * 2).clamp(first, longest);
        self.until = now.saturating_add(self.length);
    }
}

impl RetentionPass {
    fn new(policy: RetentionPolicy, sources: SourceRetention, deps: RetentionDeps) -> Self {
        Self {
            policy,
            content: ContentRemoval::new(sources, policy.hold),
            deps,
            times_behind: HashMap::new(),
            worthwhile_bytes: 0,
            is_stopping: Arc::default(),
            looks_left_out: 0,
            cut_pause: CutPause::default(),
            failing_since: None,
        }
    }

    fn repeat_until_stopped(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if self.looks_left_out > 0 {
                self.looks_left_out -= 1;
                continue;
            }
            let result = self.look_once().or_else(ignore_stop);
            self.note_result(result.is_err());
            if let Err(error) = result {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "retention failed; it is tried again"
                );
                self.deps.metrics.count_retention_failure();
                self.looks_left_out = LOOKS_LEFT_OUT;
            }
        }
    }

    /// Notes the result of a look for the metric. A pause after a failure is no success.
    fn note_result(&mut self, has_failed: bool) {
        let now = self.deps.clock.monotonic();
        if has_failed {
            self.failing_since.get_or_insert(now);
        } else if self.cut_pause.length.is_zero()
            && !self.content.is_pausing(self.deps.clock.wall())
        {
            self.failing_since = None;
        }
        let since = self.failing_since.unwrap_or(now);
        self.deps
            .metrics
            .set_retention_overdue(now.saturating_sub(since));
    }

    /// Removes the segments and the content that are out of retention and not needed. Neither keeps
    /// the other from its work by an error.
    fn look_once(&mut self) -> Result<(), RetentionError> {
        // A backup ends soon; its segments must stay until then.
        if self.deps.journal.is_being_backed_up() {
            return Ok(());
        }
        let now = self.deps.clock.wall();
        // Segments first: in those that go, no content has to be removed.
        let monotonic = self.deps.clock.monotonic();
        let is_cut_due = self.cut_pause.is_over(monotonic);
        let cut = match is_cut_due {
            true => self.remove_expired_segments(now),
            false => Ok(()),
        };
        match &cut {
            Err(RetentionError::Stopping) => return cut,
            Err(_) => self.cut_pause.note_failure(monotonic),
            Ok(()) if is_cut_due => self.cut_pause = CutPause::default(),
            Ok(()) => {}
        }
        let content = self.content.look_once(&self.deps, now, &self.is_stopping);
        if matches!(content, Ok(false)) {
            self.looks_left_out = LOOKS_LEFT_OUT;
        }
        cut.and(content.map(drop))
    }

    /// Removes the segments that are out of retention and not needed.
    fn remove_expired_segments(&mut self, now: Timestamp) -> Result<(), RetentionError> {
        if !self.policy.is_enabled() {
            return Ok(());
        }
        let segments = self.deps.journal.summarize_segments()?;
        let first = segments.first().map_or(0, |first| first.number);
        self.times_behind.retain(|number, _| *number >= first);

        let policy = self.policy;
        let expired = plan::count_expired(&segments, &policy, now, |index| {
            self.newest_time(&segments[..=index + 1], now)
        })?;
        let freed = |count: usize| -> u64 {
            let removed = segments.iter().take(count);
            removed.map(|segment| segment.file_bytes).sum()
        };
        if expired == 0 || freed(expired) < self.worthwhile_bytes {
            return Ok(());
        }

        let owed = self.deps.owed.first_owed(now, policy.hold)?;
        let count = plan::count_unneeded(&segments, expired, owed);
        if count < expired {
            self.expire_deliveries(&segments[..=expired], now)?;
            self.looks_left_out = LOOKS_LEFT_OUT;
        }
        if count == 0 || freed(count) < self.worthwhile_bytes {
            return Ok(());
        }

        let kept = &segments[count];
        let start = LogStart {
            segment: kept.number,
            position: kept.first_position,
            change: kept.first_change,
            received_at: self.time_behind(&segments, count - 1)?.unwrap_or(now),
            content_position: self.deps.journal.start().content_position,
        };
        match cut::remove_segments(&self.deps, start, freed(count), &self.is_stopping)? {
            CutOutcome::Removed { base_bytes } => {
                self.worthwhile_bytes = base_bytes;
                info!(
                    segments = count,
                    freed_bytes = freed(count),
                    base_bytes,
                    first_position = %start.position,
                    "segments removed by retention"
                );
                let first = start.position.to_string();
                self.deps
                    .audit
                    .append_act(now, REMOVAL, Some(first), SUCCESS);
            }
            CutOutcome::NotWorthwhile => self.worthwhile_bytes = freed(count).saturating_mul(2),
            CutOutcome::NotDerived | CutOutcome::InUse => {}
        }
        Ok(())
    }

    /// Lets the delivery stage give up the deliveries of `segments`, except the last of them, that
    /// are older than subscribers are held.
    fn expire_deliveries(
        &mut self,
        segments: &[SegmentSummary],
        now: Timestamp,
    ) -> Result<(), RetentionError> {
        let cutoff = now.saturating_sub(self.policy.hold);
        let mut end = None;
        for index in 0..segments.len() - 1 {
            if self.newest_time(&segments[..=index + 1], now)? >= cutoff {
                break;
            }
            end = Some(segments[index + 1].first_position);
        }
        if let Some(end) = end {
            self.deps.owed.expire_before(end, now)?;
        }
        Ok(())
    }

    /// Returns a time at or after the receive time of the newest record in the last but one of
    /// `segments`.
    fn newest_time(
        &mut self,
        segments: &[SegmentSummary],
        now: Timestamp,
    ) -> Result<Timestamp, JournalReadError> {
        if let Some(time) = self.time_behind(segments, segments.len() - 2)? {
            return Ok(time);
        }
        // Only changes of tables follow; they say nothing of the age of the records before them.
        let (journal, start) = (&self.deps.journal, self.deps.journal.start());
        let end = segments[segments.len() - 1].first_position;
        let Some(last) = end.get().checked_sub(1).map(Position::new) else {
            return Ok(now);
        };
        if last < start.position {
            return Ok(start.received_at);
        }
        let frame = journal.read_frame_at(last)?;
        let entry = frame.as_ref().and_then(|frame| frame.entry(last));
        Ok(entry.map_or(now, |entry| entry.received_at))
    }

    /// Returns the receive time of the first record behind the segment at `index`: receive times
    /// never go backwards, and a segment's first record is found without reading the segment.
    /// Returns `None` if there is no durable record yet.
    fn time_behind(
        &mut self,
        segments: &[SegmentSummary],
        index: usize,
    ) -> Result<Option<Timestamp>, JournalReadError> {
        let number = segments[index].number;
        if let Some(time) = self.times_behind.get(&number) {
            return Ok(Some(*time));
        }
        let position = segments[index + 1].first_position;
        let frame = self.deps.journal.read_frame_at(position)?;
        let entry = frame.as_ref().and_then(|frame| frame.entry(position));
        let Some(entry) = entry else {
            return Ok(None);
        };
        self.times_behind.insert(number, entry.received_at);
        Ok(Some(entry.received_at))
    }
}

/// Treats a removal that was given up, since the node stops, as one that found nothing to do.
fn ignore_stop(error: RetentionError) -> Result<(), RetentionError> {
    match error {
        RetentionError::Stopping => Ok(()),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_failed_cuts_grows_up_to_ten_minutes() {
        let mut pause = CutPause::default();
        let mut now = Duration::from_secs(7);
        assert!(pause.is_over(now));
        let pauses = [(); 9].map(|()| {
            pause.note_failure(now);
            let begun = now;
            while !pause.is_over(now) {
                now += Duration::from_secs(1);
            }
            (now - begun).as_secs()
        });
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    }
}
