//! What a source is: validated when the configuration is read, trusted from then on.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::error::{Error, Result};

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// A camera or media server.
    Rtsp {
        /// Its address, without credentials.
        url: RtspUrl,
        /// How the media travels.
        transport: Transport,
        /// A file with one line `user:password`, read anew at each connection.
        credentials_file: Option<PathBuf>,
    },
    /// A recording.
    File {
        /// The file.
        path: PathBuf,
        /// How fast it is played.
        pace: Pace,
        /// Whether it starts again at its end.
        repeat: bool,
    },
    /// A camera at this machine.
    V4l2 {
        /// The device file, such as `/dev/video0`.
        device: PathBuf,
        /// The size to ask for; the device's own choice where there is none.
        size: Option<FrameSize>,
        /// The rate to ask for; the device's own choice where there is none.
        fps: Option<Fps>,
    },
    /// GStreamer's test picture, live.
    Test {
        /// Name of the pattern as `videotestsrc` calls it, such as `ball` or `smpte`.
        pattern: String,
        /// Size of the frames.
        size: FrameSize,
        /// Frames a second.
        fps: Fps,
    },
}

impl SourceSpec {
    /// What texts call this source. Holds no credential.
    pub fn place(&self) -> String {
        match self {
            SourceSpec::Rtsp { url, .. } => url.to_string(),
            SourceSpec::File { path, .. } => path.display().to_string(),
            SourceSpec::V4l2 { device, .. } => device.display().to_string(),
            SourceSpec::Test { pattern, .. } => format!("test pattern {pattern}"),
        }
    }

    /// Whether frames come when they happen, whether or not somebody takes them.
    pub fn is_live(&self) -> bool {
        !matches!(self, SourceSpec::File { .. })
    }

    /// Whether every frame is delivered, however slow the taker.
    pub fn is_lossless(&self) -> bool {
        matches!(self, SourceSpec::File { pace: Pace::AsFast, .. })
    }
}

/// How the media of an RTSP stream travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP first; UDP where TCP is refused or brings nothing. GStreamer's own order is UDP first, with
    /// seconds of silence before it changes: too slow to have frames within 5 s of a restart.
    #[default]
    Auto,
    /// Inside the RTSP connection: no loss, passes every firewall that RTSP passes.
    Tcp,
    /// In datagrams: lost packets break pictures until the next key frame.
    Udp,
}

/// How fast a file is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// As the clock of the recording runs; a slow consumer misses frames, as with a camera.
    #[default]
    RealTime,
    /// As fast as it is consumed; no frame is lost.
    AsFast,
}

/// An `rtsp://` or `rtsps://` address without credentials. Shown without its query, and without its
/// path where that names a password: some cameras want one there.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RtspUrl {
    url: String,
    host: String,
    port: u16,
}

impl RtspUrl {
    /// # Errors
    /// [`Error::Config`] where it is no RTSP address or carries credentials. The message never repeats
    /// what stands before an `@`.
    pub fn new(url: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::config("camera url", reason);
        let (rest, default_port) = match url.split_once("://") {
            Some(("rtsp", rest)) => (rest, 554),
            Some(("rtsps", rest)) => (rest, 322),
            _ => return Err(refuse("must start with rtsp:// or rtsps://")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(refuse(
                "holds credentials; put `user:password` into a file and name it as \
                 credentials_file",
            ));
        }
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(refuse("holds a space or a control character"));
        }
        let (host, port) = split_port(authority)
            .ok_or_else(|| refuse("has a port that is no number from 1 to 65535"))?;
        if host.is_empty() {
            return Err(refuse("names no host; write rtsp://host[:port]/path"));
        }
        Ok(Self {
            url: url.to_string(),
            host: host.to_string(),
            port: port.unwrap_or(default_port),
        })
    }

    /// The whole address, with its query: for the connection only, never for a text.
    pub fn secret(&self) -> &str {
        &self.url
    }

