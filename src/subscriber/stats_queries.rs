//! Queries for the statistics of the deliveries, which the stage's one thread answers.
//!
//! No reader waits for long: a stage that does not answer is an answer too, which pages, metrics and
//! alerts have to show.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::subscriber_id::SubscriberId;
use super::subscriber_stats::{DeliveryOverview, SubscriberStats};
use crate::event::{Position, Timestamp};
use crate::journal::Journal;
use crate::shared_reading::{DiskReader, SharedReading};

/// Bound of queued queries; a caller waits for room in the queue.
const QUERIES_MAX: usize = 1_024;

/// Longest wait for the stage's answer. A stage that is stuck must not hide the rest of the node.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Longest wait for the times of the oldest events, which are on the disk.
const DISK_LIMIT: Duration = Duration::from_secs(1);

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
    disk: DiskReader,
    overview: SharedReading<Result<Arc<DeliveryOverview>, StatsError>>,
}

impl StatsReader {
    /// Creates the reader, and the receiver that the stage answers from.
    pub(super) fn new(journal: Arc<dyn Journal>) -> (Self, mpsc::Receiver<StatsQuery>) {
        let (queries, receiver) = mpsc::channel(QUERIES_MAX);
        let reader = Self {
            queries,
            journal,
            disk: DiskReader::new(DISK_LIMIT),
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
            let oldest = overview.oldest_owed.as_ref().map(|(_, first)| *first);
            let oldest_stopped = overview.oldest_owed_of_stopped();
            if oldest.or(oldest_stopped).is_some() {
                let times = self.read_times([oldest, oldest_stopped]).await;
                [overview.oldest_owed_at, overview.oldest_stopped_at] = times;
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

    /// Reads the times at which the records at `positions` were received; `None` for each that cannot
    /// be read, and for all if the disk does not answer.
    async fn read_times<const N: usize>(
        &self,
        positions: [Option<Position>; N],
    ) -> [Option<Timestamp>; N] {
        let journal = Arc::clone(&self.journal);
        let read_one = move |position| {
            // A journal that cannot be read says so wherever it matters; here the time is left out.
            let frame = journal.read_frame_at(position).ok()??;
            frame.entry(position).map(|entry| entry.received_at)
        };
        let read = move || positions.map(|position| position.and_then(&read_one));
        self.disk.run(read).await.unwrap_or([None; N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::event::{EntityKey, Kind, Record};
    use crate::journal::{JournalSubmission, RecordDraft, await_fence};
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

    /// The age of another subscriber's event was shown for the stopped lanes, and a disk that hung held
    /// every reader.
    #[tokio::test]
    async fn the_overview_tells_the_oldest_times_unless_the_disk_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = TestStore::open(folder.path(), Arc::new(SystemClock::default()));
        let times = [10, 20].map(Timestamp::from_micros);
        for (index, at) in times.into_iter().enumerate() {
            let entity = EntityKey::try_new(Kind::Ticket, "SUP-1").expect("an id");
            let sequence = Some(index as u64 + 1);
            let record = Record {
                sequence,
                ..Record::new("support", entity.clone(), "message.created", at)
            };
            let draft = RecordDraft {
                entity,
                sequence,
                received_at: at,
                bytes: record.encode(),
            };
            let submission = JournalSubmission {
                drafts: vec![draft],
                settle: Box::new(|_| ()),
            };
            store.journal.append(submission).expect("open");
        }
        let end = await_fence(&*store.journal).await.expect("open");
        assert_eq!(end, Position::new(3));

        let (reader, mut queries) = StatsReader::new(store.journal);
        let stage = async {
            while let Some(query) = queries.recv().await {
                if let StatsQuery::Overview(reply) = query {
                    let owed = |position, stopped_lanes| SubscriberStats {
                        oldest_owed: Some(Position::new(position)),
                        stopped_lanes,
                        is_active: true,
                        ..SubscriberStats::default()
                    };
                    let all = [
                        (SubscriberId::Webhook(1), owed(1, 0)),
                        (SubscriberId::Webhook(2), owed(2, 1)),
                    ];
                    let _ = reply.send(DeliveryOverview::from_stats(all.into_iter()));
                }
            }
        };
        let read_twice = async {
            let (release, hung) = std::sync::mpsc::channel::<()>();
            let hang = reader.disk.run(move || hung.recv().is_ok());
            let look = async {
                let overview = reader.read_overview().await.expect("an answer");
                assert_eq!((overview.oldest_owed_at, overview.backlog), (None, 0));
                drop(release);
            };
            let ((), hung) = tokio::join!(look, hang);
            (
                hung,
                reader
                    .read_times([1, 2].map(|at| Some(Position::new(at))))
                    .await,
            )
        };
        tokio::select! {
            () = stage => unreachable!("the reader holds its queue"),
            (_, read) = read_twice => assert_eq!(read, times.map(Some)),
        }
    }
}
