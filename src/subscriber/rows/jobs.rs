//! The rows of jobs.
//!
//! | key after the tag | value |
//! |---|---|
//! | 0 u64 | format u8 = 1, the number u64 that the next one gets |
//! | id u64 | format u8 = 1, JSON: what was asked for, and what became of the parts that are over |
//! | id u64, subscriber | format u8 = 1, and of the part there: read_to u64, end u64, delivered u64, failed u64, skipped u64, updated_at i64, total u64 (2^64 − 1 = not known), then the unsettled positions u64 … |

use serde::{Deserialize, Serialize};

use super::{Key, Rest, Rows, Tag, malformed};
use crate::event::{Kind as EntityKind, Position, Timestamp};
use crate::journal::WriteError;
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::{Cause, Filter};
use crate::subscriber::jobs::{Counts, Job, Kind, Part, State, Work};
use crate::subscription::Pattern;

const FORMAT: u8 = 1;
const NOT_KNOWN: u64 = u64::MAX;

/// Members added later need a default. Times are microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Stored {
    kind: String,
    subscriber: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letters: Option<Letters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Records>,
    state: String,
    reason: Option<String>,
    created_at: i64,
    updated_at: i64,
    delivered: u64,
    failed: u64,
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct Letters {
    before: u64,
    event: Option<String>,
    kind: Option<String>,
    entity: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Records {
    since: Option<i64>,
    until: Option<i64>,
    events: Vec<String>,
    resolves: Option<u64>,
}

impl Rows {
    /// All jobs, in the order of their numbers. Parts that a crash left of one that is over are left out.
    pub(in crate::subscriber) fn jobs(&self) -> Result<Vec<Job>, WriteError> {
        let mut jobs: Vec<Job> = Vec::new();
        for (key, value) in self.scan(&Key::of(Tag::Job), None, usize::MAX)? {
            let mut rest = Rest::new(key.bytes());
            let id = rest.byte().and_then(|_| rest.number()).ok_or_else(malformed)?;
            if id == 0 {
                continue;
            }
            if rest.all().is_empty() {
                jobs.push(decode(id, &value).ok_or_else(malformed)?);
                continue;
            }
            let subscriber = rest.text().and_then(|text| SubscriberId::parse(&text)).ok_or_else(malformed)?;
            let (part, updated_at) = decode_part(&value).ok_or_else(malformed)?;
            if let Some(job) = jobs.last_mut().filter(|job| job.id == id && !job.state.is_over()) {
                job.updated_at = job.updated_at.max(updated_at);
                job.parts.insert(subscriber, part);
            }
        }
        Ok(jobs)
    }
}

/// Where the row of the job `id` is.
pub(in crate::subscriber) fn key(id: u64) -> Key {
    Key::of(Tag::Job).number(id)
}

/// Where the row is of what the job `id` does at `subscriber`.
pub(in crate::subscriber) fn part_key(id: u64, subscriber: &SubscriberId) -> Key {
    key(id).text(&subscriber.to_string())
}

/// The job without its parts.
pub(in crate::subscriber) fn encode(job: &Job) -> Vec<u8> {
    let (letters, records) = match &job.work {
        Work::Letters { filter, before } => (Some(letters(filter, *before)), None),
        Work::Records { since, until, patterns, resolves } => {
            let [since, until] = [since, until].map(|time| time.map(Timestamp::as_micros));
            let events = patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
            (None, Some(Records { since, until, events, resolves: *resolves }))
        }
    };
    let reason = match &job.state {
        State::Cancelled { reason } => reason.clone(),
        State::Pending | State::Running | State::Completed => None,
    };
    let Counts { delivered, failed, skipped } = job.ended;
    let stored = Stored {
        kind: job.kind.as_str().to_owned(),
        subscriber: job.subscriber.as_ref().map(ToString::to_string),
        letters,
        records,
        state: job.state.as_str().to_owned(),
        reason,
        created_at: job.created_at.as_micros(),
        updated_at: job.updated_at.as_micros(),
        delivered,
        failed,
        skipped,
    };
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, &stored).expect("its members have JSON texts, and a Vec takes every write");
    bytes
}

fn letters(filter: &Filter, before: u64) -> Letters {
    Letters {
        before,
        event: filter.event.clone(),
        kind: filter.kind.map(|kind| kind.as_str().to_owned()),
        entity: filter.entity.clone(),
        since: filter.since.map(Timestamp::as_micros),
        until: filter.until.map(Timestamp::as_micros),
        reason: filter.cause.map(|cause| cause.as_str().to_owned()),
    }
}

fn decode(id: u64, bytes: &[u8]) -> Option<Job> {
    let (&FORMAT, json) = bytes.split_first()? else { return None };
    let stored: Stored = serde_json::from_slice(json).ok()?;
    let subscriber = match stored.subscriber {
        Some(text) => Some(SubscriberId::parse(&text)?),
        None => None,
    };
    let work = match (stored.letters, stored.records) {
        (Some(letters), None) => Work::Letters { before: letters.before, filter: filter(letters, subscriber.clone())? },
        (None, Some(Records { since, until, events, resolves })) => {
            let patterns = events.iter().map(|text| Pattern::from_store(text)).collect::<Option<_>>()?;
            let [since, until] = [since, until].map(|time| time.map(Timestamp::from_micros));
            Work::Records { since, until, patterns, resolves }
        }
        (Some(_), Some(_)) | (None, None) => return None,
    };
    Some(Job {
        id,
        kind: Kind::NAMED.iter().find(|(name, _)| *name == stored.kind)?.1,
        subscriber,
        work,
        state: state(&stored.state, stored.reason)?,
        created_at: Timestamp::from_micros(stored.created_at),
        updated_at: Timestamp::from_micros(stored.updated_at),
        ended: Counts { delivered: stored.delivered, failed: stored.failed, skipped: stored.skipped },
        parts: std::collections::BTreeMap::new(),
    })
}

