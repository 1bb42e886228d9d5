//! `cargo xtask bench --cpu` from outside: usage, and what has to be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit code and standard error, with nothing but `programs` on the path.
fn bench(words: &str, programs: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let ran = command.arg("bench").args(words.split_whitespace()).env("PATH", programs).output().unwrap();
    assert!(ran.stdout.is_empty(), "{}", String::from_utf8_lossy(&ran.stdout));
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

/// A folder that goes away with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xtask-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A program that is a shell script.
    #[cfg(unix)]
    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn wrong_usage_is_2() {
    let folder = Folder::new("usage");
    for (words, expected) in [
        (
            "--cpu a72",
            "error: invalid value 'a72' for '--cpu <CPU>'\n  [possible values: cortex-a53, cortex-a72, cortex-a76, \
             max]\n\nFor more information, try '--help'.\n",
        ),
        (
            "m.vgg --memory",
            "error: the following required arguments were not provided:\n  --cpu <CPU>\n\nUsage: cargo xtask bench \
             --cpu <CPU> --memory <MODEL> [-- <OPTIONS>...]\n\nFor more information, try '--help'.\n",
        ),
        (
            "--cpu max --against x.tsv",
            "error: the following required arguments were not provided:\n  <MODEL>\n\nUsage: cargo xtask bench --cpu \
             <CPU> --against <COUNTS.tsv> <MODEL> [-- <OPTIONS>...]\n\nFor more information, try '--help'.\n",
        ),
        (
            "--cpu max m.vgg -- --runs 3",
            "error: the argument '--cpu <CPU>' cannot be used with '[OPTIONS]...'\n\nUsage: cargo xtask bench --cpu \
             <CPU> <MODEL> [-- <OPTIONS>...]\n\nFor more information, try '--help'.\n",
        ),
    ] {
        assert_eq!(bench(words, &folder.0), (Some(2), expected.to_owned()), "{words}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_missing_is_named_with_its_package() {
    let folder = Folder::new("missing");
    let error = || bench("--cpu cortex-a72", &folder.0);
    let fails = |text: &str| (Some(1), format!("error: {text}\n"));
    assert_eq!(error(), fails("qemu-aarch64 is not on the path: it is in Debian's package qemu-user"));
    folder.program("qemu-aarch64", "echo '-cpu  QEMU_CPU'");
    assert_eq!(error(), fails("cc is not on the path, it builds the counter: it is in Debian's package gcc"));
    folder.program("cc", "exit 1");
    assert_eq!(
        error(),
        fails(
            "qemu-aarch64 was built without plugins, which count instructions: Debian's package qemu-user has them"
        )
    );
}
