//! What the taps of requantized Winograd see: how large each tap of each channel gets, and how often.
//!
//! ```text
//! map i8 ─► minus zero point ─► windows ─► V = B x B' ─► a logarithmic histogram, a range and a sum a tap and channel
//! ```
//!
//! The maps come from the int8 network on the engine, so the numbers are the integers that the device transforms, with the
//! rounding of all layers before. Counts and sums are integers: neither the order of pictures nor threads matter, and memory
//! does not grow with the number of pictures.
//!
//! ```
//! use vgg_edge_blob::winograd8::Form;
//! use vgg_edge_host::calibrate::TapStats;
//! let mut stats = TapStats::new(Form::F23, 1);
//! stats.add(&[10; 16], 4, 4); // a flat map of 4x4: only tap (1, 1) is not 0 away from the edges
//! assert_eq!(stats.range(Form::F23.bias_tap(), 0), (10, 40));
//! ```

use vgg_edge_blob::winograd8::Form;

/// Bins of a magnitude: 0 to 3 one by one, then four an octave up to 2^15.
const BINS: usize = 4 + 13 * 4;

/// What one layer's input looks like to one form.
#[derive(Clone, Debug, PartialEq)]
pub struct TapStats {
    form: Form,
    channels: usize,
    /// `[taps + 1][channels][BINS]`: magnitudes of a tap; of tap (1, 1), which is not centred, those of positive values, and in
    /// the last row those of negative ones.
    bins: Vec<u32>,
    /// `[taps][channels]`: least and greatest value.
    ranges: Vec<(i16, i16)>,
    /// `[taps][channels]`.
    sums: Vec<i64>,
    n_windows: u64,
}

impl TapStats {
    /// Nothing seen.
    pub fn new(form: Form, channels: usize) -> Self {
        let n = form.taps();
        Self {
            form,
            channels,
            bins: vec![0; (n + 1) * channels * BINS],
            ranges: vec![(i16::MAX, i16::MIN); n * channels],
            sums: vec![0; n * channels],
            n_windows: 0,
        }
    }

    /// The form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Channels of the map.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Adds one map, `[height][width][channels]`, values minus zero point in [-255, 255]. Windows of small maps overlap more
    /// than on the device: there are few, and the largest tap of a channel is rarely among them.
    pub fn add(&mut self, map: &[i16], height: usize, width: usize) {
        let step = match height.max(width) {
            ..=16 => 1,
            17..=32 => 2,
            _ => self.form.tile(),
        };
        let row = self.form.window() * self.channels;
        let (mut half, mut taps) = (vec![0i32; self.form.window() * row], vec![0i32; row]);
        for y in (0..height).step_by(step) {
            for x in (0..width).step_by(step) {
                self.add_window(map, [height, width], [y, x], &mut half, &mut taps);
            }
        }
    }

    /// The window whose first output is at `[y, x]`: its first input is one up and one to the left.
    fn add_window(
        &mut self,
        map: &[i16],
        [height, width]: [usize; 2],
        [y, x]: [usize; 2],
        half: &mut [i32],
        taps: &mut [i32],
    ) {
        let (b, window, channels) = (self.form.input_matrix(), self.form.window(), self.channels);
        half.fill(0);
        for (i, j) in (0..window).flat_map(|i| (0..window).map(move |j| (i, j))) {
            // Real 0 around the map: nothing to add.
            let (Some(row), Some(column)) = ((y + i).checked_sub(1), (x + j).checked_sub(1)) else {
                continue;
            };
            if row >= height || column >= width {
                continue;
            }
            let pixel = &map[(row * width + column) * channels..][..channels];
            for (t, factors) in b.iter().enumerate().filter(|(_, factors)| factors[i] != 0) {
                let sums = &mut half[(t * window + j) * channels..][..channels];
                let factor = i32::from(factors[i]);
                sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += factor * i32::from(*v));
            }
        }
        for (t, columns) in half.chunks_exact(window * channels).enumerate() {
            taps.fill(0);
            for (u, factors) in b.iter().enumerate() {
                let sums = &mut taps[u * channels..][..channels];
                for (factor, column) in factors.iter().zip(columns.chunks_exact(channels)) {
                    let factor = i32::from(*factor);
                    sums.iter_mut().zip(column).for_each(|(sum, v)| *sum += factor * v);
                }
            }
            for (u, values) in taps.chunks_exact(channels).enumerate() {
                self.count(t * window + u, values);
            }
        }
        self.n_windows += 1;
    }

    fn count(&mut self, tap: usize, values: &[i32]) {
        let (n, channels) = (self.form.taps(), self.channels);
        for (c, &v) in values.iter().enumerate() {
            let v = v.clamp(-32767, 32767);
            let place = tap * channels + c;
            let row = if v < 0 && tap == self.form.bias_tap() { n } else { tap };
            let bin = &mut self.bins[(row * channels + c) * BINS + bin_of(v.unsigned_abs())];
            *bin = bin.saturating_add(1);
            let range = &mut self.ranges[place];
            *range = (range.0.min(v as i16), range.1.max(v as i16));
            self.sums[place] += i64::from(v);
        }
    }

    /// Least and greatest value of a tap of a channel; 0 where nothing was seen.
    pub fn range(&self, tap: usize, channel: usize) -> (i16, i16) {
        let (low, high) = self.ranges[tap * self.channels + channel];
        if low > high { (0, 0) } else { (low, high) }
    }

    /// Mean of a tap of a channel.
    pub fn mean(&self, tap: usize, channel: usize) -> f64 {
        self.sums[tap * self.channels + channel] as f64 / self.n_windows.max(1) as f64
    }

    /// Calls `visit(distance, share)` for what was seen: distances from `centre`, and shares whose sum is 1.
    pub fn distances(&self, tap: usize, channel: usize, centre: f64, mut visit: impl FnMut(f64, f64)) {
        let (low, high) = self.range(tap, channel);
        let largest = f64::from(high).abs().max(f64::from(low).abs());
        let share = 1.0 / self.n_windows.max(1) as f64;
        let rows = match tap == self.form.bias_tap() {
            true => [Some((tap, 1.0)), Some((self.form.taps(), -1.0))],
            false => [Some((tap, 1.0)), None],
        };
        for (row, sign) in rows.into_iter().flatten() {
            let bins = &self.bins[(row * self.channels + channel) * BINS..][..BINS];
            for (bin, &n) in bins.iter().enumerate().filter(|(_, n)| **n > 0) {
                let value = sign * middle(bin).min(largest);
                visit((value - centre).abs(), f64::from(n) * share);
            }
        }
    }
}

