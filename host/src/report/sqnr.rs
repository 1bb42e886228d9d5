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
}

/// A table, worst layer first.
pub fn table(layers: &[LayerSqnr]) -> String {
    let mut sorted: Vec<&LayerSqnr> = layers.iter().collect();
    sorted.sort_by(|a, b| a.db.total_cmp(&b.db));
    let width = sorted.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max("layer".len());
    let mut text = format!("{:width$}  SQNR dB\n", "layer");
    for layer in sorted {
        text.push_str(&format!("{:width$}  {:7.2}\n", layer.name, layer.db));
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
        let layer = |name: &str, db| LayerSqnr { name: name.into(), db };
        let text = table(&[layer("a", 50.0), layer("bb", 20.0)]);
        assert_eq!(text, "layer  SQNR dB\nbb       20.00\na        50.00\n");
    }
}
