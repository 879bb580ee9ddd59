use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

/// Scores as texts give them: near normal, a little longer above than below.
fn score(rng: &mut SmallRng) -> f32 {
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let (x, y) = (normal(), normal());
    (0.1 + 0.15 * (0.96 * x + 0.12 * (y * y - 1.0))) as f32
}

fn sample(rng: &mut SmallRng, count: usize) -> Vec<Scored> {
    (0..count).map(|_| Scored { score: score(rng), weight: 1.0 }).collect()
}

/// How often scores of the same kind reach a threshold, over what was promised.
fn observed(null: &Null, probability: f64, rng: &mut SmallRng) -> f64 {
    let threshold = null.threshold(probability);
    let count = (400.0 / probability) as usize;
    let reached = (0..count).filter(|_| score(rng) >= threshold).count();
    reached as f64 / count as f64 / probability
}

#[test]
fn a_promise_is_kept_far_beyond_the_sample() {
    let mut rng = SmallRng::seed_from_u64(1);
    for (probability, factor) in [(0.3, 1.1), (0.1, 1.15), (1e-2, 1.3), (1e-3, 1.6), (1e-4, 3.0)] {
        let mut ratios = Vec::new();
        for _ in 0..10 {
            let null = Null::fit(&sample(&mut rng, 4_000)).unwrap();
            assert!(null.matches().is_none());
            ratios.push(observed(&null, probability, &mut rng));
        }
        let mean = ratios.iter().sum::<f64>() / 10.0;
        assert!((1.0 / factor..factor).contains(&mean), "{probability}: {ratios:?}");
    }
}

#[test]
fn true_matches_among_the_tracks_do_not_silence_a_text() {
    let mut rng = SmallRng::seed_from_u64(2);
    for share in [0.02, 0.05, 0.15] {
        let mut tracks = sample(&mut rng, 4_000);
        let clean = Null::fit(&tracks).unwrap();
        for scored in tracks.iter_mut().take((share * 4_000.0) as usize) {
            // 3.5 deviations above the mean.
            scored.score = 0.1 + 0.525 + 0.1 * (rng.random::<f32>() + rng.random::<f32>() - 1.0);
        }
        let null = Null::fit(&tracks).unwrap();
        let found = null.matches().unwrap().share();
        assert!((found / share - 1.0).abs() < 0.3, "{share}: {found}");
        let ratio = observed(&null, 1e-2, &mut rng);
        assert!((0.67..1.5).contains(&ratio), "{share}: {ratio}");
        assert!(observed(&clean, 1e-2, &mut rng) < 1.5);
    }
}

#[test]
fn probability_and_threshold_are_inverse() {
    let null = Null::fit(&sample(&mut SmallRng::seed_from_u64(3), 1_000)).unwrap();
    for probability in [0.9, 0.5, 0.11, 0.1, 0.05, 1e-3, 1e-6] {
        let back = null.probability(null.threshold(probability));
        assert!((back / probability - 1.0).abs() < 0.02, "{probability}: {back}");
    }
    assert_eq!(null.probability(-1.0), 1.0);
    assert_eq!(null.probability(f32::NAN), 1.0);
    assert_eq!(null.threshold(0.0), 1.0);
    assert_eq!(null.threshold(f64::NAN), 1.0);
    assert!(null.threshold(2.0) <= null.threshold(0.9));
}

#[test]
fn light_tracks_count_little() {
    let mut rng = SmallRng::seed_from_u64(4);
    let mut both = sample(&mut rng, 1_000);
    let site = Null::fit(&both).unwrap();
    // Another place, where everybody scores much more.
    both.extend((0..1_000).map(|_| Scored { score: 0.5 + score(&mut rng), weight: 0.002 }));
    let mixed = Null::fit(&both).unwrap();
    assert!((mixed.threshold(0.2) - site.threshold(0.2)).abs() < 0.01);
    assert!((mixed.tracks() - 1_002.0).abs() < 0.1);
}

#[test]
fn a_text_that_scores_the_same_on_everybody_stands_out_on_nobody() {
    let same = vec![Scored { score: 0.25, weight: 1.0 }; 100];
    let null = Null::fit(&same).unwrap();
    assert_eq!((null.threshold(0.5), null.threshold(1e-3)), (1.0, 1.0));
    assert_eq!(null.probability(0.9), 1.0);
}

#[test]
fn too_little_and_what_is_no_score_are_refused() {
    let mut tracks = vec![Scored { score: 0.1, weight: 1.0 }; MIN_TRACKS - 1];
    assert!(Null::fit(&tracks).unwrap_err().to_string().contains("31 tracks are too few"));
    tracks.push(Scored { score: 0.2, weight: 0.0 });
    assert!(Null::fit(&tracks).is_err(), "one that does not count");
    for wrong in [f32::NAN, f32::INFINITY] {
        tracks[0].score = wrong;
        assert!(Null::fit(&tracks).unwrap_err().to_string().contains("no score"));
    }
}

proptest! {
    /// Whatever the sample: nothing panics, and a smaller budget never lowers the bar.
    #[test]
    fn thresholds_follow_the_budget(
        scores in prop::collection::vec((-1.0f32..1.0, 0.0f32..1.0), 0..300),
        mut budgets in prop::collection::vec(1e-9f64..1.0, 8),
    ) {
        let sample: Vec<Scored> =
            scores.into_iter().map(|(score, weight)| Scored { score, weight }).collect();
        let Ok(null) = Null::fit(&sample) else { return Ok(()) };
        budgets.sort_by(f64::total_cmp);
        let thresholds: Vec<f32> = budgets.iter().map(|p| null.threshold(*p)).collect();
        prop_assert!(thresholds.windows(2).all(|pair| pair[0] >= pair[1]), "{thresholds:?}");
        prop_assert!(thresholds.iter().all(|threshold| (-1.0..=1.0).contains(threshold)));
        let grid: Vec<f64> = (0..=200).map(|i| null.probability(i as f32 / 100.0 - 1.0)).collect();
        prop_assert!(grid.windows(2).all(|pair| pair[0] >= pair[1]), "{grid:?}");
        prop_assert!(grid.iter().all(|p| (0.0..=1.0).contains(p)));
    }
}
