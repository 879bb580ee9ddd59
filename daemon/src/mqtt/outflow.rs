//! From the outbox to the broker: a bounded window of messages under way, in the outbox's order.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rumqttc::{
    AsyncClient, ClientError, PubAckReason, PublishNotice, PublishNoticeError, PublishOptions,
    PublishProperties,
};

use super::state::{Counters, Down, Trouble};
use crate::outbox::{Broker, Class, Outbox, Outgoing, RowId, Waiting};

type Verdict = Result<(), PublishNoticeError>;

/// A message that was handed to the client and is not acknowledged yet.
struct UnderWay {
    /// `None` for the device's own status and marker, which are not in the outbox.
    row: Option<RowId>,
    class: Class,
    bytes: usize,
    topic: String,
    acknowledged: Pin<Box<dyn Future<Output = Verdict> + Send>>,
}

/// The messages under way on one connection. A new connection starts with a new one: whatever was not
/// acknowledged is read from the outbox again, in order.
pub(super) struct Outflow {
    outbox: Arc<Outbox>,
    client: AsyncClient,
    counters: Arc<Counters>,
    /// The last row handed to the client.
    sent: RowId,
    /// The last row that was committed while the broker was away.
    away: RowId,
    under_way: VecDeque<UnderWay>,
    limits: Limits,
}

/// What may be under way at once.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The largest packet that the broker takes, in bytes.
    pub(super) packet_bytes: usize,
}

/// What a packet has beside payload, topic and header texts, at most.
const PACKET_OVERHEAD_BYTES: usize = 64;

