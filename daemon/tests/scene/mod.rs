//! A rendered street scene with its truth, and how well a tracker followed it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use spotterd::{
    detect::Detection,
    frame::Pts,
    geometry::BBox,
    track::{Rules, State, TrackId, TrackIds, TrackView, Tracker},
};

/// Only persons that are this high count, pixels.
const COUNTED_HEIGHT: f32 = 80.0;
/// Only persons of whom this share is visible count.
const COUNTED_VISIBILITY: f32 = 0.5;
/// A box shows a person where they overlap this much.
const MATCH_IOU: f32 = 0.5;
/// A box that nobody has shows at least a part of a person where it overlaps this much.
const PART_IOU: f32 = 0.3;

#[derive(serde::Deserialize)]
struct Truth {
    width: u32,
    height: u32,
    fps: f64,
    identities: Vec<Identity>,
    persons_per_frame: Vec<TruthFrame>,
}

#[derive(serde::Deserialize)]
struct Identity {
    id: u32,
    appearances: Vec<(usize, usize)>,
}

#[derive(serde::Deserialize)]
struct TruthFrame {
    persons: Vec<Person>,
}

#[derive(serde::Deserialize)]
struct Person {
    id: u32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    full_box: [f32; 4],
    visibility: f32,
}

impl Person {
    fn bbox(&self) -> BBox {
        let [x1, y1, x2, y2] = self.bbox;
        BBox::new(x1, y1, x2, y2).expect("a box of the truth")
    }

    fn full_box(&self) -> BBox {
        let [x1, y1, x2, y2] = self.full_box;
        BBox::new(x1, y1, x2, y2).expect("a box of the truth")
    }

    fn counts(&self) -> bool {
        self.bbox().height() > COUNTED_HEIGHT && self.visibility >= COUNTED_VISIBILITY
    }
}

#[derive(serde::Deserialize)]
struct Detections {
    frames: Vec<Vec<[f32; 5]>>,
}

/// A scene and what a detector finds in it.
pub struct Scene {
    truth: Truth,
    detections: Vec<Vec<Detection>>,
}

/// How well a scene was followed. A person who leaves and comes back counts as two visits.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Report {
    /// Visits of persons who were ever found.
    pub visits: usize,
    /// Confirmed tracks.
    pub tracks: usize,
    /// Confirmed tracks of which most boxes show nobody.
    pub false_tracks: usize,
    /// A visit's track became another.
    pub switches: usize,
    /// Of these, those after which the new track stays for a second or more.
    pub lasting: usize,
    /// A visit's track went missing for a processed frame or more, and something came later.
    pub fragments: usize,
    /// Tracks that showed more than one person for two boxes or more.
    pub mixed: usize,
    /// Counted persons in all frames: shown by a confirmed track, and all.
    pub shown: (usize, usize),
    /// Boxes of confirmed tracks: showing a person or a part of one, and all.
    pub sound: (usize, usize),
    /// Seconds from the first matched box of a visit until a confirmed track shows it, worst.
    pub slowest: f64,
    /// What happened, for a person to read.
    pub events: Vec<String>,
}

