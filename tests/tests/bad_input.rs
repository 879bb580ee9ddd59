//! What goes wrong at a site: messages that are none, brokers that are the wrong one, two devices with
//! one name, a full disk. Each has a clear answer, and the rest keeps working.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Daemon, Plan, alert, are, arm, publish, state_of, within},
    delivery,
    program::{self, data},
    rig::{self, Mosquitto, Watcher},
};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);

const BALL: &str = "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n";
const STREAMING: &str = "spotter_source_streaming{camera=\"ball\"}";

/// Publishes retained bytes that need not be text.
fn publish_bytes(broker: &Mosquitto, topic: &str, payload: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(payload).unwrap();
    let port = broker.port.to_string();
    let mut command = Command::new("mosquitto_pub");
    command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", topic, "-f"]);
    assert!(command.arg(file.path()).status().unwrap().success());
}

fn validate(state: &Value) {
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/schemas/alert-state.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    if let Err(error) = jsonschema::validate(&schema, state) {
        panic!("not as alert-state should be: {error}: {state}");
    }
}

/// An alert with one field changed.
fn with(field: &str, value: Value) -> Vec<u8> {
    let mut alert = alert("a person", 1);
    alert[field] = value;
    alert.to_string().into_bytes()
}

/// Name, payload, state, code where it is rejected, and a word of what a person is told.
type Row = (&'static str, Vec<u8>, &'static str, Option<&'static str>, &'static str);

fn rows() -> Vec<Row> {
    let large = |bytes: usize| with("purpose", "x".repeat(bytes).into());
    let rejected =
        |name, payload, code, word| -> Row { (name, payload, "rejected", Some(code), word) };
    vec![
        rejected("not-utf8", b"{\"text\": \"\xff\"}".to_vec(), "not-utf8", "byte 11"),
        rejected("large", large(9_000), "too-large", "at most 8192"),
        rejected("very-large", large(3_000_000), "too-large", "at most 8192"),
        rejected("words", b"woman in a red coat".to_vec(), "not-json", "plain text"),
        rejected("cut-short", b"{\"schema\": 1, \"te".to_vec(), "not-json", "EOF"),
        rejected("a-list", b"[1, 2]".to_vec(), "not-json", "object"),
        rejected("a-number", b"7".to_vec(), "not-json", "object"),
        rejected("deep", ["[".repeat(99), "]".repeat(99)].concat().into(), "too-deep", "levels"),
        rejected("future", with("schema", 2.into()), "unknown-schema", "update the device"),
        rejected("control", with("text", "a\u{7}person".into()), "bad-character", "text"),
        rejected("bidi", with("text", "a \u{202e}nosrep".into()), "bad-character", "text"),
        rejected("no-text", with("text", Value::Null), "missing-field", "describe the person"),
        rejected("a-type", with("cooldown_s", "soon".into()), "bad-field", "cooldown_s"),
        rejected("far", with("expires_at", "2999-01-01T00:00:00Z".into()), "lives-too-long", "168"),
        ("over", with("expires_at", "2026-01-02T00:00:00Z".into()), "expired", None, "has passed"),
        ("camera", with("cameras", json!(["cellar"])), "armed", None, "no camera of this device"),
        ("zone", with("zones", json!(["moon"])), "armed", None, "no zone of this device"),
        ("field", with("colour", "red".into()), "armed", None, "colour"),
    ]
}

#[test]
fn each_bad_alert_is_answered_on_its_state_and_the_good_ones_stay_armed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/alerts/+");
    let daemon = Plan::new(folder.path(), broker.port, BALL).start();
    arm(&broker, "good", 1);
    watcher.seen.when("armed", are(&["good"], "armed"));
    for (name, payload, state, code, word) in rows() {
        publish_bytes(&broker, &format!("spotter/hall/alerts/{name}"), &payload);
        let seen = watcher.seen.when(name, |seen| !state_of(name, seen).is_null());
        let answer = state_of(name, &seen);
        validate(&answer);
        assert_eq!(answer["state"], state, "{name}: {answer}");
        assert_eq!(answer["code"].as_str(), code, "{name}: {answer}");
        let told = format!("{}{}", answer["reason"], answer["warnings"]);
        assert!(told.contains(word), "{name}: {word:?} is not in {told}");
    }
    // Garbage behind a good one: it stays armed, and says so.
    publish(&broker, "good", "\u{7}");
    let seen = watcher.seen.when("a warning", |seen| {
        state_of("good", seen)["warnings"].to_string().contains("a later message was refused")
    });
    assert_eq!(state_of("good", &seen)["state"], "armed");
    arm(&broker, "last", 1);
    watcher.seen.when("armed", are(&["last", "good"], "armed"));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_device_that_is_full_says_so_and_has_room_again_after_a_withdrawal() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/alerts/+");
    let daemon =
        Plan::new(folder.path(), broker.port, &format!("{BALL}[policy]\nmax_alerts = 2\n")).start();
    ["a", "b"].iter().for_each(|id| arm(&broker, id, 1));
    watcher.seen.when("armed", are(&["a", "b"], "armed"));
    arm(&broker, "c", 1);
    let seen = watcher.seen.when("an answer", are(&["c"], "rejected"));
    let answer = state_of("c", &seen);
    validate(&answer);
    assert_eq!(answer["code"], "full");
    daemon.says(PATIENCE, &["refused", "alert=c", "holds 2 alerts"]);
    publish(&broker, "a", r#"{"schema":1,"revision":2,"withdrawn":true}"#);
    watcher.seen.when("withdrawn", are(&["a"], "withdrawn"));
    arm(&broker, "c", 1);
    watcher.seen.when("armed", are(&["b", "c"], "armed"));
}

