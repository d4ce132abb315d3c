//! Shell around every page: finds the session, refuses forms of other sites, and turns a result
//! into HTML.
//!
//! ```text
//! page    session? ──no──> login          action   session? ──no──> login
//!           │ yes                                    │ yes
//!         role? ──no──> 403                        role, same site and CSRF token? ──no──> 403
//!           │ yes                                    │ yes
//!         render ──error──> page of the error      perform ──error──> notice, back to the page
//! ```

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
};
use actix_web::http::uri::Authority;
use serde::de::DeserializeOwned;

use super::form::FormFields;
use super::layout::{self, LOGOUT_PATH, PageContent};
use super::login_page::{self, FETCH_SITE, is_same_origin};
use super::notice::SessionNotice;
use super::page_response::{html_response, see_other};
use super::sessions::DashboardSession;
use crate::config::Secret;
use crate::edge::body;
use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::edge::query::QueryParameters;
use crate::edge::state::Edge;
use crate::event::Timestamp;
use crate::token::AccessOperation;

/// Beginning of the name of the cookie that holds a session's token.
const SESSION_COOKIE: &str = "hookyard_session";

/// Prefix with which a browser takes a cookie from this very host only, and by https.
const HOST_PREFIX: &str = "__Host-";

/// Path below which the browser sends the cookie, unless it is one of the host.
const COOKIE_PATH: &str = "/dashboard";

/// Header of the requests by which the script renews a page.
const REFRESH: HeaderName = HeaderName::from_static("x-refresh");

/// Largest form, in bytes: the largest subscription with room for the encoding.
const FORM_MAX_BYTES: usize = 256 * 1024;

/// Request of a person who is logged in.
pub(super) struct PageVisit<'a> {
    pub(super) context: &'a mut RequestContext,
    pub(super) session: DashboardSession,
    pub(super) now: Timestamp,
}

/// Answer of a page or form to a [`PageVisit`].
pub(super) enum PageReply {
    /// Page with this content, and its status.
    Content(StatusCode, PageContent),
    /// Redirect to this path, as after each action.
    SeeOther(String),
    /// Answer that is no page, such as a download.
    Other(HttpResponse),
}

impl From<PageContent> for PageReply {
    fn from(content: PageContent) -> Self {
        Self::Content(StatusCode::OK, content)
    }
}

impl PageVisit<'_> {
    pub(super) fn edge(&self) -> &Edge {
        &self.context.edge
    }

    /// Tells if the person may do `operation`: what would be refused is not offered.
    pub(super) fn may(&self, operation: AccessOperation) -> bool {
        self.session.caller.may(operation)
    }

    /// Returns the stages behind the edge.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] while no store is open.
    pub(super) fn core(&self) -> Result<Arc<NodeCore>, ApiError> {
        self.context.edge.core()
    }

    /// Decodes the variable parts of the path.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if the parts do not fit `T`.
    pub(super) fn path<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.context.parse_path()
    }

    /// Fields of the query that have a value: a form sends those that were left empty too.
    pub(super) fn query(&self) -> FormFields {
        FormFields::parse(self.context.request.query_string().as_bytes())
            .without_empty()
            .with_utc_times()
    }

    /// Parameters of the query that the API knows as well.
    pub(super) fn parameters(&self, known: &[&'static str]) -> QueryParameters {
        QueryParameters::parse(&self.query().to_query(), known)
    }

    /// Takes the notices for the page that the person sees next. A page that renews itself in the
    /// background leaves them: it would drop a secret that is shown once.
    fn take_notices(&self) -> Vec<SessionNotice> {
        if self.context.request.headers().contains_key(REFRESH) {
            return Vec::new();
        }
        let sessions = &self.context.edge.dashboard.sessions;
        sessions.take_notices(&self.session)
    }

    /// Leaves `notice` for the next page.
    pub(super) fn notify(&self, notice: SessionNotice) {
        let sessions = &self.context.edge.dashboard.sessions;
        sessions.add_notice(&self.session, notice);
    }

    /// Leaves a notice of what was done, and redirects to `path`.
    pub(super) fn done(&self, message: impl Into<String>, path: impl Into<String>) -> PageReply {
        self.notify(SessionNotice::Success(message.into()));
        PageReply::SeeOther(path.into())
    }
}

