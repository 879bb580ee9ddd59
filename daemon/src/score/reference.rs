//! Whom a text's scores are judged against: tracks of the site, and while there are few of them, the
//! bundle's background cohort.

use spotter_models::{
    Embedding, Generation,
    calibration::{Null, Scored},
    cohort::Cohort,
    kernel::{Packed, Query},
};

use super::{Looks, Passed, Place};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// So many tracks of the site replace the cohort.
const ENOUGH: usize = 1024;

/// So many tracks of the cameras that an alert is for are enough to judge it by these alone.
const ENOUGH_OF_CAMERAS: usize = 512;

/// A person of the cohort was seen once, in a good picture. Tracks of sites are seen several times, and
/// what counts of them is the largest score: so that the cohort's upper scores lie where those of tracks do,
/// its persons count as this certain. By experiment, see `docs/design/decision.md`.
pub(super) const COHORT_CERTAINTY: f32 = 0.9;

/// So many tracks say as much of where a text's scores lie on some cameras as everybody from elsewhere does.
const AS_MUCH_AS_ELSEWHERE: f64 = 16.0;

/// Nearly everybody: 98 of 100.
const NEARLY_ALL: (usize, usize) = (98, 100);

/// A snapshot of tracks, ready to be scored. All come from one bundle.
pub struct Reference {
    generation: Generation,
    width: usize,
    /// Where each track lay after each of its looks, by as much as that was borne out: rows whose product
    /// with a text is its score. In 8 bits, whose rounding is lost in the spread of the scores.
    rows: Packed,
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
            Self { generation, width, rows: Packed::new(width), tracks: Vec::new(), of_site: 0 };
        for passed in site {
            let Ok(after) = Looks::after_each(&passed.looks) else { continue };
            let is_other = |place: &Place| place.direction().generation() != generation;
            if after.iter().any(is_other) {
                return Err(Error::internal("calibration", "a track comes from another bundle"));
            }
            let rows = after.iter().map(|place| (place.direction().values(), place.certainty()));
            reference.push(rows, (Some(&passed.camera), passed.at.as_second()), 1.0)?;
            reference.of_site += 1;
        }
        let missing = ENOUGH.saturating_sub(reference.of_site);
        if let Some(cohort) = cohort {
            let persons = cohort.all();
            let weight = (missing as f32 / persons.len() as f32).min(1.0);
            for person in persons {
                let row = (person.as_slice(), COHORT_CERTAINTY);
                reference.push([row].into_iter(), (None, 0), weight)?;
            }
        }
        Ok(reference)
    }

    fn push<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a [f32], f32)>,
        (camera, at): (Option<&CameraId>, i64),
        weight: f32,
    ) -> Result<()> {
        let first = self.rows.len();
        for (row, certainty) in rows {
            if row.len() != self.width {
                let reason = format!("a track has {} values, not {}", row.len(), self.width);
                return Err(Error::internal("calibration", reason));
            }
            let scaled: Vec<f32> = row.iter().map(|value| certainty * value).collect();
            self.rows.push(&scaled)?;
        }
        let rows = (first, self.rows.len());
        self.tracks.push(Track { camera: camera.cloned(), at, rows, weight });
        Ok(())
    }

    /// How many tracks of the site it holds.
    pub fn of_site(&self) -> usize {
        self.of_site
    }

    /// What a text scores: for each track the largest score over its looks, as who watches it would
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
        let mut scores = Vec::new();
        self.rows.scores(&Query::new(text.values()), &mut scores);
        let largest = |track: &Track| {
            let of_track = scores.get(track.rows.0..track.rows.1).unwrap_or_default();
            of_track.iter().copied().fold(-1.0, f32::max)
        };
        Ok(self.tracks.iter().map(largest).collect())
    }

    /// The null distribution of a text from its scores: of the tracks of the cameras that `counts`, where
    /// these are many, else of everybody, moved to where the scores on these cameras lie: the shape of a
    /// tail takes many tracks, a place and a spread only some.
    ///
    /// # Errors
    /// What [`Null::fit`] finds: too few tracks.
    pub fn null(&self, scores: &[f32], counts: impl Fn(&CameraId) -> bool) -> Result<Null> {
        let is_here = |track: &Track| track.camera.as_ref().is_some_and(&counts);
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        for (track, score) in self.tracks.iter().zip(scores) {
            let scored = Scored { score: *score, weight: track.weight };
            if is_here(track) { here.push(scored) } else { elsewhere.push(scored) }
        }
        if here.len() < ENOUGH_OF_CAMERAS {
            moved(&mut elsewhere, &here);
            here.append(&mut elsewhere);
        }
        Ok(Null::fit(&here)?)
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

    /// The largest scores, falling, that tracks of the site had on cameras that `counts` since this
    /// second; at most `most`.
    pub fn largest(
        &self,
        scores: &[f32],
        since: i64,
        counts: impl Fn(&CameraId) -> bool,
        most: usize,
    ) -> Vec<f32> {
        let site = self.tracks.iter().zip(scores).take(self.of_site);
        let recent = site
            .filter(|(track, _)| track.at >= since && track.camera.as_ref().is_some_and(&counts));
        let mut largest: Vec<f32> = recent.map(|(_, score)| *score).collect();
        largest.sort_by(|a, b| b.total_cmp(a));
        largest.truncate(most);
        largest
    }
}

