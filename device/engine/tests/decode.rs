//! Every kind of picture against what Pillow 13 reads from it, damaged ones, and limits.
//!
//! `fixtures/pictures/make.py` wrote the pictures; its docstring says how.
#![cfg(feature = "decode")]

use std::path::{Path, PathBuf};

use vgg_edge_blob::{ChannelOrder, Preprocess, ResizeFilter, ResizeRule, Shape};
use vgg_edge_engine::image::{
    DecodeError, Image, ImageView, Limits, decode, fit, has_picture_name, prepare, size,
};

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

/// Those and how many channels they have.
const WEBP: [(&str, usize); 4] = [("lossless", 3), ("lossless_alpha", 4), ("lossy", 3), ("lossy_alpha", 4)];
const BMP: [(&str, usize); 18] = [
    ("rgb", 3),
    ("rgba", 3), // Pillow writes no mask of alpha: neither does it read one
    ("gray", 3),
    ("bilevel", 3),
    ("palette1", 3),
    ("palette4", 3),
    ("palette8", 3),
    ("few_colours", 3),
    ("os2", 3),
    ("rgb555", 3),
    ("rgb565", 3),
    ("rgbx", 3),
    ("version4", 4),
    ("version5", 4),
    ("top_down", 3),
    ("rle8", 3),
    ("rle4", 3),
    ("no_palette_offset", 3),
];

#[test]
fn webp_and_bmp_of_every_kind_equal_pillow() {
    let webp = WEBP.map(|(name, channels)| (name, "webp", channels));
    for (name, end, channels) in webp.into_iter().chain(BMP.map(|(name, channels)| (name, "bmp", channels))) {
        let case = format!("{name}.{end}");
        let image = decode(&fixture(&case), Limits::default()).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!((image.width(), image.height(), image.channels()), (29, 21, channels), "{case}");
        if channels == 4 {
            same(image.data(), &fixture(&format!("{name}.rgba")), &case);
            assert!(image.data().iter().skip(3).step_by(4).any(|&alpha| alpha != 255), "{case}: opaque");
        }
        same(image.to_rgb().data(), &fixture(&format!("{name}.rgb")), &case);
    }
}

/// `found` is the pixels of NAME.rgb but for differences of at most `max`, on average of less than `mean`.
fn close(found: &[u8], name: &str, limit: u8, mean_limit: f64) {
    let expected = fixture(&format!("{name}.rgb"));
    assert_eq!(found.len(), expected.len(), "{name}");
    let differences = found.iter().zip(&expected).map(|(f, e)| f.abs_diff(*e));
    let mean = differences.clone().map(f64::from).sum::<f64>() / expected.len() as f64;
    let max = differences.max().unwrap();
    println!("{name}: max {max}, mean {mean:.3}");
    assert!(max <= limit && mean < mean_limit, "{name}: max {max}, mean {mean:.3}");
}

#[test]
fn pictures_are_turned_upright_as_pillow_turns_them() {
    for number in 1..=8 {
        let sides = if number < 5 { (29, 21) } else { (21, 29) };
        for (end, pixels) in [("png", ""), ("webp", ""), ("jpg", "_blocks")] {
            let case = format!("upright{number}.{end}");
            let bytes = fixture(&case);
            let image = decode(&bytes, Limits::default()).unwrap();
            assert_eq!((image.width(), image.height(), image.channels()), (sides.0, sides.1, 3), "{case}");
            same(image.data(), &fixture(&format!("upright{number}{pixels}.rgb")), &case);
            assert_eq!(size(&bytes, Limits::default()), Ok((29, 21)), "{case}: as stored");
        }
    }
    let last = decode(&fixture("exif_last.png"), Limits::default()).unwrap();
    same(last.data(), &fixture("upright6.rgb"), "EXIF data behind the picture");
}

/// What EXIF data of a small JPEG does: `None` when it stays as it is stored.
fn turned_by(exif: &[u8]) -> Option<Image> {
    let plain = fixture("ycc444.jpg");
    let len = (exif.len() + 2) as u16;
    let bytes = [&plain[..2], &[0xff, 0xe1], &len.to_be_bytes(), exif, &plain[2..]].concat();
    let image = decode(&bytes, Limits::default()).unwrap();
    (image != decode(&plain, Limits::default()).unwrap()).then_some(image)
}

