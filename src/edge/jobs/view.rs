//! Jobs as answers show them.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::super::docs::schemas;
use crate::event::Timestamp;
use crate::subscriber::SubscriberId;
use crate::subscriber::jobs::{JobKind, JobState, RedeliveryJob};

/// Redelivery job, as answers show it.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobView<'a> {
    id: u64,
    #[schema(schema_with = kinds)]
    kind: &'static str,
    #[schema(schema_with = states)]
    state: &'static str,
    reason: Option<&'a str>,
    subscriber: Option<String>,
    webhook_id: Option<u64>,
    total: Option<u64>,
    done: u64,
    delivered: u64,
    failed: u64,
    skipped: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

fn kinds() -> Schema {
    schemas::choice(&JobKind::NAMED)
}

fn states() -> Schema {
    schemas::one_of(JobState::NAMES)
}

impl<'a> JobView<'a> {
    pub(super) fn new(job: &'a RedeliveryJob) -> Self {
        let counts = job.total_counts();
        Self {
            id: job.id,
            kind: job.kind.as_str(),
            state: job.state.as_str(),
            reason: match &job.state {
                JobState::Cancelled { reason } => reason.as_deref(),
                JobState::Pending | JobState::Running | JobState::Completed => None,
            },
            subscriber: job.subscriber.as_ref().map(ToString::to_string),
            webhook_id: match job.subscriber {
                Some(SubscriberId::Webhook(number)) => Some(number),
                Some(
                    SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply,
                )
                | None => None,
            },
            total: job.total_records(),
            done: counts.settled_total(),
            delivered: counts.delivered,
            failed: counts.failed,
            skipped: counts.skipped,
            created_at: job.created_at,
            updated_at: job.updated_at,
        }
    }
}
