//! The block executor: walks a plan's steps over one picture.
//!
//! ```text
//! picture u8 NHWC ─► steps (conv, pool: bands of rows; average pool, dense: whole) ─► f32 logits
//! ```
//!
//! [`Engine::run`] allocates nothing; the arena is known from the blob: [`Engine::arena_bytes`].

mod arithmetic;
mod blocks;
mod first;
mod float;
mod linear;
mod picture;
mod pooling;
mod winograd;

pub(crate) use self::winograd::band_parts;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use vgg_edge_blob::layout::Line;
use vgg_edge_blob::{Blob, Layer, LayerOp, Linear, S8Layout, Scheme, Weights};
use zerocopy::{FromBytes, IntoBytes};

use self::arithmetic::{Exact, ExactWeights, Requantized};
use self::float::{Filters, Half, Single};
use crate::arena;
use crate::error::EngineError;
use crate::kernels::{self, Kernel};
use crate::plan::{self, BlockPlan, Buffer, Plan, Pooled, Step};
use crate::pool::Executor;
use crate::repack::{Repack, Repacked};
use crate::tiling::Tiling;

/// What a caller may choose. No choice changes a result.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Cache that a band should fit, bytes. By default that of the core, where it tells, else 512 KiB.
    pub l2_bytes: usize,
    /// Refuse networks that need a larger arena, bytes.
    pub max_arena_bytes: usize,
    /// Repack layers whose layout another CPU's kernels want, where that is exact: see [`Engine::repacked`]. Without it, layers
    /// of `winograd-f43-filters` are Winograd on every kernel.
    pub repack: bool,
    /// A clock in nanoseconds, for [`Engine::profile`]; without one nothing is measured.
    pub clock: Option<fn() -> u64>,
}

impl Default for Options {
    fn default() -> Self {
        let l2_bytes = kernels::l2_bytes().unwrap_or(512 << 10);
        Self { l2_bytes, max_arena_bytes: 512 << 20, repack: true, clock: None }
    }
}

/// A network ready to run: a blob, a kernel, threads and an arena.
pub struct Engine<'a> {
    scheme: Scheme,
    blob: Blob<'a>,
    layers: Vec<Layer<'a>>,
    repack: Repack,
    /// The first layer's weights, when it runs as Winograd by [`first::weights`].
    first: Vec<i16>,
    plan: Plan,
    kernel: &'static dyn Kernel,
    executor: &'a dyn Executor,
    arena: Vec<Line>,
    output: Vec<f32>,
    profile: Vec<u64>,
    clock: Option<fn() -> u64>,
}

/// What every step needs besides its own fields.
struct Context<'a, 'e> {
    layers: &'e [Layer<'a>],
    repack: &'e Repack,
    first: &'e [i16],
    kernel: &'static dyn Kernel,
    executor: &'e dyn Executor,
    tilings: &'e [Option<Tiling>],
}

impl<'a> Engine<'a> {
    /// Repacks what the kernel wants otherwise, plans the network and allocates its arena.
    ///
    /// # Errors
    /// [`EngineError::Arena`] when it is over `options.max_arena_bytes`, [`EngineError::OutOfMemory`].
    pub fn new(
        blob: &Blob<'a>,
        kernel: &'static dyn Kernel,
        executor: &'a dyn Executor,
        options: Options,
    ) -> Result<Self, EngineError> {
        let layers: Vec<Layer<'a>> = blob.layers().collect();
        let repack = match options.repack {
            true => Repack::new(&layers, kernel, executor),
            false => Repack::default(),
        };
        let seen: Vec<Layer<'_>> =
            layers.iter().enumerate().map(|(i, layer)| repack.view(i, layer)).collect();
        let first = first::weights(kernel, &seen[0]);
        let network = (seen.as_slice(), first.is_some());
        let plan = plan::plan(blob.scheme(), blob.input(), network, options.l2_bytes, executor.n_threads());
        let need = plan.arena_bytes;
        if need > options.max_arena_bytes {
            return Err(EngineError::Arena { need, limit: options.max_arena_bytes });
        }
        let arena = arena::allocate(need).ok_or(EngineError::OutOfMemory { need })?;
        Ok(Self {
            scheme: blob.scheme(),
            blob: *blob,
            output: vec![0.0; blob.n_classes()],
            profile: vec![0; layers.len()],
            layers,
            repack,
            first: first.unwrap_or_default(),
            plan,
            kernel,
            executor,
            arena,
            clock: options.clock,
        })
    }

