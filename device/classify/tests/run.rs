//! `classify run`: which pictures it takes, in which order it answers, what it says meanwhile.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use snapbox::assert_data_eq;
use snapbox::str;

mod running;

use running::{Folder, engine_pictures};

/// The names in `--json` lines.
fn names(stdout: &str) -> Vec<String> {
    let name =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["image"].as_str().unwrap().to_owned();
    stdout.lines().map(name).collect()
}

/// Pictures two folders deep, and what is none.
fn album() -> Folder {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("album/deep/er")).unwrap();
    for (picture, name) in [
        ("rgb.png", "b.png"),
        ("rgb.bmp", "a.BMP"),
        ("lossy.webp", "deep/z.webp"),
        ("luma.jpg", "deep/er/c.Jpeg"),
        ("upright6.jpg", "e.jpg"),
        ("rgb.png", ".hidden.png"),
        ("rgb.png", "b.png.part"),
    ] {
        fs::copy(engine_pictures().join(picture), folder.path("album").join(name)).unwrap();
    }
    fs::write(folder.path("album/notes.txt"), "no picture").unwrap();
    fs::create_dir(folder.path("empty")).unwrap();
    folder
}

const ALBUM: [&str; 5] =
    ["album/a.BMP", "album/b.png", "album/deep/er/c.Jpeg", "album/deep/z.webp", "album/e.jpg"];

#[test]
fn folders_give_their_pictures_in_the_order_of_names() {
    let folder = album();
    let ran = folder.run("run model.vgg --json album");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(names(&ran.stdout), ALBUM);
    // A link to a folder is followed where it is named, not where it is found; one to a picture is one.
    std::os::unix::fs::symlink("..", folder.path("album/deep/loop")).unwrap();
    std::os::unix::fs::symlink("b.png", folder.path("album/link.png")).unwrap();
    std::os::unix::fs::symlink("album", folder.path("linked")).unwrap();
    let ran = folder.run("run model.vgg --json linked linked/link.png");
    let expected: Vec<String> = ALBUM.map(|name| name.replace("album", "linked")).to_vec();
    assert_eq!(names(&ran.stdout), [expected, vec!["linked/link.png".to_owned(); 2]].concat());
    // For people: a name before the classes, even of one picture, since it was not named.
    let ran = folder.run("run model.vgg --top 1 album/deep/er");
    assert!(ran.stdout.starts_with("album/deep/er/c.Jpeg\n  0."), "{ran:?}");
}

