//! The staff's commands against a real broker with the site's rights, and a device made here that
//! answers as it is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rumqttc::{
    Client, Event, Incoming, MqttOptions, PublishOptions,
    mqttbytes::{QoS, v5::PublishProperties},
};
use serde_json::{Value, json};
use spotter_e2e::program::{Run, path, spotterd};

/// How long a test waits for what must come.
const WITHIN: Duration = Duration::from_secs(30);

fn repository(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A mosquitto with the users and rights of `configs/mosquitto`, on loopback.
struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Broker {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::copy(repository("configs/mosquitto/acl"), at("acl")).unwrap();
        fs::copy(repository("configs/mosquitto/users.example"), at("users")).unwrap();
        let hashed = Command::new("mosquitto_passwd").arg("-U").arg(at("users")).status();
        assert!(hashed.expect("mosquitto_passwd is needed").success());
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let path = folder.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {path}/users\n\
             acl_file {path}/acl\npersistence true\npersistence_location {path}/\n\
             max_queued_messages 100000\nlog_dest stderr\nuser root\n"
        );
        fs::write(at("mosquitto.conf"), config).unwrap();
        for (name, user, password) in [
            ("staff", "control-room", "change-me-3"),
            ("device", "gate-1", "change-me-1"),
            ("stranger", "control-room", "wrong"),
        ] {
            fs::write(at(name), format!("{user}\n{password}\n")).unwrap();
        }
        let process = Self::spawn(folder.path());
        Self { folder, port, process }
    }

    fn spawn(folder: &Path) -> Child {
        let program = ["/usr/sbin/mosquitto", "mosquitto"];
        let program = program.iter().find(|path| Path::new(path).exists()).unwrap_or(&program[1]);
        let mut process = Command::new(program)
            .arg("-c")
            .arg(folder.join("mosquitto.conf"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is needed");
        let log = BufReader::new(process.stderr.take().unwrap());
        let (sender, running) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(|line| line.ok()) {
                let _ = sender.send(line);
            }
        });
        while !running.recv_timeout(WITHIN).expect("mosquitto does not start").contains(" running")
        {
        }
        process
    }

    /// Ends it in order, so that it keeps sessions, and starts it again.
    fn restart(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.process.wait().unwrap();
        self.process = Self::spawn(self.folder.path());
    }

    /// The command with this broker's address and a login.
    fn arguments(&self, arguments: &[&str], login: &str) -> Vec<String> {
        let broker = format!("mqtt://127.0.0.1:{}", self.port);
        let login = self.folder.path().join(login).display().to_string();
        let rest = ["--site", "harbour", "--broker", &broker, "--login-file", &login];
        ["alert"].iter().chain(arguments).chain(&rest).map(|part| (*part).to_owned()).collect()
    }

    fn alert_as(&self, login: &str, arguments: &[&str]) -> Run {
        let arguments = self.arguments(arguments, login);
        spotterd(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn alert(&self, arguments: &[&str]) -> Run {
        self.alert_as("staff", arguments)
    }

    fn client(&self, user: &str, password: &str) -> (Client, rumqttc::Connection) {
        let mut options = MqttOptions::new(format!("test-{user}"), ("127.0.0.1", self.port));
        options.set_credentials(user.to_owned(), password.to_owned());
        Client::builder(options).capacity(1000).build()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a device makes of a message: the state it publishes; none where it keeps silent.
type Judge = fn(&Value) -> Option<Value>;

fn arms(message: &Value) -> Option<Value> {
    let mut state = json!({"schema": 1, "revision": message["revision"], "warnings": [],
        "clock_synced": true});
    if message["withdrawn"] == true {
        state["state"] = "withdrawn".into();
        state["reason"] = "withdrawn by a message".into();
    } else {
        state["state"] = "armed".into();
        state["text"] = message["text"].clone();
        state["bundle"] = "8f3c1a7be09d42c5a6517d0e9b24f0c3".into();
        state["warnings"] = json!(["no camera fits attic-*"]);
    }
    Some(state)
}

fn rejects(message: &Value) -> Option<Value> {
    Some(json!({"schema": 1, "state": "rejected", "revision": message["revision"],
        "code": "missing-field", "reason": "purpose is missing\u{1b}[2J", "warnings": [],
        "clock_synced": true}))
}

/// A device that is online and answers; gives what it heard.
fn device(broker: &Broker, judge: Judge) -> (Client, mpsc::Receiver<Vec<u8>>) {
    let (client, mut connection) = broker.client("gate-1", "change-me-1");
    let retained = || PublishOptions::at_least_once().retained();
    let root = "spotter/harbour/gate-1";
    client.subscribe("spotter/harbour/alerts/+", QoS::AtLeastOnce).unwrap();
    let status = r#"{"schema":1,"state":"online"}"#;
    client.publish(format!("{root}/status"), status, retained()).unwrap();
    let (heard, hears) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let answering = client.clone();
    thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Incoming::PubAck(_))) => drop(ready.send(())),
                Ok(Event::Incoming(Incoming::Publish(publish))) => {
                    let topic = std::str::from_utf8(&publish.topic).unwrap();
                    let id = topic.rsplit('/').next().unwrap().to_owned();
                    let _ = heard.send(publish.payload.to_vec());
                    let Ok(message) = serde_json::from_slice::<Value>(&publish.payload) else {
                        continue;
                    };
                    if let Some(mut state) = judge(&message) {
                        state["alert"] = id.as_str().into();
                        let topic = format!("{root}/alerts/{id}");
                        answering.try_publish(topic, state.to_string(), retained()).unwrap();
                    }
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    is_ready.recv_timeout(WITHIN).expect("the broker has the device's status");
    (client, hears)
}

#[track_caller]
fn next(hears: &mpsc::Receiver<Vec<u8>>) -> Value {
    let payload = hears.recv_timeout(WITHIN).expect("a message");
    let message = serde_json::from_slice(&payload).unwrap();
    let schema = fs::read(repository("configs/schemas/alert.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let validator =
        jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    let errors: Vec<_> = validator.iter_errors(&message).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{message}: {errors:?}");
    message
}

#[track_caller]
fn ended(run: &Run, code: i32, words: &[&str]) {
    let said = format!("{}{}", run.out, run.err);
    assert_eq!(run.code, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn an_alert_is_added_replaced_listed_and_removed() {
    let broker = Broker::start();
    let (_device, hears) = device(&broker, arms);
    let run = broker.alert(&["add", "A woman in a red coat", "--for", "2h"]);
    ended(&run, 0, &["woman-red-coat", "gate-1  armed", "note: no camera fits attic-*"]);
    let message = next(&hears);
    assert_eq!((&message["revision"], &message["schema"]), (&json!(1), &json!(1)));
    assert_eq!(message["text"], "A woman in a red coat");

    let again = ["add", "A woman in a red coat", "--for", "3h"];
    ended(&broker.alert(&again), 1, &["there is an alert", "--id woman-red-coat"]);
    let id = ["--id", "woman-red-coat", "--json"];
    let run = broker.alert(&[&again[..], &id[..]].concat());
    ended(&run, 0, &[]);
    let printed: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(printed["revision"], 2, "{printed}");
    assert_eq!(printed["devices"][0]["state"]["state"], "armed", "{printed}");
    assert_eq!(printed["message"], next(&hears));

    ended(&broker.alert(&["list"]), 0, &["woman-red-coat", "armed 1/1", "A woman in a red coat"]);
    let run = broker.alert(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(listed[0]["devices"]["gate-1"]["revision"], 2, "{listed}");

    ended(&broker.alert(&["remove", "woman-red-coat"]), 0, &["gate-1  withdrawn"]);
    assert_eq!(next(&hears), json!({"schema": 1, "revision": 3, "withdrawn": true}));
    ended(&broker.alert(&["list"]), 0, &["Nobody is being looked for", "1 more are over"]);
    // Once more changes nothing; a name that never was is an error.
    ended(&broker.alert(&["remove", "woman-red-coat"]), 0, &["withdrawn"]);
    assert!(hears.try_recv().is_err(), "nothing was published");
    ended(&broker.alert(&["remove", "nobody"]), 1, &["no alert nobody"]);
    // A name that is free again goes on counting.
    ended(&broker.alert(&["add", "A woman in a red coat"]), 0, &["armed"]);
    assert_eq!(next(&hears)["revision"], 4);
}

#[test]
fn everything_that_can_be_said_is_published_as_the_schema_has_it() {
    let broker = Broker::start();
    let (_device, hears) = device(&broker, arms);
    let arguments = [
        "add",
        "boy in a yellow raincoat",
        "--id",
        "lost-boy",
        "--until",
        "2026-11-30T06:00:00Z",
        "--cameras",
        "entrance,dock-*",
        "--zones",
        "gate-area",
        "--without",
        "hat",
        "--without",
        "bag",
        "--schedule",
        "fri,sat 22:00-06:00",
        "--time-zone",
        "Europe/Berlin",
        "--budget",
        "2",
        "--cooldown",
        "90",
        "--purpose",
        "missing person, case 2031",
        "--by",
        "gate",
    ];
    // In whichever year this runs: a moment in the past is refused, and names what was wrong.
    let until = arguments.iter().position(|part| *part == "--until").unwrap();
    let mut past = arguments;
    past[until + 1] = "2020-01-01T00:00:00Z";
    ended(&broker.alert(&past), 2, &["--until", "not in the future"]);
    let mut span = arguments;
    (span[until], span[until + 1]) = ("--for", "3d");
    ended(&broker.alert(&span), 0, &["lost-boy"]);
    let mut message = next(&hears);
    let end = message.as_object_mut().unwrap().remove("expires_at").unwrap();
    assert!(end.as_str().unwrap().ends_with('Z') && !end.as_str().unwrap().contains('.'), "{end}");
    assert_eq!(
        message,
        json!({"schema": 1, "revision": 1, "text": "boy in a yellow raincoat",
            "without": ["hat", "bag"], "cameras": ["entrance", "dock-*"], "zones": ["gate-area"],
            "schedule": [{"days": ["fri", "sat"], "from": "22:00", "to": "06:00",
                "time_zone": "Europe/Berlin"}],
            "budget_per_day": 2.0, "cooldown_s": 90.0, "purpose": "missing person, case 2031",
            "created_by": "gate"})
    );
}

#[test]
fn a_device_that_rejects_or_keeps_silent_is_named() {
    let broker = Broker::start();
    let run = broker.alert(&["add", "red coat"]);
    ended(&run, 1, &["No device is connected"]);
    {
        let (client, _hears) = device(&broker, rejects);
        let run = broker.alert(&["add", "blue coat"]);
        // The reason is shown, its escape sequence is not.
        ended(&run, 1, &["gate-1  rejected: purpose is missing\u{fffd}[2J"]);
        ended(&broker.alert(&["list"]), 0, &["armed 0/1", "! gate-1: rejected: purpose"]);
        client.disconnect().unwrap();
    }
    let (_client, _hears) = device(&broker, |_| None);
    let run = broker.alert(&["add", "green coat", "--wait", "1"]);
    ended(&run, 1, &["gate-1  online, but has not answered yet"]);
}

#[test]
fn a_large_set_of_alerts_is_read_to_its_end() {
    let broker = Broker::start();
    let (client, mut connection) = broker.client("control-room", "change-me-3");
    // More than a broker sends before it waits for acknowledgements.
    let count = 700;
    // Without a goodbye, which would end the connection before all is acknowledged.
    let publisher = thread::spawn(move || {
        for n in 0..count {
            let alert = json!({"schema": 1, "revision": 1, "text": format!("coat number {n}"),
                "expires_at": "2099-01-01T00:00:00Z"});
            let topic = format!("spotter/harbour/alerts/coat-{n}");
            let retained = PublishOptions::at_least_once().retained();
            client.publish(topic, alert.to_string(), retained).unwrap();
        }
        client
    });
    let acknowledged = connection
        .iter()
        .filter(|event| matches!(event, Ok(Event::Incoming(Incoming::PubAck(_)))))
        .take(count);
    assert_eq!(acknowledged.count(), count);
    drop(publisher.join().unwrap());
    let run = broker.alert(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), count);
}

#[test]
fn a_broker_that_cannot_be_used_is_told_apart() {
    let broker = Broker::start();
    ended(&broker.alert_as("stranger", &["list"]), 3, &["login"]);
    let run = broker.alert_as("device", &["add", "red coat"]);
    ended(&run, 3, &["may not change alerts"]);
    ended(&broker.alert(&["add", "red \u{202e}coat", "--id", "x"]), 2, &["text"]);
    ended(&broker.alert(&["add", "…"]), 2, &["--id"]);
    ended(&broker.alert(&["list", "--ca", "ca.crt"]), 2, &["mqtts://"]);

    // Takes the connection and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("mqtt://{}", silent.local_addr().unwrap());
    let list = ["alert", "list", "--site", "harbour", "--broker"];
    ended(&spotterd(&[&list[..], &[&address]].concat()), 3, &["127.0.0.1", "answer"]);
    drop(silent);
    ended(&spotterd(&[&list[..], &[&address]].concat()), 3, &["refused"]);
}

/// A `watch` that runs, with the lines it prints.
fn watch(broker: &Broker, arguments: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let arguments = broker.arguments(&[&["watch"], arguments].concat(), "staff");
    let mut process = Command::new(path("spotterd"))
        .args(arguments)
        .env("TZ", "Europe/Berlin")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(process.stderr.take().unwrap());
    let mut first = String::new();
    notes.read_line(&mut first).unwrap();
    assert!(first.contains("Watching harbour"), "{first}");
    thread::spawn(move || notes.read_to_string(&mut String::new()));
    let out = BufReader::new(process.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in out.lines().map_while(|line| line.ok()) {
            let _ = sender.send(line);
        }
    });
    (process, lines)
}

#[test]
fn sightings_are_shown_and_pictures_saved_until_ctrl_c() {
    let broker = Broker::start();
    let (client, _hears) = device(&broker, arms);
    let folder = broker.folder.path().join("found");
    let (mut process, lines) = watch(&broker, &["--pictures", folder.to_str().unwrap()]);
    let id = "01JDZ6V3Q4M5N6P7R8S9T0V1W2";
    let sighting = json!({"schema": 1, "id": id, "event": "new", "seq": 1, "alert": "red-coat",
        "alert_revision": 1, "camera": "dock-1", "track": 8, "at": "2026-06-01T17:04:12.300Z",
        "first_seen": "2026-06-01T17:04:09.000Z", "score": 0.412, "threshold": 0.377, "late": true});
    let publish = |end: &str, payload: Vec<u8>, options| {
        client.publish(format!("spotter/harbour/gate-1/{end}"), payload, options).unwrap();
    };
    let once = PublishOptions::at_least_once;
    publish("sightings", sighting.to_string().into_bytes(), once());
    let line = lines.recv_timeout(WITHIN).unwrap();
    // Berlin is two hours ahead of UTC in June.
    for word in ["2026-06-01 19:04:12", "SEEN", "red-coat", "dock-1", "gate-1", "0.412", "LATE"] {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
    for (id, is_saved) in [("../../../../tmp/evil-picture", false), (id, true)] {
        let user_properties = [("sighting", id), ("seq", "1"), ("kind", "crop")];
        let user_properties = user_properties.map(|(key, value)| (key.into(), value.into())).into();
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        publish("snapshots", b"jpeg".to_vec(), once().properties(properties));
        if is_saved {
            assert!(lines.recv_timeout(WITHIN).unwrap().contains("-1-crop.jpg"));
        }
    }
    assert_eq!(fs::read(folder.join(format!("{id}-1-crop.jpg"))).unwrap(), b"jpeg");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_seen_while_the_connection_is_down_is_shown_afterwards() {
    let mut broker = Broker::start();
    let (mut process, lines) = watch(&broker, &["--json"]);
    broker.restart();
    // Whether the watch is back already or not: nothing is lost.
    let (client, _hears) = device(&broker, arms);
    let options = PublishOptions::at_least_once();
    client.publish("spotter/harbour/gate-1/sightings", r#"{"event":"new"}"#, options).unwrap();
    let line: Value = serde_json::from_str(&lines.recv_timeout(WITHIN).unwrap()).unwrap();
    assert_eq!(line, json!({"device": "gate-1", "sighting": {"event": "new"}}));
    process.kill().unwrap();
    process.wait().unwrap();
}
