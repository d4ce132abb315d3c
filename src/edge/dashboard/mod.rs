//! Pages for people at `/dashboard`, rendered on the node. They do what the admin API does, by the
//! same functions, and work without a script.
//!
//! `visit` is the shell around every page, `layout` its frame, `elements` the small parts that
//! pages share. Each other file is one page, or one page with its forms.

use std::borrow::Cow;

use actix_web::Route;

use super::context::{self, CallerCheck, RequestContext};
use super::error::ApiError;
use super::methods::MethodSet;
use super::operation::ApiEndpoint;
use super::source::CallSource;
use crate::config::Config;
use crate::token::AccessOperation::*;

mod account_edit;
mod account_fields;
mod accounts;
mod assets;
mod audit;
mod calls;
mod dead_letters;
mod elements;
mod entities;
mod events;
mod filter_form;
mod form;
mod form_problems;
mod jobs;
mod layout;
mod login;
mod login_page;
mod node_problem;
mod node_situation;
mod notice;
mod overview;
mod page_response;
mod pasted_request;
mod plot;
mod receivers;
mod refused_senders;
mod sessions;
mod settings;
mod sources;
mod stale_form;
pub(super) mod state;
mod tokens;
mod visit;
mod webhooks;

use visit::{action, form_page, page};

/// Path of the first page, below which all others are.
pub(super) const PATH: &str = "/dashboard";

/// Caller whose session the shell checks, since its refusal is a redirect to the login.
const VISITOR: CallerCheck = CallerCheck::ByHandler(CallSource::Dashboard);

/// Endpoints of all pages and forms.
pub(super) fn endpoints() -> Vec<ApiEndpoint> {
    let endpoints = vec![
        ApiEndpoint::new("/dashboard/assets/{file}").undescribed(
            MethodSet::READ,
            VISITOR,
            assets::send,
        ),
        ApiEndpoint::new("/dashboard/login")
            .undescribed(MethodSet::READ, VISITOR, login::show)
            .undescribed(MethodSet::POST, VISITOR, login::submit),
        form(layout::LOGOUT_PATH, action(DashboardLogout, login::log_out)),
        shown("/dashboard", page(NodeRead, overview::show)),
        form(
            "/dashboard/confirm-clock",
            action(ClockConfirm, overview::confirm_clock),
        ),
        shown(
            "/dashboard/dead-letters",
            page(DeadLettersRead, dead_letters::show),
        ),
        form(
            "/dashboard/dead-letters/retry-matching",
            action(DeadLettersRetry, dead_letters::retry_matching),
        ),
        form(
            "/dashboard/dead-letters/discard-matching",
            action(DeadLettersDiscard, dead_letters::discard_matching),
        ),
        shown(
            "/dashboard/dead-letters/{dead_letter_id}",
            page(DeadLettersRead, dead_letters::show_one),
        ),
        form(
            "/dashboard/dead-letters/{dead_letter_id}/retry",
            action(DeadLettersRetry, dead_letters::retry),
        ),
        form(
            "/dashboard/dead-letters/{dead_letter_id}/discard",
            action(DeadLettersDiscard, dead_letters::discard),
        ),
        shown("/dashboard/jobs", page(JobsRead, jobs::show)),
        shown("/dashboard/jobs/{job_id}", page(JobsRead, jobs::show_one)),
        form(
            "/dashboard/jobs/{job_id}/cancel",
            action(JobsCancel, jobs::cancel),
        ),
        shown("/dashboard/events", page(EventsRead, events::show)),
        shown("/dashboard/events/find", page(EventsRead, events::find)),
        shown(
            "/dashboard/events/{event_id}",
            page(EventsRead, events::show_one),
        ),
        form(
            "/dashboard/events/{event_id}/reprocess",
            action(EventsReprocess, events::reprocess),
        ),
        shown("/dashboard/entities", page(EntitiesRead, entities::show)),
        shown(
            "/dashboard/entities/{kind}/{id}",
            page(EntitiesRead, entities::show_one),
        ),
        shown(
            "/dashboard/entities/{kind}/{id}/export",
            page(EntitiesExport, entities::export),
        ),
        shown("/dashboard/sources", page(NodeRead, sources::show)),
        form(pasted_request::CHECK_PATH, action(NodeRead, sources::check)),
        form(
            "/dashboard/entities/{kind}/{id}/erase",
            action(EntitiesErase, entities::erase),
        ),
        shown("/dashboard/calls", page(CallsRead, calls::show)),
        shown(
            "/dashboard/calls/{log_id}",
            page(CallsRead, calls::show_one),
        ),
        shown("/dashboard/accounts", page(AccountsRead, accounts::show)),
        shown(
            accounts::NEW_PATH,
            form_page(AccountsCreate, account_edit::show_new),
        )
        .undescribed(
            MethodSet::POST,
            VISITOR,
            action(AccountsCreate, account_edit::create),
        ),
        shown(
            "/dashboard/accounts/{account_id}/edit",
            form_page(AccountsChange, account_edit::show),
        )
        .undescribed(
            MethodSet::POST,
            VISITOR,
            action(AccountsChange, account_edit::change),
        ),
        shown(tokens::PATH, page(TokensRead, tokens::show)).undescribed(
            MethodSet::POST,
            VISITOR,
            action(TokensCreate, tokens::create),
        ),
        form(tokens::REVOKE_PATH, action(TokensRevoke, tokens::revoke)),
        shown("/dashboard/audit", page(AuditRead, audit::show)),
        shown("/dashboard/settings", page(NodeRead, settings::show)),
    ];
    let endpoints = endpoints.into_iter().chain(webhook_endpoints());
    let is_enabled = |config: &Config| config.dashboard.enabled;
    endpoints
        .map(|endpoint| endpoint.only_if(is_enabled))
        .collect()
}

