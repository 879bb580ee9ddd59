//! SIGHUP under a running daemon: what changed changes, what did not is not touched, and a faulty file
//! is refused whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use spotter_e2e::{
    daemon::{Daemon, Plan, alert, last_json, publish, state_of, within},
    program::{data, spotterd},
    rig::{Mosquitto, Seen, Watcher, topic},
    rtsp::ServerProcess,
};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(30);

fn camera_state(camera: &str, seen: &[Seen]) -> String {
    let state = last_json(&format!("spotter/hall/box/cameras/{camera}"), seen);
    state["state"].as_str().unwrap_or("none").to_owned()
}

fn stream(cameras: &'static [&'static str]) -> impl Fn(&[Seen]) -> bool {
    move |seen| cameras.iter().all(|camera| camera_state(camera, seen) == "streaming")
}

/// How often a camera was connected, by the log.
fn opened(daemon: &Daemon, camera: &str) -> usize {
    let camera = format!("camera={camera} ");
    let of = |line: &&String| line.contains("Stream opened.") && line.contains(&camera);
    daemon.log.all().iter().filter(of).count()
}

fn decoded(daemon: &Daemon, camera: &str) -> f64 {
    left(daemon, "decode", camera)
}

/// What came out of a stage.
fn left(daemon: &Daemon, stage: &str, camera: &str) -> f64 {
    let labels = [("stage", stage), ("camera", camera)];
    let label = |(key, value): (&str, &str)| format!("{key}=\"{value}\"");
    // In whichever order the exporter writes them.
    let orders = [[labels[0], labels[1]], [labels[1], labels[0]]];
    let names =
        orders.map(|order| format!("spotter_stage_out_total{{{}}}", order.map(label).join(",")));
    names.iter().find_map(|name| daemon.metric(name)).unwrap_or(0.0)
}

#[track_caller]
fn still_flows(daemon: &Daemon, camera: &str) {
    let before = decoded(daemon, camera);
    within(PATIENCE, || (decoded(daemon, camera) > before + 5.0).then_some(()));
}

