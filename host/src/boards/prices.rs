//! What each class of instructions costs on each core: cycles of every resource that it holds.
//!
//! Sources: the cores' public optimization guides and scheduling models. A row gives the micro-operations that issue,
//! and the cycles of each pipe for the 64-bit (`narrow`) and the 128-bit (`wide`) form.
//!
//! | resource | A72 | A76, N2 | A53, A55 |
//! |---|---|---|---|
//! | `issue` | 3 a cycle | 4 a cycle | 2 a cycle |
//! | vector pipes | `F0` multiplies, `F1` shifts; either one: half of each, `F` their mean | `V` both, `V0` multiplies, `V1` shifts | `V` |
//! | loads, stores | `L`, `S` | `L` two, `S` two | `L` both |
//! | integer | `I` two, `M` multiplies, `B` branches | `I` three, `M`, `B` | `I` two, with branches |

use Class::{
    Branch, Convert, Dot, Fadd, Fdiv, Fma, Imul, Int, Load, LoadPair, Mmla, Mul, Mulh, Mull, Shift, Store,
    StorePair, VLoad, VLoadDeinterleave, VLoadPair, VMove, VStore, VStorePair, Valu,
};
use Resource::{B, F0, F1, I, L, M, S, V, V0, V1};

use super::{Class, Resource};

/// Cycles of resources.
type Cycles = &'static [(Resource, f64)];

/// One row: a class and what it holds.
#[derive(Debug)]
pub struct Price {
    /// The class.
    pub class: Class,
    /// Micro-operations.
    pub ops: f64,
    /// The 64-bit form.
    pub narrow: Cycles,
    /// The 128-bit form.
    pub wide: Cycles,
}

/// A core's price list: `own` rows first, then `common` ones.
#[derive(Debug)]
pub struct Prices {
    /// Micro-operations a cycle.
    pub issue_width: f64,
    /// Rows that no other core shares.
    pub own: &'static [Price],
    /// Rows of every core of the family.
    pub common: &'static [Price],
}

impl Prices {
    /// Cycles of each resource that one instruction of `class` holds.
    pub fn of(&self, class: Class, wide: bool) -> impl Iterator<Item = (Resource, f64)> {
        // Every list has a row for every class: a test goes through them.
        let price = self.own.iter().chain(self.common).find(|price| price.class == class);
        let ops = price.map_or(1.0, |price| price.ops);
        let held = price.map_or(&[][..], |price| if wide { price.wide } else { price.narrow });
        let pipe = |resource| held.iter().find(|(held, _)| *held == resource).map(|(_, cycles)| *cycles);
        // Work that may take either pipe is bounded by their sum.
        let either = match (pipe(F0), pipe(F1)) {
            (None, None) => None,
            (a, b) => Some((Resource::F, (a.unwrap_or(0.0) + b.unwrap_or(0.0)) / 2.0)),
        };
        [(Resource::Issue, ops / self.issue_width)].into_iter().chain(held.iter().copied()).chain(either)
    }
}

/// Of a core whose instructions are not counted.
pub(super) const UNPRICED: Prices = Prices { issue_width: 1.0, own: &[], common: &[] };
pub(super) const A72: Prices = Prices { issue_width: 3.0, own: &[], common: A72_ROWS };
pub(super) const A76: Prices = Prices {
    issue_width: 4.0,
    own: &[Price { class: Mull, ops: 1.0, narrow: &[(V, 0.5), (V0, 1.0)], wide: &[(V, 0.5), (V0, 1.0)] }],
    common: A76_ROWS,
};
pub(super) const N2: Prices = Prices {
    issue_width: 4.0,
    own: &[Price { class: Mull, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] }],
    common: A76_ROWS,
};
pub(super) const A53: Prices = Prices {
    issue_width: 2.0,
    own: &[
        Price { class: Dot, ops: 1.0, narrow: LACKS_V, wide: LACKS_V },
        Price { class: VLoad, ops: 1.0, narrow: &[(L, 1.0), (V, 0.5)], wide: &[(L, 2.0), (V, 1.0)] },
    ],
    common: IN_ORDER_ROWS,
};
pub(super) const A55: Prices = Prices {
    issue_width: 2.0,
    own: &[
        Price { class: Dot, ops: 1.0, narrow: &[(V, 1.0)], wide: &[(V, 1.0)] },
        Price { class: VLoad, ops: 1.0, narrow: &[(L, 1.0), (V, 0.0)], wide: &[(L, 2.0), (V, 1.0)] },
    ],
    common: IN_ORDER_ROWS,
};

