//! Sightings: from scores to what staff are told.
//!
//! The matcher says how well a track fits an alert, again and again; [`Ledger`] makes of that one
//! sighting per (alert, track) with a beginning, better views and an end, and holds back what would
//! only be noise. It sends nothing and waits for nothing: who calls it writes to the outbox.

mod id;
mod ledger;
mod payload;
mod quota;

pub use id::{Ids, SightingId};
pub use ledger::{Ledger, Limits, Moment, Scored};
pub use payload::{Event, Phrase, Sighting};
pub use quota::Quota;
