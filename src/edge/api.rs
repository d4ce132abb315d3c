//! Table of the API: each path with its methods, its access rule, its handler and its description.
//! Routes, `Allow` headers and the OpenAPI description are all made of this one table.
//!
//! A request's path is compared in the order of the table: senders' paths come first, since they
//! are called most, and a fixed path comes before a path with a variable part in the same place.

use actix_web::{HttpResponse, web};

use super::clock;
use super::configured::source::ConfiguredSource;
use super::context::{CallerCheck, RequestContext};
use super::error::ApiError;
use super::listener_role::OperationAudience;
use super::methods::MethodSet;
use super::operation::ApiEndpoint;
use super::source::{CRM, CallSource, LEADS, SUPPORT};
use super::{
    accounts, audit, available_events, backups, c2s, configured, crm, dead_letters, erasures,
    health, instagram, jobs, leads, metrics, reads, reload, support, tokens, webhooks,
};
use crate::config::CustomSourceConfig;
use crate::token::AccessOperation::{self, *};

const GET: MethodSet = MethodSet::GET;
const HEAD: MethodSet = MethodSet::HEAD;
const READ: MethodSet = MethodSet::READ;
const POST: MethodSet = MethodSet::POST;
const PUT: MethodSet = MethodSet::PUT;
const DELETE: MethodSet = MethodSet::DELETE;

const BY_NOBODY: CallerCheck = CallerCheck::ByHandler(CallSource::Nobody);
const BY_SUPPORT: CallerCheck = CallerCheck::ByHandler(CallSource::Contract(SUPPORT));
const BY_LEADS: CallerCheck = CallerCheck::ByHandler(CallSource::Contract(LEADS));
const BY_CRM: CallerCheck = CallerCheck::TokenWithBody(CallSource::Contract(CRM), EventsPublish);
const BY_MESSENGER: CallerCheck =
    CallerCheck::TokenWithBody(CallSource::Contract(instagram::SOURCE), MessagesSend);
const BY_C2S: CallerCheck = CallerCheck::ByHandler(CallSource::Contract(c2s::SOURCE));
const BY_INSTAGRAM: CallerCheck = CallerCheck::ByHandler(CallSource::Contract(instagram::SOURCE));

/// Makes the check for a token that permits `operation`.
const fn token(operation: AccessOperation) -> CallerCheck {
    CallerCheck::Token(CallSource::Admin, operation)
}

/// Makes the check for the length of a body, and for a token that permits `operation`.
const fn token_and_body(operation: AccessOperation) -> CallerCheck {
    CallerCheck::TokenWithBody(CallSource::Admin, operation)
}

/// Caller that asks what an address is. Its calls have no row in the call log, so that strangers
/// cannot fill it.
const NOBODY: CallerCheck = CallerCheck::ByHandler(CallSource::Nobody);

/// Lists every built-in endpoint, enabled or not, and the endpoints of the `custom` sources.
pub(super) fn endpoints(custom: &[CustomSourceConfig]) -> Vec<ApiEndpoint> {
    let mut all = vec![
        ApiEndpoint::new("/api/v0/crm/webhooks/support/")
            .on(POST, BY_SUPPORT, support::receive, support::spec::receive)
            .undescribed(HEAD, NOBODY, accept_head)
            .only_if(|config| config.sources.support.enabled),
    ];
    all.extend(leads_endpoints());
    all.extend(custom_endpoints(custom));
    all.extend(instagram_endpoints());
    all.extend([
        ApiEndpoint::new("/api/v1/webhooks/c2s")
            .on(POST, BY_C2S, c2s::receive, c2s::spec::receive)
            .undescribed(HEAD, NOBODY, accept_head)
            .only_if(|config| config.sources.c2s.enabled),
        ApiEndpoint::new("/api/v1/events")
            .on(POST, BY_CRM, crm::publish, crm::spec::publish)
            .operation_if(|config| config.sources.crm.enabled)
            .on(
                READ,
                token(EventsRead),
                reads::events::list,
                reads::spec::events,
            ),
    ]);
    all.extend(health_endpoints());
    all.push(ApiEndpoint::new("/api/v1/backup").on(
        GET,
        token(BackupDownload),
        backups::send,
        backups::describe,
    ));
    all.extend(read_endpoints());
    all.extend(subscription_endpoints());
    all.extend(redelivery_endpoints());
    all.extend(access_endpoints());
    all
}

