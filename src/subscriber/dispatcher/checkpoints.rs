//! Rounds: what the ledger has gathered goes to the disk, now and then and at the end.

use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::spawn_blocking;
use tokio::time::{interval, timeout};

use super::super::DeliveryStageError;
use super::super::checkpoint::DeliveryCheckpoint;
use super::super::delivery::DeliveryInput;
use super::super::inbox::{ActorMessage, SubscriberInbox};
use super::{CheckpointTask, Dispatcher, STOP_POLL_INTERVAL, YIELDS_MAX, join_task};
use crate::journal::StoreWriteError;

impl Dispatcher {
    /// Writes what has changed; at a regular round actors are told too, so that what is old gets a
    /// row until the next.
    pub(super) fn begin_checkpoint(&mut self, is_regular: bool) {
        if self.checkpoint_task.is_some() {
            return;
        }
        // Nobody's first record may be passed before its subscriber has a place.
        self.refresh_subscribers();
        self.checkpoint_task = self.spawn_checkpoint_write();
        if is_regular {
            self.stage.inboxes.borrow().values().for_each(|inbox| {
                inbox.push_message(ActorMessage::Input(DeliveryInput::CheckpointStarted))
            });
        }
    }

    fn spawn_checkpoint_write(&self) -> Option<CheckpointTask> {
        self.stage.store_counters();
        self.stage.store_read_states();
        let (round, rows) = (
            self.stage.deps.checkpoints.take_checkpoint()?,
            self.stage.deps.tables.clone(),
        );
        Some(spawn_blocking(move || {
            let written = round.write(&rows);
            (round, written)
        }))
    }

    pub(super) fn finish_checkpoint(
        &mut self,
        (round, written): (DeliveryCheckpoint, Result<(), StoreWriteError>),
    ) -> Result<(), DeliveryStageError> {
        written?;
        self.stage.deps.checkpoints.mark_written(&round);
        if self.flush_requests.has_changed().unwrap_or_default() {
            self.begin_checkpoint(false);
        }
        Ok(())
    }

    /// Lets all actors take in what they were told.
    async fn wait_until_inboxes_empty(&self) {
        let is_told = |inbox: &Rc<SubscriberInbox>| inbox.is_empty();
        for _ in 0..YIELDS_MAX {
            if self.stage.inboxes.borrow().values().all(is_told) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for attempts that are under way, and writes where everybody is.
    pub(super) async fn shut_down(&mut self, patience: Duration) -> Result<(), DeliveryStageError> {
        self.stage.set_stopping();
        let turns = Rc::clone(&self.stage.deps.permits);
        let finish = async {
            let mut ticks = interval(STOP_POLL_INTERVAL);
            while turns.in_use() > 0 {
                ticks.tick().await;
            }
        };
        // What is not finished then is made again at the next start.
        let _ = timeout(patience, finish).await;
        if self.checkpoint_task.is_some() {
            let written = join_task(&mut self.checkpoint_task).await?;
            self.finish_checkpoint(written)?;
        }
        // What the last attempts came to is told to their actors first. Then all that waits gets
        // rows, which takes two rounds: with a cursor alone, the next start would repeat what was
        // delivered beyond the first that waits.
        self.wait_until_inboxes_empty().await;
        for _ in 0..2 {
            self.stage.inboxes.borrow().values().for_each(|inbox| {
                inbox.push_message(ActorMessage::Input(DeliveryInput::CheckpointStarted))
            });
            self.wait_until_inboxes_empty().await;
        }
        while let Some(writing) = self
            .checkpoint_task
            .take()
            .or_else(|| self.spawn_checkpoint_write())
        {
            self.checkpoint_task = Some(writing);
            let (round, written) = join_task(&mut self.checkpoint_task).await?;
            written?;
            self.stage.deps.checkpoints.mark_written(&round);
        }
        Ok(())
    }
}
