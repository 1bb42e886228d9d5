//! The pictures whose answers differ most: what f32 says, what the blob says, and the picture itself as a data URL.
//!
//! A file of at most 64 kB goes in as it is; of a larger one what the network saw, as PNG.

use std::fs;

use anyhow::Context;
use vgg_edge_engine::topk::top_k;

use super::Subject;
use super::data::Worst;
use crate::report::{kl, log_softmax};

/// Pictures that are shown, at most.
const SHOWN: usize = 8;
/// Largest file that goes in as it is.
const MAX_FILE: usize = 64 * 1024;

/// The first class and its probability.
fn first(logits: &[f32]) -> (usize, f64) {
    let class = top_k(logits, 1).first().map_or(0, |t| t.class);
    (class, log_softmax(logits).get(class).map_or(0.0, |p| p.exp()))
}

/// The worst, furthest off first: those that change their class, then the others by divergence.
pub(super) fn worst(subject: &Subject<'_>, truth: Option<&[usize]>) -> Vec<Worst> {
    if !subject.graph.is_classifier() {
        return Vec::new();
    }
    let answers = &subject.converted.answers;
    let mut order: Vec<(usize, bool, f64)> = answers
        .iter()
        .enumerate()
        .map(|(i, a)| (i, first(&a.reference).0 != first(&a.blob).0, kl(&a.reference, &a.blob).max(0.0)))
        .collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then(b.2.total_cmp(&a.2)).then(a.0.cmp(&b.0)));
    let label = |class: usize| subject.labels.get(class).cloned().unwrap_or_else(|| class.to_string());
    let paths: Vec<String> =
        subject.converted.measured.labelled().map(|(path, _)| path.display().to_string()).collect();
    let worst = order.into_iter().take(SHOWN).map(|(i, changed, kl)| {
        let ((real, real_p), (found, found_p)) = (first(&answers[i].reference), first(&answers[i].blob));
        Worst {
            index: i,
            picture: paths.get(i).cloned().unwrap_or_default(),
            class: truth.and_then(|t| t.get(i)).map(|class| label(*class)),
            reference: label(real),
            reference_probability: real_p,
            answer: label(found),
            probability: found_p,
            changed,
            kl,
        }
    });
    worst.collect()
}

/// A data URL for each.
///
/// # Errors
/// A picture that cannot be read any more.
pub(super) fn images(subject: &Subject<'_>, worst: &[Worst]) -> anyhow::Result<Vec<String>> {
    worst.iter().map(|w| image(subject, w)).collect()
}

fn image(subject: &Subject<'_>, worst: &Worst) -> anyhow::Result<String> {
    let samples = &subject.converted.measured;
    let context = || format!("picture {}", worst.picture);
    let path =
        samples.labelled().nth(worst.index).map(|(path, _)| path.to_path_buf()).with_context(context)?;
    let bytes = fs::read(&path).with_context(context)?;
    let kind = match bytes[..] {
        [0x89, b'P', ..] => "png",
        [b'R', ..] => "webp",
        [b'B', ..] => "bmp",
        _ => "jpeg",
    };
    if bytes.len() <= MAX_FILE {
        return Ok(format!("data:image/{kind};base64,{}", base64(&bytes)));
    }
    let shape = subject.graph.input();
    let color = match shape.channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    };
    let mut encoded = Vec::new();
    let mut encoder = png::Encoder::new(&mut encoded, shape.width as u32, shape.height as u32);
    encoder.set_color(color);
    let mut writer = encoder.write_header().with_context(context)?;
    writer.write_image_data(&samples.picture(worst.index)?.data).with_context(context)?;
    writer.finish().with_context(context)?;
    Ok(format!("data:image/png;base64,{}", base64(&encoded)))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            match i <= chunk.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
