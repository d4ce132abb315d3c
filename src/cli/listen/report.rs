//! Output of the listener: a line for each delivery, readable or in JSON, and a summary.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::delivery::ListenerDelivery;
use super::keys::DeliverySignatureCheck;
use super::order_tracker::OrderMark;
use crate::cli::plural::format_count;
use crate::event::Timestamp;

/// Delivery with the result of its checks and its answer.
#[derive(Debug)]
pub(super) struct ReportLine {
    /// Time at which the delivery arrived.
    pub(super) at: Timestamp,
    pub(super) delivery: ListenerDelivery,
    pub(super) signatures: Vec<DeliverySignatureCheck>,
    /// True if the listener has keys, so a missing signature is an error.
    pub(super) is_checked: bool,
    pub(super) mark: OrderMark,
    /// Number of this attempt, from 1; 1 if the entity is unknown.
    pub(super) attempt: u32,
    pub(super) outcome: ListenOutcome,
    /// True if the event of the delivery is accepted for the first time.
    pub(super) is_new: bool,
}

/// End of a delivery, seen from the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenOutcome {
    /// Answered with this status code.
    Answered(u16),
    /// The sender disconnected before the answer.
    GivenUp,
}

impl ListenOutcome {
    pub(super) fn is_accepted(self) -> bool {
        matches!(self, Self::Answered(200..300))
    }
}

impl ReportLine {
    fn is_unsigned(&self) -> bool {
        self.is_checked && self.signatures.is_empty()
    }

    fn is_wrongly_signed(&self) -> bool {
        self.is_unsigned() || self.signatures.iter().any(DeliverySignatureCheck::is_bad)
    }

    /// Formats the line as JSON, for scripts.
    pub(super) fn to_json(&self) -> Value {
        let delivery = &self.delivery;
        let entity = delivery
            .entity
            .as_ref()
            .map(|(kind, id)| json!({"kind": kind, "id": id}));
        let signatures = self.signatures.iter().map(|checked| {
            (
                checked.style_name().to_owned(),
                checked.verdict.as_str().into(),
            )
        });
        let status = match self.outcome {
            ListenOutcome::Answered(status) => Some(status),
            ListenOutcome::GivenUp => None,
        };
        json!({
            "at": self.at,
            "status": status,
            "webhook_id": delivery.id,
            "event": delivery.event,
            "entity": entity,
            "sequence": delivery.sequence,
            "attempt": self.attempt,
            "late": delivery.is_late,
            "signatures": Value::Object(signatures.collect()),
            "mark": self.mark.as_mark_word(),
        })
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<_> = self.signatures.iter().map(ToString::to_string).collect();
        let mut add =
            |applies: bool, remark: &str| remarks.extend(applies.then(|| remark.to_owned()));
        add(self.is_unsigned(), "UNSIGNED");
        add(self.delivery.is_late, "late");
        add(self.attempt > 1, &format!("attempt {}", self.attempt));
        match self.mark {
            OrderMark::InOrder => {}
            OrderMark::Repeat => add(true, "REPEAT: accepted before"),
            OrderMark::Again => add(true, "AGAIN: sent by a retry or replay job"),
            OrderMark::Swap(later) => add(true, &format!("SWAP: {later} was accepted before")),
            OrderMark::Early(earlier) => {
                add(true, &format!("SWAP: {earlier} is still being answered"))
            }
            OrderMark::Gap(first, last) if first == last => {
                add(true, &format!("GAP: {first} did not arrive"))
            }
            OrderMark::Gap(first, last) => {
                add(true, &format!("GAP: {first} to {last} did not arrive"))
            }
        }
        add(
            self.outcome == ListenOutcome::GivenUp,
            "the sender disconnected before the answer",
        );
        remarks
    }
}

