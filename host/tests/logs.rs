//! The device's log from end to end: `classify --log` writes it, `logs` decodes it against the unstripped program.
//!
//! `VGG_EDGE_CLASSIFY` and `VGG_EDGE_EMULATOR` name another program, as for the parity tests.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vgg_edge_blob::{Scheme, write};
use vgg_edge_tests::{Ran, TempDir, built, classify, run, temp_dir, vgg_of_two_blocks, workspace_root};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Every picture logs that it was decoded, and its result.
const FRAMES_A_PICTURE: u64 = 2;
/// Before the first picture: the model, and how it runs.
const FRAMES_BEFORE: u64 = 2;

/// A folder with a small model and a picture.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let dir = temp_dir();
        let mut bytes = Vec::new();
        write(vgg_of_two_blocks(Scheme::Int8), &mut bytes).unwrap();
        fs::write(dir.path().join("m.vgg"), bytes).unwrap();
        let cats = fs::read_dir(workspace_root().join("tests/fixtures/cifar10/test/cat")).unwrap();
        fs::copy(cats.map(|cat| cat.unwrap().path()).min().unwrap(), dir.path().join("a.jpg")).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `classify run` of `n` pictures with these further arguments.
    fn command(&self, args: &str, n: usize) -> Command {
        self.command_of(classify(), args, n)
    }

    fn command_of(&self, mut command: Command, args: &str, n: usize) -> Command {
        command.current_dir(self.0.path()).args(["run", "m.vgg", "--threads", "1", "--top", "1"]);
        command.args(args.split_whitespace()).args(vec!["a.jpg"; n]);
        command
    }

    fn run(&self, args: &str, n: usize) -> Ran {
        run(&mut self.command(args, n))
    }

    fn logs(&self, args: &str) -> Ran {
        run(&mut self.logs_command(args, &program()))
    }

    fn logs_command(&self, args: &str, elf: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        command.current_dir(self.0.path()).arg("logs").args(args.split_whitespace()).arg("--elf").arg(elf);
        command
    }
}

/// As many pictures as take some seconds; an emulator needs longer for each.
fn pictures(n: usize) -> usize {
    if std::env::var_os("VGG_EDGE_EMULATOR").is_some() { n / 8 } else { n }
}

/// The unstripped program.
fn program() -> PathBuf {
    match std::env::var_os("VGG_EDGE_CLASSIFY") {
        Some(path) => path.into(),
        None => built("vgg-edge-classify", "classify"),
    }
}

