//! One sighting per (alert, track): when it begins, is worth a second message, and ends.
//!
//! A track that fits is told at once, unless the alert is cooling down or has used up its quota;
//! then it is counted, and told as soon as both allow it if the person is still in view. What was
//! begun is always ended: when the track ends, the alert is withdrawn or changed, or memory runs
//! out.

mod open;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::RngCore;
use spotter_models::Generation;

use super::{Event, Ids, Phrase, Quota, Sighting, quota::Bucket};
use crate::{
    alert::{AlertId, Wall},
    clock::Mono,
    frame::CameraId,
};
use open::Open;

/// Alerts whose cooldown and quota are remembered: twice what a device holds by default.
const MAX_PACES: usize = 20_000;

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic time: decides.
    pub mono: Mono,
    /// Wall time: shows.
    pub wall: Wall,
}

impl Moment {
    /// What the wall clock, as it goes now, showed at a moment in the past. Clocks that were set
    /// meanwhile change both ends of a span alike, so nothing is seen before it was first seen.
    pub fn wall_at(&self, mono: Mono) -> Timestamp {
        let ago = SignedDuration::try_from(self.mono.since(mono)).unwrap_or(SignedDuration::MAX);
        self.wall.at.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }
}

/// How well a track fits an alert, by all looks at it so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Which alert.
    pub alert: AlertId,
    /// Which revision of it; `None` for a plain text.
    pub revision: Option<u64>,
    /// Shortest time between two new sightings of the alert.
    pub cooldown: Duration,
    /// Where.
    pub camera: CameraId,
    /// Who, within this run of the camera.
    pub track: u64,
    /// Cosine, -1 to 1.
    pub score: f32,
    /// From which cosine the track fits.
    pub threshold: f32,
    /// How likely somebody else scores as much, where the bundle is calibrated.
    pub false_alarm_probability: Option<f64>,
    /// The person in the newest look: left, top, width, height in shares of the picture's sides.
    pub bbox: [f32; 4],
    /// How many crops went into the score.
    pub crops: u32,
    /// Why it fits.
    pub phrases: Vec<Phrase>,
    /// The bundle all scores come from.
    pub bundle: Generation,
    /// When the track was first looked at.
    pub first: Mono,
    /// When the newest look was taken.
    pub at: Mono,
}

/// What the ledger may do and hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// New sightings of one alert; `None` for any number.
    pub quota: Option<Quota>,
    /// Shortest time between two messages about one sighting, its end excepted.
    pub update_interval: Duration,
    /// How much better than the last one told a score must be to be told.
    pub update_gain: f32,
    /// Tracks with a sighting, or held back, at one time; beyond it the one that was not looked at
    /// for longest is ended.
    pub max_tracks: usize,
    /// Ended tracks that are remembered, so that scores which come late begin nothing.
    pub max_ended: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quota: Some(Quota::default()),
            update_interval: Duration::from_secs(1),
            update_gain: 0.01,
            max_tracks: 4096,
            max_ended: 8192,
        }
    }
}

type Key = (CameraId, u64);

/// What is told and what is held back, over all alerts and cameras of a device.
pub struct Ledger<R> {
    limits: Limits,
    ids: Ids<R>,
    tracks: BTreeMap<Key, Track>,
    paces: BTreeMap<AlertId, Pace>,
    ended: BTreeSet<Key>,
    ended_order: VecDeque<Key>,
    ignored: u64,
}

/// A track that fits at least one alert.
struct Track {
    last: Mono,
    pairs: BTreeMap<AlertId, Pair>,
}

/// A track and an alert that it fits.
enum Pair {
    /// Counted in the alert's count with this number.
    Held(u64),
    /// Told.
    Open(Box<Open>),
}

/// How fast an alert may bring new sightings.
struct Pace {
    last_new: Option<Mono>,
    bucket: Option<Bucket>,
    /// Tracks held back that nobody was told of.
    suppressed: u64,
    /// The number of this count; grows when it is told.
    count: u64,
}

impl Pace {
    fn new(quota: Option<Quota>, now: Mono) -> Self {
        let bucket = quota.map(|quota| quota.bucket(now));
        Self { last_new: None, bucket, suppressed: 0, count: 0 }
    }

