//! One connection from its first packet to its end.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use rand::Rng;
use rumqttc::{
    AckMode, AsyncClient, ConnAck, ConnectionError, Event, EventLoop, Incoming, LastWill,
    MqttOptions, PersistedAckMode, PersistedSession, PublishOptions, SessionStore,
    SessionStoreError, SessionStoreKey, SubscribeNoticeError,
    mqttbytes::{
        QoS,
        v5::{LastWillProperties, Publish, RetainForwardRule, SubscribeFilter},
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    handler::{Handler, Presence},
    inflow::{Inflow, RetainedSet},
    outflow::{Limits, Outflow, client_down},
    settings::{Commands, Settings},
    state::{Counters, Down, Trouble},
};
use crate::outbox::Outbox;

/// Time for the connection and the broker's answer to it.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time for what was committed last: the ends of the sightings that were open.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// Time for the goodbye.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The broker's limit is what counts; this only bounds memory. Well over an alert's 8 KiB, so that one
/// that is too large is answered and not lost.
const INCOMING_MAX_BYTES: u32 = 4 << 20;
/// Messages that the broker may send before we have acknowledged them.
const RECEIVE_MAX: u16 = 64;
/// Places in the client's queue beside the two windows: subscriptions, status, marker, goodbye, and the
/// end of a hundred subscriptions by name.
const QUEUE_SPARE: usize = 128;
/// Events of the client that may wait for us; more stop its reading.
const EVENTS_WAITING: usize = 64;
/// Time to see a marker before another is sent: a broker whose queue is full loses it.
const MARK_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Time to see the end of the retained set before a person is told that it is missing.
const SET_WITHIN: Duration = Duration::from_secs(120);

/// What a connection works with.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) outbox: &'a Arc<Outbox>,
    pub(super) counters: &'a Arc<Counters>,
    pub(super) handler: &'a mut dyn Handler,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) announce: &'a Notify,
    /// Whether the retained set was read to its end since this process started.
    pub(super) knows_retained_set: bool,
}

/// How a connection ended.
pub(super) enum End {
    /// Somebody asked for it.
    Stopped,
    /// It broke, or never came to be.
    Down(Down),
}

impl From<Down> for End {
    fn from(down: Down) -> Self {
        End::Down(down)
    }
}

/// Connects and serves until it breaks or is to stop. `connected` is told once the broker has accepted.
pub(super) async fn run(parts: &mut Parts<'_>, connected: impl FnOnce()) -> End {
    match connect(parts).await {
        Ok(mut connection) => {
            connected();
            let end = match connection.announce(parts, Presence::Online) {
                Ok(()) => connection.serve(parts).await,
                Err(down) => End::Down(down),
            };
            parts.knows_retained_set |= connection.inflow.is_complete();
            if matches!(end, End::Stopped) {
                connection.say_goodbye(parts).await;
            }
            end
        }
        Err(end) => end,
    }
}

/// Delivery is the outbox's and the library's session starts empty with each connection. This says so
/// in the library's terms: without a stored session it would refuse to publish on one that the broker
/// has kept. Only QoS 1 is used, where the broker needs nothing of the former connection's state.
#[derive(Debug)]
struct EmptySession {
    session_expiry_s: u32,
    window: u16,
}

