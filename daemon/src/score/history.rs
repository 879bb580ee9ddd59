//! Who passed lately: what texts are calibrated on, and how busy the place is.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use spotter_models::Generation;

use super::Look;
use crate::{alert::Wall, frame::CameraId, track::TrackId};

/// Most tracks of a bundle that are kept for calibration; there are two bundles at most, while one takes over: enough for a tail, few enough that a season does not
/// last in them.
const MAX_TRACKS: usize = 4096;

/// Tracks a day that a camera is taken to have until it was watched for long, and for how many hours
/// of watching that counts.
const USUAL_PER_DAY: f64 = 500.0;
const USUAL_HOURS: f64 = 1.0;

/// Over how many whole hours tracks a day are counted.
const HOURS: i64 = 24;

/// Most cameras that are counted apart.
const MAX_CAMERAS: usize = 256;

/// Tracks that become too old go together: each time, all texts are calibrated anew. So many times in the
/// span that a track is kept, and not more often than every hour.
const EXPIRIES: u32 = 24;
const EXPIRY_EVERY: Duration = Duration::from_secs(3600);

/// A track that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Where.
    pub camera: CameraId,
    /// Who, within this run.
    pub track: TrackId,
    /// When it was last looked at; UTC.
    pub at: Timestamp,
    /// The looks at it, at least one, in order; of one bundle.
    pub looks: Vec<Look>,
}

/// The last tracks of all cameras. Shared by who follows tracks and who calibrates.
#[derive(Default)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tracks: VecDeque<Passed>,
    /// Counts changes.
    count: u64,
    /// When tracks that are too old are looked for next.
    expiry_at: Option<Timestamp>,
    traffic: BTreeMap<CameraId, Traffic>,
    others: Vec<Option<f64>>,
}

/// Tracks of one camera, by the hour.
#[derive(Default)]
struct Traffic {
    /// Hours since 1970 and tracks in them; the newest last.
    hours: VecDeque<(i64, u64)>,
    /// The first hour that was watched, as far as it is remembered.
    since: Option<Timestamp>,
    /// How many times as many of its newest persons score high as was promised.
    drift: Option<f64>,
}

impl History {
    /// Most tracks that are kept.
    pub const CAPACITY: usize = MAX_TRACKS;

    /// A track is over.
    pub fn add(&self, passed: Passed) {
        if !passed.looks.is_empty() {
            self.inner().note(&passed.camera, passed.at);
            self.recall(passed);
        }
    }

    /// A track that is known to have passed, as another bundle sees it: nobody more passed for it.
    pub fn recall(&self, passed: Passed) {
        if passed.looks.is_empty() {
            return;
        }
        let generation =
            |passed: &Passed| passed.looks.first().map(|look| look.embedding.generation());
        let mut inner = self.inner();
        inner.count += 1;
        // Each bundle's tracks for themselves: one that is opened and refused must not cost the other its own.
        let of_it = |other: &Passed| generation(other) == generation(&passed);
        if inner.tracks.len() >= MAX_TRACKS
            && inner.tracks.iter().filter(|other| of_it(other)).count() >= MAX_TRACKS
            && let Some(oldest) = inner.tracks.iter().position(of_it)
        {
            inner.tracks.remove(oldest);
        }
        inner.tracks.push_back(passed);
    }

    /// A camera is watched from now on, or was since this time.
    pub fn watching(&self, camera: &CameraId, since: Timestamp) {
        let mut inner = self.inner();
        if let Some(traffic) = inner.traffic(camera) {
            traffic.since.get_or_insert(since);
        }
    }

    /// Grows with every change: by one for each track that is added, and by [`History::CAPACITY`] where
    /// tracks were forgotten, so that whoever judges by a copy is far behind and makes another.
    pub fn count(&self) -> u64 {
        self.inner().count
    }

    /// Forgets the tracks that are meant; how many these were.
    pub fn forget(&self, is_meant: impl Fn(&Passed) -> bool) -> usize {
        self.inner().forget(is_meant)
    }

