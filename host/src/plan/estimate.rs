//! What a network takes on a board, a row a layer: cycles, bytes, milliseconds.
//!
//! ```text
//! sketch ─► the engine's plan ─► units of work ─► instructions ─► port prices ─► cycles of the bound
//!                           └──► bytes to and from memory
//!
//! ms on n cores = the longer of   (serial + parallel / n) cycles * real / clock   and   bytes / bandwidth
//! ```
//!
//! `real` is how far published times are from the bound ([`Real`](crate::boards::Real)). Serial is what one thread does while the
//! others wait: the picture, averages, rows that move between bands, padding. Starting threads and tasks that end late are not
//! in it: the engine hands out four tasks a thread.

use serde::Serialize;
use vgg_edge_blob::{Scheme, Shape};
use vgg_edge_engine::{Forecast, LayerForecast};

use super::units::{self, Units};
use super::{Kind, LayerSketch, OpSketch, Sketch, Unit, instructions};
use crate::boards::Board;

/// A network on a board.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// `[picture]`, the layers in order, `[output]`.
    pub rows: Vec<Row>,
    /// Bytes of the arena with one thread.
    pub arena_bytes: usize,
    /// Cores of the second time.
    pub n_threads: usize,
}

/// A layer on a board.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Layer.
    pub name: String,
    /// How it is computed.
    #[serde(serialize_with = "kind_name")]
    pub algorithm: Kind,
    /// The kernel, by its variant word.
    pub kernel: &'static str,
    /// What a kernel call computes: pixels or Winograd tiles times outputs.
    pub tile: Option<String>,
    /// Cycles of the bound.
    pub cycles: f64,
    /// The resource that binds.
    pub resource: &'static str,
    /// Bytes to and from memory.
    pub bytes: f64,
    /// Milliseconds with one thread.
    pub ms_1: f64,
    /// Milliseconds with [`Estimate::n_threads`].
    pub ms_n: f64,
}

fn kind_name<S: serde::Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.name())
}

/// A step of a network that the cost table does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layer `{layer}`: no cost of step `{step}` on CPU `{cpu}`")]
pub struct Unknown {
    /// Layer.
    pub layer: String,
    /// Step.
    pub step: &'static str,
    /// CPU.
    pub cpu: &'static str,
}

/// Work that takes time: cycles of the bound, of which one thread does some alone.
#[derive(Clone, Copy, Debug)]
struct Work {
    cycles: f64,
    serial: f64,
    resource: &'static str,
}

impl Work {
    fn of(board: &Board, scheme: Scheme, kind: Kind, units: &Units) -> Option<Self> {
        let step = instructions::step_name(kind, scheme);
        let (cycles, resource) = instructions::cycles(board.core, step, units)?;
        let serial = match kind.is_parallel() {
            false => cycles,
            true => {
                let serial = units.only(Unit::is_serial);
                instructions::cycles(board.core, step, &serial).map_or(0.0, |(cycles, _)| cycles).min(cycles)
            }
        };
        Some(Self { cycles, serial, resource })
    }

    /// Milliseconds on `n_threads` of the board's cores.
    fn ms(&self, board: &Board, bytes: f64, n_threads: usize) -> f64 {
        let n = n_threads.clamp(1, board.n_cores) as f64;
        let cycles = self.serial + (self.cycles - self.serial) / n;
        board.milliseconds(cycles * board.real.factor()).max(board.dram_milliseconds(bytes))
    }
}

/// What one layer takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Cycles of the bound, all cores together.
    pub cycles: f64,
    /// Bytes to and from memory.
    pub bytes: f64,
}

impl Cost {
    /// Seconds on all cores of `board`: arithmetic and memory overlap.
    pub fn seconds(&self, board: &Board) -> f64 {
        self.seconds_on(board, board.n_cores)
    }

    /// Seconds on `n_threads` of the board's cores.
    pub fn seconds_on(&self, board: &Board, n_threads: usize) -> f64 {
        let cycles = self.cycles * board.real.factor() / n_threads.clamp(1, board.n_cores) as f64;
        board.milliseconds(cycles).max(board.dram_milliseconds(self.bytes)) / 1e3
    }
}

impl Estimate {
    /// Predicts `sketch` on `board` with one thread and with `n_threads`.
    ///
    /// # Errors
    /// A step that the cost table does not know.
    pub fn new(sketch: &Sketch, board: &Board, n_threads: usize) -> Result<Self, Unknown> {
        let cache = board.l2.kib as usize * 1024;
        let run = sketch.on(board.core);
        let [one, many] = [1, n_threads].map(|n| run.forecast(board.core, n, cache));
        let mut rows = vec![edge(sketch, board, Kind::Picture, n_threads)?];
        for i in 0..sketch.layers.len() {
            rows.push(row(&run, i, board, [&one, &many], n_threads)?);
        }
        rows.push(edge(sketch, board, Kind::Output, n_threads)?);
        Ok(Self { rows, arena_bytes: one.arena_bytes, n_threads })
    }