/// Endpoints of the leads contract: one path for any event, and a path for each event that has one.
fn leads_endpoints() -> impl Iterator<Item = ApiEndpoint> {
    let any_event = ApiEndpoint::within(leads::BASE_PATH, "").on(
        POST,
        BY_LEADS,
        async |context: &mut RequestContext| leads::receive(None, context).await,
        leads::spec::any_event,
    );
    let each_event = leads::LEAD_EVENTS.iter().filter_map(|event| {
        let path = event
            .path?
            .replace("{id}", &format!("{{{}}}", event.id_name()));
        let receive =
            async move |context: &mut RequestContext| leads::receive(Some(event), context).await;
        let endpoint = ApiEndpoint::within(leads::BASE_PATH, format!("/{path}"));
        Some(endpoint.on(POST, BY_LEADS, receive, move || {
            leads::spec::one_event(event)
        }))
    });
    std::iter::once(any_event)
        .chain(each_event)
        .map(|endpoint| endpoint.undescribed(HEAD, NOBODY, accept_head))
        .map(|endpoint| endpoint.only_if(|config| config.sources.leads.enabled))
}

/// Answers a sender that validates an address of a contract before it sends events there.
async fn accept_head(_: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().finish())
}

/// Endpoints of configured sources: one description of all, and a path for each enabled source.
fn custom_endpoints(custom: &[CustomSourceConfig]) -> impl Iterator<Item = ApiEndpoint> {
    let described = ApiEndpoint::new(configured::PATH)
        .only_described(GET, configured::spec::subscription)
        .only_described(POST, configured::spec::receive);
    let each = custom
        .iter()
        .enumerate()
        .filter(|(_, custom)| custom.enabled)
        .map(|(index, custom)| {
            let caller_check = CallerCheck::ByHandler(CallSource::Configured {
                index,
                name: custom.name,
            });
            let receive =
                async move |context: &mut RequestContext| configured::receive(index, context).await;
            let subscribe = async move |context: &mut RequestContext| {
                configured::subscription(index, context).await
            };
            let endpoint =
                ApiEndpoint::new(configured::PATH.replace("{name}", custom.name.as_str()));
            let describe = async move |context: &mut RequestContext| {
                configured::describe(index, context).await
            };
            let endpoint = endpoint.undescribed(POST, caller_check, receive);
            if ConfiguredSource::has_subscription_handshake(custom) {
                endpoint
                    .undescribed(GET, caller_check, subscribe)
                    .undescribed(HEAD, NOBODY, describe)
            } else {
                endpoint
                    .undescribed(GET, caller_check, describe)
                    .undescribed(HEAD, NOBODY, describe)
            }
        });
    std::iter::once(described).chain(each)
}

#[rustfmt::skip]
fn instagram_endpoints() -> impl Iterator<Item = ApiEndpoint> {
    let endpoints = [
        ApiEndpoint::new("/webhooks/instagram")
            .on(GET, BY_INSTAGRAM, instagram::verify, instagram::spec::verify)
            .on(POST, BY_INSTAGRAM, instagram::receive, instagram::spec::receive)
            .undescribed(HEAD, NOBODY, accept_head),
        ApiEndpoint::new("/api/v1/accounts/{account_id}/messages")
            .on(POST, BY_MESSENGER, instagram::reply, instagram::spec::reply),
        ApiEndpoint::new("/api/v1/accounts")
            .on(READ, token(AccountsRead), accounts::list, accounts::spec::list)
            .on(POST, token_and_body(AccountsCreate), accounts::create, accounts::spec::create),
        ApiEndpoint::new("/api/v1/accounts/{account_id}")
            .on(READ, token(AccountsRead), accounts::show, accounts::spec::show)
            .on(PUT, token_and_body(AccountsChange), accounts::change, accounts::spec::change)
            .on(DELETE, token(AccountsDelete), accounts::remove, accounts::spec::remove),
    ];
    endpoints.into_iter().map(|endpoint| endpoint.only_if(|config| config.sources.instagram.enabled))
}

