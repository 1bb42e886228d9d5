//! Publishing against a real mosquitto: delivery across restarts, last will, discovery, TLS, refusals.
//!
//! The session's files are compiled in here, so that results come as fast and as many as a test wants.
#![cfg(feature = "mqtt")]
#![allow(missing_docs, unreachable_pub)]

mod broker;
#[path = "../../src/mqtt/outbox.rs"]
mod outbox;
mod program;
#[path = "../serving/mod.rs"]
#[allow(dead_code)]
mod serving;
#[path = "../../src/mqtt/session.rs"]
mod session;
#[path = "../../src/mqtt/settings.rs"]
mod settings;
#[path = "../../src/mqtt/tls.rs"]
mod tls;
#[allow(dead_code, reason = "the program answers requests, too")]
#[path = "../../src/mqtt/topics.rs"]
mod topics;

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use clap::Parser;
use outbox::{Message, Outbox};
use session::Notice;
use settings::Settings;
use tokio::sync::{mpsc, watch};
use topics::About;

use crate::broker::{Broker, wait_for};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

fn about(name: &str) -> About {
    About {
        base: "vgg-edge".to_owned(),
        name: name.to_owned(),
        model: "pets".to_owned(),
        version: "0.1.0".to_owned(),
        kernel: "generic-s8-scalar".to_owned(),
        is_classifier: true,
    }
}

/// A publisher on a thread of its own.
struct Publisher {
    results: mpsc::Sender<Message>,
    about: About,
    stop: watch::Sender<bool>,
    notices: Arc<Mutex<Vec<Notice>>>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Publisher {
    fn start(name: &str, url: &str, more: &[&str]) -> Self {
        let line = [&["classify", "--mqtt", url], more].concat();
        let settings = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).settings;
        let (results, receiver) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let notices = Arc::new(Mutex::new(Vec::new()));
        let (about, heard) = (about(name), Arc::clone(&notices));
        let ours = about.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let broker = settings.broker.clone().expect("--mqtt is there");
            let notice = |notice| heard.lock().unwrap().push(notice);
            runtime.block_on(session::run(&broker, &settings, &about, receiver, stopped, notice))
        });
        Self { results, about: ours, stop, notices, thread }
    }

    fn send(&self, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.results.blocking_send(self.about.result(format!("{{\"sequence\":{number}}}"))).unwrap();
        }
    }

    fn wait_notice(&self, what: &str, wanted: impl Fn(&Notice) -> bool) {
        wait_for(what, || self.notices.lock().unwrap().iter().any(&wanted));
    }

    fn wait_lost(&self, words: &str) {
        self.wait_notice(words, |notice| matches!(notice, Notice::Lost(why) if why.contains(words)));
    }

    fn wait_connected(&self) {
        self.wait_notice("the connection", |notice| *notice == Notice::Connected);
    }

    fn finish(self) {
        self.stop.send(true).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

fn url(broker: &Broker) -> String {
    format!("mqtt://localhost:{}", broker.port)
}

#[test]
fn results_status_and_discovery_arrive_in_order() {
    let Some(broker) = Broker::start("") else { return };
    let subscriber = broker.subscribe("all", &[]);
    let publisher = Publisher::start("pi", &url(&broker), &[]);
    publisher.wait_connected();
    publisher.send(1..=100);
    publisher.finish();
    subscriber.wait_line("vgg-edge/pi/status|0|offline");
    let lines = subscriber.lines();
    assert_eq!(lines[0], "vgg-edge/pi/status|0|online");
    assert_eq!(lines.last().unwrap(), "vgg-edge/pi/status|0|offline");
    assert_eq!(subscriber.numbers("vgg-edge/pi/result"), (1..=100).collect::<Vec<_>>());
    for (line, sensor) in lines[1..4].iter().zip(["class", "probability", "inference_time"]) {
        let config = line.strip_prefix(&format!("homeassistant/sensor/pi/{sensor}/config|0|")).expect(line);
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        assert_eq!(config["state_topic"], "vgg-edge/pi/result");
        assert_eq!(config["availability_topic"], "vgg-edge/pi/status");
        assert_eq!(config["unique_id"], format!("vgg-edge_pi_{sensor}"));
    }
    // What a later subscriber finds: no old result.
    let late = broker.subscribe("late", &[]);
    late.wait("what is retained", |lines| lines.iter().filter(|line| line.contains("|1|")).count() >= 4);
    assert!(late.lines().contains(&"vgg-edge/pi/status|1|offline".to_owned()));
    assert!(late.numbers("vgg-edge/pi/result").is_empty());
}

/// Restarts the broker in the middle of 200 results; gives what the subscriber got.
fn across_a_restart(qos: &str, persistence: &str) -> Option<Vec<u64>> {
    let mut broker = Broker::start(persistence)?;
    let subscriber = broker.subscribe("all", &[]);
    let publisher = Publisher::start("pi", &url(&broker), &["--mqtt-qos", qos]);
    publisher.send(1..=70);
    broker.stop();
    publisher.send(71..=140);
    publisher.wait_notice("the loss", |notice| matches!(notice, Notice::Lost(_)));
    broker.go();
    publisher.send(141..=200);
    subscriber.wait("the last result", |lines| lines.iter().any(|line| line.ends_with("\"sequence\":200}")));
    publisher.finish();
    subscriber.wait_line("vgg-edge/pi/status|0|offline");
    Some(subscriber.numbers("vgg-edge/pi/result"))
}

#[test]
fn at_least_once_across_a_restart_of_the_broker() {
    let Some(mut got) = across_a_restart("1", "persistence true") else { return };
    got.dedup();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got, (1..=200).collect::<Vec<_>>());
}

