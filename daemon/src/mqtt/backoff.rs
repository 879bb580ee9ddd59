//! How long to wait before the next try to connect.

use std::time::Duration;

use rand::{Rng, rngs::SmallRng};

/// Waits that double up to a cap, each drawn from the whole span below it, so that a site's devices
/// do not come back all at once after the broker did.
pub struct Backoff {
    base: Duration,
    cap: Duration,
    hopeless: Duration,
    failures: u32,
    rng: SmallRng,
}

impl Backoff {
    /// The first wait is at most `base`, none is over `cap`, but for those after a fault that trying
    /// again does not mend, which are up to `hopeless`.
    pub fn new(base: Duration, cap: Duration, hopeless: Duration, rng: SmallRng) -> Self {
        Self { base: base.min(cap), cap, hopeless, failures: 0, rng }
    }

    /// The wait before the next try, after one more failure.
    pub fn failed(&mut self) -> Duration {
        let doubled =
            self.base.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        self.draw(Duration::ZERO, doubled.min(self.cap))
    }

    /// The wait after a fault that trying again does not mend.
    pub fn hopeless(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.draw(self.hopeless / 2, self.hopeless)
    }

    /// A connection held: the next failure is the first one again.
    pub fn held(&mut self) {
        self.failures = 0;
    }

    fn draw(&mut self, from: Duration, to: Duration) -> Duration {
        from + (to - from).mul_f64(self.rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_fill_the_span() {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(10));
        let hopeless = Duration::from_secs(60);
        let mut backoff = Backoff::new(base, cap, hopeless, SmallRng::seed_from_u64(7));
        for failure in 0..200_u32 {
            let ceiling = (base * 2_u32.pow(failure.min(20))).min(cap);
            assert!(backoff.failed() <= ceiling, "failure {failure}");
        }
        let many: Vec<_> = (0..200).map(|_| backoff.failed()).collect();
        assert!(many.iter().any(|wait| *wait < cap / 10), "no jitter");
        assert!(many.iter().any(|wait| *wait > cap * 9 / 10), "never near the cap");
        assert!((0..50).all(|_| backoff.hopeless() >= hopeless / 2));
        backoff.held();
        assert!(backoff.failed() <= base);
    }
}
