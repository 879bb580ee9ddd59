//! Cameras that offer a large and a small stream: found in the small one, looked at in the large one.
//!
//! The long form, eight cameras with the tower of full size, is P8 of `docs/performance.md`:
//! `SPOTTER_EIGHT=BUNDLE cargo test --release --test streams eight -- --ignored --nocapture`, with `SPOTTER_CAMERAS` and
//! `SPOTTER_SECONDS` for others than 8 and 300.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so; one that watches for a time sleeps"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Daemon, Plan, alert, publish, within},
    program::data,
    rig::{Mosquitto, Record, Watcher, topic},
    rtsp::ServerProcess,
    site::{WITHIN, stop},
};

const SCENES: [&str; 2] = ["street-a", "street-b"];

/// How much the boxes of a sighting and of a labelled person overlap at least.
const SAME: f64 = 0.4;

fn serve(fps: u32, mounts: &[(String, String)]) -> ServerProcess {
    let fps = fps.to_string();
    let mounts: Vec<String> =
        mounts.iter().map(|(mount, clip)| format!("{mount}={clip}")).collect();
    let mut arguments = vec!["--live", &fps];
    mounts.iter().for_each(|mount| arguments.extend(["--mount", mount]));
    ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_rtsp-server")), &arguments).unwrap()
}

/// A camera, the round of its clip, and a person in it.
type Visit = (usize, usize, u64);

/// Everybody who walks through a scene.
struct Scene {
    size: [f64; 2],
    seconds: f64,
    fps: f64,
    /// Persons and their boxes, left, top, right, bottom in shares, for each frame.
    frames: Vec<Vec<(u64, [f64; 4])>>,
    /// When each was well seen first, seconds.
    good_from: BTreeMap<u64, f64>,
}

impl Scene {
    fn read(name: &str) -> Self {
        let path = data(&format!("scenes/{name}.truth.json"));
        let truth: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let number = |value: &Value| value.as_f64().unwrap();
        let (size, fps) = ([&truth["width"], &truth["height"]].map(number), number(&truth["fps"]));
        let (mut frames, mut good_from) = (Vec::new(), BTreeMap::new());
        for (index, frame) in truth["persons_per_frame"].as_array().unwrap().iter().enumerate() {
            let mut persons = Vec::new();
            for person in frame["persons"].as_array().unwrap() {
                let corners = |name: &str| -> Vec<f64> {
                    person[name].as_array().unwrap().iter().map(number).collect()
                };
                let (seen, whole) = (corners("box"), corners("full_box"));
                let is_cut =
                    seen.iter().zip(&whole).any(|(seen, whole)| (seen - whole).abs() > 1.5);
                let id = person["id"].as_u64().unwrap();
                let is_good = number(&person["visibility"]) >= 0.7 && seen[3] - seen[1] >= 96.0;
                if is_good && !is_cut {
                    good_from.entry(id).or_insert(index as f64 / fps);
                }
                let shares = std::array::from_fn(|side| seen[side] / size[side % 2]);
                persons.push((id, shares));
            }
            frames.push(persons);
        }
        Self { size, seconds: frames.len() as f64 / fps, fps, frames, good_from }
    }

    /// Who is there, `at` that second of the scene.
    fn who(&self, at: f64, [left, top, width, height]: [f64; 4]) -> Option<u64> {
        let frame = self.frames.get((at * self.fps).round() as usize % self.frames.len())?;
        let overlap = |other: &[f64; 4]| {
            let span = |from: f64, to: f64| (to - from).max(0.0);
            let across = span(left.max(other[0]), (left + width).min(other[2]));
            let down = span(top.max(other[1]), (top + height).min(other[3]));
            let both = across * down;
            both / (width * height + span(other[0], other[2]) * span(other[1], other[3]) - both)
        };
        let (best, id) = frame
            .iter()
            .map(|(id, corners)| (overlap(corners), *id))
            .max_by(|one, other| one.0.total_cmp(&other.0))?;
        (best >= SAME).then_some(id)
    }
}

/// Sightings with the time at which they arrived.
struct Listener {
    child: Child,
    told: Record<(f64, Value)>,
}

impl Listener {
    fn start(port: u16) -> Self {
        let port = port.to_string();
        let mut child = Command::new("mosquitto_sub")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-F", "%U %p"])
            .args(["-t", "spotter/hall/box/sightings"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, told) = (child.stdout.take().unwrap(), Record::new());
        let record = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let (at, payload) = line.split_once(' ').unwrap();
                record.push((at.parse().unwrap(), serde_json::from_str(payload).unwrap()));
            }
        });
        Self { child, told }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A site of so many cameras, each with its two streams.
struct Streams {
    server: ServerProcess,
    broker: Mosquitto,
    watcher: Watcher,
    listener: Listener,
    folder: tempfile::TempDir,
    scenes: Vec<Scene>,
    cameras: usize,
}

