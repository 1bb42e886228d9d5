//! The options of publishing over MQTT, and the broker's address.
//!
//! ```text
//! mqtt://broker.local          port 1883
//! mqtts://broker.local:8884    TLS, port 8883 unless given
//! ```

use std::num::NonZeroUsize;
use std::path::PathBuf;

use rumqttc::QoS;

/// `--mqtt URL` and what belongs to it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Settings {
    /// Publish results to this MQTT broker: `mqtt://HOST[:PORT]`, or `mqtts://HOST[:PORT]` with TLS
    #[arg(long = "mqtt", value_name = "URL", value_parser = Broker::parse)]
    pub(crate) broker: Option<Broker>,
    /// This board's name in topics [default: the host name]
    #[arg(long = "mqtt-name", value_name = "NAME", requires = "broker", value_parser = level)]
    pub(crate) name: Option<String>,
    /// First part of all topics
    #[arg(long = "mqtt-topic", value_name = "TOPIC", requires = "broker", default_value = "vgg-edge", value_parser = topic)]
    pub(crate) topic: String,
    /// Delivery of results: 0 at most once, 1 at least once, 2 exactly once
    #[arg(long = "mqtt-qos", value_name = "0|1|2", requires = "broker", default_value = "1", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Results kept while the broker is away; then the oldest are dropped
    #[arg(long = "mqtt-queue", value_name = "N", requires = "broker", default_value = "1000")]
    pub(crate) waiting: NonZeroUsize,
    /// Publish a result only when its best class is another than the last one's
    #[arg(long = "mqtt-on-change", requires = "broker")]
    pub(crate) on_change: bool,
    /// Do not announce the sensors to Home Assistant
    #[arg(long = "no-mqtt-discovery", requires = "broker")]
    pub(crate) no_discovery: bool,
    /// User name at the broker
    #[arg(long = "mqtt-user", value_name = "NAME", requires = "broker")]
    pub(crate) user: Option<String>,
    /// File whose first line is the password
    #[arg(long = "mqtt-password-file", value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// Certificates (PEM) that may have signed the broker's [default: the system's]
    #[arg(long = "mqtt-ca", value_name = "FILE", requires = "broker")]
    pub(crate) ca: Option<PathBuf>,
    /// This board's certificate (PEM), where the broker asks for one
    #[arg(long = "mqtt-cert", value_name = "FILE", requires_all = ["broker", "key"])]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long = "mqtt-key", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Broker {
    /// Reads `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
        let tls = match uri.scheme_str() {
            Some("mqtt") => false,
            Some("mqtts") => true,
            Some(other) => return Err(format!("scheme {other}, expected mqtt or mqtts")),
            None => return Err("no scheme, expected mqtt://HOST or mqtts://HOST".to_owned()),
        };
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        if authority.contains('@') {
            return Err(
                "a password on the command line shows in the list of processes; use --mqtt-user and \
                 --mqtt-password-file"
                    .to_owned(),
            );
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("path {}, expected none; --mqtt-topic names topics", uri.path()));
        }
        let host = uri.host().unwrap_or("");
        // `http::Uri` says nothing about a port that is none.
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().map_err(|_| format!("port {port:?}, expected 1 to 65535"))?,
            None if tls => 8883,
            None => 1883,
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// The address for people.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// One level of a topic.
fn level(name: &str) -> Result<String, String> {
    match name.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        _ if name.is_empty() => Err("empty, expected letters, digits, `-`, `_` and `.`".to_owned()),
        Some(at) => Err(format!(
            "{:?} in a name, expected letters, digits, `-`, `_` and `.`",
            name[at..].chars().next().unwrap_or_default()
        )),
        None => Ok(name.to_owned()),
    }
}

/// A topic of one or more levels.
fn topic(name: &str) -> Result<String, String> {
    name.split('/').try_for_each(|part| level(part).map(drop))?;
    Ok(name.to_owned())
}

fn qos(word: &str) -> Result<QoS, String> {
    match word {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("expected 0, 1 or 2".to_owned()),
    }
}
