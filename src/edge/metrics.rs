//! `GET /metrics`: counters, histograms and the state of the node for a monitoring system.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::access;
use super::context::RequestContext;
use super::docs::endpoint::EndpointDoc;
use super::error::ApiError;
use super::gate::NodeCore;
use super::state::Edge;
use crate::log_sink;
use crate::metrics::{GaugeSheet, OPENMETRICS_TYPE};
use crate::token::AccessOperation;

const TAG: &str = "Node";

/// Longest wait for a stage's answer. A stage that is stuck must not hide the other metrics.
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

/// Reads the state of the node. Without an open store only the first two are there.
async fn read_gauges(edge: &Edge) -> GaugeSheet {
    let mut gauges = GaugeSheet::default();
    let core = edge.gate.current();
    gauges.add(
        "ready",
        "1 if the node accepts events, as /readyz says",
        if core.is_some() { 1.0 } else { 0.0 },
    );
    gauges.add(
        "log_lines_lost",
        "Log lines that were dropped, because standard error took none or failed",
        log_sink::lost_lines() as f64,
    );
    if let Some(core) = core {
        add_core_gauges(&mut gauges, &core).await;
        add_store_size(&mut gauges, &edge.config.store.path).await;
    }
    gauges
}

async fn add_core_gauges(gauges: &mut GaugeSheet, core: &NodeCore) {
    gauges.add(
        "projection_lag",
        "Durable records that reads do not show yet",
        core.router.projection_lag() as f64,
    );
    if let Ok(count) = timeout(ANSWER_LIMIT, core.router.count_live_entities()).await {
        gauges.add("live_entities", "Entities in memory", count as f64);
    }
    gauges.add(
        "dead_letters",
        "Deliveries that were given up and wait for a person",
        core.subscribers.dead_letters().count_all() as f64,
    );

    let overview = timeout(ANSWER_LIMIT, core.subscribers.overview(BACKLOG_ROWS_MAX)).await;
    let Ok(Some(overview)) = overview else {
        return;
    };
    gauges.add(
        "backlog",
        "Records that are queued for a subscriber or not yet matched for it, all subscribers",
        overview.backlog as f64,
    );
    gauges.add_labelled(
        "subscriber_backlog",
        "Records that are queued or not yet matched, for the subscribers with the largest backlogs",
        "subscriber",
        overview
            .largest_backlogs
            .into_iter()
            .map(|(id, backlog)| (id.to_string(), backlog as f64)),
    );
    gauges.add(
        "breakers_open",
        "Circuit breakers that are open or half-open",
        overview.open_breakers as f64,
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

/// Adds the size of the data folder, unless it cannot be read.
async fn add_store_size(gauges: &mut GaugeSheet, folder: &Path) {
    let folder = folder.to_owned();
    let Ok(Ok(sizes)) = spawn_blocking(move || read_folder_sizes(&folder)).await else {
        return;
    };
    gauges.add_labelled(
        "store_bytes",
        "Bytes of the data folder: the journal, the data derived from it, and all else",
        "part",
        sizes
            .into_iter()
            .map(|(part, bytes)| (part.to_owned(), bytes as f64)),
    );
}

/// Sums the sizes of the files below `folder`, by part.
pub(super) fn read_folder_sizes(folder: &Path) -> io::Result<[(&'static str, u64); 3]> {
    let mut sizes = [("journal", 0), ("derived", 0), ("other", 0)];
    let (mut folders, mut is_top) = (vec![(folder.to_owned(), 2)], true);
    while let Some((folder, part)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A file may go between the two calls, as segments and sled's files do.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                let known = |(name, _): &(&str, u64)| is_top && entry.file_name() == *name;
                let part = sizes.iter().position(known).unwrap_or(part);
                folders.push((entry.path(), part));
            } else {
                sizes[part].1 += metadata.len();
            }
        }
        is_top = false;
    }
    Ok(sizes)
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

    #[test]
    fn sizes_are_summed_by_the_folder_at_the_top() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, bytes) in [
            ("journal/1", 3),
            ("derived/blobs/journal/1", 5),
            ("LOCK", 7),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, vec![0; bytes]).expect("written");
        }
        let sizes = read_folder_sizes(folder.path()).expect("reads");
        assert_eq!(sizes, [("journal", 3), ("derived", 5), ("other", 7)]);
    }
}
