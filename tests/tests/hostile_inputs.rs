//! Mutated blobs and pictures, the same ones on every run: nothing panics, runs for ever or is read wrongly.
//!
//! The targets in `fuzz/` start from the same blobs and search further.

use std::fs;

use vgg_edge_engine::image::has_picture_name;
use vgg_edge_engine::kernels;
use vgg_edge_tests::inputs::{Reached, blob, engine, mutation, picture, seeds};
use vgg_edge_tests::{files, workspace_root};

const N_MUTATIONS: u64 = 200_000;

#[test]
fn seeds_run() {
    for seed in seeds() {
        for kernel in kernels::available() {
            assert_eq!((blob(&seed), engine(&seed, kernel)), (Reached::Parsed, Reached::Ran));
        }
    }
}

#[test]
fn mutated_blobs_are_refused_or_run() {
    let seeds = seeds();
    let scalar = kernels::by_name("scalar").expect("the specification runs everywhere");
    let mut reached = [0; 3];
    for n in 0..N_MUTATIONS {
        let mutated = mutation(&seeds, n);
        let parsed = blob(&mutated);
        let ran = if n % 2 == 0 { engine(&mutated, scalar) } else { engine(&mutated, kernels::best()) };
        assert_eq!(parsed == Reached::Refused, ran == Reached::Refused, "mutation {n}");
        reached[ran as usize] += 1;
    }
    let [refused, parsed, ran] = reached;
    println!("{N_MUTATIONS} mutated blobs: {refused} refused, {parsed} parsed, {ran} ran");
    // A share of them must come through the checks, or nothing behind the checks is tested.
    assert!(refused > N_MUTATIONS / 10 && ran > N_MUTATIONS / 50, "{reached:?}");
}

#[test]
fn mutated_pictures_are_refused_or_decoded() {
    let pictures = workspace_root().join("device/engine/tests/fixtures/pictures");
    let originals: Vec<Vec<u8>> = files(&pictures)
        .iter()
        .filter(|path| has_picture_name(path))
        .map(|path| fs::read(path).expect("a fixture"))
        .collect();
    assert!(originals.len() > 10, "{}: {} pictures", pictures.display(), originals.len());
    let mut decoded = 0;
    for n in 0..N_MUTATIONS / 5 {
        let mutated = mutation(&originals, n);
        decoded += u64::from(picture(&mutated).is_some());
    }
    println!("{} mutated pictures: {decoded} decoded", N_MUTATIONS / 5);
    assert!((1..N_MUTATIONS / 5).contains(&decoded), "{decoded} decoded");
}
