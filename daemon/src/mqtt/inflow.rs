//! From the broker to the handler: in order, as many at a time as there are, acknowledged once they
//! were taken.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rumqttc::{AsyncClient, mqttbytes::v5::Publish};
use tokio::time::Instant;

use super::{
    handler::{Handler, Received, Response},
    outflow::client_down,
    state::{Counters, Down, Trouble},
    topics::{Inbound, Topics},
};
use crate::error::{Error, Result};

/// Wait before a message that could not be taken is handed over again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Messages that may wait behind one that cannot be taken. The broker holds back what is to be
/// acknowledged; this is for those that are not.
const WAITING_MAX: usize = 1024;
/// Messages handed over at once: as many as the broker sends before it waits for us.
const AT_ONCE: usize = 64;
/// Characters kept of a response topic that is refused, or of a topic that means nothing.
const FORBIDDEN_SHOWN: usize = 256;
/// Topics that mean nothing and are named in the log, on each connection: a broker full of them must
/// not fill the disk.
const UNKNOWN_NAMED: u32 = 10;

/// Whether the desired state is known when a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetainedSet {
    /// From an earlier connection, whose session goes on.
    Known,
    /// It has to be read.
    ToRead,
}

enum Item {
    Message {
        publish: Publish,
        received: Received,
    },
    /// Means nothing; acknowledged in its turn, as the protocol wants.
    Meaningless(Publish),
    /// What the broker kept came before this.
    SetRead,
}

impl Item {
    fn received(&self) -> Option<&Received> {
        match self {
            Item::Message { received, .. } => Some(received),
            Item::Meaningless(_) | Item::SetRead => None,
        }
    }

    fn publish(&self) -> Option<&Publish> {
        match self {
            Item::Message { publish, .. } | Item::Meaningless(publish) => Some(publish),
            Item::SetRead => None,
        }
    }
}

/// The reading of the retained set.
#[derive(Default)]
struct Reading {
    /// What the marker that is waited for says.
    mark: Option<Vec<u8>>,
    present: BTreeSet<Inbound>,
    /// What was asked for by name.
    checked: BTreeSet<Inbound>,
}

/// Stored alerts asked for by name at once: few enough for any broker's queue.
const CHECK_AT_ONCE: usize = 100;

/// What came in on one connection and is not acknowledged yet. Dropped with the connection: the
/// broker sends it again.
pub(super) struct Inflow {
    topics: Topics,
    client: AsyncClient,
    counters: Arc<Counters>,
    waiting: VecDeque<Item>,
    retry_at: Option<Instant>,
    reading: Option<Reading>,
    /// Whether the desired state is known: read on this connection, or before it in its session.
    is_complete: bool,
    /// Topics that meant nothing so far.
    unknown: u32,
}

impl Inflow {
    /// The retained set is read, or known from before.
    pub(super) fn new(
        topics: Topics,
        client: AsyncClient,
        counters: Arc<Counters>,
        set: RetainedSet,
    ) -> Self {
        let is_complete = set == RetainedSet::Known;
        let reading = (!is_complete).then(Reading::default);
        let waiting = VecDeque::new();
        Self { topics, client, counters, waiting, retry_at: None, reading, is_complete, unknown: 0 }
    }

    /// Whether the desired state was read to its end and acted on.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The retained set, or the part that was asked for, ends at the marker that says `mark`.
    pub(super) fn expect(&mut self, mark: Vec<u8>) {
        if let Some(reading) = &mut self.reading {
            reading.mark = Some(mark);
        }
    }