#[test]
fn a_reload_touches_only_what_changed_and_a_faulty_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let video = data("scenes/street-b.mp4");
    let mount = format!("/street={}", video.display());
    let program = Path::new(env!("CARGO_BIN_EXE_rtsp-server"));
    let server = ServerProcess::start(program, &["--mount", &mount]).unwrap();
    let camera =
        |id: &str| format!("[[camera]]\nid = \"{id}\"\nurl = \"{}\"\n", server.url("/street"));
    let (hall, gate, dock) = (camera("hall"), camera("gate"), camera("dock"));
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let mut plan = Plan::new(folder.path(), broker.port, &format!("{hall}{gate}"));
    let daemon = plan.start();
    let mut on_dock = alert("woman in a red coat with a black backpack", 1);
    on_dock["cameras"] = json!(["dock"]);
    publish(&broker, "dock-only", &on_dock.to_string());
    watcher.seen.when("both stream", stream(&["hall", "gate"]));
    let status = |seen: &[Seen]| last_json("spotter/hall/box/status", seen);
    assert_eq!(status(&watcher.seen.all())["cameras"], json!(["hall", "gate"]));
    watcher.seen.when("a warning", |seen| {
        let warnings = &state_of("dock-only", seen)["warnings"];
        warnings.to_string().contains("no camera of this device is called dock")
    });
    let hash = status(&watcher.seen.all())["config_hash"].clone();

    // Each is refused whole, although it also takes a camera away.
    let zone = "zones = { door = [[0.1, 0.1], [1.5, 0.1], [0.5, 0.9]] }\n";
    let faulty = [
        (format!("{hall}ulr = 1\n"), ["ulr", "unknown field"]),
        (format!("{hall}{hall}"), ["second camera", "hall"]),
        (format!("{hall}{zone}"), ["outside of the picture", "door"]),
        (format!("{hall}rate_hz = 900\n"), ["rate_hz", "0.2 and 30"]),
        (hall.replace("127.0.0.1", "admin:pw@127.0.0.1"), ["credentials_file", "password"]),
        (String::new(), ["[[camera]]", "at least one"]),
        ("[[camera".to_owned(), ["spotterd.toml", "the old one holds"]),
    ];
    for (number, (rest, words)) in faulty.iter().enumerate() {
        plan.rest = rest.clone();
        plan.write(daemon.metrics_port());
        daemon.signal(Signal::HUP);
        let refused = |line: &&String| line.contains("The new configuration was refused");
        let lines = within(PATIENCE, || {
            let lines: Vec<String> = daemon.log.all().iter().filter(refused).cloned().collect();
            (lines.len() > number).then_some(lines)
        });
        let line = &lines[number];
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
    }
    fs::remove_file(plan.file()).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says(PATIENCE, &["was refused", "spotterd.toml", "No such file"]);
    for camera in ["hall", "gate"] {
        still_flows(&daemon, camera);
        assert_eq!(opened(&daemon, camera), 1, "{}", daemon.said());
    }
    assert_eq!(status(&watcher.seen.all())["config_hash"], hash);

    // One added, one gone, one as before.
    plan.rest = format!("{hall}{dock}");
    plan.write(daemon.metrics_port());
    daemon.signal(Signal::HUP);
    daemon.says(PATIENCE, &["The configuration was reloaded."]);
    watcher.seen.when("the new one streams", stream(&["hall", "dock"]));
    let seen = watcher
        .seen
        .when("the device's cameras", |seen| status(seen)["cameras"] == json!(["hall", "dock"]));
    assert_ne!(status(&seen)["config_hash"], hash);
    watcher.seen.when("the state of the camera that is gone", |seen| {
        let last = seen.iter().rfind(|seen| topic(seen).ends_with("/cameras/gate"));
        last.is_some_and(|seen| seen.payload.is_empty())
    });
    watcher.seen.when("no warning", |seen| {
        let state = state_of("dock-only", seen);
        state["state"] == "armed" && state["warnings"] == json!([])
    });
    let kept = Watcher::start(broker.port, "spotter/hall/box/cameras/+");
    let kept = kept.seen.when("what is retained", stream(&["hall", "dock"]));
    assert_eq!(camera_state("gate", &kept), "none");
    assert_eq!(daemon.metric("spotter_source_streaming{camera=\"gate\"}"), Some(0.0));
    still_flows(&daemon, "hall");
    assert_eq!(opened(&daemon, "hall"), 1, "{}", daemon.said());
    assert_eq!(daemon.metric("spotter_source_reconnects_total{camera=\"hall\"}"), Some(0.0));
    let of_hall = watcher.seen.all();
    let of_hall = of_hall.iter().filter(|seen| topic(seen).ends_with("/cameras/hall"));
    let down = of_hall.filter(|seen| !seen.payload.windows(9).any(|part| part == b"streaming"));
    assert!(down.count() <= 1, "only before the first frame it does not stream");

    // One that changed is connected anew: so the counting above can fail.
    plan.rest = format!("{hall}{dock}rate_hz = 2.0\n");
    plan.write(daemon.metrics_port());
    daemon.signal(Signal::HUP);
    within(PATIENCE, || (opened(&daemon, "dock") == 2).then_some(()));
    assert_eq!(opened(&daemon, "hall"), 1, "{}", daemon.said());
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn nobody_is_seen_behind_a_mask_and_masks_change_while_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let camera = format!("[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n");
    let whole = "masks = { all = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]] }\n";
    let broker = Mosquitto::start_open();
    let mut plan = Plan::new(folder.path(), broker.port, &format!("{camera}{whole}"));
    let daemon = plan.start();
    let check = spotterd(&["check", plan.file().to_str().unwrap()]);
    assert!(
        check.out.contains("masks all hide 100 % of the picture"),
        "{}{}",
        check.out,
        check.err
    );
    // As many looks as show persons for sure where nothing hides them.
    let looks = |many: f64| {
        let looked =
            || daemon.metric("spotter_stage_seconds_count{stage=\"detect\"}").unwrap_or(0.0);
        let before = looked();
        within(PATIENCE * 4, || (looked() >= before + many).then_some(()));
    };
    looks(40.0);
    assert_eq!(left(&daemon, "detect", "gate"), 0.0, "{}", daemon.said());
    let reload = |plan: &Plan| {
        let before = daemon.log.all().len();
        plan.write(daemon.metrics_port());
        daemon.signal(Signal::HUP);
        let line = |line: &String| line.contains("The configuration was reloaded.");
        within(PATIENCE, || daemon.log.all()[before..].iter().any(line).then_some(()));
    };
    plan.rest = camera.clone();
    reload(&plan);
    within(PATIENCE * 4, || (left(&daemon, "embed", "gate") >= 1.0).then_some(()));
    plan.rest = format!("{camera}{whole}");
    reload(&plan);
    let found = left(&daemon, "detect", "gate");
    looks(20.0);
    assert_eq!(left(&daemon, "detect", "gate"), found, "nobody is found from the reload on");
    assert_eq!(opened(&daemon, "gate"), 1, "{}", daemon.said());
    let bad = "masks = { window = [[0.0, 0.0], [1.0, 0.0]] }\n";
    plan.rest = format!("{camera}{bad}");
    plan.write(daemon.metrics_port());
    daemon.signal(Signal::HUP);
    daemon.says(PATIENCE, &["was refused", "mask window", "2 corners"]);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
