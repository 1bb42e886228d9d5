//! The parts of the camera that need no system: colours, JPEG streams, the newest frame, smoothing, times, formats.

#[path = "../src/camera/choose.rs"]
#[allow(dead_code, unreachable_pub)]
mod choose;
#[path = "../src/camera/mjpeg.rs"]
#[allow(dead_code, unreachable_pub)]
mod mjpeg;
#[path = "../src/camera/pace.rs"]
#[allow(dead_code, unreachable_pub)]
mod pace;
#[path = "../src/camera/slot.rs"]
#[allow(dead_code, unreachable_pub)]
mod slot;
#[path = "../src/camera/smooth.rs"]
#[allow(dead_code, unreachable_pub)]
mod smooth;
mod support;
#[path = "../src/camera/yuv.rs"]
#[allow(dead_code, unreachable_pub)]
mod yuv;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use choose::{Coding, Sizes, choose};
use mjpeg::{Splitter, with_tables};
use pace::{BackOff, Limit, Rate};
use slot::{Slot, Taken};
use smooth::Smoother;
use support::without_tables;
use vgg_edge_engine::image::{Limits, decode};
use yuv::{Colours, needed_bytes, to_rgb};

/// The definition of BT.601 and its like, in real numbers.
fn real(kr: f64, kb: f64, is_full: bool, [y, u, v]: [u8; 3]) -> [f64; 3] {
    let (y, u, v) = (f64::from(y), f64::from(u) - 128.0, f64::from(v) - 128.0);
    // Y in 0..=1, Pb and Pr in -0.5..=0.5.
    let (y, pb, pr) =
        if is_full { (y / 255.0, u / 255.0, v / 255.0) } else { ((y - 16.0) / 219.0, u / 224.0, v / 224.0) };
    let red = y + pr * 2.0 * (1.0 - kr);
    let blue = y + pb * 2.0 * (1.0 - kb);
    let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
    [red, green, blue].map(|c| (c * 255.0).clamp(0.0, 255.0))
}

/// `Colours::of` for each of these: colour space, encoding, quantization, and what they mean.
const MEANINGS: [([u32; 3], f64, f64, bool); 9] = [
    ([0, 0, 0], 0.299, 0.114, false),
    ([8, 0, 0], 0.299, 0.114, false),
    ([8, 1, 1], 0.299, 0.114, true),
    ([7, 0, 0], 0.299, 0.114, true),
    ([7, 1, 2], 0.299, 0.114, false),
    ([3, 0, 0], 0.2126, 0.0722, false),
    ([1, 2, 0], 0.2126, 0.0722, false),
    ([10, 0, 0], 0.2627, 0.0593, false),
    ([2, 0, 2], 0.212, 0.087, false),
];

#[test]
fn colours_are_the_real_formula_rounded() {
    for ([colorspace, encoding, quantization], kr, kb, is_full) in MEANINGS {
        let colours = Colours::of(colorspace, encoding, quantization);
        let (mut n_differ, mut n) = (0u32, 0u32);
        for y in (0..=255u8).step_by(3) {
            for u in (0..=255).step_by(5) {
                for v in 0..=255 {
                    let real = real(kr, kb, is_full, [y, u, v]);
                    for (found, real) in colours.rgb(y, u, v).into_iter().zip(real) {
                        // The rounded factors move a sum by 0.006 at most.
                        assert!(
                            (f64::from(found) - real).abs() < 0.51,
                            "{y} {u} {v}: {found}, expected {real}"
                        );
                        n_differ += u32::from(f64::from(found) != real.round());
                        n += 1;
                    }
                }
            }
        }
        assert!(n_differ * 100 < n, "{n_differ} of {n} differ from the rounded formula");
    }
    // What everybody knows: black, white, and the test colours of BT.601.
    let default = Colours::DEFAULT;
    assert_eq!(default, Colours::of(0, 0, 0));
    assert_eq!([default.rgb(16, 128, 128), default.rgb(235, 128, 128)], [[0; 3], [255; 3]]);
    assert_eq!(default.rgb(81, 90, 240), [254, 0, 0]);
}

