//! Checkpoints of the dispatcher: changed rows go to the disk periodically, on request, and when the
//! node stops.

use std::time::Duration;

use actix_rt::task::spawn_blocking;
use tokio::time::{interval, timeout};

use super::super::delivery::DeliveryInput;
use super::super::inbox::ActorMessage;
use super::super::stage_error::DeliveryStageError;
use super::{CheckpointTask, Dispatcher, STOP_POLL_INTERVAL, YIELDS_MAX, join_task};

impl Dispatcher {
    /// Starts to write a checkpoint, unless one is being written, and asks the actors for rows of their
    /// oldest records, so that the next one can advance the cursor.
    pub(super) fn begin_regular_checkpoint(&mut self) {
        self.begin_checkpoint();

        // After the changes were taken, so that the new rows belong to the next checkpoint. Also if
        // checkpoints that were asked for follow one another: a slow subscriber must not hold the
        // cursor of all others for so long.
        self.notify_checkpoint_started();
        self.stage.announce_exhausted();
        self.pause_overused();
    }

    /// Starts to write a checkpoint, unless one is being written.
    pub(super) fn begin_checkpoint(&mut self) {
        if self.checkpoint_task.is_some() {
            return;
        }

        // New subscribers first: the cursor must not pass the first record of a subscriber that has
        // no read state yet.
        self.refresh_subscribers();
        self.checkpoint_task = self.spawn_checkpoint_write();
    }

    fn notify_checkpoint_started(&self) {
        for inbox in self.stage.inboxes.borrow().values() {
            inbox.push_message(ActorMessage::Input(DeliveryInput::CheckpointStarted));
        }
    }

    /// Takes all changes and writes them on another thread; `None` if nothing has changed.
    fn spawn_checkpoint_write(&self) -> Option<CheckpointTask> {
        self.stage.store_counters();
        self.stage.store_read_states();
        let checkpoint = self.stage.deps.checkpoints.take_checkpoint()?;
        let tables = self.stage.deps.tables.clone();
        Some(spawn_blocking(move || checkpoint.write(&tables)))
    }

    /// Waits until the checkpoint that is being written is on the disk.
    pub(super) async fn finish_checkpoint(&mut self) -> Result<(), DeliveryStageError> {
        let written = join_task(&mut self.checkpoint_task).await?;
        self.stage.deps.checkpoints.mark_written(written?);
        Ok(())
    }

    /// Lets the actors run until they have taken everything out of their inboxes.
    async fn wait_until_inboxes_empty(&self) {
        for _ in 0..YIELDS_MAX {
            let are_empty = self
                .stage
                .inboxes
                .borrow()
                .values()
                .all(|inbox| inbox.is_empty());
            if are_empty {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for running attempts for at most `patience`, and writes the last checkpoint.
    pub(super) async fn shut_down(&mut self, patience: Duration) -> Result<(), DeliveryStageError> {
        self.stage.set_stopping();
        self.stage.announce_all_exhausted();

        // An attempt that takes longer is aborted, and repeated after the next start.
        let permits = &self.stage.deps.permits;
        let attempts_end = async {
            let mut ticks = interval(STOP_POLL_INTERVAL);
            while permits.in_use() > 0 {
                ticks.tick().await;
            }
        };
        let _ = timeout(patience, attempts_end).await;

        if self.checkpoint_task.is_some() {
            self.finish_checkpoint().await?;
        }

        // The actors take in the outcomes of the last attempts. Then two checkpoint starts give rows
        // to all waiting records: with the cursor alone, the next start would repeat what was
        // delivered after the oldest waiting record.
        self.wait_until_inboxes_empty().await;
        for _ in 0..2 {
            self.notify_checkpoint_started();
            self.wait_until_inboxes_empty().await;
        }

        while let Some(task) = self
            .checkpoint_task
            .take()
            .or_else(|| self.spawn_checkpoint_write())
        {
            self.checkpoint_task = Some(task);
            self.finish_checkpoint().await?;
        }
        Ok(())
    }
}
