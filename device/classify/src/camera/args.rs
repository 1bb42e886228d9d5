//! The options of `classify camera`, and of a camera in general.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::choose::{Coding, Size};
use super::smooth::Smoother;
use crate::args::{EngineArgs, TrustArgs};

/// The camera unless another is named.
const DEVICE: &str = "/dev/video0";
/// Heading of a camera's options, also among those of other commands.
const CAMERA: &str = "Camera";
/// Longest side of `--size`.
const MOST_PIXELS: u32 = 16_384;

/// `classify camera`.
#[derive(Debug, clap::Args)]
pub(crate) struct Camera {
    /// Model file
    #[arg(required_unless_present = "list")]
    pub(super) model: Option<PathBuf>,
    /// Camera, or `file:PATH`: a folder of pictures, a file of MJPEG or raw YUYV frames, `file:-` for standard input
    #[arg(default_value = DEVICE)]
    pub(super) device: String,
    /// List the cameras, or the one named, with their formats, and stop
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, exclusive = true)]
    pub(super) list: Option<Option<PathBuf>>,
    /// Classes to show [default: 5]
    #[arg(long, value_name = "K")]
    pub(super) top: Option<NonZeroUsize>,
    /// Print a JSON object for each observation, one a line
    #[arg(long)]
    pub(super) json: bool,
    /// Stop after N observations
    #[arg(long, value_name = "N")]
    pub(super) count: Option<NonZeroUsize>,
    /// Keep the last observation's picture in FILE, as JPEG; it is replaced as a whole
    #[arg(long, value_name = "FILE")]
    pub(super) preview: Option<PathBuf>,
    /// Say on stderr what is loaded and which kernel runs
    #[arg(short, long)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    pub(super) trust: TrustArgs,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
}

/// How a camera is watched. The caller sets `device` and `preview`, which are no options here.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// `/dev/video0`, or `file:PATH`.
    #[arg(skip)]
    pub(crate) device: String,
    /// Whether observations carry a JPEG picture.
    #[arg(skip)]
    pub(crate) preview: bool,
    /// Frames of this size, or the nearest above [default: the network's input size or the nearest above]
    #[arg(help_heading = CAMERA, long, value_name = "WxH", value_parser = size)]
    pub(crate) size: Option<Size>,
    /// Only this format [default: of the formats with the best size YUYV, then MJPEG]
    #[arg(help_heading = CAMERA, long, value_name = "FORMAT")]
    pub(crate) format: Option<Coding>,
    /// Ask the camera for N frames a second; replay a file at this rate, as a camera does, instead of frame by frame
    #[arg(help_heading = CAMERA, long, value_name = "N", value_parser = rate)]
    pub(crate) capture_fps: Option<f32>,
    /// At most N observations a second, of the newest frame each time
    #[arg(help_heading = CAMERA, long, value_name = "N", value_parser = rate)]
    pub(crate) fps: Option<f32>,
    /// Show the mean of the classes' probabilities over the last N frames
    #[arg(help_heading = CAMERA, long, value_name = "N", default_value = "1", value_parser = Smoother::parse)]
    pub(crate) smooth: Smoother,
    /// Turn frames clockwise, degrees
    #[arg(help_heading = CAMERA, long, value_name = "DEGREES", default_value = "0", value_parser = quarters())]
    pub(crate) rotate: u8,
    /// Stop when there is no frame for so long; else a camera is waited for
    #[arg(help_heading = CAMERA, long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) give_up: Option<f32>,
    /// Begin a file anew at its end
    #[arg(help_heading = CAMERA, long)]
    pub(crate) repeat: bool,
}

fn size(text: &str) -> Result<Size, String> {
    let sides =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let is_side = |side: u32| (1..=MOST_PIXELS).contains(&side);
    sides
        .filter(|&(width, height)| is_side(width) && is_side(height))
        .ok_or_else(|| format!("expected WIDTHxHEIGHT of 1 to {MOST_PIXELS} pixels, such as 640x480"))
}

fn rate(text: &str) -> Result<f32, String> {
    let rate = text.parse().ok().filter(|rate: &f32| (0.01..=1000.0).contains(rate));
    rate.ok_or_else(|| "expected 0.01 to 1000 a second".to_owned())
}

fn seconds(text: &str) -> Result<f32, String> {
    let seconds = text.parse().ok().filter(|seconds: &f32| (0.0..=1e6).contains(seconds));
    seconds.ok_or_else(|| "expected 0 to 1000000 seconds".to_owned())
}

/// Degrees to quarters of a full turn.
fn quarters() -> impl TypedValueParser<Value = u8> {
    PossibleValuesParser::new(["0", "90", "180", "270"]).map(|degrees| match degrees.as_str() {
        "90" => 1,
        "180" => 2,
        "270" => 3,
        _ => 0,
    })
}
