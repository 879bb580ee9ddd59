//! How many new sightings an alert may bring: a bucket of tokens on monotonic time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Mono,
    error::{Error, Result},
};

/// A limit on new sightings of one alert: a section of the configuration. Protects staff from an
/// alert that fits everybody; what it holds back is counted and told.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// New sightings at once, from rest. Default: 30.
    pub burst: u32,
    /// New sightings an hour in the long run. Default: 120.
    pub per_hour: f64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { burst: 30, per_hour: 120.0 }
    }
}

impl Quota {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        if self.burst == 0 {
            return Err(Error::config("quota.burst", "must be at least 1, else nothing is sent"));
        }
        if !(self.per_hour > 0.0 && self.per_hour <= 1e6) {
            let reason = format!("{} must be above 0, up to 1000000", self.per_hour);
            return Err(Error::config("quota.per_hour", reason));
        }
        Ok(())
    }

    /// The quota as a bucket that is full at `now`.
    pub(super) fn bucket(self, now: Mono) -> Bucket {
        Bucket { tokens: f64::from(self.burst), filled: now }
    }
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: f64,
    filled: Mono,
}

impl Bucket {
    /// Takes a token where there is one.
    pub(super) fn take(&mut self, quota: Quota, now: Mono) -> bool {
        let hours = now.since(self.filled).as_secs_f64() / HOUR.as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + hours * quota.per_hour).min(f64::from(quota.burst));
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_never_more_than_a_burst() {
        let quota = Quota { burst: 2, per_hour: 60.0 };
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let mut bucket = quota.bucket(at(0));
        let taken: Vec<bool> = [0, 0, 0, 59, 61, 62, 10_000, 10_000, 10_000]
            .map(|seconds| bucket.take(quota, at(seconds)))
            .into();
        let expected = [true, true, false, false, true, false, true, true, false];
        assert_eq!(taken, expected);
    }

    #[test]
    fn quotas_that_let_nothing_pass_are_refused() {
        assert!(Quota::default().check().is_ok());
        for (burst, per_hour) in [(0, 1.0), (1, 0.0), (1, -1.0), (1, f64::NAN), (1, f64::INFINITY)]
        {
            assert!(Quota { burst, per_hour }.check().is_err());
        }
    }
}
