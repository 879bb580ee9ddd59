//! Follows persons from frame to frame: which box of this frame is whom of the last.
//!
//! ByteTrack's idea (boxes that the detector hardly believes still continue tracks, but begin none)
//! with a motion model in time and person heights instead of frames and pixels. One tracker a
//! camera, owned by its detection stage. Never looks at pixels; never fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use crate::{detect::Detection, frame::Pts, geometry::BBox};

mod assign;
mod associate;
mod edge;
mod kalman;
mod lifecycle;
pub mod occlusion;

use associate::Strength;
use edge::Picture;
use kalman::Motion;
use lifecycle::Life;
pub use lifecycle::{EndCause, State};

/// Names a track. Never used again within a run of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TrackId(pub u64);

impl std::fmt::Display for TrackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where track ids come from: one for all trackers of a process.
#[derive(Debug, Default)]
pub struct TrackIds {
    given: AtomicU64,
}

impl TrackIds {
    /// An id that nobody has; the first is 1.
    pub fn next(&self) -> TrackId {
        TrackId(self.given.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }
}

/// What a tracker believes and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// From this score on a box is a person; weaker ones only continue what is known. On the street
    /// scenes 0.40 gives DEIMv2-Femto a recall of 0.92 and more at a precision of 0.99.
    pub strong_score: f32,
    /// From this score on a box may begin a track.
    pub birth_score: f32,
    /// A track is believed once its boxes span this.
    pub confirm_after: Duration,
    /// How long a person who is not seen keeps the track: hidden by others, or missed.
    pub lost_for: Duration,
    /// Most tracks at a time; with more, no new ones begin.
    pub max_tracks: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            strong_score: 0.40,
            birth_score: 0.45,
            confirm_after: Duration::from_millis(120),
            lost_for: Duration::from_secs(4),
            max_tracks: 256,
        }
    }
}

/// A track that has a box in this frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrackView {
    /// Which track.
    pub id: TrackId,
    /// Whether it is believed yet.
    pub state: State,
    /// The detector's box of this frame, not a smoothed one: a crop is cut by it.
    pub bbox: BBox,
    /// The detector's score of the box.
    pub score: f32,
    /// Since when the track has been seen.
    pub first: Pts,
    /// Speed of the head in pixels per second, to the right and down.
    pub speed: (f32, f32),
}

/// A track that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Which track.
    pub id: TrackId,
    /// Whether it had been believed.
    pub state: State,
    /// When it was seen first.
    pub first: Pts,
    /// When it was seen last.
    pub last: Pts,
    /// Why it is over.
    pub cause: EndCause,
}

/// What a frame changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Tracks with a box in this frame, by id.
    pub tracks: Vec<TrackView>,
    /// Tracks that begin with this frame, all tentative.
    pub born: Vec<TrackId>,
    /// Tracks that are believed from this frame on.
    pub confirmed: Vec<TrackId>,
    /// Tracks that are over.
    pub ended: Vec<Ended>,
    /// Boxes that would have begun a track beyond [`Rules::max_tracks`].
    pub refused: u32,
}

/// A person who is followed.
#[derive(Debug)]
struct Track {
    id: TrackId,
    motion: Motion,
    life: Life,
    /// Share of the expected place that lies behind nearer persons.
    hidden: f32,
    /// This frame's box.
    seen: Option<Detection>,
}

/// Follows the persons of one camera.
#[derive(Debug)]
pub struct Tracker {
    rules: Rules,
    ids: Arc<TrackIds>,
    tracks: Vec<Track>,
    last: Option<Moment>,
}

/// Time and picture size of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    pts: Pts,
    width: u32,
    height: u32,
    /// Time since the frame before.
    since_last: Duration,
}

impl Moment {
    fn picture(&self) -> Picture {
        Picture::new(self.width, self.height)
    }
}

/// Boxes that overlap more show one person twice; no track begins from the second.
const SAME_PERSON_IOU: f32 = 0.6;
/// A box of which this share lies in another, or the other way round, is a part of the same person
const PART_SHARE: f32 = 0.85;
/// unless the detector is as sure as this: then it is a child in front of somebody.
const PART_SCORE: f32 = 0.6;
/// Two shapes of a picture are the same camera at another resolution where their aspects agree to
/// this.
const SAME_ASPECT: f64 = 0.03;
/// Tracks that were seen this lately choose their boxes first, and may take weak ones.
const RECENT: Duration = Duration::from_millis(500);