/// Waits until `is_so`; `false` when `child` has ended before.
fn wait_until(child: &mut Child, mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if child.try_wait().unwrap().is_some() {
            return is_so();
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
    true
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Messages in what `logs` printed, and frames that it says are lost.
fn count(decoded: &Ran) -> (u64, u64) {
    let (mut messages, mut lost) = (0, 0);
    for line in decoded.stdout.lines() {
        match line.strip_prefix("-- ") {
            None => messages += 1,
            Some(note) => {
                let words: Vec<&str> = note.split(' ').collect();
                if words[1..3] == ["frames", "lost"] {
                    lost += words[0].parse::<u64>().unwrap();
                }
            }
        }
    }
    (messages, lost)
}

fn assert_clean(decoded: &Ran) {
    assert_eq!((decoded.code, decoded.stderr.as_str()), (Some(0), ""), "{}", decoded.stdout);
}

#[test]
fn the_log_of_a_run_decodes_with_levels_and_places() {
    let bench = Bench::new();
    assert_eq!(bench.run("--log d.log", 1).code, Some(0));
    let decoded = bench.logs("d.log");
    assert_clean(&decoded);
    let lines: Vec<&str> = decoded.stdout.lines().collect();
    let start = lines[0];
    assert!(start.starts_with("-- classify 0.1.0, process "), "{start}");
    assert!(start.contains(", started 20") && start.contains("Z, build "), "{start}");
    assert_eq!(lines.len() as u64, 1 + FRAMES_BEFORE + FRAMES_A_PICTURE, "{}", decoded.stdout);
    assert!(lines[1..].iter().all(|l| l.contains(" INFO ") && l.contains(".rs:")), "{}", decoded.stdout);
    let of_level = bench.logs("d.log --level warn");
    assert_clean(&of_level);
    assert_eq!(of_level.stdout.lines().count(), 1, "the opening note alone: {}", of_level.stdout);
    assert!(!bench.logs("d.log --no-locations").stdout.contains(".rs:"));

    // A program without a message table.
    let own = Path::new(env!("CARGO_BIN_EXE_vgg-edge"));
    let refused = run(&mut bench.logs_command("d.log", own));
    assert_eq!(refused.code, Some(1));
    let hint =
        "has no .defmt messages\n\nhint: pass the unstripped program: `--elf target/board/classify.debug`\n";
    assert!(refused.stderr.ends_with(hint), "{}", refused.stderr);
}

#[test]
fn a_log_under_load_rotates_within_its_bound() {
    let n_pictures = pictures(3_000);
    let bench = Bench::new();
    let names = ["d.log", "d.log.1", "d.log.2"].map(|name| bench.path(name));
    // Left by a run that was allowed more.
    fs::write(bench.path("d.log.3"), "old").unwrap();
    fs::write(bench.path("d.log.4"), "old").unwrap();
    let mut command = bench.command("--log d.log --log-size 4 --log-files 3", n_pictures);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut n_looks = 0;
    let is_over = || {
        n_looks += 1;
        names.iter().for_each(|path| assert!(len(path) <= 4096, "{}: {}", path.display(), len(path)));
        false
    };
    wait_until(&mut child, is_over);
    assert!(child.wait().unwrap().success() && n_looks > 1);
    let found = fs::read_dir(bench.0.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = found.filter(|name| name.starts_with("d.log")).collect();
    found.sort();
    assert_eq!(found, ["d.log", "d.log.1", "d.log.2"]);
    // Each can be decoded alone: it names its build. Together they are the end of the log, without a gap.
    let total = FRAMES_BEFORE + FRAMES_A_PICTURE * n_pictures as u64;
    let mut ends = Vec::new();
    for path in names.iter().rev() {
        let bytes = fs::read(path).unwrap();
        let note = String::from_utf8_lossy(&bytes[1..]).into_owned();
        assert!(note.starts_with("vgg-edge-log 1 build="), "{note}");
        let first: u64 = note.split('\0').next().unwrap().split_once("frames=").unwrap().1.parse().unwrap();
        fs::create_dir_all(bench.path("alone")).unwrap();
        fs::copy(path, bench.path("alone/x")).unwrap();
        let decoded = bench.logs("alone/x");
        assert_clean(&decoded);
        let (n, lost) = count(&decoded);
        assert!(lost == 0 && len(path) > 2000 || path == &names[0], "{lost} lost, {} bytes", len(path));
        assert!(ends.last().is_none_or(|&end| end == first), "{ends:?}, then {first}");
        ends.push(first + n);
    }
    assert_eq!(ends.last(), Some(&total));
    let all = bench.logs("d.log");
    assert_clean(&all);
    assert!(count(&all).0 > 200 && all.stdout.lines().filter(|l| l.starts_with("--")).count() == 1);
    // Smaller limits afterwards, and a folder where a name should be.
    fs::remove_file(&names[1]).unwrap();
    fs::create_dir_all(names[1].join("in the way")).unwrap();
    let mut command = bench.command("--log d.log --log-size 4 --log-files 2", 300);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    assert!(len(&names[0]) <= 4096, "emptied instead");
    assert_clean(&run(bench.logs_command("", &program()).stdin(fs::File::open(&names[0]).unwrap())));
}

#[test]
fn a_killed_program_leaves_whole_frames_and_the_next_goes_on() {
    let bench = Bench::new();
    for round in 1..=5 {
        let before = len(&bench.path("d.log"));
        let mut child = bench.command("--log d.log", 20_000).stdout(Stdio::null()).spawn().unwrap();
        assert!(wait_until(&mut child, || len(&bench.path("d.log")) > before + 500 * round));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "killed, not ended");
    }
    assert_eq!(bench.run("--log d.log", 1).code, Some(0));
    let decoded = bench.logs("d.log");
    assert_clean(&decoded);
    assert_eq!(decoded.stdout.lines().filter(|line| line.starts_with("-- classify")).count(), 6);

    // As a power cut leaves it, in the middle of a frame: that one is lost, nothing else.
    let n = count(&decoded).0;
    let bytes = fs::read(bench.path("d.log")).unwrap();
    fs::write(bench.path("d.log"), &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(bench.run("--log d.log", 1).code, Some(0));
    let decoded = bench.logs("d.log");
    assert_eq!(count(&decoded).0, n - 1 + FRAMES_BEFORE + FRAMES_A_PICTURE);
    assert_eq!(decoded.stderr, "warning: 1 frames skipped: damaged, or cut off\n");
    // The same of lines.
    assert_eq!(bench.run("--log t.log --log-format text", 1).code, Some(0));
    let text = fs::read_to_string(bench.path("t.log")).unwrap();
    fs::write(bench.path("t.log"), &text[..text.len() - 9]).unwrap();
    assert_eq!(bench.run("--log t.log --log-format text", 1).code, Some(0));
    let text = fs::read_to_string(bench.path("t.log")).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("vgg-edge-log 1 build=")).count(), 2, "{text}");
}

#[test]
fn a_log_has_one_writer() {
    let bench = Bench::new();
    let mut child = bench.command("--log d.log", 20_000).stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut child, || len(&bench.path("d.log")) > 0));
    let second = bench.run("--log d.log", 1);
    let _ = (child.kill(), child.wait());
    assert_eq!(second.code, Some(1));
    assert_eq!(second.stderr, "error: cannot write the log d.log: another program writes to it\n");
}

