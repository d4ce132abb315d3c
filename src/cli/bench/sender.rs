//! Senders: connections that stay open, each with one event under way, on threads of their own. An
//! event is sent again, with the same key, until it is answered.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::RETRY_AFTER;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::dispatch::{EventDispatcher, NextEvent};
use super::error::BenchError;
use super::ledger::BenchLedger;
use super::machine::count_cores;
use super::pause::pause;
use super::target::{AnswerMeaning, EventTarget, ServerAddress, choose_pause};
use super::traffic::{PlannedEvent, PlannedTraffic, TrafficShape};
use crate::cli::terminal_text::sanitize_text;
use crate::clock::{Clock, SystemClock};
use crate::error_chain::format_error_chain;
use crate::retry_after::parse_retry_after;

/// Time for one answer, after which the connection is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest part of an answer's body that is read.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Most threads; one of them drives tens of thousands of requests a second.
const THREADS_MAX: usize = 8;

/// Settings that all senders of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderSettings {
    pub(super) shape: TrafficShape,
    pub(super) connections: usize,
    /// Events a second over all connections; `None` sends as fast as answers come.
    pub(super) rate: Option<f64>,
    /// Longest time in which an event may stay unanswered.
    pub(super) patience: Duration,
}

/// State that all connections share.
struct SenderContext {
    target: EventTarget,
    settings: SenderSettings,
    ledger: Arc<BenchLedger>,
    dispatcher: Mutex<EventDispatcher>,
    /// Wakes a connection when an event may have become free.
    wake: Notify,
    tls: Option<TlsConnector>,
    clock: SystemClock,
}

/// Senders that are running, on their threads.
pub(super) struct SenderPool {
    context: Arc<SenderContext>,
    outcomes: Vec<oneshot::Receiver<Result<(), BenchError>>>,
}

impl SenderPool {
    /// Starts the threads with all connections.
    pub(super) fn start(
        target: EventTarget,
        settings: SenderSettings,
        ledger: Arc<BenchLedger>,
    ) -> Result<Self, BenchError> {
        let tls = match target.server.is_tls {
            true => Some(build_tls_connector()?),
            false => None,
        };
        let context = Arc::new(SenderContext {
            target,
            settings,
            ledger,
            dispatcher: Mutex::new(EventDispatcher::new(PlannedTraffic::new(settings.shape))),
            wake: Notify::new(),
            tls,
            clock: SystemClock::default(),
        });

        // Receivers and the node need the other cores.
        let threads = (count_cores() / 2).clamp(1, THREADS_MAX);
        let threads = threads.min(settings.connections);
        let mut outcomes = Vec::new();
        for number in 0..threads {
            let (connections, rest) = (
                settings.connections / threads,
                settings.connections % threads,
            );
            let connections = connections + usize::from(number < rest);
            let (sender, outcome) = oneshot::channel();
            let context = Arc::clone(&context);
            thread::Builder::new()
                .name(format!("bench-sender-{number}"))
                .spawn(move || {
                    // Nobody waits for the outcome if another thread failed before.
                    let _ = sender.send(run_connections(context, connections));
                })
                .map_err(BenchError::Threads)?;
            outcomes.push(outcome);
        }
        Ok(Self { context, outcomes })
    }

    /// Returns a handle that ends the sending early.
    pub(super) fn stop_handle(&self) -> impl Fn() + 'static {
        let context = Arc::clone(&self.context);
        move || context.stop()
    }

    /// Waits until every event is answered.
    pub(super) async fn wait(self) -> Result<(), BenchError> {
        for outcome in self.outcomes {
            let outcome = outcome.await.unwrap_or(Err(BenchError::Panicked));
            if outcome.is_err() {
                self.context.stop();
                return outcome;
            }
        }
        Ok(())
    }
}

/// Drives `connections` connections on this thread.
fn run_connections(context: Arc<SenderContext>, connections: usize) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Threads)?;
    runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(run_connection(Arc::clone(&context))))
            .collect();
        let mut outcome = Ok(());
        for task in tasks {
            let ended = task.await.unwrap_or(Err(BenchError::Panicked));
            if ended.is_err() {
                // The other connections end after their event.
                context.stop();
            }
            outcome = outcome.and(ended);
        }
        outcome
    })
}