#[test]
fn retained_rubbish_on_every_topic_hinders_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start_open();
    let rubbish: [&[u8]; 3] = [b"\xff\xfe", b"{\"schema\": 99}", b"[[[["];
    let topics = [
        "alerts/Bad.Name",
        "alerts/garbage",
        "approvals/garbage",
        "approvals/Bad.Name",
        "preview",
        "feedback",
        "search",
        "box/marker",
        "box/command",
        "box/status",
        "box/alerts/garbage",
        "box/alerts/of-nobody",
        "box/cameras/ball",
        "box/sightings",
        "box/snapshots",
    ];
    for (number, topic) in topics.iter().enumerate() {
        let topic = format!("spotter/hall/{topic}");
        publish_bytes(&broker, &topic, rubbish[number % rubbish.len()]);
    }
    arm(&broker, "good", 1);
    let daemon = Plan::new(folder.path(), broker.port, BALL).start();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    watcher
        .seen
        .when("armed", |seen| are(&["good"], "armed")(seen) && are(&["garbage"], "rejected")(seen));
    daemon.says(PATIENCE, &["Desired state read to its end."]);
    daemon.says(PATIENCE, &["ignored", "alerts/Bad.Name"]);
    daemon.says(PATIENCE, &["ignored", "approvals/Bad.Name"]);
    daemon.says(PATIENCE, &["An approval was refused", "alert=garbage"]);
    // The same again while it runs, also as requests.
    for (number, topic) in topics.iter().enumerate() {
        let topic = format!("spotter/hall/{topic}");
        publish_bytes(&broker, &topic, rubbish[(number + 1) % rubbish.len()]);
    }
    arm(&broker, "later", 1);
    watcher.seen.when("armed", are(&["good", "later"], "armed"));
    within(PATIENCE, || (daemon.metric(STREAMING) == Some(1.0)).then_some(()));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

fn secure(plan: &mut Plan, broker: &Mosquitto, login: &Path) {
    plan.names = ("harbour", "gate-1");
    let ca = broker.folder.path().join("ca.crt");
    plan.mqtt = format!(
        "broker = \"mqtts://localhost:{}\"\nca_file = {ca:?}\nlogin_file = {login:?}",
        broker.port
    );
}

#[test]
fn a_wrong_login_is_named_and_a_right_one_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = rig::start_shipped("localhost", |config| config);
    let login = folder.path().join("login");
    fs::copy(broker.folder.path().join("wrong-login"), &login).unwrap();
    let mut plan = Plan::new(folder.path(), broker.port, BALL);
    secure(&mut plan, &broker, &login);
    let daemon = plan.start();
    daemon.says(PATIENCE, &["ERROR", "check user and password", "trouble=\"login\""]);
    within(PATIENCE, || (daemon.metric(STREAMING) == Some(1.0)).then_some(()));
    fs::copy(broker.folder.path().join("login"), &login).unwrap();
    daemon.says(PATIENCE, &["Connected to the broker."]);
    daemon.says(PATIENCE, &["Desired state read to its end."]);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        !log.contains("change-me") && !log.contains("guess"),
        "a password is in the log: {log}"
    );
}

#[test]
fn a_certificate_for_another_host_is_named_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let broker = rig::start_shipped("elsewhere.example", |config| config);
    let mut plan = Plan::new(folder.path(), broker.port, BALL);
    secure(&mut plan, &broker, &broker.folder.path().join("login"));
    let daemon = plan.start();
    daemon.says(PATIENCE, &["ERROR", "certificate is for another host"]);
    within(PATIENCE, || (daemon.metric(STREAMING) == Some(1.0)).then_some(()));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("Connected to the broker."), "{log}");
}