/// Formats the line as columns, for a terminal.
impl fmt::Display for ReportLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.to_string();
        let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
        let mut entity = String::new();
        if let Some((kind, id)) = &self.delivery.entity {
            write!(entity, "{kind}/{id}")?;
        }
        if let Some(sequence) = self.delivery.sequence {
            write!(entity, " #{sequence}")?;
        }
        let event = self.delivery.event.as_deref().unwrap_or("?");
        match self.outcome {
            ListenOutcome::Answered(status) => write!(f, "{time} {status} ")?,
            ListenOutcome::GivenUp => write!(f, "{time} --- ")?,
        }
        write!(
            f,
            "{event:<22} {:<22} {}",
            entity.trim_start(),
            self.remarks().join(", ")
        )
    }
}

impl OrderMark {
    /// Stable word of the mark in JSON output.
    fn as_mark_word(self) -> Option<&'static str> {
        match self {
            Self::InOrder => None,
            Self::Repeat => Some("repeat"),
            Self::Again => Some("again"),
            Self::Swap(_) | Self::Early(_) => Some("swap"),
            Self::Gap(..) => Some("gap"),
        }
    }
}

/// Counters of all deliveries, for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct ReportTotals {
    pub(in crate::cli) deliveries: u64,
    /// Events that were accepted for the first time.
    pub(in crate::cli) events: u64,
    pub(in crate::cli) refused: u64,
    pub(in crate::cli) given_up: u64,
    pub(in crate::cli) repeats: u64,
    /// Deliveries sent by a retry or replay job.
    pub(in crate::cli) again: u64,
    pub(in crate::cli) gaps: u64,
    pub(in crate::cli) swaps: u64,
    pub(in crate::cli) wrongly_signed: u64,
}

impl ReportTotals {
    /// Counts the delivery of `line` with its checks and its answer.
    pub(super) fn add_line(&mut self, line: &ReportLine) {
        let add = |total: &mut u64, applies: bool| *total += u64::from(applies);
        add(&mut self.deliveries, true);
        add(&mut self.events, line.is_new);
        add(
            &mut self.refused,
            matches!(line.outcome, ListenOutcome::Answered(_)) && !line.outcome.is_accepted(),
        );
        add(&mut self.given_up, line.outcome == ListenOutcome::GivenUp);
        add(&mut self.repeats, line.mark == OrderMark::Repeat);
        add(&mut self.again, line.mark == OrderMark::Again);
        add(&mut self.gaps, matches!(line.mark, OrderMark::Gap(..)));
        add(
            &mut self.swaps,
            matches!(line.mark, OrderMark::Swap(_) | OrderMark::Early(_)),
        );
        add(&mut self.wrongly_signed, line.is_wrongly_signed());
    }

    /// Formats the summary as JSON, for scripts.
    pub(super) fn to_json(self, entities: u64) -> Value {
        let Self {
            deliveries,
            events,
            refused,
            given_up,
            repeats,
            again,
            gaps,
            swaps,
            wrongly_signed,
        } = self;
        json!({"summary": {
            "deliveries": deliveries,
            "events": events,
            "entities": entities,
            "refused": refused,
            "given_up": given_up,
            "repeats": repeats,
            "again": again,
            "gaps": gaps,
            "swaps": swaps,
            "wrongly_signed": wrongly_signed,
        }})
    }

