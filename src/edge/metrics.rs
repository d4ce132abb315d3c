//! `GET /metrics`: counters, histograms and the state of the node for a monitoring system.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::time::timeout;

use super::access;
use super::context::RequestContext;
use super::docs::endpoint::EndpointDoc;
use super::error::ApiError;
use super::gate::NodeCore;
use super::state::Edge;
use crate::event::Timestamp;
use crate::log_sink;
use crate::metrics::{GaugeSheet, OPENMETRICS_TYPE};
use crate::subscriber::DeliveryOverview;
use crate::token::AccessOperation;

const TAG: &str = "Node";

/// Longest wait for the router's answer. A stage that is stuck must not hide the other metrics.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Subscribers whose backlog has a row of its own, the largest ones. A monitoring system pays for
/// each row it has ever seen, so they must be few; `hookyard_backlog` is the sum of all.
const BACKLOG_ROWS_MAX: usize = 20;

/// Handles `GET /metrics`. Open to anyone unless `telemetry.metrics_token` is set.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let edge = &context.edge;
    let token = &edge.config.telemetry.metrics_token;
    if !token.is_empty() && !access::carries_token(&context.request, token).unwrap_or_default() {
        context.call.note_operation(AccessOperation::MetricsRead);
        context.authorize(AccessOperation::MetricsRead)?;
    }

    let gauges = read_gauges(edge).await;
    let text = edge.metrics.to_text(&gauges);

    let mut response = HttpResponse::Ok().body(text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Reads the state of the node. Without an open store only what needs none is there.
async fn read_gauges(edge: &Edge) -> GaugeSheet {
    let mut gauges = GaugeSheet::default();
    let core = edge.gate.current();
    gauges.add(
        "ready",
        "1 if the node accepts events, as /readyz says",
        if core.is_some() || edge.gate.leader().is_some() {
            1.0
        } else {
            0.0
        },
    );
    if edge.config.cluster.is_some() {
        gauges.add(
            "cluster_leader",
            "1 if this node leads its cluster",
            if edge.gate.opened().is_some() {
                1.0
            } else {
                0.0
            },
        );
    }
    gauges.add_counter(
        "log_lines_lost",
        "Log lines that were dropped, because standard error took none or failed",
        log_sink::lost_lines(),
    );
    let tls = edge.config.server.tls.as_ref();
    if let Some(life) = tls.and_then(|tls| tls.life(edge.clock.wall())) {
        gauges.add(
            "certificate_expiry_seconds",
            "Rest of the life of the node's own certificate",
            life.as_secs_f64(),
        );
    }
    add_storage_gauges(&mut gauges, edge).await;
    if let Some(core) = core {
        add_core_gauges(&mut gauges, &core, edge.clock.wall()).await;
    }
    gauges
}

async fn add_core_gauges(gauges: &mut GaugeSheet, core: &NodeCore, now: Timestamp) {
    gauges.add(
        "projection_lag",
        "Durable records that reads do not show yet",
        core.router.projection_lag() as f64,
    );
    let live_entities = timeout(ANSWER_LIMIT, core.router.count_live_entities()).await;
    if let Ok(count) = live_entities {
        gauges.add("live_entities", "Entities in memory", count as f64);
    }
    gauges.add(
        "dead_letters",
        "Deliveries that were given up and wait for a person",
        core.subscribers.dead_letters().count_all() as f64,
    );

    let overview = core.subscribers.overview().await;
    let answers = [
        ("router", live_entities.is_ok()),
        ("delivery", overview.is_ok()),
    ];
    gauges.add_labelled(
        "stage_answers",
        "1 if the stage answers within a second; the metrics of one that does not are left out",
        "stage",
        answers.map(|(stage, answers)| (stage.to_owned(), f64::from(u8::from(answers)))),
    );
    if let Ok(overview) = overview {
        add_delivery_gauges(gauges, &overview, now);
    }
}

fn add_delivery_gauges(gauges: &mut GaugeSheet, overview: &DeliveryOverview, now: Timestamp) {
    gauges.add(
        "backlog",
        "Records that wait for a subscriber: queued, behind stopped lanes, or not yet matched",
        overview.backlog as f64,
    );
    let largest = overview.largest_backlogs(BACKLOG_ROWS_MAX);
    gauges.add_labelled(
        "subscriber_backlog",
        "Records that wait, for the subscribers with the largest backlogs",
        "subscriber",
        largest
            .into_iter()
            .map(|(id, stats)| (id.to_string(), stats.backlog() as f64)),
    );
    if let Some(age) = oldest_owed_age(overview, now) {
        gauges.add(
            "oldest_owed_seconds",
            "Age of the oldest event that an active subscriber is owed",
            age.as_secs_f64(),
        );
    }
    gauges.add(
        "breakers_open",
        "Circuit breakers that are open or half-open",
        overview.open_breakers().len() as f64,
    );
    gauges.add(
        "deliveries_in_flight",
        "Delivery attempts that are running",
        overview.in_flight as f64,
    );
    gauges.add(
        "lanes_stopped",
        "Lanes that wait for a retry or are halted by a dead letter",
        overview.stopped_lanes as f64,
    );
}

/// Returns the age of the oldest event that is owed, zero if nothing is. `None` if it cannot be read: an
/// unknown age must not pass for a young one.
fn oldest_owed_age(overview: &DeliveryOverview, now: Timestamp) -> Option<Duration> {
    match (&overview.oldest_owed, overview.oldest_owed_at) {
        (None, _) => Some(Duration::ZERO),
        (Some(_), received_at) => Some(now.distance(received_at?)),
    }
}

/// Adds the sizes of the data folder and its disk, unless they cannot be read.
async fn add_storage_gauges(gauges: &mut GaugeSheet, edge: &Edge) {
    let folder = &edge.config.store.path;
    let Some(sizes) = edge.storage.read_sizes(folder).await else {
        return;
    };
    if let Some((free, _)) = sizes.disk {
        gauges.add(
            "disk_free_bytes",
            "Free bytes of the disk that holds the data folder",
            free as f64,
        );
    }
    gauges.add_labelled(
        "store_bytes",
        "Bytes of the data folder: the journal, the data derived from it, and all else",
        "part",
        sizes
            .parts
            .into_iter()
            .map(|(part, bytes)| (part.to_owned(), bytes as f64)),
    );
}

/// Describes `/metrics` for the OpenAPI description.
pub(super) fn describe() -> EndpointDoc {
    EndpointDoc::new(TAG, "getMetrics", "Read the metrics of the node")
        .about(
            "Counters, histograms and gauges in the format OpenMetrics 1.0, which Prometheus reads. Open to anyone, \
             unless `telemetry.metrics_token` is set: then the call carries that token, or the admin's, as bearer token.",
        )
        .refuses(401, "unauthorized", "a valid bearer token is required")
        .limits_failures()
        .answers_in(
            "application/openmetrics-text",
            200,
            "All metrics.",
            "# HELP hookyard_ready 1 if the node accepts events, as /readyz says.\n# TYPE hookyard_ready gauge\nhookyard_ready 1\n# EOF\n",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;
    use crate::subscriber::SubscriberId;

    /// An event whose time could not be read had the age 0, so the alert about late events stayed silent.
    #[test]
    fn an_age_that_cannot_be_read_is_left_out() {
        let now = Timestamp::from_micros(9_000_000);
        let idle = DeliveryOverview::default();
        assert_eq!(oldest_owed_age(&idle, now), Some(Duration::ZERO));
        let mut owing = DeliveryOverview {
            oldest_owed: Some((SubscriberId::AutoReply, Position::new(7))),
            ..idle
        };
        assert_eq!(oldest_owed_age(&owing, now), None);
        owing.oldest_owed_at = Some(Timestamp::from_micros(4_000_000));
        let age = Duration::from_secs(5);
        assert_eq!(oldest_owed_age(&owing, now), Some(age));
    }
}
