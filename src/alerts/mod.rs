//! Alerts: looks now and then at conditions that a person should know of, and announces the begin
//! and the end of each as an event, which subscribers receive like all others.
//!
//! ```text
//!  disk, journal, deliveries, sources ──readings──> board ──changes──> router ──> alert.raised, alert.cleared
//!                                                     ^                  │ durable
//!                                                     └──── confirmed ───┘
//! ```
//!
//! The events of a condition are an entity of the kind `custom:alert`. A start reads from them which
//! conditions were announced and are not over.

mod announcement;
mod board;
mod position_marks;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use actix_rt::task::JoinHandle;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::account::AccountRegistry;
use crate::clock::Clock;
use crate::config::{Config, LiveConfig};
use crate::event::{EntityKey, Kind};
use crate::journal::Journal;
use crate::metrics::NodeMetrics;
use crate::projection::{EventFilter, PageRequest, ProjectionReadError, ProjectionReader};
use crate::router::{Refusal, Router};
use crate::subscriber::{SubscriberId, SubscriberRuntime};
use crate::subscription::{SubscriptionRegistry, SubscriptionState};
use announcement::{RAISED_EVENT, announce_change};
use board::{ACTIVE_EVENTS, AlertBoard, AlertChange, NodeReadings, WatchEnd};

pub use subject::AlertSubject;

/// Entities of a page when the conditions are restored.
const PAGE_SIZE: u64 = 100;

/// Pages of conditions that are read at the start. The newest conditions come first.
const PAGES_MAX: u64 = 20;

/// Services that the watch uses during one opening of the store.
pub struct AlertDeps {
    /// Settings of the operator, with the bounds of the conditions.
    pub live_config: Arc<LiveConfig>,
    /// Router that takes the events.
    pub router: Arc<Router>,
    /// Reader of the earlier alerts, and of each source's newest events.
    pub reads: ProjectionReader,
    /// Journal whose end tells the age of a backlog.
    pub journal: Arc<dyn Journal>,
    /// Delivery stage, which knows what each subscriber is owed.
    pub subscribers: Arc<SubscriberRuntime>,
    /// Definitions of the accounts, which are subscribers too.
    pub accounts: Arc<AccountRegistry>,
    /// Definitions of the subscriptions, with their states.
    pub subscriptions: Arc<SubscriptionRegistry>,
    /// Metrics, which count the accepted events.
    pub metrics: Arc<NodeMetrics>,
    /// Source of the wall time of all checks.
    pub clock: Arc<dyn Clock>,
}

/// Conditions that are raised now, for the dashboard. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RaisedAlerts(Arc<Mutex<Vec<AlertSubject>>>);

impl RaisedAlerts {
    /// Returns the conditions that are raised, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<AlertSubject> {
        self.0.lock().clone()
    }
}

/// Handle of the task that watches the conditions.
pub struct AlertWatch {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl AlertWatch {
    /// Starts the task on the current actix system. It shows the raised conditions in `raised`.
    #[must_use]
    pub fn start(deps: AlertDeps, raised: RaisedAlerts) -> Self {
        let (stop, mut stopping) = watch::channel(false);
        let config = deps.live_config.current();
        let watcher = ConditionWatcher {
            board: AlertBoard::new(config.alerts, enabled_sources(&config)),
            is_restored: false,
            deps,
            raised,
        };
        let task = actix_rt::spawn(async move {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = watcher.repeat() => {}
            }
        });
        Self { stop, task }
    }

    /// Ends the task, which gives up a check that is under way.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // The panic hook has logged a panic of the task, and it is over either way.
        let _ = self.task.await;
    }
}

/// Failure of one check; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum AlertCheckError {
    #[error(transparent)]
    Projection(#[from] ProjectionReadError),
    #[error("the check was cancelled")]
    Cancelled,
}

struct ConditionWatcher {
    deps: AlertDeps,
    board: AlertBoard,
    is_restored: bool,
    raised: RaisedAlerts,
}

impl ConditionWatcher {
    async fn repeat(mut self) {
        let mut ticks = interval(self.deps.live_config.current().alerts.check_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(failure) = self.check_once().await {
                warn!(
                    error = &failure as &dyn std::error::Error,
                    "alerts could not be checked; trying again"
                );
            }
        }
    }

