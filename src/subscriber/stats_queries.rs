//! Queries for the statistics of the deliveries, which the stage's one thread answers.
//!
//! No reader waits for long: a stage that does not answer is an answer too, which pages, metrics and
//! alerts have to show.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::subscriber_id::SubscriberId;
use super::subscriber_stats::{DeliveryOverview, SubscriberStats};
use crate::event::{Position, Timestamp};
use crate::journal::Journal;
use crate::shared_reading::SharedReading;

/// Bound of queued queries; a caller waits for room in the queue.
const QUERIES_MAX: usize = 1_024;

/// Longest wait for the stage's answer. A stage that is stuck must not hide the rest of the node.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Time for which all readers share one overview. It costs a look at each subscriber, on the thread
/// that delivers.
const OVERVIEW_LIFE: Duration = Duration::from_secs(1);

/// Reason for which there are no statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// The stage did not answer in time: its thread is stuck or overloaded.
    #[error("the delivery stage does not answer")]
    NoAnswer,
    /// The stage has stopped, because of a failure or because the store closes.
    #[error("the delivery stage has stopped")]
    Stopped,
}

/// Query for statistics of the deliveries.
pub(super) enum StatsQuery {
    /// Statistics of these subscribers; the answer leaves out those that the stage does not know.
    Subscribers {
        ids: Vec<SubscriberId>,
        reply: oneshot::Sender<HashMap<SubscriberId, SubscriberStats>>,
    },
    /// Statistics of all subscribers, with their sums.
    Overview(oneshot::Sender<DeliveryOverview>),
}

/// Sender of the queries, with the overview that all readers share.
pub(super) struct StatsReader {
    queries: mpsc::Sender<StatsQuery>,
    journal: Arc<dyn Journal>,
    overview: SharedReading<Result<Arc<DeliveryOverview>, StatsError>>,
}

impl StatsReader {
    /// Creates the reader, and the receiver that the stage answers from.
    pub(super) fn new(journal: Arc<dyn Journal>) -> (Self, mpsc::Receiver<StatsQuery>) {
        let (queries, receiver) = mpsc::channel(QUERIES_MAX);
        let reader = Self {
            queries,
            journal,
            overview: SharedReading::new(OVERVIEW_LIFE),
        };
        (reader, receiver)
    }

    /// Asks for the statistics of `ids`.
    pub(super) async fn read_stats(
        &self,
        ids: Vec<SubscriberId>,
    ) -> Result<HashMap<SubscriberId, SubscriberStats>, StatsError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        self.ask(|reply| StatsQuery::Subscribers { ids, reply })
            .await
    }

    /// Asks for the statistics of all subscribers, or shares an answer that is about a second old.
    pub(super) async fn read_overview(&self) -> Result<Arc<DeliveryOverview>, StatsError> {
        let read = async {
            let mut overview = self.ask(StatsQuery::Overview).await?;
            if let Some((_, first)) = &overview.oldest_owed {
                overview.oldest_owed_at = self.read_time_of(*first).await;
            }
            Ok(Arc::new(overview))
        };
        self.overview.get_or_read(read).await
    }

    async fn ask<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<T>) -> StatsQuery,
    ) -> Result<T, StatsError> {
        let (reply, answer) = oneshot::channel();
        let answered = async {
            let sent = self.queries.send(query(reply)).await;
            sent.map_err(|_| StatsError::Stopped)?;
            answer.await.map_err(|_| StatsError::Stopped)
        };
        timeout(ANSWER_LIMIT, answered)
            .await
            .unwrap_or(Err(StatsError::NoAnswer))
    }

    /// Reads when the record at `position` was received; `None` if it cannot be read.
    async fn read_time_of(&self, position: Position) -> Option<Timestamp> {
        let journal = Arc::clone(&self.journal);
        let read = move || {
            // A journal that cannot be read says so wherever it matters; here the time is left out.
            let frame = journal.read_frame_at(position).ok()??;
            frame.entry(position).map(|entry| entry.received_at)
        };
        spawn_blocking(read).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::table_store::TestStore;

    /// Creates a reader and the queries that reach the stage.
    fn reader(folder: &std::path::Path) -> (StatsReader, mpsc::Receiver<StatsQuery>) {
        let store = TestStore::open(folder, Arc::new(SystemClock::default()));
        StatsReader::new(store.journal)
    }

    /// A stage that hung was shown as one without a backlog, and pages of webhooks never came.
    #[tokio::test(start_paused = true)]
    async fn a_stage_that_does_not_answer_is_said_to_be_silent_within_a_second() {
        let folder = tempfile::tempdir().expect("a folder");
        let (reader, queries) = reader(folder.path());
        let ids = vec![SubscriberId::AutoReply];
        let silent = reader.read_stats(ids.clone()).await;
        assert_eq!(silent.err(), Some(StatsError::NoAnswer));
        assert_eq!(
            reader.read_overview().await.err(),
            Some(StatsError::NoAnswer)
        );

        drop(queries);
        let stopped = reader.read_stats(ids).await;
        assert_eq!(stopped.err(), Some(StatsError::Stopped));
    }

    /// Each reader of the metrics made the delivery thread look at all subscribers.
    #[tokio::test(start_paused = true)]
    async fn readers_within_a_second_cost_the_stage_one_look() {
        let folder = tempfile::tempdir().expect("a folder");
        let (reader, mut queries) = reader(folder.path());
        let mut asked = 0;
        let stage = async {
            while let Some(query) = queries.recv().await {
                if let StatsQuery::Overview(reply) = query {
                    asked += 1;
                    let all = [(SubscriberId::AutoReply, SubscriberStats::default())];
                    let _ = reply.send(DeliveryOverview::from_stats(all.into_iter()));
                }
            }
        };
        tokio::select! {
            () = stage => {}
            () = async {
                for _ in 0..10 {
                    assert!(reader.read_overview().await.is_ok());
                }
                tokio::time::advance(OVERVIEW_LIFE).await;
                assert!(reader.read_overview().await.is_ok());
            } => {}
        }
        assert_eq!(asked, 2);
    }
}
