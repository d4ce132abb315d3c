//! Application of one worker, which follows the configuration: each request is routed and answered by
//! the state that is current when it begins.
//!
//! ```text
//!  request ──> has the edge changed? ──no──> routes of the current application
//!                        └── yes ──> new application ──┘     requests in progress keep the old one
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_http::Request;
use actix_service::boxed::{BoxFuture, RcService, rc_service};
use actix_service::{IntoServiceFactory, Service, ServiceExt, ServiceFactory};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpResponse, ResponseError};
use tokio::sync::watch;

use super::guarded_stream::mark_request;
use super::listener_role::ListenerRole;
use super::request_forwarder::ORIGIN;
use super::state::Edge;
use super::{forwarding, routes, undrained};

/// Routes and handlers for one state of the edge.
type EdgeApp = RcService<Request, ServiceResponse, HttpResponse>;

/// Application of one worker, for the configuration in force.
pub(super) struct LiveApp(Rc<LiveAppState>);

struct LiveAppState {
    role: ListenerRole,
    edges: RefCell<watch::Receiver<Arc<Edge>>>,
    app: RefCell<EdgeApp>,
}

impl LiveApp {
    /// Builds the application of a listener of this `role` for the current one of `edges`.
    pub(super) async fn start(mut edges: watch::Receiver<Arc<Edge>>, role: ListenerRole) -> Self {
        let edge = Arc::clone(&edges.borrow_and_update());
        let app = build_app(edge, role).await;
        Self(Rc::new(LiveAppState {
            role,
            edges: RefCell::new(edges),
            app: RefCell::new(app),
        }))
    }
}

impl LiveAppState {
    fn has_changed(&self) -> bool {
        // Without a sender the node is stopping, and nothing changes any more.
        self.edges.borrow().has_changed().unwrap_or(false)
    }

    /// Builds the application for the newest state, and returns it.
    async fn renew(&self) -> EdgeApp {
        let edge = Arc::clone(&self.edges.borrow().borrow());
        let app = build_app(Arc::clone(&edge), self.role).await;
        self.app.replace(Rc::clone(&app));
        // Only now: until then other requests build it too instead of using the old one.
        let mut edges = self.edges.borrow_mut();
        let is_newest = Arc::ptr_eq(&edges.borrow_and_update(), &edge);
        if !is_newest {
            edges.mark_changed();
        }
        app
    }
}

impl Service<Request> for LiveApp {
    type Response = ServiceResponse;
    type Error = HttpResponse;
    type Future = BoxFuture<Result<ServiceResponse, HttpResponse>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), HttpResponse>> {
        self.0.app.borrow().poll_ready(context)
    }

    fn call(&self, request: Request) -> Self::Future {
        let state = &self.0;
        if !state.has_changed() {
            let app = Rc::clone(&state.app.borrow());
            return app.call(request);
        }
        let state = Rc::clone(state);
        Box::pin(async move {
            let app = state.renew().await;
            app.call(request).await
        })
    }
}

/// Passes a request on to the leader of the cluster, or lets this node answer it.
async fn forward_or_answer(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    let edge = request.app_data::<Data<Edge>>().cloned();
    let Some(edge) = edge else {
        return next.call(request).await;
    };
    let (request, mut payload) = request.into_parts();
    match forwarding::answer_as_follower(&edge, &request, &mut payload).await {
        Some(answer) => {
            let answer = answer.unwrap_or_else(|error| error.error_response());
            let answer = undrained::hold_undrained(&request, payload, answer);
            Ok(ServiceResponse::new(request, answer))
        }
        None => {
            let mut request = ServiceRequest::from_parts(request, payload);
            // It has served its purpose, and the call log must not keep a proof.
            request.headers_mut().remove(ORIGIN);
            next.call(request).await
        }
    }
}

async fn build_app(edge: Arc<Edge>, role: ListenerRole) -> EdgeApp {
    let data = Data::from(edge);
    let is_clustered = data.forwarder.is_some();
    let app = App::new()
        .app_data(data.clone())
        .wrap_fn(|request, service| {
            let mark_body = mark_request(&request);
            let answer = service.call(request);
            async move { Ok(answer.await?.map_body(|_, body| mark_body(body))) }
        })
        .configure(|service| routes::configure(service, &data.config, role))
        .default_service(routes::not_found());
    match is_clustered {
        false => start_app(app).await,
        true => start_app(app.wrap(from_fn(forward_or_answer))).await,
    }
}

async fn start_app<S>(app: App<S>) -> EdgeApp
where
    S: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
{
    let app = app.into_factory().new_service(AppConfig::default()).await;
    let app = app.expect("an application without data factories of its own cannot fail");
    rc_service(app.map_err(|error: actix_web::Error| error.error_response()))
}
