//! Another bundle takes over while persons are watched; one that cannot is refused, and the old one goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Daemon, Plan, alert, eventually, last_json, publish, within},
    program::{data, spotterd},
    rig::{self, Mosquitto, Watcher},
    site::{Site, WITHIN, stop},
};
use spotter_models::{Digest, Generation};

/// Swaps in a row; set SPOTTER_SWAPS for a long run, which also says how much memory each left.
const SWAPS: usize = 6;

/// From so many swaps on, memory at the end is compared with that at the beginning.
const ENOUGH_FOR_MEMORY: usize = 60;

/// Power cuts, each later than the one before.
const KILLS: u64 = 12;

/// How long a daemon that is looked at for its memory runs before.
const WARM_UP: Duration = Duration::from_secs(180);

/// Time to open a tiny bundle and find what is wrong with it.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// A store with bundles, and a daemon's plan that serves by its current one.
struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A bundle of random weights; its folder.
    fn bundle(&self, seed: u64) -> String {
        let out = self.at(&format!("bundle-{seed}"));
        let seed = seed.to_string();
        let run =
            spotterd(&["bench", "random-bundle", "--size", "tiny", "--seed", &seed, "--out", &out]);
        assert_eq!(run.code, 0, "{}", run.err);
        out
    }

    /// Makes a bundle current; its generation.
    #[track_caller]
    fn promote(&self, bundle: &str) -> String {
        let run = spotterd(&["bundle", "promote", &self.at("store"), bundle]);
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        run.out.split_whitespace().next().unwrap().to_owned()
    }

    fn current(&self) -> String {
        let target = fs::read_link(self.path("store/current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Makes a folder the current generation as no command would: unseen.
    fn slip_in(&self, folder: &Path) -> String {
        let manifest = fs::read(folder.join("manifest.json")).unwrap();
        let generation = Generation::of_manifest(&manifest).to_string();
        let place = self.path("store/generations").join(&generation);
        fs::rename(folder, place).unwrap();
        self.point_at(&generation);
        generation
    }

    fn point_at(&self, generation: &str) {
        let link = self.path("store/next");
        symlink(Path::new("generations").join(generation), &link).unwrap();
        fs::rename(link, self.path("store/current")).unwrap();
    }

    fn plan(&self, broker: &Mosquitto) -> Plan {
        let camera = |id: &str, clip: &str| {
            let clip = data(clip).display().to_string();
            format!("[[camera]]\nid = \"{id}\"\nurl = \"file:{clip}\"\nrepeat = true\n")
        };
        let cameras = camera("gate", "one-by-one.mp4") + &camera("yard", "scenes/street-a.mp4");
        let mut plan = Plan::new(self.folder.path(), broker.port, &cameras);
        plan.bundle = Some(self.at("store"));
        plan.mqtt += "\ncommands = [\"use-bundle\"]";
        plan
    }
}

fn copy(from: &str, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Changes a file of a bundle, and what the manifest says of it.
fn change(bundle: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(bundle.join(name)).unwrap();
    change(&mut bytes);
    fs::write(bundle.join(name), &bytes).unwrap();
    let hash = Digest::of(&bytes).to_string();
    manifest(bundle, |manifest| {
        manifest["files"][name]["sha256"] = json!(hash);
        manifest["files"][name]["bytes"] = json!(bytes.len());
    });
}

fn manifest(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
}

/// What the device says of its model, once that holds.
#[track_caller]
fn model(watcher: &Watcher, holds: impl Fn(&Value) -> bool) -> Value {
    within(WITHIN, || Some(last_json("spotter/hall/box/model", &watcher.seen.all())).filter(&holds))
}

/// Everything that was said of the model is what its schema says.
#[track_caller]
fn models_are_of_the_contract(watcher: &Watcher) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/schemas/model.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let seen = watcher.seen.all();
    let models = seen.iter().filter(|seen| rig::topic(seen).ends_with("/model"));
    for model in models.map(|seen| serde_json::from_slice::<Value>(&seen.payload).unwrap()) {
        if let Err(error) = jsonschema::validate(&schema, &model) {
            panic!("{error}: {model}");
        }
    }
}

fn serves<'a>(generation: &'a str) -> impl Fn(&Value) -> bool + use<'a> {
    move |model| model["bundle"] == generation && model["state"] == "serving"
}

/// Sightings so far, as they were told.
fn sightings(watcher: &Watcher) -> Vec<Value> {
    let all = watcher.seen.all();
    let told = all.iter().filter(|seen| rig::topic(seen).ends_with("/sightings"));
    told.map(|seen| serde_json::from_slice(&seen.payload).unwrap()).collect()
}