/// Endpoints of the webhooks' pages and buttons.
fn webhook_endpoints() -> Vec<ApiEndpoint> {
    use webhooks::{actions, detail, edit, list};
    const PATH: &str = "/dashboard/settings/webhooks";
    let button = |name: &str| format!("{PATH}/{{id:[0-9]+}}/{name}");
    vec![
        shown(PATH, page(WebhooksRead, list::show)),
        shown(
            format!("{PATH}/new"),
            form_page(WebhooksCreate, edit::show_new),
        )
        .undescribed(
            MethodSet::POST,
            VISITOR,
            action(WebhooksCreate, edit::create),
        ),
        shown(
            format!("{PATH}/{{id:[0-9]+}}"),
            page(WebhooksRead, detail::show),
        ),
        shown(button("edit"), form_page(WebhooksChange, edit::show_edit)).undescribed(
            MethodSet::POST,
            VISITOR,
            action(WebhooksChange, edit::change),
        ),
        form(button("test"), action(WebhooksTest, actions::test)),
        form(button("pause"), action(WebhooksPause, actions::pause)),
        form(button("resume"), action(WebhooksResume, actions::resume)),
        form(
            button("rotate-secret"),
            action(WebhooksRotateSecret, actions::rotate),
        ),
        form(button("recover"), action(WebhooksRecover, actions::recover)),
        form(button("replay"), action(WebhooksReplay, actions::replay)),
        form(button("delete"), action(WebhooksDelete, actions::delete)),
    ]
}

/// Answers 404 by a page, for each path below [`PATH`] that is no page and no form.
pub(super) fn nothing_here() -> Route {
    refusal(ApiError::nothing_here)
}

/// Answers with the page about an error, for people who are logged in.
pub(super) fn refusal(error: impl Fn() -> ApiError + Clone + 'static) -> Route {
    let refuse =
        async move |context: &mut RequestContext| Ok(visit::refuse_request(context, &error()));
    context::route(VISITOR, refuse)
}

/// Endpoint of a page without forms of its own.
fn shown<H>(path: impl Into<Cow<'static, str>>, handler: H) -> ApiEndpoint
where
    H: AsyncFn(&mut RequestContext) -> Result<actix_web::HttpResponse, ApiError> + Clone + 'static,
{
    ApiEndpoint::new(path).undescribed(MethodSet::READ, VISITOR, handler)
}

/// Endpoint of a form without a page of its own.
fn form<H>(path: impl Into<Cow<'static, str>>, handler: H) -> ApiEndpoint
where
    H: AsyncFn(&mut RequestContext) -> Result<actix_web::HttpResponse, ApiError> + Clone + 'static,
{
    ApiEndpoint::new(path).undescribed(MethodSet::POST, VISITOR, handler)
}