#[test]
fn a_full_disk_loses_frames_and_nothing_else() {
    let n_pictures = pictures(10_000);
    let bench = Bench::new();
    // A file may have 8 KiB; what goes beyond fails as on a full disk, with a piece of a frame written.
    let line = "trap '' XFSZ; ulimit -S -f 16; exec \"$@\"";
    let mut shell = Command::new("dash");
    let program = classify();
    shell.args(["-c", line, "sh"]).arg(program.get_program()).args(program.get_args());
    let Ok(mut child) = bench.command_of(shell, "--log d.log", n_pictures).stdout(Stdio::piped()).spawn()
    else {
        assert!(std::env::var_os("CI").is_none(), "dash is missing, and CI must have it");
        println!("not run: dash is missing");
        return;
    };
    let mut stdout = child.stdout.take().unwrap();
    let mut lines = Vec::new();
    let mut buf = [0; 4096];
    let mut is_raised = false;
    loop {
        let n = stdout.read(&mut buf).unwrap();
        if n == 0 {
            break;
        }
        lines.extend_from_slice(&buf[..n]);
        if !is_raised && lines.len() > n_pictures * 4 {
            // Somebody made room.
            is_raised = true;
            let pid = child.id().to_string();
            let raised = run(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:unlimited"]));
            assert_eq!(raised.code, Some(0), "{raised:?}");
        }
    }
    assert!(child.wait().unwrap().success());
    let answers = String::from_utf8(lines).unwrap();
    let n_answers = answers.lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!(n_answers, n_pictures, "every picture has its answer");
    assert!(is_raised);
    let decoded = bench.logs("d.log");
    assert_clean(&decoded);
    let (n, lost) = count(&decoded);
    assert!(lost > 0, "{n} messages, nothing lost");
    assert_eq!(n + lost, FRAMES_BEFORE + FRAMES_A_PICTURE * n_pictures as u64);
}

#[test]
fn readers_of_a_socket_come_and_go_and_stall() {
    let n_pictures = pictures(16_000);
    let bench = Bench::new();
    let socket = bench.path("s.sock");
    // Left by a program that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut command = bench.command("--log unix:s.sock", n_pictures);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let mut stalled = UnixStream::connect(&socket).unwrap();
    drop(UnixStream::connect(&socket).unwrap());
    let fast = UnixStream::connect(&socket).unwrap();
    let read = |mut stream: UnixStream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    };
    let fast = thread::spawn(move || read(fast));
    let second = bench.run("--log unix:s.sock", 1);
    let expected = "error: cannot write the log unix:s.sock: another program writes to it\n";
    assert_eq!((second.code, second.stderr.as_str()), (Some(1), expected));
    // Far more pictures than the stalled reader's buffer has room for.
    for _ in 0..n_pictures / 2 {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0);
    }
    stalled.set_read_timeout(Some(PATIENCE)).unwrap();
    let slow = thread::spawn(move || {
        let mut bytes = vec![0; 1];
        stalled.read_exact(&mut bytes).unwrap();
        [bytes, read(stalled)].concat()
    });
    let rest = out.lines().map(Result::unwrap).filter(|line| line.starts_with("  ")).count();
    assert!(rest > 0 && child.wait().unwrap().success());
    assert!(!socket.exists(), "the name goes with the program");
    let total = FRAMES_BEFORE + FRAMES_A_PICTURE * n_pictures as u64;
    for (name, bytes) in [("slow", slow.join().unwrap()), ("fast", fast.join().unwrap())] {
        assert!(bytes.starts_with(b"\0vgg-edge-log 1 build="), "{name}");
        fs::write(bench.path(name), &bytes).unwrap();
        let decoded = bench.logs(name);
        assert_eq!(decoded.code, Some(0), "{}", decoded.stderr);
        let note = String::from_utf8_lossy(&bytes[1..400]).into_owned();
        let before: u64 = note.split('\0').next().unwrap().split_once("frames=").unwrap().1.parse().unwrap();
        let (n, lost) = count(&decoded);
        println!("{name}: {before} frames before, {n} read, {lost} lost");
        assert!(before > 0 && n > 0 && before + n + lost <= total, "{before} + {n} + {lost}");
        if name == "slow" {
            assert!(lost > 0, "{n} read");
        }
    }

    // Nobody reads.
    let ran = bench.run("--log unix:s.sock", 500);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    // What is no socket stays.
    fs::write(&socket, "a file").unwrap();
    let ran = bench.run("--log unix:s.sock", 1);
    let expected = "error: cannot write the log unix:s.sock: something that is no socket has this name\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), expected));
    assert_eq!(fs::read(&socket).unwrap(), b"a file");
}

