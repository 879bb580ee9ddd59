//! The live pipeline: every camera's newest frames through shared detectors and one vision tower.
//!
//! ```text
//! camera A ─ source ─▶ slot ─┐                 ┌─▶ queue ─▶ embedder ─▶ matcher ─▶ sightings
//! camera B ─ source ─▶ slot ─┴─▶ analysis 1..n ┘
//! ```
//!
//! An analysis worker takes the camera that has waited longest and whose next look is due, so that a
//! short box slows all cameras alike. Frames give way to newer ones and views to newer views, both
//! counted; from the matcher on nothing is lost.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rand::rngs::SmallRng;

use crate::{
    alert::{AlertId, Wall},
    clock::{Clock, Mono, Stop},
    detect::Detector,
    embed::{Embedder, Handover, Item, Queue},
    erase::{Job, Jobs, Trace},
    error::{Error, Result},
    feedback::Gatherer,
    frame::{CameraId, Frame},
    health::{Heart, Hearts},
    keep::{Keeper, Past},
    mask::Mask,
    metrics::{self, Stage, Stopwatch},
    portraits::Portraits,
    score::{Armed, ArmedAlert, History, Matcher, Passed, Seen},
    shadow::Shadow,
    sighting::{Ledger, Moment, Scored, Sighting},
    source::{Group, Signal, Slot},
    track::{TrackId, TrackIds},
    watch::{Step, View, Watch},
};

/// Views that may wait for the tower: at a third of a second each, older ones are history.
const MAX_WAITING_VIEWS: usize = 32;
/// From so many waiting views on only tracks that have none yet are given one.
const BUSY_FROM: usize = 4;
/// How long a thread waits before it looks whether it should stop, and beats: far below
/// [`crate::health::STALLED_AFTER`].
const PATIENCE: Duration = Duration::from_millis(500);

/// A camera as the analysis sees it.
pub struct Lane {
    camera: CameraId,
    slot: Arc<Slot<Frame>>,
    /// The camera's large stream, where the frames are those of a small one.
    large: Option<Arc<Group>>,
    interval: Duration,
    /// When the next look is due, in nanoseconds of monotonic time.
    due: AtomicU64,
    /// Whether a worker has it.
    claimed: AtomicBool,
    state: Mutex<LaneState>,
}

struct LaneState {
    watch: Watch,
    /// Whether the camera is not watched any more: a frame that a worker still has is not looked at,
    /// or what it shows would be told of a camera that is gone, and never ended.
    is_closed: bool,
    /// The last frame looked at, and when it came.
    last: Option<(u64, Mono)>,
    /// What nobody may look at.
    mask: Option<Arc<Mask>>,
}

impl Lane {
    /// A camera whose frames come through `slot` and are looked at `rate_hz` times a second.
    pub fn new(camera: CameraId, ids: Arc<TrackIds>, slot: Arc<Slot<Frame>>, rate_hz: f64) -> Self {
        let watch = Watch::new(camera.clone(), ids);
        Self {
            camera,
            slot,
            large: None,
            interval: Duration::from_secs_f64(1.0 / rate_hz),
            due: AtomicU64::new(0),
            claimed: AtomicBool::new(false),
            state: Mutex::new(LaneState { watch, is_closed: false, last: None, mask: None }),
        }
    }

    /// Crops come from this stream of the same camera.
    pub fn with_large(self, large: Option<Arc<Group>>) -> Self {
        Self { large, ..self }
    }

    /// Looks at every frame that is due, whether or not anything moves.
    pub fn with_every_look(self) -> Self {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.watch = state.watch.with_every_look();
        Self { state: Mutex::new(state), ..self }
    }

    /// Nobody looks behind these masks from now on; waits for a look that is under way.
    pub fn use_mask(&self, mask: Option<Arc<Mask>>) {
        self.state().mask = mask;
    }

    /// Its camera.
    pub fn camera(&self) -> &CameraId {
        &self.camera
    }

    fn due(&self) -> Mono {
        Mono(Duration::from_nanos(self.due.load(Ordering::Acquire)))
    }

