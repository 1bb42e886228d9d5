//! `classify serve` under clients that ask for too much, too slowly, too often, or that go away.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

#[allow(dead_code, unreachable_pub)]
mod serving;

use serving::{Server, Speed, is_closed, model, picture, receive};

#[test]
fn bodies_over_the_limit_are_refused() {
    let server = Server::start(Speed::Fast, &["--max-body", "2K"]);
    let big = vec![0; 3000];
    let error = "body: 3000 bytes, the limit is 2048 bytes".to_owned();
    let answer = server.post("/v1/classify", &big);
    assert_eq!(answer.refused(), (413, error.clone()));
    assert_eq!(answer.header("connection"), Some("close"));
    let hint = "send a smaller picture, or start the server with a larger --max-body";
    assert_eq!(answer.json()["hint"], hint);
    // Refused before it is sent.
    let head = ["Expect: 100-continue", "Content-Length: 99999999999"];
    let mut stream = server.connect();
    let words = format!("POST /v1/classify HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", head.join("\r\n"));
    stream.write_all(words.replace("Host: a", "Host: localhost").as_bytes()).unwrap();
    assert_eq!(receive(&mut BufReader::new(stream), "POST").unwrap().status, 413);
    // A length that is not told.
    let mut body = Vec::new();
    for chunk in big.chunks(100) {
        body.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend(chunk);
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\n\r\n");
    let answer = server.send("POST", "/v1/classify", &["Transfer-Encoding: chunked"], &body);
    assert_eq!(answer.refused(), (413, "body: more, the limit is 2048 bytes".to_owned()));
    assert_eq!(server.post("/v1/classify", &picture("red.png")).status, 200);
    assert_eq!(server.metric("classify_buffered_bytes"), 0.0);
}

/// The JPEG picture with other sides in its header.
fn sized(side: u16) -> Vec<u8> {
    let mut bytes = picture("red.jpg");
    let at = bytes.windows(2).position(|w| w[0] == 0xff && matches!(w[1], 0xc0 | 0xc2)).unwrap();
    for offset in [5, 7] {
        bytes[at + offset..at + offset + 2].copy_from_slice(&side.to_be_bytes());
    }
    bytes
}

#[test]
fn huge_pictures_are_refused_before_they_take_memory() {
    let server = Server::start(Speed::Fast, &["--max-pixels", "1000000"]);
    let before = server.metric("classify_anonymous_memory_bytes");
    for _ in 0..8 {
        let (status, error) = server.post("/v1/classify", &sized(65_000)).refused();
        assert_eq!(status, 413, "{error}");
        assert!(error.starts_with("65000x65000 pixels, the limit is 1000000 pixels"), "{error}");
    }
    assert_eq!(server.post("/v1/classify", &sized(1001)).status, 413);
    let more = server.metric("classify_anonymous_memory_bytes") - before;
    assert!(more < 4e6, "{more} bytes more");
}

#[test]
fn a_byte_now_and_then_holds_no_worker_and_is_cut() {
    let server = Server::start(Speed::Fast, &["--body-time", "0.6", "--decoders", "1", "--queue", "1"]);
    let (red, ended) = (picture("red.png"), AtomicBool::new(false));
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
            let message = server.message("POST", "/v1/classify", &[], &red);
            let head = message.len() - red.len();
            streams.iter_mut().for_each(|stream| stream.write_all(&message[..head]).unwrap());
            'sending: for byte in &red {
                for stream in &mut streams {
                    if stream.write_all(&[*byte]).is_err() {
                        break 'sending;
                    }
                }
                thread::sleep(Duration::from_millis(50));
                // The answer is there.
                streams[0].set_nonblocking(true).unwrap();
                let came = streams[0].peek(&mut [0]).is_ok();
                streams[0].set_nonblocking(false).unwrap();
                if came {
                    break;
                }
            }
            for stream in streams {
                let mut reader = BufReader::new(stream);
                let answer = receive(&mut reader, "POST").expect("an answer");
                assert_eq!(answer.refused(), (408, "body: not complete after 0.6 s".to_owned()));
                assert_eq!(answer.header("connection"), Some("close"));
                assert!(is_closed(&mut reader.into_inner()));
            }
            ended.store(true, Ordering::SeqCst);
        });
        // One place, one decoder: others have them all the while.
        let mut n = 0;
        while !slow.is_finished() {
            assert_eq!(server.post("/v1/classify", &red).status, 200);
            n += 1;
        }
        assert!(n > 3, "{n} answers");
    });
    assert!(ended.load(Ordering::SeqCst));
    assert_eq!(server.metric("classify_requests_total{route=\"/v1/classify\",status=\"408\"}"), 8.0);
}

