//! Record that an accepted event becomes, and its encoding.
//!
//! A record is a sequence of fields. Each field is a tag byte, a varint length and that many bytes.
//! Tags keep their meaning for ever. A field without a value is not written. A record with an
//! unknown tag is rejected.
//!
//! | tag | field | bytes |
//! |---|---|---|
//! | 1 | `at` | i64 big-endian, microseconds |
//! | 2 | `source` | UTF-8 |
//! | 3 | `kind` | UTF-8 |
//! | 4 | `id` | UTF-8 |
//! | 5 | `sequence` | u64 big-endian |
//! | 6 | `event_type` | UTF-8 |
//! | 7 | `late` | empty: presence means late |
//! | 8 | `idempotency_key` | UTF-8 |
//! | 9 | `payload` | as received |
//! | 10 | `change` | JSON, in the format of the entity's kind |
//! | 11 | `failure` | u16 big-endian code, then UTF-8 |
//! | 12 | `reprocesses` | u64 big-endian |
//! | 13 | `decided_at` | i64 big-endian, microseconds |
//! | 14 | `shape` | 1 byte: 1 bare, 2 form; absence means an envelope |
//! | 15 | `answer` | JSON |
//! | 16 | `request_hash` | 32 bytes |
//! | 17 | `highest_id` | u64 big-endian |
//! | 18 | `unique_key` | UTF-8 |
//! | 19 | `pending` | empty: presence means that a later record resolves the event |
//! | 20 | `resolves` | u64 big-endian |
//! | 21 | `warnings` | JSON list of strings |
//! | 22 | `call_body` | as received, without the events of a call with several |
//! | 23 | `credential` | u64 big-endian, below 2^32 |
//! | 24 | `erasure` | 1 byte: 1 erases; 2 erased, then u64 big-endian if the record held a claim; 3 out of retention, then i64 big-endian, microseconds |
//! | 25 | `hops` | 1 byte; absence means 0 |
//! | 26 | `signed_request` | 16 bytes |
//! | 27 | `token` | UTF-8 |
//! | 28 | `trace` | trace id (16 bytes), span id (8 bytes), flags (1 byte) |

use bytes::Bytes;

use super::claim_owner::{ClaimOwner, SignedRequestTag};
use super::id::{EntityKey, Position};
use super::kind::Kind;
use super::time::Timestamp;
use super::trace_context::TraceContext;

/// Largest encoded record, in bytes. The limit of a journal frame is several times as large.
pub const RECORD_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Reason that an accepted event could not be applied to its entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFailure {
    /// Code like an HTTP status, such as 404 for an object that does not exist.
    pub code: u16,
    /// Explanation in one sentence, for a person.
    pub message: String,
}

/// Format of a payload, which determines where the event's data is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadShape {
    /// JSON object whose member `data` is the event's data.
    #[default]
    Envelope,
    /// JSON that is the event's data itself.
    Bare,
    /// Form (`application/x-www-form-urlencoded`) whose fields are the event's data.
    Form,
}

/// Part of a record in the removal of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureMark {
    /// The record erases the content of all earlier records of its entity.
    Erases,
    /// The content of the record was erased by a later one.
    Erased {
        /// Fingerprint of the idempotency key that the record had: a repetition of the event is
        /// still recognised by it.
        claim: Option<u64>,
    },
    /// The content of the record was removed because it was older than its source keeps content.
    Expired {
        /// Time at which retention removed it.
        at: Timestamp,
    },
}

