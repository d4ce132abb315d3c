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
use crate::config::{ConfigError, ConfigReload, LiveConfig};

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
    }))
}

/// Reads the configuration again, puts it into force, and logs the outcome. Reads files.
///
/// # Errors
/// All problems of the new configuration. Nothing has changed then.
pub fn reload_config(live_config: &LiveConfig) -> Result<ConfigReload, ConfigError> {
    let reload = live_config.reload().inspect_err(|problems| {
        for problem in problems.iter() {
            error!(%problem, "configuration has a problem; nothing was changed");
        }
    })?;

    let changed = reload.changes.live.join(", ");
    info!(changed, "configuration reloaded");
    if !reload.changes.restart.is_empty() {
        let keys = reload.changes.restart.join(", ");
        warn!(keys, "changed settings need a restart");
    }
    for warning in &reload.warnings {
        warn!(%warning, "configuration has a weakness");
    }
    Ok(reload)
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
            }),
        )
        .refuses(
            422,
            "configuration_invalid",
            "the configuration has a problem; nothing was changed",
        )
}
