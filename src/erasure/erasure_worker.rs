//! Thread of the erasure stage: rewrites the segments of the journal for all erasures that are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::erasure_error::ErasureError;
use super::erasure_table::{Erasure, ErasureState};
use super::shared_erasures::SharedErasures;
use crate::journal::{Journal, SegmentRewriteError};
use crate::router::Refusal;

/// Time for which another request is awaited: many erasures share one rewriting, and one copy.
const QUIET_INTERVAL: Duration = Duration::from_secs(1);

/// Requests for which the rewriting is put off at most.
const REQUESTS_MAX: u32 = 1_000;

/// Pause after the derived store could not be copied. Each attempt closes the node for requests.
const COPY_PAUSE: Duration = Duration::from_secs(3_600);

/// Time until the disk is looked at again for the room that a copy needs.
const ROOM_PAUSE: Duration = Duration::from_secs(60);

/// Pause after a segment could not be rewritten, such as on a full disk.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Pause after a segment could not be read, such as a damaged one.
const DAMAGE_PAUSE: Duration = Duration::from_secs(600);

/// Works until the stage is stopped, or the store has to be opened again.
pub(super) async fn run_worker(shared: &SharedErasures) -> Result<(), ErasureError> {
    let mut stopping = shared.stopping.subscribe();
    tokio::select! {
        // The sender lives as long as the stage.
        _ = stopping.wait_for(|is_stopping| *is_stopping) => Ok(()),
        result = work_through(shared) => result,
    }
}

async fn work_through(shared: &SharedErasures) -> Result<(), ErasureError> {
    record_interrupted(shared).await?;
    if shared.has_copy_failed {
        // A timeout of what never comes is a pause.
        let _ = timeout(COPY_PAUSE, std::future::pending::<()>()).await;
    }
    let is_under_way = |erasure: &Erasure| {
        matches!(
            erasure.state,
            ErasureState::Rewriting | ErasureState::Copying
        )
    };
    if !shared.list().await?.iter().any(is_under_way) {
        shared.work_added.notified().await;
        // Each copy closes the node for requests, so requests that follow closely share one.
        for _ in 0..REQUESTS_MAX {
            let more = timeout(QUIET_INTERVAL, shared.work_added.notified()).await;
            if more.is_err() {
                break;
            }
        }
    }

    // Others may have come while the segments were rewritten.
    let is_due = |erasure: &Erasure| erasure.state == ErasureState::Rewriting;
    while shared.list().await?.iter().any(is_due) {
        if let Some(pause) = rewrite_due(shared).await? {
            shared.deps.metrics.count_erasure_failure();
            let _ = timeout(pause, std::future::pending::<()>()).await;
        }
    }
    await_room(shared).await?;
    shared.copy_due.send_replace(true);
    std::future::pending().await
}

/// Goes on with the requests that a crash has interrupted before the entity's record.
async fn record_interrupted(shared: &SharedErasures) -> Result<(), ErasureError> {
    for erasure in shared.list().await? {
        if erasure.state != ErasureState::Recording {
            continue;
        }
        let id = erasure.id;
        match shared.record(erasure).await {
            Ok(_) => {}
            // The entity never had a record.
            Err(ErasureError::Refused(Refusal::Rejected(_))) => shared.remove(id).await?,
            Err(ErasureError::Refused(refusal)) => {
                warn!(
                    erasure = id,
                    error = &refusal as &dyn std::error::Error,
                    "erasure could not be recorded; it is tried again after the next start"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns once the disk has room for the copy of the derived store and a new base file: the node is
/// closed for requests while they are written, and would be for nothing.
async fn await_room(shared: &SharedErasures) -> Result<(), ErasureError> {
    let mut is_logged = false;
    loop {
        let room = shared.deps.copy_room.clone();
        let lacking = tokio::task::spawn_blocking(move || room.lacking_bytes()).await;
        let lacking = lacking.map_err(|_| ErasureError::Ended)?;
        if lacking == 0 {
            return Ok(());
        }
        if !is_logged {
            warn!(
                lacking_bytes = lacking,
                "disk has no room to copy the derived store for erasures; waiting"
            );
            shared.deps.metrics.count_erasure_failure();
            is_logged = true;
        }
        let _ = timeout(ROOM_PAUSE, std::future::pending::<()>()).await;
    }
}

/// Rewrites all segments for the erasures that are due. Returns the pause before the next attempt if a
/// segment could not be rewritten.
async fn rewrite_due(shared: &SharedErasures) -> Result<Option<Duration>, ErasureError> {
    let listed = shared.list().await?;
    let due: Vec<Erasure> = listed
        .into_iter()
        .filter(|erasure| erasure.state == ErasureState::Rewriting)
        .collect();
    let is_due = |id| due.iter().any(|erasure| erasure.id == id);
    let erased = shared.erased.lock().clone();
    let erased = erased.into_iter().filter(|erased| is_due(erased.id));
    let filter = Arc::new(shared.filter_of(erased.collect()));

    let numbers = shared.deps.journal.segment_numbers();
    let (mut rewritten, mut is_damaged) = (0_u64, false);
    for (done, number) in (0..).zip(&numbers) {
        {
            let mut progress = shared.progress.lock();
            (progress.done, progress.total) = (done, numbers.len() as u64);
        }
        let (journal, filter) = (Arc::clone(&shared.deps.journal), Arc::clone(&filter));
        let number = *number;
        // Off this thread, so that the stage can be stopped between two segments.
        let rewrite = move || journal.rewrite_segment(number, filter.as_ref());
        let result = tokio::task::spawn_blocking(rewrite).await;
        match result.map_err(|_| ErasureError::Ended)? {
            Ok(is_rewritten) => rewritten += u64::from(is_rewritten),
            Err(error @ SegmentRewriteError::Closed) => return Err(error.into()),
            Err(error @ (SegmentRewriteError::Write { .. } | SegmentRewriteError::Read(_))) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    segment = number,
                    "segment could not be rewritten; trying again"
                );
                if matches!(error, SegmentRewriteError::Write { .. }) {
                    return Ok(Some(RETRY_PAUSE));
                }
                // The content goes from all other segments nevertheless.
                is_damaged = true;
            }
        }
    }

    if is_damaged {
        return Ok(Some(DAMAGE_PAUSE));
    }
    let copying = due.into_iter().map(|erasure| Erasure {
        state: ErasureState::Copying,
        segment: numbers.last().copied(),
        incarnation: Some(shared.deps.journal.incarnations().newest()),
        ..erasure
    });
    let copying: Vec<_> = copying.collect();
    info!(
        count = copying.len(),
        segments = rewritten,
        "journal rewritten for erasures"
    );
    shared.store(copying).await?;
    Ok(None)
}
