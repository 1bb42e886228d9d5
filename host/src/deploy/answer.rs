//! One picture's answer, here and on a board: the same file must give the same classes on every CPU.
//!
//! ```text
//! {"image": "picture", "top": [{"class": 3, "label": "cat", "probability": 0.81}], "ms": 41.2}
//! {"image": "picture", "shape": [1, 1, 512], "features": [0.25, ...], "ms": 41.2}
//! ```

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use vgg_edge_blob::Blob;
use vgg_edge_engine::image::{Limits, decode, prepare};
use vgg_edge_engine::topk::{softmax, top_k};

use crate::convert::engine;

/// Classes that are compared.
const TOP: usize = 5;
/// Of a probability: results are equal to the last bit, and JSON writes f32 so that it reads back. What is left is room
/// for another library's exponential function.
const TOLERANCE: f32 = 1e-4;

/// What a network says of one picture, as `classify run --json` writes it; other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The best classes, best first.
    Classes {
        /// At most five.
        top: Vec<Class>,
    },
    /// Real values.
    Features {
        /// Rows, columns, channels.
        shape: [u32; 3],
        /// NHWC.
        features: Vec<f32>,
    },
}

/// Either form. Not an untagged enum: where a package of the build asks for numbers of any precision, those cannot hold one.
#[derive(Deserialize)]
struct Fields {
    top: Option<Vec<Class>>,
    shape: Option<[u32; 3]>,
    features: Option<Vec<f32>>,
}

/// A class of an answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Class {
    /// Index.
    pub class: usize,
    /// 0..=1.
    pub probability: f32,
}

impl Answer {
    /// What this machine says of a picture, JPEG or PNG.
    ///
    /// # Errors
    /// A picture that cannot be decoded.
    pub(crate) fn here(blob: &Blob<'_>, picture: &[u8]) -> anyhow::Result<Self> {
        let image = decode(picture, Limits::default())?;
        let input = prepare(image, blob.preprocess(), blob.input());
        let mut engine = engine(blob)?;
        let mut values = engine.run(&input)?.to_vec();
        if !blob.is_classifier() {
            let shape = blob.output();
            return Ok(Self::Features {
                shape: [shape.height, shape.width, shape.channels],
                features: values,
            });
        }
        softmax(&mut values);
        let top = top_k(&values, TOP);
        Ok(Self::Classes {
            top: top.iter().map(|t| Class { class: t.class, probability: t.score }).collect(),
        })
    }

    /// Reads what a board printed.
    ///
    /// # Errors
    /// Anything else.
    pub(crate) fn parse(json: &str) -> anyhow::Result<Self> {
        let expected = || format!("the answer is `{}`, expected the JSON of `classify run`", shortened(json));
        match serde_json::from_str(json).with_context(expected)? {
            Fields { top: Some(top), .. } => Ok(Self::Classes { top }),
            Fields { shape: Some(shape), features: Some(features), .. } => {
                Ok(Self::Features { shape, features })
            }
            _ => bail!(expected()),
        }
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// The first difference of a board's answer from this one.
    ///
    /// # Errors
    /// Where, found, expected.
    pub(crate) fn check(&self, found: &Self) -> Result<(), String> {
        match (self, found) {
            (Self::Classes { top: expected }, Self::Classes { top: found }) => {
                if expected.len() != found.len() {
                    return Err(format!("{} classes, expected {}", found.len(), expected.len()));
                }
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    if found.class != expected.class || !near(found.probability, expected.probability) {
                        return Err(format!(
                            "place {} is class {} with {:.4}, expected class {} with {:.4}",
                            i + 1,
                            found.class,
                            found.probability,
                            expected.class,
                            expected.probability
                        ));
                    }
                }
                Ok(())
            }
            (
                Self::Features { shape: expected_shape, features: expected },
                Self::Features { shape: found_shape, features: found },
            ) => {
                if expected_shape != found_shape || expected.len() != found.len() {
                    return Err(format!("features of {found_shape:?}, expected {expected_shape:?}"));
                }
                let scale = expected.iter().fold(1.0f32, |max, value| max.max(value.abs()));
                let differs = |(_, (found, expected)): &(usize, (&f32, &f32))| {
                    !near(**found / scale, **expected / scale)
                };
                match found.iter().zip(expected).enumerate().find(differs) {
                    Some((i, (found, expected))) => {
                        Err(format!("feature {i} is {found}, expected {expected}"))
                    }
                    None => Ok(()),
                }
            }
            (Self::Classes { .. }, Self::Features { .. }) => Err("features, expected classes".to_owned()),
            (Self::Features { .. }, Self::Classes { .. }) => Err("classes, expected features".to_owned()),
        }
    }
}

/// Not so for what is no number.
fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= TOLERANCE
}

/// The start of a text, for messages.
pub(crate) fn shortened(text: &str) -> String {
    let line = text.trim().replace(['\n', '\r'], " ");
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(list: &[(usize, f32)]) -> Answer {
        Answer::Classes {
            top: list.iter().map(|&(class, probability)| Class { class, probability }).collect(),
        }
    }

    #[test]
    fn an_answer_is_read_as_classify_writes_it() {
        let json = r#"{"image":"picture","top":[{"class":3,"label":"cat","probability":0.75}],"ms":1.5,"decode_ms":0.1}"#;
        assert_eq!(Answer::parse(json).unwrap(), classes(&[(3, 0.75)]));
        let json = r#"{"image":"x","shape":[1,1,2],"features":[0.5,-1.0],"ms":1.0}"#;
        let features = Answer::Features { shape: [1, 1, 2], features: vec![0.5, -1.0] };
        assert_eq!(Answer::parse(json).unwrap(), features);
        assert_eq!(Answer::parse(&features.json()).unwrap(), features);
        let error = format!("{}", Answer::parse("<html>").unwrap_err());
        assert_eq!(error, "the answer is `<html>`, expected the JSON of `classify run`");
    }

    #[test]
    fn the_first_difference_is_named() {
        let expected = classes(&[(3, 0.75), (1, 0.25)]);
        assert_eq!(expected.check(&expected), Ok(()));
        assert_eq!(expected.check(&classes(&[(3, 0.75005), (1, 0.25)])), Ok(()));
        let differs = |found: &[(usize, f32)]| expected.check(&classes(found)).unwrap_err();
        assert_eq!(differs(&[(3, 0.75)]), "1 classes, expected 2");
        assert_eq!(
            differs(&[(3, 0.75), (2, 0.25)]),
            "place 2 is class 2 with 0.2500, expected class 1 with 0.2500"
        );
        assert_eq!(
            differs(&[(3, 0.7), (1, 0.25)]),
            "place 1 is class 3 with 0.7000, expected class 3 with 0.7500"
        );
        assert_eq!(
            differs(&[(3, f32::NAN), (1, 0.25)]),
            "place 1 is class 3 with NaN, expected class 3 with 0.7500"
        );
        let features = Answer::Features { shape: [1, 1, 2], features: vec![0.5, -1.0] };
        assert_eq!(expected.check(&features).unwrap_err(), "features, expected classes");
        let other = Answer::Features { shape: [1, 1, 2], features: vec![0.5, -1.5] };
        assert_eq!(features.check(&other).unwrap_err(), "feature 1 is -1.5, expected -1");
    }
}
