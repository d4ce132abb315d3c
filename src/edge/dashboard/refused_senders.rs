//! Senders whose calls are mostly refused: a wrong secret at one of them looks like silence elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::html;

use super::elements::{StateTone, counted, duration};
use super::node_problem::NodeProblem;
use crate::metrics::MetricTotals;

/// Refused calls of a source from which on a person should look. Fewer are a person who tries.
const REFUSALS_MIN: u64 = 5;

/// Describes each source of which more calls were refused than events accepted between the totals
/// `earlier` and `now`, which lie `window` apart, with the most frequent code.
pub(super) fn describe_refused_senders(
    now: &MetricTotals,
    earlier: &MetricTotals,
    window: Duration,
) -> Vec<NodeProblem> {
    let describe = |(source, codes): (&String, &BTreeMap<String, u64>)| {
        let before = earlier.refused_by_source.get(source);
        let since = |(code, count): (&String, &u64)| {
            let before = before.and_then(|codes| codes.get(code));
            count.saturating_sub(before.copied().unwrap_or_default())
        };
        let refused: u64 = codes.iter().map(since).sum();
        let accepted_in =
            |totals: &MetricTotals| totals.accepted_by_source.get(source).copied().unwrap_or(0);
        let accepted = accepted_in(now).saturating_sub(accepted_in(earlier));
        if refused < REFUSALS_MIN || refused <= accepted {
            return None;
        }

        let (code, _) = codes.iter().max_by_key(|entry| since(*entry))?;
        Some(NodeProblem {
            tone: StateTone::Warning,
            fact: format!(
                "{source}: {} ({code}), {}",
                counted(refused, "call refused", "calls refused"),
                match accepted {
                    0 => "none accepted".to_owned(),
                    _ => format!("{} accepted", counted(accepted, "event", "events")),
                }
            ),
            explanation: html! {
                "In the last " (duration(window)) ". Sources shows the refused calls, each with \
                 its reason, and checks a request that you paste."
            },
            remedy: Some(("Sources", "/dashboard/sources")),
        })
    };
    now.refused_by_source.iter().filter_map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::NodeMetrics;

    /// Sixty calls with a wrong key, all refused, left the overview "Healthy".
    #[test]
    fn a_sender_that_is_refused_throughout_is_a_problem_with_its_code() {
        let metrics = NodeMetrics::default();
        metrics.count_refused_call("support", "invalid_payload");
        let earlier = metrics.totals();
        let facts = || -> Vec<_> {
            let problems =
                describe_refused_senders(&metrics.totals(), &earlier, Duration::from_secs(300));
            problems.into_iter().map(|problem| problem.fact).collect()
        };
        for _ in 0..60 {
            metrics.count_refused_call("support", "invalid_api_key");
            metrics.count_refused_call("leads", "duplicate_event");
        }
        metrics.count_refused_call("c2s", "unauthorized");
        assert_eq!(
            facts(),
            ["support: 60 calls refused (invalid_api_key), none accepted"]
        );

        metrics.events_accepted("support").inc_by(2);
        assert_eq!(
            facts(),
            ["support: 60 calls refused (invalid_api_key), 2 events accepted"]
        );
        metrics.events_accepted("support").inc_by(58);
        assert!(facts().is_empty());
    }
}
