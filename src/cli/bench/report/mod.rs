//! Report of a run: the figures, with one file for each format.

use serde::Serialize;

use super::latency::{LatencyInterval, LatencyQuantile, LatencySummary};
use super::machine::MachineDescription;
use super::order_audit::OrderVerdict;
use super::settings::LoadSettings;
use crate::cli::plural::format_count;

pub(super) mod html;
pub(super) mod json;
pub(super) mod table;

/// Figures of a whole run.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    pub(super) version: &'static str,
    /// Command that repeats the run.
    pub(super) command: String,
    pub(super) target: String,
    pub(super) machine: MachineDescription,
    pub(super) load: LoadSettings,
    /// Remarks without which the figures would mislead.
    pub(super) remarks: Vec<String>,
    /// True if a person ended the run early.
    pub(super) is_interrupted: bool,
    pub(super) accept: AcceptFigures,
    pub(super) delivery: Option<DeliveryFigures>,
    /// Events a second of each entity that got any.
    pub(super) entities: EntityThroughput,
    pub(super) node: Option<ProcessFigures>,
    pub(super) generator: Option<GeneratorFigures>,
    pub(super) kills: Option<KillFigures>,
    pub(super) retries: RetryFigures,
    pub(super) baseline: Option<BaselineFigures>,
    pub(super) verdict: BenchVerdict,
}

/// Figures of the answers to senders.
#[derive(Debug, Serialize)]
pub(super) struct AcceptFigures {
    pub(super) events: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) latency: LatencySummary,
    pub(super) quantiles: Vec<LatencyQuantile>,
    pub(super) intervals: Vec<LatencyInterval>,
}

/// Figures of the deliveries; latencies run from the time at which an event was due to be sent.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryFigures {
    /// New events that subscribers accepted, over all of them.
    pub(super) events: u64,
    /// Time from the first request to the last delivery.
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// Latency at subscribers without a fault; `None` if all have one.
    pub(super) latency: Option<LatencySummary>,
    pub(super) quantiles: Vec<LatencyQuantile>,
    pub(super) intervals: Vec<LatencyInterval>,
    /// Latency at subscribers with a fault.
    pub(super) faulty_latency: Option<LatencySummary>,
    /// Attempts that subscribers with a fault did not accept.
    pub(super) failed_attempts: u64,
}

/// Events a second of single entities.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct EntityThroughput {
    pub(super) entities: usize,
    pub(super) min_per_second: f64,
    pub(super) median_per_second: f64,
    pub(super) max_per_second: f64,
}

/// Processor time and memory of the node.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ProcessFigures {
    /// Processor time over all threads, deliveries included, for each accepted event.
    pub(super) cpu_us_per_event: f64,
    /// Cores that were busy on average.
    pub(super) cores: f64,
    pub(super) resident_mib: f64,
    pub(super) resident_max_mib: f64,
}

/// Processor time of this process, which sends and receives.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct GeneratorFigures {
    pub(super) cores: f64,
    /// Share of the whole machine's processor time.
    pub(super) machine_share: f64,
}

/// Kills of the node, and the times until it was ready again.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct KillFigures {
    pub(super) kills: usize,
    pub(super) ready_median_s: f64,
    pub(super) ready_max_s: f64,
}

/// Requests that senders had to send again.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RetryFigures {
    pub(super) unanswered: u64,
    /// Requests by the status that asked for another try.
    pub(super) by_status: std::collections::BTreeMap<u16, u64>,
    /// Events whose repetition was answered as one.
    pub(super) known_already: u64,
}

/// Figures of the bare handler under the same load, and the node's figures as ratios to them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct BaselineFigures {
    pub(super) per_second: f64,
    pub(super) latency: LatencySummary,
    pub(super) cpu_us_per_event: Option<f64>,
    pub(super) accept_ratio: f64,
    pub(super) cpu_ratio: Option<f64>,
}

/// Verdict on the order of what store and subscribers got.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BenchVerdict {
    pub(super) is_clean: bool,
    /// Events in the target's store; `None` if the store cannot be read.
    pub(super) store: Option<OrderVerdict>,
    pub(super) subscribers: Vec<SubscriberVerdict>,
}

/// Verdict on the deliveries to one subscriber.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SubscriberVerdict {
    pub(super) name: String,
    pub(super) deliveries: u64,
    #[serde(flatten)]
    pub(super) order: OrderVerdict,
    pub(super) wrongly_signed: u64,
}

impl BenchVerdict {
    /// Judges the verdicts of store and subscribers together.
    pub(super) fn new(store: Option<OrderVerdict>, subscribers: Vec<SubscriberVerdict>) -> Self {
        let is_right = |subscriber: &SubscriberVerdict| {
            subscriber.order.is_clean() && subscriber.wrongly_signed == 0
        };
        Self {
            is_clean: store.as_ref().is_none_or(OrderVerdict::is_clean)
                && subscribers.iter().all(is_right),
            store,
            subscribers,
        }
    }

    /// Names the faults of store and subscribers together.
    pub(super) fn describe_faults(&self) -> String {
        let mut sum = self.store.unwrap_or_default();
        for subscriber in &self.subscribers {
            sum.add(&subscriber.order);
        }
        let unsigned: u64 = self.subscribers.iter().map(|s| s.wrongly_signed).sum();
        let named = [
            (sum.swaps, "swap", "swaps"),
            (sum.gaps, "gap", "gaps"),
            (sum.doubles, "double", "doubles"),
            (sum.losses, "loss", "losses"),
            (sum.foreign, "foreign event", "foreign events"),
            (unsigned, "wrong signature", "wrong signatures"),
        ];
        let found = named.into_iter().filter(|(count, ..)| *count > 0);
        let found: Vec<_> = found
            .map(|(count, one, many)| format_count(count, one, many))
            .collect();
        found.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(order: OrderVerdict, wrongly_signed: u64) -> SubscriberVerdict {
        SubscriberVerdict {
            name: "subscriber 1".to_owned(),
            deliveries: 5,
            order,
            wrongly_signed,
        }
    }

    #[test]
    fn one_fault_anywhere_spoils_the_verdict() {
        let clean = OrderVerdict {
            repetitions: 3,
            ..OrderVerdict::default()
        };
        let lost = OrderVerdict {
            losses: 1,
            ..OrderVerdict::default()
        };
        assert!(BenchVerdict::new(Some(clean), vec![subscriber(clean, 0)]).is_clean);
        assert!(BenchVerdict::new(None, Vec::new()).is_clean);
        for (store, order, wrongly_signed, faults) in [
            (lost, clean, 0, "1 loss"),
            (lost, lost, 0, "2 losses"),
            (clean, clean, 2, "2 wrong signatures"),
        ] {
            let verdict = BenchVerdict::new(Some(store), vec![subscriber(order, wrongly_signed)]);
            assert!(!verdict.is_clean);
            assert_eq!(verdict.describe_faults(), faults);
        }
    }
}