#[test]
fn slow_heads_and_idle_connections_are_cut() {
    let server = Server::start(Speed::Fast, &["--header-time", "0.3"]);
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").unwrap();
    let mut idle = BufReader::new(server.connect());
    idle.get_mut().write_all(&server.message("GET", "/healthz", &[], &[])).unwrap();
    assert_eq!(receive(&mut idle, "GET").unwrap().status, 200);
    for stream in [&mut silent, &mut half, idle.get_mut()] {
        // To its end: nothing was shut down on this side.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    }
    // This request's own is the only one left.
    server.wait_for("classify_connections", |n| n == 1.0);
}

#[test]
fn heads_that_are_too_large_or_no_heads_are_refused() {
    let server = Server::start(Speed::Fast, &[]);
    let large = server.send("GET", "/healthz", &[&format!("X: {}", "x".repeat(100_000))], &[]);
    assert_eq!(large.status, 431);
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n").unwrap();
    assert_eq!(receive(&mut BufReader::new(stream), "GET").unwrap().status, 400);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn overload_is_answered_at_once_and_passes() {
    let server = Server::start(Speed::Slow, &["--queue", "2", "--threads", "1"]);
    let (red, stop) = (picture("red.png"), AtomicBool::new(false));
    let ms = server.post("/v1/classify", &red).json()["ms"].as_f64().unwrap();
    thread::scope(|scope| {
        // Two that ask again and again keep both places taken, nearly.
        let busy = || {
            while !stop.load(Ordering::SeqCst) {
                server.post("/v1/classify", &red);
            }
        };
        let clients = [scope.spawn(busy), scope.spawn(busy)];
        server.wait_for("classify_queue_depth", |n| n == 2.0);
        let (mut refusals, start) = (Vec::new(), Instant::now());
        while refusals.len() < 20 && start.elapsed() < serving::LONG {
            let start = Instant::now();
            let answer = server.post("/v1/classify", &red);
            if answer.status != 200 {
                refusals.push(start.elapsed().as_secs_f64() * 1e3);
                assert_eq!(answer.refused(), (429, "2 requests wait or run, the limit is 2".to_owned()));
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert_eq!(answer.header("connection"), None);
            }
            // Other routes go on.
            assert_eq!(server.get("/healthz").status, 200);
        }
        stop.store(true, Ordering::SeqCst);
        refusals.sort_by(f64::total_cmp);
        let median = refusals[refusals.len() / 2];
        assert!(median < ms / 2.0, "refused after {median} ms, a picture takes {ms} ms");
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    server.wait_for("classify_queue_depth", |n| n == 0.0);
    assert_eq!(server.post("/v1/classify", &red).status, 200);
    assert!(server.metric("classify_rejected_total{reason=\"queue\"}") >= 20.0);
}

#[test]
fn connections_over_the_limit_are_turned_away() {
    let server = Server::start(Speed::Fast, &["--max-connections", "2"]);
    let mut held: Vec<_> = (0..2).map(|_| BufReader::new(server.connect())).collect();
    for reader in &mut held {
        reader.get_mut().write_all(&server.message("GET", "/healthz", &[], &[])).unwrap();
        assert_eq!(receive(reader, "GET").unwrap().status, 200);
    }
    let answer = server.post("/v1/classify", &picture("red.png"));
    assert_eq!(answer.refused(), (503, "all connections are in use".to_owned()));
    assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
    drop(held);
    // Seats come back.
    let start = Instant::now();
    while server.get("/healthz").status != 200 {
        assert!(start.elapsed() < serving::LONG);
    }
    assert!(server.metric("classify_rejected_total{reason=\"connections\"}") >= 1.0);
}

#[test]
fn bodies_together_have_a_limit() {
    let server = Server::start(Speed::Fast, &["--max-body", "100K", "--max-buffered", "100K"]);
    let body = vec![b'x'; 80_000];
    let message = server.message("POST", "/v1/classify", &[], &body);
    let mut first = server.connect();
    first.write_all(&message[..message.len() - 1]).unwrap();
    server.wait_for("classify_buffered_bytes", |n| n >= 79_000.0);
    let answer = server.post("/v1/classify", &body);
    let error = "the bodies of all requests fill the limit of 102400 bytes".to_owned();
    assert_eq!((answer.refused(), answer.header("retry-after")), ((503, error), Some("1")));
    first.write_all(b"x").unwrap();
    assert_eq!(receive(&mut BufReader::new(first), "POST").unwrap().status, 415);
    assert_eq!(server.post("/v1/classify", &body).status, 415);
    server.wait_for("classify_buffered_bytes", |n| n == 0.0);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let server = Server::start(Speed::Slow, &["--answer-time", "0.01", "--threads", "1"]);
    let answer = server.post("/v1/classify", &picture("red.png"));
    assert_eq!(answer.refused(), (503, "not answered within 0.01 s".to_owned()));
    // Its place comes back when the network is through.
    server.wait_for("classify_queue_depth", |n| n == 0.0);
}

#[test]
fn clients_that_go_away_leave_no_work_behind() {
    let server = Server::start(Speed::Slow, &["--threads", "1", "--queue", "8"]);
    let message = server.message("POST", "/v1/classify", &[], &picture("red.png"));
    let streams: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(&message).unwrap();
            stream
        })
        .collect();
    server.wait_for("classify_queue_depth", |n| n >= 7.0);
    drop(streams);
    server.wait_for("classify_queue_depth", |n| n == 0.0);
    // Most of them were never run.
    let n = server.metric("classify_inference_seconds_count");
    assert!(n < 8.0, "{n} runs for nobody");
}

#[test]
fn a_running_request_is_answered_before_the_end() {
    for (signal, speed) in [("TERM", Speed::Slow), ("INT", Speed::Fast)] {
        let server = Server::start(speed, &["--threads", "1"]);
        let mut idle = BufReader::new(server.connect());
        idle.get_mut().write_all(&server.message("GET", "/healthz", &[], &[])).unwrap();
        assert_eq!(receive(&mut idle, "GET").unwrap().status, 200);
        let red = picture("red.png");
        let message = server.message("POST", "/v1/classify", &[], &red);
        let mut stream = server.connect();
        // Its last byte comes when the program was asked to stop.
        stream.write_all(&message[..message.len() - 1]).unwrap();
        server.wait_for("classify_buffered_bytes", |n| n > 0.0);
        server.signal(signal);
        // The idle connection ends: the program has heard.
        assert!(receive(&mut idle, "GET").is_none());
        stream.write_all(&message[message.len() - 1..]).unwrap();
        let answer = receive(&mut BufReader::new(stream), "POST").unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        let address = server.address;
        let (status, stderr) = server.wait();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), "stopping\n"), "{signal}");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let server = Server::start(Speed::Fast, &["--grace", "0.3"]);
    let mut stream = server.connect();
    let message = server.message("POST", "/v1/classify", &[], &picture("red.png"));
    stream.write_all(&message[..message.len() - 1]).unwrap();
    server.wait_for("classify_buffered_bytes", |n| n > 0.0);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    assert!(receive(&mut BufReader::new(stream), "POST").is_none());
}

