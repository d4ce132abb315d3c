//! Receivers of one event: for each webhook that follows it, what became of the delivery.
//!
//! ```text
//!  dead letter? ──no──> accepted call in the log? ──no──> lane on the disk? ──no──> behind its cursor?
//!    │ yes                 │ yes                             │ yes                    │ no       │ yes
//!  dead letter         delivered, when                  owed, next attempt         waiting    filter says no?
//!                                                                                     not sent <── yes │ no ──> settled,
//!                                                                                                      history gone
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use maud::{Markup, html};
use tokio::task::spawn_blocking;

use super::elements::{
    ActionButton, StateTone, badge, counted, duration, empty_state, number, status_badge,
    subscriber_link, time,
};
use super::visit::PageVisit;
use crate::call_log::{CallRow, EventCalls};
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::event::{EventId, Timestamp};
use crate::projection::{EventView, ProjectionReadError, StoredRecord};
use crate::subscriber::{OwedDelivery, SubscriberId, SubscriberStats};
use crate::subscription::{
    DeliveryMode, InterestMatch, SubscriberInterest, SubscriptionEntry, SubscriptionState,
};
use crate::token::AccessOperation;

/// Webhooks that the page shows. For each of them the stage is asked.
const RECEIVERS_MAX: usize = 50;

/// State of one delivery, as far as the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryState {
    /// Accepted by the subscriber at this time, as its call says.
    Accepted(Timestamp),
    /// Given up, and kept as this dead letter.
    DeadLetter(u64),
    /// Held by a lane that will deliver it.
    Owed(OwedDelivery),
    /// Not read, not matched or not attempted yet, for this reason.
    Waiting(&'static str),
    /// Not for this subscriber, by its filter as it is now.
    Filtered,
    /// Acknowledged by a subscriber that reads its events itself.
    Read,
    /// Settled, but the calls that would say how are gone.
    Settled,
    /// The delivery stage does not answer, so nobody knows its cursor.
    Unknown,
}

/// Webhook that follows the event, with what became of its delivery.
struct EventReceiver {
    subscriber: SubscriberId,
    url: String,
    state: DeliveryState,
    attempts: usize,
    last_call: Option<CallRow>,
}

/// Renders the table of the receivers of the event `id`.
///
/// # Errors
/// [`ApiError::Unavailable`] when the store fails.
pub(super) async fn render_receivers(
    visit: &PageVisit<'_>,
    id: EventId,
    view: &EventView,
) -> Result<Markup, ApiError> {
    let core = visit.core()?;
    let Some(delivered) = delivered_record(view) else {
        return Ok(empty_state(
            "Nobody gets this event.",
            html! { "Only events that were applied to their entity are delivered." },
        ));
    };
    if delivered.record.is_erased() {
        return Ok(empty_state(
            "Nobody gets this event any more.",
            html! { "Its content was erased, and so was what was owed of it." },
        ));
    }

    let calls = core
        .call_log
        .find_event_calls(id, view.event.received_at)
        .await?;
    let known = core.subscriptions.snapshot();
    // Without its content the event is delivered to nobody any more, and its outline still has names.
    let mut named = delivered.record.clone();
    if named.content_expired_at().is_some() {
        named.erasure = None;
    }
    let follows =
        |entry: &&Arc<SubscriptionEntry>| entry.interest.admits_names(delivered.position, &named);
    let following: Vec<_> = known.newest_first().filter(follows).collect();

    let asked = following.iter().take(RECEIVERS_MAX);
    let ids = asked.map(|entry| SubscriberId::Webhook(entry.subscription.id));
    let stats = core.subscribers.stats_of(ids.collect()).await.ok();
    let mut receivers = Vec::new();
    for entry in following.iter().take(RECEIVERS_MAX) {
        let stats = stats.as_ref().map(|stats| {
            let stats = stats.get(&SubscriberId::Webhook(entry.subscription.id));
            stats.cloned().unwrap_or_default()
        });
        let source = (&calls, stats);
        receivers.push(load_receiver(entry, delivered, source, &core, visit.now).await?);
    }
    judge_settled(&mut receivers, delivered, &following).await;
    let shown: Vec<_> = following
        .iter()
        .map(|entry| SubscriberId::Webhook(entry.subscription.id))
        .collect();
    let others = group_other_calls(&calls, &shown);
    Ok(html! {
        @if receivers.is_empty() && others.is_empty() {
            (empty_state("No webhook follows this event.", html! {
                "A webhook gets events that are accepted after it was created, and that one of its patterns names."
            }))
        } @else {
            (render_table(&receivers, &others, visit))
        }
        @if following.len() > RECEIVERS_MAX {
            p.muted.inside { (number((following.len() - RECEIVERS_MAX) as u64)) " more webhooks follow it." }
        }
        (render_limits(&calls))
    })
}

