//! Task that exports the spans of the queue in batches. It may lose spans, and never delays a stage.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, redirect};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{info, warn};

use super::otlp::encode_export;
use super::sink::{AcceptReport, TraceReport, TraceSink};
use super::span::FinishedSpan;
use crate::config::{Secret, TelemetryConfig};
use crate::metrics::NodeMetrics;

/// Reports of one batch: about 300 KB as JSON.
const BATCH_MAX: usize = 512;

/// Longest time for which a span waits until its batch is exported.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest time of one export. A collector on the same network takes milliseconds.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the one further try of a batch that a busy collector did not take. Reports wait in the
/// queue meanwhile, which is bounded.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Longest time for the last export when the node stops.
const LAST_EXPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Answers after which OTLP over HTTP asks the client to try again.
const RETRYABLE: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Failure to set up the HTTP client of the exporter.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client of traces")]
pub struct ExporterSetupError(#[from] reqwest::Error);

/// Failure of one export, whose spans are lost.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("the collector cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the collector answered {0}")]
    Refused(StatusCode),
}

/// Handle of the task that exports spans.
pub struct SpanExporter {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SpanExporter {
    /// Starts the task on the current actix system, and returns the sink that it empties; `None`, and
    /// a sink that keeps nothing, if `config` names no collector.
    ///
    /// # Errors
    /// [`ExporterSetupError`] when TLS cannot be set up.
    pub fn start(
        config: &TelemetryConfig,
        metrics: &Arc<NodeMetrics>,
    ) -> Result<(Option<Self>, TraceSink), ExporterSetupError> {
        let Some(endpoint) = &config.otlp_endpoint else {
            return Ok((None, TraceSink::default()));
        };
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(EXPORT_TIMEOUT)
            // Directly: a proxy of the environment is meant for hosts outside.
            .no_proxy()
            .default_headers(export_headers(&config.otlp_headers))
            .user_agent(concat!("Hookyard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let (sender, queue) = mpsc::channel(config.otlp_queue_spans);
        let sink = TraceSink::new(sender, config.otlp_sampling_ratio, Arc::clone(metrics));
        let (stop, stopping) = watch::channel(false);
        let export = SpanExport {
            client,
            url: format!("{endpoint}/v1/traces"),
            instance: generate_instance_id(),
            sink: sink.clone(),
            metrics: Arc::clone(metrics),
            late: Vec::new(),
            is_failing: false,
        };
        let task = actix_rt::spawn(export.run(queue, stopping));
        Ok((Some(Self { stop, task }), sink))
    }

    /// Ends the task after a last export, for which it waits a little.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // The panic hook has logged a panic of the task, and what it held is lost either way.
        let _ = self.task.await;
    }
}

/// State of the task that exports.
struct SpanExport {
    client: Client,
    url: String,
    /// Id of this process, by which a collector tells several nodes apart.
    instance: String,
    sink: TraceSink,
    metrics: Arc<NodeMetrics>,
    /// Accepted events whose commits were not known at the last export.
    late: Vec<AcceptReport>,
    is_failing: bool,
}

impl SpanExport {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<TraceReport>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let room = BATCH_MAX - batch.len();
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                _ = queue.recv_many(&mut batch, room), if room > 0 => {
                    if batch.len() < BATCH_MAX {
                        continue;
                    }
                }
                _ = ticks.tick() => {}
            }
            let spans = self.take_spans(&mut batch);
            self.export(spans).await;
        }

        queue.close();
        while let Ok(report) = queue.try_recv() {
            batch.push(report);
        }
        // Twice: what is late now waits for nothing any more.
        let mut spans = self.take_spans(&mut batch);
        spans.extend(self.take_spans(&mut batch));
        if timeout(LAST_EXPORT_PATIENCE, self.export(spans))
            .await
            .is_err()
        {
            info!("last traces were not exported in time");
        }
    }

    /// Makes the spans of `batch`. The answer to a sender may be reported before its commit: such an
    /// event waits for the next export.
    fn take_spans(&mut self, batch: &mut Vec<TraceReport>) -> Vec<FinishedSpan> {
        let mut spans = Vec::with_capacity(batch.len() * 2);
        for accepted in std::mem::take(&mut self.late) {
            spans.extend(self.sink.commit_span(&accepted));
            spans.push(accepted.span);
        }
        for report in batch.drain(..) {
            match report {
                TraceReport::Delivery(span) => spans.push(*span),
                TraceReport::Accept(accepted) => match self.sink.commit_span(&accepted) {
                    Some(commit) => spans.extend([accepted.span, commit]),
                    None => self.late.push(*accepted),
                },
            }
        }
        spans
    }

    async fn export(&mut self, spans: Vec<FinishedSpan>) {
        if spans.is_empty() {
            return;
        }
        match self.post_twice(encode_export(&spans, &self.instance)).await {
            Ok(()) => {
                self.metrics.count_trace_spans("exported", spans.len());
                if self.is_failing {
                    info!("traces are exported again");
                }
                self.is_failing = false;
            }
            Err(error) => {
                self.metrics.count_trace_spans("failed", spans.len());
                // One line for each stretch of failures: the counter tells how long it lasts.
                if !self.is_failing {
                    let error: &dyn Error = &error;
                    warn!(error, "traces could not be exported; their spans are lost");
                }
                self.is_failing = true;
            }
        }
    }

    /// Posts `body`, and once more if the collector asks for that, as OTLP says.
    async fn post_twice(&self, body: Vec<u8>) -> Result<(), ExportError> {
        match self.post(body.clone()).await {
            Err(ExportError::Refused(status)) if RETRYABLE.contains(&status) => {
                sleep_until(Instant::now() + RETRY_PAUSE).await;
                self.post(body).await
            }
            result => result,
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), ExportError> {
        let request = self.client.post(&self.url);
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await;
        let answer = answer.map_err(|error| ExportError::Unreachable(error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ExportError::Refused(status)),
        }
    }
}

/// Splits `lines`, which the configuration has checked, into headers whose values no log shows.
fn export_headers(lines: &[Secret]) -> HeaderMap {
    let parse = |line: &Secret| {
        let (name, value) = line.expose().split_once(':')?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    lines.iter().filter_map(parse).collect()
}

/// Makes the random id of this process.
fn generate_instance_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
    hex::encode(bytes)
}
