//! Every kind of picture against what Pillow 13 reads from it, damaged ones, and limits.
//!
//! `fixtures/pictures/make.py` wrote the pictures; its docstring says how.
#![cfg(feature = "decode")]

use std::path::{Path, PathBuf};

use vgg_edge_blob::{ChannelOrder, Preprocess, ResizeFilter, ResizeRule, Shape};
use vgg_edge_engine::image::{DecodeError, ImageView, Limits, decode, fit, prepare};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = fixtures().join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The shared folder of real pictures, or nothing outside CI.
fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("VGG_EDGE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing", root.display());
    println!("not run: {} is missing", root.display());
    None
}

/// A checksum of bytes, the same on every CPU (FNV-1a).
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

const PNG: [&str; 12] = [
    "rgb",
    "rgba",
    "gray",
    "gray_alpha",
    "palette4",
    "palette8",
    "bilevel",
    "interlaced",
    "rgb16",
    "gray16",
    "colour_key",
    "gray_key",
];

/// Those with an alpha, or with a colour that is transparent.
const TRANSPARENT: [&str; 5] = ["rgba", "gray_alpha", "palette8", "colour_key", "gray_key"];

#[test]
fn png_of_every_kind_equals_pillow() {
    for name in PNG {
        let image = decode(&fixture(&format!("{name}.png")), Limits::default()).unwrap();
        let channels = if TRANSPARENT.contains(&name) { 4 } else { 3 };
        assert_eq!((image.width(), image.height(), image.channels()), (29, 21, channels), "{name}");
        if channels == 4 {
            same(image.data(), &fixture(&format!("{name}.rgba")), name);
            assert!(image.data().iter().skip(3).step_by(4).any(|&alpha| alpha != 255), "{name}: opaque");
        }
        same(image.to_rgb().data(), &fixture(&format!("{name}.rgb")), name);
    }
}

fn same(found: &[u8], expected: &[u8], name: &str) {
    let wrong = found.iter().zip(expected).position(|(f, e)| f != e);
    assert_eq!((found.len(), wrong), (expected.len(), None), "{name}: bytes, first wrong byte");
}

/// Every network gets its channels, whatever the picture has: as Pillow's `convert` gives them.
#[test]
fn pictures_get_the_networks_channels() {
    for name in ["rgb.png", "rgba.png", "gray_alpha.png", "luma.jpg"] {
        let image = decode(&fixture(name), Limits::default()).unwrap();
        for order in ChannelOrder::ALL {
            let rule = Preprocess {
                order,
                scale: 1.0,
                mean: [0.0; 4],
                std: [1.0; 4],
                resize: ResizeRule::Stretch,
                filter: ResizeFilter::Bilinear,
            };
            let channels = order.channels();
            let input = Shape { height: 21, width: 29, channels: channels as u32 };
            let found = prepare(image.clone(), &rule, input);
            let converted = match channels {
                1 => image.clone().to_gray(),
                3 => image.clone().to_rgb(),
                _ => image.clone().to_rgba(),
            };
            assert_eq!(converted.channels(), channels, "{name}");
            same(&found, converted.data(), name);
            let smaller = prepare(image.clone(), &rule, Shape { height: 8, width: 8, ..input });
            let fitted = fit(converted.view(), ResizeRule::Stretch, ResizeFilter::Bilinear, 8, 8);
            same(&smaller, fitted.data(), name);
        }
    }
}

/// Name, and the hash of the decoded pixels: Arm and x86 must agree to the byte.
const JPEG: [(&str, u32); 7] = [
    ("ycc444", 4_189_094_532),
    ("ycc420", 3_008_303_841),
    ("ycc422", 2_216_115_701),
    ("progressive", 3_008_303_841),
    ("restart", 4_189_094_532),
    ("luma", 757_068_625),
    ("cmyk", 869_458_717),
];

