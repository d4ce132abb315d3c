//! Worker of the enrichment stage: finds pending events, puts them into the lanes, and runs as many
//! at once as is configured.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::context::EnrichmentContext;
use super::error::EnrichmentError;
use super::event_run;
use super::lanes::{EnrichmentOutcome, LeadLanes};
use super::progress_table::ProgressTable;
use crate::entity::c2s_lead::{RECEIVED_EVENT, SOURCE};
use crate::event::{EntityKey, Position, Record};
use crate::projection::{ProjectionReadError, StoredRecord};

/// Number of pending events that are read at once; each can be as large as a request.
const PAGE_EVENTS: usize = 32;

type EnrichmentTasks = JoinSet<Result<(EntityKey, EnrichmentOutcome), EnrichmentError>>;

/// Main loop of the stage's thread.
pub(super) struct EnrichmentWorker {
    context: Arc<EnrichmentContext>,
    lanes: LeadLanes,
    /// All pending events before this position are in the lanes.
    next: Position,
}

impl EnrichmentWorker {
    /// Creates a worker that starts at the first pending event.
    ///
    /// Removes the progress of events that are no longer pending before any event runs: such an
    /// event can be reopened, and then all its steps must run again.
    ///
    /// # Errors
    /// [`EnrichmentError`] when the store fails.
    pub(super) async fn prepare(context: Arc<EnrichmentContext>) -> Result<Self, EnrichmentError> {
        for event in context
            .with_progress_table(ProgressTable::list_events)
            .await?
        {
            if event_run::find_pending_event(&context.reads, event)
                .await?
                .is_none()
            {
                context
                    .with_progress_table(move |table| table.remove(event))
                    .await?;
            }
        }
        Ok(Self {
            context,
            lanes: LeadLanes::default(),
            next: Position::FIRST,
        })
    }

    /// Runs events until the stage is told to stop.
    ///
    /// # Errors
    /// [`EnrichmentError`] when the store fails.
    pub(super) async fn run(mut self) -> Result<(), EnrichmentError> {
        let (mut written, mut reopened) = (
            self.context.reads.written(),
            self.context.reads.subscribe_reopened(),
        );
        let mut stopping = self.context.stopping.clone();
        let mut running = EnrichmentTasks::new();
        let mut may_have_more = true;

        while !self.context.is_stopping() {
            // One page per pass, so that a long backlog does not keep finished runs waiting.
            if may_have_more {
                let written = *written.borrow_and_update();
                may_have_more = self.read_page(written).await?;
            }
            self.start_ready(&mut running);

            let wait = self
                .lanes
                .next_due()
                .map(|due| due.saturating_sub(self.context.clock.monotonic()));
            tokio::select! {
                biased;
                // The channel closes only together with the whole stage.
                _ = stopping.changed() => {}
                Some(result) = running.join_next() => {
                    self.finish(result.map_err(|_| EnrichmentError::Panicked)??);
                    may_have_more = true;
                }
                // A reopened event lies before `next`, so the search goes back to it.
                event = reopened.recv() => {
                    self.next = match event {
                        Ok(event) => self.next.min(event),
                        Err(RecvError::Lagged(_)) => Position::FIRST,
                        Err(RecvError::Closed) => return Err(ProjectionReadError::Ended.into()),
                    };
                    may_have_more = true;
                }
                () = std::future::ready(()), if may_have_more => {}
                changed = written.changed() => {
                    changed.map_err(|_| ProjectionReadError::Ended)?;
                    may_have_more = true;
                }
                () = sleep_until(Instant::now() + wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }

        let patience = stopping.borrow().unwrap_or_default();
        let all_finished = async { while running.join_next().await.is_some() {} };
        // Runs that are not finished in time are aborted, and repeated at the next start.
        let _ = timeout(patience, all_finished).await;
        Ok(())
    }

    /// Puts one page of the events that were pending before `written` into the lanes. Returns
    /// `true` if there may be more of them.
    async fn read_page(&mut self, written: Position) -> Result<bool, EnrichmentError> {
        self.lanes.forget_before(written);
        if self.next >= written {
            return Ok(false);
        }

        let page = self
            .context
            .reads
            .pending_events(self.next, PAGE_EVENTS)
            .await?;
        let is_last = page.len() < PAGE_EVENTS;
        for StoredRecord {
            position, record, ..
        } in page
        {
            // The rows from `written` on may be incomplete: an earlier row can still be missing.
            if position >= written {
                break;
            }
            if is_enrichable(&record) && !self.lanes.add_event(&record.entity, position, written) {
                self.next = position;
                return Ok(false);
            }
            self.next = position.plus(1);
        }

        if is_last {
            self.next = written;
        }
        Ok(self.next < written)
    }

    fn start_ready(&mut self, running: &mut EnrichmentTasks) {
        let now = self.context.clock.monotonic();
        while running.len() < self.context.config.concurrency
            && let Some((lead, position, failures)) = self.lanes.start_next(now)
        {
            let context = Arc::clone(&self.context);
            running.spawn(async move {
                let outcome = event_run::run_enrichment(&context, position, failures).await?;
                Ok((lead, outcome))
            });
        }
    }

    fn finish(&mut self, (lead, outcome): (EntityKey, EnrichmentOutcome)) {
        let now = self.context.clock.monotonic();
        if let Some(left_from) = self.lanes.finish(&lead, outcome, now) {
            self.next = self.next.min(left_from);
        }
    }
}

fn is_enrichable(record: &Record) -> bool {
    let is_received = record.source == SOURCE.as_str() && record.event_type == RECEIVED_EVENT;
    is_received && !record.is_erased()
}