/// Stored form of one accepted event. It contains the outcome (`change`), so replaying a record
/// never depends on the current rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Time of the event according to its sender, ahead of the receive time by the configured
    /// tolerance at most.
    pub at: Timestamp,
    /// Time at which the entity decided on the event.
    pub decided_at: Timestamp,
    /// Name of the configured source that sent the event, such as `support`.
    pub source: String,
    /// Entity that the event belongs to.
    pub entity: EntityKey,
    /// Sequence number among the entity's records, from 1; `None` for an event that failed.
    pub sequence: Option<u64>,
    /// Name of the event in the catalogue, such as `status.changed`.
    pub event_type: String,
    /// `true` if a part of the event was older than the entity's state and was not applied.
    pub late: bool,
    /// Idempotency key from the sender, if the contract has one.
    pub idempotency_key: Option<String>,
    /// Body of the event, as received.
    pub payload: Bytes,
    /// Change to the entity's state, as JSON in the format of its kind; empty for an event that
    /// failed.
    pub change: Bytes,
    /// Reason of the failure, if the event failed.
    pub failure: Option<EventFailure>,
    /// Position of the failed event that this record reprocesses.
    pub reprocesses: Option<Position>,
    /// Format of the payload, which says where the data is.
    pub shape: PayloadShape,
    /// Answer to the sender, as JSON, if a repeated request gets the same answer again; otherwise
    /// empty.
    pub answer: Bytes,
    /// Hash of the request, if a repeated request must be identical to the first.
    pub request_hash: Option<[u8; 32]>,
    /// Highest id that the node allocated for this record.
    pub highest_id: Option<u64>,
    /// Unique key that the entity holds for ever, such as a customer code.
    pub unique_key: Option<String>,
    /// `true` if work on the event remains, so that a later record completes or fails the event.
    pub pending: bool,
    /// Position of the pending event that this record completes, or fails if `failure` is set.
    pub resolves: Option<Position>,
    /// Sentences about fields that the event should have had, for an operator.
    pub warnings: Vec<String>,
    /// Body of the call that brought the event, as received, if the payload is another form of it. Of
    /// several events of one call the first has all but these; otherwise empty.
    pub call_body: Bytes,
    /// Tag of the credential that sent the event, if the idempotency key belongs to it.
    pub credential: Option<u32>,
    /// Part of the record in the removal of content, if it has one.
    pub erasure: Option<ErasureMark>,
    /// Number of deliveries by which the event came here, as its sender told.
    pub hops: u8,
    /// Tag of the request that brought the event, if its signature covers a time.
    pub signed_request: Option<SignedRequestTag>,
    /// Name of the token that published the event, if it came with one.
    pub token: Option<String>,
    /// Trace that the event is a part of, if its sender told one.
    pub trace: Option<TraceContext>,
}

/// Error for bytes that are not a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record is corrupt at field {field}")]
pub struct RecordError {
    /// Tag of the field that is missing, unknown or malformed.
    pub field: u8,
}

mod tag {
    pub(super) const AT: u8 = 1;
    pub(super) const SOURCE: u8 = 2;
    pub(super) const KIND: u8 = 3;
    pub(super) const ID: u8 = 4;
    pub(super) const SEQUENCE: u8 = 5;
    pub(super) const EVENT_TYPE: u8 = 6;
    pub(super) const LATE: u8 = 7;
    pub(super) const IDEMPOTENCY_KEY: u8 = 8;
    pub(super) const PAYLOAD: u8 = 9;
    pub(super) const CHANGE: u8 = 10;
    pub(super) const FAILURE: u8 = 11;
    pub(super) const REPROCESSES: u8 = 12;
    pub(super) const DECIDED_AT: u8 = 13;
    pub(super) const SHAPE: u8 = 14;
    pub(super) const ANSWER: u8 = 15;
    pub(super) const REQUEST_HASH: u8 = 16;
    pub(super) const HIGHEST_ID: u8 = 17;
    pub(super) const UNIQUE_KEY: u8 = 18;
    pub(super) const PENDING: u8 = 19;
    pub(super) const RESOLVES: u8 = 20;
    pub(super) const WARNINGS: u8 = 21;
    pub(super) const CALL_BODY: u8 = 22;
    pub(super) const CREDENTIAL: u8 = 23;
    pub(super) const ERASURE: u8 = 24;
    pub(super) const HOPS: u8 = 25;
    pub(super) const SIGNED_REQUEST: u8 = 26;
    pub(super) const TOKEN: u8 = 27;
    pub(super) const TRACE: u8 = 28;
    pub(super) const COUNT: usize = 29;
}

