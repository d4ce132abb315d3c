//! Traces: spans of accepted events, their commits and their deliveries, exported over OTLP/HTTP.
//!
//! ```text
//!  edge ──accept──────┐                                    joins each event with its commit
//!  subscriber ──delivery──> bounded queue ──> exporter task ──JSON──> POST …/v1/traces
//!  journal ──commit──> newest commits ────────────┘
//! ```
//!
//! Nothing waits for the exporter: a full queue drops spans, and a failed export drops its batch.
//! Both are counted. The ids of spans are derived from the id of the event, so that an attempt after
//! a restart belongs to the same trace, and nothing has to be stored.
//!
//! | span | id | parent |
//! |---|---|---|
//! | `accept` | hash of the event's id | the sender's span, if it told one |
//! | `commit` | hash of the event's id | `accept` |
//! | `deliver` | hash of the event's id, the subscriber and the attempt | `accept` |

mod commit_times;
mod exporter;
mod otlp;
mod sink;
mod span;
mod span_ids;

pub use exporter::{ExporterSetupError, SpanExporter};
pub use sink::{AcceptedCall, DeliveryAttempt, TraceSink};
