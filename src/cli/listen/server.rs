//! The receiver itself: takes what is posted to it, judges it, and answers as it was told to.

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

/// The most bytes of a delivery: twice what a node takes in by default.
const BODY_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Connections at once.
const CONNECTIONS_MAX: usize = 1024;

/// Lines that may wait to be written. When they are more, deliveries wait too.
pub(super) const LINES_MAX: usize = 1024;

/// What all requests share.
#[derive(Debug)]
pub(super) struct ListenerContext {
    pub(super) keys: ListenerKeys,
    pub(super) behaviour: AnswerBehaviour,
    clock: SystemClock,
    state: Mutex<ListenerTally>,
    lines: mpsc::Sender<ReportLine>,
}

/// What came so far.
#[derive(Debug, Default)]
struct ListenerTally {
    book: OrderTracker,
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
            behaviour,
            clock: SystemClock::default(),
            state: Mutex::default(),
            lines,
        }
    }

    /// What all deliveries come to, and of how many entities they were.
    pub(super) fn totals(&self) -> (ReportTotals, u64) {
        let state = self.lock_tally();
        (state.totals, state.book.entity_count())
    }

    fn lock_tally(&self) -> MutexGuard<'_, ListenerTally> {
        self.state.lock()
    }
}

/// Serves on `listener` until the server is stopped.
///
/// # Errors
/// Those of setting up the listener.
pub(super) fn serve_receiver(
    desk: Arc<ListenerContext>,
    listener: TcpListener,
) -> io::Result<Server> {
    let data = Data::from(desk);
    let app = move || {
        App::new()
            .app_data(data.clone())
            .default_service(web::route().to(receive_delivery))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        // Whoever hangs up gives up: a delivery that nobody waits for is not accepted.
        .h1_allow_half_closed(false)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

async fn receive_delivery(
    request: HttpRequest,
    payload: Payload,
    desk: Data<ListenerContext>,
) -> HttpResponse {
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed()
            .insert_header((ALLOW, "POST"))
            .finish();
    }
    let Ok(Ok(body)) = payload.to_bytes_limited(BODY_MAX_BYTES).await else {
        return HttpResponse::PayloadTooLarge().finish();
    };
    let in_hand = PendingListenerAnswer::new(desk.into_inner(), &request, &body);
    in_hand.pause().await;
    let status = in_hand.answer().await;
    HttpResponse::build(status).finish()
}

/// A delivery that is being answered. Dropped before its answer, it was given up by its sender.
struct PendingListenerAnswer {
    desk: Arc<ListenerContext>,
    at: Timestamp,
    signatures: Vec<DeliverySignatureCheck>,
    arrived: ListenArrival,
    /// Taken when it is answered.
    delivery: Option<ListenerDelivery>,
}

impl PendingListenerAnswer {
    fn new(desk: Arc<ListenerContext>, request: &HttpRequest, body: &Bytes) -> Self {
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
        let at = desk.clock.wall();
        let (delivery, signatures) = (
            ListenerDelivery::from_request(&request),
            desk.keys.check_signatures(&request, at),
        );
        let arrived = match delivery.entity_and_sequence() {
            Some((entity, sequence)) => {
                desk.lock_tally()
                    .book
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
            desk,
            at,
            signatures,
            arrived,
            delivery: Some(delivery),
        }
    }

    /// As long as an answer takes here.
    async fn pause(&self) {
        let delay = self.desk.behaviour.delay;
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
            .desk
            .behaviour
            .choose_status(&name, self.arrived.attempt);
        if let Some(line) = self.finish(ListenOutcome::Answered(status)) {
            // Whoever reads the lines is gone only when this is about to stop.
            let _ = self.desk.lines.send(line).await;
        }
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Takes in how it ended, and gives what is to be said of it, once.
    fn finish(&mut self, end: ListenOutcome) -> Option<ReportLine> {
        let delivery = self.delivery.take()?;
        let place = delivery.entity_and_sequence();
        let line = ReportLine {
            at: self.at,
            delivery,
            signatures: std::mem::take(&mut self.signatures),
            is_checked: !self.desk.keys.is_empty(),
            mark: self.arrived.mark,
            attempt: self.arrived.attempt,
            end,
        };
        let mut state = self.desk.lock_tally();
        let is_new = match place {
            Some((entity, sequence)) => {
                state
                    .book
                    .record_end(&entity, sequence, end.is_accepted(), self.arrived.mark)
            }
            None => end.is_accepted(),
        };
        state.totals.add_line(&line, is_new);
        Some(line)
    }
}

impl Drop for PendingListenerAnswer {
    fn drop(&mut self) {
        if let Some(line) = self.finish(ListenOutcome::GivenUp) {
            // It is counted; if so many lines wait already, this one is not missed.
            let _ = self.desk.lines.try_send(line);
        }
    }
}
