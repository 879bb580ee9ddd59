//! One command's conversation with the site's broker.

use std::{future::Future, path::PathBuf, pin::pin, time::Duration};

use rand::Rng;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, PublishNoticeError,
    PublishOptions, SubscribeNoticeError,
    mqttbytes::{
        QoS,
        v5::{PubAckReason, Publish, RetainForwardRule, SubscribeFilter},
    },
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{Board, Fault, Said, Site};
use crate::{
    config::Config,
    error::{Error, Result},
    mqtt::{Down, Identity, Security, Settings},
};

/// Time for the connection and for each answer of the broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time for the goodbye.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Largest message that is taken: a picture, with room to spare.
const INCOMING_MAX_BYTES: u32 = 16 << 20;
/// Messages that may wait for us; more stop the reading.
const MESSAGES_WAITING: usize = 64;
/// Questions in a row without a retained message before the answer, after which there are none
/// left. One would do where a broker sends all it has before it answers the next question.
const QUIET_ROUNDS: u32 = 2;
const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// How staff reach the site's broker.
#[derive(Clone, Debug)]
pub struct Desk {
    /// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
    pub broker: String,
    /// The site.
    pub site: Site,
    /// PEM file with the certificates that may sign the broker's.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the broker asks for one.
    pub identity: Option<Identity>,
    /// File with the user's name in its first line and the password in its second.
    pub login_file: Option<PathBuf>,
    /// Permits an open connection to a broker on another machine.
    pub allow_plaintext: bool,
}

impl Desk {
    /// The broker of a daemon, with that daemon's login.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that no topic may have.
    pub fn of(config: &Config) -> Result<Self> {
        let mqtt = &config.mqtt;
        Ok(Self {
            broker: match mqtt.is_embedded() {
                true => format!("mqtt://127.0.0.1:{}", mqtt.embedded_port),
                false => mqtt.broker.clone(),
            },
            site: Site::new(&mqtt.prefix, &config.site)?,
            ca: mqtt.authority(),
            identity: mqtt.identity()?,
            login_file: mqtt.login_file.clone(),
            allow_plaintext: mqtt.allow_plaintext,
        })
    }

    /// The settings of the connection, checked.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no address or does not go together, and what
    /// [`Settings::check`] finds.
    pub fn settings(&self) -> Result<Settings> {
        let refuse = |reason: &str| Error::config("--broker", reason);
        let form =
            "write it as mqtts://HOST, mqtts://HOST:PORT or, without protection, mqtt://HOST";
        let (scheme, address) = self.broker.split_once("://").ok_or_else(|| refuse(form))?;
        if address.contains('@') {
            let reason = "must not hold a user or a password, which others could read from the \
                          list of processes: put them into a file and name it with --login-file";
            return Err(refuse(reason));
        }
        let (security, port) = match (scheme, &self.ca) {
            ("mqtts", Some(ca)) => {
                let identity = self.identity.clone();
                (Security::Tls { ca: ca.clone(), identity }, TLS_PORT)
            }
            ("mqtts", None) => {
                let reason = "is mqtts://, which needs --ca FILE: the certificate that signed the \
                              broker's";
                return Err(refuse(reason));
            }
            ("mqtt", Some(_)) => {
                return Err(refuse("is mqtt://, which --ca does not protect: write mqtts://"));
            }
            ("mqtt", None) => (Security::Plaintext, PLAIN_PORT),
            _ => return Err(refuse(form)),
        };
        let (host, port) = host_and_port(address, port).ok_or_else(|| refuse(form))?;
        let mut settings = Settings::new(self.site.topics().clone(), host, port, security);
        settings.login_file = self.login_file.clone();
        settings.allow_plaintext = self.allow_plaintext;
        settings.check()?;
        Ok(settings)
    }
}

/// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`, with or without a slash behind.
fn host_and_port(address: &str, default: u16) -> Option<(&str, u16)> {
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty() && host.chars().all(is_host)).then_some((host, port))
}

/// A message on a topic that staff read.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Who says what.
    pub said: Said,
    /// As it was published; nothing about it has been checked.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it, or it was published just now.
    pub retained: bool,
    /// Its user properties.
    pub properties: Vec<(String, String)>,
}

