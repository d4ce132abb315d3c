//! Sink of spans: what stages tell of events that they have accepted, committed or delivered.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::commit_times::{CommitTime, CommitTimes};
use super::span::{AttributeValue, FinishedSpan, SpanKind};
use super::span_ids::{derive_accept_id, derive_commit_id, derive_trace_id};
use crate::event::{EventId, Position, Timestamp, TraceContext};
use crate::metrics::NodeMetrics;

/// Place where stages leave spans, without waiting. Cheap to clone. The default keeps none.
#[derive(Clone, Default)]
pub struct TraceSink(Option<Arc<SinkState>>);

struct SinkState {
    queue: mpsc::Sender<TraceReport>,
    commits: Mutex<CommitTimes>,
    /// Traces whose last eight bytes, as a number, are below are sampled.
    sampled_below: u64,
    metrics: Arc<NodeMetrics>,
}

/// Report of a stage, from which the exporter makes spans.
pub(super) enum TraceReport {
    /// An event was accepted; its commit has still to be found.
    Accept(Box<AcceptReport>),
    Delivery(Box<FinishedSpan>),
}

/// Accepted event with the span of its call.
pub(super) struct AcceptReport {
    pub(super) event: EventId,
    pub(super) span: FinishedSpan,
}

/// Call of a sender that was answered with success.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedCall<'a> {
    /// Name of the source that called.
    pub source: &'static str,
    /// Events that the call brought.
    pub events: &'a [EventId],
    /// Trace that the sender told.
    pub sent: Option<TraceContext>,
    /// Status of the answer to it.
    pub status: u16,
    /// Time at which the call began.
    pub began_at: Timestamp,
    /// Time from the head of the call to its answer.
    pub duration: Duration,
}

/// Attempt at a delivery that was made.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryAttempt<'a> {
    /// Event that the attempt sent.
    pub event: EventId,
    /// Trace of the event, with the span of the attempt.
    pub trace: TraceContext,
    /// Name of the event type.
    pub event_type: &'a str,
    /// Receiver of the attempt, such as `webhook:3`.
    pub subscriber: &'a str,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// True if a job delivers the event again.
    pub is_replay: bool,
    /// Status of the response, if there was one.
    pub status: Option<u16>,
    /// Code of the failure, if the attempt failed.
    pub failure: Option<&'static str>,
    /// Time at which the attempt began.
    pub began_at: Timestamp,
    /// Time of the whole attempt.
    pub duration: Duration,
}

impl TraceSink {
    /// Creates a sink whose reports go to `queue`. Of the traces that no sender has decided about, the
    /// share `sampling_ratio`, from 0 to 1, is sampled.
    pub(super) fn new(
        queue: mpsc::Sender<TraceReport>,
        sampling_ratio: f64,
        metrics: Arc<NodeMetrics>,
    ) -> Self {
        Self(Some(Arc::new(SinkState {
            queue,
            commits: Mutex::default(),
            // A conversion from a float saturates, so a ratio of 1 leaves out one trace of 2^64.
            sampled_below: (sampling_ratio * 2_f64.powi(64)) as u64,
            metrics,
        })))
    }

    /// Tells if spans are exported.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the trace of `event`: that of its sender, or one of its own if spans are exported.
    #[must_use]
    pub fn trace_of(&self, event: EventId, sent: Option<TraceContext>) -> Option<TraceContext> {
        let own = || self.0.as_ref()?.trace_without_sender(event);
        sent.or_else(own)
    }

    /// Leaves a span for each event of `call`.
    pub fn record_accept(&self, call: &AcceptedCall<'_>) {
        let Some(state) = &self.0 else {
            return;
        };
        for event in call.events {
            let trace = self.trace_of(*event, call.sent);
            let Some(trace) = trace.filter(TraceContext::is_sampled) else {
                continue;
            };
            let span = FinishedSpan {
                trace_id: *trace.trace_id(),
                span_id: derive_accept_id(*event),
                parent_id: call.sent.map(|sent| *sent.span_id()),
                name: "accept",
                kind: SpanKind::Server,
                began_at: call.began_at,
                ended_at: call.began_at.saturating_add(call.duration),
                attributes: vec![
                    ("hookyard.source", call.source.into()),
                    ("hookyard.event_id", AttributeValue::Text(event.to_string())),
                    (
                        "http.response.status_code",
                        AttributeValue::Integer(call.status.into()),
                    ),
                ],
                failure: None,
            };
            let event = *event;
            state.report(TraceReport::Accept(Box::new(AcceptReport { event, span })));
        }
    }

    /// Notes the time of a commit of `records` records, the first of which is at `first`.
    pub fn note_commit(
        &self,
        first: Position,
        records: u64,
        began_at: Timestamp,
        duration: Duration,
    ) {
        if let Some(state) = self.0.as_ref().filter(|_| records > 0) {
            state.commits.lock().push(CommitTime {
                first,
                records,
                began_at,
                duration,
            });
        }
    }

