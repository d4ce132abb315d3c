//! HTTP server: its threads, and the limits of its connections.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{ServiceFactoryExt, fn_factory, fn_service};
use actix_web::dev::{Extensions, Server};
use tokio::net::TcpStream;

use super::connection_counts::{ConnectionCounts, ConnectionLimits};
use super::guarded_stream::{GuardedStream, StreamLimits};
use super::listener_role::ListenerRole;
use super::live_app::LiveApp;
use super::live_edge::LiveEdge;
use super::server_stream::{ServerStream, TlsConnection, accept_tls};
use super::{dashboard, docs, sliding_window};
use crate::config::ServerConfig;

/// Blocking threads of each worker. Handlers never block; these threads serve reads and definition
/// writes, which wait for the disk.
const BLOCKING_THREADS: usize = 4;

/// Threads of the listener `admin.bind`: one serves while the other makes a costly page.
const ADMIN_WORKERS: usize = 2;

/// Most connections of the listener `admin.bind`: people, a monitoring system, and programs that subscribe.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;

/// Longest wait for a client to close its side.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the operations of `role` on `listener`, with threads of their own and at most
/// `connections_max` connections, until the server is stopped. The caller handles signals. Must be
/// called within an actix system; the server runs when it is awaited or spawned.
///
/// # Errors
/// I/O errors of registering the listener.
pub fn serve(
    edge: &LiveEdge,
    listener: TcpListener,
    role: ListenerRole,
    connections_max: usize,
) -> io::Result<Server> {
    let current = edge.current();
    let server = &current.config.server;
    let (workers, connections_max) = match role {
        ListenerRole::Whole | ListenerRole::Public => {
            (worker_count(server.workers), connections_max)
        }
        ListenerRole::Admin => (ADMIN_WORKERS, connections_max.min(ADMIN_CONNECTIONS_MAX)),
    };
    let address = listener.local_addr()?;
    if role != ListenerRole::Public {
        actix_rt::spawn(dashboard::state::sample_metrics(
            Arc::downgrade(&current.dashboard),
            Arc::clone(&current.metrics),
            Arc::clone(&current.clock),
        ));
    }
    let counts = ConnectionCounts::new(Arc::clone(&current.proven_networks));
    let limits = StreamLimits {
        request_timeout: server.request_timeout,
        keep_alive: server.keep_alive,
    };
    let keep_alive = to_keep_alive(server.keep_alive);

    if server.docs && role != ListenerRole::Public {
        docs::prepare_answers();
    }

    let builder = Server::build()
        .workers(workers)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_concurrent_connections(connections_max.div_ceil(workers).max(1))
        .shutdown_timeout(sliding_window::ceil_seconds(server.shutdown_grace))
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();

    let edge = edge.clone();
    let factory = move || {
        let (counts, stopping) = (Arc::clone(&counts), stopping.clone());
        let edges = edge.watch();
        let app = fn_factory(move || {
            let edges = edges.clone();
            async move { Ok::<_, Infallible>(LiveApp::start(edges, role).await) }
        });

        let http = HttpService::build()
            .keep_alive(keep_alive)
            .client_request_timeout(limits.request_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .local_addr(address)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(
                |io: &GuardedStream<ServerStream>, shared: &mut Extensions| {
                    shared.insert(io.watch());
                    if let Some(tls) = TlsConnection::of_stream(io.stream()) {
                        shared.insert(tls);
                    }
                },
            )
            .finish(app);
        let edge = edge.clone();
        let guard = move |io: TcpStream| {
            let (edge, counts) = (edge.current(), Arc::clone(&counts));
            async move {
                let server = &edge.config.server;
                let per_network_max = server.connections_per_address_max;
                let counted = ConnectionLimits::new(connections_max, per_network_max);
                guard_connection(io, limits, (&counts, counted), server).await
            }
        };
        fn_service(guard).and_then(http)
    };

    Ok(builder.listen("http", listener, factory)?.run())
}

/// Returns the stream of an accepted connection, after the handshake if `server` has TLS. The connection
/// counts from its first byte on.
///
/// # Errors
/// [`DispatchError::Io`] closes the connection: its network has too many, or the handshake failed.
async fn guard_connection(
    io: TcpStream,
    limits: StreamLimits,
    (counts, counted): (&Arc<ConnectionCounts>, ConnectionLimits),
    server: &ServerConfig,
) -> Result<GuardedConnection, DispatchError> {
    // A client that has closed its side already has no address; its request is taken all the same.
    let peer = io.peer_addr().ok();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let Some(slot) = counts.try_open(address, counted, &server.trusted_proxies) else {
        tracing::debug!(client = %address, "connection closed: its network or strangers have too many");
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
    };
    // It fails for a closed connection only, which needs it no more.
    let _ = io.set_nodelay(true);
    let acceptor = server.tls.as_ref().and_then(|tls| tls.acceptor.clone());
    let stream = match acceptor {
        None => ServerStream::Left(io),
        Some(acceptor) => {
            let accepted = accept_tls(io, acceptor, limits.request_timeout).await;
            accepted.inspect_err(|error| {
                tracing::debug!(client = %address, %error, "TLS handshake failed");
            })?
        }
    };
    let stream = GuardedStream::new(stream, limits, slot);
    Ok((stream, Protocol::Http1, peer))
}

/// Connection as the HTTP service takes it.
type GuardedConnection = (
    GuardedStream<ServerStream>,
    Protocol,
    Option<std::net::SocketAddr>,
);

fn worker_count(configured: usize) -> usize {
    if configured > 0 {
        configured
    } else {
        thread::available_parallelism().map_or(1, usize::from)
    }
}

fn to_keep_alive(timeout: Duration) -> KeepAlive {
    if timeout.is_zero() {
        KeepAlive::Disabled
    } else {
        KeepAlive::Timeout(timeout)
    }
}
