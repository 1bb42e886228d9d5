//! Second moments of what a layer's filters see, for rounding its weights: exact integers, from the int8 network's own maps.
//!
//! ```text
//! map of 8-bit values ─► a strip of rows ─► planes, 0 around ─► products of channels c and c' at a distance d, summed
//!                                                                    │
//! covariance of (c, tap t) and (c', tap t')  =  sums[c][c'](t' - t) / n - mean[c] * mean[c']   ◄┘
//! ```
//!
//! With windows that hang over the strip's edge counted too, the moment of two taps depends on their distance alone: 13 distances
//! (the other 12 are their mirror images) instead of 45 pairs of taps. Channels are known together in blocks, all nine taps
//! of each. Means are taken off: what they contribute, bias correction takes back.
//!
//! Sums are integers, so neither the order of pictures nor threads matter. There are two of each, over every other picture,
//! so that what one half suggests can be tried on the other.
//!
//! ```
//! use vgg_edge_host::calibrate::{Moments, Planes};
//! // Two pictures of one value each, 2 and 4, seen by a 1x1 filter.
//! let planes = [Planes::new(&[2], [1, 1, 1], 1, 0..1), Planes::new(&[4], [1, 1, 1], 1, 0..1)];
//! let moments = Moments::new(&planes, 1);
//! assert_eq!(moments.covariance(0, None), [1.0]); // (4 + 16) / 2 - 3 * 3
//! ```

use std::ops::Range;

use rayon::prelude::*;

/// Channels known together under a 3x3 filter, so nine times as many inputs.
const CHANNELS: usize = 128;
/// Inputs of a dense layer, or channels under a 1x1 filter, known together.
const INPUTS: usize = 512;
/// Products of two values of 9 bits of which so many fit an i32.
const CHUNK: usize = 1 << 14;

/// A strip of one picture's map, channel by channel, with zeros behind its rows and below.
#[derive(Clone, Debug)]
pub struct Planes {
    /// `[channels][len]`.
    values: Vec<i16>,
    len: usize,
    /// Positions of a filter that meet the strip.
    n_windows: u64,
    /// Values between two rows.
    row: usize,
}

impl Planes {
    /// Rows `rows` of a map `[height][width][channels]` of values in [-255, 255], for filters of `side`.
    pub fn new(map: &[i16], [height, width, channels]: [usize; 3], side: usize, rows: Range<usize>) -> Self {
        let (margin, rows) = (side - 1, rows.start.min(height)..rows.end.min(height));
        let row = width + margin;
        let len = (rows.len() + margin) * row;
        let mut values = vec![0i16; channels * len];
        for (y, line) in
            map.chunks_exact((width * channels).max(1)).skip(rows.start).take(rows.len()).enumerate()
        {
            for (x, pixel) in line.chunks_exact(channels.max(1)).enumerate() {
                pixel.iter().enumerate().for_each(|(c, v)| values[c * len + y * row + x] = *v);
            }
        }
        Self { values, len, n_windows: ((rows.len() + margin) * (width + margin)) as u64, row }
    }
}

/// Sums over half of the pictures.
#[derive(Clone, Debug)]
struct Half {
    /// Blocks of `[distances][channels][channels]`.
    products: Vec<Vec<i64>>,
    /// `[channels]`.
    sums: Vec<i64>,
    n_windows: u64,
}

/// Second moments of one layer's inputs.
#[derive(Clone, Debug)]
pub struct Moments {
    halves: [Half; 2],
    channels: usize,
    side: usize,
}

impl Moments {
    /// Of strips of one layer's input, one a picture, for filters of `side` 1 or 3.
    pub fn new(planes: &[Planes], side: usize) -> Self {
        let channels = planes.first().map_or(0, |p| p.values.len() / p.len.max(1));
        let half = |odd: usize| -> Half {
            let of_half: Vec<&Planes> = planes.iter().skip(odd).step_by(2).collect();
            Half::new(&of_half, channels, side)
        };
        Self { halves: [half(0), half(1)], channels, side }
    }

