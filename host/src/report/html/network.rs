//! The network as a picture: a bar a layer, from the picture down to the answer, as wide as the map it puts out.
//!
//! Widths are logarithms of the number of values; the colour is the kind of layer.

use super::charts::WIDTH;
use super::data::{LayerData, ReportData};
use super::svg::{Rect, Svg};

/// Height of a layer.
const ROW: f64 = 24.0;
/// Centre and greatest width of the bars.
const CENTRE: f64 = 135.0;
const WIDEST: f64 = 260.0;

/// The drawing.
pub(super) fn drawing(data: &ReportData) -> String {
    let n = data.layers.len() as f64;
    let mut svg = Svg::new(WIDTH, ROW * (n + 1.0) + 4.0, &format!("layers of {}", data.network));
    let values = |dims: &[usize]| (dims.iter().product::<usize>() as f64 + 1.0).log2();
    let widest = data.layers.iter().map(|l| values(&l.output)).fold(values(&data.input), f64::max).max(1.0);
    let width = |dims: &[usize]| (values(dims) / widest * WIDEST).max(60.0);
    let mut row = |i: usize, dims: &[usize], class: &str, label: &str, attributes: &str, db: Option<f64>| {
        let (width, y) = (width(dims), ROW * i as f64 + 2.0);
        let rect = Rect { x: CENTRE - width / 2.0, y, width, height: ROW - 4.0 };
        let shape = shape(dims);
        svg.mark(rect, class, attributes, &format!("{label}, {shape}"));
        svg.text(CENTRE, y + 14.0, "middle", label, None);
        svg.text(WIDTH - 2.0, y + 9.0, "end", &shape, None);
        if let Some(db) = db {
            let key = format!("/layers/{}/sqnr_db", i - 1);
            svg.text(WIDTH - 18.0, y + 20.0, "end", &format!("{db:.1}"), Some(&key));
            svg.text(WIDTH - 2.0, y + 20.0, "end", "dB", None);
        }
    };
    row(0, &data.input, "picture", "picture", "", None);
    for (i, layer) in data.layers.iter().enumerate() {
        let LayerData { name, kind, output, sqnr_db, .. } = layer;
        let class = match kind.as_str() {
            "max-pool" | "average" => "pool",
            "dense" => "dense",
            _ => "conv",
        };
        row(i + 1, output, class, name, &format!(" data-layer=\"{i}\""), *sqnr_db);
    }
    svg.finish()
}

/// `112x112x64`.
pub(super) fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
