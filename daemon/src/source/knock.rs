//! Asks an RTSP server for its description before GStreamer's RTSP source does, and after a failure of
//! that source, which says "Could not open resource" for a closed port, a missing name and a dead host
//! alike.
//!
//! That source bounds neither what a server may say nor for how long: one that never ends its answer
//! holds the source's thread and fills the memory for as long as it likes, and a wrong password is
//! sent eight times. So one bounded `DESCRIBE` goes ahead: what does not pass it never sees a pipeline.
//! It costs one connection, closed before the pipeline makes its own. Encrypted connections are only
//! opened: we speak plain text.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::{
    access::{self, refused},
    reason::Reason,
    spec::{Credentials, RtspUrl},
};
use crate::clock::{Clock, Mono, SystemClock};

/// How long each step of a diagnosis may take: the camera was there a moment before.
const DIAGNOSIS: Duration = Duration::from_secs(1);

/// Longest time between two looks at the clock and at requests to stop.
const TICK: Duration = Duration::from_millis(100);

/// Addresses of a name that are tried.
const ADDRESSES: usize = 2;

/// Longest head of an answer.
const HEAD_BYTES: usize = 64 << 10;

/// Longest description. A camera's has some 500 bytes.
const BODY_BYTES: usize = 256 << 10;

/// How patient a knock is.
pub(super) struct Patience<'a> {
    /// The time that `step` is measured in.
    pub(super) clock: &'a dyn Clock,
    /// How long connecting, and each answer from its request to its last byte, may take.
    pub(super) step: Duration,
    /// Whether somebody asked to stop.
    pub(super) stopping: &'a dyn Fn() -> bool,
}

/// Why a knock ended without a description.
pub(super) enum Closed {
    /// Somebody asked to stop.
    Stopped,
    /// The server is not there, is none, or refuses.
    Because(Reason),
}

/// Says why a server that was there a moment before fails, `None` where it answers well. A server that
/// says nothing counts as one that was waited for as long as the failed attempt did. Takes about 4 s at
/// most, and what the system's resolver takes.
pub(super) fn diagnose(url: &RtspUrl, waited: Duration) -> Option<Reason> {
    let clock = SystemClock::new();
    let patience = Patience { clock: &clock, step: DIAGNOSIS, stopping: &|| false };
    match knock(url, None, &patience) {
        Err(Closed::Because(Reason::Timeout { place, .. })) => {
            Some(Reason::Timeout { place, after: waited })
        }
        // Whether the credentials are right was not asked.
        Ok(()) | Err(Closed::Stopped | Closed::Because(Reason::Auth { .. })) => None,
        Err(Closed::Because(reason)) => Some(reason),
    }
}

/// Asks for the description. Sends the credentials once at most.
///
/// # Errors
/// [`Closed`]: there is no point in opening a pipeline.
pub(super) fn knock(
    url: &RtspUrl,
    credentials: Option<&Credentials>,
    patience: &Patience<'_>,
) -> Result<(), Closed> {
    let stream = connect(url, patience.step).map_err(Closed::Because)?;
    if url.is_encrypted() {
        return Ok(());
    }
    let mut talk = Talk { stream, url, patience, asked: 0, heard: Vec::new() };
    let answer = talk.describe(None)?;
    let Some(credentials) = credentials.filter(|_| answer.status == 401) else {
        return answer.verdict(url, credentials.is_some());
    };
    let challenges = answer.headers("www-authenticate");
    let Some(header) = access::authorization(challenges, credentials, url.secret()) else {
        // A scheme that we do not know may be one that GStreamer knows.
        return Ok(());
    };
    match talk.describe(Some(&header)) {
        Ok(answer) => answer.verdict(url, true),
        // Closing after a 401 is allowed: then GStreamer's source connects again.
        Err(Closed::Because(Reason::Garbage { .. })) if talk.heard.is_empty() => Ok(()),
        Err(closed) => Err(closed),
    }
}

fn connect(url: &RtspUrl, step: Duration) -> Result<TcpStream, Reason> {
    let place = || url.to_string();
    let unreachable = |problem: String| Reason::Unreachable { place: place(), problem };
    let addresses = (url.host(), url.port())
        .to_socket_addrs()
        .map_err(|error| unreachable(format!("host name: {error}")))?;
    let mut last = unreachable("the host name has no address".into());
    for address in addresses.take(ADDRESSES) {
        match TcpStream::connect_timeout(&address, step) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                last = match error.kind() {
                    ErrorKind::ConnectionRefused => Reason::Refused { place: place() },
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                        Reason::Timeout { place: place(), after: step }
                    }
                    _ => unreachable(error.to_string()),
                };
            }
        }
    }
    Err(last)
}