    /// Layers that were repacked at load, since this kernel is faster with another layout than the file's. Results are
    /// the same; without [`Options::repack`] there are none.
    pub fn repacked(&self) -> &[Repacked] {
        self.repack.layers()
    }

    /// Bytes of the arena: all memory the engine uses besides the blob, its tables and repacked weights.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena_bytes
    }

    /// How each block runs.
    pub fn blocks(&self) -> &[BlockPlan] {
        &self.plan.blocks
    }

    /// The kernel in use.
    pub fn kernel(&self) -> &'static dyn Kernel {
        self.kernel
    }

    /// The network's layers, as the file has them.
    pub fn layers(&self) -> &[Layer<'a>] {
        &self.layers
    }

    /// Nanoseconds a layer of the last picture; zeros without [`Options::clock`].
    pub fn profile(&self) -> &[u64] {
        &self.profile
    }

    /// Runs one picture: u8, NHWC, RGB, gray or RGBA, of the blob's input size. Returns the logits, one a class; for
    /// a feature extractor ([`Blob::is_classifier`]) the last map's real values in NHWC order.
    ///
    /// # Errors
    /// [`EngineError::Input`] when the picture has another size.
    pub fn run(&mut self, picture: &[u8]) -> Result<&[f32], EngineError> {
        self.run_steps(picture, None)?;
        Ok(&self.output)
    }

    /// Runs one picture and hands every layer's output to `visit(layer_idx, first_row, values)`, for comparisons
    /// layer by layer: real values, NHWC without padded channels, some rows at a time as bands compute them.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_visiting(
        &mut self,
        picture: &[u8],
        mut visit: impl FnMut(usize, usize, &[f32]),
    ) -> Result<&[f32], EngineError> {
        let layers = self.layers.clone();
        let scheme = self.scheme;
        let last = layers.len() - 1;
        let mut values = Vec::new();
        let mut after = |step: &Step, bytes: &[u8]| {
            let layer = &layers[step.layer_idx];
            if step.layer_idx == last && matches!(layer.op, LayerOp::Dense(_)) {
                return;
            }
            let row = (layer.output.width * layer.output.channels) as usize;
            values.resize(step.n_rows * row, 0.0);
            rows_as_f32(scheme, layer, &step.target, step.target_row, bytes, &mut values);
            visit(step.layer_idx, step.first_row, &values);
        };
        self.run_steps(picture, Some(&mut after))?;
        if matches!(layers[last].op, LayerOp::Dense(_)) {
            visit(last, 0, &self.output);
        }
        Ok(&self.output)
    }

    /// Runs the self-test that travels in the file: its picture must give its logits (or features), bit for bit.
    ///
    /// # Errors
    /// [`EngineError::SelfTest`] for the first value that differs, [`EngineError::NoSelfTest`].
    pub fn self_test(&mut self) -> Result<(), EngineError> {
        let golden = self.blob.golden().ok_or(EngineError::NoSelfTest)?;
        self.run(golden.input)?;
        let logits = &self.output;
        let differs = logits.iter().zip(golden.logits).position(|(a, b)| a.to_bits() != b.to_bits());
        match differs {
            None => Ok(()),
            Some(index) => Err(EngineError::SelfTest {
                what: if self.blob.is_classifier() { "logit" } else { "feature" },
                index,
                found: logits[index].to_string(),
                expected: golden.logits[index].to_string(),
            }),
        }
    }

    /// `after` looks at each step's output: all of them are made then.
    fn run_steps(&mut self, picture: &[u8], mut after: Option<Visit<'_>>) -> Result<(), EngineError> {
        let expected = self.blob.input().len() as usize;
        if picture.len() != expected {
            return Err(EngineError::Input { found: picture.len(), expected });
        }
        let (layers, repack, first) = (&self.layers, &self.repack, self.first.as_slice());
        let (kernel, executor, tilings) = (self.kernel, self.executor, self.plan.tilings.as_slice());
        let context = Context { layers, repack, first, kernel, executor, tilings };
        let bytes = self.arena.as_mut_bytes();
        let now = || self.clock.map_or(0, |clock| clock());
        self.profile.fill(0);
        picture::load(&self.blob, &self.layers[0], &self.plan.input, picture, bytes);
        let mut start = now();
        for step in &self.plan.steps {
            match (&after, step) {
                (None, Step { is_done: true, .. }) => {}
                (None, _) => context.run(step, &self.plan.scratch, bytes),
                (Some(_), _) => context.run(&Step { pooled: None, ..*step }, &self.plan.scratch, bytes),
            }
            let end = now();
            self.profile[step.layer_idx] += end.saturating_sub(start);
            start = end;
            if let Some(after) = &mut after {
                after(step, bytes);
            }
        }
        let last = &self.layers[self.layers.len() - 1];
        output(self.scheme, last, &self.plan.output, bytes, &mut self.output);
        Ok(())
    }
}

