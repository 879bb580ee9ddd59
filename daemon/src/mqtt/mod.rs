//! The link to the broker: alerts in, sightings out, by the MQTT contract of the product.
//!
//! One thread ([`Link`]) connects for ever, hands what comes in to a [`Handler`] and sends what waits
//! in the [`crate::outbox`]. The client library is replaceable: delivery is the outbox's. It must
//! never block the pipeline, never acknowledge an alert that is not on disk, never forget a message
//! that the broker has not acknowledged.

mod backoff;
pub mod broker;
mod connection;
mod handler;
mod inflow;
mod link;
mod outflow;
mod settings;
mod state;
pub mod topics;

pub use backoff::Backoff;
pub use handler::{Handler, Presence, Received, Response};
pub use link::Link;
pub use settings::{Commands, Identity, Security, Settings};
pub use state::{Counters, Down, LinkState, Trouble};
pub use topics::{Inbound, ReplyTopic, Topics};
