//! The composition root: puts the stages together, keeps the core alive over store failures, and
//! stops in order.
//!
//! ```text
//!  gate closed ──store opened──> gate open ──stage failed──> gate closed, stages dropped
//!                                    ^                                   │ pause, 0.1 s to 5 s
//!                                    └── store opened, test write works ─┘
//!
//!  stop: no new requests, gate closed, each stage after its pending work, the store last
//! ```

mod clock_file;
mod clock_watch;
mod cluster_setup;
mod compaction;
mod descriptor_limit;
mod error;
mod following_store;
mod latest_times;
mod migration;
mod node_deps;
mod reload_signal;
mod service_manager;
mod stop_signal;
mod stopped_store;
mod store_session;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info};

use cluster_setup::ClusterSetup;
pub use compaction::CompactionSummary;
pub use error::NodeError;
use following_store::FollowingStore;
pub use migration::MigrationError;
pub use node_deps::NodeDeps;
use service_manager::{ServiceState, notify_service_manager};
pub use stopped_store::RebuildSummary;
use store_session::{DiscardMark, NodeSetup, SessionEnd, StoreSession};

use crate::clock::{CheckedClock, Clock};
use crate::cluster::LeaderTerm;
use crate::config::{ClusterConfig, Config, LiveConfig, Secret};
use crate::edge::{self, CoreGate, ListenerRole, LiveEdge};
use crate::traces::SpanExporter;
use crate::{error_chain, log_sink};

/// First pause before a failed store is opened again. Each further pause is twice as long, up to
/// [`REOPEN_PAUSE_MAX`].
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause between two attempts to open a failed store: a repaired disk is noticed this soon.
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A running node. Needs an actix system around it.
pub struct Node {
    address: SocketAddr,
    admin_address: SocketAddr,
    servers: Vec<ServerHandle>,
    edge: LiveEdge,
    gate: CoreGate,
    stop: watch::Sender<bool>,
    keeper: actix_rt::task::JoinHandle<Result<(), NodeError>>,
    clock_watch: actix_rt::task::JoinHandle<()>,
    exporter: Option<SpanExporter>,
    grace: Duration,
}

impl Node {
    /// Starts a node and returns when it is ready for requests.
    ///
    /// # Errors
    /// [`NodeError`] when the node cannot listen or its store cannot be opened. Nothing is left
    /// running then.
    pub async fn start(config: Config, deps: NodeDeps) -> Result<Self, NodeError> {
        Self::start_live(LiveConfig::fixed(config), deps).await
    }

    /// Starts a node whose configuration can be read again, as [`Node::start`] does.
    ///
    /// # Errors
    /// As for [`Node::start`].
    pub async fn start_live(
        live_config: Arc<LiveConfig>,
        mut deps: NodeDeps,
    ) -> Result<Self, NodeError> {
        let config = live_config.current();
        let clock = Arc::new(CheckedClock::new(Arc::clone(&deps.clock)));
        deps.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let connections_max = descriptor_limit::fit_connections(&config);

        let cluster = config.cluster.as_ref().map(ClusterSetup::from_config);
        let cluster = cluster.transpose()?;

        let (exporter, traces) = SpanExporter::start(&config.telemetry, &deps.metrics)?;
        deps.traces = traces;

        // Listen first: opening a large store takes seconds, and /readyz answers meanwhile.
        let (listener, address) = bind_listener(&config.server.bind)?;
        let admin_listener = config
            .admin
            .bind
            .as_deref()
            .map(bind_listener)
            .transpose()?;
        let admin_address = admin_listener
            .as_ref()
            .map_or(address, |(_, address)| *address);
        let gate = CoreGate::closed(clock_watch::OPENING);
        let edge = LiveEdge::new(
            Arc::clone(&live_config),
            Arc::clone(&clock),
            (Arc::clone(&deps.metrics), deps.traces.clone()),
            gate.clone(),
        );
        let listeners = match admin_listener {
            None => vec![(listener, ListenerRole::Whole)],
            Some((admin, _)) => {
                vec![
                    (listener, ListenerRole::Public),
                    (admin, ListenerRole::Admin),
                ]
            }
        };
        let mut servers = Vec::new();
        for (listener, role) in listeners {
            let server = edge::serve(&edge, listener, role, connections_max)?;
            servers.push(server.handle());
            actix_rt::spawn(server);
        }

        let setup = NodeSetup {
            live_config,
            deps,
            clock: Arc::clone(&clock),
            gate: gate.clone(),
            discard_mark: DiscardMark::default(),
            incarnation: Arc::default(),
            cluster,
        };
        let role = match NodeRole::open(&setup).await {
            Ok(role) => Some(role),
            // A database that is away may come back, as it may while the node runs.
            Err(NodeError::Cluster(error)) if error.is_passing() => {
                gate.follow(None, &error.to_string());
                let error = error_chain::format_error_chain(&error);
                error!(error, "store could not be opened; retrying");
                None
            }
            Err(error) => {
                stop_servers(&servers, false).await;
                return Err(error);
            }
        };

        clock_watch::check_clock(&clock, &gate);
        if let Some(role) = &role {
            role.set_gate(&gate);
        }
        let clock_watch = actix_rt::spawn(clock_watch::watch_clock(
            clock,
            gate.clone(),
            Arc::clone(&config),
        ));
        let (stop, stopping) = watch::channel(false);
        let keeper = actix_rt::spawn(keep_session_open(setup, role, gate.clone(), stopping));
        info!(%address, %admin_address, store = %config.store.path.display(), "node ready");
        Ok(Self {
            address,
            admin_address,
            servers,
            edge,
            gate,
            stop,
            keeper,
            clock_watch,
            exporter,
            grace: config.server.shutdown_grace,
        })
    }

