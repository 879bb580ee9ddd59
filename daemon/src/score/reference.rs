//! Whom a text's scores are judged against: tracks of the site, and while there are few of them, the
//! bundle's background cohort.

use std::collections::BTreeMap;

use jiff::Timestamp;
use spotter_models::{
    Embedding, Generation,
    calibration::{Null, Scored},
    cohort::Cohort,
    kernel::{Packed, Query},
};

use super::{Looks, Own, Passed, Place, Upper};
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

/// From so many standard deviations on by which a text fits what is said of a person of the cohort better
/// than what is said of the others, that person is whom it describes: no false alarm. By experiment, see
/// `docs/design/decision.md`.
const DESCRIBES: f64 = 2.0;

/// A snapshot of tracks, ready to be scored. All come from one bundle.
pub struct Reference {
    generation: Generation,
    width: usize,
    /// Where each track lay after each of its looks, by as much as that was borne out: rows whose product
    /// with a text is its score. In 8 bits, whose rounding is lost in the spread of the scores.
    rows: Packed,
    tracks: Vec<Track>,
    /// What is said of each person of the cohort, who come last; empty where nothing is.
    captions: Packed,
    /// How many of the tracks are of the site; they come first.
    of_site: usize,
}

/// What a text scores on the tracks of a [`Reference`], in their order: the site's, then the cohort.
pub struct Scores {
    /// The largest score over each one's looks, as who watches it would have found it.
    largest: Vec<f32>,
    /// How much each counts among those who do not match.
    weights: Vec<f32>,
    /// How many are of the site.
    of_site: usize,
    /// The track that is asked for itself, which is left out.
    own: Option<usize>,
}

impl Scores {
    /// The largest score over the looks of each track of the site.
    pub fn of_site(&self) -> &[f32] {
        self.halves().0
    }

    /// Those of the site's tracks, and of the cohort's persons.
    fn halves(&self) -> (&[f32], &[f32]) {
        self.largest.split_at(self.of_site.min(self.largest.len()))
    }

    /// The scores of the site's tracks, without the one that is asked for itself.
    fn others<'a>(&'a self, tracks: &'a [Track]) -> impl Iterator<Item = (&'a Track, f32)> {
        let all = tracks.iter().zip(self.of_site()).enumerate();
        all.filter(|(index, _)| self.own != Some(*index)).map(|(_, (track, score))| (track, *score))
    }
}