#[rustfmt::skip]
fn health_endpoints() -> [ApiEndpoint; 7] {
    let alive = || web::route().to(health::alive);
    let ready = || web::route().to(health::ready);
    [
        ApiEndpoint::new("/healthz")
            .routed(READ, CallSource::Nobody, alive)
            .described(health::describe_alive)
            .meant_for(OperationAudience::Everyone),
        ApiEndpoint::new("/health")
            .routed(READ, CallSource::Nobody, alive)
            .meant_for(OperationAudience::Everyone),
        ApiEndpoint::new("/readyz")
            .routed(READ, CallSource::Nobody, ready)
            .described(health::describe_ready)
            .meant_for(OperationAudience::Everyone),
        ApiEndpoint::new("/metrics")
            .on(READ, BY_NOBODY, metrics::show, metrics::describe)
            .meant_for(OperationAudience::Operators),
        ApiEndpoint::new("/api/v1/clock").on(READ, token(ClockRead), clock::show, clock::describe),
        ApiEndpoint::new("/api/v1/clock/confirm").on(POST, token(ClockConfirm), clock::confirm, clock::describe_confirm),
        ApiEndpoint::new("/api/v1/reload").on(POST, token(ConfigReload), reload::run, reload::describe),
    ]
}

#[rustfmt::skip]
fn read_endpoints() -> [ApiEndpoint; 9] {
    [
        ApiEndpoint::new("/api/v1/entities/{kind}")
            .on(READ, token(EntitiesRead), reads::entities::list, reads::spec::entities),
        ApiEndpoint::new("/api/v1/entities/{kind}/{id}")
            .on(READ, token(EntitiesRead), reads::entities::show, reads::spec::entity_with_state)
            .on(DELETE, token(EntitiesErase), erasures::erase, erasures::spec::erase),
        ApiEndpoint::new("/api/v1/entities/{kind}/{id}/export")
            .on(GET, token(EntitiesExport), reads::export::export, reads::spec::export),
        ApiEndpoint::new("/api/v1/erasures/{erasure_id}")
            .on(READ, token(EntitiesRead), erasures::show, erasures::spec::show),
        ApiEndpoint::new("/api/v1/entities/{kind}/{id}/timeline")
            .on(READ, token(EntitiesRead), reads::entities::timeline, reads::spec::timeline),
        ApiEndpoint::new("/api/v1/events/{event_id}")
            .on(READ, token(EventsRead), reads::events::show, reads::spec::event_with_outcome),
        ApiEndpoint::new("/api/v1/events/{event_id}/reprocess")
            .on(POST, token(EventsReprocess), reads::reprocess::run, reads::spec::reprocess),
        ApiEndpoint::new("/api/v1/webhooks/logs").on(READ, token(CallsRead), reads::logs::list, reads::spec::logs),
        ApiEndpoint::new("/api/v1/webhooks/logs/{log_id}")
            .on(READ, token(CallsRead), reads::logs::show, reads::spec::log_with_answer),
    ]
}

