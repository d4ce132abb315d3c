//! Worker of the retention: a thread that looks at the journal now and then, and removes segments.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::cut::{self, CutOutcome};
use super::deps::RetentionDeps;
use super::error::RetentionError;
use super::plan::{self, AgedSegment, RetentionPolicy};
use crate::event::{Position, Timestamp};
use crate::journal::{Journal, JournalReadError, LogStart, SegmentSummary};

/// Time between two looks. A look that finds nothing to do costs a few system calls.
const INTERVAL: Duration = Duration::from_secs(1);

/// Handle of the worker's thread.
pub struct RetentionWorker {
    /// Dropped to end the thread.
    stop: Mutex<Option<mpsc::Sender<()>>>,
    /// Ends a removal that is under way.
    is_stopping: Arc<AtomicBool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl RetentionWorker {
    /// Starts the thread; `None` if `policy` keeps everything for ever.
    ///
    /// # Errors
    /// The error of the operating system if the thread cannot be started.
    pub fn start(policy: RetentionPolicy, deps: RetentionDeps) -> std::io::Result<Option<Self>> {
        if !policy.is_enabled() {
            return Ok(None);
        }
        let (stop, stopped) = mpsc::channel();
        let mut pass = RetentionPass::new(policy, deps);
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
pub(super) struct RetentionPass {
    policy: RetentionPolicy,
    deps: RetentionDeps,
    /// Receive times of the newest records of segments that are full, by number.
    newest: HashMap<u64, Timestamp>,
    /// Bytes that a removal must free to be worth its base file.
    worthwhile_bytes: u64,
    is_stopping: Arc<AtomicBool>,
}

impl RetentionPass {
    pub(super) fn new(policy: RetentionPolicy, deps: RetentionDeps) -> Self {
        Self {
            policy,
            deps,
            newest: HashMap::new(),
            worthwhile_bytes: 0,
            is_stopping: Arc::default(),
        }
    }

    fn repeat_until_stopped(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let result = self.run_once();
            if let Err(error) = result.or_else(ignore_stop) {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "retention failed; it is tried again"
                );
            }
        }
    }

    /// Removes the segments that are out of retention and not needed; returns their number.
    pub(super) fn run_once(&mut self) -> Result<usize, RetentionError> {
        // A backup ends soon; its segments must stay until then.
        if self.deps.journal.is_being_backed_up() {
            return Ok(0);
        }
        let now = self.deps.clock.wall();
        let segments = self.read_segments()?;
        let expired = plan::count_expired(&segments, &self.policy, now);
        let freed = |count: usize| -> u64 {
            let removed = segments.iter().take(count);
            removed.map(|segment| segment.summary.file_bytes).sum()
        };
        if expired == 0 || freed(expired) < self.worthwhile_bytes {
            return Ok(0);
        }

        let owed = self.deps.owed.first_owed(now, self.policy.hold)?;
        let count = plan::count_unneeded(&segments, expired, (owed, u64::MAX));
        if count < expired {
            self.expire_deliveries(&segments[..=expired], now)?;
        }
        if count == 0 || freed(count) < self.worthwhile_bytes {
            return Ok(0);
        }

        let start = self.find_start(&segments[count].summary)?;
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
                Ok(count)
            }
            CutOutcome::NotWorthwhile => {
                self.worthwhile_bytes = freed(count).saturating_mul(2);
                Ok(0)
            }
            CutOutcome::NotDerived | CutOutcome::InUse => Ok(0),
        }
    }

    /// Lets the delivery stage give up the deliveries of `segments`, except the last of them, that
    /// are older than subscribers are held.
    fn expire_deliveries(
        &self,
        segments: &[AgedSegment],
        now: Timestamp,
    ) -> Result<(), RetentionError> {
        let cutoff = now.saturating_sub(self.policy.hold);
        let expired = segments
            .windows(2)
            .take_while(|pair| pair[0].newest < cutoff);
        if let Some(pair) = expired.last() {
            let position = pair[1].summary.first_position;
            self.deps.owed.expire_before(position, now)?;
        }
        Ok(())
    }

    fn read_segments(&mut self) -> Result<Vec<AgedSegment>, RetentionError> {
        let summaries = self.deps.journal.summarize_segments()?;
        let first = summaries.first().map_or(0, |first| first.number);
        self.newest.retain(|number, _| *number >= first);

        let ends = summaries.iter().skip(1).map(|next| next.first_position);
        let ends = ends.map(Some).chain([None]);
        let mut segments = Vec::with_capacity(summaries.len());
        for (summary, end) in summaries.iter().zip(ends) {
            let newest = match (end, self.newest.get(&summary.number)) {
                (_, Some(newest)) => *newest,
                // The newest segment may still get records.
                (None, None) => self.deps.clock.wall(),
                (Some(end), None) => {
                    let newest = first_received_from(self.deps.journal.as_ref(), end)?;
                    self.newest.insert(summary.number, newest);
                    newest
                }
            };
            segments.push(AgedSegment {
                summary: *summary,
                newest,
            });
        }
        Ok(segments)
    }

    /// Returns the start of a journal that begins with the segment `first`.
    fn find_start(&self, first: &SegmentSummary) -> Result<LogStart, RetentionError> {
        let journal = self.deps.journal.as_ref();
        let received_at = first_received_from(journal, first.first_position)?;
        Ok(LogStart {
            segment: first.number,
            position: first.first_position,
            change: first.first_change,
            received_at,
        })
    }
}

/// Treats a removal that was given up, since the node stops, as one that found nothing to do.
fn ignore_stop(error: RetentionError) -> Result<usize, RetentionError> {
    match error {
        RetentionError::Stopping => Ok(0),
        other => Err(other),
    }
}

/// Returns the receive time of the record at `position`, which none before it exceeds. Unlike the
/// record before, it is at the beginning of its segment, so finding it reads little. Without such a
/// record, returns the time of the last one before it.
fn first_received_from(
    journal: &dyn Journal,
    position: Position,
) -> Result<Timestamp, JournalReadError> {
    let frame = journal.read_frame_at(position)?;
    let entry = frame.as_ref().and_then(|frame| frame.entry(position));
    match entry {
        Some(entry) => Ok(entry.received_at),
        None => last_received_before(journal, position),
    }
}

/// Returns the receive time of the last record before `end`.
fn last_received_before(
    journal: &dyn Journal,
    end: Position,
) -> Result<Timestamp, JournalReadError> {
    let start = journal.start();
    if end <= start.position {
        return Ok(start.received_at);
    }
    let last = Position::new(end.get() - 1);
    let frame = journal.read_frame_at(last)?;
    let entry = frame.as_ref().and_then(|frame| frame.entry(last));
    entry
        .map(|entry| entry.received_at)
        .ok_or(JournalReadError::Missing(last))
}
