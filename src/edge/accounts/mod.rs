//! `/api/v1/accounts`: the admin's interface to Instagram business accounts.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::{error, info};

use super::blocking::run_blocking;
use super::context::RequestContext;
use super::error::ApiError;
use super::list::ListPage;
use super::{answer, body};
use crate::account::{Account, AccountChangeError};
use crate::entity::Rejection;

mod input;
pub(super) mod spec;
mod view;

use input::AccountInput;
use view::AccountView;

/// Handles `POST /api/v1/accounts`: creates an account.
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let input = read_account_input(context, None).await?;
    let core = context.edge.core()?;
    let account =
        input.into_account(core.reads.answered_end().await?, context.edge.clock.wall())?;
    let account = run_blocking(core, move |core| core.accounts.create(account)).await?;
    info!(account = account.id, "account created");
    context.call.note_object(&account.id);
    Ok(answer::ok_json(
        &AccountView::new(&account, &context.edge).with_secret(),
    ))
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
    let known = context.edge.core()?.accounts.snapshot();
    let account = known.get(&id).ok_or(AccountChangeError::NotFound)?;
    Ok(answer::ok_json(&AccountView::new(account, &context.edge)))
}

/// Handles `PUT /api/v1/accounts/{account_id}`: changes an account.
pub(super) async fn change(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let input = read_account_input(context, Some(&id)).await?;
    let replacement = input.make_replacement_secret()?;
    let is_new_secret = replacement.is_some();
    let core = context.edge.core()?;
    let from = core.reads.answered_end().await?;
    let change = move |account: &mut Account| input.apply_to(account, replacement, from);
    let account = run_blocking(core, move |core| core.accounts.change(&id, change)).await?;
    info!(account = account.id, "account changed");
    let view = AccountView::new(&account, &context.edge);
    Ok(answer::ok_json(&if is_new_secret {
        view.with_secret()
    } else {
        view
    }))
}

/// Handles `DELETE /api/v1/accounts/{account_id}`: deletes an account.
pub(super) async fn remove(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let (core, removed) = (context.edge.core()?, id.clone());
    run_blocking(core, move |core| core.accounts.remove(&removed)).await?;
    info!(account = id, "account deleted");
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// Reads the body of a request for the account `id`, or for a new account.
async fn read_account_input(
    context: &mut RequestContext,
    id: Option<&str>,
) -> Result<AccountInput, ApiError> {
    let body = context.read_body().await?;
    body::check_json_content_type(context.request.headers())?;
    let config = &context.edge.config;
    let cooldown = config.sources.instagram.auto_reply.cooldown;
    AccountInput::parse(
        body::body_text(&body)?,
        id,
        cooldown,
        &config.delivery.allow_targets,
    )
}

impl From<AccountChangeError> for ApiError {
    fn from(error: AccountChangeError) -> Self {
        let message = error.to_string();
        match error {
            AccountChangeError::NotFound => ApiError::NotFound(message),
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
