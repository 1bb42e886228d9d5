//! What a program did: its exit code and what it wrote.
#![allow(dead_code, reason = "each test program uses a part")]

use std::process::Output;

use snapbox::assert_data_eq;
use snapbox::data::Data;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    pub(crate) fn is(self, code: i32, stdout: impl Into<Data>, stderr: impl Into<Data>) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_data_eq!(self.stdout, stdout.into());
        assert_data_eq!(self.stderr, stderr.into());
    }

    pub(crate) fn fails(self, stderr: impl Into<Data>) {
        self.is(1, "", stderr);
    }
}
