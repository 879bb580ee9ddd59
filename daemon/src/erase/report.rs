//! What an erasure did, or would do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Meaning, Trace, Trained};
use crate::{
    alert::rfc3339,
    frame::CameraId,
    gallery::{Hold, HoldId, Survey},
    sighting::SightingId,
};

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Tracks of the gallery, with their vectors.
    pub tracks: usize,
    /// Their pictures. Not `pictures`, which in every answer is the number of those that follow it.
    pub track_pictures: usize,
    /// When the first of the tracks was first seen, RFC 3339.
    pub first_seen: Option<String>,
    /// When the last of them was last seen.
    pub last_seen: Option<String>,
    /// Tracks in view and views that wait to be compared: what was seen of them so far.
    pub in_view: usize,
    /// Tracks that texts are calibrated on.
    pub judged_by: usize,
    /// Messages that wait for the broker.
    pub messages: usize,
    /// Pictures that wait for the broker.
    pub waiting_pictures: usize,
    /// Sightings that the page showed.
    pub shown: usize,
    /// Alerts that were like somebody who goes: they are withdrawn, with what they keep of the person.
    #[serde(default)]
    pub alerts: usize,
    /// Verdicts of staff.
    #[serde(default)]
    pub verdicts: usize,
    /// Their pictures.
    #[serde(default)]
    pub verdict_pictures: usize,
    /// Crops that wait for a verdict.
    #[serde(default)]
    pub waiting_crops: usize,
    /// Bundles that were trained on whoever goes: what they learnt stays in them.
    #[serde(default)]
    pub bundles: Vec<Trained>,
    /// Damaged files and parts of files, of which nobody can say who was in them.
    pub damaged: usize,
    /// What stays, since it is held.
    pub held: Vec<Held>,
    /// Damaged files and parts of files that stay, whoever is in them.
    #[serde(default)]
    pub unreadable: usize,
    /// Where a camera was said of whom no track is kept: those of whom there are some.
    #[serde(default)]
    pub cameras: Vec<CameraId>,
}

/// A hold that keeps tracks which were meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub hold: u64,
    /// Why, in the words of who asked for it.
    pub reason: String,
    /// How many tracks it keeps.
    pub tracks: usize,
    /// How many sightings it keeps, of those that wait for the broker or are shown by the page.
    #[serde(default)]
    pub told: usize,
}

impl Report {
    /// What a look into the gallery says.
    pub(super) fn of(survey: Survey, dry_run: bool) -> Self {
        let held = survey.held.into_iter().map(|(hold, tracks)| Held {
            hold: hold.id.0,
            reason: hold.why.reason,
            tracks,
            told: 0,
        });
        Self {
            dry_run,
            tracks: survey.records,
            track_pictures: survey.pictures,
            first_seen: survey.first.map(rfc3339),
            last_seen: survey.last.map(rfc3339),
            damaged: survey.damaged,
            held: held.collect(),
            unreadable: survey.unreadable,
            cameras: survey.cameras,
            ..Self::default()
        }
    }

    /// Adds sightings that a hold keeps.
    pub(super) fn keeps_told(&mut self, meaning: &Meaning, told: &[Trace]) {
        let mut kept: BTreeMap<HoldId, (&Hold, BTreeSet<SightingId>)> = BTreeMap::new();
        for trace in told {
            if let Some((hold, id)) = meaning.holder(trace).zip(trace.sighting) {
                kept.entry(hold.id).or_insert_with(|| (hold, BTreeSet::new())).1.insert(id);
            }
        }
        for (hold, sightings) in kept.into_values() {
            let told = sightings.len();
            match self.held.iter_mut().find(|held| held.hold == hold.id.0) {
                Some(held) => held.told = told,
                None => {
                    let (hold, reason) = (hold.id.0, hold.why.reason.clone());
                    self.held.push(Held { hold, reason, tracks: 0, told });
                }
            }
        }
    }

    /// Whether something stays of which nobody can say that it is not meant.
    pub fn is_short(&self) -> bool {
        !self.held.is_empty() || self.unreadable > 0
    }

    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.tracks,
            self.in_view,
            self.judged_by,
            self.messages,
            self.waiting_pictures,
            self.shown,
            self.alerts,
            self.verdicts,
            self.waiting_crops,
            self.damaged,
        ];
        counts.iter().all(|count| *count == 0)
    }
}
