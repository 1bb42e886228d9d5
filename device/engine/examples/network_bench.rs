//! Measures whole networks of random weights: VGG16, its dense head, or one 3x3 layer of it.
//!
//! ```text
//! network_bench write FILE vgg16[-SIDE] ALGORITHM               224x224, or SIDE times SIDE; 1000 classes
//! network_bench write FILE head direct|int4                      its dense layers, behind a 1x1 layer on 7x7 pixels
//! network_bench write FILE INxOUTxSIDE ALGORITHM|none                 3 ─1x1─► IN ─3x3─► OUT ─► average; none: without the last
//!     ALGORITHM: direct, winograd, winograd-filters, winograd8-f23 or winograd8-f43; direct and the last two also with -k8:
//!     layouts for `smmla`
//! network_bench run FILE KERNEL L2_KIB THREADS RUNS
//!
//! $ cargo run --release --example network_bench -- write /tmp/vgg16.vgg vgg16 winograd
//! $ cargo run --release --example network_bench -- run /tmp/vgg16.vgg avx2 1024 1 20
//! x86_64-s8-avx2, 1 threads, 20 runs: min 83.0 ms, median 84.1 ms; logits 9b1e2f4455aa0102
//! ```
//!
//! The number behind `logits` is a hash of all results: equal for every kernel, exact algorithm, cache size and number
//! of threads. Under emulation the time means nothing: count instructions there, once with RUNS and once with one more, and
//! subtract.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{
    AlignedBytes, Blob, NewLinear, NewModel, NewOp, NewWeights, Padding, Scheme, Shape, write,
};
use vgg_edge_engine::pool::Pool;
use vgg_edge_engine::{Engine, Options, kernels};

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod support;

use support::{Part, Random, filters_twin, int4_twin, k8_twin, model, winograd_twin, winograd8_twin};

const USAGE: &str =
    "usage: network_bench write FILE vgg16[-SIDE]|head|INxOUTxSIDE direct|direct-k8|winograd|winograd-filters|winograd8-f23|winograd8-f43|int4|none
       network_bench run FILE KERNEL L2_KIB THREADS RUNS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["write", file, network, algorithm] => save(Path::new(file), network, algorithm),
        ["run", file, kernel, l2, threads, runs] => run(Path::new(file), kernel, [l2, threads, runs]),
        _ => Err(format!("found {} arguments\n{USAGE}", args.len())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n| n > 0);
    number.ok_or_else(|| format!("found `{text}`, expected a number\n{USAGE}"))
}

/// Blocks of two and three 3x3 layers with a pool behind each, then the dense head.
fn vgg16(side: usize) -> (Shape, Vec<Part>) {
    let mut parts = Vec::new();
    for (block, (filters, n)) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)].into_iter().enumerate() {
        let block = block as u16 + 1;
        parts.extend(vec![Part::Conv { kernel: 3, filters, block }; n]);
        parts.push(Part::Pool { stride: 2, padding: Padding::Valid, block });
    }
    parts.extend([4096, 4096, 1000].map(|units| Part::Dense { units }));
    (Shape { height: side as u32, width: side as u32, channels: 3 }, parts)
}

/// What VGG16's last map is made of, then the dense head.
fn head() -> (Shape, Vec<Part>) {
    let mut parts = vec![Part::Conv { kernel: 1, filters: 512, block: 1 }];
    parts.extend([4096, 4096, 1000].map(|units| Part::Dense { units }));
    (Shape { height: 7, width: 7, channels: 3 }, parts)
}