    /// Whether a new sighting may be told now; where it may, it counts.
    fn allows(&mut self, quota: Option<Quota>, cooldown: Duration, now: Mono) -> bool {
        if self.last_new.is_some_and(|last| now.since(last) < cooldown) {
            return false;
        }
        let paid = match (&mut self.bucket, quota) {
            (Some(bucket), Some(quota)) => bucket.take(quota, now),
            _ => true,
        };
        if paid {
            self.last_new = Some(now);
        }
        paid
    }

    fn tell_suppressed(&mut self) -> u64 {
        if self.suppressed > 0 {
            self.count += 1;
        }
        std::mem::take(&mut self.suppressed)
    }
}

impl<R: RngCore> Ledger<R> {
    /// Nothing seen yet; `random` makes the ids of sightings unique.
    pub fn new(limits: Limits, random: R) -> Self {
        Self {
            limits,
            ids: Ids::new(random),
            tracks: BTreeMap::new(),
            paces: BTreeMap::new(),
            ended: BTreeSet::new(),
            ended_order: VecDeque::new(),
            ignored: 0,
        }
    }

    /// Scores that came after the end of their track, or were no numbers, and began nothing.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Tracks of this alert that were held back and that nobody was told of yet.
    pub fn suppressed(&self, alert: &AlertId) -> u64 {
        self.paces.get(alert).map_or(0, |pace| pace.suppressed)
    }

    /// Takes a score and says what it changes. A score below the threshold begins nothing; what is
    /// open stays open, since a person who turns round is still the same person.
    pub fn see(&mut self, scored: Scored, now: Moment) -> Vec<Sighting> {
        let key = (scored.camera.clone(), scored.track);
        if !scored.score.is_finite() || self.ended.contains(&key) {
            self.ignored += 1;
            return Vec::new();
        }
        let mut sightings = Vec::new();
        if let Some(track) = self.tracks.get_mut(&key) {
            track.last = track.last.max(scored.at);
            if let Some(Pair::Open(open)) = track.pairs.get_mut(&scored.alert) {
                if open.revision() == scored.revision {
                    let alert = scored.alert.clone();
                    let better = open.look(scored, &self.limits, now.mono);
                    let update = || tell(&mut self.paces, &alert, open, Event::Update, now);
                    return better.then(update).into_iter().collect();
                }
                // Another revision asks for something else: what was told is over.
                sightings.push(tell(&mut self.paces, &scored.alert, open, Event::End, now));
                track.pairs.remove(&scored.alert);
            }
        }
        if scored.score >= scored.threshold {
            sightings.extend(self.make_room(&key, now));
            sightings.extend(self.begin(key, scored, now));
        }
        sightings
    }

    /// A track is over: ends what was told of it. Scores of it that still come are ignored, so the
    /// caller scores the last looks first.
    pub fn end(&mut self, camera: &CameraId, track: u64, now: Moment) -> Vec<Sighting> {
        let key = (camera.clone(), track);
        let sightings = self.close(&key, now);
        if self.ended.insert(key.clone()) {
            self.ended_order.push_back(key);
        }
        while self.ended.len() > self.limits.max_ended {
            let Some(oldest) = self.ended_order.pop_front() else { break };
            self.ended.remove(&oldest);
        }
        sightings
    }

    /// What was seen of a track so far is erased: ends what was told of it. Scores of what is seen of it
    /// from now on begin anew.
    pub fn cut(&mut self, camera: &CameraId, track: u64, now: Moment) -> Vec<Sighting> {
        self.close(&(camera.clone(), track), now)
    }

    /// A camera stops: ends everything on it. Its tracks may be numbered anew from here on, so no
    /// score from before may come after.
    pub fn end_camera(&mut self, camera: &CameraId, now: Moment) -> Vec<Sighting> {
        self.ended.retain(|(of, _)| of != camera);
        self.ended_order.retain(|(of, _)| of != camera);
        let on_camera = self.tracks.keys().filter(|(of, _)| of == camera);
        let keys: Vec<Key> = on_camera.cloned().collect();
        keys.iter().flat_map(|key| self.close(key, now)).collect()
    }