/// A new sighting by this bundle.
#[track_caller]
fn until_seen_by(watcher: &Watcher, generation: &str) {
    let is_new = |told: &Value| told["bundle"] == generation && told["event"] == "new";
    within(WITHIN, || sightings(watcher).iter().any(is_new).then_some(()));
}

fn dropped(daemon: &Daemon) -> f64 {
    let of = |camera: &str| {
        let name = format!(
            "spotter_stage_dropped_total{{stage=\"embed\",camera=\"{camera}\",reason=\"queue_full\"}}"
        );
        daemon.metric(&name).unwrap_or(0.0)
    };
    of("gate") + of("yard")
}

#[test]
fn bundles_take_over_from_each_other_while_persons_are_watched() {
    let room = Room::new();
    let broker = Mosquitto::start_open();
    let bundles = [room.bundle(1), room.bundle(2)];
    let ids: Vec<String> = bundles.iter().map(|bundle| room.promote(bundle)).collect();
    let plan = room.plan(&broker);
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let daemon = plan.start();
    publish(&broker, "everybody", &alert("a person in a coat", 1).to_string());
    until_seen_by(&watcher, &ids[1]);
    let swaps = std::env::var("SPOTTER_SWAPS").ok().and_then(|text| text.parse().ok());
    let swaps: usize = swaps.unwrap_or(SWAPS);
    let mut memory = Vec::new();
    if swaps >= ENOUGH_FOR_MEMORY {
        // Whoever passes fills histories, queues and the gallery's files at first.
        std::thread::sleep(WARM_UP);
    }
    for swap in 0..swaps {
        let next = &ids[swap % 2];
        match swap % 3 {
            0 => assert_eq!(&room.promote(next), next),
            1 => command(&broker, &json!({"command": "use-bundle", "bundle": next})),
            // Back to what was current before.
            _ => command(&broker, &json!({"command": "rollback"})),
        }
        let told = model(&watcher, serves(next));
        assert_eq!((&told["refused"], &told["opening"]), (&Value::Null, &Value::Null), "{told}");
        memory.push(daemon.memory_kib());
    }
    // Seen, told and armed by the last one.
    let last = &ids[(swaps - 1) % 2];
    let before = sightings(&watcher).len();
    within(WITHIN, || {
        let new = |told: &&Value| told["bundle"] == last.as_str() && told["event"] == "new";
        sightings(&watcher).iter().skip(before).find(new).is_some().then_some(())
    });
    let status = last_json("spotter/hall/box/status", &watcher.seen.all());
    assert_eq!(status["bundle"], last.as_str(), "{status}");
    let state = last_json("spotter/hall/box/alerts/everybody", &watcher.seen.all());
    assert_eq!((&state["state"], &state["bundle"]), (&json!("armed"), &json!(last)), "{state}");
    // No view was lost for it, and every sighting is of one bundle from its first word to its last.
    assert_eq!(dropped(&daemon), 0.0);
    assert_eq!(daemon.metric("spotter_bundle_switches_total"), Some(swaps as f64));
    let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for told in sightings(&watcher) {
        let id = told["id"].as_str().unwrap().to_owned();
        of.entry(id).or_default().insert(told["bundle"].as_str().unwrap().to_owned());
    }
    assert!(
        of.values().all(|bundles| bundles.len() == 1 && ids.contains(bundles.first().unwrap()))
    );
    // Who was seen by either is found.
    let address = format!("mqtt://127.0.0.1:{}", broker.port);
    let run = spotterd(&[
        "search",
        "a person in a coat",
        "--limit",
        "100",
        "--site",
        "hall",
        "--broker",
        &address,
        "--wait",
        "20",
        "--json",
    ]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let answers: Value = serde_json::from_str(&run.out).unwrap();
    let answer = &answers["answers"][0];
    let found = answer["results"].as_array().unwrap();
    let other = ids.iter().find(|id| *id != last).unwrap();
    let by = |bundle: Value| found.iter().filter(|found| found["bundle"] == bundle).count();
    assert!(by(Value::Null) > 0 && by(json!(other)) > 0, "{answer}");
    assert_eq!(answer["not_searched"], Value::Null);
    // Nobody is told twice since the bundle is another.
    let mut new: BTreeMap<String, u32> = BTreeMap::new();
    for told in sightings(&watcher).iter().filter(|told| told["event"] == "new") {
        *new.entry(format!("{} {}", told["camera"], told["track"])).or_default() += 1;
    }
    assert!(new.values().all(|count| *count == 1), "{new:?}");
    models_are_of_the_contract(&watcher);
    let log = daemon.said();
    for word in ["several bundles", "another bundle than", "two bundles", "ended by a bug"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    println!("{swaps} swaps, memory after each in KiB: {memory:?}");
    if swaps >= ENOUGH_FOR_MEMORY {
        let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64;
        let (first, last) = (mean(&memory[..20]), mean(&memory[swaps - 20..]));
        assert!(last <= first * 1.02, "{first} KiB grew to {last}");
    }
    stop(daemon);
}

/// The same bundle with persons by whom a budget can be spread, and a parent where it is given one.
fn with_cohort(room: &Room, bundle: &str, name: &str, parent: Option<&str>) -> String {
    let (out, pictures) = (room.at(name), data("persons").display().to_string());
    let arguments =
        ["bundle", "cohort", "--bundle", bundle, "--pictures", &pictures, "--out", &out];
    let run = spotterd(&arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    if let Some(parent) = parent {
        manifest(Path::new(&out), |manifest| manifest["parent"] = json!(parent));
    }
    out
}

#[test]
fn a_bundle_of_the_site_whose_sightings_staff_reject_is_taken_back() {
    let room = Room::new();
    let broker = Mosquitto::start_open();
    let vendors = room.promote(&with_cohort(&room, &room.bundle(1), "vendors", None));
    let mut plan = room.plan(&broker);
    plan.policy = "budget=2";
    let site = Site::new(broker, &plan);
    let watcher = Watcher::start(site.broker.port, "spotter/hall/box/#");
    let daemon = plan.start();
    let mut wanted = alert("a person in a coat", 1);
    wanted["budget_per_day"] = json!(400);
    publish(&site.broker, "everybody", &wanted.to_string());
    until_seen_by(&watcher, &vendors);
    let own = room.promote(&with_cohort(&room, &room.bundle(2), "own", Some(&vendors)));
    let told = model(&watcher, serves(&own));
    assert_eq!(told["parent"], vendors.as_str());
    let ids = within(WITHIN, || {
        let told = sightings(&watcher).into_iter();
        let ended = told.filter(|told| told["bundle"] == own.as_str() && told["event"] == "end");
        let ids: Vec<String> = ended.map(|told| told["id"].as_str().unwrap().to_owned()).collect();
        (ids.len() >= 8).then_some(ids)
    });
    for id in ids.iter().take(8) {
        let run = site.run("feedback reject", &[id, "--by", "gate"]);
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    }
    let told = model(&watcher, serves(&vendors));
    let refused = &told["refused"];
    assert_eq!(refused["bundle"], own.as_str(), "{told}");
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("staff rejected") && reason.contains("budgets"), "{reason}");
    assert_eq!(room.current(), vendors);
    // What the vendor made is not taken back, whatever is said of it.
    assert_eq!(told["parent"], Value::Null);
    models_are_of_the_contract(&watcher);
    stop(daemon);
}

/// What is wrong with a bundle, how it comes about, and words of the reason.
type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

fn command(broker: &Mosquitto, payload: &Value) {
    broker.publish("spotter/hall/box/command", &payload.to_string(), &[]);
}

#[test]
fn a_bundle_that_cannot_serve_is_refused_and_the_old_one_goes_on() {
    let room = Room::new();
    let broker = Mosquitto::start_open();
    let (good, other) = (room.bundle(1), room.bundle(2));
    let id = room.promote(&good);
    let plan = room.plan(&broker);
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let daemon = plan.start();
    publish(&broker, "everybody", &alert("a person in a coat", 1).to_string());
    model(&watcher, serves(&id));
    let bad = |name: &str, change: &dyn Fn(&Path)| {
        let folder = room.path(name);
        copy(&other, &folder);
        change(&folder);
        (room.slip_in(&folder), name.to_owned())
    };
    let other_probe = fs::read(Path::new(&good).join("probe.safetensors")).unwrap();
    let cases: [Case; 6] = [
        (
            "a file that was changed",
            &|bundle| {
                let path = bundle.join("vision.f32.onnx");
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
            },
            &["vision.f32.onnx", "sha256"],
        ),
        (
            "weights that are no numbers",
            &|bundle| {
                change(bundle, "vision.f32.onnx", |bytes| {
                    let middle = (bytes.len() / 2) & !3;
                    bytes[middle..middle + 64].fill(0xff);
                });
            },
            &["vision"],
        ),
        (
            "another size of embeddings",
            &|bundle| manifest(bundle, |manifest| manifest["config"]["embed"] = json!(64)),
            &["embed"],
        ),
        (
            "a probe of other weights",
            &|bundle| change(bundle, "probe.safetensors", |bytes| bytes.clone_from(&other_probe)),
            &["other embeddings than the exporter"],
        ),
        (
            "a newer layout",
            &|bundle| manifest(bundle, |manifest| manifest["schema"] = json!(99)),
            &["schema", "99"],
        ),
        ("no manifest's name", &|bundle| manifest(bundle, |m| m["name"] = json!("")), &["name"]),
    ];
    for (name, change, words) in cases {
        let (refused, name) = bad(name, change);
        let is_refused = |model: &Value| model["refused"]["bundle"] == refused.as_str();
        let told = eventually(REFUSED_WITHIN, || {
            Some(last_json("spotter/hall/box/model", &watcher.seen.all())).filter(is_refused)
        });
        let told = told.unwrap_or_else(|| panic!("{name} is not refused: {}", daemon.said()));
        let reason = told["refused"]["reason"].as_str().unwrap();
        for word in words {
            assert!(reason.contains(word), "{name}: {word:?} is not in {reason:?}");
        }
        model(&watcher, serves(&id));
        within(WITHIN, || (room.current() == id).then_some(()));
    }
    // One that is not there at all.
    room.point_at("0123456789abcdef0123456789abcdef");
    let is_refused =
        |model: &Value| model["refused"]["bundle"] == "0123456789abcdef0123456789abcdef";
    let told = model(&watcher, is_refused);
    assert!(told["refused"]["reason"].as_str().unwrap().contains("is not installed"), "{told}");
    within(WITHIN, || (room.current() == id).then_some(()));
    assert_eq!(daemon.metric("spotter_bundle_refused_total"), Some(7.0));
    assert_eq!(daemon.metric("spotter_bundle_switches_total").unwrap_or(0.0), 0.0);
    let before = sightings(&watcher).len();
    within(WITHIN, || (sightings(&watcher).len() > before).then_some(()));
    assert!(sightings(&watcher).iter().all(|told| told["bundle"] == id.as_str()));
    stop(daemon);

    // A start on one that cannot serve: the one that was current before does.
    assert_ne!(room.promote(&other), id);
    let current = room.current();
    let file = room.path("store/generations").join(&current).join("text.f32.onnx");
    fs::write(file, "rubbish").unwrap();
    let seen = watcher.seen.all().len();
    let daemon = plan.start();
    let told = within(WITHIN, || {
        let all = watcher.seen.all();
        let told = last_json("spotter/hall/box/model", &all[seen..]);
        (told["bundle"] == id.as_str()).then_some(told)
    });
    assert_eq!(told["refused"]["bundle"], current.as_str(), "{told}");
    assert_eq!(room.current(), id);
    models_are_of_the_contract(&watcher);
    stop(daemon);
}

/// A power cut at any moment of a switch or of the way back leaves a store of which one bundle serves.
#[test]
fn a_daemon_that_is_killed_while_bundles_change_serves_one_of_them_after_it() {
    let room = Room::new();
    let broker = Mosquitto::start_open();
    let ids = [1, 2].map(|seed| room.promote(&room.bundle(seed)));
    let plan = room.plan(&broker);
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    publish(&broker, "everybody", &alert("a person in a coat", 1).to_string());
    let mut daemon = plan.start();
    for cut in 0..KILLS {
        let current = room.current();
        model(&watcher, serves(&current));
        let other = if current == ids[0] { &ids[1] } else { &ids[0] };
        if cut % 3 == 2 {
            // One that cannot serve: the way back is cut too.
            let folder = room.path(&format!("bad-{cut}"));
            copy(&room.at("bundle-1"), &folder);
            manifest(&folder, |manifest| manifest["schema"] = json!(90 + cut));
            room.slip_in(&folder);
        } else {
            room.promote(other);
        }
        // From before it is seen, which is once a second, to after it serves.
        std::thread::sleep(Duration::from_millis(150 * cut));
        drop(daemon.kill());
        let seen = watcher.seen.all().len();
        daemon = plan.start();
        let told = within(WITHIN, || {
            let all = watcher.seen.all();
            let told = last_json("spotter/hall/box/model", &all[seen..]);
            (told["state"] == "serving" && told["bundle"] == room.current()).then_some(told)
        });
        assert!(ids.iter().any(|id| told["bundle"] == id.as_str()), "{told}");
        let leftovers = fs::read_dir(room.path("store/generations")).unwrap();
        let names = leftovers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.filter(|name| name.contains('.')).count() == 0);
    }
    let before = sightings(&watcher).len();
    within(WITHIN, || (sightings(&watcher).len() > before).then_some(()));
    stop(daemon);
}

/// Texts and pictures of two random bundles have nothing in common: by one of them everybody is on one side of this
/// text, by the other on the other.
const SIDES: (u64, u64, &str) = (4, 1, "woman in a red dress");

#[test]
fn a_candidate_looks_along_and_serves_where_it_finds_the_same() {
    let room = Room::new();
    let broker = Mosquitto::start_open();
    let bundles = [room.bundle(1), room.bundle(2)];
    let serving = room.promote(&bundles[0]);
    let mut plan = room.plan(&broker);
    plan.rest += "[bundles]\nshadow_s = 3\n";
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let daemon = plan.start();
    publish(&broker, "everybody", &alert("a person in a coat", 1).to_string());
    until_seen_by(&watcher, &serving);
    let run = spotterd(&["bundle", "promote", &room.at("store"), &bundles[1], "--shadow"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let candidate = run.out.split_whitespace().next().unwrap().to_owned();
    assert_eq!(room.current(), serving);
    let listed = spotterd(&["bundle", "list", &room.at("store")]);
    assert!(listed.out.contains(&format!("? {candidate}")), "{}", listed.out);
    let runs = |told: &Value| told["shadow"]["outcome"] == "running";
    let told = model(&watcher, runs);
    assert_eq!((&told["bundle"], &told["shadow"]["bundle"]), (&json!(serving), &json!(candidate)));
    // A power cut ends the trial, not the candidacy.
    daemon.kill();
    let daemon = plan.start();
    let told = model(&watcher, serves(&candidate));
    let shadow = &told["shadow"];
    assert_eq!(shadow["outcome"], "promoted", "{told}");
    let count = |name: &str| shadow[name].as_u64().unwrap();
    assert!(count("persons") > 0 && count("both") == count("persons"), "{told}");
    assert_eq!((count("only_serving"), count("only_candidate")), (0, 0), "{told}");
    assert_eq!(told["refused"], Value::Null, "{told}");
    assert_eq!(room.current(), candidate);
    assert!(fs::read_link(room.path("store/candidate")).is_err());
    // Nothing of what it would have told was told before it served.
    until_seen_by(&watcher, &candidate);
    let order: Vec<Value> = sightings(&watcher).iter().map(|told| told["bundle"].clone()).collect();
    let first = order.iter().position(|bundle| *bundle == candidate.as_str()).unwrap();
    assert!(order[..first].iter().all(|bundle| *bundle == serving.as_str()));
    models_are_of_the_contract(&watcher);
    stop(daemon);
}

#[test]
fn a_candidate_that_would_tell_far_more_is_refused() {
    let room = Room::new();
    let broker = Mosquitto::start_open();
    let (silent, loud, text) = SIDES;
    let bundles = [room.bundle(silent), room.bundle(loud)];
    let serving = room.promote(&bundles[0]);
    let candidate = room.promote(&bundles[1]);
    room.promote(&serving);
    let mut plan = room.plan(&broker);
    plan.policy = "fixed=0";
    plan.rest += "[bundles]\nshadow_s = 8\n";
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let daemon = plan.start();
    model(&watcher, serves(&serving));
    publish(&broker, "everybody", &alert(text, 1).to_string());
    // A slip of the pen does not promote it at once.
    command(&broker, &json!({"command": "use-bundle", "bundle": candidate, "shadoww": true}));
    command(&broker, &json!({"command": "use-bundle", "bundle": candidate, "shadow": true}));
    let told = model(&watcher, |told| told["shadow"]["outcome"] == "refused");
    let (shadow, refused) = (&told["shadow"], &told["refused"]);
    assert_eq!((&told["bundle"], &refused["bundle"]), (&json!(serving), &json!(candidate)));
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("too many more"), "{told}");
    assert_eq!(shadow["alerts"][0]["alert"], "everybody", "{told}");
    assert_eq!(shadow["alerts"][0]["only_candidate"], shadow["only_candidate"], "{told}");
    assert!(fs::read_link(room.path("store/candidate")).is_err());
    assert_eq!(room.current(), serving);
    assert_eq!(sightings(&watcher), Vec::<Value>::new());
    models_are_of_the_contract(&watcher);
    stop(daemon);
}