/// Returns the record that was delivered: the event itself, or the one that applied it later.
fn delivered_record(view: &EventView) -> Option<&StoredRecord> {
    let reprocessed = view.resolution.as_ref();
    let reprocessed = reprocessed.filter(|stored| stored.record.reprocesses.is_some());
    [Some(&view.event), reprocessed]
        .into_iter()
        .flatten()
        .find(|stored| stored.record.sequence.is_some())
}

async fn load_receiver(
    entry: &SubscriptionEntry,
    delivered: &StoredRecord,
    (calls, stats): (&EventCalls, Option<SubscriberStats>),
    core: &NodeCore,
    now: Timestamp,
) -> Result<EventReceiver, ApiError> {
    let subscription = &entry.subscription;
    let subscriber = SubscriberId::Webhook(subscription.id);
    let name = subscriber.to_string();
    let own_calls: Vec<_> = calls
        .items
        .iter()
        .filter(|row| row.source == name)
        .collect();
    let accepted = own_calls.iter().rev().find(|row| row.is_successful());

    let letters = core.subscribers.dead_letters();
    let state = if let Some(letter) = letters.find_letter_of(&subscriber, delivered.position) {
        DeliveryState::DeadLetter(letter)
    } else if let Some(accepted) = accepted {
        DeliveryState::Accepted(accepted.at.saturating_add(accepted.duration))
    } else if let Some(owed) = find_owed(&subscriber, delivered, core, now).await? {
        DeliveryState::Owed(owed)
    } else if let Some(stats) = stats {
        match (
            delivered.position < stats.settled_before,
            subscription.delivery == DeliveryMode::Pull,
        ) {
            (false, _) => DeliveryState::Waiting(describe_wait(&subscription.state, &stats)),
            (true, true) => DeliveryState::Read,
            (true, false) => DeliveryState::Settled,
        }
    } else {
        DeliveryState::Unknown
    };
    Ok(EventReceiver {
        subscriber,
        url: subscription.url.clone(),
        state,
        attempts: own_calls.len(),
        last_call: own_calls.last().map(|row| (*row).clone()),
    })
}

/// Says for what a delivery waits that no attempt was made of.
fn describe_wait(state: &SubscriptionState, stats: &SubscriberStats) -> &'static str {
    match state {
        SubscriptionState::Paused { .. } => "held back, the webhook is paused",
        SubscriptionState::Disabled { .. } => "not sent, the webhook is disabled",
        SubscriptionState::Active => match stats.breaker {
            "closed" => "not settled yet",
            _ => "held back, the webhook's breaker is open",
        },
    }
}

async fn find_owed(
    subscriber: &SubscriberId,
    delivered: &StoredRecord,
    core: &NodeCore,
    now: Timestamp,
) -> Result<Option<OwedDelivery>, ApiError> {
    let (owed, subscriber) = (core.subscribers.owed_records().clone(), subscriber.clone());
    let delivered = delivered.clone();
    let find = move || owed.find_owed_delivery(&subscriber, &delivered, now);
    let found = spawn_blocking(find)
        .await
        .map_err(|_| ApiError::Unavailable)?;
    found.map_err(|error| ProjectionReadError::from(error).into())
}

/// Asks the filters about the deliveries that are settled without a call: most of them were never
/// sent. The filters run on a thread of their own, since each may cost milliseconds.
async fn judge_settled(
    receivers: &mut [EventReceiver],
    delivered: &StoredRecord,
    following: &[&Arc<SubscriptionEntry>],
) {
    let is_open = |state| matches!(state, DeliveryState::Settled | DeliveryState::Read);
    let filters: BTreeMap<usize, Arc<SubscriberInterest>> = receivers
        .iter()
        .zip(following)
        .enumerate()
        .filter(|(_, (receiver, entry))| is_open(receiver.state) && entry.interest.filter.is_some())
        .map(|(index, (_, entry))| (index, Arc::clone(&entry.interest)))
        .collect();
    let delivered = delivered.clone();
    let judge = move || -> Vec<usize> {
        let is_unwanted = |interest: &SubscriberInterest| {
            let found = interest.match_record(delivered.position, &delivered.record);
            found == InterestMatch::Unwanted
        };
        let unwanted = filters.iter().filter(|(_, interest)| is_unwanted(interest));
        unwanted.map(|(index, _)| *index).collect()
    };
    // A filter that panics leaves the state as it is.
    for index in spawn_blocking(judge).await.unwrap_or_default() {
        receivers[index].state = DeliveryState::Filtered;
    }
}

/// Groups the calls to subscribers that are not in `shown`: accounts, deleted webhooks, and webhooks
/// that do not follow the event any more.
fn group_other_calls<'c>(
    calls: &'c EventCalls,
    shown: &[SubscriberId],
) -> BTreeMap<&'c str, Vec<&'c CallRow>> {
    let shown: Vec<_> = shown.iter().map(SubscriberId::to_string).collect();
    let mut others = BTreeMap::<_, Vec<_>>::new();
    for row in &calls.items {
        if !shown.contains(&row.source) {
            others.entry(row.source.as_str()).or_default().push(row);
        }
    }
    others
}