/// One 3x3 layer in a block of its own behind a 1x1 layer that makes its input.
fn layer(sizes: &str, alone: bool) -> Result<(Shape, Vec<Part>), String> {
    let sizes: Vec<usize> = sizes.split('x').map(number).collect::<Result<_, _>>()?;
    let [channels, filters, side] = sizes[..] else {
        return Err(format!("found {} sizes, expected INxOUTxSIDE\n{USAGE}", sizes.len()));
    };
    let mut parts = vec![
        Part::Conv { kernel: 1, filters: channels as u32, block: 1 },
        Part::Conv { kernel: 3, filters: filters as u32, block: 2 },
    ];
    parts.truncate(if alone { 1 } else { 2 });
    // So that the network does not end in a map, which would leave as f32.
    parts.push(Part::Gap);
    Ok((Shape { height: side as u32, width: side as u32, channels: 3 }, parts))
}

fn save(path: &Path, network: &str, algorithm: &str) -> Result<(), String> {
    let (input, parts) = match network {
        "vgg16" => vgg16(224),
        smaller if smaller.starts_with("vgg16-") => vgg16(number(&smaller["vgg16-".len()..])?),
        "head" => head(),
        sizes => layer(sizes, algorithm.starts_with("none"))?,
    };
    let mut direct: NewModel = model(&mut Random(0x5EED_0005), Scheme::Int8, input, &parts);
    for layer in &mut direct.layers {
        // A trained filter is far from uniform; half of this one is within Winograd's proof.
        if let NewOp::Conv { linear: NewLinear { weights: NewWeights::S8(weights, _), .. }, .. } =
            &mut layer.op
        {
            weights.iter_mut().for_each(|w| *w /= 2);
        }
    }
    let model = match algorithm {
        "winograd" => winograd_twin(direct),
        "winograd-filters" => filters_twin(direct),
        "direct-k8" | "none-k8" => k8_twin(direct),
        "direct" | "none" => direct,
        "int4" => int4_twin(&mut Random(0x5EED_0007), direct),
        "winograd8-f23" => winograd8_twin(direct, Form::F23),
        "winograd8-f43" => winograd8_twin(direct, Form::F43),
        "winograd8-f23-k8" => k8_twin(winograd8_twin(direct, Form::F23)),
        "winograd8-f43-k8" => k8_twin(winograd8_twin(direct, Form::F43)),
        other => return Err(format!("found `{other}`, expected an algorithm\n{USAGE}")),
    };
    let save = || -> Result<(), Box<dyn std::error::Error>> {
        let mut file = BufWriter::new(File::create(path)?);
        write(model, &mut file)?;
        Ok(file.flush()?)
    };
    save().map_err(|e| format!("{}: {e}", path.display()))
}

fn run(path: &Path, kernel: &str, [l2, threads, runs]: [&str; 3]) -> Result<(), String> {
    let (l2_kib, n_threads, n_runs) = (number(l2)?, number(threads)?, number(runs)?);
    let kernel = kernels::by_name(kernel).map_err(|e| e.to_string())?;
    let text = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut bytes = AlignedBytes::default();
    std::io::copy(&mut File::open(path).map_err(|e| text(&e))?, &mut bytes).map_err(|e| text(&e))?;
    let blob = Blob::parse(bytes.as_slice()).map_err(|e| text(&e))?;
    let pool = Pool::new(n_threads).map_err(|e| e.to_string())?;
    let options = Options { l2_bytes: l2_kib << 10, ..Options::default() };
    let mut engine = Engine::new(&blob, kernel, &pool, options).map_err(|e| text(&e))?;

    let mut random = Random(1);
    let picture: Vec<u8> = (0..blob.input().len()).map(|_| random.next() as u8).collect();
    let (mut times, mut hash) = (Vec::with_capacity(n_runs), 0u64);
    for _ in 0..n_runs {
        let start = Instant::now();
        let values = engine.run(&picture).map_err(|e| text(&e))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        hash = 0;
        for value in values {
            hash = (hash.rotate_left(5) ^ u64::from(value.to_bits())).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }
    times.sort_by(f64::total_cmp);
    let (name, min, median) = (kernel.name(), times[0], times[times.len() / 2]);
    println!(
        "{name}, {n_threads} threads, {n_runs} runs: min {min:.1} ms, median {median:.1} ms; logits {hash:016x}"
    );
    Ok(())
}