    async fn check_once(&mut self) -> Result<(), AlertCheckError> {
        // Not before: a condition that was announced must not be announced again.
        if !self.is_restored {
            // Sources first: the more conditions there are, the longer the other takes.
            self.restore_sources().await?;
            self.restore_conditions().await?;
            self.is_restored = true;
        }

        let config = self.deps.live_config.current();
        self.board
            .follow_config(config.alerts, enabled_sources(&config));
        let readings = self.read_node().await?;
        let now = self.deps.clock.wall();
        for change in self.board.check(&readings, now) {
            if self.announce(&change).await {
                self.board.confirm_change(&change);
            }
        }
        *self.raised.0.lock() = self.board.raised().cloned().collect();
        Ok(())
    }

    /// Submits the event about `change`. Returns `false` if the router does not take it now.
    async fn announce(&self, change: &AlertChange) -> bool {
        let now = self.deps.clock.wall();
        // Only the name of an account could make an entity without a name.
        let Some(event) = announce_change(change, now) else {
            return true;
        };
        match self
            .deps
            .router
            .submit_command(event.into_command(now))
            .await
        {
            Ok(_) | Err(Refusal::Duplicate { .. }) => {
                let (alert, value, limit) = (&change.subject, change.value, change.limit);
                if change.is_raised {
                    warn!(%alert, value, limit, "alert raised");
                } else {
                    info!(%alert, value, limit, "alert cleared");
                }
                true
            }
            Err(refusal) => {
                warn!(
                    alert = %change.subject,
                    error = %refusal,
                    "alert could not be announced; trying again"
                );
                false
            }
        }
    }

    /// Finds the conditions whose last event says that they began: those of all that is there now, and
    /// the newest of what is gone, however many conditions there ever were.
    async fn restore_conditions(&mut self) -> Result<(), AlertCheckError> {
        for subject in self.list_subjects() {
            if let Some(entity) = subject.entity()
                && let Some(subject) = self.find_raised(&entity).await?
            {
                self.board.restore_raised(subject);
            }
        }
        for page in 1..=PAGES_MAX {
            let request = PageRequest {
                page,
                page_size: PAGE_SIZE,
            };
            let found = self.deps.reads.entities(Kind::ALERT, request).await?;
            for entity in &found.items {
                if let Some(subject) = self.find_raised(entity).await? {
                    self.board.restore_raised(subject);
                }
            }
            if page * PAGE_SIZE >= found.total {
                break;
            }
        }
        Ok(())
    }

    /// Lists the conditions of all that is there now.
    fn list_subjects(&self) -> Vec<AlertSubject> {
        let deps = &self.deps;
        let webhooks = deps.subscriptions.snapshot();
        let webhooks = webhooks.iter().map(|entry| entry.subscription.id);
        let accounts = deps.accounts.snapshot();
        let accounts = accounts.newest_first().into_iter();
        let of_accounts = accounts.flat_map(|account| {
            let id = account.id.as_str();
            [
                SubscriberId::Forward(id.into()),
                SubscriberId::Replies(id.into()),
            ]
        });
        let subscribers = webhooks.map(SubscriberId::Webhook).chain(of_accounts);
        let subscribers = subscribers.chain([SubscriberId::AutoReply]);
        let sources = enabled_sources(&deps.live_config.current()).into_iter();
        AlertSubject::OF_NODE
            .into_iter()
            .chain(sources.map(AlertSubject::SilentSource))
            .chain(subscribers.map(AlertSubject::BacklogAge))
            .collect()
    }

