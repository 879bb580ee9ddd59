//! The unit as systemd reads and runs it, and the watchdog over the real pipeline.
//!
//! systemd itself does not run here: a socket stands for it, and the unit's own lines are what is
//! started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    collections::VecDeque,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::SmallRng};
use rustix::process::{Pid, Signal as Kill, kill_process};
use spotter_e2e::program::{self, tiny_bundle};
use spotter_models::{
    Rgb,
    bundle::Bundle,
    session::{Precision, Runtime, SessionOptions},
};
use spotterd::{
    clock::{Clock, ManualClock, Mono, Stop},
    detect::{Detector, Found, Layout},
    embed::{Embedder, Handover},
    engine::Engine,
    erase::in_view,
    frame::{CameraId, Frame, Pixels, Pts},
    health::{Hearts, STALLED_AFTER},
    notify::{Notifier, Watchdog},
    pipeline::{Embedding, Lane, Pipeline},
    portraits::Portraits,
    score::Matcher,
    sighting::{Ledger, Limits},
    source::{Signal, Slot},
};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the unit expects the program and the configuration.
const INSTALLED: &str = "/usr/bin/spotterd";
const CONFIGURATION: &str = "/etc/spotter/spotterd.toml";

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name)
}

fn unit() -> String {
    fs::read_to_string(shipped("spotterd.service")).unwrap()
}

/// The values of a key of the unit, in their order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    unit.lines().filter_map(value).collect()
}

/// Asks again and again until the answer is yes.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a deadline of real threads")]
fn until(mut ask: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ask() {
        assert!(start.elapsed() < PATIENCE, "nothing came within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What systemd finds wrong. Not whether the manual's pages that the unit names are installed.
fn verify(unit: &Path) -> Output {
    let verify = ["verify", "--man=no"];
    Command::new("systemd-analyze").args(verify).arg(unit).output().unwrap()
}

#[test]
fn systemd_has_nothing_to_say_against_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("spotterd.service");
    let built = program::path("spotterd").display().to_string();
    fs::write(&copy, unit().replace(INSTALLED, &built)).unwrap();
    let run = verify(&copy);
    let said = String::from_utf8_lossy(&run.stderr);
    // It also reads units of this machine that ours refers to; what it says of those is not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("spotterd")).collect();
    assert!(ours.is_empty(), "{said}");
    assert!(run.status.success(), "{said}");

    // The verifier can fail: else the silence above would mean nothing.
    let wrong = unit().replace(INSTALLED, &built).replace("Type=notify", "Typo=notify");
    fs::write(&copy, wrong).unwrap();
    let run = verify(&copy);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("Typo"), "{said}");
}

#[test]
fn systemd_has_nothing_to_say_against_the_nights_units() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = program::path("spotter-trainer").display().to_string();
    let service = fs::read_to_string(shipped("spotter-adapt.service")).unwrap();
    let copy = folder.path().join("spotter-adapt.service");
    fs::write(&copy, service.replace("/usr/bin/spotter-trainer", &trainer)).unwrap();
    fs::copy(shipped("spotter-adapt.timer"), folder.path().join("spotter-adapt.timer")).unwrap();
    for unit in ["spotter-adapt.service", "spotter-adapt.timer"] {
        let run = verify(&folder.path().join(unit));
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && !said.contains("spotter-adapt"), "{said}");
    }
    // The user that the unit names is made, and the daemon reads what it leaves.
    let users = fs::read_to_string(shipped("spotter.sysusers")).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = users.lines().map(words).collect();
    assert!(lines.iter().any(|line| line.starts_with(&["u".into(), "spotter-adapt".into()])));
    assert_eq!(values(&service, "User"), ["spotter-adapt"]);
    assert_eq!(values(&service, "SupplementaryGroups"), ["spotter"]);
    assert!(values(&unit(), "SupplementaryGroups").contains(&"spotter-adapt".to_owned()));
}

