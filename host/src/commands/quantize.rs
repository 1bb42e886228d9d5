//! `quantize`: weights and pictures to a blob.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use vgg_edge_blob::Scheme;

use super::{PreprocessArgs, WeightsArgs, human_bytes, labels, out, out_text};
use crate::calibrate::{self, Method};
use crate::convert::{Conversion, Tuning};
use crate::gate::Gate;
use crate::pack;
use crate::plan::{BOARDS, Board};
use crate::progress::Progress;
use crate::quantize::{INT4_FROM, Rounding};
use crate::report;
use crate::report::html::{Subject, shell};
use crate::samples::Samples;

/// Number format of the blob.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemeArg {
    /// 8-bit weights and activations
    Int8,
    /// half-precision weights; arithmetic in f32, or in half precision on boards that have it
    F16,
    /// int8, with 4-bit weights in large dense layers but the last
    Int8Fc4,
}

/// How activation ranges are chosen.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodArg {
    /// from the smallest to the largest value
    Minmax,
    /// so that --percentile percent of the values lie inside
    Percentile,
    /// with the least divergence of the quantized distribution from the real one
    Entropy,
    /// with the least squared error over what was seen
    Mse,
    /// for each layer the one of these that disturbs the next layer least
    Auto,
}

/// How 8-bit weights are rounded.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundingArg {
    /// each to the nearest step
    Nearest,
    /// each error taken back by the weights behind, as far as the calibration pictures let them
    Gptq,
}

/// Converts a trained network to a file for the board
#[derive(Args, Clone, Debug)]
pub struct QuantizeArgs {
    /// Weights: Keras .keras or .h5 (model or weights alone), PyTorch .pth or .safetensors, .onnx or float .tflite
    pub weights: PathBuf,
    /// Folder with pictures like those the network will see; sub-folders are fine
    #[arg(long, value_name = "DIR")]
    pub calib: PathBuf,
    /// The blob to write
    #[arg(short, long, value_name = "MODEL.vgg")]
    pub output: PathBuf,
    /// Number format
    #[arg(long, value_enum, default_value = "int8")]
    pub scheme: SchemeArg,
    /// How activation ranges are chosen (int8) [default: auto]
    #[arg(long, value_enum)]
    pub method: Option<MethodArg>,
    /// Percent of the values inside the range, for --method percentile [default: 99.99]
    #[arg(long, value_name = "PERCENT")]
    pub percentile: Option<f64>,
    /// How 8-bit weights are rounded (int8) [default: nearest]
    #[arg(long, value_enum)]
    pub rounding: Option<RoundingArg>,
    /// Even channels out between layers (int8, with --method auto and minmax)
    #[arg(long)]
    pub equalize: bool,
    /// Leave biases as they are, instead of correcting them for what rounding shifts (int8)
    #[arg(long)]
    pub no_bias_correction: bool,
    /// Board that each layer's algorithm is chosen for; the blob runs everywhere and gives the same results there
    #[arg(long, value_name = "BOARD", value_parser = board, default_value = "generic", hide_possible_values = true)]
    pub board: &'static Board,
    /// Plan for speed: layers may use approximate algorithms while at most so many points of top-1 are lost (int8); 0.3 is
    /// usual. Fails when more are lost. Without it the plan is exact
    #[arg(long, value_name = "POINTS")]
    pub max_drop: Option<f64>,
    /// Exact algorithms only, which is the default without --max-drop; with it, fail when even they lose more
    #[arg(long)]
    pub exact: bool,
    /// Measure --max-drop against labels: folder with one sub-folder of pictures a class. Without it, the drop is estimated
    /// on calibration pictures from f32's probabilities
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Weights from which on a dense layer takes 4 bits (int8-fc4)
    #[arg(long, value_name = "N", default_value_t = INT4_FROM, hide = true)]
    pub int4_from: usize,
    /// A page about the conversion: every layer's error, sensitivity, histograms, boards, worst pictures; takes a while more
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Use at most so many of the pictures, evenly spaced
    #[arg(long, value_name = "N")]
    pub max_pictures: Option<usize>,
    /// Class labels, one a line; default: WEIGHTS.labels.txt beside the weights, if it is there
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub preprocess: PreprocessArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub weights_args: WeightsArgs,
}

