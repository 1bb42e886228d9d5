//! How often each layer does each of its units of work: what a cost is a sum of.
//!
//! ```text
//! all           call     a step of the plan              row     an output row, with its padding
//!               moved    64 bytes of rows that move to the top of their window
//!               copied   64 bytes of input that become blocks (i8mm)
//! first direct  strip    a row times 8 outputs           tile    pixels whose accumulators fit the registers
//!               tile-step   a tile and 8 input values (f16: one)    pixel-step  a pixel of it
//!               pixel    8 outputs of a pixel stored
//! dense         strip, tile-step of a lone pixel
//! winograd      also the first layer of kernels that run it so, with 4 channels; tiles cut at an edge count by their taps
//!               window   a tile and 32 channels, transformed     window-group  8 channels of it
//!               line, line-group   the same, a row of taps at a time (by row)
//!               made        8 filters of a channel become 36 taps (winograd-f43-filters)     made-row   the same, a row of taps at a time
//!               batch-row   a row of taps, a batch of tiles, 8 outputs
//!               batch-step  of it, a tap and 4 channels          tile-step   a tile of it
//!               tile-row    a tile of a batch-row         output  a tile and 8 outputs      pixel   8 outputs stored
//! pool average  pixel, word     8 channels of an output (pool) or input (average) pixel
//! picture       pixel, value    output   value
//! ```
//!
//! Everything is counted from what the engine's plan will do ([`vgg_edge_engine::forecast`]).

use vgg_edge_blob::Shape;
use vgg_edge_blob::layout::{GROUP, padded};
use vgg_edge_engine::kernels::{CUT_TAPS, Cut};
use vgg_edge_engine::{BandForecast, StepForecast};

use super::kind::{EXACT, Form};
use super::{Kind, OpSketch, Sketch};

/// A unit of work; the module has what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the module's table says what each is")]
pub enum Unit {
    Call,
    Row,
    Moved,
    Copied,
    Strip,
    Tile,
    TileStep,
    PixelStep,
    Pixel,
    Window,
    WindowGroup,
    Line,
    LineGroup,
    Made,
    MadeRow,
    BatchRow,
    BatchStep,
    TileRow,
    Output,
    Word,
    Value,
}

impl Unit {
    /// Every unit.
    #[rustfmt::skip]
    pub const ALL: [Unit; 21] = [
        Unit::Call, Unit::Row, Unit::Moved, Unit::Copied, Unit::Strip, Unit::Tile, Unit::TileStep, Unit::PixelStep, Unit::Pixel,
        Unit::Window, Unit::WindowGroup, Unit::Line, Unit::LineGroup, Unit::Made, Unit::MadeRow, Unit::BatchRow, Unit::BatchStep, Unit::TileRow,
        Unit::Output, Unit::Word, Unit::Value,
    ];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Call => "call",
            Unit::Row => "row",
            Unit::Moved => "moved",
            Unit::Copied => "copied",
            Unit::Strip => "strip",
            Unit::Tile => "tile",
            Unit::TileStep => "tile-step",
            Unit::PixelStep => "pixel-step",
            Unit::Pixel => "pixel",
            Unit::Window => "window",
            Unit::WindowGroup => "window-group",
            Unit::Line => "line",
            Unit::LineGroup => "line-group",
            Unit::Made => "made",
            Unit::MadeRow => "made-row",
            Unit::BatchRow => "batch-row",
            Unit::BatchStep => "batch-step",
            Unit::TileRow => "tile-row",
            Unit::Output => "output",
            Unit::Word => "word",
            Unit::Value => "value",
        }
    }

    /// The unit called `name`.
    pub fn find(name: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// Whether one thread does it while the others wait.
    pub fn is_serial(self) -> bool {
        matches!(self, Unit::Call | Unit::Row | Unit::Moved)
    }
}

/// Units of work, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Units(Vec<(Unit, f64)>);

impl Units {
    /// Every unit with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Unit, f64)> {
        self.0.iter().copied()
    }

    /// How often `unit` is done.
    pub fn get(&self, unit: Unit) -> f64 {
        self.0.iter().find(|(other, _)| *other == unit).map_or(0.0, |(_, n)| *n)
    }

    /// Those that `wanted` says.
    pub(super) fn only(&self, wanted: fn(Unit) -> bool) -> Self {
        Self(self.iter().filter(|(unit, _)| wanted(*unit)).collect())
    }

    fn add(&mut self, unit: Unit, n: usize) {
        self.add_part(unit, n, 1.0);
    }

    /// Of `n` units a part each.
    fn add_part(&mut self, unit: Unit, n: usize, part: f64) {
        let n = n as f64 * part;
        match self.0.iter_mut().find(|(other, _)| *other == unit) {
            Some((_, sum)) => *sum += n,
            None => self.0.push((unit, n)),
        }
    }
}

/// The widest tile of a direct kernel: pixels, and how many are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Pixels.
    pub pixels: usize,
    /// Pixels of one multiplication; the last ones of a row may be computed in vain.
    pub granule: usize,
    /// The kernel reads blocks of 8 channels: layout `s8-o8k8`.
    pub blocks: bool,
}

/// Channels that a window is transformed at a time.
const WINDOW_CHANNELS: usize = 32;
/// Channels of a picture that are multiplied.
const PICTURE_CHANNELS: usize = 4;
/// Most tiles of a batch.
pub(super) const BATCH: usize = vgg_edge_engine::kernels::MAX_BATCH;

