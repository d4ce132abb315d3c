//! OpenAPI descriptions of the endpoints of the audit log.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::{AuditPageView, LIMIT_MAX};

const TAG: &str = "Access";
/// Form of the cursors of answers.
const CURSOR_PATTERN: &str = "^(0|[1-9][0-9]{0,18})$";

fn entry() -> Value {
    json!({
        "id": 1043, "at": "2026-03-01T09:30:00.000Z", "who": "ana", "operation": "webhooks.pause", "object": "7",
        "outcome": "ok", "channel": "api", "client_address": "203.0.113.7", "request_id": "5f2b9c0d7e1a4b38",
        "left_out": 0,
    })
}

fn refused() -> Value {
    json!({
        "id": 1042, "at": "2026-03-01T09:29:00.000Z", "who": null, "operation": "dashboard.login", "object": null,
        "outcome": "login_refused", "channel": "dashboard", "client_address": "203.0.113.9",
        "request_id": "0a1b2c3d4e5f6071", "left_out": 12,
    })
}

fn act() -> Value {
    json!({
        "id": 1041, "at": "2026-03-01T09:28:00.000Z", "who": "node", "operation": "webhooks.disable", "object": "9",
        "outcome": "ok", "channel": "node", "client_address": null, "request_id": null, "left_out": 0,
    })
}

fn add_filters(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .query("who", "Name of the token.", schemas::string(), "ana")
        .query(
            "operation",
            "Name of the operation, or of its object before the dot.",
            schemas::string(),
            "webhooks",
        )
        .query("object", "Id of the object.", schemas::string(), "7")
        .between("Made")
        .refuses_when_not_ready()
}

pub(in crate::edge) fn list() -> EndpointDoc {
    let page = json!({"items": [entry(), refused()], "cursor": "1042", "has_more": true});
    let last = json!({"items": [act()], "cursor": null, "has_more": false});
    add_filters(EndpointDoc::new(TAG, "listAuditEntries", "List the audit log, newest first"))
        .about(
            "`outcome` is `ok` or the code of the error. `who` is null for a caller without a valid token, and `node` for what the node does by itself. Of refused \
             calls a few of each cause have an entry each minute; `left_out` counts the others before it.",
        )
        .query("cursor", "The cursor of the last answer.", schemas::matching(CURSOR_PATTERN), "1042")
        .query("limit", "Entries of an answer.", schemas::integer(1, LIMIT_MAX), 100)
        .answers::<AuditPageView<'_>>(200, "One page of the list.", page)
        .answers::<AuditPageView<'_>>(200, "The last page.", last)
}

pub(in crate::edge) fn export() -> EndpointDoc {
    let lines = format!("{}\n{}\n", entry(), refused());
    add_filters(EndpointDoc::new(
        TAG,
        "exportAuditEntries",
        "Export the audit log as JSON lines",
    ))
    .answers_lines(200, "The entries, newest first.", &lines)
}
