//! Ten thousand retained alerts through a mosquitto on the shipped files, and the shipped values of the
//! daemon's configuration.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use rumqttc::MqttOptions;
use serde_json::Value;
use spotter_e2e::{
    daemon::{Daemon, alert, within},
    program::{self, tiny_bundle},
    rig::{self, Mosquitto, Seen, Watcher, topic},
};
use spotterd::clock::{Clock, SystemClock};

const ALERTS: usize = 10_000;
/// Far above what it takes; what it takes is printed.
const PATIENCE: Duration = Duration::from_secs(120);
const STATES: &str = "spotter/harbour/gate-1/alerts/";

/// What the shipped configuration is changed in: names, files, ports and the camera.
fn configuration(folder: &Path, broker: &Mosquitto, metrics: u16) -> String {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/spotterd.toml");
    let shipped = fs::read_to_string(shipped).unwrap();
    let file = |name: &str| broker.folder.path().join(name).display().to_string();
    let changes = [
        ("\"/var/lib/spotter/bundles\"", format!("{:?}", tiny_bundle())),
        ("# site = \"site\"", "site = \"harbour\"".to_owned()),
        ("# device = \"box-1\"", "device = \"gate-1\"".to_owned()),
        ("# broker = \"embedded\"", format!("broker = \"mqtts://localhost:{}\"", broker.port)),
        ("#   ca_file = \"/etc/spotter/ca.pem\"", format!("ca_file = {:?}", file("ca.crt"))),
        (
            "#   login_file = \"/etc/spotter/mqtt.secret\"",
            format!("login_file = {:?}", file("login")),
        ),
        // The tiny bundle has no cohort, which the default policy needs.
        ("# policy = \"budget=2\"", "policy = \"fixed=0.3\"".to_owned()),
        ("# folder = \"/var/lib/spotter\"", format!("folder = {:?}", folder.join("state"))),
        ("# listen = \"127.0.0.1:9464\"", format!("listen = \"127.0.0.1:{metrics}\"")),
        ("\"rtsp://192.0.2.10/stream1\"", "\"test:ball\"".to_owned()),
    ];
    changes.iter().fold(shipped, |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} is not in the shipped file once");
        text.replace(from, to)
    })
}

fn start(folder: &Path, broker: &Mosquitto) -> Daemon {
    let metrics = rig::free_port();
    let file = folder.join("spotterd.toml");
    fs::write(&file, configuration(folder, broker, metrics)).unwrap();
    Daemon::run(Command::new(program::path("spotterd")).arg("run").arg(&file), metrics)
}

/// A member of the staff at a door of their own, without TLS, which the test has beside the shipped
/// one.
fn staff(name: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(name, ("127.0.0.1", port));
    options.set_credentials("control-room", "change-me-3");
    options
}

fn id(number: usize) -> String {
    format!("alert-{number}")
}

/// The alerts whose newest message from `first` on says that they are armed.
fn armed(seen: &[Seen], first: usize) -> BTreeSet<String> {
    let mut armed = BTreeSet::new();
    for seen in seen.iter().skip(first) {
        let Some(id) = topic(seen).strip_prefix(STATES) else { continue };
        let state: Value = serde_json::from_slice(&seen.payload).unwrap();
        match state["state"] == "armed" {
            true => armed.insert(id.to_owned()),
            false => armed.remove(id),
        };
    }
    armed
}

/// Waits until all are told as armed; how long that took.
fn until_all_are_armed(watcher: &Watcher, first: usize, clock: &SystemClock) -> Duration {
    let begun = clock.now();
    within(PATIENCE, || {
        let seen = watcher.seen.all();
        (seen.len() >= first + ALERTS && armed(&seen, first).len() == ALERTS).then_some(())
    });
    clock.now().since(begun)
}

#[test]
fn ten_thousand_retained_alerts_are_armed() {
    let clock = SystemClock::new();
    let door = rig::free_port();
    let broker =
        rig::start_shipped("localhost", |config| format!("{config}\nlistener {door} 127.0.0.1\n"));
    let watcher = Watcher::start_with(staff("watcher", door), "spotter/harbour/gate-1/#");
    let colours = ["red", "blue", "green", "black"];
    let message = |number: usize| {
        // No two texts are the same, so each has to be read by the text tower.
        let colour = colours[number % colours.len()];
        let text = format!("person number {number} in a {colour} coat with a bag");
        (format!("spotter/harbour/alerts/{}", id(number)), alert(&text, 1).to_string())
    };
    rig::publish_retained_with(staff("staff", door), (0..ALERTS).map(message));
    println!("{ALERTS} alerts are on the broker after {:?}", clock.now().0);

    let folder = tempfile::tempdir().unwrap();
    let daemon = start(folder.path(), &broker);
    let took = until_all_are_armed(&watcher, 0, &clock);
    let memory = daemon.memory_kib() >> 10;
    println!("{ALERTS} retained alerts armed and told in {took:?} from the start; {memory} MiB");
    daemon.says(PATIENCE, &["Desired state read to its end.", &format!("retained={ALERTS}")]);

    // With all of them armed, one that changes is told soon.
    let begun = clock.now();
    let one = format!("spotter/harbour/alerts/{}", id(4711));
    let withdrawn = r#"{"schema":1,"revision":2,"withdrawn":true}"#.to_owned();
    rig::publish_retained_with(staff("another", door), [(one, withdrawn)].into_iter());
    watcher.seen.when("the withdrawal", |seen| {
        let last = seen.last().map(|seen| (topic(seen).to_owned(), rig::text(seen)));
        last.is_some_and(|(topic, text)| {
            topic.ends_with("/alert-4711") && text.contains("\"withdrawn\"")
        })
    });
    println!("one of them withdrawn in {:?}", clock.now().since(begun));

    // And after a kill all others again, from the disk.
    drop(daemon);
    let first = watcher.seen.all().len();
    let daemon = start(folder.path(), &broker);
    let begun = clock.now();
    within(PATIENCE, || {
        let seen = watcher.seen.all();
        (seen.len() >= first + ALERTS && armed(&seen, first).len() == ALERTS - 1).then_some(())
    });
    let (took, memory) = (clock.now().since(begun), daemon.memory_kib() >> 10);
    println!("after a kill {} armed and told in {took:?}; {memory} MiB", ALERTS - 1);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
