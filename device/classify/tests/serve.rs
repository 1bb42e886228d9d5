//! `classify serve` from outside, over real sockets: every route, what it answers and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

#[allow(dead_code, unreachable_pub)]
mod serving;

use serving::{LABELS, Server, Speed, model, picture};

/// Runs the program in a folder; exit code, stdout and stderr.
fn classify(dir: &TempDir, args: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
    let ran = command.args(args.split_whitespace()).current_dir(dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

/// A form of these parts: file name (none: a field), contents.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (i, (name, bytes)) in parts.iter().enumerate() {
        let file = if name.is_empty() { String::new() } else { format!("; filename=\"{name}\"") };
        body.extend(
            format!("--XX\r\nContent-Disposition: form-data; name=\"f{i}\"{file}\r\n\r\n").as_bytes(),
        );
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    body
}

const FORM: &str = "Content-Type: multipart/form-data; boundary=XX";

#[test]
fn answers_are_those_of_run() {
    let server = Server::start(Speed::Fast, &[]);
    for name in ["red.png", "red.jpg", "clear.png"] {
        fs::write(server.dir.path().join(name), picture(name)).unwrap();
        let (code, stdout, stderr) = classify(&server.dir, &format!("run net.vgg {name} --json"));
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let expected: Value = serde_json::from_str(&stdout).unwrap();
        // The content decides, whatever it is called: this is what `curl --data-binary` says.
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let answer = server.send("POST", &format!("/v1/classify?name=a%20{name}"), &[kind], &picture(name));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let found = answer.json();
        assert_eq!(found["top"], expected["top"]);
        assert_eq!(found["image"], format!("a {name}"));
        assert_eq!(found["top"].as_array().map(Vec::len), Some(5));
        for time in ["ms", "decode_ms"] {
            assert!(found[time].as_f64() > Some(0.0), "{found}");
        }
        let two = server.post("/v1/classify?top=2", &picture(name)).json();
        assert_eq!(two["top"].as_array().unwrap()[..], expected["top"].as_array().unwrap()[..2]);
        assert_eq!(two["image"], "-");
    }
}

#[test]
fn a_form_gives_a_list() {
    let server = Server::start(Speed::Fast, &["--max-pictures", "3"]);
    let (red, green) = (picture("red.jpg"), picture("green.png"));
    let body = form(&[("r.jpg", &red), ("", &green), ("<i>.txt", b"no picture")]);
    let answer = server.send("POST", "/v1/classify?top=1", &[FORM], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let alone = |bytes: &[u8]| server.post("/v1/classify?top=1", bytes).json()["top"].clone();
    assert_eq!((&list[0]["image"], &list[0]["top"]), (&json!("r.jpg"), &alone(&red)));
    assert_eq!((&list[1]["image"], &list[1]["top"]), (&json!("f1"), &alone(&green)));
    assert_eq!(list[2]["image"], "<i>.txt");
    assert!(
        list[2]["error"].as_str().unwrap().starts_with("not a picture: starts with 6e 6f 20 70"),
        "{list}"
    );
    assert_eq!(list.as_array().map(Vec::len), Some(3));

    let refused = |body: &[u8]| server.send("POST", "/v1/classify", &[FORM], body).refused();
    let (status, error) = refused(&form(&[("a.gif", b"GIF89a"), ("b.gif", b"GIF89a")]));
    assert_eq!(status, 415);
    assert!(error.starts_with("a.gif: GIF picture, expected "), "{error}");
    let four = form(&[("a", &red), ("b", &red), ("c", &red), ("d", &red)]);
    assert_eq!(refused(&four), (413, "multipart body: more pictures than the limit of 3".to_owned()));
    assert_eq!(refused(&form(&[])), (400, "multipart body: no part, expected a picture".to_owned()));
    let (status, error) = refused(&form(&[("large", &vec![b'x'; 3 << 20])]));
    assert_eq!(
        (status, error.starts_with("large: not a picture: starts with 78 78")),
        (415, true),
        "{error}"
    );
    let cut = form(&[("a", &red)]);
    assert_eq!(refused(&cut[..cut.len() - 10]).0, 400);
    let none = server.send("POST", "/v1/classify", &["Content-Type: multipart/form-data"], &cut);
    assert_eq!(none.refused().0, 400, "{}", none.text());
}

#[test]
fn what_is_no_picture_is_refused_with_its_reason() {
    let server = Server::start(Speed::Fast, &[]);
    let red = picture("red.jpg");
    let refused = |body: &[u8]| server.post("/v1/classify", body).refused();
    let (status, error) = refused(b"");
    assert_eq!((status, error.starts_with("0 bytes, expected ")), (400, true), "{error}");
    let (status, error) = refused(b"hello");
    assert_eq!(
        (status, error.starts_with("not a picture: starts with 68 65 6c 6c, ")),
        (415, true),
        "{error}"
    );
    let (status, error) = refused(b"GIF89a");
    assert_eq!((status, error.starts_with("GIF picture, expected ")), (415, true), "{error}");
    let hint = server.post("/v1/classify", b"GIF89a").json()["hint"].clone();
    assert!(hint.as_str().is_some_and(|hint| hint.starts_with("convert the picture to ")), "{hint}");
    let (status, error) = refused(&red[..red.len() / 2]);
    assert_eq!((status, error.starts_with("JPEG picture is cut off: ")), (422, true), "{error}");

    let query = |query: &str| server.post(&format!("/v1/classify?{query}"), &red).refused();
    for (text, error) in [
        ("top=0", "query: top: found \"0\", expected a number from 1 to 6"),
        ("top=7", "query: top: found \"7\", expected a number from 1 to 6"),
        ("top=x", "query: top: found \"x\", expected a number from 1 to 6"),
        ("tpo=1", "query: found \"tpo\", expected top or name"),
    ] {
        assert_eq!(query(text), (400, error.to_owned()));
    }
    let zipped = server.send("POST", "/v1/classify", &["Content-Encoding: gzip"], &red);
    assert_eq!(zipped.refused(), (415, "body in content encoding \"gzip\", expected none".to_owned()));
}

#[test]
fn routes_methods_and_heads() {
    let server = Server::start(Speed::Fast, &[]);
    let error = "path \"/nothing\", expected one of the routes".to_owned();
    assert_eq!(server.get("/nothing").refused(), (404, error));
    let wrong = server.get("/v1/classify");
    assert_eq!(wrong.refused(), (405, "method GET on /v1/classify, expected POST".to_owned()));
    assert_eq!(wrong.header("allow"), Some("POST"));
    let wrong = server.post("/v1/model", b"");
    assert_eq!(wrong.refused(), (405, "method POST on /v1/model, expected GET".to_owned()));
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    assert_eq!(server.send("DELETE", "/", &[], &[]).status, 405);
    for path in ["/", "/page.css", "/page.js", "/icon.svg", "/healthz", "/v1/model", "/metrics"] {
        let (get, head) = (server.get(path), server.send("HEAD", path, &[], &[]));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"));
        assert!(head.header("content-length").is_some() && head.body.is_empty(), "{path}");
    }
    assert_eq!(server.get("/healthz").json(), json!({"status": "ok"}));
    // No camera: said by name.
    for path in ["/v1/events", "/v1/frame.jpg"] {
        let error = "no camera: the server was started without one".to_owned();
        assert_eq!(server.get(path).refused(), (404, error));
    }
}

#[test]
fn the_model_card_has_the_facts_of_info() {
    let server = Server::start(Speed::Fast, &["--kernel", "scalar", "--threads", "1", "--queue", "7"]);
    let (code, stdout, _) = classify(&server.dir, "info net.vgg --json");
    assert_eq!(code, Some(0));
    let (info, model): (Value, Value) =
        (serde_json::from_str(&stdout).unwrap(), server.get("/v1/model").json());
    for (key, value) in info.as_object().unwrap() {
        assert_eq!(&model[key], value, "{key}");
    }
    // The score interval of 125 of 128, by another program.
    let accuracy = &model["accuracy"];
    assert_eq!((accuracy["agreement"].as_f64(), accuracy["pictures"].as_u64()), (Some(0.9765625), Some(128)));
    for (i, expected) in [0.933_356, 0.991_998].into_iter().enumerate() {
        let found = accuracy["interval"][i].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
    }
    let running = &model["running"];
    assert_eq!((&running["kernel"], &running["threads"]), (&json!("generic-s8-scalar"), &json!(1)));
    assert_eq!(running["layers"].as_array().map(Vec::len), info["layers"].as_array().map(Vec::len));
    assert_eq!(running["layers"][0]["algorithm"], "direct");
    assert!(
        running["arena_bytes"].as_u64() > Some(0) && running["load_ms"].as_f64() > Some(0.0),
        "{running}"
    );
    assert_eq!((&model["limits"]["queue"], &model["camera"]), (&json!(7), &json!(false)));
    assert!(model["board"].is_object());
}

#[test]
fn features_are_given_where_there_are_no_classes() {
    let server = Server::start(Speed::Features, &[]);
    let answer = server.post("/v1/classify", &picture("red.png")).json();
    assert_eq!(answer["shape"], json!([4, 4, 8]));
    assert_eq!(answer["features"].as_array().map(Vec::len), Some(4 * 4 * 8));
    let (status, error) = server.post("/v1/classify?top=1", &picture("red.png")).refused();
    assert_eq!((status, error.as_str()), (400, "query: top, but this network gives features, not classes"));
}

#[test]
fn metrics_count_what_happened() {
    let server = Server::start(Speed::Fast, &[]);
    for _ in 0..3 {
        assert_eq!(server.post("/v1/classify", &picture("red.png")).status, 200);
    }
    assert_eq!(server.post("/v1/classify", b"no").status, 415);
    server.get("/a/b");
    let text = server.get("/metrics").text();
    // Every line is a comment or a sample whose family was announced; no family comes twice.
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let name = family.split(' ').next().unwrap().to_owned();
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = sample.split('{').next().unwrap();
            let of = |family: &String| {
                name == family || ["_bucket", "_sum", "_count"].iter().any(|s| name == format!("{family}{s}"))
            };
            assert!(families.iter().any(of), "{line}: no family");
        }
    }
    let requests = "classify_requests_total{route=\"/v1/classify\",status=";
    assert_eq!(server.metric(&format!("{requests}\"200\"}}")), 3.0);
    assert_eq!(server.metric(&format!("{requests}\"415\"}}")), 1.0);
    assert_eq!(server.metric("classify_requests_total{route=\"other\",status=\"404\"}"), 1.0);
    assert_eq!(server.metric("classify_request_seconds_count{route=\"/v1/classify\"}"), 4.0);
    assert_eq!(server.metric("classify_request_seconds_bucket{route=\"/v1/classify\",le=\"+Inf\"}"), 4.0);
    assert_eq!(server.metric("classify_inference_seconds_count"), 3.0);
    assert_eq!(server.metric("classify_answers_total{source=\"request\"}"), 3.0);
    assert_eq!(server.metric("classify_queue_depth"), 0.0);
    assert!(server.metric("process_resident_memory_bytes") > 1e6);
    assert!(text.contains("classify_build_info{version=\"") && text.contains("model=\"net\""), "{text}");
}