    async fn find_raised(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<AlertSubject>, ProjectionReadError> {
        let records = self.deps.reads.first_and_last(entity).await?;
        let is_raised = records.is_some_and(|(_, last)| last.record.event_type == RAISED_EVENT);
        Ok(AlertSubject::parse(entity.id()).filter(|_| is_raised))
    }

    /// Reads how active each source was before the process began.
    async fn restore_sources(&mut self) -> Result<(), AlertCheckError> {
        let config = self.deps.live_config.current();
        let Some(silence) = config.alerts.source_silence else {
            return Ok(());
        };
        let since = self.deps.clock.wall().saturating_sub(silence);
        for source in enabled_sources(&config) {
            let filter = EventFilter {
                source: Some(source.clone()),
                since: Some(since),
                ..EventFilter::default()
            };
            let newest = PageRequest {
                page: 1,
                page_size: ACTIVE_EVENTS,
            };
            let found = self.deps.reads.newest_events(filter, newest, 0).await?;
            // Read after the events, so that none is missed; one may count twice.
            let totals = self.deps.metrics.totals().accepted_by_source;
            let accepted = totals.get(&source).copied().unwrap_or_default();
            // Without a recent event too, or all that the counter has would be new events.
            let last_at = found.items.first().map(|last| last.event.received_at);
            self.board
                .restore_source(&source, accepted, found.total, last_at);
        }
        Ok(())
    }

    async fn read_node(&self) -> Result<NodeReadings, AlertCheckError> {
        let deps = &self.deps;
        let (now, config) = (deps.clock.wall(), deps.live_config.current());
        let folder = config.store.path.clone();
        let free_bytes = spawn_blocking(move || read_free_bytes(&folder))
            .await
            .map_err(|_| AlertCheckError::Cancelled)?;

        // The other conditions are looked at even if the stage does not answer.
        let deliveries = deps.subscribers.overview().await.ok();
        let first_owed = deliveries.map(|deliveries| {
            let active = deliveries.subscribers.iter();
            let active = active.filter(|(_, stats)| stats.is_active);
            let owed = active.filter_map(|(id, stats)| Some((id.clone(), stats.oldest_owed?)));
            owed.collect()
        });
        Ok(NodeReadings {
            free_bytes,
            certificate_life: config.server.tls.as_ref().and_then(|tls| tls.life(now)),
            projection_lag: deps.router.projection_lag(),
            journal_end: *deps.journal.durable_end().borrow(),
            first_owed,
            unwatched: self.find_unwatched(),
            accepted_by_source: deps.metrics.totals().accepted_by_source,
        })
    }
}

impl ConditionWatcher {
    /// Finds the subscribers with a raised condition that are not watched any more.
    fn find_unwatched(&self) -> BTreeMap<SubscriberId, WatchEnd> {
        let webhooks = self.deps.subscriptions.snapshot();
        let accounts = self.deps.accounts.snapshot();
        let mut unwatched = BTreeMap::new();
        for subject in self.board.raised() {
            let AlertSubject::BacklogAge(subscriber) = subject else {
                continue;
            };
            let reason = match subscriber {
                SubscriberId::Webhook(id) => match webhooks.get(*id) {
                    Some(entry) => match entry.subscription.state {
                        SubscriptionState::Active => None,
                        SubscriptionState::Paused { .. } => Some(WatchEnd::Paused),
                        SubscriptionState::Disabled { .. } => Some(WatchEnd::Disabled),
                    },
                    None => Some(WatchEnd::Deleted),
                },
                SubscriberId::Forward(id) | SubscriberId::Replies(id) => match accounts.get(id) {
                    Some(_) => None,
                    None => Some(WatchEnd::Deleted),
                },
                SubscriberId::AutoReply => None,
            };
            unwatched.extend(reason.map(|reason| (subscriber.clone(), reason)));
        }
        unwatched
    }
}

fn read_free_bytes(folder: &Path) -> Option<u64> {
    read_disk_space(folder).map(|(free, _)| free)
}

/// Returns the free and the whole space of the disk that holds `folder`, in bytes.
#[must_use]
pub fn read_disk_space(folder: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some((
        disk.f_bavail.saturating_mul(disk.f_frsize),
        disk.f_blocks.saturating_mul(disk.f_frsize),
    ))
}

/// Names of the sources that can send events, as the counters have them.
fn enabled_sources(config: &Config) -> BTreeSet<String> {
    let sources = &config.sources;
    let built_in: [(&str, bool); 5] = [
        ("support", sources.support.enabled),
        ("leads", sources.leads.enabled),
        ("c2s", sources.c2s.enabled),
        ("instagram", sources.instagram.enabled),
        ("crm", sources.crm.enabled),
    ];
    let built_in = built_in.into_iter().filter(|(_, is_enabled)| *is_enabled);
    let custom = sources.custom.iter().filter(|custom| custom.enabled);
    built_in
        .map(|(name, _)| name.to_owned())
        .chain(custom.map(|custom| custom.name.to_string()))
        .collect()
}

#[cfg(test)]
mod tests;