#[test]
fn logs_reads_a_socket() {
    let bench = Bench::new();
    let mut child =
        bench.command("--log unix:s.sock", pictures(16_000)).stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut child, || bench.path("s.sock").exists()));
    let decoded = bench.logs("unix:s.sock");
    assert_eq!(decoded.code, Some(0), "{}", decoded.stderr);
    assert!(count(&decoded).0 > 0 && decoded.stdout.starts_with("-- classify 0.1.0"), "{decoded:?}");
    let gone = bench.logs("unix:s.sock");
    assert!(child.wait().unwrap().success());
    assert_eq!(gone.stderr, "error: stream unix:s.sock: No such file or directory (os error 2)\n");
}

/// The build that a log's first note names.
fn build_of(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    text.split_once("build=").unwrap().1.split(' ').next().unwrap().to_owned()
}

#[test]
fn another_builds_program_is_refused_by_name() {
    let bench = Bench::new();
    assert_eq!(bench.run("--log d.log", 1).code, Some(0));
    let build = build_of(&bench.path("d.log"));
    // Another build: its id, 20 bytes, is another.
    let id: Vec<u8> = (0..20).map(|i| u8::from_str_radix(&build[2 * i..2 * i + 2], 16).unwrap()).collect();
    let mut elf = fs::read(program()).unwrap();
    let at = elf.windows(20).position(|bytes| bytes == id).unwrap();
    elf[at] ^= 0xff;
    let other = bench.path("other");
    fs::write(&other, elf).unwrap();
    let other_build = format!("{:02x}{}", id[0] ^ 0xff, &build[2..]);
    let refused = run(&mut bench.logs_command("d.log", &other));
    assert_eq!(refused.code, Some(1));
    let expected_wrong = format!(
        "error: stream was written by build {build}, this program is build {other_build}\n\nhint: pass the unstripped \
         program of that build with `--elf`, or build and deploy the program again\n"
    );
    assert_eq!(refused.stderr, expected_wrong);
    assert!(!refused.stdout.contains("INFO"), "{}", refused.stdout);
    let forced = run(&mut bench.logs_command("d.log --any-build", &other));
    assert_clean(&forced);
    assert_eq!(count(&forced).0, FRAMES_BEFORE + FRAMES_A_PICTURE);

    // The stream of a program that names no build, and one cut off at its front.
    let bytes = fs::read(bench.path("d.log")).unwrap();
    let end_of_note = bytes.iter().skip(1).position(|&byte| byte == 0).unwrap() + 2;
    fs::write(bench.path("old.log"), &bytes[end_of_note..]).unwrap();
    let refused = bench.logs("old.log");
    assert_eq!(refused.code, Some(1));
    let expected = format!(
        "error: stream was written by an unknown build, this program is build {build}\n\nhint: if this is the program \
         that wrote it, decode it with `--any-build`; other messages would be wrong\n"
    );
    assert_eq!(refused.stderr, expected);
    let forced = bench.logs("old.log --any-build");
    assert_clean(&forced);
    assert_eq!(count(&forced).0, FRAMES_BEFORE + FRAMES_A_PICTURE);
    fs::write(bench.path("noise.log"), [[0x55; 64], [0; 64]].concat()).unwrap();
    assert_eq!(bench.logs("noise.log").code, Some(1));
    let noise = bench.logs("noise.log --any-build");
    assert_eq!((noise.code, noise.stderr.lines().count()), (Some(0), 1), "{}", noise.stderr);

    // A socket, whose stream has no end.
    let listener = std::os::unix::net::UnixListener::bind(bench.path("s.sock")).unwrap();
    let stream = bytes.clone();
    let writer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(&stream).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "the reader has gone");
    });
    let refused = run(&mut bench.logs_command("unix:s.sock", &other));
    assert_eq!((refused.code, refused.stderr), (Some(1), expected_wrong));
    writer.join().unwrap();

    // The program was replaced: what is of this build is decoded.
    let text = String::from_utf8_lossy(&bytes[..end_of_note]).replace(&build, &other_build);
    let mixed = [text.as_bytes(), &bytes[end_of_note..], &bytes].concat();
    fs::write(bench.path("mixed.log"), mixed).unwrap();
    let decoded = bench.logs("mixed.log");
    assert_eq!(decoded.code, Some(0));
    assert_eq!(count(&decoded).0, FRAMES_BEFORE + FRAMES_A_PICTURE);
    let skipped = FRAMES_BEFORE + FRAMES_A_PICTURE;
    let expected = format!("warning: {skipped} frames skipped: written by build {other_build}\n");
    assert_eq!(decoded.stderr, expected);
}

