//! A state folder with persons in its gallery and in its outbox, and what is left of each.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;
use spotter_models::{
    Embedding, Generation,
    kernel::{FineCodes, quantise},
};
use spotterd::{
    clock::{Clock, ManualClock},
    erase::{Eraser, Fields, Report},
    frame::CameraId,
    gallery::{Gallery, Look, Record, Settings},
    outbox::{Class, Message, Outbox, Settings as OutboxSettings},
    sighting::SightingId,
};

use crate::folder::files;

pub const SIZE: usize = 48;
pub const A: Generation = Generation([1; 16]);

/// Times are those of the manual clock: the outbox dates what it takes by it.
pub fn second(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap()
}

pub fn camera(number: u64) -> CameraId {
    CameraId::new(["gate", "hall", "yard"][number as usize % 3]).unwrap()
}

/// The sighting of person `number`, named after the moment of its first look.
pub fn sighting(number: u64) -> SightingId {
    let at = second(number as i64).as_millisecond() as u128;
    SightingId::from_bits(at << 80 | u128::from(number) << 8 | 0xf1)
}

pub fn noise(number: u64, bytes: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(number);
    (0..bytes).map(|_| random.random()).collect()
}

/// Person `number`, seen in second `number` and the next.
pub fn record(number: u64) -> Record {
    let mut random = SmallRng::seed_from_u64(number);
    let mut vector = || {
        let values = (0..SIZE).map(|_| random.random_range(-1.0..1.0));
        Embedding::new(values.collect(), A).unwrap()
    };
    Record {
        camera: camera(number),
        track: number,
        first: second(number as i64),
        last: second(number as i64 + 1),
        generation: A,
        quality: 0.5,
        sightings: vec![sighting(number)],
        looks: vec![Look { quality: 0.5, embedding: vector() }],
        pooled: vector(),
        portrait: Some(noise(1000 + number, 700)),
    }
}

/// What is told of person `number`: events, each but the end with a picture of its own.
pub fn told(number: u64, events: &[&str]) -> Vec<Message> {
    let (id, at) = (sighting(number).to_string(), second(number as i64).to_string());
    let mut messages = Vec::new();
    for (seq, name) in (1..).zip(events) {
        let payload = json!({"schema": 1, "id": id, "event": name, "seq": seq, "alert": "red-coat",
            "camera": camera(number), "track": number, "at": at, "first_seen": at, "late": false});
        let mut event = Message::new(Class::Event, "spotter/s/d/sightings", payload.to_string());
        event.camera = Some(camera(number));
        messages.push(event);
        if *name != "end" {
            let jpeg = snapshot(number, seq);
            let mut picture = Message::new(Class::Picture, "spotter/s/d/snapshots", jpeg);
            picture.camera = Some(camera(number));
            picture.header.properties =
                vec![("sighting".into(), id.clone()), ("seq".into(), seq.to_string())];
            messages.push(picture);
        }
    }
    messages
}

/// Longer than a page of the database.
pub fn snapshot(number: u64, seq: u64) -> Vec<u8> {
    noise(100_000 + 10 * number + seq, 9000)
}

pub struct State {
    pub folder: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
}

impl State {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub fn gallery(&self) -> Gallery {
        Gallery::open(Settings::new(self.folder.path().join("gallery")), self.clock()).unwrap()
    }

    pub fn outbox(&self) -> Outbox {
        let folder = self.folder.path().join("outbox");
        let settings = OutboxSettings { reserve_bytes: 64 << 10, ..OutboxSettings::new(folder) };
        Outbox::open(settings, self.clock()).unwrap()
    }

    /// Persons 0 to 8 in the gallery, each told of while the clock goes on.
    pub fn fill(&self) {
        let (gallery, outbox) = (self.gallery(), self.outbox());
        for number in 0..9 {
            gallery.append(&record(number)).unwrap();
            outbox.commit(&told(number, &["new", "update", "end"])).unwrap();
            self.clock.advance(Duration::from_secs(1));
        }
    }

    pub fn erase(&self, fields: &Fields) -> Report {
        let eraser = Eraser::open(self.folder.path(), fields.dry_run, self.clock()).unwrap();
        eraser.erase(&fields.wish().unwrap()).unwrap()
    }

    /// How many traces of a person are in any file below the folder.
    pub fn left(&self, number: u64) -> usize {
        let files: Vec<Vec<u8>> =
            files(self.folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
        let record = record(number);
        let mut traces = Vec::new();
        for vector in [&record.pooled, &record.looks[0].embedding] {
            let coarse = quantise(vector.values()).values;
            traces.push(coarse.iter().map(|v| *v as u8).collect::<Vec<u8>>()[..16].to_vec());
            let fine = FineCodes::new(vector.values()).values;
            let fine: Vec<u8> = fine.iter().flat_map(|v| v.to_le_bytes()).collect();
            traces.extend([fine[..16].to_vec(), fine[2 * SIZE - 16..].to_vec()]);
        }
        let pictures = [record.portrait.unwrap(), snapshot(number, 1), snapshot(number, 2)];
        for jpeg in &pictures {
            let (middle, end) = (jpeg.len() / 2, jpeg.len());
            let parts = [0..16, middle..middle + 16, end - 16..end];
            traces.extend(parts.map(|part| jpeg[part].to_vec()));
        }
        let is_in = |bytes: &Vec<u8>, trace: &Vec<u8>| {
            bytes.windows(trace.len()).any(|window| window == trace)
        };
        traces.iter().filter(|trace| files.iter().any(|bytes| is_in(bytes, trace))).count()
    }

    /// Events and pictures that wait, by person.
    pub fn waiting(&self, number: u64) -> (Vec<String>, usize) {
        let (id, kept) = (sighting(number).to_string(), self.outbox().kept().unwrap());
        let events = kept.iter().filter(|kept| kept.class == Class::Event);
        let events = events.map(|kept| String::from_utf8(kept.payload.clone()).unwrap());
        let name = |text: String| {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            (json["id"] == id.as_str()).then(|| json["event"].as_str().unwrap().to_owned())
        };
        let is_its = |kept: &&spotterd::outbox::Kept| {
            kept.header.properties.iter().any(|(_, value)| *value == id)
        };
        (events.filter_map(name).collect(), kept.iter().filter(is_its).count())
    }
}

pub fn at_gate() -> Fields {
    Fields { camera: Some(camera(0)), ..Fields::default() }
}

pub const ALL: [&str; 3] = ["new", "update", "end"];
