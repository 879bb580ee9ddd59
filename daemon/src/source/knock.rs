//! Finds out why a connection failed. GStreamer's RTSP source says "Could not open resource" for a
//! closed port, a missing name and a dead host alike, so after such a failure we knock ourselves: one
//! connection and one `OPTIONS`. Never in the good path: a camera may allow few connections.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::{reason::Reason, spec::RtspUrl};

/// How long each step may take: connecting, and the first bytes of an answer.
const STEP: Duration = Duration::from_secs(1);

/// Addresses of a name that are tried.
const ADDRESSES: usize = 2;

/// Says why `url` cannot be opened, `None` where it answers as an RTSP server does. Takes at most about
/// 3 s, and what the system's resolver takes.
pub(super) fn diagnose(url: &RtspUrl) -> Option<Reason> {
    let place = url.to_string();
    let unreachable = |problem: String| Reason::Unreachable { place: place.clone(), problem };
    let addresses: Vec<_> = match (url.host(), url.port()).to_socket_addrs() {
        Ok(addresses) => addresses.take(ADDRESSES).collect(),
        Err(error) => return Some(unreachable(format!("host name: {error}"))),
    };
    let mut last = unreachable("the host name has no address".into());
    for address in addresses {
        match TcpStream::connect_timeout(&address, STEP) {
            // Whether TLS answers well is for the library to say: we only speak plain text.
            Ok(_) if url.is_encrypted() => return None,
            Ok(stream) => return greet(stream, url),
            Err(error) => {
                last = match error.kind() {
                    ErrorKind::ConnectionRefused => Reason::Refused { place: place.clone() },
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                        Reason::Timeout { place: place.clone(), after: STEP }
                    }
                    _ => unreachable(error.to_string()),
                };
            }
        }
    }
    Some(last)
}

/// Asks for the server's options and looks at how the answer begins.
fn greet(mut stream: TcpStream, url: &RtspUrl) -> Option<Reason> {
    let place = url.to_string();
    let garbage = |problem: String| Some(Reason::Garbage { place: place.clone(), problem });
    let request = format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: spotterd\r\n\r\n");
    let asked = stream
        .set_read_timeout(Some(STEP))
        .and_then(|()| stream.set_write_timeout(Some(STEP)))
        .and_then(|()| stream.write_all(request.as_bytes()));
    if let Err(error) = asked {
        return garbage(format!("it closes the connection: {error}"));
    }
    let mut answer = [0; 64];
    match stream.read(&mut answer) {
        Ok(0) => garbage("it closes the connection without an answer".into()),
        Ok(count) => match answer.get(..count) {
            Some(answer) if answer.starts_with(b"RTSP/") || b"RTSP/".starts_with(answer) => None,
            Some(answer) => garbage(format!("it says {:?}", opening(answer))),
            None => None,
        },
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Some(Reason::Timeout { place, after: STEP })
        }
        Err(error) => garbage(format!("it breaks the connection: {error}")),
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
