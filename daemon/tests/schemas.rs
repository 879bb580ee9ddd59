//! The schemas of `configs/schemas`: they are schemas, their examples fit, and so does what the
//! code reads and writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use jsonschema::{Draft, Registry, Validator};
use proptest::{prelude::*, sample::select};
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use spotter_models::Generation;
use spotterd::{
    alert::{
        AlertId, Book, Policy, Rules, Wall,
        approval::Approval,
        book::{Retained, Status},
        place::Places,
        schema::Message,
        state::{AlertState, Arming, StateName},
    },
    clock::Mono,
    erase::Fields,
    feedback::Wish,
    frame::CameraId,
    hold::{self, ReleaseFields},
    sighting::{Event, Ledger, Limits, Moment, Phrase, Scored},
};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs/schemas").join(name)
}

/// The JSON files of a folder: what stands before the first dot of the name, the name, the content.
fn files(name: &str) -> Vec<(String, String, Value)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = serde_json::from_slice(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        files.push((file.split('.').next().unwrap().to_owned(), file, content));
    }
    assert!(!files.is_empty(), "no files in {name}");
    files
}

struct Schemas(BTreeMap<String, Validator>);

impl Schemas {
    fn load() -> Self {
        let files = files(".");
        let mut registry = Registry::new();
        for (_, _, schema) in &files {
            registry = registry.add(schema["$id"].as_str().unwrap(), schema).unwrap();
        }
        let registry = registry.prepare().unwrap();
        let validator = |schema: &Value| {
            jsonschema::options()
                .with_draft(Draft::Draft202012)
                .with_registry(&registry)
                .should_validate_formats(true)
                .build(schema)
                .unwrap()
        };
        Self(files.iter().map(|(name, _, schema)| (name.clone(), validator(schema))).collect())
    }

    fn fits(&self, name: &str, payload: &Value) -> bool {
        self.0[name].is_valid(payload)
    }

    #[track_caller]
    fn check(&self, name: &str, payload: &Value) {
        let errors: Vec<String> = self.0[name]
            .iter_errors(payload)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{payload:#}\n{errors:#?}");
    }

    #[track_caller]
    fn check_bytes(&self, name: &str, payload: &[u8]) -> Value {
        let payload = serde_json::from_slice(payload).unwrap();
        self.check(name, &payload);
        payload
    }
}

#[test]
fn every_schema_is_one_and_names_itself() {
    for (name, file, schema) in files(".") {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{file}");
        assert_eq!(schema["$id"], format!("urn:spotter:schema:1:{name}"));
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{file}");
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{file}");
    }
}

#[test]
fn every_schema_has_examples_that_fit_and_some_that_do_not() {
    let schemas = Schemas::load();
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (name, file, example) in files("examples") {
        println!("{file}");
        schemas.check(&name, &example);
        counts.entry(name).or_default().0 += 1;
    }
    for (name, file, example) in files("examples/invalid") {
        assert!(!schemas.fits(&name, &example), "{file} fits");
        counts.entry(name).or_default().1 += 1;
    }
    for name in schemas.0.keys() {
        let (good, bad) = counts.get(name).copied().unwrap_or_default();
        assert!(good > 0 && bad > 0, "{name}: {good} examples that fit, {bad} that do not");
    }
}

fn is_taken(message: &Message) -> bool {
    matches!(message, Message::Alert { .. } | Message::Withdrawn { .. })
}

#[test]
fn the_code_reads_the_examples_as_the_schema_does() {
    for (folder, good) in [("examples", true), ("examples/invalid", false)] {
        for (name, file, example) in files(folder) {
            let bytes = example.to_string().into_bytes();
            let taken = match name.as_str() {
                "alert" => is_taken(&Message::parse(&bytes)),
                "approval" => Approval::parse(&bytes).is_ok(),
                "feedback" => Wish::parse(&bytes).is_ok(),
                "command" if example["command"] == "erase" => {
                    Fields::parse(&bytes).is_ok_and(|fields| fields.wish().is_ok())
                }
                "command" if example["command"] == "hold" => {
                    hold::Fields::parse(&bytes).is_ok_and(|fields| fields.wish().is_ok())
                }
                "command" if example["command"] == "release" => {
                    ReleaseFields::parse(&bytes).is_ok_and(|fields| fields.wish().is_ok())
                }
                _ => continue,
            };
            assert_eq!(taken, good, "{file}");
        }
    }
}

/// Values that a field may hold by mistake or on purpose.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(0.5),
        json!(3.0),
        json!(1e9),
        json!(9_007_199_254_740_991u64),
        json!(9_007_199_254_740_992u64),
        json!(""),
        json!(" "),
        json!("red"),
        json!("2026-11-25T06:00:00Z"),
        json!("2026-11-25T06:00:00.5+01:00"),
        json!("x".repeat(201)),
        json!("x".repeat(1025)),
        json!("x".repeat(2001)),
        json!({"sighting": "01JD8Z0V6N8Q2K4M5P7R9T1W3X"}),
        json!({"sighting": "01JD8Z0V6N8Q2K4M5P7R9T1W3X", "device": null}),
        json!({"sighting": "01JD", "device": "box-1"}),
        json!({"device": "box-1", "id": 4711}),
        json!({"id": 4711}),
        json!([]),
        json!(["dock-*"]),
        json!(["dock"]),
        json!(["Dock"]),
        json!([1]),
        json!({}),
        json!([{"from": "08:00", "to": "24:00", "time_zone": "UTC"}]),
        json!([{"from": "24:00", "to": "08:00", "time_zone": "UTC"}]),
        json!([{"from": "8:00", "to": "09:00", "time_zone": "UTC"}]),
        json!([{"from": "08:00", "to": "09:00"}]),
        json!([{"from": "08:00", "to": "09:00", "time_zone": "UTC", "days": ["mon"]}]),
        json!([{"from": "08:00", "to": "09:00", "time_zone": "UTC", "days": []}]),
        json!([{"from": "08:00", "to": "09:00", "time_zone": "UTC", "day": "mon"}]),
    ]
}

