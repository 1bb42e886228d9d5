//! `deploy`: builds the board's program where one is needed, then lets the host program do the rest.
//!
//! ```text
//! deploy MODEL.vgg --host ..                   build ─► vgg-edge deploy --program .. MODEL.vgg --host ..
//! deploy status|rollback .., --program FILE    vgg-edge deploy ..
//! ```

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use crate::{build, host};

/// Runs the host program's `deploy`.
pub(crate) fn run(args: &host::Args) -> anyhow::Result<ExitCode> {
    if !needs_program(&args.args) {
        return host::run("deploy", args);
    }
    let program = build::stripped(build::CLASSIFY)?;
    let own = [OsString::from("--program"), program.into_os_string()];
    host::run("deploy", &host::Args { args: own.into_iter().chain(args.args.iter().cloned()).collect() })
}

/// Whether these arguments send the program that `build` makes.
fn needs_program<S: AsRef<OsStr>>(args: &[S]) -> bool {
    let is = |word: &OsStr, names: &[&str]| names.iter().any(|name| word == *name);
    let other = args.first().is_none_or(|first| is(first.as_ref(), &["status", "rollback", "help"]));
    let own = args.iter().any(|arg| {
        let arg = arg.as_ref();
        is(arg, &["--program", "--help", "-h"]) || arg.as_encoded_bytes().starts_with(b"--program=")
    });
    !other && !own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_built_where_it_is_sent() {
        let needs = |words: &str| needs_program(&words.split_whitespace().collect::<Vec<_>>());
        assert!(needs("m.vgg --host pi@board"));
        assert!(needs("--host pi@board m.vgg --dry-run"));
        for words in [
            "",
            "status --host pi@board",
            "rollback --host pi@board",
            "help",
            "--help",
            "m.vgg -h",
            "m.vgg --host pi@board --program target/board/classify",
            "m.vgg --program=classify --host pi@board",
        ] {
            assert!(!needs(words), "{words}");
        }
    }
}
