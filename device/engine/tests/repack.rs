//! Repacking at load: the same logits with it and without, on every kernel; what is not exact stays as it is.

#[allow(dead_code, reason = "other test programs use the rest")]
mod support;

use support::{Part, Random, blob_bytes, int8_logits, k8_twin, model, winograd_twin, winograd8_twin};
use vgg_edge_blob::layout::S8Params;
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{AlignedBytes, Blob, LayerOp, Layout, NewModel, Padding, Scheme, Shape, Weights};
use vgg_edge_engine::kernels::{self, Kernel};
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options, Repacked};

const SEED: u64 = 0x5EED_0006;

/// Two blocks with 3x3 filters on channels off the group; the first layer is never Winograd.
fn network() -> NewModel {
    let conv = |kernel, filters, block| Part::Conv { kernel, filters, block };
    let pool = Part::Pool { stride: 2, padding: Padding::Same, block: 1 };
    let parts = [
        conv(3, 13, 1),
        conv(3, 24, 1),
        pool,
        conv(1, 20, 2),
        conv(3, 9, 2),
        Part::Gap,
        Part::Dense { units: 5 },
    ];
    println!("seed {SEED:#x}");
    model(&mut Random(SEED), Scheme::Int8, Shape { height: 13, width: 18, channels: 3 }, &parts)
}

fn picture(new: &NewModel) -> Vec<u8> {
    (0..new.input.len()).map(|i| (i * 89 % 251) as u8).collect()
}

/// Logits and what was repacked.
fn run(
    bytes: &AlignedBytes,
    kernel: &'static dyn Kernel,
    executor: &dyn Executor,
    repack: bool,
    picture: &[u8],
) -> (Vec<u32>, Vec<Repacked>) {
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let options = Options { repack, ..Options::default() };
    let mut engine = Engine::new(&blob, kernel, executor, options).unwrap();
    let bits = engine.run(picture).unwrap().iter().map(|v| v.to_bits()).collect();
    (bits, engine.repacked().to_vec())
}

/// Whether the kernel wants filters instead of Winograd's taps.
fn wants_filters(kernel: &dyn Kernel) -> bool {
    kernel.wants(Layout::S16W36O8) != Layout::S16W36O8
}

#[test]
fn logits_are_the_same_with_repacking_and_without() {
    let new = network();
    let picture = picture(&new);
    let expected: Vec<u32> = int8_logits(&new, &picture).iter().map(|v| v.to_bits()).collect();
    let (direct, twin) = (blob_bytes(&new), blob_bytes(&winograd_twin(new)));
    let pools: [Box<dyn Executor>; 3] =
        [Box::new(Serial), Box::new(Pool::new(2).unwrap()), Box::new(Pool::new(4).unwrap())];
    for kernel in kernels::available() {
        println!("{}: {}", kernel.name(), if wants_filters(kernel) { "repacks" } else { "as it is" });
        for pool in &pools {
            assert_eq!(run(&twin, kernel, pool.as_ref(), false, &picture), (expected.clone(), Vec::new()));
            let k8 = kernel.wants(Layout::S8O8K4) == Layout::S8O8K8;
            let (logits, repacked) = run(&direct, kernel, pool.as_ref(), true, &picture);
            assert_eq!((logits, repacked.is_empty()), (expected.clone(), !k8), "{}", kernel.name());
            let (logits, repacked) = run(&twin, kernel, pool.as_ref(), true, &picture);
            assert_eq!(logits, expected, "{}", kernel.name());
            // 24 outputs of 16 stored channels, 16 outputs of 24: bytes of 3x3 filters, already whole lines.
            let to = kernel.wants(Layout::S16W36O8);
            let copy = |layer_idx, bytes| Repacked { layer_idx, from: Layout::S16W36O8, to, bytes };
            let repacked: Vec<_> = repacked.into_iter().filter(|r| r.from == Layout::S16W36O8).collect();
            let all = vec![copy(1, 9 * 24 * 16), copy(4, 9 * 16 * 24)];
            assert_eq!(repacked, if wants_filters(kernel) { all } else { Vec::new() }, "{}", kernel.name());
        }
    }
}

