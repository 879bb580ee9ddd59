//! The daemon against real RTSP servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal as Kill, kill_process};
use spotter_e2e::{
    program::{self, data, tiny_bundle},
    rtsp::ServerProcess,
};
use spotter_models::session::{Runtime, SessionOptions};
use spotterd::{
    clock::{Clock, Stop, SystemClock},
    engine::Engine,
    frame::{CameraId, Frame},
    geometry::BBox,
    metrics::Stopwatch,
    source::{DecoderChoice, RtspUrl, Rules, Setup, Signal, Slot, SourceSpec, Supervisor},
    track::TrackId,
    watch::Watch,
};

fn server(arguments: &[&str]) -> ServerProcess {
    ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_rtsp-server")), arguments).unwrap()
}

/// A running `spotterd run`, its lines on both outputs as they come.
struct Daemon {
    child: Child,
    out: mpsc::Receiver<String>,
    err: mpsc::Receiver<String>,
    metrics: u16,
}

impl Daemon {
    fn start(folder: &Path, cameras: &str, more: &[&str]) -> Self {
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("spotterd.toml");
        let text = format!(
            "bundle = {:?}\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n{cameras}",
            tiny_bundle()
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(program::path("spotterd"))
            .arg("run")
            .arg(&config)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err, metrics }
    }

    /// The value of a metric, by the beginning of its line.
    fn metric(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        page.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }

    /// Asks the daemon to stop and waits; the exit status and what it had to say.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Kill::TERM).unwrap();
        let status = within(Duration::from_secs(20), || self.child.try_wait().unwrap());
        (status.code(), self.err.iter().collect::<Vec<_>>().join("\n"))
    }
}

fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Asks again and again until there is an answer.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a deadline of a real process")]
fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "nothing came within {patience:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_camera_streams_while_others_are_in_trouble_and_the_daemon_stops_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let server = server(&["--mount", &format!("/hall={clip}"), "--user", "guard:s3cr3t-w0rd"]);
    let secret = folder.path().join("secret");
    fs::write(&secret, "guard:s3cr3t-w0rd\n").unwrap();
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "guard:other-w0rd\n").unwrap();
    let camera = |id: &str, url: &str, secret: &Path| {
        format!("[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\ncredentials_file = {secret:?}\n")
    };
    let cameras = [
        camera("hall", &server.url("/hall"), &secret),
        camera("gate", &server.url("/nothing-here"), &secret),
        camera("dock", &server.url("/hall"), &wrong),
        "[[camera]]\nid = \"test\"\nurl = \"test:ball\"\n".into(),
    ];
    let alerts = folder.path().join("alerts.json");
    fs::write(&alerts, r#"["a person"]"#).unwrap();
    let alerts = alerts.display().to_string();
    let daemon = Daemon::start(
        folder.path(),
        &cameras.concat(),
        &["--alerts", &alerts, "--policy", "fixed=-1"],
    );

    let sighting = within(Duration::from_secs(60), || daemon.out.try_recv().ok());
    let sighting: serde_json::Value = serde_json::from_str(&sighting).unwrap();
    assert_eq!(sighting["event"], "new");
    assert_eq!(sighting["camera"], "hall");
    for (name, least) in [
        ("spotter_source_streaming{camera=\"hall\"}", 1.0),
        ("spotter_source_streaming{camera=\"test\"}", 1.0),
        ("spotter_source_failures_total{camera=\"gate\"}", 1.0),
        ("spotter_source_failures_total{camera=\"dock\"}", 1.0),
    ] {
        within(Duration::from_secs(30), || daemon.metric(name).filter(|value| *value >= least));
    }
    assert_eq!(daemon.metric("spotter_source_streaming{camera=\"gate\"}"), Some(0.0));

    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("gate") && log.contains("404"), "{log}");
    assert!(log.contains("dock") && log.contains("401"), "{log}");
    assert!(log.contains("Stopped."), "{log}");
    assert!(!log.contains("w0rd"), "a password is in the log: {log}");
}