/// What looks at a step's output.
type Visit<'v> = &'v mut dyn FnMut(&Step, &[u8]);

impl Context<'_, '_> {
    fn run(&self, step: &Step, scratch: &core::ops::Range<usize>, bytes: &mut [u8]) {
        let layer = &self.repack.view(step.layer_idx, &self.layers[step.layer_idx]);
        if step.pooled.is_none() {
            move_rows(step, bytes);
        }
        match layer.op {
            LayerOp::Conv { linear, .. } => match (linear.weights, &self.tilings[step.layer_idx]) {
                (Weights::S16Winograd { data: weights, params }, Some(tiling)) => {
                    let (weights, channels) = (ExactWeights::Taps(weights), tiling.channels);
                    let exact = Exact { layer, weights, params, channels };
                    self.winograd(step, (&exact, tiling), scratch, bytes);
                }
                (Weights::S8 { winograd: true, data, params, .. }, Some(tiling)) => {
                    let (weights, channels) = (ExactWeights::Filters(data), tiling.channels);
                    let exact = Exact { layer, weights, params, channels };
                    self.winograd(step, (&exact, tiling), scratch, bytes);
                }
                (Weights::S8 { params, .. }, Some(tiling)) => {
                    let (weights, channels) = (ExactWeights::Taps(self.first), first::CHANNELS);
                    let exact = Exact { layer, weights, params, channels };
                    self.winograd(step, (&exact, tiling), scratch, bytes);
                }
                (
                    Weights::S8Winograd { form, layout, data: weights, params, input, scales },
                    Some(tiling),
                ) => {
                    let layer = Requantized { form, layout, layer, weights, params, input, scales };
                    self.winograd(step, (&layer, tiling), scratch, bytes);
                }
                (Weights::F16Winograd { half, data: weights, params, in_scale, out_scale }, Some(tiling)) => {
                    let filters = Filters { weights, params, in_scale, out_scale, relu: linear.relu };
                    match half {
                        true => self.winograd(step, (&Half(filters), tiling), scratch, bytes),
                        false => self.winograd(step, (&Single(filters), tiling), scratch, bytes),
                    }
                }
                _ => self.direct(step, layer, &linear, scratch, bytes),
            },
            LayerOp::MaxPool { .. } => self.max_pool(step, layer, bytes),
            LayerOp::GlobalAvgPool { multiplier, shift } => {
                pooling::global_avg(step, layer, multiplier, shift, scratch, bytes);
            }
            LayerOp::Dense(linear) => self.direct(step, layer, &linear, scratch, bytes),
        }
        // The next layer's padding: the zero point (int8) or 0.0, whose bytes are all 0.
        let pad = layer.out_quant.zero_point as u8;
        let pad = if step.target.value_size == 1 { pad } else { 0 };
        match step.pooled {
            None => fill_halo(step, pad, bytes),
            Some(Pooled { target, target_row, n_rows, pad_above, pad_below }) => {
                let pooled = Step { target, target_row, n_rows, pad_above, pad_below, ..*step };
                fill_halo(&pooled, pad, bytes);
            }
        }
    }

