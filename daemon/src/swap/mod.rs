//! SWAP: another bundle, while the cameras are watched.
//!
//! The store's current generation is what should serve. Where it is another than the one that does, it is opened
//! beside it, by a thread that gives way to the cameras; it must compute what its probe says, and know the texts of
//! alerts and those who passed. Then the desk arms every alert by it, and once all are, the embedder takes its tower
//! between two crops. What the site learnt is taken in from where the trainer leaves it, and a bundle that staff reject
//! too often is taken back. One that cannot serve is refused with a reason, and the store goes back to the one that does.

mod doubt;
mod open;
mod recall;
mod staging;
mod told;

use std::{collections::BTreeSet, sync::Arc, thread::JoinHandle, time::Duration};

use jiff::Timestamp;
use spotter_models::{
    Generation, Kind,
    bundle::{Bundle, Store},
    vocabulary::Vocabulary,
};

pub use open::{Opened, Opener};
use staging::Adaptation;
pub use staging::Staging;
pub use told::Refused;

use crate::{
    alert::{Rules, Wall},
    clock::Stop,
    desk::Desk,
    embed::Handover,
    error::{Error, Result},
    feedback::Shelf,
    memory, metrics,
    mqtt::Topics,
    outbox::{Class, Message},
};

/// How much the thread that opens a bundle gives way: as far as it can.
const NICE: i32 = 19;

/// Of so many looks at the store one looks at what the site learnt and what staff reject.
const LOOKS_BETWEEN: u64 = 5;

/// After so many looks a candidate is tried again that a full disk or a busy store kept out.
const LOOKS_UNTIL_TRIED_AGAIN: u64 = 600;

/// Follows the store.
pub struct Swapper {
    opener: Opener,
    handover: Arc<Handover>,
    stop: Arc<Stop>,
    serving: Arc<Bundle>,
    vocabulary: Option<Arc<Vocabulary>>,
    since: Timestamp,
    step: Step,
    refused: Option<Refused>,
    /// A generation that cannot serve and is current still: the store could not be changed.
    given_up: Option<Generation>,
    /// Whether the store does not say what is current, which was told.
    is_unknown: bool,
    /// The bundle that was to be taken back last.
    taken_back: Option<Generation>,
    /// What the site learns, where it does.
    staging: Option<Staging>,
    /// A candidate that could not be taken in, and the look from which on it is tried again.
    spoilt: Option<(Generation, u64)>,
    /// What staff say of sightings.
    shelf: Arc<Shelf>,
    /// Where it stands.
    adaptation: Option<Adaptation>,
    /// Counts the looks at the store.
    looks: u64,
    /// What staff were told last.
    told: Vec<u8>,
}

enum Step {
    Idle,
    /// A thread folds and installs it.
    TakingIn(Generation, JoinHandle<Result<()>>),
    /// A thread opens it.
    Opening(Generation, JoinHandle<Result<Opened>>),
    /// The desk arms its texts.
    Arming(Arc<Bundle>, Option<Arc<Vocabulary>>),
}

impl Swapper {
    /// Follows from what serves now; `refused` is what was to serve instead.
    pub fn new(
        opener: Opener,
        (serving, vocabulary): (Arc<Bundle>, Option<Arc<Vocabulary>>),
        handover: Arc<Handover>,
        refused: Option<Refused>,
        shelf: Arc<Shelf>,
        (now, stop): (Timestamp, Arc<Stop>),
    ) -> Self {
        Self {
            staging: opener.bundles.staging(),
            spoilt: None,
            shelf,
            adaptation: None,
            looks: 0,
            opener,
            handover,
            stop,
            serving,
            vocabulary,
            since: now,
            step: Step::Idle,
            refused,
            given_up: None,
            is_unknown: false,
            taken_back: None,
            told: Vec::new(),
        }
    }

    /// The bundle that serves.
    pub fn serving(&self) -> Generation {
        self.serving.generation()
    }

