//! Acceptance: an RTSP server is killed and restarted again and again; its camera's frames flow again
//! within 5 s each time, nothing grows, and a second camera loses nothing.
//!
//! `SPOTTER_RECONNECT_FULL=1` runs the whole schedule, 20 times 1 to 20 s, in about 5 minutes;
//! `SPOTTER_RECONNECT_FULL=N` N times 0.3 s, to see what grows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{path::Path, sync::Arc, time::Duration};

use spotter_e2e::{
    census::Census,
    clip::{Clip, Codec},
    rtsp::ServerProcess,
};
use spotterd::{
    clock::{Clock, Mono, Stop, SystemClock},
    frame::{CameraId, Frame},
    source::{
        DecoderChoice, RtspUrl, Rules, Setup, Signal, Slot, SourceSpec, Supervisor, Taker,
        Transport,
    },
};

const SERVER: &str = env!("CARGO_BIN_EXE_rtsp-server");

/// Frames must flow again this soon after the server listens again.
const BACK: Duration = Duration::from_secs(5);

/// How long frames flow between two kills.
const CALM: Duration = Duration::from_millis(700);

/// Memory may differ by this much between two moments of the same state.
const MEMORY_NOISE_KIB: u64 = 2 * 1024;

/// How long the server stays away, each time.
fn schedule() -> Vec<Duration> {
    let seconds: Vec<u64> = match std::env::var("SPOTTER_RECONNECT_FULL").as_deref() {
        Err(_) => vec![1, 2, 1, 3, 1, 2],
        // All of 1 to 20, mixed.
        Ok("1") => (0..20).map(|step| 1 + step * 7 % 20).collect(),
        Ok(kills) => return vec![Duration::from_millis(300); kills.parse().unwrap()],
    };
    seconds.into_iter().map(Duration::from_secs).collect()
}

struct Camera {
    supervisor: Supervisor,
    slot: Arc<Slot<Frame>>,
}

fn camera(
    name: &str,
    server: &ServerProcess,
    clock: &Arc<dyn Clock>,
    signal: &Arc<Signal>,
) -> Camera {
    let slot = Slot::new(signal.clone());
    let supervisor = Supervisor::spawn(Setup {
        camera: CameraId::new(name).unwrap(),
        spec: SourceSpec::Rtsp {
            url: RtspUrl::new(&server.url("/gate")).unwrap(),
            transport: Transport::Auto,
            credentials_file: None,
        },
        decoder: DecoderChoice::Auto,
        rules: Rules::default(),
        clock: clock.clone(),
        stop: Arc::new(Stop::default()),
        taker: Taker::Newest(slot.clone()),
    })
    .unwrap();
    Camera { supervisor, slot }
}

/// Takes the frames of both cameras and keeps what is to be judged.
struct Watch<'a> {
    clock: &'a Arc<dyn Clock>,
    signal: &'a Arc<Signal>,
    flapping: &'a Camera,
    steady: &'a Camera,
    last_flapping: Option<Frame>,
    last_steady: Option<Frame>,
    steady_taken: u64,
}

impl Watch<'_> {
    fn look(&mut self) {
        let seen = self.signal.seen();
        let mut any = false;
        if let Some(frame) = self.flapping.slot.take() {
            if let Some(last) = &self.last_flapping {
                assert!(frame.pts > last.pts && frame.seq > last.seq, "time never goes back");
            }
            self.last_flapping = Some(frame);
            any = true;
        }
        if let Some(frame) = self.steady.slot.take() {
            if let Some(last) = &self.last_steady {
                let frames = (frame.seq - last.seq) as f64;
                let seconds = frame.pts.seconds_since(last.pts);
                let missing = seconds / Clip::interval().as_secs_f64() - frames;
                assert!(missing.abs() < 0.5, "{missing} frames are missing at {:?}", frame.pts);
            }
            self.last_steady = Some(frame);
            self.steady_taken += 1;
            any = true;
        }
        if !any {
            self.signal.wait(seen, Duration::from_millis(50));
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.clock.now() + span;
        while self.clock.now() < end {
            self.look();
        }
    }

    /// Waits for frames of both cameras that were decoded after `moment`; returns how long the
    /// flapping one took.
    fn until_flows(&mut self, moment: Mono, deadline: Duration) -> Duration {
        let fresh = |frame: &Option<Frame>| {
            frame.as_ref().filter(|frame| frame.decoded_at > moment).map(|frame| frame.decoded_at)
        };
        loop {
            self.look();
            if let (Some(at), Some(_)) = (fresh(&self.last_flapping), fresh(&self.last_steady)) {
                return at.since(moment);
            }
            let status = self.flapping.supervisor.status();
            assert!(
                self.clock.now().since(moment) < deadline,
                "no frame in {deadline:?}: {status:?}"
            );
        }
    }
}

#[test]
fn frames_flow_again_within_five_seconds_and_nothing_grows() {
    // As the daemon does.
    spotterd::memory::keep_few_arenas();
    let folder = tempfile::tempdir().unwrap();
    let prepared = folder.path().join("clip.h264");
    let video = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/one-by-one.mp4");
    Clip::load(&video, Codec::H264, &[]).unwrap().save(&prepared).unwrap();
    let mount = format!("/gate={}", prepared.display());
    let start = |port: &str| {
        let arguments = ["--mount", &mount, "--port", port];
        ServerProcess::start(Path::new(SERVER), &arguments).unwrap()
    };
    let (mut killed, spared) = (start("0"), start("0"));
    let port = killed.port().to_string();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let signal = Signal::new();
    let flapping = camera("flapping", &killed, &clock, &signal);
    let steady = camera("steady", &spared, &clock, &signal);
    let mut watch = Watch {
        clock: &clock,
        signal: &signal,
        flapping: &flapping,
        steady: &steady,
        last_flapping: None,
        last_steady: None,
        steady_taken: 0,
    };
    watch.until_flows(Mono::default(), Duration::from_secs(20));
    let mut warm = None;
    let mut longest = Duration::ZERO;
    for (kills, away) in schedule().into_iter().enumerate() {
        watch.run_for(CALM);
        if kills == 1 {
            warm = Some(Census::take().unwrap());
        }
        killed.kill();
        watch.run_for(away);
        killed = start(&port);
        let took = watch.until_flows(clock.now(), BACK);
        longest = longest.max(took);
        println!("away {away:?}, back after {took:?}, {:?}", Census::take().unwrap());
    }
    watch.run_for(CALM);
    let (warm, end) = (warm.unwrap(), Census::take().unwrap());
    println!("longest {longest:?}; {warm:?} became {end:?}");
    assert!(end.threads <= warm.threads, "threads: {warm:?} became {end:?}");
    assert!(end.sockets <= warm.sockets, "sockets: {warm:?} became {end:?}");
    assert!(end.files <= warm.files, "files: {warm:?} became {end:?}");
    assert!(end.memory_kib <= warm.memory_kib + MEMORY_NOISE_KIB, "{warm:?} became {end:?}");
    let kills = schedule().len() as u64;
    assert_eq!(flapping.supervisor.counts().reconnects, kills);
    let counts = steady.supervisor.counts();
    println!("second camera: {counts:?}, taken {}", watch.steady_taken);
    assert_eq!((counts.failures, counts.reconnects), (0, 0));
}
