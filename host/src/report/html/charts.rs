//! Bars and histograms as SVG.
//!
//! ```text
//! bars        label      ████████████ 31.2        lengths in proportion, each with the JSON pointer of its figure
//! histogram   heights are logarithms of counts; the shade is what can be stored, lines are its ends
//! ```

use super::data::Histogram;
use super::svg::{Rect, Svg};

/// Width of every drawing: that of a phone.
pub(super) const WIDTH: f64 = 360.0;
/// Where bars begin, and their greatest length.
const LEFT: f64 = 128.0;
const LENGTH: f64 = 160.0;

/// One bar.
pub(super) struct Bar {
    pub(super) key: String,
    pub(super) value: f64,
    pub(super) text: String,
    pub(super) class: &'static str,
}

/// A label and its bars.
pub(super) struct Group {
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

/// Horizontal bars.
pub(super) fn bars(title: &str, groups: &[Group]) -> String {
    let longest = groups.iter().flat_map(|g| &g.bars).fold(0f64, |m, b| m.max(b.value));
    let rows: usize = groups.iter().map(|g| g.bars.len().max(1)).sum();
    let mut svg = Svg::new(WIDTH, 14.0 * rows as f64 + 5.0 * groups.len() as f64, title);
    let mut y = 0.0;
    for Group { label, bars } in groups {
        svg.text(LEFT - 6.0, y + 11.0, "end", &shortened(label), None);
        for Bar { key, value, text, class } in bars {
            let width = if longest > 0.0 { (value / longest * LENGTH).max(0.0) } else { 0.0 };
            let attributes = format!(" data-bar=\"{key}\"");
            svg.mark(
                Rect { x: LEFT, y: y + 1.0, width, height: 12.0 },
                class,
                &attributes,
                &format!("{label}: {text}"),
            );
            svg.text(LEFT + width + 4.0, y + 11.0, "start", text, Some(key));
            y += 14.0;
        }
        if bars.is_empty() {
            svg.text(LEFT, y + 11.0, "start", "-", None);
            y += 14.0;
        }
        y += 5.0;
    }
    svg.finish()
}

/// At most what fits beside the bars.
fn shortened(label: &str) -> String {
    match label.chars().count() > 20 {
        true => label.chars().take(19).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

/// A histogram. `range` is what can be stored, `inner` a narrower one of some channels.
pub(super) fn histogram(
    title: &str,
    class: &str,
    histogram: &Histogram,
    range: Option<(f64, f64)>,
    inner: Option<(f64, f64)>,
) -> String {
    const HEIGHT: f64 = 70.0;
    let Histogram { from, to, counts } = histogram;
    let (low, high) = range.map_or((*from, *to), |(min, max)| (min.min(*from), max.max(*to)));
    let x = |value: f64| 4.0 + (value - low) / (high - low).max(f64::MIN_POSITIVE) * (WIDTH - 8.0);
    let mut svg = Svg::new(WIDTH, HEIGHT + 16.0, title);
    for (min, max) in range.into_iter().chain(inner) {
        svg.shade(Rect { x: x(min), y: 0.0, width: x(max) - x(min), height: HEIGHT });
    }
    let largest = counts.iter().copied().max().unwrap_or(0);
    let width = (to - from) / counts.len().max(1) as f64;
    for (i, n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let height = (1.0 + *n as f64).ln() / (1.0 + largest as f64).ln() * (HEIGHT - 2.0);
        let left = from + width * i as f64;
        let rect =
            Rect { x: x(left), y: HEIGHT - height, width: (x(left + width) - x(left)).max(0.5), height };
        svg.mark(rect, class, "", &format!("{} to {}: {n}", short(left), short(left + width)));
    }
    if let Some((min, max)) = range {
        svg.line("end", x(min), 0.0, HEIGHT);
        svg.line("end", x(max), 0.0, HEIGHT);
    }
    svg.text(4.0, HEIGHT + 12.0, "start", &short(low), None);
    svg.text(WIDTH - 4.0, HEIGHT + 12.0, "end", &short(high), None);
    svg.finish()
}

/// A number in about four characters.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 1.0 => format!("{value:.2}"),
        a if a >= 1e-3 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        let bar = |value: f64| Bar { key: "/v".to_owned(), value, text: value.to_string(), class: "a" };
        let text = bars("t", &[Group { label: "l".to_owned(), bars: vec![bar(10.0), bar(5.0), bar(0.0)] }]);
        for width in ["160.000", "80.000", "0.000"] {
            assert!(text.contains(&format!("width=\"{width}\"")), "{text}");
        }
    }
}
