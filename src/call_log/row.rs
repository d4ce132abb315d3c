//! One row of the call log, as it is written and as it is read back, and its bytes.
//!
//! A row is a sequence of fields, each a tag byte, a varint length and as many bytes. Tags never
//! change their meaning. An absent field is not written. A reader refuses a row with an unknown
//! tag. The id and the direction of a row are in the block that holds it.
//!
//! | tag | field | bytes |
//! |---|---|---|
//! | 1 | `at` | i64 big-endian, microseconds |
//! | 2 | `source` | UTF-8 |
//! | 3 | `method` | UTF-8 |
//! | 4 | `path` | UTF-8, without its query |
//! | 5 | `status` | varint |
//! | 6 | `code` | UTF-8 |
//! | 7 | `duration` | varint, microseconds |
//! | 8 | `client_address` | 4 or 16 bytes |
//! | 9 | `event_ids` | runs, see below |
//! | 10 | one header | varint length of its name, name, value |
//! | 11 | `body_bytes` | varint |
//! | 12 | `answer` | the bytes of the answer |
//! | 13 | `answer_bytes` | varint |
//! | 14 | `attempt` | varint |
//! | 15 | `event_type` | UTF-8 |
//! | 16 | `next_attempt_at` | i64 big-endian, microseconds |
//! | 17 | `warning` | UTF-8 |
//! | 18 | `token` | UTF-8 |
//!
//! A run of event ids is an incarnation (u32 big-endian), a varint count, and as many varint
//! differences (zigzag) of positions.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::redact::{self, truncate_text};
use super::varint;
use crate::derived::VALUE_MAX_BYTES;
use crate::event::{EventId, Position, StoreIncarnation, Timestamp};

/// Most event ids of one row, as many as the largest batch that a contract accepts.
pub const EVENT_IDS_MAX: usize = 1_000;
/// Most headers of one row.
const HEADERS_MAX: usize = 32;
/// Most bytes of all headers of one row. Senders set few and short headers; a proxy adds some.
const HEADERS_MAX_BYTES: usize = 4 * 1024;
/// Longest kept answer, in bytes: any refusal fits with its list of wrong fields.
const ANSWER_MAX_BYTES: usize = 2 * 1024;
/// Most bytes of the event ids of one row. Ids of one batch are neighbours and take a byte or two
/// each; the bound is for ids that are not.
const EVENT_IDS_MAX_BYTES: usize = 4 * 1024;
const PATH_MAX_BYTES: usize = 1024;
/// Longest name of a source, a method, a code or a header, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// Longest name of an event, in bytes. The events of a configured source begin with its name.
const EVENT_TYPE_MAX_BYTES: usize = 128;
/// Longest warning, in bytes: about two fields of an event, each with a few places.
const WARNING_MAX_BYTES: usize = 384;
/// Most bytes of all tags, lengths, names and fields of fixed size.
const REST_MAX_BYTES: usize = 512;

/// Most bytes of a row, which fits into one value of the store even if it does not compress.
pub(super) const ROW_MAX_BYTES: usize = HEADERS_MAX_BYTES
    + ANSWER_MAX_BYTES
    + EVENT_IDS_MAX_BYTES
    + PATH_MAX_BYTES
    + WARNING_MAX_BYTES
    + REST_MAX_BYTES;
const _: () = assert!(ROW_MAX_BYTES + 64 < VALUE_MAX_BYTES);

/// Direction of a call, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// A sender called this node.
    Incoming,
    /// This node called a subscriber.
    Outgoing,
}

impl CallDirection {
    /// Returns the direction's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }
}

