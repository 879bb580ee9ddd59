//! Supervision of sources that need no server: time is moved by hand where it matters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use spotterd::{
    clock::{Clock, ManualClock, Stop, SystemClock},
    frame::{CameraId, Frame},
    source::{
        DecoderChoice, Pace, RtspUrl, Rules, Setup, Signal, Slot, SourceSpec, Status, Supervisor,
        Taker, Transport,
    },
};

/// Longest wait for anything: a deadline, not a measurement.
const LONG: Duration = Duration::from_secs(20);

struct Source {
    supervisor: Supervisor,
    slot: Arc<Slot<Frame>>,
    signal: Arc<Signal>,
    stop: Arc<Stop>,
}

fn start(spec: SourceSpec, rules: Rules, clock: Arc<dyn Clock>) -> Source {
    let signal = Signal::new();
    let slot = Slot::new(signal.clone());
    let stop = Arc::new(Stop::default());
    let supervisor = Supervisor::spawn(Setup {
        camera: CameraId::new("gate").unwrap(),
        spec,
        decoder: DecoderChoice::Auto,
        rules,
        clock,
        stop: stop.clone(),
        taker: Taker::Newest(slot.clone()),
    })
    .unwrap();
    Source { supervisor, slot, signal, stop }
}

impl Source {
    /// Looks until something is found.
    fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let clock = SystemClock::new();
        loop {
            let seen = self.signal.seen();
            if let Some(found) = look(self) {
                return found;
            }
            assert!(clock.now().0 < LONG, "{:?}", self.supervisor.status());
            self.signal.wait(seen, Duration::from_millis(10));
        }
    }

    fn down(&self) -> (&'static str, u64) {
        self.until(|source| match &*source.supervisor.status() {
            Status::Down { reason, attempts, .. } => Some((reason.word(), *attempts)),
            _ => None,
        })
    }
}

/// What was logged by all tests of this file: sources log from threads of their own.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Collects the log from now on.
fn collect_log() {
    let writer = || LogWriter;
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    // Only this process's first test sets it.
    let _set = tracing::subscriber::set_global_default(subscriber);
}

struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn file(path: PathBuf, pace: Pace, repeat: bool) -> SourceSpec {
    SourceSpec::File { path, pace, repeat }
}

