//! The alert desk: takes what staff publish, keeps it, arms it, and tells them so.
//!
//! Two threads meet here. The link's thread hands messages over through [`Inbox`] and waits only for
//! the disk. The desk's own thread reads texts with the text tower, tells staff each alert's state
//! through the outbox and hands the armed set to whoever matches. Nothing here looks at pictures.

mod beside;
mod calibrate;
mod commands;
mod drift;
mod explain;
mod feedback;
mod inbox;
mod model;
mod neighbours;
mod past;
mod requests;
mod seeds;
mod status;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use spotter_models::{Embedding, bundle};

pub use beside::Beside;
use calibrate::doubts;
use drift::Drifts;
pub use inbox::{Inbox, Truth};
use model::Held;
pub use model::{Model, Texts};
pub use past::{OpenPast, Past};
use requests::Request;
pub use status::{CameraState, Status};
use work::{Part, Work};

use crate::{
    alert::{
        AlertId, Refusal, Rules, Snapshot, Store, View, Wall,
        book::{Changes, Status as AlertStatus},
        lint,
        place::Places,
        ready::{self, Ready},
        state::{self, AlertState, Arming},
    },
    clock::{Clock, Mono, Stop},
    config::CommandName,
    erase::Eraser,
    error::{Error, Result},
    feedback::Intake,
    gallery::Gallery,
    mqtt::Topics,
    outbox::{Class, Message, Outbox},
    page::{AlertShown, Board},
    score::{Armed, ArmedAlert, Cutoff, History, Study},
    source::Signal,
};

/// Alerts that are worked on at a time, with one wait for the disk.
const BATCH: usize = 1024;
/// How long texts are read before those that were are armed and told: a big tower needs a tenth of a
/// second for each.
const READING: Duration = Duration::from_secs(1);
/// Questions of staff that may wait.
const MAX_REQUESTS: usize = 64;
/// How often time passes for alerts: expiry is told within this.
const TICK: Duration = Duration::from_secs(1);

/// What the desk is made of.
pub struct Setup {
    /// What the site allows.
    pub rules: Rules,
    /// The cameras and their zones.
    pub places: Arc<ArcSwap<Places>>,
    /// What texts are read and judged by.
    pub model: Model,
    /// Opens bundles that serve no more, for searches.
    pub past: OpenPast,
    /// The bundles that there are, where there is a store of them.
    pub bundles: bundle::Store,
    /// Who passed, where anybody is kept.
    pub gallery: Option<Arc<Gallery>>,
    /// Who passed lately, and how busy the other devices are.
    pub history: Arc<History>,
    /// Erases persons.
    pub eraser: Eraser,
    /// Keeps what staff say of sightings.
    pub intake: Intake,
    /// Commands that are taken from the broker.
    pub commands: Vec<CommandName>,
    /// Names of this device.
    pub topics: Topics,
    /// Where states go.
    pub outbox: Arc<Outbox>,
    /// What the local page shows.
    pub board: Arc<Board>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ends the desk.
    pub stop: Arc<Stop>,
}

/// The desk. Dropping it ends its thread and waits for it.
pub struct Desk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    store: Mutex<Store>,
    /// What changed and was not worked on yet.
    work: Mutex<Work>,
    /// What staff ask, oldest first.
    requests: Mutex<VecDeque<Request>>,
    /// Whether the broker may have lost what it was told.
    broker_forgot: AtomicBool,
    /// Whether the desk is closed, also where nobody asked the daemon to stop: a start that failed.
    is_closed: AtomicBool,
    signal: Arc<Signal>,
    /// The cameras and their zones.
    places: Arc<ArcSwap<Places>>,
    armed: ArcSwap<Armed>,
    /// What is to be read and judged by from now on.
    incoming: Mutex<Option<Model>>,
    clock: Arc<dyn Clock>,
    history: Arc<History>,
    intake: Intake,
    outbox: Arc<Outbox>,
    device: String,
}

