//! The loop that finds what is owed, hands it to the lanes, and works on as much at once as is
//! configured.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::context::{EnrichmentContext, EnrichmentError};
use super::event_run;
use super::lanes::{EnrichmentOutcome, LeadLanes};
use super::progress_table::ProgressTable;
use crate::entity::c2s_lead::{RECEIVED_EVENT, SOURCE};
use crate::event::{EntityKey, Position, Record};
use crate::projection::{ProjectionReadError, StoredRecord};

/// Events that are read at once to be found; each may be as large as a request.
const PAGE_EVENTS: usize = 32;

type EnrichmentTasks = JoinSet<Result<(EntityKey, EnrichmentOutcome), EnrichmentError>>;

/// What one thread does.
pub(super) struct EnrichmentWorker {
    shared: Arc<EnrichmentContext>,
    lanes: LeadLanes,
    /// Everything owed before this position is in the lanes.
    next: Position,
}

impl EnrichmentWorker {
    /// A worker at the beginning of what is owed. What is noted of events that are not owed any
    /// more goes first: such an event may be opened again, and all its steps are to be done then.
    ///
    /// # Errors
    /// [`Failed`] when the store cannot be used.
    pub(super) async fn prepare(shared: Arc<EnrichmentContext>) -> Result<Self, EnrichmentError> {
        for event in shared
            .with_progress_table(ProgressTable::list_events)
            .await?
        {
            if event_run::find_owed_event(&shared.reads, event)
                .await?
                .is_none()
            {
                shared
                    .with_progress_table(move |rows| rows.remove(event))
                    .await?;
            }
        }
        Ok(Self {
            shared,
            lanes: LeadLanes::default(),
            next: Position::FIRST,
        })
    }

    /// Works until it is to stop.
    ///
    /// # Errors
    /// [`Failed`] when the store fails.
    pub(super) async fn run(mut self) -> Result<(), EnrichmentError> {
        let (mut written, mut reopened) = (
            self.shared.reads.written(),
            self.shared.reads.subscribe_reopened(),
        );
        let mut stopping = self.shared.stopping.clone();
        let mut running = EnrichmentTasks::new();
        let mut looks = true;
        while !self.shared.is_stopping() {
            if looks {
                let written = *written.borrow_and_update();
                looks = self.read_page(written).await?;
            }
            self.start_ready(&mut running);
            let wait = self
                .lanes
                .next_due()
                .map(|due| due.saturating_sub(self.shared.clock.monotonic()));
            tokio::select! {
                biased;
                // Closed only together with all else.
                _ = stopping.changed() => {}
                Some(ended) = running.join_next() => {
                    self.finish(ended.map_err(|_| EnrichmentError::Panicked)??);
                    looks = true;
                }
                again = reopened.recv() => {
                    self.next = match again {
                        Ok(event) => self.next.min(event),
                        Err(RecvError::Lagged(_)) => Position::FIRST,
                        Err(RecvError::Closed) => return Err(ProjectionReadError::Ended.into()),
                    };
                    looks = true;
                }
                () = std::future::ready(()), if looks => {}
                changed = written.changed() => {
                    changed.map_err(|_| ProjectionReadError::Ended)?;
                    looks = true;
                }
                () = sleep_until(Instant::now() + wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
        let patience = stopping.borrow().unwrap_or_default();
        let finish = async { while running.join_next().await.is_some() {} };
        // What is not finished then is given up, and begun again at the next start.
        let _ = timeout(patience, finish).await;
        Ok(())
    }

    /// Looks at one page of what is owed before `written`; says whether there is more to look at.
    async fn read_page(&mut self, written: Position) -> Result<bool, EnrichmentError> {
        self.lanes.forget_before(written);
        if self.next >= written {
            return Ok(false);
        }
        let page = self
            .shared
            .reads
            .pending_events(self.next, PAGE_EVENTS)
            .await?;
        let is_last = page.len() < PAGE_EVENTS;
        for StoredRecord {
            position, record, ..
        } in page
        {
            // Rows beyond may still be on their way, one before another.
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
        let now = self.shared.clock.monotonic();
        while running.len() < self.shared.config.concurrency
            && let Some((lead, position, tries)) = self.lanes.start_next(now)
        {
            let shared = Arc::clone(&self.shared);
            running.spawn(async move {
                let end = event_run::run_enrichment(&shared, position, tries).await?;
                Ok((lead, end))
            });
        }
    }

    fn finish(&mut self, (lead, end): (EntityKey, EnrichmentOutcome)) {
        if let Some(left_from) = self.lanes.finish(&lead, end, self.shared.clock.monotonic()) {
            self.next = self.next.min(left_from);
        }
    }
}

fn is_enrichable(record: &Record) -> bool {
    record.source == SOURCE.as_str() && record.event_type == RECEIVED_EVENT
}
