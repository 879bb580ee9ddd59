//! A box that stands alone: the demo, the embedded broker, staff on the box, metrics and page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use spotter_e2e::program::{self, Run, data, spotterd, tiny_bundle};

/// How long a test waits for what must come.
const WITHIN: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a deadline of a real process")]
fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < WITHIN, "{what} does not come within {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A running `spotterd` and what it prints, line by line.
struct Process {
    child: Child,
    out: mpsc::Receiver<String>,
    err: mpsc::Receiver<String>,
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

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(program::path("spotterd"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// The next line of standard output that fits, and those before it.
    #[track_caller]
    fn line(&self, fits: impl Fn(&str) -> bool) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let Ok(line) = self.out.recv_timeout(WITHIN) else {
                let said: Vec<String> = self.err.try_iter().collect();
                panic!("the line does not come; it said {before:#?} and {said:#?}");
            };
            if fits(&line) {
                return (line, before);
            }
            before.push(line);
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: the exit status and what it had to say.
    fn end(mut self) -> (Option<i32>, String) {
        let status = within("the end", || self.child.try_wait().unwrap());
        let said: Vec<String> = self.out.iter().chain(self.err.iter()).collect();
        (status.code(), said.join("\n"))
    }
}

/// Ends at once what a failed test leaves behind.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer as it came.
fn ask(address: &str, request: &str, headers: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// What stands behind a name in the demo's introduction.
#[track_caller]
fn told(lines: &[String], name: &str) -> String {
    let line = lines.iter().find_map(|line| line.trim_start().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {lines:#?}")).trim().to_owned()
}

fn street() -> String {
    data("scenes/street-a.mp4").display().to_string()
}

#[track_caller]
fn refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{}{}", run.out, run.err);
    for word in words {
        assert!(run.err.contains(word), "{word:?} is not in: {}", run.err);
    }
    assert!(!run.err.contains("panicked"), "{}", run.err);
}

/// The metrics of the reference: names and types.
fn documented() -> BTreeMap<String, String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/ref/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `spotter_"));
    rows.map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().trim_end_matches('`').to_owned());
        (format!("spotter_{}", cells.next().unwrap()), cells.next().unwrap())
    })
    .collect()
}

/// Every metric that a running daemon exports is in the reference, with its type, and the page has
/// the main ones.
#[track_caller]
fn check_metrics(page: &str) {
    let documented = documented();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exported: BTreeMap<&str, &str> = types.map(|line| line.split_once(' ').unwrap()).collect();
    for (name, kind) in &exported {
        assert_eq!(documented.get(*name).map(String::as_str), Some(*kind), "{name}");
        assert!(page.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
    for name in [
        "spotter_mqtt_connected",
        "spotter_outbox_done_total",
        "spotter_stage_seconds",
        "spotter_source_streaming",
    ] {
        assert!(exported.contains_key(name), "{name} is not in {exported:?}");
    }
}

/// Demos take the usual ports where those are free: one after the other, or two would take the same.
static ONE_DEMO: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The demo's model, which a checkout has below its folder.
const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");

/// The promise of the README: `make demo` arms two alerts on a looped clip, prints sightings with
/// pictures, and names a page that opens.
#[test]
fn the_demo_finds_persons_with_pictures_and_a_page_and_ends_by_a_signal() {
    let _one = ONE_DEMO.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let out = out.to_str().unwrap();
    let pack = PACK;
    let demo = Process::start(&["demo", "--video", &street(), "--pack", pack, "--out", out]);
    let (_, before) = demo.line(|line| line.starts_with("Watching"));
    for alert in ["grey-coat", "yellow-jacket"] {
        let start = format!("Alert {alert}: ");
        let line = before.iter().find(|line| line.starts_with(&start)).unwrap();
        assert!(line.ends_with(": armed"), "{line}");
    }
    // A second one does not take the folder away from it.
    let second = spotterd(&["demo", "--video", &street(), "--pack", pack, "--out", out]);
    refused(&second, 2, &["a demo is running in this folder"]);
    let (line, _) = demo.line(|line| line.contains("SEEN"));
    let picture = line.rsplit("  ").next().unwrap();
    assert!(Path::new(picture).starts_with(out) && line.contains(" at recording "), "{line}");
    image::load_from_memory(&fs::read(picture).unwrap()).unwrap();

    let link = told(&before, "page");
    let (address, token) =
        link.strip_prefix("http://").and_then(|rest| rest.split_once("/login#")).unwrap();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let page = ask(address, "GET /", &bearer, "").unwrap();
    assert!(page.contains("yellow-jacket") && page.contains("/sightings/"), "{page}");
    let login = ask(address, "POST /login", "", &format!("token={token}")).unwrap();
    assert!(login.starts_with("HTTP/1.1 303"), "{login}");
    assert_eq!(before.iter().filter(|line| line.contains(token)).count(), 1, "{before:#?}");

    let metrics = told(&before, "metrics");
    let metrics = metrics.strip_prefix("http://").and_then(|m| m.strip_suffix("/metrics")).unwrap();
    check_metrics(&ask(metrics, "GET /metrics", "", "").unwrap());

    // On a box nothing needs to be typed but the configuration's name.
    let config = told(&before, "configuration");
    let list = spotterd(&["alert", "list", "--config", &config]);
    assert_eq!(list.code, 0, "{}", list.err);
    assert_eq!(list.out.matches("armed 1/1").count(), 2, "{}", list.out);
    let watch = Process::start(&["alert", "watch", "--config", &config]);
    watch.line(|line| line.contains("grey-coat") || line.contains("yellow-jacket"));
    watch.signal(Signal::INT);
    assert_eq!(watch.end().0, Some(0));

    demo.signal(Signal::INT);
    let (code, said) = demo.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Stopped.") && !said.contains("ERROR"), "{said}");
    assert!(!said.contains(token), "the token is in the log: {said}");
}

#[test]
fn the_demo_ends_by_itself_and_its_status_says_whether_somebody_was_found() {
    let _one = ONE_DEMO.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let nobody = path("nobody.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "color=gray:size=640x360:rate=15:duration=2"])
        .args(["-pix_fmt", "yuv420p", &nobody])
        .status();
    assert!(made.unwrap().success());
    let out = path("demo");
    let arguments = ["demo", "--video", &nobody, "--pack", PACK, "--out", &out, "--seconds", "3"];
    let run = spotterd(&arguments);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("Nobody was found"), "{}", run.out);
    // The folder of an earlier demo is used again, and somebody is found this time.
    let street = street();
    let arguments = ["demo", "--video", &street, "--pack", PACK, "--out", &out, "--seconds", "35"];
    let run = spotterd(&arguments);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("SEEN") && run.err.is_empty(), "{}{}", run.out, run.err);
}

#[test]
fn a_demo_that_is_typed_wrong_is_refused_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    refused(
        &spotterd(&["demo", "--out", &out, "--video", "/nowhere/x.mp4"]),
        2,
        &["/nowhere/x.mp4"],
    );
    refused(&spotterd(&["demo", "--out", &out]), 2, &["checkout", "--video FILE"]);
    refused(&spotterd(&["demo", "--out", &out, "--seconds", "0"]), 2, &["--seconds"]);
    let video = street();
    refused(&spotterd(&["demo", "--out", &out, "--video", &video]), 2, &["checkout", "--pack"]);
    refused(
        &spotterd(&["demo", "--out", &out, "--video", &video, "--bundle", "/nowhere/b"]),
        3,
        &["/nowhere/b"],
    );
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("state"), "not a demo's").unwrap();
    let wrong = other.path().display().to_string();
    refused(&spotterd(&["demo", "--out", &wrong, "--video", &video]), 2, &["something else"]);
    assert_eq!(fs::read_to_string(other.path().join("state")).unwrap(), "not a demo's");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
}