impl Tracker {
    /// A tracker that follows nobody yet.
    pub fn new(rules: Rules, ids: Arc<TrackIds>) -> Self {
        Self { rules, ids, tracks: Vec::new(), last: None }
    }

    /// Whether it follows nobody, nor waits for anybody to come back.
    pub fn is_idle(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Takes the persons that a detector found in the frame of `pts`, which is `width` x `height`
    /// pixels.
    ///
    /// Frames may be missing and may come at any rate; after a gap longer than [`Rules::lost_for`]
    /// nobody is known any more. Where time goes back or the picture takes another shape, all
    /// tracks end and following begins anew; where only the resolution changes, they go on.
    pub fn update(
        &mut self,
        pts: Pts,
        (width, height): (u32, u32),
        detections: &[Detection],
    ) -> Update {
        let mut update = Update::default();
        let before = self.last.map_or(pts, |last| last.pts);
        let since_last = pts.0.saturating_sub(before.0);
        let frame = Moment { pts, width, height, since_last };
        self.move_on(frame, &mut update);
        let (strong, weak) = self.by_strength(&self.single(frame, detections));
        let unused = self.associate(frame, &strong, &weak, &mut update);
        self.give_birth(frame, &unused, &mut update);
        let lost_for = self.rules.lost_for;
        self.bury(&mut update, |track| {
            let gone = track.motion.leaves(frame.picture());
            track.seen.is_none().then(|| track.life.ended(pts, lost_for, gone))?
        });
        update.tracks = self.tracks.iter().filter_map(Track::view).collect();
        update
    }

    /// Brings all tracks to the time and size of a frame.
    fn move_on(&mut self, now: Moment, update: &mut Update) {
        let before = self.last.replace(now);
        let Some(before) = before else { return };
        let factors = [(now.width, before.width), (now.height, before.height)]
            .map(|(now, before)| f64::from(now.max(1)) / f64::from(before.max(1)));
        let reshaped = (factors[0] / factors[1]).ln().abs() > SAME_ASPECT;
        if now.pts < before.pts || reshaped {
            self.bury(update, |_| Some(EndCause::Restarted));
            return;
        }
        let lost_for = self.rules.lost_for;
        self.bury(update, |track| {
            let cause = || track.life.ended(now.pts, lost_for, false);
            track.life.too_late(now.pts, lost_for).then(cause)?
        });
        let seconds = now.since_last.as_secs_f64();
        for track in &mut self.tracks {
            if factors != [1.0, 1.0] {
                track.motion.rescale(factors[0], factors[1]);
            }
            track.motion.predict(seconds);
            track.seen = None;
        }
        let places: Vec<BBox> = self.tracks.iter().filter_map(|t| t.motion.bbox()).collect();
        for track in &mut self.tracks {
            let place = track.motion.bbox();
            track.hidden = place.map_or(0.0, |place| occlusion::hidden_share(&place, &places));
        }
    }

    /// Boxes without those that were drawn around two persons at once. They belong to neither, and
    /// would draw the tracks to each other.
    fn single(&self, frame: Moment, detections: &[Detection]) -> Vec<Detection> {
        let active = self.tracks.iter().filter(|track| track.is_active(frame));
        let places: Vec<BBox> = active.filter_map(|track| track.motion.bbox()).collect();
        let single = |d: &&Detection| !occlusion::merges_two(&d.bbox, &places);
        let sound = detections.iter().filter(|d| d.score.is_finite());
        sound.take(crate::detect::MAX_DETECTIONS).filter(single).copied().collect()
    }

    /// Believed boxes, and weaker ones.
    fn by_strength(&self, detections: &[Detection]) -> (Vec<Detection>, Vec<Detection>) {
        detections.iter().partition(|d| d.score >= self.rules.strong_score)
    }

    /// Gives boxes to tracks; returns the strong ones that nobody took.
    ///
    /// Who was seen just now chooses first, also among weak boxes: where persons merge, a box
    /// around two is often strong, and the right one weak. Who is lost, and who is not believed
    /// yet, may only take boxes that do not show one of those again.
    fn associate(
        &mut self,
        frame: Moment,
        strong: &[Detection],
        weak: &[Detection],
        update: &mut Update,
    ) -> Vec<Detection> {
        let confirmed = |track: &Track| track.life.state == State::Confirmed;
        let active = |track: &Track| track.is_active(frame);
        let strong = self.give(frame, strong, Strength::Strong, update, active);
        let weak = self.new_only(weak);
        let stays = |track: &Track| active(track) && !track.motion.leaves(frame.picture());
        self.give(frame, &weak, Strength::Weak, update, stays);
        let strong = self.new_only(&strong);
        let strong = self.give(frame, &strong, Strength::Strong, update, confirmed);
        let strong = self.new_only(&strong);
        self.give(frame, &strong, Strength::Strong, update, |track| !confirmed(track))
    }

    /// Boxes that show nobody who has a box already.
    fn new_only(&self, detections: &[Detection]) -> Vec<Detection> {
        let seen: Vec<BBox> = self.tracks.iter().filter_map(|t| Some(t.seen?.bbox)).collect();
        let repeats = |d: &Detection| seen.iter().any(|seen| seen.iou(&d.bbox) > SAME_PERSON_IOU);
        detections.iter().copied().filter(|d| !repeats(d)).collect()
    }

    /// Whether a box seems to show a part of somebody who has a box, or more than that person.
    fn is_part(&self, detection: &Detection) -> bool {
        let share = |seen: BBox| {
            seen.intersection(&detection.bbox) / seen.area().min(detection.bbox.area())
        };
        let mut seen = self.tracks.iter().filter_map(|track| track.seen);
        detection.score < PART_SCORE && seen.any(|seen| share(seen.bbox) > PART_SHARE)
    }

    /// Gives boxes to those tracks without one that `chosen` names; returns the boxes left over.
    fn give(
        &mut self,
        frame: Moment,
        detections: &[Detection],
        strength: Strength,
        update: &mut Update,
        chosen: impl Fn(&Track) -> bool,
    ) -> Vec<Detection> {
        let places: Vec<usize> = (0..self.tracks.len())
            .filter(|&i| self.tracks[i].seen.is_none() && chosen(&self.tracks[i]))
            .collect();
        let tracks: Vec<&Track> = places.iter().map(|&i| &self.tracks[i]).collect();
        let pairs = associate::pairs(&tracks, detections, frame.picture(), strength);
        let mut left: Vec<Option<Detection>> = detections.iter().copied().map(Some).collect();
        for (row, column) in pairs {
            let Some(detection) = left[column].take() else { continue };
            let track = &mut self.tracks[places[row]];
            if track.take(frame, detection, self.rules.confirm_after) {
                update.confirmed.push(track.id);
            }
        }
        left.into_iter().flatten().collect()
    }

    /// Begins tracks from boxes that nobody took.
    fn give_birth(&mut self, frame: Moment, unused: &[Detection], update: &mut Update) {
        for detection in unused.iter().filter(|d| d.score >= self.rules.birth_score) {
            // Again for each, because the one before may show the same person.
            if self.new_only(&[*detection]).is_empty() || self.is_part(detection) {
                continue;
            }
            if self.tracks.len() >= self.rules.max_tracks {
                update.refused += 1;
                continue;
            }
            let id = self.ids.next();
            update.born.push(id);
            self.tracks.push(Track {
                id,
                motion: Motion::new(&detection.bbox, frame.picture()),
                life: Life::new(frame.pts),
                hidden: 0.0,
                seen: Some(*detection),
            });
        }
    }

    /// Ends the tracks for which there is a cause.
    fn bury(&mut self, update: &mut Update, cause: impl Fn(&Track) -> Option<EndCause>) {
        self.tracks.retain(|track| match cause(track) {
            Some(cause) => {
                update.ended.push(track.ended(cause));
                false
            }
            None => true,
        });
    }
}

impl Track {
    /// Whether this is a believed person who was seen just now.
    fn is_active(&self, frame: Moment) -> bool {
        let silent = frame.pts.0.saturating_sub(self.life.last.0);
        self.life.state == State::Confirmed && silent <= RECENT.max(frame.since_last)
    }

    /// Takes this frame's box; says whether the track is believed by it.
    fn take(&mut self, frame: Moment, detection: Detection, confirm_after: Duration) -> bool {
        let blur = associate::blur(detection.score, self.hidden);
        self.motion.update(&detection.bbox, frame.picture(), blur);
        self.seen = Some(detection);
        self.life.seen(frame.pts, confirm_after)
    }

    fn view(&self) -> Option<TrackView> {
        let Detection { bbox, score } = self.seen?;
        let (id, state, first) = (self.id, self.life.state, self.life.first);
        Some(TrackView { id, state, bbox, score, first, speed: self.motion.speed() })
    }

    fn ended(&self, cause: EndCause) -> Ended {
        let Life { state, first, last, .. } = self.life;
        Ended { id: self.id, state, first, last, cause }
    }
}

#[cfg(test)]
mod tests;
