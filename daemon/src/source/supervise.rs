//! Keeps one source going: connects, watches, and connects again for ever.
//!
//! Each source has a thread of its own, so that one camera's trouble never touches another. It never
//! waits for a consumer, never mends a pipeline (it builds the next one), and never gives up on a
//! source that can come back; a file that is played once ends.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    backoff::Backoff,
    closing::Closing,
    decoder::{Codec, DecoderChoice},
    group::Group,
    knock::{self, Closed, Patience},
    pipeline::{Lower, Opening, Pipeline, Pulled},
    reason::{Reason, Retry},
    slot::Slot,
    spec::{Credentials, SourceSpec, Transport},
    timeline::{Gap, Timeline},
};
use crate::{
    clock::{Clock, Mono, Stop, SystemClock},
    error::{Error, Result},
    frame::{CameraId, Frame},
};

/// Longest time between two looks at the clock and at requests to stop.
const TICK: Duration = Duration::from_millis(100);

/// Span over which the shown frame rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// A source that gave frames for this long counts as well: the next wait is the shortest again.
const STABLE: Duration = Duration::from_secs(5);

/// How long the next attempt waits for the end of the pipeline before: cameras allow few connections,
/// devices one.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// How long after the request to stop a source's thread is waited for. Longer than it takes to close a
/// good pipeline; what holds it then is a name server or a host that does not answer.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// The shortest round of a file that repeats and holds no more than one frame.
const LEAST_ROUND: Duration = Duration::from_secs(1);

/// How patient the supervision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Without a frame for this long a source is connected anew.
    pub stall: Duration,
    /// How long one step of connecting may take.
    pub connect: Duration,
    /// Longest wait before another attempt after trouble that may pass any moment. 3 s, so that
    /// frames flow within 5 s of a server's return.
    pub soon: Duration,
    /// The same for trouble that somebody must mend, such as a refused password: 60 s, and never less
    /// than half of it, so that the camera does not lock the account.
    pub rarely: Duration,
    /// Of the attempts that fail in the same way, each how-manieth is logged.
    pub log_every: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            soon: Duration::from_secs(3),
            rarely: Duration::from_secs(60),
            log_every: 200,
        }
    }
}

/// How a source is.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Its first connection is being made.
    Connecting,
    /// Frames flow.
    Streaming {
        /// Since when.
        since: Mono,
        /// Frames a second over the last two seconds; 0 until they have passed.
        fps: f32,
        /// Width and height in pixels.
        size: (u32, u32),
        /// `None` where frames come undecoded.
        codec: Option<Codec>,
        /// The decoder's element.
        decoder: Option<String>,
    },
    /// No frames; it is tried again, unless it is a file that is played once.
    Down {
        /// Why.
        reason: Reason,
        /// Since when.
        since: Mono,
        /// Attempts that failed since.
        attempts: u64,
    },
    /// A file that is played once is over, or somebody asked to stop.
    Ended,
}

/// What a source counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that left the decoder. All of them reach the slot, which counts those that nobody took
    /// in time.
    pub decoded: u64,
    /// Warnings: data that could not be decoded, packets that were lost.
    pub warnings: u64,
    /// Pipelines that failed.
    pub failures: u64,
    /// Times that frames flowed again after they had stopped.
    pub reconnects: u64,
}

#[derive(Default)]
struct Counters {
    decoded: AtomicU64,
    warnings: AtomicU64,
    failures: AtomicU64,
    reconnects: AtomicU64,
}

/// What a source needs to be started.
pub struct Setup {
    /// Whose frames these are.
    pub camera: CameraId,
    /// Where they come from.
    pub spec: SourceSpec,
    /// What decodes them.
    pub decoder: DecoderChoice,
    /// How patient the supervision is.
    pub rules: Rules,
    /// The time of stalls and waits.
    pub clock: Arc<dyn Clock>,
    /// Ends this source; may be shared with others.
    pub stop: Arc<Stop>,
    /// Where frames go.
    pub taker: Taker,
}

/// Who takes a source's frames.
#[derive(Clone)]
pub enum Taker {
    /// The newest one, decoded.
    Newest(Arc<Slot<Frame>>),
    /// The last ones as they come, to be decoded where somebody is worth a look.
    Kept(Arc<Group>),
}

impl Taker {
    /// Wakes who looks for frames.
    fn wake(&self) {
        if let Taker::Newest(slot) = self {
            slot.signal().raise();
        }
    }
}

/// What the thread and its owner share.
struct Shared {
    status: ArcSwap<Status>,
    counters: Counters,
    halt: Stop,
}

