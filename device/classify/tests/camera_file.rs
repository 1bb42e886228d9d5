//! `classify camera` without a camera: recordings, what it prints, how it ends.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use snapbox::{assert_data_eq, str};
use support::{Ran, classify, model, run, without_tables};
use tempfile::TempDir;
use vgg_edge_engine::image::{Limits, decode};

/// A folder with the network, the pictures, and recordings of them.
fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    let fixture = |name: &str| {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
    };
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("model.vgg", &model(true));
    write("features.vgg", &model(false));
    fs::create_dir(dir.path().join("frames")).unwrap();
    for (i, name) in ["red.png", "red.jpg", "green.png", "blue.png", "clear.png"].iter().enumerate() {
        write(&format!("frames/{i}-{name}"), &fixture(name));
    }
    write("frames/notes.txt", b"no picture");
    let red = fixture("red.jpg");
    write("clip.mjpg", &[red.clone(), without_tables(&red), red[..red.len() - 20].to_vec(), red].concat());
    // Y, U and V of red, green and blue in BT.601.
    let frame = |[y, u, v]: [u8; 3]| [y, u, y, v].repeat(16 * 12 / 2);
    let colours = [[81, 90, 240], [145, 54, 34], [145, 54, 34], [41, 240, 110]];
    write("clip.yuyv", &colours.map(frame).concat());
    dir
}

fn camera(dir: &TempDir, args: &str) -> Ran {
    run(&classify(&format!("camera {args}")), dir.path())
}

