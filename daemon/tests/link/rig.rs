//! A real broker, a proxy that loses what it should, a client that writes down what it sees, and a
//! handler that does what the test says.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rumqttc::{Client, Event, Incoming, MqttOptions, PublishOptions, SessionMode, mqttbytes::QoS};
use spotterd::{
    Error, Result,
    clock::{Clock, Stop, SystemClock},
    mqtt::{Handler, Inbound, Presence, Received},
};

/// How long a test waits for what must come.
pub const WITHIN: Duration = Duration::from_secs(20);

/// Waits until something holds; fails where it does not in [`WITHIN`].
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    let pause = Stop::default();
    while !holds() {
        assert!(clock.now().0 < WITHIN, "not within {WITHIN:?}: {what}");
        pause.wait(Duration::from_millis(2));
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A mosquitto with a folder and a port that stay its own over restarts.
pub struct Mosquitto {
    pub folder: tempfile::TempDir,
    pub port: u16,
    process: Option<Child>,
}

impl Mosquitto {
    /// Open to everybody on loopback.
    pub fn start_open() -> Self {
        let config = "allow_anonymous true\npersistence true\nmax_queued_messages 100000\n\
                      persistence_location FOLDER/\nlistener PORT 127.0.0.1\n";
        Self::start(config, |_| {})
    }

    /// With a configuration in which PORT and FOLDER are replaced.
    pub fn start(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let port = free_port();
        let path = folder.path().to_str().unwrap();
        let config = config.replace("PORT", &port.to_string()).replace("FOLDER", path);
        let end = "\nlog_dest stderr\nuser root\n";
        fs::write(folder.path().join("mosquitto.conf"), config + end).unwrap();
        let mut broker = Self { folder, port, process: None };
        broker.resume();
        broker
    }

    pub fn resume(&mut self) {
        let program = ["/usr/sbin/mosquitto", "mosquitto"];
        let program = program.iter().find(|path| Path::new(path).exists()).unwrap_or(&program[1]);
        let mut process = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is needed");
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        self.process = Some(process);
        let (sender, running) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(|line| line.ok()) {
                let _ = sender.send(line);
            }
        });
        let mut log = String::new();
        loop {
            match running.recv_timeout(WITHIN) {
                Ok(line) if line.contains(" running") => break,
                Ok(line) => log += &(line + "\n"),
                Err(_) => panic!("mosquitto does not start:\n{log}"),
            }
        }
    }

    /// Ends it in order: it keeps sessions and retained messages.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let id = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        process.wait().unwrap();
    }

    /// While it is stopped: takes over what another broker kept, sessions excepted if it had none.
    pub fn remember_like(&self, other: &Mosquitto) {
        let file = "mosquitto.db";
        fs::copy(other.folder.path().join(file), self.folder.path().join(file)).unwrap();
    }

    /// Publishes as staff do, and waits until the broker has it.
    pub fn publish(&self, topic: &str, payload: &str, options: &[&str]) {
        let port = self.port.to_string();
        let mut command = Command::new("mosquitto_pub");
        command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic]);
        match payload {
            "" => command.arg("-n"),
            payload => command.args(["-m", payload]),
        };
        let output = command.args(options).output().expect("mosquitto_pub is needed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Keys and certificates of a site, made for one test.
fn certify(folder: &Path, host: &str) {
    let run = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .expect("openssl is needed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for ca in ["ca", "other-ca"] {
        run(&format!("req -x509 {key} -days 2 -keyout {ca}.key -out {ca}.crt -subj /CN={ca}"));
    }
    for (name, subject) in [("broker", host), ("device", "gate-1")] {
        run(&format!(
            "req -x509 {key} -days 2 -keyout {name}.key -out {name}.crt -subj /CN={subject} -CA ca.crt \
             -CAkey ca.key -addext subjectAltName=DNS:{subject} -addext basicConstraints=CA:FALSE"
        ));
    }
    fs::write(folder.join("login"), "gate-1\nchange-me-1\n").unwrap();
    fs::write(folder.join("wrong-login"), "gate-1\nguess\n").unwrap();
}

/// A mosquitto on the files that are shipped, only folder and port replaced.
pub fn start_shipped(host: &str, change: impl Fn(String) -> String) -> Mosquitto {
    // Also of the end-to-end tests' crate, which lies beside the daemon's.
    let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/mosquitto"));
    let config = fs::read_to_string(shipped.join("mosquitto.conf")).unwrap();
    let config = config
        .replace("listener 8883", "listener PORT")
        .replace("/etc/mosquitto/spotter/", "FOLDER/")
        .replace("/var/lib/mosquitto/", "FOLDER/");
    Mosquitto::start(&change(config), |folder| {
        certify(folder, host);
        fs::copy(shipped.join("acl"), folder.join("acl")).unwrap();
        fs::copy(shipped.join("users.example"), folder.join("users")).unwrap();
        let mut hash = Command::new("mosquitto_passwd");
        assert!(hash.arg("-U").arg(folder.join("users")).status().unwrap().success());
    })
}

/// Stands between the link and its broker.
pub struct Proxy {
    pub port: u16,
    swallow: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (swallow, open) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (lost, kept) = (Arc::clone(&swallow), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().map_while(|client| client.ok()) {
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                for stream in [&client, &broker] {
                    kept.lock().unwrap().push(stream.try_clone().unwrap());
                }
                let (client2, broker2) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                thread::spawn(move || carry(client, broker, &AtomicBool::default()));
                let lost = Arc::clone(&lost);
                thread::spawn(move || carry(broker2, client2, &lost));
            }
        });
        Self { port, swallow, open }
    }

    /// Whether answers of the broker are lost from now on.
    pub fn swallow_answers(&self, swallow: bool) {
        self.swallow.store(swallow, Ordering::SeqCst);
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, lose: &AtomicBool) {
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !lose.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Things that happened, in their order, to be waited for.
pub struct Record<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Record<T> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn push(&self, item: T) {
        self.0.0.lock().unwrap().push(item);
        self.0.1.notify_all();
    }

    pub fn all(&self) -> Vec<T> {
        self.0.0.lock().unwrap().clone()
    }

    /// Everything so far, once that is what is waited for.
    pub fn when(&self, what: &str, holds: impl Fn(&[T]) -> bool) -> Vec<T> {
        let items = self.0.0.lock().unwrap();
        let (items, timeout) =
            self.0.1.wait_timeout_while(items, WITHIN, |items| !holds(items)).unwrap();
        assert!(!timeout.timed_out(), "not within {WITHIN:?}: {what}; {} so far", items.len());
        items.clone()
    }
}

