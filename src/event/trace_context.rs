//! Trace context of a request (W3C Trace Context, level 2): the trace that it is a part of, and the
//! span in the sender that made it.
//!
//! ```text
//!  traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//!               version  trace id                   parent id    flags
//! ```

use std::fmt;

/// Header that carries a trace context.
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// Flag of a trace that its sender records.
const SAMPLED: u8 = 0b01;

/// Flags that level 2 defines: sampled, and a random trace id. Others are not passed on.
const KNOWN_FLAGS: u8 = 0b11;

/// Length of a header value of version 0.
const HEADER_BYTES: usize = 55;

/// Trace that an event is a part of, with the span that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// Length of the stored form.
    pub const BYTES: usize = 25;

    /// Creates the context of the span `span_id`; `None` if an id is all zeros, which is no id.
    #[must_use]
    pub fn try_new(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Option<Self> {
        Self::from_parts(trace_id, span_id, if is_sampled { SAMPLED } else { 0 })
    }

    fn from_parts(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self {
            trace_id,
            span_id,
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// Parses the header values `values`; `None` unless there is exactly one, and it is valid. An event
    /// is never refused for its trace.
    #[must_use]
    pub fn parse_header<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<Self> {
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value),
            _ => None,
        }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(HEADER_BYTES)?;
        let [version, trace_id, span_id, flags] = split_fields(known)?;
        let version = parse_hex::<1>(version)?[0];
        // A later version may append fields, each behind a hyphen; 255 is no version.
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let [flags] = parse_hex::<1>(flags)?;
        let context = Self::from_parts(parse_hex(trace_id)?, parse_hex(span_id)?, flags);
        context.filter(|_| fits)
    }

    /// Returns the context of the span `span_id` in the same trace, with the same flags.
    #[must_use]
    pub const fn with_span(self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self }
    }

    /// Id that all spans of the trace share.
    #[must_use]
    pub const fn trace_id(&self) -> &[u8; 16] {
        &self.trace_id
    }

    /// Id of the span that made the request.
    #[must_use]
    pub const fn span_id(&self) -> &[u8; 8] {
        &self.span_id
    }

    /// True if the sender records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the stored form: trace id, span id, flags.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        bytes
    }

    /// Reads the stored form; `None` if it is not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.split_first_chunk::<8>()?;
        let [flags] = rest else {
            return None;
        };
        Self::from_parts(*trace_id, *span_id, *flags)
    }
}

/// Writes the value of the header, in version 0.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (hex::encode(self.trace_id), hex::encode(self.span_id));
        write!(f, "00-{trace_id}-{span_id}-{:02x}", self.flags)
    }
}

fn split_fields(value: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = value.split(|byte| *byte == b'-');
    let found = [(); 4].map(|()| fields.next().unwrap_or_default());
    fields.next().is_none().then_some(found)
}

/// Decodes exactly `N` bytes of lowercase hex; the header allows no capitals.
fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lowercase = !text.iter().any(u8::is_ascii_uppercase);
    let decoded = hex::decode_to_slice(text, &mut bytes);
    decoded.ok().filter(|()| is_lowercase).map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(values: &[&str]) -> Option<String> {
        let values = values.iter().map(|value| value.as_bytes());
        TraceContext::parse_header(values).map(|context| context.to_string())
    }

    #[test]
    fn a_valid_header_is_taken_and_written_again() {
        assert_eq!(parse(&[VALID]).as_deref(), Some(VALID));
        let later = VALID.replacen("00-", "cc-", 1);
        assert_eq!(parse(&[&later]).as_deref(), Some(VALID), "as version 0");
        assert_eq!(parse(&[&format!("{later}-more")]).as_deref(), Some(VALID));
        // Flags that nobody has defined yet are not passed on.
        let flagged = VALID.replace("31-01", "31-fe");
        assert_eq!(parse(&[&flagged]), Some(VALID.replace("31-01", "31-02")));
    }

    #[test]
    fn anything_else_is_no_context() {
        let cut = &VALID[..54];
        let spaced = format!(" {VALID}");
        let longer = format!("{VALID}-more");
        let later = format!("{}x", VALID.replacen("00-", "cc-", 1));
        for value in [
            "",
            "x",
            cut,
            &spaced,
            &longer,
            &later,
            &VALID.to_uppercase(),
            &VALID.replacen("00-", "ff-", 1),
            &VALID.replacen("00-", "0x-", 1),
            &VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            &VALID.replace("-b7ad", "b-7ad"),
            &VALID.replace('-', "_"),
            &VALID.replace("9c-", "\u{e9}-"),
        ] {
            assert_eq!(parse(&[value]), None, "{value}");
        }
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[VALID, VALID]), None, "nobody knows which one holds");
    }

    #[test]
    fn the_stored_form_is_read_back() {
        let context = TraceContext::parse(VALID.as_bytes()).expect("valid");
        let bytes = context.to_bytes();
        assert_eq!(
            hex::encode(bytes),
            "0af7651916cd43dd8448eb211c80319cb7ad6b716920333101"
        );
        assert_eq!(TraceContext::from_bytes(&bytes), Some(context));
        assert_eq!(TraceContext::from_bytes(&bytes[1..]), None);
        assert_eq!(TraceContext::from_bytes(&[0; TraceContext::BYTES]), None);
    }
}
