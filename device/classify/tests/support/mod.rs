//! A network that says which of red, green and blue a picture has most of; and programs run in a folder.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod colours;
mod ran;

use std::path::Path;
use std::process::Command;

use vgg_edge_blob::ChannelOrder;

use colours::{End, network};
pub(crate) use ran::Ran;

/// The model file of classes `red`, `green` and `blue`; of the features before them without `is_classifier`.
pub(crate) fn model(is_classifier: bool) -> Vec<u8> {
    match is_classifier {
        true => colours::model(&["red", "green", "blue"], None),
        false => network(ChannelOrder::Rgb, End::Means, &[], None),
    }
}

/// Runs `command` in `dir` to its end; a minute at most.
pub(crate) fn run(command: &Command, dir: &Path) -> Ran {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", "60"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(dir);
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    Ran::of(limited.output().unwrap())
}

/// The program itself, with these arguments.
pub(crate) fn classify(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
    command.args(args.split_whitespace());
    command
}

/// A JPEG picture without its Huffman tables, as cameras send it.
pub(crate) fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut bare, mut at) = (jpeg[..2].to_vec(), 2);
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            bare.extend_from_slice(&jpeg[at..end]);
        }
        at = end;
    }
    bare.extend_from_slice(&jpeg[at..]);
    bare
}
