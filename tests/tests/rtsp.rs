//! RTSP as cameras speak it, and as they should not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal as ProcessSignal, kill_process};
use spotter_e2e::{rtsp::ServerProcess, watch::Watched};
use spotterd::{
    clock::Stop,
    source::{Codec, DecoderChoice, RtspUrl, Rules, SourceSpec, Status, Transport},
};

/// Longest wait for anything: a deadline, not a measurement.
const LONG: Duration = Duration::from_secs(20);

const SERVER: &str = env!("CARGO_BIN_EXE_rtsp-server");

/// A folder with short videos, made once for all tests.
static VIDEOS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-threads", "1", "-f", "lavfi", "-i"])
        .args(["testsrc=duration=4:size=320x240:rate=10", "-c:v", "libx264"])
        .args(["-pix_fmt", "yuv420p"])
        .arg(folder.path().join("clip.mp4"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
});

fn clip() -> PathBuf {
    VIDEOS.path().join("clip.mp4")
}

fn server(options: &[&str]) -> ServerProcess {
    let mount = format!("/gate={}", clip().display());
    let arguments = [&["--mount", mount.as_str()], options].concat();
    ServerProcess::start(Path::new(SERVER), &arguments).unwrap()
}

fn rtsp(url: &str, transport: Transport) -> SourceSpec {
    SourceSpec::Rtsp { url: RtspUrl::new(url).unwrap(), transport, credentials_file: None }
}

fn rules() -> Rules {
    Rules { connect: Duration::from_secs(2), ..Rules::default() }
}

fn watch(spec: SourceSpec) -> Watched {
    Watched::start("gate", spec, DecoderChoice::Auto, rules()).unwrap()
}

/// Takes a few frames and looks at their order and pixels.
fn expect_frames(watched: &Watched) {
    let mut last = None;
    for _ in 0..5 {
        let frame = watched.frame(LONG).unwrap();
        assert!(last.is_none_or(|last| (frame.seq, frame.pts) > last));
        last = Some((frame.seq, frame.pts));
        let picture = frame.pixels.scaled(64, 48).unwrap();
        let (dark, bright) = picture
            .data()
            .iter()
            .fold((255, 0), |(dark, bright): (u8, u8), byte| (dark.min(*byte), bright.max(*byte)));
        assert!(bright - dark > 100, "a test picture has contrast");
    }
}

#[test]
fn h264_comes_by_tcp_and_by_udp() {
    let server = server(&[]);
    for transport in [Transport::Tcp, Transport::Udp, Transport::Auto] {
        let watched = watch(rtsp(&server.url("/gate"), transport));
        expect_frames(&watched);
        let status = watched.supervisor.status();
        let Status::Streaming { size, codec, decoder, .. } = &*status else { panic!("{status:?}") };
        assert_eq!((*size, *codec), ((320, 240), Some(Codec::H264)));
        assert_eq!(decoder.as_deref(), Some("avdec_h264"));
        let measured = |status: &Status| matches!(status, Status::Streaming { fps, .. } if (8.0..12.0).contains(fps));
        watched.status(LONG, measured).unwrap();
    }
}

#[test]
fn auto_finds_the_transport_that_a_camera_has() {
    let server = server(&["--udp-only"]);
    let tcp = watch(rtsp(&server.url("/gate"), Transport::Tcp));
    assert_eq!(tcp.down(LONG).unwrap(), "transport");
    let auto = watch(rtsp(&server.url("/gate"), Transport::Auto));
    expect_frames(&auto);
    assert_eq!(auto.supervisor.counts().failures, 1, "TCP was tried first");
}

#[test]
fn h265_and_mjpeg_come_too() {
    for (name, codec) in [("h265", Codec::H265), ("mjpeg", Codec::Mjpeg)] {
        let server = server(&["--codec", name]);
        let watched = watch(rtsp(&server.url("/gate"), Transport::Auto));
        expect_frames(&watched);
        let status = watched.supervisor.status();
        assert!(
            matches!(&*status, Status::Streaming { codec: found, .. } if *found == Some(codec)),
            "{status:?}"
        );
    }
}

