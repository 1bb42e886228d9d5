//! Words and scripts for a POSIX shell: what a board's `sh` runs, whatever is in a name.
//!
//! ```
//! use vgg_edge_host::deploy::shell::word;
//! assert_eq!((word("a-b.c").as_str(), word("it's").as_str()), ("a-b.c", r"'it'\''s'"));
//! ```

use std::fmt::Write;

/// `text` as one word of a POSIX shell: nothing in it is special.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `text` as one word of rsync's `-e`, which has no escapes but doubled quotes.
pub(crate) fn rsync_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A script for `sh -s`, which reads it from its standard input: no other shell sees it, whatever the user's is.
///
/// The text is a function that its last line calls, so that a script cut off on its way does nothing; and what it runs
/// cannot read the rest of it.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    variables: String,
    body: &'static str,
}

impl Script {
    /// A script of commands that fail together: the first one that fails ends it.
    pub(crate) fn new(body: &'static str) -> Self {
        Self { variables: String::new(), body }
    }

    /// Sets a variable of the shell.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        // Writing to a string never fails.
        let _ = writeln!(self.variables, "{name}={}", word(value));
        self
    }

    /// The text for the shell's standard input.
    pub(crate) fn text(&self) -> String {
        let Self { variables, body } = self;
        format!(
            "vgg_edge() {{\nset -eu\numask 022\nexport LC_ALL=C\n{variables}{PRELUDE}{body}\n}}\nvgg_edge </dev/null\n"
        )
    }
}

/// What every script may use.
const PRELUDE: &str = r#"
fail() { echo "$*" >&2; exit 1; }
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// What `sh -s` prints for a text on its standard input.
    fn sh(text: &str) -> (Option<i32>, String) {
        let mut child = Command::new("sh")
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn every_text_is_one_word() {
        for text in [
            "", "a b", "it's", "'", "$HOME", "`id`", "$(id)", "a\nb", "*", "~", "-n", "\\", "\"", "!", "é",
            "#",
        ] {
            let found = sh(&format!("printf %s {}", word(text)));
            assert_eq!(found, (Some(0), text.to_owned()), "{text:?}");
            let script = Script::new(r#"printf %s "$value""#).set("value", text);
            assert_eq!(sh(&script.text()), (Some(0), text.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_script_that_is_cut_off_does_nothing() {
        let text = Script::new("echo done\ncat\necho too").text();
        assert_eq!(sh(&text), (Some(0), "done\ntoo\n".to_owned()), "nothing in it reads the script");
        for end in 0..text.len() - "vgg_edge </dev/null\n".len() {
            assert_eq!(sh(&text[..end]).1, "", "cut at {end}");
        }
        let failing = Script::new("false\necho too").text();
        assert_eq!(sh(&failing), (Some(1), String::new()));
    }
}
