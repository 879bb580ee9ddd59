//! Thresholds that follow the site.

use std::sync::Arc;

use super::{BATCH, Clerk, READING, TICK};
use crate::{
    alert::{AlertId, Code, Refusal, View, Wall, lint::Doubtful, ready::Ready},
    error::Result,
    frame::CameraId,
    score::{Asked, Cutoff, Study},
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
    /// Whether there are texts whose scores the site has outgrown, or all are to be cut anew.
    pub(super) fn follow(&mut self, now: Wall) -> bool {
        match self.policy.follow(now.at) {
            Ok(true) => self.stale.extend(self.ready.keys().cloned()),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "Thresholds do not follow the site."),
        }
        // Other devices came or went: all parts of the budget are others.
        let share = self.shared.history.share(now.at);
        let is_another = (share - self.share).abs() > SHARE_MOVED * self.share;
        if is_another {
            self.share = share;
        }
        is_another || !self.stale.is_empty()
    }

    /// Studies as many stale texts anew as [`READING`] allows, and cuts all of them again.
    pub(super) fn calibrate(&mut self, now: Wall) {
        let until = self.shared.clock.now() + READING;
        while let Some(id) = self.stale.pop_first() {
            let Some(watched) = self.ready.get(&id) else { continue };
            match self.study(&watched.ready, now) {
                Ok(study) => {
                    if let Some(watched) = self.ready.get_mut(&id) {
                        watched.study = study;
                    }
                }
                Err(error) => tracing::error!(alert = %id, %error, "A threshold is as it was."),
            }
            if self.shared.clock.now() >= until {
                break;
            }
        }
        self.cut(now);
        if let Err(error) = self.publish_armed() {
            tracing::error!(%error, "New thresholds do not hold yet; tried again.");
            self.stale.extend(self.ready.keys().next().cloned());
            self.stop.wait(TICK);
        }
    }

    /// What each score must reach now, texts that share a budget together.
    pub(super) fn cut(&mut self, now: Wall) {
        let studies: Vec<&Study> = self.ready.values().map(|watched| &watched.study).collect();
        let cutoffs = self.policy.cut(&studies, now.at);
        for ((id, watched), cutoff) in self.ready.iter_mut().zip(cutoffs) {
            watched.cutoff = cutoff;
            if has_moved(&watched.told, &watched.cutoff) {
                self.moved.insert(id.clone());
            }
        }
    }

    /// Those of these alerts that cannot keep their budget, with the reason, where the site's policy
    /// refuses them.
    pub(super) fn over_budget(&self, ids: &[AlertId]) -> Vec<(Arc<View>, Refusal)> {
        let policy = self.shared.store().book().rules().policy().over_budget;
        if policy == Doubtful::Warn {
            return Vec::new();
        }
        let refused = |id: &AlertId| {
            let watched = self.ready.get(id)?;
            let why = over_budget(&watched.cutoff)?;
            Some((watched.ready.view.clone(), Refusal::new(Code::OverBudget, why)))
        };
        ids.iter().filter_map(refused).collect()
    }

    /// Tells of some of the thresholds that changed by more than a little.
    pub(super) fn tell_moved(&mut self) {
        let some: Vec<AlertId> = self.moved.iter().take(BATCH).cloned().collect();
        let known = self.shared.snapshot();
        let views: Vec<Arc<View>> = some.iter().filter_map(|id| known.get(id)).cloned().collect();
        match self.outbox.commit(&self.states(&views, &[])) {
            Ok(_) => {
                some.iter().for_each(|id| self.was_told(id));
                self.show();
            }
            Err(error) => {
                tracing::error!(%error, "New thresholds could not be told; tried again.");
                self.stop.wait(TICK);
            }
        }
    }

    /// Staff know an alert's threshold.
    pub(super) fn was_told(&mut self, id: &AlertId) {
        self.moved.remove(id);
        if let Some(watched) = self.ready.get_mut(id) {
            watched.told = watched.cutoff.clone();
        }
    }

    pub(super) fn study(&self, ready: &Ready, now: Wall) -> Result<Study> {
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
        self.policy.study(&asked, now.at)
    }

    /// What a text would have to reach if it were armed beside those that are.
    pub(super) fn cutoff_beside(&self, study: &Study, now: Wall) -> Cutoff {
        let armed = self.ready.values().map(|watched| &watched.study);
        let studies: Vec<&Study> = armed.chain([study]).collect();
        self.policy.cut(&studies, now.at).pop().unwrap_or_else(Cutoff::never)
    }
}

/// What staff should know of a text's threshold.
pub(super) fn doubts(cutoff: &Cutoff) -> Vec<String> {
    if let Some(doubt) = over_budget(cutoff) {
        return common(cutoff).into_iter().chain([doubt]).collect();
    }
    let few = cutoff.promise.filter(|promise| promise.tracks < FEW_TRACKS).map(|promise| {
        format!(
            "{} persons passed so far: until some hundred have, the expected {} a day are a guess",
            promise.tracks,
            alarms(promise.expected_per_day)
        )
    });
    common(cutoff).into_iter().chain(few).collect()
}

/// Why a text's false alarms cannot be kept within its budget, or it finds nobody.
pub(super) fn over_budget(cutoff: &Cutoff) -> Option<String> {
    if cutoff.threshold >= 1.0 {
        let doubt = "this text scores much the same on everybody, so nobody can stand out: describe \
                     what tells the person apart";
        return Some(doubt.to_owned());
    }
    let promise = cutoff.promise?;
    let (expected, share) = (promise.expected_per_day, promise.budget_share);
    (expected > share * OVER_BUDGET).then(|| {
        format!(
            "{} persons passed so far, too few to promise as little as {} a day: expect up to {}; \
             allow more, or describe more of the person",
            promise.tracks,
            per_day(share),
            per_day(expected)
        )
    })
}

/// That many persons here fit a text.
fn common(cutoff: &Cutoff) -> Option<String> {
    let common = cutoff.promise?.common;
    (cutoff.threshold < 1.0 && common > COMMON).then(|| {
        format!(
            "{:.0} in 100 persons here fit this text: describe what tells the person apart from them",
            100.0 * common
        )
    })
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
