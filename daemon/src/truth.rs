//! What a labelled recording says who was where, and how well a tracker agrees.
//!
//! Pairs of persons and boxes are made as in CLEAR MOT (Bernardin and Stiefelhagen 2008): a pair that
//! still overlaps stays, the others by overlap. A person who leaves and comes back counts as two visits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    bounded,
    error::{Error, Result},
    frame::Pts,
    geometry::BBox,
    track::TrackId,
};

/// Only persons that are this high must be found, pixels.
const COUNTED_HEIGHT: f32 = 80.0;
/// Only persons of whom this share is visible must be found.
const COUNTED_VISIBILITY: f32 = 0.5;
/// A box shows a person where they overlap this much.
const MATCH_IOU: f32 = 0.5;
/// A box that nobody has shows at least a part of a person where it overlaps this much.
const PART_IOU: f32 = 0.3;
/// From this height on, this share visible and not cut by the picture's edge, a person is well seen:
/// whoever is to be found should be found soon after.
const GOOD_HEIGHT: f32 = 96.0;
const GOOD_VISIBILITY: f32 = 0.7;
/// By how much a box may differ from the whole before it counts as cut, pixels: rounding.
const CUT: f32 = 1.5;
/// A track that shows a person for less is a slip, not a lasting switch; seconds.
const LASTING_S: f64 = 1.0;
/// Largest truth file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// Who is where in each frame of a recording.
pub struct Truth {
    /// Width and height of the frames in pixels.
    pub size: (u32, u32),
    /// Frames a second.
    pub fps: f64,
    /// Texts, and whom they mean.
    pub alerts: Vec<Meant>,
    appearances: BTreeMap<u64, Vec<(u64, u64)>>,
    frames: Vec<Vec<Person>>,
}

/// A text, and whom of the recording it means.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Meant {
    /// The text.
    pub text: String,
    /// Persons who fit it.
    pub matches: BTreeSet<u64>,
    /// Persons who fit it loosely, by a similar colour or garment: neither found nor wrong.
    #[serde(default)]
    pub near: BTreeSet<u64>,
}

struct Person {
    id: u64,
    /// What is in the picture, and the whole.
    bbox: BBox,
    full: BBox,
    /// Whether it is big and free enough that it must be found.
    counts: bool,
    /// Whether it is seen well.
    is_good: bool,
}

impl Truth {
    /// Reads a truth file: `width`, `height`, `fps`, `identities` (`id` and `appearances`, spans of
    /// frames) and `persons_per_frame`, one entry a frame with `persons` of `id`, `box` and `full_box`
    /// (left, top, right, bottom in pixels) and `visibility`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::config(path.display().to_string(), reason);
        let text = bounded::text(path, MAX_BYTES)?;
        let file: file::Truth = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("is no truth file: {error}")))?;
        if !(file.fps.is_finite() && file.fps > 0.0) {
            return Err(wrong(format!("{} frames a second is no rate", file.fps)));
        }
        let frames = file.persons_per_frame.into_iter();
        Ok(Self {
            size: (file.width, file.height),
            fps: file.fps,
            alerts: file.alerts,
            appearances: file.identities.into_iter().map(|i| (i.id, i.appearances)).collect(),
            frames: frames
                .map(|frame| frame.persons.iter().filter_map(file::Person::read).collect())
                .collect(),
        })
    }

    /// The labelled frame of a moment of the recording.
    pub fn frame_at(&self, pts: Pts) -> u64 {
        (pts.0.as_secs_f64() * self.fps).round() as u64
    }

    /// How many frames are labelled.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame is labelled.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn persons(&self, frame: u64) -> &[Person] {
        usize::try_from(frame)
            .ok()
            .and_then(|frame| self.frames.get(frame))
            .map_or(&[], Vec::as_slice)
    }

    /// Which appearance of a person a frame belongs to.
    fn visit(&self, person: u64, frame: u64) -> Visit {
        let spans = self.appearances.get(&person).map_or(&[][..], Vec::as_slice);
        (person, spans.iter().take_while(|span| span.0 <= frame).count())
    }

    /// When each person was seen well for the first time, in seconds of the recording.
    pub fn good_from(&self) -> BTreeMap<u64, f64> {
        let mut from = BTreeMap::new();
        for (frame, persons) in self.frames.iter().enumerate() {
            for person in persons.iter().filter(|person| person.is_good) {
                from.entry(person.id).or_insert(frame as f64 / self.fps);
            }
        }
        from
    }

    /// How boxes that are not followed agree: recall and precision over frames.
    pub fn detection<'a>(&self, frames: impl IntoIterator<Item = (u64, &'a [BBox])>) -> Coverage {
        let mut coverage = Coverage::default();
        for (frame, boxes) in frames {
            let persons = self.persons(frame);
            coverage.add(persons, boxes, &pairs(persons, boxes, |_, _| false));
        }
        coverage
    }
}

