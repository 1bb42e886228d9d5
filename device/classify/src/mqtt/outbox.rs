//! What is on its way to the broker: waiting, handed to the client, or sent and not yet acknowledged.
//!
//! ```text
//! push ─► waiting ─► next ─► handed ─► sent(id) ─► in flight ─► done(id)
//!            ▲                  └────── new_session ──┘
//!            └──────────────────────────────┘      the broker forgot them: all again, oldest first
//! ```
//!
//! The client resends what is in flight when it meets its session again. It forgets all of it when the broker has lost
//! the session (a restart without persistence), so the messages are kept here until they are acknowledged.

use std::collections::{BTreeMap, VecDeque};

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    /// Whether the broker keeps it for those who subscribe later.
    pub(crate) retain: bool,
    /// Results may be dropped when too many wait; what the topics say about the node may not.
    pub(crate) is_result: bool,
}

/// Messages on their way, each in exactly one of three places.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: VecDeque<Message>,
    /// The client has them, in this order, and has not said under which packet id it sent them.
    handed: VecDeque<Message>,
    /// By packet id, with a number that counts up in the order of sending.
    in_flight: BTreeMap<u16, (u64, Message)>,
    n_sent: u64,
    max_waiting: usize,
    max_in_flight: usize,
    n_dropped: u64,
}

impl Outbox {
    /// Keeps at most `max_waiting` results while there is no way to send them, and has at most `max_in_flight`
    /// messages unacknowledged.
    pub(crate) fn new(max_waiting: usize, max_in_flight: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            in_flight: BTreeMap::new(),
            n_sent: 0,
            max_waiting,
            max_in_flight,
            n_dropped: 0,
        }
    }

    /// Adds a message; when too many results wait, the oldest of them is dropped.
    pub(crate) fn push(&mut self, message: Message) {
        self.waiting.push_back(message);
        self.limit();
    }

    /// Puts what the topics say about the node before all results, in place of what they would have said.
    pub(crate) fn announce(&mut self, messages: Vec<Message>) {
        self.waiting.retain(|waiting| waiting.is_result);
        messages.into_iter().rev().for_each(|message| self.waiting.push_front(message));
    }

    /// The next message to hand to the client, which counts as handed; `None` when nothing waits or too much is
    /// unacknowledged.
    pub(crate) fn next(&mut self) -> Option<&Message> {
        if self.handed.len() + self.in_flight.len() >= self.max_in_flight {
            return None;
        }
        self.handed.push_back(self.waiting.pop_front()?);
        self.handed.back()
    }

    /// The client sent a message under packet id `id`: the oldest handed one, or one in flight again. QoS 0 has no
    /// id, 0, and is done by that.
    pub(crate) fn sent(&mut self, id: u16) {
        if self.in_flight.contains_key(&id) {
            return;
        }
        if let Some(message) = self.handed.pop_front()
            && id != 0
        {
            self.n_sent += 1;
            self.in_flight.insert(id, (self.n_sent, message));
        }
    }

    /// The broker has the message with packet id `id`.
    pub(crate) fn done(&mut self, id: u16) {
        self.in_flight.remove(&id);
    }

    /// The broker has no session for this client: what was not acknowledged waits again, in its order.
    pub(crate) fn new_session(&mut self) {
        let mut again: Vec<(u64, Message)> = std::mem::take(&mut self.in_flight).into_values().collect();
        again.sort_by_key(|(order, _)| *order);
        let again = again.into_iter().map(|(_, message)| message).chain(std::mem::take(&mut self.handed));
        self.waiting = again.chain(std::mem::take(&mut self.waiting)).collect();
        self.limit();
    }

    /// Whether everything has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.handed.is_empty() && self.in_flight.is_empty()
    }

    /// Results dropped so far.
    pub(crate) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }

    fn limit(&mut self) {
        let n_results = self.waiting.iter().filter(|message| message.is_result).count();
        for _ in self.max_waiting..n_results {
            if let Some(oldest) = self.waiting.iter().position(|message| message.is_result) {
                self.waiting.remove(oldest);
                self.n_dropped += 1;
            }
        }
    }
}
