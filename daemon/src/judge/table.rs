//! Policies side by side.

use serde::Serialize;

use super::{Histogram, Interval, Outcome, Scale, Scene, Values, resample};

/// A policy's figures over all scenes.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The policy.
    pub policy: String,
    /// How its cut was chosen.
    pub cut_by: &'static str,
    /// The cut, on the policy's scale.
    pub cut: f64,
    /// Pairs of text and person to be found, and those that were.
    pub meant: u64,
    /// Of these, told.
    pub found: u64,
    /// The share, and its interval over scenes.
    pub detection: f64,
    /// See `detection`.
    pub detection_interval: Interval,
    /// False alarms over all scenes.
    pub false_alarms: u64,
    /// Those for each scene.
    pub false_alarms_per_scene: f64,
    /// Sightings of persons who fit nearly, over all scenes: neither right nor wrong.
    pub near_alarms: u64,
    /// From the first good view to the sighting, seconds, rising, for each that was found.
    pub delays_s: Vec<f64>,
    /// Their median; `None` where nobody was found.
    pub median_delay_s: Option<f64>,
    /// As long or shorter were 95 % of them.
    pub p95_delay_s: Option<f64>,
    /// What the first row detects more than this one, over the same resampled scenes.
    pub first_is_better_by: Interval,
}

/// The rows, and what they are of.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Names of the scenes.
    pub scenes: Vec<String>,
    /// Texts of all scenes.
    pub texts: usize,
    /// Tracks of all scenes.
    pub tracks: usize,
    /// False alarms a scene that each policy may make.
    pub budget: f64,
    /// The policies.
    pub rows: Vec<Row>,
    /// Those that are cut in hindsight again, with no more false alarms than the first one made.
    pub as_many: Vec<Row>,
    /// For each policy, false alarms a scene and the share found as its cut falls.
    pub curves: Vec<(String, Vec<[f64; 2]>)>,
    /// For each policy, how scores lie on its scale.
    pub histograms: Vec<Histogram>,
}

/// Compares policies at `budget` false alarms a scene. One that promises cuts by its promise; for the
/// others the best cut is looked for in hindsight, which no site could do.
pub fn compare(scenes: &[Scene], scales: &[Scale], budget: f64) -> Table {
    let judged: Vec<(&Scale, f64, Vec<Outcome>)> = scales
        .iter()
        .map(|scale| {
            let own = scale.own_cut.map(|(cut, _)| cut);
            let cut = own.unwrap_or_else(|| best_cut(scenes, scale, budget, |_| true));
            (scale, cut, outcomes(scenes, scale, cut))
        })
        .collect();
    let first = judged.first().map_or(&[][..], |(_, _, outcomes)| outcomes);
    let values: Vec<Values> = scales.iter().map(|scale| Values::of(scenes, scale)).collect();
    let rows = judged.iter().map(|(scale, cut, each)| row(scale, *cut, each, first)).collect();
    let as_many = as_many(scenes, scales, first);
    Table {
        scenes: scenes.iter().map(|scene| scene.name.clone()).collect(),
        texts: scenes.iter().map(|scene| scene.alerts.len()).sum(),
        tracks: scenes.iter().map(|scene| scene.tracks.len()).sum(),
        budget,
        rows,
        as_many,
        curves: scales
            .iter()
            .zip(&values)
            .map(|(scale, values)| (scale.name.clone(), curve(values, scenes.len())))
            .collect(),
        histograms: scales
            .iter()
            .zip(&values)
            .map(|(scale, values)| Histogram::new(scale, values))
            .collect(),
    }
}

/// The scales that are cut in hindsight with as many false alarms as the first policy made: what it would
/// have to beat where it makes fewer than it may.
fn as_many(scenes: &[Scene], scales: &[Scale], first: &[Outcome]) -> Vec<Row> {
    let made = sum(first).false_alarms as f64 / scenes.len().max(1) as f64;
    let in_hindsight = scales.iter().skip(1).filter(|scale| scale.own_cut.is_none());
    let equal = |scale: &Scale| {
        let cut = best_cut(scenes, scale, made, |_| true);
        let row = row(scale, cut, &outcomes(scenes, scale, cut), first);
        Row { cut_by: "best in hindsight, no more than the first", ..row }
    };
    in_hindsight.map(equal).collect()
}

pub(super) fn outcomes(scenes: &[Scene], scale: &Scale, cut: f64) -> Vec<Outcome> {
    let of = |(index, scene): (usize, &Scene)| {
        scene.outcome(scale.statistic, &|text, score| scale.value(index, text, score), cut)
    };
    scenes.iter().enumerate().map(of).collect()
}