    /// Host name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 554 (322 for `rtsps`) where none is named.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.url.starts_with("rtsps:")
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`; `None` where the port is none.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    match port {
        None => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
    }
}

impl fmt::Display for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.url))
    }
}

/// An address as it may be shown: without its query, and without its path where that names a secret.
pub fn redacted(address: &str) -> String {
    let shown = address.split(['?', '#']).next().unwrap_or_default();
    let host = shown.find("://").map_or(0, |at| at + 3);
    let path = shown.get(host..).and_then(|rest| rest.find('/')).map(|at| host + at);
    match path.and_then(|at| shown.split_at_checked(at)) {
        Some((before, path)) if names_a_secret(path) => format!("{before}/…"),
        _ => shown.to_owned(),
    }
}

/// Whether a path looks as if it held a password, as the paths of many cheap recorders do:
/// `/user=admin&password=…&channel=1`.
fn names_a_secret(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let keys = ["pass", "pwd", "psw", "secret", "token", "auth", "key"];
    path.contains('=') && keys.iter().any(|key| path.contains(key))
}

impl fmt::Debug for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RtspUrl({self})")
    }
}

impl TryFrom<String> for RtspUrl {
    type Error = Error;
    fn try_from(url: String) -> Result<Self> {
        Self::new(&url)
    }
}

/// Width and height of a frame, 16 to 16384 pixels each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FrameSize {
    width: u32,
    height: u32,
}

impl FrameSize {
    /// # Errors
    /// [`Error::Config`] where a side is below 16 or above 16384.
    pub fn new(width: u32, height: u32) -> Result<Self> {
        let sides = 16..=16384;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(Error::config(
                format!("frame size {width}x{height}"),
                "each side must be 16 to 16384 pixels",
            ));
        }
        Ok(Self { width, height })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Frames a second, 1 to 240.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fps(u32);

impl Fps {
    /// # Errors
    /// [`Error::Config`] where it is 0 or above 240.
    pub fn new(fps: u32) -> Result<Self> {
        if !(1..=240).contains(&fps) {
            return Err(Error::config(format!("fps {fps}"), "must be 1 to 240"));
        }
        Ok(Self(fps))
    }

    /// Frames a second.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A user and a password, never shown.
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// A credentials file is one line; more is another file by mistake.
const CREDENTIALS_BYTES: u64 = 4096;

impl Credentials {
    /// Reads `user:password`; the password may hold colons.
    pub(super) fn read(path: &Path) -> Result<Self, Reason> {
        let fail =
            |problem: String| Reason::Credentials { path: path.display().to_string(), problem };
        let about = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
        if !about.is_file() || about.len() > CREDENTIALS_BYTES {
            return Err(fail("is no small file".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let line = text.trim_end_matches(['\r', '\n']);
        match line.split_once(':') {
            Some((user, password)) if !user.is_empty() && !line.contains('\n') => {
                Ok(Self { user: user.into(), password: password.into() })
            }
            _ => Err(fail("has another form".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (url, host, port) in [
            ("rtsp://camera/stream", "camera", 554),
            ("rtsps://camera", "camera", 322),
            ("rtsp://10.0.0.7:8554/a?b=c", "10.0.0.7", 8554),
            ("rtsp://[fe80::1]:99/x", "fe80::1", 99),
            ("rtsp://[::1]/x", "::1", 554),
        ] {
            let parsed = RtspUrl::new(url).unwrap();
            assert_eq!((parsed.host(), parsed.port()), (host, port), "{url}");
            assert_eq!(parsed.secret(), url);
        }
        for bad in
            ["http://x/", "rtsp://", "rtsp:///x", "rtsp://h:0/", "rtsp://h:99999/", "rtsp://h /"]
        {
            assert!(RtspUrl::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_neither_taken_inline_nor_shown() {
        let error = RtspUrl::new("rtsp://admin:hunter2@camera/1").unwrap_err().to_string();
        assert!(error.contains("credentials_file") && !error.contains("hunter2"), "{error}");
        let url = RtspUrl::new("rtsp://camera/1?user=a&password=hunter2").unwrap();
        assert_eq!(url.to_string(), "rtsp://camera/1");
        assert!(!format!("{url:?}").contains("hunter2"));
        // Many recorders want user and password in the path.
        for path in ["user=admin&password=hunter2&channel=1", "user=a_PWD=hunter2_ch=1.sdp"] {
            let url = RtspUrl::new(&format!("rtsp://camera:554/{path}")).unwrap();
            assert_eq!(url.to_string(), "rtsp://camera:554/…");
        }
        let plain = "rtsp://camera/cam/realmonitor/channel=1/monkey";
        assert_eq!(RtspUrl::new("rtsp://camera/Streaming/101").unwrap().to_string().len(), 27);
        assert_eq!(redacted(plain), "rtsp://camera/…", "rather too much than too little");
    }

    #[test]
    fn a_credentials_file_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "admin:a:b\r\n").unwrap();
        let read = Credentials::read(&path).unwrap();
        assert_eq!((read.user.as_str(), read.password.as_str()), ("admin", "a:b"));
        for wrong in ["", "admin", ":x", "a:b\nc:d\n"] {
            std::fs::write(&path, wrong).unwrap();
            let reason = Credentials::read(&path).err().unwrap();
            assert_eq!(reason.word(), "credentials", "{wrong:?}");
        }
        assert!(Credentials::read(folder.path()).is_err());
        assert!(Credentials::read(&folder.path().join("none")).is_err());
    }

    #[test]
    fn sizes_and_rates_have_bounds() {
        assert!(FrameSize::new(0, 100).is_err() && FrameSize::new(100, 20_000).is_err());
        assert_eq!(FrameSize::new(640, 480).unwrap().to_string(), "640x480");
        assert!(Fps::new(0).is_err() && Fps::new(241).is_err());
    }
}