fn state(name: &str, reason: Option<String>) -> Option<State> {
    let all = [State::Pending, State::Running, State::Completed, State::Cancelled { reason }];
    all.into_iter().find(|state| state.as_str() == name)
}

fn filter(letters: Letters, subscriber: Option<SubscriberId>) -> Option<Filter> {
    Some(Filter {
        subscriber,
        event: letters.event,
        kind: letters.kind.map(|kind| EntityKind::from_store(&kind).ok_or(())).transpose().ok()?,
        entity: letters.entity,
        since: letters.since.map(Timestamp::from_micros),
        until: letters.until.map(Timestamp::from_micros),
        cause: letters.reason.map(|reason| Cause::parse(&reason).ok_or(())).transpose().ok()?,
    })
}

/// What a job does at one subscriber; something of it was settled last at `updated_at`.
pub(in crate::subscriber) fn encode_part(part: &Part, updated_at: Timestamp) -> Vec<u8> {
    let ((read_to, end), counts) = (part.reading(), part.counts());
    let fixed = [read_to.get(), end.get(), counts.delivered, counts.failed, counts.skipped];
    let mut bytes = vec![FORMAT];
    fixed.iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    bytes.extend_from_slice(&updated_at.as_micros().to_be_bytes());
    bytes.extend_from_slice(&part.expected().unwrap_or(NOT_KNOWN).to_be_bytes());
    part.unsettled().for_each(|position| bytes.extend_from_slice(&position.get().to_be_bytes()));
    bytes
}

fn decode_part(bytes: &[u8]) -> Option<(Part, Timestamp)> {
    let mut rest = Rest::new(bytes);
    rest.byte().filter(|format| *format == FORMAT)?;
    let mut number = || rest.number();
    let reading = (Position::new(number()?), Position::new(number()?));
    let counts = Counts { delivered: number()?, failed: number()?, skipped: number()? };
    let updated_at = Timestamp::from_micros(number()?.cast_signed());
    let total = Some(number()?).filter(|total| *total != NOT_KNOWN);
    let mut unsettled = Vec::new();
    while !rest.all().is_empty() {
        unsettled.push(Position::new(rest.number()?));
    }
    Some((Part::resume(reading, unsettled, counts, total), updated_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Job {
        let filter = Filter { subscriber: Some(SubscriberId::Webhook(4)), ..Filter::default() };
        Job {
            id: 3,
            kind: Kind::Recover,
            subscriber: Some(SubscriberId::Webhook(4)),
            work: Work::Letters {
                filter: Filter { since: Some(Timestamp::from_micros(1)), kind: Some(EntityKind::Ticket), ..filter },
                before: 9,
            },
            state: State::Running,
            created_at: Timestamp::from_micros(2),
            updated_at: Timestamp::from_micros(3),
            ended: Counts { delivered: 1, failed: 2, skipped: 3 },
            parts: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn the_bytes_of_jobs_never_change() {
        assert_eq!(hex::encode(key(3).bytes()), "050000000000000003");
        let part_key = part_key(3, &SubscriberId::AutoReply);
        assert_eq!(hex::encode(part_key.bytes()), format!("050000000000000003{}0001", hex::encode("auto_reply")));
        let letters = concat!(
            "\u{1}",
            r#"{"kind":"recover","subscriber":"webhook:4","letters":{"before":9,"event":null,"kind":"ticket","#,
            r#""entity":null,"since":1,"until":null,"reason":null},"state":"running","reason":null,"#,
            r#""created_at":2,"updated_at":3,"delivered":1,"failed":2,"skipped":3}"#
        );
        assert_eq!(String::from_utf8(encode(&sample())).expect("text"), letters);
        assert_eq!(decode(3, letters.as_bytes()), Some(sample()));
        let pattern = Pattern::from_store("ticket:*").expect("a pattern");
        let work = Work::Records { since: None, until: None, patterns: vec![pattern], resolves: Some(7) };
        let state = State::Cancelled { reason: Some("gone".into()) };
        let replay = Job { kind: Kind::Replay, subscriber: None, work, state, ..sample() };
        let records = concat!(
            "\u{1}",
            r#"{"kind":"replay","subscriber":null,"records":{"since":null,"until":null,"events":["ticket:*"],"#,
            r#""resolves":7},"state":"cancelled","reason":"gone","created_at":2,"updated_at":3,"#,
            r#""delivered":1,"failed":2,"skipped":3}"#
        );
        assert_eq!(String::from_utf8(encode(&replay)).expect("text"), records);
        assert_eq!(decode(3, records.as_bytes()), Some(replay));
    }

    #[test]
    fn the_bytes_of_parts_never_change() {
        let counts = Counts { delivered: 3, failed: 4, skipped: 5 };
        let reading = (Position::new(1), Position::new(2));
        let part = Part::resume(reading, [Position::new(8), Position::new(9)], counts, None);
        let numbers = [1_u64, 2, 3, 4, 5, 6, u64::MAX, 8, 9].map(|number| format!("{number:016x}")).concat();
        let bytes = encode_part(&part, Timestamp::from_micros(6));
        assert_eq!(hex::encode(&bytes), format!("01{numbers}"));
        assert_eq!(decode_part(&bytes), Some((part, Timestamp::from_micros(6))));
        let of_one = Part::of_one(Position::new(7));
        assert_eq!(decode_part(&encode_part(&of_one, Timestamp::default())), Some((of_one, Timestamp::default())));
        for cut in [0, 1, 8, bytes.len() - 1] {
            assert_eq!(decode_part(&bytes[..cut]), None, "{cut}");
        }
    }
}