    /// Whether a marker is waited for.
    pub(super) fn expects_mark(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.mark.is_some())
    }

    /// Takes a message from the connection.
    pub(super) fn push(&mut self, publish: Publish) -> Result<(), Down> {
        let topic = std::str::from_utf8(&publish.topic).ok().and_then(|t| self.topics.parse(t));
        let Some(topic) = topic else {
            self.ignore(&publish.topic);
            return self.wait_in_line(Item::Meaningless(publish));
        };
        if topic == Inbound::Marker {
            if let Some(reading) = &mut self.reading
                && reading.mark.as_deref() == Some(&*publish.payload)
            {
                reading.mark = None;
                self.waiting.push_back(Item::SetRead);
            }
            return self.wait_in_line(Item::Meaningless(publish));
        }
        if matches!(&topic, Inbound::Status(device) if device == self.topics.device()) {
            // What this device said itself.
            return self.wait_in_line(Item::Meaningless(publish));
        }
        if let Some(reading) = &mut self.reading
            && matches!(topic, Inbound::Alert(_) | Inbound::Approval(_) | Inbound::Status(_))
        {
            match publish.payload.is_empty() {
                true => reading.present.remove(&topic),
                false => reading.present.insert(topic.clone()),
            };
        }
        let received = self.received(topic, &publish);
        self.wait_in_line(Item::Message { publish, received })
    }

    /// What is subscribed to differs from the contract's topics only in names that are none.
    fn ignore(&mut self, topic: &[u8]) {
        self.counters.count_ignored(1);
        self.unknown = self.unknown.saturating_add(1);
        if self.unknown <= UNKNOWN_NAMED {
            let topic: String =
                String::from_utf8_lossy(topic).chars().take(FORBIDDEN_SHOWN).collect();
            tracing::warn!(
                ?topic,
                "A message is ignored: an alert's name is 1 to 64 of a-z, 0-9, '_' and '-'."
            );
        }
    }

    fn wait_in_line(&mut self, item: Item) -> Result<(), Down> {
        if self.waiting.len() >= WAITING_MAX {
            let text = "more messages came in than could be taken: connecting again later";
            return Err(Down::new(Trouble::Refused, text));
        }
        self.waiting.push_back(item);
        Ok(())
    }

    fn received(&self, topic: Inbound, publish: &Publish) -> Received {
        let properties = publish.properties.as_ref();
        let wanted = properties.and_then(|properties| properties.response_topic.as_deref());
        let response = match wanted {
            None => Response::None,
            Some(wanted) => self.topics.reply(wanted).map_or_else(
                || Response::Forbidden(wanted.chars().take(FORBIDDEN_SHOWN).collect()),
                Response::To,
            ),
        };
        let correlation = properties.and_then(|properties| properties.correlation_data.as_ref());
        Received {
            topic,
            payload: publish.payload.to_vec(),
            retained: publish.retain,
            response,
            correlation: correlation.map(|bytes| bytes.to_vec()),
        }
    }

    /// Hands the oldest waiting messages to the handler, up to [`AT_ONCE`] and not beyond the end of the
    /// retained set; nothing where they must wait or there are none. At that end, what is to be asked
    /// for by name, if anything.
    pub(super) fn hand_over(&mut self, handler: &mut dyn Handler) -> Result<Vec<Inbound>, Down> {
        if self.retry_at.is_some() {
            return Ok(Vec::new());
        }
        if matches!(self.waiting.front(), Some(Item::SetRead)) {
            return Ok(self.end_set(handler));
        }
        let is_before_the_end = |item: &&Item| !matches!(item, Item::SetRead);
        let next = self.waiting.iter().take(AT_ONCE).take_while(is_before_the_end);
        let (count, messages) = (next.clone().count(), next.filter_map(Item::received));
        let messages: Vec<&Received> = messages.collect();
        if !messages.is_empty()
            && let Err(error) = handler.receive(&messages)
        {
            self.defer(&error);
            return Ok(Vec::new());
        }
        self.counters.count_received(messages.len() as u64);
        let taken: Vec<Item> = self.waiting.drain(..count).collect();
        taken.iter().filter_map(Item::publish).try_for_each(|publish| self.acknowledge(publish))?;
        Ok(Vec::new())
    }

    fn defer(&mut self, error: &Error) {
        tracing::warn!(%error, "Message not taken: it is handed over again.");
        self.counters.count_deferred(1);
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    /// Tells the handler that the set is complete, or what has to be asked for before it is.
    fn end_set(&mut self, handler: &mut dyn Handler) -> Vec<Inbound> {
        let Some(reading) = &mut self.reading else {
            self.waiting.pop_front();
            return Vec::new();
        };
        let is_open =
            |what: &Inbound| !reading.present.contains(what) && !reading.checked.contains(what);
        let missing: Vec<_> =
            handler.stored().into_iter().filter(is_open).take(CHECK_AT_ONCE).collect();
        if !missing.is_empty() {
            reading.checked.extend(missing.iter().cloned());
            self.waiting.pop_front();
            return missing;
        }
        match handler.retained_set_complete(&reading.present) {
            Ok(()) => {
                let retained = reading.present.len();
                tracing::info!(retained, "Desired state read to its end.");
                self.counters.count_retained_set(1);
                self.waiting.pop_front();
                self.reading = None;
                self.is_complete = true;
            }
            Err(error) => self.defer(&error),
        }
        Vec::new()
    }

    fn acknowledge(&self, publish: &Publish) -> Result<(), Down> {
        self.client.try_ack(publish).map_err(|error| client_down(&error))
    }

    /// Waits until a message can be handed over; for ever where none is there. May be dropped.
    pub(super) async fn ready(&mut self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        if let Some(at) = self.retry_at {
            tokio::time::sleep_until(at).await;
            self.retry_at = None;
        }
    }
}