fn sum(outcomes: &[Outcome]) -> Outcome {
    let mut all = Outcome::default();
    outcomes.iter().for_each(|outcome| all.add(outcome));
    all
}

/// Every cut that changes anything, rising.
fn cuts(scenes: &[Scene], scale: &Scale) -> Vec<f64> {
    let mut cuts: Vec<f64> = Values::of(scenes, scale).pairs().collect();
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();
    cuts
}

/// The lowest cut that keeps the budget over the scenes that count: it finds most.
pub(super) fn best_cut(
    scenes: &[Scene],
    scale: &Scale,
    budget: f64,
    counts: impl Fn(usize) -> bool,
) -> f64 {
    let cuts = cuts(scenes, scale);
    let allowed = (budget * (0..scenes.len()).filter(|index| counts(*index)).count() as f64) as u64;
    let alarms = |cut: f64| {
        let outcomes = outcomes(scenes, scale, cut);
        let counting = outcomes.iter().enumerate().filter(|(index, _)| counts(*index));
        counting.map(|(_, outcome)| outcome.false_alarms).sum::<u64>()
    };
    let keeps = |cut: f64| alarms(cut) <= allowed;
    let first = cuts.partition_point(|cut| !keeps(*cut));
    cuts.get(first).copied().unwrap_or(f64::INFINITY)
}

/// For each number of false alarms, fewest first, a scene's mean and the share that is found then: as
/// much as any cut with no more of them finds. Of large numbers some are left out.
fn curve(values: &Values, scenes: usize) -> Vec<[f64; 2]> {
    /// Up to here each number has a point, from there on each that is so much larger than the last.
    const EACH: usize = 40;
    const NEXT: f64 = 1.05;
    let falling = |values: &[f64]| {
        let mut falling = values.to_vec();
        falling.sort_by(|a, b| b.total_cmp(a));
        falling
    };
    let (others, persons) = (falling(&values.others), falling(&values.persons));
    let mut points: Vec<[f64; 2]> = Vec::new();
    let mut next = 0;
    for alarms in 0..=others.len() {
        // The cut lies above this one, and lets all larger ones through; ties go together.
        let stopped = others.get(alarms).copied();
        let is_tie = alarms > 0 && stopped == others.get(alarms - 1).copied();
        if is_tie || (alarms < next && stopped.is_some()) {
            continue;
        }
        let found = persons.partition_point(|value| *value > stopped.unwrap_or(f64::NEG_INFINITY));
        let share = if persons.is_empty() { 1.0 } else { found as f64 / persons.len() as f64 };
        points.push([alarms as f64 / scenes.max(1) as f64, share]);
        next = if alarms < EACH { alarms + 1 } else { (alarms as f64 * NEXT) as usize };
    }
    points
}

fn row(scale: &Scale, cut: f64, each: &[Outcome], first: &[Outcome]) -> Row {
    let mut all = sum(each);
    all.delays.sort_by(f64::total_cmp);
    let [detection_interval, first_is_better_by] = resample::intervals(each.len(), |drawn| {
        let own = detection(each, drawn);
        [own, detection(first, drawn) - own]
    });
    Row {
        policy: scale.name.clone(),
        cut_by: scale.own_cut.map_or("best in hindsight", |(_, from)| from),
        cut,
        meant: all.meant,
        found: all.found,
        detection: all.detection(),
        detection_interval,
        false_alarms: all.false_alarms,
        false_alarms_per_scene: all.false_alarms as f64 / each.len().max(1) as f64,
        near_alarms: all.near_alarms,
        median_delay_s: quantile(&all.delays, 0.5),
        p95_delay_s: quantile(&all.delays, 0.95),
        delays_s: all.delays,
        first_is_better_by,
    }
}

/// The share found over drawn scenes.
fn detection(outcomes: &[Outcome], drawn: &[usize]) -> f64 {
    let drawn = drawn.iter().filter_map(|index| outcomes.get(*index));
    let (found, meant) = drawn
        .fold((0, 0), |(found, meant), outcome| (found + outcome.found, meant + outcome.meant));
    Outcome { found, meant, ..Outcome::default() }.detection()
}

/// The smallest of rising values that this share of them does not exceed; `None` where there are none.
fn quantile(rising: &[f64], share: f64) -> Option<f64> {
    let rank = (share * rising.len() as f64).ceil() as usize;
    rising.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let rising: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((quantile(&rising, 0.5), quantile(&rising, 0.95)), (Some(10.0), Some(19.0)));
        assert_eq!((quantile(&[3.0], 0.5), quantile(&[3.0], 0.95)), (Some(3.0), Some(3.0)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