/// A second of video, 10 frames.
fn second_of_video(folder: &Path) -> PathBuf {
    let path = folder.join("second.mp4");
    let made = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-threads", "1", "-f", "lavfi", "-i"])
        .args(["testsrc=duration=1:size=320x240:rate=10", "-c:v", "libx264"])
        .args(["-pix_fmt", "yuv420p"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

#[test]
fn a_file_that_repeats_never_goes_back_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let spec = file(second_of_video(folder.path()), Pace::AsFast, true);
    let source = start(spec, Rules::default(), Arc::new(SystemClock::new()));
    let mut last: Option<Frame> = None;
    while last.as_ref().is_none_or(|last| last.seq < 45) {
        let frame = source.until(|source| source.slot.take());
        if let Some(last) = &last {
            let frames = (frame.seq - last.seq) as f64;
            let seconds = frame.pts.seconds_since(last.pts);
            assert!((seconds - frames * 0.1).abs() < 0.001, "{frames} frames in {seconds} s");
        }
        last = Some(frame);
    }
    assert_eq!(source.supervisor.counts().failures, 0);
}

#[test]
fn a_file_of_one_frame_repeats_once_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.avi");
    let made = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i"])
        .args(["testsrc=duration=1:size=320x240:rate=1", "-frames:v", "1", "-c:v", "mjpeg"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let clock = Arc::new(ManualClock::default());
    let source = start(file(path, Pace::RealTime, true), Rules::default(), clock.clone());
    source.until(|source| source.slot.take());
    // Time stands still: no other frame comes, though a round takes some 20 ms.
    let seen = source.signal.seen();
    assert_eq!(source.signal.wait(seen, Duration::from_millis(500)), seen);
    clock.advance(Duration::from_secs(1));
    source.until(|source| source.slot.take());
}

#[test]
fn a_file_in_real_time_takes_its_time_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let spec = file(second_of_video(folder.path()), Pace::RealTime, false);
    let source = start(spec, Rules::default(), clock.clone());
    let first = source.until(|source| source.slot.take()).decoded_at;
    let mut last = first;
    source.until(|source| {
        if let Some(frame) = source.slot.take() {
            last = frame.decoded_at;
        }
        (*source.supervisor.status() == Status::Ended && !source.slot.is_full()).then_some(())
    });
    assert!(last.since(first) > Duration::from_millis(700), "{:?}", last.since(first));
    assert_eq!(source.supervisor.counts().decoded, 10);
    source.until(|source| source.supervisor.is_finished().then_some(()));
}

#[test]
fn a_file_that_is_played_once_keeps_its_reason_and_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.mp4");
    std::fs::write(&path, "no video\n".repeat(1000)).unwrap();
    let source =
        start(file(path, Pace::RealTime, false), Rules::default(), Arc::new(SystemClock::new()));
    source.until(|source| source.supervisor.is_finished().then_some(()));
    assert_eq!(source.down(), ("not_a_video", 1));
}

#[test]
fn waits_run_on_the_injected_clock_and_a_source_that_comes_back_is_taken() {
    collect_log();
    let folder = tempfile::tempdir().unwrap();
    let video = second_of_video(folder.path());
    let later = folder.path().join("later.mp4");
    let clock = Arc::new(ManualClock::default());
    // With waits of up to an hour only the clock moved by hand can end them in time.
    let hour = Duration::from_secs(3600);
    let rules = Rules { soon: hour, stall: Duration::from_secs(3600 * 24), ..Rules::default() };
    let source = start(file(later.clone(), Pace::AsFast, true), rules, clock.clone());
    for attempt in 1..=16 {
        source.until(|source| (source.down().1 >= attempt).then_some(()));
        assert_eq!(source.down().0, "missing");
        clock.advance(hour);
    }
    std::fs::rename(video, later).unwrap();
    source.until(|source| {
        clock.advance(hour / 100);
        source.slot.take()
    });
    assert!(matches!(*source.supervisor.status(), Status::Streaming { .. }));
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("later.mp4")).collect();
    assert_eq!(lines.len(), 1, "a failure is told once, not at each attempt: {lines:?}");
    assert!(lines[0].contains("reason=\"missing\"") && lines[0].contains("camera=gate"), "{log}");
}

#[test]
fn a_source_that_gives_nothing_is_given_up_after_the_stall_time() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hole.local_addr().unwrap().port();
    let clock = Arc::new(ManualClock::default());
    let spec = SourceSpec::Rtsp {
        url: RtspUrl::new(&format!("rtsp://127.0.0.1:{port}/x")).unwrap(),
        transport: Transport::Tcp,
        credentials_file: None,
    };
    let rules = Rules { connect: Duration::from_secs(600), ..Rules::default() };
    let source = start(spec, rules, clock.clone());
    // The question is asked, so the wait for its answer has begun.
    let (mut connection, _) = hole.accept().unwrap();
    assert!(connection.read(&mut [0; 8]).unwrap() > 0);
    assert_eq!(*source.supervisor.status(), Status::Connecting);
    clock.advance(rules.stall);
    assert_eq!(source.down(), ("timeout", 1));
}

#[test]
fn a_request_to_stop_ends_a_wait_and_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let missing = file(folder.path().join("none.mp4"), Pace::RealTime, true);
    let waiting = start(missing, Rules::default(), clock.clone());
    waiting.down();
    waiting.stop.ask();
    waiting.until(|source| source.supervisor.is_finished().then_some(()));
    let spec = file(second_of_video(folder.path()), Pace::RealTime, true);
    let streaming = start(spec, Rules::default(), Arc::new(SystemClock::new()));
    streaming.until(|source| source.slot.take());
    streaming.supervisor.halt();
    streaming.until(|source| source.supervisor.is_finished().then_some(()));
    assert_eq!(*streaming.supervisor.status(), Status::Ended);
}
