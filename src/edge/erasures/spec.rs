//! OpenAPI descriptions of the endpoints of erasures.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::ErasureView;

const TAG: &str = "Erasures";

const ABOUT: &str = "\
An erasure removes the content of all events of an entity so far, for a person who asks for it. Once it \
is answered, no read shows the content, and what was still to be delivered of it is dropped. Then it is \
removed from all files: `rewriting` the journal, `copying` the derived store (for a moment the node \
answers 503), `done`. The entity's id, and names and times of its events, stay.";

fn erasure(state: &str) -> Value {
    json!({
        "id": 1, "state": state, "entity": {"kind": "ticket", "id": "SUP-1042", "sequence": null},
        "segments": {"done": 0, "total": 0}, "requested_at": "2025-12-05T11:00:00.000Z", "finished_at": null,
    })
}

pub(in crate::edge) fn erase() -> EndpointDoc {
    EndpointDoc::new(
        TAG,
        "eraseEntity",
        "Erase the content of an entity's events",
    )
    .about(ABOUT)
    .access(EndpointAccess::Admin)
    .part("kind", "Kind of the entity.", schemas::kind(), "ticket")
    .part(
        "id",
        "The entity's id, percent-encoded.",
        schemas::string(),
        "SUP-1042",
    )
    .query(
        "erase",
        "true: required, since an erasure is final.",
        schemas::one_of(["true"]),
        "true",
    )
    .answers::<ErasureView<'_>>(202, "The erasure that was begun.", erasure("rewriting"))
    .refuses(404, "not_found", "there is no such entity")
    .refuses_field("erase", "erase must be true; an erasure is final")
    .refuses_when_busy()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    EndpointDoc::new(TAG, "getErasure", "Show an erasure and its progress")
        .about(ABOUT)
        .access(EndpointAccess::Admin)
        .part("erasure_id", "The id of the erasure.", schemas::id(), 1)
        .answers::<ErasureView<'_>>(200, "The erasure.", erasure("done"))
        .refuses(404, "not_found", "there is no such erasure")
        .refuses_when_not_ready()
}
