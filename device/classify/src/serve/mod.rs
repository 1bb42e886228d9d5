//! `classify serve`: an HTTP API and a web page in front of one model.
//!
//! ```text
//!                            thread `http`: tokio                              main thread
//! client ─► connection ─► guard ─► body ─► place ─► decode (blocking pool) ─► desk ─► worker: the network
//! camera ──────────────── thread `camera` ──────────────────────────────────► desk ─┘      │
//! follower ◄─ /v1/events ◄─ hub ◄─ observation ◄───────────────────────────────────────────┘
//! broker   ◄─ MQTT session ◄─┘
//! ```
//!
//! | route | gives |
//! |---|---|
//! | `GET /` | the page |
//! | `POST /v1/classify` | answers |
//! | `GET /v1/model` | what runs |
//! | `GET /v1/events`, `GET /v1/frame.jpg` | the camera |
//! | `GET /metrics` | counts, for Prometheus |
//! | `GET /healthz` | 200 while the worker makes progress |

mod about;
mod args;
mod body;
#[cfg(feature = "camera")]
mod camera;
#[cfg(not(feature = "camera"))]
#[path = "no_camera.rs"]
mod camera;
mod desk;
mod guard;
mod http;
mod hub;
mod lifecycle;
mod live;
mod metrics;
mod page;
mod pictures;
#[cfg(feature = "mqtt")]
mod publisher;
#[cfg(not(feature = "mqtt"))]
#[path = "no_publisher.rs"]
mod publisher;
mod refusal;

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::error::ErrorKind;
use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use vgg_edge_engine::image::Limits;
use vgg_edge_engine::pool::Executor;

pub(crate) use args::Serve;

use self::about::{About, Watched};
use self::args::Bounds;
use self::body::Room;
use self::camera::CameraArgs;
use self::desk::{Desk, Next, Of};
use self::guard::{Guard, Token};
use self::hub::Hub;
use self::metrics::Metrics;
use self::publisher::PublisherArgs;
use self::refusal::Refusal;
use crate::answer::{Classifier, TOP};
use crate::args::wrong_use;
use crate::board::Board;
use crate::model::{self, ModelFile};
use crate::notify::Notifier;
use crate::output;
use crate::picture::Rule;

/// The worker looks up so often when nothing comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all requests share.
pub(crate) struct Shared {
    about: About,
    board: Watched,
    bounds: Bounds,
    decoders: Arc<Semaphore>,
    desk: Desk,
    guard: Guard,
    has_camera: bool,
    hub: Hub,
    metrics: Metrics,
    room: Room,
    rule: Rule,
    /// For those who follow the events.
    seats: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

pub(crate) type App = Arc<Shared>;

/// Ends everything when one of the threads ends, however it ends.
struct Ending<'a> {
    desk: &'a Desk,
    stop: &'a watch::Sender<bool>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.desk.close();
    }
}