/// The units of layer `i`, whose plan has `steps`; `kind` is how it is really run: a layer of one pixel a row as
/// [`Kind::Dense`].
pub(super) fn of_layer(sketch: &Sketch, i: usize, steps: &[StepForecast], tile: Tile) -> (Kind, Units) {
    let maps = sketch.maps();
    let ([input, output], op) = ([maps[i], maps[i + 1]], sketch.layers[i].op);
    let mut units = Units::default();
    let groups = padded(output.channels) as usize / GROUP;
    let width = output.width as usize;
    for step in steps {
        units.add(Unit::Call, 1);
        units.add(Unit::Row, if step.halo > 0 { step.n_rows } else { 0 });
        units.add(Unit::Moved, step.moved_bytes.div_ceil(64));
        units.add(Unit::Copied, step.copied_bytes.div_ceil(64));
    }
    let rows: usize = steps.iter().map(|step| step.n_rows).sum();
    let kind = op.kind();
    // Strips, unless the plan has tiles for a picture.
    let of_picture = kind == Kind::First && steps.iter().any(|step| !step.bands.is_empty());
    match op {
        OpSketch::Conv { .. } if of_picture || kind.form().is_some() => {
            let form = kind.form().unwrap_or(EXACT);
            let channels = if of_picture { PICTURE_CHANNELS } else { padded(input.channels) as usize };
            for step in steps {
                let made = if step.single_rows { Unit::MadeRow } else { Unit::Made };
                units.add(made, step.n_made * channels * groups);
                for band in bands(step, width, form) {
                    winograd(&mut units, band, channels, groups, form);
                }
            }
            units.add(Unit::Pixel, rows * width * groups);
            (kind, units)
        }
        OpSketch::Conv { .. } | OpSketch::Dense { .. } => {
            let (n_runs, run_len) = sketch.runs(i, input, tile.blocks);
            let values = if sketch.scheme.is_int8() { run_len / GROUP } else { run_len };
            strips(&mut units, rows * groups, width, n_runs * values, tile);
            (if width == 1 && kind == Kind::Direct { Kind::Dense } else { kind }, units)
        }
        OpSketch::Pool { .. } => {
            units.add(Unit::Pixel, rows * width);
            units.add(Unit::Word, rows * width * groups);
            (kind, units)
        }
        OpSketch::Average => {
            units.add(Unit::Pixel, input.height as usize * input.width as usize);
            units.add(Unit::Word, input.height as usize * input.width as usize * groups);
            units.add(Unit::Value, GROUP * groups);
            (kind, units)
        }
    }
}

/// The units of making the first layer's map of the picture.
pub(super) fn of_picture(input: Shape, halo: usize) -> Units {
    let mut units = Units::default();
    let (rows, columns) = (input.height as usize + 2 * halo, input.width as usize + 2 * halo);
    units.add(Unit::Call, 1);
    units.add(Unit::Row, rows);
    units.add(Unit::Pixel, rows * columns);
    units.add(Unit::Value, rows * columns * input.channels as usize);
    units
}

/// The units of making real values of the last map.
pub(super) fn of_output(output: Shape) -> Units {
    let mut units = Units::default();
    units.add(Unit::Call, 1);
    units.add(Unit::Value, output.len() as usize);
    units
}

/// `n` strips of `width` pixels.
fn strips(units: &mut Units, n: usize, width: usize, steps: usize, tile: Tile) {
    let computed = if width == 1 { 1 } else { width.next_multiple_of(tile.granule) };
    let n_tiles = width.div_ceil(tile.pixels);
    units.add(Unit::Strip, n);
    units.add(Unit::Tile, n * n_tiles);
    units.add(Unit::TileStep, n * n_tiles * steps);
    units.add(Unit::PixelStep, n * computed * steps);
    units.add(Unit::Pixel, n * width);
}

/// The bands of a step; where the engine's plan has none, one of the form's own tiles.
fn bands(step: &StepForecast, width: usize, form: Form) -> Vec<BandForecast> {
    if !step.bands.is_empty() {
        return step.bands.clone();
    }
    let n_tiles = step.n_rows.div_ceil(form.tile) * width.div_ceil(form.tile);
    vec![BandForecast { n_tiles, n_batches: n_tiles.div_ceil(BATCH), by_row: false, cut: Cut::default() }]
}

fn winograd(units: &mut Units, band: BandForecast, channels: usize, groups: usize, form: Form) {
    let BandForecast { n_tiles, n_batches, by_row, cut } = band;
    let side = form.window();
    let [rows, columns] = [cut.short, cut.narrow].map(|cut| side - if cut { CUT_TAPS.len() } else { 0 });
    let [of_rows, of_columns] = [rows, columns].map(|n| n as f64 / side as f64);
    let (slabs, of_8, of_4) = (channels.div_ceil(WINDOW_CHANNELS), channels.div_ceil(GROUP), channels / 4);
    match by_row {
        false => {
            units.add(Unit::Window, n_tiles * slabs);
            units.add_part(Unit::WindowGroup, n_tiles * of_8, of_rows * of_columns);
        }
        true => {
            units.add(Unit::Line, rows * n_tiles * slabs);
            units.add_part(Unit::LineGroup, rows * n_tiles * of_8, of_columns);
        }
    }
    let taps = groups * rows * columns;
    units.add(Unit::BatchRow, groups * rows * n_batches);
    units.add(Unit::BatchStep, taps * n_batches * of_4);
    units.add(Unit::TileStep, taps * n_tiles * of_4);
    units.add_part(Unit::TileRow, groups * rows * n_tiles, of_columns);
    units.add_part(Unit::Output, groups * n_tiles, of_rows * of_columns);
}