pub type Seen = rumqttc::Publish;

pub fn topic(seen: &Seen) -> &str {
    std::str::from_utf8(&seen.topic).unwrap()
}

pub fn text(seen: &Seen) -> String {
    String::from_utf8_lossy(&seen.payload).into_owned()
}

fn client_id(filter: &str) -> String {
    // The embedded broker takes no id with a character that has a meaning in topics.
    format!("watcher-{}", filter.replace(['/', '+', '#'], "-"))
}

/// Publishes many retained messages, and waits until the broker has them.
pub fn publish_retained(port: u16, messages: impl Iterator<Item = (String, String)>) {
    publish_retained_with(MqttOptions::new("staff", ("127.0.0.1", port)), messages);
}

/// The same as somebody.
pub fn publish_retained_with(
    mut options: MqttOptions,
    messages: impl Iterator<Item = (String, String)>,
) {
    options.set_max_request_batch(64);
    let (client, mut connection) = Client::builder(options).capacity(1000).build();
    let messages: Vec<_> = messages.collect();
    let count = messages.len();
    thread::spawn(move || {
        for (topic, payload) in messages {
            let retained = PublishOptions::at_least_once().retained();
            client.publish(topic, payload, retained).unwrap();
        }
        // The connection is open as long as there is a client.
        Stop::default().wait(WITHIN);
    });
    let acknowledged = connection
        .iter()
        .filter(|event| matches!(event, Ok(Event::Incoming(Incoming::PubAck(_)))))
        .take(count);
    assert_eq!(acknowledged.count(), count);
}

