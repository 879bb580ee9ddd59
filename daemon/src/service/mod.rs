//! The daemon as a whole: models, cameras, alerts and link, started, reloaded and stopped together.

mod cameras;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};
use metrics_exporter_prometheus::PrometheusHandle;
use rand::{SeedableRng, rngs::SmallRng};
use sha2::{Digest, Sha256};
use spotter_models::{
    Generation,
    session::{Runtime, SessionOptions},
};

use cameras::Running;

use crate::{
    alert::{Rules, Wall, place::Places, store},
    aside,
    clock::{Clock, Mono, Stop},
    config::{Bundles, Config},
    desk::{Desk, Inbox, Setup as DeskSetup, Status as DeviceStatus, Truth},
    detect::Detector,
    embed::Handover,
    engine::Engine,
    erase::{self, Eraser},
    error::{Error, Result},
    feedback::{self, Collector, Gatherer, Intake, Shelf},
    frame::CameraId,
    gallery::{self, Gallery},
    health::{self, Hearts},
    keep::{self, Keeper},
    mqtt::{
        Link, LinkState, Topics, Trouble,
        broker::{Embedded, Ports, THIS_PROGRAM},
    },
    notify::{Broker, Watching},
    out::Outlet,
    outbox::{Outbox, Settings as OutboxSettings},
    page::{Board, Page, Settings as PageSettings},
    pipeline::{Embedding, Pipeline},
    portraits::Portraits,
    score::{History, Matcher},
    shadow::Shadow,
    sighting::{Ledger, Limits},
    source::{Signal, Status},
    swap::{Opened, Opener, Swapper, Trials},
    track::TrackIds,
};