    /// An alert is not watched for any more: ends its sightings and forgets its pace. No score for
    /// it may come after, until it is armed again.
    pub fn end_alert(&mut self, alert: &AlertId, now: Moment) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        for track in self.tracks.values_mut() {
            if let Some(Pair::Open(mut open)) = track.pairs.remove(alert) {
                sightings.push(tell(&mut self.paces, alert, &mut open, Event::End, now));
            }
        }
        self.tracks.retain(|_, track| !track.pairs.is_empty());
        self.paces.remove(alert);
        sightings
    }

    /// The device stops: ends everything.
    pub fn end_all(&mut self, now: Moment) -> Vec<Sighting> {
        let keys: Vec<Key> = self.tracks.keys().cloned().collect();
        keys.iter().flat_map(|key| self.close(key, now)).collect()
    }

    /// A pair that fits and was not told: tells it, or holds it back and counts it once.
    fn begin(&mut self, key: Key, scored: Scored, now: Moment) -> Option<Sighting> {
        let quota = self.limits.quota;
        self.forget_paces(&scored.alert);
        let pace =
            self.paces.entry(scored.alert.clone()).or_insert_with(|| Pace::new(quota, now.mono));
        let track = self
            .tracks
            .entry(key)
            .or_insert_with(|| Track { last: scored.at, pairs: BTreeMap::new() });
        let held = match track.pairs.get(&scored.alert) {
            Some(Pair::Held(count)) => Some(*count),
            _ => None,
        };
        if !pace.allows(quota, scored.cooldown, now.mono) {
            if held.is_none() {
                pace.suppressed += 1;
                track.pairs.insert(scored.alert, Pair::Held(pace.count));
            }
            return None;
        }
        if held == Some(pace.count) {
            // Told after all, so it does not count as held back.
            pace.suppressed = pace.suppressed.saturating_sub(1);
        }
        let alert = scored.alert.clone();
        let mut open = Open::new(self.ids.next(now.wall.at), scored, now.mono);
        let sighting = tell(&mut self.paces, &alert, &mut open, Event::New, now);
        track.pairs.insert(alert, Pair::Open(Box::new(open)));
        Some(sighting)
    }

    /// Ends what was told of a track and forgets it.
    fn close(&mut self, key: &Key, now: Moment) -> Vec<Sighting> {
        let Some(track) = self.tracks.remove(key) else { return Vec::new() };
        let mut sightings = Vec::new();
        for (alert, pair) in track.pairs {
            if let Pair::Open(mut open) = pair {
                sightings.push(tell(&mut self.paces, &alert, &mut open, Event::End, now));
            }
        }
        sightings
    }

    /// Ends the track that was not looked at for longest where a further one would be too many.
    fn make_room(&mut self, key: &Key, now: Moment) -> Vec<Sighting> {
        if self.tracks.contains_key(key) || self.tracks.len() < self.limits.max_tracks.max(1) {
            return Vec::new();
        }
        let oldest = self.tracks.iter().min_by_key(|(_, track)| track.last);
        match oldest.map(|(key, _)| key.clone()) {
            Some((camera, track)) => self.end(&camera, track, now),
            None => Vec::new(),
        }
    }

    /// Keeps the number of paces bounded also where nobody says that alerts end.
    fn forget_paces(&mut self, newcomer: &AlertId) {
        if self.paces.contains_key(newcomer) || self.paces.len() < MAX_PACES {
            return;
        }
        let oldest = self.paces.iter().min_by_key(|(_, pace)| pace.last_new);
        if let Some(alert) = oldest.map(|(alert, _)| alert.clone()) {
            self.paces.remove(&alert);
        }
    }
}

/// Makes the next message of a sighting, with what was held back of its alert since the last one.
fn tell(
    paces: &mut BTreeMap<AlertId, Pace>,
    alert: &AlertId,
    open: &mut Open,
    event: Event,
    now: Moment,
) -> Sighting {
    let suppressed = paces.get_mut(alert).map_or(0, Pace::tell_suppressed);
    open.tell(event, suppressed, now)
}

#[cfg(test)]
mod tests;