    /// Blocks of channels.
    pub fn n_blocks(&self) -> usize {
        self.channels.div_ceil(block_channels(self.side))
    }

    /// Inputs of a block in the order of its covariance, as places in a filter `[taps][channels]`.
    pub fn inputs(&self, block: usize) -> Vec<usize> {
        let taps = self.side * self.side;
        self.block(block)
            .flat_map(|c| (0..taps).map(move |t| (t, c)))
            .map(|(t, c)| t * self.channels + c)
            .collect()
    }

    /// Windows seen: of one half, or of both.
    pub fn n_windows(&self, half: Option<usize>) -> u64 {
        self.of(half).map(|h| h.n_windows).sum()
    }

    /// Covariance of a block's inputs, row-major, in squared steps of the map; of one half of the pictures, or of all.
    pub fn covariance(&self, block: usize, half: Option<usize>) -> Vec<f64> {
        let (own, side) = (self.block(block), self.side);
        let (m, taps) = (own.len(), side * side);
        let n = m * taps;
        let windows = self.n_windows(half).max(1) as f64;
        let mean = |c: usize| self.of(half).map(|h| h.sums[own.start + c]).sum::<i64>() as f64 / windows;
        let means: Vec<f64> = (0..m).map(mean).collect();
        let distances = distances(side);
        // Where the product of tap t of the first with tap u of the second channel is, and whether the other way round.
        let place = |t: usize, u: usize| {
            let d = [(u / side) as isize - (t / side) as isize, (u % side) as isize - (t % side) as isize];
            let mirrored = [-d[0], -d[1]];
            let at = |d| distances.iter().position(|known| *known == d);
            at(d).map(|at| (at, false)).or_else(|| at(mirrored).map(|at| (at, true))).unwrap_or((0, false))
        };
        let places: Vec<(usize, bool)> = (0..taps * taps).map(|i| place(i / taps, i % taps)).collect();
        let mut covariance = vec![0f64; n * n];
        for (i, row) in covariance.chunks_exact_mut(n.max(1)).enumerate() {
            let (c, t) = (i / taps, i % taps);
            for (j, value) in row.iter_mut().enumerate() {
                let (e, u) = (j / taps, j % taps);
                let (at, mirrored) = places[t * taps + u];
                let (a, b) = if mirrored { (e, c) } else { (c, e) };
                let sum: i64 = self.of(half).map(|h| h.products[block][(at * m + a) * m + b]).sum();
                *value = sum as f64 / windows - means[c] * means[e];
            }
        }
        covariance
    }

    fn block(&self, block: usize) -> Range<usize> {
        let size = block_channels(self.side);
        block * size..((block + 1) * size).min(self.channels)
    }

    fn of(&self, half: Option<usize>) -> impl Iterator<Item = &Half> {
        self.halves
            .iter()
            .enumerate()
            .filter(move |(i, _)| half.is_none_or(|half| half == *i))
            .map(|(_, h)| h)
    }
}

fn block_channels(side: usize) -> usize {
    if side == 1 { INPUTS } else { CHANNELS }
}

/// Rows and columns from one tap to another, one of each pair of mirror images.
fn distances(side: usize) -> Vec<[isize; 2]> {
    let reach = side as isize - 1;
    let all = (0..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| [dy, dx]));
    all.filter(|[dy, dx]| *dy > 0 || *dx >= 0).collect()
}