impl QuantizeArgs {
    fn method(&self) -> anyhow::Result<Method> {
        let percent = self.percentile.unwrap_or(DEFAULT_PERCENTILE);
        ensure!(
            percent > 50.0 && percent <= 100.0,
            "--percentile is {percent}, expected more than 50, at most 100"
        );
        match (self.method, self.percentile) {
            (Some(MethodArg::Minmax | MethodArg::Entropy | MethodArg::Mse | MethodArg::Auto), Some(_)) => {
                bail!("--percentile goes with --method percentile")
            }
            (Some(MethodArg::Minmax), None) => Ok(Method::MinMax),
            (Some(MethodArg::Entropy), None) => Ok(Method::Entropy),
            (Some(MethodArg::Mse), None) => Ok(Method::Mse),
            (Some(MethodArg::Auto), None) => Ok(Method::Auto),
            (Some(MethodArg::Percentile), _) | (None, Some(_)) => Ok(Method::Percentile(percent)),
            (None, None) => Ok(DEFAULT_METHOD),
        }
    }

    fn tuning(&self, scheme: Scheme) -> anyhow::Result<Tuning> {
        let given = self.rounding.is_some() || self.equalize || self.no_bias_correction;
        ensure!(
            scheme.is_int8() || !given,
            "--rounding, --equalize and --no-bias-correction go with --scheme int8 and int8-fc4"
        );
        let rounding = match self.rounding {
            Some(RoundingArg::Nearest) => Rounding::Nearest,
            Some(RoundingArg::Gptq) => Rounding::Gptq,
            None => Rounding::default(),
        };
        Ok(Tuning { rounding, equalize: self.equalize, correct_bias: !self.no_bias_correction })
    }