    /// How many tracks are meant.
    pub fn meant(&self, is_meant: impl Fn(&Passed) -> bool) -> usize {
        self.inner().tracks.iter().filter(|passed| is_meant(passed)).count()
    }

    /// Forgets tracks before they are older than `max_age`: at most every hour all those that would be by
    /// the next time. How many these were. Meant to be called every second or so. As in the gallery
    /// nothing is too old as long as the clock is not believed.
    pub fn expire(&self, now: Wall, max_age: Duration) -> usize {
        let mut inner = self.inner();
        if !now.believed() {
            return 0;
        }
        let every = (max_age / EXPIRIES).min(EXPIRY_EVERY);
        let span = |span: Duration| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        let next = now.at.saturating_add(span(every)).unwrap_or(Timestamp::MAX);
        // A time further away than the next one is what a clock that was set back has left.
        if inner.expiry_at.is_some_and(|due| now.at < due && due <= next) {
            return 0;
        }
        inner.expiry_at = Some(next);
        let oldest = next.saturating_sub(span(max_age)).unwrap_or(Timestamp::MIN);
        inner.forget(|passed| passed.at < oldest)
    }

    /// The tracks of one bundle, oldest first.
    pub fn tracks(&self, generation: Generation) -> Vec<Passed> {
        let of_it = |passed: &&Passed| {
            passed.looks.first().is_some_and(|look| look.embedding.generation() == generation)
        };
        self.inner().tracks.iter().filter(of_it).cloned().collect()
    }

    /// Tracks a day to expect of the cameras that `counts`: those of the last day, or while that was
    /// not watched whole, what it comes to, beginning from a usual number. Before any camera is known,
    /// what is usual for one.
    pub fn per_day(&self, now: Timestamp, counts: impl Fn(&CameraId) -> bool) -> f64 {
        let inner = self.inner();
        if inner.traffic.is_empty() {
            return USUAL_PER_DAY;
        }
        let cameras = inner.traffic.iter().filter(|(camera, _)| counts(camera));
        cameras.map(|(_, traffic)| traffic.per_day(now)).sum()
    }

    /// What part of the site's budget is this device's, 0 to 1: by the tracks a day of all devices that
    /// are online. Those that do not tell theirs count as one like this.
    pub fn share(&self, now: Timestamp) -> f64 {
        let own = self.per_day(now, |_| true).max(1.0);
        let others: f64 =
            self.inner().others.iter().map(|per_day| per_day.unwrap_or(own).max(0.0)).sum();
        own / (own + others)
    }

    /// On this camera so many times as many persons score high as was promised.
    pub fn drifted(&self, camera: &CameraId, ratio: f64) {
        if let Some(traffic) = self.inner().traffic(camera) {
            traffic.drift = Some(ratio);
        }
    }

    /// How many times as many persons score high on this camera as was promised, as far as that is known.
    pub fn drift(&self, camera: &CameraId) -> Option<f64> {
        self.inner().traffic.get(camera)?.drift
    }

    /// The tracks a day of the site's other devices that are online, where they tell them.
    pub fn others(&self, per_day: Vec<Option<f64>>) {
        self.inner().others = per_day;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, is_meant: impl Fn(&Passed) -> bool) -> usize {
        let before = self.tracks.len();
        self.tracks.retain(|passed| !is_meant(passed));
        let gone = before - self.tracks.len();
        if gone > 0 {
            self.count += MAX_TRACKS as u64;
        }
        gone
    }

    fn traffic(&mut self, camera: &CameraId) -> Option<&mut Traffic> {
        if !self.traffic.contains_key(camera) && self.traffic.len() >= MAX_CAMERAS {
            return None;
        }
        Some(self.traffic.entry(camera.clone()).or_default())
    }

