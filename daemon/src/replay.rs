//! Recordings through the pipeline, every frame, one thread, the same result every time.
//!
//! The steps are those of [`crate::pipeline`] without its threads and queues: what a recording gives
//! here, a box that keeps up gives live.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rand::{SeedableRng, rngs::SmallRng};

use serde::Serialize;
use spotter_models::Rgb;

use crate::{
    alert::Wall,
    clock::Mono,
    detect::Detector,
    embed::Embedder,
    error::{Error, Result},
    frame::{CameraId, Frame, Pts},
    geometry::{BBox, PixelRect},
    metrics::{self, Cost, Stage, Stopwatch},
    score::{Matcher, Passed, Seen},
    sighting::{Ledger, Limits, Moment, Scored, Sighting},
    source::{DecoderChoice, Reader},
    track::{TrackId, TrackIds, TrackView},
    truth::{Agreement, Comparison, Truth},
    watch::{View, Watch},
};

/// How recordings are run.
pub struct Replay {
    /// Finds persons.
    pub detector: Box<dyn Detector>,
    /// Embeds and compares; without it only tracks come out.
    pub matching: Option<Matching>,
    /// Frames a second of the recording that are looked at.
    pub rate_hz: f64,
    /// Whether a detector looks at frames, too, in which nothing moves and nobody is followed.
    pub every_look: bool,
    /// Names the tracks of all recordings.
    pub ids: Arc<TrackIds>,
    /// Times the stages.
    pub stopwatch: Stopwatch,
    /// Called now and then with the stream's time, for people who wait.
    pub progress: Box<dyn FnMut(Pts)>,
}

/// What embeds, compares and decides. Times of sightings are those of the stream, counted from
/// 1970-01-01, and ids are drawn from a fixed seed: a replay gives the same every time.
pub struct Matching {
    embedder: Embedder,
    matcher: Matcher,
    ledger: Ledger<SmallRng>,
}

impl Matching {
    /// Nothing seen yet.
    pub fn new(embedder: Embedder, matcher: Matcher) -> Self {
        // A recording is judged whole: nothing is held back for being too much.
        let limits = Limits { quota: None, ..Limits::default() };
        Self { embedder, matcher, ledger: Ledger::new(limits, SmallRng::seed_from_u64(1)) }
    }
}

/// The stream's time as both clocks.
fn moment(pts: Pts) -> Moment {
    let mono = Mono(pts.0);
    Moment { mono, wall: Wall::new(SystemTime::UNIX_EPOCH + pts.0, Some(true)) }
}

/// What one recording gave.
#[derive(Default)]
pub struct Recording {
    /// Frames that were decoded.
    pub frames: u64,
    /// Length in seconds of the stream.
    pub seconds: f64,
    /// Each frame that was looked at.
    pub looks: Vec<Look>,
    /// Everybody who was in view, by track.
    pub tracks: BTreeMap<TrackId, Trace>,
    /// What fitted a text, in order.
    pub sightings: Vec<Sighting>,
    /// The looks at each track, where they were embedded.
    pub passed: Vec<Passed>,
    /// A frame to draw on: the one with the most persons.
    pub scene: Option<Rgb>,
    /// Frames that could not be searched, and views that could not be embedded.
    pub failed: u64,
    /// Data of the recording that could not be decoded.
    pub warnings: u64,
    /// Why the recording was not read to its end.
    pub broken_off: Option<String>,
    size: (u32, u32),
    most_persons: usize,
}

/// Who was where in one frame.
pub struct Look {
    /// The frame's time.
    pub pts: Pts,
    /// Everybody in view.
    pub persons: Vec<(TrackId, BBox)>,
}

/// One track from first to last.
#[derive(Serialize)]
pub struct Trace {
    /// When the track was first seen, in seconds of the stream.
    pub first_s: f64,
    /// When it was last seen.
    pub last_s: f64,
    /// In how many frames it was seen.
    pub boxes: u32,
    /// How many views of it were embedded.
    pub views: u32,
    /// Its best view.
    #[serde(skip)]
    pub best: Option<(f32, Rgb)>,
    /// Where the feet were: x and y as shares of the frame's sides.
    #[serde(skip)]
    pub feet: Vec<(f32, f32)>,
}

