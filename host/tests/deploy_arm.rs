//! Deployment to an emulated Arm board: an arm64 userland (Debian's busybox-static) behind a real sshd.
//!
//! ```text
//! sshd ─► ForceCommand: a user namespace with a binfmt_misc of its own, in which qemu-aarch64 is registered
//!      ─► busybox sh -c COMMAND ─► its tools, and classify for Arm: every program of a session is an Arm one
//! ```
//!
//! `VGG_EDGE_ARM_BUSYBOX` names busybox, `VGG_EDGE_ARM_CLASSIFY` the program; without them this says so and passes: a job sets
//! them. Registering needs Linux 6.7 and user namespaces, but no rights; systemctl is a stand-in as ever, and what it starts
//! is the Arm program: `classify serve`, asked over HTTP.
#![cfg(target_os = "linux")]

#[path = "support/board.rs"]
mod board;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use board::Board;
use serde_json::Value;
use vgg_edge_blob::{NewModel, Scheme};
use vgg_edge_tests::{Ran, TempDir, run, temp_dir, vgg_of_two_blocks, winograd_of_two_blocks};

const EMULATOR: &str = "/usr/bin/qemu-aarch64";

/// `sh ENTER TOOLS [COMMAND]`: runs COMMAND, or that of the session behind the board's stand-ins, in the Arm shell of the folder
/// TOOLS. P: programs keep their own name.
const ENTER: &str = r#"path=$1
if [ $# = 1 ]; then path=$VGG_EDGE_BIN:$1; fi
exec unshare -Urm /bin/sh -c '
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&
printf "%s" ":arm:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64:PF" >/proc/sys/fs/binfmt_misc/register || exit 125
PATH=$1
export PATH
exec "${PATH##*:}/sh" -c "$2"' sh "$path" "${2:-$SSH_ORIGINAL_COMMAND}"
"#;

/// A folder with the Arm tools and the script that enters it.
fn userland(busybox: &Path) -> TempDir {
    let dir = temp_dir();
    let tools = dir.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let list = run(Command::new(EMULATOR).arg(busybox).arg("--list"));
    assert_eq!(list.code, Some(0), "{}", list.stderr);
    for tool in list.stdout.lines() {
        std::os::unix::fs::symlink(busybox, tools.join(tool)).unwrap();
    }
    fs::write(dir.path().join("enter"), ENTER).unwrap();
    dir
}

fn file(variable: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os(variable) else {
        println!("left out: {variable} is not set, no Arm board is emulated");
        return None;
    };
    let path = PathBuf::from(path);
    assert!(path.is_file(), "{variable}: {} is no file", path.display());
    Some(path)
}

fn save(model: NewModel, path: &Path) {
    fs::write(path, vgg_edge_host::pack::to_bytes(model).unwrap().as_slice()).unwrap();
}

fn first(ran: &Ran) -> Value {
    let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    value["hosts"][0].clone()
}

/// What the service answers.
fn get(board: &Board, path: &str) -> Value {
    let mut stream = TcpStream::connect(board.service).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    assert!(head.starts_with("HTTP/1.0 200 ") || head.starts_with("HTTP/1.1 200 "), "{text}");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

#[test]
fn an_emulated_arm_board_is_deployed_to_and_goes_back() {
    let (Some(busybox), Some(program)) = (file("VGG_EDGE_ARM_BUSYBOX"), file("VGG_EDGE_ARM_CLASSIFY")) else {
        return;
    };
    let arm = userland(&busybox);
    let (enter, tools) = (arm.path().join("enter"), arm.path().join("tools"));
    let mut probe = Command::new("sh");
    let ran = run(probe.arg(&enter).arg(&tools).arg("uname -m; exec uname -m"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "aarch64\naarch64\n"), "{}", ran.stderr);
    let force = format!("/usr/bin:/bin\nForceCommand sh {} {}", enter.display(), tools.display());
    let Some(board) = Board::with("", &force) else { return };
    save(vgg_of_two_blocks(Scheme::Int8), &board.path("a.vgg"));
    save(winograd_of_two_blocks(), &board.path("b.vgg"));
    let deploy = |words: &str| {
        run(&mut board.command_with(&program, &format!("{words} --json --host {}", board.address())))
    };

    let ran = deploy("a.vgg");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let row = first(&ran);
    assert!(row["kernel"].as_str().unwrap().starts_with("aarch64-s8-"), "{row}");
    assert_eq!(row["notes"][0], "note: the board has no flock, so nothing keeps another deployment away");
    let a = board.current();
    assert_eq!(row["release"].as_str(), Some(a.as_str()));
    println!("emulated Arm board: {}, {}", row["board"], row["kernel"]);

    let kernel = || get(&board, "/v1/model")["running"]["kernel"].clone();
    assert_eq!(kernel(), row["kernel"]);

    let ran = deploy("b.vgg");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let b = board.current();
    let status = first(&deploy("status "));
    assert_eq!((&status["healthy"], status["release"].as_str()), (&Value::Bool(true), Some(&*b)));
    assert_eq!(status["previous"].as_str(), Some(&*a));
    let ran = deploy("rollback --to x");
    assert_eq!((ran.code, board.current()), (Some(1), b.clone()), "{}", ran.stderr);
    let ran = deploy("rollback ");
    assert_eq!((ran.code, board.current()), (Some(0), a.clone()), "{}", ran.stderr);

    // Versions that fail: one takes no picture, one does not start.
    for (option, expected) in [
        ("--max-body=1", "smoke: POST /v1/classify"),
        (
            "--max-buffered=1",
            "error: --max-body is 16777216 bytes, expected --max-buffered (1 bytes) or less",
        ),
    ] {
        let ran = deploy(&format!("b.vgg --serve-arg={option}"));
        assert_eq!((ran.code, first(&ran)["result"].as_str()), (Some(1), Some("rolled back")), "{option}");
        assert!(ran.stderr.contains(expected) && board.current() == a, "{option}: {}", ran.stderr);
        assert_eq!(kernel(), row["kernel"], "{option}");
    }
    let status = first(&deploy("status "));
    assert_eq!((status["healthy"].as_bool(), status["release"].as_str()), (Some(true), Some(a.as_str())));

    // This machine's program is none for it.
    if cfg!(target_arch = "x86_64") {
        let mut command = board.command(&format!("a.vgg --host {}", board.address()));
        let ran = run(command.stdin(Stdio::null()));
        assert_eq!(ran.code, Some(1));
        let expected = "error: probe: the board is aarch64, the program is for x86_64";
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}
