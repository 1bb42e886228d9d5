//! `classify camera` on a V4L2 device: real system calls, answered by `support/fake_camera.c` in the kernel's place.
//!
//! The C program decodes them with the system's own header, so layouts and numbers are compared with it. What this cannot show is how real
//! drivers behave; a machine with a camera does.
#![cfg(all(target_os = "linux", not(miri)))]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Ran, classify, model, run};
use tempfile::TempDir;
use vgg_edge_engine::image::{Limits, decode};

/// A folder with the network and the C program, if there is a C compiler.
struct Camera {
    dir: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Camera {
    fn new() -> Option<Self> {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("model.vgg"), model(true)).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake_camera.c");
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-pthread", "-o"]).arg(dir.path().join("fake")).arg(source);
        match compile.output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cc: {error}");
                println!("left out: cc: {error}");
                return None;
            }
        }
        Some(Self { dir, settings: Vec::new() })
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    fn node(&self) -> PathBuf {
        // As /proc shows it.
        self.dir.path().canonicalize().unwrap().join("video")
    }

    /// Runs the program with `args` on a device that does what `script` says.
    fn run(&self, script: &str, args: &str) -> Seen {
        let mut command = Command::new(self.dir.path().join("fake"));
        command.arg(self.node()).arg("log").arg(script).arg("--");
        let program = classify(args);
        command.arg(program.get_program()).args(program.get_args());
        if !args.contains("--list") {
            command.arg(self.node());
        }
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        let mut ran = run(&command, self.dir.path());
        let name = self.node().display().to_string();
        ran.stderr = ran.stderr.replace(&name, "NODE");
        ran.stdout = ran.stdout.replace(&name, "NODE");
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        Seen { ran, log: log.lines().skip(1).map(str::to_owned).collect() }
    }
}

struct Seen {
    ran: Ran,
    /// What the device was asked.
    log: Vec<String>,
}

impl Seen {
    /// The lines of a success.
    fn lines(&self) -> Vec<Value> {
        assert_eq!(self.ran.code, Some(0), "{:?} {:?}", self.ran, self.log);
        assert!(!self.log.contains(&"no buffer is queued".to_owned()), "a buffer was not given back");
        self.ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn labels(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["top"][0]["label"].as_str().unwrap().to_owned()).collect()
    }
}

/// Labels without repetitions: how often a frame is seen depends on the time.
fn changes(labels: &[String]) -> Vec<&str> {
    let mut changes: Vec<&str> = labels.iter().map(String::as_str).collect();
    changes.dedup();
    changes
}

#[test]
fn frames_are_classified_and_the_device_is_asked_in_order() {
    let Some(camera) = Camera::new() else { return };
    let seen = camera.run("red red red", "camera model.vgg --json --count 3 --capture-fps 15");
    let lines = seen.lines();
    assert_eq!(lines.len(), 3);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!((&line["sequence"], &line["source"]), (&(i + 1).into(), &"NODE".into()));
        assert_eq!((&line["width"], &line["height"]), (&160.into(), &120.into()));
        assert_eq!(line["top"][0]["label"], "red");
        // (81, 90, 240) is (254, 0, 0): a neighbour or a row's padding would add green and blue.
        let p = line["top"][0]["probability"].as_f64().unwrap();
        let expected = 5.08f64.exp() / (5.08f64.exp() + 2.0);
        assert!((p - expected).abs() < 1e-4, "{p}, expected {expected}");
        // Captured a second ago, as the device says.
        assert!(line["latency_ms"].as_f64().unwrap() >= 1000.0, "{line}");
        assert!(line["unix_ms"].as_u64().unwrap() > 1_700_000_000_000);
    }
    // The smallest size that is at least the network's 8x8.
    let asked = ["S_FMT YUYV 160x120 field 1", "S_PARM 1000/15000", "REQBUFS 4", "STREAMON", "STREAMOFF"];
    assert_eq!(seen.log, asked);
    assert!(
        seen.ran.stderr.starts_with("camera  NODE: 160x120 YUYV, 15 frames a second\n"),
        "{:?}",
        seen.ran
    );
    assert!(seen.ran.stderr.contains("camera  NODE: 3 observations, "), "{:?}", seen.ran);
}

#[test]
fn people_see_a_line_a_change() {
    let Some(camera) = Camera::new() else { return };
    let camera = camera.set("FAKE_PACE", "300000");
    let seen = camera.run("red red green green blue blue", "camera model.vgg --count 5");
    assert_eq!(seen.ran.code, Some(0), "{:?}", seen.ran);
    let labels: Vec<&str> = seen.ran.stdout.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(labels, ["red", "green", "blue"], "{:?}", seen.ran);
    assert!(seen.ran.stdout.starts_with("      1  0.98"), "{:?}", seen.ran);
}