impl Record {
    /// Creates a record with the required fields only; `decided_at` is set to `at`.
    #[must_use]
    pub fn new(
        source: impl Into<String>,
        entity: EntityKey,
        event_type: impl Into<String>,
        at: Timestamp,
    ) -> Self {
        Self {
            at,
            decided_at: at,
            source: source.into(),
            entity,
            sequence: None,
            event_type: event_type.into(),
            late: false,
            idempotency_key: None,
            payload: Bytes::new(),
            change: Bytes::new(),
            failure: None,
            reprocesses: None,
            shape: PayloadShape::Envelope,
            answer: Bytes::new(),
            request_hash: None,
            highest_id: None,
            unique_key: None,
            pending: false,
            resolves: None,
            warnings: Vec::new(),
            call_body: Bytes::new(),
            credential: None,
            erasure: None,
            hops: 0,
            signed_request: None,
            token: None,
            trace: None,
        }
    }

    /// Returns `true` if this record erases the earlier ones of its entity.
    #[must_use]
    pub fn erases(&self) -> bool {
        self.erasure == Some(ErasureMark::Erases)
    }

    /// Returns `true` if the content of this record was erased.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        matches!(self.erasure, Some(ErasureMark::Erased { .. }))
    }

    /// Returns the time at which the content of this record was removed because it was older than its
    /// source keeps content; `None` if it was not.
    #[must_use]
    pub fn content_expired_at(&self) -> Option<Timestamp> {
        match self.erasure {
            Some(ErasureMark::Expired { at }) => Some(at),
            Some(ErasureMark::Erases | ErasureMark::Erased { .. }) | None => None,
        }
    }

    /// Returns `true` if this record has the content that it was stored with.
    #[must_use]
    pub fn has_content(&self) -> bool {
        !self.is_erased() && self.content_expired_at().is_none()
    }

    /// Returns the outline of the record: all but payload, call body, change, answer and warnings.
    #[must_use]
    pub fn into_outline(self) -> Self {
        Self {
            payload: Bytes::new(),
            change: Bytes::new(),
            answer: Bytes::new(),
            call_body: Bytes::new(),
            warnings: Vec::new(),
            ..self
        }
    }

    /// Returns the outline of the record, whose content was removed at `at`. Its keys stay, so that
    /// duplicates of the event are still told.
    #[must_use]
    pub fn into_expired(self, at: Timestamp) -> Self {
        let mut outline = self.into_outline();
        if let Some(failure) = &mut outline.failure {
            failure.message = "removed by retention".to_owned();
        }
        Self {
            erasure: Some(ErasureMark::Expired { at }),
            ..outline
        }
    }

    /// Returns the record without its content: place, name and times of the event stay. `claim` is
    /// the fingerprint of its idempotency key. The tag of the request, which tells nothing of the
    /// content, stays too, so that a captured request does not bring the content back.
    #[must_use]
    pub fn into_erased(self, claim: Option<u64>) -> Self {
        let failure = self.failure.map(|failure| EventFailure {
            message: "erased".to_owned(),
            ..failure
        });
        Self {
            late: self.late,
            decided_at: self.decided_at,
            sequence: self.sequence,
            failure,
            reprocesses: self.reprocesses,
            highest_id: self.highest_id,
            pending: self.pending,
            credential: self.credential,
            resolves: self.resolves,
            erasure: Some(ErasureMark::Erased { claim }),
            signed_request: self.signed_request,
            token: self.token,
            ..Self::new(self.source, self.entity, self.event_type, self.at)
        }
    }

    /// Owner of the idempotency key; `None` if the key belongs to nobody, as in records of former
    /// versions.
    #[must_use]
    pub fn claim_owner(&self) -> Option<ClaimOwner> {
        Some(ClaimOwner {
            credential: self.credential?,
            content: self.request_hash?,
        })
    }

    /// Encodes the record as described in the table of this module.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(self.payload.len() + self.change.len() + self.call_body.len() + 160);
        put_field(&mut out, tag::AT, &self.at.as_micros().to_be_bytes());
        put_field(
            &mut out,
            tag::DECIDED_AT,
            &self.decided_at.as_micros().to_be_bytes(),
        );
        put_field(&mut out, tag::SOURCE, self.source.as_bytes());
        put_field(&mut out, tag::KIND, self.entity.kind().as_str().as_bytes());
        put_field(&mut out, tag::ID, self.entity.id().as_bytes());
        if let Some(sequence) = self.sequence {
            put_field(&mut out, tag::SEQUENCE, &sequence.to_be_bytes());
        }
        put_field(&mut out, tag::EVENT_TYPE, self.event_type.as_bytes());
        if self.late {
            put_field(&mut out, tag::LATE, &[]);
        }
        if let Some(key) = &self.idempotency_key {
            put_field(&mut out, tag::IDEMPOTENCY_KEY, key.as_bytes());
        }
        put_field(&mut out, tag::PAYLOAD, &self.payload);
        if !self.change.is_empty() {
            put_field(&mut out, tag::CHANGE, &self.change);
        }
        if let Some(failure) = &self.failure {
            let mut bytes = failure.code.to_be_bytes().to_vec();
            bytes.extend_from_slice(failure.message.as_bytes());
            put_field(&mut out, tag::FAILURE, &bytes);
        }
        if let Some(position) = self.reprocesses {
            put_field(&mut out, tag::REPROCESSES, &position.get().to_be_bytes());
        }
        if let Some(shape) = self.shape.to_byte() {
            put_field(&mut out, tag::SHAPE, &[shape]);
        }
        if !self.answer.is_empty() {
            put_field(&mut out, tag::ANSWER, &self.answer);
        }
        if let Some(hash) = &self.request_hash {
            put_field(&mut out, tag::REQUEST_HASH, hash);
        }
        if let Some(id) = self.highest_id {
            put_field(&mut out, tag::HIGHEST_ID, &id.to_be_bytes());
        }
        if let Some(key) = &self.unique_key {
            put_field(&mut out, tag::UNIQUE_KEY, key.as_bytes());
        }
        if self.pending {
            put_field(&mut out, tag::PENDING, &[]);
        }
        if let Some(position) = self.resolves {
            put_field(&mut out, tag::RESOLVES, &position.get().to_be_bytes());
        }
        if !self.warnings.is_empty() {
            let list = serde_json::to_vec(&self.warnings).expect("strings have a JSON text");
            put_field(&mut out, tag::WARNINGS, &list);
        }
        if !self.call_body.is_empty() {
            put_field(&mut out, tag::CALL_BODY, &self.call_body);
        }
        if let Some(credential) = self.credential {
            put_field(
                &mut out,
                tag::CREDENTIAL,
                &u64::from(credential).to_be_bytes(),
            );
        }
        if let Some(erasure) = self.erasure {
            put_field(&mut out, tag::ERASURE, &erasure.encode());
        }
        if self.hops > 0 {
            put_field(&mut out, tag::HOPS, &[self.hops]);
        }
        if let Some(request) = &self.signed_request {
            put_field(&mut out, tag::SIGNED_REQUEST, request.as_bytes());
        }
        if let Some(token) = &self.token {
            put_field(&mut out, tag::TOKEN, token.as_bytes());
        }
        if let Some(trace) = self.trace {
            put_field(&mut out, tag::TRACE, &trace.to_bytes());
        }
        out
    }

    /// Decodes a record; its payload and change share memory with `bytes`.
    ///
    /// # Errors
    /// [`RecordError`] with the tag of the field that is missing, unknown or malformed.
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        let mut fields = RecordFields::parse(bytes)?;
        Ok(Self {
            at: fields.take_required_time(tag::AT)?,
            decided_at: fields.take_required_time(tag::DECIDED_AT)?,
            source: fields.take_required_text(tag::SOURCE)?,
            entity: fields.take_entity()?,
            sequence: fields.take_number(tag::SEQUENCE)?,
            event_type: fields.take_required_text(tag::EVENT_TYPE)?,
            late: fields.take(tag::LATE).is_some(),
            idempotency_key: fields.take_text(tag::IDEMPOTENCY_KEY)?,
            payload: fields.take_required(tag::PAYLOAD)?,
            change: fields.take(tag::CHANGE).unwrap_or_default(),
            failure: fields.take(tag::FAILURE).map(decode_failure).transpose()?,
            reprocesses: fields.take_number(tag::REPROCESSES)?.map(Position::new),
            shape: fields
                .take(tag::SHAPE)
                .map_or(Ok(PayloadShape::Envelope), |byte| {
                    PayloadShape::from_bytes(&byte)
                })?,
            answer: fields.take(tag::ANSWER).unwrap_or_default(),
            request_hash: fields
                .take(tag::REQUEST_HASH)
                .map(decode_hash)
                .transpose()?,
            highest_id: fields.take_number(tag::HIGHEST_ID)?,
            unique_key: fields.take_text(tag::UNIQUE_KEY)?,
            pending: fields.take(tag::PENDING).is_some(),
            resolves: fields.take_number(tag::RESOLVES)?.map(Position::new),
            warnings: fields
                .take(tag::WARNINGS)
                .map_or(Ok(Vec::new()), |list| decode_warnings(&list))?,
            call_body: fields.take(tag::CALL_BODY).unwrap_or_default(),
            credential: fields
                .take_number(tag::CREDENTIAL)?
                .map(u32::try_from)
                .transpose()
                .map_err(|_| RecordError {
                    field: tag::CREDENTIAL,
                })?,
            erasure: fields
                .take(tag::ERASURE)
                .map(|bytes| ErasureMark::decode(&bytes))
                .transpose()?,
            hops: fields
                .take(tag::HOPS)
                .map_or(Ok(0), |bytes| decode_hops(&bytes))?,
            signed_request: fields
                .take(tag::SIGNED_REQUEST)
                .map(decode_signed_request)
                .transpose()?,
            token: fields.take_text(tag::TOKEN)?,
            trace: fields
                .take(tag::TRACE)
                .map(|bytes| decode_trace(&bytes))
                .transpose()?,
        })
    }
}