/// Sends events on one connection until none is left.
async fn run_connection(context: Arc<SenderContext>) -> Result<(), BenchError> {
    let mut connection = SenderConnection {
        context: &context,
        open: None,
    };
    loop {
        let next = context.dispatcher.lock().next_event();
        match next {
            NextEvent::Send(event) => {
                let due = context.wait_until_due(event).await;
                context.ledger.record_sending(event, due);
                let sent = connection.send_until_answered(event).await;
                if let Err(error) = sent {
                    context.stop();
                    return Err(error);
                }
                context.ledger.record_answer(event, due);
                context.dispatcher.lock().finish_event(event.entity);
                context.wake.notify_one();
            }
            NextEvent::Wait => context.wake.notified().await,
            NextEvent::Finish => {
                // The next one finishes too, and wakes another in turn.
                context.wake.notify_one();
                return Ok(());
            }
        }
    }
}

impl SenderContext {
    fn stop(&self) {
        self.dispatcher.lock().stop();
        self.wake.notify_one();
    }

    /// Waits for the time at which `event` is due, and returns it. Latencies count from it, so that
    /// a target which makes its sender wait does not look fast.
    async fn wait_until_due(&self, event: PlannedEvent) -> Duration {
        let now = self.ledger.now();
        let Some(rate) = self.settings.rate else {
            return now;
        };
        let due = Duration::from_secs_f64(event.index as f64 / rate);
        if due > now {
            pause(due - now).await;
        }
        due
    }
}

/// One connection, which is opened again when it is lost.
struct SenderConnection<'a> {
    context: &'a SenderContext,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// Answer of the target to one request.
struct TargetAnswer {
    status: StatusCode,
    /// Pause that the target asks for.
    retry_after: Option<Duration>,
    body: Bytes,
}

impl SenderConnection<'_> {
    /// Sends `event` again and again until it is acknowledged.
    async fn send_until_answered(&mut self, event: PlannedEvent) -> Result<(), BenchError> {
        let SenderContext {
            target,
            settings,
            ledger,
            ..
        } = self.context;
        let began = ledger.now();
        let mut failures = 0;
        loop {
            let request = target.build_request(event, &settings.shape, &self.context.clock)?;
            let answer = timeout(ANSWER_TIMEOUT, self.exchange(request)).await;
            let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let (problem, asked) = match answer {
                Ok(answer) => match target.judge_answer(answer.status, failures > 0) {
                    AnswerMeaning::Accepted => return Ok(()),
                    AnswerMeaning::KnownAlready => {
                        ledger.record_known_already();
                        return Ok(());
                    }
                    AnswerMeaning::KeyInUse => {
                        let key = target.event_key(event);
                        return Err(BenchError::KeyInUse { key });
                    }
                    AnswerMeaning::Refused => {
                        let body = sanitize_text(&String::from_utf8_lossy(&answer.body));
                        let status = answer.status;
                        return Err(BenchError::Refused { status, body });
                    }
                    AnswerMeaning::Retry => {
                        ledger.record_retry(Some(answer.status.as_u16()));
                        (answer.status.to_string(), answer.retry_after)
                    }
                },
                Err(problem) => {
                    self.open = None;
                    ledger.record_retry(None);
                    (problem, None)
                }
            };
            failures += 1;
            if ledger.now().saturating_sub(began) > settings.patience {
                let after_s = settings.patience.as_secs();
                return Err(BenchError::NoAnswer { after_s, problem });
            }
            pause(choose_pause(failures, asked)).await;
        }
    }

    /// Sends one request and reads its answer.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<TargetAnswer, String> {
        let describe = |error: hyper::Error| format_error_chain(&error);
        let mut open = match self.open.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => self.connect().await?,
        };
        open.ready().await.map_err(describe)?;
        let answer = open.send_request(request).await.map_err(describe)?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, self.context.clock.wall()));
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect();
        let body = body.await.map_err(|error| error.to_string())?.to_bytes();
        self.open = Some(open);
        Ok(TargetAnswer {
            status,
            retry_after,
            body,
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let ServerAddress { host, port, .. } = &self.context.target.server;
        let describe = |error: std::io::Error| format_error_chain(&error);
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(describe)?;
        stream.set_nodelay(true).map_err(describe)?;
        let Some(tls) = &self.context.tls else {
            return open_http(TokioIo::new(stream)).await;
        };
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await.map_err(describe)?;
        open_http(TokioIo::new(stream)).await
    }
}

async fn open_http<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let opened = handshake(stream).await;
    let (sender, connection) = opened.map_err(|error| format_error_chain(&error))?;
    // A failure of the connection shows at the request.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn build_tls_connector() -> Result<TlsConnector, BenchError> {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
