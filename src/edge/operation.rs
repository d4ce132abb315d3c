//! Endpoints as the table of the API lists them: a path, and for each operation its methods,
//! handler and description.

use std::borrow::Cow;

use actix_web::{HttpResponse, Route};

use super::context::{self, Admission, RequestContext};
use super::docs::endpoint::EndpointDoc;
use super::error::Error;
use super::methods::MethodSet;
use super::source::CallSource;
use crate::config::Config;

/// A path and all that can be done with it.
pub(super) struct ApiEndpoint {
    /// The beginning of the path that its neighbours in the table share, so that other requests
    /// pass by all of them at the cost of one; empty for most.
    pub(super) scope: &'static str,
    /// The rest of the path, in the pattern language of the router.
    pub(super) path: Cow<'static, str>,
    pub(super) operations: Vec<ApiOperation>,
    is_enabled: fn(&Config) -> bool,
}

/// Handler of some methods of a path.
pub(super) struct ApiOperation {
    pub(super) methods: MethodSet,
    pub(super) source: CallSource,
    /// `None` of an operation that is only described, since its paths are those of the
    /// configuration.
    route: Option<Box<dyn Fn() -> Route>>,
    /// `None` of what the description leaves out.
    pub(super) description: Option<Box<dyn Fn() -> EndpointDoc>>,
    is_enabled: fn(&Config) -> bool,
}

impl ApiEndpoint {
    pub(super) fn new(path: impl Into<Cow<'static, str>>) -> Self {
        Self::within("", path)
    }

    /// An endpoint at `path` under `scope`.
    pub(super) fn within(scope: &'static str, path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            scope,
            path: path.into(),
            operations: Vec::new(),
            is_enabled: |_| true,
        }
    }

    /// Adds an operation.
    pub(super) fn on<H>(
        self,
        methods: MethodSet,
        admission: Admission,
        handler: H,
        description: impl Fn() -> EndpointDoc + 'static,
    ) -> Self
    where
        H: AsyncFn(&mut RequestContext) -> Result<HttpResponse, Error> + Clone + 'static,
    {
        self.undescribed(methods, admission, handler)
            .described(description)
    }

    /// Adds an operation that the description leaves out.
    pub(super) fn undescribed<H>(self, methods: MethodSet, admission: Admission, handler: H) -> Self
    where
        H: AsyncFn(&mut RequestContext) -> Result<HttpResponse, Error> + Clone + 'static,
    {
        self.routed(methods, admission.source(), move || {
            context::route(admission, handler.clone())
        })
    }

    /// Adds an operation with a route of its own, outside the shell of handlers.
    pub(super) fn routed(
        self,
        methods: MethodSet,
        source: CallSource,
        route: impl Fn() -> Route + 'static,
    ) -> Self {
        self.operation(methods, source, Some(Box::new(route)))
    }

    /// Adds an operation that is described once here, and routed under other paths.
    pub(super) fn only_described(
        self,
        methods: MethodSet,
        description: impl Fn() -> EndpointDoc + 'static,
    ) -> Self {
        self.operation(methods, CallSource::Nobody, None)
            .described(description)
    }

    /// Describes the last operation.
    pub(super) fn described(mut self, description: impl Fn() -> EndpointDoc + 'static) -> Self {
        if let Some(operation) = self.operations.last_mut() {
            operation.description = Some(Box::new(description));
        }
        self
    }

    /// Leaves the last operation out where the configuration says so.
    pub(super) fn operation_if(mut self, is_enabled: fn(&Config) -> bool) -> Self {
        if let Some(operation) = self.operations.last_mut() {
            operation.is_enabled = is_enabled;
        }
        self
    }

    /// Leaves the endpoint out where the configuration says so.
    pub(super) fn only_if(self, is_enabled: fn(&Config) -> bool) -> Self {
        Self { is_enabled, ..self }
    }

    /// Both spellings of the path below its scope, the one of the table first.
    pub(super) fn spellings(&self) -> [String; 2] {
        let path = &*self.path;
        let other = path
            .strip_suffix('/')
            .map_or_else(|| format!("{path}/"), str::to_owned);
        [path.to_owned(), other]
    }

    /// The path with the names of its variable parts, and without their patterns.
    pub(super) fn documented_path(&self) -> String {
        let mut documented = self.scope.to_owned();
        let mut rest = &*self.path;
        while let Some((before, pattern)) = rest.split_once(':') {
            documented.push_str(before);
            rest = pattern.find('}').map_or("", |end| &pattern[end..]);
        }
        documented + rest
    }

    pub(super) fn is_enabled(&self, config: &Config) -> bool {
        (self.is_enabled)(config)
    }

    /// The operations that `config` enables, with their routes.
    pub(super) fn routes(&self, config: &Config) -> Vec<(&ApiOperation, Route)> {
        let enabled = self
            .operations
            .iter()
            .filter(|operation| (operation.is_enabled)(config));
        enabled
            .filter_map(|operation| Some((operation, operation.route()?)))
            .collect()
    }

    fn operation(
        mut self,
        methods: MethodSet,
        source: CallSource,
        route: Option<Box<dyn Fn() -> Route>>,
    ) -> Self {
        let is_enabled = |_: &Config| true;
        self.operations.push(ApiOperation {
            methods,
            source,
            route,
            description: None,
            is_enabled,
        });
        self
    }
}

impl ApiOperation {
    fn route(&self) -> Option<Route> {
        let route = self.route.as_ref()?;
        Some(route().guard(self.methods.guard()))
    }
}
