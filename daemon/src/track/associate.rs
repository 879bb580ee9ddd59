//! How well a box fits a track.
//!
//! All terms are in nats (negative logarithms of likelihoods), so they add up and another one, such
//! as the likeness of two embeddings, can be added with no weight to tune. Motion alone decides
//! today.

use crate::detect::SCORE_FLOOR;

use super::{Detection, Track, assign::Costs, edge::Picture, kalman::Motion};

/// A pair that costs more is worse than to leave the track without a box for now.
const LIMIT: f64 = 12.0;
/// The same for boxes that the detector hardly believes: only what fits well.
const LIMIT_WEAK: f64 = 8.0;
/// Squared standard deviations of the head beyond which no size makes up: 99.9 % lie within 13.8;
/// more because persons do not move like noise.
const GATE_PLACE: f64 = 20.0;
/// A box that is higher than can be expected by this share is drawn around two persons.
const GATE_GROWTH: f64 = 0.3;
/// A box that is lower by this factor shows somebody else, unless others hide a part.
const GATE_SHRINKING: f64 = 1.7;
/// Weight of a size that does not fit, in nats, and where it begins to saturate, in squared
/// standard deviations: a hidden part changes the size far beyond any noise.
const SIZE_WEIGHT: f64 = 4.5;
const SIZE_SOFT: f64 = 4.0;
/// How much a low score counts against a box: parts of persons and boxes around two have low ones.
const SCORE_WEIGHT: f64 = 1.5;
/// Of a wholly hidden person a box is this much less likely.
const SEEN_THOUGH_HIDDEN: f64 = 0.15;

/// How many times the usual the noise of a box is: head across, head up, width, height.
pub(super) fn blur(score: f32, hidden: f32) -> [f64; 4] {
    let unsure = 1.0 + 1.5 * f64::from(1.0 - score.clamp(0.0, 1.0));
    let hidden = f64::from(hidden.clamp(0.0, 1.0));
    [1.0 + hidden, 1.0 + 0.5 * hidden, 1.0 + 2.0 * hidden, 1.0 + 3.0 * hidden].map(|f| f * unsure)
}

/// The cost of giving a box to a track whose expected place is `hidden` by nearer ones.
fn cost(motion: &Motion, hidden: f32, detection: &Detection, picture: Picture) -> f64 {
    let surprise = motion.surprise(&detection.bbox, picture, blur(detection.score, hidden));
    let shrinking = motion.height() / f64::from(detection.bbox.height());
    if surprise.place > GATE_PLACE
        || surprise.growth > GATE_GROWTH
        || shrinking > GATE_SHRINKING * (1.0 + f64::from(hidden))
    {
        return f64::INFINITY;
    }
    let size = SIZE_WEIGHT * (surprise.size / SIZE_SOFT).ln_1p();
    let visible = 1.0 - f64::from(hidden) * (1.0 - SEEN_THOUGH_HIDDEN);
    let score = -SCORE_WEIGHT * f64::from(detection.score.clamp(SCORE_FLOOR, 1.0)).ln();
    surprise.place / 2.0 + size + surprise.vagueness + score - visible.ln()
}

/// How much the detector's word counts in an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    Strong,
    Weak,
}

/// The best pairs (track, detection), as indices into the two lists.
pub(super) fn pairs(
    tracks: &[&Track],
    detections: &[Detection],
    picture: Picture,
    strength: Strength,
) -> Vec<(usize, usize)> {
    let limit = match strength {
        Strength::Strong => LIMIT,
        Strength::Weak => LIMIT_WEAK,
    };
    let mut costs = Costs::new(tracks.len(), detections.len(), limit);
    for (row, track) in tracks.iter().enumerate() {
        for (column, detection) in detections.iter().enumerate() {
            costs.set(row, column, cost(&track.motion, track.hidden, detection, picture));
        }
    }
    costs.assign()
}