#[test]
fn rows_lie_bytes_per_line_apart() {
    let colours = Colours::of(0, 1, 1);
    // Two rows of two pixels; gray is Y in full range.
    let frame = [10, 128, 20, 128, 0xee, 0xee, 30, 128, 40, 128];
    let rgb = to_rgb(&frame, (2, 2), 6, &colours).unwrap();
    assert_eq!(rgb, [10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40]);
    // The last row may lack its padding, but not a pixel.
    assert_eq!(needed_bytes((2, 2), 6), Some(10));
    assert_eq!(to_rgb(&frame[..9], (2, 2), 6, &colours), None);
    for (size, bytes_per_line) in
        [((0, 2), 6), ((2, 0), 6), ((3, 2), 6), ((4, 2), 6), ((usize::MAX - 1, 2), usize::MAX)]
    {
        assert_eq!(to_rgb(&frame, size, bytes_per_line, &colours), None, "{size:?} {bytes_per_line}");
    }
    assert_eq!(
        to_rgb(&[1, 2, 3, 4, 5, 6, 7, 8, 9], (4, 1), 8, &colours).unwrap().len(),
        12,
        "more than needed"
    );
}

fn red() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/red.jpg")).unwrap()
}

#[test]
fn missing_huffman_tables_are_the_standard_ones() {
    // Pillow writes the standard tables.
    let red = red();
    assert_eq!(*with_tables(&red), red, "as it is");
    let bare = without_tables(&red);
    assert!(decode(&bare, Limits::default()).is_err() || bare.len() < red.len());
    let pixels = |jpeg: &[u8]| decode(jpeg, Limits::default()).unwrap();
    assert_eq!(pixels(&with_tables(&bare)), pixels(&red));
    for broken in [&[][..], &[0xff], &[0xff, 0xd8], &[0xff, 0xd8, 0xff, 0xda], &[0xff; 9], &red[..20]] {
        with_tables(broken);
    }
}

/// The pictures of a stream that comes in pieces.
fn split(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let (mut splitter, mut pictures) = (Splitter::default(), Vec::new());
    for piece in stream.chunks(piece) {
        splitter.push(piece);
        pictures.extend(std::iter::from_fn(|| splitter.next()));
    }
    pictures.extend(splitter.rest());
    pictures
}

#[test]
fn streams_are_cut_into_their_pictures_whatever_the_pieces() {
    let red = red();
    // One picture with another one in a comment, as thumbnails are.
    let mut nested = vec![0xff, 0xd8, 0xff, 0xfe];
    nested.extend_from_slice(&(red.len() as u16 + 2).to_be_bytes());
    nested.extend_from_slice(&red);
    nested.extend_from_slice(&red[2..]);
    let cut = &red[..red.len() - 20];
    let stream = [&b"--boundary\r\n"[..], &red, &nested, b"\0\0", cut, &red, &red[..red.len() - 5]].concat();
    let expected = [red.clone(), nested.clone(), cut.to_vec(), red.clone(), red[..red.len() - 5].to_vec()];
    for piece in [1, 2, 3, 7, 64, 1000, stream.len()] {
        let found = split(&stream, piece);
        assert_eq!(found.len(), expected.len(), "pieces of {piece}");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(found == expected, "pieces of {piece}: picture {i}");
        }
    }
}

#[test]
fn damaged_streams_are_cut_somewhere() {
    let stream = red().repeat(4);
    let mut state = 3u32;
    for _ in 0..2000 {
        let mut damaged = stream.clone();
        for _ in 0..5 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % damaged.len();
            damaged[at] = if state & 1 == 0 { 0xff } else { (state >> 3) as u8 };
        }
        let pictures = split(&damaged, 100);
        let n_bytes: usize = pictures.iter().map(Vec::len).sum();
        assert!(n_bytes <= damaged.len() && !pictures.iter().any(Vec::is_empty), "seed 3");
        for picture in pictures {
            // Any outcome but a panic.
            let _ = decode(&with_tables(&picture), Limits::default());
        }
    }
}

