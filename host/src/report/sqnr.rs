//! Signal to quantization noise: each layer's output on the device's engine against the f32 reference.
//!
//! ```text
//! SQNR = 10 log10( sum real^2 / sum (real - quantized)^2 )   dB, over all values of all pictures
//! ```
//!
//! Errors accumulate from layer to layer: a layer's figure holds everything before it too.

/// Sums over the values of one layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sqnr {
    signal: f64,
    noise: f64,
}

impl Sqnr {
    /// Adds a piece of a map: the reference's values and the engine's.
    pub fn add(&mut self, reference: &[f32], found: &[f32]) {
        for (&r, &f) in reference.iter().zip(found) {
            let (r, d) = (f64::from(r), f64::from(r) - f64::from(f));
            self.signal += r * r;
            self.noise += d * d;
        }
    }

    /// As [`Sqnr::add`], with the values of each channel, the last axis, times its factor; none for all 1.
    pub fn add_scaled(&mut self, reference: &[f32], found: &[f32], factors: &[f32]) {
        if factors.is_empty() {
            return self.add(reference, found);
        }
        for ((&r, &f), factor) in reference.iter().zip(found).zip(factors.iter().cycle()) {
            let factor = f64::from(*factor);
            let (r, d) = (factor * f64::from(r), factor * (f64::from(r) - f64::from(f)));
            self.signal += r * r;
            self.noise += d * d;
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// Noise over signal, 0 to infinity; NaN for no signal at all.
    pub fn noise_share(&self) -> f64 {
        self.noise / self.signal
    }

    /// In dB; infinite for no noise, NaN for no signal at all.
    pub fn db(&self) -> f32 {
        (10.0 * (self.signal / self.noise).log10()) as f32
    }
}

/// One layer's figure.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSqnr {
    /// Layer name.
    pub name: String,
    /// In dB.
    pub db: f32,
    /// Algorithm, where some layer of the network is approximate.
    pub algorithm: Option<&'static str>,
    /// What was predicted of an approximate algorithm alone, dB.
    pub predicted_db: Option<f32>,
}

impl LayerSqnr {
    /// A layer's figure, of an exact network.
    pub fn new(name: &str, db: f32) -> Self {
        Self { name: name.to_owned(), db, algorithm: None, predicted_db: None }
    }
}

/// A table, worst layer first; with algorithms and what was predicted of them alone where some are approximate.
pub fn table(layers: &[LayerSqnr]) -> String {
    let mut sorted: Vec<&LayerSqnr> = layers.iter().collect();
    sorted.sort_by(|a, b| a.db.total_cmp(&b.db));
    let width = sorted.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max("layer".len());
    let planned = sorted.iter().any(|l| l.algorithm.is_some());
    let columns = |algorithm: &str, predicted: &str| match planned {
        true => format!("  {algorithm:13}  {predicted:>9}"),
        false => String::new(),
    };
    let mut text = format!("{:width$}{}  SQNR dB\n", "layer", columns("algorithm", "predicted"));
    for layer in sorted {
        let predicted = layer.predicted_db.map_or_else(|| "-".to_owned(), |db| format!("{db:.2}"));
        let columns = columns(layer.algorithm.unwrap_or("-"), &predicted);
        text.push_str(&format!("{:width$}{columns}  {:7.2}\n", layer.name, layer.db));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_percent_noise_is_forty_db() {
        let mut s = Sqnr::default();
        s.add(&[1.0, -2.0], &[1.01, -2.02]);
        assert!((s.db() - 40.0).abs() < 0.01, "{}", s.db());
    }

    #[test]
    fn the_worst_layer_comes_first() {
        let text = table(&[LayerSqnr::new("a", 50.0), LayerSqnr::new("bb", 20.0)]);
        assert_eq!(text, "layer  SQNR dB\nbb       20.00\na        50.00\n");
    }

    #[test]
    fn a_plan_has_two_more_columns() {
        let planned = LayerSqnr {
            algorithm: Some("winograd8-f43"),
            predicted_db: Some(31.234),
            ..LayerSqnr::new("conv", 28.5)
        };
        let text = table(&[LayerSqnr::new("pool", 30.0), planned]);
        assert_eq!(
            text,
            "layer  algorithm      predicted  SQNR dB\nconv   winograd8-f43      31.23    28.50\npool   -                      -    30.00\n"
        );
    }
}
