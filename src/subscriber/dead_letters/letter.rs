//! What is kept of a delivery that failed for good, and how lists choose among them.

use super::super::delivery::GiveUpReason;
use super::super::{OutboundRecord, SubscriberId};
use crate::event::{EntityKey, Kind, Position, Record, Timestamp};

/// How much of an answer is kept, in bytes: enough for an error message, not for a page.
pub const ANSWER_MAX_BYTES: usize = 1024;
/// How much of a failure's sentence is kept, in bytes.
const DETAIL_MAX_BYTES: usize = 512;

/// Why something is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterCause {
    /// The schedule is used up.
    Exhausted,
    /// It took too long.
    TooOld,
    /// The answer said that it will never be accepted, or it cannot be sent.
    Refused,
    /// The filter or the transform failed.
    Expression,
    /// It was owed for longer than it is held.
    Expired,
    /// The subscriber was disabled.
    Disabled,
}

impl DeadLetterCause {
    /// Every cause with its name.
    pub const NAMED: [(&'static str, Self); 6] = [
        ("exhausted", Self::Exhausted),
        ("too_old", Self::TooOld),
        ("refused", Self::Refused),
        ("expression", Self::Expression),
        ("expired", Self::Expired),
        ("disabled", Self::Disabled),
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::TooOld => "too_old",
            Self::Refused => "refused",
            Self::Expression => "expression",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
        }
    }

    /// The cause of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, cause)| *cause)
    }
}

impl From<GiveUpReason> for DeadLetterCause {
    fn from(reason: GiveUpReason) -> Self {
        match reason {
            GiveUpReason::Exhausted => Self::Exhausted,
            GiveUpReason::TooOld => Self::TooOld,
            GiveUpReason::Refused => Self::Refused,
            GiveUpReason::Expression => Self::Expression,
        }
    }
}

/// Something that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number, from 1, never used twice.
    pub id: u64,
    /// To whom.
    pub subscriber: SubscriberId,
    /// Why.
    pub cause: DeadLetterCause,
    /// Since when.
    pub at: Timestamp,
    /// What.
    pub subject: DeadLetterSubject,
}

/// What was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterSubject {
    /// One event.
    Event(Box<FailedDelivery>),
    /// All that was owed of a part of the journal.
    Range {
        /// The first of them.
        first: Position,
        /// The last of them.
        last: Position,
        /// How many, at most: those between them that a filter would have kept back may be among
        /// them.
        count: u64,
    },
}

/// A delivery that failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDelivery {
    /// Where its record stands.
    pub position: Position,
    /// The position in the public id of its event.
    pub event: Position,
    /// Its event's name.
    pub event_type: String,
    /// Its entity.
    pub entity: EntityKey,
    /// Its number among its entity's records.
    pub sequence: u64,
    /// When its request was received.
    pub received_at: Timestamp,
    /// Attempts made at it, all retries included.
    pub attempts: u32,
    /// When the last of them ended.
    pub last_at: Timestamp,
    /// The last answer's status.
    pub status: Option<u16>,
    /// A stable code for what went wrong.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
    /// The beginning of the last answer.
    pub answer: String,
    /// Whether its entity's later records wait until it is dealt with.
    pub is_halting: bool,
}

/// A delivery that has just failed for good.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// The record.
    pub item: OutboundRecord,
    /// Attempts made at it.
    pub attempts: u32,
    /// Why the last one, or the filter, failed.
    pub failure: super::super::AttemptFailure,
    /// Why there is no other attempt.
    pub reason: GiveUpReason,
    /// Whether its lane stands still until it is dealt with.
    pub is_halting: bool,
}

impl NewDeadLetter {
    /// What is kept of it, at `now`; `earlier` attempts were made at it before.
    pub(super) fn into_failed_delivery(self, earlier: u32, now: Timestamp) -> FailedDelivery {
        let Self {
            item,
            attempts,
            failure,
            reason: _,
            is_halting,
        } = self;
        FailedDelivery {
            position: item.position,
            event: item.record.reprocesses.unwrap_or(item.position),
            event_type: item.record.event_type.clone(),
            entity: item.record.entity.clone(),
            sequence: item.sequence,
            received_at: item.received_at,
            attempts: earlier.saturating_add(attempts),
            last_at: now,
            status: failure.status,
            code: failure.code.to_owned(),
            detail: truncate_text(&failure.detail, DETAIL_MAX_BYTES).to_owned(),
            answer: answer_excerpt(&failure.answer),
            is_halting,
        }
    }
}

/// Which dead letters a list or a job is about; what is `None` is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// To whom.
    pub subscriber: Option<SubscriberId>,
    /// The event's name.
    pub event: Option<String>,
    /// The entity's kind.
    pub kind: Option<Kind>,
    /// The entity's id.
    pub entity: Option<String>,
    /// The event was received at this moment or later.
    pub since: Option<Timestamp>,
    /// The event was received before this moment.
    pub until: Option<Timestamp>,
    /// Why.
    pub cause: Option<DeadLetterCause>,
}

impl Filter {
    /// Whether `letter` is asked for. One about many events passes where no single event is asked
    /// about, at the time when it was made.
    #[must_use]
    pub fn admits(&self, letter: &DeadLetter) -> bool {
        let of_event = match &letter.subject {
            DeadLetterSubject::Event(delivery) => {
                self.admits_event(&delivery.event_type, &delivery.entity, delivery.received_at)
            }
            DeadLetterSubject::Range { .. } => {
                self.event.is_none()
                    && self.kind.is_none()
                    && self.entity.is_none()
                    && self.admits_time(letter.at)
            }
        };
        of_event
            && self
                .subscriber
                .as_ref()
                .is_none_or(|subscriber| *subscriber == letter.subscriber)
            && self.cause.is_none_or(|cause| cause == letter.cause)
    }

    /// Whether a dead letter of `record` is asked for, as far as its event goes.
    #[must_use]
    pub fn admits_record(&self, record: &Record, received_at: Timestamp) -> bool {
        self.admits_event(&record.event_type, &record.entity, received_at)
    }

    fn admits_event(&self, event_type: &str, entity: &EntityKey, received_at: Timestamp) -> bool {
        self.event.as_ref().is_none_or(|event| event == event_type)
            && self.kind.is_none_or(|kind| kind == entity.kind())
            && self.entity.as_ref().is_none_or(|id| id == entity.id())
            && self.admits_time(received_at)
    }

    fn admits_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// The beginning of an answer as text. Control characters, which say nothing to a reader, are left
/// out.
fn answer_excerpt(answer: &[u8]) -> String {
    let bytes = &answer[..answer.len().min(ANSWER_MAX_BYTES)];
    let text = String::from_utf8_lossy(bytes);
    let readable: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    truncate_text(&readable, ANSWER_MAX_BYTES).to_owned()
}

/// The longest beginning of `text` with at most `bytes_max` bytes.
fn truncate_text(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
