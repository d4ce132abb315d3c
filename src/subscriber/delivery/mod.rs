//! The delivery to one subscriber as a pure state machine: inputs and the time go in, effects come
//! out.
//!
//! ```text
//!  DeliveryInput, now ──> SubscriberDelivery::step ──> DeliveryEffect …
//!
//!  subscriber_delivery   the state and its step
//!  lane, lanes           records of each entity in order; one attempt at a time in each lane
//!  deferred_records      records that lanes have left to the timelines of their entities
//!  replay_queue          records of jobs, outside the order
//!  scheduling            which attempt begins next
//!  outcome               what follows from the end of an attempt
//!  retry                 pauses between attempts
//!  breaker, slow_start, rate_limiter
//!                        limits that protect the subscriber
//!   failing_stretch      time without a success, after which the subscriber is disabled
//!  status                questions of the shell between two steps
//! ```
//!
//! The state machine uses no clock, store or network. All times are [`std::time::Duration`]s on the
//! node's monotonic clock.

mod breaker;
mod deferred_records;
mod effect;
mod failing_stretch;
mod identifiers;
mod input;
mod lane;
mod lane_row;
mod lanes;
mod outcome;
mod rate_limiter;
mod replay_queue;
mod retry;
mod running_attempt;
mod scheduling;
mod slow_start;
mod status;
mod subscriber_delivery;
#[cfg(test)]
mod tests;

pub use breaker::DeliveryBreakerState;
pub use effect::DeliveryEffect;
pub use identifiers::{AttemptId, LaneKey, ReplayTag};
pub use input::{DeliveryInput, MatchedRecord, ReplayItem};
pub use lane_row::LaneRow;
pub use status::DeliveryStatus;
pub use subscriber_delivery::SubscriberDelivery;
