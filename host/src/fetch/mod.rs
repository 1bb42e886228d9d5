//! Published weights: downloaded, checked, with class labels and preprocessing beside them.
//!
//! ```text
//! find("vgg16") ─► download ─► vgg16_weights_tf_dim_ordering_tf_kernels.h5
//!  published.rs    download.rs vgg16_weights_tf_dim_ordering_tf_kernels.labels.txt        the 1000 classes of ImageNet
//!                              vgg16_weights_tf_dim_ordering_tf_kernels.preprocess.toml   keras-caffe
//! ```
//!
//! ```no_run
//! use vgg_edge_host::fetch::{Options, fetch, find};
//! use vgg_edge_host::progress::Progress;
//! let file = find("vgg16", None, true)?;
//! let fetched = fetch(&file, &Options::default(), Progress::Hidden, &mut |event| eprintln!("{event}"))?;
//! println!("{}", fetched.weights.display());
//! # Ok::<(), anyhow::Error>(())
//! ```

mod digest;
mod download;
mod error;
mod part;
mod published;

use std::path::{Path, PathBuf};

use anyhow::Context;

pub use digest::Digest;
pub use download::{Download, Downloaded, Event, Network, download};
pub use error::{FetchError, Problem};
pub use published::{NETWORKS, PUBLISHED, Published, Source, Unpublished, find};

use crate::graph::Shape;
use crate::pack;
use crate::progress::Progress;

/// Names of ImageNet's 1000 classes, one a line, in the order of the class index; `imagenet.md` says where they are from.
pub const IMAGENET_LABELS: &str = include_str!("imagenet.txt");

/// Where to and where from.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The folder the files go to; it is made if it is not there.
    pub folder: &'a Path,
    /// Another address of the file than the published one.
    pub url: Option<&'a str>,
    /// Waits and tries.
    pub network: Network,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { folder: Path::new("."), url: None, network: Network::default() }
    }
}

/// What is there now.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The weights.
    pub weights: PathBuf,
    /// How they came.
    pub downloaded: Downloaded,
    /// The class labels beside them, if the network has classes.
    pub labels: Option<PathBuf>,
    /// The preprocessing beside them.
    pub preprocess: PathBuf,
}

/// Fetches a published file. Labels and preprocessing that are there already are left alone.
///
/// # Errors
/// The download's ([`FetchError`]), or a file that cannot be written.
pub fn fetch(
    published: &Published<'_>,
    options: &Options<'_>,
    progress: Progress,
    events: &mut dyn FnMut(&Event<'_>),
) -> anyhow::Result<Fetched> {
    let folder = options.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
    let weights = if folder == Path::new(".") { published.file.into() } else { folder.join(published.file) };
    let url = options.url.map_or_else(|| published.url(), str::to_owned);
    let downloaded = download(
        &Download {
            url: &url,
            target: &weights,
            digest: published.digest,
            max_bytes: published.max_bytes,
            network: options.network,
        },
        progress,
        events,
    )?;
    let labels = published.top.then(|| weights.with_extension("labels.txt"));
    if let Some(labels) = labels.as_deref() {
        save_if_absent(labels, IMAGENET_LABELS)?;
    }
    let preprocess = weights.with_extension("preprocess.toml");
    let rule = published.preset().preprocess(Shape::new(224, 224, 3));
    save_if_absent(&preprocess, &rule.to_toml())?;
    Ok(Fetched { weights, downloaded, labels, preprocess })
}

fn save_if_absent(path: &Path, text: &str) -> anyhow::Result<()> {
    if path.exists() { Ok(()) } else { pack::save(text.as_bytes(), path) }
}