/// The form of the file.
mod file {
    use super::{
        BBox, COUNTED_HEIGHT, COUNTED_VISIBILITY, CUT, Deserialize, GOOD_HEIGHT, GOOD_VISIBILITY,
    };

    #[derive(Deserialize)]
    pub(super) struct Truth {
        #[serde(default)]
        pub alerts: Vec<super::Meant>,
        pub width: u32,
        pub height: u32,
        pub fps: f64,
        pub identities: Vec<Identity>,
        pub persons_per_frame: Vec<Frame>,
    }

    #[derive(Deserialize)]
    pub(super) struct Identity {
        pub id: u64,
        pub appearances: Vec<(u64, u64)>,
    }

    #[derive(Deserialize)]
    pub(super) struct Frame {
        pub persons: Vec<Person>,
    }

    #[derive(Deserialize)]
    pub(super) struct Person {
        id: u64,
        #[serde(rename = "box")]
        bbox: [f32; 4],
        full_box: [f32; 4],
        visibility: f32,
    }

    impl Person {
        /// `None` where nothing of the person is in the picture.
        pub(super) fn read(&self) -> Option<super::Person> {
            let of = |[x1, y1, x2, y2]: [f32; 4]| BBox::new(x1, y1, x2, y2);
            let bbox = of(self.bbox)?;
            let full = of(self.full_box).unwrap_or(bbox);
            let sides = self.bbox.iter().zip(self.full_box);
            let is_cut = sides.into_iter().any(|(seen, whole)| (seen - whole).abs() > CUT);
            Some(super::Person {
                id: self.id,
                bbox,
                full,
                is_good: !is_cut
                    && bbox.height() >= GOOD_HEIGHT
                    && self.visibility >= GOOD_VISIBILITY,
                counts: bbox.height() > COUNTED_HEIGHT && self.visibility >= COUNTED_VISIBILITY,
            })
        }
    }
}

/// Persons who had to be found and boxes that had to be on somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Persons in frames who had to be found.
    pub required: u64,
    /// Of these, found.
    pub found: u64,
    /// Boxes.
    pub boxes: u64,
    /// Of these, on a person or a part of one.
    pub sound: u64,
}

impl Coverage {
    /// Share of the persons that were found; 1 where nobody had to be.
    pub fn recall(&self) -> f64 {
        share(self.found, self.required)
    }

    /// Share of the boxes that are on somebody; 1 where there is none.
    pub fn precision(&self) -> f64 {
        share(self.sound, self.boxes)
    }

