//! The configuration file: TOML, strict, checked as a whole before anything starts.
//!
//! `configs/spotterd.toml` documents every key with its default; a test holds the two together.
//! Secrets never stand in this file: it names files that hold them.

mod broker;
mod bundles;
mod camera;
mod feedback;

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use spotter_models::session::{Precision, Provider};
use toml::Spanned;

pub use broker::{CommandName, Mqtt};
pub use bundles::{Bundles, Signatures};
pub use camera::{Address, Camera};
pub use feedback::Feedback;

use crate::{
    alert::{
        Policy, Rules, ZoneName,
        place::{Places, Polygon},
    },
    bounded,
    error::{Error, Result},
    mqtt::Topics,
    score::Choice,
};

/// Largest configuration that is read: far above a site's needs, far below the memory.
const MAX_BYTES: u64 = 1 << 20;
/// Most detection threads: more than any box has cores.
const MAX_WORKERS: usize = 64;

/// Everything the daemon is told.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model bundle, or a store whose current generation is used.
    pub bundle: PathBuf,
    /// Which bundles are trusted.
    #[serde(default)]
    pub bundles: Bundles,
    /// The site's name in topics, the same on all its devices.
    #[serde(default = "default_site")]
    pub site: String,
    /// This device's name in topics, its own within the site.
    #[serde(default = "default_device")]
    pub device: String,
    /// The broker.
    #[serde(default)]
    pub mqtt: Mqtt,
    /// When a score is a sighting.
    #[serde(default)]
    pub decision: Decision,
    /// What alerts are allowed.
    #[serde(default)]
    pub policy: Policy,
    /// What is kept on disk.
    #[serde(default)]
    pub storage: Storage,
    /// Who passed.
    #[serde(default)]
    pub gallery: Gallery,
    /// What staff say of sightings.
    #[serde(default)]
    pub feedback: Feedback,
    /// ONNX Runtime.
    #[serde(default)]
    pub inference: Inference,
    /// The person detector.
    #[serde(default)]
    pub detector: Detector,
    /// Prometheus metrics.
    #[serde(default)]
    pub metrics: Metrics,
    /// The local page.
    #[serde(default)]
    pub page: Page,
    /// The daemon's own log.
    #[serde(default)]
    pub log: Log,
    /// The cameras, at least one.
    #[serde(default, rename = "camera")]
    pub cameras: Vec<Spanned<Camera>>,
}

/// ONNX Runtime and what runs the models.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inference {
    /// The library; searched for where it is not named.
    pub library: Option<PathBuf>,
    /// `cpu`, `cuda` or `tensorrt`. One that cannot run here is an error, never replaced in silence.
    pub provider: Provider,
    /// Which of the bundle's towers: `f32`, `f16` for a GPU, or `int8` for a processor.
    pub precision: Precision,
}

fn default_site() -> String {
    "site".into()
}

fn default_device() -> String {
    "box-1".into()
}

/// When a score is a sighting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decision {
    /// `fixed=X`, with X a cosine, or `zscore=Z`, with Z standard deviations.
    pub policy: Choice,
}

/// What is kept on disk.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Folder of the outbox and the alerts.
    pub folder: PathBuf,
    /// Most bytes that wait for the broker: pictures go first, events last.
    pub outbox_bytes: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self { folder: "/var/lib/spotter".into(), outbox_bytes: 256 << 20 }
    }
}

/// Everybody who passed, as embeddings and, if wanted, pictures: what texts are calibrated on, and what
/// is searched. Personal data: it stays on this box and is deleted by its age.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gallery {
    /// Whether anybody is kept. Without it nothing can be searched, and calibration begins anew at each
    /// start.
    pub keep: bool,
    /// Hours after which a track is deleted.
    pub retention_h: NonZeroU32,
    /// Whether the best picture of each track is kept.
    pub pictures: bool,
    /// Most bytes of embeddings; the oldest go first.
    pub track_bytes: u64,
    /// Most bytes of pictures; the oldest go first.
    pub picture_bytes: u64,
}

