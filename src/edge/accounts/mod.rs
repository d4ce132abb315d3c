//! `/api/v1/accounts`: which business accounts there are and what becomes of their messages. For the admin.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::context::RequestContext;
use super::error::Error;
use super::gate::Core;
use super::list::List;
use super::{answer, body};
use crate::account::{Account, Refused};
use crate::entity::Rejection;

mod members;
pub(super) mod spec;
mod view;

use members::Members;
use view::View;

/// `POST /api/v1/accounts`
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let members = given(context, None).await?;
    let core = context.edge.core()?;
    let account = members.into_account(core.reads.end().await?, context.edge.clock.wall())?;
    let account = at_work(core, move |core| core.accounts.create(account)).await?;
    info!(account = account.id, "account made");
    Ok(answer::uncached(StatusCode::OK, &View::new(&account, &context.edge).with_secret()))
}

/// `GET /api/v1/accounts`
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let mut parameters = context.parameters(&["page", "page_size"]);
    let page = parameters.page();
    let page = parameters.finish(page)?;
    let known = context.edge.core()?.accounts.known();
    let accounts = known.newest_first();
    let total = accounts.len() as u64;
    let items = page.select(&accounts).map(|account| View::new(account, &context.edge)).collect();
    Ok(answer::uncached(StatusCode::OK, &List::new(items, total, page)))
}

/// `GET /api/v1/accounts/{account_id}`
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let known = context.edge.core()?.accounts.known();
    let account = known.find(&id).ok_or_else(|| refused(Refused::NotFound))?;
    Ok(answer::uncached(StatusCode::OK, &View::new(account, &context.edge)))
}

/// `PUT /api/v1/accounts/{account_id}`
pub(super) async fn change(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let members = given(context, Some(&id)).await?;
    let replacement = members.new_secret()?;
    let is_new_secret = replacement.is_some();
    let core = context.edge.core()?;
    let from = core.reads.end().await?;
    let change = move |account: &mut Account| members.change(account, replacement, from);
    let account = at_work(core, move |core| core.accounts.change(&id, change)).await?;
    info!(account = account.id, "account changed");
    let view = View::new(&account, &context.edge);
    Ok(answer::uncached(StatusCode::OK, &if is_new_secret { view.with_secret() } else { view }))
}

/// `DELETE /api/v1/accounts/{account_id}`
pub(super) async fn remove(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let (core, removed) = (context.edge.core()?, id.clone());
    at_work(core, move |core| core.accounts.remove(&removed)).await?;
    info!(account = id, "account removed");
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// What the body of a request of the admin gives, for the account `id` or for a new one.
async fn given(context: &mut RequestContext, id: Option<&str>) -> Result<Members, Error> {
    let body = context.read_body().await?;
    body::check_is_json(context.request.headers())?;
    let config = &context.edge.config;
    let cooldown = config.sources.instagram.auto_reply.cooldown;
    Members::read(body::text(&body)?, id, cooldown, &config.delivery.allow_targets)
}

/// Does what waits for the disk where waiting disturbs nobody.
async fn at_work<T: Send + 'static>(
    core: Arc<Core>,
    work: impl FnOnce(&Core) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Error> {
    let done = spawn_blocking(move || work(&core)).await;
    done.map_err(|_| Error::Internal)?.map_err(refused)
}

fn refused(refused: Refused) -> Error {
    let message = refused.to_string();
    match refused {
        Refused::NotFound => Error::NotFound(message),
        Refused::Exists(_) => Error::Rejected(Rejection::conflict("account_exists", message)),
        Refused::Claimed { .. } => Error::Rejected(Rejection::conflict("instagram_account_claimed", message)),
        Refused::TooMany(_) => Error::Rejected(Rejection::conflict("too_many_accounts", message)),
        Refused::Unknown(error) => {
            error!(error = &error as &dyn std::error::Error, "account could not be written");
            Error::Rejected(Rejection { status: 503, code: "unavailable", message, member: None })
        }
    }
}