impl Replay {
    /// Runs one recording as the camera `camera`.
    ///
    /// # Errors
    /// Where the recording cannot be opened; one that breaks in the middle gives what came before, and
    /// says so in the log.
    pub fn run(&mut self, camera: &CameraId, video: &Path) -> Result<Recording> {
        let mut watch = Watch::new(camera.clone(), self.ids.clone());
        if self.every_look {
            watch = watch.with_every_look();
        }
        let mut recording = Recording::default();
        let interval = Duration::from_secs_f64(1.0 / self.rate_hz);
        let mut due = Duration::ZERO;
        let clock = self.stopwatch.clock().clone();
        let mut reader = Reader::open(camera.clone(), video, &DecoderChoice::Software, clock)?;
        for frame in reader.by_ref() {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) if recording.frames > 0 => {
                    recording.broken_off = Some(error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            };
            recording.frames += 1;
            recording.size = (frame.width, frame.height);
            recording.seconds = frame.pts.0.as_secs_f64();
            // Half a millisecond of slack: a recording's times are rounded.
            if frame.pts.0 + Duration::from_micros(500) < due {
                continue;
            }
            due = (due + interval).max(frame.pts.0);
            self.look(&mut watch, &frame, &mut recording)?;
            (self.progress)(frame.pts);
        }
        recording.warnings = reader.counts().warnings;
        if recording.frames == 0 {
            return Err(Error::config(video.display().to_string(), "holds no frame"));
        }
        if let Some(Matching { matcher, ledger, .. }) = &mut self.matching {
            let now = moment(Pts(Duration::from_secs_f64(recording.seconds)));
            recording.sightings.extend(ledger.end_camera(camera, now));
            recording.passed.extend(matcher.end_camera(camera, now.wall));
        }
        Ok(recording)
    }

    fn look(&mut self, watch: &mut Watch, frame: &Frame, recording: &mut Recording) -> Result<()> {
        if watch.is_still(frame) {
            return recording.note_persons(frame, &[]);
        }
        let found = self.stopwatch.time(Stage::Detect, || {
            self.detector.detect(frame.pixels.as_ref(), frame.width, frame.height)
        });
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                recording.failed += 1;
                tracing::warn!(camera = %frame.camera, %error, "A frame could not be searched.");
                return Ok(());
            }
        };
        let step = watch.see(frame, &found, &mut self.stopwatch);
        recording.note_persons(frame, &step.persons)?;
        let seen = Seen {
            camera: frame.camera.clone(),
            pts: frame.pts,
            decoded_at: Mono(frame.pts.0),
            frame: (frame.width, frame.height),
        };
        for view in step.views {
            match self.embed(&seen, &view) {
                Ok(sightings) => recording.sightings.extend(sightings),
                Err(error) => {
                    recording.failed += 1;
                    tracing::warn!(camera = %frame.camera, %error, "A view was not embedded.");
                }
            }
            recording.note_view(view);
        }
        if let Some(Matching { matcher, ledger, .. }) = &mut self.matching {
            for id in &step.ended {
                let now = moment(frame.pts).wall;
                recording.passed.extend(matcher.end(&frame.camera, *id, now));
                recording.sightings.extend(ledger.end(&frame.camera, id.0, moment(frame.pts)));
            }
        }
        Ok(())
    }

    fn embed(&mut self, seen: &Seen, view: &View) -> Result<Vec<Sighting>> {
        let Some(Matching { embedder, matcher, ledger }) = &mut self.matching else {
            return Ok(Vec::new());
        };
        self.stopwatch.time(Stage::Prepare, || embedder.prepare(view.crop.view()))?;
        let embedding = self.stopwatch.time(Stage::Embed, || embedder.run())?;
        self.stopwatch.time(Stage::Score, || {
            let now = moment(seen.pts);
            let scored: Vec<Scored> = matcher.look(seen, view, &embedding, now.wall)?;
            Ok(scored.into_iter().flat_map(|scored| ledger.see(scored, now)).collect())
        })
    }
}

