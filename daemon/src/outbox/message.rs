//! What goes into the outbox and what comes out of it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::frame::CameraId;

/// What a message is to the people who wait for it; decides what may be lost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The newest of its topic is all that counts: a status. It replaces an unsent older one.
    State,
    /// Happened once and is told once: a sighting, an answer.
    Event,
    /// Shows an event: a snapshot. The first to go where room is short.
    Picture,
}

impl Class {
    /// All of them, in the order in which they are given up where room is short.
    pub const BY_WORTH: [Class; 3] = [Class::Picture, Class::State, Class::Event];

    /// As it is written in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::State => "state",
            Class::Event => "event",
            Class::Picture => "picture",
        }
    }

    /// As it is stored.
    pub(super) fn code(self) -> i64 {
        match self {
            Class::State => 0,
            Class::Event => 1,
            Class::Picture => 2,
        }
    }

    /// From what is stored; `None` for a code of no class.
    pub(super) fn from_code(code: i64) -> Option<Self> {
        Self::BY_WORTH.into_iter().find(|class| class.code() == code)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message to be sent to the broker at least once.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where it goes, complete and valid: see `mqtt::topics`.
    pub topic: String,
    /// What the receivers get. For an [`Class::Event`] a JSON object.
    pub payload: Vec<u8>,
    /// What it is worth.
    pub class: Class,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// The camera it tells about: messages of one camera keep their order.
    pub camera: Option<CameraId>,
    /// How long it is worth telling, from the commit on; `None` for as long as it takes.
    pub expires_after: Option<Duration>,
    /// What logs call it, such as a sighting's id and number. Never a text that somebody wrote.
    pub reference: Option<String>,
    /// What travels in the header.
    pub header: Header,
}

impl Message {
    /// A message of a class, not retained, without an expiry or a header.
    pub fn new(class: Class, topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            class,
            retain: false,
            camera: None,
            expires_after: None,
            reference: None,
            header: Header::default(),
        }
    }
}

/// MQTT 5 properties of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// User properties, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Where an answer is to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    /// What the asker knows its question by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Vec<u8>>,
}

/// A message's place in the outbox. Grows with every message and is never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub(super) i64);

impl RowId {
    /// Before every message.
    pub const START: RowId = RowId(0);
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message that waits, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub row: RowId,
    /// What it is worth.
    pub class: Class,
    /// Length of its payload in bytes.
    pub payload_bytes: usize,
}

/// A message whose payload is fixed: every copy that is sent has the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Its place, to be told to [`super::Outbox::done`].
    pub row: RowId,
    /// Where it goes.
    pub topic: String,
    /// What is sent.
    pub payload: Vec<u8>,
    /// What it is worth.
    pub class: Class,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// How long it is still worth telling; `None` for as long as it takes.
    pub expires_in: Option<Duration>,
    /// What travels in the header.
    pub header: Header,
}

/// How the broker was when a message came to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// There all the time since the message was committed.
    Present,
    /// Away in between: what is sent now is late, however short it was.
    WasAway,
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// More bytes waited than the outbox may hold.
    Budget,
    /// The disk had no room.
    DiskFull,
    /// It waited for longer than it was worth telling.
    Expired,
    /// The broker refuses it, whatever is tried.
    Refused,
    /// Who it shows was erased.
    Erased,
}

impl DropReason {
    /// As it is written in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Budget => "budget",
            DropReason::DiskFull => "disk_full",
            DropReason::Expired => "expired",
            DropReason::Refused => "refused",
            DropReason::Erased => "erased",
        }
    }
}
