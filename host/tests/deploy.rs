//! Deployment to boards behind a real sshd: installs, upgrades, and every way to fail, which leaves what runs as it is.
//!
//! systemctl is a stand-in (`support/board.rs` says what it does); all else is real, the service too.

#[path = "support/board.rs"]
mod board;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use board::Board;
use serde_json::Value;
use vgg_edge_blob::{NewModel, Scheme};
use vgg_edge_tests::{Ran, run, vgg_of_two_blocks, winograd_of_two_blocks};

fn save(model: NewModel, path: &Path) {
    let bytes = vgg_edge_host::pack::to_bytes(model).unwrap();
    fs::write(path, bytes.as_slice()).unwrap();
}

/// `a.vgg` and, another one, `b.vgg`.
fn models(board: &Board) {
    save(vgg_of_two_blocks(Scheme::Int8), &board.path("a.vgg"));
    save(winograd_of_two_blocks(), &board.path("b.vgg"));
}

/// `deploy` must succeed.
fn deploys(board: &Board, words: &str) -> Ran {
    let ran = board.deploy(words);
    assert_eq!(ran.code, Some(0), "{words}: {}", ran.stderr);
    ran
}

/// `deploy` must fail; its standard error holds `expected`.
fn fails(board: &Board, words: &str, expected: &str) -> Ran {
    let ran = board.deploy(words);
    assert_eq!(ran.code, Some(1), "{words}: {}", ran.stderr);
    assert!(ran.stderr.contains(expected), "{words}: {}\nexpected: {expected}", ran.stderr);
    ran
}

/// The first host of `--json`.
fn first(ran: &Ran) -> Value {
    let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stdout));
    value["hosts"][0].clone()
}

fn host(board: &Board, words: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    run(command.args(words.split_whitespace()).current_dir(board.path("")))
}

#[test]
fn a_signed_model_is_installed_upgraded_and_taken_back() {
    let Some(board) = Board::new() else { return };
    models(&board);
    fs::write(board.path("token.txt"), "let-me-in-please\n").unwrap();
    assert_eq!(host(&board, "keygen k.key").code, Some(0));
    let mode = fs::metadata(board.path("k.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    for model in ["a.vgg", "b.vgg"] {
        assert_eq!(host(&board, &format!("sign {model} --key k.key")).code, Some(0));
    }

    // First install.
    let ran = deploys(&board, "a.vgg --public-key k.pub --token-file token.txt --json");
    let row = first(&ran);
    let a = row["release"].as_str().unwrap().to_owned();
    assert_eq!((row["result"].as_str(), &row["previous"]), (Some("done"), &Value::Null));
    assert!(row["kernel"].as_str().unwrap().contains("-s8-"), "{row}");
    let steps: Vec<&str> =
        row["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["connect", "probe", "copy", "checksum", "verify", "switch", "smoke", "prune"]);
    assert_eq!((board.current(), board.releases()), (a.clone(), vec![a.clone()]));
    let release = board.path("opt/releases").join(&a);
    let mode = |name: &str| fs::metadata(release.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("classify"), mode("model.vgg"), mode("token"), mode("")), (0o755, 0o644, 0o600, 0o755));
    assert_eq!(fs::read(release.join("model.vgg")).unwrap(), fs::read(board.path("a.vgg")).unwrap());
    let told = [
        "daemon-reload",
        "reset-failed vgg-edge.service",
        "enable vgg-edge.service",
        "restart vgg-edge.service",
    ];
    assert_eq!(board.told(), told);
    let unit = fs::read_to_string(board.path("units/vgg-edge.service")).unwrap();
    assert!(unit.contains("/opt/current/classify serve ") && unit.contains("--public-key"), "{unit}");
    assert!(!board.path("opt/.upload").exists());

    // Upgrade: what the board has already is not sent again.
    let ran = deploys(&board, "b.vgg --public-key k.pub --token-file token.txt --json");
    let row = first(&ran);
    let b = row["release"].as_str().unwrap().to_owned();
    assert_eq!(row["previous"].as_str(), Some(a.as_str()));
    assert_eq!((board.current(), board.releases()), (b.clone(), vec![a.clone(), b.clone()]));

    let status = first(&deploys(&board, "status --json"));
    assert_eq!((status["release"].as_str(), status["previous"].as_str()), (Some(&*b), Some(&*a)));
    assert_eq!((status["model"].as_str(), status["service"].as_str()), (Some("b.vgg"), Some("active")));
    assert_eq!((&status["healthy"], &status["memory_bytes"]), (&Value::Bool(true), &Value::from(4096)));
    let table = deploys(&board, "status").stdout;
    assert!(table.starts_with("host") && table.contains(&b) && table.contains(" yes "), "{table}");

    // Back, and no further.
    let row = first(&deploys(&board, "rollback --json"));
    assert_eq!((row["release"].as_str(), row["result"].as_str()), (Some(&*a), Some("done")));
    assert_eq!((board.current(), board.releases().len()), (a.clone(), 2));
    let expected = format!("switch: {}: no release before {a}", board.path("opt").display());
    fails(&board, "rollback", &expected);
    assert_eq!(board.current(), a);
    deploys(&board, &format!("rollback --to {b}"));
    assert_eq!(board.current(), b);

    // Old ones go; the one before the running one stays.
    deploys(&board, "a.vgg --public-key k.pub --keep 1");
    let left = board.releases();
    assert_eq!((left.len(), left[0].as_str(), left[1].as_str()), (2, &*b, &*board.current()));
}

#[test]
fn files_alone_need_neither_rights_nor_systemd() {
    let Some(board) = Board::new() else { return };
    models(&board);
    board.set("system", "offline\n");
    fails(&board, "a.vgg", "probe: the board's init system is ");
    assert_eq!(board.releases(), Vec::<String>::new());
    let ran = deploys(&board, "a.vgg --no-service");
    assert!(ran.stdout.contains(" done "), "{}", ran.stdout);
    assert_eq!((board.releases().len(), board.told().len()), (1, 0));
    assert!(!board.path("units/vgg-edge.service").exists());
    // A folder below the user's own.
    let row = first(&deploys(&board, "a.vgg --no-service --dry-run --json --prefix ~/x"));
    assert_eq!(row["result"], "planned");
}

#[test]
fn a_dry_run_changes_nothing() {
    let Some(board) = Board::new() else { return };
    models(&board);
    let before = board.listing();
    let ran = deploys(&board, "a.vgg --dry-run");
    let plan: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(": would ")).collect();
    assert_eq!(plan.len(), 8, "{}", ran.stderr);
    assert!(ran.stdout.contains(" planned "), "{}", ran.stdout);
    deploys(&board, "a.vgg");
    let after = board.listing();
    let ran = deploys(&board, "b.vgg --dry-run");
    let back = format!("would go back to {} if that fails", board.current());
    assert!(ran.stderr.contains(&back), "{}", ran.stderr);
    deploys(&board, "rollback --dry-run");
    assert_eq!(board.listing(), after);
    assert_ne!(before, after, "the listing sees changes");
}

