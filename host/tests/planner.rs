//! The planner's cost table against layers that were counted: `counted_layers.tsv`, whose head has the commands.
//!
//! The kernels themselves are counted anew, on a small network, by `counts.rs`.

use vgg_edge_host::boards::{A53, A55, A72, A76, Core, N2};
use vgg_edge_host::plan::{Counted, Kind, cpu_of};

/// As checked in.
const COUNTED: &str = include_str!("counted_layers.tsv");
/// Most that a prediction may be off.
const OFF: f64 = 0.15;
/// Share of a network's cycles from which on a layer is held to it.
const SHARE: f64 = 0.01;

/// Every layer that is held to the limit: name, step, counted, predicted.
fn layers(network: &Counted, core: &Core) -> Option<Vec<(String, &'static str, f64, f64)>> {
    let samples = network.samples(cpu_of(core), core)?;
    assert_eq!(samples.len(), network.sketch.layers.len() + 2, "{}", network.name);
    let counted: Vec<f64> = samples.iter().map(|sample| sample.executed.cycles_on(core)).collect();
    let limit = SHARE * counted.iter().sum::<f64>();
    let held = samples.iter().zip(counted).filter(|(_, counted)| *counted > limit);
    let row = |(sample, counted): (&vgg_edge_host::plan::Sample<'_>, f64)| {
        let layer = sample.executed.layer.clone();
        let predicted = sample.predicted(core).unwrap_or_else(|| panic!("no cost of {layer}"));
        (layer, sample.step, counted, predicted)
    };
    Some(held.map(row).collect())
}

#[test]
fn predictions_are_within_15_percent_of_counts() {
    let networks = Counted::parse(COUNTED).unwrap();
    let mut off = Vec::new();
    for core in [&A53, &A72, &A55, &A76, &N2] {
        let (mut n_layers, mut worst) = (0, 0.0f64);
        for network in &networks {
            let rows = layers(network, core);
            let Some(rows) = rows else { continue };
            for (layer, step, counted, predicted) in rows {
                let error = predicted / counted - 1.0;
                (n_layers, worst) = (n_layers + 1, worst.max(error.abs()));
                if error.abs() > OFF {
                    let (core, network) = (core.name, &network.name);
                    off.push(format!(
                        "{network} {layer} ({step}) on {core}: {predicted:.0}, counted {counted:.0}"
                    ));
                }
            }
        }
        println!("{}: {n_layers} layers, the worst {:.1} % off", core.name, 100.0 * worst);
        assert!(n_layers > 70, "{}: {n_layers} layers", core.name);
    }
    assert_eq!(off, [""; 0]);
}

#[test]
fn what_matters_was_counted() {
    let networks = Counted::parse(COUNTED).unwrap();
    let named = |name: &str| {
        let network = networks.iter().find(|network| network.name == name);
        &network.unwrap_or_else(|| panic!("no network `{name}`")).sketch
    };
    let n_of = |name: &str, kind| named(name).layers.iter().filter(|layer| layer.op.kind() == kind).count();
    for (network, side) in [("vgg16-exact", 224), ("vgg16-direct", 224), ("cifar-direct", 96)] {
        assert_eq!((named(network).input.height, named(network).input.width), (side, side), "{network}");
    }
    assert_eq!((n_of("vgg16-exact", Kind::WinogradF43), n_of("vgg16-direct", Kind::Direct)), (12, 12));
    for (network, kind) in
        [("v112-winograd8-f23", Kind::Winograd8F23), ("v112-winograd8-f43", Kind::Winograd8F43)]
    {
        assert_eq!(n_of(network, kind), 12, "{network}");
        assert_eq!(networks.iter().find(|n| n.name == network).unwrap().cpus.len(), 4, "{network}");
    }
    // A core that a network was not counted on is left out above: none may go missing.
    let n_cpus: Vec<_> = networks.iter().map(|n| (n.name.as_str(), n.cpus.len())).collect();
    for expected in [
        ("vgg16-exact", 2),
        ("vgg16-direct", 1),
        ("vgg16-f43", 3),
        ("v112-direct", 4),
        ("v112-winograd", 2),
        ("cifar-direct", 3),
        ("odd", 4),
        ("odd-winograd", 2),
        ("odd-f16", 4),
        ("head-int4", 4),
    ] {
        assert!(n_cpus.contains(&expected), "{expected:?} CPUs expected, found {n_cpus:?}");
    }
    assert_eq!((n_of("vgg16-exact", Kind::Dense), n_of("cifar-direct", Kind::Average)), (3, 1));
}