#[test]
fn two_daemons_with_one_name_are_told_apart_and_one_of_them_serves() {
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/alerts/+");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plans = folders.each_ref().map(|folder| Plan::new(folder.path(), broker.port, BALL));
    let daemons = plans.each_ref().map(Plan::start);
    let words = ["ERROR", "spotter-hall-box", "does another client use the id"];
    within(PATIENCE, || {
        let is_named = |line: &String| words.iter().all(|word| line.contains(word));
        daemons.iter().any(|daemon| daemon.log.all().iter().any(is_named)).then_some(())
    });
    arm(&broker, "for-both", 1);
    watcher.seen.when("armed", are(&["for-both"], "armed"));

    // On one folder the second does not start, and says why.
    let mut second = plans[0].start();
    let status = second.ended(PATIENCE);
    let log = second.rest_of_log().join("\n");
    assert!(!status.success() && log.contains("another process"), "{log}");
    for daemon in daemons {
        let (code, log) = daemon.stop();
        assert_eq!(code, Some(0), "{log}");
    }
}

/// A small disk that only processes in a name space of their own see; gone with the last of them.
struct SmallDisk {
    holder: Child,
    /// Whether the name space has a user's as well.
    has_users: bool,
}

impl SmallDisk {
    /// As root in a name space of mounts alone: one of users is refused where the root folder was
    /// changed. Else in one of users, in which we are root.
    fn mount(at: &Path, size: &str) -> Self {
        let mut ways = vec![true];
        if rustix::process::geteuid().is_root() {
            ways.insert(0, false);
        }
        let disk = ways.into_iter().find_map(|has_users| Self::try_mount(at, size, has_users));
        disk.expect("a disk cannot be mounted here: unshare needs root, or user name spaces")
    }

    fn try_mount(at: &Path, size: &str, has_users: bool) -> Option<Self> {
        let mut command = Command::new("unshare");
        if has_users {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs -o size=$1 none \"$2\" && echo mounted && exec sleep infinity");
        command.args(["sh", size]).arg(at).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare (util-linux) is needed");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let disk = Self { holder, has_users };
        (line == "mounted\n").then_some(disk)
    }

    /// A daemon that sees the disk.
    fn start(&self, plan: &Plan) -> Daemon {
        let metrics = rig::free_port();
        plan.write(metrics);
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string());
        if self.has_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        // The root folder too: that of the name space may be another one than ours.
        command.args(["--mount", "--root"]);
        Daemon::run(command.arg(program::path("spotterd")).arg("run").arg(plan.file()), metrics)
    }

    /// The path of a file on it for processes that do not see it.
    fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    /// Takes all room that is left.
    fn fill(&self, path: &Path) {
        let mut file = fs::File::create(self.seen_from_outside(path)).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn free(&self, path: &Path) {
        fs::remove_file(self.seen_from_outside(path)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

#[test]
fn a_full_disk_costs_pictures_and_no_sighting_and_a_start_on_it_watches() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let street = data("scenes/street-a.mp4").display().to_string();
    let camera = format!("[[camera]]\nid = \"street\"\nurl = \"file:{street}\"\nrepeat = true\n");
    let plan = Plan::new(folder.path(), broker.port, &camera);
    fs::create_dir(plan.state()).unwrap();
    let disk = SmallDisk::mount(&plan.state(), "12m");
    let [rest, more] = ["somebody-else-s-log", "and-more-of-it"].map(|n| plan.state().join(n));
    let daemon = disk.start(&plan);
    let alerts = ["first", "second", "third"];
    alerts.iter().for_each(|id| arm(&broker, id, 1));
    watcher.seen.when("armed", are(&alerts, "armed"));
    within(PATIENCE, || (!delivery::arrived(&watcher.seen.all()).is_empty()).then_some(()));

    // Full, and nothing can leave: the reserve is for events.
    broker.stop();
    disk.fill(&rest);
    daemon.says(PATIENCE, &["Disk full", "Free some room"]);
    let so_far = delivery::committed(&daemon.log.all()).len();
    within(PATIENCE, || (delivery::committed(&daemon.log.all()).len() > so_far + 5).then_some(()));
    let mut committed = delivery::committed(&daemon.kill());

    // A start on a disk without a byte left watches and commits on, in the pages it holds.
    disk.fill(&more);
    let daemon = disk.start(&plan);
    daemon.says(PATIENCE, &["No room for the outbox's reserve"]);
    let of_this_life = within(PATIENCE, || {
        let committed = delivery::committed(&daemon.log.all());
        (committed.len() > 5).then_some(committed)
    });
    broker.resume();
    within(PATIENCE, || {
        delivery::missing(&of_this_life, &watcher.seen.all()).is_empty().then_some(())
    });
    // Whether there is still room for this one or not: it is not lost.
    arm(&broker, "while-full", 1);
    disk.free(&rest);
    disk.free(&more);
    daemon.says(PATIENCE, &["Disk has room again"]);
    arm(&broker, "after", 1);
    watcher.seen.when("armed", are(&["while-full", "after"], "armed"));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    committed.extend(delivery::committed(&lines));
    within(PATIENCE, || {
        delivery::missing(&committed, &watcher.seen.all()).is_empty().then_some(())
    });
    let arrived = delivery::check(&committed, &watcher.seen.all());
    println!("{} of {} messages over a full disk", arrived.len(), committed.len());
    assert!(!log.contains("A sighting was lost"), "{log}");
}
