//! Pictures against what Pillow 13 made of them: every byte, for every filter and rule.
//!
//! `fixtures/resize/make.py` wrote `cases.bin`; its docstring gives the layout.

use vgg_edge_blob::{ResizeFilter, ResizeRule};
use vgg_edge_engine::image::{Image, fit};

/// Reads bytes from the front of a slice.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn sizes<const N: usize>(&mut self) -> [usize; N] {
        let bytes: [u8; N] = self.take(N).try_into().unwrap();
        bytes.map(usize::from)
    }
}

fn assert_same(found: &[u8], expected: &[u8], width: usize, channels: usize, case: &str) {
    let Some(i) = found.iter().zip(expected).position(|(f, e)| f != e) else {
        assert_eq!(found.len(), expected.len(), "{case}");
        return;
    };
    let (pixel, c) = (i / channels, i % channels);
    let different = found.iter().zip(expected).filter(|(f, e)| f != e).count();
    panic!(
        "{case}: {different} bytes differ, first at x {} y {} channel {c}: found {}, expected {}",
        pixel % width,
        pixel / width,
        found[i],
        expected[i]
    );
}

#[test]
fn every_filter_and_rule_equals_pillow() {
    let mut bytes = Bytes(include_bytes!("fixtures/resize/cases.bin"));
    let [n_sources] = bytes.sizes();
    let sources: Vec<Image> = (0..n_sources)
        .map(|_| {
            let [w, h, channels] = bytes.sizes();
            Image::new(bytes.take(w * h * channels).to_vec(), w, h, channels).unwrap()
        })
        .collect();
    let mut n_cases = 0;
    while !bytes.0.is_empty() {
        let [source, rule, filter, shorter, w, h] = bytes.sizes();
        let (source, filter) = (&sources[source], ResizeFilter::ALL[filter]);
        let resize = match rule {
            0 => ResizeRule::Stretch,
            _ => ResizeRule::ShorterSideCenterCrop(shorter as u32),
        };
        let channels = source.channels();
        let case =
            format!("{filter:?} {resize:?} {}x{}x{channels} to {w}x{h}", source.width(), source.height());
        let found = fit(source.view(), resize, filter, w, h);
        assert_same(found.data(), bytes.take(w * h * channels), w, channels, &case);
        n_cases += 1;
    }
    assert_eq!(n_cases, ResizeFilter::ALL.len() * (20 + 8));
}