#[test]
fn jpeg_of_every_kind_is_close_to_pillow_and_the_same_on_every_cpu() {
    let mut hashes = Vec::new();
    for (name, _) in JPEG {
        let image = decode(&fixture(&format!("{name}.jpg")), Limits::default()).unwrap();
        assert_eq!((image.width(), image.height(), image.channels()), (29, 21, 3), "{name}");
        let expected = fixture(&format!("{name}.rgb"));
        let differences = image.data().iter().zip(&expected).map(|(f, e)| f.abs_diff(*e));
        let mean = differences.clone().map(f64::from).sum::<f64>() / expected.len() as f64;
        let max = differences.max().unwrap();
        println!("{name}: max {max}, mean {mean:.3}");
        assert!(max <= 6 && mean < 0.6, "{name}: max {max}, mean {mean:.3}");
        hashes.push((name, hash(image.data())));
    }
    assert_eq!(hashes, JPEG);
}

#[test]
fn every_cut_off_picture_is_an_error() {
    for name in PNG.map(|n| format!("{n}.png")).into_iter().chain(JPEG.map(|(n, _)| format!("{n}.jpg"))) {
        let bytes = fixture(&name);
        // A PNG is complete without its last chunk, which is 12 bytes and says only that it ends.
        let needed = if name.ends_with("png") { bytes.len() - 16 } else { bytes.len() };
        for len in 0..needed {
            let error = decode(&bytes[..len], Limits::default()).expect_err(&name);
            match len {
                0 => assert_eq!(error, DecodeError::Empty),
                1..4 => {
                    assert!(matches!(error, DecodeError::NotAPicture { .. } | DecodeError::Truncated { .. }))
                }
                _ => assert!(
                    matches!(error, DecodeError::Truncated { len: l, .. } if l == len)
                        || matches!(error, DecodeError::Damaged { .. }),
                    "{name} cut at {len}: {error}"
                ),
            }
        }
        let half = decode(&bytes[..bytes.len() / 2], Limits::default()).unwrap_err();
        assert!(matches!(half, DecodeError::Truncated { .. }), "{name}: {half}");
    }
}

#[test]
fn mutated_pictures_decode_or_fail_but_never_panic() {
    let mut state = 0x2545_f491_u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize
    };
    let limits = Limits { pixels: 1 << 20, ..Limits::default() };
    let names: Vec<String> =
        PNG.map(|n| format!("{n}.png")).into_iter().chain(JPEG.map(|(n, _)| format!("{n}.jpg"))).collect();
    let (mut good, mut bad) = (0, 0);
    for i in 0..2_040 {
        let mut bytes = fixture(&names[i % names.len()]);
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            match random() % 4 {
                0 => bytes[at] ^= 1 << (random() % 8),
                1 => bytes[at] = [0x00, 0xff, 0x7f, 0x80][random() % 4],
                2 => bytes.truncate(at.max(8)),
                _ => {
                    let from = random() % bytes.len();
                    let n = (random() % 32).min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + n, at);
                }
            }
        }
        match decode(&bytes, limits) {
            Ok(image) => {
                assert!((image.width() * image.height()) as u64 <= limits.pixels);
                good += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                bad += 1;
            }
        }
    }
    println!("{good} decoded, {bad} refused");
    assert!(good > 100 && bad > 100, "{good} decoded, {bad} refused: the mutations miss their aim");
}

#[test]
fn sizes_are_checked_before_anything_is_allocated() {
    // Headers alone: 60,000 x 60,000 pixels would be 10.8 GB.
    let mut png = fixture("rgb.png");
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = png_crc(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut jpeg = fixture("ycc444.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    for bytes in [png, jpeg] {
        let error = decode(&bytes, Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "60000x60000 pixels, the limit is 67108864 pixels and 65535 a side");
    }
    let small = Limits { pixels: 29 * 21 - 1, ..Limits::default() };
    assert!(matches!(decode(&fixture("rgb.png"), small), Err(DecodeError::TooLarge { .. })));
    assert!(matches!(decode(&fixture("luma.jpg"), small), Err(DecodeError::TooLarge { .. })));
}

fn png_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}

