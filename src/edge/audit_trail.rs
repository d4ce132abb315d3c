//! The place where calls become entries of the audit log: the shell around every handler ends here.
//!
//! ```text
//! operation of the table, caller, object, outcome ──> an entry? ──> on the disk ──> the answer
//! ```
//!
//! | call | entry |
//! |---|---|
//! | of an audited operation, by a caller whose role may do it | always, whatever the outcome |
//! | refused for lack of a token, a role or a scope | a few a minute for each cause |
//! | any other | none |

use actix_web::{HttpRequest, HttpResponse};
use tokio::task::spawn_blocking;
use tracing::error;

use super::call::IncomingCall;
use super::error::ApiError;
use super::source::CallSource;
use super::state::Edge;
use crate::audit::{AuditChannel, AuditEntry, EntryClass, SUCCESS};
use crate::token::TokenRole;

/// Codes of the refusals that depend on the caller.
const ACCESS_REFUSALS: [&str; 7] = [
    "unauthorized",
    "token_expired",
    "rate_limited",
    "insufficient_role",
    "out_of_scope",
    "forbidden",
    "login_refused",
];

/// Adds the entry of a call that has ended with `result`, and returns when it is on the disk. So an
/// answered change has its entry, also after a crash.
///
/// # Errors
/// The error of `result`, or [`ApiError::AuditFailed`] if the entry could not be written.
pub(super) async fn record_call(
    request: &HttpRequest,
    edge: &Edge,
    call: &IncomingCall,
    result: Result<HttpResponse, ApiError>,
) -> Result<HttpResponse, ApiError> {
    let error_code = result.as_ref().err().map(ApiError::code);
    let outcome = call.outcome().or(error_code).unwrap_or(SUCCESS);
    let Some((class, entry)) = make_entry(request, edge, call, outcome) else {
        return result;
    };
    // Without an open store nothing was changed, and there is nothing to write to.
    let Some(core) = edge.gate.opened() else {
        return result;
    };

    let written = spawn_blocking(move || core.audit.append(class, &entry)).await;
    match written {
        Ok(Ok(())) => result,
        Ok(Err(error)) => {
            error!(
                error = &error as &dyn std::error::Error,
                "audit entry write failed"
            );
            result.and(Err(ApiError::AuditFailed))
        }
        Err(_) => result.and(Err(ApiError::Internal)),
    }
}

fn make_entry(
    request: &HttpRequest,
    edge: &Edge,
    call: &IncomingCall,
    outcome: &'static str,
) -> Option<(EntryClass, AuditEntry)> {
    let operation = call.operation()?;
    let caller = call.caller();
    let may = caller.as_ref().is_some_and(|caller| caller.may(operation));
    let is_refused = ACCESS_REFUSALS.contains(&outcome);
    let (class, left_out) = match (may && operation.is_audited(), is_refused) {
        // Reads and failures change nothing, and can be repeated without end.
        (true, false) if outcome != SUCCESS || TokenRole::Read.may(operation) => {
            (EntryClass::Unchanged, 0)
        }
        (true, false) => (EntryClass::Changed, 0),
        (_, true) => {
            let (network, now) = (edge.client_network(request), edge.clock.monotonic());
            let left_out = edge.audited_refusals.admit(outcome, network, now)?;
            (EntryClass::Refused, left_out)
        }
        (false, false) => return None,
    };

    let entry = AuditEntry {
        at: edge.clock.wall(),
        // The path of a stranger may hold anything.
        object: call
            .object()
            .or_else(|| path_parts(request))
            .filter(|_| caller.is_some()),
        who: caller.map(|caller| caller.name.to_string()),
        operation: operation.as_str().to_owned(),
        outcome: outcome.to_owned(),
        channel: match call.source() {
            CallSource::Dashboard => AuditChannel::Dashboard,
            CallSource::Admin
            | CallSource::Docs
            | CallSource::Nobody
            | CallSource::Contract(_)
            | CallSource::Configured { .. } => AuditChannel::Api,
        },
        client: Some(edge.client_address(request)),
        request_id: Some(call.request_id().to_owned()),
        left_out,
    };
    Some((class, entry))
}

/// Joins the variable parts of the path, such as the number of a subscription.
fn path_parts(request: &HttpRequest) -> Option<String> {
    let parts: Vec<_> = request.match_info().iter().map(|(_, part)| part).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}
