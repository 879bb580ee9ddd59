//! SWAP: another bundle, while the cameras are watched.
//!
//! The store's current generation is what should serve. Where it is another than the one that does, it is opened
//! beside it, by a thread that gives way to the cameras; it must compute what its probe says, and know the texts of
//! alerts and those who passed. Then the desk arms every alert by it, and once all are, the embedder takes its tower
//! between two crops. What the site learnt is taken in from where the trainer leaves it, looks along for a while as the
//! store's candidate and is promoted where nothing speaks against it; a bundle that staff reject too often is taken back. One that cannot serve is refused with a reason, and the store goes back to the one that does.

mod doubt;
mod open;
mod recall;
mod staging;
mod told;
mod trial;

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
pub use trial::Trials;
use trial::{Compared, End, Trial};

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
    shadow::Comparison,
};

/// How much the thread that opens a bundle gives way: as far as it can.
const NICE: i32 = 19;

/// Of so many looks at the store one looks at what the site learnt and what staff reject.
const LOOKS_BETWEEN: u64 = 5;

/// Of so many looks at a trial one is told.
const LOOKS_UNTIL_TOLD: u64 = 10;

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
    /// How candidates are tried.
    trials: Trials,
    /// A candidate that may not serve and is the store's still.
    turned_down: Option<Generation>,
    /// What came of the last one that was tried.
    compared: Option<Compared>,
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
    /// A thread opens it, to serve or to be tried.
    Opening(Generation, Purpose, JoinHandle<Result<Opened>>),
    /// It looks along.
    Trying(Box<Trial>),
    /// The desk arms its texts.
    Arming(Arc<Bundle>, Option<Arc<Vocabulary>>),
}

/// What a bundle is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Serve,
    Try,
}

