//! Entries of the table of the API: a path, and for each operation its methods, handler and
//! description.

use std::borrow::Cow;

use actix_web::{HttpResponse, Route};

use super::context::{self, CallerCheck, RequestContext};
use super::docs::endpoint::EndpointDoc;
use super::error::ApiError;
use super::listener_role::{ListenerRole, OperationAudience};
use super::methods::MethodSet;
use super::source::CallSource;
use crate::config::Config;
use crate::token::AccessOperation;

/// Path of the API with its operations.
pub(super) struct ApiEndpoint {
    /// Prefix of the path that neighbours in the table share; empty for most. A request with
    /// another prefix skips all of them at the cost of one comparison.
    pub(super) scope: &'static str,
    /// Rest of the path, in actix-web's pattern language.
    pub(super) path: Cow<'static, str>,
    pub(super) operations: Vec<ApiOperation>,
    is_enabled: fn(&Config) -> bool,
}

/// Handler and description of some methods of a path.
pub(super) struct ApiOperation {
    pub(super) methods: MethodSet,
    pub(super) source: CallSource,
    audience: OperationAudience,
    /// Operation of the table of roles; `None` if the caller needs no token.
    pub(super) access: Option<AccessOperation>,
    /// Maker of the route. `None` for an operation that is only described: its real paths come from
    /// the configuration.
    route: Option<Box<dyn Fn() -> Route>>,
    /// Maker of the description. `None` keeps the operation out of the OpenAPI description.
    pub(super) description: Option<Box<dyn Fn() -> EndpointDoc>>,
    is_enabled: fn(&Config) -> bool,
}

impl ApiEndpoint {
    pub(super) fn new(path: impl Into<Cow<'static, str>>) -> Self {
        Self::within("", path)
    }

    /// Starts an endpoint at `path` under the prefix `scope`.
    pub(super) fn within(scope: &'static str, path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            scope,
            path: path.into(),
            operations: Vec::new(),
            is_enabled: |_| true,
        }
    }

    /// Adds an operation with its handler and description.
    pub(super) fn on<H>(
        self,
        methods: MethodSet,
        caller_check: CallerCheck,
        handler: H,
        description: impl Fn() -> EndpointDoc + 'static,
    ) -> Self
    where
        H: AsyncFn(&mut RequestContext) -> Result<HttpResponse, ApiError> + Clone + 'static,
    {
        self.undescribed(methods, caller_check, handler)
            .described(description)
    }

    /// Adds an operation that stays out of the OpenAPI description.
    pub(super) fn undescribed<H>(
        self,
        methods: MethodSet,
        caller_check: CallerCheck,
        handler: H,
    ) -> Self
    where
        H: AsyncFn(&mut RequestContext) -> Result<HttpResponse, ApiError> + Clone + 'static,
    {
        let mut endpoint = self.routed(methods, caller_check.source(), move || {
            context::route(caller_check, handler.clone())
        });
        if let Some(operation) = endpoint.operations.last_mut() {
            operation.access = caller_check.operation();
        }
        endpoint
    }

    /// Adds an operation with a route of its own, outside the shell of [`RequestContext`].
    pub(super) fn routed(
        self,
        methods: MethodSet,
        source: CallSource,
        route: impl Fn() -> Route + 'static,
    ) -> Self {
        self.add_operation(methods, source, Some(Box::new(route)))
    }

    /// Adds a description whose operations are routed under other paths.
    pub(super) fn only_described(
        self,
        methods: MethodSet,
        description: impl Fn() -> EndpointDoc + 'static,
    ) -> Self {
        self.add_operation(methods, CallSource::Nobody, None)
            .described(description)
    }

    /// Adds a description to the operation added last.
    pub(super) fn described(mut self, description: impl Fn() -> EndpointDoc + 'static) -> Self {
        if let Some(operation) = self.operations.last_mut() {
            operation.description = Some(Box::new(description));
        }
        self
    }

    /// Disables the operation added last unless `is_enabled` holds for the configuration.
    pub(super) fn operation_if(mut self, is_enabled: fn(&Config) -> bool) -> Self {
        if let Some(operation) = self.operations.last_mut() {
            operation.is_enabled = is_enabled;
        }
        self
    }

    /// Disables the endpoint unless `is_enabled` holds for the configuration.
    pub(super) fn only_if(self, is_enabled: fn(&Config) -> bool) -> Self {
        Self { is_enabled, ..self }
    }

    /// Makes the operation added last one for `audience`, where the source does not tell.
    pub(super) fn meant_for(mut self, audience: OperationAudience) -> Self {
        if let Some(operation) = self.operations.last_mut() {
            operation.audience = audience;
        }
        self
    }

    /// Returns both spellings of the path below its scope, with and without a slash at the end; the
    /// spelling of the table comes first.
    pub(super) fn spellings(&self) -> [String; 2] {
        let path = &*self.path;
        let other = path
            .strip_suffix('/')
            .map_or_else(|| format!("{path}/"), str::to_owned);
        [path.to_owned(), other]
    }

    /// Returns the path with the names of its variable parts, without their patterns.
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

    /// Returns the operations that `config` enables on a listener of this `role`, each with its route.
    pub(super) fn routes(
        &self,
        config: &Config,
        role: ListenerRole,
    ) -> Vec<(&ApiOperation, Route)> {
        let enabled = self
            .operations
            .iter()
            .filter(|operation| (operation.is_enabled)(config) && role.serves(operation.audience));
        enabled
            .filter_map(|operation| Some((operation, operation.route()?)))
            .collect()
    }

    fn add_operation(
        mut self,
        methods: MethodSet,
        source: CallSource,
        route: Option<Box<dyn Fn() -> Route>>,
    ) -> Self {
        let is_enabled = |_: &Config| true;
        self.operations.push(ApiOperation {
            methods,
            source,
            audience: audience_of(source),
            access: None,
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

/// Callers that the operations of `source` are for, unless the table says otherwise.
const fn audience_of(source: CallSource) -> OperationAudience {
    match source {
        CallSource::Admin | CallSource::Docs | CallSource::Dashboard => {
            OperationAudience::Operators
        }
        CallSource::Nobody | CallSource::Contract(_) | CallSource::Configured { .. } => {
            OperationAudience::Senders
        }
    }
}
