//! Problems of the node that need a person: the fact, what follows from it, and the page that helps.

use std::time::Duration;

use maud::{Markup, html};

use super::elements::{
    StateTone, bytes, counted, duration, entity_link, number, stopped_lanes, subscriber_link, time,
};
use super::layout::sentence;
use super::node_situation::NodeSituation;
use crate::alerts::AlertSubject;
use crate::edge::state::Edge;
use crate::edge::storage_sizes::StorageSizes;
use crate::event::Timestamp;
use crate::subscriber::{DeliveryOverview, StatsError, SubscriberId};

/// Subscribers that a problem names.
const SUBSCRIBERS_NAMED_MAX: usize = 10;

/// Age of the oldest event behind a stopped lane from which on a person should look. Most retries
/// succeed before.
const OLD_LANE_AGE: Duration = Duration::from_secs(60);

/// Quarantined entities that are named.
pub(super) const QUARANTINED_MAX: usize = 5;

/// State of the node that needs a person, with the page that helps.
pub(super) struct NodeProblem {
    pub(super) tone: StateTone,
    pub(super) fact: String,
    pub(super) explanation: Markup,
    pub(super) remedy: Option<(&'static str, &'static str)>,
}

/// Lists what needs a person, the worst first.
pub(super) fn find_problems(
    situation: &NodeSituation,
    storage: Option<&StorageSizes>,
    edge: &Edge,
) -> Vec<NodeProblem> {
    let mut problems = Vec::new();
    let free = storage
        .and_then(|storage| storage.disk)
        .map(|(free, _)| free);
    let free_min = edge.config.alerts.disk_free_bytes;
    if let Some(free) = free.filter(|free| *free < free_min) {
        problems.push(NodeProblem {
            tone: StateTone::Bad,
            fact: format!("The disk is nearly full: {} free", bytes(free)),
            explanation: html! {
                "A full disk stops the node. Free some space, or let old events go with "
                code { "store.retention_days" } " or " code { "store.max_bytes" } "."
            },
            remedy: Some(("Settings", "/dashboard/settings")),
        });
    }
    let limit = edge.config.router.projection_lag_max;
    if situation.lag > limit / 2 {
        let is_over = situation.lag > limit;
        problems.push(NodeProblem {
            tone: if is_over {
                StateTone::Bad
            } else {
                StateTone::Warning
            },
            fact: format!(
                "Reads are {} behind",
                counted(situation.lag, "record", "records")
            ),
            explanation: html! {
                @if is_over { "New events are answered with 503 until reads catch up. " }
                "The disk or the processors are too slow for this load. The limit is "
                (number(limit)) " (" code { "router.projection_lag_max" } ")."
            },
            remedy: None,
        });
    }
    problems.extend(find_silent_stages(situation));
    let quarantined = match &situation.entities {
        Some(entities) => entities.quarantined.as_slice(),
        None => &[],
    };
    if !quarantined.is_empty() {
        problems.push(NodeProblem {
            tone: StateTone::Bad,
            fact: counted(
                quarantined.len() as u64,
                "entity is quarantined",
                "entities are quarantined",
            ),
            explanation: html! {
                "An event crashes them again and again, so their events are refused for a while: "
                @for (entity, left) in quarantined.iter().take(QUARANTINED_MAX) {
                    (entity_link(entity)) " (for " (duration(*left)) ") "
                }
                "The log has a line for each crash. Please report it."
            },
            remedy: None,
        });
    }
    if situation.disabled > 0 {
        problems.push(NodeProblem {
            tone: StateTone::Bad,
            fact: counted(situation.disabled as u64, "webhook is disabled", "webhooks are disabled"),
            explanation: html! {
                "Their targets answered 410 Gone, or failed for days. They receive nothing. Resume a \
                 webhook when its target works again, then recover what it missed."
            },
            remedy: Some(("Show disabled", "/dashboard/settings/webhooks?state=disabled")),
        });
    }
    if let Ok(deliveries) = &situation.deliveries {
        problems.extend(describe_open_breakers(deliveries));
        problems.extend(describe_stopped_lanes(deliveries, situation.now));
    }
    if situation.dead_letters > 0 {
        problems.push(NodeProblem {
            tone: StateTone::Warning,
            fact: counted(situation.dead_letters, "dead letter", "dead letters"),
            explanation: html! {
                "Deliveries that were given up and wait for you: retry them when the cause is mended, \
                 or discard them."
            },
            remedy: Some(("Inspect", "/dashboard/dead-letters")),
        });
    }
    problems.extend(situation.alerts.iter().filter_map(describe_alert));
    if situation.paused > 0 {
        problems.push(NodeProblem {
            tone: StateTone::Neutral,
            fact: counted(
                situation.paused as u64,
                "webhook is paused",
                "webhooks are paused",
            ),
            explanation: html! {
                "Their events are kept for " (duration(edge.config.delivery.hold))
                " and go out on resume."
            },
            remedy: Some(("Show paused", "/dashboard/settings/webhooks?state=paused")),
        });
    }
    problems
}