#[test]
fn patterns_are_expanded_where_no_shell_did() {
    let folder = album();
    let images = |args: &str| {
        let ran = folder.run(&format!("run model.vgg --json {args}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args}");
        names(&ran.stdout)
    };
    assert_eq!(images("album/*.png"), ["album/b.png"]);
    assert_eq!(images("album/[a-d].*g album/?.BMP"), ["album/b.png", "album/a.BMP"]);
    assert_eq!(images("album/**/*.webp"), ["album/deep/z.webp"]);
    assert_eq!(images("album/d*"), ["album/deep/er/c.Jpeg", "album/deep/z.webp"]);
    // A file of that very name comes first.
    fs::copy(folder.path("album/b.png"), folder.path("album/[b].png")).unwrap();
    assert_eq!(images("album/[b].png"), ["album/[b].png"]);
}

#[test]
fn standard_input_is_a_picture() {
    let folder = album();
    let picture = fs::read(folder.path("album/b.png")).unwrap();
    let with_input = |args: &str, input: &[u8]| {
        let mut command = folder.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        running::finished(child)
    };
    let named = folder.run("run model.vgg --json --no-times album/b.png");
    let ran = with_input("run model.vgg --json --no-times -", &picture);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout, named.stdout.replace("album/b.png", "-"));
    let ran = with_input("run model.vgg --json album/e.jpg - album/b.png", &picture);
    assert_eq!(names(&ran.stdout), ["album/e.jpg", "-", "album/b.png"]);
    let ran = with_input("run model.vgg - --top 1", &picture);
    assert!(ran.stdout.starts_with("  0."), "{ran:?}");
    with_input("run model.vgg -", b"").fails(str![[r#"
error: cannot classify -: 0 bytes, expected a JPEG, PNG, WebP or BMP picture

"#]]);
    let ran = with_input("run model.vgg --json - -", &picture);
    assert_eq!((ran.code, names(&ran.stdout)), (Some(1), vec!["-".to_owned()]));
    assert_data_eq!(
        ran.stderr,
        str![[r#"
error: cannot classify -: standard input was named before, expected it once

"#]]
    );
}

#[test]
fn what_is_missing_is_said_in_its_place_and_the_rest_is_classified() {
    let folder = album();
    let ran = folder.run("run model.vgg --json gone.png album/b.png empty no/*.png album/[ album/e.jpg gone");
    assert_eq!(
        (ran.code, names(&ran.stdout)),
        (Some(1), vec!["album/b.png".to_owned(), "album/e.jpg".to_owned()])
    );
    assert_data_eq!(
        ran.stderr,
        str![[r#"
error: cannot classify gone.png: No such file or directory (os error 2)
error: cannot classify empty: no picture in this folder or below, expected names in .jpg .jpeg .png .webp .bmp
error: cannot classify no/*.png: no file matches this pattern
error: cannot classify album/[: pattern is wrong at character 7: invalid range pattern
error: cannot classify gone: No such file or directory (os error 2)

"#]]
    );
}

#[test]
fn wrong_uses_are_refused() {
    let folder = Folder::new();
    folder.run("run model.vgg --watch . a.png").is(
        2,
        "",
        str![[r#"
error: the argument '--watch <DIR>' cannot be used with '[IMAGE]...'

Usage: classify run --watch <DIR> <MODEL> [IMAGE]...

For more information, try '--help'.

"#]],
    );
    folder.run("run model.vgg a.png --existing").is(
        2,
        "",
        str![[r#"
error: the argument '[IMAGE]...' cannot be used with '--existing'

Usage: classify run <MODEL> <IMAGE>...

For more information, try '--help'.

"#]],
    );
    for args in ["run model.vgg --existing", "run model.vgg a.png --no-times", "run model.vgg"] {
        let ran = folder.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args}");
        assert!(
            ran.stderr.starts_with("error: the following required arguments were not provided:"),
            "{ran:?}"
        );
    }
    folder.run("run model.vgg --watch gone").fails(str![[r#"
error: cannot watch gone: No such file or directory (os error 2)

"#]]);
    folder.run("run model.vgg --watch model.vgg").fails(str![[r#"
error: cannot watch model.vgg: Not a directory (os error 20)

"#]]);
}

/// Small and large pictures and damaged ones: answers and errors keep the order of the arguments.
#[test]
fn the_same_bytes_come_out_for_any_number_of_threads() {
    let folder = album();
    let pictures: Vec<PathBuf> =
        fs::read_dir(engine_pictures()).unwrap().map(|e| e.unwrap().path()).collect();
    for (i, picture) in pictures.iter().filter(|p| p.extension().is_some_and(|e| e != "rgb")).enumerate() {
        let end = picture.extension().unwrap().to_str().unwrap();
        fs::copy(picture, folder.path("album").join(format!("{i}.{end}"))).unwrap();
    }
    // One that takes long to decode, first: 4000 x 4000 pixels.
    fs::write(folder.path("album/!large.bmp"), large_bmp(4000)).unwrap();
    let run = |more: &str| {
        let ran = folder.run(&format!("run model.vgg --json --no-times album album/b.png {more}"));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        (ran.stdout, ran.stderr)
    };
    let expected = run("--threads 1");
    assert!(
        expected.0.lines().count() > 40 && expected.0.starts_with(r#"{"image":"album/!large.bmp","top":"#)
    );
    assert!(expected.0.lines().all(|line| !line.contains("ms")), "{}", expected.0);
    assert_eq!(expected.1.matches("animated WebP picture").count(), 1, "{}", expected.1);
    let sorted = {
        let mut names = names(&expected.0);
        names.pop();
        names.is_sorted()
    };
    assert!(sorted, "{}", expected.0);
    for more in ["--threads 1", "--threads 2", "--threads 5"] {
        assert!(run(more) == expected, "{more}");
    }
}

/// Rows of one gray each, 24 bit.
fn large_bmp(side: u32) -> Vec<u8> {
    let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.extend([side.to_le_bytes(), side.to_le_bytes()].concat());
    bytes.extend([&[1, 0, 24, 0][..], &[0; 24]].concat());
    (0..side).for_each(|y| bytes.extend(vec![y as u8; side as usize * 3]));
    bytes
}

/// Every format of one picture is the same to the network, and a camera that was held sideways changes nothing.
#[test]
fn formats_and_orientations_do_not_matter() {
    let folder = Folder::new();
    let mut answers = Vec::new();
    for name in ["rgb.png", "rgb.bmp", "top_down.bmp", "lossless.webp", "upright1.png"] {
        let path = engine_pictures().join(name);
        let ran = folder.run(&format!("run model.vgg {}", path.display()));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        answers.push(ran.stdout);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let upright = |n: u32, end: &str| {
        let path = engine_pictures().join(format!("upright{n}.{end}"));
        folder.run(&format!("run model.vgg {}", path.display())).stdout
    };
    for n in 2..=8 {
        assert_eq!(upright(n, "png"), upright(n, "webp"), "{n}");
        assert_ne!(upright(n, "png"), upright(1, "png"), "{n}");
    }
}

/// A network whose values leave the range of f32 is an error: JSON has no NaN.
#[test]
fn overflow_is_an_error_that_names_the_picture() {
    let folder = Folder::new();
    folder.write("overflow.vgg", &running::overflowing());
    fs::copy(engine_pictures().join("rgb.png"), folder.path("a.png")).unwrap();
    for more in ["", "--json"] {
        let ran = folder.run(&format!("run overflow.vgg a.png {more}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        let (start, end) =
            ("error: cannot classify a.png: the network gives ", " of 4, expected finite numbers\n");
        assert!(ran.stderr.starts_with(start) && ran.stderr.ends_with(end), "{ran:?}");
    }
}

/// What a terminal on stderr gets, stdout being a file.
fn on_a_terminal(folder: &Folder, args: &str) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(Path::new(path.to_str().unwrap())).unwrap();
    let mut command = folder.command(args);
    let mut child = command.stdout(Stdio::null()).stderr(terminal).spawn().unwrap();
    // Our copy of the terminal must go, or reading never ends.
    drop(command);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut master = File::from(master);
    // Linux says EIO at the end.
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        bytes.extend(&buffer[..n]);
    }
    assert!(child.wait().unwrap().code().is_some());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn progress_is_shown_on_a_terminal_alone_and_cleared() {
    let folder = album();
    let seen = on_a_terminal(&folder, "run model.vgg album");
    assert!(seen.starts_with("\r0/5 pictures"), "{seen:?}");
    assert!(!seen.contains('\n') && !seen.contains('\u{1b}'), "{seen:?}");
    // What is left on the line are spaces.
    let last: Vec<&str> = seen.trim_end_matches('\r').rsplit('\r').collect();
    assert!(last[0].trim().is_empty() && !last[0].is_empty(), "{seen:?}");
    // An error gets a line of its own.
    let seen = on_a_terminal(&folder, "run model.vgg gone.png album");
    let error = seen.find("\rerror: cannot classify gone.png").expect(&seen);
    assert!(seen[..error].ends_with(' '), "{seen:?}");
    for args in ["run model.vgg album/b.png", "run model.vgg album -v"] {
        assert!(!on_a_terminal(&folder, args).contains("pictures"), "{args}");
    }
    assert_eq!(folder.run("run model.vgg album").stderr, "");
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let folder = album();
    let many = "album ".repeat(400);
    let mut command: Command = folder.command(&format!("run model.vgg --json {many}"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ran = running::finished(child);
    assert_eq!((ran.code, ran.stderr.as_str(), &first), (Some(0), "", br#"{"image":""#));
}
