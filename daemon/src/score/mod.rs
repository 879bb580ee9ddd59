//! MATCH: compares what is known of a track with every text.

mod armed;
mod budget;
mod decide;
mod history;
mod looks;
mod reference;
mod share;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use spotter_models::{Embedding, Generation};

pub use armed::{Armed, ArmedAlert};
pub use decide::{Asked, Choice, Cutoff, Own, Policy, Promise, Sought, Study, Upper};
pub use history::{History, Passed};
pub use looks::{Look, Looks, Place};
pub use reference::Reference;
pub use share::{Sharer, thresholds};

use crate::{
    alert::{Wall, place::Places},
    clock::Mono,
    error::Result,
    frame::{CameraId, Pts},
    geometry::BBox,
    sighting::Scored,
    track::TrackId,
    watch::View,
};

/// Tracks whose looks are kept at once; a camera rarely has more than some dozen in view.
const MAX_TRACKS: usize = 4096;

/// The frame a view was cut from, for a sighting's place and time.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which camera.
    pub camera: CameraId,
    /// When.
    pub pts: Pts,
    /// When the frame left its decoder, by our clock.
    pub decoded_at: Mono,
    /// Size of the frame in pixels.
    pub frame: (u32, u32),
}

/// Scores every look at every track against every text.
pub struct Matcher {
    armed: Arc<Armed>,
    places: Arc<ArcSwap<Places>>,
    tracks: BTreeMap<(CameraId, TrackId), Track>,
}

struct Track {
    looks: Looks,
    looked: u32,
    first: Mono,
    last: Mono,
    bbox: [f32; 4],
}

impl Matcher {
    /// Compares with these texts from now on; `places` knows the cameras' zones.
    pub fn new(armed: Arc<Armed>, places: Arc<ArcSwap<Places>>) -> Self {
        Self { armed, places, tracks: BTreeMap::new() }
    }

    /// Takes a view's embedding and says which alerts its track fits now.
    ///
    /// # Errors
    /// Where the embedding comes from another bundle than the texts.
    pub fn look(
        &mut self,
        seen: &Seen,
        view: &View,
        embedding: &Embedding,
        now: Wall,
    ) -> Result<Vec<Scored>> {
        let key = (seen.camera.clone(), view.track);
        if !self.tracks.contains_key(&key) && self.tracks.len() >= MAX_TRACKS {
            self.forget_oldest();
        }
        let bbox = relative(&view.bbox, seen.frame);
        let track = self.tracks.entry(key).or_insert_with(|| Track {
            looks: Looks::new(embedding.generation()),
            looked: 0,
            first: seen.decoded_at,
            last: seen.decoded_at,
            bbox,
        });
        if track.looks.generation() != embedding.generation() {
            // Seen by the bundle before: those looks say nothing to this one.
            track.looks = Looks::new(embedding.generation());
        }
        track.looked += 1;
        track.looks.add(embedding, view.quality.total(), seen.decoded_at)?;
        (track.last, track.bbox) = (seen.decoded_at, bbox);
        scored(&self.armed, &self.places.load(), (&seen.camera, view.track), track, now)
    }

    /// How many views of a track were looked at, also by a bundle before.
    pub fn looks(&self, camera: &CameraId, id: TrackId) -> u32 {
        self.tracks.get(&(camera.clone(), id)).map_or(0, |track| track.looked)
    }

    /// Compares with the texts of another bundle from now on. Which tracks are in view, to be looked at anew: what was
    /// seen of them by the bundle before is kept with the track until then, and compared with nothing.
    pub fn switch(&mut self, armed: Arc<Armed>) -> Vec<(CameraId, TrackId)> {
        self.armed = armed;
        self.tracks.keys().cloned().collect()
    }

    /// Whether a track is in view and was not seen by the bundle that the texts are of.
    pub fn is_unseen(&self, camera: &CameraId, id: TrackId) -> bool {
        self.tracks
            .get(&(camera.clone(), id))
            .is_some_and(|track| Some(track.looks.generation()) != self.armed.generation())
    }