    fn add(&mut self, persons: &[Person], boxes: &[BBox], pairs: &[(usize, usize)]) {
        for (p, _) in persons.iter().enumerate().filter(|(_, person)| person.counts) {
            self.required += 1;
            self.found += u64::from(pairs.iter().any(|pair| pair.0 == p));
        }
        for (b, bbox) in boxes.iter().enumerate() {
            let part = || persons.iter().any(|person| person.full.iou(bbox) > PART_IOU);
            self.boxes += 1;
            self.sound += u64::from(pairs.iter().any(|pair| pair.1 == b) || part());
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Pairs (person, box) by overlap, the best first; `keep` names pairs that stay as they were.
fn pairs(
    persons: &[Person],
    boxes: &[BBox],
    keep: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let mut all: Vec<(bool, f32, usize, usize)> = Vec::new();
    for (p, person) in persons.iter().enumerate() {
        for (b, bbox) in boxes.iter().enumerate() {
            let iou = person.bbox.iou(bbox);
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

/// A person's appearance: the person, and how many appearances began until then.
type Visit = (u64, usize);

/// Follows how tracks show persons, frame by frame.
pub struct Comparison<'a> {
    truth: &'a Truth,
    coverage: Coverage,
    /// Frames in which a visit was shown, and by which track.
    visits: BTreeMap<Visit, Vec<(u64, TrackId)>>,
    /// Boxes of a track that showed a person, by person, and that showed nobody.
    tracks: BTreeMap<TrackId, (BTreeMap<u64, u64>, u64)>,
}

/// How well a recording was followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Share of the persons in frames, at least half visible and over 80 px, that a track showed.
    pub recall: f64,
    /// Share of the tracks' boxes that are on a person or a part of one.
    pub precision: f64,
    /// What both shares are of.
    pub coverage: Coverage,
    /// Visits of persons who were shown at all.
    pub visits: u64,
    /// Persons who were shown at all.
    pub persons: u64,
    /// Tracks.
    pub tracks: u64,
    /// Tracks of which most boxes show nobody.
    pub false_tracks: u64,
    /// Tracks that showed more than one person for two boxes or more.
    pub mixed: u64,
    /// Times a visit's track became another.
    pub switches: u64,
    /// Of these, those after which the new track stays for a second or more.
    pub lasting: u64,
    /// What happened, for a person to read.
    pub events: Vec<String>,
    /// Whom each track shows most; a track that shows nobody is left out.
    #[serde(skip)]
    pub shows: BTreeMap<TrackId, u64>,
}

impl<'a> Comparison<'a> {
    /// Nothing compared yet.
    pub fn new(truth: &'a Truth) -> Self {
        Self {
            truth,
            coverage: Coverage::default(),
            visits: BTreeMap::new(),
            tracks: BTreeMap::new(),
        }
    }

    /// Takes the tracks that are shown in a frame.
    pub fn frame(&mut self, number: u64, tracks: &[(TrackId, BBox)]) {
        let persons = self.truth.persons(number);
        let boxes: Vec<BBox> = tracks.iter().map(|track| track.1).collect();
        let visit = |p: usize| self.truth.visit(persons[p].id, number);
        let last = |p: usize| self.visits.get(&visit(p))?.last().map(|(_, track)| *track);
        let pairs = pairs(persons, &boxes, |p, b| last(p) == Some(tracks[b].0));
        self.coverage.add(persons, &boxes, &pairs);
        for &(p, b) in &pairs {
            self.visits.entry(visit(p)).or_default().push((number, tracks[b].0));
        }
        for (b, (id, _)) in tracks.iter().enumerate() {
            let shows = self.tracks.entry(*id).or_default();
            match pairs.iter().find(|pair| pair.1 == b) {
                Some(pair) => *shows.0.entry(persons[pair.0].id).or_default() += 1,
                None => shows.1 += 1,
            }
        }
    }

    /// The result.
    pub fn finish(self) -> Agreement {
        let persons: BTreeSet<u64> = self.visits.keys().map(|visit| visit.0).collect();
        let mut agreement = Agreement {
            recall: self.coverage.recall(),
            precision: self.coverage.precision(),
            coverage: self.coverage,
            visits: self.visits.len() as u64,
            persons: persons.len() as u64,
            tracks: self.tracks.len() as u64,
            ..Agreement::default()
        };
        for (visit, shown) in &self.visits {
            agreement.add_visit(*visit, shown, self.truth.fps);
        }
        for (id, (persons, nobody)) in &self.tracks {
            if let Some((person, _)) = persons.iter().max_by_key(|(_, count)| **count) {
                agreement.shows.insert(*id, *person);
            }
            if persons.values().sum::<u64>() < *nobody {
                agreement.false_tracks += 1;
                agreement.events.push(format!("track {id} shows nobody {nobody} times"));
            }
            if persons.values().filter(|count| **count >= 2).count() > 1 {
                agreement.mixed += 1;
                agreement.events.push(format!("track {id} shows persons {persons:?}"));
            }
        }
        agreement
    }
}

impl Agreement {
    fn add_visit(&mut self, (person, visit): Visit, shown: &[(u64, TrackId)], fps: f64) {
        for pair in shown.windows(2) {
            let [(until, before), (from, after)] = [pair[0], pair[1]];
            if before != after {
                self.switches += 1;
                self.events.push(format!(
                    "person {person} (visit {visit}) was track {before} until frame {until}, is \
                     track {after} from frame {from}"
                ));
            }
        }
        let runs: Vec<TrackId> = shown
            .chunk_by(|a, b| a.1 == b.1)
            .filter_map(|run| {
                let (first, last) = (run.first()?, run.last()?);
                ((last.0 - first.0) as f64 / fps >= LASTING_S).then_some(first.1)
            })
            .collect();
        self.lasting += runs.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x: f32) -> BBox {
        BBox::new(x, 0.0, x + 50.0, 100.0).unwrap()
    }

    /// One person who stands still for 40 frames.
    fn truth() -> Truth {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.json");
        let person =
            r#"{"id": 7, "box": [0, 0, 50, 100], "full_box": [0, 0, 50, 100], "visibility": 1.0}"#;
        let frames = vec![format!(r#"{{"persons": [{person}]}}"#); 40].join(",");
        let text = format!(
            r#"{{"width": 640, "height": 480, "fps": 10,
                "identities": [{{"id": 7, "appearances": [[0, 19], [20, 39]]}}],
                "persons_per_frame": [{frames}]}}"#
        );
        std::fs::write(&path, text).unwrap();
        Truth::read(&path).unwrap()
    }

    #[test]
    fn a_switch_a_miss_and_a_ghost_are_told_apart() {
        let truth = truth();
        let mut comparison = Comparison::new(&truth);
        comparison.frame(0, &[(TrackId(1), bbox(0.0))]);
        comparison.frame(1, &[]);
        comparison.frame(2, &[(TrackId(1), bbox(5.0)), (TrackId(9), bbox(300.0))]);
        comparison.frame(3, &[(TrackId(2), bbox(0.0))]);
        let agreement = comparison.finish();
        let Coverage { required, found, boxes, sound } = agreement.coverage;
        assert_eq!((required, found, boxes, sound), (4, 3, 4, 3));
        assert_eq!((agreement.switches, agreement.lasting), (1, 0));
        assert_eq!((agreement.tracks, agreement.false_tracks), (3, 1));
    }

    #[test]
    fn a_pair_stays_while_it_overlaps_and_a_second_visit_may_be_another_track() {
        let truth = truth();
        let mut comparison = Comparison::new(&truth);
        comparison.frame(0, &[(TrackId(1), bbox(5.0))]);
        comparison.frame(1, &[(TrackId(1), bbox(5.0)), (TrackId(2), bbox(0.0))]);
        comparison.frame(30, &[(TrackId(3), bbox(0.0))]);
        let agreement = comparison.finish();
        assert_eq!((agreement.switches, agreement.visits, agreement.persons), (0, 2, 1));
    }

    #[test]
    fn what_is_no_truth_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.json");
        std::fs::write(&path, "[]").unwrap();
        let error = Truth::read(&path).err().unwrap().to_string();
        assert!(error.contains("truth.json") && error.contains("no truth file"), "{error}");
    }
}
