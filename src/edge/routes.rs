//! Routes of the table of the API: which handler answers which path and method, and what becomes of
//! the others.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};

use super::context::{self, Admission, RequestContext};
use super::error::Error;
use super::methods::MethodSet;
use super::operation::ApiEndpoint;
use super::source::CallSource;
use super::{api, docs};
use crate::config::Config;

const DOCS: Admission = Admission::ByHandler(CallSource::Docs);

/// Adds all paths that `config` enables, each with and without a slash at its end: as two paths,
/// since a pattern with an optional end costs a regular expression at each request.
pub(super) fn configure(service: &mut ServiceConfig, config: &Config) {
    let mut endpoints = api::endpoints(&config.sources.custom);
    endpoints.extend(description());
    endpoints.retain(|endpoint| endpoint.is_enabled(config));
    for neighbours in endpoints.chunk_by(|one, next| one.scope == next.scope) {
        let [ApiEndpoint { scope, .. }, ..] = neighbours else {
            continue;
        };
        if scope.is_empty() {
            for endpoint in neighbours {
                endpoint
                    .spellings()
                    .iter()
                    .for_each(|path| add(service, endpoint, path, config));
            }
            continue;
        }
        service.service(web::scope(scope).configure(|service| {
            // Senders use the spelling of the table, so the other ones come after all of these.
            for nth in [0, 1] {
                neighbours
                    .iter()
                    .for_each(|one| add(service, one, &one.spellings()[nth], config));
            }
        }));
    }
    // Files have one spelling.
    let file = ApiEndpoint::new("/docs/{file}").undescribed(MethodSet::READ, DOCS, docs::asset);
    add(service, &file, &file.path, config);
}

/// Endpoints that show the table, and so cannot stand in it.
fn description() -> [ApiEndpoint; 4] {
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

/// Adds `endpoint` under `path`.
fn add(service: &mut ServiceConfig, endpoint: &ApiEndpoint, path: &str, config: &Config) {
    let (operations, routes): (Vec<_>, Vec<Route>) = endpoint.routes(config).into_iter().unzip();
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
    service.service(resource.default_service(not_allowed(first.source, allow)));
}

/// Answers for methods that a path of `source` does not take.
fn not_allowed(source: CallSource, allow: MethodSet) -> Route {
    let refuse = async move |_: &mut RequestContext| Err(Error::MethodNotAllowed { allow });
    context::route(Admission::ByHandler(source), refuse)
}

/// Answers for every path that is not ours.
pub(super) fn not_found() -> Route {
    let refuse = async |_: &mut RequestContext| -> Result<HttpResponse, Error> {
        Err(Error::nothing_here())
    };
    context::route(Admission::ByHandler(CallSource::Nobody), refuse)
}