#[test]
fn strangers_pages_get_nothing() {
    let server = Server::start(Speed::Fast, &["--allow-host", "Board.example"]);
    let host = |host: &str| server.send("GET", "/healthz", &[&format!("Host: {host}")], &[]);
    for good in ["127.0.0.1", "192.168.1.7:80", "[::1]:8080", "[fe80::1]", "localhost:1", "board.example:443"]
    {
        assert_eq!(host(good).status, 200, "{good}");
    }
    for bad in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "a:b", "[::1"] {
        let (status, error) = host(bad).refused();
        assert!(
            status == 403 && error.contains("expected an address, or one of board.example, localhost"),
            "{error}"
        );
    }
    let origin = |origin: &str| server.send("POST", "/v1/classify", &[origin], &picture("red.png"));
    assert_eq!(origin(&format!("Origin: http://{}", server.address)).status, 200);
    for bad in ["Origin: http://evil.example", "Origin: null", "Origin: http://127.0.0.1:1"] {
        let (status, error) = origin(bad).refused();
        assert!(status == 403 && error.starts_with("request of a page of "), "{error}");
    }
    for path in ["/", "/v1/model", "/nothing", "/page.js"] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    const TOKEN: &str = "0123456789abcdef-secret";
    let dir = TempDir::new().unwrap();
    model(dir.path(), Speed::Fast);
    let file = dir.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start_in(dir, &["--token-file", "token", "--log", "log.bin"]);
    assert_eq!(server.before, [""; 0]);
    for path in ["/", "/page.js", "/page.css", "/icon.svg", "/healthz"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in ["/v1/model", "/metrics", "/v1/events", "/v1/frame.jpg", "/nothing"] {
        let answer = server.get(path);
        assert_eq!(answer.refused(), (401, "no token, expected one".to_owned()), "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"vgg-edge\""));
    }
    let with = |value: &str| {
        server.send("POST", "/v1/classify", &[&format!("Authorization: {value}")], &picture("red.png"))
    };
    assert_eq!(with(&format!("Bearer {TOKEN}")).status, 200);
    assert_eq!(with(&format!("bearer {TOKEN}")).status, 200);
    let wrong = [
        "Bearer 0123456789abcdef-secreT".to_owned(),
        format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]),
        format!("Bearer {TOKEN}x"),
        format!("Basic {TOKEN}"),
        "Bearer ".to_owned(),
        "B".to_owned(),
    ];
    for value in wrong {
        assert_eq!(with(&value).refused(), (401, "wrong token".to_owned()), "{value}");
    }
    let log = server.dir.path().join("log.bin");
    server.signal("TERM");
    let bytes = fs::read(&log).unwrap();
    let (status, stderr) = server.wait();
    assert_eq!((status.code(), stderr.contains("secret")), (Some(0), false), "{stderr}");
    assert!(!bytes.windows(6).any(|w| w == b"secret"), "the token is in the log");
}