#[test]
fn exactly_once_across_a_restart_of_the_broker() {
    let Some(mut got) = across_a_restart("2", "persistence true") else { return };
    got.sort_unstable();
    assert_eq!(got, (1..=200).collect::<Vec<_>>());
}

#[test]
fn what_was_not_acknowledged_survives_a_broker_that_forgets() {
    let Some(mut broker) = Broker::start("") else { return };
    let publisher = Publisher::start("pi", &url(&broker), &[]);
    publisher.wait_connected();
    broker.stop();
    publisher.send(1..=50);
    broker.go();
    // The subscriber is back before the publisher, which waits half a second at least.
    let subscriber = broker.subscribe("all", &[]);
    subscriber.wait("the last result", |lines| lines.iter().any(|line| line.ends_with("\"sequence\":50}")));
    publisher.finish();
    let mut got = subscriber.numbers("vgg-edge/pi/result");
    got.dedup();
    assert_eq!(got, (1..=50).collect::<Vec<_>>());
}

#[test]
fn a_bounded_number_waits_for_a_broker_that_is_away() {
    let Some(mut broker) = Broker::prepare("") else { return };
    let publisher = Publisher::start("pi", &url(&broker), &["--mqtt-queue", "10"]);
    publisher.wait_lost("refused");
    publisher.send(1..=50);
    // All are in the queue when the channel is empty.
    wait_for("the queue", || publisher.results.capacity() == publisher.results.max_capacity());
    broker.go();
    let subscriber = broker.subscribe("all", &[]);
    subscriber.wait("the last result", |lines| lines.iter().any(|line| line.ends_with("\"sequence\":50}")));
    assert_eq!(subscriber.numbers("vgg-edge/pi/result"), (41..=50).collect::<Vec<_>>());
    publisher.send(51..=51);
    publisher.wait_notice("the count", |notice| *notice == Notice::Dropped(40));
    publisher.finish();
}

#[test]
fn home_assistant_is_told_again_when_it_starts() {
    let Some(broker) = Broker::start("") else { return };
    let subscriber = broker.subscribe("all", &[]);
    let publisher = Publisher::start("pi", &url(&broker), &[]);
    let n_told = |lines: &[String]| lines.iter().filter(|line| line.contains("/class/config|")).count();
    subscriber.wait("discovery", |lines| n_told(lines) == 1);
    let port = broker.port.to_string();
    // Until the publisher's subscription is in force nobody hears it.
    wait_for("discovery again", || {
        let args = ["-p", &port, "-t", "homeassistant/status", "-m", "online"];
        assert!(Command::new("mosquitto_pub").args(args).status().unwrap().success());
        n_told(&subscriber.lines()) >= 2
    });
    publisher.finish();
}

#[test]
fn many_boards_behind_one_broker() {
    let Some(broker) = Broker::start("") else { return };
    let subscriber = broker.subscribe("all", &[]);
    let names = ["pi-1", "pi-2", "pi-3", "pi-4", "pi-5", "pi-6"];
    let boards = names.map(|name| Publisher::start(name, &url(&broker), &["--no-mqtt-discovery"]));
    boards.iter().for_each(|board| board.send(1..=20));
    boards.into_iter().for_each(Publisher::finish);
    for name in names {
        subscriber.wait_line(&format!("vgg-edge/{name}/status|0|offline"));
        assert_eq!(subscriber.numbers(&format!("vgg-edge/{name}/result")), (1..=20).collect::<Vec<_>>());
    }
    assert!(!subscriber.lines().iter().any(|line| line.starts_with("homeassistant/")));
}