/// One call, as it is appended to the call log. Long texts are cut, and a long answer is left out.
#[derive(Clone, Copy, Debug)]
pub struct CallEntry<'a> {
    /// Time at which the call began.
    pub at: Timestamp,
    /// Direction of the call, received or made.
    pub direction: CallDirection,
    /// Source that was called, or subscriber that this node called.
    pub source: &'a str,
    /// HTTP method of the request.
    pub method: &'a str,
    /// Path of the request. A query is cut off before it is written, because queries carry tokens.
    pub path: &'a str,
    /// Status of the answer, or `None` without an answer.
    pub status: Option<u16>,
    /// Machine-readable code of a failure, if the call failed.
    pub code: Option<&'a str>,
    /// Time from the request to its answer.
    pub duration: Duration,
    /// Address of the client, if it is known.
    pub client: Option<IpAddr>,
    /// Events that the call caused or carried, of which [`EVENT_IDS_MAX`] are kept.
    pub event_ids: &'a [EventId],
    /// Size of the request's body, if it is known.
    pub body_bytes: Option<u64>,
    /// Answer if it is JSON, or the beginning of a subscriber's answer. Left out above 2 KiB.
    pub answer: Option<&'a [u8]>,
    /// Size of the answer, if it is known.
    pub answer_bytes: Option<u64>,
    /// Number of the attempt at this delivery, from 1; `None` for received calls.
    pub attempt: Option<u32>,
    /// Name of the delivered event; `None` for received calls.
    pub event_type: Option<&'a str>,
    /// Time of the next attempt at this delivery, if another attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Warning about an event that was accepted although something was missing in it.
    pub warning: Option<&'a str>,
    /// Name of the caller's token, if the caller has shown a valid one.
    pub token: Option<&'a str>,
}

impl CallEntry<'_> {
    pub(super) fn is_successful(&self) -> bool {
        is_success(self.status) && self.code.is_none()
    }
}

/// One row of the call log, as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// Id of the row: higher is newer. Ids have gaps, and no id is used twice.
    pub id: u64,
    /// Time at which the call began.
    pub at: Timestamp,
    /// Direction of the call, received or made.
    pub direction: CallDirection,
    /// Source that was called, or subscriber that this node called.
    pub source: String,
    /// HTTP method of the request.
    pub method: String,
    /// Path of the request, without its query.
    pub path: String,
    /// Status of the answer, or `None` without an answer.
    pub status: Option<u16>,
    /// Machine-readable code of a failure, if the call failed.
    pub code: Option<String>,
    /// Time from the request to its answer.
    pub duration: Duration,
    /// Address of the client, if it is known.
    pub client: Option<IpAddr>,
    /// Events that the call caused or carried.
    pub event_ids: Vec<EventId>,
    /// Headers of the request: names in lower case, values cut, secrets redacted.
    pub headers: Vec<(String, String)>,
    /// Size of the request's body, if it is known.
    pub body_bytes: Option<u64>,
    /// Answer if it was JSON and short, or the beginning of a subscriber's answer.
    pub answer: Option<Vec<u8>>,
    /// Size of the answer, if it is known.
    pub answer_bytes: Option<u64>,
    /// Number of the attempt at this delivery, from 1; `None` for received calls.
    pub attempt: Option<u32>,
    /// Name of the delivered event; `None` for received calls.
    pub event_type: Option<String>,
    /// Time at which the next attempt at this delivery was due, if another attempt was due.
    pub next_attempt_at: Option<Timestamp>,
    /// Warning about an event that was accepted although something was missing in it.
    pub warning: Option<String>,
    /// Name of the caller's token, if the caller has shown a valid one.
    pub token: Option<String>,
}

impl CallRow {
    /// Tells if the answer had a status of success (2xx) and the call no other failure.
    #[must_use]
    pub fn is_successful(&self) -> bool {
        is_success(self.status) && self.code.is_none()
    }
}

fn is_success(status: Option<u16>) -> bool {
    status.is_some_and(|status| (200..300).contains(&status))
}