impl Shared {
    fn now(&self) -> Wall {
        Wall::new(self.clock.wall(), None)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store().book().readers().load_full()
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves changes for the desk's thread.
    fn leave(&self, changes: Changes) {
        if changes != Changes::default() {
            self.work().change(changes);
            self.signal.raise();
        }
    }

    /// Leaves messages that were not taken up, to be told.
    fn refuse(&self, refused: BTreeMap<AlertId, Refusal>) {
        if !refused.is_empty() {
            self.work().refuse(refused);
            self.signal.raise();
        }
    }

    /// Leaves a question for the desk's thread. Beyond some that wait, new ones are turned away: who asks
    /// hears nothing and asks again.
    fn ask(&self, request: Request) {
        let mut waiting = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_REQUESTS {
            metrics::counter!("spotter_requests_dropped_total").increment(1);
            tracing::warn!("A question of staff was turned away: too many wait.");
            return;
        }
        waiting.push_back(request);
        drop(waiting);
        self.signal.raise();
    }

    fn next_request(&self) -> Option<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn tell_all_again(&self) {
        let known = self.snapshot();
        self.work().again(known.all().iter().map(|view| view.id.clone()));
        self.broker_forgot.store(true, Ordering::Release);
        self.signal.raise();
    }
}

impl Desk {
    /// Opens the alerts on disk and begins to arm them: without a broker, what was armed is armed.
    ///
    /// # Errors
    /// Where the file cannot be opened or there is no thread.
    pub fn open(file: &Path, setup: Setup) -> Result<Self> {
        let now = Wall::new(setup.clock.wall(), None);
        let store = Store::open(file, setup.rules, now)?;
        let known = store.book().readers().load_full();
        let mut work = Work::default();
        work.again(known.all().iter().map(|view| view.id.clone()));
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            work: Mutex::new(work),
            requests: Mutex::default(),
            broker_forgot: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            signal: Signal::new(),
            places: setup.places,
            armed: ArcSwap::default(),
            incoming: Mutex::default(),
            clock: setup.clock,
            history: setup.history,
            intake: setup.intake,
            outbox: setup.outbox.clone(),
            device: setup.topics.device().to_owned(),
        });
        let eraser = setup.eraser.with_alerts(Box::new(seeds::Kept {
            shared: shared.clone(),
            file: file.to_path_buf(),
        }));
        let clerk = Clerk {
            shared: shared.clone(),
            model: setup.model,
            bundles: setup.bundles,
            past: setup.past,
            held: None,
            gallery: setup.gallery,
            eraser,
            commands: setup.commands,
            expected: BTreeSet::new(),
            looked_for_at: Mono::default(),
            topics: setup.topics,
            outbox: setup.outbox,
            board: setup.board,
            stop: setup.stop,
            ready: BTreeMap::new(),
            stale: BTreeSet::new(),
            moved: BTreeSet::new(),
            unexplained: BTreeSet::new(),
            phrases: BTreeMap::new(),
            explained_at: None,
            drifts: Drifts::default(),
            share: 1.0,
        };
        let thread = std::thread::Builder::new()
            .name("alerts".into())
            .spawn(move || clerk.work())
            .map_err(|error| Error::internal("thread of the alerts", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The texts that are watched for now. A new set is another `Arc`.
    pub fn armed(&self) -> Arc<Armed> {
        self.shared.armed.load_full()
    }

    /// Other rules hold: every alert is decided anew, and told anew, since warnings about places may
    /// have changed too.
    pub fn use_rules(&self, rules: Rules) {
        let changes = self.shared.store().use_rules(rules, self.shared.now());
        self.shared.leave(changes);
        let known = self.shared.snapshot();
        self.shared.work().again(known.all().iter().map(|view| view.id.clone()));
        self.shared.signal.raise();
    }

    /// For who only reads the armed set.
    pub fn armed_reader(&self) -> impl Fn() -> Arc<Armed> + Send + use<> {
        let shared = self.shared.clone();
        move || shared.armed.load_full()
    }

    /// Whether the broker lost our session since this was asked last: what else was told to be
    /// retained has to be told again.
    pub fn take_broker_forgot(&self) -> bool {
        self.shared.broker_forgot.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.signal.raise();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The thread of the alerts ended by a bug.");
        }
    }
}

/// Lives in the desk's thread.
struct Clerk {
    shared: Arc<Shared>,
    model: Model,
    bundles: bundle::Store,
    past: OpenPast,
    /// While another bundle is taken over.
    held: Option<Held>,
    gallery: Option<Arc<Gallery>>,
    eraser: Eraser,
    commands: Vec<CommandName>,
    /// Alerts whose person may still be in view, and when these were looked for last.
    expected: BTreeSet<AlertId>,
    looked_for_at: Mono,
    topics: Topics,
    outbox: Arc<Outbox>,
    board: Arc<Board>,
    stop: Arc<Stop>,
    /// Alerts whose texts are read.
    ready: BTreeMap<AlertId, Watched>,
    /// Those that are to be studied anew.
    stale: BTreeSet<AlertId>,
    /// Those whose threshold is another than was told.
    moved: BTreeSet<AlertId>,
    /// Armed alerts whose phrases are not read yet.
    unexplained: BTreeSet<AlertId>,
    /// The phrases of armed alerts that have any.
    phrases: BTreeMap<AlertId, Arc<[(String, Embedding)]>>,
    /// When phrases were handed over last, where more are to come.
    explained_at: Option<Mono>,
    /// How far cameras left what thresholds rest on.
    drifts: Drifts,
    /// This device's share of the site's budgets when texts were calibrated last.
    share: f64,
}

/// An alert that is looked for.
struct Watched {
    ready: Ready,
    study: Study,
    /// What its score must reach.
    cutoff: Cutoff,
    /// What staff were told of that.
    told: Cutoff,
}

/// What became of alerts that were to be armed.
struct Armings {
    /// How many were worked on, from the first one.
    done: usize,
    /// What that changes in the book.
    also: Changes,
    /// Those that the tower failed over, and why the first one.
    failed: Vec<AlertId>,
    failure: Option<String>,
}

impl Clerk {
    fn work(mut self) {
        while !self.stop.asked() && !self.shared.is_closed.load(Ordering::Acquire) {
            let seen = self.shared.signal.seen();
            self.adopt();
            let now = self.shared.now();
            let passed = self.shared.store().tick(now);
            self.shared.leave(passed);
            self.look_again(now);
            let part = self.shared.work().take(BATCH);
            if let Some(request) = self.shared.next_request() {
                self.answer(&request);
            }
            if !part.is_empty() {
                self.apply(part);
            } else if self.follow(now) {
                self.calibrate(now);
            } else if !self.moved.is_empty() {
                self.tell_moved();
            } else if !self.explain() {
                // Armed first, explained later: only when nothing else was to do.
                self.shared.signal.wait(seen, TICK);
            }
        }
    }

