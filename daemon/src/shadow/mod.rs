//! SHADOW: a candidate looks along before it serves.
//!
//! The candidate gets a copy of every view that the serving bundle embeds, in a thread that gives way to it, and
//! compares it with the same texts under thresholds of its own. What it would have told is never told: it is
//! [compared](Comparison) with what was, person by person.

mod compare;
mod inbox;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use spotter_models::Generation;

pub use compare::{Comparison, Counts, Said};
use inbox::{Event, Inbox, Key, Looked};

use crate::{
    alert::{AlertId, Wall, place::Places},
    clock::{Clock, Mono, Stop},
    desk::{Beside, Model},
    embed::Embedder,
    error::Result,
    frame::CameraId,
    metrics,
    score::{Armed, History, Matcher, Seen},
    sighting::{Scored, Sighting, SightingId},
    track::TrackId,
    watch::View,
};

/// Persons in view that are compared at once.
const MAX_TRACKS: usize = 1024;

/// How often the candidate's texts and thresholds follow those that are watched for.
const ARM_EVERY: Duration = Duration::from_secs(10);

/// How often that may fail in a row before the candidate is given up.
const MOST_FAILURES: u32 = 6;

/// How long its thread waits before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(500);

/// A candidate that looks along: where the embedder's thread puts what it sees, and what came of it.
pub struct Shadow {
    candidate: Generation,
    since: Timestamp,
    inbox: Inbox,
    is_over: AtomicBool,
    comparison: Mutex<Comparison>,
}

/// What its thread works with.
pub struct Candidate {
    /// Its vision tower.
    pub embedder: Embedder,
    /// What it reads and judges by.
    pub model: Model,
    /// Keeps its texts like those that are watched for.
    pub beside: Beside,
    /// The cameras and their zones.
    pub places: Arc<ArcSwap<Places>>,
    /// Who passed.
    pub history: Arc<History>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ends it.
    pub stop: Arc<Stop>,
}

impl Shadow {
    /// Nobody was compared yet.
    pub fn new(candidate: Generation, since: Timestamp) -> Self {
        let (inbox, is_over) = (Inbox::default(), AtomicBool::new(false));
        Self { candidate, since, inbox, is_over, comparison: Mutex::default() }
    }

    /// The candidate.
    pub fn candidate(&self) -> Generation {
        self.candidate
    }

    /// Since when it looks along.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// What was compared so far.
    pub fn comparison(&self) -> Comparison {
        self.compared().clone()
    }

    /// Ends its thread, soon.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.inbox.close();
    }

    /// The serving bundle took a view of a person, their first one or not, and what the person fits by it. Somebody who
    /// was in view before the candidate looked along is not compared.
    pub fn see(
        &self,
        (seen, view): (&Seen, &View),
        is_first: bool,
        (armed, scored): (&Arc<Armed>, &[Scored]),
    ) {
        let looked = Looked {
            seen: seen.clone(),
            view: view.without_scene(),
            is_first,
            armed: armed.clone(),
            fits: scored.iter().map(|scored| scored.alert.clone()).collect(),
        };
        if self.inbox.push(Event::View(Box::new(looked))) {
            metrics::shadow_dropped("queue_full");
        }
    }

    /// A person is gone; what was told of them ended with it.
    pub fn end_track(&self, camera: &CameraId, id: TrackId, sightings: &[Sighting]) {
        let told = sightings.iter().filter(|sighting| sighting.track == id.0);
        let told = told.map(|sighting| (sighting.alert.clone(), sighting.id)).collect();
        self.inbox.push(Event::End((camera.clone(), id), told));
    }

    /// A camera is not watched any more, or is down: who was in view there is compared with nobody.
    pub fn end_camera(&self, camera: &CameraId) {
        self.inbox.push(Event::EndCamera(camera.clone()));
    }

    /// Somebody is erased: nothing that waits for the candidate, or that it has seen of whoever was in view, is kept from
    /// now on. Whoever is meant may be gone and still wait here; nobody of these is compared.
    pub fn erase(&self) {
        self.inbox.erase();
    }

    /// Looks along until it is over; what the candidate looked, read and judged with.
    ///
    /// # Errors
    /// Where texts cannot be read or compared any more.
    pub fn run(&self, candidate: Candidate) -> Result<(Embedder, Model)> {
        let matcher = Matcher::new(Arc::default(), candidate.places.clone());
        let (watched, tracks, begun) = (BTreeMap::new(), BTreeMap::new(), 0);
        let mut along = Along { shadow: self, candidate, matcher, watched, tracks, begun };
        let (mut arm_at, mut failures) = (along.candidate.clock.now(), 0);
        while !self.is_over.load(Ordering::Acquire) && !along.candidate.stop.asked() {
            if along.candidate.clock.now() >= arm_at {
                match along.arm() {
                    Ok(()) => failures = 0,
                    Err(error) if failures < MOST_FAILURES => {
                        failures += 1;
                        tracing::warn!(%error, "The candidate's texts are not those that are watched for; tried again.");
                    }
                    Err(error) => return Err(error),
                }
                arm_at = along.candidate.clock.now() + ARM_EVERY;
            }
            along.forget_gone();
            match self.inbox.pop(PATIENCE) {
                Some(Event::View(looked)) => along.look(&looked),
                Some(Event::End(key, told)) => along.end(&key, &told),
                Some(Event::EndCamera(camera)) => along.forget(|(of, _)| *of == camera),
                None => {}
            }
        }
        Ok((along.candidate.embedder, along.candidate.model))
    }

    fn compared(&self) -> MutexGuard<'_, Comparison> {
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person in view whom both bundles look at.
struct Track {
    number: u64,
    since: Mono,
    /// Whether the candidate saw every view that the serving bundle did.
    is_whole: bool,
    /// What they fit by either.
    serving: BTreeSet<AlertId>,
    candidate: BTreeSet<AlertId>,
    /// What the serving bundle watched for when it looked last.
    armed: Arc<Armed>,
}