type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for EmptySession {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(self.session_expiry_s),
            outgoing_inflight_upper_limit: Some(self.window),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async { Ok(Some(session)) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn options(settings: &Settings, will: Vec<u8>) -> Result<MqttOptions, Down> {
    let topics = &settings.topics;
    let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    let session_expiry_s = seconds(settings.session_expiry);
    let mut options = MqttOptions::new(topics.client_id(), settings.broker());
    options
        .set_transport(settings.transport().map_err(Down::settings)?)
        .set_connect_timeout(CONNECT_WITHIN)
        .set_keep_alive(u16::try_from(seconds(settings.keep_alive)).unwrap_or(u16::MAX))
        .set_clean_start(false)
        .set_session_expiry_interval(Some(session_expiry_s))
        .set_session_store(EmptySession { session_expiry_s, window: settings.window_messages })
        .set_outgoing_inflight_upper_limit(settings.window_messages)
        .set_receive_maximum(Some(RECEIVE_MAX))
        .set_max_packet_size(Some(INCOMING_MAX_BYTES))
        .set_max_request_batch(usize::from(settings.window_messages))
        .set_ack_mode(AckMode::Manual);
    let about = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some("application/json".to_owned()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let will = LastWill::new(topics.status(), will, QoS::AtLeastOnce, true, Some(about));
    options.set_last_will(will);
    if let Some(login) = settings.login().map_err(Down::settings)? {
        options.set_credentials(login.user, login.password);
    }
    Ok(options)
}

/// A connection that the broker has accepted.
struct Connection {
    client: AsyncClient,
    inflow: Inflow,
    outflow: Outflow,
    incoming: mpsc::Receiver<Result<Publish, ConnectionError>>,
    /// Polls the library's event loop, which must never be dropped within a step.
    pump: JoinHandle<()>,
    set: RetainedSet,
    /// The broker's answer to a subscription that is under way.
    answer: Option<Answer>,
    /// Subscriptions of stored alerts by name, to be taken back.
    checks: Vec<String>,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), SubscribeNoticeError>> + Send>>;

/// Waits for the answer, for ever where none is due. May be dropped.
async fn answered(answer: &mut Option<Answer>) -> Result<(), SubscribeNoticeError> {
    match answer {
        Some(due) => {
            let result = due.as_mut().await;
            *answer = None;
            result
        }
        None => std::future::pending().await,
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn connect(parts: &mut Parts<'_>) -> Result<Connection, End> {
    let settings = parts.settings;
    let window = settings.window_messages;
    let will = parts.handler.status(Presence::Offline);
    let (client, mut events) = AsyncClient::builder(options(settings, will)?)
        .capacity(usize::from(window) + usize::from(RECEIVE_MAX) + QUEUE_SPARE)
        .try_build()
        .map_err(|error| Down::new(Trouble::Settings, error.to_string()))?;
    let accepted = tokio::select! {
        accepted = acceptance(&mut events) => accepted?,
        () = asked(&mut parts.stop) => return Err(End::Stopped),
    };
    // It has done its work; with it, the library would copy the window at every packet.
    events.options.clear_session_store();
    parts.counters.count_connect(1);
    let reads_set = !accepted.session_present || !parts.knows_retained_set;
    let set = if reads_set { RetainedSet::ToRead } else { RetainedSet::Known };
    let limit = accepted.properties.and_then(|properties| properties.max_packet_size);
    let limits = Limits {
        messages: usize::from(window),
        bytes: settings.window_bytes,
        packet_bytes: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX),
    };
    let (counters, topics) = (Arc::clone(parts.counters), settings.topics.clone());
    let inflow = Inflow::new(topics, client.clone(), Arc::clone(&counters), set);
    let outflow = Outflow::new(Arc::clone(parts.outbox), client.clone(), counters, limits)?;
    let (sender, incoming) = mpsc::channel(EVENTS_WAITING);
    let pump = tokio::spawn(pump(events, sender));
    let checks = Vec::new();
    Ok(Connection { client, inflow, outflow, incoming, pump, set, answer: None, checks })
}

/// Waits until somebody asks to stop, or is no longer there to ask.
pub(super) async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Polls until the broker has answered.
async fn acceptance(events: &mut EventLoop) -> Result<ConnAck, Down> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(accepted))) => return Ok(accepted),
            Ok(_) => {}
            Err(error) => return Err(Down::from_connection(&error)),
        }
    }
}