const FIELDS: [&str; 16] = [
    "schema",
    "text",
    "like",
    "without",
    "revision",
    "enabled",
    "withdrawn",
    "purpose",
    "created_by",
    "expires_at",
    "cameras",
    "zones",
    "schedule",
    "budget_per_day",
    "cooldown_s",
    "signature",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn schema_and_code_agree_on_what_an_alert_is(
        changes in proptest::collection::vec((select(&FIELDS[..]), select(values())), 1..4),
        removed in proptest::option::of(select(&FIELDS[..])),
    ) {
        thread_local!(static SCHEMAS: Schemas = Schemas::load());
        let mut alert: Value =
            serde_json::from_slice(&fs::read(folder("examples/alert.full.json")).unwrap()).unwrap();
        for (field, value) in changes {
            alert[field] = value;
        }
        if let Some(field) = removed {
            alert.as_object_mut().unwrap().remove(field);
        }
        let message = Message::parse(alert.to_string().as_bytes());
        let fits = SCHEMAS.with(|schemas| schemas.fits("alert", &alert));
        prop_assert_eq!(is_taken(&message), fits, "{:?}", message);
    }
}

const BUNDLE: Generation = Generation([0x5a; 16]);

fn now() -> Wall {
    Wall { at: "2026-11-24T12:00:00.250Z".parse().unwrap(), synced: Some(true) }
}

fn arming() -> Arming {
    Arming {
        understood: "red coat".into(),
        lost: None,
        threshold: Some(0.377),
        budget_share: Some(0.5),
        expected_per_day: Some(0.4),
        matched_24h: Some(3),
        bundle: BUNDLE,
        warnings: Vec::new(),
    }
}

fn states(book: &mut Book, arming: Option<&Arming>, wall: Wall) -> Vec<AlertState> {
    book.settle();
    let snapshot = book.readers().load_full();
    let state = |view: &_| AlertState::new(view, arming, &Places::new(), wall);
    snapshot.all().iter().filter_map(|view| state(view)).collect()
}