    /// Returns the address that the node listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the admin API and the dashboard: that of `admin.bind`, or else the same.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Makes the path of a link that logs one person in to the dashboard, once and within ten
    /// minutes; `None` if the dashboard is switched off.
    #[must_use]
    pub fn login_link(&self) -> Option<Secret> {
        self.edge.current().login_link()
    }

    /// Stops the node in the order in which an event passes it: accepts no new requests, then lets
    /// each stage finish its pending work, and closes the store last.
    ///
    /// # Errors
    /// [`NodeError::Grace`] when that takes longer than `server.shutdown_grace_s`.
    pub async fn stop(self) -> Result<(), NodeError> {
        let Self {
            servers,
            edge,
            stop,
            keeper,
            clock_watch,
            exporter,
            grace,
            ..
        } = self;
        clock_watch.abort();
        let orderly = async {
            edge.current().end_streams();
            stop_servers(&servers, true).await;
            // The receiver is gone only if the keeper panicked; its join handle reports that.
            let _ = stop.send(true);
            let kept = keeper.await.unwrap_or(Err(NodeError::Panicked));
            // Last, so that the spans of the last deliveries are exported too.
            if let Some(exporter) = exporter {
                exporter.stop().await;
            }
            kept
        };
        timeout(grace, orderly)
            .await
            .unwrap_or(Err(NodeError::Grace(grace)))
    }
}

/// Runs a node until SIGTERM or Ctrl-C, and reads its configuration again at each SIGHUP. Calls `ready`
/// with the node once it accepts requests.
///
/// # Errors
/// [`NodeError`] when the node does not start or does not stop in time.
pub fn run_node(live_config: Arc<LiveConfig>, ready: impl FnOnce(&Node)) -> Result<(), NodeError> {
    actix_rt::System::new().block_on(async {
        // Before the start: a SIGHUP must not end a node that is opening its store.
        let reloading = Arc::<OnceLock<LiveEdge>>::default();
        reload_signal::reload_at_signals(Arc::clone(&live_config), Arc::clone(&reloading))?;
        let grace = live_config.current().server.shutdown_grace;
        let is_started = Arc::<AtomicBool>::default();
        let signal = stop_signal::watch_signals(grace, Arc::clone(&is_started))?;
        let node = Node::start_live(live_config, NodeDeps::default()).await?;
        reloading.get_or_init(|| node.edge.clone());
        is_started.store(true, Ordering::Relaxed);
        ready(&node);
        notify_service_manager(ServiceState::Ready);
        let watchdog = actix_rt::spawn(service_manager::feed_watchdog(node.gate.clone()));
        // The sender is gone only if its thread could not wait for signals, so the node stops.
        let _ = signal.await;

        notify_service_manager(ServiceState::Stopping);
        info!("node stopping");
        // The grace of the stop is kept by the thread of the signals.
        watchdog.abort();
        if let Err(failure) = node.stop().await {
            let error = error_chain::format_error_chain(&failure);
            error!(error, "graceful shutdown failed");
            log_sink::flush();
            // Returning would wait for the very thread that hangs.
            std::process::exit(1);
        }
        info!("node stopped");
        Ok(())
    })
}