    fn note(&mut self, camera: &CameraId, at: Timestamp) {
        let Some(traffic) = self.traffic(camera) else { return };
        traffic.since.get_or_insert(at);
        let hour = hour(at);
        match traffic.hours.back_mut() {
            // A clock that went back counts into the hour that it was in.
            Some((last, tracks)) if *last >= hour => *tracks += 1,
            _ => traffic.hours.push_back((hour, 1)),
        }
        while traffic.hours.len() > HOURS as usize + 1 {
            traffic.hours.pop_front();
        }
    }
}

impl Traffic {
    fn per_day(&self, now: Timestamp) -> f64 {
        let first = hour(now) - HOURS;
        let counted = self.hours.iter().filter(|(hour, _)| *hour > first);
        let tracks: u64 = counted.map(|(_, tracks)| tracks).sum();
        let day = SignedDuration::from_hours(HOURS);
        let watched = self.since.map_or(SignedDuration::ZERO, |since| {
            now.duration_since(since).clamp(SignedDuration::ZERO, day)
        });
        // Whole once a day was watched: the usual number does not count any more.
        let hours = watched.as_secs_f64() / 3600.0;
        let missing = (1.0 - hours / HOURS as f64).max(0.0) * USUAL_HOURS;
        let usual = missing * USUAL_PER_DAY / HOURS as f64;
        (tracks as f64 + usual) / (hours + missing) * HOURS as f64
    }
}

fn hour(at: Timestamp) -> i64 {
    at.as_second().div_euclid(3600)
}

#[cfg(test)]
mod tests {
    use spotter_models::Embedding;

    use super::*;
    use crate::clock::Mono;

