//! Policies side by side.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;

use super::{Outcome, Scale, Scene};

/// Resamplings of the scenes for an interval.
const RESAMPLINGS: usize = 2_000;

/// The middle 95 % of a resampled figure.
pub type Interval = [f64; 2];

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
    /// From the first good view to the sighting, median seconds.
    pub median_delay_s: Option<f64>,
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
    /// For each policy, the share found against false alarms a scene as its cut moves.
    pub curves: Vec<(String, Vec<[f64; 2]>)>,
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
    let rows = judged.iter().map(|(scale, cut, each)| row(scale, *cut, each, first)).collect();
    Table {
        scenes: scenes.iter().map(|scene| scene.name.clone()).collect(),
        texts: scenes.iter().map(|scene| scene.alerts.len()).sum(),
        tracks: scenes.iter().map(|scene| scene.tracks.len()).sum(),
        budget,
        rows,
        curves: scales.iter().map(|scale| (scale.name.clone(), curve(scenes, scale))).collect(),
    }
}

fn outcomes(scenes: &[Scene], scale: &Scale, cut: f64) -> Vec<Outcome> {
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
    let of = |(index, scene): (usize, &Scene)| {
        scene.values(scale.statistic, &|text, score| scale.value(index, text, score))
    };
    let mut cuts: Vec<f64> = scenes.iter().enumerate().flat_map(of).collect();
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

fn curve(scenes: &[Scene], scale: &Scale) -> Vec<[f64; 2]> {
    /// Points of a curve; few enough to draw and to send.
    const POINTS: usize = 120;
    let cuts = cuts(scenes, scale);
    let from = cuts.len() / 2;
    let step = ((cuts.len() - from) / POINTS).max(1);
    let point = |cut: &f64| {
        let all = sum(&outcomes(scenes, scale, *cut));
        [all.false_alarms as f64 / scenes.len().max(1) as f64, all.detection()]
    };
    cuts[from..].iter().step_by(step).map(point).collect()
}

fn row(scale: &Scale, cut: f64, each: &[Outcome], first: &[Outcome]) -> Row {
    let all = sum(each);
    let mut rng = SmallRng::seed_from_u64(7);
    let (mut own, mut difference) = (Vec::new(), Vec::new());
    for _ in 0..RESAMPLINGS {
        let drawn: Vec<usize> = (0..each.len()).map(|_| rng.random_range(0..each.len())).collect();
        let over = |outcomes: &[Outcome]| {
            let drawn: Vec<Outcome> =
                drawn.iter().filter_map(|index| outcomes.get(*index).cloned()).collect();
            sum(&drawn).detection()
        };
        own.push(over(each));
        difference.push(over(first) - over(each));
    }
    Row {
        policy: scale.name.clone(),
        cut_by: scale.own_cut.map_or("best in hindsight", |(_, from)| from),
        cut,
        meant: all.meant,
        found: all.found,
        detection: all.detection(),
        detection_interval: middle(own),
        false_alarms: all.false_alarms,
        false_alarms_per_scene: all.false_alarms as f64 / each.len().max(1) as f64,
        median_delay_s: all.median_delay(),
        first_is_better_by: middle(difference),
    }
}

fn middle(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * values.len() as f64) as usize;
        values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    [at(0.025), at(0.975)]
}