fn render_table(
    receivers: &[EventReceiver],
    others: &BTreeMap<&str, Vec<&CallRow>>,
    visit: &PageVisit<'_>,
) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Receiver" }
                th scope="col" { "Delivery" }
                th.num scope="col" { "Attempts" }
                th scope="col" { "Last answer" }
            } }
            tbody {
                @for receiver in receivers {
                    tr {
                        td.first {
                            (subscriber_link(&receiver.subscriber)) span.sub { (receiver.url) }
                        }
                        td data-label="Delivery" { span { (render_state(receiver.state, visit)) } }
                        td.num data-label="Attempts" { (receiver.attempts) }
                        td data-label="Last answer" {
                            (render_last_call(receiver.last_call.as_ref(), visit.now))
                        }
                    }
                }
                @for (source, rows) in others {
                    @let last = rows.last();
                    tr {
                        td.first {
                            @match SubscriberId::parse(source) {
                                Some(SubscriberId::Webhook(id)) => {
                                    "Webhook " (id) span.sub { "deleted, or does not follow it any more" }
                                }
                                Some(other) => { (subscriber_link(&other)) }
                                None => (source)
                            }
                        }
                        td data-label="Delivery" {
                            @match rows.iter().rev().find(|row| row.is_successful()) {
                                Some(row) => { span { (badge(StateTone::Good, "delivered")) " " (time(row.at, visit.now)) } }
                                None => (badge(StateTone::Neutral, "not delivered"))
                            }
                        }
                        td.num data-label="Attempts" { (rows.len()) }
                        td data-label="Last answer" { (render_last_call(last.copied(), visit.now)) }
                    }
                }
            }
        }
    }
}

fn render_state(state: DeliveryState, visit: &PageVisit<'_>) -> Markup {
    match state {
        DeliveryState::Accepted(at) => {
            html! { (badge(StateTone::Good, "delivered")) " " (time(at, visit.now)) }
        }
        DeliveryState::DeadLetter(id) => html! {
            (badge(StateTone::Bad, "dead letter")) " "
            a href={ "/dashboard/dead-letters/" (id) } { "Inspect" } " "
            (ActionButton {
                operation: AccessOperation::DeadLettersRetry,
                path: &format!("/dashboard/dead-letters/{id}/retry"),
                label: "Retry",
                class: "small",
                question: None,
            }.render(&visit.session))
        },
        DeliveryState::Owed(owed) => html! {
            (badge(StateTone::Warning, "owed"))
            span.sub { (describe_owed(owed)) }
        },
        DeliveryState::Unknown => html! {
            (badge(StateTone::Bad, "unknown"))
            span.sub { "the delivery stage does not answer" }
        },
        DeliveryState::Waiting(reason) => html! {
            (badge(StateTone::Neutral, "waiting"))
            span.sub { (reason) }
        },
        DeliveryState::Filtered => html! {
            (badge(StateTone::Neutral, "filtered"))
            span.sub { "the filter, as it is now, does not select it" }
        },
        DeliveryState::Read => html! {
            (badge(StateTone::Good, "read"))
            span.sub { "the receiver has acknowledged it" }
        },
        DeliveryState::Settled => html! {
            (badge(StateTone::Neutral, "settled"))
            span.sub { "delivered or dropped; its calls are not in the call log any more" }
        },
    }
}

fn describe_owed(owed: OwedDelivery) -> String {
    match owed {
        OwedDelivery {
            is_halted: true, ..
        } => "a dead letter of the same entity halts it".to_owned(),
        OwedDelivery {
            waits_for: Some(earlier),
            ..
        } => format!("behind event number {earlier} of its entity"),
        OwedDelivery {
            next_attempt_in: Some(wait),
            attempts,
            ..
        } if !wait.is_zero() => format!(
            "{} failed; the next is in {}",
            counted(u64::from(attempts), "attempt", "attempts"),
            duration(wait)
        ),
        OwedDelivery { .. } => "the next attempt is due".to_owned(),
    }
}

fn render_last_call(row: Option<&CallRow>, now: Timestamp) -> Markup {
    let Some(row) = row else {
        return html! { span.muted { "none" } };
    };
    html! {
        span {
            (status_badge(row.status, row.code.as_deref(), row.is_successful())) " "
            a href={ "/dashboard/calls/" (row.id) } { (time(row.at, now)) }
        }
    }
}

/// Says what the call log cannot tell, if anything.
fn render_limits(calls: &EventCalls) -> Markup {
    html! {
        @if calls.is_cut {
            p.muted.inside {
                "The call log begins after this event: its first attempts are gone ("
                code { "call_log.rows_max" } ")."
            }
        }
        @if calls.has_more {
            p.muted.inside {
                "Many calls were made since. Attempts long after the event are in the list of each webhook only."
            }
        }
    }
}
