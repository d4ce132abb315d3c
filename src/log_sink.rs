//! Sink of the log lines: a bounded queue, and a thread of its own that writes them to standard error.
//! A line is dropped rather than waited for, so that no reader of the log and no full volume can stop
//! a node.
//!
//! ```text
//!  any thread ──line──> queue ──> thread "log-sink" ──> standard error
//!                 │ full: dropped, counted   │ error: swallowed, counted
//!                 └──────────────────────────┴─> "log lines were lost", once it works again
//! ```

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing::warn;

/// Most lines that wait: those of a busy second at the level `debug`.
const LINES_MAX: usize = 4_096;
/// Most bytes of the lines that wait.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest wait for the last lines before the process ends. A reader that has stalled reads none.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Sink of this process, once logging has started.
static SINK: OnceLock<Arc<LogSink>> = OnceLock::new();

/// Form of the lines that are written without `tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawLineForm {
    /// Readable text, as for a terminal.
    Text,
    /// JSON object on one line.
    Json,
}

/// Queue of log lines in front of the thread that writes them. Writing to it never waits and never
/// fails.
#[derive(Debug)]
pub struct LogSink {
    entries: SyncSender<SinkEntry>,
    counters: Arc<SinkCounters>,
    raw_form: RawLineForm,
}

#[derive(Debug)]
enum SinkEntry {
    Line(Vec<u8>),
    /// Request for an answer once all earlier lines are written.
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct SinkCounters {
    waiting_bytes: AtomicUsize,
    lost_lines: AtomicU64,
}

impl LogSink {
    /// Starts the thread that writes the lines to `output`.
    ///
    /// # Errors
    /// I/O errors of starting a thread.
    pub fn start(
        output: impl Write + Send + 'static,
        raw_form: RawLineForm,
    ) -> io::Result<Arc<Self>> {
        let (entries, queue) = sync_channel(LINES_MAX);
        let counters = Arc::new(SinkCounters::default());
        let of_thread = Arc::clone(&counters);
        thread::Builder::new()
            .name("log-sink".into())
            .spawn(move || write_lines(&queue, &of_thread, output))?;
        Ok(Arc::new(Self {
            entries,
            counters,
            raw_form,
        }))
    }

    /// Makes this the sink of the process, for lines without `tracing` and for [`flush`].
    pub fn install(self: Arc<Self>) {
        // Logging starts once; a second sink would only miss the raw lines.
        let _ = SINK.set(self);
    }

