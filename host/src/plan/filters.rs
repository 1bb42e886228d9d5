//! Which layers of exact Winograd keep filters in the file, and which the taps that are made of them.
//!
//! ```text
//! taps      72 bytes a filter, in the file and from memory each time they are read
//! filters    9 bytes a filter; a thread makes taps of them as it uses them, once a band of tiles
//! ```
//!
//! A layer's time is the longer of arithmetic and memory, and on boards of Armv8.0 that is arithmetic: by time alone, filters
//! would never be worth a cycle. But cores wait for some of what they read, most of all in order, a file is read from a card
//! before it is run, and its pages fill memory that a small board has little of. So filters are what decides within
//! [`MOST_CYCLES`] of all convolutions' arithmetic, which nobody will notice: layer by layer, first where the most bytes, those
//! that are moved and those of the file, are saved for a cycle, and nowhere for less than [`LEAST_BYTES`].

use vgg_edge_blob::layout::padded;
use vgg_edge_blob::winograd::TAPS;

use super::{Board, Conv, Kind, OpSketch, Sketch};
use crate::boards::Real;

/// Share of the 3x3 convolutions' cycles that filters may add.
const MOST_CYCLES: f64 = 0.02;
/// Bytes that a cycle must save: a board of four cores moves one or less in it.
const LEAST_BYTES: f64 = 1.0;

/// A layer whose filters save bytes.
struct Candidate {
    layer_idx: usize,
    cycles: f64,
    bytes: f64,
}

/// Gives layers of exact Winograd filters instead of taps, where the board's cores would transform them.
pub(super) fn choose(sketch: &mut Sketch, board: &Board) {
    if matches!(board.real, Real::Measured) {
        // Measured times have the waiting in them.
        return;
    }
    let maps = sketch.maps();
    let mut all = 0.0;
    let mut candidates = Vec::new();
    for (layer_idx, layer) in sketch.layers.iter().enumerate() {
        let OpSketch::Conv { side: 3, outputs, kind } = layer.op else { continue };
        let input = maps[layer_idx];
        let conv = Conv { height: input.height, width: input.width, inputs: input.channels, outputs };
        if kind == Kind::First {
            continue;
        }
        let cost = conv.cost(kind, board);
        all += cost.cycles;
        if kind == Kind::WinogradF43 {
            let filters = conv.cost(Kind::WinogradF43Filters, board);
            let in_file =
                f64::from(padded(input.channels)) * f64::from(padded(outputs)) * (2 * TAPS - 9) as f64;
            let (cycles, bytes) = (filters.cycles - cost.cycles, cost.bytes - filters.bytes + in_file);
            if bytes > LEAST_BYTES * cycles {
                candidates.push(Candidate { layer_idx, cycles: cycles.max(0.0), bytes });
            }
        }
    }
    // The most bytes a cycle first: what costs none is before all.
    candidates.sort_by(|a, b| (b.bytes * a.cycles).total_cmp(&(a.bytes * b.cycles)));
    let mut left = MOST_CYCLES * all;
    for Candidate { layer_idx, cycles, .. } in candidates {
        if let OpSketch::Conv { kind, .. } = &mut sketch.layers[layer_idx].op
            && cycles <= left
        {
            *kind = Kind::WinogradF43Filters;
            left -= cycles;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::LayerSketch;
    use vgg_edge_blob::{Padding, Scheme, Shape};

    /// A VGG16 without its head.
    fn vgg16(side: u32) -> Sketch {
        let blocks: [(u32, &[u32]); 5] =
            [(1, &[64; 2]), (2, &[128; 2]), (3, &[256; 3]), (4, &[512; 3]), (5, &[512; 3])];
        let mut layers = Vec::new();
        for (block, convs) in blocks {
            for outputs in convs {
                let kind = if layers.is_empty() { Kind::First } else { Kind::Direct };
                let op = OpSketch::Conv { side: 3, outputs: *outputs, kind };
                layers.push(LayerSketch { name: String::new(), block: block as u16, op });
            }
            let op = OpSketch::Pool { stride: 2, padding: Padding::Valid };
            layers.push(LayerSketch { name: String::new(), block: block as u16, op });
        }
        Sketch { scheme: Scheme::Int8, input: Shape { height: side, width: side, channels: 3 }, layers }
    }

    fn cycles(sketch: &Sketch, board: &Board) -> f64 {
        let maps = sketch.maps();
        let of_layer = |(layer, input): (&LayerSketch, &Shape)| match layer.op {
            OpSketch::Conv { outputs, kind, .. } if kind != Kind::First => {
                let Shape { height, width, channels: inputs } = *input;
                Conv { height, width, inputs, outputs }.cost(kind, board).cycles
            }
            _ => 0.0,
        };
        sketch.layers.iter().zip(&maps).map(of_layer).sum()
    }

    #[test]
    fn filters_stay_within_their_share_and_take_the_most_weights_first() {
        for name in ["rpi3", "rpi4", "generic"] {
            let board = Board::find(name).unwrap();
            let mut planned = vgg16(224);
            planned.plan(board);
            let kinds: Vec<Kind> = planned.layers.iter().map(|layer| layer.op.kind()).collect();
            let mut taps = planned.clone();
            for layer in &mut taps.layers {
                if let OpSketch::Conv { kind: kind @ Kind::WinogradF43Filters, .. } = &mut layer.op {
                    *kind = Kind::WinogradF43;
                }
            }
            let (with, without) = (cycles(&planned, board), cycles(&taps, board));
            assert!(with <= (1.0 + MOST_CYCLES) * without, "{name}: {with} of {without}");
            // Layers 14 to 16 are 512 to 512 channels at 14x14: 19 MB of taps each.
            assert!(kinds[14..17].iter().all(|kind| *kind == Kind::WinogradF43Filters), "{name}: {kinds:?}");
        }
    }

    #[test]
    fn what_runs_direct_or_was_timed_has_no_candidates() {
        for name in ["rpi5", "armv8-i8mm", "x86-64"] {
            let mut planned = vgg16(224);
            planned.plan(Board::find(name).unwrap());
            let filters = planned.layers.iter().any(|layer| layer.op.kind() == Kind::WinogradF43Filters);
            assert!(!filters, "{name}");
        }
    }
}
