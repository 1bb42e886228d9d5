//! Every kernel over the strips of VGG16's layers: cycles a strip, and the share of the core's peak.
//!
//! A strip is what one kernel call computes: a row of output pixels times 8 output channels, `K` products a value.
//!
//! ```text
//! strip_bench KERNEL K PIXELS REPEATS [f16]      compares with `scalar` first; counted with N and 2 N repeats
//! ```

use serde::Serialize;

use super::Emulator;
use crate::boards::{Board, Bound, Class, Counts, Isa};

/// Output channels of a strip.
const CHANNELS: u64 = 8;
/// Products to repeat a strip for: then the digits that the program prints cost nothing beside it.
const MEASURED: u64 = 4_000_000;

/// Layers of VGG16 at 224x224 with one shape of strip. The first convolution is left out: its runs are no whole
/// channels.
struct Shape {
    layers: &'static str,
    /// Products of an output value.
    k: u64,
    /// Output pixels of a row.
    pixels: u64,
}

const SHAPES: [Shape; 10] = [
    Shape { layers: "conv1_2", k: 576, pixels: 224 },
    Shape { layers: "conv2_1", k: 576, pixels: 112 },
    Shape { layers: "conv2_2", k: 1152, pixels: 112 },
    Shape { layers: "conv3_1", k: 1152, pixels: 56 },
    Shape { layers: "conv3_2, 3_3", k: 2304, pixels: 56 },
    Shape { layers: "conv4_1", k: 2304, pixels: 28 },
    Shape { layers: "conv4_2, 4_3", k: 4608, pixels: 28 },
    Shape { layers: "conv5", k: 4608, pixels: 14 },
    Shape { layers: "fc1", k: 25088, pixels: 1 },
    Shape { layers: "fc2, fc3", k: 4096, pixels: 1 },
];

/// A kernel by its variant word, what it needs, and the instruction that multiplies int8: class, products.
struct Kernel {
    name: &'static str,
    isa: Option<Isa>,
    int8: (Class, f64),
}

/// Best first, as in the engine's table; without `scalar`, which every run is compared with.
const KERNELS: [Kernel; 3] = [
    Kernel { name: "i8mm", isa: Some(Isa::I8mm), int8: (Class::Mmla, 32.0) },
    Kernel { name: "dotprod", isa: Some(Isa::DotProd), int8: (Class::Dot, 16.0) },
    Kernel { name: "neon", isa: None, int8: (Class::Mull, 8.0) },
];
/// f16 weights are multiplied as f32.
const F16: (Class, f64) = (Class::Fma, 4.0);

/// One kernel on one strip.
#[derive(Clone, Debug, Serialize)]
pub struct StripCost {
    /// Layers that have this strip.
    pub layers: &'static str,
    /// Products of an output value.
    pub k: u64,
    /// Output pixels.
    pub pixels: u64,
    /// Kernel, by its variant word.
    pub kernel: &'static str,
    /// `int8` or `f16`.
    pub scheme: &'static str,
    /// Whether the engine runs this kernel on the core.
    pub selected: bool,
    /// Cycles of the bound.
    pub cycles: f64,
    /// Multiply-accumulates a cycle.
    pub mac_per_cycle: f64,
    /// The most that the kernel's multiply instruction allows.
    pub peak: f64,
    /// The resource that binds.
    pub resource: &'static str,
    /// Cycles of the busiest resources.
    pub resources: Vec<(&'static str, f64)>,
    /// Instructions.
    pub instructions: i64,
}

/// Counts every kernel that the board's core runs, on every shape; a shape's kernels come fastest first.
/// `progress` is told of each shape.
///
/// # Errors
/// The emulator's, among them a kernel whose answer differs from `scalar`'s.
pub fn measure_strips(
    emulator: &Emulator,
    board: &Board,
    progress: impl Fn(&str),
) -> anyhow::Result<Vec<StripCost>> {
    let kernels: Vec<&Kernel> =
        KERNELS.iter().filter(|k| k.isa.is_none_or(|isa| board.core.has(isa))).collect();
    let mut rows = Vec::new();
    for (scheme, f16) in [("int8", false), ("f16", true)] {
        for shape in &SHAPES {
            progress(&format!("{scheme} {}", shape.layers));
            let first = rows.len();
            let macs = shape.k * shape.pixels * CHANNELS;
            let repeats = MEASURED / macs + 1;
            for (i, kernel) in kernels.iter().enumerate() {
                let counts = steady(emulator, kernel.name, shape, f16, repeats)?;
                let (class, products) = if f16 { F16 } else { kernel.int8 };
                let bound = board.core.bound(&counts);
                let one = |n: f64| n / repeats as f64;
                rows.push(StripCost {
                    layers: shape.layers,
                    k: shape.k,
                    pixels: shape.pixels,
                    kernel: kernel.name,
                    scheme,
                    selected: i == 0,
                    cycles: one(bound.cycles),
                    mac_per_cycle: macs as f64 / one(bound.cycles),
                    peak: board.core.per_cycle(class) * products,
                    resource: bound.resource.name(),
                    resources: busiest(&bound)
                        .into_iter()
                        .map(|(name, cycles)| (name, one(cycles)))
                        .collect(),
                    instructions: one(counts.instructions() as f64).round() as i64,
                });
            }
            rows[first..].sort_by(|a, b| a.cycles.round().total_cmp(&b.cycles.round()));
        }
    }
    Ok(rows)
}

/// `repeats` strips: twice as many minus as many.
fn steady(
    emulator: &Emulator,
    kernel: &str,
    shape: &Shape,
    f16: bool,
    repeats: u64,
) -> anyhow::Result<Counts> {
    let count = |repeats: u64| {
        let numbers = [shape.k, shape.pixels, repeats].map(|n| n.to_string());
        let mut args: Vec<String> = [kernel.to_owned()].into_iter().chain(numbers).collect();
        args.extend(f16.then(|| "f16".to_owned()));
        emulator.count(&args)
    };
    Ok(count(2 * repeats)?.minus(&count(repeats)?))
}

/// The resources that matter.
pub(super) fn busiest(bound: &Bound) -> Vec<(&'static str, f64)> {
    bound.totals.iter().map(|(resource, cycles)| (resource.name(), *cycles)).collect()
}
