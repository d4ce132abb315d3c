//! Watch over the clock: the node takes no events while the clock has jumped, and starts no stage before
//! the clock agrees with the journal.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::interval;
use tracing::{error, info};

use super::clock_file;
use crate::clock::{CheckedClock, ClockJump, LastKnownTime};
use crate::config::Config;
use crate::edge::CoreGate;
use crate::event::Timestamp;

/// Reason of the closed gate while the store is being opened.
pub(super) const OPENING: &str = "the store is being opened";

/// Looks from one writing of the time to the next: a minute.
const WRITE_TICKS: u32 = 60;

/// Time between two looks. Until the next look, events get the expected time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Returns once `clock` agrees with the last time of the store, whose newest event was received at
/// `newest_event`, or an operator has confirmed the clock. Until then nothing may run that compares times
/// or stamps anything: either time may be the wrong one. `gate` shows the reason.
pub(super) async fn wait_for_agreement(
    clock: &CheckedClock,
    newest_event: Timestamp,
    config: &Config,
    gate: &CoreGate,
) {
    // A node that wrote the file had compared its clock with the events.
    let last = clock_file::read_last_time(&config.store.path)
        .unwrap_or(LastKnownTime::of_event(newest_event));
    let downtime_max = believed_downtime(config);
    if clock.agrees_with(&last, downtime_max) {
        return;
    }

    let last_known = last.wall;
    if let Some(ClockJump { shown, .. }) = clock.jump() {
        error!(%shown, %last_known, "clock does not agree with the store; the start waits");
    }
    let mut ticks = interval(INTERVAL);
    while !clock.agrees_with(&last, downtime_max) {
        if let Some(ClockJump { shown, .. }) = clock.jump() {
            gate.close(format!(
                "the clock shows {shown}, and the store was in use at {last_known}; set the clock, or, if it \
                 is right, confirm it by POST /api/v1/clock/confirm; if the store's events have a wrong time, \
                 run `hookyard doctor --repair-times` before"
            ));
        }
        ticks.tick().await;
    }
    info!("clock agrees with the store; the node starts");
    gate.close(OPENING);
}

/// Longest downtime that is believed after another boot of the machine: a clock that is wrong by less
/// expires nothing that was not near its end. At least a day.
fn believed_downtime(config: &Config) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let (hold, retention) = (config.delivery.hold, config.store.retention);
    retention.map_or(hold, |keep| keep.min(hold)).max(DAY)
}

/// Suspends or resumes `gate`, as `clock` says. Returns true if the clock has jumped.
pub(super) fn check_clock(clock: &CheckedClock, gate: &CoreGate) -> bool {
    match clock.jump() {
        Some(ClockJump { shown, expected }) => {
            gate.suspend(format!(
                "the clock shows {shown}, but {expected} was expected; set it, or confirm the new time \
                 by POST /api/v1/clock/confirm"
            ));
            true
        }
        None => {
            gate.resume();
            false
        }
    }
}

/// Looks at `clock` until the node ends, and writes its time into the data folder of `config`.
pub(super) async fn watch_clock(clock: Arc<CheckedClock>, gate: CoreGate, config: Arc<Config>) {
    let (mut ticks, mut has_jumped) = (interval(INTERVAL), false);
    let (mut writing, mut ticks_until_write) = (None::<JoinHandle<()>>, WRITE_TICKS);
    loop {
        ticks.tick().await;
        // A disk that hangs must not stop the watch.
        let is_written = writing.as_ref().is_none_or(JoinHandle::is_finished);
        if is_written && ticks_until_write == 0 && clock.jump().is_none() {
            ticks_until_write = WRITE_TICKS;
            let (clock, config) = (Arc::clone(&clock), Arc::clone(&config));
            writing = Some(spawn_blocking(move || {
                // The former file stays. The journal tells of a disk that fails.
                let _ = clock_file::write_last_time(&config.store.path, &clock);
            }));
        }
        ticks_until_write = u32::saturating_sub(ticks_until_write, 1);
        let had_jumped = std::mem::replace(&mut has_jumped, check_clock(&clock, &gate));
        match (had_jumped, clock.jump()) {
            (false, Some(ClockJump { shown, expected })) => {
                error!(%shown, %expected, "clock jumped; no events are taken");
            }
            (true, None) => {
                ticks_until_write = 0;
                info!("clock agrees again; events are taken");
            }
            (false, None) | (true, Some(_)) => {}
        }
    }
}
