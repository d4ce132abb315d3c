//! Span that has ended, ready for export.

use crate::event::Timestamp;

/// Kind of a span, by the numbers of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// Value of an attribute of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AttributeValue {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Span with its begin, its end and its attributes. It holds no content of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FinishedSpan {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent_id: Option<[u8; 8]>,
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    pub(super) began_at: Timestamp,
    pub(super) ended_at: Timestamp,
    pub(super) attributes: Vec<(&'static str, AttributeValue)>,
    /// Code of the failure, if what the span is about failed.
    pub(super) failure: Option<&'static str>,
}
