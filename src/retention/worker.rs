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
        }
    }

    fn repeat_until_stopped(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if self.looks_left_out > 0 {
                self.looks_left_out -= 1;
                continue;
            }
            if let Err(error) = self.look_once().or_else(ignore_stop) {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "retention failed; it is tried again"
                );
                self.deps.metrics.count_retention_failure();
                self.looks_left_out = LOOKS_LEFT_OUT;
            }
        }
    }

    /// Removes the segments and the content that are out of retention and not needed.
    fn look_once(&mut self) -> Result<(), RetentionError> {
        // A backup ends soon; its segments must stay until then.
        if self.deps.journal.is_being_backed_up() {
            return Ok(());
        }
        let now = self.deps.clock.wall();
        // Segments first: in those that go, no content has to be removed.
        self.remove_expired_segments(now)?;
        let content = &mut self.content;
        if !content.look_once(&self.deps, now, &self.is_stopping)? {
            self.looks_left_out = LOOKS_LEFT_OUT;
        }
        Ok(())
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
            self.time_behind(&segments, index, now)
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
            received_at: self.time_behind(&segments, count - 1, now)?,
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
            if self.time_behind(segments, index, now)? >= cutoff {
                break;
            }
            end = Some(segments[index + 1].first_position);
        }
        if let Some(end) = end {
            self.deps.owed.expire_before(end, now)?;
        }
        Ok(())
    }

    /// Returns the receive time of the first record behind the segment at `index`: receive times
    /// never go backwards, and a segment's first record is found without reading the segment.
    /// Returns `now` if there is no durable record yet.
    fn time_behind(
        &mut self,
        segments: &[SegmentSummary],
        index: usize,
        now: Timestamp,
    ) -> Result<Timestamp, JournalReadError> {
        let number = segments[index].number;
        if let Some(time) = self.times_behind.get(&number) {
            return Ok(*time);
        }
        let position = segments
            .get(index + 1)
            .map_or(Position::new(u64::MAX), |next| next.first_position);
        let frame = self.deps.journal.read_frame_at(position)?;
        let entry = frame.as_ref().and_then(|frame| frame.entry(position));
        let Some(entry) = entry else {
            return Ok(now);
        };
        self.times_behind.insert(number, entry.received_at);
        Ok(entry.received_at)
    }
}

/// Treats a removal that was given up, since the node stops, as one that found nothing to do.
fn ignore_stop(error: RetentionError) -> Result<(), RetentionError> {
    match error {
        RetentionError::Stopping => Ok(()),
        other => Err(other),
    }
}