impl Streams {
    fn new(cameras: usize, fps: u32, large: &str) -> Self {
        let scene = |camera: usize| SCENES[camera % SCENES.len()];
        let clip =
            |camera: usize| data(&format!("scenes/{}.mp4", scene(camera))).display().to_string();
        let mounts = (0..cameras).flat_map(|camera| {
            let (large, small) = (clip(camera) + large, clip(camera) + "@640x360");
            [(format!("/c{camera}/main"), large), (format!("/c{camera}/sub"), small)]
        });
        let server = serve(fps, &mounts.collect::<Vec<_>>());
        let broker = Mosquitto::start_open();
        let watcher = Watcher::start(broker.port, "spotter/hall/box/snapshots");
        let listener = Listener::start(broker.port);
        let scenes = (0..cameras).map(|camera| Scene::read(scene(camera))).collect();
        let folder = tempfile::tempdir().unwrap();
        Self { server, broker, watcher, listener, folder, scenes, cameras }
    }

    fn plan(&self) -> Plan {
        let camera = |camera: usize| {
            let [main, sub] =
                ["main", "sub"].map(|name| self.server.url(&format!("/c{camera}/{name}")));
            format!("[[camera]]\nid = \"c{camera}\"\nurl = \"{main}\"\nsub_url = \"{sub}\"\n")
        };
        let cameras: String = (0..self.cameras).map(camera).collect();
        Plan::new(self.folder.path(), self.broker.port, &cameras)
    }

    /// Everybody alerts, by an alert of their camera's own. Called again now and then with another round, since an alert tells
    /// only so many an hour.
    fn arm(&self, round: u64) {
        for camera in 0..self.cameras {
            let mut wanted = alert("a person in a coat", 1);
            wanted["cooldown_s"] = json!(0);
            wanted["cameras"] = json!([format!("c{camera}")]);
            publish(&self.broker, &format!("everybody-{camera}-{round}"), &wanted.to_string());
            if let Some(before) = round.checked_sub(1) {
                self.broker.publish(
                    &format!("spotter/hall/alerts/everybody-{camera}-{before}"),
                    "",
                    &["-r"],
                );
            }
        }
    }

    /// Sightings as they were told first, and when they arrived, in seconds since 1970.
    fn news(&self) -> Vec<(f64, Value)> {
        let told = self.listener.told.all().into_iter();
        told.filter(|(_, told)| told["event"] == "new").collect()
    }

    /// From the first good view of each person to the first word of them, seconds, and how many nobody was told of,
    /// of those who came into view well between these seconds of the server.
    fn delays(&self, from: f64, to: f64) -> (Vec<f64>, usize) {
        let begins = self.server.begins().as_secs_f64();
        // Whom a sighting shows is told by all its messages: at the first one two persons may stand in one place.
        let mut shown: BTreeMap<String, (f64, BTreeMap<Visit, usize>)> = BTreeMap::new();
        for (arrived, told) in self.listener.told.all() {
            let camera: usize = told["camera"].as_str().unwrap()[1..].parse().unwrap();
            let at: jiff::Timestamp = told["at"].as_str().unwrap().parse().unwrap();
            let at = at.as_millisecond() as f64 / 1000.0 - begins;
            let bbox: Vec<f64> =
                told["box"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
            let scene = &self.scenes[camera];
            let id = told["id"].as_str().unwrap().to_owned();
            let (_, visits) =
                shown.entry(id).or_insert_with(|| (arrived - begins, BTreeMap::new()));
            let Some(person) = scene.who(at % scene.seconds, bbox.try_into().unwrap()) else {
                continue;
            };
            let round = (at / scene.seconds) as usize;
            *visits.entry((camera, round, person)).or_default() += 1;
        }
        let mut first: BTreeMap<Visit, f64> = BTreeMap::new();
        for (arrived, visits) in shown.into_values() {
            let Some((visit, _)) = visits.into_iter().max_by_key(|(_, count)| *count) else {
                continue;
            };
            let first = first.entry(visit).or_insert(arrived);
            *first = first.min(arrived);
        }
        let (mut delays, mut missed) = (Vec::new(), 0);
        for (camera, scene) in self.scenes.iter().enumerate() {
            for round in 0..=(to / scene.seconds) as usize {
                for (person, good) in &scene.good_from {
                    let good = round as f64 * scene.seconds + good;
                    if good < from || good > to {
                        continue;
                    }
                    match first.get(&(camera, round, *person)) {
                        Some(told) => {
                            if told - good > 2.5 {
                                println!(
                                    "late: camera {camera}, person {person}, {:.1} s",
                                    told - good
                                );
                            }
                            delays.push((told - good).max(0.0));
                        }
                        None => {
                            println!("not told: camera {camera}, person {person}");
                            missed += 1;
                        }
                    }
                }
            }
        }
        delays.sort_by(f64::total_cmp);
        (delays, missed)
    }

    fn now(&self) -> f64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now - self.server.begins()).as_secs_f64()
    }
}