/// Drives the library and hands on what came in, until the connection ends.
async fn pump(mut events: EventLoop, sender: mpsc::Sender<Result<Publish, ConnectionError>>) {
    loop {
        let next = match events.poll().await {
            Ok(Event::Incoming(Incoming::Publish(publish))) => Ok(publish),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        let is_end = next.is_err();
        if sender.send(next).await.is_err() || is_end {
            return;
        }
    }
}

fn filter(path: String, rule: RetainForwardRule) -> SubscribeFilter {
    let mut filter = SubscribeFilter::new(path, QoS::AtLeastOnce);
    filter.retain_forward_rule = rule;
    filter
}

impl Connection {
    /// Tells everybody how this device is.
    fn announce(&mut self, parts: &mut Parts<'_>, presence: Presence) -> Result<(), Down> {
        let payload = parts.handler.status(presence);
        let options = PublishOptions::at_least_once().retained();
        self.outflow.publish_own(parts.settings.topics.status(), payload, options)
    }

    /// What to subscribe to. Subscriptions that the session has are renewed, as a newer version may
    /// want others; what is retained is sent again only where it is to be read.
    fn filters(&self, settings: &Settings) -> Vec<SubscribeFilter> {
        let topics = &settings.topics;
        let rule = match self.set {
            RetainedSet::ToRead => RetainForwardRule::OnEverySubscribe,
            RetainedSet::Known => RetainForwardRule::OnNewSubscribe,
        };
        let state = topics.retained_filters().map(|path| (path, rule.clone()));
        let mut requests = topics.request_filters().to_vec();
        requests.push(topics.marker());
        if settings.commands == Commands::Accepted {
            requests.push(topics.command());
        }
        let requests = requests.into_iter().map(|path| (path, RetainForwardRule::Never));
        // Always anew: what is only remembered in memory must not be stale.
        let devices = (topics.status_filter(), RetainForwardRule::OnEverySubscribe);
        let all = state.into_iter().chain(requests).chain([devices]);
        all.map(|(path, rule)| filter(path, rule)).collect()
    }

    fn subscribe(&mut self, filters: Vec<SubscribeFilter>) -> Result<(), Down> {
        let notice =
            self.client.try_subscribe_many_tracked(filters).map_err(|error| client_down(&error))?;
        self.answer = Some(Box::pin(notice.wait_completion_async()));
        Ok(())
    }

    async fn serve(&mut self, parts: &mut Parts<'_>) -> End {
        if let Err(down) = self.subscribe(self.filters(parts.settings)) {
            return down.into();
        }
        let mut overdue = std::pin::pin!(tokio::time::sleep(SET_WITHIN));
        let mut mark_again = tokio::time::interval(MARK_AGAIN_AFTER);
        loop {
            if let Err(down) = self.outflow.fill() {
                return down.into();
            }
            let step = tokio::select! {
                () = asked(&mut parts.stop) => return End::Stopped,
                answer = answered(&mut self.answer) => {
                    mark_again.reset();
                    self.subscribed(parts.settings, answer)
                }
                next = self.incoming.recv() => self.incoming(next),
                () = self.inflow.ready() => self.hand_over(parts),
                settled = self.outflow.acknowledged() => settled,
                () = parts.outbox.committed() => Ok(()),
                () = parts.announce.notified() => self.announce(parts, Presence::Online),
                _ = mark_again.tick(), if self.inflow.expects_mark() => self.mark(parts.settings),
                () = &mut overdue, if !overdue.is_elapsed() => {
                    self.warn_of_missing_end(parts.settings);
                    Ok(())
                }
            };
            if let Err(down) = step {
                return down.into();
            }
        }
    }

    fn hand_over(&mut self, parts: &mut Parts<'_>) -> Result<(), Down> {
        let missing = self.inflow.hand_over(parts.handler)?;
        if missing.is_empty() && !self.inflow.is_complete() {
            return Ok(());
        }
        for path in std::mem::take(&mut self.checks) {
            self.client.try_unsubscribe(path).map_err(|error| client_down(&error))?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let topics = &parts.settings.topics;
        self.checks = missing.iter().filter_map(|what| topics.desired(what)).collect();
        let paths = self.checks.iter().cloned();
        let by_name = paths.map(|path| filter(path, RetainForwardRule::OnEverySubscribe));
        self.subscribe(by_name.collect())
    }

    /// Takes a message, and those that came with it: they are handed over, and are on disk, together.
    fn incoming(&mut self, next: Option<Result<Publish, ConnectionError>>) -> Result<(), Down> {
        let first = next.ok_or_else(|| Down::new(Trouble::Unreachable, "the connection ended"))?;
        // At its end the channel is closed, which the next call finds.
        let more = std::iter::from_fn(|| self.incoming.try_recv().ok()).take(EVENTS_WAITING);
        for next in std::iter::once(first).chain(more) {
            self.inflow.push(next.map_err(|error| Down::from_connection(&error))?)?;
        }
        Ok(())
    }

    /// Behind the subscriptions' retained messages follows the marker, by the broker's own order.
    fn subscribed(
        &mut self,
        settings: &Settings,
        answer: Result<(), SubscribeNoticeError>,
    ) -> Result<(), Down> {
        match answer {
            Ok(()) if self.inflow.is_complete() => Ok(()),
            Ok(()) => self.mark(settings),
            Err(SubscribeNoticeError::V5SubAckFailure(codes)) => Err(Down::new(
                Trouble::Rights,
                format!("the broker refuses a subscription ({codes:?}): check the device's rights"),
            )),
            Err(error) => Err(Down::new(Trouble::Unreachable, error.to_string())),
        }
    }

    /// Sends the device the marker that it will see behind what the broker has for it now.
    fn mark(&mut self, settings: &Settings) -> Result<(), Down> {
        let mark = format!("{:032x}", rand::rng().random::<u128>()).into_bytes();
        self.inflow.expect(mark.clone());
        let options = PublishOptions::at_least_once();
        self.outflow.publish_own(settings.topics.marker(), mark, options)
    }

    fn warn_of_missing_end(&self, settings: &Settings) {
        if !self.inflow.is_complete() {
            tracing::warn!(
                topic = settings.topics.marker(),
                "End of the desired state not seen: alerts withdrawn while this device was away stay \
                 armed. The device must be allowed to write and read the topic."
            );
        }
    }

    /// Waits until one message under way is acknowledged. What comes in meanwhile is not: the broker
    /// keeps it for the next time.
    async fn settle(&mut self) -> Result<(), Down> {
        loop {
            tokio::select! {
                settled = self.outflow.acknowledged() => return settled,
                next = self.incoming.recv() => match next {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(Down::from_connection(&error)),
                    None => return Err(Down::new(Trouble::Unreachable, "the connection ended")),
                },
            }
        }
    }

    /// Sends what the outbox still has, until it is empty.
    async fn drain(&mut self) -> Result<(), Down> {
        loop {
            self.outflow.fill()?;
            if self.outflow.is_empty() {
                return Ok(());
            }
            self.settle().await?;
        }
    }

    /// Gives what waits a moment, says `stopped`, and takes leave, so that the broker does not say
    /// `offline`. Best effort: what is not acknowledged is sent again at the next start.
    async fn say_goodbye(&mut self, parts: &mut Parts<'_>) {
        // Out of time, with a long backlog: it stays in the outbox.
        let drained = timeout(DRAIN_WITHIN, self.drain()).await.unwrap_or(Ok(()));
        let farewell = async {
            drained?;
            self.announce(parts, Presence::Stopped)?;
            while !self.outflow.is_empty() {
                self.settle().await?;
            }
            self.client.try_disconnect_now().map_err(|error| client_down(&error))?;
            // The pump ends once the goodbye is on the wire.
            while self.incoming.recv().await.is_some() {}
            Ok::<(), Down>(())
        };
        match timeout(STOP_WITHIN, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(down)) => tracing::warn!(%down, "Left the broker without a goodbye."),
            Err(_) => tracing::warn!("Left the broker without a goodbye: it did not answer."),
        }
    }
}
