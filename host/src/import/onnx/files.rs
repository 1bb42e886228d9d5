//! The files that hold a model's weights: its own, and those beside it (external data).
//!
//! ```text
//! location `weights/net.data`, offset 4096, length 2304  ─► bytes of FOLDER/weights/net.data
//! ```
//!
//! A location is a path inside the model's folder, links followed: no file of the user's elsewhere can be read by a model.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::OnnxProblem;
use super::model::External;
use super::wire::Wire;
use crate::import::Problem;
use crate::import::stored::Source;

/// The model's file, which is number 0, then others as they are met.
pub(super) struct Files {
    pub(super) model: Wire,
    others: Vec<Source>,
    /// The model's folder.
    folder: PathBuf,
    /// Number of each file by its path, links followed: one file under two names is one.
    numbers: HashMap<PathBuf, usize>,
}

impl Files {
    pub(super) fn new(model: Wire, path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let numbers = path.canonicalize().map(|path| (path, 0)).into_iter().collect();
        Self { model, others: Vec::new(), folder, numbers }
    }

    /// File `number`.
    pub(super) fn source(&mut self, number: usize) -> &mut Source {
        match number.checked_sub(1) {
            None => &mut self.model.source,
            Some(i) => &mut self.others[i],
        }
    }

    /// Bytes of all files.
    pub(super) fn len(&self) -> u64 {
        self.model.source.len() + self.others.iter().map(Source::len).sum::<u64>()
    }

    /// Values that no file holds as they are; their number.
    pub(super) fn add(&mut self, bytes: Vec<u8>) -> usize {
        self.others.push(Source::of_bytes(bytes));
        self.others.len()
    }

    /// Number of the file, first byte and length of what `external` says, `need` bytes if it does not say how many.
    pub(super) fn external(
        &mut self,
        tensor: &str,
        external: &External,
        need: u64,
    ) -> Result<(usize, u64, u64), Problem> {
        let problem = |text: String| -> Problem {
            OnnxProblem::External {
                tensor: tensor.into(),
                location: external.location.as_str().into(),
                problem: text.into(),
            }
            .into()
        };
        let number = self.open(&external.location).map_err(problem)?;
        let length = external.length.unwrap_or(need);
        let len = self.source(number).len();
        match external.offset.checked_add(length) {
            Some(end) if end <= len => Ok((number, external.offset, length)),
            end => {
                let end = end.map_or_else(|| "beyond any file".into(), |end| format!("at byte {end}"));
                Err(problem(format!("ends {end}, but the file has {len} bytes")))
            }
        }
    }

    /// Number of the file at `location`, opened once; or what is wrong with it.
    fn open(&mut self, location: &str) -> Result<usize, String> {
        let relative = Path::new(location);
        let is_plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !is_plain {
            return Err("expected a path inside the model's folder".into());
        }
        let cannot_read = |e: io::Error| format!("cannot read: {e}");
        let path = self.folder.join(relative).canonicalize().map_err(cannot_read)?;
        if !path.starts_with(self.folder.canonicalize().map_err(cannot_read)?) {
            return Err("is a link that leads out of the model's folder".into());
        }
        if let Some(number) = self.numbers.get(&path) {
            return Ok(*number);
        }
        // Before it is opened: a pipe would wait for a writer.
        let metadata = fs::metadata(&path).map_err(cannot_read)?;
        if !metadata.is_file() {
            return Err("is not a file".into());
        }
        self.others.push(Source::new(File::open(&path).map_err(cannot_read)?, metadata.len()));
        self.numbers.insert(path, self.others.len());
        Ok(self.others.len())
    }
}