    fn set_due(&self, due: Mono) {
        let nanos = u64::try_from(due.0.as_nanos()).unwrap_or(u64::MAX);
        self.due.store(nanos, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A camera that one worker has, until this is dropped.
struct Claim(Arc<Lane>);

impl Claim {
    fn try_new(lane: &Arc<Lane>) -> Option<Self> {
        let claimed = lane.claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| Self(lane.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Ordering::Release);
    }
}

/// What all threads share.
struct Site {
    /// Replaced as a whole by a reload.
    lanes: ArcSwap<Vec<Arc<Lane>>>,
    signal: Arc<Signal>,
    queue: Queue,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
    /// Analysis workers that still run; the last one closes the queue.
    analysing: AtomicUsize,
}

/// Takes sightings and the view they come from, where they come from one; called from the embedder's
/// thread, in order, and with none while nothing happens.
pub type Sink = Box<dyn FnMut(&[Sighting], Option<&View>) + Send>;

/// The running threads.
pub struct Pipeline {
    site: Arc<Site>,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts one analysis worker for each detector, and the embedder. Each of them has a heart in
    /// `hearts`, called like its thread: `analyse-0` and so on, and `embed`.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(
        lanes: Vec<Arc<Lane>>,
        signal: Arc<Signal>,
        detectors: Vec<Box<dyn Detector>>,
        embedding: Embedding,
        (clock, stop, hearts): (Arc<dyn Clock>, Arc<Stop>, &Hearts),
    ) -> Result<Self> {
        let site = Arc::new(Site {
            lanes: ArcSwap::from_pointee(lanes),
            signal,
            queue: Queue::new(MAX_WAITING_VIEWS),
            clock,
            stop,
            analysing: AtomicUsize::new(detectors.len()),
        });
        let mut threads = Vec::new();
        for (index, mut detector) in detectors.into_iter().enumerate() {
            let site = site.clone();
            let name = format!("analyse-{index}");
            let heart = hearts.register(&name);
            threads.push(spawn(&name, move || site.analyse(detector.as_mut(), &heart))?);
        }
        let mut embedding = embedding;
        let shared = site.clone();
        let heart = hearts.register("embed");
        threads.push(spawn("embed", move || shared.embed(&mut embedding, &heart))?);
        Ok(Self { site, threads })
    }

    /// Wakes whoever waits for frames, so that a stop is seen at once.
    pub fn wake(&self) {
        self.site.signal.raise();
    }

    /// Watches other cameras from now on. Tracks of cameras that are gone are ended. Waits for a look
    /// at one of those that is under way.
    pub fn use_lanes(&self, lanes: Vec<Arc<Lane>>) {
        let stays = |old: &Arc<Lane>| lanes.iter().any(|new| Arc::ptr_eq(new, old));
        let before = self.site.lanes.load_full();
        let gone: Vec<Arc<Lane>> = before.iter().filter(|lane| !stays(lane)).cloned().collect();
        self.site.lanes.store(Arc::new(lanes));
        for lane in gone {
            lane.state().is_closed = true;
            self.site.queue.push(Item::EndCamera(lane.camera.clone()));
        }
    }

    /// Ends what is open on a camera whose frames stopped: who was in view may be gone.
    pub fn end_camera(&self, camera: CameraId) {
        self.site.queue.push(Item::EndCamera(camera));
    }

    /// Whether no frame and no view waits.
    pub fn is_idle(&self) -> bool {
        self.site.lanes.load().iter().all(|lane| !lane.slot.is_full()) && self.site.queue.is_empty()
    }

    /// Waits for the threads, which end once somebody asked to stop.
    pub fn join(self) {
        self.wake();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("A thread of the pipeline ended by a bug.");
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error| Error::internal(format!("thread {name}"), error))
}

/// What the embedder's thread owns.
pub struct Embedding {
    /// The vision tower.
    pub embedder: Embedder,
    /// Where another bundle's tower comes from.
    pub handover: Arc<Handover>,
    /// Tracks in view that the tower has not seen since it took over.
    pub unseen: VecDeque<(CameraId, TrackId)>,
    /// The texts and what is known of each track.
    pub matcher: Matcher,
    /// A candidate that looks along, where there is one.
    pub shadow: Arc<ArcSwapOption<Shadow>>,
    /// Decides what is told.
    pub ledger: Ledger<SmallRng>,
    /// The best view of everybody in view.
    pub portraits: Portraits,
    /// Who passed, for calibration.
    pub history: Arc<History>,
    /// Keeps who passed; `None` where nobody is to be kept.
    pub keeper: Option<Keeper>,
    /// Collects crops for verdicts of staff; `None` where there is no disk for them.
    pub feedback: Option<Gatherer>,
    /// Who is to be erased.
    pub erasing: Jobs,
    /// The texts that are watched for now.
    pub armed: Box<dyn Fn() -> Arc<Armed> + Send>,
    /// Where sightings go.
    pub sink: Sink,
}

impl Site {
    fn analyse(&self, detector: &mut dyn Detector, heart: &Heart) {
        let mut stopwatch = Stopwatch::new(self.clock.clone());
        while !self.stop.asked() {
            heart.beat();
            let seen = self.signal.seen();
            match self.next() {
                Some((claim, frame, due)) => {
                    self.look(detector, &claim.0, (frame, due), &mut stopwatch);
                }
                None => {
                    self.signal.wait(seen, self.until_due());
                }
            }
        }
        if self.analysing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.queue.close();
        }
    }

    /// The camera that is due for longest and has a frame, unless another worker has it; and since when it is due.
    fn next(&self) -> Option<(Claim, Frame, Mono)> {
        let now = self.clock.now();
        let lanes = self.lanes.load();
        let mut ready: Vec<(Mono, &Arc<Lane>)> = lanes
            .iter()
            .filter(|lane| lane.slot.is_full())
            .map(|lane| (lane.due(), lane))
            .filter(|(due, _)| *due <= now)
            .collect();
        ready.sort_by_key(|(due, _)| *due);
        ready.into_iter().find_map(|(due, lane)| {
            let claim = Claim::try_new(lane)?;
            let frame = lane.slot.take()?;
            // Keeps the rate on average, but does not try to catch up what a busy box missed.
            lane.set_due((due + lane.interval).max(now));
            Some((claim, frame, due))
        })
    }

    /// How long until some waiting frame is due.
    fn until_due(&self) -> Duration {
        let now = self.clock.now();
        self.lanes
            .load()
            .iter()
            .filter(|lane| lane.slot.is_full())
            .map(|lane| lane.due().since(now))
            .filter(|span| !span.is_zero())
            .min()
            .map_or(PATIENCE, |span| span.min(PATIENCE))
    }

    fn look(
        &self,
        detector: &mut dyn Detector,
        lane: &Lane,
        (frame, due): (Frame, Mono),
        stopwatch: &mut Stopwatch,
    ) {
        let mut state = lane.state();
        if state.is_closed {
            return;
        }
        // Before anything is asked for pixels.
        let frame = match &state.mask {
            Some(mask) => mask.over(frame),
            None => frame,
        };
        let frame = match &lane.large {
            Some(large) => large.over(frame, state.mask.clone()),
            None => frame,
        };
        count_skipped(lane, &mut state, &frame, due);
        if state.watch.is_still(&frame) {
            metrics::dropped(Stage::Detect, &lane.camera, "still", 1);
            metrics::tracks(&lane.camera, 0);
            return;
        }
        metrics::entered(Stage::Detect, &lane.camera, 1);
        let found = stopwatch.time(Stage::Detect, || {
            detector.detect(frame.pixels.as_ref(), frame.width, frame.height)
        });
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                metrics::failed(Stage::Detect, &lane.camera);
                tracing::warn!(camera = %lane.camera, %error, "A frame could not be searched.");
                return;
            }
        };
        for (cause, count) in found.dropped.by_cause() {
            metrics::dropped(Stage::Detect, &lane.camera, cause, u64::from(count));
        }
        metrics::left(Stage::Detect, &lane.camera, found.detections.len() as u64);
        state.watch.set_has_time(self.queue.views() < BUSY_FROM);
        let step = state.watch.see(&frame, &found, stopwatch);
        metrics::tracks(&lane.camera, step.persons.len());
        for evicted in self.hand_on(lane, &frame, step) {
            state.watch.retry(evicted);
        }
    }

    /// Queues a step's views and ends. Returns this camera's tracks whose views had to make room.
    fn hand_on(&self, lane: &Lane, frame: &Frame, step: Step) -> Vec<TrackId> {
        let seen = Seen {
            camera: lane.camera.clone(),
            pts: frame.pts,
            decoded_at: frame.decoded_at,
            frame: (frame.width, frame.height),
        };
        let views = step.views.into_iter().map(|view| Item::View(seen.clone(), view));
        let ends = step.ended.into_iter().map(|id| Item::End(lane.camera.clone(), id));
        let mut own = Vec::new();
        for (camera, track) in views.chain(ends).filter_map(|item| self.queue.push(item)) {
            metrics::dropped(Stage::Embed, &camera, "queue_full", 1);
            if camera == lane.camera {
                own.push(track);
            } else if let Some(other) =
                self.lanes.load().iter().find(|other| other.camera == camera)
            {
                // Never waits: while another worker holds that camera, its track comes again by age.
                if let Ok(mut state) = other.state.try_lock() {
                    state.watch.retry(track);
                }
            }
        }
        own
    }

    fn embed(&self, embedding: &mut Embedding, heart: &Heart) {
        let mut stopwatch = Stopwatch::new(self.clock.clone());
        while !self.queue.is_done() {
            heart.beat();
            embedding.rearm(self.moment());
            embedding.erase(&self.queue, self.moment());
            let patience = if embedding.unseen.is_empty() { PATIENCE } else { Duration::ZERO };
            match self.queue.pop(patience) {
                Some(Item::View(seen, view)) => {
                    metrics::entered(Stage::Embed, &seen.camera, 1);
                    if let Err(error) = embedding.look(&seen, view, self.moment(), &mut stopwatch) {
                        metrics::failed(Stage::Embed, &seen.camera);
                        tracing::warn!(camera = %seen.camera, %error, "A view was not embedded.");
                    }
                    metrics::latency(&seen.camera, self.clock.now().since(seen.decoded_at));
                }
                Some(Item::End(camera, track)) => embedding.end(&camera, track, self.moment()),
                Some(Item::EndCamera(camera)) => embedding.end_camera(&camera, self.moment()),
                // New views first: who was in view at a switch is looked at again meanwhile.
                None if !embedding.unseen.is_empty() => embedding.look_back(self.moment()),
                // What a full disk did not take is tried again, though nobody comes into view.
                None => (embedding.sink)(&[], None),
            }
        }
        let open = embedding.ledger.end_all(self.moment());
        embedding.tell(&open, None);
    }

    fn moment(&self) -> Moment {
        Moment { mono: self.clock.now(), wall: Wall::new(self.clock.wall(), None) }
    }
}

