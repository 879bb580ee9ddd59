//! Spotter's daemon: cameras in, persons who fit a description out.
//!
//! The modules are the stages of the data path, in its order: [`source`] decodes, [`motion`] says where
//! anything moves, [`detect`] finds persons, [`track`] follows them, [`crop`] chooses the views worth embedding, [`embed`] places them
//! among the texts of [`alert`], [`score`] compares, [`sighting`] decides what is told; [`outbox`] keeps
//! it and [`mqtt`] sends it. [`gallery`] keeps who was seen, [`erase`] takes it away again, but for whom a [`hold`] keeps. [`desk`] takes alerts in. [`page`] shows all that on the box itself. [`swap`] has another bundle serve, after it looked along as a [`shadow`]. [`watch`] is one camera's part of it;
//! [`pipeline`] runs it live, [`replay`] over recordings.

pub mod alert;
pub mod aside;
pub mod bounded;
pub mod clock;
pub mod cmd;
pub mod config;
pub mod crop;
pub mod desk;
pub mod detect;
pub mod embed;
pub mod engine;
pub mod erase;
pub mod error;
pub mod feedback;
pub mod frame;
pub mod gallery;
pub mod geometry;
pub mod health;
pub mod hold;
pub mod judge;
pub mod keep;
pub mod lens;
pub mod mask;
pub mod memory;
pub mod metrics;
pub mod motion;
pub mod mqtt;
pub mod notify;
pub mod out;
pub mod outbox;
pub mod page;
pub mod picture;
pub mod pipeline;
pub mod portraits;
pub mod probe;
pub mod replay;
pub mod report;
pub mod scene;
pub mod score;
pub mod service;
pub mod shadow;
pub mod shutdown;
pub mod sighting;
pub mod source;
pub mod staff;
pub mod swap;
pub mod telemetry;
pub mod track;
pub mod truth;
pub mod watch;

pub use error::{Error, Kind, Result};
