//! Store of a cluster's node that does not lead: a copy of the log, and what is derived from it, kept
//! warm for the moment at which this node takes over.
//!
//! ```text
//!  open     join the cluster ─> journal ─> same history? ─> copy what is missing ─> derive
//!  follow   every 50 ms: copy new commits; is the lease over? ──> take it
//!  lead     copy the rest ─> close ─> the stages open the same files
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::cluster_setup::{ClusterSetup, keep_lease_during};
use super::error::NodeError;
use super::stopped_store::StoppedStore;
use super::store_session::{self, NodeSetup};
use crate::cluster::{
    ClusterError, ClusterMember, ClusterState, CommitMark, Database, LeaderTerm, SharedCommit,
};
use crate::config::{ClusterConfig, Config};
use crate::edge::CoreGate;
use crate::error_chain::format_error_chain;
use crate::journal::{CopyError, DataFolder, Journal, LogCommit, LogPlace, SegmentJournal};
use crate::projection::Projection;

/// Pause between two looks at the cluster: short beside a lease, and little work for the database.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time between two updates of the tables' rows, and between two reports of this node.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of commits that one transaction of an import adds.
const IMPORT_BYTES: usize = 1024 * 1024;

/// Copy of the cluster's log, with what is derived from it.
pub(super) struct FollowingStore {
    setup: NodeSetup,
    member: ClusterMember,
    store: Arc<StoppedStore>,
    projection: Arc<Projection>,
    /// State of the cluster when this node had joined it.
    joined: ClusterState,
    /// Last commit of the copy; `None` without any.
    copied: Option<CommitMark>,
}

impl FollowingStore {
    /// Lets requests be passed on to the node that leads, if one did when this node joined.
    pub(super) fn announce_leader(&self, gate: &CoreGate) {
        follow_leader(gate, &self.joined);
    }

    /// Joins the cluster and copies everything that is missing.
    ///
    /// # Errors
    /// [`NodeError`] when the database or the store fails, or this node's log is not a beginning of the
    /// cluster's. Nothing is left open then.
    pub(super) async fn open(setup: &NodeSetup, cluster: &ClusterSetup) -> Result<Self, NodeError> {
        let mut member = ClusterMember::new(cluster.database.clone(), &cluster.config);
        let path = setup.live_config.current().store.path.clone();
        let own = run_blocking(move || {
            let folder = DataFolder::open(&path)?;
            match folder.is_of_former_format() {
                // The cluster's identity has the seed that the migration draws.
                true => Err(NodeError::from(ClusterError::NotImported)),
                false => Ok(folder.identity_text()),
            }
        });
        let shared = member.join(&own.await??).await?;

        let opening = setup.clone();
        let opened = run_blocking(move || {
            let (config, deps) = (opening.live_config.current(), &opening.deps);
            store_session::open_copied_journal(&config, deps, &opening.discard_mark, &shared)
        });
        let (folder, journal) = opened.await??;
        let (joined, copied) = match copy_missing(&mut member, &journal).await {
            Ok(result) => result,
            Err(error) => {
                // The folder must be free for the next opening.
                run_blocking(move || {
                    journal.close();
                    drop((journal, folder));
                })
                .await?;
                return Err(error);
            }
        };

        let opening = setup.clone();
        let opened = run_blocking(move || {
            let config = opening.live_config.current();
            let store = StoppedStore::from_journal(&config, folder, journal, |_, _| Ok(()))?;
            let projection = store.start_projection(&config)?;
            Ok::<_, NodeError>((Arc::new(store), projection))
        });
        let (store, projection) = opened.await??;
        info!(
            position = store.journal.place().position.get(),
            "copy of the cluster's log is complete"
        );
        let mut following = Self {
            setup: setup.clone(),
            member,
            store,
            projection,
            joined,
            copied,
        };
        following.report().await?;
        Ok(following)
    }

