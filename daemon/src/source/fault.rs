//! What an error of GStreamer means to a person.

use std::time::Duration;

use gstreamer::{self as gst, glib};

use super::{
    access::refused,
    knock,
    pipeline::Lower,
    reason::Reason,
    spec::{SourceSpec, Transport},
};

/// What an error message holds.
pub(super) struct Failure {
    error: glib::Error,
    /// Where the error was raised and what the element adds.
    detail: String,
    /// Name of the factory of the element that raised it.
    element: String,
}

impl Failure {
    pub(super) fn of(message: &gst::message::Error) -> Self {
        use gst::prelude::*;
        let element = message
            .src()
            .and_then(|source| source.downcast_ref::<gst::Element>())
            .and_then(|element| element.factory())
            .map(|factory| factory.name().to_string())
            .unwrap_or_default();
        let detail = message.debug().map(|text| text.to_string()).unwrap_or_default();
        Self { error: message.error(), detail, element }
    }

    /// What the element adds, without the place in its source code.
    fn note(&self) -> &str {
        self.detail.lines().last().unwrap_or_default()
    }

    /// The RTSP status, which stands in brackets at the end of the note.
    fn status(&self) -> Option<u16> {
        self.note().trim_end_matches(['.', ')']).rsplit('(').next()?.parse().ok()
    }
}

/// What is known of the attempt that failed.
pub(super) struct Attempt {
    /// The transport of an RTSP stream with transport `auto`.
    pub(super) lower: Lower,
    /// How long connecting could take.
    pub(super) waited: Duration,
    /// Whether an RTSP server described a video.
    pub(super) video_offered: bool,
}

/// The reason that an error stands for. May connect to a camera once more to find out; bounded.
pub(super) fn translate(failure: &Failure, spec: &SourceSpec, attempt: &Attempt) -> Reason {
    match spec {
        SourceSpec::Rtsp { url, transport, credentials_file } => {
            if let Some(reason) = by_status(failure, spec.place(), credentials_file.is_some()) {
                return reason;
            }
            if lacks_transport(failure) {
                if !attempt.video_offered {
                    let problem = "the server describes no video stream".to_string();
                    return Reason::NotAVideo { place: spec.place(), problem };
                }
                let udp = *transport == Transport::Udp || attempt.lower == Lower::Udp;
                let asked = if udp { "udp" } else { "tcp" };
                return Reason::Transport { place: spec.place(), asked };
            }
            if failure.element != "rtspsrc" {
                return by_content(failure, spec.place());
            }
            let place = spec.place();
            let note = failure.note();
            match knock::diagnose(url, attempt.waited) {
                Some(reason) => reason,
                None if note.contains("imeout") || note.contains("UDP packets") => {
                    Reason::Timeout { place, after: attempt.waited }
                }
                None if note.contains("Parse error") => {
                    Reason::Garbage { place, problem: note.to_string() }
                }
                None => Reason::Server { place, answer: note.to_string() },
            }
        }
        _ => by_content(failure, spec.place()),
    }
}

fn by_status(failure: &Failure, place: String, with_credentials: bool) -> Option<Reason> {
    let unauthorised = failure.error.matches(gst::ResourceError::NotAuthorized);
    match failure.status() {
        Some(status @ (401 | 403)) => Some(refused(place, status, with_credentials)),
        _ if unauthorised => Some(refused(place, 401, with_credentials)),
        Some(404) => Some(Reason::NotFound { place }),
        _ if failure.error.matches(gst::ResourceError::NotFound) => {
            Some(Reason::NotFound { place })
        }
        Some(status @ 300..=599) if status != 461 => {
            Some(Reason::Server { place, answer: failure.note().to_string() })
        }
        _ => None,
    }
}

/// Whether nothing of what the server describes could be set up. Streams that we do not want were left
/// out before, so the transport is what remains.
fn lacks_transport(failure: &Failure) -> bool {
    failure.status() == Some(461) || failure.error.message().starts_with("No supported stream")
}

/// What is wrong with data, for files and for streams whose connection is fine.
fn by_content(failure: &Failure, place: String) -> Reason {
    let error = &failure.error;
    let problem = match failure.note() {
        "" => error.message().to_string(),
        note => format!("{}: {note}", error.message().trim_end_matches('.')),
    };
    let is = |kind: gst::StreamError| error.matches(kind);
    if is(gst::StreamError::TypeNotFound) || is(gst::StreamError::WrongType) {
        return Reason::NotAVideo { place, problem };
    }
    if is(gst::StreamError::CodecNotFound) || error.matches(gst::CoreError::MissingPlugin) {
        return Reason::Codec { place, codec: problem };
    }
    if error.matches(gst::ResourceError::NotFound)
        || error.matches(gst::ResourceError::OpenRead)
        || error.matches(gst::ResourceError::Busy)
        || error.matches(gst::ResourceError::OpenReadWrite)
    {
        return Reason::Missing { place, problem };
    }
    if error.is::<gst::StreamError>() || error.is::<gst::ResourceError>() {
        return Reason::Broken { place, problem };
    }
    Reason::Internal { place, problem }
}