/// Drops the projection and derives it again from the journal. The node must not be running.
///
/// # Errors
/// [`NodeError`] when the store is in use or cannot be read.
pub fn rebuild_store(config: &Config) -> Result<RebuildSummary, NodeError> {
    stopped_store::rebuild_projection(config)
}

/// Writes every file of a stopped node's store anew that is not encrypted as new content is. Calls
/// `on_progress` with the number of segments done and of all. Blocks.
///
/// # Errors
/// [`NodeError`] when the store is in use, or cannot be read or written; each file has its old or
/// its new form then.
pub fn compact_store(
    config: &Config,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<CompactionSummary, NodeError> {
    refuse_in_cluster(config, "hookyard compact")?;
    compaction::compact_store(config, on_progress)
}

/// Copies the log of a stopped node into its `cluster`, in which no node leads yet. Returns the number of
/// copied records. Blocks.
///
/// # Errors
/// [`NodeError`] when the store or the database fails, or the cluster has other events. What was copied
/// stays, and the next call goes on behind it.
pub fn import_into_cluster(config: &Config, cluster: &ClusterConfig) -> Result<u64, NodeError> {
    following_store::import_log(config, cluster)
}

/// Opens the store of a stopped node once, and closes it: drops an incomplete commit at the end of
/// the journal, and derives lost or damaged derived data again.
///
/// # Errors
/// [`NodeError`] when the store is in use, or cannot be opened.
pub fn repair_store(config: &Config) -> Result<(), NodeError> {
    stopped_store::open_once(config)
}

/// Gives every event of a stopped node's store whose time is in the future of this machine's clock the
/// present time. Returns the number of segments that were written anew. Blocks.
///
/// # Errors
/// [`NodeError`] when the store is in use, or cannot be read or written; the repair can be made again
/// then.
pub fn repair_times(config: &Config) -> Result<u64, NodeError> {
    refuse_in_cluster(config, "--repair-times")?;
    stopped_store::repair_times(config, NodeDeps::default().clock.wall())
}

/// Refuses `command`, which rewrites the journal, for a node of a cluster: its journal is a copy.
fn refuse_in_cluster(config: &Config, command: &'static str) -> Result<(), NodeError> {
    match config.cluster {
        Some(_) => Err(NodeError::InCluster(command)),
        None => Ok(()),
    }
}

/// Stops all `servers`, at the same time.
async fn stop_servers(servers: &[ServerHandle], is_graceful: bool) {
    let stops: Vec<_> = servers
        .iter()
        .map(|server| actix_rt::spawn(server.stop(is_graceful)))
        .collect();
    for stop in stops {
        // The panic hook has logged a panic, and that server is over either way.
        let _ = stop.await;
    }
}

fn bind_listener(bind: &str) -> Result<(TcpListener, SocketAddr), NodeError> {
    let error = |source| NodeError::Bind {
        address: bind.to_owned(),
        source,
    };
    let listener = TcpListener::bind(bind).map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

/// Part of a node that it has now.
enum NodeRole {
    /// The stages run: the node is on its own, or leads its cluster.
    Leading(StoreSession),
    /// Another node of the cluster leads, or none.
    Following(Box<FollowingStore>),
}

impl NodeRole {
    /// Opens the store of a node that starts.
    async fn open(setup: &NodeSetup) -> Result<Self, NodeError> {
        match &setup.cluster {
            None => StoreSession::open(setup, None).await.map(Self::Leading),
            Some(cluster) => FollowingStore::open(setup, cluster)
                .await
                .map(|store| Self::Following(Box::new(store))),
        }
    }

    /// Lets requests through to the stages, or to the node that leads.
    fn set_gate(&self, gate: &CoreGate) {
        match self {
            Self::Leading(session) => gate.open(session.core()),
            Self::Following(store) => store.announce_leader(gate),
        }
    }

    /// Opens the store again after a failure; a session proves that it can write.
    async fn reopen(setup: &NodeSetup) -> Result<Self, NodeError> {
        match &setup.cluster {
            None => StoreSession::open_writable(setup, None)
                .await
                .map(Self::Leading),
            Some(_) => Self::open(setup).await,
        }
    }
}

/// Keeps a core behind the gate until the node stops, in a cluster while the node leads. After a failure
/// of the store, drops every stage that used the store, and opens the store and the stages again.
async fn keep_session_open(
    setup: NodeSetup,
    mut role: Option<NodeRole>,
    gate: CoreGate,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), NodeError> {
    let clock = Arc::clone(&setup.deps.clock);
    let mut lead_after = Duration::ZERO;
    loop {
        match role.take() {
            None => {}
            Some(NodeRole::Leading(session)) => {
                let end = tokio::select! {
                    _ = stopping.wait_for(|stopping| *stopping) => {
                        gate.close("the node is stopping");
                        return session.close().await;
                    }
                    end = session.wait_for_end() => end,
                };

                // The gate closes before the stages end, so that no request reaches a dying stage.
                match end {
                    SessionEnd::Failed(reason) => {
                        error!(error = reason, "store failed; reopening it");
                        gate.close_after_failure(&reason);
                        session.abandon().await;
                        lead_after = clock.monotonic() + setup.pause_of_leader();
                    }
                    SessionEnd::CopyDue => {
                        info!("reopening the store to remove erased rows");
                        gate.close("erased content is being removed from the store");
                        session.close_for_copy().await;
                    }
                }
            }
            Some(NodeRole::Following(store)) => {
                let followed = store
                    .follow_until_leading(&gate, lead_after, &mut stopping)
                    .await;
                let opened = match followed {
                    Ok(None) => return Ok(()),
                    Ok(Some(term)) => open_leader(&setup, term).await,
                    Err(error) => Err(error),
                };
                match opened {
                    Ok(session) => {
                        gate.open(session.core());
                        role = Some(NodeRole::Leading(session));
                        continue;
                    }
                    Err(failure) => {
                        let error = error_chain::format_error_chain(&failure);
                        error!(error, "store failed; reopening it");
                        gate.close_after_failure(error);
                        lead_after = clock.monotonic() + setup.pause_of_leader();
                    }
                }
            }
        }

        let Some(reopened) = reopen_store(&setup, &gate, &mut stopping).await else {
            return Ok(());
        };
        reopened.set_gate(&gate);
        role = Some(reopened);
        info!("store reopened");
    }
}

/// Opens the stages of a node that has taken the lease of its cluster.
async fn open_leader(setup: &NodeSetup, term: LeaderTerm) -> Result<StoreSession, NodeError> {
    let opening = StoreSession::open_writable(setup, Some(term));
    match &setup.cluster {
        Some(cluster) => cluster.open_leader(term, opening).await,
        None => opening.await,
    }
}

/// Opens the store again, with growing pauses until that works. Returns `None` when the node stops
/// before.
async fn reopen_store(
    setup: &NodeSetup,
    gate: &CoreGate,
    stopping: &mut watch::Receiver<bool>,
) -> Option<NodeRole> {
    let mut pause = REOPEN_PAUSE_MIN;
    loop {
        // Only the pause is cut short by a stop: a session that is being opened has to be closed in
        // order, or the data folder would stay in use.
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return None,
            () = pause_for(pause) => {}
        }

        match NodeRole::reopen(setup).await {
            Ok(role) => return Some(role),
            Err(failure) => {
                let error = error_chain::format_error_chain(&failure);
                error!(error, "store could not be reopened; retrying");
                gate.close_after_failure(error);
            }
        }
        pause = (pause * 2).min(REOPEN_PAUSE_MAX);
    }
}

async fn pause_for(time: Duration) {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick completes immediately, the second after `time`.
    ticks.tick().await;
    ticks.tick().await;
}
