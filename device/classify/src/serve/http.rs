//! The HTTP server: connections, their limits and times, and their end.
//!
//! ```text
//! accept ─► a seat? ─► hyper (header and idle time, user timeout) ─► router
//!           └ no: 503 at once
//! stop: no more are accepted, running requests end, then the rest is cut
//! ```

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::App;

/// Pause behind a connection that could not be accepted, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of one connection that wait to be parsed or sent.
const BUFFER: usize = 16 << 10;
/// A client that takes nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// For what a client still sends behind an answer that closes the connection: it is read and dropped, so that a reset does
/// not overtake the answer.
const LINGER: Duration = Duration::from_millis(500);
/// Most bytes of that.
const LINGER_BYTES: usize = 4 << 20;
/// Connections that are turned away with an answer at the same time; others without.
const TURNED_AWAY: usize = 32;

const FULL: &str = "{\"error\": \"all connections are in use\", \"hint\": \"try again a second later\"}";

/// Serves until `stop` turns true, then until all requests have ended or the grace is over.
pub(crate) async fn serve(listener: TcpListener, router: Router, app: App, mut stop: watch::Receiver<bool>) {
    let n_seats = app.bounds.max_connections.get().min(u32::MAX as usize);
    let (seats, rests) = (Arc::new(Semaphore::new(n_seats)), Arc::new(Semaphore::new(TURNED_AWAY)));
    loop {
        let stream = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    defmt::warn!("cannot accept a connection: {=str}", error.to_string().as_str());
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        match Arc::clone(&seats).try_acquire_owned() {
            Ok(seat) => {
                let (router, app, stop) = (router.clone(), app.clone(), stop.clone());
                tokio::spawn(async move {
                    app.metrics.connections.fetch_add(1, Ordering::Relaxed);
                    connection(stream, router, &app, stop).await;
                    app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(seat);
                });
            }
            Err(_) => {
                app.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
                if let Ok(rest) = Arc::clone(&rests).try_acquire_owned() {
                    tokio::spawn(async move {
                        turn_away(stream).await;
                        drop(rest);
                    });
                }
            }
        }
    }
    drop(listener);
    let all = seats.acquire_many(n_seats as u32);
    if tokio::time::timeout(app.bounds.grace, all).await.is_err() {
        defmt::warn!("requests still run after {=f32} s, cut", app.bounds.grace.as_secs_f32());
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<axum::body::Body>, Infallible>> + Send>>;

/// One connection, from its first byte to its last.
async fn connection(stream: TcpStream, router: Router, app: &App, mut stop: watch::Receiver<bool>) {
    if set_up(&stream).is_err() {
        return;
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| -> Answer { Box::pin(router.call(request)) });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.bounds.header_time)
        .max_buf_size(BUFFER)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if ended.is_ok() {
        linger(connection.into_parts().io.into_inner()).await;
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = USER_TIMEOUT.as_millis() as u32;
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// Says that no more comes, and drops what the client still sends.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let (mut buffer, mut n) = ([0; 4096], 0);
        while let Ok(read) = stream.read(&mut buffer).await {
            n += read;
            if read == 0 || n > LINGER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// Answers without looking at the request.
async fn turn_away(mut stream: TcpStream) {
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        FULL.len()
    );
    let answer = async { stream.write_all(format!("{head}{FULL}").as_bytes()).await };
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, answer).await {
        linger(stream).await;
    }
}
