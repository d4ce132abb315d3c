//! Everything about failed deliveries: dead letters, and jobs that deliver records again.

use std::sync::Arc;

use super::checkpoint::CheckpointBuffer;
use super::dead_letters::{DeadLetterBounds, DeadLetterStore};
use super::jobs::JobRegistry;
use super::redelivery_deps::RedeliveryDeps;
use super::stage_requests::StageRequestQueue;
use super::subscriber_id::SubscriberId;
use super::tables::DeliveryTables;
use crate::clock::Clock;
use crate::config::Config;
use crate::derived::DerivedStoreError;
use crate::journal::Journal;

/// Dead letters and recovery jobs, shared by the delivery stage and the admin API.
#[derive(Clone, Debug)]
pub(super) struct RedeliveryStores {
    pub(super) dead_letters: Arc<DeadLetterStore>,
    pub(super) jobs: Arc<JobRegistry>,
    /// Requests of the admin API that the stage has not yet taken.
    pub(super) requests: Arc<StageRequestQueue>,
}

impl RedeliveryStores {
    /// Loads dead letters and jobs from `tables`. Blocks.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store cannot be read or a row is malformed.
    pub(super) fn open(
        config: &Config,
        (journal, clock): (&Arc<dyn Journal>, &Arc<dyn Clock>),
        tables: DeliveryTables,
        checkpoints: &Arc<CheckpointBuffer>,
    ) -> Result<Self, DerivedStoreError> {
        let requests = Arc::<StageRequestQueue>::default();
        let deps = || -> RedeliveryDeps {
            (
                Arc::clone(checkpoints),
                Arc::clone(&requests),
                Arc::clone(clock),
            )
        };
        let delivery = &config.delivery;
        let bounds = DeadLetterBounds {
            max: delivery.dead_letters_max,
            total_max: delivery.dead_letters_total_max,
        };

        let dead_letters = DeadLetterStore::open(tables.clone(), deps(), bounds)?;
        let jobs = JobRegistry::open(
            &tables,
            Arc::clone(&dead_letters),
            Arc::clone(journal),
            deps(),
            (delivery.jobs_max, delivery.jobs_bytes_max),
        )?;

        Ok(Self {
            dead_letters,
            jobs,
            requests,
        })
    }

    /// Removes dead letters and job parts of subscribers for which `is_known` returns `false`.
    pub(super) fn retain(&self, is_known: impl Fn(&SubscriberId) -> bool) {
        // Jobs first: a recovery job reads dead letters.
        self.jobs.retain_subscribers(&is_known);
        self.dead_letters.retain(&is_known);
    }
}
