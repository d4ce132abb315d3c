//! Routes made of the table of the API, with 405 for other methods and 404 for other paths.

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, HeaderValue, LOCATION};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};

use super::context::{self, CallerCheck, RequestContext};
use super::error::ApiError;
use super::listener_role::{ListenerRole, OperationAudience};
use super::methods::MethodSet;
use super::operation::ApiEndpoint;
use super::source::CallSource;
use super::{api, dashboard, docs};
use crate::config::Config;

const DOCS: CallerCheck = CallerCheck::ByHandler(CallSource::Docs);

/// Adds all paths that `config` enables on a listener of this `role`, each with and without a slash at its end. These are two
/// routes, since a pattern with an optional end would cost a regular expression at each request.
pub(super) fn configure(service: &mut ServiceConfig, config: &Config, role: ListenerRole) {
    let mut endpoints = api::endpoints(&config.sources.custom);
    if config.server.docs {
        endpoints.extend(docs_endpoints());
    }
    endpoints.extend(dashboard::endpoints());
    endpoints.retain(|endpoint| endpoint.is_enabled(config));

    for in_scope in endpoints.chunk_by(|left, right| left.scope == right.scope) {
        let [ApiEndpoint { scope, .. }, ..] = in_scope else {
            continue;
        };
        if scope.is_empty() {
            for endpoint in in_scope {
                for path in endpoint.spellings() {
                    add_endpoint(service, endpoint, &path, (config, role));
                }
            }
            continue;
        }
        service.service(web::scope(scope).configure(|service| {
            // Routes are compared in order. Senders use the spelling of the table, so all of these
            // come before the other spellings.
            for spelling in [0, 1] {
                for endpoint in in_scope {
                    let path = &endpoint.spellings()[spelling];
                    add_endpoint(service, endpoint, path, (config, role));
                }
            }
        }));
    }

    if config.dashboard.enabled && role.serves(OperationAudience::Operators) {
        let others = web::scope(dashboard::PATH).default_service(dashboard::nothing_here());
        service.service(others);
    }
    let start = ApiEndpoint::new("/")
        .undescribed(MethodSet::READ, DOCS, show_start)
        .only_if(|config| config.dashboard.enabled || config.server.docs);
    if start.is_enabled(config) {
        add_endpoint(service, &start, &start.path, (config, role));
    }
    // A file's path has no second spelling with a slash.
    if config.server.docs {
        let file = ApiEndpoint::new("/docs/{file}").undescribed(MethodSet::READ, DOCS, docs::asset);
        add_endpoint(service, &file, &file.path, (config, role));
    }
}

/// Handles `GET /`: leads a browser to the pages for people, and answers others 404 as for any path.
async fn show_start(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let accept = context.request.headers().get(ACCEPT);
    let is_browser = accept
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if !is_browser {
        return Err(ApiError::nothing_here());
    }
    let path = match context.edge.config.dashboard.enabled {
        true => dashboard::PATH,
        false => "/docs/",
    };
    let mut response = HttpResponse::new(StatusCode::SEE_OTHER);
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static(path));
    Ok(response)
}

/// Endpoints of the documentation. The documentation is made of the table, so it is not in it.
fn docs_endpoints() -> [ApiEndpoint; 4] {
    [
        ApiEndpoint::new("/openapi.json").undescribed(MethodSet::READ, DOCS, docs::openapi),
        ApiEndpoint::new("/docs").undescribed(MethodSet::READ, DOCS, docs::page),
        ApiEndpoint::new("/docs/guide").undescribed(MethodSet::READ, DOCS, docs::guide::list),
        ApiEndpoint::new("/docs/guide/{topic}").undescribed(
            MethodSet::READ,
            DOCS,
            docs::guide::page,
        ),
    ]
}

/// Routes `path` to the enabled operations of `endpoint`, and other methods to 405.
fn add_endpoint(
    service: &mut ServiceConfig,
    endpoint: &ApiEndpoint,
    path: &str,
    (config, role): (&Config, ListenerRole),
) {
    let enabled = endpoint.routes(config, role);
    let (operations, routes): (Vec<_>, Vec<Route>) = enabled.into_iter().unzip();
    let Some(first) = operations.first() else {
        return;
    };

    let allow = operations
        .iter()
        .fold(MethodSet::default(), |allow, operation| {
            allow.union(operation.methods)
        });

    let resource: Resource = routes
        .into_iter()
        .fold(web::resource(path), Resource::route);
    service.service(resource.default_service(method_not_allowed(first.source, allow)));
}

/// Answers 405 for methods that a path of `source` does not take.
fn method_not_allowed(source: CallSource, allow: MethodSet) -> Route {
    let error = move || ApiError::MethodNotAllowed { allow };
    if source == CallSource::Dashboard {
        return dashboard::refusal(error);
    }
    let refuse = async move |_: &mut RequestContext| Err(error());
    context::route(CallerCheck::ByHandler(source), refuse)
}

/// Answers 404 for every path outside the table.
pub(super) fn not_found() -> Route {
    let refuse = async |_: &mut RequestContext| -> Result<HttpResponse, ApiError> {
        Err(ApiError::nothing_here())
    };
    context::route(CallerCheck::ByHandler(CallSource::Nobody), refuse)
}