#[test]
fn the_user_and_the_folders_are_what_the_unit_names() {
    let unit = unit();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let at_root = format!("--root={}", root.path().display());
    let run = |tool: &str, arguments: &[&str], file| {
        let run = Command::new(tool).args(arguments).arg(&at_root).arg(shipped(file)).output();
        let run = run.unwrap();
        (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    let (code, said) = run("systemd-sysusers", &[], "spotter.sysusers");
    assert_eq!(code, Some(0), "{said}");
    // 65: a line is wrong. Whoever runs this as another than root cannot give folders away (73).
    let (code, said) = run("systemd-tmpfiles", &["--create"], "spotter.tmpfiles");
    assert!(matches!(code, Some(0 | 73)), "{code:?}: {said}");
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let [user] = &values(&unit, "User")[..] else { panic!("the unit names no user: {unit}") };
    assert!(users.lines().any(|line| line.starts_with(&format!("{user}:"))), "{users}");
    for folder in ["etc/spotter", "var/lib/spotter/bundles"] {
        assert!(root.path().join(folder).is_dir(), "{folder}");
    }
}

#[test]
fn the_unit_reloads_by_a_check_that_refuses_a_faulty_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("spotterd.toml");
    let [check, hup] = &values(&unit(), "ExecReload")[..] else { panic!("two lines are expected") };
    assert_eq!(hup, "/bin/kill -HUP $MAINPID");
    for (text, sound) in [
        ("bundle = \"b\"\n[[camera]]\nid = \"a\"\nurl = \"test:ball\"\n", true),
        ("bundle = \"b\"\n[[camera]]\nid = \"a\"\nulr = \"test:ball\"\n", false),
    ] {
        fs::write(&config, text).unwrap();
        let run = command(check, &config).output().unwrap();
        assert_eq!(run.status.success(), sound, "{}", String::from_utf8_lossy(&run.stderr));
    }
}

/// A line of the unit with the built program and another configuration.
fn command(line: &str, config: &Path) -> Command {
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some(INSTALLED), "{line}");
    let mut command = Command::new(program::path("spotterd"));
    let mut configured = false;
    for word in words {
        if word == CONFIGURATION {
            configured = true;
            command.arg(config);
        } else {
            command.arg(word);
        }
    }
    assert!(configured, "{CONFIGURATION} is not in {line}");
    command
}