/// One connection.
struct Talk<'a> {
    stream: TcpStream,
    url: &'a RtspUrl,
    patience: &'a Patience<'a>,
    /// Requests so far.
    asked: u32,
    /// Bytes of the answer that is being read.
    heard: Vec<u8>,
}

impl Talk<'_> {
    /// Asks for the description and reads the answer to its end.
    fn describe(&mut self, authorization: Option<&str>) -> Result<Answer, Closed> {
        self.asked += 1;
        self.heard.clear();
        let authorization =
            authorization.map(|header| format!("Authorization: {header}\r\n")).unwrap_or_default();
        let request = format!(
            "DESCRIBE {} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: spotterd\r\n\
             Accept: application/sdp\r\n{authorization}\r\n",
            self.url.secret(),
            self.asked
        );
        let begun = self.patience.clock.now();
        self.stream
            .set_read_timeout(Some(TICK))
            .and_then(|()| self.stream.set_write_timeout(Some(self.patience.step)))
            .and_then(|()| self.stream.write_all(request.as_bytes()))
            .map_err(|error| self.garbage(format!("it closes the connection: {error}")))?;
        let head = self.read_head(begun)?;
        let answer = Answer::parse(self.heard.get(..head).unwrap_or_default())
            .ok_or_else(|| self.garbage(format!("it says {:?}", opening(&self.heard))))?;
        let body = match answer.headers("content-length").next() {
            None => 0,
            Some(length) => match length.parse::<usize>() {
                Ok(length) if length <= BODY_BYTES => length,
                _ => return Err(self.garbage(format!("it announces {length} bytes of answer"))),
            },
        };
        while self.heard.len() < head + body {
            self.read_more(begun)?;
        }
        Ok(answer)
    }

    /// Reads up to the empty line behind the headers and returns where that ends.
    fn read_head(&mut self, begun: Mono) -> Result<usize, Closed> {
        loop {
            self.read_more(begun)?;
            let known = self.heard.len().min(5);
            if self.heard.get(..known) != b"RTSP/".get(..known) {
                return Err(self.garbage(format!("it says {:?}", opening(&self.heard))));
            }
            if let Some(end) = end_of_head(&self.heard) {
                return Ok(end);
            }
            if self.heard.len() > HEAD_BYTES {
                return Err(self.garbage(format!("its headers exceed {HEAD_BYTES} bytes")));
            }
        }
    }

    /// Reads what there is, at least one byte.
    fn read_more(&mut self, begun: Mono) -> Result<(), Closed> {
        let mut bytes = [0; 4096];
        loop {
            let after = self.patience.step;
            if (self.patience.stopping)() {
                return Err(Closed::Stopped);
            }
            if self.patience.clock.now().since(begun) >= after {
                return Err(if self.heard.is_empty() {
                    Closed::Because(Reason::Timeout { place: self.url.to_string(), after })
                } else {
                    self.garbage(format!("its answer has no end after {} s", after.as_secs_f32()))
                });
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(self.garbage("it closes the connection".into())),
                Ok(count) => {
                    self.heard.extend(bytes.iter().take(count));
                    return Ok(());
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(self.garbage(format!("it breaks off: {error}"))),
            }
        }
    }

    fn garbage(&self, problem: String) -> Closed {
        Closed::Because(Reason::Garbage { place: self.url.to_string(), problem })
    }
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        // A camera that takes few connections should see at once that this one is over; one that is
        // gone already is no news.
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Where the headers end, with or without carriage returns.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let after = |mark: &[u8]| {
        bytes.windows(mark.len()).position(|window| window == mark).map(|at| at + mark.len())
    };
    match (after(b"\r\n\r\n"), after(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The head of an answer.
struct Answer {
    status: u16,
    /// Status and the server's words for it.
    words: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Answer {
    /// `None` where it is no RTSP.
    fn parse(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let (version, words) = lines.next()?.split_once(' ')?;
        let status = words.split_whitespace().next()?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_string()))
            .collect();
        let words = opening(words.as_bytes());
        version.starts_with("RTSP/").then_some(Self { status, words, headers })
    }

    fn headers(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn verdict(&self, url: &RtspUrl, with_credentials: bool) -> Result<(), Closed> {
        let place = url.to_string();
        Err(Closed::Because(match self.status {
            // Where a redirection leads is for GStreamer's source to find out.
            ..=399 => return Ok(()),
            status @ (401 | 403) => refused(place, status, with_credentials),
            404 => Reason::NotFound { place },
            _ => Reason::Server { place, answer: self.words.clone() },
        }))
    }
}

/// The first printable characters of an answer, for a log line.
fn opening(answer: &[u8]) -> String {
    let line = answer.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    line.iter()
        .take(40)
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' })
        .collect()
}
