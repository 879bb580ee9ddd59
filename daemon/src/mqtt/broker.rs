//! A broker inside the daemon, for the demo and for a box that stands alone. On this machine only:
//! it has no TLS, no users and keeps nothing over a restart, which the link makes up for as after
//! any broker that lost its sessions.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

use crate::{
    clock::{Clock, Stop},
    error::{Error, Result},
};

/// Largest payload that it takes: a snapshot of a whole 4K frame is about 2 MB.
const PAYLOAD_MAX_BYTES: usize = 8 << 20;
/// What it keeps of each topic for slow subscribers: 4 segments of 4 MiB.
const SEGMENT_BYTES: usize = 4 << 20;
const SEGMENTS: usize = 4;
/// Clients at once. More than will ever be: a client that the library turns away for want of a place
/// and that comes again brings its listener down.
const CLIENTS_MAX: usize = 10_000;
/// Messages under way to one client.
const INFLIGHT_MAX: usize = 100;
/// Time for the listeners to come up.
const UP_WITHIN: Duration = Duration::from_secs(5);
/// Pause between looks whether they are up.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ports to listen on, on the loopback address. 0 takes a free one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// For clients of MQTT 5, as the daemon is one.
    pub v5: u16,
    /// For clients of MQTT 3.1.1.
    pub v4: u16,
}

/// The broker. It runs until the process ends: the library knows no other end.
pub struct Embedded {
    ports: Ports,
}

impl Embedded {
    /// Starts it and waits until it can be connected to.
    ///
    /// # Errors
    /// [`Error::Config`] where a port is taken; [`Error::Internal`] where it does not come up.
    pub fn start(ports: Ports, clock: &Arc<dyn Clock>) -> Result<Self> {
        // Both are held until both are known, or a free one might be given out twice.
        let (v5, v4) = (reserve(ports.v5)?, reserve(ports.v4)?);
        let port = |listener: &TcpListener| {
            listener.local_addr().map(|address| address.port()).map_err(Error::io("broker"))
        };
        let ports = Ports { v5: port(&v5)?, v4: port(&v4)? };
        drop((v5, v4));
        let config = config(ports);
        std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn(move || {
                if let Err(error) = rumqttd::Broker::new(config).start() {
                    tracing::error!(%error, "The embedded broker ended.");
                }
            })
            .map_err(|error| Error::internal("broker thread", error))?;
        let until = clock.now() + UP_WITHIN;
        let pause = Stop::default();
        for port in [ports.v5, ports.v4] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                if clock.now() >= until {
                    let what = format!("embedded broker on port {port}");
                    return Err(Error::internal(what, "does not come up"));
                }
                pause.wait(LOOK_EVERY);
            }
        }
        tracing::info!(mqtt5 = ports.v5, mqtt3 = ports.v4, "Embedded broker listens on loopback.");
        Ok(Self { ports })
    }

    /// The ports that it listens on.
    pub fn ports(&self) -> Ports {
        self.ports
    }
}

fn reserve(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        let reason = format!("cannot listen on port {port} of this machine: {error}");
        Error::config("embedded broker", reason)
    })
}

fn config(ports: Ports) -> Config {
    let server = |name: &str, port| {
        let settings = ServerSettings {
            name: name.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 10_000,
                max_payload_size: PAYLOAD_MAX_BYTES,
                max_inflight_count: INFLIGHT_MAX,
                auth: None,
                external_auth: None,
                dynamic_filters: true,
            },
        };
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    Config {
        router: RouterConfig {
            max_connections: CLIENTS_MAX,
            max_outgoing_packet_count: INFLIGHT_MAX as u64,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v5: server("mqtt5", ports.v5),
        v4: server("mqtt3", ports.v4),
        ..Config::default()
    }
}