#[test]
fn a_password_is_asked_for_and_taken_from_a_file() {
    let server = server(&["--user", "viewer:pass:word"]);
    let url = server.url("/gate");
    assert_eq!(watch(rtsp(&url, Transport::Tcp)).down(LONG).unwrap(), "auth");
    let file = VIDEOS.path().join("secret");
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        watch(SourceSpec::Rtsp {
            url: RtspUrl::new(&url).unwrap(),
            transport: Transport::Tcp,
            credentials_file: Some(file.clone()),
        })
    };
    let wrong = with("viewer:other\n");
    assert_eq!(wrong.down(LONG).unwrap(), "auth");
    let text = format!("{:?}", wrong.supervisor.status());
    assert!(text.contains("credentials file") && !text.contains("other"), "{text}");
    assert_eq!(with("no colon").down(LONG).unwrap(), "credentials");
    expect_frames(&with("viewer:pass:word\n"));
}

#[test]
fn what_is_not_there_says_so() {
    let server = server(&[]);
    let wrong_path = watch(rtsp(&server.url("/nosuch"), Transport::Tcp));
    assert_eq!(wrong_path.down(LONG).unwrap(), "not_found");
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = watch(rtsp(&format!("rtsp://127.0.0.1:{port}/x"), Transport::Auto));
    assert_eq!(closed.down(LONG).unwrap(), "refused");
    let nameless = watch(rtsp("rtsp://nosuch.invalid/x", Transport::Auto));
    assert_eq!(nameless.down(LONG).unwrap(), "unreachable");
}