/// Lists the stages that do not answer: nothing that the page says about them would be true.
fn find_silent_stages(situation: &NodeSituation) -> Vec<NodeProblem> {
    let delivery = situation
        .deliveries
        .as_ref()
        .err()
        .map(StatsError::to_string);
    let router = match situation.entities {
        Some(_) => None,
        None => Some("the router does not answer".to_owned()),
    };
    let silent = delivery.into_iter().chain(router);
    silent
        .map(|reason| NodeProblem {
            tone: StateTone::Bad,
            fact: sentence(&reason),
            explanation: html! {
                "Its figures are missing here and in the metrics. If this lasts, look at the log, and \
                 restart the node."
            },
            remedy: None,
        })
        .collect()
}

/// Describes the circuit breakers that are open, with the page that shows their subscribers.
fn describe_open_breakers(deliveries: &DeliveryOverview) -> Option<NodeProblem> {
    let open = deliveries.open_breakers();
    let first = open.first()?;
    Some(NodeProblem {
        tone: StateTone::Warning,
        fact: counted(
            open.len() as u64,
            "circuit breaker is open",
            "circuit breakers are open",
        ),
        explanation: html! {
            "These subscribers fail, so their deliveries wait, in order, and nothing is lost: "
            (name_subscribers(&open))
            " The node tries again by itself. Once a target is repaired, its test button speeds it up."
        },
        remedy: Some(failing_page(first)),
    })
}

/// Describes the lanes that wait for a retry or are halted, while their subscribers get other events.
fn describe_stopped_lanes(deliveries: &DeliveryOverview, now: Timestamp) -> Option<NodeProblem> {
    let stopped = deliveries.with_stopped_lanes();
    let (first, _) = stopped.first()?;
    let subscribers: Vec<_> = stopped.iter().map(|(id, _)| *id).collect();
    let waiting = stopped.iter().map(|(_, stats)| stats.deferred).sum();
    let oldest = deliveries.oldest_stopped_at;
    let is_old = oldest.is_none_or(|oldest| now.distance(oldest) > OLD_LANE_AGE);
    Some(NodeProblem {
        tone: if is_old {
            StateTone::Warning
        } else {
            StateTone::Neutral
        },
        fact: format!(
            "{}, or for you, at {}",
            stopped_lanes(deliveries.stopped_lanes),
            counted(stopped.len() as u64, "subscriber", "subscribers"),
        ),
        explanation: html! {
            "An event of an entity failed, so its later events wait behind it, for the retry or, if the \
             entity is halted, for you: at least "
            (number(waiting)) " in all"
            @if let Some(oldest) = oldest { ", the oldest owed since " (time(oldest, now)) }
            ". " (name_subscribers(&subscribers))
        },
        remedy: Some(failing_page(first)),
    })
}

/// Names the first of `subscribers`, with links to their pages.
fn name_subscribers(subscribers: &[&SubscriberId]) -> Markup {
    let more = subscribers.len().saturating_sub(SUBSCRIBERS_NAMED_MAX);
    html! {
        @for (index, subscriber) in subscribers.iter().take(SUBSCRIBERS_NAMED_MAX).enumerate() {
            @if index > 0 { ", " }
            (subscriber_link(subscriber))
        }
        @if more > 0 { ", and " (number(more as u64)) " more" }
        "."
    }
}

/// Returns the page that shows `subscriber` among those that fail.
const fn failing_page(subscriber: &SubscriberId) -> (&'static str, &'static str) {
    match subscriber {
        SubscriberId::Webhook(_) => (
            "Show webhooks",
            "/dashboard/settings/webhooks?state=failing",
        ),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
            ("Show accounts", "/dashboard/accounts")
        }
    }
}