#[test]
fn exif_data_that_cannot_be_read_turns_nothing() {
    // Little-endian; the directory at 8 has one entry: orientation, a u16, one of it.
    let good = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    assert_eq!(turned_by(good).map(|image| (image.width(), image.height())), Some((21, 29)));
    // All that the reader needs are the first 6 + 8 + 2 + 12 bytes.
    assert!((28..=good.len()).all(|len| turned_by(&good[..len]).is_some()));
    for len in 0..28 {
        assert_eq!(turned_by(&good[..len]), None, "cut at {len}");
    }
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = good.to_vec();
        changes.iter().for_each(|&(at, byte)| bytes[at] = byte);
        turned_by(&bytes)
    };
    for changes in [
        &[(0, b'e')][..],          // another name
        &[(6, b'M')],              // two byte orders
        &[(8, 43)],                // no TIFF
        &[(10, 0xff), (13, 0xff)], // a directory outside
        &[(10, 9)],                // or beside its place
        &[(14, 0)],                // no entry
        &[(16, 0x13)],             // another tag
        &[(18, 2)],                // a text
        &[(20, 2)],                // two values
        &[(24, 0)],                // upright
        &[(24, 1)],
        &[(24, 9)],
        &[(24, 6), (25, 1)],
    ] {
        assert_eq!(with(changes), None, "{changes:?}");
    }
    // More entries than there are keep those that are; other types of number do, too.
    for changes in [&[(14, 0xff), (15, 0xff)][..], &[(18, 1)], &[(18, 4)]] {
        assert!(with(changes).is_some(), "{changes:?}");
    }
}

/// Turning moves whole pixels, of the colours as of the alpha.
#[test]
fn every_turn_moves_every_pixel() {
    let exif =
        |number: u8| [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[number, 0, 0, 0][..]].concat();
    for name in ["rgba.png", "ycc444.jpg", "rgb.png"] {
        let plain = fixture(name);
        let stored = decode(&plain, Limits::default()).unwrap();
        let (width, height, channels) = (stored.width(), stored.height(), stored.channels());
        for number in 1..=8 {
            let bytes = if name.ends_with("png") {
                let at = 33; // behind the header
                [&plain[..at], &png_chunk(b"eXIf", &exif(number)), &plain[at..]].concat()
            } else {
                let data = [b"Exif\0\0", exif(number).as_slice()].concat();
                let len = (data.len() + 2) as u16;
                [&plain[..2], &[0xff, 0xe1], &len.to_be_bytes(), &data, &plain[2..]].concat()
            };
            let upright = decode(&bytes, Limits::default()).unwrap();
            let (w, h) = (upright.width(), upright.height());
            assert_eq!((w, h), if number < 5 { (width, height) } else { (height, width) }, "{name} {number}");
            for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))) {
                let (left, top) = match number {
                    1 => (x, y),
                    2 => (width - 1 - x, y),
                    3 => (width - 1 - x, height - 1 - y),
                    4 => (x, height - 1 - y),
                    5 => (y, x),
                    6 => (y, height - 1 - x),
                    7 => (width - 1 - y, height - 1 - x),
                    _ => (width - 1 - y, x),
                };
                let found = &upright.data()[(y * w + x) * channels..][..channels];
                let expected = &stored.data()[(top * width + left) * channels..][..channels];
                assert_eq!(found, expected, "{name} {number}: x {x} y {y}");
            }
        }
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
        close(image.data(), name, 6, 0.6);
        hashes.push((name, hash(image.data())));
    }
    assert_eq!(hashes, JPEG);
}

/// Every picture that decodes.
fn all_pictures() -> Vec<String> {
    let jpeg = JPEG.map(|(name, _)| format!("{name}.jpg"));
    let webp = WEBP.map(|(name, _)| format!("{name}.webp"));
    let bmp = BMP.map(|(name, _)| format!("{name}.bmp"));
    let turned = ["upright6.png", "upright7.jpg", "upright8.webp"].map(str::to_owned);
    let png = PNG.map(|name| format!("{name}.png")).into_iter();
    png.chain(jpeg).chain(webp).chain(bmp).chain(turned).collect()
}