mod tag {
    pub(super) const AT: u8 = 1;
    pub(super) const SOURCE: u8 = 2;
    pub(super) const METHOD: u8 = 3;
    pub(super) const PATH: u8 = 4;
    pub(super) const STATUS: u8 = 5;
    pub(super) const CODE: u8 = 6;
    pub(super) const DURATION: u8 = 7;
    pub(super) const CLIENT: u8 = 8;
    pub(super) const EVENT_IDS: u8 = 9;
    pub(super) const HEADER: u8 = 10;
    pub(super) const BODY_BYTES: u8 = 11;
    pub(super) const ANSWER: u8 = 12;
    pub(super) const ANSWER_BYTES: u8 = 13;
    pub(super) const ATTEMPT: u8 = 14;
    pub(super) const EVENT_TYPE: u8 = 15;
    pub(super) const NEXT_ATTEMPT_AT: u8 = 16;
    pub(super) const WARNING: u8 = 17;
    pub(super) const TOKEN: u8 = 18;
}

/// Appends the bytes of `entry` and its `headers` to `out`, at most [`ROW_MAX_BYTES`]. The names of
/// headers must be in lower case.
pub(super) fn encode_row<'h>(
    entry: &CallEntry<'_>,
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    out: &mut Vec<u8>,
) {
    put_field(out, tag::AT, &entry.at.as_micros().to_be_bytes());
    put_text(out, tag::SOURCE, entry.source, NAME_MAX_BYTES);
    put_text(out, tag::METHOD, entry.method, NAME_MAX_BYTES);
    let path = entry.path.split('?').next().unwrap_or_default();
    put_text(out, tag::PATH, path, PATH_MAX_BYTES);
    put_number(out, tag::STATUS, entry.status.map(u64::from));
    if let Some(code) = entry.code {
        put_text(out, tag::CODE, code, NAME_MAX_BYTES);
    }
    let micros = u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX);
    put_number(out, tag::DURATION, Some(micros));
    match entry.client {
        Some(IpAddr::V4(client)) => put_field(out, tag::CLIENT, &client.octets()),
        Some(IpAddr::V6(client)) => put_field(out, tag::CLIENT, &client.octets()),
        None => {}
    }
    if !entry.event_ids.is_empty() {
        put_field(out, tag::EVENT_IDS, &encode_event_ids(entry.event_ids));
    }
    put_headers(out, headers);

    put_number(out, tag::BODY_BYTES, entry.body_bytes);
    let short_answer = entry
        .answer
        .filter(|answer| answer.len() <= ANSWER_MAX_BYTES);
    if let Some(answer) = short_answer {
        put_field(out, tag::ANSWER, answer);
    }
    put_number(out, tag::ANSWER_BYTES, entry.answer_bytes);
    put_number(out, tag::ATTEMPT, entry.attempt.map(u64::from));
    if let Some(event_type) = entry.event_type {
        put_text(out, tag::EVENT_TYPE, event_type, EVENT_TYPE_MAX_BYTES);
    }
    if let Some(at) = entry.next_attempt_at {
        put_field(out, tag::NEXT_ATTEMPT_AT, &at.as_micros().to_be_bytes());
    }
    if let Some(warning) = entry.warning {
        put_text(out, tag::WARNING, warning, WARNING_MAX_BYTES);
    }
    if let Some(token) = entry.token {
        put_text(out, tag::TOKEN, token, NAME_MAX_BYTES);
    }
}

/// Returns the source of the row in `bytes` without decoding the other fields.
pub(super) fn peek_source(bytes: &[u8]) -> Option<&[u8]> {
    peek_field(bytes, tag::SOURCE)
}

/// Returns the encoded event ids of an encoded row, without decoding the rest.
pub(super) fn peek_event_ids(bytes: &[u8]) -> Option<&[u8]> {
    peek_field(bytes, tag::EVENT_IDS)
}

fn peek_field(mut bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        let value = varint::take_prefixed_bytes(&mut bytes)?;
        if *tag == wanted {
            return Some(value);
        }
    }
    None
}

/// Cuts `source` to the length that rows keep.
pub(super) fn truncate_source(source: &str) -> Cow<'_, str> {
    truncate_text(source.as_bytes(), NAME_MAX_BYTES)
}