/// Cuts the connection while `board` gets a program of several megabytes.
fn cut(board: &Board) {
    models(board);
    deploys(board, "a.vgg");
    let (current, told) = (board.current(), board.told());
    // Behind an ELF file anything may stand: another program, so that there is something to send.
    let mut program = fs::read(board::classify()).unwrap();
    program.extend((0..4 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8));
    fs::write(board.path("classify2"), program).unwrap();
    let port = board::cut_after(2 << 20, board.port);
    let words = format!("b.vgg --host 127.0.0.1:{port}");
    let ran = run(&mut board.command_with(Path::new("classify2"), &words));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: copy: the connection was lost: "), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{current} is still current")), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nhint: run the command again"), "{}", ran.stderr);
    assert_eq!((board.current(), board.told()), (current, told));
    assert!(board.path("opt/.upload").exists(), "it was in the middle of it");
    // The lock went with the connection; what was copied is used or thrown away.
    deploys(board, "b.vgg");
    assert!(!board.path("opt/.upload").exists());
}

#[test]
fn a_connection_that_is_cut_while_rsync_copies_leaves_what_runs() {
    if let Some(board) = Board::new() {
        cut(&board);
    }
}

#[test]
fn a_connection_that_is_cut_while_ssh_alone_copies_leaves_what_runs() {
    if let Some(board) = Board::without("rsync") {
        cut(&board);
    }
}

#[test]
fn what_arrives_otherwise_than_it_was_sent_does_not_run() {
    let Some(board) = Board::new() else { return };
    models(&board);
    deploys(&board, "a.vgg");
    let current = board.current();
    // A board that spoils a file after it came.
    board.program("sha256sum", "printf x >>model.vgg\nexec /usr/bin/sha256sum \"$@\"\n");
    fails(&board, "b.vgg", "error: checksum: model.vgg: FAILED; ");
    assert_eq!((board.current(), board.releases().len()), (current, 1));
}

#[test]
fn a_model_that_fails_its_self_test_there_does_not_run() {
    let Some(board) = Board::new() else { return };
    models(&board);
    deploys(&board, "a.vgg");
    let (current, told) = (board.current(), board.told());
    let mut model = vgg_of_two_blocks(Scheme::Int8);
    if let Some((_, logits)) = &mut model.golden {
        logits[3] += 1.0;
    }
    save(model, &board.path("c.vgg"));
    let ran = fails(&board, "c.vgg", "error: verify: model.vgg: ");
    assert!(ran.stderr.contains(&format!("{current} is still current")), "{}", ran.stderr);
    assert_eq!((board.current(), board.releases().len(), board.told()), (current, 1, told));
}

