//! What a conversion lost: signal to noise a layer, agreement with f32.

mod accuracy;
mod sqnr;

pub use accuracy::{Accuracy, Comparison, Rates};
pub use sqnr::{LayerSqnr, Sqnr, table};