#[test]
fn every_cut_off_picture_is_an_error() {
    for name in all_pictures() {
        let bytes = fixture(&name);
        let end = name.split_once('.').unwrap().1;
        // Without these bytes at the end it is complete: a PNG's last chunk, which says only that it ends, a BMP's
        // padding and the code for the end of the last row and of the picture. Without these at the start it is not known for what it is.
        let (needed, known) = match end {
            "png" => (bytes.len() - 16, 4),
            "webp" => (bytes.len(), 12),
            "bmp" => (bytes.len() - if name.starts_with("rle") { 4 } else { 3 }, 10),
            _ => (bytes.len(), 4),
        };
        for len in 0..needed {
            let error = decode(&bytes[..len], Limits::default()).expect_err(&format!("{name} cut at {len}"));
            match len {
                0 => assert_eq!(error, DecodeError::Empty),
                _ if len < known => {
                    assert!(matches!(error, DecodeError::NotAPicture { .. } | DecodeError::Truncated { .. }))
                }
                _ => assert!(
                    matches!(error, DecodeError::Truncated { len: l, .. } if l == len)
                        || (matches!(error, DecodeError::Damaged { .. }) && matches!(end, "png" | "jpg")),
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
    let names = all_pictures();
    let (mut good, mut bad) = (0, 0);
    for i in 0..6_000 {
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
    let mut webp = fixture("lossless.webp");
    webp[21..25].copy_from_slice(&(9_999 | 9_999_u32 << 14).to_le_bytes());
    let mut bmp = fixture("rle8.bmp");
    bmp[18..26].copy_from_slice(&[0x60, 0xea, 0, 0, 0x60, 0xea, 0, 0]);
    let error = decode(&webp, Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "10000x10000 pixels, the limit is 67108864 pixels and 65535 a side");
    for bytes in [png, jpeg, bmp] {
        let error = decode(&bytes, Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "60000x60000 pixels, the limit is 67108864 pixels and 65535 a side");
    }
    let small = Limits { pixels: 29 * 21 - 1, ..Limits::default() };
    assert!(matches!(decode(&fixture("rgb.png"), small), Err(DecodeError::TooLarge { .. })));
    for name in all_pictures() {
        let error = decode(&fixture(&name), small).expect_err(&name);
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{name}: {error}");
    }
}

fn png_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes(), body.as_slice(), &png_crc(&body).to_be_bytes()].concat()
}

/// Found by fuzzing: the decoder takes palettes of 4 bytes and then indexes out of bounds.
#[test]
fn palettes_are_whole_colours() {
    let original = fixture("palette8.png");
    // Signature and header, then chunks up to the palette, the palette, the rest.
    let at = original.windows(4).position(|w| w == b"PLTE").unwrap() - 4;
    let len = u32::from_be_bytes(original[at..at + 4].try_into().unwrap()) as usize;
    let with_palette =
        |palette: &[u8]| [&original[..at], &png_chunk(b"PLTE", palette), &original[at + 12 + len..]].concat();
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
    assert_eq!(message(b""), "0 bytes, expected a JPEG, PNG, WebP or BMP picture");
    let expected = "expected JPEG (ff d8 ff), PNG (89 50 4e 47), WebP (RIFF) or BMP (BM)";
    assert_eq!(message(b"hello"), format!("not a picture: starts with 68 65 6c 6c, {expected}"));
    assert_eq!(message(b"\xff"), format!("not a picture: starts with ff, {expected}"));
    for (bytes, format) in [
        (&b"GIF89a"[..], "GIF"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"P6 4 4 255\n", "PNM"),
    ] {
        assert_eq!(message(bytes), format!("{format} picture, expected JPEG, PNG, WebP or BMP"));
    }
    // "BM" starts words too.
    assert!(message(b"BMW is a car, the Isetta too").starts_with("not a picture"));
    assert!(message(b"RIFF\x10\0\0\0WAVEfmt ").starts_with("not a picture"));
    let mut arithmetic = fixture("ycc444.jpg");
    let frame = arithmetic.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    arithmetic[frame + 1] = 0xc9;
    assert_eq!(message(&arithmetic), "arithmetic-coded JPEG picture, expected JPEG, PNG, WebP or BMP");
}

#[test]
fn what_is_not_decoded_is_named() {
    let message = |bytes: &[u8]| decode(bytes, Limits::default()).unwrap_err().to_string();
    let expected = "animated WebP picture, expected JPEG, PNG, WebP or BMP";
    assert_eq!(message(&fixture("animated.webp")), expected);
    let with = |name: &str, at: usize, bytes: &[u8]| {
        let mut file = fixture(name);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        message(&file)
    };
    assert_eq!(with("rgb.bmp", 30, &[4]), "BMP that holds a JPEG picture, expected JPEG, PNG, WebP or BMP");
    assert_eq!(with("rgb.bmp", 30, &[5]), "BMP that holds a PNG picture, expected JPEG, PNG, WebP or BMP");
    assert_eq!(
        with("rgb.bmp", 14, &[41]),
        "damaged BMP picture: header of 41 bytes, expected 12, 40, 52, 56, 64, 108 or 124"
    );
    assert_eq!(
        with("rgb.bmp", 28, &[2]),
        "damaged BMP picture: 2 bits a pixel with compression 0, expected 1, 4, 8, 16, 24 or 32 with 0, 8 with 1, 4 \
         with 2, or 16, 24 or 32 with 3 or 6"
    );
    let sides = "damaged BMP picture: 0x21 pixels, expected sides of at least 1";
    assert_eq!(with("rgb.bmp", 18, &[0, 0, 0, 0]), sides);
    assert_eq!(
        with("rgb565.bmp", 54, &[0x0f, 0xf0]),
        "damaged BMP picture: a mask whose bits are not side by side"
    );
    assert!(with("lossless.webp", 20, &[0x2e]).starts_with("damaged WebP picture: "));
}

#[test]
fn pictures_are_known_by_their_names() {
    for name in ["a.jpg", "a.JPEG", "b/a.Png", "a.webp", "a.b.bmp"] {
        assert!(has_picture_name(name.as_ref()), "{name}");
    }
    for name in ["a", "jpg", ".jpg", "a.jpg.part", "a.gif", "a.jpg/b"] {
        assert!(!has_picture_name(name.as_ref()), "{name}");
    }
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
