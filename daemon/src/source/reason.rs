//! Why a source gives no frames: a sentence for the person who must act, a word for machines.

use std::time::Duration;

/// Why there are no frames. `place` is what the source is called in texts: a URL without its query, a
/// file or a device; never a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// RTSP 401 or 403.
    #[error("{place} refuses access (status {status}); {advice}")]
    Auth {
        /// The URL.
        place: String,
        /// 401 or 403.
        status: u16,
        /// What to check; depends on whether credentials were sent.
        advice: &'static str,
    },
    /// The credentials file is missing, unreadable or has another form than `user:password`.
    #[error("credentials file {path}: {problem}; it must hold one line `user:password`")]
    Credentials {
        /// The file.
        path: String,
        /// What is wrong with it, without its content.
        problem: String,
    },
    /// RTSP 404.
    #[error("{place} does not exist on this server (status 404); check the path of the URL")]
    NotFound {
        /// The URL.
        place: String,
    },
    /// A file or device that is not there or may not be opened.
    #[error("{place}: {problem}; check the path and its permissions")]
    Missing {
        /// The file or device.
        place: String,
        /// What the system said.
        problem: String,
    },
    /// Nobody listens on the port.
    #[error("{place} refuses the connection; check that the camera is on and the port is right")]
    Refused {
        /// The URL.
        place: String,
    },
    /// There is no way to the host, or no such name.
    #[error("{place} cannot be reached ({problem}); check the host name, cable and network")]
    Unreachable {
        /// The URL.
        place: String,
        /// What the system said.
        problem: String,
    },
    /// Connected, or not even that, and nothing came.
    #[error("{place} sent nothing for {} s; check that it is the camera and not overloaded", after.as_secs_f32())]
    Timeout {
        /// The source.
        place: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A file or device gave nothing at all.
    #[error("{place} gave no frame for {} s; check that its disk or device answers", after.as_secs_f32())]
    Stuck {
        /// The file or device.
        place: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A recording ended before the length that its container names.
    #[error("{place} breaks off: its data ends at {:.1} s of {:.1} s; copy it again", at.as_secs_f32(), length.as_secs_f32())]
    BrokenOff {
        /// The file.
        place: String,
        /// Where its last data ends.
        at: Duration,
        /// Its length as the container says.
        length: Duration,
    },
    /// Earlier connections do not end, so that no other is opened.
    #[error(
        "{place}: {count} earlier connections do not end; it is tried again when one has ended"
    )]
    Closing {
        /// The source.
        place: String,
        /// How many.
        count: usize,
    },
    /// Frames came, then no more.
    #[error("{place} sent no frame for {} s; it is connected again", after.as_secs_f32())]
    Stalled {
        /// The source.
        place: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Bytes that are no RTSP.
    #[error("{place} does not speak RTSP ({problem}); check host and port")]
    Garbage {
        /// The URL.
        place: String,
        /// How that was noticed.
        problem: String,
    },
    /// The server speaks RTSP and says no, with another status than 401, 403 and 404.
    #[error("{place} answers with an error ({answer}); check the URL and the camera's own log")]
    Server {
        /// The URL.
        place: String,
        /// The server's words.
        answer: String,
    },
    /// The server cannot send in the way that was asked for.
    #[error("{place} does not offer the transport {asked}; choose transport \"auto\"")]
    Transport {
        /// The URL.
        place: String,
        /// `tcp` or `udp`.
        asked: &'static str,
    },
    /// Video in a codec that is not supported.
    #[error("{place} sends {codec}, which is not supported; set it to H.264, H.265 or MJPEG")]
    Codec {
        /// The source.
        place: String,
        /// The codec's name.
        codec: String,
    },
    /// The decoder that was asked for is not there, does not start, or does not fit the stream.
    #[error("decoder {name}: {problem}; see `spotterd probe`, or choose decoder \"auto\"")]
    Decoder {
        /// The element, or the choice.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The data cannot be decoded.
    #[error("{place} cannot be decoded ({problem}); play it with another program to compare")]
    Broken {
        /// The source.
        place: String,
        /// What the library said.
        problem: String,
    },
    /// Something that holds no video.
    #[error("{place} is not a video ({problem}); name a video file or a camera's video stream")]
    NotAVideo {
        /// The source.
        place: String,
        /// What it is, as far as known.
        problem: String,
    },
    /// The stream or file is over.
    #[error("{place} ended the stream")]
    Ended {
        /// The source.
        place: String,
    },
    /// What the stream holds changed so that only a fresh pipeline can go on.
    #[error("{place} changed its stream; it is opened again")]
    Changed {
        /// The source.
        place: String,
    },
    /// A step that can only fail by a bug or a broken installation.
    #[error("{place}: {problem}; reinstall GStreamer (`make setup`) or report this")]
    Internal {
        /// The source.
        place: String,
        /// What the library said.
        problem: String,
    },
}

/// How soon another attempt makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once: nothing is wrong.
    Now,
    /// Soon: the network or the camera may be back any moment.
    Soon,
    /// Rarely: somebody must act, and each attempt may cost something, such as a locked account.
    Rarely,
}

