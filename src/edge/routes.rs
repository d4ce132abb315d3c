//! Which handler answers which path and method, and what becomes of the others.

use std::future::{Ready, ready};

use actix_web::guard::{self, Guard};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, Route};

use super::call::Call;
use super::error::Error;
use super::{
    Edge, accounts, admin, available, c2s, configured, crm, dead_letters, docs, health, instagram, jobs, leads, reads,
    support, webhooks,
};
use crate::config::Config;
use crate::event::Name;

/// The name that requests for nothing of ours have in logs.
pub(super) const SOURCE: &str = "none";

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// Adds all paths that `config` enables. Each is known with and without a slash at its end: as a path of its own, since
/// a pattern with an optional end costs a regular expression at each request.
pub(super) fn configure(service: &mut ServiceConfig, config: &Config) {
    if config.sources.support.enabled {
        take(service, &support::SOURCE, "/api/v0/crm/webhooks/support/", support::receive);
        take(service, &support::SOURCE, "/api/v0/crm/webhooks/support", support::receive);
    }
    if config.sources.leads.enabled {
        // One prefix for all of them: other requests pass by it at the cost of one.
        service.service(web::scope(leads::BASE).configure(configure_leads));
    }
    configured::configure(service, &config.sources.custom);
    if config.sources.instagram.enabled {
        for path in ["/webhooks/instagram", "/webhooks/instagram/"] {
            let routes = [on(guard::Get(), instagram::verify), on(guard::Post(), instagram::receive)];
            several(service, instagram::SOURCE.as_str(), path, "GET, POST", routes);
        }
        for end in ["", "/"] {
            let all = [on(reading(), accounts::list), on(guard::Post(), accounts::create)];
            several(service, admin::SOURCE, &format!("/api/v1/accounts{end}"), "GET, HEAD, POST", all);
            let one = [
                on(reading(), accounts::show),
                on(guard::Put(), accounts::change),
                on(guard::Delete(), accounts::remove),
            ];
            let path = format!("/api/v1/accounts/{{account_id}}{end}");
            several(service, admin::SOURCE, &path, "GET, HEAD, PUT, DELETE", one);
            let replies = format!("/api/v1/accounts/{{account_id}}/messages{end}");
            take(service, &instagram::SOURCE, &replies, instagram::reply);
        }
    }
    if config.sources.c2s.enabled {
        take(service, &c2s::SOURCE, "/api/v1/webhooks/c2s", c2s::receive);
        take(service, &c2s::SOURCE, "/api/v1/webhooks/c2s/", c2s::receive);
    }
    for end in ["", "/"] {
        get(service, &format!("/healthz{end}"), health::alive);
        get(service, &format!("/health{end}"), health::alive);
        get(service, &format!("/readyz{end}"), health::ready);
        get(service, &format!("/openapi.json{end}"), docs::openapi);
        get(service, &format!("/docs{end}"), docs::page);
        get(service, &format!("/docs/guide{end}"), docs::guide::list);
        get(service, &format!("/docs/guide/{{topic}}{end}"), docs::guide::page);
        get(service, &format!("/api/v1/entities/{{kind}}{end}"), reads::entities::list);
        get(service, &format!("/api/v1/entities/{{kind}}/{{id}}{end}"), reads::entities::show);
        get(service, &format!("/api/v1/entities/{{kind}}/{{id}}/timeline{end}"), reads::entities::timeline);
        let published = config.sources.crm.enabled.then(|| on(guard::Post(), crm::publish));
        let listed = on(reading(), reads::events::list);
        let (source, allow) = match published {
            Some(_) => (crm::SOURCE.as_str(), "GET, HEAD, POST"),
            None => (admin::SOURCE, GET),
        };
        several(service, source, &format!("/api/v1/events{end}"), allow, published.into_iter().chain([listed]));
        get(service, &format!("/api/v1/webhooks/events/available{end}"), available::list);
        configure_webhooks(service, end);
        configure_dead_letters(service, end);
        get(service, &format!("/api/v1/events/{{event_id}}{end}"), reads::events::show);
        let again = [on(guard::Post(), reads::reprocess::run)];
        several(service, admin::SOURCE, &format!("/api/v1/events/{{event_id}}/reprocess{end}"), POST, again);
        get(service, &format!("/api/v1/webhooks/logs{end}"), reads::logs::list);
        get(service, &format!("/api/v1/webhooks/logs/{{log_id}}{end}"), reads::logs::show);
    }
    // Last of its kind: `guide` would be a file's name too.
    get(service, "/docs/{file}", docs::asset);
}

