//! MATCH: compares what is known of a track with every text.

mod decide;
mod looks;

use std::collections::BTreeMap;

use serde::Serialize;
use spotter_models::Embedding;

pub use decide::{Fixed, Policy, parse as parse_policy};
pub use looks::Looks;

use crate::{
    alert::file::Alert,
    clock::Mono,
    error::Result,
    frame::{CameraId, Pts},
    geometry::BBox,
    track::TrackId,
    watch::View,
};

/// Tracks whose looks are kept at once; a camera rarely has more than some dozen in view.
const MAX_TRACKS: usize = 4096;

/// What happens to a (alert, track) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The track fits for the first time.
    New,
    /// A later view fits better.
    Update,
    /// The track that fitted is gone.
    End,
}

/// A person in view who fits a text, or what became of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sighting {
    /// What happened.
    pub event: Event,
    /// Which text.
    pub alert: String,
    /// Where.
    pub camera: CameraId,
    /// Who, within this run.
    pub track: TrackId,
    /// When, in seconds of the stream.
    pub at_s: f64,
    /// When the track was first looked at, in seconds of the stream.
    pub first_seen_s: f64,
    /// Cosine of the text and the pooled looks at the track.
    pub score: f32,
    /// What the score had to reach.
    pub threshold: f32,
    /// How many crops went into the score.
    pub crops: u32,
    /// The person in the frame: left, top, width, height as shares of the frame's sides.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
}

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
    alerts: Vec<Alert>,
    policy: Box<dyn Policy>,
    tracks: BTreeMap<(CameraId, TrackId), Track>,
}

struct Track {
    looks: Looks,
    first: Pts,
    last: Pts,
    last_box: [f32; 4],
    /// Best score already reported, by alert.
    reported: Vec<Option<f32>>,
}

impl Matcher {
    /// Compares with these texts from now on.
    pub fn new(alerts: Vec<Alert>, policy: Box<dyn Policy>) -> Self {
        Self { alerts, policy, tracks: BTreeMap::new() }
    }

    /// Whether anything is looked for.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// Takes a view's embedding and says what it changes.
    ///
    /// # Errors
    /// Where the embedding comes from another bundle than the texts.
    pub fn look(
        &mut self,
        seen: &Seen,
        view: &View,
        embedding: &Embedding,
    ) -> Result<Vec<Sighting>> {
        let key = (seen.camera.clone(), view.track);
        if !self.tracks.contains_key(&key) && self.tracks.len() >= MAX_TRACKS {
            self.forget_oldest();
        }
        let bbox = relative(&view.bbox, seen.frame);
        let track = self.tracks.entry(key).or_insert_with(|| Track {
            looks: Looks::new(embedding.generation()),
            first: seen.pts,
            last: seen.pts,
            last_box: bbox,
            reported: vec![None; self.alerts.len()],
        });
        track.looks.add(embedding, view.quality.total())?;
        (track.last, track.last_box) = (seen.pts, bbox);
        let pooled = track.looks.pooled()?;
        let mut sightings = Vec::new();
        for (alert, reported) in self.alerts.iter().zip(&mut track.reported) {
            let score = alert.embedding.cosine(&pooled)?;
            let threshold = self.policy.threshold(alert);
            let event = match *reported {
                None if score >= threshold => Event::New,
                Some(best) if score > best => Event::Update,
                _ => continue,
            };
            *reported = Some(score);
            sightings.push(Sighting {
                event,
                alert: alert.id.clone(),
                camera: seen.camera.clone(),
                track: view.track,
                at_s: seen.pts.0.as_secs_f64(),
                first_seen_s: track.first.0.as_secs_f64(),
                score,
                threshold,
                crops: track.looks.count(),
                bbox,
            });
        }
        Ok(sightings)
    }

    /// A track is gone: ends its sightings and forgets it.
    pub fn end(&mut self, camera: &CameraId, id: TrackId) -> Vec<Sighting> {
        let Some(track) = self.tracks.remove(&(camera.clone(), id)) else { return Vec::new() };
        let ended = self.alerts.iter().zip(&track.reported).filter_map(|(alert, reported)| {
            reported.map(|score| Sighting {
                event: Event::End,
                alert: alert.id.clone(),
                camera: camera.clone(),
                track: id,
                at_s: track.last.0.as_secs_f64(),
                first_seen_s: track.first.0.as_secs_f64(),
                score,
                threshold: self.policy.threshold(alert),
                crops: track.looks.count(),
                bbox: track.last_box,
            })
        });
        ended.collect()
    }

    /// A camera's recording is over: ends everything that is open on it.
    pub fn end_camera(&mut self, camera: &CameraId) -> Vec<Sighting> {
        let open: Vec<TrackId> =
            self.tracks.keys().filter(|(of, _)| of == camera).map(|(_, id)| *id).collect();
        open.into_iter().flat_map(|id| self.end(camera, id)).collect()
    }

    /// The tracks in the matcher, for a bounded map that a lost `end` cannot fill for ever.
    fn forget_oldest(&mut self) {
        let oldest = self.tracks.iter().min_by_key(|(_, track)| track.last).map(|(key, _)| key);
        if let Some(key) = oldest.cloned() {
            self.tracks.remove(&key);
        }
    }
}

fn relative(bbox: &BBox, (width, height): (u32, u32)) -> [f32; 4] {
    let (width, height) = (width.max(1) as f32, height.max(1) as f32);
    let inside = bbox.clipped(width, height).unwrap_or(*bbox);
    [inside.x1() / width, inside.y1() / height, inside.width() / width, inside.height() / height]
}