/// Not a test of its own: the process that `a_killed_board_leaves_its_last_will` kills.
#[test]
fn board_to_be_killed() {
    let Ok(url) = std::env::var("VGG_EDGE_TEST_BROKER") else { return };
    let publisher = Publisher::start("pi", &url, &[]);
    publisher.send(1..=1);
    publisher.thread.join().unwrap().unwrap();
}

#[test]
fn a_killed_board_leaves_its_last_will() {
    let Some(broker) = Broker::start("") else { return };
    let subscriber = broker.subscribe("all", &[]);
    let mut board = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "board_to_be_killed"])
        .env("VGG_EDGE_TEST_BROKER", url(&broker))
        .spawn()
        .unwrap();
    subscriber.wait_line("vgg-edge/pi/result|0|{\"sequence\":1}");
    board.kill().unwrap();
    board.wait().unwrap();
    subscriber.wait_line("vgg-edge/pi/status|0|offline");
}

#[test]
fn a_wrong_password_is_named() {
    let Some(mut broker) = Broker::prepare("allow_anonymous false\npassword_file DIR/users") else { return };
    let users = broker.dir().join("users");
    let made =
        Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&users).args(["pi", "secret"]).status();
    assert!(made.unwrap().success());
    broker.go();
    let file = |name: &str, text: &str| {
        let path = broker.dir().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "secret\n"), file("wrong", "guess\n"));
    let url = url(&broker);
    let publisher = Publisher::start("pi", &url, &["--mqtt-user", "pi", "--mqtt-password-file", &wrong]);
    publisher.wait_lost("password");
    publisher.finish();
    let publisher = Publisher::start("pi", &url, &["--mqtt-user", "pi", "--mqtt-password-file", &right]);
    publisher.wait_connected();
    publisher.finish();
    let publisher =
        Publisher::start("pi", &url, &["--mqtt-user", "pi", "--mqtt-password-file", "no/such/file"]);
    let error = publisher.thread.join().unwrap().unwrap_err();
    assert!(format!("{error:#}").starts_with("password no/such/file: "), "{error:#}");
}

