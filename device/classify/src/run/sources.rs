//! Which pictures: files, folders, patterns and standard input, in the order in which they are given.
//!
//! ```text
//! cat.jpg       the file, whatever its name says it is
//! photos        its pictures by name (.jpg .jpeg .png .webp .bmp) and those of its folders, sorted by name
//! 'shot*.png'   where no file is called so: what matches, sorted; in a matching folder its pictures
//! -             standard input, one picture
//! ```
//!
//! Names that start with a dot are left alone in folders and by `*`, as shells do; in folders, links to other folders
//! are not followed. What is missing is an error in its place: the others are classified.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use vgg_edge_engine::image::{EXTENSIONS, has_picture_name};

/// What to do next.
#[derive(Debug)]
pub(crate) enum Source {
    /// Classify this file.
    File(PathBuf),
    /// Classify what standard input holds.
    Stdin,
    /// Say that this cannot be classified.
    Failed { name: String, error: Error },
    /// Say this, for people.
    Note(String),
}

impl Source {
    fn failed(path: &Path, error: Error) -> Self {
        Self::Failed { name: path.display().to_string(), error }
    }
}

/// What the arguments `images` name.
pub(crate) fn list(images: &[PathBuf]) -> Vec<Source> {
    let (mut sources, mut stdin) = (Vec::new(), false);
    for image in images {
        if image.as_os_str() == "-" {
            sources.push(match stdin {
                false => Source::Stdin,
                true => Source::failed(image, anyhow!("standard input was named before, expected it once")),
            });
            stdin = true;
        } else {
            expand(image, &mut sources);
        }
    }
    sources
}

/// The file, the pictures of the folder, or what the pattern matches.
fn expand(image: &Path, sources: &mut Vec<Source>) {
    if image.is_dir() {
        return folder(image, sources);
    }
    // A file of this name comes first, and one that cannot be reached gets the system's error.
    let pattern = image.to_str().filter(|text| text.contains(['*', '?', '[']));
    match pattern.filter(|_| fs::symlink_metadata(image).is_err()) {
        None => sources.push(Source::File(image.to_owned())),
        Some(pattern) => match matches(pattern) {
            Ok(paths) => {
                for path in paths {
                    match path.is_dir() {
                        true => folder(&path, sources),
                        false => sources.push(Source::File(path)),
                    }
                }
            }
            Err(error) => sources.push(Source::failed(image, error)),
        },
    }
}

/// The paths that `pattern` matches, sorted.
fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let paths = glob::glob_with(pattern, options)
        .map_err(|e| anyhow!("pattern is wrong at character {}: {}", e.pos + 1, e.msg))?;
    let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    if paths.is_empty() {
        bail!("no file matches this pattern");
    }
    Ok(paths)
}

/// The pictures of a folder and below; an error in their place when there is none.
fn folder(path: &Path, sources: &mut Vec<Source>) {
    let before = sources.len();
    walk(path, sources);
    if sources.len() == before {
        let error =
            anyhow!("no picture in this folder or below, expected names in .{}", EXTENSIONS.join(" ."));
        sources.push(Source::failed(path, error));
    }
}

fn walk(path: &Path, sources: &mut Vec<Source>) {
    let list = || -> Result<Vec<(PathBuf, fs::FileType)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            entries.push((entry.path(), entry.file_type()?));
        }
        entries.sort_by(|(a, _), (b, _)| a.file_name().cmp(&b.file_name()));
        Ok(entries)
    };
    let entries = match list().context("folder") {
        Ok(entries) => entries,
        Err(error) => return sources.push(Source::failed(path, error)),
    };
    for (path, kind) in entries {
        if is_hidden(&path) {
            continue;
        }
        if kind.is_dir() {
            walk(&path, sources);
        } else if has_picture_name(&path) && path.is_file() {
            sources.push(Source::File(path));
        }
    }
}

/// Whether a file's name starts with a dot: a copy under way (rsync), a shadow of another file (macOS).
pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