    /// The words of the training captions of the bundle that reads alerts, where it has them.
    pub fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        match &self.step {
            // By now the desk reads with it.
            Step::Arming(_, vocabulary) => vocabulary.clone(),
            _ => self.vocabulary.clone(),
        }
    }

    /// Looks what should serve, and goes a step further; the bundle that serves from now on, where it is
    /// another. Called every second or so; `rules` makes the rules of alerts for a bundle's words.
    pub fn tick(
        &mut self,
        desk: &Desk,
        rules: impl Fn(Option<Arc<Vocabulary>>) -> Result<Rules>,
        now: Timestamp,
    ) -> Option<Generation> {
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle => self.look(desk, now),
            Step::TakingIn(candidate, thread) if thread.is_finished() => {
                if let Err(error) = joined(thread) {
                    self.spoil(candidate, &error, now);
                }
            }
            Step::Opening(generation, thread) if thread.is_finished() => {
                let opened = joined(thread).and_then(|opened| {
                    let rules = rules(opened.vocabulary.clone())?;
                    Ok((opened, rules))
                });
                match opened {
                    // Somebody changed their mind meanwhile: what is current now is looked at next.
                    Ok(_) if !self.is_current(generation) => self.forget(generation),
                    Ok((opened, rules)) => {
                        let Opened { bundle, vocabulary, embedder, model } = opened;
                        self.handover.leave(embedder);
                        desk.adopt(model, rules);
                        self.step = Step::Arming(bundle, vocabulary);
                    }
                    Err(error) => self.refuse(generation, &error, now),
                }
            }
            Step::Arming(bundle, vocabulary) if self.handover.serving() == bundle.generation() => {
                return Some(self.switched(bundle, vocabulary, now));
            }
            waiting => self.step = waiting,
        }
        None
    }

    /// Opens what should serve and does not; takes in what the site learnt; takes back what staff reject.
    fn look(&mut self, desk: &Desk, now: Timestamp) {
        self.looks += 1;
        if let Some(generation) = self.wanted() {
            return self.open(generation, desk, now);
        }
        if !self.looks.is_multiple_of(LOOKS_BETWEEN) {
            return;
        }
        if let Some(generation) = self.given_up {
            return self.return_from(generation);
        }
        if let Some(why) = self.doubt(desk, now) {
            return self.take_back(&why, now);
        }
        let store = Store::new(&self.opener.root);
        let candidate = self.staging.as_ref().and_then(|staging| staging.candidate(&store));
        let is_spoilt = |candidate: &Generation| {
            self.spoilt.is_some_and(|(spoilt, until)| spoilt == *candidate && self.looks < until)
        };
        if let Some(candidate) = candidate.filter(|candidate| !is_spoilt(candidate)) {
            self.take_in(candidate, now);
        }
    }

    fn take_in(&mut self, candidate: Generation, now: Timestamp) {
        let Some(staging) = self.staging.clone() else { return };
        tracing::info!(%candidate, "What the site learnt is taken in.");
        let (opener, shelf, serving) = (self.opener.clone(), self.shelf.clone(), self.serving());
        let work = move || {
            give_way();
            staging.take(candidate, (&opener.store()?, serving), (&opener.engine, &shelf))
        };
        match std::thread::Builder::new().name("swap".into()).spawn(work) {
            Ok(thread) => self.step = Step::TakingIn(candidate, thread),
            Err(error) => {
                self.spoil(candidate, &Error::internal("thread of a bundle", error), now);
            }
        }
    }

    /// A candidate cannot be taken in: not tried again, or later, where it is not to blame.
    fn spoil(&mut self, candidate: Generation, why: &Error, now: Timestamp) {
        let may_pass = matches!(why.kind(), Kind::Unavailable | Kind::Exhausted);
        let until = if may_pass { self.looks + LOOKS_UNTIL_TRIED_AGAIN } else { u64::MAX };
        self.spoilt = Some((candidate, until));
        tracing::error!(%candidate, error = %why, "What the site learnt is not taken in.");
        metrics::refused();
        self.refused = Some(Refused::new(candidate, why, now));
    }

    /// Why the serving bundle brings more false alarms than it may, where it is one of the site's.
    fn doubt(&self, desk: &Desk, now: Timestamp) -> Option<String> {
        self.serving.manifest().parent?;
        if self.taken_back == Some(self.serving()) {
            return None;
        }
        let armed = desk.armed();
        // What is not watched for any more has no budget, so that what was rejected of it does not count.
        let promises = armed.alerts().iter().map(|alert| alert.cutoff.promise);
        let names: BTreeSet<&str> = armed.alerts().iter().map(|alert| alert.id.as_str()).collect();
        let counts = |alert: &str| names.contains(alert);
        let rejected = self.shelf.rejected(self.serving(), self.since, counts);
        let span = Duration::try_from(now.duration_since(self.since)).ok()?;
        let per_day = promises.map(|promise| Some(promise?.budget_share)).sum::<Option<f64>>()?;
        doubt::why(rejected, span, per_day)
    }

    /// Has the bundle that was current before be current again.
    fn take_back(&mut self, why: &str, now: Timestamp) {
        let serving = self.serving();
        // Once: where the one before cannot serve either, this one goes on.
        self.taken_back = Some(serving);
        match self.opener.store().and_then(|store| Ok(store.rollback()?)) {
            Ok(previous) => {
                tracing::error!(%serving, %previous, why, "The bundle is taken back.");
                let (bundle, reason) = (serving, why.to_owned());
                self.refused = Some(Refused { bundle, reason, at: now });
                metrics::refused();
            }
            Err(error) => tracing::warn!(why, %error, "The bundle cannot be taken back."),
        }
    }

    /// The generation that should serve and does not.
    fn wanted(&mut self) -> Option<Generation> {
        let current = Store::new(&self.opener.root).current();
        let wanted = match current {
            Ok(wanted) => {
                self.is_unknown = false;
                wanted
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_unknown, true) {
                    tracing::error!(%error, "Which bundle should serve is not known.");
                }
                None
            }
        };
        if wanted != self.given_up {
            self.given_up = None;
        }
        wanted.filter(|wanted| *wanted != self.serving() && self.given_up != Some(*wanted))
    }

    fn is_current(&self, generation: Generation) -> bool {
        matches!(Store::new(&self.opener.root).current(), Ok(Some(current)) if current == generation)
    }

    fn open(&mut self, generation: Generation, desk: &Desk, now: Timestamp) {
        tracing::info!(%generation, "Another bundle is opened beside the one that serves.");
        let (opener, texts, stop) = (self.opener.clone(), desk.texts(), self.stop.clone());
        let serving = self.serving();
        let work = move || {
            give_way();
            opener.beside(generation, (&texts, serving, &stop))
        };
        match std::thread::Builder::new().name("swap".into()).spawn(work) {
            Ok(thread) => self.step = Step::Opening(generation, thread),
            Err(error) => {
                self.refuse(generation, &Error::internal("thread of a bundle", error), now)
            }
        }
    }

    fn switched(
        &mut self,
        bundle: Arc<Bundle>,
        vocabulary: Option<Arc<Vocabulary>>,
        now: Timestamp,
    ) -> Generation {
        let (old, generation) = (self.serving(), bundle.generation());
        self.serving = bundle;
        self.vocabulary = vocabulary;
        self.since = now;
        self.opener.history.forget(|passed| {
            passed.looks.first().is_some_and(|look| look.embedding.generation() != generation)
        });
        memory::give_back();
        metrics::switched();
        tracing::info!(%old, %generation, "Another bundle serves.");
        generation
    }

    /// Says why a generation does not serve, and has the store go back to the one that does.
    fn refuse(&mut self, generation: Generation, why: &Error, now: Timestamp) {
        tracing::error!(%generation, error = %why, "The new bundle is refused; the old one serves on.");
        metrics::refused();
        self.forget(generation);
        self.refused = Some(Refused::new(generation, why, now));
        self.return_from(generation);
    }

    /// Has the store go back to what serves, unless somebody made yet another one current.
    fn return_from(&mut self, generation: Generation) {
        let serving = self.serving();
        let returned =
            self.opener.store().and_then(|store| Ok(store.return_from(generation, serving)?));
        self.given_up = returned.err().map(|error| {
            tracing::error!(%error, "The store names a bundle that cannot serve; tried again.");
            generation
        });
    }

    /// Forgets what a generation that does not serve was shown.
    fn forget(&self, generation: Generation) {
        self.opener.history.forget(|passed| {
            passed.looks.first().is_some_and(|look| look.embedding.generation() == generation)
        });
        memory::give_back();
    }

    /// What staff do not know yet of the model; everything where the broker `forgot`.
    pub fn news(&mut self, topics: &Topics, forgot: bool, now: Wall) -> Option<Message> {
        let opening = match &self.step {
            Step::Idle => None,
            Step::TakingIn(generation, _) => Some(*generation),
            Step::Opening(generation, _) => Some(*generation),
            Step::Arming(bundle, _) => Some(bundle.generation()),
        };
        if self.looks.is_multiple_of(LOOKS_BETWEEN) || forgot || self.told.is_empty() {
            self.adaptation = self.staging.as_ref().and_then(Staging::adaptation);
        }
        let payload = told::payload(
            (&self.serving, self.since),
            (opening, self.refused.as_ref()),
            (self.shelf.said(self.serving()), self.adaptation.as_ref()),
            now,
        );
        if payload == self.told && !forgot {
            return None;
        }
        self.told.clone_from(&payload);
        let mut message = Message::new(Class::State, topics.model(), payload);
        message.retain = true;
        Some(message)
    }

    /// Staff may not know what they were told.
    pub fn was_not_told(&mut self) {
        self.told.clear();
    }
}

/// Has this thread get what the cameras leave.
fn give_way() {
    let given_way = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    if let Err(error) = given_way {
        tracing::warn!(%error, "Opening a bundle does not give way to the cameras.");
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    let bug = |_| Err(Error::internal("the bundle", "its thread ended by a bug"));
    thread.join().unwrap_or_else(bug)
}

impl Drop for Swapper {
    fn drop(&mut self) {
        let unfinished = match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Opening(_, thread) => joined(thread).map(drop),
            Step::TakingIn(_, thread) => joined(thread),
            Step::Idle | Step::Arming(..) => Ok(()),
        };
        if let Err(error) = unfinished {
            tracing::warn!(%error, "A bundle that was being opened would not have served.");
        }
    }
}
