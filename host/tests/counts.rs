//! Instructions counted on emulated CPUs: a strip, and small networks layer by layer, against what the planner predicts.
//!
//! `cargo xtask test --only counts` builds what runs here and names it: `VGG_EDGE_COUNTER` is the counter,
//! `VGG_EDGE_STRIPS` and `VGG_EDGE_CLASSIFY` the programs for Arm Linux. Without them there is nothing to count.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use vgg_edge_blob::{Algorithm, Blob, Scheme};
use vgg_edge_host::bench::{Emulator, Options, measure_network};
use vgg_edge_host::boards::{Class, Counts, board, board_of_cpu, classify};
use vgg_edge_host::pack;
use vgg_edge_host::plan::{Estimate, Sketch};
use vgg_edge_tests::{odd_network, run, temp_dir, vgg_of_two_blocks};

/// The counter and a program, if this is the job that counts.
fn programs(program: &str) -> Option<(PathBuf, PathBuf)> {
    let found = env::var_os("VGG_EDGE_COUNTER").zip(env::var_os(program));
    if found.is_none() {
        println!(
            "left out: VGG_EDGE_COUNTER and {program} are not set, `cargo xtask test --only counts` sets them"
        );
    }
    found.map(|(counter, program)| (counter.into(), program.into()))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Instructions of some classes.
fn of_class(counts: &Counts, class: Class) -> i64 {
    counts.forms.iter().filter(|(form, _)| classify(form).0 == class).map(|(_, n)| n).sum()
}

#[test]
fn a_strip_counts_the_same_every_time() {
    let Some((counter, program)) = programs("VGG_EDGE_STRIPS") else { return };
    // CPU, kernel, the instruction that multiplies and the products of one.
    for (cpu, kernel, class, products) in [
        ("cortex-a53", "neon", Class::Mull, 8),
        ("cortex-a72", "neon", Class::Mull, 8),
        ("cortex-a76", "dotprod", Class::Dot, 16),
        ("max", "i8mm", Class::Mmla, 32),
    ] {
        let board = board_of_cpu(cpu).unwrap();
        let (cpu, counter, program) = (cpu.to_owned(), counter.clone(), program.clone());
        let emulator = Emulator { cpu, counter, program, caches_of: None };
        let count = |repeats: u32| emulator.count(&words(&format!("{kernel} 576 14 {repeats}"))).unwrap();
        let (one, two, three) = (count(20), count(40), count(60));
        let (steady, again) = (two.clone().minus(&one), three.minus(&two));
        let macs = 20 * 576 * 14 * 8;
        let multiplies = of_class(&steady, class);
        assert_eq!(multiplies, of_class(&again, class), "{kernel}");
        assert!(multiplies * products >= macs, "{kernel}: {multiplies} multiplies for {macs} products");
        let [cycles, again] = [&steady, &again].map(|counts| board.core.bound(counts).cycles);
        // The digits of the printed time differ.
        assert!((cycles - again).abs() < 1000.0, "{kernel}: {cycles} cycles, then {again}");
        let share = macs as f64 / cycles / (board.core.per_cycle(class) * products as f64);
        println!("{kernel} on {}: {cycles} cycles, {:.0} % of the peak", board.title, share * 100.0);
        assert!((0.4..=1.0).contains(&share), "{kernel}: {share} of the peak");
        assert_eq!(steady.dram_bytes(), None);
        let function = steady.functions.largest_by(vgg_edge_host::bench::demangle).remove(0);
        assert!(function.0.contains(kernel), "most instructions are in {function:?}");
    }
}

#[test]
fn a_network_is_counted_layer_by_layer() {
    let Some((counter, program)) = programs("VGG_EDGE_CLASSIFY") else { return };
    let dir = temp_dir();
    let bytes = pack::to_bytes(vgg_of_two_blocks(Scheme::Int8)).unwrap();
    fs::write(dir.path().join("m.vgg"), bytes.as_slice()).unwrap();
    let host = |more: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        command.args(["bench", "--cpu", "cortex-a76", "m.vgg", "--counter"]).arg(&counter);
        command.arg("--program").arg(&program).args(more.split_whitespace()).current_dir(dir.path());
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran
    };
    let ran = host("--json --layers --memory --save counts.tsv");
    let expected =
        "counting on cortex-a76: the order of the layers\ncounting on cortex-a76: two inferences\n";
    assert_eq!(ran.stderr, expected);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["core"], &json["board"]), (&"a76".into(), &"Pi 5".into()));

    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let names: Vec<&str> = blob.layers().map(|layer| layer.name).collect();
    let layers = json["layers"].as_array().unwrap();
    assert_eq!(layers.len(), names.len() + 2);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    for (layer, name) in layers.iter().zip([&["[picture]"], &names[..], &["[output]"]].concat()) {
        assert_eq!(layer["name"], name);
        let (macs, cycles) = (number(&layer["macs"]), number(&layer["cycles"]));
        assert!(cycles > macs / 32.0 && cycles > 0.0, "{layer}");
    }
    let sum: f64 = layers.iter().map(|layer| number(&layer["instructions"])).sum();
    let whole = number(&json["instructions"]);
    assert_eq!(sum, whole, "layers, network");
    // Everything fits the last cache.
    assert!(number(&json["dram_bytes"]) < 100e3, "{}", json["dram_bytes"]);

    // Against itself, without the clock's readings between the layers.
    let ran = host("--against counts.tsv -v");
    let ratio = ran.stdout.lines().find_map(|line| line.strip_prefix("of the other  cycles "));
    let ratio: f64 = ratio.unwrap_or_else(|| panic!("{}", ran.stdout)).parse().unwrap();
    assert!((ratio - 1.0).abs() < 0.01, "{}", ran.stdout);
    assert!(
        ran.stdout.starts_with("Pi 5 at 2.4 GHz (a76), counted on cortex-a76\n\ninstructions "),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("\nM instructions by function\n"), "{}", ran.stdout);
    let saved = fs::read_to_string(dir.path().join("counts.tsv")).unwrap();
    let bound = board("rpi5").unwrap().core.bound(&Counts::parse(&saved).unwrap());
    assert!((bound.cycles / number(&json["cycles"]) - 1.0).abs() < 1e-9);
}

