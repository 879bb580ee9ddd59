//! How good the decisions are: labelled recordings, many texts, several policies in one table.
//!
//! Every look of every track is embedded once; what a policy would have told follows from the scores.
//! A policy is a scale on which each text's scores are laid: the cosine itself, the deviations above a
//! cohort's mean, or the rarity of the score among tracks that do not match. A cut on that scale decides,
//! so that all policies can be compared at the same number of false alarms.

mod chance;
mod histogram;
pub mod page;
mod plots;
mod promise;
mod resample;
mod scale;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spotter_models::{Embedding, embedding::dot};

pub use chance::Chance;
pub use histogram::Histogram;
pub use promise::{Kept, kept};
pub use resample::Interval;
pub use scale::{Scale, cosine, deviations, elsewhere};
pub use table::{Row, Table, compare};

use crate::{
    error::Result,
    replay::Recording,
    score::{Looks, Passed, Place},
    truth::{Agreement, Meant, Truth},
};

/// What is known of a bundle's decisions.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Its generation.
    pub bundle: String,
    /// Its name.
    pub name: String,
    /// Policies side by side.
    #[serde(flatten)]
    pub table: Table,
    /// What the budget policy promises at several budgets, and what came of it.
    pub promises: Vec<Kept>,
}

/// A labelled recording with its tracks embedded.
pub struct Scene {
    /// Its name.
    pub name: String,
    /// The tracks as a site's history would have them.
    pub passed: Vec<Passed>,
    /// What the truth says of each text.
    pub alerts: Vec<Alert>,
    /// Each track: whom it shows, and where it lay after each look.
    tracks: Vec<Track>,
    /// When each person was well seen first, seconds.
    good_from: BTreeMap<u64, f64>,
}

/// A text and whom it means.
pub struct Alert {
    /// The text's direction.
    pub text: Embedding,
    matches: BTreeSet<u64>,
    near: BTreeSet<u64>,
}

struct Track {
    person: Option<u64>,
    looks: Vec<Seen>,
}

/// A track at one look.
struct Seen {
    /// Seconds of the recording.
    at: f64,
    /// What this look alone showed.
    view: Embedding,
    /// Where the track lay by then.
    place: Place,
}

/// What a text is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// The score that the daemon decides by: all looks so far, as far as they bear it out.
    Looks,
    /// The cosine of each look alone, which is what a cut-off on raw scores is laid on elsewhere.
    View,
}

impl Scene {
    /// Puts together what a replay saw and what is true; `read` embeds texts.
    ///
    /// # Errors
    /// Where looks come from several bundles, or a text cannot be read.
    pub fn new(
        name: &str,
        recording: Recording,
        (truth, agreement): (&Truth, &Agreement),
        mut read: impl FnMut(&str) -> Result<Embedding>,
    ) -> Result<Self> {
        let alert = |Meant { text, matches, near }: &Meant| {
            Ok(Alert { text: read(text)?, matches: matches.clone(), near: near.clone() })
        };
        let alerts = truth.alerts.iter().map(alert).collect::<Result<_>>()?;
        let track = |passed: &Passed| {
            let after = Looks::after_each(&passed.looks)?;
            let seen = passed.looks.iter().zip(after).map(|(look, place)| Seen {
                at: look.at.0.as_secs_f64(),
                view: look.embedding.clone(),
                place,
            });
            let person = agreement.shows.get(&passed.track).copied();
            Ok(Track { person, looks: seen.collect() })
        };
        let tracks = recording.passed.iter().map(track).collect::<Result<_>>()?;
        let good_from = truth.good_from();
        Ok(Self { name: name.to_owned(), passed: recording.passed, alerts, tracks, good_from })
    }

    /// What a policy tells of this recording when every text's scale is cut there; `values` lays a
    /// text's score on the scale.
    pub fn outcome(
        &self,
        statistic: Statistic,
        values: &dyn Fn(usize, f32) -> f64,
        cut: f64,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for (index, alert) in self.alerts.iter().enumerate() {
            let mut found: BTreeMap<u64, f64> = BTreeMap::new();
            for track in &self.tracks {
                let relation = alert.relation(track.person);
                outcome.others += u64::from(relation == Relation::Other);
                let Some(at) = track.reaches(alert, statistic, |score| values(index, score) >= cut)
                else {
                    continue;
                };
                match (relation, track.person) {
                    (Relation::Match, Some(person)) => {
                        let first = found.entry(person).or_insert(at);
                        *first = first.min(at);
                    }
                    (Relation::Other, _) => outcome.false_alarms += 1,
                    (Relation::Near, _) => outcome.near_alarms += 1,
                    (Relation::Match, None) => {}
                }
            }
            // Who was never well seen cannot be asked for.
            let meant = alert.matches.iter().filter_map(|id| Some((id, self.good_from.get(id)?)));
            for (person, good) in meant {
                outcome.meant += 1;
                if let Some(at) = found.get(person) {
                    outcome.found += 1;
                    outcome.delays.push((at - good).max(0.0));
                }
            }
        }
        outcome
    }