struct Track {
    camera: Option<CameraId>,
    /// Its number at that camera.
    number: u64,
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
        let mut reference = Self {
            generation,
            width,
            rows: Packed::new(width),
            tracks: Vec::new(),
            captions: Packed::new(width),
            of_site: 0,
        };
        for passed in site {
            let Ok(after) = Looks::after_each(&passed.looks) else { continue };
            let is_other = |place: &Place| place.direction().generation() != generation;
            if after.iter().any(is_other) {
                return Err(Error::internal("calibration", "a track comes from another bundle"));
            }
            let rows = after.iter().map(|place| (place.direction().values(), place.certainty()));
            let of = (Some(&passed.camera), passed.track.0, passed.at.as_second());
            reference.push(rows, of, 1.0)?;
            reference.of_site += 1;
        }
        let missing = ENOUGH.saturating_sub(reference.of_site);
        if let Some(cohort) = cohort {
            let persons = cohort.all();
            let weight = (missing as f32 / persons.len() as f32).min(1.0);
            for person in persons {
                let row = (person.as_slice(), COHORT_CERTAINTY);
                reference.push([row].into_iter(), (None, 0, 0), weight)?;
            }
            for caption in cohort.captions() {
                reference.captions.push(caption)?;
            }
        }
        Ok(reference)
    }

    fn push<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a [f32], f32)>,
        (camera, number, at): (Option<&CameraId>, u64, i64),
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
        self.tracks.push(Track { camera: camera.cloned(), number, at, rows, weight });
        Ok(())
    }

    /// How many tracks of the site it holds.
    pub fn of_site(&self) -> usize {
        self.of_site
    }

    /// What a text scores on each track, and how much that says of who does not match: a person of the
    /// cohort whom it describes, by what is said of that person, says nothing.
    ///
    /// # Errors
    /// Where the text comes from another bundle.
    pub fn score(&self, text: &Embedding) -> Result<Scores> {
        if text.generation() != self.generation || text.values().len() != self.width {
            return Err(Error::internal(
                "calibration",
                "text and tracks come from two bundles, whose scores are never compared",
            ));
        }
        let query = Query::new(text.values());
        let mut of_rows = Vec::new();
        self.rows.scores(&query, &mut of_rows);
        let of_track = |track: &Track| {
            let of_track = of_rows.get(track.rows.0..track.rows.1).unwrap_or_default();
            of_track.iter().copied().fold(-1.0, f32::max)
        };
        let largest = self.tracks.iter().map(of_track).collect();
        let mut weights: Vec<f32> = self.tracks.iter().map(|track| track.weight).collect();
        let cohort = weights.iter_mut().skip(self.of_site);
        for (weight, described) in cohort.zip(self.described(&query)) {
            *weight = if described { 0.0 } else { *weight };
        }
        Ok(Scores { largest, weights, of_site: self.of_site, own: None })
    }

    /// What a picture of somebody scores on all others: not on the track that it is of, which says nothing of
    /// itself. Whoever of the cohort looks like it is a false alarm, whatever is said of either.
    ///
    /// # Errors
    /// Where it comes from another bundle.
    pub fn score_others(&self, direction: &Embedding, own: Option<&Own>) -> Result<Scores> {
        let mut scores = self.score(direction)?;
        let weights = self.tracks.iter().map(|track| track.weight);
        scores.weights = weights.collect();
        let is_own = |track: &Track| {
            let at = Timestamp::from_second(track.at).unwrap_or_default();
            own.zip(track.camera.as_ref())
                .is_some_and(|(own, camera)| own.is(camera, track.number, at))
        };
        scores.own = self.tracks.iter().position(is_own);
        Ok(scores)
    }

    /// Whether the text describes each person of the cohort; nobody where nothing is said of them.
    fn described(&self, text: &Query) -> impl Iterator<Item = bool> {
        let mut scores = Vec::new();
        self.captions.scores(text, &mut scores);
        let scored: Vec<Scored> =
            scores.iter().map(|score| Scored { score: *score, weight: 1.0 }).collect();
        let (_, mean, variance) = moments(&scored);
        let bar = mean + DESCRIBES * variance.sqrt();
        scores.into_iter().map(move |score| f64::from(score) > bar)
    }

    /// The null distribution of a text from its scores: of the tracks of the cameras that `counts`, where
    /// these are many, else of everybody, moved to where the scores on these cameras lie: the shape of a
    /// tail takes many tracks, a place and a spread only some.
    ///
    /// # Errors
    /// What [`Null::fit`] finds: too few tracks.
    pub fn null(&self, scores: &Scores, counts: impl Fn(&CameraId) -> bool) -> Result<Null> {
        let is_here = |track: &Track| track.camera.as_ref().is_some_and(&counts);
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        let scored = scores.largest.iter().zip(&scores.weights);
        for (index, (track, (score, weight))) in self.tracks.iter().zip(scored).enumerate() {
            if scores.own == Some(index) {
                continue;
            }
            let scored = Scored { score: *score, weight: *weight };
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
    pub fn common(&self, scores: &Scores) -> Option<f64> {
        let (site, cohort) = scores.halves();
        let mut cohort = cohort.to_vec();
        cohort.sort_by(f32::total_cmp);
        let bar = cohort.get(cohort.len() * NEARLY_ALL.0 / NEARLY_ALL.1)?;
        let above = site.iter().filter(|score| *score > bar).count();
        (!site.is_empty()).then(|| above as f64 / site.len() as f64)
    }

    /// For each camera that `counts`, how many of the site's `new` last tracks score more than `bar`.
    pub fn upper(
        &self,
        scores: &Scores,
        bar: f32,
        new: usize,
        counts: impl Fn(&CameraId) -> bool,
    ) -> Vec<(CameraId, Upper)> {
        let mut cameras: BTreeMap<&CameraId, Upper> = BTreeMap::new();
        let site = self.tracks.iter().zip(scores.of_site()).enumerate();
        for (index, (track, score)) in site.skip(self.of_site.saturating_sub(new)) {
            if scores.own == Some(index) {
                continue;
            }
            let Some(camera) = track.camera.as_ref().filter(|camera| counts(camera)) else {
                continue;
            };
            let upper = cameras.entry(camera).or_insert(Upper { above: 0, tracks: 0 });
            upper.above += u64::from(*score > bar);
            upper.tracks += 1;
        }
        cameras.into_iter().map(|(camera, upper)| (camera.clone(), upper)).collect()
    }

    /// The largest scores, falling, that tracks of the site had on cameras that `counts` since this
    /// second; at most `most`.
    pub fn largest(
        &self,
        scores: &Scores,
        since: i64,
        counts: impl Fn(&CameraId) -> bool,
        most: usize,
    ) -> Vec<f32> {
        let recent = scores
            .others(&self.tracks)
            .filter(|(track, _)| track.at >= since && track.camera.as_ref().is_some_and(&counts));
        let mut largest: Vec<f32> = recent.map(|(_, score)| score).collect();
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
    fn whom_a_text_describes_is_no_false_alarm() {
        let unit = |x: f32| vec![x, (1.0 - x * x).sqrt(), 0.0];
        let generation = Generation([1; 16]);
        let persons: Vec<Vec<f32>> = (0..200).map(|n| unit(n as f32 / 400.0)).collect();
        // The last five look like what is asked for, and are described so.
        let caption = |n: usize| unit(if n < 195 { 0.1 * (n % 3) as f32 } else { 0.9 });
        let plain = Cohort::new(persons).unwrap();
        let described = plain.clone().with_captions((0..200).map(caption).collect()).unwrap();
        let text = Embedding::new(unit(1.0), generation).unwrap();
        let above = |cohort: &Cohort, score: f32| {
            let reference = Reference::new(generation, 3, Some(cohort), &[]).unwrap();
            let scores = reference.score(&text).unwrap();
            assert!(scores.of_site().is_empty());
            reference.null(&scores, |_| true).unwrap().probability(score)
        };
        let (whole, without) = (above(&plain, 0.44), above(&described, 0.44));
        assert!((0.01..0.05).contains(&whole), "the best five of 200: {whole}");
        assert!(without < 0.7 * whole, "{without} against {whole}");
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