impl Reason {
    /// One word for metrics, MQTT and tests. Words are never renamed.
    pub fn word(&self) -> &'static str {
        match self {
            Reason::Auth { .. } => "auth",
            Reason::Credentials { .. } => "credentials",
            Reason::NotFound { .. } => "not_found",
            Reason::Missing { .. } => "missing",
            Reason::Refused { .. } => "refused",
            Reason::Unreachable { .. } => "unreachable",
            Reason::Timeout { .. } => "timeout",
            Reason::Stuck { .. } => "stuck",
            Reason::BrokenOff { .. } => "broken_off",
            Reason::Closing { .. } => "closing",
            Reason::Stalled { .. } => "stalled",
            Reason::Garbage { .. } => "garbage",
            Reason::Server { .. } => "server",
            Reason::Transport { .. } => "transport",
            Reason::Codec { .. } => "codec",
            Reason::Decoder { .. } => "decoder",
            Reason::Broken { .. } => "broken",
            Reason::NotAVideo { .. } => "not_a_video",
            Reason::Ended { .. } => "ended",
            Reason::Changed { .. } => "changed",
            Reason::Internal { .. } => "internal",
        }
    }

    /// How soon another attempt makes sense.
    ///
    /// Everything that a camera's restart can cause is retried soon, a 404 and a 500 too: a booting
    /// camera and a media server whose publisher is not back yet answer with both.
    pub fn retry(&self) -> Retry {
        match self {
            Reason::Changed { .. } => Retry::Now,
            Reason::Auth { .. }
            | Reason::Credentials { .. }
            | Reason::Codec { .. }
            | Reason::Decoder { .. }
            | Reason::Internal { .. } => Retry::Rarely,
            _ => Retry::Soon,
        }
    }

    /// Whether another transport may help.
    pub fn blames_transport(&self) -> bool {
        matches!(self, Reason::Transport { .. } | Reason::Timeout { .. } | Reason::Stalled { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_account_is_not_provoked_but_a_booting_camera_is_tried_soon() {
        let place = || "rtsp://camera/1".to_string();
        let auth = Reason::Auth { place: place(), status: 401, advice: "name a file" };
        assert_eq!((auth.word(), auth.retry()), ("auth", Retry::Rarely));
        assert_eq!(auth.to_string(), "rtsp://camera/1 refuses access (status 401); name a file");
        assert_eq!(Reason::NotFound { place: place() }.retry(), Retry::Soon);
        assert_eq!(Reason::Refused { place: place() }.retry(), Retry::Soon);
        assert_eq!(Reason::Changed { place: place() }.retry(), Retry::Now);
    }
}
