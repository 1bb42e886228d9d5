//! One board's session with its broker: connects, publishes, reconnects, and loses no more than the QoS allows.
//!
//! ```text
//! results ─► outbox ─► client ─► broker       one task: nothing below runs while the client is being polled
//!              ▲          │
//!              └── acks ──┘      error ─► wait 1, 2, 4 ... 60 s, each shortened by chance ─► connect again
//! ```
//!
//! The session is persistent (`clean_session = false`, the client id is the board's name), so a broker that kept it gets
//! only what it has not acknowledged, marked as a duplicate; one that lost it gets all of that anew.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing,
    Packet, QoS, Request, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::outbox::{Message, Outbox};
use super::settings::{Broker, Settings};
use super::tls::Relay;
use super::topics::{About, BIRTH};

/// Messages sent and not acknowledged.
const MAX_IN_FLIGHT: usize = 16;
/// The client counts packet ids up to this and begins again. It takes an id for free once the broker has *received* a
/// QoS 2 message, not when the exchange is over; so many ids lie between that the two cannot meet.
const MAX_PACKET_ID: u16 = 4096;
/// The broker hears from us at least this often, and tells others after 1.5 times as long that it does not.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// For a connection, and for the network to take what is written.
const NETWORK_SECONDS: u64 = 10;
/// Largest packet, bytes: a feature map in JSON is a few hundred thousand.
const MAX_PACKET: usize = 16 << 20;
/// First and longest wait before another attempt.
const WAIT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// For what is left to arrive when the program ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What happened, for the log and for people.
#[derive(Debug, PartialEq)]
pub(crate) enum Notice {
    Connected,
    /// The connection broke, or another attempt failed with other words than the last.
    Lost(String),
    /// Results were dropped since the last notice: this many in all.
    Dropped(u64),
}

/// Publishes what comes from `results` until `stop` is true or `results` end; then says goodbye.
///
/// # Errors
/// Certificates or a password that cannot be read. A broker that is away is no error.
pub(crate) async fn run(
    broker: &Broker,
    settings: &Settings,
    about: &About,
    mut results: mpsc::Receiver<Message>,
    mut stop: watch::Receiver<bool>,
    mut notice: impl FnMut(Notice),
) -> Result<()> {
    let relay = broker.tls.then(|| Relay::start(broker, settings)).transpose()?;
    let options = options(broker, settings, about, relay.as_ref())?;
    let (client, mut events) = AsyncClient::new(options, MAX_IN_FLIGHT + 1);
    events.network_options.set_connection_timeout(NETWORK_SECONDS);
    let outbox = Outbox::new(settings.waiting.get(), MAX_IN_FLIGHT);
    let mut session = Session { client, about, settings, outbox, connected: false };
    let (mut wait, mut last_words, mut dropped) = (WAIT[0], None, 0);
    let mut goodbye: Option<Instant> = None;
    loop {
        let event = {
            // Polled to its end: cancelling it would cut a connection that is being made.
            let poll = events.poll();
            tokio::pin!(poll);
            loop {
                session.hand_over();
                tokio::select! {
                    event = &mut poll => break event,
                    result = results.recv(), if goodbye.is_none() => match result {
                        Some(message) => session.outbox.push(message),
                        None => goodbye = Some(session.say_goodbye()),
                    },
                    _ = stopped(&mut stop), if goodbye.is_none() => {
                        // What came before the end still goes.
                        while let Ok(message) = results.try_recv() {
                            session.outbox.push(message);
                        }
                        goodbye = Some(session.say_goodbye());
                    }
                    () = until(goodbye) => return Ok(()),
                }
                if session.outbox.n_dropped() > dropped && session.connected {
                    dropped = session.outbox.n_dropped();
                    notice(Notice::Dropped(dropped));
                }
            }
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                session.welcome(ack.session_present, goodbye.is_some());
                (wait, last_words) = (WAIT[0], None);
                notice(Notice::Connected);
            }
            Ok(event) => session.follow(&event),
            Err(error) => {
                session.connected = false;
                mark_duplicates(&mut events);
                if goodbye.is_some() {
                    return Ok(());
                }
                let words = relay.as_ref().and_then(Relay::take_error).unwrap_or_else(|| explain(&error));
                if last_words.as_ref() != Some(&words) {
                    notice(Notice::Lost(words.clone()));
                    last_words = Some(words);
                }
                // No hammering where another attempt cannot help.
                if is_refusal(&error) {
                    wait = WAIT[1];
                }
                if session.pause(shortened(wait), &mut results, &mut stop).await.is_break() {
                    return Ok(());
                }
                wait = (wait * 2).min(WAIT[1]);
            }
        }
        if goodbye.is_some() && session.outbox.is_empty() {
            // One more turn sends it; what the broker then does is its matter.
            let _ = session.client.try_disconnect();
            let _ = tokio::time::timeout(FAREWELL, async { while events.poll().await.is_ok() {} }).await;
            return Ok(());
        }
    }
}