    /// Sums over all rows, named `total`.
    pub fn total(&self) -> Row {
        let sum = |of: fn(&Row) -> f64| self.rows.iter().map(of).sum();
        Row {
            name: "total".to_owned(),
            algorithm: Kind::Output,
            kernel: "",
            tile: None,
            cycles: sum(|row| row.cycles),
            resource: "",
            bytes: sum(|row| row.bytes),
            ms_1: sum(|row| row.ms_1),
            ms_n: sum(|row| row.ms_n),
        }
    }
}

/// Of a layer in the plan of its whole network: cycles of the bound and bytes.
pub(super) fn layer_cost(sketch: &Sketch, i: usize, board: &Board) -> Option<Cost> {
    let forecast = sketch.forecast(board.core, 1, board.l2.kib as usize * 1024);
    let layer = forecast.layers.get(i)?;
    let tile = instructions::tile_of(board.core, sketch.scheme);
    let (kind, units) = units::of_layer(sketch, i, &layer.steps, tile);
    let work = Work::of(board, sketch.scheme, kind, &units)?;
    Some(Cost { cycles: work.cycles, bytes: layer.weight_traffic as f64 })
}

fn bytes(layer: &LayerForecast) -> f64 {
    (layer.weight_traffic + layer.map_traffic) as f64
}

fn row(
    sketch: &Sketch,
    i: usize,
    board: &Board,
    [one, many]: [&Forecast; 2],
    n_threads: usize,
) -> Result<Row, Unknown> {
    let tile = instructions::tile_of(board.core, sketch.scheme);
    let work = |forecast: &Forecast| {
        let (kind, units) = units::of_layer(sketch, i, &forecast.layers[i].steps, tile);
        Work::of(board, sketch.scheme, kind, &units).map(|work| (work, bytes(&forecast.layers[i])))
    };
    let LayerSketch { name, op, .. } = &sketch.layers[i];
    let unknown = || Unknown {
        layer: name.clone(),
        step: instructions::step_name(op.kind(), sketch.scheme),
        cpu: instructions::cpu_of(board.core),
    };
    let (of_one, bytes_1) = work(one).ok_or_else(unknown)?;
    let (of_many, bytes_n) = work(many).ok_or_else(unknown)?;
    Ok(Row {
        name: name.clone(),
        algorithm: op.kind(),
        kernel: if matches!(op, OpSketch::Pool { .. } | OpSketch::Average) { "" } else { board.core.kernel },
        tile: tile_text(sketch, i, one, tile),
        cycles: of_one.cycles,
        resource: of_one.resource,
        bytes: bytes_1,
        ms_1: of_one.ms(board, bytes_1, 1),
        ms_n: of_many.ms(board, bytes_n, n_threads),
    })
}

/// `12 tiles x 8`, `8 pixels x 8`: the widest that this layer has.
fn tile_text(sketch: &Sketch, i: usize, forecast: &Forecast, tile: units::Tile) -> Option<String> {
    let maps = sketch.maps();
    let width = maps[i + 1].width as usize;
    let plural = |n: usize, what: &str| format!("{n} {what}{} x 8", if n == 1 { "" } else { "s" });
    match sketch.layers[i].op {
        OpSketch::Conv { kind, .. } => match kind.form() {
            Some(_) => {
                let bands = forecast.layers[i].steps.iter().flat_map(|step| &step.bands);
                let widest = bands.map(|band| band.n_tiles.div_ceil(band.n_batches)).max();
                Some(plural(widest.unwrap_or(units::BATCH), "tile"))
            }
            None => Some(plural(width.div_ceil(width.div_ceil(tile.pixels)), "pixel")),
        },
        OpSketch::Dense { .. } => Some(plural(1, "pixel")),
        OpSketch::Pool { .. } | OpSketch::Average => None,
    }
}

/// What comes before the first layer and after the last.
fn edge(sketch: &Sketch, board: &Board, kind: Kind, n_threads: usize) -> Result<Row, Unknown> {
    let maps = sketch.maps();
    let last = maps.last().copied().unwrap_or(sketch.input);
    let halo =
        matches!(sketch.layers.first(), Some(first) if matches!(first.op, OpSketch::Conv { side: 3, .. }));
    let size = |shape: Shape| shape.len() as f64;
    let (name, units, bytes) = match kind {
        // The picture is read, its map written.
        Kind::Picture => {
            ("[picture]", units::of_picture(sketch.input, usize::from(halo)), 2.0 * size(sketch.input))
        }
        _ => ("[output]", units::of_output(last), 4.0 * size(last)),
    };
    let step = instructions::step_name(kind, sketch.scheme);
    let work = Work::of(board, sketch.scheme, kind, &units).ok_or_else(|| Unknown {
        layer: name.to_owned(),
        step,
        cpu: instructions::cpu_of(board.core),
    })?;
    Ok(Row {
        name: name.to_owned(),
        algorithm: kind,
        kernel: "",
        tile: None,
        cycles: work.cycles,
        resource: work.resource,
        bytes,
        ms_1: work.ms(board, bytes, 1),
        ms_n: work.ms(board, bytes, n_threads),
    })
}