    /// Follows the log until this node has the lease, which it takes no earlier than `lead_after`.
    /// Returns the term; `None` when the node stops. The store is closed then.
    ///
    /// # Errors
    /// [`NodeError`] when the store fails, or the histories differ. The store is closed then.
    pub(super) async fn follow_until_leading(
        mut self,
        gate: &CoreGate,
        lead_after: Duration,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<Option<LeaderTerm>, NodeError> {
        let end = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => Ok(None),
            end = self.follow(gate, lead_after) => end.map(Some),
        };
        let Self {
            store,
            projection,
            mut member,
            ..
        } = self;
        let closing = run_blocking(move || store.close(&projection));
        let closed = match &end {
            Ok(Some(term)) => keep_lease_during(&mut member, *term, closing).await?,
            Ok(None) | Err(_) => closing.await?,
        };
        let end = end?;
        closed?;
        Ok(end)
    }

    async fn follow(
        &mut self,
        gate: &CoreGate,
        lead_after: Duration,
    ) -> Result<LeaderTerm, NodeError> {
        let clock = Arc::clone(&self.setup.deps.clock);
        let mut report_due = clock.monotonic();
        let mut failure = None;
        loop {
            let mut failed = self.projection.watch_failure();
            if let Some(reason) = failed.borrow_and_update().clone() {
                return Err(NodeError::Setup(std::io::Error::other(reason)));
            }
            match self.take_turn(gate, clock.monotonic() >= lead_after).await {
                Ok(Some(term)) => return Ok(term),
                Ok(None) => {
                    if failure.take().is_some() {
                        info!("the cluster's database answers again");
                    }
                }
                Err(NodeError::Cluster(error)) if error.is_passing() => {
                    // Everybody may read the reason at /readyz; the chain of errors names servers.
                    gate.follow(None, &error.to_string());
                    let reason = format_error_chain(&error);
                    // One line for each new reason, not twenty a second.
                    if failure.as_ref() != Some(&reason) {
                        warn!(
                            error = reason,
                            "the cluster's database failed; trying again"
                        );
                        failure = Some(reason);
                    }
                }
                Err(error) => return Err(error),
            }
            if clock.monotonic() >= report_due {
                report_due = clock.monotonic() + REPORT_INTERVAL;
                self.report().await?;
            }
            sleep_until(Instant::now() + POLL_INTERVAL).await;
        }
    }

    /// Copies what is new. Takes the lease if it is over and `may_lead`, and then copies the rest.
    async fn take_turn(
        &mut self,
        gate: &CoreGate,
        may_lead: bool,
    ) -> Result<Option<LeaderTerm>, NodeError> {
        let state = self.copy_new().await?;
        follow_leader(gate, &state);
        if !state.is_lease_over || !may_lead {
            return Ok(None);
        }

        let Some(term) = self.member.take_lease().await? else {
            return Ok(None);
        };
        info!(
            epoch = term.epoch,
            "lease of the cluster taken; this node leads"
        );
        self.copy_new().await?;
        Ok(Some(term))
    }

    /// Copies what is new, after a check that the log still has the last copied commit: a database that
    /// was replaced by a standby may have another one in its place.
    async fn copy_new(&mut self) -> Result<ClusterState, NodeError> {
        let journal = &self.store.journal;
        let state = self.member.read_state(self.copied).await?;
        let place = journal.place();
        let is_same = state.has_commit || self.copied.is_none();
        if !is_same || !place.is_reached_by(&state.end) {
            return Err(ClusterError::Diverged(place.position.get()).into());
        }
        copy_until(&mut self.member, journal, state.end, &mut self.copied).await?;
        Ok(state)
    }

