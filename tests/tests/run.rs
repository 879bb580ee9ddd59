//! The daemon against real RTSP servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::Arc, time::Duration};

use serde_json::Value;
use spotter_e2e::{
    daemon::{Plan, arm, within},
    program::data,
    rig::{self, Mosquitto, Watcher, topic},
    rtsp::ServerProcess,
};
use spotter_models::session::{Precision, Runtime, SessionOptions};
use spotterd::{
    clock::{Clock, Stop, SystemClock},
    engine::Engine,
    frame::{CameraId, Frame},
    geometry::BBox,
    metrics::Stopwatch,
    source::{DecoderChoice, RtspUrl, Rules, Setup, Signal, Slot, SourceSpec, Supervisor, Taker},
    track::TrackId,
    watch::Watch,
};

fn server(arguments: &[&str]) -> ServerProcess {
    ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_rtsp-server")), arguments).unwrap()
}

#[test]
fn a_camera_streams_while_others_are_in_trouble_and_the_daemon_stops_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let server = server(&["--mount", &format!("/hall={clip}"), "--user", "guard:s3cr3t-w0rd"]);
    let secret = folder.path().join("secret");
    fs::write(&secret, "guard:s3cr3t-w0rd\n").unwrap();
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "guard:other-w0rd\n").unwrap();
    let camera = |id: &str, url: &str, secret: &Path| {
        format!("[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\ncredentials_file = {secret:?}\n")
    };
    let cameras = [
        camera("hall", &server.url("/hall"), &secret),
        camera("gate", &server.url("/nothing-here"), &secret),
        camera("dock", &server.url("/hall"), &wrong),
        "[[camera]]\nid = \"test\"\nurl = \"test:ball\"\n".into(),
    ];
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/sightings");
    arm(&broker, "somebody", 1);
    let daemon = Plan::new(folder.path(), broker.port, &cameras.concat()).start();

    let sightings = watcher.seen.when("a sighting", |seen| !seen.is_empty());
    let sighting: serde_json::Value = serde_json::from_slice(&sightings[0].payload).unwrap();
    assert_eq!(sighting["event"], "new");
    assert_eq!(sighting["camera"], "hall");
    for (name, least) in [
        ("spotter_source_streaming{camera=\"hall\"}", 1.0),
        ("spotter_source_streaming{camera=\"test\"}", 1.0),
        ("spotter_source_failures_total{camera=\"gate\"}", 1.0),
        ("spotter_source_failures_total{camera=\"dock\"}", 1.0),
    ] {
        within(Duration::from_secs(30), || daemon.metric(name).filter(|value| *value >= least));
    }
    assert_eq!(daemon.metric("spotter_source_streaming{camera=\"gate\"}"), Some(0.0));

    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("gate") && log.contains("404"), "{log}");
    assert!(log.contains("dock") && log.contains("401"), "{log}");
    assert!(log.contains("Stopped."), "{log}");
    assert!(!log.contains("w0rd"), "a password is in the log: {log}");
}

#[test]
fn recordings_end_the_run_when_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("short.mp4");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(data("scenes/street-a.mp4"))
        .args(["-t", "4", "-c", "copy"])
        .arg(&clip)
        .status()
        .unwrap();
    assert!(status.success());
    let camera = format!("[[camera]]\nid = \"clip\"\nurl = \"file:{}\"\n", clip.display());
    let broker = Mosquitto::start_open();
    let mut daemon = Plan::new(folder.path(), broker.port, &camera).start();
    let status = daemon.ended(Duration::from_secs(60));
    let log = daemon.rest_of_log().join("\n");
    assert!(status.success(), "{log}");
    assert!(log.contains("Every recording has ended"), "{log}");
}

/// Frame and box of each person, from the labels of the clip (`tests/data/one-by-one.README.md`).
const PERSONS: [(u64, [f32; 4]); 6] = [
    (120, [382.0, 15.0, 520.0, 391.0]),
    (300, [380.0, 6.0, 544.0, 382.0]),
    (580, [390.0, 1.0, 555.0, 385.0]),
    (800, [364.0, 33.0, 510.0, 379.0]),
    (1000, [381.0, 10.0, 519.0, 378.0]),
    (1300, [353.0, 1.0, 531.0, 392.0]),
];

