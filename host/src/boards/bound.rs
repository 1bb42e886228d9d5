//! The bound: the cycles of a core's busiest resource.
//!
//! ```text
//! cycles of a resource = sum over forms of  count x price
//! bound                = the largest of them
//! ```

use super::classes::{Class, classify};
use super::counts::Table;
use super::prices::Prices;

/// What instructions wait for: issue slots, vector pipes, load and store ports, integer pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Micro-operations a cycle.
    Issue,
    /// Both vector pipes of an A72 together.
    F,
    /// The pipe of an A72 that multiplies.
    F0,
    /// The pipe of an A72 that shifts.
    F1,
    /// All vector pipes.
    V,
    /// The vector pipe that multiplies.
    V0,
    /// The vector pipe that shifts.
    V1,
    /// Load ports; in-order cores store through them, too.
    L,
    /// Store ports.
    S,
    /// Integer multiplier.
    M,
    /// Branches.
    B,
    /// Integer pipes.
    I,
}

impl Resource {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Issue => "issue",
            Resource::F => "F",
            Resource::F0 => "F0",
            Resource::F1 => "F1",
            Resource::V => "V",
            Resource::V0 => "V0",
            Resource::V1 => "V1",
            Resource::L => "L",
            Resource::S => "S",
            Resource::M => "M",
            Resource::B => "B",
            Resource::I => "I",
        }
    }
}

/// Cycles of every resource, and the busiest.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Cycles of the busiest resource: the program cannot be faster.
    pub cycles: f64,
    /// The busiest resource.
    pub resource: Resource,
    /// Cycles of every resource in use, busiest first.
    pub totals: Vec<(Resource, f64)>,
}

impl Bound {
    /// Prices `forms`. Nothing counted is bound by issue, 0 cycles.
    pub(super) fn of(prices: &Prices, forms: &Table) -> Self {
        let classified = forms.iter().map(|(form, n)| {
            let (class, wide) = classify(form);
            (class, wide, n as f64)
        });
        Self::of_classes(prices, classified)
    }

    /// Prices numbers of instructions by class, `true` for 128-bit forms.
    pub(super) fn of_classes(prices: &Prices, classes: impl Iterator<Item = (Class, bool, f64)>) -> Self {
        let mut totals: Vec<(Resource, f64)> = Vec::new();
        for (class, wide, n) in classes {
            for (resource, cycles) in prices.of(class, wide) {
                let cycles = cycles * n;
                match totals.iter_mut().find(|(other, _)| *other == resource) {
                    Some((_, total)) => *total += cycles,
                    None => totals.push((resource, cycles)),
                }
            }
        }
        // Stable: of two that are equally busy the one met first.
        totals.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (resource, cycles) = totals.first().copied().unwrap_or((Resource::Issue, 0.0));
        Self { cycles, resource, totals }
    }

    /// Cycles of one resource.
    pub fn total(&self, resource: Resource) -> f64 {
        self.totals.iter().find(|(other, _)| *other == resource).map_or(0.0, |(_, cycles)| *cycles)
    }
}
