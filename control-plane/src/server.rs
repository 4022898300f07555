//! The server: what it manages, every route it has, and what is answered where there is none.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::metrics;
use isolation::Database;
use prometheus::Registry;
use rocket::config::{Config, Ident, LogLevel, Shutdown, Sig};
use rocket::fairing::AdHoc;
use rocket::futures::future::BoxFuture;
use rocket::http::{ContentType, Header, Method, Status};
use rocket::{Build, Request, Responder, Rocket, Shutdown as RocketShutdown, State, catch, catchers, get, routes};

use crate::auth::{KeyDirectory, Operators};
use crate::body::BodyTime;
use crate::config::ControlPlaneSettings;
use crate::cors::Cors;
use crate::delivery::Reach;
use crate::downloads::Downloads;
use crate::feed::FeedHead;
use crate::incoming::Incoming;
use crate::media::{BytesUrls, Library};
use crate::monthly::MonthlyTables;
use crate::problem::ApiError;
use crate::rates::RateLimits;
use crate::replica::ReplicaWatch;
use crate::requests::{Exchange, Requests};
use crate::routes;
use crate::routes::Tus;
use crate::scanner::ScannerWatch;
use crate::traced;
use crate::txt::TxtRecords;
use crate::webhooks::WebhookReach;
use crate::workflows::Means;

/// Seconds that connections have to end by themselves once requests were given theirs.
const MERCY_SECONDS: u32 = 2;

/// The server, ready to be launched.
///
/// # Errors
/// When the name of a metric is taken, the system gives no thread, or there is no such place for uploads.
pub fn build(
    settings: &ControlPlaneSettings,
    database: Database,
    registry: &Registry,
) -> anyhow::Result<Rocket<Build>> {
    let keys = Arc::new(KeyDirectory::new(database.clone(), settings.connections));
    let limits = Arc::new(RateLimits::new(settings, registry)?);
    let forgetful = Arc::clone(&limits);
    let config = Config {
        address: settings.listen.ip(),
        port: settings.listen.port(),
        ident: Ident::none(),
        // Nobody is believed whom they name as their client.
        ip_header: None,
        // Any other number than 0 means the same for HTTP/1.1: they are kept for as long as the client likes.
        keep_alive: u32::from(settings.keep_alive),
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: Shutdown {
            ctrlc: true,
            signals: [Sig::Term].into(),
            grace: settings.drain_seconds,
            mercy: MERCY_SECONDS,
            force: true,
            ..Shutdown::default()
        },
        ..Config::release_default()
    };
    let (writer, flusher) = (Arc::clone(&keys), Arc::clone(&keys));
    let (head, followed) = (Arc::new(FeedHead::new()), database.clone());
    let follower = Arc::clone(&head);
    let (tables, watched) = (MonthlyTables::new(registry)?, database.clone());
    let library = Library::open(settings, database.clone())?;
    let (replica, looked_at) = (ReplicaWatch::new(registry)?, database.clone());
    let scanner = settings.scanner.scanner();
    let means = Means { has_scanner: scanner.daemon.is_some(), reach: WebhookReach(settings.webhooks.reach()) };
    let (watch, quarantine) = (ScannerWatch::new(scanner, registry)?, database.clone());
    Ok(rocket::custom(config)
        .attach(Requests::start(registry, settings.traces.trust_incoming)?)
        .attach(Tus::new(library.bytes_max))
        .attach(Cors::new(&settings.cors_origins))
        .attach(AdHoc::on_liftoff("listening", |rocket| {
            let (address, port) = (rocket.config().address, rocket.config().port);
            Box::pin(async move { tracing::info!(%address, port, "serving") })
        }))
        .attach(AdHoc::on_liftoff("key uses", move |rocket| {
            until(rocket.shutdown(), async move { writer.write_uses().await })
        }))
        .attach(AdHoc::on_liftoff("rates", move |rocket| {
            until(rocket.shutdown(), async move { forgetful.forget().await })
        }))
        .attach(AdHoc::on_liftoff("feed", move |rocket| {
            until(rocket.shutdown(), async move { follower.follow(&followed).await })
        }))
        .attach(AdHoc::on_liftoff("replica", move |rocket| {
            until(rocket.shutdown(), async move { replica.watch(&looked_at).await })
        }))
        .attach(AdHoc::on_liftoff("tables by month", move |rocket| {
            until(rocket.shutdown(), async move { tables.watch(&watched).await })
        }))
        .attach(AdHoc::on_liftoff("scanner", move |rocket| {
            until(rocket.shutdown(), async move { watch.look(&quarantine).await })
        }))
        .attach(AdHoc::on_shutdown("key uses", move |_| Box::pin(async move { flusher.flush().await })))
        .manage(Operators::of(settings))
        .manage(keys)
        .manage(head)
        .manage(TxtRecords::new(&settings.dns_servers))
        .manage(limits)
        .manage(BodyTime(Duration::from_secs(settings.body_seconds)))
        .manage(Reach::of(settings))
        .manage(WebhookReach(settings.webhooks.reach()))
        .manage(settings.seal())
        .manage(Incoming::new(settings, library.clone()))
        .manage(Downloads::new(settings, library.clone(), registry)?)
        .manage(library)
        .manage(means)
        .manage(BytesUrls::new(settings))
        .manage(database)
        .manage(registry.clone())
        .mount("/", routes![healthz, readyz, prometheus_metrics])
        .mount("/v1", traced::routes(routes::all()))
        .mount("/internal/v1", traced::routes(routes::internal()))
        .register("/", catchers![refused]))
}

