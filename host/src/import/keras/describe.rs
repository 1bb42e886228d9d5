//! Options of a described layer: what they must be, and what they are.
//!
//! ```text
//! "config": {"name": "block1_conv1", "filters": 16, "kernel_size": [3, 3], "padding": "same", "activation": "relu", …}
//! ```
//!
//! Every error names the layer, the option, what it is and what it should be.

use serde_json::Value;

use crate::graph::Kind;

use super::super::Problem;
use super::config::Described;

impl Described<'_> {
    pub(super) fn option(&self, option: &str, found: String, expected: &'static str) -> Problem {
        Problem::Option { layer: self.name.into(), option: option.into(), found, expected }
    }

    /// Errors unless the option's JSON is one of `allowed`.
    pub(super) fn require(
        &self,
        option: &str,
        allowed: &[&str],
        expected: &'static str,
    ) -> Result<(), Problem> {
        let found = self.config[option].to_string();
        if allowed.contains(&found.as_str()) { Ok(()) } else { Err(self.option(option, found, expected)) }
    }

    pub(super) fn channels_last(&self) -> Result<(), Problem> {
        self.require("data_format", &["\"channels_last\"", "\"default\"", "null"], "channels_last")
    }

    /// A truth value that is true where it is not said.
    pub(super) fn flag(&self, option: &str) -> Result<bool, Problem> {
        let value = &self.config[option];
        match value.as_bool() {
            Some(flag) => Ok(flag),
            None if value.is_null() => Ok(true),
            None => Err(self.option(option, value.to_string(), "true or false")),
        }
    }

    pub(super) fn number(&self, option: &str) -> Result<usize, Problem> {
        let value = &self.config[option];
        (value.as_u64())
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| self.option(option, value.to_string(), "a number of at least 1"))
    }

    /// A number, or one for each channel in however many brackets.
    pub(super) fn values(&self, option: &str, channels: usize) -> Result<Vec<f64>, Problem> {
        fn collect(value: &Value, into: &mut Vec<f64>) -> bool {
            match value {
                Value::Array(items) => items.iter().all(|v| collect(v, into)),
                // Keras 3 wraps arrays: {"class_name": "__numpy__", "config": {"value": […]}}.
                Value::Object(_) => collect(&value["config"]["value"], into),
                _ => value.as_f64().filter(|v| v.is_finite()).map(|v| into.push(v)).is_some(),
            }
        }
        let value = &self.config[option];
        let mut found = Vec::new();
        match (collect(value, &mut found), found.len()) {
            (true, 1) => Ok(vec![found[0]; channels]),
            (true, n) if n == channels => Ok(found),
            _ => Err(self.option(option, value.to_string(), "a number, or one for each channel")),
        }
    }

    /// `"relu"`, `{"class_name": "ReLU", …}` or `{"class_name": "function", "config": "relu"}`; `None` for linear.
    pub(super) fn activation(&self) -> Result<Option<Kind>, Problem> {
        let value = &self.config["activation"];
        let word = match value {
            Value::Object(_) if value["class_name"] == "function" => value["config"].as_str(),
            Value::Object(_) => value["class_name"].as_str(),
            _ => value.as_str(),
        };
        match word {
            Some("relu") => Ok(Some(Kind::Relu)),
            Some("ReLU") => {
                self.plain_relu("activation: ", &value["config"])?;
                Ok(Some(Kind::Relu))
            }
            Some("softmax" | "Softmax") => Ok(Some(Kind::Softmax)),
            Some("linear") => Ok(None),
            None if value.is_null() => Ok(None),
            _ => Err(self.option("activation", value.to_string(), "relu, softmax or linear")),
        }
    }

    /// Errors if a ReLU is capped (ReLU6), leaky or shifted.
    pub(super) fn plain_relu(&self, prefix: &str, config: &Value) -> Result<(), Problem> {
        for (option, expected) in [("max_value", "null"), ("negative_slope", "0"), ("threshold", "0")] {
            let found = &config[option];
            if !(found.is_null() || expected == "0" && found.as_f64() == Some(0.0)) {
                return Err(self.option(&format!("{prefix}{option}"), found.to_string(), expected));
            }
        }
        Ok(())
    }
}
