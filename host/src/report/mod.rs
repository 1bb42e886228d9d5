//! What a conversion lost: signal to noise a layer, agreement with f32, how sure that is.

mod accuracy;
pub mod html;
mod interval;
mod sqnr;

pub use accuracy::{Accuracy, Comparison, Rates, kl, log_softmax};
pub use interval::{paired_difference, wilson};
pub use sqnr::{LayerSqnr, Sqnr, table};