impl Embedding {
    fn look(
        &mut self,
        seen: &Seen,
        view: View,
        now: Moment,
        stopwatch: &mut Stopwatch,
    ) -> Result<()> {
        stopwatch.time(Stage::Prepare, || self.embedder.prepare(view.crop.view()))?;
        let embedding = stopwatch.time(Stage::Embed, || self.embedder.run())?;
        metrics::left(Stage::Embed, &seen.camera, 1);
        let sightings: Vec<Sighting> = stopwatch.time(Stage::Score, || {
            let scored = self.matcher.look(seen, &view, &embedding, now.wall)?;
            if let Some(shadow) = self.shadow.load().as_ref() {
                let is_first = self.matcher.looks(&seen.camera, view.track) == 1;
                shadow.see((seen, &view), is_first, (self.matcher.armed(), &scored));
            }
            Ok::<_, Error>(scored.into_iter().flat_map(|s| self.ledger.see(s, now)).collect())
        })?;
        metrics::left(Stage::Score, &seen.camera, sightings.len() as u64);
        if let Some(feedback) = &mut self.feedback {
            feedback.see(&seen.camera, &view);
        }
        self.tell(&sightings, Some(&view));
        self.portraits.keep(&seen.camera, view);
        Ok(())
    }

    /// Forgets those in view who are to be erased, as far as they were seen until now. What was told of them
    /// ends.
    fn erase(&mut self, queue: &Queue, now: Moment) {
        while let Some(Job { meaning, dry_run, done }) = self.erasing.next() {
            let trace = |camera: &CameraId, track: TrackId, (first, last)| Trace {
                camera: camera.clone(),
                track: Some(track.0),
                first: now.wall_at(first),
                last: now.wall_at(last),
                sighting: None,
            };
            let is_meant =
                |camera: &CameraId, track, times| meaning.means(&trace(camera, track, times));
            let mut meant = self.matcher.meant(is_meant);
            let mut count = meant.len();
            if !dry_run {
                count += queue.forget(|seen, view| {
                    is_meant(&seen.camera, view.track, (seen.decoded_at, seen.decoded_at))
                });
                if let Some(shadow) = self.shadow.load().as_ref() {
                    shadow.erase();
                }
                for (camera, track) in meant.drain(..) {
                    self.matcher.forget(&camera, track);
                    drop(self.portraits.end(&camera, track));
                    self.forget_crops(&camera, track);
                    let over = self.ledger.cut(&camera, track.0, now);
                    self.tell(&over, None);
                }
            }
            if done.send(count).is_err() {
                tracing::warn!(count, "Persons in view were erased, and who asked has given up.");
            }
        }
    }