#[test]
fn text_needs_no_unstripped_program() {
    let bench = Bench::new();
    fs::write(bench.path("bad\n0.1 ERROR no.jpg"), "no picture").unwrap();
    let mut command = bench.command("--log-format text --log stderr", 1);
    let ran = run(command.arg("bad\n0.1 ERROR no.jpg"));
    assert_eq!(ran.code, Some(1));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        lines[0].starts_with("vgg-edge-log 1 build=") && lines[0].contains(" started=20"),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains(" INFO  model loaded: 10 layers, "), "{}", lines[1]);
    let shown = "cannot classify bad\\n0.1 ERROR no.jpg: ";
    assert!(lines.iter().any(|line| line.contains(" ERROR ") && line.contains(shown)), "{}", ran.stderr);
    fs::write(bench.path("t.log"), &ran.stderr).unwrap();
    // As the journal has it: other lines around.
    let decoded = run(&mut bench.logs_command("t.log --level error", Path::new("no/such/file")));
    assert_clean(&decoded);
    assert!(decoded.stdout.lines().any(|line| line.contains(" ERROR ")), "{}", decoded.stdout);
    assert!(!decoded.stdout.contains(" INFO "), "{}", decoded.stdout);

    // Both forms say the same.
    assert_eq!(bench.run("--log d.log", 1).code, Some(0));
    assert_eq!(bench.run("--log t2.log --log-format text", 1).code, Some(0));
    // Without numbers, of which times are others.
    let words = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("--"));
        let is_word = |word: &&str| word.chars().all(|c| !c.is_ascii_digit()) && !word.contains("::");
        let words = |line: &str| line.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ");
        lines.map(words).collect::<Vec<_>>()
    };
    let [frames, text] = ["d.log --no-locations", "t2.log"].map(|args| words(&bench.logs(args).stdout));
    assert_eq!(frames, text);
}

