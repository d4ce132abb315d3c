//! Reading of a subscription's events by its subscriber itself, which asks for them page by page.
//!
//! ```text
//!  request with a cursor ──> all before it is acknowledged ──> records from there on ──names, filter──> page
//!                                                                   └── none: wait for more, up to a limit
//! ```
//!
//! For the delivery stage such a subscription is paused at its cursor. So its events stay owed, for
//! `delivery.hold_days` at most, and retention waits for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::delivery::MatchedRecord;
use super::expression_shares::ExpressionShares;
use super::outbound_record::OutboundRecord;
use super::reader::{self, WindowRoom};
use super::stage_error::DeliveryStageError;
use super::subscriber_id::SubscriberId;
use super::subscriber_set::SubscriberMatcher;
use crate::clock::Clock;
use crate::event::Position;
use crate::journal::{Journal, JournalReadError};
use crate::subscription::{SubscriberInterest, Subscription, envelope};

/// Bytes of records that one page reads at most, and one record more.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Failure to read a page.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The cursor is behind the last event.
    #[error("there is no event at this cursor yet")]
    CursorPastEnd,
    /// The journal cannot be read, or the records were removed.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// The node is stopping, or an evaluation panicked.
    #[error(transparent)]
    Stage(#[from] DeliveryStageError),
}

/// One event of a page.
#[derive(Clone, Debug)]
pub struct PulledEvent {
    /// Record that the event is stored in.
    pub item: OutboundRecord,
    /// Body of the delivery, or the reason for which filter or transform failed on the event.
    pub body: Result<Bytes, String>,
}

/// Events from a cursor on, in the order in which they were accepted.
#[derive(Clone, Debug)]
pub struct PulledPage {
    /// Events in the order of acceptance.
    pub events: Vec<PulledEvent>,
    /// Cursor of the next page.
    pub next: Position,
    /// True if there may be more events already.
    pub has_more: bool,
}

/// Reader of pages for subscribers.
pub(super) struct PullReader {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) expressions: Arc<ExpressionShares>,
    /// Becomes true when the node begins to stop, so that no request waits any longer.
    pub(super) is_ending: watch::Sender<bool>,
}

impl PullReader {
    /// Refuses a cursor behind the last event: it was given out before an older state was restored, and
    /// says nothing about the events of now.
    ///
    /// # Errors
    /// [`PullError::CursorPastEnd`].
    pub(super) fn check_cursor(&self, cursor: Position) -> Result<(), PullError> {
        if cursor > *self.journal.durable_end().borrow() {
            return Err(PullError::CursorPastEnd);
        }
        Ok(())
    }

    /// Reads at most `limit` events of `subscription` from `from` on. If there is none, waits up to
    /// `wait` for one.
    ///
    /// # Errors
    /// [`PullError`] when there is nothing to be read at `from`, now or at all.
    pub(super) async fn read_page(
        &self,
        subscription: &Subscription,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<PulledPage, PullError> {
        let mut durable_end = self.journal.durable_end();
        let (mut next, deadline) = (from, self.clock.monotonic() + wait);
        loop {
            let end = *durable_end.borrow_and_update();
            let page = self.read_up_to(subscription, (next, end), limit).await?;
            next = page.next;
            let left = deadline.saturating_sub(self.clock.monotonic());
            if !page.events.is_empty() || page.has_more || left.is_zero() {
                return Ok(page);
            }
            let mut ending = self.is_ending.subscribe();
            let has_more = tokio::select! {
                // An error means that the time is over, or that the journal was closed.
                changed = timeout(left, durable_end.changed()) => matches!(changed, Ok(Ok(()))),
                _ = ending.wait_for(|is_ending| *is_ending) => false,
            };
            if !has_more {
                return Ok(page);
            }
        }
    }

    async fn read_up_to(
        &self,
        subscription: &Subscription,
        (from, end): (Position, Position),
        limit: usize,
    ) -> Result<PulledPage, PullError> {
        let interest = Arc::new(SubscriberInterest::from_subscription(subscription));
        // The stage drops what has expired, and moves the cursor of the subscription.
        let matcher = SubscriberMatcher::Subscription(interest);
        let room = WindowRoom {
            events: limit,
            bytes: PAGE_BYTES,
        };
        let journal = Arc::clone(&self.journal);
        let batch = spawn_blocking(move || {
            reader::read_matching(journal.as_ref(), (from, end), &matcher, room)
        })
        .await
        .map_err(|_| DeliveryStageError::Panicked)??;

        let next = batch.end.unwrap_or(end).max(from);
        let is_visible = |matched: &MatchedRecord| {
            let item = &matched.item;
            !self
                .journal
                .hides_record(item.position, &item.record.entity)
        };
        let items = batch.items.into_iter().filter(is_visible).collect();
        Ok(PulledPage {
            events: self.render_events(subscription, items).await?,
            next,
            has_more: next < end,
        })
    }

    /// Drops the events that the filter does not select, and makes the bodies of the others.
    async fn render_events(
        &self,
        subscription: &Subscription,
        items: Vec<MatchedRecord>,
    ) -> Result<Vec<PulledEvent>, DeliveryStageError> {
        let id = SubscriberId::Webhook(subscription.id);
        let items = match &subscription.filter {
            Some(filter) => self.expressions.judge(&id, filter, items).await?,
            None => items,
        };
        let mut events = Vec::with_capacity(items.len());
        for MatchedRecord { item, filter_error } in items {
            let body = match (filter_error, subscription.transform.clone()) {
                (Some(error), _) => Err(format!("filter failed: {error}")),
                (None, None) => Ok(envelope::encode_envelope(&item.record).into()),
                (None, Some(transform)) => {
                    let record = Arc::clone(&item.record);
                    let evaluate = move || transform.render_body(&record);
                    let body = self.expressions.evaluate(&id, evaluate).await?;
                    body.map(Bytes::from)
                        .map_err(|error| format!("transform failed: {error}"))
                }
            };
            events.push(PulledEvent { item, body });
        }
        Ok(events)
    }
}