    fn end_camera(&mut self, camera: &CameraId, now: Moment) {
        let sightings = self.ledger.end_camera(camera, now);
        for passed in self.matcher.end_camera(camera, now.wall) {
            self.remember(passed, &sightings);
        }
        self.portraits.end_camera(camera);
        if let Some(shadow) = self.shadow.load().as_ref() {
            shadow.end_camera(camera);
        }
        self.tell(&sightings, None);
        if let Some(feedback) = &mut self.feedback {
            feedback.end_camera(camera);
        }
    }

    fn end(&mut self, camera: &CameraId, track: TrackId, now: Moment) {
        let sightings = self.ledger.end(camera, track.0, now);
        if let Some(shadow) = self.shadow.load().as_ref() {
            shadow.end_track(camera, track, &sightings);
        }
        match self.matcher.end(camera, track, now.wall) {
            Some(passed) => self.remember(passed, &sightings),
            None => drop(self.portraits.end(camera, track)),
        }
        self.tell(&sightings, None);
        self.forget_crops(camera, track);
    }

    fn forget_crops(&mut self, camera: &CameraId, track: TrackId) {
        if let Some(feedback) = &mut self.feedback {
            feedback.end(camera, track);
        }
    }

    /// A track is over: from now on texts are judged by it too, and it can be searched for.
    /// `sightings` are those that ended with it, or with others.
    fn remember(&mut self, passed: Passed, sightings: &[Sighting]) {
        let portrait = self.portraits.end(&passed.camera, passed.track).map(|view| view.crop);
        let own = sightings.iter().filter(|sighting| sighting.track == passed.track.0);
        let sightings = own.map(|sighting| sighting.id).collect();
        self.history.add(passed.clone());
        if let Some(keeper) = &self.keeper {
            let portrait = portrait.filter(|_| keeper.wants_pictures());
            keeper.keep(Past { passed, portrait, sightings });
        }
    }