pub(crate) fn serve(args: &Serve) -> Result<ExitCode> {
    let bounds = &args.bounds;
    if bounds.max_body > bounds.max_buffered {
        let Bounds { max_body, max_buffered, .. } = bounds;
        bail!("--max-body is {max_body} bytes, expected --max-buffered ({max_buffered} bytes) or less");
    }
    let guard = Guard::new(token(args)?, &args.allow_host);
    let kernel = model::kernel(&args.engine)?;
    let file = ModelFile::open(&args.model)?;
    file.check_signature(&args.trust)?;
    let blob = file.blob()?;
    if args.camera.n_frames() > 1 && !blob.is_classifier() {
        let gives = format!("its network gives features of {}, not classes", blob.output());
        let error =
            format!("the argument '--smooth <N>' cannot be used with {}: {gives}", args.model.display());
        return Err(wrong_use("serve", ErrorKind::ArgumentConflict, error).into());
    }
    let pool = model::pool(&args.engine, kernel)?;
    let engine = file.engine(&blob, kernel, &pool, &args.engine, false)?;
    output::warn_of_repacking(&file, &engine);
    let (stop, stopped) = watch::channel(false);
    let app = Arc::new(Shared {
        about: About::new(&file, &blob, &engine, pool.n_threads(), bounds, args.camera.is_some())?,
        board: Watched::new(&Board::here()),
        decoders: Arc::new(Semaphore::new(bounds.decoders.get().min(Semaphore::MAX_PERMITS))),
        desk: Desk::new(bounds.queue.get()),
        guard,
        has_camera: args.camera.is_some(),
        hub: Hub::new(),
        metrics: Metrics::new(),
        room: Room::new(bounds.max_buffered),
        rule: Rule::of(&blob).within(Limits { pixels: bounds.max_pixels, ..Limits::default() }),
        seats: Arc::new(Semaphore::new(bounds.max_followers.get().min(Semaphore::MAX_PERMITS))),
        stop: stopped,
        bounds: bounds.clone(),
    });
    let mut classifier = Classifier::new(&blob, engine, TOP);
    let listener =
        TcpListener::bind(args.listen).with_context(|| format!("cannot listen at {}", args.listen))?;
    let ended = AtomicBool::new(false);
    let runtime = runtime(bounds).context("cannot start the server")?;
    thread::scope(|scope| {
        let http = thread::Builder::new().name("http".to_owned()).spawn_scoped(scope, || {
            let _ending = Ending { desk: &app.desk, stop: &stop };
            let result = runtime.block_on(run(listener, &app, &stop, &args.publisher));
            // Decoders that nobody waits for any more are no reason to.
            runtime.shutdown_background();
            result
        });
        let ending = Ending { desk: &app.desk, stop: &stop };
        let http = http.context("cannot start the server")?;
        if args.camera.is_some() {
            let watcher = thread::Builder::new().name("watcher".to_owned());
            watcher
                .spawn_scoped(scope, || watch(&app, &args.camera, &ended))
                .context("cannot start the camera")?;
        }
        work(&app, &mut classifier, &args.camera);
        drop(ending);
        ended.store(true, Ordering::Relaxed);
        http.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The token asked for; warns where there should be another one.
fn token(args: &Serve) -> Result<Option<Token>> {
    let Some(path) = &args.token_file else {
        if !args.listen.ip().is_loopback() {
            output::note(format_args!(
                "warning: {} can be reached from other machines, and without --token-file all of them may use it",
                args.listen
            ));
        }
        return Ok(None);
    };
    let (token, is_open) = Token::read(path)?;
    if is_open {
        output::note(format_args!(
            "warning: {} can be read by other users, expected mode 600",
            path.display()
        ));
    }
    Ok(Some(token))
}

fn runtime(bounds: &Bounds) -> std::io::Result<Runtime> {
    let n_threads = bounds.decoders.get().saturating_add(1);
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(n_threads)
        .thread_name("decode")
        .build()
}

/// Runs the network until the desk is closed.
fn work(app: &App, classifier: &mut Classifier<'_>, camera: &CameraArgs) {
    loop {
        match app.desk.next(PATIENCE) {
            Next::Job(job) => {
                let outcome = match job.of {
                    Of::Request { k } => {
                        classifier.show(k);
                        classifier.classify(&job.input)
                    }
                    Of::Camera => {
                        classifier.show(TOP);
                        classifier.classify_probabilities(&job.input, &mut |p| camera.smooth(p))
                    }
                };
                if let Ok((_, ms)) = &outcome {
                    app.metrics.inference.add(f64::from(*ms) / 1e3);
                }
                job.answer(outcome);
            }
            Next::Idle => {}
            Next::Closed => return,
        }
    }
}

/// Shows what the camera shows to all followers. Without it the server goes on.
fn watch(app: &App, camera: &CameraArgs, ended: &AtomicBool) {
    let mut classify = |input| {
        let answer = app.desk.frame(input)?;
        app.metrics.frames.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    };
    app.metrics.watches.store(true, Ordering::Relaxed);
    let result =
        camera.observe(&app.rule, ended, &mut classify, &mut |observation| app.hub.publish(observation));
    app.metrics.watches.store(false, Ordering::Relaxed);
    if let Err(error) = result.context("camera")
        && !*app.stop.borrow()
    {
        output::print_error(&error);
    }
}

/// Serves until a signal asks to stop.
async fn run(
    listener: TcpListener,
    app: &App,
    stop: &watch::Sender<bool>,
    publisher: &PublisherArgs,
) -> Result<()> {
    let cannot = "cannot start the server";
    listener.set_nonblocking(true).context(cannot)?;
    let listener = tokio::net::TcpListener::from_std(listener).context(cannot)?;
    let (mut term, mut int) =
        (signal(SignalKind::terminate()).context(cannot)?, signal(SignalKind::interrupt()).context(cannot)?);
    let notifier = Arc::new(Notifier::from_env());
    lifecycle::started(listener.local_addr().context(cannot)?, app, &notifier);
    tokio::spawn(lifecycle::pulse(Arc::clone(app), Arc::clone(&notifier)));
    let mut publish = std::pin::pin!(publisher.publish(Arc::clone(app)).fuse());
    let mut stopped = app.stop.clone();
    let mut served = std::pin::pin!(http::serve(listener, router(app), Arc::clone(app), app.stop.clone()));
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = stopped.wait_for(|stop| *stop) => {}
        () = &mut served => {}
        // Without a broker it ends at once.
        Some(error) = async { (&mut publish).await.err() } => return Err(error),
    }
    lifecycle::stopping(&notifier);
    let _ = stop.send(true);
    // Asked once more: without the grace.
    tokio::select! {
        _ = async { tokio::join!(served, async { if !publish.is_terminated() { let _ = (&mut publish).await; } }) } => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

fn router(app: &App) -> Router {
    Router::new()
        .route("/v1/classify", post(pictures::classify))
        .route("/v1/model", get(about::model))
        .route("/v1/events", get(live::events))
        .route("/v1/frame.jpg", get(live::frame))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(health))
        .merge(page::routes())
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(app), guard::check))
        .layer(from_fn(guard::headers))
        .layer(from_fn_with_state(Arc::clone(app), metrics::count))
        .with_state(Arc::clone(app))
}

async fn health(State(app): State<App>) -> Response {
    match lifecycle::is_alive(&app) {
        true => ([(header::CONTENT_TYPE, "application/json")], "{\"status\": \"ok\"}").into_response(),
        false => {
            let error = "the network does not come to an end with a picture";
            Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, error).into_response()
        }
    }
}

async fn missing(request: Request) -> Refusal {
    let error = format!("path {:?}, expected one of the routes", request.uri().path());
    Refusal::new(StatusCode::NOT_FOUND, error)
        .hint("POST /v1/classify; GET /, /v1/model, /v1/events, /v1/frame.jpg, /metrics or /healthz")
}

async fn wrong_method(request: Request) -> Refusal {
    let expected = if request.uri().path() == "/v1/classify" { "POST" } else { "GET" };
    let error = format!("method {} on {}, expected {expected}", request.method(), request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error)
}