impl Outflow {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        client: AsyncClient,
        counters: Arc<Counters>,
        limits: Limits,
    ) -> Result<Self, Down> {
        let away = outbox.newest().map_err(Down::outbox)?;
        Ok(Self {
            outbox,
            client,
            counters,
            sent: RowId::START,
            away,
            under_way: VecDeque::new(),
            limits,
        })
    }

    /// Publishes one of the device's own messages, which is not in the outbox.
    pub(super) fn publish_own(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        options: PublishOptions,
    ) -> Result<(), Down> {
        let bytes = payload.len();
        let notice = self
            .client
            .try_publish_tracked(topic.clone(), payload, options)
            .map_err(|error| client_down(&error))?;
        self.push(None, Class::State, bytes, topic, notice);
        Ok(())
    }

    fn push(
        &mut self,
        row: Option<RowId>,
        class: Class,
        bytes: usize,
        topic: String,
        notice: PublishNotice,
    ) {
        let acknowledged = Box::pin(notice.wait_completion_async());
        self.under_way.push_back(UnderWay { row, class, bytes, topic, acknowledged });
    }

    /// Hands messages to the client until the window is full or the outbox is empty.
    pub(super) fn fill(&mut self) -> Result<(), Down> {
        loop {
            let room = self.limits.messages.saturating_sub(self.under_way.len());
            if room == 0 {
                return Ok(());
            }
            let waiting = self.outbox.pending(self.sent, room).map_err(Down::outbox)?;
            let fitting = self.fitting(&waiting);
            let Some(last) = fitting.last().copied() else { return Ok(()) };
            // Two groups, as what was committed before this connection is late.
            let split = fitting.partition_point(|row| *row <= self.away);
            let (away, present) = fitting.split_at(split);
            for (rows, broker) in [(away, Broker::WasAway), (present, Broker::Present)] {
                if rows.is_empty() {
                    continue;
                }
                for outgoing in self.outbox.begin(rows, broker).map_err(Down::outbox)? {
                    self.publish(outgoing)?;
                }
            }
            self.sent = last;
        }
    }

    /// As many of the waiting rows as the window's bytes have room for; one always where nothing is
    /// under way.
    fn fitting(&self, waiting: &[Waiting]) -> Vec<RowId> {
        let mut bytes: usize = self.under_way.iter().map(|message| message.bytes).sum();
        let mut rows = Vec::with_capacity(waiting.len());
        for next in waiting {
            let is_first = self.under_way.is_empty() && rows.is_empty();
            bytes += next.payload_bytes;
            if bytes > self.limits.bytes && !is_first {
                break;
            }
            rows.push(next.row);
        }
        rows
    }

    fn publish(&mut self, outgoing: Outgoing) -> Result<(), Down> {
        let header = &outgoing.header;
        let texts: usize = header.properties.iter().map(|(k, v)| k.len() + v.len() + 5).sum();
        let bytes = outgoing.payload.len() + outgoing.topic.len() + texts + PACKET_OVERHEAD_BYTES;
        if bytes > self.limits.packet_bytes {
            tracing::error!(
                row = %outgoing.row, topic = outgoing.topic, bytes, limit = self.limits.packet_bytes,
                "Message larger than the broker takes: given up. Raise the broker's limit."
            );
            return self.outbox.give_up(&[outgoing.row]).map_err(Down::outbox);
        }
        let options = PublishOptions::at_least_once()
            .retain(outgoing.retain)
            .properties(properties(&outgoing));
        let notice = self
            .client
            .try_publish_tracked(outgoing.topic.clone(), outgoing.payload, options)
            .map_err(|error| client_down(&error))?;
        self.push(Some(outgoing.row), outgoing.class, bytes, outgoing.topic, notice);
        Ok(())
    }

    /// Waits until the oldest message under way is acknowledged, and settles it with those after it
    /// that are too. Waits for ever where nothing is under way. May be dropped at any await.
    pub(super) async fn acknowledged(&mut self) -> Result<(), Down> {
        let Some(oldest) = self.under_way.front_mut() else {
            return std::future::pending().await;
        };
        let verdict = oldest.acknowledged.as_mut().await;
        let mut settled = Vec::new();
        let mut next = Some(verdict);
        // Acknowledgements come in order and often many at once: one write to the disk for all.
        let mut context = Context::from_waker(Waker::noop());
        let mut trouble = None;
        while let Some(verdict) = next.take() {
            let Some(message) = self.under_way.pop_front() else { break };
            match self.settle(&message, verdict) {
                Ok(row) => settled.extend(row),
                // The others are settled nevertheless, or they would be sent again and again.
                Err(down) => drop(trouble.get_or_insert(down)),
            }
            if let Some(oldest) = self.under_way.front_mut()
                && let Poll::Ready(verdict) = oldest.acknowledged.as_mut().poll(&mut context)
            {
                next = Some(verdict);
            }
        }
        if !settled.is_empty() {
            self.counters.count_published(settled.len() as u64);
            self.outbox.done(&settled).map_err(Down::outbox)?;
        }
        trouble.map_or(Ok(()), Err)
    }

    /// The row that is done by this verdict, if any.
    fn settle(&self, message: &UnderWay, verdict: Verdict) -> Result<Option<RowId>, Down> {
        let topic = &message.topic;
        match verdict {
            Ok(()) => Ok(message.row),
            Err(PublishNoticeError::V5PubAck(reason)) => match (message.class, reason) {
                // An event waits until somebody has mended the broker's rights; a picture or a state
                // would only hold it up.
                (
                    Class::Event,
                    PubAckReason::NotAuthorized
                    | PubAckReason::QuotaExceeded
                    | PubAckReason::UnspecifiedError
                    | PubAckReason::ImplementationSpecificError
                    | PubAckReason::PacketIdentifierInUse,
                ) => Err(Down::new(
                    Trouble::Rights,
                    format!(
                        "the broker refuses messages on {topic} ({reason:?}): check its rights"
                    ),
                )),
                (class, reason) => {
                    tracing::error!(%class, topic, ?reason, "The broker refuses a message.");
                    let row: Vec<_> = message.row.into_iter().collect();
                    self.outbox.give_up(&row).map_err(Down::outbox)?;
                    Ok(None)
                }
            },
            Err(PublishNoticeError::RetainNotSupported) => Err(Down::new(
                Trouble::Refused,
                "the broker keeps no retained messages, which the contract needs",
            )),
            Err(error) => Err(Down::new(Trouble::Unreachable, error.to_string())),
        }
    }

    /// Whether everything handed to the client is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

fn properties(outgoing: &Outgoing) -> PublishProperties {
    // Rounded up, and never 0: a message that is sent at all is worth a second.
    let seconds =
        |span: Duration| u32::try_from(span.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
    let is_text =
        outgoing.class != Class::Picture && std::str::from_utf8(&outgoing.payload).is_ok();
    PublishProperties {
        payload_format_indicator: is_text.then_some(1),
        message_expiry_interval: outgoing.expires_in.map(seconds),
        response_topic: outgoing.header.response_topic.clone(),
        correlation_data: outgoing.header.correlation.clone().map(Into::into),
        user_properties: outgoing.header.properties.clone(),
        content_type: outgoing.header.content_type.clone(),
        ..PublishProperties::default()
    }
}

pub(super) fn client_down(error: &ClientError) -> Down {
    // The variants carry the whole request, so only what they are is told.
    let text = match error {
        ClientError::RequestChannelFull(_) => "the client's queue is full",
        ClientError::RequestChannelDisconnected(_) => "the connection ended",
        ClientError::InvalidRequest(_) => "the client finds a topic invalid",
        _ => "the client tracks no messages",
    };
    Down::new(Trouble::Unreachable, text)
}
