//! Thresholds that follow the site.

use std::{collections::BTreeSet, sync::Arc};

use spotter_models::Embedding;

use super::{BATCH, Clerk, READING, TICK, drift::Drift};
use crate::{
    alert::{
        AlertId, Code, Refusal, Spec, View, Wall, lint::Doubtful, place::Places, ready::Ready,
    },
    error::Result,
    frame::CameraId,
    metrics,
    score::{Asked, Cutoff, Own, Promise, Sought, Study, Upper},
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
        match self.model.policy.follow(now.at) {
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
            if self.drifts.wants_more() {
                match self.upper(&watched.ready, &watched.study) {
                    Ok(upper) => self.drifts.note(upper),
                    Err(error) => tracing::error!(alert = %id, %error, "Its drift is not known."),
                }
            }
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
        if self.stale.is_empty() {
            self.tell_drifts();
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
        let cutoffs = self.model.policy.cut(&studies, now.at);
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
            let why = over_budget(&watched.cutoff, watched.ready.own.is_some())?;
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
        let wanted = (&ready.text.embedding, ready.own.as_ref());
        asking(&self.shared.places.load(), wanted, spec, |asked| {
            self.model.policy.study(asked, now.at)
        })
    }

    /// What an alert's text, or the track that it is like, scores on the cameras on which it counts.
    pub(super) fn study_here(
        &self,
        wanted: (&Embedding, Option<&Own>),
        spec: &Spec,
        now: Wall,
    ) -> Result<Study> {
        asking(&self.shared.places.load(), wanted, Some(spec), |asked| {
            self.model.policy.study(asked, now.at)
        })
    }

    /// How those who passed since a text was studied score.
    fn upper(&self, ready: &Ready, before: &Study) -> Result<Vec<(CameraId, Upper)>> {
        let spec = ready.view.spec.as_deref();
        let wanted = (&ready.text.embedding, ready.own.as_ref());
        asking(&self.shared.places.load(), wanted, spec, |asked| {
            self.model.policy.upper(asked, before)
        })
    }

    /// Thresholds follow the site by themselves; why they had to is for people to look into.
    fn tell_drifts(&mut self) {
        for drift in self.drifts.judge() {
            let Drift { camera, ratio, persons } = &drift;
            self.shared.history.drifted(camera, *ratio);
            metrics::drift(camera, *ratio);
            if drift.is_large() {
                tracing::warn!(
                    camera = camera.as_str(),
                    ratio = format!("{ratio:.1}"),
                    persons,
                    "The persons who passed last score otherwise than those before them: thresholds \
                     follow; see whether light, lens or view of the camera changed."
                );
            }
        }
    }

    /// What a text would have to reach if it were armed beside those that are.
    pub(super) fn cutoff_beside(&self, study: &Study, now: Wall) -> Cutoff {
        let armed = self.ready.values().map(|watched| &watched.study);
        let studies: Vec<&Study> = armed.chain([study]).collect();
        self.model.policy.cut(&studies, now.at).pop().unwrap_or_else(Cutoff::never)
    }
}

/// Asks a policy of a text on the cameras on which it counts.
pub(super) fn asking<T>(
    places: &Places,
    (text, own): (&Embedding, Option<&Own>),
    spec: Option<&Spec>,
    ask: impl FnOnce(&Asked<'_>) -> Result<T>,
) -> Result<T> {
    let sought = own.map_or(Sought::Words, Sought::Track);
    let Some(spec) = spec else {
        let counts = &|_: &CameraId| true;
        return ask(&Asked { text, sought, budget_per_day: None, counts, is_watched: true });
    };
    let here: BTreeSet<&CameraId> = places.watching(spec).collect();
    ask(&Asked {
        text,
        sought,
        budget_per_day: spec.budget_per_day,
        counts: &|camera| here.contains(camera),
        is_watched: !here.is_empty(),
    })
}

/// What staff should know of the threshold of a text, or of an alert that `is_like` somebody.
pub(super) fn doubts(cutoff: &Cutoff, is_like: bool) -> Vec<String> {
    if let Some(doubt) = over_budget(cutoff, is_like) {
        return common(cutoff).into_iter().chain([doubt]).collect();
    }
    let is_a_guess =
        |promise: &Promise| promise.tracks < FEW_TRACKS && promise.expected_per_day > 0.0;
    let few = cutoff.promise.filter(is_a_guess).map(|promise| {
        format!(
            "{} persons passed so far: until some hundred have, the expected {} a day are a guess",
            promise.tracks,
            alarms(promise.expected_per_day)
        )
    });
    common(cutoff).into_iter().chain(few).collect()
}

/// Why an alert's false alarms cannot be kept within its budget, or it finds nobody.
pub(super) fn over_budget(cutoff: &Cutoff, is_like: bool) -> Option<String> {
    let tells_apart =
        cutoff.null.as_ref().map_or(cutoff.threshold < 1.0, |null| null.tells_apart());
    if !tells_apart {
        let doubt = match is_like {
            true => "everybody here is much alike to this person, so nobody can stand out",
            false => {
                "this text scores much the same on everybody, so nobody can stand out: describe what \
                 tells the person apart"
            }
        };
        return Some(doubt.to_owned());
    }
    let promise = cutoff.promise?;
    let (expected, share) = (promise.expected_per_day, promise.budget_share);
    let more = if is_like { "" } else { ", or describe more of the person" };
    (expected > share * OVER_BUDGET).then(|| {
        format!(
            "{} persons passed so far, too few to promise as little as {} a day: expect up to {}; \
             allow more{more}",
            promise.tracks,
            per_day(share),
            per_day(expected)
        )
    })
}

/// That many persons here fit a text.
fn common(cutoff: &Cutoff) -> Option<String> {
    let common = cutoff.promise?.common;
    (common > COMMON).then(|| {
        format!(
            "{:.0} in 100 persons here fit this text: describe what tells the person apart from them",
            100.0 * common
        )
    })
}

fn per_day(rate: f64) -> String {
    match rate {
        1.0.. => format!("{rate:.1}"),
        0.01.. => format!("{rate:.2}"),
        _ => format!("{rate:.1e}")
            .parse::<f64>()
            .map_or_else(|_| rate.to_string(), |r| r.to_string()),
    }
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

#[cfg(test)]
mod tests {
    use spotter_models::calibration::{Null, Scored};

    use super::*;

    fn cutoff(scores: impl Fn(u16) -> f32, threshold: f32, [share, expected]: [f64; 2]) -> Cutoff {
        let sample: Vec<Scored> =
            (0..1000).map(|n| Scored { score: scores(n), weight: 1.0 }).collect();
        Cutoff {
            threshold,
            null: Some(Arc::new(Null::fit(&sample).unwrap())),
            promise: Some(Promise {
                budget_share: share,
                expected_per_day: expected,
                matched_24h: 0,
                tracks: 1000,
                common: 0.0,
            }),
        }
    }

    #[test]
    fn a_budget_too_small_to_promise_is_no_fault_of_the_text() {
        let spread = |n: u16| f32::from(n) / 2000.0;
        let tight = cutoff(spread, 1.0, [0.001, 0.05]);
        let tiny = over_budget(&tight, false).unwrap();
        assert!(tiny.contains("describe more"));
        assert!(!over_budget(&tight, true).unwrap().contains("describe"), "there are no words");
        assert!(
            tiny.contains("1000 persons") && tiny.contains("as little as 0.001 a day"),
            "{tiny}"
        );
        let same = over_budget(&cutoff(|_| 0.3, 1.0, [2.0, 0.0]), false).unwrap();
        assert!(same.contains("the same on everybody"), "{same}");
        assert_eq!(over_budget(&cutoff(spread, 0.45, [2.0, 2.0]), false), None);
        let fixed = |threshold| Cutoff { threshold, null: None, promise: None };
        let fits = |threshold| over_budget(&fixed(threshold), false).is_none();
        assert!(!fits(1.0) && fits(0.3));
        assert!(
            doubts(&cutoff(spread, 0.45, [0.0, 0.0]), false).is_empty(),
            "watched for nowhere here"
        );
    }
}