/// What the session knows beside the connection itself.
struct Session<'a> {
    client: AsyncClient,
    about: &'a About,
    settings: &'a Settings,
    outbox: Outbox,
    connected: bool,
}

impl Session<'_> {
    /// Gives the client what may be sent now. While there is no connection nothing: the client would forget it when
    /// the broker has no session for it.
    fn hand_over(&mut self) {
        while self.connected {
            let Some(message) = self.outbox.next() else { return };
            let qos = if message.is_result { self.settings.qos } else { QoS::AtLeastOnce };
            let payload = message.payload.clone();
            // There is room: the client's queue is longer than what may be unacknowledged.
            let _ = self.client.try_publish(message.topic.clone(), qos, message.retain, payload);
        }
    }

    /// The broker has accepted the connection; a board that is `leaving` does not say first that it is there.
    fn welcome(&mut self, session_present: bool, leaving: bool) {
        if !session_present {
            self.outbox.new_session();
        }
        self.connected = true;
        if leaving {
            return;
        }
        if !self.settings.no_discovery && self.about.is_classifier {
            let _ = self.client.try_subscribe(BIRTH, QoS::AtLeastOnce);
        }
        self.announce();
    }

    fn announce(&mut self) {
        let discovery = if self.settings.no_discovery { Vec::new() } else { self.about.discovery() };
        self.outbox.announce([vec![self.about.status(true)], discovery].concat());
    }

    fn say_goodbye(&mut self) -> Instant {
        self.outbox.push(self.about.status(false));
        Instant::now() + FAREWELL
    }

    fn follow(&mut self, event: &Event) {
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => self.outbox.sent(*id),
            Event::Incoming(Packet::PubAck(ack)) => self.outbox.done(ack.pkid),
            Event::Incoming(Packet::PubComp(complete)) => self.outbox.done(complete.pkid),
            Event::Incoming(Packet::Publish(news)) if news.topic == BIRTH && news.payload == "online"[..] => {
                self.announce();
            }
            _ => {}
        }
    }

    /// Waits before another attempt, and keeps what comes meanwhile; breaks when the program ends.
    async fn pause(
        &mut self,
        time: Duration,
        results: &mut mpsc::Receiver<Message>,
        stop: &mut watch::Receiver<bool>,
    ) -> std::ops::ControlFlow<()> {
        let end = sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return std::ops::ControlFlow::Continue(()),
                _ = stopped(stop) => return std::ops::ControlFlow::Break(()),
                result = results.recv() => match result {
                    Some(message) => self.outbox.push(message),
                    None => return std::ops::ControlFlow::Break(()),
                },
            }
        }
    }
}

fn options(
    broker: &Broker,
    settings: &Settings,
    about: &About,
    relay: Option<&Relay>,
) -> Result<MqttOptions> {
    let id = format!("vgg-edge-{}", about.name);
    let mut options = match relay {
        Some(relay) => MqttOptions::new(id, relay.path.clone(), broker.port),
        None => MqttOptions::new(id, broker.host.clone(), broker.port),
    };
    if relay.is_some() {
        options.set_transport(Transport::unix());
    }
    let will = about.status(false);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(false)
        .set_inflight(MAX_PACKET_ID)
        .set_pending_throttle(Duration::ZERO)
        .set_max_packet_size(MAX_PACKET, MAX_PACKET)
        .set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, will.retain));
    if let Some(user) = &settings.user {
        options.set_credentials(user, password(settings)?);
    }
    Ok(options)
}

/// The first line of the password file; empty without one.
fn password(settings: &Settings) -> Result<String> {
    let Some(path) = &settings.password_file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("password {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What the client will send again says so, as MQTT asks; the client itself does not.
fn mark_duplicates(events: &mut EventLoop) {
    for request in &mut events.pending {
        if let Request::Publish(publish) = request {
            publish.dup = publish.pkid != 0;
        }
    }
}

/// Done when the program ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Done at `end`; never without one.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

/// Between half of `wait` and all of it: many boards must not come back in one moment.
fn shortened(wait: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let chance = f64::from(now.subsec_nanos() % 1_000_000) / 1e6;
    wait.mul_f64(0.5 + chance / 2.0)
}

fn is_refusal(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword
                | ConnectReturnCode::NotAuthorized
                | ConnectReturnCode::BadClientId
                | ConnectReturnCode::RefusedProtocolVersion
        )
    )
}

/// The client's errors in plain words.
fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "wrong user name or password".to_owned(),
            ConnectReturnCode::NotAuthorized => {
                "the user is not allowed to connect, or the password is wrong".to_owned()
            }
            ConnectReturnCode::BadClientId => "the broker refuses this board's name".to_owned(),
            ConnectReturnCode::ServiceUnavailable => "the broker is not ready".to_owned(),
            ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".to_owned(),
            ConnectReturnCode::Success => "refused without a reason".to_owned(),
        },
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            format!("no answer in {NETWORK_SECONDS} s")
        }
        other => other.to_string(),
    }
}