impl Default for Gallery {
    fn default() -> Self {
        Self {
            keep: true,
            retention_h: NonZeroU32::MIN.saturating_add(71),
            pictures: true,
            track_bytes: 4 << 30,
            picture_bytes: 8 << 30,
        }
    }
}

/// The person detector.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detector {
    /// A known detector (`deimv2-femto`, `deimv2-atto`, `yolox-nano`), or the path of an `.onnx` file
    /// in DEIMv2's or YOLOX's output layout.
    pub model: String,
    /// Frames a second that are looked at, per camera; 3 to 15 is sensible.
    pub rate_hz: f64,
    /// Threads that detect and track; cameras share them fairly.
    pub workers: NonZeroUsize,
    /// Whether frames are passed over in which nothing moves while nobody is followed; every three seconds one is
    /// looked at all the same.
    pub motion_gate: bool,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            model: "deimv2-femto".into(),
            rate_hz: 5.0,
            workers: NonZeroUsize::MIN,
            motion_gate: true,
        }
    }
}

/// Prometheus metrics.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address of the metrics page; loopback only, since it has no login.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)) }
    }
}

/// The local page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    /// Its address; loopback only.
    pub listen: SocketAddr,
    /// A file with the token that opens it; without one there is no page.
    pub token_file: Option<PathBuf>,
}

impl Default for Page {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8480)), token_file: None }
    }
}

/// The daemon's own log.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Where and how.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,ort=warn".into() }
    }
}

