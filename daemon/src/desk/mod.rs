//! The alert desk: takes what staff publish, keeps it, arms it, and tells them so.
//!
//! Two threads meet here. The link's thread hands messages over through [`Inbox`] and waits only for
//! the disk. The desk's own thread reads texts with the text tower, tells staff each alert's state
//! through the outbox and hands the armed set to whoever matches. Nothing here looks at pictures.

mod inbox;
mod status;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;

pub use inbox::{Inbox, Truth};
pub use status::{CameraState, Status};

use crate::{
    alert::{
        AlertId, Rules, Store, View, Wall,
        book::{Changes, Status as AlertStatus},
        place::Places,
        ready::{self, Ready, TextReader},
        state::{self, AlertState, Arming},
    },
    clock::{Clock, Stop},
    error::{Error, Result},
    mqtt::Topics,
    outbox::{Class, Message, Outbox},
    page::{AlertShown, Board},
    score::{Armed, ArmedAlert, Policy},
    source::Signal,
};

/// Alerts that are read at a time: between two such batches messages come in.
const BATCH: usize = 16;
/// How often time passes for alerts: expiry is told within this.
const TICK: Duration = Duration::from_secs(1);

/// What the desk is made of.
pub struct Setup {
    /// What the site allows.
    pub rules: Rules,
    /// The cameras and their zones.
    pub places: Arc<ArcSwap<Places>>,
    /// What score a text must reach.
    pub policy: Box<dyn Policy>,
    /// Reads texts.
    pub reader: Box<dyn TextReader + Send>,
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

/// The desk. Dropping it waits for its thread, which ends once somebody asked to stop.
pub struct Desk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    store: Mutex<Store>,
    /// What changed and was not worked on yet.
    changes: Mutex<Changes>,
    signal: Arc<Signal>,
    armed: ArcSwap<Armed>,
    clock: Arc<dyn Clock>,
}

impl Shared {
    fn now(&self) -> Wall {
        Wall::new(self.clock.wall(), None)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves changes for the desk's thread.
    fn leave(&self, changes: Changes) {
        if changes.views.is_empty() && changes.forgotten.is_empty() {
            return;
        }
        let mut waiting = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.views.extend(changes.views);
        waiting.forgotten.extend(changes.forgotten);
        drop(waiting);
        self.signal.raise();
    }

    fn take(&self) -> Changes {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
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
        let changes = Changes { views: known.all().to_vec(), forgotten: Vec::new() };
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            changes: Mutex::new(changes),
            signal: Signal::new(),
            armed: ArcSwap::default(),
            clock: setup.clock,
        });
        let clerk = Clerk {
            shared: shared.clone(),
            places: setup.places,
            policy: setup.policy,
            reader: setup.reader,
            topics: setup.topics,
            outbox: setup.outbox,
            board: setup.board,
            stop: setup.stop,
            ready: BTreeMap::new(),
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
        let known = self.shared.store().book().readers().load_full();
        self.shared.leave(Changes { views: known.all().to_vec(), forgotten: Vec::new() });
    }

    /// For who only reads the armed set.
    pub fn armed_reader(&self) -> impl Fn() -> Arc<Armed> + Send + use<> {
        let shared = self.shared.clone();
        move || shared.armed.load_full()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.signal.raise();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The thread of the alerts ended by a bug.");
        }
    }
}

/// Lives in the desk's thread.
struct Clerk {
    shared: Arc<Shared>,
    places: Arc<ArcSwap<Places>>,
    policy: Box<dyn Policy>,
    reader: Box<dyn TextReader + Send>,
    topics: Topics,
    outbox: Arc<Outbox>,
    board: Arc<Board>,
    stop: Arc<Stop>,
    /// Alerts whose texts are read.
    ready: BTreeMap<AlertId, Ready>,
}

impl Clerk {
    fn work(mut self) {
        while !self.stop.asked() {
            let seen = self.shared.signal.seen();
            let now = self.shared.now();
            let passed = self.shared.store().tick(now);
            self.shared.leave(passed);
            let changes = self.shared.take();
            if changes.views.is_empty() && changes.forgotten.is_empty() {
                self.shared.signal.wait(seen, TICK);
                continue;
            }
            self.apply(changes);
        }
    }

