//! `quantize --report`: one page about a conversion, complete in itself, with every figure also as JSON inside.
//!
//! ```text
//! Converted, graph, pictures ─► layers.rs (each layer alone) ─┐ gather.rs
//!                           └─► pictures.rs (worst answers) ──┴─► ReportData ─► page.rs ─► HTML
//!                                                                 data.rs       svg.rs, charts.rs, network.rs
//! ```
//!
//! The page needs no network and no script. Every number in it carries the JSON pointer of its figure in `data-key`, and the
//! JSON is the block `<script type="application/json" id="data">`.

mod charts;
mod data;
mod gather;
mod layers;
mod network;
mod page;
mod pictures;
mod svg;

pub use data::{
    Accuracy, BoardData, Bytes, Histogram, LayerData, Range, ReportData, Source, Versions, WeightSteps, Worst,
};
pub use layers::Main;

use crate::convert::Converted;
use crate::graph::Graph;
use crate::plan::Board;
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::samples::Samples;

/// What a report is about.
pub struct Subject<'a> {
    /// The network as imported.
    pub graph: &'a Graph,
    /// From picture to input.
    pub rule: &'a Preprocess,
    /// Calibration pictures.
    pub samples: &'a Samples,
    /// What the conversion gave.
    pub converted: &'a Converted,
    /// How ranges were chosen.
    pub method: crate::calibrate::Method,
    /// Weights from which on a dense layer took 4 bits; `usize::MAX` for none.
    pub int4_from: usize,
    /// The board of the plan.
    pub board: &'static Board,
    /// Class labels; empty for none.
    pub labels: &'a [String],
    /// The weights file, as it was named.
    pub weights: String,
    /// What kind of file it is.
    pub weights_format: String,
    /// Whether the gate's pictures had labels.
    pub gate_labelled: bool,
    /// The command that was given.
    pub command: String,
}

impl Subject<'_> {
    /// Measures what the conversion did not, and writes the page.
    ///
    /// # Errors
    /// A picture that cannot be read, a failure of the reference.
    pub fn page(&self, progress: &Progress) -> anyhow::Result<String> {
        let data = ReportData::new(self, progress)?;
        let images = pictures::images(self, &data.worst)?;
        page::page(&data, &images)
    }
}

/// A command line as a shell takes it.
pub fn shell(words: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quote = |word: String| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_command_can_be_pasted() {
        let words = ["quantize", "my net.h5", "it's", ""].map(str::to_owned);
        assert_eq!(super::shell(words.into_iter()), r"quantize 'my net.h5' 'it'\''s' ''");
    }
}