/// Endpoints of subscriptions. An id is digits only, which keeps `/api/v1/webhooks/logs` apart.
#[rustfmt::skip]
fn subscription_endpoints() -> [ApiEndpoint; 12] {
    [
        ApiEndpoint::new("/api/v1/webhooks/events/available")
            .on(READ, token(WebhooksRead), available_events::list, available_events::describe),
        ApiEndpoint::new("/api/v1/webhooks")
            .on(READ, token(WebhooksRead), webhooks::list, webhooks::spec::list)
            .on(POST, token_and_body(WebhooksCreate), webhooks::create, webhooks::spec::create),
        ApiEndpoint::new("/api/v1/webhooks/by-uid/{uid}")
            .on(PUT, token_and_body(WebhooksPut), webhooks::put_by_uid, webhooks::spec::put_by_uid),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}")
            .on(READ, token(WebhooksRead), webhooks::show, webhooks::spec::show)
            .on(PUT, token_and_body(WebhooksChange), webhooks::change, webhooks::spec::change)
            .on(DELETE, token(WebhooksDelete), webhooks::remove, webhooks::spec::remove),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/events")
            .on(READ, token(WebhooksPull), webhooks::pull::list, webhooks::spec::pull),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/deliveries")
            .on(READ, token(WebhooksRead), webhooks::attempts::list, webhooks::spec::deliveries),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/rotate-secret")
            .on(POST, token_and_body(WebhooksRotateSecret), webhooks::actions::rotate, webhooks::spec::rotate),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/pause")
            .on(POST, token(WebhooksPause), webhooks::actions::pause, webhooks::spec::pause),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/resume")
            .on(POST, token(WebhooksResume), webhooks::actions::resume, webhooks::spec::resume),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/test")
            .on(POST, token(WebhooksTest), webhooks::actions::test, webhooks::spec::test),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/recover")
            .on(POST, token_and_body(WebhooksRecover), jobs::redelivery::recover, jobs::spec::recover),
        ApiEndpoint::new("/api/v1/webhooks/{id:[0-9]+}/replay")
            .on(POST, token_and_body(WebhooksReplay), jobs::redelivery::replay, jobs::spec::replay),
    ]
}

#[rustfmt::skip]
fn redelivery_endpoints() -> [ApiEndpoint; 7] {
    [
        ApiEndpoint::new("/api/v1/dead-letters")
            .on(READ, token(DeadLettersRead), dead_letters::list, dead_letters::spec::list)
            .on(DELETE, token(DeadLettersDiscard), dead_letters::discard_all, dead_letters::spec::discard_all),
        ApiEndpoint::new("/api/v1/dead-letters/retry")
            .on(POST, token_and_body(DeadLettersRetry), dead_letters::retry_all, dead_letters::spec::retry_all),
        ApiEndpoint::new("/api/v1/dead-letters/{dead_letter_id}")
            .on(READ, token(DeadLettersRead), dead_letters::show, dead_letters::spec::show)
            .on(DELETE, token(DeadLettersDiscard), dead_letters::discard, dead_letters::spec::discard),
        ApiEndpoint::new("/api/v1/dead-letters/{dead_letter_id}/retry")
            .on(POST, token(DeadLettersRetry), dead_letters::retry, dead_letters::spec::retry),
        ApiEndpoint::new("/api/v1/jobs").on(READ, token(JobsRead), jobs::list, jobs::spec::list),
        ApiEndpoint::new("/api/v1/jobs/{job_id}").on(READ, token(JobsRead), jobs::show, jobs::spec::show),
        ApiEndpoint::new("/api/v1/jobs/{job_id}/cancel").on(POST, token(JobsCancel), jobs::cancel, jobs::spec::cancel),
    ]
}

#[rustfmt::skip]
fn access_endpoints() -> [ApiEndpoint; 4] {
    [
        ApiEndpoint::new("/api/v1/tokens")
            .on(READ, token(TokensRead), tokens::list, tokens::spec::list)
            .on(POST, token_and_body(TokensCreate), tokens::create, tokens::spec::create),
        ApiEndpoint::new("/api/v1/tokens/{name}")
            .on(READ, token(TokensRead), tokens::show, tokens::spec::show)
            .on(DELETE, token(TokensRevoke), tokens::revoke, tokens::spec::revoke),
        ApiEndpoint::new("/api/v1/audit").on(READ, token(AuditRead), audit::list, audit::spec::list),
        ApiEndpoint::new("/api/v1/audit/export")
            .on(GET, token(AuditRead), audit::export, audit::spec::export),
    ]
}
