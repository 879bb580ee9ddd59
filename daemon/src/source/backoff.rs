//! How long to wait before the next attempt: exponential, capped, with full jitter, so that cameras
//! which failed together do not come back together.

use std::time::Duration;

use rand::Rng;

/// First span from which a wait is drawn.
const FIRST: Duration = Duration::from_millis(250);

/// Doublings after which every cap in use is reached (250 ms * 2^16 is 4.5 h).
const MAX_DOUBLINGS: u32 = 16;

/// Waits between attempts of one source.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The span to wait after one more failure: uniform between zero and the smaller of `cap` and
    /// 250 ms doubled with each failure.
    pub fn next(&mut self, cap: Duration, rng: &mut impl Rng) -> Duration {
        let longest = (FIRST * (1 << self.failures.min(MAX_DOUBLINGS))).min(cap);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rng.random::<f64>())
    }

    /// The span to wait where an attempt may do harm: uniform between half of `cap` and `cap`, from
    /// the first failure on.
    pub fn rarely(&mut self, cap: Duration, rng: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        cap.mul_f64(rng.random_range(0.5..=1.0))
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts from the shortest wait again: frames flow.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_spread_over_the_whole_span() {
        let cap = Duration::from_secs(3);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut longest = [Duration::ZERO; 8];
        let mut sum_of_last = Duration::ZERO;
        for _ in 0..2000 {
            let mut backoff = Backoff::default();
            for (attempt, longest) in longest.iter_mut().enumerate() {
                let wait = backoff.next(cap, &mut rng);
                assert!(wait <= cap);
                *longest = (*longest).max(wait);
                if attempt == 7 {
                    sum_of_last += wait;
                }
            }
        }
        for (attempt, longest) in longest.iter().enumerate() {
            let bound = (FIRST * 2_u32.pow(attempt as u32)).min(cap);
            assert!(*longest <= bound && *longest > bound.mul_f64(0.95), "{attempt}: {longest:?}");
        }
        let mean = sum_of_last.as_secs_f64() / 2000.0;
        assert!((mean - 1.5).abs() < 0.1, "full jitter halves the cap on average, got {mean}");
    }

    #[test]
    fn what_may_do_harm_is_never_tried_soon() {
        let cap = Duration::from_secs(60);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..1000).map(|_| backoff.rarely(cap, &mut rng)).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= cap / 2 && *least < cap * 11 / 20, "{least:?}");
        assert!(*most <= cap && *most > cap * 19 / 20, "{most:?}");
        assert_eq!(backoff.failures(), 1000);
    }

    #[test]
    fn success_starts_over_and_years_of_failure_do_not_overflow() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff { failures: u32::MAX - 1 };
        let cap = Duration::from_secs(60);
        assert!(backoff.next(cap, &mut rng) <= cap);
        assert!(backoff.next(cap, &mut rng) <= cap);
        assert_eq!(backoff.failures(), u32::MAX);
        backoff.reset();
        assert!(backoff.next(cap, &mut rng) <= FIRST);
    }
}
