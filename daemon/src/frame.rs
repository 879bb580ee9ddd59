//! A decoded frame and how its pixels are had, wherever they lie.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use spotter_models::Rgb;

use crate::{
    clock::Mono,
    error::{Error, Result},
    geometry::PixelRect,
};

/// A camera's name: 1 to 64 of `a-z 0-9 _ -`, because it becomes part of topics and file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CameraId(Arc<str>);

impl CameraId {
    /// # Errors
    /// [`Error::Config`] where the name has other characters or a wrong length.
    pub fn new(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            return Err(Error::config(
                format!("camera id {name:?}"),
                "must be 1 to 64 of a-z, 0-9, '_' and '-'",
            ));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CameraId {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<CameraId> for String {
    fn from(id: CameraId) -> String {
        id.0.to_string()
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment of a camera's stream. Never goes back within one camera, also across reconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pts(pub Duration);

impl Pts {
    /// Seconds since `earlier`, 0 where it is not earlier.
    pub fn seconds_since(self, earlier: Pts) -> f64 {
        self.0.saturating_sub(earlier.0).as_secs_f64()
    }
}

/// Pixels of one frame, on the processor or in a device's memory.
pub trait Pixels: Send {
    /// The whole frame scaled to `width` x `height` without keeping its aspect: a detector's input.
    ///
    /// # Errors
    /// Where the memory cannot be mapped or converted.
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb>;

    /// A part of the frame at its own resolution: a person's crop. `rect` lies inside the frame.
    ///
    /// # Errors
    /// Where the memory cannot be mapped or converted.
    fn region(&self, rect: PixelRect) -> Result<Rgb>;

    /// Whether a part costs little more than its own pixels: whoever can do without it waits until it does.
    fn is_at_hand(&self) -> bool {
        true
    }
}

/// One decoded frame.
pub struct Frame {
    /// Where it comes from.
    pub camera: CameraId,
    /// Counts frames that left the decoder, from 0 after each start of the source.
    pub seq: u64,
    /// When it was taken, by the stream.
    pub pts: Pts,
    /// When it left the decoder, by our clock.
    pub decoded_at: Mono,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Its pixels.
    pub pixels: Box<dyn Pixels>,
}