/// Decodes the row `id`. Returns `None` for malformed bytes.
pub(super) fn decode_row(id: u64, direction: CallDirection, mut bytes: &[u8]) -> Option<CallRow> {
    let mut row = CallRow {
        id,
        at: Timestamp::default(),
        direction,
        source: String::new(),
        method: String::new(),
        path: String::new(),
        status: None,
        code: None,
        duration: Duration::ZERO,
        client: None,
        event_ids: Vec::new(),
        headers: Vec::new(),
        body_bytes: None,
        answer: None,
        answer_bytes: None,
        attempt: None,
        event_type: None,
        next_attempt_at: None,
        warning: None,
        token: None,
    };
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        let value = varint::take_prefixed_bytes(&mut bytes)?;
        match *tag {
            tag::AT => row.at = decode_timestamp(value)?,
            tag::SOURCE => row.source = decode_utf8(value)?,
            tag::METHOD => row.method = decode_utf8(value)?,
            tag::PATH => row.path = decode_utf8(value)?,
            tag::STATUS => row.status = Some(decode_number(value)?.try_into().ok()?),
            tag::CODE => row.code = Some(decode_utf8(value)?),
            tag::DURATION => row.duration = Duration::from_micros(decode_number(value)?),
            tag::CLIENT => row.client = Some(decode_address(value)?),
            tag::EVENT_IDS => row.event_ids = decode_event_ids(value)?,
            tag::HEADER => row.headers.push(decode_header(value)?),
            tag::BODY_BYTES => row.body_bytes = Some(decode_number(value)?),
            tag::ANSWER => row.answer = Some(value.to_vec()),
            tag::ANSWER_BYTES => row.answer_bytes = Some(decode_number(value)?),
            tag::ATTEMPT => row.attempt = Some(decode_number(value)?.try_into().ok()?),
            tag::EVENT_TYPE => row.event_type = Some(decode_utf8(value)?),
            tag::NEXT_ATTEMPT_AT => row.next_attempt_at = Some(decode_timestamp(value)?),
            tag::WARNING => row.warning = Some(decode_utf8(value)?),
            tag::TOKEN => row.token = Some(decode_utf8(value)?),
            _ => return None,
        }
    }
    Some(row)
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    varint::put_prefixed_bytes(out, value);
}

fn put_text(out: &mut Vec<u8>, tag: u8, text: &str, max_bytes: usize) {
    put_field(
        out,
        tag,
        truncate_text(text.as_bytes(), max_bytes).as_bytes(),
    );
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: Option<u64>) {
    let Some(number) = number else { return };
    out.extend_from_slice(&[tag, 0]);
    let start = out.len();
    varint::put_varint(out, number);
    // A number has at most ten bytes, so its length is a varint of one byte.
    out[start - 1] = (out.len() - start) as u8;
}

