//! Thresholds that follow the site.

use std::sync::Arc;

use super::{Clerk, READING, TICK};
use crate::{
    alert::{View, Wall, ready::Ready},
    error::Result,
    frame::CameraId,
    score::{Asked, Cutoff},
};

/// Tracks of the site from which on a promise needs no word of caution.
const FEW_TRACKS: usize = 256;

/// Share of the persons who pass from which on a text describes what is usual here.
const COMMON: f64 = 0.2;

/// By how much this device's share of the site's budgets may change, as a part of it, before texts are
/// calibrated anew.
const SHARE_MOVED: f64 = 0.05;

/// By how much the expected false alarms may exceed the budget before staff are told.
const OVER_BUDGET: f64 = 1.5;

impl Clerk {
    /// Whether there are texts whose scores the site has outgrown.
    pub(super) fn follow(&mut self, now: Wall) -> bool {
        match self.policy.follow(now.at) {
            Ok(true) => self.stale.extend(self.ready.keys().cloned()),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "Thresholds do not follow the site."),
        }
        // Other devices came or went: all parts of the budget are others.
        let share = self.shared.history.share(now.at);
        if (share - self.share).abs() > SHARE_MOVED * self.share {
            self.share = share;
            self.stale.extend(self.ready.keys().cloned());
        }
        !self.stale.is_empty()
    }

    /// Calibrates as many stale texts anew as [`READING`] allows, and tells of those that changed by
    /// more than a little.
    pub(super) fn calibrate(&mut self, now: Wall) {
        let until = self.shared.clock.now() + READING;
        let mut moved = Vec::new();
        while let Some(id) = self.stale.pop_first() {
            let Some((ready, before)) = self.ready.get(&id) else { continue };
            match self.cutoff(ready, now) {
                Ok(cutoff) => {
                    if has_moved(before, &cutoff) {
                        moved.push(id.clone());
                    }
                    if let Some((_, kept)) = self.ready.get_mut(&id) {
                        *kept = cutoff;
                    }
                }
                Err(error) => tracing::error!(alert = %id, %error, "A threshold is as it was."),
            }
            if self.shared.clock.now() >= until {
                break;
            }
        }
        let known = self.shared.snapshot();
        let views: Vec<Arc<View>> = moved.iter().filter_map(|id| known.get(id)).cloned().collect();
        let told = self
            .publish_armed()
            .and_then(|()| self.outbox.commit(&self.states(&views, &[])).map(drop));
        match told {
            Ok(()) => self.show(),
            Err(error) => {
                tracing::error!(%error, "New thresholds could not be told; tried again.");
                self.shared.work().again(moved);
                self.stop.wait(TICK);
            }
        }
    }

    pub(super) fn cutoff(&self, ready: &Ready, now: Wall) -> Result<Cutoff> {
        let spec = ready.view.spec.as_deref();
        let cameras = spec.and_then(|spec| spec.cameras.as_ref());
        let counts = |camera: &CameraId| {
            cameras.is_none_or(|globs| globs.iter().any(|glob| glob.fits(camera)))
        };
        let asked = Asked {
            text: &ready.text.embedding,
            budget_per_day: spec.and_then(|spec| spec.budget_per_day),
            counts: &counts,
        };
        self.policy.cutoff(&asked, now.at)
    }
}

/// What staff should know of a text's threshold.
pub(super) fn doubts(cutoff: &Cutoff) -> Vec<String> {
    if cutoff.threshold >= 1.0 {
        let doubt = "this text scores much the same on everybody, so nobody can stand out: describe \
                     what tells the person apart";
        return vec![doubt.to_owned()];
    }
    let Some(promise) = &cutoff.promise else { return Vec::new() };
    let mut doubts = Vec::new();
    if promise.common > COMMON {
        doubts.push(format!(
            "{:.0} in 100 persons here fit this text: describe what tells the person apart from them",
            100.0 * promise.common
        ));
    }
    let (expected, share) = (promise.expected_per_day, promise.budget_share);
    if expected > share * OVER_BUDGET {
        doubts.push(format!(
            "{} persons passed so far, too few to promise as little as {} a day: expect up to {}; \
             allow more, or describe more of the person",
            promise.tracks,
            per_day(share),
            per_day(expected)
        ));
    } else if promise.tracks < FEW_TRACKS {
        doubts.push(format!(
            "{} persons passed so far: until some hundred have, the expected {} a day are a guess",
            promise.tracks,
            alarms(expected)
        ));
    }
    doubts
}

fn per_day(rate: f64) -> String {
    if rate < 1.0 { format!("{rate:.2}") } else { format!("{rate:.1}") }
}

fn alarms(rate: f64) -> String {
    format!("{} false alarms", per_day(rate))
}

/// Whether staff should hear of a new threshold.
fn has_moved(before: &Cutoff, after: &Cutoff) -> bool {
    let apart = |before: f64, after: f64| {
        (after - before).abs() > 0.25 * before.abs().max(after.abs()).max(0.01)
    };
    let promises = before.promise.zip(after.promise);
    (after.threshold - before.threshold).abs() > 0.01
        || promises.is_some_and(|(before, after)| {
            apart(before.expected_per_day, after.expected_per_day)
                || (after.budget_share - before.budget_share).abs()
                    > SHARE_MOVED * before.budget_share
                || apart(before.matched_24h as f64, after.matched_24h as f64)
        })
}
