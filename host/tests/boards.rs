//! The port model against its reference: the published counts of other engines, priced by both.
//!
//! `boardmodel.py` in the shared folder is the model whose bounds were compared with published times. The numbers
//! here are what it printed; where Python is, it is run again, and every class and every resource is compared.

use std::fs;
use std::path::Path;
use std::process::Command;

use vgg_edge_host::boards::{BOARDS, Board, Counts, board_of_core, classify};
use vgg_edge_tests::{run, shared_dir};

/// Counts, core; cycles of the bound, the resource that binds, DRAM bytes.
const EXPECTED: [(&str, &str, f64, &str, f64); 15] = [
    ("ncnn-vgg16_f16-a76.tsv", "a53", 583023738.5, "V", 1415278208.0),
    ("ncnn-vgg16_f16-a76.tsv", "a72", 521143004.0, "F0", 1415278208.0),
    ("ncnn-vgg16_f16-a76.tsv", "a55", 582590015.0, "V", 1415278208.0),
    ("ncnn-vgg16_f16-a76.tsv", "a76", 264696321.0, "V", 1415278208.0),
    ("ncnn-vgg16_f16-a76.tsv", "n2", 264696321.0, "V", 1415278208.0),
    ("ncnn-vgg16_int8-a72.tsv", "a53", 1199222332.5, "V", 1900739968.0),
    ("ncnn-vgg16_int8-a72.tsv", "a72", 1075182292.5, "F0", 1900739968.0),
    ("ncnn-vgg16_int8-a72.tsv", "a55", 1193965715.5, "V", 1900739968.0),
    ("ncnn-vgg16_int8-a72.tsv", "a76", 1029141352.0, "V0", 1900739968.0),
    ("ncnn-vgg16_int8-a72.tsv", "n2", 565741533.5, "V", 1900739968.0),
    ("ncnn-vgg16_int8-a76.tsv", "a53", 95044091823.5, "V", 989542464.0),
    ("ncnn-vgg16_int8-a76.tsv", "a72", 94953718839.5, "F0", 989542464.0),
    ("ncnn-vgg16_int8-a76.tsv", "a55", 1095965827.0, "V", 989542464.0),
    ("ncnn-vgg16_int8-a76.tsv", "a76", 519920094.0, "V", 989542464.0),
    ("ncnn-vgg16_int8-a76.tsv", "n2", 519920094.0, "V", 989542464.0),
];

fn counts(path: &Path) -> Counts {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Counts::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn published_counts_cost_what_the_reference_says() {
    let Some(shared) = shared_dir() else { return };
    for (file, core, cycles, resource, bytes) in EXPECTED {
        let counts = counts(&shared.join("tools/peers").join(file));
        let bound = board_of_core(core).unwrap().core.bound(&counts);
        assert_eq!((bound.cycles, bound.resource.name()), (cycles, resource), "{file} on {core}");
        assert_eq!(counts.dram_bytes(), Some(bytes), "{file}");
    }
}

/// What the notes on the model say of a whole board.
#[test]
fn times_are_the_boards() {
    let Some(shared) = shared_dir() else { return };
    for (file, board, bound, dram, expected) in [
        ("ncnn-vgg16_int8-a72.tsv", "rpi4", "597.3", "422.4", Some("866")),
        ("ncnn-vgg16_int8-a72.tsv", "rpi3", "999.4", "950.4", Some("1729")),
        ("ncnn-vgg16_int8-a76.tsv", "rpi5", "216.6", "109.9", Some("273")),
        ("ncnn-vgg16_f16-a76.tsv", "rk3588", "110.3", "70.8", None),
    ] {
        let counts = counts(&shared.join("tools/peers").join(file));
        let board = BOARDS.iter().find(|b| b.name == board).unwrap();
        let ms = board.milliseconds(board.core.bound(&counts).cycles);
        assert_eq!(format!("{ms:.1}"), bound, "{file}");
        assert_eq!(format!("{:.1}", board.dram_milliseconds(counts.dram_bytes().unwrap())), dram, "{file}");
        assert_eq!(board.published().map(|p| format!("{:.0}", ms * p)).as_deref(), expected, "{file}");
    }
}

/// Prints `board` fields, then a line a form (class, wide), then a line a resource (cycles), for a file and a core.
const REFERENCE: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import boardmodel as b
t, core = b.steady(sys.argv[2], None), b.CORES[sys.argv[3]]
print("board", core.board, core.ghz, core.gbs, core.l1, core.l2, core.published, sep="\t")
for form in t["form"]:
    print("form", form, *b.classify(form), sep="\t")
cycles, worst, total = b.bound(t["form"], core)
print("worst", worst, repr(float(cycles)), sep="\t")
for resource, n in total.items():
    print("resource", resource, repr(float(n)), sep="\t")
"#;

#[test]
fn every_class_and_resource_is_the_references() {
    let Some(shared) = shared_dir() else { return };
    let tools = shared.join("tools");
    if Command::new("python3").arg("--version").output().is_err() {
        println!("left out: python3 is not on the path, only the committed numbers were compared");
        return;
    }
    let mut peers: Vec<_> = fs::read_dir(tools.join("peers")).unwrap().map(|e| e.unwrap().path()).collect();
    peers.retain(|path| path.extension().is_some_and(|e| e == "tsv"));
    assert!(peers.len() >= 3, "{} counts of other engines", peers.len());
    for path in peers {
        for core in ["a53", "a72", "a55", "a76", "n2"] {
            let mut python = Command::new("python3");
            python.args(["-B", "-c", REFERENCE]).arg(&tools).arg(&path).arg(core);
            let ran = run(&mut python);
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let what = format!("{} on {core}", path.display());
            compare(&ran.stdout, &counts(&path), board_of_core(core).unwrap(), &what);
        }
    }
}

fn compare(reference: &str, counts: &Counts, board: &Board, what: &str) {
    let bound = board.core.bound(counts);
    let (mut n_forms, mut n_resources) = (0, 0);
    for line in reference.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["board", title, ghz, gbs, l1, l2, published] => {
                let number = |text: &str| text.parse::<f64>().unwrap();
                assert_eq!((title, number(ghz), number(gbs)), (board.title, board.ghz, board.gbs), "{what}");
                let cache = |c: vgg_edge_host::boards::Cache| format!("{}:{}", c.kib, c.ways);
                assert_eq!((l1, l2), (&*cache(board.l1), &*cache(board.l2)), "{what}");
                assert_eq!(number(published), board.published().unwrap_or(0.0), "{what}");
            }
            ["form", form, class, wide] => {
                n_forms += 1;
                let (found, found_wide) = classify(form);
                assert_eq!((found.name(), found_wide), (class, wide == "True"), "{form}");
            }
            ["worst", resource, cycles] => {
                assert_eq!(bound.resource.name(), resource, "{what}");
                close(bound.cycles, cycles, what);
            }
            ["resource", resource, cycles] => {
                n_resources += 1;
                let found = bound.totals.iter().find(|(r, _)| r.name() == resource);
                close(found.unwrap_or_else(|| panic!("{what}: no {resource}")).1, cycles, what);
            }
            _ => panic!("{what}: {line}"),
        }
    }
    assert_eq!((n_forms, n_resources), (counts.forms.iter().count(), bound.totals.len()), "{what}");
}

fn close(found: f64, expected: &str, what: &str) {
    let expected: f64 = expected.parse().unwrap();
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{what}: found {found}, expected {expected}");
}
