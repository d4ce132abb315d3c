//! Watch over the clock: the node takes no events while the clock has jumped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;
use tracing::{error, info};

use crate::clock::{CheckedClock, ClockJump};
use crate::edge::CoreGate;

/// Time between two looks. Until the next look, events get the expected time.
const INTERVAL: Duration = Duration::from_secs(1);

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