/// A certificate authority, and a certificate for `host` that it signed, in `dir`.
fn certificates(dir: &std::path::Path, ca: &str, host: &str) {
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (ca_key, ca_pem) = (format!("{ca}.key"), format!("{ca}.pem"));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let subject = format!("/CN={ca}");
    openssl(
        &[
            &["req", "-x509", "-days", "2", "-keyout", &ca_key, "-out", &ca_pem, "-subj", &subject],
            &curve[..],
        ]
        .concat(),
    );
    openssl(
        &[&["req", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker"], &curve[..]]
            .concat(),
    );
    fs::write(dir.join("ext"), format!("subjectAltName=DNS:{host}\n")).unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-out", "server.pem", "-days", "2", "-extfile", "ext"];
    openssl(&[&sign[..], &["-CA", &ca_pem, "-CAkey", &ca_key, "-CAcreateserial"]].concat());
}

const TLS: &str = "cafile DIR/ca.pem\ncertfile DIR/server.pem\nkeyfile DIR/server.key";

#[test]
fn tls_with_the_authority_that_is_named() {
    let Some(mut broker) = Broker::prepare(TLS) else { return };
    certificates(broker.dir(), "ca", "localhost");
    broker.go();
    let ca = broker.dir().join("ca.pem").display().to_string();
    let subscriber = broker.subscribe("all", &["--cafile", &ca]);
    let url = format!("mqtts://localhost:{}", broker.port);
    let publisher = Publisher::start("pi", &url, &["--mqtt-ca", &ca, "--mqtt-qos", "2"]);
    publisher.send(1..=100);
    subscriber.wait("the last result", |lines| lines.iter().any(|line| line.ends_with("\"sequence\":100}")));
    publisher.finish();
    subscriber.wait_line("vgg-edge/pi/status|0|offline");
    assert_eq!(subscriber.numbers("vgg-edge/pi/result"), (1..=100).collect::<Vec<_>>());
    // Another authority's word does not count, nor that of the system's.
    let other = tempfile::tempdir().unwrap();
    for name in ["ca", "another"] {
        certificates(other.path(), name, "localhost");
        let other = other.path().join(format!("{name}.pem")).display().to_string();
        let publisher = Publisher::start("pi", &url, &["--mqtt-ca", &other]);
        publisher.wait_lost("the broker's certificate is not signed by an authority of --mqtt-ca");
        publisher.finish();
    }
}

#[test]
fn tls_refuses_another_hosts_certificate() {
    let Some(mut broker) = Broker::prepare(TLS) else { return };
    certificates(broker.dir(), "ca", "elsewhere.example");
    broker.go();
    let ca = broker.dir().join("ca.pem").display().to_string();
    let publisher =
        Publisher::start("pi", &format!("mqtts://localhost:{}", broker.port), &["--mqtt-ca", &ca]);
    publisher.wait_lost("the broker's certificate is for another host");
    publisher.finish();
}

#[test]
fn files_without_certificates_are_refused() {
    let publisher = Publisher::start("pi", "mqtts://localhost", &["--mqtt-ca", "/dev/null"]);
    let error = publisher.thread.join().unwrap().unwrap_err();
    let wanted = "certificates /dev/null: none in the file, expected `-----BEGIN CERTIFICATE-----`";
    assert_eq!(format!("{error:#}"), wanted);
}

#[test]
fn addresses() {
    let parse = settings::Broker::parse;
    let broker = |host: &str, port, tls| Ok(settings::Broker { host: host.to_owned(), port, tls });
    assert_eq!(parse("mqtt://pi.local"), broker("pi.local", 1883, false));
    assert_eq!(parse("mqtts://pi.local/"), broker("pi.local", 8883, true));
    assert_eq!(parse("mqtt://[fd00::1]:2000"), broker("fd00::1", 2000, false));
    assert_eq!(parse("mqtt://[fd00::1]:2000").unwrap().url(), "mqtt://[fd00::1]:2000");
    let error = |url| parse(url).unwrap_err();
    assert_eq!(error("http://pi"), "scheme http, expected mqtt or mqtts");
    assert_eq!(error("pi:1883"), "no scheme, expected mqtt://HOST or mqtts://HOST");
    assert!(error("mqtt://me:secret@pi").contains("--mqtt-password-file"));
    assert!(!error("mqtt://me:secret@pi").contains("secret"));
    assert_eq!(error("mqtt://pi/topic"), "path /topic, expected none; --mqtt-topic names topics");
    assert!(parse("mqtt://pi:99999").is_err() && parse("mqtt://pi:").is_err() && parse("mqtt://").is_err());
}

fn message(n: usize) -> Message {
    Message { topic: "t".to_owned(), payload: n.to_string(), retain: false, is_result: true }
}

#[test]
fn what_the_broker_forgot_goes_again_in_its_order() {
    let mut outbox = Outbox::new(100, 3);
    (0..5).for_each(|n| outbox.push(message(n)));
    assert_eq!([outbox.next().cloned(), outbox.next().cloned()], [Some(message(0)), Some(message(1))]);
    assert_eq!(outbox.next(), Some(&message(2)));
    assert_eq!(outbox.next(), None);
    // Ids come around: the later message has the smaller one.
    outbox.sent(16);
    outbox.sent(1);
    // Sent again.
    outbox.sent(16);
    outbox.new_session();
    let order: Vec<_> = (0..3).map(|_| outbox.next().cloned().unwrap()).collect();
    assert_eq!(order, [message(0), message(1), message(2)]);
    [2, 3, 4].iter().for_each(|&id| outbox.sent(id));
    [2, 3, 4].iter().for_each(|&id| outbox.done(id));
    assert_eq!([outbox.next().cloned(), outbox.next().cloned()], [Some(message(3)), Some(message(4))]);
    // QoS 0: no id, no acknowledgement.
    [0, 0].iter().for_each(|&id| outbox.sent(id));
    assert!(outbox.is_empty());
    assert_eq!(outbox.n_dropped(), 0);
}

#[test]
fn only_the_oldest_results_are_dropped() {
    let mut outbox = Outbox::new(2, 1);
    outbox.announce(vec![about("pi").status(true)]);
    (0..5).for_each(|n| outbox.push(message(n)));
    outbox.announce(vec![about("pi").status(true)]);
    assert_eq!(outbox.n_dropped(), 3);
    let mut order = Vec::new();
    while let Some(next) = outbox.next().cloned() {
        outbox.sent(0);
        order.push(next);
    }
    assert_eq!(order, [about("pi").status(true), message(3), message(4)]);
}
