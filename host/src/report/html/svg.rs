//! Text of HTML and SVG: everything that comes from outside is escaped here.
//!
//! ```text
//! <svg viewBox="0 0 W H" role="img"><title>…</title> rectangles, lines, texts </svg>
//! ```

use std::fmt::Write;

/// `text` between tags or in quotes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A figure: its text, and where it is in the JSON.
pub(super) fn figure(pointer: &str, text: &str) -> String {
    format!("<span data-key=\"{}\">{}</span>", escape(pointer), escape(text))
}

/// Side by side and up and down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A drawing.
pub(super) struct Svg(String);

impl Svg {
    /// In units of about a pixel; it is as wide as its place.
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
        ))
    }

    /// A mark: a rectangle that stands for something, which a pointer over it reads.
    pub(super) fn mark(&mut self, rect: Rect, class: &str, attributes: &str, tip: &str) {
        let Rect { x, y, width, height } = rect;
        let tip = escape(tip);
        let tip = if tip.is_empty() { tip } else { format!("<title>{tip}</title>") };
        let _ = write!(
            self.0,
            "<rect class=\"mark {class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.3}\" height=\"{height:.3}\"{attributes}>{tip}</rect>"
        );
    }

    /// A shade behind marks.
    pub(super) fn shade(&mut self, Rect { x, y, width, height }: Rect) {
        let _ = write!(
            self.0,
            "<rect class=\"shade\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/>"
        );
    }

    /// A vertical line.
    pub(super) fn line(&mut self, class: &str, x: f64, from: f64, to: f64) {
        let _ = write!(
            self.0,
            "<line class=\"{class}\" x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"{from:.2}\" y2=\"{to:.2}\"/>"
        );
    }

    /// Text, from its left end (`start`), `middle` or right `end`; `key` where it is a figure.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str, key: Option<&str>) {
        let key = key.map_or_else(String::new, |key| format!(" data-key=\"{}\"", escape(key)));
        let _ = write!(
            self.0,
            "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\"{key}>{}</text>",
            escape(text)
        );
    }

    /// The whole.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let mut svg = Svg::new(10.0, 10.0, "<script>");
        svg.text(0.0, 0.0, "start", "a\"b'c&d</text>", None);
        let text = svg.finish();
        assert!(!text.contains("<script>") && !text.contains("d</text><"), "{text}");
        assert!(text.contains("a&quot;b&#39;c&amp;d&lt;/text&gt;"), "{text}");
    }
}