    /// Applies the copied changes to the tables' rows, and reports the end of the copy to the cluster.
    async fn report(&mut self) -> Result<(), NodeError> {
        let store = Arc::clone(&self.store);
        run_blocking(move || store.tables.apply_new_changes()).await??;
        let end = self.store.journal.place();
        match self.member.report(end).await {
            Err(error) if !error.is_passing() => Err(error.into()),
            // The next turn fails for the same reason, and says so.
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// Lets requests be passed on to the node that leads by `state`.
fn follow_leader(gate: &CoreGate, state: &ClusterState) {
    // A leader without an address is an import.
    let is_led = !state.is_lease_over && !state.advertise.is_empty();
    let leader = is_led.then(|| state.advertise.clone());
    gate.follow(leader, "no node of the cluster leads at the moment");
}

/// Copies the log of the stopped node of `config` into its cluster, which has no events but those of an
/// interrupted import. Returns the number of copied records. Blocks.
pub(super) fn import_log(config: &Config, cluster: &ClusterConfig) -> Result<u64, NodeError> {
    let database = Database::from_config(cluster)?;
    let store = StoppedStore::open(config)?;
    let journal = &store.journal;
    let start = journal.start();
    if start.has_removed() {
        return Err(ClusterError::Shortened(start.position.get()).into());
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut member = ClusterMember::new(database, cluster);
    let identity = store.folder.identity_text();
    if runtime.block_on(member.join(&identity))? != identity {
        return Err(ClusterError::Occupied.into());
    }
    // Before the lead is taken: it has no end, and would keep the cluster's own nodes from leading.
    let mut place = runtime.block_on(member.read_state(None))?.end;
    for shared in runtime.block_on(member.read_commits_before(place))? {
        if !journal.has_commit(&shared.commit)? {
            return Err(ClusterError::Occupied.into());
        }
    }
    let term = runtime.block_on(member.begin_import())?;
    let mut records = 0;
    loop {
        let commits = journal
            .read_commits(place, IMPORT_BYTES)
            .map_err(|error| NodeError::from(CopyError::Unreadable(error)))?;
        let Some(last) = commits.last() else {
            break;
        };
        runtime.block_on(member.import_commits(term, &commits))?;
        records += last.end().position.get() - place.position.get();
        place = last.end();
    }
    runtime.block_on(member.end_import(term))?;
    journal.close();
    Ok(records)
}

/// Checks that `journal` is a beginning of the cluster's log, and copies the rest. Returns the state of the
/// cluster, and the last commit of the copy.
async fn copy_missing(
    member: &mut ClusterMember,
    journal: &Arc<SegmentJournal>,
) -> Result<(ClusterState, Option<CommitMark>), NodeError> {
    let place = journal.place();
    let state = member.read_state(None).await?;
    let mut copied = None;
    if place != LogPlace::START {
        let is_importing = state.advertise.is_empty() && !place.is_reached_by(&state.end);
        if state.end == LogPlace::START || is_importing {
            return Err(ClusterError::NotImported.into());
        }
        let before = member.read_commits_before(place).await?;
        let last = before.first().filter(|last| last.commit.end() == place);
        copied = last.map(SharedCommit::mark);
        let judging = Arc::clone(journal);
        let is_same = run_blocking(move || {
            let mut found = before
                .iter()
                .map(|shared| judging.has_commit(&shared.commit));
            found.try_fold(true, |all, has_one| Ok::<_, CopyError>(all && has_one?))
        });
        if copied.is_none() || !is_same.await?? {
            return Err(ClusterError::Diverged(place.position.get()).into());
        }
    }
    copy_until(member, journal, state.end, &mut copied).await?;
    Ok((state, copied))
}

/// Copies commits of the cluster until `journal` has at least all before `end`, and notes the last one
/// in `copied`.
async fn copy_until(
    member: &mut ClusterMember,
    journal: &Arc<SegmentJournal>,
    end: LogPlace,
    copied: &mut Option<CommitMark>,
) -> Result<(), NodeError> {
    // The log may have gone on since `end` was read, and the copy with it.
    while !end.is_reached_by(&journal.place()) {
        let place = journal.place();
        let shared = member.read_commits(place).await?;
        let at = place.position.get();
        let (Some(first), Some(last)) = (shared.first(), shared.last()) else {
            return Err(ClusterError::Diverged(at).into());
        };
        if first.commit.begin() != place {
            let first = first.commit.begin().position.get();
            return Err(ClusterError::Behind { at, first }.into());
        }
        let newest = last.mark();
        let commits: Vec<LogCommit> = shared.into_iter().map(|shared| shared.commit).collect();
        let journal = Arc::clone(journal);
        run_blocking(move || journal.append_copies(&commits)).await??;
        *copied = Some(newest);
    }
    Ok(())
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    spawn_blocking(work).await.map_err(|_| NodeError::Panicked)
}

impl From<CopyError> for NodeError {
    fn from(error: CopyError) -> Self {
        Self::Copy(Box::new(error))
    }
}
