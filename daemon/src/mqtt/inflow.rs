//! From the broker to the handler: one message at a time, in order, acknowledged once it was taken.

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
use crate::error::Result;

/// Wait before a message that could not be taken is handed over again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Messages that may wait behind one that cannot be taken. The broker holds back what is to be
/// acknowledged; this is for those that are not.
const WAITING_MAX: usize = 1024;
/// Characters kept of a response topic that is refused.
const FORBIDDEN_SHOWN: usize = 256;

enum Item {
    Message {
        publish: Publish,
        received: Received,
    },
    /// Means nothing; acknowledged in its turn, as the protocol wants.
    Meaningless(Publish),
    /// Everything that the broker kept came before this.
    SetComplete(BTreeSet<Inbound>),
}

/// The reading of the retained set.
struct Reading {
    /// What the marker that ends it says.
    mark: Vec<u8>,
    present: BTreeSet<Inbound>,
}

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
}

impl Inflow {
    /// With `mark`, the retained set is being read, up to a marker that says so.
    pub(super) fn new(
        topics: Topics,
        client: AsyncClient,
        counters: Arc<Counters>,
        mark: Option<Vec<u8>>,
    ) -> Self {
        let is_complete = mark.is_none();
        let reading = mark.map(|mark| Reading { mark, present: BTreeSet::new() });
        let waiting = VecDeque::new();
        Self { topics, client, counters, waiting, retry_at: None, reading, is_complete }
    }

    /// Whether the desired state was read to its end and acted on.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes a message from the connection.
    pub(super) fn push(&mut self, publish: Publish) -> Result<(), Down> {
        let topic = std::str::from_utf8(&publish.topic).ok().and_then(|t| self.topics.parse(t));
        let Some(topic) = topic else {
            self.counters.count_ignored(1);
            return self.wait_in_line(Item::Meaningless(publish));
        };
        if topic == Inbound::Marker {
            if self.reading.as_ref().is_some_and(|reading| reading.mark == publish.payload) {
                let present = self.reading.take().map(|reading| reading.present);
                self.waiting.extend(present.map(Item::SetComplete));
            }
            return self.wait_in_line(Item::Meaningless(publish));
        }
        if let Some(reading) = &mut self.reading
            && matches!(topic, Inbound::Alert(_) | Inbound::Approval(_))
        {
            match publish.payload.is_empty() {
                true => reading.present.remove(&topic),
                false => reading.present.insert(topic.clone()),
            };
        }
        let received = self.received(topic, &publish);
        self.wait_in_line(Item::Message { publish, received })
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

    /// Hands the oldest waiting message to the handler; nothing where it must wait or there is none.
    pub(super) fn hand_over(&mut self, handler: &mut dyn Handler) -> Result<(), Down> {
        if self.retry_at.is_some() {
            return Ok(());
        }
        let Some(item) = self.waiting.front() else { return Ok(()) };
        let taken = match item {
            Item::Message { received, .. } => handler.receive(received),
            Item::SetComplete(present) => handler.retained_set_complete(present),
            Item::Meaningless(_) => Ok(()),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "Message not taken: it is handed over again.");
            self.counters.count_deferred(1);
            self.retry_at = Some(Instant::now() + RETRY_AFTER);
            return Ok(());
        }
        match self.waiting.pop_front() {
            Some(Item::Message { publish, .. }) => {
                self.counters.count_received(1);
                self.acknowledge(&publish)
            }
            Some(Item::SetComplete(present)) => {
                self.is_complete = true;
                self.counters.count_retained_set(1);
                tracing::info!(retained = present.len(), "Desired state read to its end.");
                Ok(())
            }
            Some(Item::Meaningless(publish)) => self.acknowledge(&publish),
            None => Ok(()),
        }
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
