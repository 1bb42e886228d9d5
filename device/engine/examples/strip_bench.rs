//! Measures one kernel on one strip: a row of output pixels times 8 channels, again and again.
//!
//! ```text
//! strip_bench                                    every kernel of this CPU on the strips of a VGG16
//! strip_bench KERNEL K PIXELS REPEATS [f16]      3x3 filter, K = 9 * channels; 1 pixel: a dense layer of K
//!
//! $ cargo run --release --example strip_bench -- avx2 576 56 20000
//! x86_64-s8-avx2 k 576 pixels 56: 20000 strips, 5160.96 MMAC, 90.1 ms, 57.3 GMAC/s
//! ```
//!
//! Under emulation the time means nothing: count instructions there, once with REPEATS and once with twice
//! as many, and subtract. The strip is compared with `scalar` before it is measured.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use vgg_edge_engine::kernels::{F16Strip, GROUP, Kernel, Requant, S8Output, S8Strip, available, by_name};

const USAGE: &str = "usage: strip_bench [KERNEL K PIXELS REPEATS [f16]]";

/// K and pixels: the second layer of each block, and a dense layer.
const VGG16: [(usize, usize); 6] = [(576, 224), (1152, 112), (2304, 56), (4608, 28), (4608, 14), (4096, 1)];
/// Products of a measurement: milliseconds on a board's fast kernels.
const MEASURED: usize = 50_000_000;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    if args.is_empty() {
        for (k, n_pixels) in VGG16 {
            for f16 in [false, true] {
                for kernel in available() {
                    measure(kernel, k, n_pixels, MEASURED / (k * n_pixels * GROUP) + 1, f16)?;
                }
            }
        }
        return Ok(());
    }
    let f16 = args.get(4).is_some_and(|arg| arg == "f16");
    if args.len() != 4 + usize::from(f16) {
        return Err(format!("found {} arguments\n{USAGE}", args.len()));
    }
    let number = |i: usize| -> Result<usize, String> {
        args[i]
            .parse()
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| format!("found `{}`, expected a number\n{USAGE}", args[i]))
    };
    let kernel = by_name(&args[0]).map_err(|e| e.to_string())?;
    let (k, n_pixels, repeats) = (number(1)?, number(2)?, number(3)?);
    let step = if n_pixels == 1 { 8 } else { 72 };
    if !k.is_multiple_of(step) {
        return Err(format!("K is {k}, expected a multiple of {step}"));
    }
    measure(kernel, k, n_pixels, repeats, f16)
}

/// Compares the kernel with `scalar`, then measures it.
fn measure(kernel: &dyn Kernel, k: usize, n_pixels: usize, repeats: usize, f16: bool) -> Result<(), String> {
    let bench = Bench::new(k, n_pixels, f16);
    if bench.outputs(kernel) != bench.outputs(by_name("scalar").map_err(|e| e.to_string())?) {
        return Err(format!("{} differs from scalar", kernel.name()));
    }

    let start = Instant::now();
    for _ in 0..repeats {
        bench.strip(kernel);
    }
    let seconds = start.elapsed().as_secs_f64();
    let mmac = (k * n_pixels * GROUP * repeats) as f64 / 1e6;
    let name = kernel.name();
    println!(
        "{name}{} k {k} pixels {n_pixels}: {repeats} strips, {mmac:.2} MMAC, {:.1} ms, {:.1} GMAC/s",
        if f16 { " (f16)" } else { "" },
        seconds * 1e3,
        mmac / 1e3 / seconds
    );
    Ok(())
}

struct Bench {
    n_pixels: usize,
    n_runs: usize,
    run_len: usize,
    pixel_stride: usize,
    run_stride: usize,
    s8: Option<(Vec<i8>, Vec<i8>)>,
    f16: Option<(Vec<f32>, Vec<u16>)>,
    words: Vec<AtomicU64>,
}

impl Bench {
    fn new(k: usize, n_pixels: usize, f16: bool) -> Self {
        let n_runs = if n_pixels == 1 { 1 } else { 3 };
        let pixel_stride = if n_pixels == 1 { k } else { k / 9 };
        let run_stride = (n_pixels + 2) * pixel_stride;
        let n_input = (n_pixels - 1) * pixel_stride + (n_runs - 1) * run_stride + k / n_runs;
        let (mut state, n_weights) = (1u32, k * GROUP);
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as i8
        };
        // 2^-4 .. 2^0 and their negatives as f16 bits.
        let f16_bits = |b: i8| 0x2c00 | (b as u16 & 0x83ff);
        let s8 = (!f16).then(|| {
            let input = (0..n_input).map(|_| random()).collect();
            (input, (0..n_weights).map(|_| random().max(-127)).collect())
        });
        let f16 = f16.then(|| {
            let input = (0..n_input).map(|_| f32::from(random()) / 64.0).collect();
            (input, (0..n_weights).map(|_| f16_bits(random())).collect())
        });
        let words = (0..n_pixels * 4).map(|_| AtomicU64::new(0)).collect();
        Self { n_pixels, n_runs, run_len: k / n_runs, pixel_stride, run_stride, s8, f16, words }
    }

    fn strip(&self, kernel: &dyn Kernel) {
        let &Self { n_pixels, n_runs, run_len, pixel_stride, run_stride, ref words, .. } = self;
        if let Some((input, weights)) = &self.s8 {
            let bias = &[1000; GROUP];
            let requant = Requant { multiplier: &[3 << 29; GROUP], shift: &[10; GROUP], zero_point: -128 };
            let strip = S8Strip { input, n_pixels, pixel_stride, n_runs, run_stride, run_len, weights, bias };
            kernel.s8(&strip, S8Output::Activations { requant, words, stride: 1 });
        }
        if let Some((input, weights)) = &self.f16 {
            let (bias, relu, stride) = (&[1.0; GROUP], true, 4);
            kernel.f16(&F16Strip {
                input,
                n_pixels,
                pixel_stride,
                n_runs,
                run_stride,
                run_len,
                weights,
                bias,
                relu,
                words,
                stride,
            });
        }
    }

    fn outputs(&self, kernel: &dyn Kernel) -> Vec<u64> {
        self.strip(kernel);
        self.words.iter().map(|word| word.load(Relaxed)).collect()
    }
}
