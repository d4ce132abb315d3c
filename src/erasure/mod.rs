//! Erasure of an entity's content, for a person who asks for it: from the journal, from the derived
//! store, and from everything that is still to be delivered.
//!
//! ```text
//!  request ──row: recording──> entity records the erasure ──> content hidden from all readers ──> 202
//!                                                                    │
//!          rewriting   thread: each segment that holds content is written anew
//!                                                                    │
//!          copying     the store is opened again: rows with content are removed, all others are
//!                      copied into new files of the derived store, and into a new base file
//!                                                                    │
//!          done        the content is in no file of the data folder
//! ```
//!
//! Each state is a row of a journaled table, so a crash at any moment repeats one step. The
//! records keep their places, names and times; the entity's id stays as the name of the entity.

mod copy_room;
mod erased_entity;
mod erasure_error;
mod erasure_table;
mod erasure_worker;
mod remains;
mod shared_erasures;

use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::error;

use crate::error_chain::format_error_chain;
use crate::event::{EntityKey, Position};
use crate::journal::Journal;

pub use copy_room::CopyRoom;
pub use erasure_error::ErasureError;
pub use erasure_table::{Erasure, ErasureState};
pub use remains::{hide_erased, remove_remains};
use shared_erasures::SharedErasures;
pub use shared_erasures::{ErasureDeps, ErasureProgress};

/// Handle of the erasure stage, for one opening of the store.
pub struct ErasureStage {
    shared: Arc<SharedErasures>,
    failure: watch::Receiver<Option<String>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl ErasureStage {
    /// Starts the stage. `removed` are the erasures whose content was removed while the store was
    /// opened: they are done. What other erasures are about is hidden before this returns.
    /// `has_copy_failed` puts off the next attempt.
    ///
    /// # Errors
    /// [`ErasureError`] when the store fails or the thread cannot be started.
    pub async fn start(
        deps: ErasureDeps,
        removed: Vec<Erasure>,
        has_copy_failed: bool,
    ) -> Result<Self, ErasureError> {
        let shared = Arc::new(SharedErasures::new(deps, has_copy_failed));
        shared.finish(removed).await?;
        let listed = shared.list().await?.into_iter();
        let under_way = listed.filter(|erasure| erasure.state != ErasureState::Done);
        let under_way: Vec<_> = under_way
            .filter_map(|erasure| Some((erasure.position?, erasure)))
            .collect();
        // All by their names first: to find the records of one must not show those of another.
        for (before, erasure) in &under_way {
            shared.hide_by_name(erasure, *before);
        }
        for (before, erasure) in &under_way {
            shared.hide(erasure, *before).await?;
        }

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()?;
        let (failure_sender, failure) = watch::channel(None);
        let shared_by_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("erasure".into())
            .spawn(move || {
                let work = erasure_worker::run_worker(&shared_by_thread);
                if let Err(error) = runtime.block_on(work) {
                    error!(error = &error as &dyn std::error::Error, "erasure stopped");
                    failure_sender.send_replace(Some(format_error_chain(&error)));
                }
            })?;
        Ok(Self {
            shared,
            failure,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Erases the content of all events of `entity` so far. Returns once no reader sees it any
    /// more, and this survives a crash; the files are cleaned afterwards.
    ///
    /// # Errors
    /// [`ErasureError`]; after any but [`ErasureError::NotFound`] the content may be erased
    /// nevertheless.
    pub async fn erase_entity(&self, entity: &EntityKey) -> Result<Erasure, ErasureError> {
        let (shared, entity) = (Arc::clone(&self.shared), entity.clone());
        // In a task of its own: a caller that has gone must not leave an erasure half begun.
        let erased = actix_rt::spawn(async move { shared.erase_entity(&entity).await });
        erased.await.map_err(|_| ErasureError::Ended)?
    }

    /// Returns the erasure `id` with the progress of its rewriting, if there is one.
    ///
    /// # Errors
    /// [`ErasureError`] when the store fails.
    pub async fn find_erasure(
        &self,
        id: u64,
    ) -> Result<Option<(Erasure, ErasureProgress)>, ErasureError> {
        let found = self
            .shared
            .with_table(move |table| Ok(table.find(id)?))
            .await?;
        Ok(found.map(|erasure| {
            let progress = match erasure.state {
                ErasureState::Rewriting => *self.shared.progress.lock(),
                ErasureState::Recording | ErasureState::Copying | ErasureState::Done => {
                    ErasureProgress::default()
                }
            };
            (erasure, progress)
        }))
    }

    /// Returns true for the position of an event whose content is erased, until its rows are gone
    /// too. Until then it is true for each event that retention has removed, because nothing says
    /// any more to whom that belonged.
    #[must_use]
    pub fn hides_event(&self, position: Position) -> bool {
        let start = self.shared.deps.journal.start().position;
        let erased = self.shared.erased.lock();
        erased
            .iter()
            .any(|erased| position < start || erased.positions.contains(&position))
    }

    /// Returns a watch that becomes `Some` with the reason when the stage fails.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Returns once the store has to be opened again, so that [`remove_remains`] can run.
    pub async fn wait_for_copy(&self) {
        let mut due = self.shared.copy_due.subscribe();
        // The sender lives as long as this stage.
        let _ = due.wait_for(|is_due| *is_due).await;
    }

    /// Ends the thread after the segment that it rewrites. Blocks.
    pub fn stop(&self) {
        self.shared.stopping.send_replace(true);
        if let Some(thread) = self.thread.lock().take() {
            // The panic hook has logged any panic of the thread; the work begins again.
            let _ = thread.join();
        }
    }
}
