//! The topics of a board, and what it tells Home Assistant about itself.
//!
//! ```text
//! vgg-edge/<name>/status                        online | offline, retained; offline is also the last will
//! vgg-edge/<name>/result                        what the camera shows, one JSON object each, not retained: it is no news later
//! vgg-edge/<name>/answer                        answers to requests, one JSON object each, not retained
//! homeassistant/sensor/<name>/<sensor>/config   discovery, retained: class, probability, inference time
//! homeassistant/status                          read: online when Home Assistant has started, so tell it again
//! ```
//!
//! The discovery format is <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>.

use serde_json::{Value, json};

use super::outbox::Message;

/// Where Home Assistant says that it has started.
pub(crate) const BIRTH: &str = "homeassistant/status";

/// What the topics say about a board.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// First part of all topics.
    pub(crate) base: String,
    /// The board's name: one level of a topic.
    pub(crate) name: String,
    /// The model's name.
    pub(crate) model: String,
    /// This program's version.
    pub(crate) version: String,
    /// The kernel that runs, such as `aarch64-s8-dotprod`.
    pub(crate) kernel: String,
    /// Whether the model gives classes; there are no sensors for features.
    pub(crate) is_classifier: bool,
}

impl About {
    /// Where the camera's results go.
    pub(crate) fn result_topic(&self) -> String {
        format!("{}/{}/result", self.base, self.name)
    }

    /// A result of the camera, JSON.
    pub(crate) fn result(&self, payload: String) -> Message {
        Message { topic: self.result_topic(), payload, retain: false, is_result: true }
    }

    /// An answer to a request, JSON.
    pub(crate) fn answer(&self, payload: String) -> Message {
        let topic = format!("{}/{}/answer", self.base, self.name);
        Message { topic, payload, retain: false, is_result: true }
    }

    /// Where the board says whether it is there.
    pub(crate) fn status_topic(&self) -> String {
        format!("{}/{}/status", self.base, self.name)
    }

    /// `online` or `offline`.
    pub(crate) fn status(&self, online: bool) -> Message {
        let payload = if online { "online" } else { "offline" };
        Message { topic: self.status_topic(), payload: payload.to_owned(), retain: true, is_result: false }
    }

    /// One message for each sensor.
    pub(crate) fn discovery(&self) -> Vec<Message> {
        if !self.is_classifier {
            return Vec::new();
        }
        let sensors = [
            (
                "class",
                "Class",
                "{{ value_json.top[0].label | default(value_json.top[0].class) }}",
                json!({"icon": "mdi:image-search"}),
            ),
            (
                "probability",
                "Probability",
                "{{ (value_json.top[0].probability * 100) | round(1) }}",
                json!({"unit_of_measurement": "%", "state_class": "measurement"}),
            ),
            (
                "inference_time",
                "Inference time",
                "{{ value_json.ms | round(1) }}",
                json!({"unit_of_measurement": "ms", "device_class": "duration", "state_class": "measurement",
                       "entity_category": "diagnostic"}),
            ),
        ];
        sensors.map(|(id, name, template, more)| self.sensor(id, name, template, more)).into()
    }

    fn sensor(&self, id: &str, name: &str, template: &str, more: Value) -> Message {
        let node = format!("vgg-edge_{}", self.name);
        let mut config = json!({
            "name": name,
            "unique_id": format!("{node}_{id}"),
            "object_id": format!("{node}_{id}"),
            "state_topic": self.result_topic(),
            "value_template": template,
            "availability_topic": self.status_topic(),
            "device": {
                "identifiers": [node],
                "name": format!("vgg-edge {}", self.name),
                "manufacturer": "vgg-edge",
                "model": format!("{} on {}", self.model, self.kernel),
                "sw_version": self.version,
            },
        });
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        Message {
            topic: format!("homeassistant/sensor/{}/{id}/config", self.name),
            payload: config.to_string(),
            retain: true,
            is_result: false,
        }
    }
}