    /// Takes the embedding of the view by which a track is kept that [`Matcher::is_unseen`].
    ///
    /// # Errors
    /// As [`Matcher::look`].
    pub fn look_back(
        &mut self,
        (camera, id): (&CameraId, TrackId),
        (embedding, quality): (&Embedding, f32),
        now: Wall,
    ) -> Result<Vec<Scored>> {
        let Some(track) = self.tracks.get_mut(&(camera.clone(), id)) else { return Ok(Vec::new()) };
        let mut looks = Looks::new(embedding.generation());
        looks.add(embedding, quality, track.last)?;
        track.looks = looks;
        scored(&self.armed, &self.places.load(), (camera, id), track, now)
    }

    /// Compares with other texts from now on, and the tracks that are in view at once: whoever stands
    /// at the gate when an alert is armed is found without a further look.
    ///
    /// # Errors
    /// Where the texts come from another bundle than the tracks.
    pub fn rearm(&mut self, armed: Arc<Armed>, now: Wall) -> Result<Vec<Scored>> {
        self.armed = armed;
        let mut all = Vec::new();
        let generation = self.armed.generation();
        let is_seen = |track: &Track| generation.is_none_or(|now| track.looks.generation() == now);
        for ((camera, id), track) in self.tracks.iter().filter(|(_, track)| is_seen(track)) {
            all.extend(scored(&self.armed, &self.places.load(), (camera, *id), track, now)?);
        }
        Ok(all)
    }

    /// The texts it compares with.
    pub fn armed(&self) -> &Arc<Armed> {
        &self.armed
    }

    /// A track is gone. What was seen of it, where anything was.
    pub fn end(&mut self, camera: &CameraId, id: TrackId, now: Wall) -> Option<Passed> {
        let key = (camera.clone(), id);
        self.tracks.remove(&key).map(|track| track.passed(key, now))
    }

    /// A camera's recording is over, or the camera is: forgets its tracks. What was seen of them.
    pub fn end_camera(&mut self, camera: &CameraId, now: Wall) -> Vec<Passed> {
        let gone = self.tracks.extract_if(.., |(of, _), _| of == camera);
        gone.map(|(key, track)| track.passed(key, now)).collect()
    }

    /// The tracks in view that are meant, told by when they were first and last looked at.
    pub fn meant(
        &self,
        is_meant: impl Fn(&CameraId, TrackId, (Mono, Mono)) -> bool,
    ) -> Vec<(CameraId, TrackId)> {
        let meant = self
            .tracks
            .iter()
            .filter(|((camera, id), track)| is_meant(camera, *id, (track.first, track.last)));
        meant.map(|(key, _)| key.clone()).collect()
    }

    /// Forgets what was seen of a track so far.
    pub fn forget(&mut self, camera: &CameraId, id: TrackId) {
        self.tracks.remove(&(camera.clone(), id));
    }

    fn forget_oldest(&mut self) {
        let oldest = self.tracks.iter().min_by_key(|(_, track)| track.last).map(|(key, _)| key);
        if let Some(key) = oldest.cloned() {
            self.tracks.remove(&key);
        }
    }
}

impl Track {
    fn passed(self, (camera, track): (CameraId, TrackId), now: Wall) -> Passed {
        Passed { camera, track, at: now.at, looks: self.looks.each().to_vec() }
    }
}

fn scored(
    armed: &Armed,
    places: &Places,
    (camera, id): (&CameraId, TrackId),
    track: &Track,
    now: Wall,
) -> Result<Vec<Scored>> {
    let place = track.looks.place()?;
    let generation: Generation = place.direction().generation();
    let fitting = armed.fitting(&place)?.into_iter();
    let here = fitting.filter(|(alert, _)| alert.applies(places, camera, track.bbox, now));
    let scored = here.map(|(alert, score)| {
        Ok(Scored {
            alert: alert.id.clone(),
            revision: alert.revision,
            cooldown: alert.cooldown(),
            camera: camera.clone(),
            track: id.0,
            score,
            threshold: alert.cutoff.threshold,
            false_alarm_probability: alert.cutoff.null.as_ref().map(|null| null.probability(score)),
            bbox: track.bbox,
            crops: track.looks.count(),
            phrases: alert.explain(place.direction())?,
            bundle: generation,
            first: track.first,
            at: track.last,
        })
    });
    scored.collect()
}

fn relative(bbox: &BBox, (width, height): (u32, u32)) -> [f32; 4] {
    let (width, height) = (width.max(1) as f32, height.max(1) as f32);
    let inside = bbox.clipped(width, height).unwrap_or(*bbox);
    [inside.x1() / width, inside.y1() / height, inside.width() / width, inside.height() / height]
}