/// The cost table against the kernels as they are now. Where this fails after a change of a kernel, fit the table anew:
/// `benches/record/2026-11-24-planner.md` of the engine.
#[test]
fn the_planner_predicts_what_is_counted() {
    let Some((counter, program)) = programs("VGG_EDGE_CLASSIFY") else { return };
    let dir = temp_dir();
    let mut off = Vec::new();
    for algorithm in [Algorithm::Direct, Algorithm::WinogradF43, Algorithm::WinogradF43Filters] {
        let bytes = pack::to_bytes(odd_network(Scheme::Int8, algorithm)).unwrap();
        let model = dir.path().join("odd.vgg");
        fs::write(&model, bytes.as_slice()).unwrap();
        let sketch = Sketch::of_blob(&Blob::parse(bytes.as_slice()).unwrap());
        for cpu in ["cortex-a53", "cortex-a72", "cortex-a76", "max"] {
            let board = board_of_cpu(cpu).unwrap();
            let (counter, program) = (counter.clone(), program.clone());
            let emulator = Emulator { cpu: cpu.to_owned(), counter, program, caches_of: None };
            let options = Options { layers: true };
            let (cost, _) = measure_network(&emulator, board, &model, options, |_| {}).unwrap();
            let estimate = Estimate::new(&sketch, board, 1).unwrap();
            let all: f64 = cost.layers.iter().map(|layer| layer.cycles).sum();
            assert_eq!(cost.layers.len(), estimate.rows.len());
            let (mut n_layers, mut worst) = (0, 0.0f64);
            for (counted, row) in cost.layers.iter().zip(&estimate.rows) {
                assert_eq!(counted.name, row.name);
                let error = row.cycles / counted.cycles - 1.0;
                if counted.cycles > 0.01 * all {
                    (n_layers, worst) = (n_layers + 1, worst.max(error.abs()));
                    if error.abs() > 0.15 {
                        let (found, expected) = (row.cycles, counted.cycles);
                        off.push(format!("{cpu} {}: {found:.0} cycles, counted {expected:.0}", row.name));
                    }
                }
            }
            println!("planner on {cpu}: {n_layers} layers, the worst {:.1} % off", 100.0 * worst);
            assert!(n_layers > 5, "{cpu}: {n_layers} layers");
        }
    }
    assert_eq!(off, [""; 0]);
}