#[test]
fn recordings_end_the_run_when_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("short.mp4");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(data("scenes/street-a.mp4"))
        .args(["-t", "4", "-c", "copy"])
        .arg(&clip)
        .status()
        .unwrap();
    assert!(status.success());
    let camera = format!("[[camera]]\nid = \"clip\"\nurl = \"file:{}\"\n", clip.display());
    let mut daemon = Daemon::start(folder.path(), &camera, &[]);
    let status = within(Duration::from_secs(60), || daemon.child.try_wait().unwrap());
    let log = daemon.err.iter().collect::<Vec<_>>().join("\n");
    assert!(status.success(), "{log}");
    assert!(log.contains("Every recording has ended"), "{log}");
}

/// Frame and box of each person, from the labels of the clip (`tests/data/one-by-one.README.md`).
const PERSONS: [(u64, [f32; 4]); 6] = [
    (120, [382.0, 15.0, 520.0, 391.0]),
    (300, [380.0, 6.0, 544.0, 382.0]),
    (580, [390.0, 1.0, 555.0, 385.0]),
    (800, [364.0, 33.0, 510.0, 379.0]),
    (1000, [381.0, 10.0, 519.0, 378.0]),
    (1300, [353.0, 1.0, 531.0, 392.0]),
];

/// Acceptance: each of the six persons who walk through the room becomes a track.
#[test]
fn each_of_six_persons_over_rtsp_becomes_a_track() {
    let clip = data("one-by-one.mp4").display().to_string();
    let server = server(&["--mount", &format!("/room={clip}")]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let signal = Signal::new();
    let slot: Arc<Slot<Frame>> = Slot::new(signal.clone());
    let camera = CameraId::new("room").unwrap();
    let _source = Supervisor::spawn(Setup {
        camera: camera.clone(),
        spec: SourceSpec::Rtsp {
            url: RtspUrl::new(&server.url("/room")).unwrap(),
            transport: spotterd::source::Transport::Tcp,
            credentials_file: None,
        },
        decoder: DecoderChoice::Auto,
        rules: Rules::default(),
        clock: clock.clone(),
        stop: Arc::new(Stop::default()),
        slot: slot.clone(),
    })
    .unwrap();
    let engine =
        Engine { runtime: Runtime::load(None).unwrap(), options: SessionOptions::default() };
    let mut detector = engine.detector("deimv2-femto").unwrap();
    let mut watch = Watch::new(camera, Arc::default());
    let mut stopwatch = Stopwatch::new(clock);
    let mut seen: Vec<(f64, TrackId, BBox)> = Vec::new();
    let (mut first, mut due) = (None, 0.0);
    // 1,394 frames at 10 a second, then the clip begins anew.
    loop {
        let frame = within(Duration::from_secs(30), || {
            let before = signal.seen();
            slot.take().or_else(|| {
                signal.wait(before, Duration::from_millis(200));
                slot.take()
            })
        });
        let pts = frame.pts.0.as_secs_f64();
        let at = pts - *first.get_or_insert(pts);
        if at > 138.0 {
            break;
        }
        if at < due {
            continue;
        }
        due = at + 0.2;
        let found = detector.detect(frame.pixels.as_ref(), frame.width, frame.height).unwrap();
        let step = watch.see(&frame, &found, &mut stopwatch);
        seen.extend(step.persons.iter().map(|person| (at, person.id, person.bbox)));
    }
    let mut tracks = Vec::new();
    for (frame, [x1, y1, x2, y2]) in PERSONS {
        let (at, place) = (frame as f64 / 10.0, BBox::new(x1, y1, x2, y2).unwrap());
        let shown: Vec<TrackId> = seen
            .iter()
            .filter(|(when, _, bbox)| (when - at).abs() < 1.0 && bbox.iou(&place) > 0.4)
            .map(|(_, track, _)| *track)
            .collect();
        assert!(!shown.is_empty(), "nobody was tracked at {at} s where {place:?} is");
        tracks.push(shown[0]);
    }
    let mut different = tracks.clone();
    different.dedup();
    assert_eq!(different.len(), 6, "six persons are not six tracks: {tracks:?}");
    println!("six persons, tracks {tracks:?}");
}
