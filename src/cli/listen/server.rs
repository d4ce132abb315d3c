//! HTTP server of the listener: verifies each posted delivery and answers as configured.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::ALLOW;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, Data, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::behaviour::AnswerBehaviour;
use super::delivery::ListenerDelivery;
use super::keys::{DeliverySignatureCheck, ListenerKeys};
use super::order_tracker::{ListenArrival, OrderMark, OrderTracker};
use super::report::{ListenOutcome, ReportLine, ReportTotals};
use crate::clock::{Clock, SystemClock};
use crate::event::Timestamp;
use crate::provider::RequestView;

/// Largest delivery, in bytes: twice the default body limit of a node.
const BODY_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Most open connections of the listener.
const CONNECTIONS_MAX: usize = 1024;

/// Lines that may wait to be printed. When the channel is full, deliveries wait too.
pub(super) const LINES_MAX: usize = 1024;

/// State shared by all requests.
#[derive(Debug)]
pub(super) struct ListenerContext {
    pub(super) keys: ListenerKeys,
    behaviour: Mutex<AnswerBehaviour>,
    clock: SystemClock,
    state: Mutex<ListenerTally>,
    lines: mpsc::Sender<ReportLine>,
}

/// Order and counters of the deliveries so far.
#[derive(Debug, Default)]
struct ListenerTally {
    order: OrderTracker,
    totals: ReportTotals,
}

impl ListenerContext {
    pub(super) fn new(
        keys: ListenerKeys,
        behaviour: AnswerBehaviour,
        lines: mpsc::Sender<ReportLine>,
    ) -> Self {
        Self {
            keys,
            behaviour: Mutex::new(behaviour),
            clock: SystemClock::default(),
            state: Mutex::default(),
            lines,
        }
    }

    /// Returns the behaviour that decides the next answer.
    pub(super) fn behaviour(&self) -> AnswerBehaviour {
        *self.behaviour.lock()
    }

    /// Answers every further delivery with `status`.
    pub(super) fn answer_with(&self, status: u16) {
        self.behaviour.lock().status = status;
    }

    /// Returns the counters and the number of entities.
    pub(super) fn totals(&self) -> (ReportTotals, u64) {
        let state = self.lock_tally();
        (state.totals, state.order.entity_count())
    }

    fn lock_tally(&self) -> MutexGuard<'_, ListenerTally> {
        self.state.lock()
    }
}

/// Starts the server on `listener`.
///
/// # Errors
/// Fails if the server cannot take over the listener.
pub(super) fn serve_receiver(
    context: Arc<ListenerContext>,
    listener: TcpListener,
) -> io::Result<Server> {
    let data = Data::from(context);
    let app = move || {
        App::new()
            .app_data(data.clone())
            .default_service(web::route().to(receive_delivery))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        // Without half-closed connections, a disconnect drops the handler, so the delivery counts
        // as given up.
        .h1_allow_half_closed(false)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

async fn receive_delivery(
    request: HttpRequest,
    payload: Payload,
    context: Data<ListenerContext>,
) -> HttpResponse {
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed()
            .insert_header((ALLOW, "POST"))
            .finish();
    }
    let Ok(Ok(body)) = payload.to_bytes_limited(BODY_MAX_BYTES).await else {
        return HttpResponse::PayloadTooLarge().finish();
    };
    let pending = PendingListenerAnswer::new(context.into_inner(), &request, &body);
    pending.pause().await;
    let status = pending.answer().await;
    HttpResponse::build(status).finish()
}

/// Delivery that is not answered yet. Dropping it before the answer records that the sender gave
/// up.
struct PendingListenerAnswer {
    context: Arc<ListenerContext>,
    at: Timestamp,
    signatures: Vec<DeliverySignatureCheck>,
    arrival: ListenArrival,
    /// `None` after the end was recorded.
    delivery: Option<ListenerDelivery>,
}

impl PendingListenerAnswer {
    fn new(context: Arc<ListenerContext>, request: &HttpRequest, body: &Bytes) -> Self {
        let headers = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let url = request.uri().to_string();
        let request = RequestView {
            method: request.method().as_str(),
            url: &url,
            headers,
            body,
        };
        let at = context.clock.wall();
        let (delivery, signatures) = (
            ListenerDelivery::from_request(&request),
            context.keys.check_signatures(&request, at),
        );
        let arrival = match delivery.entity_and_sequence() {
            Some((entity, sequence)) => {
                context
                    .lock_tally()
                    .order
                    .record_arrival(&entity, sequence, delivery.is_again)
            }
            None if delivery.is_again => ListenArrival {
                mark: OrderMark::Again,
                attempt: 1,
            },
            None => ListenArrival {
                mark: OrderMark::InOrder,
                attempt: 1,
            },
        };
        Self {
            context,
            at,
            signatures,
            arrival,
            delivery: Some(delivery),
        }
    }

    /// Waits for the configured delay.
    async fn pause(&self) {
        let delay = self.context.behaviour().delay;
        if delay > Duration::ZERO {
            #[expect(
                clippy::disallowed_methods,
                reason = "it synchronises nothing: to be slow is what was asked for"
            )]
            tokio::time::sleep(delay).await;
        }
    }

    async fn answer(mut self) -> StatusCode {
        let name = self
            .delivery
            .as_ref()
            .map(ListenerDelivery::stable_name)
            .unwrap_or_default();
        let status = self
            .context
            .behaviour()
            .choose_status(&name, self.arrival.attempt);
        if let Some(line) = self.finish(ListenOutcome::Answered(status)) {
            // The receiver is closed only while the listener stops.
            let _ = self.context.lines.send(line).await;
        }
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Records the end and returns the line to print; `None` if the end was recorded before.
    fn finish(&mut self, outcome: ListenOutcome) -> Option<ReportLine> {
        let delivery = self.delivery.take()?;
        let entity_and_sequence = delivery.entity_and_sequence();
        let mut line = ReportLine {
            at: self.at,
            delivery,
            signatures: std::mem::take(&mut self.signatures),
            is_checked: !self.context.keys.is_empty(),
            mark: self.arrival.mark,
            attempt: self.arrival.attempt,
            outcome,
            is_new: false,
        };
        let mut state = self.context.lock_tally();
        line.is_new = match entity_and_sequence {
            Some((entity, sequence)) => {
                state
                    .order
                    .record_end(&entity, sequence, outcome.is_accepted(), self.arrival.mark)
            }
            None => outcome.is_accepted(),
        };
        state.totals.add_line(&line);
        Some(line)
    }
}

impl Drop for PendingListenerAnswer {
    fn drop(&mut self) {
        if let Some(line) = self.finish(ListenOutcome::GivenUp) {
            // The delivery is counted; a full channel only loses its line.
            let _ = self.context.lines.try_send(line);
        }
    }
}