/// A running source. Dropping it stops it and waits until its thread is gone, at most 3 s from the
/// request to stop.
pub struct Supervisor {
    camera: CameraId,
    shared: Arc<Shared>,
    /// Asked when the thread is done.
    done: Arc<Stop>,
    clock: SystemClock,
    /// When it was asked to stop.
    halted: OnceLock<Mono>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts a source. Returns at once; look at [`Supervisor::status`].
    ///
    /// # Errors
    /// [`Error::Internal`] where the system gives no thread.
    pub fn spawn(setup: Setup) -> Result<Self> {
        let shared = Arc::new(Shared {
            status: ArcSwap::from_pointee(Status::Connecting),
            counters: Counters::default(),
            halt: Stop::default(),
        });
        let gap = if setup.spec.is_live() { Gap::Clock } else { Gap::Frame };
        let camera = setup.camera.clone();
        let done = Arc::new(Stop::default());
        let ask = done.ask_on_drop();
        let worker = Worker {
            shared: shared.clone(),
            closing: Closing::new(camera.clone()),
            timeline: Timeline::new(gap),
            backoff: Backoff::default(),
            rng: SmallRng::from_os_rng(),
            lower: Lower::default(),
            streamed: false,
            setup,
        };
        let thread = std::thread::Builder::new()
            .name(format!("source-{}", worker.setup.camera))
            .spawn(move || {
                let _ask = ask;
                worker.run();
            })
            .map_err(|error| Error::internal("thread of a source", error))?;
        let (clock, halted) = (SystemClock::new(), OnceLock::new());
        Ok(Self { camera, shared, done, clock, halted, thread: Some(thread) })
    }

    /// How it is now.
    pub fn status(&self) -> Arc<Status> {
        self.shared.status.load_full()
    }

    /// What it counted so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            decoded: read(&counters.decoded),
            warnings: read(&counters.warnings),
            failures: read(&counters.failures),
            reconnects: read(&counters.reconnects),
        }
    }

    /// Asks this source, and no other, to stop, without waiting for it.
    pub fn halt(&self) {
        self.halted.get_or_init(|| self.clock.now());
        self.shared.halt.ask();
    }

    /// Whether its thread is done: stopped, or a file that is over.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.halt();
        let since = self.halted.get().map_or(Duration::ZERO, |at| self.clock.now().since(*at));
        if !self.done.wait(STOP_PATIENCE.saturating_sub(since)) {
            tracing::warn!(camera = %self.camera, "Source does not end; it is left behind.");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The thread of a source panicked.");
        }
    }
}

/// How an attempt ended.
enum Over {
    Stopped,
    Ended,
    Failed(Reason),
}

/// Lives in the source's thread.
struct Worker {
    setup: Setup,
    shared: Arc<Shared>,
    timeline: Timeline,
    backoff: Backoff,
    rng: SmallRng,
    lower: Lower,
    closing: Closing,
    /// Whether there ever was a frame.
    streamed: bool,
}

impl Worker {
    fn run(mut self) {
        while !self.stopping() {
            let decoded = self.shared.counters.decoded.load(Ordering::Relaxed);
            let over = self.attempt();
            self.timeline.restart();
            if let Taker::Kept(group) = &self.setup.taker {
                group.clear();
            }
            let (repeat, once) = match &self.setup.spec {
                SourceSpec::File { repeat, .. } => (*repeat, !*repeat),
                _ => (false, false),
            };
            let reason = match over {
                Over::Stopped => break,
                Over::Ended | Over::Failed(Reason::BrokenOff { .. }) if repeat => {
                    if matches!(over, Over::Failed(_)) {
                        self.shared.counters.warnings.fetch_add(1, Ordering::Relaxed);
                    }
                    let frames = self.shared.counters.decoded.load(Ordering::Relaxed) - decoded;
                    if frames <= 1 {
                        self.wait_for(LEAST_ROUND);
                    }
                    continue;
                }
                Over::Ended if once => break,
                Over::Ended => Reason::Ended { place: self.setup.spec.place() },
                Over::Failed(reason) => reason,
            };
            self.fail(&reason);
            if once {
                // The reason stays to be read: nothing will change it.
                self.setup.taker.wake();
                return;
            }
            self.choose_transport(&reason);
            self.wait(&reason);
        }
        self.closing.wait(CLOSE_PATIENCE);
        self.shared.status.store(Arc::new(Status::Ended));
        tracing::info!(camera = %self.setup.camera, "Source ended.");
        self.setup.taker.wake();
    }

    fn stopping(&self) -> bool {
        self.shared.halt.asked() || self.setup.stop.asked()
    }

