//! How the learning rate goes over a run (`cskt.md` 1.5).

use serde::{Deserialize, Serialize};

/// When the rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Each {
    /// At the beginning of each epoch, as published.
    #[default]
    Epoch,
    /// With each step, for runs of few epochs.
    Step,
}

/// Linear warm-up, then a half cosine to the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// How long to train.
    pub epochs: f64,
    /// How long the rate rises.
    pub warmup_epochs: f64,
    /// Share of the rate to begin with.
    pub warmup_from: f64,
    /// Share of the rate to end with.
    pub end: f64,
    /// When it changes.
    pub each: Each,
}

impl Default for Schedule {
    /// The paper's: 60 epochs, of which 5 warm up from a tenth.
    fn default() -> Self {
        Self { epochs: 60.0, warmup_epochs: 5.0, warmup_from: 0.1, end: 0.0, each: Each::Epoch }
    }
}

impl Schedule {
    /// The share of the learning rate after `done` epochs, a fraction within one.
    pub fn factor(&self, done: f64) -> f64 {
        let done = match self.each {
            Each::Epoch => done.floor(),
            Each::Step => done,
        };
        if done < self.warmup_epochs {
            let risen = done / self.warmup_epochs;
            return self.warmup_from * (1.0 - risen) + risen;
        }
        let rest = (self.epochs - self.warmup_epochs).max(f64::MIN_POSITIVE);
        let gone = ((done - self.warmup_epochs) / rest).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * gone).cos());
        self.end + (1.0 - self.end) * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schedule_has_the_published_factors() {
        let schedule = Schedule::default();
        let wanted = [0.10, 0.28, 0.46, 0.64, 0.82, 1.0];
        for (epoch, wanted) in wanted.into_iter().enumerate() {
            // Anywhere within an epoch.
            assert!((schedule.factor(epoch as f64 + 0.7) - wanted).abs() < 1e-12);
        }
        let late = 0.5 * (1.0 + (std::f64::consts::PI * 54.0 / 55.0).cos());
        assert!((schedule.factor(59.0) - late).abs() < 1e-12);
        assert!(schedule.factor(60.0).abs() < 1e-12);
    }

    #[test]
    fn by_steps_it_changes_within_an_epoch() {
        let schedule = Schedule {
            epochs: 2.0,
            warmup_epochs: 1.0,
            end: 0.1,
            each: Each::Step,
            ..Schedule::default()
        };
        assert!((schedule.factor(0.5) - 0.55).abs() < 1e-12);
        assert!((schedule.factor(1.5) - 0.55).abs() < 1e-12);
        assert!((schedule.factor(2.0) - 0.1).abs() < 1e-12);
    }
}
