//! The options of `classify run`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::args::{EngineArgs, TrustArgs};

/// `classify run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Model file
    pub(crate) model: PathBuf,
    /// Pictures (JPEG, PNG, WebP, BMP), folders of them, quoted patterns such as '*.jpg', `-` for standard input
    #[arg(required_unless_present = "watch", value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// Classify pictures as they arrive in the folder DIR, written or moved there, until interrupted; its sub-folders
    /// are not watched
    #[arg(long, value_name = "DIR", conflicts_with = "images")]
    pub(crate) watch: Option<PathBuf>,
    /// With --watch, first classify the pictures that are there
    #[arg(long, requires = "watch", conflicts_with = "images")]
    pub(crate) existing: bool,
    /// Classes to show for each picture [default: 5]
    #[arg(long, value_name = "K")]
    pub(crate) top: Option<NonZeroUsize>,
    /// Print a JSON object for each picture, one a line
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json, leave out the times: the same pictures give the same bytes
    #[arg(long, requires = "json")]
    pub(crate) no_times: bool,
    /// Print the time of every layer, on stderr
    #[arg(long)]
    pub(crate) profile: bool,
    /// Say on stderr what is loaded, which kernel runs and how long it takes
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
