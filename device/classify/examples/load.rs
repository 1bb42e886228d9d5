//! Load on a running `classify serve`: N clients that send a picture again and again over connections that stay open.
//!
//! ```text
//! $ classify serve model.vgg --listen 127.0.0.1:8080 &
//! $ cargo run --release -p vgg-edge-classify --example load -- 127.0.0.1:8080 cat.jpg 8 10000
//! clients 8, 10000 requests in 5.20 s: 1923.1/s, p50 4.01 ms, p99 7.20 ms, max 12.9 ms; 200: 10000
//! ```

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Of one client: milliseconds of answers, and how many of each status; 0 where the connection failed.
#[derive(Default)]
struct Seen {
    answered: Vec<f32>,
    refused: Vec<f32>,
    statuses: BTreeMap<u16, usize>,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, picture, clients, requests] = words.as_slice() else {
        eprintln!("usage: load ADDR PICTURE CLIENTS REQUESTS");
        return ExitCode::from(2);
    };
    let numbers = (clients.parse::<usize>(), requests.parse::<usize>());
    let (Ok(body), (Ok(clients), Ok(requests))) = (fs::read(picture), numbers) else {
        eprintln!("error: {picture}: cannot be read, or {clients:?} and {requests:?} are no numbers");
        return ExitCode::from(2);
    };
    let head =
        format!("POST /v1/classify HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", body.len());
    let message = [head.as_bytes(), &body].concat();
    let left = AtomicUsize::new(requests);
    let start = Instant::now();
    let seen: Vec<Seen> = thread::scope(|scope| {
        let client = || scope.spawn(|| client(address, &message, &left));
        let clients: Vec<_> = (0..clients).map(|_| client()).collect();
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    });
    report(clients, start.elapsed(), &seen);
    ExitCode::SUCCESS
}

/// Sends until none is left.
fn client(address: &str, message: &[u8], left: &AtomicUsize) -> Seen {
    let (mut seen, mut connection) = (Seen::default(), None);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        let start = Instant::now();
        let status = ask(address, message, &mut connection).unwrap_or_else(|_| {
            connection = None;
            0
        });
        let ms = start.elapsed().as_secs_f32() * 1e3;
        if status == 200 { &mut seen.answered } else { &mut seen.refused }.push(ms);
        *seen.statuses.entry(status).or_insert(0) += 1;
        // As clients do that are told to come back: none of them asks again at once.
        if matches!(status, 0 | 429 | 503) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    seen
}

/// One request over the connection, which is made where there is none; the status of its answer.
fn ask(address: &str, message: &[u8], connection: &mut Option<BufReader<TcpStream>>) -> io::Result<u16> {
    if connection.is_none() {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        *connection = Some(BufReader::new(stream));
    }
    let Some(reader) = connection else { return Err(io::ErrorKind::NotConnected.into()) };
    reader.get_mut().write_all(message)?;
    let (mut status, mut length, mut closes) = (None, 0, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", n)) => length = n.parse().unwrap_or(0),
            Some(("connection", "close")) => closes = true,
            None if line.is_empty() => break,
            None => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
            _ => {}
        }
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    if closes {
        *connection = None;
    }
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn report(clients: usize, time: Duration, seen: &[Seen]) {
    let mut statuses = BTreeMap::new();
    seen.iter().flat_map(|s| &s.statuses).for_each(|(status, n)| *statuses.entry(*status).or_insert(0) += n);
    let sorted = |times: &dyn Fn(&Seen) -> &Vec<f32>| {
        let mut times: Vec<f32> = seen.iter().flat_map(|s| times(s).iter().copied()).collect();
        times.sort_by(f32::total_cmp);
        times
    };
    let (answered, refused) = (sorted(&|s| &s.answered), sorted(&|s| &s.refused));
    let at = |times: &[f32], q: f32| {
        let i = (q * times.len() as f32).ceil() as usize;
        times.get(i.clamp(1, times.len().max(1)) - 1).copied().unwrap_or(f32::NAN)
    };
    let seconds = time.as_secs_f32();
    print!(
        "clients {clients}, {} requests in {seconds:.2} s: {:.1} answers/s, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms;",
        answered.len() + refused.len(),
        answered.len() as f32 / seconds,
        at(&answered, 0.5),
        at(&answered, 0.99),
        at(&answered, 1.0)
    );
    statuses.iter().for_each(|(status, n)| print!(" {status}: {n}"));
    match refused.is_empty() {
        true => println!(),
        false => println!(" (refusals p50 {:.2} ms, p99 {:.2} ms)", at(&refused, 0.5), at(&refused, 0.99)),
    }
}