#[test]
fn what_is_not_safe_is_said_at_the_start() {
    let dir = TempDir::new().unwrap();
    model(dir.path(), Speed::Fast);
    fs::write(dir.path().join("token"), "0123456789abcdef").unwrap();
    fs::set_permissions(dir.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start_in(dir, &["--token-file", "token"]);
    assert_eq!(server.before, ["warning: token can be read by other users, expected mode 600"]);
    let server = Server::start(Speed::Fast, &["--listen", "0.0.0.0:0"]);
    let warning = "warning: 0.0.0.0:0 can be reached from other machines, and without --token-file all of them may use it";
    assert_eq!(server.before, [warning]);
    let taken = format!("127.0.0.1:{}", server.address.port());
    let dir = &server.dir;
    fs::write(dir.path().join("short"), "secret").unwrap();
    fs::write(dir.path().join("spaced"), "0123456789 abcdef").unwrap();
    let refused = |args: &str| {
        let (code, stdout, stderr) = classify(dir, &format!("serve net.vgg {args}"));
        assert_eq!(stdout, "");
        (code, stderr)
    };
    let error =
        "error: the token short has 6 bytes, expected one line of 16 to 4096 printable ASCII characters\n";
    assert_eq!(refused("--token-file short"), (Some(1), error.to_owned()));
    assert_eq!(refused("--token-file spaced").0, Some(1));
    let (code, error) = refused("--token-file nothing");
    assert!(
        code == Some(1) && error.starts_with("error: cannot read the token nothing: No such file"),
        "{error}"
    );
    let (code, error) = refused(&format!("--listen {taken}"));
    assert!(
        code == Some(1) && error.contains(&format!("error: cannot listen at {taken}: Address")),
        "{error}"
    );
    let (code, error) = refused("--max-body 2M --max-buffered 1M");
    let expected = "error: --max-body is 2097152 bytes, expected --max-buffered (1048576 bytes) or less\n";
    assert_eq!((code, error.as_str()), (Some(1), expected));
    for bad in ["--max-body 0", "--max-body 3G", "--max-body x", "--queue 0", "--body-time 0", "--listen 80"]
    {
        let (code, error) = refused(bad);
        assert!(code == Some(2) && error.starts_with("error: invalid value"), "{bad}: {error}");
    }
}

#[test]
fn labels_reach_the_answers_as_they_are() {
    let server = Server::start(Speed::Fast, &[]);
    let answer = server.post("/v1/classify?top=6", &picture("red.png")).json();
    let mut labels: Vec<_> =
        answer["top"].as_array().unwrap().iter().map(|c| c["label"].as_str().unwrap()).collect();
    let mut expected = LABELS;
    labels.sort_unstable();
    expected.sort_unstable();
    assert_eq!(labels, expected);
}