/// Moves scores from elsewhere to the mean and the deviation that those here have, by as much as there are
/// here.
fn moved(elsewhere: &mut [Scored], here: &[Scored]) {
    let (count, mean_here, variance_here) = moments(here);
    let (weight, mean, variance) = moments(elsewhere);
    if count <= 0.0 || weight <= 0.0 || variance <= 0.0 {
        return;
    }
    let here = count / (count + AS_MUCH_AS_ELSEWHERE);
    let to = mean + here * (mean_here - mean);
    let scale = ((variance + here * (variance_here - variance)) / variance).sqrt();
    for scored in elsewhere {
        scored.score = (to + scale * (f64::from(scored.score) - mean)) as f32;
    }
}

/// The sum of the weights, the mean and the variance.
fn moments(scored: &[Scored]) -> (f64, f64, f64) {
    let sum = |of: &dyn Fn(&Scored) -> f64| -> f64 {
        scored.iter().map(|scored| f64::from(scored.weight) * of(scored)).sum()
    };
    let weight = sum(&|_| 1.0);
    let mean = sum(&|scored| f64::from(scored.score)) / weight.max(f64::MIN_POSITIVE);
    let variance = sum(&|scored| (f64::from(scored.score) - mean).powi(2));
    (weight, mean, variance / weight.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores spread evenly from `low` to `low + width`.
    fn even(count: usize, low: f32, width: f32) -> Vec<Scored> {
        let score = |n: usize| Scored { score: low + width * n as f32 / count as f32, weight: 1.0 };
        (0..count).map(score).collect()
    }

    #[test]
    fn few_tracks_move_the_cohort_and_many_move_it_all_the_way() {
        let after = |count| {
            let mut elsewhere = even(1000, 0.0, 0.4);
            moved(&mut elsewhere, &even(count, 0.3, 0.2));
            let (_, mean, variance) = moments(&elsewhere);
            (mean, (variance * 12.0).sqrt())
        };
        let (mean, width) = after(16);
        assert!((mean - 0.3).abs() < 0.02 && (0.28..0.34).contains(&width), "{mean} {width}");
        let (mean, width) = after(4000);
        assert!((mean - 0.4).abs() < 0.01 && (width - 0.2).abs() < 0.01, "{mean} {width}");
        let mut elsewhere = even(1000, 0.0, 0.4);
        moved(&mut elsewhere, &[]);
        assert_eq!(elsewhere, even(1000, 0.0, 0.4), "nobody passed yet");
        let mut same = vec![Scored { score: 0.2, weight: 1.0 }; 10];
        moved(&mut same, &even(10, 0.3, 0.2));
        assert!(same.iter().all(|scored| scored.score == 0.2), "a spread of nothing stays");
        let mut nobody = vec![Scored { score: 0.2, weight: 0.0 }; 10];
        moved(&mut nobody, &even(10, 0.3, 0.2));
        assert!(nobody.iter().all(|scored| scored.score.is_finite()));
    }
}
