//! Whom a text's scores are judged against: tracks of the site, and while there are few of them, the
//! bundle's background cohort.

use spotter_models::{
    Embedding, Generation,
    calibration::{Null, Scored},
    cohort::Cohort,
    embedding::dot,
};

use super::{Looks, Passed};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// So many tracks of the site replace the cohort.
const ENOUGH: usize = 1024;

/// So many tracks of the cameras that an alert is for are enough to judge it by these alone.
const ENOUGH_OF_CAMERAS: usize = 512;

/// Nearly everybody: 98 of 100.
const NEARLY_ALL: (usize, usize) = (98, 100);

/// A snapshot of tracks, ready to be scored. All come from one bundle.
pub struct Reference {
    generation: Generation,
    width: usize,
    /// Where each track lay after each of its looks, one row after the other.
    rows: Vec<f32>,
    tracks: Vec<Track>,
    /// How many of the tracks are of the site; they come first.
    of_site: usize,
}

struct Track {
    camera: Option<CameraId>,
    /// Seconds since 1970.
    at: i64,
    /// Its rows, from the first to before the last.
    rows: (usize, usize),
    weight: f32,
}

impl Reference {
    /// The tracks of the site, and of the cohort as much as they leave room for.
    ///
    /// A track whose looks cancel out says nothing and is left out: it must not stop calibration.
    ///
    /// # Errors
    /// Where a track's looks are of another bundle or size.
    pub fn new(
        generation: Generation,
        width: usize,
        cohort: Option<&Cohort>,
        site: &[Passed],
    ) -> Result<Self> {
        let mut reference =
            Self { generation, width, rows: Vec::new(), tracks: Vec::new(), of_site: 0 };
        for passed in site {
            let Ok(after) = Looks::after_each(&passed.looks) else { continue };
            let rows = after.iter().map(Embedding::values);
            let is_other = |look: &Embedding| look.generation() != generation;
            if after.iter().any(is_other) {
                return Err(Error::internal("calibration", "a track comes from another bundle"));
            }
            reference.push(rows, (Some(&passed.camera), passed.at.as_second()), 1.0)?;
            reference.of_site += 1;
        }
        let missing = ENOUGH.saturating_sub(reference.of_site);
        if let Some(cohort) = cohort {
            let persons = cohort.all();
            let weight = (missing as f32 / persons.len() as f32).min(1.0);
            for person in persons {
                reference.push([person.as_slice()].into_iter(), (None, 0), weight)?;
            }
        }
        Ok(reference)
    }

    fn push<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [f32]>,
        (camera, at): (Option<&CameraId>, i64),
        weight: f32,
    ) -> Result<()> {
        let first = self.rows.len() / self.width;
        for row in rows {
            if row.len() != self.width {
                let reason = format!("a track has {} values, not {}", row.len(), self.width);
                return Err(Error::internal("calibration", reason));
            }
            self.rows.extend_from_slice(row);
        }
        let rows = (first, self.rows.len() / self.width);
        self.tracks.push(Track { camera: camera.cloned(), at, rows, weight });
        Ok(())
    }

    /// How many tracks of the site it holds.
    pub fn of_site(&self) -> usize {
        self.of_site
    }

    /// What a text scores: for each track the largest cosine over its looks, as who watches it would
    /// have found it.
    ///
    /// # Errors
    /// Where the text comes from another bundle.
    pub fn score(&self, text: &Embedding) -> Result<Vec<f32>> {
        if text.generation() != self.generation || text.values().len() != self.width {
            return Err(Error::internal(
                "calibration",
                "text and tracks come from two bundles, whose scores are never compared",
            ));
        }
        let largest = |track: &Track| {
            let rows = &self.rows[track.rows.0 * self.width..track.rows.1 * self.width];
            let scores = rows.chunks_exact(self.width).map(|row| dot(row, text.values()));
            scores.fold(-1.0, f32::max)
        };
        Ok(self.tracks.iter().map(largest).collect())
    }

    /// The null distribution of a text from its scores: of the tracks of the cameras that `counts`,
    /// where these are many, else of all.
    ///
    /// # Errors
    /// What [`Null::fit`] finds: too few tracks.
    pub fn null(&self, scores: &[f32], counts: impl Fn(&CameraId) -> bool) -> Result<Null> {
        let is_here = |track: &Track| track.camera.as_ref().is_some_and(&counts);
        let here = self.tracks.iter().filter(|track| is_here(track)).count();
        let only_here = here >= ENOUGH_OF_CAMERAS;
        let sample: Vec<Scored> = self
            .tracks
            .iter()
            .zip(scores)
            .filter(|(track, _)| !only_here || is_here(track))
            .map(|(track, score)| Scored { score: *score, weight: track.weight })
            .collect();
        Ok(Null::fit(&sample)?)
    }

    /// The share of the site's tracks that score more than nearly everybody in the cohort does: 0 to 1,
    /// small for a text that tells persons apart here. `None` without a cohort, or before anybody passed.
    pub fn common(&self, scores: &[f32]) -> Option<f64> {
        let (site, cohort) = scores.split_at(self.of_site.min(scores.len()));
        let mut cohort = cohort.to_vec();
        cohort.sort_by(f32::total_cmp);
        let bar = cohort.get(cohort.len() * NEARLY_ALL.0 / NEARLY_ALL.1)?;
        let above = site.iter().filter(|score| *score > bar).count();
        (!site.is_empty()).then(|| above as f64 / site.len() as f64)
    }

    /// How many tracks of the site, on cameras that `counts`, since this second reached a score.
    pub fn reached(
        &self,
        scores: &[f32],
        threshold: f32,
        since: i64,
        counts: impl Fn(&CameraId) -> bool,
    ) -> u64 {
        let site = self.tracks.iter().zip(scores).take(self.of_site);
        let reached = site.filter(|(track, score)| {
            **score >= threshold && track.at >= since && track.camera.as_ref().is_some_and(&counts)
        });
        reached.count() as u64
    }
}
