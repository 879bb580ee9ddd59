//! The broker's own process: what the library does with the settings below, until the daemon goes.

use std::{
    collections::HashMap,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
};

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::Ports;
use crate::error::{Error, Result};

/// Largest payload that it takes: a snapshot of a whole 4K frame is about 2 MB.
const PAYLOAD_MAX_BYTES: usize = 8 << 20;
/// What it keeps of each topic for slow subscribers: 4 segments of 4 MiB.
const SEGMENT_BYTES: usize = 4 << 20;
const SEGMENTS: usize = 4;
/// Clients at once: more than will ever be.
const CLIENTS_MAX: usize = 10_000;
/// Messages under way to one client.
const INFLIGHT_MAX: usize = 100;

/// Serves on the loopback address until `daemon` ends: a pipe that the daemon holds open. It closes
/// however the daemon ends, so that no broker is left behind on the port.
///
/// # Errors
/// [`Error::Internal`] where the system gives no thread.
pub fn serve(ports: Ports, mut daemon: impl Read) -> Result<()> {
    let config = config(ports);
    std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || {
            let ended = rumqttd::Broker::new(config).start();
            // It knows no good end; the daemon starts another.
            tracing::error!(?ended, "The embedded broker ended.");
            std::process::abort();
        })
        .map_err(|error| Error::internal("broker thread", error))?;
    let mut buffer = [0; 64];
    while daemon.read(&mut buffer).is_ok_and(|read| read > 0) {}
    Ok(())
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