/// Accepts connections for ever and does with each what `serve` says.
fn listener(serve: fn(std::net::TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

#[test]
fn a_black_hole_and_garbage_are_told_apart() {
    let swallow = |mut stream: std::net::TcpStream| {
        while stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
    };
    let http = |mut stream: std::net::TcpStream| {
        let asked = stream.read(&mut [0; 1024]);
        let said = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        assert!(asked.is_ok() || said.is_err());
    };
    let chatter = |mut stream: std::net::TcpStream| {
        while stream.write_all(b"220 mail.example ESMTP\r\n").is_ok() {
            if stream.read(&mut [0; 1024]).is_ok_and(|count| count == 0) {
                return;
            }
        }
    };
    let closer = |stream: std::net::TcpStream| drop(stream);
    for (name, serve, word) in [
        ("black hole", swallow as fn(std::net::TcpStream), "timeout"),
        ("http", http, "garbage"),
        ("chatter", chatter, "garbage"),
        ("closer", closer, "garbage"),
    ] {
        let url = format!("rtsp://127.0.0.1:{}/x", listener(serve));
        let watched = watch(rtsp(&url, Transport::Auto));
        assert_eq!(watched.down(LONG).unwrap(), word, "{name}");
        if word == "timeout" {
            let text = format!("{:?}", watched.supervisor.status());
            assert!(text.contains("after: 2s"), "the connection's time: {text}");
        }
    }
}

/// Says something that never ends, once it is asked.
fn drone(mut stream: std::net::TcpStream, start: &str, chunk: &[u8], pause: Duration) {
    let pauses = Stop::default();
    let asked = stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0);
    let mut said = stream.write_all(start.as_bytes());
    while asked && said.is_ok() {
        pauses.wait(pause);
        said = stream.write_all(chunk);
    }
}

/// A byte of a header every 50 ms.
fn dribble(stream: std::net::TcpStream) {
    drone(stream, "RTSP/1.0 200 OK\r\nCSeq: 1\r\nX: ", b"a", Duration::from_millis(50));
}

#[test]
fn an_answer_without_end_is_garbage_and_holds_up_nothing() {
    fn header(stream: std::net::TcpStream) {
        let line = format!("X: {}\r\n", "a".repeat(60_000));
        drone(stream, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n", line.as_bytes(), Duration::ZERO);
    }
    fn body(stream: std::net::TcpStream) {
        let head = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 2000000000\r\n\r\n";
        drone(stream, head, &[b'x'; 65536], Duration::ZERO);
    }
    for (serve, part) in [
        (dribble as fn(std::net::TcpStream), "no end after 2 s"),
        (header, "headers exceed"),
        (body, "announces 2000000000"),
    ] {
        let watched =
            watch(rtsp(&format!("rtsp://127.0.0.1:{}/x", listener(serve)), Transport::Auto));
        assert_eq!(watched.down(LONG).unwrap(), "garbage");
        let text = format!("{:?}", watched.supervisor.status());
        assert!(text.contains(part), "{text}");
        let clock = watched.clock.clone();
        let asked = clock.now();
        drop(watched);
        assert!(clock.now().since(asked) < Duration::from_secs(2), "the stop waits for {part}");
    }
}

#[test]
fn a_pipeline_that_does_not_end_is_left_behind_and_the_camera_waits() {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    /// Answers our own question well, and GStreamer's never.
    fn two_faced(mut stream: std::net::TcpStream) {
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        let mut start = [0; 8];
        if stream.peek(&mut start).is_err() || start != *b"DESCRIBE" {
            return dribble(stream);
        }
        let asked = stream.read(&mut [0; 1024]);
        let said = stream.write_all(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 0\r\n\r\n");
        assert!(asked.is_ok() || said.is_err());
    }
    let url = format!("rtsp://127.0.0.1:{}/x", listener(two_faced));
    let short = Duration::from_millis(300);
    let rules = Rules { stall: short, soon: short, ..rules() };
    let spec = rtsp(&url, Transport::Tcp);
    let watched = Watched::start("gate", spec, DecoderChoice::Auto, rules).unwrap();
    assert_eq!(watched.down(LONG).unwrap(), "timeout");
    let full = |status: &Status| matches!(status, Status::Down { reason, .. } if reason.word() == "closing");
    watched.status(LONG, full).unwrap();
    let open = CONNECTIONS.load(Ordering::SeqCst);
    let waits = |status: &Status| matches!(status, Status::Down { attempts, .. } if *attempts >= 4);
    watched.status(LONG, waits).unwrap();
    assert_eq!(CONNECTIONS.load(Ordering::SeqCst), open, "no other is opened");
    let clock = watched.clock.clone();
    let asked = clock.now();
    drop(watched);
    assert!(clock.now().since(asked) < Duration::from_secs(4), "the stop waits for the server");
}

#[test]
fn a_wrong_password_is_sent_once() {
    static SENT: AtomicU64 = AtomicU64::new(0);
    fn refuse(mut stream: std::net::TcpStream) {
        let mut request = [0; 2048];
        while let Ok(count) = stream.read(&mut request)
            && count > 0
        {
            let text = String::from_utf8_lossy(&request[..count]).to_string();
            SENT.fetch_add(u64::from(text.contains("Authorization")), Ordering::SeqCst);
            let sequence = text.lines().find(|line| line.starts_with("CSeq")).unwrap_or("CSeq: 1");
            let challenge = "WWW-Authenticate: Basic realm=\"x\"";
            let reply = format!("RTSP/1.0 401 Unauthorized\r\n{sequence}\r\n{challenge}\r\n\r\n");
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }
    let file = VIDEOS.path().join("wrong");
    std::fs::write(&file, "viewer:wrong\n").unwrap();
    let watched = watch(SourceSpec::Rtsp {
        url: RtspUrl::new(&format!("rtsp://127.0.0.1:{}/x", listener(refuse))).unwrap(),
        transport: Transport::Tcp,
        credentials_file: Some(file),
    });
    assert_eq!(watched.down(LONG).unwrap(), "auth");
    assert_eq!(SENT.load(Ordering::SeqCst), 1);
}

#[test]
fn statuses_of_a_server_are_understood() {
    fn answer(mut stream: std::net::TcpStream, status: &str) {
        let mut request = [0; 2048];
        while let Ok(count) = stream.read(&mut request)
            && count > 0
        {
            let text = String::from_utf8_lossy(&request[..count]).to_string();
            let sequence = text.lines().find(|line| line.starts_with("CSeq")).unwrap_or("CSeq: 1");
            let status = if text.starts_with("OPTIONS") { "200 OK" } else { status };
            let public = "Public: DESCRIBE, SETUP, PLAY";
            let reply = format!("RTSP/1.0 {status}\r\n{sequence}\r\n{public}\r\n\r\n");
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }
    for (serve, word) in [
        ((|stream| answer(stream, "403 Forbidden")) as fn(std::net::TcpStream), "auth"),
        (|stream| answer(stream, "404 Not Found"), "not_found"),
        (|stream| answer(stream, "500 Internal Server Error"), "server"),
        (|stream| answer(stream, "503 Service Unavailable"), "server"),
    ] {
        let url = format!("rtsp://127.0.0.1:{}/x", listener(serve));
        assert_eq!(watch(rtsp(&url, Transport::Auto)).down(LONG).unwrap(), word);
    }
}

#[test]
fn a_server_that_describes_only_sound_is_no_camera() {
    fn sound_only(mut stream: std::net::TcpStream) {
        let mut request = [0; 2048];
        while let Ok(count) = stream.read(&mut request)
            && count > 0
        {
            let text = String::from_utf8_lossy(&request[..count]).to_string();
            let sequence = text.lines().find(|line| line.starts_with("CSeq")).unwrap_or("CSeq: 1");
            let described = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=sound\r\nt=0 0\r\n\
                             m=audio 0 RTP/AVP 0\r\na=control:track1\r\n";
            let reply = if text.starts_with("DESCRIBE") {
                let length = described.len();
                format!(
                    "RTSP/1.0 200 OK\r\n{sequence}\r\nContent-Type: application/sdp\r\n\
                     Content-Length: {length}\r\n\r\n{described}"
                )
            } else {
                format!("RTSP/1.0 200 OK\r\n{sequence}\r\nPublic: DESCRIBE, SETUP, PLAY\r\n\r\n")
            };
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }
    let url = format!("rtsp://127.0.0.1:{}/x", listener(sound_only));
    assert_eq!(watch(rtsp(&url, Transport::Auto)).down(LONG).unwrap(), "not_a_video");
}

#[test]
fn a_decoder_that_cannot_run_is_an_error_and_no_fall_back() {
    let server = server(&[]);
    for name in ["nvv4l2decoder", "avdec_h265"] {
        let spec = rtsp(&server.url("/gate"), Transport::Tcp);
        let choice = DecoderChoice::Named(name.into());
        let watched = Watched::start("gate", spec, choice, rules()).unwrap();
        assert_eq!(watched.down(LONG).unwrap(), "decoder", "{name}");
        assert_eq!(watched.slot.put_total(), 0);
    }
}

#[test]
fn a_size_that_changes_in_the_middle_is_followed() {
    let server = server(&["--switch"]);
    let watched = watch(rtsp(&server.url("/gate"), Transport::Tcp));
    for size in [(320, 240), (640, 360), (320, 240), (640, 360)] {
        let has =
            |status: &Status| matches!(status, Status::Streaming { size: now, .. } if *now == size);
        watched.status(LONG, has).unwrap();
        let frame = watched.frame(LONG).unwrap();
        assert_eq!(frame.pixels.scaled(32, 32).unwrap().width(), 32);
    }
    assert_eq!(watched.supervisor.counts().failures, 0, "no new connection was needed");
}

#[test]
fn another_codec_behind_the_same_address_is_taken() {
    let mut first = server(&[]);
    let port = first.port().to_string();
    let watched = watch(rtsp(&first.url("/gate"), Transport::Auto));
    expect_frames(&watched);
    first.kill();
    let _second = server(&["--codec", "h265", "--port", &port]);
    let h265 = |status: &Status| matches!(status, Status::Streaming { codec, .. } if *codec == Some(Codec::H265));
    watched.status(LONG, h265).unwrap();
    expect_frames(&watched);
}

#[test]
fn a_server_that_freezes_counts_as_stalled_and_comes_back() {
    let server = server(&[]);
    let stall = Duration::from_secs(1);
    let spec = rtsp(&server.url("/gate"), Transport::Tcp);
    let rules = Rules { stall, ..rules() };
    let watched = Watched::start("gate", spec, DecoderChoice::Auto, rules).unwrap();
    expect_frames(&watched);
    let id = Pid::from_raw(server.id() as i32).unwrap();
    kill_process(id, ProcessSignal::STOP).unwrap();
    let word = watched.down(LONG);
    kill_process(id, ProcessSignal::CONT).unwrap();
    assert_eq!(word.unwrap(), "stalled");
    watched.slot.take();
    expect_frames(&watched);
    assert_eq!(watched.supervisor.counts().reconnects, 1);
}

#[test]
fn one_cameras_end_does_not_touch_the_other() {
    let (mut dying, living) = (server(&[]), server(&[]));
    let first = watch(rtsp(&dying.url("/gate"), Transport::Tcp));
    let second = watch(rtsp(&living.url("/gate"), Transport::Tcp));
    expect_frames(&first);
    expect_frames(&second);
    dying.kill();
    first.down(LONG).unwrap();
    let before = second.supervisor.counts();
    expect_frames(&second);
    let after = second.supervisor.counts();
    assert_eq!((after.failures, after.reconnects), (0, 0));
    assert!(after.decoded > before.decoded);
    drop(first);
    expect_frames(&second);
}