/// Found by fuzzing: the decoder takes palettes of 4 bytes and then indexes out of bounds.
#[test]
fn palettes_are_whole_colours() {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [kind.as_slice(), data].concat();
        [&(data.len() as u32).to_be_bytes(), body.as_slice(), &png_crc(&body).to_be_bytes()].concat()
    };
    let original = fixture("palette8.png");
    // Signature and header, then chunks up to the palette, the palette, the rest.
    let at = original.windows(4).position(|w| w == b"PLTE").unwrap() - 4;
    let len = u32::from_be_bytes(original[at..at + 4].try_into().unwrap()) as usize;
    let with_palette =
        |palette: &[u8]| [&original[..at], &chunk(b"PLTE", palette), &original[at + 12 + len..]].concat();
    assert!(decode(&with_palette(&[7; 768]), Limits::default()).is_ok());
    for len in [4, 5, 49, 767] {
        let error = decode(&with_palette(&vec![7; len]), Limits::default()).unwrap_err();
        let expected = format!("damaged PNG picture: palette of {len} bytes, expected 3 a colour");
        assert_eq!(error.to_string(), expected);
    }
    for len in [0, 1, 2, 769, 771, 3000] {
        let error = decode(&with_palette(&vec![7; len]), Limits::default()).unwrap_err();
        assert!(matches!(error, DecodeError::Damaged { format: "PNG", .. }), "{len}: {error}");
    }
}

#[test]
fn other_files_are_named() {
    let message = |bytes: &[u8]| decode(bytes, Limits::default()).unwrap_err().to_string();
    assert_eq!(message(b""), "0 bytes, expected a JPEG or PNG picture");
    assert_eq!(
        message(b"hello"),
        "not a picture: starts with 68 65 6c 6c, expected JPEG (ff d8 ff) or PNG (89 50 4e 47)"
    );
    assert_eq!(
        message(b"\xff"),
        "not a picture: starts with ff, expected JPEG (ff d8 ff) or PNG (89 50 4e 47)"
    );
    for (bytes, format) in [
        (&b"RIFF\x10\0\0\0WEBPVP8 "[..], "WebP"),
        (b"GIF89a", "GIF"),
        (b"BM\x36\0\0\0\0\0\0\0\x36", "BMP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"P6 4 4 255\n", "PNM"),
    ] {
        assert_eq!(message(bytes), format!("{format} picture, expected JPEG or PNG"));
    }
    // "BM" starts words too.
    assert!(message(b"BMW is a car").starts_with("not a picture"));
    let mut arithmetic = fixture("ycc444.jpg");
    let frame = arithmetic.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    arithmetic[frame + 1] = 0xc9;
    assert_eq!(message(&arithmetic), "arithmetic-coded JPEG picture, expected JPEG or PNG");
}

#[test]
fn real_pictures_all_decode() {
    let Some(shared) = shared() else { return };
    let mut n = 0;
    let mut folders = vec![shared.join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "jpg") {
                let image = decode(&std::fs::read(&path).unwrap(), Limits::default());
                assert!(image.is_ok(), "{}: {}", path.display(), image.unwrap_err());
                n += 1;
            }
        }
    }
    println!("{n} pictures");
    assert!(n >= 1_564, "{n} pictures, expected 1564");
}

/// The bytes of a `.npy` array of `u8`.
fn npy(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[10 + header..].to_vec()
}

#[test]
fn the_seed_network_sees_the_pixels_it_was_trained_on() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("models/golden");
    let pictures = npy(&golden.join("golden_images_u8_nhwc_rgb.npy"));
    let inputs = npy(&golden.join("vgg16_cifar10_input_u8_nhwc_rgb_96.npy"));
    let (picture_len, input_len) = (32 * 32 * 3, 96 * 96 * 3);
    assert_eq!((pictures.len(), inputs.len()), (64 * picture_len, 64 * input_len));
    for (i, (picture, input)) in pictures.chunks(picture_len).zip(inputs.chunks(input_len)).enumerate() {
        let picture = ImageView::new(picture, 32, 32, 3).unwrap();
        let fitted = fit(picture, ResizeRule::Stretch, ResizeFilter::Bilinear, 96, 96);
        assert!(fitted.data() == input, "picture {i}");
    }
}
