//! The router and what its handlers share.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use codeexec_policy::Policy;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::{Authenticator, middleware as auth};
use crate::backend::Backend;
use crate::http::docs::{self, Docs};
use crate::http::drain::drain;
use crate::http::error::ApiError;
use crate::http::receive::Room;
use crate::http::settings::HttpSettings;
use crate::http::streams::Streams;
use crate::http::{cors, headers, health, log, measure, playground};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::openapi::routes::{Route, routes};
use crate::usage::Usage;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// What runs the programs.
    pub backend: Arc<dyn Backend>,
    /// How many executions a user may begin.
    pub limits: Arc<Limits>,
    /// Says who asks.
    pub auth: Arc<Authenticator>,
    /// What users have run.
    pub usage: Arc<Usage>,
    /// What `/metrics` tells.
    pub metrics: Arc<Metrics>,
    /// What `/api/openapi.json` and `/api/docs` show, unless they are switched off.
    pub docs: Option<Arc<Docs>>,
    /// Whether the playground is served, at `/`.
    pub playground: bool,
    /// What is done about programs that say what the policy names.
    pub policy: Policy,
    /// Bounds of requests, and what browsers are told.
    pub http: HttpSettings,
    /// Room for the bodies that are being read.
    pub room: Room,
    /// Those who follow executions.
    pub streams: Streams,
    /// Cancelled once the server was told to stop.
    pub stopping: CancellationToken,
}

impl App {
    /// Every path that is served. Whoever serves it has to say where connections come from
    /// (`into_make_service_with_connect_info`).
    pub fn router(self) -> Router {
        let (identified, open): (Vec<_>, Vec<_>) =
            routes().into_iter().partition(|route| route.needs_identity);
        let serve = |router: Router<_>, route: Route| router.route(route.path, route.handler);
        let identified = identified.into_iter().fold(Router::new(), serve);
        let open = open.into_iter().fold(Router::new(), serve);
        let mut router = identified
            .route_layer(middleware::from_fn_with_state(self.clone(), auth::identify))
            .merge(open)
            .route(docs::PAGE_PATH, get(docs::page))
            .route(docs::ASSET_PATH, get(docs::asset))
            .merge(probes());
        if self.playground {
            router = router.merge(playground::routes());
        }
        let router = router
            .fallback(|| async { not_found() })
            .method_not_allowed_fallback(method_not_allowed);
        self.around(router)
    }

    /// What serves connections beyond the bound: it tells probes that the server lives, and everybody else to come
    /// again.
    pub fn full(self) -> Router {
        self.around(probes().fallback(full))
    }

    /// What every answer goes through.
    fn around(self, router: Router<Self>) -> Router {
        // Inside of the log, so that a panic is logged as the 500 that it becomes.
        let mut router = router.layer(CatchPanicLayer::custom(panicked));
        if let Some(cors) = cors::layer(&self.http.cors_origins) {
            router = router.layer(cors);
        }
        headers::careful(router, self.http.hsts_seconds)
            .layer(middleware::from_fn_with_state(
                self.metrics.clone(),
                measure::requests,
            ))
            .layer(middleware::from_fn_with_state(self.clone(), log::requests))
            .with_state(self)
    }
}

fn probes() -> Router<App> {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
}

async fn full(request: Request) -> ApiError {
    drain(request).await;
    ApiError::unavailable("overloaded", "too many connections are open", 1)
}

/// What is said of a path that leads nowhere.
pub(crate) fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path",
    )
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not take this method",
    )
}

#[allow(clippy::needless_pass_by_value)] // the layer's signature
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic hook has logged where; what it says may hold a client's data.
    ApiError::internal().into_response()
}
