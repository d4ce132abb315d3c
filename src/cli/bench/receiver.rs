//! Receivers of the benchmark: subscribers that record each delivery, and that fail, hang or restart
//! if asked to.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Bytes, Data, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use clap::ValueEnum;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::error::BenchError;
use super::ledger::BenchLedger;
use super::pause::pause;
use super::target::parse_entity_id;
use super::traffic::SeededRandom;
use crate::clock::{Clock, SystemClock};
use crate::config::Secret;
use crate::provider::{ProviderPreset, RequestView, VerificationKey, find_preset};

/// Largest delivery, in bytes: twice the default body limit of a node.
const BODY_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Most open connections of one server.
const CONNECTIONS_MAX: usize = 1024;

/// Share of attempts that a failing subscriber answers with 500.
const FAIL_SHARE: f64 = 0.02;

/// Share of attempts that a hanging subscriber leaves unanswered, and the time after which it gives
/// them up itself.
const HANG_SHARE: f64 = 0.001;
const HANG_TIME: Duration = Duration::from_secs(60);

/// Times for which a restarting subscriber is there and away, by turns.
const UP_TIME: Duration = Duration::from_secs(3);
const DOWN_TIME: Duration = Duration::from_secs(1);

/// Largest difference between the signed time of a delivery and the clock.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Fault of a subscriber, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum SubscriberFault {
    /// Answers one of 50 attempts with 500
    Fail,
    /// Leaves one of 1,000 attempts unanswered
    Hang,
    /// Is away for a second after every three
    Restart,
}

impl SubscriberFault {
    /// Name of the fault, as on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Restart => "restart",
        }
    }
}

/// Places in a delivery that name its event.
#[derive(Clone, Debug)]
pub(super) struct DeliveryReading {
    /// JSON pointers to the entity's id and the number.
    pub(super) entity: String,
    pub(super) number: String,
    /// Header with an id that is the same in each attempt at one delivery.
    pub(super) id_header: Option<String>,
    /// Begin of the ids of this run's entities.
    pub(super) label: String,
    /// Secret of the signatures by Standard Webhooks; `None` checks none.
    pub(super) secret: Option<Secret>,
}

impl DeliveryReading {
    /// Finds the entity and the number of the event in `body`.
    pub(super) fn find_event(&self, body: &Value) -> Option<(u32, u64)> {
        let entity = body.pointer(&self.entity)?.as_str()?;
        let number = body.pointer(&self.number)?;
        let number = match number {
            Value::String(text) => text.parse().ok()?,
            other => other.as_u64()?,
        };
        Some((parse_entity_id(entity, &self.label)?, number))
    }

    /// Tells if `body` is about an entity that another run, or another sender, sent.
    fn is_of_another_run(&self, body: &Value) -> bool {
        let entity = body.pointer(&self.entity).and_then(Value::as_str);
        entity.is_some_and(|entity| {
            let rest = entity.strip_prefix(&self.label);
            !rest.is_some_and(|rest| rest.starts_with('-'))
        })
    }
}

/// State that the handlers share.
struct ReceiverContext {
    ledger: Arc<BenchLedger>,
    reading: DeliveryReading,
    keys: Vec<VerificationKey>,
    faults: Vec<Option<SubscriberFault>>,
    /// Attempts at each subscriber so far.
    attempts: Vec<AtomicU64>,
    seed: u64,
    clock: SystemClock,
}

/// Running receivers. They need an actix system around them.
pub(super) struct BenchReceivers {
    urls: Vec<String>,
    handles: Vec<Arc<Mutex<ServerHandle>>>,
}

impl BenchReceivers {
    /// Starts one receiver for each of `faults`. `public_url` replaces the address in the URLs to
    /// deliver to.
    pub(super) fn start(
        bind: SocketAddr,
        public_url: Option<&str>,
        faults: &[Option<SubscriberFault>],
        reading: DeliveryReading,
        seed: u64,
        ledger: Arc<BenchLedger>,
    ) -> Result<Self, BenchError> {
        let keys = reading
            .secret
            .as_ref()
            .and_then(|secret| VerificationKey::from_standard(secret.expose()).ok());
        let context = Data::new(ReceiverContext {
            ledger,
            reading,
            keys: keys.into_iter().collect(),
            faults: faults.to_vec(),
            attempts: faults.iter().map(|_| AtomicU64::new(0)).collect(),
            seed,
            clock: SystemClock::default(),
        });
        let mut receivers = Self {
            urls: Vec::new(),
            handles: Vec::new(),
        };
        let mut shared = None;
        for (number, fault) in faults.iter().enumerate() {
            let address = match (fault, shared) {
                // Restarts stop a whole server, so it has one of its own on another port.
                (Some(SubscriberFault::Restart), _) => {
                    let any_port = SocketAddr::new(bind.ip(), 0);
                    receivers.start_server(&context, any_port, true)?
                }
                (_, Some(address)) => address,
                (_, None) => *shared.insert(receivers.start_server(&context, bind, false)?),
            };
            let base = match public_url {
                Some(url) => url.trim_end_matches('/').to_owned(),
                None => format!("http://{address}"),
            };
            receivers.urls.push(format!("{base}/{number}"));
        }
        Ok(receivers)
    }

