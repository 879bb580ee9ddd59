//! A sighting that was begun and has to be ended.

use spotter_models::Generation;

use super::{Limits, Moment, Scored};
use crate::{
    alert::AlertId,
    clock::Mono,
    frame::CameraId,
    sighting::{Event, Phrase, Sighting, SightingId},
};

/// The best that is known of the track.
struct Best {
    score: f32,
    threshold: f32,
    false_alarm_probability: Option<f64>,
    bbox: [f32; 4],
    crops: u32,
    phrases: Vec<Phrase>,
    at: Mono,
}

/// A sighting between its `new` and its `end`.
pub(super) struct Open {
    id: SightingId,
    seq: u64,
    alert: AlertId,
    revision: Option<u64>,
    camera: CameraId,
    track: u64,
    bundle: Generation,
    first: Mono,
    best: Best,
    /// The score and the time of the last message.
    told: (f32, Mono),
    /// Where and when the track was looked at last.
    last: ([f32; 4], Mono),
}

impl Open {
    /// Begins with the score that fitted.
    pub(super) fn new(id: SightingId, scored: Scored, now: Mono) -> Self {
        Self {
            id,
            seq: 0,
            alert: scored.alert,
            revision: scored.revision,
            camera: scored.camera,
            track: scored.track,
            bundle: scored.bundle,
            first: scored.first.min(scored.at),
            told: (scored.score, now),
            last: (scored.bbox, scored.at),
            best: Best {
                score: scored.score,
                threshold: scored.threshold,
                false_alarm_probability: scored.false_alarm_probability,
                bbox: scored.bbox,
                crops: scored.crops,
                phrases: scored.phrases,
                at: scored.at,
            },
        }
    }

    /// Which revision of the alert it is about.
    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Takes a further score; says whether it is worth a message.
    pub(super) fn look(&mut self, scored: Scored, limits: &Limits, now: Mono) -> bool {
        if scored.at >= self.last.1 {
            self.last = (scored.bbox, scored.at);
        }
        // Scores of two bundles are never compared: a sighting ends with the bundle it began with.
        if scored.bundle != self.bundle {
            return false;
        }
        if scored.score > self.best.score {
            self.best = Best {
                score: scored.score,
                threshold: scored.threshold,
                false_alarm_probability: scored.false_alarm_probability,
                bbox: scored.bbox,
                crops: scored.crops,
                phrases: scored.phrases,
                at: scored.at,
            };
        }
        let (told, told_at) = self.told;
        // Also for a look that is not the best: the best one may have come too soon after a
        // message.
        self.best.score > told
            && self.best.score - told >= limits.update_gain
            && now.since(told_at) >= limits.update_interval
    }

    /// The next message about it.
    pub(super) fn tell(&mut self, event: Event, suppressed: u64, now: Moment) -> Sighting {
        self.seq += 1;
        self.told = (self.best.score, now.mono);
        let (bbox, at) = match event {
            Event::End => self.last,
            Event::New | Event::Update => (self.best.bbox, self.best.at),
        };
        Sighting {
            schema: 1,
            id: self.id,
            event,
            seq: self.seq,
            alert: self.alert.clone(),
            alert_revision: self.revision,
            camera: self.camera.clone(),
            track: self.track,
            at: now.wall_at(at),
            first_seen: now.wall_at(self.first.min(at)),
            score: self.best.score,
            threshold: self.best.threshold,
            false_alarm_probability: self.best.false_alarm_probability,
            crops: self.best.crops,
            bbox,
            phrases: self.best.phrases.clone(),
            bundle: self.bundle.to_string(),
            suppressed,
            late: false,
            clock_synced: now.wall.believed(),
        }
    }
}