    fn check_gate(&self, scheme: Scheme) -> anyhow::Result<()> {
        if let Some(max_drop) = self.max_drop {
            ensure!(
                (0.0..=100.0).contains(&max_drop),
                "--max-drop is {max_drop}, expected points of top-1, from 0 to 100"
            );
        }
        ensure!(self.data.is_none() || self.max_drop.is_some(), "--data goes with --max-drop");
        let given = self.max_drop.is_some() || self.exact;
        ensure!(scheme.is_int8() || !given, "--max-drop and --exact go with --scheme int8 and int8-fc4");
        Ok(())
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever stage fails; nothing is written then.
    pub fn run(&self, progress: &Progress) -> anyhow::Result<()> {
        let start = Instant::now();
        let method = self.method()?;
        let scheme = match self.scheme {
            SchemeArg::Int8 => Scheme::Int8,
            SchemeArg::F16 => Scheme::F16,
            SchemeArg::Int8Fc4 => Scheme::Int8Fc4,
        };
        ensure!(
            scheme.is_int8() || (self.method.is_none() && self.percentile.is_none()),
            "--method and --percentile go with --scheme int8 and int8-fc4"
        );
        let tuning = self.tuning(scheme)?;
        // Others would choose ranges in units in which small channels count as much as large ones.
        ensure!(
            !self.equalize || matches!(method, Method::Auto | Method::MinMax),
            "--equalize goes with --method auto and minmax"
        );
        self.check_gate(scheme)?;
        ensure!(
            self.report.as_ref() != Some(&self.output),
            "--report is {}, which is also the blob, expected another file",
            self.output.display()
        );
        let imported = {
            let spinner = progress.spinner("import");
            let imported = self.weights_args.import(&self.weights)?;
            spinner.finish_and_clear();
            imported
        };
        let graph = &imported.graph;
        let output = match graph.is_classifier() {
            true => format!("{} classes", graph.classes()),
            false => format!("features {}", graph.output()),
        };
        eprintln!(
            "weights: {}, {}, input {}, {output}",
            self.weights.display(),
            imported.format,
            graph.input(),
        );
        let rule = self.preprocess.find(&self.weights, graph.input())?;
        let labels = labels(self.labels.as_deref(), &self.weights)?;
        let blob_rule = rule.to_blob();
        let input = crate::quantize::blob_shape(graph.input());
        let samples = Samples::open(&self.calib, &blob_rule, input)?;
        let samples = match self.max_pictures {
            Some(0) => bail!("--max-pictures is 0, expected at least 1"),
            Some(n) => samples.thin(n),
            None => samples,
        };
        eprintln!("calibration: {}, {} pictures", self.calib.display(), samples.len());
        let gate = match (self.max_drop, &self.data) {
            (Some(max_drop), data) => {
                let data = data.as_ref().map(|dir| Samples::open(dir, &blob_rule, input)).transpose()?;
                Some(Gate { max_drop, exact: self.exact, data })
            }
            (None, _) => None,
        };
        if scheme.is_int8() {
            let data = gate.as_ref().and_then(|gate| gate.data.as_ref());
            for doubt in calibrate::doubts(graph, &rule, &samples, data, &labels, progress)? {
                eprintln!("warning: {doubt}");
            }
        }
        let conversion = Conversion { scheme, method, tuning, board: self.board, gate, labels };
        let converted = conversion.run_int4_from(self.int4_from, graph, &rule, &samples, progress)?;
        pack::save(converted.bytes.as_slice(), &self.output)?;
        if let Some(path) = &self.report {
            let subject = Subject {
                graph,
                rule: &rule,
                samples: &samples,
                converted: &converted,
                method,
                int4_from: if scheme == Scheme::Int8Fc4 { self.int4_from } else { usize::MAX },
                board: self.board,
                labels: &conversion.labels,
                weights: self.weights.display().to_string(),
                weights_format: imported.format.to_string(),
                gate_labelled: self.data.is_some(),
                command: shell(std::env::args_os().map(|word| word.to_string_lossy().into_owned())),
            };
            let saved =
                || format!("the model is complete in {}, but there is no report", self.output.display());
            let page = subject.page(progress).with_context(saved)?;
            pack::save(page.as_bytes(), path).with_context(saved)?;
        }

        for layer in &converted.unproved {
            eprintln!("warning: layer `{layer}`: weights too large for exact winograd-f43, it stays direct");
        }
        let figures = &converted.figures;
        out_text(&report::table(&converted.sqnr))?;
        out(format_args!(""))?;
        out(format_args!("scheme     {}", figures.scheme))?;
        if let Some(method) = &figures.method {
            out(format_args!("ranges     {method}"))?;
        }
        if let Some(tuning) = &figures.tuning {
            out(format_args!("weights    {tuning}"))?;
        }
        if let (Some(agreement), Some(kl)) = (figures.agreement, figures.mean_kl) {
            out(format_args!(
                "agreement  {:.2} % with f32 on {} calibration pictures, mean KL {kl:.6}",
                100.0 * agreement,
                figures.measured_pictures,
            ))?;
        }
        if let Some(gate) = &figures.gate {
            let pictures = if self.data.is_some() { "labelled" } else { "calibration" };
            out(format_args!(
                "drop       {:.2} {} on {} {pictures} pictures, allowed {}",
                gate.drop, gate.measure, gate.pictures, gate.max_drop,
            ))?;
        }
        if let (Some(board), false) = (figures.board, converted.algorithms.is_empty()) {
            out(format_args!("plan       {board}: {}", converted.algorithms))?;
        }
        out(format_args!("arena      {}", human_bytes(converted.arena_bytes as u64)))?;
        out(format_args!("size       {}", human_bytes(converted.bytes.as_slice().len() as u64)))?;
        out(format_args!("written    {}", self.output.display()))?;
        if let Some(path) = &self.report {
            out(format_args!("report     {}", path.display()))?;
        }
        eprintln!("done in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The board called `name`.
pub(super) fn board(name: &str) -> Result<&'static Board, String> {
    Board::find(name).ok_or_else(|| {
        let names: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
        format!("expected {}", names.join(", "))
    })
}

/// Percentile when `--method percentile` names none.
const DEFAULT_PERCENTILE: f64 = 99.99;
/// Method when none is named.
pub(crate) const DEFAULT_METHOD: Method = Method::Auto;