    /// One pipeline from its opening to its end.
    fn attempt(&mut self) -> Over {
        let count = self.closing.wait(CLOSE_PATIENCE);
        if self.closing.is_full() {
            return Over::Failed(Reason::Closing { place: self.setup.spec.place(), count });
        }
        match self.knock() {
            Ok(()) => {}
            Err(Closed::Stopped) => return Over::Stopped,
            Err(Closed::Because(reason)) => return Over::Failed(reason),
        }
        let opening = Opening {
            camera: &self.setup.camera,
            spec: &self.setup.spec,
            decoder: &self.setup.decoder,
            decodes: matches!(self.setup.taker, Taker::Newest(_)),
            lower: self.lower,
            connect_timeout: self.setup.rules.connect,
        };
        let mut pipeline = match Pipeline::open(&opening, self.setup.clock.clone()) {
            Ok(pipeline) => pipeline,
            Err(reason) => return Over::Failed(reason),
        };
        let opened = self.setup.clock.now();
        let mut flow: Option<Flow> = None;
        let over = loop {
            if self.stopping() {
                break Over::Stopped;
            }
            match pipeline.pull(&mut self.timeline, TICK) {
                Pulled::Frame(frame) => {
                    let (at, size) = (frame.decoded_at, (frame.width, frame.height));
                    self.note_frame(&mut flow, (at, size), &pipeline);
                    if let Taker::Newest(slot) = &self.setup.taker {
                        slot.put(frame);
                    }
                }
                Pulled::Unit(unit, caps, size) => {
                    self.note_frame(&mut flow, (unit.at, size), &pipeline);
                    if let Taker::Kept(group) = &self.setup.taker {
                        group.push(unit, (&caps, size));
                    }
                }
                Pulled::Ended => break Over::Ended,
                Pulled::Failed(reason) => break Over::Failed(reason),
                Pulled::Nothing => {
                    let last = flow.as_ref().map(|flow| flow.last);
                    if let Some(reason) = self.stalled(opened, last) {
                        break Over::Failed(reason);
                    }
                }
            }
            if let Some(flow) = &mut flow {
                self.shared.counters.add(&mut flow.counted, pipeline.counts());
            }
        };
        let mut counted = flow.map(|flow| flow.counted).unwrap_or_default();
        self.shared.counters.add(&mut counted, pipeline.counts());
        self.closing.close(pipeline);
        over
    }

    /// Asks an RTSP server whether it would send, before a pipeline listens to it.
    fn knock(&self) -> Result<(), Closed> {
        let SourceSpec::Rtsp { url, credentials_file, .. } = &self.setup.spec else {
            return Ok(());
        };
        // Before any camera is asked: what is wrong on our side needs no connection.
        self.setup.decoder.check().map_err(Closed::Because)?;
        let credentials = match credentials_file {
            Some(path) => Some(Credentials::read(path).map_err(Closed::Because)?),
            None => None,
        };
        let rules = &self.setup.rules;
        let stopping = || self.stopping();
        let clock = &*self.setup.clock;
        let patience =
            Patience { clock, step: rules.connect.min(rules.stall), stopping: &stopping };
        knock::knock(url, credentials.as_ref(), &patience)
    }

    /// The reason to give up on a pipeline that gives nothing.
    fn stalled(&self, opened: Mono, last: Option<Mono>) -> Option<Reason> {
        let after = self.setup.rules.stall;
        if self.setup.clock.now().since(last.unwrap_or(opened)) < after {
            return None;
        }
        let place = self.setup.spec.place();
        Some(match last {
            None if matches!(self.setup.spec, SourceSpec::Rtsp { .. }) => {
                Reason::Timeout { place, after }
            }
            None => Reason::Stuck { place, after },
            Some(_) => Reason::Stalled { place, after },
        })
    }

