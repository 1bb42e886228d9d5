//! Which of a camera's formats and sizes to take: the smallest frames that the network loses nothing by.
//!
//! ```text
//! network 224x224, camera 160x120 320x240 640x480 in YUYV and MJPEG, 1920x1080 in MJPEG  ─►  320x240 YUYV
//! ```
//!
//! Of one size YUYV comes first: it needs no decoder and has no coding noise.

/// How a camera's pixels are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Coding {
    /// Two bytes a pixel, 4:2:2
    Yuyv,
    /// A JPEG picture a frame
    Mjpeg,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "YUYV",
            Self::Mjpeg => "MJPEG",
        }
    }
}

/// Pixels of a row and rows.
pub(crate) type Size = (u32, u32);

/// Sizes of frames in one coding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sizes {
    One(Size),
    /// Least, largest and step of widths, then of heights.
    Range([u32; 3], [u32; 3]),
}

impl Sizes {
    /// The smallest size of these that is at least `wanted`, or the largest.
    fn nearest(self, wanted: Size) -> Size {
        let up = |[least, largest, step]: [u32; 3], wanted: u32| {
            let step = step.max(1);
            let n_steps = wanted.saturating_sub(least).div_ceil(step);
            let above = least.saturating_add(n_steps.saturating_mul(step));
            // The largest one is on the grid of steps, too.
            if above <= largest { above } else { least + largest.saturating_sub(least) / step * step }
        };
        match self {
            Self::One(size) => size,
            Self::Range(widths, heights) => (up(widths, wanted.0), up(heights, wanted.1)),
        }
    }
}

/// The best of `offers` for frames of at least `wanted`: of those that are large enough the smallest, else the largest.
///
/// `None` when there is no offer of a coding that may be taken: `coding`, or any.
pub(crate) fn choose(
    offers: &[(Coding, Sizes)],
    wanted: Size,
    coding: Option<Coding>,
) -> Option<(Coding, Size)> {
    let may = |offer: Coding| coding.is_none_or(|coding| coding == offer);
    let sizes =
        offers.iter().filter(|(coding, _)| may(*coding)).map(|&(c, sizes)| (c, sizes.nearest(wanted)));
    sizes.filter(|(_, size)| size.0 > 0 && size.1 > 0).min_by_key(|&(coding, (width, height))| {
        // Of what a driver says, which may be anything.
        let area = i128::from(width) * i128::from(height);
        let is_small = width < wanted.0 || height < wanted.1;
        (is_small, if is_small { -area } else { area }, coding)
    })
}
