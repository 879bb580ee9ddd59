//! KEEP: tracks that are over, into the gallery. A thread of its own, so that a slow disk holds up no
//! sighting.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::SignedDuration;
use spotter_models::{Generation, Rgb};

use crate::{
    alert::Wall,
    clock::Clock,
    error::{Error, Result},
    gallery::{self, Gallery, Record, RecordId},
    picture,
    score::{History, Looks, Passed},
    sighting::SightingId,
};

/// Tracks that may wait for the disk; beyond, the newest is lost and counted.
const MAX_WAITING: usize = 256;

/// How often old tracks are looked for.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);

/// Quality of a portrait's JPEG, as of a snapshot's.
const JPEG_QUALITY: u8 = 85;

/// A track that is over.
pub struct Past {
    /// What was seen of it.
    pub passed: Passed,
    /// The best view of it, where pictures are kept and there is one.
    pub portrait: Option<Rgb>,
    /// The sightings it was told in.
    pub sightings: Vec<SightingId>,
}

/// How long a slow disk may take for what waits, where somebody waits for it.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// What the thread is told.
enum Work {
    Keep(Past),
    /// Says so once everything before it is in the gallery.
    Flush(SyncSender<()>),
    End,
}

/// The thread. Dropping it writes what waits.
pub struct Keeper {
    sender: SyncSender<Work>,
    thread: Option<JoinHandle<()>>,
    /// Whether portraits are kept.
    pictures: bool,
}

impl Keeper {
    /// Keeps tracks in this gallery from now on; `pictures` says whether with portraits.
    ///
    /// # Errors
    /// Where there is no thread.
    pub fn start(gallery: Arc<Gallery>, clock: Arc<dyn Clock>, pictures: bool) -> Result<Self> {
        let (sender, waiting) = sync_channel::<Work>(MAX_WAITING);
        let work = move || {
            let mut upkeep_at = clock.now();
            loop {
                match waiting.recv_timeout(UPKEEP_EVERY) {
                    Ok(Work::Keep(past)) => keep(&gallery, past),
                    Ok(Work::Flush(done)) => {
                        // An error means that who asked has given up.
                        let _given_up = done.send(());
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => break,
                }
                if clock.now() >= upkeep_at {
                    upkeep_at = clock.now() + UPKEEP_EVERY;
                    if let Err(error) = gallery.upkeep(Wall::new(clock.wall(), None)) {
                        tracing::error!(%error, "Old tracks are not deleted from the gallery.");
                    }
                    tell(&gallery);
                }
            }
            if let Err(error) = gallery.sync() {
                tracing::error!(%error, "The last tracks may not be in the gallery.");
            }
        };
        let thread = std::thread::Builder::new()
            .name("gallery".into())
            .spawn(work)
            .map_err(|error| Error::internal("thread of the gallery", error))?;
        Ok(Self { sender, thread: Some(thread), pictures })
    }

    /// Whether portraits are kept.
    pub fn wants_pictures(&self) -> bool {
        self.pictures
    }

    /// Keeps a track, soon.
    pub fn keep(&self, past: Past) {
        let camera = past.passed.camera.clone();
        let sent = self.sender.try_send(Work::Keep(past));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sent {
            metrics::counter!("spotter_gallery_lost_total", "camera" => camera.to_string())
                .increment(1);
        }
    }
}

/// Waits for what a [`Keeper`] has yet to write.
pub struct Flusher(SyncSender<Work>);

impl Keeper {
    /// For who has to see in the gallery what was handed over before.
    pub fn flusher(&self) -> Flusher {
        Flusher(self.sender.clone())
    }
}

impl Flusher {
    /// Returns once everything that was handed over before is in the gallery, or was lost and counted.
    ///
    /// # Errors
    /// [`Error::Internal`] where the disk takes a minute for it, or the daemon is being ended.
    pub fn flush(&self) -> Result<()> {
        let (done, wait) = sync_channel(1);
        let sent = self.0.send(Work::Flush(done));
        sent.map_err(|_| Error::internal("the gallery", "its thread has ended"))?;
        wait.recv_timeout(FLUSH_WITHIN).map_err(|error| Error::internal("the gallery", error))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // A full channel empties; a closed one has no thread any more.
        drop(self.sender.send(Work::End));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The thread of the gallery ended by a bug.");
        }
    }
}

/// Says how full it is, for who measures.
fn tell(gallery: &Gallery) {
    let counts = gallery.counts();
    metrics::gauge!("spotter_gallery_tracks").set(counts.records as f64);
    for (kind, bytes, refused) in [
        ("tracks", counts.track_bytes, counts.records_refused),
        ("pictures", counts.picture_bytes, counts.pictures_refused),
    ] {
        metrics::gauge!("spotter_gallery_bytes", "kind" => kind).set(bytes as f64);
        metrics::counter!("spotter_gallery_refused_total", "kind" => kind).absolute(refused);
    }
}

fn keep(gallery: &Gallery, past: Past) {
    let camera = past.passed.camera.clone();
    // What the gallery cannot take it says itself, once.
    let kept = record(past).and_then(|record| gallery.append(&record));
    if let Err(error) = kept {
        tracing::debug!(%camera, %error, "A track is not in the gallery.");
    }
}

fn record(past: Past) -> Result<Record> {
    let Past { passed, portrait, sightings } = past;
    let Passed { camera, track, at, looks } = passed;
    let pooled = Looks::after_each(&looks)?
        .pop()
        .map(|place| place.direction().clone())
        .ok_or_else(|| Error::internal("a track for the gallery", "without a look"))?;
    let span = looks
        .last()
        .zip(looks.first())
        .map_or(Duration::ZERO, |(last, first)| last.at.since(first.at));
    let span = SignedDuration::try_from(span).unwrap_or_default();
    let portrait = portrait.and_then(|crop| match picture::jpeg(&crop, JPEG_QUALITY) {
        Ok(jpeg) => Some(jpeg),
        Err(error) => {
            tracing::debug!(%error, "A portrait cannot be compressed.");
            None
        }
    });
    Ok(Record {
        camera,
        track: track.0,
        first: at.saturating_sub(span).unwrap_or(at),
        last: at,
        generation: pooled.generation(),
        quality: looks.iter().map(|look| look.quality).fold(0.0, f32::max),
        sightings,
        looks: looks
            .into_iter()
            .map(|look| gallery::Look { quality: look.quality, embedding: look.embedding })
            .collect(),
        pooled,
        portrait,
    })
}

/// What a gallery remembers of those whom a bundle saw, oldest first: as many of the newest tracks as the history
/// takes, with their numbers there.
pub fn remembered(gallery: &Gallery, generation: Generation) -> Vec<(RecordId, Passed)> {
    let recent = gallery.recent(History::CAPACITY, &[], generation);
    let mut known = Vec::new();
    for recent in recent {
        match recent {
            Ok(recent) => {
                let passed = Passed {
                    camera: recent.camera,
                    track: crate::track::TrackId(recent.track),
                    at: recent.last,
                    looks: recent.looks.into_iter().map(gallery::Look::timeless).collect(),
                };
                known.push((recent.id, passed));
            }
            Err(error) => tracing::warn!(%error, "A track of the gallery cannot be read."),
        }
    }
    known.reverse();
    known
}

/// Brings into the history what a gallery remembers from before a restart, for calibration.
pub fn remember(gallery: &Gallery, generation: Generation, history: &History) {
    for (_, passed) in remembered(gallery, generation) {
        history.watching(&passed.camera, passed.at);
        history.add(passed);
    }
}