/// Fields of an encoded record, by tag.
struct RecordFields([Option<Bytes>; tag::COUNT]);

impl RecordFields {
    fn parse(bytes: &Bytes) -> Result<Self, RecordError> {
        let mut fields: [Option<Bytes>; tag::COUNT] = Default::default();
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let (tag, value) = take_field(&mut rest)?;
            let field = fields.get_mut(usize::from(tag)).filter(|_| tag != 0);
            *field.ok_or(RecordError { field: tag })? = Some(value);
        }
        Ok(Self(fields))
    }

    fn take(&mut self, tag: u8) -> Option<Bytes> {
        self.0[usize::from(tag)].take()
    }

    fn take_required(&mut self, tag: u8) -> Result<Bytes, RecordError> {
        self.take(tag).ok_or(RecordError { field: tag })
    }

    fn take_text(&mut self, tag: u8) -> Result<Option<String>, RecordError> {
        let bytes = self.take(tag);
        bytes.map(|bytes| decode_text(tag, bytes)).transpose()
    }

    fn take_required_text(&mut self, tag: u8) -> Result<String, RecordError> {
        decode_text(tag, self.take_required(tag)?)
    }

    fn take_number(&mut self, tag: u8) -> Result<Option<u64>, RecordError> {
        let bytes = self.take(tag);
        bytes.map(|bytes| decode_number(tag, &bytes)).transpose()
    }

    fn take_required_time(&mut self, tag: u8) -> Result<Timestamp, RecordError> {
        let number = decode_number(tag, &self.take_required(tag)?)?;
        Ok(Timestamp::from_micros(number.cast_signed()))
    }

    fn take_entity(&mut self) -> Result<EntityKey, RecordError> {
        let kind = self.take_required_text(tag::KIND)?;
        let id = self.take_required_text(tag::ID)?;
        let kind = Kind::from_store(&kind).ok_or(RecordError { field: tag::KIND })?;
        EntityKey::try_new(kind, &id).map_err(|_| RecordError { field: tag::ID })
    }
}

