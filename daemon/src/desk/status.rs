//! What the device says of itself and of its cameras.

use serde::Serialize;
use spotter_models::{Generation, session::Provider};

use crate::{
    alert::{Wall, rfc3339},
    frame::CameraId,
    mqtt::Presence,
};

/// The device, as its status topic says.
#[derive(Clone, Debug)]
pub struct Status {
    /// The cameras it is configured for.
    pub cameras: Vec<CameraId>,
    /// The running bundle.
    pub bundle: Generation,
    /// What runs the models.
    pub provider: Provider,
    /// Hash of the configuration, which holds no secrets.
    pub config_hash: String,
    /// Grows with each start.
    pub session: u64,
}

#[derive(Serialize)]
struct Device<'a> {
    schema: u32,
    state: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cameras: Option<&'a [CameraId]>,
    bundle: String,
    execution_provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracks_per_day: Option<f64>,
    session: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    clock_synced: bool,
}

impl Status {
    /// The retained payload of the device's status topic, with the persons it sees a day. The last will is deposited at the connect and
    /// told at any time later: it says nothing that may have changed by then.
    pub fn device(&self, presence: Presence, tracks_per_day: f64, now: Wall) -> Vec<u8> {
        let is_told_now = presence != Presence::Offline;
        json(&Device {
            schema: 1,
            state: presence.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            cameras: is_told_now.then_some(&self.cameras),
            bundle: self.bundle.to_string(),
            execution_provider: self.provider.to_string(),
            config_hash: is_told_now.then_some(&self.config_hash),
            // More digits than anybody counts with would make each message another.
            tracks_per_day: is_told_now.then(|| tracks_per_day.round()),
            session: self.session,
            at: is_told_now.then(|| rfc3339(now.at)),
            clock_synced: now.believed(),
        })
    }
}

/// A camera, as its topic says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraState {
    /// The version of the contract.
    pub schema: u32,
    /// Which.
    pub camera: CameraId,
    /// `streaming`, `connecting` or `down`.
    pub state: &'static str,
    /// Why it does not stream, as one word.
    pub reason: Option<&'static str>,
    /// Frames a second that leave the decoder.
    pub fps: Option<f32>,
    /// Since when.
    pub since: String,
    /// How many times as many of its newest persons score high as was promised, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_drift: Option<f64>,
    /// Whether the box believes its clock.
    pub clock_synced: bool,
}

impl CameraState {
    /// The retained payload.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

/// These structs hold nothing that JSON cannot: the fallback is never written.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
