//! One budget of false alarms for many texts.
//!
//! At a given number of false alarms most persons are found where every text is cut at the same odds of a
//! match (Neyman and Pearson, 1933, over all pairs of a text and a track). A model that is trained to tell
//! matching pairs from others makes its cosine much of a measure of these odds, so the texts are cut at
//! one score, as far as that leaves each a fair part: a text that separates nobody would only waste what
//! it is given, and one whose scores all lie high would take everything.

use spotter_models::calibration::Null;

/// How many times its even part a text may have, and by how much less it may get. By experiment, see
/// `docs/design/decision.md`.
const UNEVEN: f64 = 4.0;

/// Halvings of the range of scores until the bar is known.
const HALVINGS: usize = 24;

/// A text that shares a budget.
#[derive(Clone, Copy, Debug)]
pub struct Sharer<'a> {
    /// What it scores on tracks that do not match.
    pub null: &'a Null,
    /// How many tracks it is compared with, in the time that the budget is for; more than 0.
    pub tracks: f64,
    /// Its even part of the budget, in false alarms; more than 0.
    pub even: f64,
    /// The fewest false alarms that can be promised from what its null distribution rests on.
    pub shown: f64,
}

impl Sharer<'_> {
    /// The threshold that lets this many false alarms through.
    pub fn allowing(&self, alarms: f64) -> f32 {
        self.null.threshold((alarms / self.tracks).min(1.0))
    }

    /// The least part that it may get: less than can be promised would be a part that nobody can keep.
    fn least(&self) -> f64 {
        (self.even / UNEVEN).max(self.shown.min(self.even))
    }

    /// False alarms to expect at a threshold; none where no score reaches it.
    pub fn alarms(&self, threshold: f32) -> f64 {
        if threshold >= 1.0 { 0.0 } else { self.null.probability(threshold) * self.tracks }
    }
}

/// The threshold of each text, so that all together make as many false alarms as their even parts add
/// up to, or less where their scores leave no choice.
pub fn thresholds(sharers: &[Sharer<'_>]) -> Vec<f32> {
    let bounds: Vec<[f32; 2]> = sharers
        .iter()
        .map(|sharer| [sharer.allowing(sharer.even * UNEVEN), sharer.allowing(sharer.least())])
        .collect();
    let at = |bar: f32| bounds.iter().map(move |[low, high]| bar.clamp(*low, (*high).max(*low)));
    let budget: f64 = sharers.iter().map(|sharer| sharer.even).sum();
    let (mut low, mut high) = (-1.0, 1.0);
    for _ in 0..HALVINGS {
        let bar = 0.5 * (low + high);
        let alarms: f64 = sharers.iter().zip(at(bar)).map(|(sharer, at)| sharer.alarms(at)).sum();
        if alarms > budget { low = bar } else { high = bar }
    }
    at(high).collect()
}

#[cfg(test)]
mod tests {
    use spotter_models::calibration::Scored;

    use super::*;

    /// Scores spread evenly over `width` from `low`.
    fn null(low: f32, width: f32) -> Null {
        let score = |n: u16| Scored { score: low + width * f32::from(n) / 2000.0, weight: 1.0 };
        Null::fit(&(0..2000).map(score).collect::<Vec<_>>()).unwrap()
    }

    fn sharer(null: &Null) -> Sharer<'_> {
        Sharer { null, tracks: 1000.0, even: 2.0, shown: 0.0 }
    }

    #[test]
    fn one_text_alone_has_the_whole() {
        let null = null(0.0, 0.5);
        let one = [sharer(&null)];
        assert!((thresholds(&one)[0] - one[0].allowing(2.0)).abs() < 1e-5);
        assert!(thresholds(&[]).is_empty());
    }

    #[test]
    fn texts_are_cut_at_one_score_and_the_whole_is_kept() {
        let (low, high) = (null(0.0, 0.5), null(0.001, 0.5));
        let two = [sharer(&low), sharer(&high)];
        let cut = thresholds(&two);
        assert!((cut[0] - cut[1]).abs() < 1e-5, "{cut:?}");
        let alarms: f64 = two.iter().zip(&cut).map(|(sharer, cut)| sharer.alarms(*cut)).sum();
        assert!((alarms - 4.0).abs() < 0.05, "{alarms}");
    }

    #[test]
    fn no_text_is_starved_and_none_takes_everything() {
        let (low, high) = (null(-0.5, 0.5), null(0.3, 0.5));
        let many: Vec<Sharer> = std::iter::once(sharer(&high)).chain([sharer(&low); 9]).collect();
        let cut = thresholds(&many);
        let alarms: Vec<f64> =
            many.iter().zip(&cut).map(|(sharer, cut)| sharer.alarms(*cut)).collect();
        assert!((alarms[0] - 2.0 * UNEVEN).abs() < 0.1, "{alarms:?}");
        assert!(alarms[1..].iter().all(|alarms| *alarms > 2.0 / UNEVEN - 0.01), "{alarms:?}");
        assert!(alarms.iter().sum::<f64>() < 20.1);
    }

    #[test]
    fn no_text_gets_less_than_can_be_promised() {
        let (low, high) = (null(-0.5, 0.5), null(0.3, 0.5));
        let shown = 1.5;
        let two = [&low, &high].map(|null| Sharer { shown, ..sharer(null) });
        let cut = thresholds(&two);
        assert!(two[0].alarms(cut[0]) > shown - 0.01, "{cut:?}");
    }

    #[test]
    fn a_text_that_scores_the_same_on_everybody_tells_nobody_and_stops_no_other() {
        let same = Null::fit(&vec![Scored { score: 0.4, weight: 1.0 }; 100]).unwrap();
        let null = null(0.0, 0.5);
        let cut = thresholds(&[sharer(&same), sharer(&null)]);
        assert_eq!(cut[0], 1.0);
        assert!(cut[1] < 0.6, "{cut:?}");
    }
}