    /// Works on a part of what there is to do; the armed set grows with each.
    fn apply(&mut self, part: Part) {
        let known = self.shared.snapshot();
        let views: Vec<Arc<View>> =
            part.changed.iter().filter_map(|id| known.get(id)).cloned().collect();
        let forgotten: Vec<AlertId> =
            part.changed.iter().filter(|id| known.get(id).is_none()).cloned().collect();
        let told = self.arm(&views, &forgotten).and_then(|arming| {
            self.publish_armed()?;
            let (now, later) = views.split_at(arming.done);
            let mut states = self.states(now, &forgotten);
            states.extend(self.refusals(&part.refused));
            self.outbox.commit(&states)?;
            now.iter().for_each(|view| self.was_told(&view.id));
            self.show();
            Ok((later, arming))
        });
        let failure = match told {
            Ok((later, arming)) => {
                self.shared.leave(arming.also);
                let mut work = self.shared.work();
                work.again(later.iter().map(|view| view.id.clone()));
                work.again(arming.failed);
                arming.failure
            }
            Err(error) => {
                self.shared.work().give_back(part);
                Some(error.to_string())
            }
        };
        if let Some(error) = failure {
            tracing::error!(%error, "Alerts could not be armed; tried again.");
            self.stop.wait(TICK);
        }
    }

    /// Reads the texts of armed alerts, as many as [`READING`] allows; forgets the others.
    fn arm(&mut self, views: &[Arc<View>], forgotten: &[AlertId]) -> Result<Armings> {
        for id in forgotten {
            self.forget(id);
        }
        self.worked_on(forgotten);
        let until = self.shared.clock.now() + READING;
        let (some, persons) = self.persons(views, until);
        let views = views.get(..some).unwrap_or_default();
        let known = ready::known(&self.shared.store(), self.model.reader.generation(), views)?;
        let enough = || self.shared.clock.now() >= until;
        let mut reading = ready::read(self.model.reader.as_mut(), views, (known, persons), enough);
        let (done, failure) = (reading.done, reading.failure.take());
        for view in views.iter().take(done) {
            self.forget(&view.id);
        }
        self.worked_on(views.iter().take(done).map(|view| &view.id));
        let mut batch = ready::keep(&mut self.shared.store(), reading, self.shared.now());
        let fresh: Vec<AlertId> = batch.ready.iter().map(|ready| ready.view.id.clone()).collect();
        for ready in batch.ready {
            let study = self.study(&ready, self.shared.now())?;
            self.unexplained.insert(ready.view.id.clone());
            let (cutoff, told) = (Cutoff::never(), Cutoff::never());
            let id = ready.view.id.clone();
            self.ready.insert(id, Watched { ready, study, cutoff, told });
        }
        self.cut(self.shared.now());
        for (view, why) in self.over_budget(&fresh) {
            let also = self.shared.store().cannot_arm(&view, why, self.shared.now());
            batch.changes.views.extend(also.views);
            batch.changes.forgotten.extend(also.forgotten);
            self.forget(&view.id);
        }
        Ok(Armings { done, also: batch.changes, failed: batch.failed, failure })
    }

    fn forget(&mut self, id: &AlertId) {
        self.ready.remove(id);
        self.moved.remove(id);
        self.unexplained.remove(id);
        self.phrases.remove(id);
    }