impl Recording {
    /// How the tracks agree with the truth.
    ///
    /// # Errors
    /// Where the truth is of another recording: another frame size, or far fewer frames.
    pub fn compare(&self, truth: &Truth) -> Result<Agreement> {
        let length = truth.len() as f64 / truth.fps;
        if truth.size != self.size || (self.seconds - length).abs() > length.max(1.0) * 0.1 {
            return Err(Error::config(
                "--truth",
                format!(
                    "is of a recording of {}x{} and {length:.0} s, this one has {}x{} and {:.0} s",
                    truth.size.0, truth.size.1, self.size.0, self.size.1, self.seconds
                ),
            ));
        }
        let mut comparison = Comparison::new(truth);
        for look in &self.looks {
            comparison.frame(truth.frame_at(look.pts), &look.persons);
        }
        Ok(comparison.finish())
    }

    fn note_persons(&mut self, frame: &Frame, seen: &[TrackView]) -> Result<()> {
        let (width, height) = (frame.width as f32, frame.height as f32);
        let at = frame.pts.0.as_secs_f64();
        let mut persons = Vec::with_capacity(seen.len());
        for track in seen {
            let bbox = track.bbox;
            persons.push((track.id, bbox));
            let trace = self.tracks.entry(track.id).or_insert_with(|| Trace {
                first_s: at,
                last_s: at,
                boxes: 0,
                views: 0,
                best: None,
                feet: Vec::new(),
            });
            trace.last_s = at;
            trace.boxes += 1;
            trace.feet.push((bbox.centre().0 / width, (bbox.y2() / height).min(1.0)));
        }
        if persons.len() > self.most_persons {
            self.most_persons = persons.len();
            let whole = PixelRect { x: 0, y: 0, width: frame.width, height: frame.height };
            self.scene = Some(frame.pixels.region(whole)?);
        }
        self.looks.push(Look { pts: frame.pts, persons });
        Ok(())
    }

    fn note_view(&mut self, view: View) {
        let Some(trace) = self.tracks.get_mut(&view.track) else { return };
        trace.views += 1;
        let value = view.quality.total();
        if trace.best.as_ref().is_none_or(|(best, _)| value > *best) {
            trace.best = Some((value, view.crop));
        }
    }
}

/// Where a replay's processor time went.
#[derive(Clone, Debug, Serialize)]
pub struct Bill {
    /// Each stage on the replay's own thread.
    pub stages: BTreeMap<Stage, Cost>,
    /// Processor seconds of the whole process while it replayed.
    pub cpu_s: f64,
    /// Of these, decoding: GStreamer's threads.
    pub decode_cpu_s: f64,
    /// Of these, the detector: pixels to boxes.
    pub detector_cpu_s: f64,
    /// Of these, the vision tower.
    pub tower_cpu_s: f64,
    /// All else on the replay's thread: tracking, choosing and cutting crops, preprocessing, scoring.
    pub own_cpu_s: f64,
    /// The share of all else in the whole.
    pub own_share: f64,
}

/// Takes the time before and after a replay. Holds only while models run with one thread: a pool's
/// work would be billed to decoding.
pub struct Meter {
    process: Duration,
    thread: Duration,
}

impl Meter {
    /// Starts now, on this thread.
    pub fn start() -> Self {
        Self { process: metrics::process_cpu(), thread: metrics::thread_cpu() }
    }

    /// The bill from the start until now.
    pub fn bill(&self, stopwatch: &Stopwatch) -> Bill {
        let process = metrics::process_cpu().saturating_sub(self.process).as_secs_f64();
        let thread = metrics::thread_cpu().saturating_sub(self.thread).as_secs_f64();
        let cpu = |stage| stopwatch.cost(stage).cpu.as_secs_f64();
        let own = (thread - cpu(Stage::Detect) - cpu(Stage::Embed)).max(0.0);
        let stages = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Decode);
        Bill {
            stages: stages.map(|stage| (stage, stopwatch.cost(stage))).collect(),
            cpu_s: process,
            decode_cpu_s: (process - thread).max(0.0),
            detector_cpu_s: cpu(Stage::Detect),
            tower_cpu_s: cpu(Stage::Embed),
            own_cpu_s: own,
            own_share: if process > 0.0 { own / process } else { 0.0 },
        }
    }
}
