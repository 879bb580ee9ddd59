//! One `[[camera]]` of the configuration.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    error::Error,
    frame::CameraId,
    mask::Mask,
    source::{self, DecoderChoice, Fps, FrameSize, Pace, RtspUrl, Rules, SourceSpec, Transport},
};

/// What GStreamer's test source gives.
const TEST_SIZE: (u32, u32) = (1280, 720);
const TEST_FPS: u32 = 15;

/// A source's address as it stands in the file. Shown without what follows a `?`, where some cameras
/// want a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&source::redacted(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A camera or a recording.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Its name in topics, logs and metrics: 1 to 64 of `a-z 0-9 _ -`.
    pub id: CameraId,
    /// `rtsp://…`, `rtsps://…`, `file:PATH`, `v4l2:/dev/videoN` or `test:PATTERN`.
    pub url: Address,
    /// The address of the same camera's small stream, where it has one: persons are found and followed in it, and only
    /// crops of them are decoded from `url`.
    #[serde(default)]
    pub sub_url: Option<Address>,
    /// RTSP only: `tcp`, `udp`, or `auto`, which is TCP and then UDP.
    #[serde(default)]
    pub transport: Transport,
    /// RTSP only: a file that holds `user:password`.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// `auto`, `software`, or the name of a GStreamer decoder, which then must work.
    #[serde(default)]
    pub decoder: DecoderChoice,
    /// Files only: start again at the end.
    #[serde(default)]
    pub repeat: bool,
    /// Frames a second that are looked at; `detector.rate_hz` where it is not given.
    #[serde(default)]
    pub rate_hz: Option<f64>,
    /// Zones by name: corners of a polygon as shares of the frame's width and height.
    #[serde(default)]
    pub zones: BTreeMap<String, Vec<[f32; 2]>>,
    /// Masks by name, as zones: parts of the frame that are black before anything looks at it.
    #[serde(default)]
    pub masks: BTreeMap<String, Vec<[f32; 2]>>,
    /// Seconds without a frame after which the stream is opened anew.
    #[serde(default = "default_stall")]
    pub stall_s: f64,
}

fn default_stall() -> f64 {
    10.0
}

impl Camera {
    /// What is opened.
    ///
    /// # Errors
    /// Why the address is none, without repeating a password that may stand in it.
    pub fn source(&self) -> Result<SourceSpec, String> {
        self.at("url", &self.url)
    }

    /// What persons are found and followed in: the small stream, where there is one.
    ///
    /// # Errors
    /// As [`Camera::source`].
    pub fn watched(&self) -> Result<SourceSpec, String> {
        match &self.sub_url {
            Some(address) => self.at("sub_url", address),
            None => self.source(),
        }
    }

    fn at(&self, key: &str, address: &Address) -> Result<SourceSpec, String> {
        let unknown = || format!("{key}: must begin with rtsp:, rtsps:, file:, v4l2: or test:");
        let Some((scheme, rest)) = address.0.split_once(':') else { return Err(unknown()) };
        let path = || PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
        let said = |error: Error| error.to_string();
        match scheme {
            "rtsp" | "rtsps" => Ok(SourceSpec::Rtsp {
                url: RtspUrl::new(&address.0).map_err(said)?,
                transport: self.transport,
                credentials_file: self.credentials_file.clone(),
            }),
            "file" => {
                Ok(SourceSpec::File { path: path(), pace: Pace::RealTime, repeat: self.repeat })
            }
            "v4l2" => Ok(SourceSpec::V4l2 { device: path(), size: None, fps: None }),
            "test" => Ok(SourceSpec::Test {
                pattern: rest.to_owned(),
                size: FrameSize::new(TEST_SIZE.0, TEST_SIZE.1).map_err(said)?,
                fps: Fps::new(TEST_FPS).map_err(said)?,
            }),
            _ => Err(unknown()),
        }
    }

    /// What nobody may look at, where there is anything.
    ///
    /// # Errors
    /// Which mask is none and why.
    pub fn mask(&self) -> Result<Option<Arc<Mask>>, String> {
        Mask::new(&self.masks).map_err(|error| error.to_string())
    }

    /// Whether its stream is opened and looked at as the other's: what is drawn in the picture does not count,
    /// and changes while the stream goes on.
    pub fn streams_like(&self, other: &Self) -> bool {
        let bare = |camera: &Self| Self {
            zones: BTreeMap::new(),
            masks: BTreeMap::new(),
            ..camera.clone()
        };
        bare(self) == bare(other)
    }

    /// How patient its supervision is.
    pub fn rules(&self) -> Rules {
        Rules { stall: Duration::from_secs_f64(self.stall_s), ..Rules::default() }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let source = self.source()?;
        if let Some(sub_url) = &self.sub_url {
            let is_rtsp = |source: &SourceSpec| matches!(source, SourceSpec::Rtsp { .. });
            // Two recordings do not run in step.
            if !(is_rtsp(&source) && is_rtsp(&self.watched()?)) {
                return Err("sub_url: only RTSP cameras have two streams; url and sub_url must both begin with \
                            rtsp: or rtsps:"
                    .into());
            }
            if *sub_url == self.url {
                return Err(
                    "sub_url: is the same as url; take it out, or name the small stream".into()
                );
            }
        }
        let rtsp = matches!(source, SourceSpec::Rtsp { .. });
        if self.credentials_file.is_some() && !rtsp {
            return Err("credentials_file: only RTSP cameras have one".into());
        }
        if self.repeat && !matches!(source, SourceSpec::File { .. }) {
            return Err("repeat: only files can start again".into());
        }
        self.mask()?;
        if let Some(rate) = self.rate_hz {
            check_rate("rate_hz", rate)?;
        }
        if !(1.0..=600.0).contains(&self.stall_s) {
            return Err(format!("stall_s: {} is not between 1 and 600 seconds", self.stall_s));
        }
        Ok(())
    }
}

/// Detections a second that make sense: below, nobody can be followed; above, nothing is gained.
pub(super) fn check_rate(name: &str, rate: f64) -> Result<(), String> {
    if (0.2..=30.0).contains(&rate) {
        Ok(())
    } else {
        Err(format!("{name}: {rate} is not between 0.2 and 30 a second"))
    }
}