#[test]
fn a_slow_taker_gets_the_newest_and_knows_what_it_missed() {
    let slot: Slot<u32, &str> = Slot::new();
    let soon = Duration::from_millis(1);
    assert_eq!(slot.take(soon), Taken::Nothing);
    assert_eq!((1..=5).filter_map(|i| slot.put(i)).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(slot.take(soon), Taken::Value(5, 4));
    slot.put(6);
    slot.end("the end");
    assert_eq!(slot.take(soon), Taken::Value(6, 0), "the last one is seen");
    assert_eq!(slot.take(soon), Taken::End("the end"));
    assert_eq!(slot.take(soon), Taken::Nothing);
}

#[test]
fn the_newest_frame_is_never_older_than_the_last_one() {
    let slot: Slot<u64, ()> = Slot::new();
    let (mut seen, mut missed) = (Vec::new(), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..1000 {
                slot.put(i);
                if i % 10 == 0 {
                    thread::yield_now();
                }
            }
            slot.end(());
        });
        loop {
            match slot.take(Duration::from_secs(10)) {
                Taken::Value(i, n_replaced) => {
                    seen.push(i);
                    missed += n_replaced;
                    thread::sleep(Duration::from_micros(200));
                }
                Taken::End(()) => break,
                Taken::Nothing => panic!("nothing for 10 s"),
            }
        }
    });
    assert!(seen.is_sorted_by(|a, b| a < b) && seen.last() == Some(&999), "{seen:?}");
    assert_eq!(seen.len() as u64 + missed, 1000, "each one was seen or counted");
}

#[test]
fn a_recording_waits_for_a_slow_taker() {
    let slot: Slot<u32, ()> = Slot::new();
    let n_put = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..50 {
                slot.put_next(i);
                n_put.store(i as usize + 1, Ordering::SeqCst);
            }
        });
        for i in 0..20 {
            assert_eq!(slot.take(Duration::from_secs(10)), Taken::Value(i, 0));
            assert!(n_put.load(Ordering::SeqCst) <= i as usize + 2, "one ahead, no queue");
        }
        // Nobody takes any more: it does not wait for ever.
        slot.close();
    });
    assert_eq!(n_put.into_inner(), 50);
    assert!(slot.is_closed() && slot.wait_for_close(Duration::from_secs(10)));
}

#[test]
fn smoothing_is_the_mean_over_the_last_frames() {
    let smoother = Smoother::parse("3").unwrap();
    let frames = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]];
    let expected = [[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.25, 0.75], [0.25, 0.75]];
    for (frame, expected) in frames.into_iter().zip(expected) {
        let mut p = frame;
        smoother.smooth(&mut p);
        assert_eq!(p, expected);
    }
    // A clone has the same frames; forgotten by one, forgotten by both.
    smoother.clone().reset();
    let mut p = [0.125, 0.875];
    smoother.smooth(&mut p);
    assert_eq!(p, [0.125, 0.875]);
    // Another number of classes begins anew.
    let mut p = [0.5, 0.25, 0.25];
    smoother.smooth(&mut p);
    assert_eq!(p, [0.5, 0.25, 0.25]);
    let mut p = [0.1, 0.9];
    Smoother::new(1).smooth(&mut p);
    assert_eq!(p, [0.1, 0.9]);
    for wrong in ["0", "-1", "301", "many", ""] {
        assert_eq!(Smoother::parse(wrong).unwrap_err(), "expected 1 to 300 frames");
    }
}

#[test]
fn smoothing_does_not_drift() {
    let smoother = Smoother::new(7);
    let frame = |i: u32| [(i % 97) as f32 / 97.0, (i % 31) as f32 / 31.0];
    for i in 0..10_000 {
        let mut p = frame(i);
        smoother.smooth(&mut p);
        if i >= 6 {
            let mut expected = [0.0f32; 2];
            for j in i - 6..=i {
                expected.iter_mut().zip(frame(j)).for_each(|(sum, p)| *sum += p);
            }
            assert_eq!(p, expected.map(|sum| sum / 7.0), "frame {i}: the same bits as a fresh sum");
        }
    }
}

