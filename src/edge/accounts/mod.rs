//! `/api/v1/accounts`: the admin's interface to Instagram business accounts.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::{error, info};

use super::blocking::run_blocking;
use super::context::RequestContext;
use super::error::{ApiError, CHANGED_SINCE};
use super::gate::NodeCore;
use super::list::ListPage;
use super::state::Edge;
use super::{answer, body};
use crate::account::{Account, AccountChangeError};
use crate::entity::Rejection;
use crate::event::Timestamp;

mod input;
pub(super) mod spec;
mod view;

use input::AccountInput;
use view::AccountView;

/// Handles `POST /api/v1/accounts`: creates an account.
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let body = context.read_body().await?;
    body::check_json_content_type(context.request.headers())?;
    let account = create_from_json(&context.edge, body::body_text(&body)?).await?;
    context.call.note_object(&account.id);
    Ok(answer::ok_json(
        &AccountView::new(&account, &context.edge).with_secret(),
    ))
}

/// Creates the account that `json` defines.
///
/// # Errors
/// As for [`AccountInput::parse`], and as for a write of definitions.
pub(in crate::edge) async fn create_from_json(
    edge: &Edge,
    json: &str,
) -> Result<Arc<Account>, ApiError> {
    let input = parse_account_input(edge, json, None)?;
    let core = edge.core()?;
    let account = input.into_account(core.reads.answered_end().await?, edge.clock.wall())?;
    let account = run_blocking(core, move |core| core.accounts.create(account)).await?;
    info!(account = account.id, "account created");
    Ok(account)
}

/// Handles `GET /api/v1/accounts`: lists accounts, newest first.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&["page", "page_size"]);
    let page = parameters.page_request();
    let page = parameters.finish(page)?;
    let known = context.edge.core()?.accounts.snapshot();
    let accounts = known.newest_first();
    let total = accounts.len() as u64;
    let items = page
        .select(&accounts)
        .map(|account| AccountView::new(account, &context.edge))
        .collect();
    Ok(answer::ok_json(&ListPage::new(items, total, page)))
}

/// Handles `GET /api/v1/accounts/{account_id}`: shows an account.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let account = find_account(&*context.edge.core()?, &id)?;
    Ok(answer::ok_json(&AccountView::new(&account, &context.edge)))
}

/// Handles `PUT /api/v1/accounts/{account_id}`: changes an account.
pub(super) async fn change(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let body = context.read_body().await?;
    body::check_json_content_type(context.request.headers())?;
    let changed = change_from_json(&context.edge, &id, body::body_text(&body)?, None).await?;
    let view = AccountView::new(&changed.account, &context.edge);
    Ok(answer::ok_json(&if changed.has_new_secret {
        view.with_secret()
    } else {
        view
    }))
}

/// Account as it is after a change.
pub(in crate::edge) struct ChangedAccount {
    pub(in crate::edge) account: Arc<Account>,
    /// True if the change made the account a new secret, which nobody has seen.
    pub(in crate::edge) has_new_secret: bool,
}

/// Applies the members in `json` to the account `id`, unless another change came after `seen`, the
/// time of the last change that the caller knows.
///
/// # Errors
/// As for [`AccountInput::parse`], [`ApiError::NotFound`], as for a write of definitions, and
/// [`ApiError::Rejected`] with the code [`CHANGED_SINCE`].
pub(in crate::edge) async fn change_from_json(
    edge: &Edge,
    id: &str,
    json: &str,
    seen: Option<Timestamp>,
) -> Result<ChangedAccount, ApiError> {
    let input = parse_account_input(edge, json, Some(id))?;
    let replacement = input.make_replacement_secret()?;
    let has_new_secret = replacement.is_some();
    let core = edge.core()?;
    let from = core.reads.answered_end().await?;
    let now = edge.clock.wall();
    let change = move |account: &mut Account| input.apply_to(account, replacement, from, now);
    let of_id = id.to_owned();
    let change = move |core: &NodeCore| core.accounts.change(&of_id, seen, change);
    let account = run_blocking(core, change).await?;
    info!(account = account.id, "account changed");
    Ok(ChangedAccount {
        account,
        has_new_secret,
    })
}

/// Returns the account with the id `id`.
pub(in crate::edge) fn find_account(core: &NodeCore, id: &str) -> Result<Arc<Account>, ApiError> {
    let known = core.accounts.snapshot();
    let account = known.get(id).ok_or(AccountChangeError::NotFound)?;
    Ok(Arc::clone(account))
}

/// Handles `DELETE /api/v1/accounts/{account_id}`: deletes an account.
pub(super) async fn remove(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let (core, removed) = (context.edge.core()?, id.clone());
    run_blocking(core, move |core| core.accounts.remove(&removed)).await?;
    info!(account = id, "account deleted");
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// Parses a request for the account `id`, or for a new account.
fn parse_account_input(
    edge: &Edge,
    json: &str,
    id: Option<&str>,
) -> Result<AccountInput, ApiError> {
    let config = &edge.config;
    let cooldown = config.sources.instagram.auto_reply.cooldown;
    AccountInput::parse(json, id, cooldown, &config.delivery.allow_targets)
}

impl From<AccountChangeError> for ApiError {
    fn from(error: AccountChangeError) -> Self {
        let message = error.to_string();
        match error {
            AccountChangeError::NotFound => ApiError::NotFound(message),
            AccountChangeError::ChangedSince(_) => {
                ApiError::Rejected(Rejection::conflict(CHANGED_SINCE, message))
            }
            AccountChangeError::Exists(_) => {
                ApiError::Rejected(Rejection::conflict("account_exists", message))
            }
            AccountChangeError::Claimed { .. } => {
                ApiError::Rejected(Rejection::conflict("instagram_account_claimed", message))
            }
            AccountChangeError::TooMany(_) => {
                ApiError::Rejected(Rejection::conflict("too_many_accounts", message))
            }
            AccountChangeError::OutcomeUnknown(source) => {
                error!(
                    error = &source as &dyn std::error::Error,
                    "account write failed"
                );
                ApiError::Rejected(Rejection {
                    status: 503,
                    code: "unavailable",
                    message,
                    member: None,
                })
            }
        }
    }
}
