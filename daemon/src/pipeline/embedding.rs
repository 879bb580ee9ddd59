//! The embedder's thread: views to scores, scores to sightings, and who leaves to the history.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use rand::rngs::SmallRng;

use super::Sink;
use crate::{
    alert::AlertId,
    embed::{Embedder, Handover, Queue},
    erase::{Job, Jobs, Trace},
    error::{Error, Result},
    feedback::Gatherer,
    frame::CameraId,
    keep::{Keeper, Past},
    metrics::{self, Stage, Stopwatch},
    portraits::Portraits,
    score::{Armed, ArmedAlert, History, Matcher, Passed, Seen},
    shadow::Shadow,
    sighting::{Ledger, Moment, Scored, Sighting},
    track::TrackId,
    watch::View,
};

/// What the embedder's thread owns.
pub struct Embedding {
    /// The vision tower.
    pub embedder: Embedder,
    /// Where another bundle's tower comes from.
    pub handover: Arc<Handover>,
    /// Tracks in view that the tower has not seen since it took over.
    pub unseen: VecDeque<(CameraId, TrackId)>,
    /// The texts and what is known of each track.
    pub matcher: Matcher,
    /// A candidate that looks along, where there is one.
    pub shadow: Arc<ArcSwapOption<Shadow>>,
    /// Decides what is told.
    pub ledger: Ledger<SmallRng>,
    /// The best view of everybody in view.
    pub portraits: Portraits,
    /// Who passed, for calibration.
    pub history: Arc<History>,
    /// Keeps who passed; `None` where nobody is to be kept.
    pub keeper: Option<Keeper>,
    /// Collects crops for verdicts of staff; `None` where there is no disk for them.
    pub feedback: Option<Gatherer>,
    /// Who is to be erased.
    pub erasing: Jobs,
    /// The texts that are watched for now.
    pub armed: Box<dyn Fn() -> Arc<Armed> + Send>,
    /// Where sightings go.
    pub sink: Sink,
}

impl Embedding {
    pub(super) fn look(
        &mut self,
        seen: &Seen,
        view: View,
        now: Moment,
        stopwatch: &mut Stopwatch,
    ) -> Result<()> {
        stopwatch.time(Stage::Prepare, || self.embedder.prepare(view.crop.view()))?;
        let embedding = stopwatch.time(Stage::Embed, || self.embedder.run())?;
        metrics::left(Stage::Embed, &seen.camera, 1);
        let sightings: Vec<Sighting> = stopwatch.time(Stage::Score, || {
            let scored = self.matcher.look(seen, &view, &embedding, now.wall)?;
            if let Some(shadow) = self.shadow.load().as_ref() {
                let is_first = self.matcher.looks(&seen.camera, view.track) == 1;
                shadow.see((seen, &view), is_first, (self.matcher.armed(), &scored));
            }
            Ok::<_, Error>(scored.into_iter().flat_map(|s| self.ledger.see(s, now)).collect())
        })?;
        metrics::left(Stage::Score, &seen.camera, sightings.len() as u64);
        if let Some(feedback) = &mut self.feedback {
            feedback.see(&seen.camera, &view);
        }
        self.tell(&sightings, Some(&view));
        self.portraits.keep(&seen.camera, view);
        Ok(())
    }

    /// Forgets those in view who are to be erased, as far as they were seen until now. What was told of them
    /// ends.
    pub(super) fn erase(&mut self, queue: &Queue, now: Moment) {
        while let Some(Job { meaning, dry_run, done }) = self.erasing.next() {
            let trace = |camera: &CameraId, track: TrackId, (first, last)| Trace {
                camera: camera.clone(),
                track: Some(track.0),
                first: now.wall_at(first),
                last: now.wall_at(last),
                sighting: None,
            };
            let is_meant =
                |camera: &CameraId, track, times| meaning.means(&trace(camera, track, times));
            let mut meant = self.matcher.meant(is_meant);
            let mut count = meant.len();
            if !dry_run {
                count += queue.forget(|seen, view| {
                    is_meant(&seen.camera, view.track, (seen.decoded_at, seen.decoded_at))
                });
                if let Some(shadow) = self.shadow.load().as_ref() {
                    shadow.erase();
                }
                for (camera, track) in meant.drain(..) {
                    self.matcher.forget(&camera, track);
                    drop(self.portraits.end(&camera, track));
                    self.forget_crops(&camera, track);
                    let over = self.ledger.cut(&camera, track.0, now);
                    self.tell(&over, None);
                }
            }
            if done.send(count).is_err() {
                tracing::warn!(count, "Persons in view were erased, and who asked has given up.");
            }
        }
    }

    pub(super) fn end_camera(&mut self, camera: &CameraId, now: Moment) {
        let sightings = self.ledger.end_camera(camera, now);
        for passed in self.matcher.end_camera(camera, now.wall) {
            self.remember(passed, &sightings);
        }
        self.portraits.end_camera(camera);
        if let Some(shadow) = self.shadow.load().as_ref() {
            shadow.end_camera(camera);
        }
        self.tell(&sightings, None);
        if let Some(feedback) = &mut self.feedback {
            feedback.end_camera(camera);
        }
    }

