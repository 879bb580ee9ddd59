//! The routes, who may take them, and the headers of every answer.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use super::{
    access::{Access, Verdict, no_cookie},
    board::Board,
    events, html,
};

/// Readers of events at one time.
const MAX_WATCHERS: usize = 16;
/// Largest form: a token and its name.
const MAX_FORM_BYTES: usize = 1024;
/// Only our own files, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the routes share.
pub(super) struct Site {
    board: Arc<Board>,
    access: Access,
    metrics: Option<PrometheusHandle>,
    watchers: Arc<Semaphore>,
}

type Shared = State<Arc<Site>>;

impl Site {
    pub(super) fn new(
        board: Arc<Board>,
        access: Access,
        metrics: Option<PrometheusHandle>,
    ) -> Arc<Self> {
        Arc::new(Self { board, access, metrics, watchers: Arc::new(Semaphore::new(MAX_WATCHERS)) })
    }
}

pub(super) fn router(site: Arc<Site>) -> Router {
    let personal = Router::new()
        .route("/", get(index))
        .route("/events", get(watch))
        .route("/sightings/{file}", get(picture))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(site.clone(), only_known));
    Router::new()
        .merge(personal)
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/page.css", get(|| asset("text/css", include_str!("assets/page.css"))))
        .route("/page.js", get(|| asset("text/javascript", include_str!("assets/page.js"))))
        .route("/login.js", get(|| asset("text/javascript", include_str!("assets/login.js"))))
        .route("/icon.svg", get(|| asset("image/svg+xml", include_str!("assets/icon.svg"))))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(middleware::map_response(with_headers))
        .with_state(site)
}

/// On every answer, those that refuse and those to routes that do not exist, too.
async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        // The files of the page, too: they are small, and another version may bring others.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

async fn only_known(State(site): Shared, request: Request, next: Next) -> Response {
    match site.access.of_request(request.headers()) {
        Verdict::Welcome => next.run(request).await,
        Verdict::Unknown if request.uri().path() == "/" => Redirect::to("/login").into_response(),
        verdict => refusal(verdict, "log in at /login, or send the token as `Bearer`\n"),
    }
}

/// Why somebody is not let in, as a status; `body` says it in words.
fn refusal(verdict: Verdict, body: impl IntoResponse) -> Response {
    match verdict {
        Verdict::TooMany { wait } => {
            let seconds = wait.as_secs() + 1;
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers, body).into_response()
        }
        _ => {
            let headers = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, headers, body).into_response()
        }
    }
}

async fn index(State(site): Shared) -> Html<String> {
    Html(html::Index(&site.board.snapshot()).to_string())
}

async fn watch(State(site): Shared) -> Response {
    match site.watchers.clone().try_acquire_owned() {
        Ok(place) => events::watch(&site.board, place),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "too many readers of events; close a window\n")
            .into_response(),
    }
}

async fn picture(State(site): Shared, Path(file): Path<String>) -> Response {
    let picture = file.strip_suffix(".jpg").and_then(|id| site.board.picture(id));
    match picture {
        Some(jpeg) => {
            let headers = [(header::CONTENT_TYPE, "image/jpeg")];
            (headers, Bytes::from_owner(jpeg)).into_response()
        }
        None => (StatusCode::NOT_FOUND, "no such picture, or not kept any more\n").into_response(),
    }
}

async fn metrics(State(site): Shared) -> Response {
    match &site.metrics {
        Some(handle) => handle.render().into_response(),
        None => (StatusCode::NOT_FOUND, "no metrics are collected\n").into_response(),
    }
}

async fn login_form() -> Html<String> {
    Html(html::Login(None).to_string())
}

async fn login(State(site): Shared, form: Bytes) -> Response {
    let verdict = site.access.of_form(&form);
    let problem = match verdict {
        Verdict::Welcome => return home("/", site.access.cookie()),
        Verdict::TooMany { .. } => "Too many wrong tokens. Wait a few seconds and try again.",
        _ => "This is not the token.",
    };
    refusal(verdict, Html(html::Login(Some(problem)).to_string()))
}

async fn logout() -> Response {
    home("/login", no_cookie())
}

fn home(to: &str, cookie: Option<HeaderValue>) -> Response {
    let mut headers = HeaderMap::new();
    headers.extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    (headers, Redirect::to(to)).into_response()
}

async fn healthz(State(site): Shared) -> (StatusCode, &'static str) {
    match site.board.current_health().stalled.is_empty() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stalled\n"),
    }
}

async fn readyz(State(site): Shared) -> (StatusCode, &'static str) {
    match site.board.current_health().ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
    }
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, format!("{kind}; charset=utf-8"))], text).into_response()
}