/// An instruction that the core lacks: dear enough to stand out.
const LACKS_V: Cycles = &[(V, 99.0)];
const LACKS_F0: Cycles = &[(F0, 99.0)];

/// Cortex-A72.
#[rustfmt::skip]
const A72_ROWS: &[Price] = &[
    Price { class: Dot, ops: 1.0, narrow: LACKS_F0, wide: LACKS_F0 },
    Price { class: Mmla, ops: 1.0, narrow: LACKS_F0, wide: LACKS_F0 },
    Price { class: Mull, ops: 1.0, narrow: &[(F0, 1.0)], wide: &[(F0, 1.0)] },
    Price { class: Mul, ops: 1.0, narrow: &[(F0, 1.0)], wide: &[(F0, 2.0)] },
    Price { class: Mulh, ops: 1.0, narrow: &[(F0, 1.0)], wide: &[(F0, 2.0)] },
    Price { class: Convert, ops: 1.0, narrow: &[(F0, 1.0)], wide: &[(F0, 2.0)] },
    Price { class: Fma, ops: 1.0, narrow: &[(F0, 0.5), (F1, 0.5)], wide: &[(F0, 1.0), (F1, 1.0)] },
    Price { class: Fadd, ops: 1.0, narrow: &[(F0, 0.5), (F1, 0.5)], wide: &[(F0, 1.0), (F1, 1.0)] },
    Price { class: Fdiv, ops: 1.0, narrow: &[(F0, 12.0)], wide: &[(F0, 12.0)] },
    Price { class: Shift, ops: 1.0, narrow: &[(F1, 1.0)], wide: &[(F1, 1.0)] },
    Price { class: Valu, ops: 1.0, narrow: &[(F0, 0.5), (F1, 0.5)], wide: &[(F0, 0.5), (F1, 0.5)] },
    Price { class: VMove, ops: 1.0, narrow: &[(F0, 0.5), (F1, 0.5)], wide: &[(F0, 0.5), (F1, 0.5)] },
    Price { class: Load, ops: 1.0, narrow: &[(L, 1.0)], wide: &[(L, 1.0)] },
    Price { class: VLoad, ops: 1.0, narrow: &[(L, 1.0)], wide: &[(L, 1.0)] },
    Price { class: LoadPair, ops: 2.0, narrow: &[(L, 1.0)], wide: &[(L, 1.0)] },
    Price { class: VLoadPair, ops: 2.0, narrow: &[(L, 1.0)], wide: &[(L, 2.0)] },
    Price { class: VLoadDeinterleave, ops: 3.0, narrow: &[(L, 2.0), (F0, 1.0), (F1, 1.0)], wide: &[(L, 2.0), (F0, 1.0), (F1, 1.0)] },
    Price { class: Store, ops: 1.0, narrow: &[(S, 1.0)], wide: &[(S, 1.0)] },
    Price { class: VStore, ops: 1.0, narrow: &[(S, 1.0)], wide: &[(S, 1.0)] },
    Price { class: StorePair, ops: 2.0, narrow: &[(S, 1.0)], wide: &[(S, 1.0)] },
    Price { class: VStorePair, ops: 2.0, narrow: &[(S, 1.0)], wide: &[(S, 2.0)] },
    Price { class: Imul, ops: 1.0, narrow: &[(M, 1.0)], wide: &[(M, 1.0)] },
    Price { class: Branch, ops: 1.0, narrow: &[(B, 1.0)], wide: &[(B, 1.0)] },
    Price { class: Int, ops: 1.0, narrow: &[(I, 0.5)], wide: &[(I, 0.5)] },
];