impl PayloadShape {
    const fn to_byte(self) -> Option<u8> {
        match self {
            Self::Envelope => None,
            Self::Bare => Some(1),
            Self::Form => Some(2),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes {
            [1] => Ok(Self::Bare),
            [2] => Ok(Self::Form),
            _ => Err(RecordError { field: tag::SHAPE }),
        }
    }
}

impl ErasureMark {
    const ERASES: u8 = 1;
    const ERASED: u8 = 2;
    const EXPIRED: u8 = 3;

    fn encode(self) -> Vec<u8> {
        match self {
            Self::Erases => vec![Self::ERASES],
            Self::Erased { claim: None } => vec![Self::ERASED],
            Self::Erased { claim: Some(claim) } => {
                [&[Self::ERASED][..], &claim.to_be_bytes()].concat()
            }
            Self::Expired { at } => [&[Self::EXPIRED][..], &at.as_micros().to_be_bytes()].concat(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes {
            [Self::ERASES] => Ok(Self::Erases),
            [Self::ERASED] => Ok(Self::Erased { claim: None }),
            [Self::ERASED, claim @ ..] => Ok(Self::Erased {
                claim: Some(decode_number(tag::ERASURE, claim)?),
            }),
            [Self::EXPIRED, at @ ..] => {
                let micros = decode_number(tag::ERASURE, at)?.cast_signed();
                Ok(Self::Expired {
                    at: Timestamp::from_micros(micros),
                })
            }
            _ => Err(RecordError {
                field: tag::ERASURE,
            }),
        }
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    let mut length = value.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
}

fn take_field(rest: &mut Bytes) -> Result<(u8, Bytes), RecordError> {
    let tag = rest[0];
    let corrupt = RecordError { field: tag };
    let mut length = 0_usize;
    let mut used = 1;

    loop {
        let byte = *rest.get(used).ok_or(corrupt)?;
        // Four groups of seven bits encode lengths up to 256 MiB, more than `RECORD_MAX_BYTES`.
        if used > 4 {
            return Err(corrupt);
        }
        length |= usize::from(byte & 0x7f) << (7 * (used - 1));
        used += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }

    let end = used
        .checked_add(length)
        .filter(|end| *end <= rest.len())
        .ok_or(corrupt)?;
    let value = rest.slice(used..end);
    *rest = rest.slice(end..);
    Ok((tag, value))
}

fn decode_text(tag: u8, bytes: Bytes) -> Result<String, RecordError> {
    String::from_utf8(bytes.into()).map_err(|_| RecordError { field: tag })
}

fn decode_number(tag: u8, bytes: &[u8]) -> Result<u64, RecordError> {
    let bytes = bytes.try_into();
    bytes
        .map(u64::from_be_bytes)
        .map_err(|_| RecordError { field: tag })
}

fn decode_hash(bytes: Bytes) -> Result<[u8; 32], RecordError> {
    let field = tag::REQUEST_HASH;
    bytes.as_ref().try_into().map_err(|_| RecordError { field })
}

fn decode_signed_request(bytes: Bytes) -> Result<SignedRequestTag, RecordError> {
    let field = tag::SIGNED_REQUEST;
    let bytes = bytes.as_ref().try_into();
    bytes
        .map(SignedRequestTag::from_bytes)
        .map_err(|_| RecordError { field })
}

fn decode_warnings(bytes: &[u8]) -> Result<Vec<String>, RecordError> {
    let field = tag::WARNINGS;
    serde_json::from_slice(bytes).map_err(|_| RecordError { field })
}

fn decode_hops(bytes: &[u8]) -> Result<u8, RecordError> {
    match bytes {
        [hops] => Ok(*hops),
        _ => Err(RecordError { field: tag::HOPS }),
    }
}

fn decode_trace(bytes: &[u8]) -> Result<TraceContext, RecordError> {
    TraceContext::from_bytes(bytes).ok_or(RecordError { field: tag::TRACE })
}

fn decode_failure(bytes: Bytes) -> Result<EventFailure, RecordError> {
    let corrupt = RecordError {
        field: tag::FAILURE,
    };
    let (code, message) = bytes.split_first_chunk::<2>().ok_or(corrupt)?;
    let message = String::from_utf8(message.to_vec()).map_err(|_| corrupt)?;
    Ok(EventFailure {
        code: u16::from_be_bytes(*code),
        message,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn sample() -> Record {
        Record {
            at: Timestamp::from_micros(1_733_308_200_000_000),
            decided_at: Timestamp::from_micros(1_733_308_200_000_001),
            source: "support".into(),
            entity: EntityKey::try_new(Kind::Ticket, "S").expect("valid"),
            sequence: Some(3),
            event_type: "status.changed".into(),
            late: true,
            idempotency_key: Some("k".into()),
            payload: Bytes::from_static(b"{}"),
            change: Bytes::from_static(b"[]"),
            failure: Some(EventFailure {
                code: 404,
                message: "no".into(),
            }),
            reprocesses: Some(Position::new(9)),
            shape: PayloadShape::Form,
            answer: Bytes::from_static(b"{}"),
            request_hash: Some([7; 32]),
            highest_id: Some(8),
            unique_key: Some("C".into()),
            pending: true,
            resolves: Some(Position::new(6)),
            warnings: vec!["w".into()],
            call_body: Bytes::from_static(b"b"),
            credential: Some(5),
            erasure: None,
            hops: 3,
            signed_request: Some(SignedRequestTag::from_bytes([6; 16])),
            token: None,
            trace: None,
        }
    }

    /// Stores outlive versions: if these bytes change, the format number must change too.
    #[test]
    fn the_bytes_of_a_record_never_change() {
        let golden = "01080006286f438c1a000d080006286f438c1a010207737570706f727403067469636b\
                      657404015305080000000000000003060e7374617475732e6368616e67656407000801\
                      6b09027b7d0a025b5d0b0401946e6f0c0800000000000000090e01020f027b7d102007\
                      0707070707070707070707070707070707070707070707070707070707070711080000\
                      00000000000812014313001408000000000000000615055b2277225d16016217080000000000000005190103\
                      1a1006060606060606060606060606060606";
        assert_eq!(hex::encode(sample().encode()), golden);
    }

    /// The bytes above were written before records had a trace, and are read as they were.
    #[test]
    fn a_record_without_a_trace_keeps_its_bytes_and_one_with_a_trace_appends_them() {
        let without = sample().encode();
        assert_eq!(Record::decode(&without.clone().into()), Ok(sample()));
        let trace = TraceContext::try_new([0xab; 16], [0xcd; 8], true);
        let traced = Record { trace, ..sample() };
        let bytes = traced.encode();
        let appended = format!("1c19{}{}01", "ab".repeat(16), "cd".repeat(8));
        assert_eq!(hex::encode(&bytes[without.len()..]), appended);
        assert_eq!(Record::decode(&bytes.clone().into()), Ok(traced.clone()));
        assert!(traced.into_erased(None).trace.is_none());

        let mut wrong = without;
        put_field(&mut wrong, tag::TRACE, &[0; TraceContext::BYTES]);
        assert_eq!(
            Record::decode(&wrong.into()),
            Err(RecordError { field: 28 })
        );
    }

    #[test]
    fn the_bytes_of_erasure_marks_never_change_and_an_erased_record_keeps_its_place_only() {
        let encoded = |erasure| {
            let record = Record {
                erasure: Some(erasure),
                ..sample()
            };
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes.clone().into()), Ok(record));
            // Before the hops and the tag of the request, which come last.
            let last = 3 + 2 + SignedRequestTag::BYTES;
            hex::encode(&bytes[sample().encode().len() - last..bytes.len() - last])
        };
        assert_eq!(encoded(ErasureMark::Erases), "180101");
        assert_eq!(encoded(ErasureMark::Erased { claim: None }), "180102");
        assert_eq!(
            encoded(ErasureMark::Erased { claim: Some(9) }),
            "1809020000000000000009"
        );

        let erased = Record {
            payload: "secret".into(),
            change: "secret".into(),
            answer: "secret".into(),
            warnings: vec!["secret".into()],
            call_body: "secret".into(),
            idempotency_key: Some("secret".into()),
            unique_key: Some("secret".into()),
            failure: Some(EventFailure {
                code: 404,
                message: "secret".into(),
            }),
            ..sample()
        }
        .into_erased(None);
        assert!(!String::from_utf8_lossy(&erased.encode()).contains("secret"));
        assert!(erased.is_erased() && erased.request_hash.is_none());
        assert_eq!(erased.signed_request, sample().signed_request);
        assert_eq!(erased.failure.map(|failure| failure.code), Some(404));
        let of = sample();
        assert_eq!(
            (
                erased.at,
                erased.entity,
                erased.sequence,
                erased.event_type,
                erased.late
            ),
            (of.at, of.entity, of.sequence, of.event_type, of.late)
        );
        assert_eq!(
            (erased.reprocesses, erased.pending, erased.resolves),
            (of.reprocesses, of.pending, of.resolves)
        );
    }

    #[test]
    fn a_field_of_a_later_version_is_refused() {
        let mut bytes = sample().encode();
        put_field(&mut bytes, 200, b"?");
        assert_eq!(
            Record::decode(&bytes.into()),
            Err(RecordError { field: 200 })
        );
    }

    proptest! {
        #[test]
        fn encoded_records_are_decoded_unchanged(
            micros in any::<i64>(),
            id in "[^\\p{Cc}]{1,60}",
            sequence in any::<Option<u64>>(),
            late in any::<bool>(),
            key in any::<Option<String>>(),
            payload in prop::collection::vec(any::<u8>(), 0..40_000),
            change in prop::collection::vec(any::<u8>(), 0..300),
            failure in any::<Option<(u16, String)>>(),
            reprocesses in any::<Option<u64>>(),
            shape in prop::sample::select(vec![
                PayloadShape::Envelope,
                PayloadShape::Bare,
                PayloadShape::Form,
            ]),
            (answer, request_hash) in (
                prop::collection::vec(any::<u8>(), 0..300),
                any::<Option<[u8; 32]>>(),
            ),
            (highest_id, unique_key) in (any::<Option<u64>>(), any::<Option<String>>()),
            (pending, resolves, claim) in
                (any::<bool>(), any::<Option<u64>>(), any::<Option<Option<u64>>>()),
            (warnings, call_body, credential) in (
                prop::collection::vec(any::<String>(), 0..3),
                prop::collection::vec(any::<u8>(), 0..300),
                any::<Option<u32>>(),
            ),
            hops in any::<u8>(),
            signed_request in any::<Option<[u8; 16]>>(),
            (token, trace) in (any::<Option<String>>(), any::<Option<([u8; 16], [u8; 8], bool)>>()),
        ) {
            let record = Record {
                at: Timestamp::from_micros(micros),
                decided_at: Timestamp::from_micros(micros),
                source: "support".into(),
                entity: EntityKey::try_new(Kind::Ticket, &id)
                    .expect("at most 240 bytes, none of them control"),
                sequence,
                event_type: "x.y".into(),
                late,
                idempotency_key: key,
                payload: payload.into(),
                change: change.into(),
                failure: failure.map(|(code, message)| EventFailure { code, message }),
                reprocesses: reprocesses.map(Position::new),
                shape,
                answer: answer.into(),
                request_hash,
                highest_id,
                unique_key,
                pending,
                resolves: resolves.map(Position::new),
                warnings,
                call_body: call_body.into(),
                credential,
                erasure: claim.map(|claim| ErasureMark::Erased { claim }),
                hops,
                signed_request: signed_request.map(SignedRequestTag::from_bytes),
                token,
                trace: trace.and_then(|(trace, span, flag)| TraceContext::try_new(trace, span, flag)),
            };
            prop_assert_eq!(Record::decode(&record.encode().into()), Ok(record));
        }

        #[test]
        fn a_cut_record_is_never_read_as_whole(cut in 1_usize..100) {
            let bytes = sample().encode();
            let kept = bytes.len().saturating_sub(cut);
            let read = Record::decode(&Bytes::from(bytes).slice(..kept));
            prop_assert!(read != Ok(sample()));
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_record_is_read_or_refused(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            damaged(&[sample().encode()]),
        ]) {
            let _ = Record::decode(&bytes.into());
        }
    }
}