    /// Works on changes in small batches; the armed set grows with each.
    fn apply(&mut self, mut changes: Changes) {
        let first = changes.views.len().min(BATCH);
        let later = changes.views.split_off(first);
        let views = changes.views;
        let told = self.arm(&views).and_then(|also| {
            self.publish_armed()?;
            let states = self.states(&views, &changes.forgotten);
            self.outbox.commit(&states)?;
            self.show();
            Ok(also)
        });
        match told {
            Ok(also) => self.shared.leave(also),
            Err(error) => {
                tracing::error!(%error, "Alerts could not be armed; tried again.");
                self.shared.leave(Changes { views, forgotten: changes.forgotten });
                self.stop.wait(TICK);
            }
        }
        self.shared.leave(Changes { views: later, forgotten: Vec::new() });
    }

    /// Reads the texts of armed alerts; forgets the others. What it changes comes back.
    fn arm(&mut self, views: &[Arc<View>]) -> Result<Changes> {
        let now = self.shared.now();
        for view in views {
            self.ready.remove(&view.id);
        }
        let batch = ready::ready(&mut self.shared.store(), self.reader.as_mut(), views, now)?;
        for ready in batch.ready {
            self.ready.insert(ready.view.id.clone(), ready);
        }
        Ok(batch.changes)
    }

    fn publish_armed(&self) -> Result<()> {
        let armed = self.ready.values().map(|ready| ArmedAlert {
            id: ready.view.id.clone(),
            revision: ready.view.revision,
            spec: ready.view.spec.clone(),
            text: ready.text.embedding.clone(),
            without: ready.without.iter().map(|text| text.embedding.clone()).collect(),
            threshold: self.policy.threshold(&ready.text.embedding),
        });
        self.shared.armed.store(Arc::new(Armed::new(armed.collect())?));
        Ok(())
    }

    /// Shows every alert that is known on the local page.
    fn show(&self) {
        let known = self.shared.store().book().readers().load_full();
        let shown = known.all().iter().map(|view| {
            let (state, why) = state::name(&view.status);
            let ready = self.ready.get(&view.id);
            let read = ready.map(|ready| ready.text.understood.clone());
            let written = view.spec.as_ref().map(|spec| spec.text.clone());
            let lost = ready.and_then(|ready| ready.text.lost.as_deref()).map(state::lost);
            AlertShown {
                id: view.id.to_string(),
                text: read.or(written).unwrap_or_default(),
                state,
                reason: why.map(|why| why.reason),
                warnings: view.warnings.iter().cloned().chain(lost).collect(),
                expires_at: view.expires_at,
            }
        });
        self.board.alerts(shown.collect());
    }

    fn states(&self, views: &[Arc<View>], forgotten: &[AlertId]) -> Vec<Message> {
        let now = self.shared.now();
        let mut messages = Vec::new();
        for view in views {
            let arming = self.ready.get(&view.id).map(|ready| Arming {
                understood: ready.text.understood.clone(),
                lost: ready.text.lost.clone(),
                threshold: Some(self.policy.threshold(&ready.text.embedding)),
                budget_share: None,
                expected_per_day: None,
                matched_24h: None,
                bundle: ready.text.embedding.generation(),
                warnings: Vec::new(),
            });
            if view.status == AlertStatus::Armed && arming.is_none() {
                continue;
            }
            let state = AlertState::new(view, arming.as_ref(), &self.places.load(), now);
            messages.extend(state.and_then(|state| self.state(&view.id, state.to_json())));
        }
        messages.extend(forgotten.iter().filter_map(|id| self.state(id, Vec::new())));
        messages
    }

    /// A retained state; an empty one takes it away.
    fn state(&self, id: &AlertId, payload: Vec<u8>) -> Option<Message> {
        let topic = self.topics.alert_state(id.as_str())?;
        let mut message = Message::new(Class::State, topic, payload);
        message.retain = true;
        Some(message)
    }
}