    /// Takes another armed set, if there is one: what is not watched for any more ends, and who is in
    /// view is compared with what is new.
    fn rearm(&mut self, now: Moment) {
        let armed = (self.armed)();
        if Arc::ptr_eq(&armed, self.matcher.armed()) {
            return;
        }
        let generation = armed.generation().filter(|other| *other != self.embedder.generation());
        let tower = generation.and_then(|generation| self.handover.take(generation));
        if generation.is_some() && tower.is_none() {
            // Another bundle's texts without its tower: looked for again with the next crop.
            return;
        }
        // Not each against each: of ten thousand alerts one changes.
        let after: BTreeMap<&AlertId, &ArmedAlert> =
            armed.alerts().iter().map(|alert| (&alert.id, alert)).collect();
        // A text without a revision may change under the same name.
        let stays = |old: &&ArmedAlert| {
            after.get(&old.id).is_some_and(|new| match &tower {
                // Another bundle reads the same words otherwise.
                Some(_) => {
                    (new.revision, &new.understood, &new.spec)
                        == (old.revision, &old.understood, &old.spec)
                }
                None => {
                    (new.revision, &new.text, &new.without)
                        == (old.revision, &old.text, &old.without)
                }
            })
        };
        let before = self.matcher.armed().clone();
        let gone = before.alerts().iter().filter(|old| !stays(old));
        let gone: Vec<AlertId> = gone.map(|old| old.id.clone()).collect();
        let over: Vec<Sighting> =
            gone.iter().flat_map(|id| self.ledger.end_alert(id, now)).collect();
        self.tell(&over, None);
        if let Some(tower) = tower {
            tracing::info!(generation = %tower.generation(), "The bundle is another from this crop on.");
            self.embedder = tower;
            self.unseen = self.matcher.switch(armed).into();
            return;
        }
        match self.matcher.rearm(armed, now.wall) {
            Ok(scored) => scored.into_iter().for_each(|scored| self.see_again(scored, now)),
            Err(error) => tracing::error!(%error, "Persons in view were not compared anew."),
        }
    }

