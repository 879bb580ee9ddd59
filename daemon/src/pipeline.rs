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
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock::{Clock, Mono, Stop},
    detect::Detector,
    embed::{Embedder, Item, Queue},
    error::{Error, Result},
    frame::{CameraId, Frame, Pts},
    health::{Heart, Hearts},
    metrics::{self, Stage, Stopwatch},
    score::{Matcher, Seen, Sighting},
    source::{Signal, Slot},
    track::{TrackId, TrackIds},
    watch::{Step, View, Watch},
};

/// Views that may wait for the tower: at a third of a second each, older ones are history.
const MAX_WAITING_VIEWS: usize = 32;
/// How long a thread waits before it looks whether it should stop, and beats: far below
/// [`crate::health::STALLED_AFTER`].
const PATIENCE: Duration = Duration::from_millis(500);

/// A camera as the analysis sees it.
pub struct Lane {
    camera: CameraId,
    slot: Arc<Slot<Frame>>,
    interval: Duration,
    state: Mutex<LaneState>,
}

struct LaneState {
    watch: Watch,
    /// When the next look is due.
    due: Mono,
    /// The last frame looked at.
    last: Option<(u64, Pts)>,
}

impl Lane {
    /// A camera whose frames come through `slot` and are looked at `rate_hz` times a second.
    pub fn new(camera: CameraId, ids: Arc<TrackIds>, slot: Arc<Slot<Frame>>, rate_hz: f64) -> Self {
        let watch = Watch::new(camera.clone(), ids);
        let state = LaneState { watch, due: Mono::default(), last: None };
        Self {
            camera,
            slot,
            interval: Duration::from_secs_f64(1.0 / rate_hz),
            state: Mutex::new(state),
        }
    }
}

/// What all threads share.
struct Site {
    lanes: Vec<Lane>,
    signal: Arc<Signal>,
    queue: Queue,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
    /// Analysis workers that still run; the last one closes the queue.
    analysing: AtomicUsize,
}

/// Takes sightings; called from the embedder's thread, in order.
pub type Sink = Box<dyn FnMut(Sighting) + Send>;

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
        lanes: Vec<Lane>,
        signal: Arc<Signal>,
        detectors: Vec<Box<dyn Detector>>,
        embedding: Embedding,
        (clock, stop, hearts): (Arc<dyn Clock>, Arc<Stop>, &Hearts),
    ) -> Result<Self> {
        let site = Arc::new(Site {
            lanes,
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

    /// Whether no frame and no view waits.
    pub fn is_idle(&self) -> bool {
        self.site.lanes.iter().all(|lane| !lane.slot.is_full()) && self.site.queue.is_empty()
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
    /// The texts and what is known of each track.
    pub matcher: Matcher,
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
                Some((lane, state, frame)) => {
                    self.look(detector, lane, state, frame, &mut stopwatch)
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

    /// The camera that is due for longest and has a frame that nobody works on.
    fn next(&self) -> Option<(&Lane, MutexGuard<'_, LaneState>, Frame)> {
        let now = self.clock.now();
        let mut ready: Vec<(Mono, &Lane, MutexGuard<'_, LaneState>)> = self
            .lanes
            .iter()
            .filter(|lane| lane.slot.is_full())
            .filter_map(|lane| {
                let state = lane.state.try_lock().ok()?;
                (state.due <= now).then_some((state.due, lane, state))
            })
            .collect();
        ready.sort_by_key(|(due, ..)| *due);
        ready.into_iter().find_map(|(_, lane, mut state)| {
            let frame = lane.slot.take()?;
            // Keeps the rate on average, but does not try to catch up what a busy box missed.
            state.due = (state.due + lane.interval).max(now);
            Some((lane, state, frame))
        })
    }

    /// How long until some waiting frame is due.
    fn until_due(&self) -> Duration {
        let now = self.clock.now();
        self.lanes
            .iter()
            .filter(|lane| lane.slot.is_full())
            .filter_map(|lane| Some(lane.state.try_lock().ok()?.due.since(now)))
            .filter(|span| !span.is_zero())
            .min()
            .map_or(PATIENCE, |span| span.min(PATIENCE))
    }

    fn look(
        &self,
        detector: &mut dyn Detector,
        lane: &Lane,
        mut state: MutexGuard<'_, LaneState>,
        frame: Frame,
        stopwatch: &mut Stopwatch,
    ) {
        count_skipped(lane, &mut state, &frame);
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
            } else if let Some(other) = self.lanes.iter().find(|other| other.camera == camera) {
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
            let sightings = match self.queue.pop(PATIENCE) {
                Some(Item::View(seen, view)) => {
                    metrics::entered(Stage::Embed, &seen.camera, 1);
                    let sightings = embedding.look(&seen, &view, &mut stopwatch);
                    metrics::latency(&seen.camera, self.clock.now().since(seen.decoded_at));
                    sightings.unwrap_or_else(|error| {
                        metrics::failed(Stage::Embed, &seen.camera);
                        tracing::warn!(camera = %seen.camera, %error, "A view was not embedded.");
                        Vec::new()
                    })
                }
                Some(Item::End(camera, track)) => embedding.matcher.end(&camera, track),
                None => continue,
            };
            sightings.into_iter().for_each(|sighting| (embedding.sink)(sighting));
        }
    }
}

impl Embedding {
    fn look(
        &mut self,
        seen: &Seen,
        view: &View,
        stopwatch: &mut Stopwatch,
    ) -> Result<Vec<Sighting>> {
        stopwatch.time(Stage::Prepare, || self.embedder.prepare(view.crop.view()))?;
        let embedding = stopwatch.time(Stage::Embed, || self.embedder.run())?;
        metrics::left(Stage::Embed, &seen.camera, 1);
        let sightings =
            stopwatch.time(Stage::Score, || self.matcher.look(seen, view, &embedding))?;
        metrics::left(Stage::Score, &seen.camera, sightings.len() as u64);
        Ok(sightings)
    }
}

/// Counts the frames between two looks: those that came before the look was due were never meant to
/// be looked at, the others gave way to a newer frame because the box was busy.
fn count_skipped(lane: &Lane, state: &mut LaneState, frame: &Frame) {
    let last = state.last.replace((frame.seq, frame.pts));
    let Some((seq, pts)) = last else { return };
    let skipped = frame.seq.saturating_sub(seq).saturating_sub(1);
    let spacing = frame.pts.seconds_since(pts) / (skipped + 1) as f64;
    let by_rate = if spacing > 0.0 {
        ((lane.interval.as_secs_f64() / spacing).round() as u64).saturating_sub(1)
    } else {
        skipped
    };
    let by_rate = by_rate.min(skipped);
    metrics::dropped(Stage::Decode, &lane.camera, "rate", by_rate);
    metrics::dropped(Stage::Decode, &lane.camera, "newer_frame", skipped - by_rate);
}