    fn publish_armed(&mut self) -> Result<()> {
        if let Some(held) = self.until_all_are_armed()? {
            if held.alerts().len() < self.shared.armed.load().alerts().len() {
                self.shared.armed.store(Arc::new(held));
            }
            return Ok(());
        }
        let armed = self.ready.values().map(|Watched { ready, cutoff, .. }| ArmedAlert {
            id: ready.view.id.clone(),
            revision: ready.view.revision,
            spec: ready.view.spec.clone(),
            understood: ready.text.understood.clone(),
            text: ready.text.embedding.clone(),
            without: ready.without.iter().map(|text| text.embedding.clone()).collect(),
            phrases: self.phrases.get(&ready.view.id).cloned().unwrap_or_default(),
            cutoff: cutoff.clone(),
        });
        let armed = Armed::of(self.model.reader.generation(), armed.collect())?;
        self.shared.armed.store(Arc::new(armed));
        Ok(())
    }

    /// The armed alerts by their text as it was understood.
    fn twins(&self) -> HashMap<&str, Vec<&Ready>> {
        let mut twins: HashMap<&str, Vec<&Ready>> = HashMap::new();
        for Watched { ready, .. } in self.ready.values() {
            twins.entry(ready.text.understood.as_str()).or_default().push(ready);
        }
        twins
    }

    /// Shows every alert that is known on the local page.
    fn show(&self) {
        let (known, places, twins) =
            (self.shared.snapshot(), self.shared.places.load(), self.twins());
        let shown = known.all().iter().map(|view| {
            let (state, why) = state::name(&view.status);
            let ready = self.ready.get(&view.id);
            let read = ready.map(|watched| watched.ready.text.understood.clone());
            let written = view.spec.as_ref().map(|spec| spec.wanted());
            let mut warnings = view.warnings.clone();
            if let (Some(Watched { ready, cutoff, .. }), Some(spec)) = (ready, &view.spec) {
                warnings.extend(places.warnings(spec));
                warnings.extend(ready.text.lost.as_deref().map(|words| lint::lost(words).message));
                warnings.extend(doubts(cutoff, ready.own.is_some()));
                warnings.extend(duplicate(ready, &twins));
            }
            AlertShown {
                id: view.id.to_string(),
                text: read.or(written).unwrap_or_default(),
                state,
                reason: why.map(|why| why.reason),
                warnings,
                expires_at: view.expires_at,
            }
        });
        self.board.alerts(shown.collect());
    }

    fn states(&self, views: &[Arc<View>], forgotten: &[AlertId]) -> Vec<Message> {
        let (now, twins) = (self.shared.now(), self.twins());
        let mut messages = Vec::new();
        for view in views {
            let arming = self.ready.get(&view.id).map(|Watched { ready, cutoff, .. }| Arming {
                understood: ready.text.understood.clone(),
                lost: ready.text.lost.clone(),
                threshold: Some(cutoff.threshold),
                budget_share: cutoff.promise.map(|promise| promise.budget_share),
                expected_per_day: cutoff.promise.map(|promise| promise.expected_per_day),
                matched_24h: cutoff.promise.map(|promise| promise.matched_24h),
                bundle: ready.text.embedding.generation(),
                warnings: doubts(cutoff, ready.own.is_some())
                    .into_iter()
                    .chain(duplicate(ready, &twins))
                    .collect(),
            });
            if view.status == AlertStatus::Armed && arming.is_none() {
                continue;
            }
            let state = AlertState::new(view, arming.as_ref(), &self.shared.places.load(), now);
            messages.extend(state.and_then(|state| self.state(&view.id, state.to_json())));
        }
        messages.extend(forgotten.iter().filter_map(|id| self.state(id, Vec::new())));
        messages
    }

    /// What is told of messages that were not taken up.
    fn refusals(&self, refused: &BTreeMap<AlertId, Refusal>) -> Vec<Message> {
        let now = self.shared.now();
        let state = |(id, why)| self.state(id, AlertState::refused(id, why, now).to_json());
        refused.iter().filter_map(state).collect()
    }

    /// A retained state; an empty one takes it away.
    fn state(&self, id: &AlertId, payload: Vec<u8>) -> Option<Message> {
        let topic = self.topics.alert_state(id.as_str())?;
        let mut message = Message::new(Class::State, topic, payload);
        message.retain = true;
        Some(message)
    }
}

/// What staff should know of an alert whose text another armed one has, with the same exclusions.
fn duplicate(ready: &Ready, twins: &HashMap<&str, Vec<&Ready>>) -> Option<String> {
    let without = |ready: &Ready| -> Vec<String> {
        ready.without.iter().map(|text| text.understood.clone()).collect()
    };
    let same = twins.get(ready.text.understood.as_str())?;
    let is_other =
        |other: &&&Ready| other.view.id != ready.view.id && without(other) == without(ready);
    let other = same.iter().find(is_other)?;
    Some(lint::duplicate(other.view.id.as_str()).message)
}
