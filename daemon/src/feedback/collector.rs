//! The way of crops to the disk: from the embedder's thread, which waits for nothing, through a thread of
//! its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{Album, Shelf, Shot};
use crate::{
    alert::Wall,
    clock::Clock,
    error::{Error, Result},
    frame::CameraId,
    gallery::Gallery,
    score::Armed,
    sighting::Sighting,
    track::TrackId,
    watch::View,
};

/// Messages about sightings that may wait for the disk, with up to eight crops each.
const MAX_WAITING: usize = 64;
/// How often what is old is looked for.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a slow disk may take for what waits, where somebody waits for it.
const FLUSH_WITHIN: Duration = Duration::from_secs(20);

/// A message about a sighting, with the views of its track so far.
#[derive(Clone, Debug)]
pub struct Told {
    /// The message.
    pub sighting: Sighting,
    /// The alert's text as understood; empty where it is not armed any more.
    pub text: String,
    /// The best views of the track.
    pub shots: Vec<Shot>,
    /// Views that are none of them, by cause.
    pub left_out: BTreeMap<&'static str, u32>,
}

enum Work {
    Told(Box<Told>),
    Flush(SyncSender<()>),
    End,
}

/// The thread. Dropping it writes what waits.
pub struct Collector {
    sender: SyncSender<Work>,
    thread: Option<JoinHandle<()>>,
}

/// Waits for what a [`Collector`] has yet to write.
#[derive(Clone)]
pub struct Flusher(SyncSender<Work>);

impl Collector {
    /// Writes into this shelf from now on, and takes away what grows old there. What a hold of the gallery
    /// keeps stays.
    ///
    /// # Errors
    /// Where there is no thread.
    pub fn start(
        shelf: Arc<Shelf>,
        gallery: Option<Arc<Gallery>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let (sender, waiting) = sync_channel::<Work>(MAX_WAITING);
        let work = move || {
            let mut upkeep_at = clock.now();
            loop {
                match waiting.recv_timeout(UPKEEP_EVERY) {
                    Ok(Work::Told(told)) => shelf.told(&told, Wall::new(clock.wall(), None).at),
                    Ok(Work::Flush(done)) => {
                        // An error means that who asked has given up.
                        let _given_up = done.send(());
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => break,
                }
                if clock.now() >= upkeep_at {
                    upkeep_at = clock.now() + UPKEEP_EVERY;
                    shelf.upkeep(Wall::new(clock.wall(), None), gallery.as_deref());
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("feedback".into())
            .spawn(work)
            .map_err(|error| Error::internal("thread of the feedback", error))?;
        Ok(Self { sender, thread: Some(thread) })
    }

    /// For who has to see on disk what was handed over before.
    pub fn flusher(&self) -> Flusher {
        Flusher(self.sender.clone())
    }

    /// Hands a message over; where too many wait, it is left out and counted.
    pub fn take(&self, told: Told) {
        let shots = told.shots.len() as u64;
        let sent = self.sender.try_send(Work::Told(Box::new(told)));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sent {
            super::left_out("queue_full", shots);
        }
    }
}

impl Flusher {
    /// Returns once everything that was handed over before is on disk, or was left out and counted.
    ///
    /// # Errors
    /// [`Error::Internal`] where the disk takes too long for it, or the daemon is being ended.
    pub fn flush(&self) -> Result<()> {
        let (done, wait) = sync_channel(1);
        let sent = self.0.send(Work::Flush(done));
        sent.map_err(|_| Error::internal("the feedback", "its thread has ended"))?;
        wait.recv_timeout(FLUSH_WITHIN).map_err(|error| Error::internal("the feedback", error))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // A full channel empties; a closed one has no thread any more.
        drop(self.sender.send(Work::End));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The thread of the feedback ended by a bug.");
        }
    }
}

/// The embedder's side: collects views, and hands them over when their track is told.
pub struct Gatherer {
    album: Album,
    collector: Collector,
    /// Whether anything new is kept.
    keep: bool,
}

impl Gatherer {
    /// Hands over to this thread; without `keep` nothing is, and what is there grows old.
    pub fn new(collector: Collector, keep: bool) -> Self {
        Self { album: Album::default(), collector, keep }
    }

    /// Somebody was looked at.
    pub fn see(&mut self, camera: &CameraId, view: &View) {
        if self.keep {
            self.album.see(camera, view);
        }
    }

    /// Sightings are told; `armed` has their texts.
    pub fn told(&mut self, sightings: &[Sighting], armed: &Armed) {
        if !self.keep {
            return;
        }
        for sighting in sightings {
            let alert = armed.alerts().iter().find(|alert| alert.id == sighting.alert);
            let text = alert.map(|alert| alert.understood.clone()).unwrap_or_default();
            let (shots, left_out) = self.album.of(&sighting.camera, TrackId(sighting.track));
            self.collector.take(Told { sighting: sighting.clone(), text, shots, left_out });
        }
    }

    /// A track is over, or erased as far as it was seen.
    pub fn end(&mut self, camera: &CameraId, track: TrackId) {
        self.album.end(camera, track);
    }

    /// A camera is not watched any more.
    pub fn end_camera(&mut self, camera: &CameraId) {
        self.album.end_camera(camera);
    }
}
