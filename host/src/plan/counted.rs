//! Layers that were counted on emulated CPUs, or timed: what the cost table is fitted to and held against.
//!
//! ```text
//! network <TAB> NAME <TAB> int8 <TAB> 224x224x3
//! layer   <TAB> block1_conv1 <TAB> 1 <TAB> conv3:64:first            name, block, op; in order
//! counts  <TAB> NAME <TAB> cortex-a72                                 of the network above
//! of      <TAB> block1_conv1 <TAB> mull.q 1849688064, vload.q 5, ...  a line a layer, [picture] and [output]
//! ```
//!
//! `cycles` among the classes stands for time. The layers of `counts` lie in the order of the network's.

use vgg_edge_blob::{Scheme, Shape};

use super::units::{self, Units};
use super::{Kind, LayerSketch, OpSketch, Sketch, instructions};
use crate::boards::{Class, Core};

/// Bytes of a last cache that changes nothing but traffic.
const ANY_CACHE: usize = 1 << 20;

/// A network and what each of its layers executed on some CPUs.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Name.
    pub name: String,
    /// The network.
    pub sketch: Sketch,
    /// By CPU: `[picture]`, the layers, `[output]`.
    pub cpus: Vec<(String, Vec<Executed>)>,
}

/// What one layer executed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Executed {
    /// Layer.
    pub layer: String,
    /// Time in cycles.
    pub cycles: f64,
    /// Instructions by class, `true` for 128-bit forms.
    pub classes: Vec<(Class, bool, f64)>,
}

/// One layer's work: step of the cost table, how often each unit, what it executed.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// The step's name in the table.
    pub step: &'static str,
    /// Units of work.
    pub units: Units,
    /// What was counted.
    pub executed: &'a Executed,
}

impl Executed {
    /// Cycles of the bound on a core, or the time.
    pub fn cycles_on(&self, core: &Core) -> f64 {
        self.cycles + core.bound_of(self.classes.iter().copied()).cycles
    }
}

impl Sample<'_> {
    /// Cycles that the cost table predicts on a core.
    pub fn predicted(&self, core: &Core) -> Option<f64> {
        instructions::cycles(core, self.step, &self.units).map(|(cycles, _)| cycles)
    }
}

impl Counted {
    /// Reads all networks of a file.
    ///
    /// # Errors
    /// The first line that is wrong, with what it should be.
    pub fn parse(text: &str) -> Result<Vec<Counted>, String> {
        let mut networks: Vec<Counted> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            add(&mut networks, line).map_err(|why| format!("line {}: {why}", i + 1))?;
        }
        Ok(networks)
    }

    /// The work of every layer on `cpu`, with the kernels of `core`; `None` when it was not counted there.
    pub fn samples(&self, cpu: &str, core: &Core) -> Option<Vec<Sample<'_>>> {
        let (_, executed) = self.cpus.iter().find(|(name, _)| name == cpu)?;
        let sketch = self.sketch.on(core);
        let forecast = sketch.forecast(core, 1, ANY_CACHE);
        let (tile, scheme) = (instructions::tile_of(core, sketch.scheme), sketch.scheme);
        let maps = sketch.maps();
        let halo = matches!(sketch.layers.first()?.op, OpSketch::Conv { side: 3, .. });
        let mut steps = vec![(Kind::Picture, units::of_picture(sketch.input, usize::from(halo)))];
        for (i, layer) in forecast.layers.iter().enumerate() {
            steps.push(units::of_layer(&sketch, i, &layer.steps, tile));
        }
        steps.push((Kind::Output, units::of_output(*maps.last()?)));
        let sample = |((kind, units), executed)| Sample {
            step: instructions::step_name(kind, scheme),
            units,
            executed,
        };
        Some(steps.into_iter().zip(executed).map(sample).collect())
    }
}

fn add(networks: &mut Vec<Counted>, line: &str) -> Result<(), String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let last = networks.last_mut();
    match (columns[..].iter().as_slice(), last) {
        (["network", name, scheme, input], _) => {
            let scheme =
                [Scheme::Int8, Scheme::F16, Scheme::Int8Fc4].into_iter().find(|s| s.name() == *scheme);
            let scheme = scheme.ok_or("found another scheme, expected int8 or f16")?;
            let sides: Vec<u32> = input.split('x').filter_map(|n| n.parse().ok()).collect();
            let [height, width, channels] = sides[..] else {
                return Err(format!("found input `{input}`, expected such as 224x224x3"));
            };
            let sketch = Sketch { scheme, input: Shape { height, width, channels }, layers: Vec::new() };
            networks.push(Counted { name: (*name).to_owned(), sketch, cpus: Vec::new() });
            Ok(())
        }
        (["layer", name, block, op], Some(network)) => {
            let block = block.parse().map_err(|_| format!("found block `{block}`, expected a number"))?;
            network.sketch.layers.push(LayerSketch { name: (*name).to_owned(), block, op: op.parse()? });
            Ok(())
        }
        (["counts", of, cpu], Some(network)) if network.name == *of => {
            network.cpus.push(((*cpu).to_owned(), Vec::new()));
            Ok(())
        }
        (["of", layer, classes], Some(Counted { cpus, .. })) if !cpus.is_empty() => {
            let executed = executed_of(layer, classes)?;
            cpus.iter_mut().next_back().map(|(_, all)| all.push(executed)).ok_or_else(String::new)
        }
        _ => Err(format!("found `{line}`, expected network, layer, counts of the network above, or of")),
    }
}

fn executed_of(layer: &str, classes: &str) -> Result<Executed, String> {
    let mut executed = Executed { layer: layer.to_owned(), ..Executed::default() };
    for part in classes.split(", ").filter(|part| !part.is_empty()) {
        let wrong = || format!("found `{part}`, expected a class and a number");
        let (name, n) = part.split_once(' ').ok_or_else(wrong)?;
        let n: f64 = n.parse().map_err(|_| wrong())?;
        match Class::of_form_name(name) {
            Some((class, wide)) => executed.classes.push((class, wide, n)),
            None if name == "cycles" => executed.cycles += n,
            None => return Err(wrong()),
        }
    }
    Ok(executed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_line() {
        let network = "network\tn\tint8\t8x8x3\n";
        for (text, expected) in [
            (
                "layer\ta\t1\taverage",
                "line 1: found `layer\ta\t1\taverage`, expected network, layer, counts of the network above, or of",
            ),
            ("# no\nnetwork\tn\tint4\t8x8x3", "line 2: found another scheme, expected int8 or f16"),
            ("network\tn\tint8\t8x8", "line 1: found input `8x8`, expected such as 224x224x3"),
            (&format!("{network}layer\ta\tx\taverage"), "line 2: found block `x`, expected a number"),
            (
                &format!("{network}counts\tn\tmax\nof\ta\tmull"),
                "line 3: found `mull`, expected a class and a number",
            ),
        ] {
            assert_eq!(Counted::parse(text).unwrap_err(), expected);
        }
    }
}
