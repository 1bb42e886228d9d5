//! Resize rules: from a picture of any size to the network's input size, as the training did it.
//!
//! ```text
//! stretch                        resize to (width, height), aspect not kept        Keras
//! shorter-side N, center-crop    short side to N, long side to N * long / short    torchvision on PIL images
//!                                (truncated), then the middle width x height
//! ```

use alloc::vec;

use super::resize::{Filter, Target, Window, resample};
use super::{Image, ImageView};

/// How a picture becomes as large as the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// To the input size, whatever the aspect.
    Stretch,
    /// The shorter side to `shorter` pixels, aspect kept, then the middle of it. What the crop has beyond
    /// the picture is black, as in torchvision.
    ShorterSideCenterCrop {
        /// Length of the shorter side after resizing, at least 1.
        shorter: u32,
    },
}

/// Fits `image` to `width` x `height` pixels; channels stay. Sides of 0 count as 1.
pub fn fit(image: ImageView<'_>, resize: Resize, filter: Filter, width: usize, height: usize) -> Image {
    let (width, height) = (width.max(1), height.max(1));
    let (full_width, full_height) = match resize {
        Resize::Stretch => (width, height),
        Resize::ShorterSideCenterCrop { shorter } => {
            let shorter = (shorter as usize).max(1);
            let long = |long: usize, short: usize| (shorter as u128 * long as u128 / short as u128) as usize;
            if image.width <= image.height {
                (shorter, long(image.height, image.width))
            } else {
                (long(image.width, image.height), shorter)
            }
        }
    };
    let (columns, left) = middle(full_width, width);
    let (rows, top) = middle(full_height, height);
    let channels = image.channels;
    let pitch = width * channels;
    let mut data = vec![0; height * pitch];
    let target = Target { data: &mut data[top * pitch + left * channels..], pitch };
    resample(image, filter, columns, rows, target);
    Image { data, width, height, channels }
}

/// The middle `crop` of `full` positions, and the black positions before it: `round((full - crop) / 2)`
/// with halves to even, as Python rounds.
fn middle(full: usize, crop: usize) -> (Window, usize) {
    if crop > full {
        return (Window { full, start: 0, len: full }, (crop - full) / 2);
    }
    let half = (full - crop) / 2;
    let start = if (full - crop) % 2 == 1 && half % 2 == 1 { half + 1 } else { half };
    (Window { full, start, len: crop }, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_start_where_python_rounds() {
        let starts = [4, 5, 6, 7, 9, 11].map(|full| middle(full, 4).0.start);
        assert_eq!(starts, [0, 0, 1, 2, 2, 4]);
        assert_eq!(middle(4, 7).1, 1);
    }

    #[test]
    fn extreme_shapes_need_no_extreme_memory() {
        // 1 x 60,000 with the shorter side at 256 would be 15,360,000 rows; only the crop is computed.
        let column = vec![9; 60_000 * 3];
        let image = ImageView::new(&column, 1, 60_000, 3).unwrap();
        let out = fit(image, Resize::ShorterSideCenterCrop { shorter: 256 }, Filter::Bilinear, 224, 224);
        assert!(out.data().iter().all(|&v| v == 9));
        let out = fit(image, Resize::Stretch, Filter::Lanczos, 224, 1);
        assert!(out.data().iter().all(|&v| v == 9));
    }
}
