//! How the link is, for the status page, the metrics and the tests.

use std::{
    fmt,
    io::ErrorKind,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rumqttc::{
    ConnectReturnCode, ConnectionError, DisconnectReasonCode, StateError, TlsError,
    mqttbytes::Error as PacketError,
    tokio_rustls::rustls::{CertificateError, Error as RustlsError},
};

use crate::{clock::Mono, error::Error};

/// How the link is.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkState {
    /// The first try is under way.
    Connecting,
    /// Connected and subscribed.
    Connected {
        /// Since when.
        since: Mono,
    },
    /// Not connected.
    Down {
        /// Since when: the end of the last connection, or the start.
        since: Mono,
        /// Why.
        why: Down,
        /// The wait before the next try.
        retry_in: Duration,
    },
    /// Ended on purpose.
    Stopped,
}

/// What kind of trouble it is, and so who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The broker does not answer.
    Unreachable,
    /// The connection was accepted and broke.
    Closed,
    /// One side does not trust the other's certificate.
    Certificate,
    /// The broker does not know the user or the password.
    Login,
    /// The broker lacks a right that the device needs.
    Rights,
    /// Another client connected with this device's id.
    TakenOver,
    /// The broker refuses or ended the connection, for a reason of its own.
    Refused,
    /// A file with a secret or a certificate cannot be used.
    Settings,
    /// The outbox cannot be read or written.
    Outbox,
}

impl Trouble {
    /// As it is written in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Unreachable => "unreachable",
            Trouble::Closed => "closed",
            Trouble::Certificate => "certificate",
            Trouble::Login => "login",
            Trouble::Rights => "rights",
            Trouble::TakenOver => "taken_over",
            Trouble::Refused => "refused",
            Trouble::Settings => "settings",
            Trouble::Outbox => "outbox",
        }
    }
}

/// Why the link is down.
#[derive(Clone, Debug, PartialEq)]
pub struct Down {
    /// Who has to act.
    pub trouble: Trouble,
    /// What happened and what to do.
    pub text: String,
}

impl Down {
    pub(super) fn new(trouble: Trouble, text: impl Into<String>) -> Self {
        Self { trouble, text: text.into() }
    }

    pub(super) fn settings(error: Error) -> Self {
        Self::new(Trouble::Settings, error.to_string())
    }

    pub(super) fn outbox(error: Error) -> Self {
        Self::new(Trouble::Outbox, error.to_string())
    }

    /// The library's error in the words of whoever has to act.
    pub(crate) fn from_connection(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::from_refusal(*code),
            ConnectionError::Tls(error) => Self::from_tls(error),
            ConnectionError::Io(error) => Self::from_io(error),
            ConnectionError::MqttState(
                StateError::Io(error) | StateError::Deserialization(PacketError::Io(error)),
            ) => Self::from_io(error),
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                Self::new(Trouble::Closed, "the broker closed the connection without a word")
            }
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                Self::from_disconnect(*reason_code)
            }
            ConnectionError::MqttState(StateError::ConnFail { reason }) => {
                Self::from_refusal(*reason)
            }
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                Self::new(Trouble::Unreachable, "the broker answers no more")
            }
            ConnectionError::Timeout(_) => {
                Self::new(Trouble::Unreachable, "the broker did not answer in time")
            }
            other => Self::new(Trouble::Unreachable, other.to_string()),
        }
    }

    fn from_refusal(code: ConnectReturnCode) -> Self {
        match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => Self::new(
                Trouble::Login,
                format!("the broker refuses the login ({code:?}): check user and password"),
            ),
            code => Self::new(Trouble::Refused, format!("the broker refuses us: {code:?}")),
        }
    }

    fn from_disconnect(code: DisconnectReasonCode) -> Self {
        match code {
            DisconnectReasonCode::SessionTakenOver => Self::new(
                Trouble::TakenOver,
                "another client connected with this device's id: two devices with one name?",
            ),
            DisconnectReasonCode::NotAuthorized => {
                Self::new(Trouble::Rights, "the broker ended the connection: not authorised")
            }
            code => {
                Self::new(Trouble::Refused, format!("the broker ended the connection: {code:?}"))
            }
        }
    }

    fn from_io(error: &std::io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>());
        match inner {
            Some(error) => Self::from_rustls(error),
            None => {
                let trouble = match error.kind() {
                    ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof => Trouble::Closed,
                    _ => Trouble::Unreachable,
                };
                Self::new(trouble, error.to_string())
            }
        }
    }

    fn from_tls(error: &TlsError) -> Self {
        match error {
            TlsError::Io(error) => Self::from_io(error),
            TlsError::TLS(error) => Self::from_rustls(error),
            other => Self::new(Trouble::Certificate, other.to_string()),
        }
    }

    fn from_rustls(error: &RustlsError) -> Self {
        let hint = match error {
            RustlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
                ": the broker's certificate is not signed by the CA that is configured"
            }
            RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => ": the broker's certificate is for another host",
            RustlsError::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => {
                ": the certificate's time is over or yet to come, or this machine's clock is wrong"
            }
            RustlsError::AlertReceived(_) => {
                ": the broker does not take our certificate, or wants one"
            }
            _ => "",
        };
        Self::new(Trouble::Certificate, format!("{error}{hint}"))
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the link did since it was started.
#[derive(Debug, Default)]
pub struct Counters {
    connects: AtomicU64,
    retained_sets: AtomicU64,
    published: AtomicU64,
    received: AtomicU64,
    ignored: AtomicU64,
    deferred: AtomicU64,
    takeovers: AtomicU64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident, $count:ident, $metric:literal;)*) => {
        impl Counters {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> u64 {
                    self.$name.load(Ordering::Relaxed)
                }

                pub(super) fn $count(&self, more: u64) {
                    self.$name.fetch_add(more, Ordering::Relaxed);
                    metrics::counter!($metric).increment(more);
                }
            )*
        }
    };
}

counters! {
    /// Connections that the broker accepted.
    connects, count_connect, "spotter_mqtt_connects_total";
    /// Times that the desired state was read to its end.
    retained_sets, count_retained_set, "spotter_mqtt_retained_sets_total";
    /// Messages that the broker acknowledged.
    published, count_published, "spotter_mqtt_published_total";
    /// Messages that the handler took.
    received, count_received, "spotter_mqtt_received_total";
    /// Messages on topics that mean nothing.
    ignored, count_ignored, "spotter_mqtt_ignored_total";
    /// Times that the handler could not take a message.
    deferred, count_deferred, "spotter_mqtt_deferred_total";
    /// Times that another client took our place.
    takeovers, count_takeover, "spotter_mqtt_takeovers_total";
}