    /// The largest values over the looks of each track, for each text.
    fn values(&self, statistic: Statistic, values: &dyn Fn(usize, f32) -> f64) -> Values {
        let mut all = Values::default();
        for (index, alert) in self.alerts.iter().enumerate() {
            let mut best: BTreeMap<u64, f64> = BTreeMap::new();
            for track in &self.tracks {
                let scores = track.looks.iter().map(|seen| seen.score(alert, statistic));
                let value = values(index, scores.fold(-1.0, f32::max));
                match alert.relation(track.person) {
                    Relation::Match => all.matches.push(value),
                    Relation::Near => all.near.push(value),
                    Relation::Other => all.others.push(value),
                }
                if let Some(person) = track.person {
                    let best = best.entry(person).or_insert(value);
                    *best = best.max(value);
                }
            }
            let meant = alert.matches.iter().filter(|person| self.good_from.contains_key(person));
            let value = |person: &u64| best.get(person).copied().unwrap_or(f64::NEG_INFINITY);
            all.persons.extend(meant.map(value));
        }
        all
    }
}

/// What pairs of a text and a track reach on a scale, by what the track is to the text.
#[derive(Default)]
struct Values {
    matches: Vec<f64>,
    near: Vec<f64>,
    others: Vec<f64>,
    /// Of each pair of a text and a person whom it means and who was well seen, the best track's;
    /// negative infinity where the person has no track.
    persons: Vec<f64>,
}

impl Values {
    /// Those of all scenes.
    fn of(scenes: &[Scene], scale: &Scale) -> Self {
        let mut all = Self::default();
        for (index, scene) in scenes.iter().enumerate() {
            let value = |text: usize, score: f32| scale.value(index, text, score);
            let mut values = scene.values(scale.statistic, &value);
            all.matches.append(&mut values.matches);
            all.near.append(&mut values.near);
            all.others.append(&mut values.others);
            all.persons.append(&mut values.persons);
        }
        all
    }

    /// All pairs of a text and a track.
    fn pairs(&self) -> impl Iterator<Item = f64> {
        self.matches.iter().chain(&self.near).chain(&self.others).copied()
    }
}

/// What a track is to a text.
#[derive(Clone, Copy, PartialEq)]
enum Relation {
    Match,
    Near,
    Other,
}

impl Alert {
    fn relation(&self, person: Option<u64>) -> Relation {
        match person {
            Some(person) if self.matches.contains(&person) => Relation::Match,
            Some(person) if self.near.contains(&person) => Relation::Near,
            _ => Relation::Other,
        }
    }
}

impl Track {
    /// When the text is reached first.
    fn reaches(
        &self,
        alert: &Alert,
        statistic: Statistic,
        fits: impl Fn(f32) -> bool,
    ) -> Option<f64> {
        self.looks.iter().find(|seen| fits(seen.score(alert, statistic))).map(|seen| seen.at)
    }
}

impl Seen {
    fn score(&self, alert: &Alert, statistic: Statistic) -> f32 {
        let (direction, certainty) = match statistic {
            Statistic::Looks => (self.place.direction(), self.place.certainty()),
            Statistic::View => (&self.view, 1.0),
        };
        certainty * dot(direction.values(), alert.text.values())
    }
}

/// What was told of recordings, against what is true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Pairs of a text and a person whom it means and who was well seen.
    pub meant: u64,
    /// Of these, those that were told.
    pub found: u64,
    /// Pairs of a text and a track that shows nobody whom it means, even loosely.
    pub others: u64,
    /// Of these, those that were told.
    pub false_alarms: u64,
    /// Tracks that were told of a text which they fit nearly: neither right nor wrong.
    pub near_alarms: u64,
    /// From the first good view to the sighting, seconds of the recording, for each that was found.
    pub delays: Vec<f64>,
}

impl Outcome {
    /// Both together.
    pub fn add(&mut self, other: &Outcome) {
        self.meant += other.meant;
        self.found += other.found;
        self.others += other.others;
        self.false_alarms += other.false_alarms;
        self.near_alarms += other.near_alarms;
        self.delays.extend_from_slice(&other.delays);
    }

    /// The share that was found; 1 where nobody was meant.
    pub fn detection(&self) -> f64 {
        if self.meant == 0 { 1.0 } else { self.found as f64 / self.meant as f64 }
    }
}

#[cfg(test)]
mod tests {
    use spotter_models::Generation;