    /// Keeps the status true: at the first frame, at each change, and as the rate is measured.
    fn note_frame(
        &mut self,
        flow: &mut Option<Flow>,
        (now, size): (Mono, (u32, u32)),
        pipeline: &Pipeline,
    ) {
        let Some(flow) = flow else {
            let begun = flow.insert(Flow::begin(now, size, pipeline));
            self.announce(begun, "Stream opened.");
            if std::mem::replace(&mut self.streamed, true) && self.setup.spec.is_live() {
                self.shared.counters.reconnects.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        flow.last = now;
        flow.in_span += 1;
        if now.since(flow.since) >= STABLE {
            self.backoff.reset();
        }
        if flow.size != size {
            flow.size = size;
            self.announce(flow, "Stream changed its size.");
        } else if now.since(flow.span_start) >= RATE_SPAN {
            flow.measure(now);
            self.shared.status.store(Arc::new(flow.status()));
        }
    }

    fn announce(&self, flow: &Flow, what: &'static str) {
        let before = self.shared.status.swap(Arc::new(flow.status()));
        // A file that repeats opens again and again: that is no news.
        let again = matches!(&*before, Status::Streaming { size, codec, decoder, .. }
            if *size == flow.size && *codec == flow.codec && *decoder == flow.decoder);
        if again {
            return;
        }
        let (width, height) = flow.size;
        tracing::info!(
            camera = %self.setup.camera,
            codec = flow.codec.map(|codec| codec.to_string()),
            decoder = flow.decoder,
            width,
            height,
            "{what}"
        );
    }

    /// Publishes and logs a failure: the first, each change, and then rarely.
    fn fail(&mut self, reason: &Reason) {
        self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
        let before = self.shared.status.load_full();
        let (since, attempts, news) = match &*before {
            Status::Down { reason: old, since, attempts } => {
                let attempts = attempts.saturating_add(1);
                let due = attempts.is_multiple_of(self.setup.rules.log_every.max(1));
                (*since, attempts, due || old.word() != reason.word())
            }
            _ => (self.setup.clock.now(), 1, true),
        };
        let down = Status::Down { reason: reason.clone(), since, attempts };
        self.shared.status.store(Arc::new(down));
        if !news {
            return;
        }
        let camera = &self.setup.camera;
        let word = reason.word();
        match reason.retry() {
            Retry::Rarely => {
                tracing::error!(%camera, reason = word, attempts, "No frames: {reason}.");
            }
            Retry::Soon | Retry::Now => {
                tracing::warn!(%camera, reason = word, attempts, "No frames: {reason}.");
            }
        }
    }

    /// With transport `auto` the other way is tried after trouble that it may avoid, and TCP again
    /// after any trouble with UDP.
    fn choose_transport(&mut self, reason: &Reason) {
        let SourceSpec::Rtsp { transport: Transport::Auto, .. } = self.setup.spec else { return };
        self.lower = match self.lower {
            Lower::Tcp if reason.blames_transport() => Lower::Udp,
            _ => Lower::Tcp,
        };
    }

    /// Waits before the next attempt, by the injected clock, or until somebody asks to stop.
    fn wait(&mut self, reason: &Reason) {
        let Rules { soon, rarely, .. } = self.setup.rules;
        let span = match reason.retry() {
            Retry::Now if self.backoff.failures() == 0 => {
                self.backoff.next(Duration::ZERO, &mut self.rng)
            }
            Retry::Now | Retry::Soon => self.backoff.next(soon, &mut self.rng),
            Retry::Rarely => self.backoff.rarely(rarely, &mut self.rng),
        };
        self.wait_for(span);
    }

    fn wait_for(&self, span: Duration) {
        let until = self.setup.clock.now() + span;
        loop {
            let left = until.since(self.setup.clock.now());
            if left.is_zero() || self.stopping() || self.shared.halt.wait(left.min(TICK)) {
                return;
            }
        }
    }
}

/// What is known of the frames of one pipeline.
struct Flow {
    since: Mono,
    last: Mono,
    size: (u32, u32),
    codec: Option<Codec>,
    decoder: Option<String>,
    fps: f32,
    span_start: Mono,
    in_span: u32,
    counted: super::pipeline::Counts,
}

impl Flow {
    fn begin(now: Mono, size: (u32, u32), pipeline: &Pipeline) -> Self {
        let stream = pipeline.stream();
        Self {
            since: now,
            last: now,
            size,
            codec: stream.as_ref().and_then(|stream| stream.codec),
            decoder: stream.and_then(|stream| stream.decoder),
            fps: 0.0,
            span_start: now,
            in_span: 0,
            counted: super::pipeline::Counts::default(),
        }
    }

    fn measure(&mut self, now: Mono) {
        self.fps = self.in_span as f32 / now.since(self.span_start).as_secs_f32();
        self.span_start = now;
        self.in_span = 0;
    }

    fn status(&self) -> Status {
        Status::Streaming {
            since: self.since,
            fps: self.fps,
            size: self.size,
            codec: self.codec,
            decoder: self.decoder.clone(),
        }
    }
}

impl Counters {
    /// Adds what a pipeline counted since `counted`.
    fn add(&self, counted: &mut super::pipeline::Counts, now: super::pipeline::Counts) {
        let add = |counter: &AtomicU64, before: u64, now: u64| {
            counter.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        };
        add(&self.decoded, counted.decoded, now.decoded);
        add(&self.warnings, counted.warnings, now.warnings);
        *counted = now;
    }
}