/// Where the log goes and how it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people on stderr.
    #[default]
    Text,
    /// JSON lines on stderr.
    Json,
    /// The system journal, with fields.
    Journald,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error::Config`] with the file, the line and what would be right.
    pub fn load(path: &Path) -> Result<Self> {
        let text = bounded::text(path, MAX_BYTES)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let place = match error.span() {
                Some(span) => format!("{name}:{}", line_of(text, span.start)),
                None => name.to_owned(),
            };
            Error::config(place, error.message().to_owned())
        })?;
        config.check(name, text)?;
        Ok(config)
    }

    fn check(&self, name: &str, text: &str) -> Result<()> {
        camera::check_rate("detector.rate_hz", self.detector.rate_hz)
            .map_err(|reason| Error::config(name, reason))?;
        self.bundles.check().map_err(|reason| Error::config(name, reason))?;
        self.mqtt.settings(self.topics()?)?;
        Rules::new(self.policy.clone())?;
        if self.detector.workers.get() > MAX_WORKERS {
            let reason =
                format!("detector.workers: {} is not 1 to {MAX_WORKERS}", self.detector.workers);
            return Err(Error::config(name, reason));
        }
        crate::telemetry::check_filter(&self.log.filter)?;
        if !self.metrics.listen.ip().is_loopback() {
            return Err(Error::config(
                name,
                format!(
                    "metrics.listen is {}, which others can reach without a login; use a loopback \
                     address such as 127.0.0.1:9464",
                    self.metrics.listen
                ),
            ));
        }
        self.places()?;
        if self.cameras.is_empty() {
            return Err(Error::config(name, "no [[camera]] is configured; add at least one"));
        }
        for (index, camera) in self.cameras.iter().enumerate() {
            let place = || format!("{name}:{}", line_of(text, camera.span().start));
            camera.get_ref().check().map_err(|reason| Error::config(place(), reason))?;
            let id = &camera.get_ref().id;
            if self.cameras[..index].iter().any(|other| other.get_ref().id == *id) {
                return Err(Error::config(place(), format!("a second camera is called {id}")));
            }
        }
        Ok(())
    }

    /// Names of this device in topics.
    ///
    /// # Errors
    /// [`Error::Config`] where a name has other characters than topics may.
    pub fn topics(&self) -> Result<Topics> {
        Topics::new(&self.mqtt.prefix, &self.site, &self.device)
    }

    /// The cameras and the zones in their pictures.
    ///
    /// # Errors
    /// [`Error::Config`] for a zone that encloses nothing.
    pub fn places(&self) -> Result<Places> {
        let mut places = Places::new();
        for camera in &self.cameras {
            let camera = camera.get_ref();
            places.camera(camera.id.clone());
            for (name, corners) in &camera.zones {
                let name = ZoneName::new(name)
                    .map_err(|error| Error::config(camera.id.to_string(), error.to_string()))?;
                let polygon = Polygon::new(&name, corners)?;
                places.zone(name, camera.id.clone(), polygon);
            }
        }
        Ok(places)
    }

    /// The file as it takes effect, with every default. Holds no secrets: it only names their files.
    ///
    /// # Errors
    /// Only by a bug.
    pub fn effective(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::internal("configuration", error))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../configs/spotterd.toml");
    const SMALL: &str = "bundle = \"b\"\n[[camera]]\nid = \"door\"\nurl = \"rtsp://10.0.0.5/s\"\n";

    fn refused(text: &str) -> String {
        Config::parse("spotterd.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_file_is_valid_and_documents_every_key_with_its_default() {
        let shipped = Config::parse("spotterd.toml", SHIPPED).unwrap();
        // A line `# key = value` shows a default: with all of them switched on nothing may change.
        let is_key = |line: &&str| {
            let Some(rest) = line.strip_prefix("# ") else { return false };
            let name = rest.split(" = ").next().unwrap_or_default();
            rest.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let switched_on: String = SHIPPED
            .lines()
            .map(|line| if is_key(&line) { &line[2..] } else { line })
            .map(|line| format!("{line}\n"))
            .collect();
        let with_defaults = Config::parse("spotterd.toml", &switched_on).unwrap();
        assert_eq!(shipped.effective().unwrap(), with_defaults.effective().unwrap());
        for key in with_defaults.effective().unwrap().lines() {
            let Some((key, _)) = key.split_once(" = ") else { continue };
            assert!(
                SHIPPED.contains(&format!("{key} = ")),
                "{key} is not in configs/spotterd.toml"
            );
        }
    }

    #[test]
    fn a_typo_is_refused_with_its_line() {
        let error = refused(&SMALL.replace("url =", "ulr ="));
        assert!(error.contains("spotterd.toml:4") && error.contains("ulr"), "{error}");
        let error = refused(&format!("bundel = 1\n{SMALL}"));
        assert!(error.contains("spotterd.toml:1") && error.contains("bundel"), "{error}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_their_camera() {
        let error = refused(&format!("{SMALL}rate_hz = 900\n"));
        assert!(error.contains("spotterd.toml:2") && error.contains("rate_hz"), "{error}");
        let error = refused(&format!("{SMALL}\n[[camera]]\nid = \"door\"\nurl = \"test:ball\"\n"));
        assert!(error.contains("spotterd.toml:6") && error.contains("second camera"), "{error}");
        assert!(refused("bundle = \"b\"\n").contains("[[camera]]"));
        let error = refused(&format!("{SMALL}[metrics]\nlisten = \"0.0.0.0:9464\"\n"));
        assert!(error.contains("loopback"), "{error}");
    }

    #[test]
    fn required_signatures_need_the_vendors_key() {
        let section = |keys| format!("{SMALL}[bundles]\nsignatures = \"required\"\n{keys}\n");
        for keys in ["", "site_keys = [\"site.pub\"]", "vendor_keys = []"] {
            let error = refused(&section(keys));
            assert!(error.contains("vendor_keys") && error.contains("keygen"), "{error}");
        }
        Config::parse("c", &section("vendor_keys = [\"vendor.pub\"]")).unwrap();
        assert!(refused(&section("").replace("required", "maybe")).contains("maybe"));
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = refused(&SMALL.replace("10.0.0.5", "admin:hunter2@10.0.0.5"));
        assert!(error.contains("credentials_file"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