impl Report {
    /// Adds the counts of another scene.
    #[allow(dead_code, reason = "not every program that shares this module sums up")]
    pub fn add(&mut self, other: &Report) {
        self.visits += other.visits;
        self.tracks += other.tracks;
        self.false_tracks += other.false_tracks;
        self.mixed += other.mixed;
        self.switches += other.switches;
        self.lasting += other.lasting;
        self.fragments += other.fragments;
        self.shown = (self.shown.0 + other.shown.0, self.shown.1 + other.shown.1);
        self.sound = (self.sound.0 + other.sound.0, self.sound.1 + other.sound.1);
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl Scene {
    /// Reads `NAME.truth.json` and `NAME.detections.json`.
    pub fn read(folder: &Path, name: &str) -> Self {
        let read = |kind: &str| {
            let path = folder.join(format!("{name}.{kind}.json"));
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let truth: Truth = serde_json::from_slice(&read("truth")).expect("a truth file");
        let found: Detections = serde_json::from_slice(&read("detections")).expect("detections");
        assert_eq!(truth.persons_per_frame.len(), found.frames.len(), "{name}");
        let detection = |&[x1, y1, x2, y2, score]: &[f32; 5]| Detection {
            bbox: BBox::new(x1, y1, x2, y2).expect("a detection"),
            score,
        };
        let frames = found.frames.iter();
        let detections = frames.map(|frame| frame.iter().map(detection).collect()).collect();
        Self { truth, detections }
    }

    /// Recall and precision of the boxes with this score or more, over all frames.
    #[allow(dead_code, reason = "not every program that shares this module asks for it")]
    pub fn detection(&self, score: f32) -> (f64, f64) {
        let (mut shown, mut sound) = ((0, 0), (0, 0));
        for (frame, detections) in self.truth.persons_per_frame.iter().zip(&self.detections) {
            let boxes: Vec<BBox> =
                detections.iter().filter(|d| d.score >= score).map(|d| d.bbox).collect();
            let pairs = matches(&frame.persons, &boxes, |_, _| false);
            count(&frame.persons, &boxes, &pairs, &mut shown, &mut sound);
        }
        (ratio(shown), ratio(sound))
    }

    /// Follows every `step`-th frame from frame `start` on.
    pub fn follow(&self, rules: Rules, start: usize, step: usize) -> Report {
        let mut tracker = Tracker::new(rules, Arc::new(TrackIds::default()));
        let mut book = Book::default();
        let frames = self.truth.persons_per_frame.iter().zip(&self.detections);
        for (number, (frame, detections)) in frames.enumerate().skip(start).step_by(step) {
            let pts = Pts(Duration::from_secs_f64(number as f64 / self.truth.fps));
            let size = (self.truth.width, self.truth.height);
            let update = tracker.update(pts, size, detections);
            let confirmed: Vec<&TrackView> =
                update.tracks.iter().filter(|t| t.state == State::Confirmed).collect();
            let any: Vec<BBox> = detections.iter().map(|d| d.bbox).collect();
            book.frame(self, number, &frame.persons, &confirmed, &any);
        }
        book.close(step, self.truth.fps)
    }

    /// Which appearance of a person a frame belongs to.
    fn visit(&self, person: u32, frame: usize) -> (u32, usize) {
        let identity = self.truth.identities.iter().find(|i| i.id == person);
        let spans = identity.map(|i| i.appearances.as_slice()).unwrap_or_default();
        (person, spans.iter().take_while(|span| span.0 <= frame).count())
    }
}

pub fn ratio((part, all): (usize, usize)) -> f64 {
    part as f64 / all.max(1) as f64
}

/// Pairs (person, box) by overlap, the best first; `keep` names pairs that stay as they were.
fn matches(
    persons: &[Person],
    boxes: &[BBox],
    keep: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let mut all: Vec<(bool, f32, usize, usize)> = Vec::new();
    for (p, person) in persons.iter().enumerate() {
        for (b, bbox) in boxes.iter().enumerate() {
            let iou = person.bbox().iou(bbox);
            if iou >= MATCH_IOU {
                all.push((keep(p, b), iou, p, b));
            }
        }
    }
    all.sort_by(|x, y| y.0.cmp(&x.0).then(y.1.total_cmp(&x.1)));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, _, p, b) in all {
        if pairs.iter().all(|pair| pair.0 != p && pair.1 != b) {
            pairs.push((p, b));
        }
    }
    pairs
}

fn count(
    persons: &[Person],
    boxes: &[BBox],
    pairs: &[(usize, usize)],
    shown: &mut (usize, usize),
    sound: &mut (usize, usize),
) {
    for (p, _) in persons.iter().enumerate().filter(|(_, person)| person.counts()) {
        shown.1 += 1;
        shown.0 += usize::from(pairs.iter().any(|pair| pair.0 == p));
    }
    for (b, bbox) in boxes.iter().enumerate() {
        let part = || persons.iter().any(|person| person.full_box().iou(bbox) > PART_IOU);
        sound.1 += 1;
        sound.0 += usize::from(pairs.iter().any(|pair| pair.1 == b) || part());
    }
}

/// A frame in which a person could be seen, and the track that showed the person.
type Sight = (usize, Option<TrackId>);

/// Which track showed a visit, frame by frame.
#[derive(Default)]
struct Book {
    report: Report,
    visits: BTreeMap<(u32, usize), Vec<Sight>>,
    /// Boxes of a track that showed a person, by person, and that showed nobody.
    tracks: BTreeMap<TrackId, (BTreeMap<u32, usize>, usize)>,
}

impl Book {
    fn frame(
        &mut self,
        scene: &Scene,
        number: usize,
        persons: &[Person],
        tracks: &[&TrackView],
        detections: &[BBox],
    ) {
        let boxes: Vec<BBox> = tracks.iter().map(|track| track.bbox).collect();
        let visit = |p: usize| scene.visit(persons[p].id, number);
        let last = |p: usize| {
            let seen = self.visits.get(&visit(p))?;
            seen.iter().rev().find_map(|(_, track)| *track)
        };
        let pairs = matches(persons, &boxes, |p, b| last(p) == Some(tracks[b].id));
        count(persons, &boxes, &pairs, &mut self.report.shown, &mut self.report.sound);
        let could_be = matches(persons, detections, |_, _| false);
        for (p, _) in persons.iter().enumerate() {
            let track = pairs.iter().find(|pair| pair.0 == p).map(|pair| tracks[pair.1].id);
            if track.is_some() || could_be.iter().any(|pair| pair.0 == p) {
                self.visits.entry(visit(p)).or_default().push((number, track));
            }
        }
        for (b, track) in tracks.iter().enumerate() {
            let entry = self.tracks.entry(track.id).or_default();
            match pairs.iter().find(|pair| pair.1 == b) {
                Some(pair) => *entry.0.entry(persons[pair.0].id).or_default() += 1,
                None => entry.1 += 1,
            }
        }
    }

    fn close(mut self, step: usize, fps: f64) -> Report {
        let report = &mut self.report;
        for (visit, seen) in &self.visits {
            let matched: Vec<(usize, TrackId)> =
                seen.iter().filter_map(|&(frame, track)| Some((frame, track?))).collect();
            report.visits += usize::from(!matched.is_empty());
            report.lasting += lasting_switches(&matched, fps);
            for pair in matched.windows(2) {
                let gap = pair[1].0 - pair[0].0;
                report.fragments += usize::from(gap > step);
                if pair[0].1 != pair[1].1 {
                    report.switches += 1;
                    report.events.push(format!(
                        "person {visit:?} was {} until frame {}, is {} from {}",
                        pair[0].1, pair[0].0, pair[1].1, pair[1].0
                    ));
                }
            }
            if let (Some(first), Some(confirmed)) = (seen.first(), matched.first()) {
                let waited = (confirmed.0 - first.0) as f64 / fps;
                report.slowest = report.slowest.max(waited);
            }
        }
        for (id, (persons, nobody)) in &self.tracks {
            report.tracks += 1;
            if persons.values().sum::<usize>() < *nobody {
                report.false_tracks += 1;
                report.events.push(format!("track {id} shows nobody {nobody} times: {persons:?}"));
            }
            if persons.values().filter(|count| **count >= 2).count() > 1 {
                report.mixed += 1;
                report.events.push(format!("track {id} shows {persons:?}"));
            }
        }
        self.report
    }
}

/// How often the track changes, not counting tracks that show the person for less than a second.
fn lasting_switches(matched: &[(usize, TrackId)], fps: f64) -> usize {
    let runs: Vec<TrackId> = matched
        .chunk_by(|a, b| a.1 == b.1)
        .filter(|run| (run[run.len() - 1].0 - run[0].0) as f64 >= fps)
        .map(|run| run[0].1)
        .collect();
    runs.windows(2).filter(|pair| pair[0] != pair[1]).count()
}
