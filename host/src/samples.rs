//! Pictures of a folder, as the network sees them: decoded, upright, resized, u8 NHWC.
//!
//! A folder holds pictures, or one sub-folder a class that holds them. Files that are not pictures by name
//! (`.jpg`, `.jpeg`, `.png`, `.webp`, `.bmp`) are left alone. Order is by path, so every run sees the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use vgg_edge_blob::{Preprocess, Shape};
use vgg_edge_engine::image::{EXTENSIONS, Limits, decode, has_picture_name, prepare};

/// One picture of the network's input size.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Where it came from.
    pub path: PathBuf,
    /// u8, NHWC.
    pub data: Vec<u8>,
    /// Index of its sub-folder, in name order, if there are sub-folders.
    pub class: Option<usize>,
}

/// A folder of pictures, decoded when asked for.
#[derive(Clone, Debug)]
pub struct Samples {
    files: Vec<(PathBuf, Option<usize>)>,
    classes: Vec<String>,
    rule: Preprocess,
    input: Shape,
}

impl Samples {
    /// Lists the pictures of `folder`.
    ///
    /// # Errors
    /// A folder that cannot be read or holds no picture.
    pub fn open(folder: &Path, rule: &Preprocess, input: Shape) -> anyhow::Result<Self> {
        let listed = list(folder)?;
        let mut files: Vec<(PathBuf, Option<usize>)> =
            listed.iter().filter(|p| is_picture(p)).map(|p| (p.clone(), None)).collect();
        let mut classes = Vec::new();
        for sub in listed.iter().filter(|p| p.is_dir()) {
            let pictures: Vec<PathBuf> = list(sub)?.into_iter().filter(|p| is_picture(p)).collect();
            if pictures.is_empty() {
                continue;
            }
            files.extend(pictures.into_iter().map(|p| (p, Some(classes.len()))));
            classes.push(sub.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        if files.is_empty() {
            bail!(
                "folder {}: no .{} picture in it or its sub-folders",
                folder.display(),
                EXTENSIONS.join(", .")
            );
        }
        Ok(Self { files, classes, rule: *rule, input })
    }

    /// At most `n` of the pictures, evenly spaced, so that every class keeps its share.
    pub fn thin(mut self, n: usize) -> Self {
        let total = self.files.len();
        if n < total {
            self.files = (0..n).map(|i| self.files[i * total / n].clone()).collect();
        }
        self
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none; never for opened samples.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Names of the sub-folders with pictures, in order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Every picture's file and the index of its sub-folder.
    pub fn labelled(&self) -> impl Iterator<Item = (&Path, Option<usize>)> {
        self.files.iter().map(|(path, class)| (path.as_path(), *class))
    }

    /// Reads and prepares picture `i`.
    ///
    /// # Errors
    /// A file that cannot be read or decoded.
    pub fn picture(&self, i: usize) -> anyhow::Result<Picture> {
        let (path, class) = &self.files[i];
        let bytes = fs::read(path).with_context(|| format!("picture {}", path.display()))?;
        let image =
            decode(&bytes, Limits::default()).with_context(|| format!("picture {}", path.display()))?;
        Ok(Picture { path: path.clone(), data: prepare(image, &self.rule, self.input), class: *class })
    }
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("folder {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    path.is_file() && has_picture_name(path)
}