/// Wraps `render` into the handler of a page, for those who may do `operation`.
pub(super) fn page<H>(
    operation: AccessOperation,
    render: H,
) -> impl AsyncFn(&mut RequestContext) -> Result<HttpResponse, ApiError> + Clone + 'static
where
    H: AsyncFn(&mut PageVisit<'_>) -> Result<PageReply, ApiError> + Clone + 'static,
{
    async move |context: &mut RequestContext| {
        context.call.note_operation(operation);
        show_page(context, operation, &render).await
    }
}

/// Wraps `render` into the handler of a page with the form of `operation`, for those who may do it.
/// Opening the form does not do it, so the audit log has an entry only if the page is refused.
pub(super) fn form_page<H>(
    operation: AccessOperation,
    render: H,
) -> impl AsyncFn(&mut RequestContext) -> Result<HttpResponse, ApiError> + Clone + 'static
where
    H: AsyncFn(&mut PageVisit<'_>) -> Result<PageReply, ApiError> + Clone + 'static,
{
    async move |context: &mut RequestContext| show_page(context, operation, &render).await
}

async fn show_page<H>(
    context: &mut RequestContext,
    operation: AccessOperation,
    render: &H,
) -> Result<HttpResponse, ApiError>
where
    H: AsyncFn(&mut PageVisit<'_>) -> Result<PageReply, ApiError>,
{
    let Some(session) = current_session(context) else {
        return Ok(redirect_to_login(context));
    };
    context.call.note_caller(session.caller.clone());
    let permitted = session.caller.check_role(operation);
    let now = context.edge.clock.wall();
    let mut visit = PageVisit {
        context,
        session,
        now,
    };
    let reply = match permitted {
        Ok(()) => render(&mut visit).await,
        Err(error) => {
            visit.context.call.note_operation(operation);
            Err(error)
        }
    };
    let reply = reply.unwrap_or_else(|error| error_reply(&visit, &error));
    Ok(finish(&visit, reply))
}

/// Wraps `perform` into the handler of a form, for those who may do `operation`. After an error the person is back at the page that
/// the form belongs to, whose path is the form's own without its last part.
pub(super) fn action<H>(
    operation: AccessOperation,
    perform: H,
) -> impl AsyncFn(&mut RequestContext) -> Result<HttpResponse, ApiError> + Clone + 'static
where
    H: AsyncFn(&mut PageVisit<'_>, &FormFields) -> Result<PageReply, ApiError> + Clone + 'static,
{
    async move |context: &mut RequestContext| {
        let Some(session) = current_session(context) else {
            return Ok(keep_form(context).await);
        };
        context.call.note_operation(operation);
        context.call.note_caller(session.caller.clone());
        context.edge.note_proof(&context.request);
        let permitted = session.caller.check_role(operation);
        let now = context.edge.clock.wall();
        let form = read_form(context).await;
        let mut visit = PageVisit {
            context,
            session,
            now,
        };
        let form = permitted.and(form);
        let form = match form.and_then(|form| check_form(&visit, form)) {
            Ok(form) => form,
            Err(error) => return Ok(finish(&visit, error_reply(&visit, &error))),
        };

        let reply = perform(&mut visit, &form).await.unwrap_or_else(|error| {
            visit.context.call.note_outcome(error.code());
            visit.notify(SessionNotice::Failure(layout::sentence(&error.to_string())));
            let path = visit.context.request.path();
            let parent = path.rsplit_once('/').map_or(path, |(parent, _)| parent);
            PageReply::SeeOther(parent.to_owned())
        });
        Ok(finish(&visit, reply))
    }
}

/// Reads the fields of the form in the body of a request.
///
/// # Errors
/// As for [`body::read_body`], and [`ApiError::UnsupportedMediaType`].
pub(super) async fn read_form(context: &mut RequestContext) -> Result<FormFields, ApiError> {
    let limits = body::BodyLimits {
        bytes_max: FORM_MAX_BYTES,
        ..context.edge.body_limits()
    };
    let (request, payload) = (&context.request, &mut context.payload);
    let body = context.edge.read_body(request, payload, limits).await?;
    Ok(FormFields::parse(&body))
}

/// Refuses a form that no page of this session sent.
fn check_form(visit: &PageVisit<'_>, form: FormFields) -> Result<FormFields, ApiError> {
    let sent = form.text("csrf");
    let is_own = visit.session.csrf.matches(sent.as_bytes());
    if is_own && is_same_site(visit.context.request.headers()) {
        Ok(form)
    } else {
        Err(ApiError::ForeignForm)
    }
}

/// Returns false if the browser says that another site made the request.
pub(super) fn is_same_site(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    site.is_none_or(|site| matches!(site, b"same-origin" | b"none"))
}

/// Finds the session of the request's cookie, unless the token that began it is revoked or has ended.
pub(super) fn current_session(context: &RequestContext) -> Option<DashboardSession> {
    let sessions = &context.edge.dashboard.sessions;
    let now = context.edge.clock.monotonic();
    let wanted = session_cookie_name(context);
    let headers = context.request.headers().get_all(COOKIE);
    headers
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == wanted)
        .find_map(|(_, token)| sessions.find_session(token, now))
        .filter(|session| {
            let tokens = context.edge.gate.tokens();
            let now = context.edge.clock.wall();
            let admin_token = &context.edge.config.admin.token;
            session.caller.is_valid(admin_token, tokens.as_deref(), now)
        })
}

/// Tells if people reach the node by https.
fn is_https(edge: &Edge) -> bool {
    let server = &edge.config.server;
    let url = server.public_url.as_ref();
    url.is_some_and(|url| url.starts_with("https://")) || server.tls.is_some()
}

/// Returns the name of the session's cookie. A browser sends the cookies of a host to all its ports,
/// so the name holds the port: two nodes on one machine would log each other out.
fn session_cookie_name(context: &RequestContext) -> String {
    let prefix = if is_https(&context.edge) {
        HOST_PREFIX
    } else {
        ""
    };
    let uri = context.request.uri().authority().cloned();
    let host = context.request.headers().get(HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    match uri.or(host).and_then(|authority| authority.port_u16()) {
        Some(port) => format!("{prefix}{SESSION_COOKIE}_{port}"),
        None => format!("{prefix}{SESSION_COOKIE}"),
    }
}

/// Builds the cookie that begins a session, or ends it with an empty `token`.
fn session_cookie(context: &RequestContext, token: &Secret) -> HeaderValue {
    let edge = &context.edge;
    let seconds = if token.is_empty() {
        0
    } else {
        edge.dashboard.sessions.lifetime().as_secs()
    };
    let (path, secure) = if is_https(edge) {
        ("/", "; Secure")
    } else {
        (COOKIE_PATH, "")
    };
    let cookie = format!(
        "{}={}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}",
        session_cookie_name(context),
        token.expose()
    );
    HeaderValue::from_str(&cookie).expect("a token has no special characters")
}

/// Redirects to the login, and from there back to the page that was asked for.
fn redirect_to_login(context: &RequestContext) -> HttpResponse {
    let path = context.request.path();
    let path_and_query = context.request.uri().path_and_query();
    let wanted = path_and_query.map_or(path, |whole| whole.as_str());
    let is_start = matches!(path.trim_end_matches('/'), "/dashboard");
    let is_read = context.request.method().is_safe();
    if is_start || !is_read {
        return see_other("/dashboard/login");
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("next", wanted)
        .finish();
    see_other(&format!("/dashboard/login?{query}"))
}

/// Answers a form whose session has ended with the login, which holds what was typed. Only a browser
/// that says that the form comes from this node is answered so: another site could fill in a form.
/// A logout has nothing left to do.
async fn keep_form(context: &mut RequestContext) -> HttpResponse {
    let is_logout = context.request.path() == LOGOUT_PATH;
    if is_logout || !is_same_origin(context.request.headers()) {
        return redirect_to_login(context);
    }
    match read_form(context).await {
        Ok(form) => login_page::page_with_form(context, form),
        Err(_) => redirect_to_login(context),
    }
}

/// Answers a request that no page or form takes with the page about `error`.
pub(super) fn refuse_request(context: &mut RequestContext, error: &ApiError) -> HttpResponse {
    let Some(session) = current_session(context) else {
        return redirect_to_login(context);
    };
    let now = context.edge.clock.wall();
    let visit = PageVisit {
        context,
        session,
        now,
    };
    let mut response = finish(&visit, error_reply(&visit, error));
    if let ApiError::MethodNotAllowed { allow } = error
        && let Ok(allow) = HeaderValue::from_str(&allow.to_string())
    {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// Adds the cookie of a session to `response`.
pub(super) fn set_session_cookie(
    response: &mut HttpResponse,
    context: &RequestContext,
    token: &Secret,
) {
    let cookie = session_cookie(context, token);
    response.headers_mut().insert(SET_COOKIE, cookie);
}

fn error_reply(visit: &PageVisit<'_>, error: &ApiError) -> PageReply {
    visit.context.call.note_outcome(error.code());
    PageReply::Content(error.status_code(), layout::error_content(error))
}

fn finish(visit: &PageVisit<'_>, reply: PageReply) -> HttpResponse {
    match reply {
        PageReply::Content(status, content) => {
            let notices = visit.take_notices();
            let html = layout::render_page(&content, &notices, &visit.session);
            html_response(status, html.into_string())
        }
        PageReply::SeeOther(path) => see_other(&path),
        PageReply::Other(response) => response,
    }
}