/// All counters of this name whose labels hold that, added up.
fn sum(daemon: &Daemon, name: &str, label: &str) -> f64 {
    let page = daemon.metrics();
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn persons_are_found_in_the_small_stream_and_cut_out_of_the_large_one() {
    let streams = Streams::new(1, 15, "");
    let plan = streams.plan();
    let daemon = plan.start();
    streams.arm(0);
    // Whole pictures of the place and crops come; crops are as large as the large stream has them.
    let tall = |streams: &Streams| -> BTreeSet<u32> {
        let seen = streams.watcher.seen.all();
        let pictures = seen.iter().filter(|seen| topic(seen).ends_with("/snapshots"));
        let crops = pictures.filter(|seen| {
            let properties = &seen.properties.as_ref().unwrap().user_properties;
            properties.iter().any(|(name, value)| name == "kind" && value == "crop")
        });
        crops.map(|seen| image::load_from_memory(&seen.payload).unwrap().height()).collect()
    };
    within(WITHIN, || (streams.news().len() >= 6).then_some(()));
    let heights: BTreeMap<String, f64> = streams
        .news()
        .iter()
        .map(|(_, told)| (told["id"].to_string(), told["box"][3].as_f64().unwrap()))
        .collect();
    // The highest box in the small stream's pixels, and the highest crop in the large one's.
    let highest = heights.values().fold(0.0_f64, |most, height| most.max(*height));
    let crop = within(WITHIN, || tall(&streams).last().copied());
    assert!(f64::from(crop) > 1.5 * highest * 360.0, "{crop} of {highest}");
    // Whoever was told is who walks there: the two streams show the same moment.
    let (delays, missed) = streams.delays(0.0, streams.now() - 5.0);
    assert!(!delays.is_empty(), "nobody of {missed} was found where they are");
    assert_eq!(sum(&daemon, "spotter_small_crops_total", ""), 0.0);
    // Without its large stream a camera goes on by the small one.
    let state = daemon.metric("spotter_source_streaming{camera=\"c0\"}");
    assert_eq!(state, Some(1.0));
    stop(daemon);
}

/// A measurement, not a test: it takes minutes of all cores and a bundle in SPOTTER_EIGHT.
#[test]
#[ignore = "measures this machine for minutes: make bench"]
fn eight_cameras_on_this_machine() {
    let bundle = std::env::var("SPOTTER_EIGHT").expect("SPOTTER_EIGHT names a bundle of full size");
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
    };
    let (cameras, seconds) = (number("SPOTTER_CAMERAS", 8), number("SPOTTER_SECONDS", 300));
    let streams = Streams::new(cameras as usize, 25, "@1920x1080");
    let mut plan = streams.plan();
    plan.bundle = Some(bundle);
    plan.rest += &std::env::var("SPOTTER_MORE").unwrap_or_default();
    let daemon = plan.start();
    streams.arm(0);
    // Connected, warm, and armed.
    within(WITHIN, || (!streams.news().is_empty()).then_some(()));
    std::thread::sleep(Duration::from_secs(15));
    let counters = || {
        let of = |name: &str, label: &str| sum(&daemon, name, label);
        [
            of("spotter_stage_dropped_total", "reason=\"newer_frame\""),
            of("spotter_stage_dropped_total", "reason=\"queue_full\""),
            of("spotter_stage_in_total", "stage=\"detect\""),
            of("spotter_stage_in_total", "stage=\"embed\""),
            of("spotter_small_crops_total", ""),
            of("spotter_source_decoded_total", ""),
        ]
    };
    let (before, cpu, from) = (counters(), daemon.cpu(), streams.now());
    let mut left = seconds;
    for round in 1.. {
        let span = left.min(60);
        std::thread::sleep(Duration::from_secs(span));
        left -= span;
        if left == 0 {
            break;
        }
        streams.arm(round);
    }
    let (after, spent, to) = (counters(), daemon.cpu() - cpu, streams.now());
    std::thread::sleep(Duration::from_secs(5));
    let took = to - from;
    let per_s = |index: usize| (after[index] - before[index]) / took;
    let (delays, missed) = streams.delays(from, to);
    let quantile =
        |share: f64| delays[((delays.len() as f64 * share) as usize).min(delays.len() - 1)];
    println!(
        "cameras {cameras}, seconds {took:.0}, cores {:.2}, memory MB {:.0}, looks/s {:.1}, embeddings/s {:.2}, small crops/s \
         {:.2}, newer_frame {:.0}, queue_full {:.0}, persons told {}, not told {missed}, delay s median {:.2} p99 {:.2}",
        spent.as_secs_f64() / took,
        daemon.memory_kib() as f64 / 1024.0,
        per_s(2),
        per_s(3),
        per_s(4),
        after[0] - before[0],
        after[1] - before[1],
        delays.len(),
        quantile(0.5),
        quantile(0.99),
    );
    assert!(streams.scenes.iter().all(|scene| scene.size[0] > 0.0));
    stop(daemon);
}