fn put_headers<'h>(out: &mut Vec<u8>, headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) {
    let end = out.len() + HEADERS_MAX_BYTES;
    for (name, value) in headers.into_iter().take(HEADERS_MAX) {
        let value = redact::redact_header(name, value);
        let name = truncate_text(name.as_bytes(), NAME_MAX_BYTES);
        let length = 1 + name.len() + value.len();
        // The tag takes one more byte, and the length at most two.
        if out.len() + 3 + length > end {
            continue;
        }
        out.push(tag::HEADER);
        varint::put_varint(out, length as u64);
        varint::put_prefixed_bytes(out, name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
}

pub(super) fn encode_event_ids(ids: &[EventId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    let runs =
        ids[..ids.len().min(EVENT_IDS_MAX)].chunk_by(|a, b| a.incarnation() == b.incarnation());
    for run in runs {
        let (mut positions, mut count, mut last) = (Vec::new(), 0, 0_u64);
        for id in run {
            // 20 bytes are enough for the next number and the beginning of the run.
            if out.len() + positions.len() + 20 > EVENT_IDS_MAX_BYTES {
                break;
            }
            let position = id.position().get();
            let difference = position.wrapping_sub(last).cast_signed();
            varint::put_varint(&mut positions, varint::encode_zigzag(difference));
            (last, count) = (position, count + 1);
        }
        if count > 0 {
            out.extend_from_slice(&run[0].incarnation().get().to_be_bytes());
            varint::put_varint(&mut out, count);
            out.extend_from_slice(&positions);
        }
    }
    out
}

fn decode_event_ids(mut bytes: &[u8]) -> Option<Vec<EventId>> {
    let mut ids = Vec::new();
    while let Some((incarnation, rest)) = bytes.split_first_chunk() {
        bytes = rest;
        let incarnation = StoreIncarnation::new(u32::from_be_bytes(*incarnation));
        let mut position = 0_u64;
        for _ in 0..varint::take_varint(&mut bytes)? {
            let difference = varint::decode_zigzag(varint::take_varint(&mut bytes)?);
            position = position.wrapping_add(difference.cast_unsigned());
            ids.push(EventId::new(incarnation, Position::new(position)));
        }
    }
    bytes.is_empty().then_some(ids)
}

fn decode_header(mut value: &[u8]) -> Option<(String, String)> {
    let name = varint::take_prefixed_bytes(&mut value)?;
    Some((decode_utf8(name)?, decode_utf8(value)?))
}

fn decode_number(mut value: &[u8]) -> Option<u64> {
    let number = varint::take_varint(&mut value)?;
    value.is_empty().then_some(number)
}

fn decode_timestamp(value: &[u8]) -> Option<Timestamp> {
    value
        .try_into()
        .ok()
        .map(|micros| Timestamp::from_micros(i64::from_be_bytes(micros)))
}

fn decode_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

fn decode_utf8(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    /// A call that was answered with `status`.
    pub(in crate::call_log) fn entry(status: u16) -> CallEntry<'static> {
        CallEntry {
            at: Timestamp::from_micros(1_733_308_200_000_000),
            direction: CallDirection::Incoming,
            source: "support",
            method: "POST",
            path: "/hooks/",
            status: Some(status),
            code: None,
            duration: Duration::from_micros(1_500),
            client: None,
            event_ids: &[],
            body_bytes: None,
            answer: None,
            answer_bytes: None,
            attempt: None,
            event_type: None,
            next_attempt_at: None,
            warning: None,
            token: None,
        }
    }

    fn id(incarnation: u32, position: u64) -> EventId {
        EventId::new(StoreIncarnation::new(incarnation), Position::new(position))
    }

    fn encoded<'h>(
        entry: &CallEntry<'_>,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        encode_row(entry, headers, &mut out);
        assert!(out.len() <= ROW_MAX_BYTES, "{} bytes", out.len());
        out
    }

    fn read(bytes: &[u8]) -> CallRow {
        decode_row(7, CallDirection::Incoming, bytes).expect("a row")
    }

    /// Stores outlive versions: if these bytes change, the format number has to change.
    #[test]
    fn the_bytes_of_a_row_never_change() {
        let ids = [id(7, 300), id(7, 299), id(8, 1)];
        let entry = CallEntry {
            path: "/h?token=s3cret",
            status: Some(409),
            code: Some("duplicate_event"),
            client: Some([192, 0, 2, 1].into()),
            event_ids: &ids,
            body_bytes: Some(9),
            answer: Some(b"{}"),
            answer_bytes: Some(2),
            attempt: Some(300),
            event_type: Some("a.b"),
            next_attempt_at: Some(Timestamp::from_micros(1)),
            warning: Some("w"),
            ..entry(409)
        };
        let headers: [(&str, &[u8]); 2] = [("user-agent", b"crm"), ("x-crm-api-key", b"s3cret")];
        let golden = "01080006286f438c1a000207737570706f72740304504f535404022f680502990306\
                      0f6475706c69636174655f6576656e740702dc0b0804c000020109\
                      0e0000000702d80401000000080102\
                      0a0e0a757365722d6167656e7463726d0a110d782d63726d2d6170692d6b6579e280a6\
                      0b01090c027b7d0d01020e02ac020f03612e6210080000000000000001110177";
        assert_eq!(
            hex::encode(encoded(&entry, headers)),
            golden.replace(char::is_whitespace, "")
        );
        let row = read(&encoded(&entry, headers));
        assert_eq!(
            (row.path.as_str(), row.status, row.duration),
            ("/h", Some(409), entry.duration)
        );
        assert_eq!((row.event_ids, row.client), (ids.to_vec(), entry.client));
        assert_eq!(row.headers[1], ("x-crm-api-key".into(), "…".into()));
        assert_eq!(
            (row.body_bytes, row.answer.as_deref(), row.answer_bytes),
            (Some(9), entry.answer, Some(2))
        );
        assert_eq!(
            (row.attempt, row.event_type.as_deref()),
            (Some(300), Some("a.b"))
        );
        assert_eq!(row.next_attempt_at, Some(Timestamp::from_micros(1)));
        assert_eq!(row.warning.as_deref(), Some("w"));
    }

    #[test]
    fn what_is_too_much_is_cut_and_the_row_stays_whole() {
        let long = "x".repeat(100_000);
        let ids: Vec<_> = (1..5_000)
            .map(|n| id(7, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n)))
            .collect();
        let large = CallEntry {
            source: &long,
            method: &long,
            path: &long,
            code: Some(&long),
            client: Some([0xff; 16].into()),
            event_ids: &ids,
            answer: Some(long.as_bytes()),
            answer_bytes: Some(u64::MAX),
            body_bytes: Some(u64::MAX),
            duration: Duration::MAX,
            warning: Some(&long),
            ..entry(500)
        };
        let row = read(&encoded(
            &large,
            (0..100).map(|_| (long.as_str(), long.as_bytes())),
        ));
        assert_eq!((row.answer, row.answer_bytes), (None, Some(u64::MAX)));
        assert!(
            row.path.len() <= PATH_MAX_BYTES && row.path.ends_with(redact::REDACTED),
            "{}",
            row.path
        );
        assert!(
            (300..EVENT_IDS_MAX).contains(&row.event_ids.len()) && ids.starts_with(&row.event_ids)
        );
        assert!(
            (10..HEADERS_MAX).contains(&row.headers.len()),
            "{}",
            row.headers.len()
        );
    }

    #[test]
    fn a_batch_keeps_the_ids_of_all_its_events() {
        let ids: Vec<_> = (1..=1_200).map(|n| id(7, 5_000_000 + n)).collect();
        let row = read(&encoded(
            &CallEntry {
                event_ids: &ids,
                ..entry(200)
            },
            [],
        ));
        assert_eq!(row.event_ids, ids[..EVENT_IDS_MAX]);
    }

    #[test]
    fn a_field_from_the_future_is_refused() {
        let mut bytes = encoded(&entry(200), []);
        put_field(&mut bytes, 200, b"?");
        assert_eq!(decode_row(7, CallDirection::Incoming, &bytes), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            positions in prop::collection::vec((any::<u32>(), any::<u64>()), 0..40), status in any::<Option<u16>>(),
            micros in any::<u32>(), answer in prop::collection::vec(any::<u8>(), 0..2_048),
        ) {
            let ids: Vec<_> = positions.iter().map(|(incarnation, position)| id(*incarnation, *position)).collect();
            let entry = CallEntry {
                status, event_ids: &ids, duration: Duration::from_micros(micros.into()), answer: Some(&answer), ..entry(0)
            };
            let row = read(&encoded(&entry, []));
            prop_assert_eq!((row.status, row.duration, row.event_ids), (status, entry.duration, ids));
            prop_assert_eq!(row.answer, Some(answer));
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_row_of_a_call_is_read_or_refused(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            damaged(&[encoded(&entry(0), [])]),
        ]) {
            let _ = decode_row(7, CallDirection::Incoming, &bytes);
        }
    }
}