#[test]
fn a_stripped_program_still_logs_text() {
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"])).stdout;
    let tuple = run(Command::new("rustc").args(["--print", "host-tuple"])).stdout;
    let sysroot = Path::new(sysroot.trim());
    let objcopy = sysroot.join("lib/rustlib").join(tuple.trim()).join("bin/rust-objcopy");
    if !objcopy.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", objcopy.display());
        println!("not run: {} is missing", objcopy.display());
        return;
    }
    let bench = Bench::new();
    let messages = format!("@{}", workspace_root().join("device/classify/messages.rsp").display());
    let strip = |args: &[&str], name: &str| {
        let mut command = Command::new(&objcopy);
        command.args(args).arg(program()).arg(bench.path(name));
        assert_eq!(run(command.env("LD_LIBRARY_PATH", sysroot.join("lib"))).code, Some(0));
        let original = classify();
        let words: Vec<_> = std::iter::once(original.get_program()).chain(original.get_args()).collect();
        // The emulator's words stay.
        let mut words = words[..words.len() - 1].iter();
        let Some(first) = words.next() else { return Command::new(bench.path(name)) };
        let mut command = Command::new(first);
        command.args(words).arg(bench.path(name));
        command
    };
    let shipped = strip(&["--strip-all", &messages], "shipped");
    let ran = run(&mut bench.command_of(shipped, "--log stderr --log-format text", 1));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(" INFO  result: class "), "{}", ran.stderr);
    // It decodes its own log, too, without places.
    let shipped = bench.path("shipped");
    assert_eq!(bench.run("--log d.log", 1).code, Some(0));
    let decoded = run(&mut bench.logs_command("d.log", &shipped));
    assert_clean(&decoded);
    assert_eq!(count(&decoded).0, FRAMES_BEFORE + FRAMES_A_PICTURE);

    let bare = strip(&["--strip-all"], "bare");
    let ran = run(&mut bench.command_of(bare, "--log stderr --log-format text", 1));
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stderr,
        "error: cannot write the log stderr: this program has no messages to make text of: all its symbols were \
         stripped\n\nhint: use `--log-format defmt`, or the program as `cargo xtask build` makes it\n"
    );
}

#[test]
fn options_that_act_on_nothing_are_wrong_usage() {
    let bench = Bench::new();
    for (args, option) in [
        ("--log-format text", "--log-format <FORMAT>' cannot be used without '--log <SINK>"),
        ("--log stderr --log-size 8", "--log-size <KIB>' cannot be used without '--log <FILE>"),
        ("--log unix:s --log-files 2", "--log-files <N>' cannot be used without '--log <FILE>"),
        ("--log-size 3", "3 is not in 4.."),
    ] {
        let ran = bench.run(args, 1);
        assert!(ran.code == Some(2) && ran.stderr.contains(option), "{ran:?}");
    }
    fs::create_dir(bench.path("folder")).unwrap();
    let ran = bench.run("--log folder", 1);
    assert_eq!(ran.stderr, "error: cannot write the log folder: not a regular file\n");
}

#[test]
fn following_misses_no_rotation() {
    let n_pictures = pictures(6_000);
    let bench = Bench::new();
    let args = "--log d.log --log-size 16 --log-files 200";
    let mut child = bench.command(args, n_pictures).stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut child, || len(&bench.path("d.log")) > 0));
    let mut command = bench.logs_command("d.log --follow --no-locations", &program());
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let total = FRAMES_BEFORE + FRAMES_A_PICTURE * n_pictures as u64;
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let watchdog = follower.id();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let guard = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE).is_err() {
            let _ = Command::new("kill").arg(watchdog.to_string()).status();
        }
    });
    let messages = lines.map(Result::unwrap).filter(|line| !line.starts_with("--"));
    let n = messages.take(total as usize).count() as u64;
    done.send(()).unwrap();
    guard.join().unwrap();
    let _ = (follower.kill(), follower.wait());
    assert!(child.wait().unwrap().success());
    assert_eq!(n, total);
    assert!(bench.path("d.log.3").exists(), "it was rotated");
}