/// Acceptance: each of the six persons who walk through the room becomes a track.
#[test]
fn each_of_six_persons_over_rtsp_becomes_a_track() {
    let clip = data("one-by-one.mp4").display().to_string();
    let server = server(&["--mount", &format!("/room={clip}")]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let signal = Signal::new();
    let slot: Arc<Slot<Frame>> = Slot::new(signal.clone());
    let camera = CameraId::new("room").unwrap();
    let _source = Supervisor::spawn(Setup {
        camera: camera.clone(),
        spec: SourceSpec::Rtsp {
            url: RtspUrl::new(&server.url("/room")).unwrap(),
            transport: spotterd::source::Transport::Tcp,
            credentials_file: None,
        },
        decoder: DecoderChoice::Auto,
        rules: Rules::default(),
        clock: clock.clone(),
        stop: Arc::new(Stop::default()),
        taker: Taker::Newest(slot.clone()),
    })
    .unwrap();
    let engine = Engine {
        runtime: Runtime::load(None).unwrap(),
        options: SessionOptions::default(),
        precision: Precision::F32,
    };
    let mut detector = engine.detector("deimv2-femto").unwrap();
    let mut watch = Watch::new(camera, Arc::default());
    let mut stopwatch = Stopwatch::new(clock);
    let mut seen: Vec<(f64, TrackId, BBox)> = Vec::new();
    let (mut first, mut due) = (None, 0.0);
    // 1,394 frames at 10 a second, then the clip begins anew.
    loop {
        let frame = within(Duration::from_secs(30), || {
            let before = signal.seen();
            slot.take().or_else(|| {
                signal.wait(before, Duration::from_millis(200));
                slot.take()
            })
        });
        let pts = frame.pts.0.as_secs_f64();
        let at = pts - *first.get_or_insert(pts);
        if at > 138.0 {
            break;
        }
        if at < due {
            continue;
        }
        due = at + 0.2;
        let found = detector.detect(frame.pixels.as_ref(), frame.width, frame.height).unwrap();
        let step = watch.see(&frame, &found, &mut stopwatch);
        seen.extend(step.persons.iter().map(|person| (at, person.id, person.bbox)));
    }
    let mut tracks = Vec::new();
    for (frame, [x1, y1, x2, y2]) in PERSONS {
        let (at, place) = (frame as f64 / 10.0, BBox::new(x1, y1, x2, y2).unwrap());
        let shown: Vec<TrackId> = seen
            .iter()
            .filter(|(when, _, bbox)| (when - at).abs() < 1.0 && bbox.iou(&place) > 0.4)
            .map(|(_, track, _)| *track)
            .collect();
        assert!(!shown.is_empty(), "nobody was tracked at {at} s where {place:?} is");
        tracks.push(shown[0]);
    }
    let mut different = tracks.clone();
    different.dedup();
    assert_eq!(different.len(), 6, "six persons are not six tracks: {tracks:?}");
    println!("six persons, tracks {tracks:?}");
}

/// The schema of a topic's payload; `None` for pictures.
fn schema_of(topic: &str) -> Option<&'static str> {
    let rest = topic.strip_prefix("spotter/hall/").unwrap();
    match rest.split('/').collect::<Vec<_>>()[..] {
        ["alerts", _] => Some("alert"),
        ["box", "status"] => Some("status"),
        ["box", "cameras", _] => Some("camera"),
        ["box", "alerts", _] => Some("alert-state"),
        ["box", "sightings"] => Some("sighting"),
        ["box", "model"] => Some("model"),
        ["box", "snapshots" | "marker"] => None,
        _ => panic!("a topic that is not in the contract: {topic}"),
    }
}

fn validate(seen: &rig::Seen) {
    let Some(name) = schema_of(topic(seen)) else { return };
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/schemas");
    let schema = fs::read(schemas.join(format!("{name}.schema.json"))).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let payload: Value = serde_json::from_slice(&seen.payload).unwrap();
    if let Err(error) = jsonschema::validate(&schema, &payload) {
        panic!("{} is not as {name} should be: {error}: {payload}", topic(seen));
    }
}

/// One `new` for each track while the person is in view, with a picture; everything as the schemas say.
#[test]
fn sightings_come_while_the_person_is_in_view_with_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let server = server(&["--mount", &format!("/hall={clip}")]);
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/#");
    let camera = format!("[[camera]]\nid = \"hall\"\nurl = \"{}\"\n", server.url("/hall"));
    let daemon = Plan::new(folder.path(), broker.port, &camera).start();
    arm(&broker, "somebody", 1);

    let events = |seen: &[rig::Seen]| -> Vec<Value> {
        let sightings = seen.iter().filter(|seen| topic(seen).ends_with("/sightings"));
        sightings.map(|seen| serde_json::from_slice(&seen.payload).unwrap()).collect()
    };
    // The second person comes after 24 s: by then the first is over.
    let mut arrived: BTreeMap<String, jiff::Timestamp> = BTreeMap::new();
    within(Duration::from_secs(90), || {
        let events = events(&watcher.seen.all());
        for event in events.iter().filter(|event| event["event"] == "new") {
            let id = event["id"].as_str().unwrap().to_owned();
            arrived.entry(id).or_insert_with(jiff::Timestamp::now);
        }
        (events.iter().filter(|event| event["event"] == "end").count() >= 2).then_some(())
    });
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");

    let seen = watcher.seen.all();
    seen.iter().for_each(validate);
    let events = events(&seen);
    let mut news: BTreeMap<u64, u32> = BTreeMap::new();
    for event in events.iter().filter(|event| event["event"] == "new") {
        *news.entry(event["track"].as_u64().unwrap()).or_default() += 1;
    }
    assert!(news.len() >= 2 && news.values().all(|count| *count == 1), "{news:?}");
    for end in events.iter().filter(|event| event["event"] == "end") {
        let last: jiff::Timestamp = end["at"].as_str().unwrap().parse().unwrap();
        let told = arrived[end["id"].as_str().unwrap()];
        assert!(told < last, "told at {told}, last seen at {last}");
    }
    let mut shown: BTreeMap<(String, String), u32> = BTreeMap::new();
    for snapshot in seen.iter().filter(|s| topic(s).ends_with("/snapshots")) {
        let properties = &snapshot.properties.as_ref().unwrap().user_properties;
        let of = |key: &str| properties.iter().find(|(name, _)| name == key).unwrap().1.clone();
        let picture = image::load_from_memory(&snapshot.payload).unwrap();
        let is_place = of("kind") == "context";
        assert!(picture.width() > 20 && picture.height() > 50);
        assert!(!is_place || (picture.width(), picture.height()) == (640, 360));
        *shown.entry((of("sighting"), of("kind"))).or_default() += 1;
    }
    for event in events.iter().filter(|event| event["event"] == "new") {
        let of = |kind: &str| shown.get(&(event["id"].as_str().unwrap().into(), kind.into()));
        assert!(of("crop").is_some_and(|count| *count >= 1), "{event}: {shown:?}");
        assert_eq!(of("context"), Some(&1), "{event}: {shown:?}");
    }
}