    use super::*;
    use crate::clock::Mono;

    const A: Generation = Generation([1; 16]);

    /// A direction whose cosine with the text of [`alert`] is `cosine`.
    fn person(cosine: f32) -> Embedding {
        Embedding::new(vec![cosine, (1.0 - cosine * cosine).sqrt()], A).unwrap()
    }

    fn alert(matches: &[u64], near: &[u64]) -> Alert {
        let set = |ids: &[u64]| ids.iter().copied().collect();
        Alert { text: person(1.0), matches: set(matches), near: set(near) }
    }

    fn track(person_id: Option<u64>, looks: &[(f64, f32)]) -> Track {
        let look = |(at, cosine): &(f64, f32)| {
            let view = person(*cosine);
            let mut looks = Looks::new(A);
            looks.add(&view, 1.0, Mono::default()).unwrap();
            Seen { at: *at, view, place: looks.place().unwrap() }
        };
        Track { person: person_id, looks: looks.iter().map(look).collect() }
    }

    /// Person 1 is meant and seen twice, 2 nearly, 3 not at all, and one track shows nobody.
    fn scene() -> Scene {
        Scene {
            name: "scene".into(),
            passed: Vec::new(),
            alerts: vec![alert(&[1, 4], &[2])],
            tracks: vec![
                track(Some(1), &[(2.0, 0.3), (4.0, 0.8)]),
                track(Some(1), &[(9.0, 0.9)]),
                track(Some(2), &[(1.0, 0.7)]),
                track(Some(3), &[(1.0, 0.6), (2.0, 0.5)]),
                track(None, &[(3.0, 0.1)]),
            ],
            // Person 4 is meant and was never well seen.
            good_from: BTreeMap::from([(1, 3.0), (2, 1.0), (3, 1.0)]),
        }
    }

    fn at(cut: f64) -> Outcome {
        scene().outcome(Statistic::View, &|_, score| f64::from(score), cut)
    }

    #[test]
    fn who_is_meant_is_found_once_and_who_nearly_fits_is_neither_found_nor_wrong() {
        let strict = at(0.75);
        assert_eq!((strict.meant, strict.found, strict.others, strict.false_alarms), (1, 1, 2, 0));
        assert_eq!((strict.near_alarms, at(0.65).near_alarms), (0, 1));
        assert_eq!(strict.delays, [1.0], "from the first good view to the first sighting");
        let loose = at(0.55);
        assert_eq!((loose.found, loose.false_alarms), (1, 1));
        let all = at(0.05);
        assert_eq!((all.found, all.false_alarms), (1, 2));
        assert_eq!(all.delays, [0.0], "told before the good view is no delay");
        assert_eq!(at(0.95).found, 0);
    }

    /// Two scenes; the second has a text whose scores all lie higher: one threshold for both cannot
    /// serve.
    fn two() -> [Scene; 2] {
        let mut high = scene();
        high.alerts = vec![alert(&[3], &[])];
        high.good_from.insert(3, 0.0);
        [scene(), high]
    }

    #[test]
    fn at_the_same_number_of_false_alarms_the_better_scale_finds_more() {
        let scenes = two();
        let table = compare(&scenes, &[cosine(&scenes, Statistic::View)], 0.0);
        let row = &table.rows[0];
        assert_eq!((row.meant, row.found, row.false_alarms), (2, 0, 0), "{row:?}");
        assert_eq!(row.cut_by, "best in hindsight");
        let table = compare(&scenes, &[cosine(&scenes, Statistic::Looks)], 1.5);
        assert_eq!((table.rows[0].found, table.rows[0].false_alarms), (1, 3));
        assert_eq!(table.rows[0].first_is_better_by, [0.0, 0.0], "than itself");
    }

    #[test]
    fn the_curve_tells_for_each_number_of_false_alarms_what_is_found() {
        let scenes = two();
        let table = compare(&scenes, &[cosine(&scenes, Statistic::View)], 1.0);
        // Others: 0.6 and 0.1 of the first scene, 0.9, 0.8, 0.7 and 0.1 of the second. Meant: 0.9 and 0.6.
        let expected = [[0.0, 0.0], [0.5, 0.5], [1.0, 0.5], [1.5, 0.5], [2.0, 1.0], [3.0, 1.0]];
        assert_eq!(table.curves[0].1, expected);
        let histogram = &table.histograms[0];
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let sums = [&histogram.matches, &histogram.near, &histogram.others].map(|all| sum(all));
        assert_eq!(sums, [3, 1, 6], "pairs of a text and a track: {histogram:?}");
        assert_eq!(histogram.others.first(), Some(&2), "0.1 is the least of all");
        assert_eq!(histogram.matches.last(), Some(&1), "0.9 is the most: {histogram:?}");
    }
}