/// The tracks that are kept, where any are to be.
fn gallery(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Arc<Gallery>>> {
    let kept = &config.gallery;
    let folder = config.storage.folder.join("gallery");
    if !kept.keep {
        if folder.is_dir() {
            tracing::warn!(
                folder = %folder.display(),
                "Nobody is kept (gallery.keep), but persons of before still are, and grow old without being \
                 deleted: take them away with `spotterd erase`, or delete the folder."
            );
        }
        return Ok(None);
    }
    Ok(Some(Arc::new(Gallery::open(gallery::Settings::of(config), clock.clone())?)))
}

fn keeper(
    config: &Config,
    gallery: Option<Arc<Gallery>>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Keeper>> {
    gallery
        .map(|gallery| Keeper::start(gallery, clock.clone(), config.gallery.pictures))
        .transpose()
}

/// How often damaged files that were put aside are looked at.
const ASIDE_EVERY: Duration = Duration::from_secs(3600);
/// What staff say of sightings, and the thread that brings crops there.
fn verdicts(
    config: &Config,
    gallery: Option<Arc<Gallery>>,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Shelf>, Collector)> {
    let folder = config.storage.folder.join(feedback::FOLDER);
    let limits = feedback::Limits::of(&config.feedback);
    let now = Wall::new(clock.wall(), None).at;
    let shelf = Arc::new(Shelf::open(folder, limits, false, now)?);
    let collector = Collector::start(shelf.clone(), gallery, clock.clone())?;
    Ok((shelf, collector))
}

/// How long tracks may be remembered for calibration: as long as they are kept on disk, and a day where
/// none are.
fn remembered(config: &Config) -> Duration {
    let hours = if config.gallery.keep { config.gallery.retention_h.get() } else { 24 };
    Duration::from_secs(u64::from(hours) * 3600)
}

/// By how much the tracks a day may change, as a part of what was told, before they are told again, and how
/// often at most: each time all devices of the site calibrate anew.
const TRAFFIC_MOVED: f64 = 0.1;
const TRAFFIC_TOLD_EVERY: Duration = Duration::from_secs(60);

/// The running daemon.
pub struct Service {
    config: Config,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
    signal: Arc<Signal>,
    ids: Arc<TrackIds>,
    places: Arc<ArcSwap<Places>>,
    topics: Topics,
    outbox: Arc<Outbox>,
    history: Arc<History>,
    gallery: Option<Arc<Gallery>>,
    /// When damaged files are looked at next.
    aside_at: Mono,
    cameras: BTreeMap<CameraId, Running>,
    /// Cameras that are gone and whose retained state is to be taken away.
    gone: BTreeSet<CameraId>,
    pipeline: Pipeline,
    desk: Desk,
    /// Follows the bundle that is to serve.
    swapper: Swapper,
    link: Link,
    /// What the link says of the device.
    status: Arc<ArcSwap<DeviceStatus>>,
    board: Arc<Board>,
    hearts: Arc<Hearts>,
    /// The tracks a day that were told with it, and when.
    per_day_told: Option<(f64, Mono)>,
    /// Only where the configuration gives it a token.
    page: Option<Page>,
    /// Only where the configuration asks for a broker of our own, and when it was last found to hang.
    broker: Option<(Embedded, Mono)>,
}

/// Time for our own broker, which is on this machine, to be connected to again. Longer than two tries
/// that are not answered; then it hangs.
const BROKER_HANGS_AFTER: Duration = Duration::from_secs(25);

impl Service {
    /// Opens everything and begins to watch.
    ///
    /// # Errors
    /// What is wrong with models, disk or configuration. A camera or a broker that is not there is no
    /// error: they are tried for ever.
    pub fn start(
        config: Config,
        (clock, stop, hearts): (Arc<dyn Clock>, Arc<Stop>, &Arc<Hearts>),
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self> {
        let folder = &config.storage.folder;
        std::fs::create_dir_all(folder).map_err(|error| {
            let reason = format!("{error}; choose another folder, or let this user make it");
            Error::config(format!("storage.folder {}", folder.display()), reason)
        })?;
        let topics = config.topics()?;
        let places = Arc::new(ArcSwap::from_pointee(config.places()?));
        let board = Arc::new(Board::new());
        let engine = engine(&config)?;
        let outbox = Arc::new(Outbox::open(
            OutboxSettings {
                max_bytes: config.storage.outbox_bytes,
                ..OutboxSettings::new(folder.join("outbox"))
            },
            clock.clone(),
        )?);
        let history = Arc::new(History::default());
        let gallery = gallery(&config, &clock)?;
        let opener = Opener {
            engine: engine.clone(),
            bundles: config.bundles.clone(),
            root: config.bundle.clone(),
            policy: config.decision.policy,
            detector: config.detector.model.clone(),
            history: history.clone(),
            gallery: gallery.clone(),
        };
        let now = Wall::new(clock.wall(), None).at;
        let (Opened { bundle, vocabulary, embedder, model }, refused) = opener.first(now)?;
        if let Some(gallery) = &gallery {
            keep::remember(gallery, bundle.generation(), &history);
            history.expire(Wall::new(clock.wall(), None), remembered(&config));
        }
        let outlet = Outlet::new(outbox.clone(), topics.clone(), board.clone());
        let outlet = Arc::new(Mutex::new(outlet));
        let keeper = keeper(&config, gallery.clone(), &clock)?;
        let (in_view, erasing) = erase::in_view();
        let running = erase::Running {
            history: history.clone(),
            board: board.clone(),
            outlet: outlet.clone(),
            in_view,
            flusher: keeper.as_ref().map(Keeper::flusher),
        };
        let (shelf, collector) = verdicts(&config, gallery.clone(), &clock)?;
        let (crops, kept) = (collector.flusher(), shelf.clone());
        let eraser = Eraser::new(folder, gallery.clone(), outbox.clone(), clock.clone(), running)
            .with_feedback(shelf.clone(), crops.clone())
            .with_bundles(config.bundle.clone());
        let desk = Desk::open(
            &folder.join("alerts.db"),
            DeskSetup {
                rules: Rules::new(config.policy.clone())?.with_vocabulary(vocabulary.clone()),
                places: places.clone(),
                model,
                gallery: gallery.clone(),
                history: history.clone(),
                eraser,
                intake: Intake {
                    shelf,
                    flusher: Some(crops),
                    gallery: gallery.clone(),
                    board: board.clone(),
                    clock: clock.clone(),
                },
                commands: config.mqtt.commands.clone(),
                bundles: config.bundles.store(&config.bundle)?,
                past: {
                    let opener = opener.clone();
                    Box::new(move |generation| opener.past(generation))
                },
                topics: topics.clone(),
                outbox: outbox.clone(),
                board: board.clone(),
                clock: clock.clone(),
                stop: stop.clone(),
            },
        )?;
        let handover = Arc::new(Handover::new(bundle.generation()));
        let shadow: Arc<ArcSwapOption<Shadow>> = Arc::default();
        let mut detectors = detectors(&config, &engine)?;
        let mut embedding = Embedding {
            embedder,
            handover: handover.clone(),
            unseen: VecDeque::new(),
            matcher: Matcher::new(desk.armed(), places.clone()),
            shadow: shadow.clone(),
            ledger: Ledger::new(Limits::default(), SmallRng::from_os_rng()),
            portraits: Portraits::default(),
            history: history.clone(),
            keeper,
            feedback: Some(Gatherer::new(collector, config.feedback.keep)),
            erasing,
            armed: Box::new(desk.armed_reader()),
            sink: Box::new(move |sightings, view| {
                outlet.lock().unwrap_or_else(PoisonError::into_inner).tell(sightings, view);
            }),
        };
        health::first_run(&mut detectors, &mut embedding.embedder)?;
        let signal = Signal::new();
        let both = (clock.clone(), stop.clone(), hearts.as_ref());
        let pipeline = Pipeline::start(Vec::new(), signal.clone(), detectors, embedding, both)?;
        let broker = match config.mqtt.is_embedded() {
            true => {
                let ports = Ports { v5: config.mqtt.embedded_port, v4: 0 };
                Some(Embedded::start(Path::new(THIS_PROGRAM), ports, &clock)?)
            }
            false => None,
        };
        let status = Arc::new(ArcSwap::from_pointee(device_status(&config, bundle.generation())?));
        let truth = match config.mqtt.is_embedded() {
            true => Truth::Device { topics: topics.clone(), outbox: outbox.clone() },
            false => Truth::Broker,
        };
        let inbox = Box::new(Inbox::new(&desk, status.clone(), truth));
        let settings = config.mqtt.settings(topics.clone())?;
        let link = Link::start(settings, outbox.clone(), clock.clone(), inbox)?;
        let page = start_page(&config, &board, metrics)?;
        let started = clock.now();
        let trials = Trials {
            // Whoever asks for a comparison gets one.
            span: match config.bundles.shadow_s {
                0 => Duration::from_secs(u64::from(Bundles::default().shadow_s)),
                seconds => Duration::from_secs(u64::from(seconds)),
            },
            tries_learnt: config.bundles.shadow_s > 0,
            place: shadow,
            places: places.clone(),
            clock: clock.clone(),
        };
        let swapper = Swapper::new(
            (opener, trials),
            (bundle, vocabulary),
            handover,
            refused,
            kept,
            (now, stop.clone()),
        );
        let mut service = Self {
            per_day_told: None,
            board,
            hearts: hearts.clone(),
            page,
            clock,
            stop,
            signal,
            ids: Arc::default(),
            places,
            topics,
            outbox,
            history,
            gallery,
            aside_at: started,
            cameras: BTreeMap::new(),
            gone: BTreeSet::new(),
            pipeline,
            desk,
            swapper,
            link,
            status,
            broker: broker.map(|broker| (broker, started)),
            config,
        };
        service.use_cameras()?;
        Ok(service)
    }

    /// Once a second: counts the sources and tells staff what changed about a camera.
    pub fn tick(&mut self) {
        self.free_broker();
        let wall = Wall::new(self.clock.wall(), None);
        self.history.expire(wall, remembered(&self.config));
        self.expire_aside(wall);
        self.tell_traffic(wall);
        self.swap(wall);
        let messages = self.news();
        self.show();
        match self.outbox.commit(&messages) {
            Ok(_) => self.gone.clear(),
            Err(error) => {
                tracing::error!(%error, "A camera's state could not be told; tried again.");
                self.cameras.values_mut().for_each(Running::was_not_told);
                self.swapper.was_not_told();
            }
        }
    }

    /// Deletes damaged files of the outbox and of the alerts that are as old as a track may become; the gallery
    /// sees to its own.
    fn expire_aside(&mut self, wall: Wall) {
        let now = self.clock.now();
        if now < self.aside_at || !wall.believed() {
            return;
        }
        self.aside_at = now + ASIDE_EVERY;
        if let Err(error) = self.try_expire_aside(wall) {
            tracing::error!(%error, "Damaged files that are too old are not deleted; tried again.");
        }
    }

    fn try_expire_aside(&self, wall: Wall) -> Result<()> {
        let folder = &self.config.storage.folder;
        let is_held = match &self.gallery {
            Some(gallery) => !gallery.holds().is_empty(),
            None => gallery::is_held(&folder.join("gallery"))?,
        };
        if is_held {
            return Ok(());
        }
        let span =
            SignedDuration::try_from(remembered(&self.config)).unwrap_or(SignedDuration::MAX);
        let oldest = wall.at.saturating_sub(span).unwrap_or(Timestamp::UNIX_EPOCH);
        let oldest = SystemTime::try_from(oldest).unwrap_or(SystemTime::UNIX_EPOCH);
        self.outbox.expire_damaged(oldest)?;
        aside::expire(store::set_aside(&folder.join("alerts.db")), oldest)?;
        Ok(())
    }

    /// Tells the other devices how busy this one is, where that has changed.
    fn tell_traffic(&mut self, wall: Wall) {
        let now = self.clock.now();
        let per_day = self.history.per_day(wall.at, |_| true);
        let is_known = self.per_day_told.is_some_and(|(told, at)| {
            let has_changed = (per_day - told).abs() > TRAFFIC_MOVED * told.max(1.0);
            !has_changed || now.since(at) < TRAFFIC_TOLD_EVERY
        });
        if !is_known {
            self.per_day_told = Some((per_day, now));
            self.link.announce();
        }
    }

    /// Has another bundle serve, where one is to.
    fn swap(&mut self, wall: Wall) {
        let policy = &self.config.policy;
        let rules = |vocabulary| Ok(Rules::new(policy.clone())?.with_vocabulary(vocabulary));
        if let Some(bundle) = self.swapper.tick(&self.desk, rules, wall.at) {
            let status = DeviceStatus::clone(&self.status.load());
            self.status.store(Arc::new(DeviceStatus { bundle, ..status }));
            self.link.announce();
        }
    }

    /// Restarts our own broker where it runs and does not answer.
    fn free_broker(&mut self) {
        let now = self.clock.now();
        if let (Some((broker, last)), LinkState::Down { since, why, .. }) =
            (&mut self.broker, self.link.state())
            && why.trouble == Trouble::Unreachable
            && now.since(since.max(*last)) >= BROKER_HANGS_AFTER
        {
            broker.restart();
            *last = now;
        }
    }

    /// Whether every source is a recording that is over, and all of it was worked on.
    pub fn is_over(&self) -> bool {
        self.cameras.values().all(|running| running.supervisor.is_finished())
            && self.pipeline.is_idle()
    }

    /// Whether any camera gave a frame since the start.
    pub fn saw_anything(&self) -> bool {
        self.cameras.values().any(|running| running.supervisor.counts().decoded > 0)
    }

    /// What systemd's status line says.
    pub fn watching(&self) -> Watching {
        let streams =
            |running: &&Running| matches!(*running.supervisor.status(), Status::Streaming { .. });
        Watching {
            streaming: self.cameras.values().filter(streams).count(),
            cameras: self.cameras.len(),
            alerts: self.desk.armed().alerts().len(),
            broker: match self.link.state() {
                LinkState::Connected { .. } => Broker::Connected,
                _ => Broker::Away,
            },
        }
    }

    /// How many cameras are watched.
    pub fn cameras(&self) -> usize {
        self.cameras.len()
    }

    /// Takes another configuration: cameras, zones and policy at once; what else changed waits for the
    /// next start and is named in the log. Only cameras that changed are touched.
    ///
    /// # Errors
    /// Where a camera cannot be started; what was watched before is watched on as far as it stands.
    pub fn reload(&mut self, config: Config) -> Result<()> {
        for (name, changed) in waiting(&self.config, &config) {
            if changed {
                tracing::warn!(setting = name, "The change takes effect at the next start.");
            }
        }
        // All that can be refused comes first: a faulty file changes nothing.
        let places = config.places()?;
        let rules = Rules::new(config.policy.clone())?.with_vocabulary(self.swapper.vocabulary());
        let config_hash = hash(&config)?;
        self.places.store(Arc::new(places));
        self.config = config;
        self.desk.use_rules(rules);
        let status = DeviceStatus::clone(&self.status.load());
        let cameras = camera_ids(&self.config);
        self.status.store(Arc::new(DeviceStatus { cameras, config_hash, ..status }));
        self.link.announce();
        self.use_cameras()
    }

    /// Ends everything in order: cameras first, then what they gave is worked on and told, then the
    /// link takes leave.
    pub fn end(self) {
        self.stop.ask();
        self.cameras.values().for_each(Running::halt);
        drop(self.cameras);
        self.pipeline.join();
        drop(self.desk);
        self.link.stop();
        drop(self.page);
    }
}

/// Settings that a running daemon cannot change, and whether they did.
fn waiting(old: &Config, new: &Config) -> [(&'static str, bool); 11] {
    let differ =
        |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| format!("{a:?}") != format!("{b:?}");
    [
        ("bundle", old.bundle != new.bundle),
        ("bundles", differ(&old.bundles, &new.bundles)),
        ("site or device", (&old.site, &old.device) != (&new.site, &new.device)),
        ("mqtt", differ(&old.mqtt, &new.mqtt)),
        ("decision", old.decision != new.decision),
        ("storage", differ(&old.storage, &new.storage)),
        ("inference", differ(&old.inference, &new.inference)),
        ("detector.model", old.detector.model != new.detector.model),
        ("detector.workers", old.detector.workers != new.detector.workers),
        ("metrics or page", differ(&(&old.metrics, &old.page), &(&new.metrics, &new.page))),
        ("log", differ(&old.log, &new.log)),
    ]
}

fn engine(config: &Config) -> Result<Engine> {
    Ok(Engine {
        runtime: Runtime::load(config.inference.library.as_deref())?,
        options: SessionOptions {
            provider: config.inference.provider,
            ..SessionOptions::default()
        },
        precision: config.inference.precision,
    })
}

fn detectors(config: &Config, engine: &Engine) -> Result<Vec<Box<dyn Detector>>> {
    (0..config.detector.workers.get()).map(|_| engine.detector(&config.detector.model)).collect()
}

fn start_page(
    config: &Config,
    board: &Arc<Board>,
    metrics: Option<PrometheusHandle>,
) -> Result<Option<Page>> {
    let Some(token_file) = config.page.token_file.clone() else { return Ok(None) };
    let settings = PageSettings { listen: config.page.listen, token_file };
    let page = Page::start(settings, board.clone(), metrics)?;
    tracing::info!(address = %page.address(), "The local page is open.");
    Ok(Some(page))
}

fn device_status(config: &Config, bundle: Generation) -> Result<DeviceStatus> {
    Ok(DeviceStatus {
        cameras: camera_ids(config),
        bundle,
        provider: config.inference.provider,
        config_hash: hash(config)?,
        session: next_session(&config.storage.folder),
    })
}

fn camera_ids(config: &Config) -> Vec<CameraId> {
    config.cameras.iter().map(|camera| camera.get_ref().id.clone()).collect()
}

/// A short hash of the configuration as it takes effect, which holds no secrets.
fn hash(config: &Config) -> Result<String> {
    let hash = Sha256::digest(config.effective()?.as_bytes());
    Ok(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Counts starts in a file of the storage folder; a file that holds no number begins anew. A disk that
/// takes nothing is no reason not to watch: the number is used and comes again at the next start.
fn next_session(folder: &Path) -> u64 {
    let path = folder.join("session");
    let before = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    let session: u64 = before.map_or(1, |before: u64| before.saturating_add(1));
    let part = folder.join("session.part");
    let kept = std::fs::write(&part, format!("{session}\n"))
        .map_err(Error::io(&part))
        .and_then(|()| std::fs::rename(&part, &path).map_err(Error::io(&path)));
    if let Err(error) = kept {
        tracing::warn!(%error, session, "The number of this start could not be kept.");
    }
    session
}

/// How often [`Service::tick`] is due.
pub const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_and_one_that_cannot_be_kept_is_a_start_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!([1, 2, 3].map(|_| next_session(folder.path())), [1, 2, 3]);
        std::fs::write(folder.path().join("session"), "rubbish").unwrap();
        assert_eq!(next_session(folder.path()), 1);
        assert_eq!(next_session(&folder.path().join("nowhere")), 1);
    }
}
