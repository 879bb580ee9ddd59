//! SWAP: another bundle, while the cameras are watched.
//!
//! The store's current generation is what should serve. Where it is another than the one that does, it is opened
//! beside it, by a thread that gives way to the cameras; it must compute what its probe says, and know the texts of
//! alerts and those who passed. Then the desk arms every alert by it, and once all are, the embedder takes its tower
//! between two crops. One that cannot serve is refused with a reason, and the store goes back to the one that does.

mod open;
mod recall;
mod told;

use std::{sync::Arc, thread::JoinHandle};

use jiff::Timestamp;
use spotter_models::{
    Generation,
    bundle::{Bundle, Store},
    vocabulary::Vocabulary,
};

pub use open::{Opened, Opener};
pub use told::Refused;

use crate::{
    alert::{Rules, Wall},
    clock::Stop,
    desk::Desk,
    embed::Handover,
    error::{Error, Result},
    memory, metrics,
    mqtt::Topics,
    outbox::{Class, Message},
};

/// How much the thread that opens a bundle gives way: as far as it can.
const NICE: i32 = 19;

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
    /// A generation that is not tried again while it is current: the store could not be changed.
    given_up: Option<Generation>,
    /// What staff were told last.
    told: Vec<u8>,
}

enum Step {
    Idle,
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
        (now, stop): (Timestamp, Arc<Stop>),
    ) -> Self {
        Self {
            opener,
            handover,
            stop,
            serving,
            vocabulary,
            since: now,
            step: Step::Idle,
            refused,
            given_up: None,
            told: Vec::new(),
        }
    }

    /// The bundle that serves.
    pub fn serving(&self) -> Generation {
        self.serving.generation()
    }

    /// The words of the serving bundle's training captions, where it has them.
    pub fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        self.vocabulary.clone()
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
            Step::Idle => {
                if let Some(generation) = self.wanted() {
                    self.open(generation, desk, now);
                }
            }
            Step::Opening(generation, thread) if thread.is_finished() => {
                let opened = thread.join().unwrap_or_else(|_| {
                    Err(Error::internal("the bundle", "its thread ended by a bug"))
                });
                let opened = opened.and_then(|opened| {
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

    /// The generation that should serve and does not.
    fn wanted(&mut self) -> Option<Generation> {
        let current = Store::new(&self.opener.root).current();
        let wanted = current.unwrap_or_else(|error| {
            tracing::error!(%error, "Which bundle should serve is not known.");
            None
        });
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
            let given_way =
                rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            if let Err(error) = given_way {
                tracing::warn!(%error, "Opening a bundle does not give way to the cameras.");
            }
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
        let serving = self.serving();
        let returned = self.opener.store().and_then(|store| {
            // Not over a promotion that came meanwhile.
            if self.is_current(generation) { Ok(store.return_to(serving)?) } else { Ok(()) }
        });
        if let Err(error) = returned {
            tracing::error!(%error, "The store names a bundle that cannot serve: promote another one.");
            self.given_up = Some(generation);
        }
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
            Step::Opening(generation, _) => Some(*generation),
            Step::Arming(bundle, _) => Some(bundle.generation()),
        };
        let payload =
            told::payload((&self.serving, self.since), opening, self.refused.as_ref(), now);
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

impl Drop for Swapper {
    fn drop(&mut self) {
        let step = std::mem::replace(&mut self.step, Step::Idle);
        if let Step::Opening(_, thread) = step
            && thread.join().is_err()
        {
            tracing::error!("The thread that opens a bundle ended by a bug.");
        }
    }
}