/// `spotterd run` with its own broker.
struct Alone {
    folder: tempfile::TempDir,
    broker: u16,
    metrics: u16,
}

impl Alone {
    fn new() -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listeners = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (broker, metrics) = (port(&listeners.0), port(&listeners.1));
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "bundle = {:?}\nsite = \"hut\"\ndevice = \"box\"\n\
             [mqtt]\nembedded_port = {broker}\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
             [decision]\npolicy = \"fixed=0.3\"\n[storage]\nfolder = {:?}\n\
             [[camera]]\nid = \"test\"\nurl = \"test:ball\"\n",
            tiny_bundle(),
            folder.path().join("state"),
        );
        fs::write(folder.path().join("spotterd.toml"), text).unwrap();
        Self { folder, broker, metrics }
    }

    fn config(&self) -> String {
        self.folder.path().join("spotterd.toml").display().to_string()
    }

    fn run(&self) -> Process {
        Process::start(&["run", &self.config()])
    }

    fn alert(&self, arguments: &[&str]) -> Run {
        let config = self.config();
        let all: Vec<&str> =
            ["alert"].iter().chain(arguments).chain(&["--config", &config]).copied().collect();
        spotterd(&all)
    }

    /// Waits until staff see the alert armed on one of one devices.
    #[track_caller]
    fn until_armed(&self, id: &str) {
        within("an armed alert", || {
            let list = self.alert(&["list"]);
            list.out
                .lines()
                .any(|line| line.starts_with(id) && line.contains("armed 1/1"))
                .then_some(())
        });
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let page = ask(&format!("127.0.0.1:{}", self.metrics), "GET /metrics", "", "")?;
        page.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }

    /// A client of MQTT 5 whose id the broker's library refuses.
    fn strange_client(&self) {
        let id = b"a/b+#";
        let mut packet = vec![0x10, 0, 0, 4];
        packet.extend_from_slice(b"MQTT\x05\x02\x00\x3c\x00");
        packet.extend_from_slice(&[0, id.len() as u8]);
        packet.extend_from_slice(id);
        packet[1] = (packet.len() - 2) as u8;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.broker)).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream.write_all(&packet).unwrap();
        // It is turned away; how, does not matter.
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// What the library does not survive ends its process only: the daemon goes on, and what it holds
/// is at the new broker soon.
#[test]
fn no_client_ends_the_daemon_and_alerts_come_back_to_a_broker_that_lost_them() {
    let alone = Alone::new();
    let mut daemon = alone.run();
    within("the link", || alone.metric("spotter_mqtt_connected").filter(|up| *up > 0.0));
    let added = alone.alert(&["add", "woman in a red coat", "--id", "red"]);
    assert_eq!(added.code, 0, "{}{}", added.out, added.err);
    let removed = alone.alert(&["add", "boy in a yellow raincoat", "--id", "found"]);
    assert_eq!(removed.code, 0, "{}{}", removed.out, removed.err);
    assert_eq!(alone.alert(&["remove", "found"]).code, 0);
    within("the end of the broker", || {
        // The second one with such an id is what the library does not survive.
        if alone.metric("spotter_broker_restarts_total").is_some() {
            return Some(());
        }
        alone.strange_client();
        None
    });
    alone.until_armed("red");
    assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended");
    let list = alone.alert(&["list"]);
    assert!(!list.out.contains("found"), "what was withdrawn came back: {}", list.out);

    daemon.signal(Signal::KILL);
    assert_eq!(daemon.end().0, None);
    let daemon = alone.run();
    alone.until_armed("red");
    daemon.signal(Signal::TERM);
    let (code, said) = daemon.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Stopped.") && said.contains("got its alerts back"), "{said}");
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, alone.broker)).is_ok(), "a broker is left");
}