    /// Looks at the best view of somebody who was in view when the bundle was changed.
    fn look_back(&mut self, now: Moment) {
        let Some((camera, track)) = self.unseen.pop_front() else { return };
        if !self.matcher.is_unseen(&camera, track) {
            return;
        }
        let Some(view) = self.portraits.of(&camera, track) else { return };
        let quality = view.quality.total();
        let scored = self.embedder.embed(view.crop.view()).and_then(|embedding| {
            self.matcher.look_back((&camera, track), (&embedding, quality), now.wall)
        });
        match scored {
            Ok(scored) => scored.into_iter().for_each(|scored| self.see_again(scored, now)),
            Err(error) => tracing::warn!(%camera, %error, "Somebody in view was not seen anew."),
        }
    }

    /// Tells of somebody who is in view already, with the best view there was.
    fn see_again(&mut self, scored: Scored, now: Moment) {
        let (camera, track) = (scored.camera.clone(), TrackId(scored.track));
        let sightings: Vec<Sighting> = self.ledger.see(scored, now).into_iter().collect();
        if !sightings.is_empty() {
            (self.sink)(&sightings, self.portraits.of(&camera, track));
            self.gather(&sightings);
        }
    }

    fn tell(&mut self, sightings: &[Sighting], view: Option<&View>) {
        if !sightings.is_empty() {
            (self.sink)(sightings, view);
            self.gather(sightings);
        }
    }

    /// Has the best crops of told tracks wait for a verdict.
    fn gather(&mut self, sightings: &[Sighting]) {
        if let Some(feedback) = &mut self.feedback {
            feedback.told(sightings, self.matcher.armed());
        }
    }
}

/// Counts the frames between two looks. They were never meant to be looked at, but for those that had their turn: a look
/// that comes so late that others were due by then has taken theirs.
fn count_skipped(lane: &Lane, state: &mut LaneState, frame: &Frame, due: Mono) {
    let last = state.last.replace((frame.seq, frame.decoded_at));
    let Some((seq, at)) = last else { return };
    let skipped = frame.seq.saturating_sub(seq).saturating_sub(1);
    let late = frame.decoded_at.since(due.max(at + lane.interval));
    let missed = missed_looks(late, lane.interval).min(skipped);
    metrics::dropped(Stage::Decode, &lane.camera, "rate", skipped - missed);
    metrics::dropped(Stage::Decode, &lane.camera, "newer_frame", missed);
}

/// How many looks were due before one that comes so late, after the one that it is.
fn missed_looks(late: Duration, interval: Duration) -> u64 {
    (late.as_secs_f64() / interval.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_is_late_takes_the_turn_of_those_that_were_due_meanwhile() {
        let ms = Duration::from_millis;
        for (late, missed) in [(0, 0), (41, 0), (199, 0), (201, 1), (650, 3), (1_000, 5)] {
            assert_eq!(missed_looks(ms(late), ms(200)), missed, "{late} ms");
        }
    }
}