/// Describes an announced condition that nothing else on the page shows.
fn describe_alert(alert: &AlertSubject) -> Option<NodeProblem> {
    match alert {
        AlertSubject::BacklogAge(subscriber) => Some(NodeProblem {
            tone: StateTone::Warning,
            fact: format!("Deliveries to {subscriber} are late"),
            explanation: html! {
                (subscriber_link(subscriber))
                " has waited for its oldest event for longer than " code { "alerts.backlog_age_s" }
                ". Its page shows the last attempts and their answers."
            },
            remedy: None,
        }),
        AlertSubject::SilentSource(source) => Some(NodeProblem {
            tone: StateTone::Warning,
            fact: format!("Source {source} is silent"),
            explanation: html! {
                "It was active, and has sent nothing for longer than "
                code { "alerts.source_silent_h" } ". Look at the sender, and at recent refusals."
            },
            remedy: Some(("Sources", "/dashboard/sources")),
        }),
        AlertSubject::LateSubscribers => Some(NodeProblem {
            tone: StateTone::Warning,
            fact: "Deliveries to many subscribers are late".to_owned(),
            explanation: html! {
                "Each has waited for its oldest event for longer than " code { "alerts.backlog_age_s" }
                ". Look for what they share: the network, a target, or the node's own load."
            },
            remedy: Some((
                "Show webhooks",
                "/dashboard/settings/webhooks?order=backlog",
            )),
        }),
        AlertSubject::CertificateEnd => Some(NodeProblem {
            tone: StateTone::Warning,
            fact: "The certificate of the node ends soon, or has ended".to_owned(),
            explanation: html! {
                "Renew the file " code { "server.tls.cert" } ", and run " code { "hookyard reload" } "."
            },
            remedy: None,
        }),
        // Named above, by the values of this moment.
        AlertSubject::DiskSpace | AlertSubject::ProjectionLag => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::node_situation::EntitySituation;
    use super::*;
    use crate::subscriber::SubscriberStats;

    fn situation(deliveries: Result<DeliveryOverview, StatsError>) -> NodeSituation {
        NodeSituation {
            now: Timestamp::from_micros(600_000_000),
            lag: 0,
            dead_letters: 0,
            deliveries: deliveries.map(Arc::new),
            entities: Some(EntitySituation::default()),
            alerts: Vec::new(),
            active: 1,
            paused: 0,
            disabled: 0,
        }
    }

    fn overview(stats: SubscriberStats) -> DeliveryOverview {
        DeliveryOverview {
            stopped_lanes: stats.stopped_lanes,
            subscribers: [(SubscriberId::Forward("shop".into()), stats)].into(),
            ..DeliveryOverview::default()
        }
    }

    /// A stage that hung had no backlog and no breaker, so the node was shown as healthy.
    #[test]
    fn a_stage_that_does_not_answer_is_the_worst_problem() {
        let facts = |situation: &NodeSituation| -> Vec<_> {
            let found = find_silent_stages(situation);
            assert!(found.iter().all(|problem| problem.tone == StateTone::Bad));
            found.into_iter().map(|problem| problem.fact).collect()
        };
        assert!(facts(&situation(Ok(DeliveryOverview::default()))).is_empty());
        let silent = NodeSituation {
            entities: None,
            ..situation(Err(StatsError::NoAnswer))
        };
        assert_eq!(
            facts(&silent),
            [
                "The delivery stage does not answer.",
                "The router does not answer."
            ]
        );
    }

    /// Thousands of events behind one stopped lane were "nothing waits".
    #[test]
    fn stopped_lanes_are_a_problem_with_what_waits_and_a_page() {
        let mut deliveries = overview(SubscriberStats {
            deferred: 5_000,
            stopped_lanes: 1,
            ..SubscriberStats::default()
        });
        let now = Timestamp::from_micros(600_000_000);
        deliveries.oldest_stopped_at = Some(Timestamp::from_micros(0));
        let problem = describe_stopped_lanes(&deliveries, now).expect("a problem");
        assert_eq!(
            problem.fact,
            "1 entity waits for a retry, or for you, at 1 subscriber"
        );
        assert!(problem.tone == StateTone::Warning);
        let text = problem.explanation.into_string();
        assert!(
            text.contains("5\u{202f}000") && text.contains("CRM of account shop"),
            "{text}"
        );
        assert_eq!(
            problem.remedy,
            Some(("Show accounts", "/dashboard/accounts"))
        );

        // A retry of a moment ago needs nobody yet, whatever another subscriber is owed.
        deliveries.oldest_owed_at = Some(Timestamp::from_micros(0));
        deliveries.oldest_stopped_at = Some(now);
        let problem = describe_stopped_lanes(&deliveries, now).expect("a problem");
        assert!(problem.tone == StateTone::Neutral);
    }

    #[test]
    fn open_circuit_breakers_are_named() {
        let deliveries = overview(SubscriberStats {
            breaker: "open",
            ..SubscriberStats::default()
        });
        let problem = describe_open_breakers(&deliveries).expect("a problem");
        let text = problem.explanation.into_string();
        assert!(text.contains("CRM of account shop"), "{text}");
    }
}
