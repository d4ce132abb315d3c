//! OpenAPI descriptions of the endpoints of jobs.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::redelivery::{replay_schema, time_range_schema};
use super::view::JobView;
use crate::subscriber::jobs::JobState;

pub(in crate::edge) const TAG: &str = "Dead letters";

const ABOUT: &str = "\
A job is `pending` until its first delivery; it stays pending while the subscription is paused. \
`done` is the sum of `delivered`, `failed` (now a dead letter) and `skipped` (nothing left to \
deliver); `total` is null until it is known. Jobs continue after a restart.";

pub(in crate::edge) fn job(kind: &str) -> Value {
    json!({
        "id": 3, "kind": kind, "state": "pending", "reason": null, "subscriber": "webhook:1", "webhook_id": 1,
        "total": 12, "done": 0, "delivered": 0, "failed": 0, "skipped": 0,
        "created_at": "2025-12-05T11:00:00.000Z", "updated_at": "2025-12-05T11:00:00.000Z",
    })
}

/// Adds the answers of every endpoint that starts a job.
pub(in crate::edge) fn add_job_answer(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .answers::<JobView<'_>>(202, "The job that was started.", job("retry"))
        .refuses(
            409,
            "too_many_jobs",
            "1000 jobs are not over yet; wait for them or cancel some, \
            delivery.jobs_max allows no more",
        )
}

fn add_id_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .part("job_id", "The id of the job.", schemas::id(), 3)
        .refuses(404, "not_found", "there is no such job")
        .refuses_when_not_ready()
}

fn add_webhook_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    add_job_answer(endpoint)
        .access(EndpointAccess::Admin)
        .part("id", "The id of the subscription.", schemas::id(), 1)
        .refuses(404, "not_found", "there is no such subscription")
        .refuses_bodies()
        .refuses_field("since", "since must be an RFC 3339 time")
        .refuses_when_not_ready()
}

fn time() -> Value {
    json!({"since": "2025-12-04T00:00:00Z", "until": "2025-12-05T00:00:00Z"})
}

pub(in crate::edge) fn list() -> EndpointDoc {
    EndpointDoc::new(TAG, "listJobs", "List jobs, newest first")
        .about(ABOUT)
        .access(EndpointAccess::Admin)
        .query(
            "state",
            "Only jobs in this state.",
            schemas::one_of(JobState::NAMES),
            "completed",
        )
        .query(
            "webhook_id",
            "Only jobs of this subscription.",
            schemas::id(),
            1,
        )
        .paged()
        .answers_page::<JobView<'_>>(&[job("replay")])
        .refuses_field(
            "state",
            "state must be one of pending, running, completed, cancelled",
        )
        .refuses_when_not_ready()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "getJob",
        "Show a job and its progress",
    ))
    .about(ABOUT)
    .answers::<JobView<'_>>(200, "The job.", job("retry"))
}

pub(in crate::edge) fn cancel() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "cancelJob", "Cancel a job"))
        .about(
            "Deliveries under way are completed. Dead letters not yet delivered stay dead letters.",
        )
        .answers::<JobView<'_>>(200, "The job.", job("retry"))
        .refuses(409, "job_is_over", "the job is over")
}

pub(in crate::edge) fn recover() -> EndpointDoc {
    add_webhook_parameter(EndpointDoc::new(
        TAG,
        "recoverWebhook",
        "Deliver failed events of a time range again",
    ))
    .about(
        "Delivers the subscription's dead letters of events received from `since` \
                (included) to `until` (excluded, optional).",
    )
    .takes("time", time())
    .takes_type("TimeRange", time_range_schema())
}

pub(in crate::edge) fn replay() -> EndpointDoc {
    let mut with_events = time();
    with_events["events"] = json!(["ticket:*", "lead.*"]);
    add_webhook_parameter(EndpointDoc::new(
        TAG,
        "replayWebhook",
        "Deliver all events of a time range again",
    ))
    .about(
        "Delivers all events received from `since` (included) to `until` (excluded, \
            optional) that match the subscription as it is now, also events older than \
            the subscription. `events` limits the replay to events that match one of its \
            patterns. Each delivery keeps its `webhook-id`, by which a receiver \
            recognises duplicates. A replay begins with the first event that retention has left.",
    )
    .refuses(
        410,
        "removed_by_retention",
        "the event was removed; events are kept from 2025-12-04T10:30:00.000Z on",
    )
    .takes("time and events", with_events)
    .takes_type("Replay", replay_schema())
}