/// 4 or 8 values together, in every kind of layer: logits are the same on every kernel, repacked or not, and what a kernel
/// has repacked is what it has no loop for.
#[test]
fn values_together_change_no_logits() {
    let (new, taps) = (network(), [Form::F23, Form::F43].map(|form| winograd8_twin(network(), form)));
    let picture = picture(&new);
    let scalar = kernels::by_name("scalar").unwrap();
    let pool = Pool::new(3).unwrap();
    for new in [new].into_iter().chain(taps) {
        let (k4, k8) = (blob_bytes(&new), blob_bytes(&k8_twin(new)));
        let (expected, none) = run(&k4, scalar, &Serial, false, &picture);
        assert_eq!(none, []);
        for kernel in kernels::available() {
            let wants_k8 = kernel.wants(Layout::S8O8K4) == Layout::S8O8K8;
            for (bytes, is_k8) in [(&k4, false), (&k8, true)] {
                let (as_it_is, none) = run(bytes, kernel, &pool, false, &picture);
                assert_eq!((as_it_is, none), (expected.clone(), Vec::new()), "{}", kernel.name());
                let (logits, repacked) = run(bytes, kernel, &pool, true, &picture);
                assert_eq!(logits, expected, "{}", kernel.name());
                let layers: Vec<usize> = repacked.iter().map(|layer| layer.layer_idx).collect();
                // Dense layers stay in the layout that every kernel has a loop for.
                let all = match (is_k8, wants_k8) {
                    (false, true) => vec![0, 1, 3, 4],
                    (true, false) => vec![0, 1, 3, 4, 6],
                    _ => vec![],
                };
                assert_eq!(layers, all, "{}", kernel.name());
                assert!(repacked.iter().all(|r| r.to == kernel.wants(r.from)), "{}", kernel.name());
            }
        }
    }
}

/// A picture of 1 or 4 channels, a 1x1 filter first, a dense layer first.
#[test]
fn first_layers_of_every_kind_are_repacked() {
    for channels in [1, 3, 4] {
        let kinds = [
            vec![Part::Conv { kernel: 3, filters: 9, block: 1 }, Part::Dense { units: 3 }],
            vec![Part::Conv { kernel: 1, filters: 16, block: 1 }, Part::Gap, Part::Dense { units: 3 }],
            vec![Part::Dense { units: 12 }],
        ];
        for parts in kinds {
            let input = Shape { height: 5, width: 7, channels };
            let new = model(&mut Random(SEED), Scheme::Int8, input, &parts);
            let picture = picture(&new);
            let expected: Vec<u32> = int8_logits(&new, &picture).iter().map(|v| v.to_bits()).collect();
            for bytes in [blob_bytes(&new), blob_bytes(&k8_twin(new))] {
                for (kernel, repack) in kernels::available().flat_map(|k| [(k, false), (k, true)]) {
                    let (logits, _) = run(&bytes, kernel, &Serial, repack, &picture);
                    assert_eq!(logits, expected, "{}, repack {repack}", kernel.name());
                }
            }
        }
    }
}

/// A blob after `change` of its bytes; `at` finds the place of a slice in the file.
fn changed<T>(
    bytes: &AlignedBytes,
    slice: impl for<'a> Fn(Weights<'a>) -> &'a [T],
    change: impl Fn(&mut [u8]),
) -> AlignedBytes {
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let LayerOp::Conv { linear, .. } = blob.layer(1).unwrap().op else { panic!("a convolution") };
    let found = slice(linear.weights);
    let start = found.as_ptr().addr() - bytes.as_slice().as_ptr().addr();
    let mut copy = bytes.as_slice().to_vec();
    change(&mut copy[start..start + size_of_val(found)]);
    let mut aligned = AlignedBytes::default();
    std::io::Write::write_all(&mut aligned, &copy).unwrap();
    aligned
}

/// A tap that is no transform, and a bias with which Winograd's sums may wrap: the layer keeps its algorithm, and the
/// values that follow from it.
#[test]
fn what_is_not_exact_stays_as_it_is() {
    let new = network();
    let picture = picture(&new);
    let twin = blob_bytes(&winograd_twin(new));
    let taps = changed(
        &twin,
        |w| match w {
            Weights::S16Winograd { data, .. } => data,
            other => panic!("{other:?}"),
        },
        |bytes| bytes[0] ^= 1,
    );
    let bias = changed::<S8Params>(
        &twin,
        |w| match w {
            Weights::S16Winograd { params, .. } => params,
            other => panic!("{other:?}"),
        },
        |bytes| bytes[4..8].copy_from_slice(&(1i32 << 25).to_le_bytes()),
    );
    for (bytes, what) in [(taps, "tap"), (bias, "bias")] {
        for kernel in kernels::available() {
            // Not what `scalar` gives: kernels that cut tiles at edges leave taps out.
            let (expected, _) = run(&bytes, kernel, &Serial, false, &picture);
            let (logits, repacked) = run(&bytes, kernel, &Serial, true, &picture);
            assert_eq!(logits, expected, "{what}, {}", kernel.name());
            let taps = repacked.iter().filter(|layer| layer.from == Layout::S16W36O8);
            let layers: Vec<usize> = taps.map(|layer| layer.layer_idx).collect();
            assert_eq!(layers, if wants_filters(kernel) { vec![4] } else { vec![] }, "{}", kernel.name());
        }
    }
}
