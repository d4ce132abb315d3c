//! Rounds: what the ledger has gathered goes to the disk, now and then and at the end.

use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::spawn_blocking;
use tokio::time::{interval, timeout};

use super::super::Failed;
use super::super::delivery::Input;
use super::super::inbox::{Inbox, Told};
use super::super::ledger::Round;
use super::{Dispatcher, STOPPING, Writing, YIELDS_MAX, joined};
use crate::journal::WriteError;

impl Dispatcher {
    /// Writes what has changed; at a regular round actors are told too, so that what is old gets a row until the next.
    pub(super) fn begin_round(&mut self, is_regular: bool) {
        if self.writing.is_some() {
            return;
        }
        // Nobody's first record may be passed before its subscriber has a place.
        self.refresh();
        self.writing = self.write();
        if is_regular {
            self.stage.inboxes.borrow().values().for_each(|inbox| inbox.tell(Told::Input(Input::Round)));
        }
    }

    fn write(&self) -> Option<Writing> {
        self.stage.keep_counters();
        self.stage.keep_places();
        let (round, rows) = (self.stage.means.ledger.take()?, self.stage.means.rows.clone());
        Some(spawn_blocking(move || {
            let written = round.write(&rows);
            (round, written)
        }))
    }

    pub(super) fn written(&mut self, (round, written): (Round, Result<(), WriteError>)) -> Result<(), Failed> {
        written?;
        self.stage.means.ledger.wrote(&round);
        if self.asked.has_changed().unwrap_or_default() {
            self.begin_round(false);
        }
        Ok(())
    }

    /// Lets all actors take in what they were told.
    async fn until_told(&self) {
        let is_told = |inbox: &Rc<Inbox>| inbox.is_empty();
        for _ in 0..YIELDS_MAX {
            if self.stage.inboxes.borrow().values().all(is_told) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for attempts that are under way, and writes where everybody is.
    pub(super) async fn end(&mut self, patience: Duration) -> Result<(), Failed> {
        self.stage.begin_to_stop();
        let turns = Rc::clone(&self.stage.means.turns);
        let finish = async {
            let mut ticks = interval(STOPPING);
            while turns.taken() > 0 {
                ticks.tick().await;
            }
        };
        // What is not finished then is made again at the next start.
        let _ = timeout(patience, finish).await;
        if self.writing.is_some() {
            let written = joined(&mut self.writing).await?;
            self.written(written)?;
        }
        // What the last attempts came to is told to their actors first. Then all that waits gets rows, which takes two rounds:
        // with a cursor alone, the next start would repeat what was delivered beyond the first that waits.
        self.until_told().await;
        for _ in 0..2 {
            self.stage.inboxes.borrow().values().for_each(|inbox| inbox.tell(Told::Input(Input::Round)));
            self.until_told().await;
        }
        while let Some(writing) = self.writing.take().or_else(|| self.write()) {
            self.writing = Some(writing);
            let (round, written) = joined(&mut self.writing).await?;
            written?;
            self.stage.means.ledger.wrote(&round);
        }
        Ok(())
    }
}