#[test]
fn a_wrong_signature_is_refused_here_and_there() {
    let Some(board) = Board::new() else { return };
    models(&board);
    for key in ["k", "other"] {
        assert_eq!(host(&board, &format!("keygen {key}.key")).code, Some(0));
    }
    let before = board.listing();
    fails(
        &board,
        "a.vgg --public-key k.pub",
        "error: a.vgg is not signed: there is no a.vgg.sig\n\nhint: sign it",
    );
    assert_eq!(host(&board, "sign a.vgg --key other.key").code, Some(0));
    fails(&board, "a.vgg --public-key k.pub", "error: signature a.vgg.sig: made with key ");
    assert_eq!(host(&board, "sign a.vgg --key k.key").code, Some(0));
    fs::copy(board.path("b.vgg"), board.path("a.vgg")).unwrap();
    fails(&board, "a.vgg --public-key k.pub", "error: signature a.vgg.sig: made for a file of SHA-256 ");
    assert_eq!(board.listing(), before, "no board was touched");

    // On the board: its program says the same of a key that came with another model.
    models(&board);
    deploys(&board, "a.vgg --public-key k.pub");
    let current = board.current();
    // After the checksums were compared, and before the program looks, somebody puts another key there.
    board.program("sync", "cp \"$STATE/../other.pub\" public.key\n");
    fails(&board, "a.vgg --public-key k.pub", "error: verify: signature model.vgg.sig: made with key ");
    assert_eq!((board.current(), board.releases().len()), (current, 1));
}

#[test]
fn a_service_that_fails_its_test_is_taken_back() {
    let Some(board) = Board::new() else { return };
    models(&board);
    // The first one, which answers what another network does: nothing is left.
    save(vgg_of_two_blocks(Scheme::F16), &board.path("other.vgg"));
    board.set("model", board.path("other.vgg").to_str().unwrap());
    let ran = fails(&board, "a.vgg --json", "smoke: POST /v1/classify on 127.0.0.1:");
    let row = first(&ran);
    assert_eq!((row["result"].as_str(), row["error"]["kind"].as_str()), (Some("removed"), Some("http")));
    assert!(row["error"]["message"].as_str().unwrap().contains("place 1 is class "), "{row}");
    assert_eq!((board.current(), board.releases().len()), (String::new(), 0));
    assert!(!board.path("units/vgg-edge.service").exists());
    board.unset("model");

    deploys(&board, "a.vgg");
    let current = board.current();
    let unit = fs::read_to_string(board.path("units/vgg-edge.service")).unwrap();
    // One that takes no picture.
    let ran = fails(&board, "b.vgg --serve-arg=--max-body=1", "status 413, expected 200: ");
    assert!(ran.stderr.contains(&format!("went back to {current}, which runs again")), "{}", ran.stderr);
    assert_eq!((board.current(), board.releases().len()), (current.clone(), 1));
    assert_eq!(fs::read_to_string(board.path("units/vgg-edge.service")).unwrap(), unit);

    // One that does not start.
    let broken = "b.vgg --json --serve-arg=--max-buffered=1";
    let ran =
        fails(&board, broken, "switch: vgg-edge.service does not start: Job for vgg-edge.service failed");
    assert_eq!(first(&ran)["result"], "rolled back");
    assert!(ran.stderr.contains("error: --max-body is 16777216 bytes, expected "), "{}", ran.stderr);
    assert_eq!((board.current(), board.releases().len()), (current.clone(), 1));
    assert_eq!(first(&deploys(&board, "status --json"))["healthy"], true);

    // Neither does the one before: its model was damaged meanwhile.
    fs::write(board.path("damaged"), "no model").unwrap();
    fs::rename(board.path("damaged"), board.path("opt/current/model.vgg")).unwrap();
    let ran = fails(&board, broken, "does not start either: nothing runs");
    assert_eq!((first(&ran)["result"].as_str(), board.current()), (Some("broken"), current));
    let ran = board.deploy("status --json");
    assert_eq!((ran.code, &first(&ran)["healthy"]), (Some(1), &Value::Bool(false)));
}