    /// Formats the summary as a sentence, for a terminal.
    pub(super) fn describe(self, entities: u64) -> String {
        let deliveries = format_count(self.deliveries, "delivery", "deliveries");
        let accepted = format_count(self.events, "event", "events");
        let entities = format_count(entities, "entity", "entities");
        let parts = [
            (self.refused, "refused", "refused"),
            (
                self.given_up,
                "abandoned by the sender",
                "abandoned by the sender",
            ),
            (self.repeats, "repeat", "repeats"),
            (self.again, "replayed", "replayed"),
            (self.gaps, "gap", "gaps"),
            (self.swaps, "SWAP", "SWAPS"),
            (self.wrongly_signed, "WRONGLY SIGNED", "WRONGLY SIGNED"),
        ];
        let parts: String = parts
            .iter()
            .map(|(number, one, many)| format!(", {}", format_count(*number, one, many)))
            .collect();
        format!("{deliveries}, {accepted} of {entities} accepted{parts}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mark: OrderMark, attempt: u32, outcome: ListenOutcome) -> ReportLine {
        let delivery = ListenerDelivery {
            id: Some("evt_1".to_owned()),
            event: Some("message.created".to_owned()),
            entity: Some(("ticket".to_owned(), "T-1".to_owned())),
            sequence: Some(5),
            is_late: attempt == 2,
            is_again: false,
        };
        let at = Timestamp::parse("2025-12-04T10:30:00.123Z").expect("a time");
        ReportLine {
            at,
            delivery,
            signatures: Vec::new(),
            is_checked: false,
            mark,
            attempt,
            outcome,
            is_new: false,
        }
    }

    #[test]
    fn a_line_shows_the_delivery_and_its_remarks() {
        let started = "10:30:00.123Z 200 message.created        ticket/T-1 #5          ";
        for (mark, remark) in [
            (OrderMark::InOrder, ""),
            (OrderMark::Repeat, "REPEAT: accepted before"),
            (OrderMark::Again, "AGAIN: sent by a retry or replay job"),
            (OrderMark::Swap(7), "SWAP: 7 was accepted before"),
            (OrderMark::Early(4), "SWAP: 4 is still being answered"),
            (OrderMark::Gap(4, 4), "GAP: 4 did not arrive"),
            (OrderMark::Gap(2, 4), "GAP: 2 to 4 did not arrive"),
        ] {
            assert_eq!(
                line(mark, 1, ListenOutcome::Answered(200)).to_string(),
                format!("{started}{remark}")
            );
        }
        let second = line(OrderMark::InOrder, 2, ListenOutcome::GivenUp).to_string();
        assert!(
            second.contains("Z --- m")
                && second.ends_with("late, attempt 2, the sender disconnected before the answer")
        );
        let unsigned = ReportLine {
            is_checked: true,
            ..line(OrderMark::InOrder, 1, ListenOutcome::Answered(500))
        };
        assert!(unsigned.to_string().ends_with("UNSIGNED"), "{unsigned}");
    }

    #[test]
    fn the_json_output_has_the_same_content() {
        let json = line(OrderMark::Swap(7), 2, ListenOutcome::Answered(503)).to_json();
        let expected = json!({
            "at": "2025-12-04T10:30:00.123Z", "status": 503, "webhook_id": "evt_1", "event": "message.created",
            "entity": {"kind": "ticket", "id": "T-1"}, "sequence": 5, "attempt": 2, "late": true, "signatures": {},
            "mark": "swap",
        });
        assert_eq!(json, expected);
        assert_eq!(
            line(OrderMark::InOrder, 1, ListenOutcome::GivenUp).to_json()["status"],
            Value::Null
        );
    }

    #[test]
    fn the_totals_count_each_kind() {
        let mut totals = ReportTotals::default();
        let answered = ListenOutcome::Answered;
        totals.add_line(&line(OrderMark::InOrder, 1, answered(500)));
        totals.add_line(&ReportLine {
            is_new: true,
            ..line(OrderMark::InOrder, 2, answered(200))
        });
        totals.add_line(&line(OrderMark::Repeat, 1, answered(200)));
        totals.add_line(&line(OrderMark::Again, 1, answered(200)));
        totals.add_line(&line(OrderMark::Early(1), 1, ListenOutcome::GivenUp));
        totals.add_line(&ReportLine {
            is_checked: true,
            is_new: true,
            ..line(OrderMark::Gap(1, 2), 1, answered(204))
        });
        let expected = ReportTotals {
            deliveries: 6,
            events: 2,
            refused: 1,
            given_up: 1,
            repeats: 1,
            again: 1,
            gaps: 1,
            swaps: 1,
            wrongly_signed: 1,
        };
        assert_eq!(totals, expected);
        let text = "6 deliveries, 2 events of 1 entity accepted, 1 refused, 1 abandoned by the sender, 1 repeat, 1 replayed, \
                    1 gap, 1 SWAP, 1 WRONGLY SIGNED";
        assert_eq!(totals.describe(1), text);
        assert_eq!(totals.to_json(1)["summary"]["given_up"], 1);
    }
}
