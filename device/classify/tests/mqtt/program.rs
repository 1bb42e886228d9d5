//! The program itself: what its camera shows and what it answers arrives at a real broker.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::broker::Broker;
use crate::serving::{Server, Speed, model, picture};
use crate::url;

/// The payloads of a topic.
fn payloads(lines: &[String], topic: &str) -> Vec<Value> {
    let payload = |line: &String| {
        let json = line.strip_prefix(topic)?.strip_prefix("|0|")?;
        Some(serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {line}")))
    };
    lines.iter().filter_map(payload).collect()
}

#[test]
fn answers_to_requests_arrive() {
    let Some(broker) = Broker::start("") else { return };
    let subscriber = broker.subscribe("all", &[]);
    let server = Server::start(Speed::Fast, &["--mqtt", &url(&broker), "--mqtt-name", "pi"]);
    subscriber.wait_line("vgg-edge/pi/status|0|online");
    let answer = server.post("/v1/classify?name=red.png", &picture("red.png")).json();
    let topic = "vgg-edge/pi/answer";
    subscriber.wait("the answer", |lines| !payloads(lines, topic).is_empty());
    assert_eq!(payloads(&subscriber.lines(), topic), [answer]);
    let (status, stderr) = server.stop();
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains(&format!("connected to {}", url(&broker))), "{stderr}");
    subscriber.wait_line("vgg-edge/pi/status|0|offline");
    let discovery = |lines: &[String]| lines.iter().filter(|line| line.starts_with("homeassistant/")).count();
    assert_eq!(discovery(&subscriber.lines()), 3);
}

#[cfg(feature = "camera")]
#[test]
fn what_the_camera_shows_arrives_in_order() {
    let Some(broker) = Broker::start("") else { return };
    let subscriber = broker.subscribe("all", &[]);
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), Speed::Fast);
    let frames = dir.path().join("frames");
    fs::create_dir(&frames).unwrap();
    for (i, name) in ["red.png", "green.png", "blue.png"].into_iter().enumerate() {
        fs::write(frames.join(format!("{i}.png")), picture(name)).unwrap();
    }
    let camera = format!("file:{}", frames.display());
    let server = Server::start_in(
        dir,
        &["--mqtt", &url(&broker), "--mqtt-name", "pi", "--mqtt-qos", "2", "--camera", &camera],
    );
    let topic = "vgg-edge/pi/result";
    subscriber.wait("a result", |lines| !payloads(lines, topic).is_empty());
    assert!(server.stop().0.success());
    subscriber.wait_line("vgg-edge/pi/status|0|offline");
    let results = payloads(&subscriber.lines(), topic);
    let numbers: Vec<u64> = results.iter().filter_map(|result| result["sequence"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    for result in &results {
        assert_eq!(result["top"].as_array().map(Vec::len), Some(5), "{result}");
        assert!(result["unix_ms"].as_u64() > Some(1_700_000_000_000), "{result}");
    }
}

#[test]
fn wrong_uses_are_named() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), Speed::Fast);
    let serve = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
        command.current_dir(dir.path()).args(["serve", "net.vgg", "--listen", "127.0.0.1:0"]).args(args);
        let ran = command.output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    let (code, stderr) = serve(&["--mqtt", "mqtt://me:secret@pi"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("use --mqtt-user and --mqtt-password-file"), "{stderr}");
    let (code, stderr) = serve(&["--mqtt-on-change"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--mqtt <URL>"), "{stderr}");
    let (code, stderr) = serve(&["--mqtt", "mqtts://pi", "--mqtt-ca", "no/such/file"]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("error: cannot publish to mqtts://pi:8883: certificates no/such/file: No such file"),
        "{stderr}"
    );
}