impl Swapper {
    /// Follows from what serves now; `refused` is what was to serve instead.
    pub fn new(
        (opener, trials): (Opener, Trials),
        (serving, vocabulary): (Arc<Bundle>, Option<Arc<Vocabulary>>),
        handover: Arc<Handover>,
        refused: Option<Refused>,
        shelf: Arc<Shelf>,
        (now, stop): (Timestamp, Arc<Stop>),
    ) -> Self {
        Self {
            staging: opener.bundles.staging(),
            trials,
            turned_down: None,
            compared: None,
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
            Step::Opening(generation, Purpose::Serve, thread) if thread.is_finished() => {
                match joined(thread) {
                    // Somebody changed their mind meanwhile: what is current now is looked at next.
                    Ok(_) if !self.is_current(generation) => self.forget(generation),
                    Ok(opened) => self.adopt(opened, desk, rules, now),
                    Err(error) => self.refuse(generation, &error, now),
                }
            }
            Step::Opening(generation, Purpose::Try, thread) if thread.is_finished() => {
                match joined(thread) {
                    Ok(_) if self.candidate() != Some(generation) => self.forget(generation),
                    Ok(opened) => self.try_out(opened, desk, now),
                    Err(error) => self.turn_down(generation, error.to_string(), now),
                }
            }
            Step::Trying(trial) if trial.has_ended() => self.judge(*trial, desk, rules, now),
            Step::Trying(trial) => self.watch(trial, desk, now),
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
            return self.open(generation, Purpose::Serve, desk, now);
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
        if let Some(generation) = self.turned_down {
            return self.withdraw(generation);
        }
        if let Some(candidate) = self.candidate() {
            return self.open(candidate, Purpose::Try, desk, now);
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
        let is_tried = self.trials.tries_learnt;
        let work = move || {
            give_way();
            let store = opener.store()?;
            let generation = staging.take(candidate, &store, (&opener.engine, &shelf))?;
            if is_tried {
                Ok(store.nominate(generation)?)
            } else if store.current()? == Some(serving) {
                Ok(store.promote(generation)?)
            } else {
                tracing::warn!(%generation, "Another bundle was promoted meanwhile: what was learnt from the one before is not.");
                Ok(store.withdraw(generation)?)
            }
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

    fn open(&mut self, generation: Generation, purpose: Purpose, desk: &Desk, now: Timestamp) {
        tracing::info!(%generation, "Another bundle is opened beside the one that serves.");
        let (opener, texts, stop) = (self.opener.clone(), desk.texts(), self.stop.clone());
        let serving = self.serving();
        let work = move || {
            give_way();
            opener.beside(generation, (&texts, serving, &stop))
        };
        match std::thread::Builder::new().name("swap".into()).spawn(work) {
            Ok(thread) => self.step = Step::Opening(generation, purpose, thread),
            Err(error) => {
                let error = Error::internal("thread of a bundle", error);
                match purpose {
                    Purpose::Serve => self.refuse(generation, &error, now),
                    Purpose::Try => self.turn_down(generation, error.to_string(), now),
                }
            }
        }
    }

    /// Has the desk arm every alert by it, after which it serves.
    fn adopt(
        &mut self,
        opened: Opened,
        desk: &Desk,
        rules: impl Fn(Option<Arc<Vocabulary>>) -> Result<Rules>,
        now: Timestamp,
    ) {
        let Opened { bundle, vocabulary, embedder, model } = opened;
        match rules(vocabulary.clone()) {
            Ok(rules) => {
                self.handover.leave(embedder);
                desk.adopt(model, rules);
                self.step = Step::Arming(bundle, vocabulary);
            }
            Err(error) => self.refuse(bundle.generation(), &error, now),
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
        // What serves is refused no more.
        self.refused.take_if(|refused| refused.bundle == generation);
        self.opener.history.forget(|passed| {
            passed.looks.first().is_some_and(|look| look.embedding.generation() != generation)
        });
        memory::give_back();
        metrics::switched();
        tracing::info!(%old, %generation, "Another bundle serves.");
        generation
    }

    /// The generation that is to be tried, where there is one.
    fn candidate(&self) -> Option<Generation> {
        let candidate = Store::new(&self.opener.root).candidate();
        candidate.ok().flatten().filter(|candidate| *candidate != self.serving())
    }

    fn try_out(&mut self, opened: Opened, desk: &Desk, now: Timestamp) {
        let generation = opened.bundle.generation();
        match self.trials.begin(opened, (desk, &self.opener, &self.stop), now) {
            Ok(trial) => {
                tracing::info!(%generation, "The candidate looks along.");
                self.compared = Some(Compared::new(&trial, &Comparison::default(), "running"));
                self.step = Step::Trying(Box::new(trial));
            }
            Err(error) => self.turn_down(generation, error.to_string(), now),
        }
    }

    /// Looks whether a trial is over. The bundle that serves meanwhile is taken back as at any other time.
    fn watch(&mut self, mut trial: Box<Trial>, desk: &Desk, now: Timestamp) {
        self.looks += 1;
        if trial.end.is_none() {
            if self.looks.is_multiple_of(LOOKS_BETWEEN)
                && let Some(why) = self.doubt(desk, now)
            {
                self.take_back(&why, now);
            }
            if self.wanted().is_some() || self.candidate() != Some(trial.generation()) {
                self.trials.end(&mut trial, End::CalledOff);
            } else if self.trials.is_over(&trial) {
                self.trials.end(&mut trial, End::Over);
            } else if self.looks.is_multiple_of(LOOKS_UNTIL_TOLD) {
                let comparison = trial.shadow.comparison();
                self.compared = Some(Compared::new(&trial, &comparison, "running"));
            }
        }
        self.step = Step::Trying(trial);
    }

    /// A trial has ended: the candidate serves, or does not.
    fn judge(
        &mut self,
        mut trial: Trial,
        desk: &Desk,
        rules: impl Fn(Option<Arc<Vocabulary>>) -> Result<Rules>,
        now: Timestamp,
    ) {
        if trial.end.is_none() {
            // By its own error or with the daemon: nobody must go on giving it views.
            self.trials.end(&mut trial, End::Over);
        }
        let generation = trial.generation();
        let comparison = trial.shadow.comparison();
        let told = |outcome| Some(Compared::new(&trial, &comparison, outcome));
        let (promoted, refused, called_off) =
            (told("promoted"), told("refused"), told("called-off"));
        let is_wanted = self.wanted().is_none() && self.candidate() == Some(generation);
        if trial.end == Some(End::CalledOff) || !is_wanted || self.stop.asked() {
            tracing::warn!(%generation, "The candidate is not tried any more: somebody chose otherwise.");
            self.compared = called_off;
            if let Err(error) = trial.join() {
                tracing::warn!(%error, "It could not have served.");
            }
            return self.forget(generation);
        }
        let allowed = allowed(desk, self.trials.took(&trial));
        let said = comparison.said(|sighting| self.shelf.judged(&sighting.to_string()));
        let against = comparison.against(said, allowed);
        self.compared = refused;
        let opened = match (trial.join(), against) {
            (Err(error), _) => return self.turn_down(generation, error.to_string(), now),
            (Ok(_), Some(why)) => return self.turn_down(generation, why, now),
            (Ok(opened), None) => opened,
        };
        let counts = comparison.found;
        tracing::info!(%generation, persons = comparison.persons, ?counts, "Nothing speaks against the candidate.");
        match self.opener.store().and_then(|store| Ok(store.promote(generation)?)) {
            Ok(()) => {
                self.compared = promoted;
                self.adopt(opened, desk, rules, now);
            }
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Exhausted) => {
                tracing::error!(%generation, %error, "The candidate cannot be promoted now; it is tried again.");
                metrics::refused();
                self.compared = called_off;
                self.refused = Some(Refused::new(generation, &error, now));
                self.forget(generation);
            }
            Err(error) => self.turn_down(generation, error.to_string(), now),
        }
    }

    /// A candidate may not serve.
    fn turn_down(&mut self, generation: Generation, reason: String, now: Timestamp) {
        tracing::error!(%generation, reason, "The candidate is refused.");
        metrics::refused();
        self.forget(generation);
        self.refused = Some(Refused { bundle: generation, reason, at: now });
        self.withdraw(generation);
    }

    /// Takes its candidacy away.
    fn withdraw(&mut self, generation: Generation) {
        let withdrawn = self.opener.store().and_then(|store| Ok(store.withdraw(generation)?));
        self.turned_down = withdrawn.err().map(|error| {
            if self.turned_down.is_none() {
                tracing::error!(%error, "The store names a candidate that may not serve; tried again.");
            }
            generation
        });
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
            Step::Opening(generation, ..) => Some(*generation),
            // Told by itself.
            Step::Trying(_) => None,
            Step::Arming(bundle, _) => Some(bundle.generation()),
        };
        if self.looks.is_multiple_of(LOOKS_BETWEEN) || forgot || self.told.is_empty() {
            self.adaptation = self.staging.as_ref().and_then(Staging::adaptation);
        }
        let payload = told::payload(
            (&self.serving, self.since),
            (opening, self.refused.as_ref(), self.compared.as_ref()),
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

/// How many false alarms the budgets of all alerts allow in this time; none where one has none.
fn allowed(desk: &Desk, span: Duration) -> f64 {
    let armed = desk.armed();
    let promises = armed.alerts().iter().map(|alert| alert.cutoff.promise);
    let per_day = promises.map(|promise| Some(promise?.budget_share)).sum::<Option<f64>>();
    per_day.unwrap_or(0.0) * span.as_secs_f64() / 86_400.0
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
            Step::Opening(_, _, thread) => joined(thread).map(drop),
            Step::Trying(mut trial) => {
                self.trials.end(&mut trial, End::CalledOff);
                trial.join().map(drop)
            }
            Step::TakingIn(_, thread) => joined(thread),
            Step::Idle | Step::Arming(..) => Ok(()),
        };
        if let Err(error) = unfinished {
            tracing::warn!(%error, "A bundle that was being opened would not have served.");
        }
    }
}