    /// A convolution or dense layer, every product of its definition.
    fn direct(
        &self,
        step: &Step,
        layer: &Layer<'_>,
        linear: &Linear<'_>,
        scratch: &core::ops::Range<usize>,
        bytes: &mut [u8],
    ) {
        let is_last = step.layer_idx + 1 == self.layers.len();
        let gives_logits = is_last && matches!(layer.op, LayerOp::Dense(_));
        match linear.weights {
            Weights::S8 { layout: S8Layout::K8, data: weights, params, .. } => {
                let filters = blocks::Filters { layer, linear, weights, params, gives_logits };
                self.blocks(step, &filters, scratch, bytes);
            }
            _ => self.linear(step, layer, linear, gives_logits, bytes),
        }
    }
}

/// Moves the rows that are still needed to the top of the step's window.
fn move_rows(step: &Step, bytes: &mut [u8]) {
    let (from, n_rows) = step.keep;
    if n_rows > 0 {
        let row = step.target.pitch() * step.target.value_size;
        let start = step.target.start + from * row;
        bytes.copy_within(start..start + n_rows * row, step.target.start);
    }
}

/// Fills the padding pixels of the rows just written.
fn fill_halo(step: &Step, pad: u8, bytes: &mut [u8]) {
    let target = &step.target;
    if target.halo == 0 {
        return;
    }
    let row = target.pitch() * target.value_size;
    let pixel = target.channels * target.value_size;
    let right = (target.width + target.halo) * pixel;
    let rows = &mut bytes[target.start..][..target.rows * row];
    for r in step.target_row..step.target_row + step.n_rows {
        rows[r * row..][..pixel].fill(pad);
        rows[r * row + right..][..pixel].fill(pad);
    }
    if step.pad_above {
        rows[(step.target_row - 1) * row..][..row].fill(pad);
    }
    if step.pad_below {
        rows[(step.target_row + step.n_rows) * row..][..row].fill(pad);
    }
}

/// The last layer's values as f32.
fn output(scheme: Scheme, last: &Layer<'_>, buffer: &Buffer, bytes: &[u8], out: &mut [f32]) {
    match (scheme, last.op) {
        (Scheme::Int8 | Scheme::Int8Fc4, LayerOp::Dense(linear)) => {
            linear::logits(&linear, buffer, bytes, out);
        }
        _ => {
            rows_as_f32(scheme, last, buffer, buffer.halo, bytes, out);
        }
    }
}

/// Rows of a map as real values into `out`, NHWC, padded channels left out.
fn rows_as_f32(
    scheme: Scheme,
    layer: &Layer<'_>,
    buffer: &Buffer,
    first_row: usize,
    bytes: &[u8],
    out: &mut [f32],
) {
    let channels = layer.output.channels as usize;
    let bytes = &bytes[buffer.range()];
    let floats = <[f32]>::ref_from_bytes(bytes).unwrap_or(&[]);
    for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
        let (row, column) = (first_row + i / buffer.width, i % buffer.width);
        let at = row * buffer.pitch() + (column + buffer.halo) * buffer.channels;
        match scheme {
            Scheme::Int8 | Scheme::Int8Fc4 => {
                for (real, &v) in pixel.iter_mut().zip(&bytes[at..at + channels]) {
                    let steps = i32::from(v as i8) - i32::from(layer.out_quant.zero_point);
                    *real = steps as f32 * layer.out_quant.scale;
                }
            }
            Scheme::F16 => pixel.copy_from_slice(&floats[at..at + channels]),
        }
    }
}
