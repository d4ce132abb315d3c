//! Watch over the clock: the node takes no events while the clock has jumped, and starts no stage before
//! the clock agrees with the journal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;
use tracing::{error, info};

use crate::clock::{CheckedClock, ClockJump};
use crate::edge::CoreGate;
use crate::event::Timestamp;

/// Reason of the closed gate while the store is being opened.
pub(super) const OPENING: &str = "the store is being opened";

/// Time between two looks. Until the next look, events get the expected time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Returns once `clock` agrees with `recorded`, the last time of the journal, or an operator has confirmed
/// the clock. Until then nothing may run that compares times or stamps anything: either time may be the
/// wrong one. `gate` shows the reason.
pub(super) async fn wait_for_agreement(clock: &CheckedClock, recorded: Timestamp, gate: &CoreGate) {
    if clock.agrees_with(recorded) {
        return;
    }
    if let Some(ClockJump { shown, .. }) = clock.jump() {
        error!(%shown, %recorded, "clock does not agree with the journal; the start waits");
    }
    let mut ticks = interval(INTERVAL);
    while !clock.agrees_with(recorded) {
        if let Some(ClockJump { shown, .. }) = clock.jump() {
            gate.close(format!(
                "the clock shows {shown}, and the last event of the store has the time {recorded}; set the \
                 clock, or confirm it by POST /api/v1/clock/confirm, or, if the time of the event is wrong, \
                 stop the node and run `hookyard doctor --repair-times`"
            ));
        }
        ticks.tick().await;
    }
    info!("clock agrees with the journal; the node starts");
    gate.close(OPENING);
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

/// Looks at `clock` until the node ends.
pub(super) async fn watch_clock(clock: Arc<CheckedClock>, gate: CoreGate) {
    let (mut ticks, mut has_jumped) = (interval(INTERVAL), false);
    loop {
        ticks.tick().await;
        let had_jumped = std::mem::replace(&mut has_jumped, check_clock(&clock, &gate));
        match (had_jumped, clock.jump()) {
            (false, Some(ClockJump { shown, expected })) => {
                error!(%shown, %expected, "clock jumped; no events are taken");
            }
            (true, None) => info!("clock agrees again; events are taken"),
            (false, None) | (true, Some(_)) => {}
        }
    }
}
