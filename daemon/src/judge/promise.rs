//! What the budget policy promises against what came of it.

use serde::Serialize;

use super::{Chance, Interval, Outcome, Scene, resample, table::outcomes};

/// A promise, and how it was kept; all a scene, over all its texts.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// False alarms that are allowed.
    pub budget: f64,
    /// False alarms that are promised: as many, or fewer where no threshold allows exactly that.
    pub promised: f64,
    /// False alarms that were made, and their interval over scenes.
    pub observed: f64,
    /// See `observed`.
    pub observed_interval: Interval,
    /// Sightings of persons who fit nearly, which are no false alarms, and their interval.
    pub near: f64,
    /// See `near`.
    pub near_interval: Interval,
}

/// Lets the policy decide at each of these budgets.
pub fn kept(scenes: &[Scene], chance: &Chance, budgets: &[f64]) -> Vec<Kept> {
    budgets.iter().map(|budget| at(scenes, chance, *budget)).collect()
}

fn at(scenes: &[Scene], chance: &Chance, budget: f64) -> Kept {
    let each = outcomes(scenes, &chance.scale(budget), 0.0);
    let mean = |drawn: &[usize]| {
        let sum = |count: fn(&Outcome) -> u64| {
            drawn.iter().filter_map(|index| each.get(*index)).map(count).sum::<u64>() as f64
        };
        let scenes = drawn.len().max(1) as f64;
        [sum(|outcome| outcome.false_alarms), sum(|outcome| outcome.near_alarms)]
            .map(|sum| sum / scenes)
    };
    let all: Vec<usize> = (0..each.len()).collect();
    let [observed, near] = mean(&all);
    let [observed_interval, near_interval] = resample::intervals(each.len(), mean);
    let promised = chance.promised(budget);
    Kept { budget, promised, observed, observed_interval, near, near_interval }
}
