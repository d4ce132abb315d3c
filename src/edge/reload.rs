//! `POST /api/v1/reload`: reads the configuration again. SIGHUP does the same.

use std::sync::Arc;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};
use utoipa::ToSchema;

use super::answer;
use super::context::RequestContext;
use super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::error::ApiError;
use super::live_edge::LiveEdge;
use crate::audit::SUCCESS;
use crate::config::{ConfigError, ConfigReload, LiveConfig};
use crate::event::Timestamp;
use crate::token::AccessOperation;

const TAG: &str = "Node";

/// Outcome of a reload, as the answer shows it.
#[derive(Serialize, ToSchema)]
struct ReloadReport<'a> {
    /// Keys whose new values are in force.
    changed: &'a [String],
    /// Keys whose new values need a restart; the former ones stay in force.
    restart_required: &'a [String],
    /// Weaknesses of the configuration in force.
    warnings: Vec<String>,
    /// End of the certificate that the node presents from now on; null if it is the former one.
    certificate_ends_at: Option<Timestamp>,
}

/// Handles `POST /api/v1/reload`: puts the configuration of the file and the environment into force.
pub(super) async fn run(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    context.refuse_parameters()?;
    let live_config = Arc::clone(&context.edge.live_config);
    let reloaded = spawn_blocking(move || reload_config(&live_config)).await;
    let reload = reloaded
        .map_err(|_| ApiError::Internal)?
        .map_err(|problems| ApiError::invalid_config(&problems))?;
    Ok(answer::ok_json(&ReloadReport {
        changed: &reload.changes.live,
        restart_required: &reload.changes.restart,
        warnings: reload.warnings.iter().map(ToString::to_string).collect(),
        certificate_ends_at: reload.certificate_ends_at,
    }))
}

/// Reads the configuration again, puts it into force, and logs the outcome. Reads files.
///
/// # Errors
/// All problems of the new configuration. Nothing has changed then.
fn reload_config(live_config: &LiveConfig) -> Result<ConfigReload, ConfigError> {
    let reload = live_config.reload().inspect_err(|problems| {
        for problem in problems.iter() {
            error!(%problem, "configuration has a problem; nothing was changed");
        }
    })?;

    let changed = reload.changes.live.join(", ");
    info!(changed, "configuration reloaded");
    if let Some(ends_at) = reload.certificate_ends_at {
        info!(%ends_at, "renewed certificate in force");
    }
    if !reload.changes.restart.is_empty() {
        let keys = reload.changes.restart.join(", ");
        warn!(keys, "changed settings need a restart");
    }
    for warning in &reload.warnings {
        warn!(%warning, "configuration has a weakness");
    }
    Ok(reload)
}

/// Reloads as the call of the API does, for the node itself; `edge` gets an entry in its audit log.
pub fn reload_at_signal(live_config: &LiveConfig, edge: Option<&LiveEdge>) {
    // The outcome is in the log.
    let outcome = match reload_config(live_config) {
        Ok(_) => SUCCESS,
        Err(problems) => ApiError::invalid_config(&problems).code(),
    };
    // Without an open store there is nothing to write to.
    let Some(edge) = edge.map(LiveEdge::current) else {
        return;
    };
    if let Some(core) = edge.gate.opened() {
        let operation = AccessOperation::ConfigReload.as_str();
        core.audit
            .append_act(edge.clock.wall(), operation, None, outcome);
    }
}

pub(super) fn describe() -> EndpointDoc {
    EndpointDoc::new(TAG, "reloadConfig", "Read the configuration again")
        .access(EndpointAccess::Admin)
        .about(
            "Reads the file and the environment with its files of secrets, as a start does, and puts the \
             configuration into force without losing a request. Requests in progress end by the former one. \
             Settings that cannot change while the node runs are named and stay as they were.",
        )
        .answers::<ReloadReport<'_>>(
            200,
            "The keys that have changed.",
            json!({
                "changed": ["sources.support.secrets"],
                "restart_required": ["server.bind"],
                "warnings": [],
                "certificate_ends_at": null,
            }),
        )
        .refuses(
            422,
            "configuration_invalid",
            "the configuration has a problem; nothing was changed",
        )
}