    fn camera(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    fn passed(name: &str, at: Timestamp, generation: u8) -> Passed {
        let embedding = Embedding::new(vec![1.0, 0.0], Generation([generation; 16])).unwrap();
        let looks = vec![Look { embedding, quality: 0.5, at: Mono::default() }];
        Passed { camera: camera(name), track: TrackId(1), at, looks }
    }

    fn noon() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn hours(count: i64) -> SignedDuration {
        SignedDuration::from_hours(count)
    }

    #[test]
    fn a_day_is_what_was_counted_once_it_was_watched_whole() {
        let history = History::default();
        history.watching(&camera("gate"), noon() - hours(40));
        for hour in 0..40 {
            for minute in 0..10 {
                let at = noon() - hours(hour) - SignedDuration::from_mins(minute);
                history.add(passed("gate", at, 1));
            }
        }
        // Oldest last, which is what a clock that goes back gives: all count into the first hour.
        assert_eq!(history.per_day(noon(), |_| true), 400.0);
        let history = History::default();
        for hour in (0..40).rev() {
            (0..10).for_each(|_| history.add(passed("gate", noon() - hours(hour), 1)));
        }
        let per_day = history.per_day(noon(), |_| true);
        assert!((per_day - 240.0).abs() < 1.0, "{per_day}");
        assert_eq!(history.per_day(noon(), |camera| camera.as_str() == "dock"), 0.0);
        assert_eq!(history.per_day(noon() + hours(100), |_| true), 0.0, "an empty day");
    }

    #[test]
    fn a_fresh_box_begins_from_what_is_usual_and_moves_to_what_it_sees() {
        let history = History::default();
        assert_eq!(history.per_day(noon(), |_| true), USUAL_PER_DAY);
        history.watching(&camera("gate"), noon());
        assert_eq!(history.per_day(noon(), |_| true), USUAL_PER_DAY);
        // 100 in the first two hours is 1200 a day.
        (0..100).for_each(|_| history.add(passed("gate", noon() + hours(1), 1)));
        let per_day = history.per_day(noon() + hours(2), |_| true);
        assert!((900.0..1200.0).contains(&per_day), "{per_day}");
        // A clock that jumped back is no time watched at all.
        assert!(history.per_day(noon() - hours(9_000), |_| true).is_finite());
    }

    #[test]
    fn the_budget_is_shared_by_traffic_and_evenly_with_who_does_not_tell() {
        let history = History::default();
        history.watching(&camera("gate"), noon());
        assert_eq!(history.share(noon()), 1.0);
        history.others(vec![Some(3.0 * USUAL_PER_DAY)]);
        assert_eq!(history.share(noon()), 0.25);
        history.others(vec![None, None]);
        assert!((history.share(noon()) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn tracks_leave_before_they_are_too_old_and_not_by_a_clock_that_nobody_believes() {
        let history = History::default();
        let (generation, day) = (Generation([1; 16]), Duration::from_secs(24 * 3600));
        for hour in 0..30 {
            history.add(passed("gate", noon() + hours(hour), 1));
        }
        let at = |hour, synced| Wall { at: noon() + hours(hour), synced: Some(synced) };
        assert_eq!(history.expire(at(30, false), day), 0);
        assert_eq!(history.expire(at(23, true), day), 0, "nobody is a day old yet, nor in an hour");
        let count = history.count();
        let oldest = || history.tracks(generation)[0].at;
        for hour in 24..30 {
            history.expire(at(hour, true), day);
            let age = (noon() + hours(hour)).duration_since(oldest());
            assert!(age < hours(24), "at {hour}: {age}");
            // Until the next hour nothing changes: texts are not calibrated anew all the time.
            let minute = SignedDuration::from_mins(59);
            let soon = Wall { at: noon() + hours(hour) + minute, synced: Some(true) };
            assert_eq!(history.expire(soon, day), 0);
            assert!(soon.at.duration_since(oldest()) <= hours(24));
        }
        assert!(history.count() - count >= MAX_TRACKS as u64, "a copy is known to be old");
        // Clocks that are set back do not put it off.
        history.expire(at(9_000, true), day);
        history.add(passed("gate", noon(), 1));
        assert_eq!(history.expire(at(25, true), day), 1);
        assert_eq!(history.tracks(generation), []);
        // A span of an hour is looked at every two and a half minutes.
        let hour = Duration::from_secs(3600);
        history.add(passed("gate", noon() + hours(26), 1));
        let minutes =
            |m| Wall { at: noon() + hours(26) + SignedDuration::from_mins(m), synced: Some(true) };
        assert_eq!(history.expire(minutes(57), hour), 0);
        assert_eq!(history.expire(minutes(60), hour), 1);
        assert!(history.per_day(noon() + hours(26), |_| true) > 0.0, "counts stay");
    }

    #[test]
    fn what_is_forgotten_is_judged_by_no_more() {
        let history = History::default();
        for number in 0..10 {
            history.add(passed(["gate", "dock"][number % 2], noon() + hours(number as i64), 1));
        }
        let at_gate = |passed: &Passed| passed.camera.as_str() == "gate";
        let count = history.count();
        assert_eq!((history.meant(at_gate), history.count()), (5, count));
        assert_eq!((history.forget(at_gate), history.forget(at_gate)), (5, 0));
        assert_eq!(history.tracks(Generation([1; 16])).len(), 5);
        assert_eq!(history.count(), count + MAX_TRACKS as u64);
    }

    #[test]
    fn memory_is_bounded_and_bundles_are_kept_apart() {
        let history = History::default();
        for number in 0..2 * MAX_TRACKS as i64 + 20 {
            let at = noon() + SignedDuration::from_secs(number);
            history.add(passed("gate", at, u8::from(number % 2 == 0)));
        }
        history.add(Passed { looks: Vec::new(), ..passed("gate", noon(), 1) });
        assert_eq!(history.count(), 2 * MAX_TRACKS as u64 + 20);
        let (even, odd) = (Generation([1; 16]), Generation([0; 16]));
        assert_eq!([even, odd].map(|of| history.tracks(of).len()), [MAX_TRACKS; 2]);
        assert_eq!(history.tracks(odd)[0].at, noon() + SignedDuration::from_secs(21));
        (0..1000).for_each(|n| history.watching(&camera(&format!("c{n}")), noon()));
        assert_eq!(history.inner().traffic.len(), MAX_CAMERAS);
    }
}