#[test]
fn limits_let_through_the_rate_and_no_burst() {
    let start = Instant::now();
    // Frames at 30 a second for 10 seconds.
    for (per_second, expected) in
        [(None, 300), (Some(10.0), 100), (Some(7.0), 70), (Some(60.0), 300), (Some(0.5), 5)]
    {
        let mut limit = Limit::new(per_second);
        let mut n_passed = 0;
        for i in 0..300 {
            let now = start + Duration::from_secs(i) / 30;
            if limit.wait(now).is_zero() {
                limit.pass(now);
                n_passed += 1;
            }
        }
        assert!((expected..=expected + 1).contains(&n_passed), "{per_second:?}: {n_passed}");
    }
    let mut limit = Limit::new(Some(10.0));
    limit.pass(start);
    assert_eq!(limit.wait(start), Duration::from_millis(100));
    // After a pause one at once, the next in its time.
    let late = start + Duration::from_secs(60);
    assert_eq!(limit.wait(late), Duration::ZERO);
    limit.pass(late);
    assert_eq!(limit.wait(late), Duration::from_millis(100));
}

#[test]
fn waits_double_up_to_five_seconds() {
    let mut back_off = BackOff::new();
    let waits: Vec<u128> = (0..7).map(|_| back_off.next().as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
}

#[test]
fn the_rate_is_that_of_the_last_observations() {
    let (mut rate, start) = (Rate::default(), Instant::now());
    assert_eq!(rate.count(start), 0.0);
    assert_eq!(rate.count(start), 0.0, "no time has passed");
    for i in 0..100u32 {
        let found = rate.count(start + Duration::from_secs(10) + Duration::from_millis(250) * i);
        assert!(i < 16 || (found - 4.0).abs() < 1e-3, "{i}: {found}");
    }
}

#[test]
fn the_smallest_size_that_is_large_enough_is_taken() {
    let one = |coding, width, height| (coding, Sizes::One((width, height)));
    let (yuyv, mjpeg) = (Coding::Yuyv, Coding::Mjpeg);
    let camera = [
        one(mjpeg, 1920, 1080),
        one(mjpeg, 640, 480),
        one(mjpeg, 320, 240),
        one(yuyv, 640, 480),
        one(yuyv, 160, 120),
        one(yuyv, 320, 240),
    ];
    for (wanted, coding, expected) in [
        ((224, 224), None, (yuyv, (320, 240))),
        ((224, 224), Some(mjpeg), (mjpeg, (320, 240))),
        ((320, 240), None, (yuyv, (320, 240))),
        ((256, 256), None, (yuyv, (640, 480))),
        ((800, 100), None, (mjpeg, (1920, 1080))),
        ((800, 100), Some(yuyv), (yuyv, (640, 480))),
        ((4000, 4000), None, (mjpeg, (1920, 1080))),
    ] {
        assert_eq!(choose(&camera, wanted, coding), Some(expected), "{wanted:?} {coding:?}");
    }
    assert_eq!(choose(&camera[..3], (1, 1), Some(yuyv)), None);
    assert_eq!(choose(&[], (1, 1), None), None);
    let range = [(yuyv, Sizes::Range([32, 1000, 16], [32, 600, 2]))];
    for (wanted, expected) in
        [((224, 225), (224, 226)), ((1, 1), (32, 32)), ((5000, 5000), (992, 600)), ((995, 40), (992, 40))]
    {
        assert_eq!(choose(&range, wanted, None), Some((yuyv, expected)), "{wanted:?}");
    }
    // What no driver should say.
    for wrong in [Sizes::One((0, 5)), Sizes::Range([0, 0, 0], [0, 0, 0])] {
        assert_eq!(choose(&[(yuyv, wrong)], (8, 8), None), None);
    }
    choose(&[(yuyv, Sizes::Range([u32::MAX, 1, u32::MAX], [5, u32::MAX, 1]))], (u32::MAX, u32::MAX), None);
}