/// The process of a daemon's embedded broker.
fn broker_of(daemon: u32) -> Pid {
    let is_child = |pid: &i32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let status = read("status").unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| parent.trim() == daemon.to_string())
            && read("cmdline").is_ok_and(|line| line.starts_with("spotterd\0broker\0"))
    };
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    Pid::from_raw(processes.into_iter().find(is_child).expect("a broker")).unwrap()
}

/// A broker that does not answer any more is no better than one that ended.
#[test]
fn a_broker_that_hangs_is_started_again() {
    let alone = Alone::new();
    let daemon = alone.run();
    let is_up = || alone.metric("spotter_mqtt_connected").filter(|up| *up > 0.0);
    within("the link", is_up);
    kill_process(broker_of(daemon.child.id()), Signal::STOP).unwrap();
    // The link asks every 20 s whether the broker is there, and gives it time to answer.
    within("a link that is down", || match is_up() {
        Some(_) => None,
        None => Some(()),
    });
    within("another broker", || alone.metric("spotter_broker_restarts_total"));
    within("the link again", is_up);
    assert_eq!(alone.metric("spotter_mqtt_connects_total"), Some(2.0));
    daemon.signal(Signal::TERM);
    let (code, said) = daemon.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn staff_without_a_site_or_with_two_brokers_are_told_what_to_type() {
    let alone = Alone::new();
    let both = alone.alert(&["list", "--broker", "mqtt://localhost"]);
    refused(&both, 2, &["--broker", "--config"]);
    refused(&spotterd(&["alert", "list", "--config", "/nowhere.toml"]), 3, &["/nowhere.toml"]);
    if !Path::new("/etc/spotter/spotterd.toml").exists() {
        refused(&spotterd(&["alert", "list"]), 2, &["--site", "--config"]);
    }
    // Nobody listens there: the address is the configuration's.
    refused(&alone.alert(&["list"]), 3, &[&format!("127.0.0.1:{}", alone.broker)]);
}