/// Begins some work that goes on until the server is stopped.
fn until<'a>(shutdown: RocketShutdown, work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'a, ()> {
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            () = shutdown => {}
        }
    });
    Box::pin(std::future::ready(()))
}

/// The process runs.
#[utoipa::path(tag = "operation", responses((status = 200, description = "It does", content_type = "text/plain")))]
#[get("/healthz")]
pub fn healthz() -> &'static str {
    "ok"
}

/// It can do what it is for.
#[utoipa::path(tag = "operation", responses((status = 200, description = "It can", content_type = "text/plain")))]
#[get("/readyz")]
pub async fn readyz(database: &State<Database>) -> Result<&'static str, ApiError> {
    sqlx::query("SELECT 1").execute(database.across()).await?;
    Ok("ready")
}

/// Metrics, as Prometheus reads them.
#[utoipa::path(tag = "operation", responses((status = 200, description = "They", content_type = "text/plain")))]
#[get("/metrics")]
pub fn prometheus_metrics(registry: &State<Registry>) -> (ContentType, Vec<u8>) {
    let kind = ContentType::new("text", "plain").with_params([("version", "0.0.4"), ("charset", "utf-8")]);
    (kind, metrics::encode(registry))
}

/// Whatever no handler answered: what a guard refused, and what nothing is served for.
#[catch(default)]
fn refused(status: Status, request: &Request<'_>) -> Result<Allowed, ApiError> {
    let methods = methods(request);
    if request.method() == Method::Options && status == Status::NotFound && !methods.is_empty() {
        return Ok(Allowed { nothing: (), allow: Header::new("Allow", methods.join(", ")) });
    }
    Err(refusal(status, request, &methods))
}

fn refusal(status: Status, request: &Request<'_>, methods: &[&str]) -> ApiError {
    if let Some(refusal) = Exchange::of(request).take_refusal() {
        return refusal;
    }
    match status.code {
        404 | 422 if !methods.is_empty() && !methods.contains(&request.method().as_str()) => ApiError::Method,
        400..500 => ApiError::NoRoute,
        _ => ApiError::Internal,
    }
}

/// What may be asked for at a path.
#[derive(Responder)]
#[response(status = 204)]
struct Allowed {
    nothing: (),
    allow: Header<'static>,
}

/// The methods that the path of a request takes, `OPTIONS` included; none where nothing is served.
pub fn methods(request: &Request<'_>) -> Vec<&'static str> {
    let path: Vec<_> = request.uri().path().segments().collect();
    let mut methods = Vec::new();
    for route in request.rocket().routes() {
        let wanted: Vec<_> = route.uri.path().trim_matches('/').split('/').collect();
        // `<_..>` is the rest, of which there is something.
        let is_as_long = match wanted.last() {
            Some(last) if last.ends_with("..>") => wanted.len() <= path.len(),
            _ => wanted.len() == path.len(),
        };
        let is_there =
            is_as_long && wanted.iter().zip(&path).all(|(wanted, is)| wanted.starts_with('<') || wanted == is);
        if is_there && !methods.contains(&route.method.as_str()) {
            methods.push(route.method.as_str());
        }
    }
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    if !methods.is_empty() {
        methods.push("OPTIONS");
    }
    methods
}