    fn push_line(&self, line: &[u8]) {
        let waiting = self
            .counters
            .waiting_bytes
            .fetch_add(line.len(), Ordering::Relaxed);
        let is_queued = waiting.saturating_add(line.len()) <= BYTES_MAX
            && self
                .entries
                .try_send(SinkEntry::Line(line.to_vec()))
                .is_ok();
        if !is_queued {
            self.counters
                .waiting_bytes
                .fetch_sub(line.len(), Ordering::Relaxed);
            self.counters.lost_lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the lines so far are written, for at most `limit`.
    fn flush_within(&self, limit: Duration) {
        const STEP: Duration = Duration::from_millis(5);
        let (done, wait) = sync_channel(1);
        let mut left = limit;
        while self
            .entries
            .try_send(SinkEntry::Flush(done.clone()))
            .is_err()
        {
            let Some(rest) = left.checked_sub(STEP) else {
                return;
            };
            // The queue is full; it empties soon if anything takes its lines.
            thread::sleep(STEP);
            left = rest;
        }
        // The limit has passed if nobody answers; there is nothing more to do then.
        let _ = wait.recv_timeout(left);
    }
}

/// Takes each line with one call of `write`, as the formatters of `tracing` write it.
impl Write for &LogSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes queued lines until the sink is dropped.
fn write_lines(queue: &Receiver<SinkEntry>, counters: &SinkCounters, mut output: impl Write) {
    let (mut is_working, mut told) = (true, 0);
    loop {
        let entry = match queue.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let lost = counters.lost_lines.load(Ordering::Relaxed);
                if is_working && lost > told {
                    warn!(lost = lost - told, "log lines were lost");
                    told = lost;
                    continue;
                }
                let Ok(entry) = queue.recv() else { return };
                entry
            }
        };
        match entry {
            SinkEntry::Line(line) => {
                counters
                    .waiting_bytes
                    .fetch_sub(line.len(), Ordering::Relaxed);
                is_working = output.write_all(&line).is_ok();
                if !is_working {
                    counters.lost_lines.fetch_add(1, Ordering::Relaxed);
                }
            }
            // The one who asked may have stopped waiting.
            SinkEntry::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Waits a moment for the last lines to be written, before the process ends.
pub fn flush() {
    if let Some(sink) = SINK.get() {
        sink.flush_within(FLUSH_LIMIT);
    }
}

/// Returns the number of lines that were dropped or could not be written.
#[must_use]
pub fn lost_lines() -> u64 {
    let sink = SINK.get();
    sink.map_or(0, |sink| sink.counters.lost_lines.load(Ordering::Relaxed))
}

/// Writes an error line past `tracing`, for code that must not panic or wait: a panic may have
/// happened inside of a log line.
pub fn write_raw_line(message: &'static str, location: &str) {
    let Some(sink) = SINK.get() else {
        // Ignored: without a reader there is nobody to tell.
        let _ = writeln!(io::stderr(), "ERROR {message} location={location}");
        return;
    };
    let line = match sink.raw_form {
        RawLineForm::Text => format!("ERROR hookyard: {message} location={location}\n"),
        RawLineForm::Json => format!(
            "{{\"level\":\"ERROR\",\"message\":{message:?},\"location\":{location:?},\"target\":\"hookyard\"}}\n"
        ),
    };
    sink.push_line(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use parking_lot::{Condvar, Mutex};

    use super::*;

    /// Output that takes nothing until it is opened, and refuses everything while it is broken.
    #[derive(Default)]
    struct TestOutput {
        state: Mutex<TestOutputState>,
        opened: Condvar,
    }

    #[derive(Default)]
    struct TestOutputState {
        is_open: bool,
        is_broken: bool,
        text: String,
    }

    impl Write for &'static TestOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.state.lock();
            self.opened.wait_while(&mut state, |state| !state.is_open);
            if state.is_broken {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            state.text += &String::from_utf8_lossy(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TestOutput {
        fn leak(is_open: bool, is_broken: bool) -> &'static Self {
            let output: &'static Self = Box::leak(Box::default());
            let mut state = output.state.lock();
            (state.is_open, state.is_broken) = (is_open, is_broken);
            drop(state);
            output
        }

        fn set(&self, is_open: bool, is_broken: bool) {
            let mut state = self.state.lock();
            (state.is_open, state.is_broken) = (is_open, is_broken);
            drop(state);
            self.opened.notify_all();
        }
    }

    fn lost(sink: &LogSink) -> u64 {
        sink.counters.lost_lines.load(Ordering::Relaxed)
    }

    #[test]
    fn an_output_that_stalls_costs_lines_and_never_a_wait() {
        let output = TestOutput::leak(false, false);
        let sink = LogSink::start(output, RawLineForm::Text).expect("a thread");
        for number in 0..LINES_MAX * 2 {
            writeln!(&*sink, "{number}").expect("never fails");
        }
        assert!(lost(&sink) >= LINES_MAX as u64 / 2, "{}", lost(&sink));
        sink.flush_within(Duration::ZERO);

        output.set(true, false);
        sink.flush_within(Duration::from_secs(60));
        assert!(output.state.lock().text.starts_with("0\n1\n2\n"));
        let waiting = sink.counters.waiting_bytes.load(Ordering::Relaxed);
        assert_eq!(waiting, 0, "the budget is free again");
    }

    #[test]
    fn the_bytes_that_wait_are_bounded() {
        let output = TestOutput::leak(false, false);
        let sink = LogSink::start(output, RawLineForm::Text).expect("a thread");
        let line = vec![b'x'; BYTES_MAX / 8];
        for _ in 0..20 {
            (&*sink).write_all(&line).expect("never fails");
        }
        // The thread may hold one more, which it took from the queue.
        assert!((11..=12).contains(&lost(&sink)), "{}", lost(&sink));
        output.set(true, false);
    }

    #[test]
    fn an_output_that_fails_costs_its_lines_only() {
        let output = TestOutput::leak(true, true);
        let sink = LogSink::start(output, RawLineForm::Text).expect("a thread");
        writeln!(&*sink, "lost").expect("never fails");
        sink.flush_within(Duration::from_secs(60));
        assert_eq!(lost(&sink), 1);
        output.set(true, false);
        writeln!(&*sink, "kept").expect("never fails");
        sink.flush_within(Duration::from_secs(60));
        assert_eq!(output.state.lock().text, "kept\n");
    }
}