#[test]
fn full_range_colours_are_respected() {
    let Some(camera) = Camera::new() else { return };
    let limited = camera.run("red", "camera model.vgg --json --count 1").lines();
    let full = camera.set("FAKE_FULL", "1").run("red", "camera model.vgg --json --count 1").lines();
    // (76, 85, 255) is (254, 0, 0) in full range, and would be (255, 0, 5) in the other.
    assert_eq!(limited[0]["top"], full[0]["top"]);
}

#[test]
fn damaged_frames_are_left_out_and_their_buffers_go_back() {
    let Some(camera) = Camera::new() else { return };
    let script = "error short empty again signal error short empty error short empty red red red";
    let seen = camera.run(script, "camera model.vgg --json --count 3");
    assert_eq!(changes(&seen.labels()), ["red"]);
    assert!(
        seen.ran.stderr.starts_with(
            "warning: NODE: damaged frame left out: the driver says that the frame is damaged; further ones are only counted\n"
        ),
        "{:?}",
        seen.ran
    );
    // The one that was interrupted was a frame.
    assert!(seen.ran.stderr.ends_with(" dropped, 9 damaged\n"), "{:?}", seen.ran);
}

#[test]
fn a_camera_that_is_unplugged_is_waited_for() {
    for accident in ["unplug", "nodev"] {
        let Some(camera) = Camera::new() else { return };
        let camera = camera.set("FAKE_PACE", "50000");
        let seen =
            camera.run(&format!("red red {accident} green green"), "camera model.vgg --json --count 8");
        let lines = seen.lines();
        assert_eq!(changes(&seen.labels()), ["red", "green"]);
        let sequence: Vec<u64> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
        assert_eq!(sequence, [1, 2, 3, 4, 5, 6, 7, 8]);
        let stderr: Vec<&str> = seen.ran.stderr.lines().collect();
        let running = "camera  NODE: 160x120 YUYV, 30 frames a second";
        let lost = "camera  NODE: lost: No such device (os error 19); waiting for it";
        assert_eq!(&stderr[..3], [running, lost, running], "one line a change");
        assert_eq!(stderr.len(), 4, "{stderr:?}");
        assert_eq!(seen.log.iter().filter(|line| *line == "STREAMON").count(), 2);
    }
}

#[test]
fn an_error_of_the_driver_opens_the_camera_anew() {
    let Some(camera) = Camera::new() else { return };
    let camera = camera.set("FAKE_PACE", "50000");
    let seen = camera.run("red io green", "camera model.vgg --json --count 4");
    assert_eq!(changes(&seen.labels()), ["red", "green"]);
    let expected = ["STREAMON", "STREAMOFF", "STREAMON", "STREAMOFF"];
    let streams: Vec<&String> = seen.log.iter().filter(|line| line.starts_with("STREAM")).collect();
    assert_eq!(streams, expected);
}

#[test]
fn a_camera_that_hangs_is_opened_anew() {
    let Some(camera) = Camera::new() else { return };
    let camera = camera.set("FAKE_PACE", "50000");
    let seen = camera.run("red quiet red silent green", "camera model.vgg --json --count 5");
    assert_eq!(changes(&seen.labels()), ["red", "green"]);
    let lost = "camera  NODE: lost: no frame for 5 s; waiting for it";
    assert_eq!(seen.ran.stderr.lines().nth(1), Some(lost), "{:?}", seen.ran);
}

#[test]
fn a_camera_that_does_not_come_back_is_given_up() {
    let Some(camera) = Camera::new() else { return };
    let seen = camera.run("red gone", "camera model.vgg --give-up 0.5");
    assert_eq!(seen.ran.code, Some(1), "{:?}", seen.ran);
    let last = seen.ran.stderr.lines().last().unwrap();
    let expected = "error: cannot watch NODE: gave up after 0.5 s without a frame: No such file or directory (os error 2)";
    assert_eq!(last, expected);
}

#[test]
fn a_camera_in_use_is_waited_for() {
    let Some(camera) = Camera::new() else { return };
    let seen = camera.set("FAKE_BUSY", "2").run("blue", "camera model.vgg --json --count 1");
    assert_eq!(changes(&seen.labels()), ["blue"]);
    let first = seen.ran.stderr.lines().next().unwrap();
    let expected = "camera  NODE: not there: cannot set the format: Device or resource busy (os error 16); waiting for it";
    assert_eq!(first, expected);
}