#[test]
fn every_state_of_an_alert_fits() {
    let schemas = Schemas::load();
    let id = |name: &str| AlertId::new(name).unwrap();
    let policy = Policy { second_person: true, max_alerts: 3, ..Policy::default() };
    let mut book = Book::new(Rules::new(policy).unwrap());
    let alert = |change: fn(&mut Value)| {
        let mut alert = json!({"schema": 1, "text": "Red coat", "revision": 3, "colour": "red",
            "created_by": "ann", "expires_at": "2026-11-25T06:00:00Z", "cameras": ["roof-*"]});
        change(&mut alert);
        alert.to_string().into_bytes()
    };
    book.take(&id("armed"), &alert(|_| {}), now());
    book.approve(&id("armed"), br#"{"revision": 3, "approved_by": "bob"}"#, now());
    book.take(&id("pending"), &alert(|_| {}), now());
    book.take(&id("disabled"), &alert(|a| a["enabled"] = json!(false)), now());
    book.take(&id("expired"), &alert(|a| a["expires_at"] = json!("2026-11-24T00:00:00Z")), now());
    book.take(&id("bad"), &alert(|a| a["schema"] = json!(2)), now());
    book.take(&id("garbage"), b"\xff", now());
    book.take(&id("withdrawn"), br#"{"schema": 1, "revision": 1, "withdrawn": true}"#, now());
    let states = states(&mut book, Some(&arming()), now());
    let names: Vec<StateName> = states.iter().map(AlertState::state).collect();
    assert_eq!(
        names,
        [
            StateName::Armed,
            StateName::Rejected,
            StateName::Disabled,
            StateName::Expired,
            StateName::Rejected,
            StateName::PendingApproval,
            StateName::Withdrawn,
        ]
    );
    let payloads: Vec<Value> =
        states.iter().map(|state| schemas.check_bytes("alert-state", &state.to_json())).collect();
    let armed = &payloads[0];
    assert_eq!(armed["text"], "red coat", "as it was understood");
    assert_eq!((&armed["approved_by"], &armed["revision"]), (&json!("bob"), &json!(3)));
    let warnings = armed["warnings"].to_string();
    assert!(warnings.contains("colour") && warnings.contains("roof-*"), "{warnings}");
    assert_eq!(payloads[5]["text"], "Red coat", "as it was written");
    let spotterd::alert::book::Outcome::Refused(full) =
        book.take(&id("more"), &alert(|_| {}), now())
    else {
        panic!("not full")
    };
    schemas.check_bytes("alert-state", &AlertState::refused(&id("more"), &full, now()).to_json());
    book.reconcile(&Retained::default(), now());
    for state in self::states(&mut book, None, now()) {
        schemas.check_bytes("alert-state", &state.to_json());
    }
}

#[test]
fn an_armed_alert_names_what_it_lost_and_is_not_announced_before_it_is_watched_for() {
    let schemas = Schemas::load();
    let mut book = Book::new(Rules::new(Policy::default()).unwrap());
    let alert = json!({"schema": 1, "text": "red coat", "revision": 1,
        "expires_at": "2026-11-25T06:00:00Z",
        "schedule": [{"from": "08:00", "to": "09:00", "time_zone": "UTC"}]});
    let never_set = Wall { at: Timestamp::UNIX_EPOCH, synced: Some(false) };
    book.take(&AlertId::new("a").unwrap(), alert.to_string().as_bytes(), never_set);
    assert_eq!(states(&mut book, None, never_set), []);
    let view = book.readers().load().all()[0].clone();
    assert_eq!(view.status, Status::Armed);
    let lost = format!("and {}", "very long ".repeat(100));
    let arming = Arming { lost: Some(lost.clone()), ..arming() };
    let state = states(&mut book, Some(&arming), never_set).pop().unwrap();
    let payload = schemas.check_bytes("alert-state", &state.to_json());
    assert_eq!(payload["lost"], lost);
    let warnings = payload["warnings"].as_array().unwrap();
    assert!(warnings[0].as_str().unwrap().contains("and very long"), "{warnings:?}");
    assert!(warnings[0].as_str().unwrap().len() < 200);
    assert!(warnings[1].as_str().unwrap().contains("time"), "{warnings:?}");
    assert_eq!(payload["clock_synced"], false);
}

#[test]
fn every_event_of_a_sighting_fits_and_has_the_contract_s_fields() {
    let schemas = Schemas::load();
    let mut ledger = Ledger::new(Limits::default(), SmallRng::seed_from_u64(1));
    let moment = |seconds: u64| Moment {
        mono: Mono(Duration::from_secs(seconds)),
        wall: Wall { at: now().at + SignedDuration::from_secs(seconds as i64), synced: Some(true) },
    };
    let scored = |revision, score, seconds| Scored {
        alert: AlertId::new("red-coat").unwrap(),
        revision,
        cooldown: Duration::ZERO,
        camera: CameraId::new("entrance").unwrap(),
        track: 88,
        score,
        threshold: 0.377,
        false_alarm_probability: revision.map(|_| 0.0004),
        bbox: [0.41, 0.22, 0.08, 0.39],
        crops: 5,
        phrases: vec![Phrase { text: "red coat".into(), score: 0.44 }],
        bundle: BUNDLE,
        first: Mono(Duration::ZERO),
        at: moment(seconds).mono,
    };
    let mut told = ledger.see(scored(Some(3), 0.412, 2), moment(2));
    told.extend(ledger.see(scored(Some(3), 0.5, 4), moment(4)));
    // As a plain text that took the place of the alert.
    told.extend(ledger.see(scored(None, 0.5, 5), moment(6)));
    told.extend(ledger.end_all(moment(9)));
    let events: Vec<Event> = told.iter().map(|sighting| sighting.event).collect();
    assert_eq!(events, [Event::New, Event::Update, Event::End, Event::New, Event::End]);
    for sighting in &told {
        schemas.check_bytes("sighting", &sighting.to_json());
    }
    let text = String::from_utf8(told[0].to_json()).unwrap();
    let id = told[0].id.to_string();
    let expected = format!(
        r#"{{"schema":1,"id":"{id}","event":"new","seq":1,"alert":"red-coat","alert_revision":3,"camera":"entrance","track":88,"at":"2026-11-24T12:00:02.250Z","first_seen":"2026-11-24T12:00:00.250Z","score":0.412,"threshold":0.377,"false_alarm_probability":0.0004,"crops":5,"box":[0.41,0.22,0.08,0.39],"phrases":[{{"text":"red coat","score":0.44}}],"bundle":"{BUNDLE}","suppressed":0,"late":false,"clock_synced":true}}"#
    );
    assert_eq!(text, expected);
}