/// A client of its own that keeps its session over a broker's restart.
pub struct Watcher {
    pub seen: Record<Seen>,
    _client: Client,
}

impl Watcher {
    /// Subscribed once this returns.
    pub fn start(port: u16, filter: &str) -> Self {
        let mut options = MqttOptions::new(client_id(filter), ("127.0.0.1", port));
        options.set_session_mode(SessionMode::Persistent);
        options.set_max_packet_size(Some(16 << 20));
        Self::start_with(options, filter)
    }

    pub fn start_with(options: MqttOptions, filter: &str) -> Self {
        let (client, mut connection) = Client::builder(options).build();
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let seen = Record::new();
        let (record, subscribed) = (seen.clone(), Arc::new(AtomicBool::default()));
        let told = Arc::clone(&subscribed);
        thread::spawn(move || {
            let pause = Stop::default();
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::Publish(publish))) => record.push(publish),
                    Ok(Event::Incoming(Incoming::SubAck(_))) => told.store(true, Ordering::SeqCst),
                    Ok(_) => {}
                    Err(_) => drop(pause.wait(Duration::from_millis(20))),
                }
            }
        });
        until("the watcher is subscribed", || subscribed.load(Ordering::SeqCst));
        Self { seen, _client: client }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    Message(Received),
    Complete(BTreeSet<Inbound>),
}

/// A handler that writes down what it takes, and refuses what it is told to.
#[derive(Clone)]
pub struct Desk {
    pub taken: Record<Taken>,
    pub refused: Arc<AtomicUsize>,
    /// What it says that it has stored.
    pub stored: Arc<Mutex<BTreeSet<Inbound>>>,
    refuse: Arc<AtomicUsize>,
}

impl Desk {
    pub fn new() -> Self {
        let (refused, refuse) = (Arc::default(), Arc::default());
        Self { taken: Record::new(), refused, stored: Arc::default(), refuse }
    }

    /// Refuses the next messages.
    pub fn refuse(&self, next: usize) {
        self.refuse.store(next, Ordering::SeqCst);
    }

    /// Ids of the alerts taken so far, in order.
    pub fn alerts(&self) -> Vec<String> {
        let id = |taken: Taken| match taken {
            Taken::Message(Received { topic: Inbound::Alert(id), .. }) => Some(id),
            _ => None,
        };
        self.taken.all().into_iter().filter_map(id).collect()
    }

    pub fn completes(&self) -> Vec<Vec<String>> {
        let ids = |taken: Taken| match taken {
            Taken::Complete(present) => Some(present.iter().map(|p| format!("{p:?}")).collect()),
            Taken::Message(_) => None,
        };
        self.taken.all().into_iter().filter_map(ids).collect()
    }
}

impl Handler for Desk {
    fn receive(&mut self, received: &[&Received]) -> Result<()> {
        let left = self.refuse.load(Ordering::SeqCst);
        if left > 0 {
            self.refuse.store(left - 1, Ordering::SeqCst);
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Error::internal("test", "told to refuse"));
        }
        received.iter().for_each(|received| self.taken.push(Taken::Message((*received).clone())));
        Ok(())
    }

    fn stored(&mut self) -> BTreeSet<Inbound> {
        self.stored.lock().unwrap().clone()
    }

    fn retained_set_complete(&mut self, present: &BTreeSet<Inbound>) -> Result<()> {
        self.taken.push(Taken::Complete(present.clone()));
        Ok(())
    }

    fn status(&mut self, presence: Presence) -> Vec<u8> {
        format!(r#"{{"schema":1,"state":"{}"}}"#, presence.as_str()).into_bytes()
    }
}