/// The candidate's thread.
struct Along<'a> {
    shadow: &'a Shadow,
    candidate: Candidate,
    matcher: Matcher,
    /// Since when it watches for each alert.
    watched: BTreeMap<AlertId, Mono>,
    tracks: BTreeMap<Key, Track>,
    /// Counts tracks.
    begun: u64,
}

impl Along<'_> {
    /// Watches for what is watched for.
    fn arm(&mut self) -> Result<()> {
        let Candidate { beside, model, stop, .. } = &mut self.candidate;
        if let Some((armed, watched)) = beside.arm(model, stop)? {
            self.watched = watched;
            let scored = self.matcher.rearm(Arc::new(armed), self.now())?;
            self.note(scored);
        }
        Ok(())
    }

    fn now(&self) -> Wall {
        Wall::new(self.candidate.clock.wall(), None)
    }

    /// Lets go of everybody where somebody was erased.
    fn forget_gone(&mut self) {
        let (erased, cut) = self.shadow.inbox.gone();
        if erased {
            self.forget(|_| true);
        }
        for key in cut {
            if let Some(track) = self.tracks.get_mut(&key) {
                track.is_whole = false;
            }
        }
    }

    fn forget(&mut self, is_meant: impl Fn(&Key) -> bool) {
        for (key, _) in self.tracks.extract_if(.., |key, _| is_meant(key)) {
            self.matcher.forget(&key.0, key.1);
        }
    }

    fn look(&mut self, looked: &Looked) {
        let key = looked.key();
        if looked.is_first {
            self.begin(&key, looked);
        }
        let Some(track) = self.tracks.get_mut(&key) else { return };
        track.serving.extend(looked.fits.iter().cloned());
        track.armed = looked.armed.clone();
        let (seen, now) = (&looked.seen, self.now());
        let scored = self.candidate.embedder.embed(looked.view.crop.view());
        let scored = scored.and_then(|found| self.matcher.look(seen, &looked.view, &found, now));
        match scored {
            Ok(scored) => self.note(scored),
            Err(error) => {
                metrics::shadow_dropped("failed");
                tracing::warn!(camera = %seen.camera, %error, "The candidate could not look at a view.");
                if let Some(track) = self.tracks.get_mut(&key) {
                    track.is_whole = false;
                }
            }
        }
    }

    fn begin(&mut self, key: &Key, looked: &Looked) {
        if self.tracks.len() >= MAX_TRACKS {
            // Whose end was lost.
            let oldest = self.tracks.values().map(|track| track.number).min();
            self.tracks.retain(|_, track| Some(track.number) != oldest);
        }
        self.begun += 1;
        let track = Track {
            number: self.begun,
            since: looked.seen.decoded_at,
            is_whole: true,
            serving: BTreeSet::new(),
            candidate: BTreeSet::new(),
            armed: looked.armed.clone(),
        };
        self.tracks.insert(key.clone(), track);
    }

    fn note(&mut self, scored: Vec<Scored>) {
        for scored in scored {
            let key = (scored.camera, TrackId(scored.track));
            if let Some(track) = self.tracks.get_mut(&key) {
                track.candidate.insert(scored.alert);
            }
        }
    }

    fn end(&mut self, key: &Key, told: &[(AlertId, SightingId)]) {
        let passed = self.matcher.end(&key.0, key.1, self.now());
        let Some(track) = self.tracks.remove(key) else { return };
        self.shadow.inbox.unless_erased(|| {
            // The candidate's thresholds rest on them too.
            passed.into_iter().for_each(|passed| self.candidate.history.recall(passed));
            self.compare(track, told);
        });
    }

    /// Compares by the alerts for which both watched all the time.
    fn compare(&self, track: Track, told: &[(AlertId, SightingId)]) {
        let Track { mut serving, mut candidate, .. } = track;
        let mut compared = self.shadow.compared();
        if !track.is_whole {
            compared.incomplete += 1;
            return;
        }
        let is_common = |id: &AlertId| {
            let revision = |armed: &Armed| {
                armed.alerts().iter().find(|alert| alert.id == *id).map(|alert| alert.revision)
            };
            self.watched.get(id).is_some_and(|since| *since <= track.since)
                && revision(self.matcher.armed())
                    .is_some_and(|ours| revision(&track.armed) == Some(ours))
        };
        serving.retain(is_common);
        candidate.retain(is_common);
        // Of others the candidate could say nothing.
        let told: Vec<_> = told.iter().filter(|(alert, _)| is_common(alert)).cloned().collect();
        compared.add((&serving, &candidate), &told);
    }
}
