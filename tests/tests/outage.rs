//! The broker goes away under a running daemon, and comes back with and without what it knew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::Value;
use spotter_e2e::{
    daemon::{Daemon, Plan, are, arm, last_json, publish, state_of, within},
    delivery::{self, Reference},
    program::data,
    rig::{Mosquitto, Seen, Watcher},
    rtsp::ServerProcess,
};
use spotterd::clock::{Clock, SystemClock};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the broker is away; 60 s where `SPOTTER_CHAOS` is set, as `make chaos` does.
const AWAY: Duration = Duration::from_secs(15);
const AWAY_LONG: Duration = Duration::from_secs(60);

const CAMERAS: [&str; 3] = ["north", "south", "hall"];
const ALERTS: [&str; 3] = ["first", "second", "third"];

fn cameras(server: &ServerProcess) -> String {
    let camera = |id: &&str| {
        let url = server.url(&format!("/{id}"));
        format!("[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\nrate_hz = 3.0\n")
    };
    CAMERAS.iter().map(camera).collect()
}

fn server() -> ServerProcess {
    let videos = ["scenes/street-a.mp4", "scenes/street-b.mp4", "one-by-one.mp4"];
    let mounts = CAMERAS.iter().zip(videos).flat_map(|(camera, video)| {
        ["--mount".to_owned(), format!("/{camera}={}", data(video).display())]
    });
    let mounts: Vec<String> = mounts.collect();
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_rtsp-server")), &mounts).unwrap()
}

/// What was committed from the first line on that holds these words.
fn committed_since(daemon: &Daemon, words: &str) -> Vec<Reference> {
    let lines = daemon.log.all();
    let from = lines.iter().position(|line| line.contains(words)).unwrap_or(lines.len());
    delivery::committed(&lines[from..])
}

#[test]
fn an_outage_loses_no_sighting() {
    let folder = tempfile::tempdir().unwrap();
    let server = server();
    let mut broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let daemon = Plan::new(folder.path(), broker.port, &cameras(&server)).start();
    ALERTS.iter().for_each(|id| arm(&broker, id, 1));
    watcher.seen.when("armed", are(&ALERTS, "armed"));
    within(PATIENCE, || (!delivery::arrived(&watcher.seen.all()).is_empty()).then_some(()));

    broker.stop();
    let in_time = delivery::arrived(&watcher.seen.all());
    assert!(in_time.values().all(|arrival| !arrival.late), "late before the outage");
    daemon.says(PATIENCE, &["Broker away"]);
    let clock = SystemClock::new();
    let away = if std::env::var_os("SPOTTER_CHAOS").is_some() { AWAY_LONG } else { AWAY };
    let during = within(away + PATIENCE, || {
        let during = committed_since(&daemon, "Broker away");
        (clock.now().0 >= away && during.len() >= 10).then_some(during)
    });
    broker.resume();

    let arrived = within(PATIENCE, || {
        let seen = watcher.seen.all();
        delivery::missing(&during, &seen).is_empty().then(|| delivery::arrived(&seen))
    });
    for reference in &during {
        assert!(arrived[reference].late, "{reference:?} waited for the broker and is not late");
    }
    let of: BTreeSet<&str> = during.iter().map(|one| arrived[one].camera.as_str()).collect();
    assert!(of.len() >= 2, "one camera only: nothing was tested; {of:?}");
    // From here on they come in time again.
    let is_prompt = |since: &Reference| arrived_in_time(since, &watcher.seen.all());
    within(PATIENCE, || {
        committed_since(&daemon, "Broker away")
            .iter()
            .skip(during.len())
            .any(is_prompt)
            .then_some(())
    });

    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let committed = delivery::committed(&lines);
    // The ends that a stop commits are sent before the goodbye.
    within(PATIENCE, || {
        delivery::missing(&committed, &watcher.seen.all()).is_empty().then_some(())
    });
    let arrived = delivery::check(&committed, &watcher.seen.all());
    println!(
        "{} messages committed, {} of them while the broker was away for {away:?}; {} copies",
        committed.len(),
        during.len(),
        arrived.values().map(|arrival| arrival.copies).sum::<usize>(),
    );
}

fn arrived_in_time(reference: &Reference, seen: &[Seen]) -> bool {
    delivery::arrived(seen).get(reference).is_some_and(|arrival| !arrival.late)
}

const BALL: &str = "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n";

#[track_caller]
fn withdrawn_because(seen: &[Seen], id: &str, reason: &str) {
    let state = state_of(id, seen);
    assert_eq!((&state["state"], &state["reason"]), (&"withdrawn".into(), &reason.into()), "{id}");
}

/// What a broker without our session has for whoever asks, once `holds`.
fn told_anew(broker: &Mosquitto, filter: &str, holds: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let watcher = Watcher::start(broker.port, filter);
    watcher.seen.when("the states, told anew", holds)
}

fn streams(seen: &[Seen]) -> bool {
    let last = |end: &str| last_json(&format!("spotter/hall/box/{end}"), seen);
    last("cameras/ball")["state"] == "streaming" && last("status")["state"] == "online"
}

#[test]
fn a_broker_that_lost_its_sessions_is_told_all_again_and_what_is_gone_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let daemon = Plan::new(folder.path(), broker.port, BALL).start();
    let all = ["kept", "ended", "gone"];
    all.iter().for_each(|id| arm(&broker, id, 1));
    watcher.seen.when("armed", are(&all, "armed"));
    watcher.seen.when("streaming", streams);

    // Sessions are lost, the desired state is not: one of it is gone, one ended meanwhile.
    broker.stop();
    let mut other = Mosquitto::start_open();
    arm(&other, "kept", 1);
    publish(&other, "ended", r#"{"schema":1,"revision":2,"withdrawn":true}"#);
    other.stop();
    broker.remember_like(&other);
    broker.resume();
    let states = |seen: &[Seen]| {
        are(&["kept"], "armed")(seen) && are(&["ended", "gone"], "withdrawn")(seen) && streams(seen)
    };
    let seen = told_anew(&broker, "spotter/hall/#", states);
    withdrawn_because(&seen, "ended", "withdrawn by a message");
    withdrawn_because(&seen, "gone", "the broker does not hold it any more");
    arm(&broker, "fresh", 1);
    told_anew(&broker, "spotter/hall/box/alerts/+", are(&["fresh"], "armed"));

    // Everything is lost.
    broker.stop();
    fs::remove_file(broker.folder.path().join("mosquitto.db")).unwrap();
    broker.resume();
    let states = |seen: &[Seen]| are(&["kept", "fresh"], "withdrawn")(seen) && streams(seen);
    let seen = told_anew(&broker, "spotter/#", states);
    withdrawn_because(&seen, "kept", "the broker does not hold it any more");
    arm(&broker, "after", 1);
    // Who withdrew by losing it, arms by finding it again.
    arm(&broker, "kept", 1);
    let seen = told_anew(&broker, "spotter/+/box/alerts/+", are(&["after", "kept"], "armed"));
    assert_eq!(state_of("kept", &seen)["revision"], Value::from(1));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