/// What comes from the connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// A message.
    Message(Publish),
    /// The connection broke.
    Lost(Down),
    /// There is a connection again.
    Back {
        /// Whether the broker kept what was missed.
        resumed: bool,
    },
}

/// Whether a connection that breaks is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// A short command ends with its connection.
    Ends,
    /// The broker keeps what is missed for this long; tries come after each other with a pause.
    Returns {
        /// How long the broker keeps it.
        kept: Duration,
        /// Between a loss and the next try.
        pause: Duration,
    },
}

/// A conversation with the broker.
pub struct Session {
    pub(super) client: AsyncClient,
    pub(super) happened: mpsc::Receiver<Happened>,
    /// Polls the library's event loop, which must never be dropped within a step.
    pump: JoinHandle<()>,
    site: Site,
    /// Host and port, for messages.
    broker: String,
    client_id: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Session {
    /// Connects. Nothing of this conversation is left at the broker after its end.
    ///
    /// # Errors
    /// [`Fault::Setting`] from [`Desk::settings`], [`Fault::Broker`] where the broker does not
    /// answer within ten seconds or does not let us in.
    pub async fn open(desk: &Desk) -> Result<Self, Fault> {
        Self::open_as(desk, Persistence::Ends).await
    }

    pub(super) async fn open_as(desk: &Desk, persistence: Persistence) -> Result<Self, Fault> {
        let settings = desk.settings()?;
        let broker = format!("{}:{}", settings.host, settings.port);
        let client_id = format!("spotter-staff-{:016x}", rand::rng().random::<u64>());
        let mut options = MqttOptions::new(client_id.clone(), settings.broker());
        options
            .set_transport(settings.transport()?)
            .set_connect_timeout(ANSWER_WITHIN)
            .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_max_packet_size(Some(INCOMING_MAX_BYTES));
        if let Persistence::Returns { kept, .. } = persistence {
            let kept_s = u32::try_from(kept.as_secs()).unwrap_or(u32::MAX);
            options.set_clean_start(false).set_session_expiry_interval(Some(kept_s));
        }
        if let Some(login) = settings.login()? {
            options.set_credentials(login.user, login.password);
        }
        let (client, mut events) = AsyncClient::builder(options)
            .capacity(MESSAGES_WAITING)
            .try_build()
            .map_err(|error| Error::internal("mqtt client", error))?;
        let down = |why: String| Fault::Broker { broker: broker.clone(), why };
        match timeout(ANSWER_WITHIN, acceptance(&mut events)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(down(Down::from_connection(&error).to_string())),
            Err(_) => return Err(down(silence())),
        }
        let (sender, happened) = mpsc::channel(MESSAGES_WAITING);
        let pump = tokio::spawn(pump(events, sender, persistence));
        Ok(Self { client, happened, pump, site: desk.site.clone(), broker, client_id })
    }

    /// The site's topics.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Where answers to our questions go.
    pub(super) fn reply_topic(&self) -> String {
        self.site.replies(&self.client_id)
    }

    pub(super) fn fault(&self, why: impl Into<String>) -> Fault {
        Fault::Broker { broker: self.broker.clone(), why: why.into() }
    }

    pub(super) fn understand(&self, publish: &Publish) -> Option<Heard> {
        let said = self.site.parse(std::str::from_utf8(&publish.topic).ok()?)?;
        let properties = publish.properties.as_ref();
        Some(Heard {
            said,
            payload: publish.payload.to_vec(),
            retained: publish.retain,
            properties: properties.map(|all| all.user_properties.clone()).unwrap_or_default(),
        })
    }

    /// The next message, as soon as there is one. May be dropped.
    ///
    /// # Errors
    /// [`Fault::Broker`] where the connection broke.
    pub async fn next(&mut self) -> Result<Heard, Fault> {
        loop {
            let happened = self.happened.recv().await;
            if let Some(heard) = self.heard(happened)? {
                return Ok(heard);
            }
        }
    }

    fn heard(&self, happened: Option<Happened>) -> Result<Option<Heard>, Fault> {
        match happened {
            Some(Happened::Message(publish)) => Ok(self.understand(&publish)),
            Some(Happened::Back { .. }) => Ok(None),
            Some(Happened::Lost(down)) => Err(self.fault(down.to_string())),
            None => Err(self.fault("the connection ended")),
        }
    }

    /// Waits for an answer of the broker and takes what comes before it.
    async fn answer<T>(
        &mut self,
        due: impl Future<Output = T>,
        take: &mut dyn FnMut(Heard),
    ) -> Result<T, Fault> {
        let mut due = pin!(due);
        let mut patience = pin!(tokio::time::sleep(ANSWER_WITHIN));
        loop {
            let happened = tokio::select! {
                answer = &mut due => {
                    // What came before the answer is in the channel already.
                    while let Ok(happened) = self.happened.try_recv() {
                        self.heard(Some(happened))?.into_iter().for_each(&mut *take);
                    }
                    return Ok(answer);
                }
                happened = self.happened.recv() => happened,
                () = &mut patience => return Err(self.fault(silence())),
            };
            self.heard(happened)?.into_iter().for_each(&mut *take);
        }
    }

    pub(super) async fn subscribe(
        &mut self,
        filters: Vec<SubscribeFilter>,
        take: &mut dyn FnMut(Heard),
    ) -> Result<(), Fault> {
        let notice = self
            .client
            .try_subscribe_many_tracked(filters)
            .map_err(|error| self.fault(error.to_string()))?;
        match self.answer(notice.wait_completion_async(), take).await? {
            Ok(()) => Ok(()),
            Err(SubscribeNoticeError::V5SubAckFailure(_)) => {
                Err(self.fault("this user may not read the site's topics: check its rights"))
            }
            Err(error) => Err(self.fault(error.to_string())),
        }
    }

    /// Subscribes, and reads what is retained on these topics to its end.
    ///
    /// Staff may write nowhere where they could leave a mark to be found behind the retained
    /// messages, so the broker is asked questions until no more come before its answers: it
    /// handles what one client sends in order, and our acknowledgements go before each question.
    ///
    /// # Errors
    /// [`Fault::Broker`] where the connection breaks, the broker does not answer, or reading is not
    /// allowed.
    pub async fn read(&mut self, filters: Vec<String>, board: &mut Board) -> Result<(), Fault> {
        // At QoS 1 a broker sends some twenty at a time, and its answer to the question below would
        // overtake the rest; at QoS 0 everything comes at once and in order.
        let at_most_once = |filter| SubscribeFilter::new(filter, QoS::AtMostOnce);
        let filters = filters.into_iter().map(at_most_once).collect();
        self.subscribe(filters, &mut |heard| board.take(&heard)).await?;
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            let mut in_round = 0u64;
            let mut question = at_least_once(self.site.replies(&self.client_id));
            question.retain_forward_rule = RetainForwardRule::Never;
            let mut take = |heard: Heard| {
                in_round += u64::from(heard.retained);
                board.take(&heard);
            };
            self.subscribe(vec![question], &mut take).await?;
            quiet = if in_round == 0 { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    /// Publishes a retained message; the broker has it once this returns.
    ///
    /// # Errors
    /// [`Fault::Broker`] where the connection breaks, the broker does not answer or does not allow
    /// it.
    pub async fn publish(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        board: &mut Board,
    ) -> Result<(), Fault> {
        let options = PublishOptions::at_least_once().retained();
        let notice = self
            .client
            .try_publish_tracked(topic, payload, options)
            .map_err(|error| self.fault(error.to_string()))?;
        let mut take = |heard: Heard| board.take(&heard);
        match self.answer(notice.wait_completion_async(), &mut take).await? {
            Ok(()) => Ok(()),
            Err(PublishNoticeError::V5PubAck(PubAckReason::NotAuthorized)) => {
                let why =
                    "this user may not change alerts: use a login of the staff (--login-file)";
                Err(self.fault(why))
            }
            Err(error) => Err(self.fault(format!("does not take the message: {error}"))),
        }
    }

    /// Takes leave, as far as that is possible within two seconds.
    pub async fn close(mut self) {
        let farewell = rumqttc::mqttbytes::v5::DisconnectProperties {
            // Whatever was to be kept for us is not needed any more.
            session_expiry_interval: Some(0),
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        };
        let reason = rumqttc::DisconnectReasonCode::NormalDisconnection;
        if self.client.try_disconnect_now_with_properties(reason, farewell).is_ok() {
            let rest = async { while self.happened.recv().await.is_some() {} };
            // Nothing depends on it: the broker sees the connection end in any case.
            let _ = timeout(LEAVE_WITHIN, rest).await;
        }
    }
}

pub(super) fn at_least_once(filter: String) -> SubscribeFilter {
    SubscribeFilter::new(filter, QoS::AtLeastOnce)
}

fn silence() -> String {
    format!("does not answer within {} s", ANSWER_WITHIN.as_secs())
}

/// Polls until the broker has accepted.
async fn acceptance(events: &mut EventLoop) -> Result<(), ConnectionError> {
    while !matches!(events.poll().await?, Event::Incoming(Incoming::ConnAck(_))) {}
    Ok(())
}

/// Drives the library and hands on what happened, until the connection ends for good.
async fn pump(mut events: EventLoop, sender: mpsc::Sender<Happened>, persistence: Persistence) {
    loop {
        let happened = match events.poll().await {
            Ok(Event::Incoming(Incoming::Publish(publish))) => Happened::Message(publish),
            Ok(Event::Incoming(Incoming::ConnAck(accepted))) => {
                Happened::Back { resumed: accepted.session_present }
            }
            Ok(_) => continue,
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => Happened::Lost(Down::from_connection(&error)),
        };
        let is_lost = matches!(happened, Happened::Lost(_));
        if sender.send(happened).await.is_err() {
            return;
        }
        match persistence {
            Persistence::Ends if is_lost => return,
            Persistence::Returns { pause, .. } if is_lost => tokio::time::sleep(pause).await,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(broker: &str, ca: Option<&str>) -> Desk {
        Desk {
            broker: broker.to_owned(),
            site: Site::new("spotter", "harbour").unwrap(),
            ca: ca.map(PathBuf::from),
            identity: None,
            login_file: None,
            allow_plaintext: false,
        }
    }

    #[test]
    fn addresses() {
        for (broker, host, port) in [
            ("mqtt://localhost", "localhost", 1883),
            ("mqtt://localhost/", "localhost", 1883),
            ("mqtt://127.0.0.1:2883", "127.0.0.1", 2883),
            ("mqtt://[::1]", "::1", 1883),
            ("mqtt://[::1]:2883", "::1", 2883),
        ] {
            let settings = desk(broker, None).settings().unwrap();
            assert_eq!((settings.host.as_str(), settings.port), (host, port), "{broker}");
        }
    }

    #[test]
    fn what_is_no_address_or_not_safe_is_refused_with_what_to_do() {
        for (broker, ca, word) in [
            ("localhost", None, "mqtts://HOST"),
            ("http://localhost", None, "mqtts://HOST"),
            ("mqtt://", None, "mqtts://HOST"),
            ("mqtt://localhost:", None, "mqtts://HOST"),
            ("mqtt://localhost:0", None, "mqtts://HOST"),
            ("mqtt://localhost:99999", None, "mqtts://HOST"),
            ("mqtt://::1", None, "mqtts://HOST"),
            ("mqtt://[::1", None, "mqtts://HOST"),
            ("mqtt://a b", None, "mqtts://HOST"),
            ("mqtt://localhost/path", None, "mqtts://HOST"),
            ("mqtt://ann:secret@localhost", None, "--login-file"),
            ("mqtts://broker.example", None, "--ca"),
            ("mqtt://localhost", Some("ca.crt"), "mqtts://"),
            ("mqtts://broker.example", Some("/nowhere/ca.crt"), "/nowhere/ca.crt"),
            ("mqtt://broker.example", None, "allow_plaintext"),
        ] {
            let error = desk(broker, ca).settings().unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("secret"), "{broker}: {error}");
        }
        let mut open = desk("mqtt://broker.example", None);
        open.allow_plaintext = true;
        assert!(open.settings().is_ok());
    }
}
