//! Kinds of steps: what one layer of a network does, as the cost model tells them apart.
//!
//! ```text
//! picture  first  direct  winograd-f43  winograd-f43-filters  winograd8-f23  winograd8-f43  pool  average  dense  dense-int4  output
//! ```
//!
//! ```
//! use vgg_edge_host::plan::Kind;
//! assert_eq!(Kind::find("winograd-f43"), Some(Kind::WinogradF43));
//! assert_eq!(Kind::from(vgg_edge_blob::Algorithm::Direct).name(), "direct");
//! ```

use vgg_edge_blob::Algorithm;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The picture becomes the first layer's map.
    Picture,
    /// First convolution: the picture's few channels.
    First,
    /// Convolution by definition.
    Direct,
    /// Exact Winograd F(4x4,3x3) in i16.
    WinogradF43,
    /// The same from filters, transformed as they are used.
    WinogradF43Filters,
    /// Requantized Winograd F(2x2,3x3) in i8.
    Winograd8F23,
    /// Requantized Winograd F(4x4,3x3) in i8.
    Winograd8F43,
    /// Winograd F(4x4,3x3) of f16 blobs, taps multiplied in half precision.
    WinogradF43F16,
    /// 2x2 maximum.
    Pool,
    /// Mean over rows and columns.
    Average,
    /// Dense layer, and any layer of one pixel a row.
    Dense,
    /// Dense layer of 4-bit weights.
    DenseInt4,
    /// The last map becomes real values.
    Output,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 13] = [
        Kind::Picture,
        Kind::First,
        Kind::Direct,
        Kind::WinogradF43,
        Kind::WinogradF43Filters,
        Kind::Winograd8F23,
        Kind::Winograd8F43,
        Kind::WinogradF43F16,
        Kind::Pool,
        Kind::Average,
        Kind::Dense,
        Kind::DenseInt4,
        Kind::Output,
    ];

    /// How a 3x3 layer behind the first may be computed, in the order of tables.
    pub const CONVOLUTIONS: [Kind; 5] =
        [Kind::Direct, Kind::WinogradF43, Kind::WinogradF43Filters, Kind::Winograd8F23, Kind::Winograd8F43];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Picture => "picture",
            Kind::First => "first",
            Kind::Direct => "direct",
            Kind::WinogradF43 => "winograd-f43",
            Kind::WinogradF43Filters => "winograd-f43-filters",
            Kind::Winograd8F23 => "winograd8-f23",
            Kind::Winograd8F43 => "winograd8-f43",
            Kind::WinogradF43F16 => "winograd-f43-f16",
            Kind::Pool => "pool",
            Kind::Average => "average",
            Kind::Dense => "dense",
            Kind::DenseInt4 => "dense-int4",
            Kind::Output => "output",
        }
    }

    /// The kind called `name`.
    pub fn find(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the result is that of the definition, byte for byte.
    pub fn is_exact(self) -> bool {
        !matches!(self, Kind::Winograd8F23 | Kind::Winograd8F43)
    }

    /// Whether all threads share the work.
    pub fn is_parallel(self) -> bool {
        !matches!(self, Kind::Picture | Kind::Average | Kind::Output)
    }

    /// Taps and outputs of a Winograd tile's side.
    pub(super) fn form(self) -> Option<Form> {
        match self {
            Kind::WinogradF43 | Kind::WinogradF43Filters | Kind::WinogradF43F16 => Some(EXACT),
            Kind::Winograd8F43 => Some(Form { tile: 4, value_bytes: 1 }),
            Kind::Winograd8F23 => Some(Form { tile: 2, value_bytes: 1 }),
            _ => None,
        }
    }
}

impl From<Algorithm> for Kind {
    fn from(algorithm: Algorithm) -> Kind {
        match algorithm {
            Algorithm::Direct => Kind::Direct,
            Algorithm::WinogradF43 => Kind::WinogradF43,
            Algorithm::WinogradF43Filters => Kind::WinogradF43Filters,
            Algorithm::Winograd8F23 => Kind::Winograd8F23,
            Algorithm::Winograd8F43 => Kind::Winograd8F43,
            Algorithm::WinogradF43F16 => Kind::WinogradF43F16,
        }
    }
}

/// A Winograd form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Outputs of a tile's side; its window has two more.
    pub(super) tile: usize,
    /// Bytes of a transformed value or weight.
    pub(super) value_bytes: usize,
}

/// Of exact Winograd.
pub(super) const EXACT: Form = Form { tile: 4, value_bytes: 2 };

impl Form {
    /// Rows of taps.
    pub(super) fn window(self) -> usize {
        self.tile + 2
    }
}