/// The lines of a success.
fn lines(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_folder_is_seen_frame_by_frame() {
    let dir = folder();
    let ran = camera(&dir, "model.vgg file:frames");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_data_eq!(
        &ran.stdout,
        str![[r#"
      1  0.9735  red
      3  0.9609  green
      4  0.9756  blue
      5  0.9735  red

"#]]
    );
    assert_data_eq!(
        &ran.stderr,
        str![[r#"
camera  file:frames: 5 pictures
camera  file:frames: 5 observations, 0 frames dropped, 0 damaged

"#]]
    );
}

#[test]
fn observations_are_those_of_run_and_the_same_each_time() {
    let dir = folder();
    let pictures =
        "frames/0-red.png frames/1-red.jpg frames/2-green.png frames/3-blue.png frames/4-clear.png";
    let top = |ran: &Ran| lines(ran).iter().map(|line| line["top"].to_string()).collect::<Vec<_>>();
    let expected = top(&run(&classify(&format!("run model.vgg --json {pictures}")), dir.path()));
    assert_eq!(expected.len(), 5);
    for threads in ["1", "3"] {
        let ran = camera(&dir, &format!("model.vgg file:frames --json --threads {threads}"));
        assert_eq!(top(&ran), expected);
        for line in lines(&ran) {
            assert_eq!(
                (&line["dropped"], &line["width"], &line["height"]),
                (&0.into(), &line["width"], &line["height"])
            );
            assert!(
                line["ms"].as_f64().unwrap() >= 0.0 && line["latency_ms"].as_f64() >= line["ms"].as_f64(),
                "{line}"
            );
        }
    }
}

#[test]
fn streams_of_both_kinds_are_seen() {
    let dir = folder();
    let ran = camera(&dir, "model.vgg file:clip.mjpg --json");
    let seen = lines(&ran);
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter().all(|line| line["top"] == seen[0]["top"] && line["top"][0]["label"] == "red"),
        "{seen:?}"
    );
    assert!(
        ran.stderr.contains("warning: file:clip.mjpg: damaged frame left out: JPEG picture is cut off"),
        "{ran:?}"
    );
    assert!(ran.stderr.ends_with("3 observations, 0 frames dropped, 1 damaged\n"), "{ran:?}");

    let ran = camera(&dir, "model.vgg file:clip.yuyv --size 16x12");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_data_eq!(
        &ran.stdout,
        str![[r#"
      1  0.9877  red
      2  0.9878  green
      4  0.9880  blue

"#]]
    );
}

#[test]
fn smoothing_is_the_mean_of_the_probabilities() {
    let dir = folder();
    let p = |args: &str| -> Vec<Vec<f64>> {
        let sorted = |line: &Value| {
            let mut top = line["top"].as_array().unwrap().clone();
            top.sort_by_key(|class| class["class"].as_u64());
            top.iter().map(|class| class["probability"].as_f64().unwrap()).collect()
        };
        lines(&camera(&dir, args)).iter().map(sorted).collect()
    };
    let plain = p("model.vgg file:frames --json");
    let smooth = p("model.vgg file:frames --json --smooth 3");
    for (i, found) in smooth.iter().enumerate() {
        let last = &plain[i.saturating_sub(2)..=i];
        for (class, found) in found.iter().enumerate() {
            let expected = last.iter().map(|p| p[class]).sum::<f64>() / last.len() as f64;
            assert!(
                (found - expected).abs() < 1e-6,
                "frame {i}, class {class}: {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn a_recording_at_a_rate_is_like_a_camera() {
    let dir = folder();
    // 500 frames a second for 5 observations a second.
    let seen =
        lines(&camera(&dir, "model.vgg file:frames --repeat --capture-fps 500 --fps 5 --json --count 4"));
    assert_eq!(seen.len(), 4);
    let dropped: u64 = seen[1..].iter().map(|line| line["dropped"].as_u64().unwrap()).sum();
    assert!(dropped >= 3, "{dropped} frames dropped");
    // Frame by frame none is.
    let seen = lines(&camera(&dir, "model.vgg file:clip.yuyv --size 16x12 --repeat --json --count 10"));
    let labels: Vec<&str> = seen.iter().map(|line| line["top"][0]["label"].as_str().unwrap()).collect();
    let expected = ["red", "green", "green", "blue", "red", "green", "green", "blue", "red", "green"];
    assert_eq!(labels, expected);
    assert!(seen.iter().all(|line| line["dropped"] == 0));
}

#[test]
fn frames_can_be_turned_and_kept() {
    let dir = folder();
    // Green on the left, red on the right.
    fs::write(
        dir.path().join("wide.yuyv"),
        [[145, 54, 145, 34].repeat(8), [81, 90, 81, 240].repeat(8)].concat().repeat(16),
    )
    .unwrap();
    let at = |degrees: &str| {
        let args =
            format!("model.vgg file:wide.yuyv --size 32x16 --rotate {degrees} --preview kept.jpg --json");
        let seen = lines(&camera(&dir, &args));
        let kept = decode(&fs::read(dir.path().join("kept.jpg")).unwrap(), Limits::default()).unwrap();
        assert_eq!((&seen[0]["width"], &seen[0]["height"]), (&kept.width().into(), &kept.height().into()));
        // Which corners are red: top left, top right, bottom left.
        let (w, h) = (kept.width(), kept.height());
        let is_red = |x: usize, y: usize| kept.data()[(y * w + x) * 3] > 128;
        ((w, h), [is_red(2, 2), is_red(w - 3, 2), is_red(2, h - 3)])
    };
    assert_eq!(at("0"), ((32, 16), [false, true, false]));
    assert_eq!(at("90"), ((16, 32), [false, false, true]));
    assert_eq!(at("180"), ((32, 16), [true, false, true]));
    assert_eq!(at("270"), ((16, 32), [true, true, false]));
}

#[test]
fn features_are_printed() {
    let dir = folder();
    let ran = camera(&dir, "features.vgg file:frames --count 1");
    assert_eq!(ran.stdout, "      1  features 1x1x8: mean 32.5000, min 0.0000, max 230.0000\n");
    for (option, name) in [("--top 2", "--top <K>"), ("--smooth 2", "--smooth <N>")] {
        let ran = camera(&dir, &format!("features.vgg file:frames {option}"));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let expected = format!(
            "error: the argument '{name}' cannot be used with features.vgg: its network gives features of 1x1x8, not classes\n"
        );
        assert!(ran.stderr.starts_with(&expected), "{ran:?}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let dir = folder();
    fs::write(dir.path().join("empty"), b"").unwrap();
    fs::create_dir(dir.path().join("nothing")).unwrap();
    let refused = [
        ("file:missing", "No such file or directory (os error 2)"),
        ("file:nothing", "no picture in the folder, expected names that end in jpg, jpeg, png, webp, bmp"),
        ("file:empty", "the stream is empty, expected MJPEG or YUYV frames"),
        (
            "file:clip.yuyv",
            "not MJPEG (ff d8 ff); the size of raw YUYV frames is expected, as in --size 640x480",
        ),
        ("file:clip.yuyv --size 15x12", "YUYV frames of 15x12 pixels, expected an even width"),
        ("model.vgg", "not a video device"),
        ("missing --give-up 0", "gave up after 0 s without a frame: No such file or directory (os error 2)"),
    ];
    for (source, expected) in refused {
        let ran = camera(&dir, &format!("model.vgg {source}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        let device = source.split(' ').next().unwrap();
        assert!(ran.stderr.ends_with(&format!("error: cannot watch {device}: {expected}\n")), "{ran:?}");
    }
    // A file whose last frame is cut off.
    let whole = fs::read(dir.path().join("clip.yuyv")).unwrap();
    fs::write(dir.path().join("cut.yuyv"), &whole[..whole.len() - 1]).unwrap();
    let ran = camera(&dir, "model.vgg file:cut.yuyv --size 16x12 --json");
    assert_eq!(lines(&ran).len(), 3);
    assert!(ran.stderr.contains("YUYV frame of 16x12 pixels, 32 bytes a row, has 383 bytes"), "{ran:?}");
}

#[test]
fn the_cameras_options_are_under_a_heading_of_their_own() {
    let help = camera(&folder(), "-h").stdout;
    let (general, camera) = help.split_once("\nCamera:\n").unwrap();
    assert!(
        general.contains("--json") && general.contains("--threads") && !general.contains("--fps"),
        "{help}"
    );
    assert!(camera.contains("--fps") && !camera.contains("--threads"), "{help}");
}

#[test]
fn wrong_uses_are_refused() {
    let dir = folder();
    for (args, expected) in [
        ("", "error: the following required arguments were not provided"),
        ("model.vgg --fps 0", "error: invalid value '0' for '--fps <N>': expected 0.01 to 1000 a second"),
        ("model.vgg --fps nan", "error: invalid value 'nan' for '--fps <N>': expected 0.01 to 1000 a second"),
        (
            "model.vgg --size 640",
            "error: invalid value '640' for '--size <WxH>': expected WIDTHxHEIGHT of 1 to 16384",
        ),
        ("model.vgg --rotate 45", "error: invalid value '45' for '--rotate <DEGREES>'"),
        ("model.vgg --smooth 0", "error: invalid value '0' for '--smooth <N>': expected 1 to 300 frames"),
        ("model.vgg --give-up=-1", "error: invalid value '-1' for '--give-up <SECONDS>'"),
        ("--list --json", "error: the argument '--list [<DEVICE>]' cannot be used with"),
    ] {
        let ran = camera(&dir, args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args}: {ran:?}");
        assert!(ran.stderr.starts_with(expected), "{args}: {ran:?}");
    }
}

/// The program, for a minute at most; signals go to it.
fn limited(args: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60", env!("CARGO_BIN_EXE_classify")]).args(args.split_whitespace());
    command
}

/// The program with frames from a pipe, which stays open.
#[test]
fn a_pipe_is_watched_until_a_signal() {
    let dir = folder();
    for signal in ["TERM", "INT"] {
        let mut command = limited("camera model.vgg file:- --json");
        command.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let red = fs::read(dir.path().join("frames/1-red.jpg")).unwrap();
        for sequence in 1..=3 {
            // In two pieces: a frame is seen as soon as it is whole.
            stdin.write_all(&red[..50]).unwrap();
            stdin.flush().unwrap();
            stdin.write_all(&red[50..]).unwrap();
            stdin.flush().unwrap();
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["sequence"], &line["top"][0]["label"]), (&sequence.into(), &"red".into()));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{signal}: {output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.ends_with("camera  file:-: 3 observations, 0 frames dropped, 0 damaged\n"),
            "{stderr}"
        );
        drop(stdin);
    }
}

#[test]
fn a_reader_that_goes_ends_it() {
    let dir = folder();
    let mut command = limited("camera model.vgg file:frames --repeat --json");
    command.current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with('{'), "{line}");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn a_terminal_sees_one_line_in_place() {
    let dir = folder();
    let mut command = Command::new("script");
    let program = env!("CARGO_BIN_EXE_classify");
    command.args([
        "-q",
        "-e",
        "-c",
        &format!("{program} camera model.vgg file:frames 2>/dev/null"),
        "/dev/null",
    ]);
    let output = match command.current_dir(dir.path()).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "script: {error}");
            println!("left out: script: {error}");
            return;
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches('\r').count() - text.matches("\r\n").count(), 5, "{text:?}");
    assert!(text.starts_with("\r0.9735  red   0.01"), "{text:?}");
    assert!(text.ends_with(" a second)\u{1b}[K\r\n"), "{text:?}");
}