/// Adds the paths of subscriptions, which `end` ends. They are told from the others under the same beginning by their digits.
fn configure_webhooks(service: &mut ServiceConfig, end: &str) {
    const ALL: &str = "/api/v1/webhooks";
    const ONE: &str = "/api/v1/webhooks/{id:[0-9]+}";
    let all = [on(reading(), webhooks::list), on(guard::Post(), webhooks::create)];
    several(service, admin::SOURCE, &format!("{ALL}{end}"), "GET, HEAD, POST", all);
    let one =
        [on(reading(), webhooks::show), on(guard::Put(), webhooks::change), on(guard::Delete(), webhooks::remove)];
    several(service, admin::SOURCE, &format!("{ONE}{end}"), "GET, HEAD, PUT, DELETE", one);
    get(service, &format!("{ONE}/deliveries{end}"), webhooks::attempts::list);
    let mut action = |name, route| several(service, admin::SOURCE, &format!("{ONE}/{name}{end}"), POST, [route]);
    action("rotate-secret", on(guard::Post(), webhooks::actions::rotate));
    action("pause", on(guard::Post(), webhooks::actions::stop));
    action("resume", on(guard::Post(), webhooks::actions::start));
    action("test", on(guard::Post(), webhooks::actions::test));
    action("recover", on(guard::Post(), jobs::again::recover));
    action("replay", on(guard::Post(), jobs::again::replay));
}

/// Adds the paths of dead letters and jobs, which `end` ends.
fn configure_dead_letters(service: &mut ServiceConfig, end: &str) {
    const READ_OR_DELETE: &str = "GET, HEAD, DELETE";
    let all = [on(reading(), dead_letters::list), on(guard::Delete(), dead_letters::discard_all)];
    several(service, admin::SOURCE, &format!("/api/v1/dead-letters{end}"), READ_OR_DELETE, all);
    let again = [on(guard::Post(), dead_letters::retry_all)];
    several(service, admin::SOURCE, &format!("/api/v1/dead-letters/retry{end}"), POST, again);
    let one = [on(reading(), dead_letters::show), on(guard::Delete(), dead_letters::discard)];
    several(service, admin::SOURCE, &format!("/api/v1/dead-letters/{{id}}{end}"), READ_OR_DELETE, one);
    let again = [on(guard::Post(), dead_letters::retry)];
    several(service, admin::SOURCE, &format!("/api/v1/dead-letters/{{id}}/retry{end}"), POST, again);
    get(service, &format!("/api/v1/jobs{end}"), jobs::list);
    get(service, &format!("/api/v1/jobs/{{id}}{end}"), jobs::show);
    let cancel = [on(guard::Post(), jobs::cancel)];
    several(service, admin::SOURCE, &format!("/api/v1/jobs/{{id}}/cancel{end}"), POST, cancel);
}

fn configure_leads(service: &mut ServiceConfig) {
    let receive = |event| move |request, payload, edge| leads::receive(event, request, payload, edge);
    for end in ["", "/"] {
        take(service, &leads::SOURCE, end, receive(None));
        for event in &leads::EVENTS {
            if let Some(path) = event.path {
                take(service, &leads::SOURCE, &format!("/{path}{end}"), receive(Some(event)));
            }
        }
    }
}

/// Answers for every path that is not ours.
pub(super) async fn not_found(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, SOURCE);
    call.end(&request, payload.into_inner(), &edge, Err(Error::not_found("there is nothing at this path")))
}

fn get<F, Args>(service: &mut ServiceConfig, path: &str, handler: F)
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    several(service, SOURCE, path, GET, [on(reading(), handler)]);
}

/// Adds a path of `source` that takes events in.
fn take<F, Args>(service: &mut ServiceConfig, source: &Name, path: &str, handler: F)
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    several(service, source.as_str(), path, POST, [on(guard::Post(), handler)]);
}

fn reading() -> impl Guard + 'static {
    guard::Any(guard::Get()).or(guard::Head())
}

/// What answers `methods`.
fn on<F, Args>(methods: impl Guard + 'static, handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::route().guard(methods).to(handler)
}

/// Adds a path of `source` with what answers its methods, which are those in `allow`.
fn several(
    service: &mut ServiceConfig,
    source: &'static str,
    path: &str,
    allow: &'static str,
    routes: impl IntoIterator<Item = Route>,
) {
    let resource: Resource = routes.into_iter().fold(web::resource(path), Resource::route);
    service.service(resource.default_service(web::route().to(not_allowed(source, allow))));
}

/// Answers for a method that a path of `source` does not take.
fn not_allowed(
    source: &'static str,
    allow: &'static str,
) -> impl Fn(HttpRequest, Payload, Data<Edge>) -> Ready<HttpResponse> + Clone {
    move |request, payload, edge| {
        let call = Call::begin(&request, source);
        ready(call.end(&request, payload.into_inner(), &edge, Err(Error::MethodNotAllowed { allow })))
    }
}