    /// Returns the URL of each receiver.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    pub(super) async fn stop(self) {
        for handle in self.handles {
            let handle = handle.lock().clone();
            handle.stop(false).await;
        }
    }

    fn start_server(
        &mut self,
        context: &Data<ReceiverContext>,
        bind: SocketAddr,
        restarts: bool,
    ) -> Result<SocketAddr, BenchError> {
        let started = TcpListener::bind(bind).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((serve(context, listener)?, address))
        });
        let (server, address) = started.map_err(|source| BenchError::Listen {
            address: bind.to_string(),
            source,
        })?;
        let handle = Arc::new(Mutex::new(server.handle()));
        actix_rt::spawn(server);
        if restarts {
            actix_rt::spawn(restart_again_and_again(
                context.clone(),
                address,
                Arc::clone(&handle),
            ));
        }
        self.handles.push(handle);
        Ok(address)
    }
}

fn serve(context: &Data<ReceiverContext>, listener: TcpListener) -> io::Result<Server> {
    let context = context.clone();
    let app = move || {
        App::new()
            .app_data(context.clone())
            .route("/{subscriber}", web::post().to(receive_delivery))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        // Without half-closed connections, a disconnect ends a handler that hangs.
        .h1_allow_half_closed(false)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Stops the server at `address` and starts it again, until the system ends.
async fn restart_again_and_again(
    context: Data<ReceiverContext>,
    address: SocketAddr,
    current: Arc<Mutex<ServerHandle>>,
) {
    loop {
        pause(UP_TIME).await;
        let handle = current.lock().clone();
        handle.stop(false).await;
        pause(DOWN_TIME).await;
        // The port may be taken meanwhile; then the next round tries again.
        let server = TcpListener::bind(address).and_then(|listener| serve(&context, listener));
        if let Ok(server) = server {
            *current.lock() = server.handle();
            actix_rt::spawn(server);
        }
    }
}

async fn receive_delivery(
    subscriber: web::Path<usize>,
    request: HttpRequest,
    payload: Payload,
    context: Data<ReceiverContext>,
) -> HttpResponse {
    let subscriber = subscriber.into_inner();
    let Some(fault) = context.faults.get(subscriber) else {
        return HttpResponse::NotFound().finish();
    };
    let Ok(Ok(body)) = payload.to_bytes_limited(BODY_MAX_BYTES).await else {
        return HttpResponse::PayloadTooLarge().finish();
    };
    if context.fails_now(subscriber, *fault) {
        context.ledger.record_failed_attempt(subscriber);
        if *fault == Some(SubscriberFault::Hang) {
            pause(HANG_TIME).await;
        }
        return HttpResponse::InternalServerError().finish();
    }

    if !context.keys.is_empty() && !context.is_rightly_signed(&request, &body) {
        context.ledger.record_wrong_signature(subscriber);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if context.reading.is_of_another_run(&body) {
        context.ledger.record_other_run();
        return HttpResponse::Ok().finish();
    }
    let event = context.reading.find_event(&body);
    let id_header = context.reading.id_header.as_deref();
    let id = id_header.and_then(|name| request.headers().get(name));
    context
        .ledger
        .record_delivery(subscriber, event, id.map(|id| id.as_bytes()));
    HttpResponse::Ok().finish()
}

impl ReceiverContext {
    /// Decides by the seed if the subscriber's next attempt fails.
    fn fails_now(&self, subscriber: usize, fault: Option<SubscriberFault>) -> bool {
        let share = match fault {
            Some(SubscriberFault::Fail) => FAIL_SHARE,
            Some(SubscriberFault::Hang) => HANG_SHARE,
            Some(SubscriberFault::Restart) | None => return false,
        };
        let attempt = self.attempts[subscriber].fetch_add(1, Ordering::Relaxed);
        SeededRandom::new(self.seed ^ (attempt << 8)).next_share() < share
    }

    fn is_rightly_signed(&self, request: &HttpRequest, body: &Bytes) -> bool {
        let headers = request.headers().iter();
        let url = request.uri().to_string();
        let view = RequestView {
            method: request.method().as_str(),
            url: &url,
            headers: headers
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect(),
            body,
        };
        let preset: &ProviderPreset = find_preset("standard").expect("it is one of them");
        preset.read_claim(&view).is_ok_and(|claim| {
            claim
                .check(&self.keys, TOLERANCE, self.clock.wall())
                .is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entity_and_number_are_found_by_pointers() {
        let reading = DeliveryReading {
            entity: "/entity/id".to_owned(),
            number: "/data/number".to_owned(),
            id_header: None,
            label: "b".to_owned(),
            secret: None,
        };
        let find = |body: Value| reading.find_event(&body);
        let body =
            |id: &str, number: Value| json!({"entity": {"id": id}, "data": {"number": number}});
        assert_eq!(find(body("b-7", json!(3))), Some((7, 3)));
        assert_eq!(find(body("b-7", json!("3"))), Some((7, 3)));
        assert_eq!(find(body("c-7", json!(3))), None, "of another run");
        assert!(reading.is_of_another_run(&body("c-7", json!(3))));
        assert!(reading.is_of_another_run(&body("b2-7", json!(3))));
        assert!(!reading.is_of_another_run(&body("b-7", json!(3))));
        assert!(
            !reading.is_of_another_run(&json!({"entity": 7})),
            "unreadable"
        );
        assert_eq!(find(body("b-7", json!(-3))), None);
        assert_eq!(find(json!([1])), None);
    }
}
