//! The loop that finds what is owed, hands it to the lanes, and works on as much at once as is configured.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::lanes::{End, Lanes};
use super::progress::Rows;
use super::shared::{Failed, Shared};
use super::work;
use crate::entity::c2s_lead::{RECEIVED, SOURCE};
use crate::event::{EntityKey, Position, Record};
use crate::projection::{Stored, Unavailable};

/// Events that are read at once to be found; each may be as large as a request.
const PAGE_EVENTS: usize = 32;

type Running = JoinSet<Result<(EntityKey, End), Failed>>;

/// What one thread does.
pub(super) struct Worker {
    shared: Arc<Shared>,
    lanes: Lanes,
    /// Everything owed before this position is in the lanes.
    next: Position,
}

impl Worker {
    /// A worker at the beginning of what is owed. What is noted of events that are not owed any more goes first: such an
    /// event may be opened again, and all its steps are to be done then.
    ///
    /// # Errors
    /// [`Failed`] when the store cannot be used.
    pub(super) async fn prepare(shared: Arc<Shared>) -> Result<Self, Failed> {
        for event in shared.with_rows(Rows::events).await? {
            if work::owed(&shared.reads, event).await?.is_none() {
                shared.with_rows(move |rows| rows.remove(event)).await?;
            }
        }
        Ok(Self { shared, lanes: Lanes::default(), next: Position::FIRST })
    }

    /// Works until it is to stop.
    ///
    /// # Errors
    /// [`Failed`] when the store fails.
    pub(super) async fn run(mut self) -> Result<(), Failed> {
        let (mut written, mut reopened) = (self.shared.reads.written(), self.shared.reads.reopened());
        let mut stopping = self.shared.stopping.clone();
        let mut running = Running::new();
        let mut looks = true;
        while !self.shared.is_stopping() {
            if looks {
                let written = *written.borrow_and_update();
                looks = self.look(written).await?;
            }
            self.start(&mut running);
            let wait = self.lanes.next_due().map(|due| due.saturating_sub(self.shared.clock.monotonic()));
            tokio::select! {
                biased;
                // Closed only together with all else.
                _ = stopping.changed() => {}
                Some(ended) = running.join_next() => {
                    self.end(ended.map_err(|_| Failed::Panicked)??);
                    looks = true;
                }
                again = reopened.recv() => {
                    self.next = match again {
                        Ok(event) => self.next.min(event),
                        Err(RecvError::Lagged(_)) => Position::FIRST,
                        Err(RecvError::Closed) => return Err(Unavailable::Ended.into()),
                    };
                    looks = true;
                }
                () = std::future::ready(()), if looks => {}
                changed = written.changed() => {
                    changed.map_err(|_| Unavailable::Ended)?;
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
    async fn look(&mut self, written: Position) -> Result<bool, Failed> {
        self.lanes.forget(written);
        if self.next >= written {
            return Ok(false);
        }
        let page = self.shared.reads.owed(self.next, PAGE_EVENTS).await?;
        let is_last = page.len() < PAGE_EVENTS;
        for Stored { position, record, .. } in page {
            // Rows beyond may still be on their way, one before another.
            if position >= written {
                break;
            }
            if is_ours(&record) && !self.lanes.add(&record.entity, position, written) {
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

    fn start(&mut self, running: &mut Running) {
        let now = self.shared.clock.monotonic();
        while running.len() < self.shared.config.concurrency
            && let Some((lead, position, tries)) = self.lanes.start(now)
        {
            let shared = Arc::clone(&self.shared);
            running.spawn(async move {
                let end = work::on(&shared, position, tries).await?;
                Ok((lead, end))
            });
        }
    }

    fn end(&mut self, (lead, end): (EntityKey, End)) {
        if let Some(left_from) = self.lanes.end(&lead, end, self.shared.clock.monotonic()) {
            self.next = self.next.min(left_from);
        }
    }
}

fn is_ours(record: &Record) -> bool {
    record.source == SOURCE.as_str() && record.event_type == RECEIVED
}