/// Stands for systemd: holds the socket and what came through it.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, told: Vec::new() }
    }

    /// Reads messages until one has this line; the lines of all before are kept too.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        let mut message = [0; 4096];
        loop {
            let length = self
                .socket
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("{wanted} did not come: {error}; {:?}", self.told));
            let text = std::str::from_utf8(&message[..length]).unwrap();
            self.told.extend(text.lines().map(str::to_owned));
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
    }

    fn place(&self, line: &str) -> Option<usize> {
        self.told.iter().position(|told| told.starts_with(line))
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_units_exec_start_says_ready_how_it_goes_alive_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("spotterd.toml");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let text = format!(
        "bundle = {:?}\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
         [mqtt]\nembedded_port = {port}\n[decision]\npolicy = \"fixed=0.3\"\n[storage]\nfolder = {:?}\n\
         [[camera]]\nid = \"test\"\nurl = \"test:ball\"\n",
        tiny_bundle(),
        folder.path().join("state"),
    );
    fs::write(&config, text).unwrap();
    let socket = folder.path().join("notify");
    let mut manager = Manager::bind(&socket);
    let [start] = &values(&unit(), "ExecStart")[..] else { panic!("one line is expected") };
    let child = command(start, &config)
        .env("NOTIFY_SOCKET", &socket)
        // A second, in place of the unit's 30.
        .env("WATCHDOG_USEC", "1000000")
        .env_remove("WATCHDOG_PID")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Running(child);

    manager.wait_for("READY=1");
    let before: Vec<&str> = manager.told.iter().map(String::as_str).collect();
    assert!(before.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")), "{before:?}");
    assert_eq!(manager.place("WATCHDOG=1"), None, "alive before it was ready: {before:?}");
    // Comes with READY where the source was quick.
    let streaming = "STATUS=1 of 1 cameras streaming, 0 alerts armed, broker connected";
    if manager.place(streaming).is_none() {
        manager.wait_for(streaming);
    }
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    kill_process(Pid::from_child(&daemon.0), Kill::TERM).unwrap();
    manager.wait_for("STOPPING=1");
    let mut status = None;
    until(|| {
        status = daemon.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

/// Finds nobody, but only once the test lets it: a frozen accelerator.
struct Frozen {
    entered: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

impl Detector for Frozen {
    fn detect(&mut self, _: &dyn Pixels, _: u32, _: u32) -> spotterd::Result<Found> {
        self.entered.send(()).unwrap();
        // Released, or the test is over.
        let _ = self.release.recv();
        Ok(Found::default())
    }

    fn layout(&self) -> Layout {
        Layout::Yolox
    }

    fn input_size(&self) -> (u32, u32) {
        (32, 32)
    }
}

fn embedding() -> Embedding {
    let bundle = Bundle::open(tiny_bundle().as_ref()).unwrap();
    let engine = Engine {
        runtime: Runtime::load(None).unwrap(),
        options: SessionOptions::default(),
        precision: Precision::F32,
    };
    Embedding {
        embedder: Embedder::open(&engine, &bundle).unwrap(),
        handover: Arc::new(Handover::new(bundle.generation())),
        shadow: Arc::default(),
        unseen: VecDeque::new(),
        matcher: Matcher::new(Arc::default(), Arc::default()),
        ledger: Ledger::new(Limits::default(), SmallRng::seed_from_u64(1)),
        portraits: Portraits::default(),
        history: Arc::default(),
        keeper: None,
        feedback: None,
        erasing: in_view().1,
        armed: Box::new(Arc::default),
        sink: Box::new(|_, _| {}),
    }
}

/// A notifier and how often it said that the daemon is alive.
fn counted() -> (Arc<Notifier>, Arc<Mutex<usize>>) {
    let alive = Arc::new(Mutex::new(0));
    let count = alive.clone();
    let notifier = Notifier::new(move |states| {
        let told = states.iter().filter(|state| state.to_string() == "WATCHDOG=1").count();
        *count.lock().unwrap() += told;
        Ok(())
    });
    (Arc::new(notifier), alive)
}

#[test]
fn a_frozen_detector_stops_the_watchdog_and_an_idle_scene_does_not() {
    let clock = Arc::new(ManualClock::default());
    let shared: Arc<dyn Clock> = clock.clone();
    let (stop, signal) = (Arc::new(Stop::default()), Signal::new());
    let hearts = Arc::new(Hearts::new(shared.clone()));
    let (entered, entries) = mpsc::channel();
    let (go, release) = mpsc::channel();
    let detectors: Vec<Box<dyn Detector>> = vec![Box::new(Frozen { entered, release })];
    let camera = CameraId::new("yard").unwrap();
    let slot: Arc<Slot<Frame>> = Slot::new(signal.clone());
    let lane = Lane::new(camera.clone(), Arc::default(), slot.clone(), 5.0);
    let lanes = vec![Arc::new(lane)];
    let run = (shared, stop.clone(), hearts.as_ref());
    let pipeline = Pipeline::start(lanes, signal, detectors, embedding(), run).unwrap();
    let (notifier, alive) = counted();
    let mut watchdog = Watchdog::new(notifier, hearts.clone());

    // Nobody moves for an hour: the threads still look for work, so they beat.
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1200));
        until(|| hearts.stalled(STALLED_AFTER).is_empty());
        assert!(watchdog.look());
    }
    assert_eq!(*alive.lock().unwrap(), 3);

    let pixels = Box::new(Rgb::new(32, 32, vec![0; 32 * 32 * 3]).unwrap());
    let decoded_at = Mono::default();
    slot.put(Frame {
        camera,
        seq: 0,
        pts: Pts::default(),
        decoded_at,
        width: 32,
        height: 32,
        pixels,
    });
    entries.recv_timeout(PATIENCE).unwrap();
    clock.advance(STALLED_AFTER);
    // The embedder is idle and gets on; who is left is the frozen one, and it stays.
    until(|| hearts.stalled(STALLED_AFTER) == ["analyse-0"]);
    assert!(!watchdog.look());
    assert_eq!(*alive.lock().unwrap(), 3, "told alive while the detector is frozen");

    go.send(()).unwrap();
    until(|| hearts.stalled(STALLED_AFTER).is_empty());
    assert!(watchdog.look());
    assert_eq!(*alive.lock().unwrap(), 4);

    stop.ask();
    pipeline.join();
    clock.advance(STALLED_AFTER * 2);
    assert!(hearts.stalled(STALLED_AFTER).is_empty(), "threads that ended are not stalled");
}
