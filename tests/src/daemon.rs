//! A running `spotterd run`, what it says as it comes, and what a test asks of it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    program::{self, tiny_bundle},
    rig::{self, Mosquitto, Record, Seen},
};

/// How long a daemon may take to end in order.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What a daemon is told: site `hall`, device `box`, a bundle that means nothing, and a policy by which
/// everybody fits every alert, unless a test says otherwise.
pub struct Plan {
    folder: PathBuf,
    /// Site and device.
    pub names: (&'static str, &'static str),
    /// The lines of `[mqtt]`.
    pub mqtt: String,
    /// The bundle; `None` is the tiny one.
    pub bundle: Option<String>,
    /// The policy of `[decision]`.
    pub policy: &'static str,
    /// More lines of `[storage]`.
    pub storage: String,
    /// The cameras, and whatever else stands in sections of its own.
    pub rest: String,
}

impl Plan {
    /// With files and state in `folder` and the broker at a port of this machine.
    pub fn new(folder: &Path, broker: u16, cameras: &str) -> Self {
        Self {
            folder: folder.to_path_buf(),
            names: ("hall", "box"),
            mqtt: format!("broker = \"mqtt://127.0.0.1:{broker}\""),
            bundle: None,
            policy: "fixed=-1",
            storage: String::new(),
            rest: cameras.to_owned(),
        }
    }

    /// The folder of the daemon's own files.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The configuration's file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("spotterd.toml")
    }

    /// Writes the configuration.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, metrics: u16) {
        let Self { names: (site, device), mqtt, policy, storage, rest, .. } = self;
        let bundle = self.bundle.as_deref().unwrap_or_else(|| tiny_bundle());
        let state = self.state();
        let text = format!(
            "bundle = {bundle:?}\nsite = \"{site}\"\ndevice = \"{device}\"\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n[mqtt]\n{mqtt}\n\
             [decision]\npolicy = \"{policy}\"\n[storage]\nfolder = {state:?}\n{storage}\n{rest}"
        );
        fs::write(self.file(), text).expect("the configuration can be written");
    }

    /// Writes the configuration and starts a daemon on it.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(&self) -> Daemon {
        let metrics = rig::free_port();
        self.write(metrics);
        Daemon::run(Command::new(program::path("spotterd")).arg("run").arg(self.file()), metrics)
    }
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    /// What it says, line by line.
    pub log: Record<String>,
    reader: Option<JoinHandle<()>>,
    metrics: u16,
}

impl Daemon {
    /// Starts a command that becomes `spotterd run`, with metrics at a port of this machine.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(command: &mut Command, metrics: u16) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("spotterd can be started");
        let stream = child.stderr.take().expect("a pipe was asked for");
        let log = Record::new();
        let record = log.clone();
        let reader = std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| record.push(line));
        });
        Self { child, log, reader: Some(reader), metrics }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Port of its metrics.
    pub fn metrics_port(&self) -> u16 {
        self.metrics
    }

    /// The value of a metric, by the beginning of its line.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.try_metrics().ok()?;
        page.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }

    /// All metrics.
    ///
    /// # Panics
    /// Where there are none.
    pub fn metrics(&self) -> String {
        self.try_metrics().unwrap()
    }

    fn try_metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    /// Processor time that the process used so far.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn cpu(&self) -> Duration {
        // Ticks of a hundredth of a second, as every Linux has them for programs.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// Waits until a line of the log holds all these words, and returns it.
    ///
    /// # Panics
    /// Where none comes in time.
    #[track_caller]
    pub fn says(&self, patience: Duration, words: &[&str]) -> String {
        let line = |lines: Vec<String>| {
            lines.into_iter().find(|line| words.iter().all(|word| line.contains(word)))
        };
        match eventually(patience, || line(self.log.all())) {
            Some(line) => line,
            None => panic!("{words:?} not within {patience:?} in:\n{}", self.said()),
        }
    }

    /// Everything it said so far.
    pub fn said(&self) -> String {
        self.log.all().join("\n")
    }

    /// Resident memory of the process, in KiB.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a power cut would, and returns all that it had said.
    ///
    /// # Panics
    /// Where it is not to be ended.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.rest_of_log()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// Where it does not in time.
    #[track_caller]
    pub fn ended(&mut self, patience: Duration) -> ExitStatus {
        within(patience, || self.child.try_wait().unwrap())
    }

    /// Asks it to stop and waits; the exit status and what it had to say.
    ///
    /// # Panics
    /// Where it does not end in time.
    #[track_caller]
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let status = self.ended(STOP_WITHIN);
        (status.code(), self.rest_of_log().join("\n"))
    }

    /// The whole log of a process that has ended.
    ///
    /// # Panics
    /// Where the log cannot be read to its end.
    pub fn rest_of_log(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        self.log.all()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Asks again and again until there is an answer, or patience is over.
#[expect(clippy::disallowed_methods, reason = "a deadline of a real process")]
pub fn eventually<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// Where none comes in time.
#[track_caller]
pub fn within<T>(patience: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match eventually(patience, ask) {
        Some(answer) => answer,
        None => panic!("nothing came within {patience:?}"),
    }
}

/// An alert for everybody that says `text`, as staff write it.
pub fn alert(text: &str, revision: u64) -> Value {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    json!({"schema": 1, "text": text, "revision": revision, "cooldown_s": 0,
        "expires_at": end.to_string()})
}

/// Publishes an alert as staff do.
pub fn arm(broker: &Mosquitto, id: &str, revision: u64) {
    publish(broker, id, &alert("a person", revision).to_string());
}

/// Publishes the desired state of an alert as staff do.
pub fn publish(broker: &Mosquitto, id: &str, payload: &str) {
    broker.publish(&format!("spotter/hall/alerts/{id}"), payload, &["-r"]);
}

/// The newest state of an alert on this device; null where there is none.
pub fn state_of(id: &str, seen: &[Seen]) -> Value {
    last_json(&format!("spotter/hall/box/alerts/{id}"), seen)
}

/// The newest message of a topic as JSON; null where there is none, or one that takes it away.
pub fn last_json(topic: &str, seen: &[Seen]) -> Value {
    let last = seen.iter().rfind(|seen| rig::topic(seen) == topic);
    last.and_then(|seen| serde_json::from_slice(&seen.payload).ok()).unwrap_or(Value::Null)
}

/// Whether the newest state of each of these alerts is `state`.
pub fn are(ids: &[&str], state: &str) -> impl Fn(&[Seen]) -> bool {
    move |seen| ids.iter().all(|id| state_of(id, seen)["state"] == state)
}
