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

mod embedding;
mod lane;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;

pub use embedding::Embedding;
pub use lane::Lane;
use lane::{Claim, count_skipped};

use crate::{
    alert::Wall,
    clock::{Clock, Mono, Stop},
    detect::Detector,
    embed::{Item, Queue},
    error::{Error, Result},
    frame::{CameraId, Frame},
    health::{Heart, Hearts},
    metrics::{self, Stage, Stopwatch},
    score::Seen,
    sighting::{Moment, Sighting},
    source::Signal,
    track::TrackId,
    watch::{Step, View},
};

/// Views that may wait for the tower: at a third of a second each, older ones are history.
const MAX_WAITING_VIEWS: usize = 32;
/// From so many waiting views on only tracks that have none yet are given one.
const BUSY_FROM: usize = 4;
/// How long a thread waits before it looks whether it should stop, and beats: far below
/// [`crate::health::STALLED_AFTER`].
const PATIENCE: Duration = Duration::from_millis(500);

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