#[test]
fn sixty_four_clients_get_their_own_answers() {
    let server = Server::start(Speed::Fast, &["--queue", "64"]);
    let pictures = ["red.png", "green.png", "blue.png", "red.jpg"].map(picture);
    let expected = pictures.each_ref().map(|bytes| server.post("/v1/classify", bytes).json()["top"].clone());
    thread::scope(|scope| {
        for i in 0..64 {
            let (server, pictures, expected) = (&server, &pictures, &expected);
            scope.spawn(move || {
                let mut reader = BufReader::new(server.connect());
                for j in 0..8 {
                    let which = (i + j) % pictures.len();
                    let path = format!("/v1/classify?name={i}-{j}");
                    let message = server.message("POST", &path, &[], &pictures[which]);
                    reader.get_mut().write_all(&message).unwrap();
                    let answer = receive(&mut reader, "POST").unwrap();
                    let json = answer.json();
                    assert_eq!((answer.status, &json["top"]), (200, &expected[which]));
                    assert_eq!(json["image"], format!("{i}-{j}"));
                }
            });
        }
    });
    assert_eq!(server.metric("classify_answers_total{source=\"request\"}"), (64 * 8 + 4) as f64);
    assert_eq!(server.metric("classify_queue_depth"), 0.0);
}

/// The next event of a stream: number and JSON.
fn event(reader: &mut BufReader<std::net::TcpStream>) -> (u64, serde_json::Value) {
    use std::io::BufRead;
    let (mut id, mut name) = (None, String::new());
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        let line = line.trim_end();
        if let Some(text) = line.strip_prefix("id: ") {
            id = Some(text.parse().unwrap());
        } else if let Some(text) = line.strip_prefix("event: ") {
            name = text.to_owned();
        } else if let Some(text) = line.strip_prefix("data: ") {
            assert_eq!(name, "observation");
            return (id.unwrap(), serde_json::from_str(text).unwrap());
        }
    }
}