fn bin_of(magnitude: u32) -> usize {
    if magnitude < 4 {
        return magnitude as usize;
    }
    let octave = magnitude.ilog2() - 2;
    (4 + octave * 4 + (magnitude >> octave & 3)) as usize
}

/// Middle of a bin.
fn middle(bin: usize) -> f64 {
    if bin < 4 {
        return bin as f64;
    }
    let (octave, quarter) = ((bin - 4) / 4, (bin - 4) % 4);
    let width = f64::from(1u32 << octave);
    (4 + quarter) as f64 * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_a_quarter_octave_and_hold_their_middle() {
        for v in 0..32768 {
            let bin = bin_of(v);
            assert!(bin < BINS && bin_of(middle(bin) as u32) == bin, "{v}");
            assert!((middle(bin) - f64::from(v)).abs() <= f64::from(v) / 8.0, "{v}");
        }
    }

    #[test]
    fn taps_are_those_of_the_matrices_and_order_does_not_matter() {
        let mut state = 0x5EEDu32;
        println!("seed {state:#x}");
        let (height, width, channels) = (7, 5, 3);
        let mut map = || -> Vec<i16> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as i16
            };
            (0..height * width * channels).map(next).collect()
        };
        let (a, b) = (map(), map());
        for form in Form::ALL {
            let (mut ab, mut ba) = (TapStats::new(form, channels), TapStats::new(form, channels));
            for map in [&a, &b] {
                ab.add(map, height, width);
            }
            for map in [&b, &a] {
                ba.add(map, height, width);
            }
            assert_eq!(ab, ba);
            let value = |map: &[i16], y: isize, x: isize, c: usize| {
                let inside = y >= 0 && x >= 0 && y < height as isize && x < width as isize;
                if inside { i64::from(map[(y as usize * width + x as usize) * channels + c]) } else { 0 }
            };
            let (m, window) = (form.input_matrix(), form.window());
            for (tap, c) in (0..form.taps()).flat_map(|t| (0..channels).map(move |c| (t, c))) {
                let mut all = Vec::new();
                for (map, y, x) in [&a, &b]
                    .into_iter()
                    .flat_map(|m| (0..height * width).map(move |p| (m, p / width, p % width)))
                {
                    let term = |k: usize| {
                        let (i, j) = (k / window, k % window);
                        let factor = i64::from(m[tap / window][i]) * i64::from(m[tap % window][j]);
                        factor * value(map, (y + i) as isize - 1, (x + j) as isize - 1, c)
                    };
                    all.push((0..window * window).map(term).sum::<i64>());
                }
                let (low, high) = ab.range(tap, c);
                assert_eq!(all.iter().min(), Some(&i64::from(low)));
                assert_eq!(all.iter().max(), Some(&i64::from(high)));
                let (mut power, mut total) = (0.0, 0.0);
                ab.distances(tap, c, 0.0, |d, share| (power, total) = (power + share * d * d, total + share));
                let expected = all.iter().map(|v| (v * v) as f64).sum::<f64>() / all.len() as f64;
                assert!(
                    (total - 1.0).abs() < 1e-9 && (power / expected - 1.0).abs() < 0.1,
                    "{tap} {c}: {total}, {power}, expected {expected}"
                );
            }
        }
    }
}
