//! Resize rules: from a picture of any size to the network's input size, as the training did it.
//!
//! ```text
//! stretch                        resize to (width, height), aspect not kept        Keras
//! shorter-side N, center-crop    short side to N, long side to N * long / short    torchvision on PIL images
//!                                (truncated), then the middle width x height
//! ```

use alloc::vec;

use vgg_edge_blob::{ResizeFilter, ResizeRule};

use super::resize::{Target, Window, resample};
use super::{Image, ImageView};

/// Fits `image` to `width` x `height` pixels; channels stay. Sides of 0 count as 1.
pub fn fit(
    image: ImageView<'_>,
    resize: ResizeRule,
    filter: ResizeFilter,
    width: usize,
    height: usize,
) -> Image {
    let (width, height) = (width.max(1), height.max(1));
    let (full_width, full_height) = match resize {
        ResizeRule::Stretch => (width, height),
        ResizeRule::ShorterSideCenterCrop(shorter) => {
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
        let out = fit(image, ResizeRule::ShorterSideCenterCrop(256), ResizeFilter::Bilinear, 224, 224);
        assert!(out.data().iter().all(|&v| v == 9));
        let out = fit(image, ResizeRule::Stretch, ResizeFilter::Lanczos, 224, 1);
        assert!(out.data().iter().all(|&v| v == 9));
    }
}