#[test]
fn a_disk_that_becomes_full_is_named_and_nothing_switches() {
    // No file may be larger than 8 MB: as root and as a user, wherever the tests run.
    let Some(board) = Board::with("trap '' XFSZ; ulimit -f 16384", "/usr/bin:/bin") else { return };
    models(&board);
    let size = fs::metadata(board::classify()).unwrap().len();
    assert!(size > 8 << 20, "the program has {size} bytes");
    let ran = fails(&board, "a.vgg", "error: copy: ");
    assert!(ran.stderr.contains("File too large") && ran.stderr.contains(" kB free"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nhint: make room there"), "{}", ran.stderr);
    assert_eq!((board.current(), board.path("opt/.upload").exists()), (String::new(), false));
}

/// A real small disk: a tmpfs that only this sshd sees, where the system lets us mount one.
#[test]
fn a_small_disk_is_refused_before_and_while_it_fills() {
    let probe = vgg_edge_tests::temp_dir();
    let mut try_it = Command::new("unshare");
    try_it.args(["-m", "mount", "-t", "tmpfs", "-o", "size=4m", "none"]).arg(probe.path());
    if !try_it.output().is_ok_and(|output| output.status.success()) {
        println!(
            "left out: no tmpfs can be mounted here, only root may; the limit on files stands for a full disk"
        );
        return;
    }
    // The shell that would become sshd does so in a mount namespace of its own.
    let enter = r#"exec unshare -m sh -c 'mount -t tmpfs -o size=4m none "${1%/*}/opt" &&
        exec /usr/sbin/sshd -f "$1" -D -e 2>>"$2"' sh "$1" "$2""#;
    let Some(board) = Board::with(enter, "/usr/bin:/bin") else { return };
    models(&board);
    let ran = fails(&board, "a.vgg", "probe: ");
    assert!(ran.stderr.contains(" kB free, the release needs "), "{}", ran.stderr);
    // A disk that says that it has room.
    board.program("df", "echo header; echo none 9999999 0 9999999 0% /\n");
    let ran = fails(&board, "a.vgg", "error: copy: ");
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    assert!(ran.stderr.contains("nothing was deployed there before"), "{}", ran.stderr);
}

#[test]
fn of_two_boards_one_fails_and_the_other_runs() {
    let Some(board) = Board::new() else { return };
    models(&board);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(
        board.path("fleet"),
        format!("# two\ngood {}\nbad nobody@127.0.0.1:{closed}\n", board.address()),
    )
    .unwrap();
    let ran = run(&mut board.command("a.vgg --inventory fleet --jobs 2"));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("host  board"), "{}", ran.stdout);
    assert!(lines[1].starts_with("good") && lines[1].contains(" done "), "{}", ran.stdout);
    assert!(lines[2].starts_with("bad ") && lines[2].contains(" failed "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nbad: connect: cannot connect: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("Connection refused"), "{}", ran.stdout);
    assert!(ran.stderr.contains("error: 1 of 2 hosts failed: bad\n"), "{}", ran.stderr);
    assert!(!board.current().is_empty());
    let twice = run(&mut board.command(&format!("a.vgg --host {0} --host {0}", board.address())));
    assert_eq!(
        (twice.code, twice.stderr),
        (Some(1), format!("error: host `{}` is named twice\n", board.address()))
    );
}

#[test]
fn nobody_deploys_while_another_does() {
    let Some(board) = Board::new() else { return };
    models(&board);
    deploys(&board, "a.vgg --no-service");
    let mut flock = Command::new("flock");
    let mut held = flock.arg(board.path("opt/.lock")).args(["-c", "echo; exec sleep 600"]);
    held = held.stdout(std::process::Stdio::piped());
    let mut child = held.spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let expected =
        format!("copy: another deployment is running: {}/.lock is taken", board.path("opt").display());
    fails(&board, "b.vgg --no-service", &expected);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_does_not_fit_the_board_is_told_before_anything_is_copied() {
    let Some(board) = Board::new() else { return };
    models(&board);
    let mut model = vgg_of_two_blocks(Scheme::Int8);
    model.metadata = r#"{"board": "rpi5"}"#.to_owned();
    save(model, &board.path("p.vgg"));
    let ran = deploys(&board, "p.vgg --dry-run");
    assert!(ran.stderr.contains("warning: p.vgg was planned for rpi5, this is "), "{}", ran.stderr);
    // An Arm program, as far as its header goes; the board is whatever this machine is.
    let mut head = fs::read(board::classify()).unwrap();
    head[18] = if cfg!(target_arch = "x86_64") { 0xb7 } else { 0x3e };
    fs::write(board.path("other"), &head[..4096]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    command.arg("deploy").args(board.ssh_options()).args(["a.vgg", "--program", "other", "--host"]);
    let ran =
        run(command.arg(board.address()).current_dir(board.path("")).stdin(std::process::Stdio::null()));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(", the program is for "), "{}", ran.stderr);
    fs::write(board.path("script"), "#!/bin/sh\necho no program at all\n").unwrap();
    let ran = fails(&board, "a.vgg --program script", "error: program script: not a program for Linux: ");
    assert!(ran.stdout.is_empty());
    assert_eq!(board.releases().len(), 0);
}