impl Half {
    fn new(planes: &[&Planes], channels: usize, side: usize) -> Self {
        let plane = |p: &Planes, c: usize| p.values[c * p.len..][..p.len].to_vec();
        // One after the other: the zeros below a strip are as many as a distance is long.
        let joined: Vec<Vec<i16>> = (0..channels)
            .into_par_iter()
            .map(|c| planes.iter().flat_map(|p| plane(p, c)).collect())
            .collect();
        let row = planes.first().map_or(0, |p| p.row) as isize;
        let size = block_channels(side);
        let products = (0..channels.div_ceil(size))
            .map(|block| {
                let own = &joined[block * size..((block + 1) * size).min(channels)];
                let (m, distances) = (own.len(), distances(side));
                let rows: Vec<Vec<i64>> = (0..distances.len() * m)
                    .into_par_iter()
                    .map(|i| {
                        let [dy, dx] = distances[i / m];
                        let ahead = (dy * row + dx) as usize;
                        let shifted: Vec<&[i16]> =
                            own.iter().map(|p| p.get(ahead..).unwrap_or(&[])).collect();
                        let own = &own[i % m];
                        let (fours, rest) = shifted.as_chunks::<4>();
                        let fours = fours.iter().flat_map(|four| products(own, *four));
                        fours.chain(rest.iter().flat_map(|one| products(own, [*one]))).collect()
                    })
                    .collect();
                rows.concat()
            })
            .collect();
        let sums = joined.iter().map(|p| p.iter().map(|v| i64::from(*v)).sum()).collect();
        Self { products, sums, n_windows: planes.iter().map(|p| p.n_windows).sum() }
    }
}

/// Sum of products of `a` with each of `b`, as far as the shorter reaches.
fn products<const N: usize>(a: &[i16], b: [&[i16]; N]) -> [i64; N] {
    let n = b.iter().fold(a.len(), |n, b| n.min(b.len()));
    let mut sums = [0i64; N];
    for start in (0..n).step_by(CHUNK) {
        let end = n.min(start + CHUNK);
        let (a, b) = (&a[start..end], b.map(|b| &b[start..end]));
        let mut part = [0i32; N];
        for (i, x) in a.iter().enumerate() {
            for (sum, b) in part.iter_mut().zip(b) {
                *sum += i32::from(*x) * i32::from(b[i]);
            }
        }
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += i64::from(part));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against every window, edges included, taken one by one.
    #[test]
    fn covariances_are_those_of_the_windows() {
        let (height, width, channels) = (4usize, 5usize, 3usize);
        let mut state = 1u32;
        let mut map = || -> Vec<i16> {
            let value = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as i16
            };
            (0..height * width * channels).map(value).collect()
        };
        let maps = [map(), map(), map()];
        let planes: Vec<Planes> =
            maps.iter().map(|m| Planes::new(m, [height, width, channels], 3, 0..height)).collect();
        let moments = Moments::new(&planes, 3);
        let mut windows: Vec<Vec<f64>> = Vec::new();
        for map in &maps {
            for (y, x) in (0..height + 2).flat_map(|y| (0..width + 2).map(move |x| (y, x))) {
                let value = |i: usize| {
                    let (c, t) = (i / 9, i % 9);
                    let (row, column) = ((y + t / 3).checked_sub(2), (x + t % 3).checked_sub(2));
                    match (row.filter(|r| *r < height), column.filter(|c| *c < width)) {
                        (Some(r), Some(col)) => f64::from(map[(r * width + col) * channels + c]),
                        _ => 0.0,
                    }
                };
                windows.push((0..9 * channels).map(value).collect());
            }
        }
        let n = windows.len() as f64;
        let mean = |i: usize| windows.iter().map(|w| w[i]).sum::<f64>() / n;
        let covariance = moments.covariance(0, None);
        for (i, j) in (0..27).flat_map(|i| (0..27).map(move |j| (i, j))) {
            let wanted = windows.iter().map(|w| w[i] * w[j]).sum::<f64>() / n - mean(i) * mean(j);
            assert!((covariance[i * 27 + j] - wanted).abs() < 1e-6, "{i}, {j}");
        }
        assert_eq!(moments.inputs(0)[..10], [0, 3, 6, 9, 12, 15, 18, 21, 24, 1]);
    }
}