/// Cortex-A76 and Neoverse N2, which differ in multiplies.
#[rustfmt::skip]
const A76_ROWS: &[Price] = &[
    Price { class: Dot, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] },
    Price { class: Mmla, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] },
    Price { class: Mul, ops: 1.0, narrow: &[(V, 0.5), (V0, 1.0)], wide: &[(V, 1.0), (V0, 2.0)] },
    Price { class: Mulh, ops: 1.0, narrow: &[(V, 0.5), (V0, 1.0)], wide: &[(V, 1.0), (V0, 2.0)] },
    Price { class: Convert, ops: 1.0, narrow: &[(V, 0.5), (V0, 1.0)], wide: &[(V, 1.0), (V0, 2.0)] },
    Price { class: Fma, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] },
    Price { class: Fadd, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] },
    Price { class: Fdiv, ops: 1.0, narrow: &[(V, 3.5), (V0, 7.0)], wide: &[(V, 3.5), (V0, 7.0)] },
    Price { class: Shift, ops: 1.0, narrow: &[(V, 0.5), (V1, 1.0)], wide: &[(V, 0.5), (V1, 1.0)] },
    Price { class: Valu, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] },
    Price { class: VMove, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 0.5)] },
    Price { class: Load, ops: 1.0, narrow: &[(L, 0.5)], wide: &[(L, 0.5)] },
    Price { class: VLoad, ops: 1.0, narrow: &[(L, 0.5)], wide: &[(L, 0.5)] },
    Price { class: LoadPair, ops: 2.0, narrow: &[(L, 0.5)], wide: &[(L, 0.5)] },
    Price { class: VLoadPair, ops: 2.0, narrow: &[(L, 0.5)], wide: &[(L, 1.0)] },
    Price { class: VLoadDeinterleave, ops: 3.0, narrow: &[(L, 1.0), (V, 1.0)], wide: &[(L, 1.0), (V, 1.0)] },
    Price { class: Store, ops: 1.0, narrow: &[(S, 0.5)], wide: &[(S, 0.5)] },
    Price { class: VStore, ops: 2.0, narrow: &[(S, 0.5)], wide: &[(S, 0.5)] },
    Price { class: StorePair, ops: 2.0, narrow: &[(S, 0.5)], wide: &[(S, 0.5)] },
    Price { class: VStorePair, ops: 2.0, narrow: &[(S, 1.0)], wide: &[(S, 1.0)] },
    Price { class: Imul, ops: 1.0, narrow: &[(M, 1.0)], wide: &[(M, 1.0)] },
    Price { class: Branch, ops: 1.0, narrow: &[(B, 1.0)], wide: &[(B, 1.0)] },
    Price { class: Int, ops: 1.0, narrow: &[(I, 1.0 / 3.0)], wide: &[(I, 1.0 / 3.0)] },
];

/// Cortex-A53 and A55, in order, which differ in dot products and narrow vector loads.
#[rustfmt::skip]
const IN_ORDER_ROWS: &[Price] = &[
    Price { class: Mmla, ops: 1.0, narrow: LACKS_V, wide: LACKS_V },
    Price { class: Mull, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Mul, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Mulh, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Convert, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Fma, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Fadd, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Fdiv, ops: 1.0, narrow: &[(V, 22.0)], wide: &[(V, 22.0)] },
    Price { class: Shift, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Valu, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: VMove, ops: 1.0, narrow: &[(V, 0.5)], wide: &[(V, 1.0)] },
    Price { class: Load, ops: 1.0, narrow: &[(L, 1.0)], wide: &[(L, 1.0)] },
    Price { class: LoadPair, ops: 1.0, narrow: &[(L, 2.0)], wide: &[(L, 2.0)] },
    Price { class: VLoadPair, ops: 1.0, narrow: &[(L, 2.0), (V, 1.0)], wide: &[(L, 4.0), (V, 2.0)] },
    Price { class: VLoadDeinterleave, ops: 1.0, narrow: &[(L, 4.0), (V, 2.0)], wide: &[(L, 4.0), (V, 2.0)] },
    Price { class: Store, ops: 1.0, narrow: &[(L, 1.0)], wide: &[(L, 1.0)] },
    Price { class: VStore, ops: 1.0, narrow: &[(L, 1.0)], wide: &[(L, 2.0)] },
    Price { class: StorePair, ops: 1.0, narrow: &[(L, 2.0)], wide: &[(L, 2.0)] },
    Price { class: VStorePair, ops: 1.0, narrow: &[(L, 2.0)], wide: &[(L, 2.0)] },
    Price { class: Imul, ops: 1.0, narrow: &[(I, 1.0)], wide: &[(I, 1.0)] },
    Price { class: Branch, ops: 1.0, narrow: &[(I, 0.5)], wide: &[(I, 0.5)] },
    Price { class: Int, ops: 1.0, narrow: &[(I, 0.5)], wide: &[(I, 0.5)] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_prices_every_class_once() {
        for prices in [A53, A72, A55, A76, N2] {
            for class in Class::ALL {
                let rows = prices.own.iter().chain(prices.common).filter(|price| price.class == class);
                assert_eq!(rows.count(), 1, "{class:?} of {:?}", prices.own);
            }
        }
    }

    #[test]
    fn work_for_either_pipe_is_bounded_by_their_sum() {
        let all: Vec<_> = A72.of(Fma, true).collect();
        assert_eq!(all, [(Resource::Issue, 1.0 / 3.0), (F0, 1.0), (F1, 1.0), (Resource::F, 1.0)]);
        let all: Vec<_> = A72.of(Shift, true).collect();
        assert_eq!(all, [(Resource::Issue, 1.0 / 3.0), (F1, 1.0), (Resource::F, 0.5)]);
    }
}