#[test]
fn smoothing_delays_a_change_and_forgets_what_was_before_a_loss() {
    let Some(camera) = Camera::new() else { return };
    let camera = camera.set("FAKE_PACE", "100000");
    let seen = camera.run("red red red unplug green", "camera model.vgg --json --count 8 --smooth 6");
    // Without the reset red would stay best for three frames, at some 0.5.
    let lines = seen.lines();
    let first = lines.iter().find(|line| line["top"][0]["label"] == "green").unwrap();
    assert!(first["top"][0]["probability"].as_f64().unwrap() > 0.98, "{first}");
    let seen = camera.run("red red red green", "camera model.vgg --json --count 8 --smooth 6");
    let lines = seen.lines();
    let first = lines.iter().find(|line| line["top"][0]["label"] == "green").unwrap();
    assert!(first["top"][0]["probability"].as_f64().unwrap() < 0.7, "{first}");
}

#[test]
fn mjpeg_is_decoded_with_and_without_tables() {
    let Some(camera) = Camera::new() else { return };
    let red = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/red.jpg")).unwrap();
    fs::write(camera.dir.path().join("whole.jpg"), &red).unwrap();
    fs::write(camera.dir.path().join("bare.jpg"), support::without_tables(&red)).unwrap();
    fs::write(camera.dir.path().join("cut.jpg"), &red[..red.len() / 2]).unwrap();
    let camera = camera.set("FAKE_FORMATS", "BG10 MJPG").set("FAKE_PACE", "150000");
    let args = "camera model.vgg --json --count 3 --size 300x200 --preview last.jpg";
    let seen = camera.run("@whole.jpg @bare.jpg @cut.jpg @cut.jpg @cut.jpg @bare.jpg", args);
    let lines = seen.lines();
    assert!(
        lines.iter().all(|line| line["top"] == lines[0]["top"] && line["top"][0]["label"] == "red"),
        "{lines:?}"
    );
    assert_eq!(seen.log[0], "S_FMT MJPG 320x240 field 1");
    assert!(seen.ran.stderr.contains("JPEG picture is cut off"), "{:?}", seen.ran);
    // The camera's own picture, with the tables that it may have left out.
    let preview = fs::read(camera.dir.path().join("last.jpg")).unwrap();
    let pixels = |jpeg: &[u8]| decode(jpeg, Limits::default()).unwrap();
    assert_eq!(pixels(&preview), pixels(&red));
    assert!(!camera.dir.path().join("last.jpg.part").exists());
}

#[test]
fn nodes_that_are_no_camera_are_refused_by_what_they_are() {
    let refused = [
        ("FAKE_KIND", "metadata", "Camera of a test: metadata capture, expected single-planar video capture"),
        (
            "FAKE_KIND",
            "planes",
            "Camera of a test: multi-planar capture, expected single-planar video capture",
        ),
        ("FAKE_FORMATS", "BG10 NV12", "the camera offers BG10, NV12, expected YUYV or MJPEG"),
        ("FAKE_FORMATS", "", "the camera offers nothing, expected YUYV or MJPEG"),
    ];
    for (name, value, expected) in refused {
        let Some(camera) = Camera::new() else { return };
        let seen = camera.set(name, value).run("red", "camera model.vgg");
        assert_eq!(seen.ran.code, Some(1), "{:?}", seen.ran);
        assert!(
            seen.ran.stderr.ends_with(&format!("error: cannot watch NODE: {expected}\n")),
            "{:?}",
            seen.ran
        );
    }
    let Some(camera) = Camera::new() else { return };
    let seen = camera.set("FAKE_FORMATS", "YUYV").run("red", "camera model.vgg --format mjpeg");
    assert!(seen.ran.stderr.ends_with("the camera offers YUYV, expected MJPEG\n"), "{:?}", seen.ran);
}

#[test]
fn the_list_shows_formats_and_sizes() {
    let Some(camera) = Camera::new() else { return };
    let node = camera.node();
    let camera = camera.set("FAKE_FORMATS", "YUYV BG10");
    let seen = camera.run("red", &format!("camera --list {}", node.display()));
    let expected = "NODE  Camera of a test\n  YUYV  160x120 320x240 640x480\n  BG10 (not used)  160x120 320x240 640x480\n";
    assert_eq!((seen.ran.code, seen.ran.stdout.as_str()), (Some(0), expected), "{:?}", seen.ran);
    let seen = camera.set("FAKE_KIND", "metadata").run("red", &format!("camera --list {}", node.display()));
    assert_eq!(seen.ran.stderr, "error: cannot list NODE: it gives no frames, expected a camera\n");
}

#[test]
fn a_slow_program_sees_the_newest_frame() {
    let Some(camera) = Camera::new() else { return };
    // 20 observations a second of 200 frames.
    let seen = camera.set("FAKE_PACE", "5000").run("red", "camera model.vgg --json --count 10 --fps 20");
    let dropped: u64 = seen.lines().iter().skip(1).map(|line| line["dropped"].as_u64().unwrap()).sum();
    assert!(dropped >= 9, "{dropped} frames dropped");
}