    /// Leaves the span of `made`.
    pub fn record_delivery(&self, made: &DeliveryAttempt<'_>) {
        let Some(state) = self.0.as_ref().filter(|_| made.trace.is_sampled()) else {
            return;
        };
        let mut attributes = vec![
            (
                "hookyard.event_id",
                AttributeValue::Text(made.event.to_string()),
            ),
            ("hookyard.event", made.event_type.into()),
            ("hookyard.subscriber", made.subscriber.into()),
            (
                "hookyard.attempt",
                AttributeValue::Integer(made.attempt.into()),
            ),
            ("hookyard.replay", AttributeValue::Boolean(made.is_replay)),
        ];
        let status = made
            .status
            .map(|status| AttributeValue::Integer(status.into()));
        attributes.extend(status.map(|status| ("http.response.status_code", status)));
        attributes.extend(made.failure.map(|code| ("error.type", code.into())));
        state.report(TraceReport::Delivery(Box::new(FinishedSpan {
            trace_id: *made.trace.trace_id(),
            span_id: *made.trace.span_id(),
            parent_id: Some(derive_accept_id(made.event)),
            name: "deliver",
            kind: SpanKind::Client,
            began_at: made.began_at,
            ended_at: made.began_at.saturating_add(made.duration),
            attributes,
            failure: made.failure,
        })));
    }

    /// Makes the span of the commit of `accepted`; `None` if that commit is not known.
    pub(super) fn commit_span(&self, accepted: &AcceptReport) -> Option<FinishedSpan> {
        let commits = self.0.as_ref()?.commits.lock();
        let commit = commits.find(accepted.event.position())?;
        Some(FinishedSpan {
            trace_id: accepted.span.trace_id,
            span_id: derive_commit_id(accepted.event),
            parent_id: Some(accepted.span.span_id),
            name: "commit",
            kind: SpanKind::Internal,
            began_at: commit.began_at,
            ended_at: commit.began_at.saturating_add(commit.duration),
            attributes: vec![(
                "hookyard.records",
                AttributeValue::Integer(commit.records.cast_signed()),
            )],
            failure: None,
        })
    }
}

impl SinkState {
    fn trace_without_sender(&self, event: EventId) -> Option<TraceContext> {
        let trace_id = derive_trace_id(event);
        let number = trace_id.last_chunk().copied().map(u64::from_be_bytes)?;
        let is_sampled = number < self.sampled_below;
        TraceContext::try_new(trace_id, derive_accept_id(event), is_sampled)
    }

    /// Queues `report`, or drops it if the exporter is behind.
    fn report(&self, report: TraceReport) {
        if self.queue.try_send(report).is_err() {
            self.metrics.count_trace_spans("dropped", 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StoreIncarnation;

    fn event(position: u64) -> EventId {
        EventId::new(StoreIncarnation::new(7), Position::new(position))
    }

    fn sink(ratio: f64) -> (TraceSink, mpsc::Receiver<TraceReport>) {
        let (sender, receiver) = mpsc::channel(4);
        (TraceSink::new(sender, ratio, Arc::default()), receiver)
    }

    fn accept(sink: &TraceSink, sent: Option<TraceContext>, events: &[EventId]) {
        sink.record_accept(&AcceptedCall {
            source: "support",
            events,
            sent,
            status: 202,
            began_at: Timestamp::from_micros(5),
            duration: Duration::from_micros(7),
        });
    }

    #[test]
    fn the_sender_decides_about_its_traces_and_the_ratio_about_others() {
        let sampled = |is_sampled| TraceContext::try_new([1; 16], [2; 8], is_sampled);
        for (ratio, sent, expected) in [
            (0.0, sampled(true), true),
            (1.0, sampled(false), false),
            (0.0, None, false),
            (1.0, None, true),
        ] {
            let (sink, mut receiver) = sink(ratio);
            accept(&sink, sent, &[event(1)]);
            assert_eq!(receiver.try_recv().is_ok(), expected, "{ratio} {sent:?}");
        }
        let (half, _receiver) = sink(0.5);
        let traces = (1..=1_000).filter_map(|number| half.trace_of(event(number), None));
        let count = traces.filter(TraceContext::is_sampled).count();
        assert!((400..600).contains(&count), "{count}");
    }

    #[test]
    fn a_sink_that_is_off_passes_on_the_trace_of_the_sender_only() {
        let off = TraceSink::default();
        let sent = TraceContext::try_new([1; 16], [2; 8], true);
        assert_eq!(off.trace_of(event(1), sent), sent);
        assert_eq!(off.trace_of(event(1), None), None);
        accept(&off, sent, &[event(1)]);
    }

    #[test]
    fn a_full_queue_drops_spans_and_counts_them() {
        let (sink, mut receiver) = sink(1.0);
        let events: Vec<_> = (1..=6).map(event).collect();
        accept(&sink, None, &events);
        assert_eq!(std::iter::from_fn(|| receiver.try_recv().ok()).count(), 4);
        let metrics = &sink.0.as_ref().expect("on").metrics;
        let text = metrics.to_text(&crate::metrics::GaugeSheet::default());
        let line = "hookyard_trace_spans_total{outcome=\"dropped\"} 2";
        assert!(text.contains(line), "{text}");
    }
}
