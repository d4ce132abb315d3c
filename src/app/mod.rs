//! The composition root: puts the stages together, keeps the core alive over store failures, and
//! stops in order.

mod error;
mod seams;
mod store_session;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info};

pub use error::Error;
pub use seams::NodeDeps;
pub use store_session::RebuildSummary;
use store_session::{NodeSetup, StoreSession};

use crate::config::Config;
use crate::edge::{self, CoreGate, Edge};
use crate::error_chain;

/// The first pause before a failed store is opened again; doubled each time, up to the longest.
const REOPEN_FIRST: Duration = Duration::from_millis(100);
const REOPEN_LONGEST: Duration = Duration::from_secs(5);

/// A running node. Needs an actix system around it.
pub struct Node {
    address: SocketAddr,
    server: ServerHandle,
    stop: watch::Sender<bool>,
    keeper: actix_rt::task::JoinHandle<Result<(), Error>>,
    grace: Duration,
}

impl Node {
    /// Starts a node and returns when it is ready.
    ///
    /// # Errors
    /// [`Error`] when it cannot listen or its store cannot be opened; nothing is left running then.
    pub async fn start(config: Config, seams: NodeDeps) -> Result<Self, Error> {
        let config = Arc::new(config);
        let (listener, address) = bind_listener(&config.server.bind)?;
        let gate = CoreGate::closed("the store is being opened");
        let edge = Arc::new(Edge::new(
            Arc::clone(&config),
            Arc::clone(&seams.clock),
            gate.clone(),
        ));
        let server = edge::serve(edge, listener)?;
        let handle = server.handle();
        actix_rt::spawn(server);
        let parts = NodeSetup {
            config: Arc::clone(&config),
            deps: seams,
        };
        let opening = match StoreSession::open(&parts).await {
            Ok(opening) => opening,
            Err(error) => {
                handle.stop(false).await;
                return Err(error);
            }
        };
        gate.open(opening.core());
        let (stop, stopping) = watch::channel(false);
        let keeper = actix_rt::spawn(keep_session_open(parts, opening, gate, stopping));
        info!(%address, store = %config.store.path.display(), "node ready");
        Ok(Self {
            address,
            server: handle,
            stop,
            keeper,
            grace: config.server.shutdown_grace,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops from left to right: no new requests, then each stage when what it was given is done,
    /// the store last.
    ///
    /// # Errors
    /// [`Error::Grace`] when that takes longer than `server.shutdown_grace_s`.
    pub async fn stop(self) -> Result<(), Error> {
        let Self {
            server,
            stop,
            keeper,
            grace,
            ..
        } = self;
        let orderly = async {
            server.stop(true).await;
            // The keeper is gone only if it panicked, which its handle says.
            let _ = stop.send(true);
            keeper.await.unwrap_or(Err(Error::Panicked))
        };
        timeout(grace, orderly)
            .await
            .unwrap_or(Err(Error::Grace(grace)))
    }
}

/// Runs a node until SIGTERM or Ctrl-C. `ready` is called once it is, with where it listens.
///
/// # Errors
/// [`Error`] when it does not start or does not stop in time.
pub fn run_node(config: Config, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    actix_rt::System::new().block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        // Until it is ready, a signal ends the process at once, which a store that is being opened
        // survives.
        let node = Node::start(config, NodeDeps::default()).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        ready(node.address());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("stopping");
        if let Err(failure) = node.stop().await {
            error!(
                reason = error_chain::format_error_chain(&failure),
                "not stopped in order"
            );
            // Returning would wait for the very thread that hangs.
            std::process::exit(1);
        }
        info!("stopped");
        Ok(())
    })
}

/// Makes everything derived anew from the journal. The node must not be running.
///
/// # Errors
/// [`Error`] when the store is in use or cannot be read.
pub fn rebuild_store(config: &Config) -> Result<RebuildSummary, Error> {
    store_session::rebuild_projection(config)
}

fn bind_listener(bind: &str) -> Result<(TcpListener, SocketAddr), Error> {
    let error = |source| Error::Bind {
        address: bind.to_owned(),
        source,
    };
    let listener = TcpListener::bind(bind).map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

/// Keeps a core behind the gate: when the store fails, drops everything that rested on it and opens
/// it again.
async fn keep_session_open(
    parts: NodeSetup,
    mut opening: StoreSession,
    gate: CoreGate,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Error> {
    loop {
        let reason = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {
                gate.close("the node is stopping");
                return opening.close().await;
            }
            reason = opening.wait_for_failure() => reason,
        };
        error!(reason, "store failed, opening it again");
        gate.close(&reason);
        opening.abandon().await;
        let Some(reopened) = reopen_store(&parts, &gate, &mut stopping).await else {
            return Ok(());
        };
        opening = reopened;
        gate.open(opening.core());
        info!("store open again");
    }
}

/// Opens the store again as soon as that works; `None` when the node is to stop before.
async fn reopen_store(
    parts: &NodeSetup,
    gate: &CoreGate,
    stopping: &mut watch::Receiver<bool>,
) -> Option<StoreSession> {
    let mut pause = REOPEN_FIRST;
    loop {
        // Only a pause is cut short: what is being opened has to be closed in order, or the folder
        // would stay in use.
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return None,
            () = pause_for(pause) => {}
        }
        match StoreSession::open_writable(parts).await {
            Ok(opening) => return Some(opening),
            Err(failure) => {
                let reason = error_chain::format_error_chain(&failure);
                error!(reason, "store cannot be opened again yet");
                gate.close(reason);
            }
        }
        pause = (pause * 2).min(REOPEN_LONGEST);
    }
}

async fn pause_for(time: Duration) {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    ticks.tick().await;
    ticks.tick().await;
}