#[test]
fn events_follow_the_camera_and_go_on_where_they_ended() {
    let dir = TempDir::new().unwrap();
    model(dir.path(), Speed::Fast);
    fs::create_dir(dir.path().join("frames")).unwrap();
    let red = picture("red.jpg");
    fs::write(dir.path().join("frames/a.jpg"), &red).unwrap();
    let server = Server::start_in(
        dir,
        &["--camera", "file:frames", "--repeat", "--capture-fps", "20", "--max-followers", "2"],
    );
    let follow = |headers: &[&str]| {
        let mut reader = BufReader::new(server.connect());
        reader.get_mut().write_all(&server.message("GET", "/v1/events", headers, &[])).unwrap();
        let answer = receive(&mut reader, "GET").unwrap();
        (answer.status, answer.header("content-type").map(str::to_owned), reader)
    };
    let (status, kind, mut first) = follow(&[]);
    assert_eq!((status, kind.as_deref()), (200, Some("text/event-stream")));
    let (id, json) = event(&mut first);
    assert_eq!(json["sequence"], id);
    let answer = server.post("/v1/classify", &red).json();
    assert_eq!(json["top"], answer["top"]);
    assert_eq!(
        (&json["source"], &json["width"], &json["height"]),
        (&json!("file:frames"), &json!(40), &json!(24))
    );
    assert!(json["ms"].as_f64() > Some(0.0) && json.get("jpeg").is_none(), "{json}");
    assert_eq!((event(&mut first).0, event(&mut first).0), (id + 1, id + 2));
    // Back again: what was missed comes first, without a gap.
    let (_, _, mut second) = follow(&[&format!("Last-Event-ID: {}", id.saturating_sub(1))]);
    let ids: Vec<u64> = (0..5).map(|_| event(&mut second).0).collect();
    assert_eq!(ids, (id..id + 5).collect::<Vec<_>>());
    let (status, ..) = follow(&[]);
    assert_eq!(status, 503);
    drop((first, second));
    server.wait_for("classify_followers", |n| n == 0.0);
    let bad = server.send("GET", "/v1/events", &["Last-Event-ID: x"], &[]);
    let error = "Last-Event-ID: found \"x\", expected the number of an event".to_owned();
    assert_eq!(bad.refused(), (400, error));

    let frame = server.get("/v1/frame.jpg");
    assert_eq!((frame.status, frame.header("content-type")), (200, Some("image/jpeg")));
    assert_eq!(frame.body, red);
    assert!(frame.header("etag").is_some());
    assert!(server.metric("classify_camera_observations_total") >= 5.0);
    assert!(server.metric("classify_answers_total{source=\"camera\"}") >= 5.0);
    assert!(server.metric("classify_camera_fps") > 0.0);
    assert_eq!(server.metric("classify_camera_watched"), 1.0);
    // Followers do not hold the end up.
    let (.., mut last) = follow(&[]);
    event(&mut last);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

/// The next datagram of a service manager's socket.
fn heard(socket: &std::os::unix::net::UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let n = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[test]
fn a_service_manager_hears_of_start_life_and_end() {
    let dir = TempDir::new().unwrap();
    model(dir.path(), Speed::Fast);
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(serving::LONG)).unwrap();
    let watch = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "100000")];
    let server = Server::start_with(dir, &[], &watch);
    assert_eq!(heard(&socket), format!("READY=1\nSTATUS=serving net at http://{}", server.address));
    for _ in 0..3 {
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }
    server.signal("TERM");
    let mut last = heard(&socket);
    while last == "WATCHDOG=1" {
        last = heard(&socket);
    }
    assert_eq!((last.as_str(), server.wait().0.code()), ("STOPPING=1", Some(0)));
}

#[test]
fn options_of_a_camera_need_one_and_a_bad_one_stops_nothing() {
    let server = Server::start(Speed::Fast, &["--camera", "file:nowhere"]);
    server.wait_for("classify_camera_watched", |n| n == 0.0);
    assert_eq!(server.post("/v1/classify", &picture("red.png")).status, 200);
    assert_eq!(server.get("/v1/frame.jpg").refused(), (503, "the camera has given no frame yet".to_owned()));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_classify"));
    command.current_dir(server.dir.path()).args(["serve", "net.vgg", "--smooth", "3"]);
    let ran = command.output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(2) && stderr.contains("--camera <DEV>"), "{stderr}");
    server.signal("TERM");
    let (status, stderr) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(stderr.contains("error: camera: ") && stderr.contains("nowhere"), "{stderr}");
}
