//! Alerts: from a message to something that is watched for.
//!
//! [`schema`] reads one message, [`policy`] says what the site allows, [`lint`] reads its text,
//! [`book`] holds what is
//! wanted as a function of the messages, [`store`] keeps the book on disk, [`schedule`] and
//! [`place`] say when and where an alert counts, [`like`] names somebody who was seen in place of a text, [`ready`] embeds its texts by way of [`reader`],
//! [`state`] is what staff are told about it. Nothing here knows of MQTT or of threads: transport and
//! matcher are the callers. [`file`] has texts for replays.

pub mod approval;
pub mod book;
pub mod entry;
pub(crate) mod fields;
pub mod file;
mod id;
pub mod like;
pub mod lint;
pub mod phrases;
pub mod place;
pub mod policy;
pub mod reader;
pub mod ready;
mod refusal;
pub mod schedule;
pub mod schema;
pub mod state;
pub mod store;
mod wall;

pub use book::{Book, Snapshot, View};
pub use id::{AlertId, DeviceName, NameError, ZoneName};
pub use like::{Like, Who};
pub use policy::{Policy, Rules};
pub use refusal::{Code, Refusal};
pub use schema::Spec;
pub use store::Store;
pub use wall::{Wall, rfc3339};