    pub(super) fn end(&mut self, camera: &CameraId, track: TrackId, now: Moment) {
        let sightings = self.ledger.end(camera, track.0, now);
        if let Some(shadow) = self.shadow.load().as_ref() {
            shadow.end_track(camera, track, &sightings);
        }
        match self.matcher.end(camera, track, now.wall) {
            Some(passed) => self.remember(passed, &sightings),
            None => drop(self.portraits.end(camera, track)),
        }
        self.tell(&sightings, None);
        self.forget_crops(camera, track);
    }

    fn forget_crops(&mut self, camera: &CameraId, track: TrackId) {
        if let Some(feedback) = &mut self.feedback {
            feedback.end(camera, track);
        }
    }

    /// A track is over: from now on texts are judged by it too, and it can be searched for.
    /// `sightings` are those that ended with it, or with others.
    fn remember(&mut self, passed: Passed, sightings: &[Sighting]) {
        let portrait = self.portraits.end(&passed.camera, passed.track).map(|view| view.crop);
        let own = sightings.iter().filter(|sighting| sighting.track == passed.track.0);
        let sightings = own.map(|sighting| sighting.id).collect();
        self.history.add(passed.clone());
        if let Some(keeper) = &self.keeper {
            let portrait = portrait.filter(|_| keeper.wants_pictures());
            keeper.keep(Past { passed, portrait, sightings });
        }
    }

    /// Takes another armed set, if there is one: what is not watched for any more ends, and who is in
    /// view is compared with what is new.
    pub(super) fn rearm(&mut self, now: Moment) {
        let armed = (self.armed)();
        if Arc::ptr_eq(&armed, self.matcher.armed()) {
            return;
        }
        let generation = armed.generation().filter(|other| *other != self.embedder.generation());
        let tower = generation.and_then(|generation| self.handover.take(generation));
        if generation.is_some() && tower.is_none() {
            // Another bundle's texts without its tower: looked for again with the next crop.
            return;
        }
        // Not each against each: of ten thousand alerts one changes.
        let after: BTreeMap<&AlertId, &ArmedAlert> =
            armed.alerts().iter().map(|alert| (&alert.id, alert)).collect();
        // A text without a revision may change under the same name.
        let stays = |old: &&ArmedAlert| {
            after.get(&old.id).is_some_and(|new| match &tower {
                // Another bundle reads the same words otherwise.
                Some(_) => {
                    (new.revision, &new.understood, &new.spec)
                        == (old.revision, &old.understood, &old.spec)
                }
                None => {
                    (new.revision, &new.text, &new.without)
                        == (old.revision, &old.text, &old.without)
                }
            })
        };
        let before = self.matcher.armed().clone();
        let gone = before.alerts().iter().filter(|old| !stays(old));
        let gone: Vec<AlertId> = gone.map(|old| old.id.clone()).collect();
        let over: Vec<Sighting> =
            gone.iter().flat_map(|id| self.ledger.end_alert(id, now)).collect();
        self.tell(&over, None);
        if let Some(tower) = tower {
            tracing::info!(generation = %tower.generation(), "The bundle is another from this crop on.");
            self.embedder = tower;
            self.unseen = self.matcher.switch(armed).into();
            return;
        }
        match self.matcher.rearm(armed, now.wall) {
            Ok(scored) => scored.into_iter().for_each(|scored| self.see_again(scored, now)),
            Err(error) => tracing::error!(%error, "Persons in view were not compared anew."),
        }
    }

    /// Looks at the best view of somebody who was in view when the bundle was changed.
    pub(super) fn look_back(&mut self, now: Moment) {
        let Some((camera, track)) = self.unseen.pop_front() else { return };
        if !self.matcher.is_unseen(&camera, track) {
            return;
        }
        let Some(view) = self.portraits.of(&camera, track) else { return };
        let quality = view.quality.total();
        let scored = self.embedder.embed(view.crop.view()).and_then(|embedding| {
            self.matcher.look_back((&camera, track), (&embedding, quality), now.wall)
        });
        match scored {
            Ok(scored) => scored.into_iter().for_each(|scored| self.see_again(scored, now)),
            Err(error) => tracing::warn!(%camera, %error, "Somebody in view was not seen anew."),
        }
    }

    /// Tells of somebody who is in view already, with the best view there was.
    fn see_again(&mut self, scored: Scored, now: Moment) {
        let (camera, track) = (scored.camera.clone(), TrackId(scored.track));
        let sightings: Vec<Sighting> = self.ledger.see(scored, now).into_iter().collect();
        if !sightings.is_empty() {
            (self.sink)(&sightings, self.portraits.of(&camera, track));
            self.gather(&sightings);
        }
    }

    pub(super) fn tell(&mut self, sightings: &[Sighting], view: Option<&View>) {
        if !sightings.is_empty() {
            (self.sink)(sightings, view);
            self.gather(sightings);
        }
    }

    /// Has the best crops of told tracks wait for a verdict.
    fn gather(&mut self, sightings: &[Sighting]) {
        if let Some(feedback) = &mut self.feedback {
            feedback.told(sightings, self.matcher.armed());
        }
    }
}
