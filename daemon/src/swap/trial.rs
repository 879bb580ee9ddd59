//! A candidate that looks along until it may serve, or may not.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use serde::Serialize;
use spotter_models::{Generation, bundle::Bundle, vocabulary::Vocabulary};

use super::{Opened, Opener, give_way};
use crate::{
    alert::{AlertId, place::Places, rfc3339},
    clock::{Clock, Mono, Stop},
    desk::{Desk, Model},
    embed::Embedder,
    error::{Error, Result},
    shadow::{Candidate, Comparison, Counts, Shadow},
};

/// Persons who are enough to compare two bundles by.
const ENOUGH: u64 = 100;

/// Where fewer pass, a candidate looks along so many times as long, and is judged by those who did.
const MOST_SPANS: u32 = 8;

/// Most alerts that are told one by one: those that differ most.
const MAX_ALERTS: usize = 16;

/// How candidates are tried.
pub struct Trials {
    /// How long a candidate looks along at least.
    pub span: Duration,
    /// Whether what the site learnt looks along too, or is promoted at once.
    pub tries_learnt: bool,
    /// Where the embedder's thread finds it.
    pub place: Arc<ArcSwapOption<Shadow>>,
    /// The cameras and their zones.
    pub places: Arc<ArcSwap<Places>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// One that is tried.
pub(super) struct Trial {
    pub(super) bundle: Arc<Bundle>,
    pub(super) vocabulary: Option<Arc<Vocabulary>>,
    pub(super) shadow: Arc<Shadow>,
    thread: JoinHandle<Result<(Embedder, Model)>>,
    began: Mono,
    /// Why it was ended, once it was.
    pub(super) end: Option<End>,
}

/// Why a trial ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It took long enough.
    Over,
    /// Somebody changed their mind.
    CalledOff,
}

impl Trials {
    /// Has a bundle look along from now on.
    pub(super) fn begin(
        &self,
        opened: Opened,
        (desk, opener, stop): (&Desk, &Opener, &Arc<Stop>),
        now: Timestamp,
    ) -> Result<Trial> {
        let Opened { bundle, vocabulary, embedder, model } = opened;
        let shadow = Arc::new(Shadow::new(bundle.generation(), now));
        let candidate = Candidate {
            embedder,
            model,
            beside: desk.beside(),
            places: self.places.clone(),
            history: opener.history.clone(),
            clock: self.clock.clone(),
            stop: stop.clone(),
        };
        let shared = shadow.clone();
        let work = move || {
            give_way();
            shared.run(candidate)
        };
        let thread = std::thread::Builder::new()
            .name("shadow".into())
            .spawn(work)
            .map_err(|error| Error::internal("thread of a candidate", error))?;
        self.place.store(Some(shadow.clone()));
        Ok(Trial { bundle, vocabulary, shadow, thread, began: self.clock.now(), end: None })
    }

    /// Whether it took long enough.
    pub(super) fn is_over(&self, trial: &Trial) -> bool {
        let took = self.clock.now().since(trial.began);
        let is_enough = trial.shadow.comparison().persons >= ENOUGH;
        took >= self.span && (is_enough || took >= self.span.saturating_mul(MOST_SPANS))
    }

    /// How long it took.
    pub(super) fn took(&self, trial: &Trial) -> Duration {
        self.clock.now().since(trial.began)
    }

    /// Nobody looks along any more; the thread ends soon.
    pub(super) fn end(&self, trial: &mut Trial, end: End) {
        self.place.store(None);
        trial.end = Some(end);
        trial.shadow.end();
    }
}

impl Trial {
    pub(super) fn generation(&self) -> Generation {
        self.bundle.generation()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What it looked, read and judged with; waits for its thread.
    pub(super) fn join(self) -> Result<Opened> {
        let Self { bundle, vocabulary, thread, .. } = self;
        let (embedder, model) = super::joined(thread)?;
        Ok(Opened { bundle, vocabulary, embedder, model })
    }
}

/// What staff are told of the last one that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Compared {
    bundle: String,
    /// `running`, `promoted`, `refused` or `called-off`.
    pub(super) outcome: &'static str,
    since: String,
    persons: u64,
    incomplete: u64,
    #[serde(flatten)]
    found: Found,
    alerts: Vec<OfAlert>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Found {
    both: u64,
    only_serving: u64,
    only_candidate: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct OfAlert {
    alert: AlertId,
    #[serde(flatten)]
    found: Found,
}

impl From<Counts> for Found {
    fn from(counts: Counts) -> Self {
        let Counts { both, only_serving, only_candidate } = counts;
        Self { both, only_serving, only_candidate }
    }
}

impl Compared {
    pub(super) fn new(trial: &Trial, comparison: &Comparison, outcome: &'static str) -> Self {
        let mut alerts: Vec<(&AlertId, &Counts)> = comparison.alerts.iter().collect();
        let differs = |counts: &Counts| counts.only_serving + counts.only_candidate;
        alerts.sort_by_key(|(_, counts)| std::cmp::Reverse(differs(counts)));
        let told = alerts.into_iter().take(MAX_ALERTS);
        Self {
            bundle: trial.generation().to_string(),
            outcome,
            since: rfc3339(trial.shadow.since()),
            persons: comparison.persons,
            incomplete: comparison.incomplete,
            found: comparison.found.into(),
            alerts: told
                .map(|(alert, counts)| OfAlert { alert: alert.clone(), found: (*counts).into() })
                .collect(),
        }
    }
}
