//! Rows of recovery jobs and of their parts, one part for each subscriber.
//!
//! | key after the tag | value after format u8 = 1 |
//! |---|---|
//! | 0 u64 | next free id u64 |
//! | id u64 | JSON: scope and state of the job, and the counts of its finished parts |
//! | id u64, subscriber | progress of the unfinished part at that subscriber |
//!
//! ```text
//! progress  read_to u64 | end u64 | delivered u64 | failed u64 | skipped u64 | updated_at i64
//!           | total u64, 2^64 − 1 = unknown | unsettled position u64 …
//! ```

use serde::{Deserialize, Serialize};

use super::delivery_tables::{DeliveryTables, malformed_row};
use super::row_decoder::{FORMAT, RowDecoder};
use super::row_key::{RowKey, TableTag};
use crate::derived::DerivedStoreError;
use crate::event::{Kind as EntityKind, Position, Timestamp};
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::{DeadLetterCause, DeadLetterFilter};
use crate::subscriber::jobs::{JobCounts, JobKind, JobPart, JobScope, JobState, RedeliveryJob};
use crate::subscription::Pattern;

const UNKNOWN_TOTAL: u64 = u64::MAX;

/// JSON of a job; exactly one of `letters` and `records` is present. Times are microseconds since
/// 1970. Members added later need a default.
#[derive(Serialize, Deserialize)]
struct RedeliveryJobRow {
    kind: String,
    subscriber: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letters: Option<DeadLetterWorkRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<RecordWorkRow>,
    state: String,
    reason: Option<String>,
    created_at: i64,
    updated_at: i64,
    delivered: u64,
    failed: u64,
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct DeadLetterWorkRow {
    before: u64,
    event: Option<String>,
    kind: Option<String>,
    entity: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RecordWorkRow {
    events: Vec<String>,
    resolves: Option<u64>,
}

impl DeliveryTables {
    /// Returns all jobs by ascending id. Parts of finished jobs, left by a crash, are skipped.
    pub(in crate::subscriber) fn jobs(&self) -> Result<Vec<RedeliveryJob>, DerivedStoreError> {
        let mut jobs: Vec<RedeliveryJob> = Vec::new();
        for (key, value) in self.scan(&RowKey::from_tag(TableTag::Job), None, usize::MAX)? {
            let mut rest = RowDecoder::new(key.as_bytes());
            let id = rest
                .read_byte()
                .and_then(|_| rest.read_number())
                .ok_or_else(malformed_row)?;
            if id == 0 {
                continue;
            }

            if rest.remaining().is_empty() {
                jobs.push(decode_job(id, &value).ok_or_else(malformed_row)?);
                continue;
            }

            let subscriber = rest
                .read_text()
                .and_then(|text| SubscriberId::parse(&text))
                .ok_or_else(malformed_row)?;
            let (part, updated_at) = decode_job_part(&value).ok_or_else(malformed_row)?;
            if let Some(job) = jobs
                .last_mut()
                .filter(|job| job.id == id && !job.state.is_finished())
            {
                job.updated_at = job.updated_at.max(updated_at);
                job.parts.insert(subscriber, part);
            }
        }
        Ok(jobs)
    }
}

pub(in crate::subscriber) fn job_key(id: u64) -> RowKey {
    RowKey::from_tag(TableTag::Job).with_number(id)
}

pub(in crate::subscriber) fn job_part_key(id: u64, subscriber: &SubscriberId) -> RowKey {
    job_key(id).with_text(&subscriber.to_string())
}

/// Encodes a job without its parts.
pub(in crate::subscriber) fn encode_job(job: &RedeliveryJob) -> Vec<u8> {
    let (letters, records) = match &job.scope {
        JobScope::Letters { filter, before } => {
            (Some(to_dead_letter_work_row(filter, *before)), None)
        }
        JobScope::Records { patterns, resolves } => {
            let events = patterns
                .iter()
                .map(|pattern| pattern.as_str().to_owned())
                .collect();
            (
                None,
                Some(RecordWorkRow {
                    events,
                    resolves: *resolves,
                }),
            )
        }
    };
    let reason = match &job.state {
        JobState::Cancelled { reason } => reason.clone(),
        JobState::Pending | JobState::Running | JobState::Completed => None,
    };
    let JobCounts {
        delivered,
        failed,
        skipped,
    } = job.ended;

    let stored = RedeliveryJobRow {
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
    serde_json::to_writer(&mut bytes, &stored)
        .expect("its members have JSON texts, and a Vec takes every write");
    bytes
}

fn to_dead_letter_work_row(filter: &DeadLetterFilter, before: u64) -> DeadLetterWorkRow {
    DeadLetterWorkRow {
        before,
        event: filter.event.clone(),
        kind: filter.kind.map(|kind| kind.as_str().to_owned()),
        entity: filter.entity.clone(),
        since: filter.since.map(Timestamp::as_micros),
        until: filter.until.map(Timestamp::as_micros),
        reason: filter.cause.map(|cause| cause.as_str().to_owned()),
    }
}

fn decode_job(id: u64, bytes: &[u8]) -> Option<RedeliveryJob> {
    let json = RowDecoder::from_value(bytes)?.remaining();
    let stored: RedeliveryJobRow = serde_json::from_slice(json).ok()?;
    let subscriber = match stored.subscriber {
        Some(text) => Some(SubscriberId::parse(&text)?),
        None => None,
    };
    let scope = match (stored.letters, stored.records) {
        (Some(letters), None) => JobScope::Letters {
            before: letters.before,
            filter: to_dead_letter_filter(letters, subscriber.clone())?,
        },
        (None, Some(RecordWorkRow { events, resolves })) => {
            let patterns = events
                .iter()
                .map(|text| Pattern::from_store(text))
                .collect::<Option<_>>()?;
            JobScope::Records { patterns, resolves }
        }
        (Some(_), Some(_)) | (None, None) => return None,
    };
    Some(RedeliveryJob {
        id,
        kind: JobKind::NAMED
            .iter()
            .find(|(name, _)| *name == stored.kind)?
            .1,
        subscriber,
        scope,
        state: parse_job_state(&stored.state, stored.reason)?,
        created_at: Timestamp::from_micros(stored.created_at),
        updated_at: Timestamp::from_micros(stored.updated_at),
        ended: JobCounts {
            delivered: stored.delivered,
            failed: stored.failed,
            skipped: stored.skipped,
        },
        parts: std::collections::BTreeMap::new(),
    })
}

fn parse_job_state(name: &str, reason: Option<String>) -> Option<JobState> {
    let all = [
        JobState::Pending,
        JobState::Running,
        JobState::Completed,
        JobState::Cancelled { reason },
    ];
    all.into_iter().find(|state| state.as_str() == name)
}

fn to_dead_letter_filter(
    letters: DeadLetterWorkRow,
    subscriber: Option<SubscriberId>,
) -> Option<DeadLetterFilter> {
    Some(DeadLetterFilter {
        subscriber,
        event: letters.event,
        kind: letters
            .kind
            .map(|kind| EntityKind::from_store(&kind).ok_or(()))
            .transpose()
            .ok()?,
        entity: letters.entity,
        since: letters.since.map(Timestamp::from_micros),
        until: letters.until.map(Timestamp::from_micros),
        cause: letters
            .reason
            .map(|reason| DeadLetterCause::parse(&reason).ok_or(()))
            .transpose()
            .ok()?,
        before_id: None,
    })
}

/// Encodes a job's part at one subscriber; `updated_at` is the time of its last settled record.
pub(in crate::subscriber) fn encode_job_part(part: &JobPart, updated_at: Timestamp) -> Vec<u8> {
    let ((read_to, end), counts) = (part.reading_range(), part.counts());
    let fixed = [
        read_to.get(),
        end.get(),
        counts.delivered,
        counts.failed,
        counts.skipped,
    ];

    let mut bytes = vec![FORMAT];
    fixed
        .iter()
        .for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    bytes.extend_from_slice(&updated_at.as_micros().to_be_bytes());
    bytes.extend_from_slice(&part.expected_total().unwrap_or(UNKNOWN_TOTAL).to_be_bytes());
    part.unsettled()
        .for_each(|position| bytes.extend_from_slice(&position.get().to_be_bytes()));
    bytes
}

fn decode_job_part(bytes: &[u8]) -> Option<(JobPart, Timestamp)> {
    let mut rest = RowDecoder::from_value(bytes)?;
    let mut number = || rest.read_number();
    let reading = (Position::new(number()?), Position::new(number()?));
    let counts = JobCounts {
        delivered: number()?,
        failed: number()?,
        skipped: number()?,
    };
    let updated_at = Timestamp::from_micros(number()?.cast_signed());
    let total = Some(number()?).filter(|total| *total != UNKNOWN_TOTAL);
    let mut unsettled = Vec::new();
    while !rest.remaining().is_empty() {
        unsettled.push(Position::new(rest.read_number()?));
    }
    Some((
        JobPart::from_store(reading, unsettled, counts, total),
        updated_at,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn sample() -> RedeliveryJob {
        let filter = DeadLetterFilter {
            subscriber: Some(SubscriberId::Webhook(4)),
            ..DeadLetterFilter::default()
        };
        RedeliveryJob {
            id: 3,
            kind: JobKind::Recover,
            subscriber: Some(SubscriberId::Webhook(4)),
            scope: JobScope::Letters {
                filter: DeadLetterFilter {
                    since: Some(Timestamp::from_micros(1)),
                    kind: Some(EntityKind::Ticket),
                    ..filter
                },
                before: 9,
            },
            state: JobState::Running,
            created_at: Timestamp::from_micros(2),
            updated_at: Timestamp::from_micros(3),
            ended: JobCounts {
                delivered: 1,
                failed: 2,
                skipped: 3,
            },
            parts: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn the_bytes_of_jobs_never_change() {
        assert_eq!(hex::encode(job_key(3).as_bytes()), "050000000000000003");
        let part_key = job_part_key(3, &SubscriberId::AutoReply);
        assert_eq!(
            hex::encode(part_key.as_bytes()),
            format!("050000000000000003{}0001", hex::encode("auto_reply"))
        );
        let letters = concat!(
            "\u{1}",
            r#"{"kind":"recover","subscriber":"webhook:4","letters":{"before":9,"event":null,"kind":"ticket","#,
            r#""entity":null,"since":1,"until":null,"reason":null},"state":"running","reason":null,"#,
            r#""created_at":2,"updated_at":3,"delivered":1,"failed":2,"skipped":3}"#
        );
        assert_eq!(
            String::from_utf8(encode_job(&sample())).expect("text"),
            letters
        );
        assert_eq!(decode_job(3, letters.as_bytes()), Some(sample()));
        let pattern = Pattern::from_store("ticket:*").expect("a pattern");
        let work = JobScope::Records {
            patterns: vec![pattern],
            resolves: Some(7),
        };
        let state = JobState::Cancelled {
            reason: Some("gone".into()),
        };
        let replay = RedeliveryJob {
            kind: JobKind::Replay,
            subscriber: None,
            scope: work,
            state,
            ..sample()
        };
        let records = concat!(
            "\u{1}",
            r#"{"kind":"replay","subscriber":null,"records":{"events":["ticket:*"],"#,
            r#""resolves":7},"state":"cancelled","reason":"gone","created_at":2,"updated_at":3,"#,
            r#""delivered":1,"failed":2,"skipped":3}"#
        );
        assert_eq!(
            String::from_utf8(encode_job(&replay)).expect("text"),
            records
        );
        // Rows of former versions also have the time range.
        let former = records.replace(r#"{"events""#, r#"{"since":7,"until":null,"events""#);
        assert_eq!(decode_job(3, former.as_bytes()), Some(replay.clone()));
        assert_eq!(decode_job(3, records.as_bytes()), Some(replay));
    }

    #[test]
    fn the_bytes_of_parts_never_change() {
        let counts = JobCounts {
            delivered: 3,
            failed: 4,
            skipped: 5,
        };
        let reading = (Position::new(1), Position::new(2));
        let part = JobPart::from_store(reading, [Position::new(8), Position::new(9)], counts, None);
        let numbers = [1_u64, 2, 3, 4, 5, 6, u64::MAX, 8, 9]
            .map(|number| format!("{number:016x}"))
            .concat();
        let bytes = encode_job_part(&part, Timestamp::from_micros(6));
        assert_eq!(hex::encode(&bytes), format!("01{numbers}"));
        assert_eq!(
            decode_job_part(&bytes),
            Some((part, Timestamp::from_micros(6)))
        );
        let single_record = JobPart::for_record(Position::new(7));
        assert_eq!(
            decode_job_part(&encode_job_part(&single_record, Timestamp::default())),
            Some((single_record, Timestamp::default()))
        );
        for cut in [0, 1, 8, bytes.len() - 1] {
            assert_eq!(decode_job_part(&bytes[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_job_is_read_or_refused(
            job in damaged(&[encode_job(&sample())]), part in damaged(&[[[FORMAT; 1].as_slice(), &[0; 64]].concat()]),
        ) {
            let _ = (decode_job(3, &job), decode_job_part(&part));
        }
    }
}
