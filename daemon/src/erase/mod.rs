//! ERASE: persons out of everything that this device keeps of them.
//!
//! The gallery's vectors and portraits; the tracks that texts are calibrated on; who is in view, as far as
//! seen; messages and pictures that wait for the broker; verdicts of staff and crops that wait for one; what the
//! page shows. When [`Eraser::erase`]
//! returns, no file below the state folder has a byte of the vectors or pictures. What the broker has taken
//! already is in other hands. A hold of the gallery wins everywhere, and is named.
//!
//! The same code serves the running daemon and, on the files alone, a command while none runs.

mod bundles;
mod live;
mod meaning;
mod messages;
mod report;
mod seeds;
mod wish;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

pub use bundles::Trained;
pub use live::{InView, Job, Jobs, in_view};
pub use meaning::{Meaning, Trace};
pub use report::{Held, Report};
pub use seeds::Seeds;
pub(crate) use wish::check_schema;
pub use wish::{Fields, Whom, Wish};

use crate::{
    alert::{AlertId, Wall},
    clock::Clock,
    config,
    error::Result,
    feedback::{self, Shelf},
    gallery::{Gallery, Selection, Settings, Survey},
    keep::Flusher,
    out::Outlet,
    outbox::{Class, Kept, Outbox, RowId, Settings as OutboxSettings},
    page::Board,
    score::{History, Passed},
};

/// Everything that has something of persons.
pub struct Eraser {
    /// The state folder's gallery, whether anything is kept at present or not.
    settings: Settings,
    gallery: Option<Arc<Gallery>>,
    outbox: Arc<Outbox>,
    /// What alerts keep of whom they are like.
    alerts: Option<Box<dyn Seeds>>,
    clock: Arc<dyn Clock>,
    running: Option<Running>,
    /// What staff said of sightings, and crops on their way there.
    shelf: Option<Arc<Shelf>>,
    crops: Option<feedback::Flusher>,
    /// The store of bundles, by which it is known what was trained on whom.
    bundles: Option<PathBuf>,
}

/// What only a running daemon has.
pub struct Running {
    /// The tracks that texts are calibrated on.
    pub history: Arc<History>,
    /// What the page shows.
    pub board: Arc<Board>,
    /// What the disk did not take yet.
    pub outlet: Arc<Mutex<Outlet>>,
    /// Who is in view.
    pub in_view: InView,
    /// Tracks on their way to the gallery, where any are kept.
    pub flusher: Option<Flusher>,
}

impl Eraser {
    /// Of a daemon with its state in `folder`. `gallery` is what it has open, if anything.
    pub fn new(
        folder: &Path,
        gallery: Option<Arc<Gallery>>,
        outbox: Arc<Outbox>,
        clock: Arc<dyn Clock>,
        running: Running,
    ) -> Self {
        let settings = match &gallery {
            Some(gallery) => gallery.settings().clone(),
            None => Settings::new(folder.join("gallery")),
        };
        let running = Some(running);
        let (alerts, shelf, crops, bundles) = (None, None, None, None);
        Self { settings, gallery, outbox, alerts, clock, running, shelf, crops, bundles }
    }

    /// With what alerts keep of persons.
    #[must_use]
    pub fn with_alerts(self, alerts: Box<dyn Seeds>) -> Self {
        Self { alerts: Some(alerts), ..self }
    }

    /// With what staff said of sightings, which a daemon has open.
    #[must_use]
    pub fn with_feedback(mut self, shelf: Arc<Shelf>, crops: feedback::Flusher) -> Self {
        (self.shelf, self.crops) = (Some(shelf), Some(crops));
        self
    }

    /// With a store of bundles, of which those are named that were trained on whoever is erased.
    #[must_use]
    pub fn with_bundles(mut self, store: PathBuf) -> Self {
        self.bundles = Some(store);
        self
    }

    /// Of a state folder that no daemon has open; only to look, not even what a crash left half done in the
    /// gallery is finished.
    ///
    /// # Errors
    /// [`crate::Error::Config`] where a daemon has it open; [`crate::Error::Io`] where files cannot be read.
    pub fn open(folder: &Path, only_look: bool, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_as(folder, Settings::new(folder.join("gallery")), only_look, clock)
    }

    /// The same with the gallery's limits.
    ///
    /// # Errors
    /// As [`Eraser::open`].
    pub fn open_as(
        folder: &Path,
        settings: Settings,
        only_look: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let outbox = Outbox::open(OutboxSettings::new(folder.join("outbox")), clock.clone())?;
        let now = Wall::new(clock.wall(), None);
        let alerts: Box<dyn Seeds> =
            Box::new(seeds::OfFile { path: folder.join("alerts.db"), now });
        let (outbox, alerts) = (Arc::new(outbox), Some(alerts));
        let (gallery, running, shelf, crops, bundles) = (None, None, None, None, None);
        let mut eraser =
            Self { settings, gallery, outbox, alerts, clock, running, shelf, crops, bundles };
        eraser.gallery = eraser.open_gallery(only_look)?;
        let limits = feedback::Limits::of(&config::Feedback::default());
        let folder = folder.join(feedback::FOLDER);
        eraser.shelf = Some(Arc::new(Shelf::open(folder, limits, only_look, eraser.now())?));
        Ok(eraser)
    }

    /// The gallery: the one that is open, or what a time when tracks were kept has left.
    fn gallery(&self, only_look: bool) -> Result<Option<Arc<Gallery>>> {
        match &self.gallery {
            Some(gallery) => Ok(Some(gallery.clone())),
            None => self.open_gallery(only_look),
        }
    }

    fn open_gallery(&self, only_read: bool) -> Result<Option<Arc<Gallery>>> {
        if !self.settings.folder.is_dir() {
            return Ok(None);
        }
        let settings = Settings { only_read, ..self.settings.clone() };
        Ok(Some(Arc::new(Gallery::open(settings, self.clock.clone())?)))
    }

    /// Erases who is meant, or says what would go.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or those in view cannot be reached. What is erased by then
    /// stays erased; the same wish may be said again.
    pub fn erase(&self, wish: &Wish) -> Result<Report> {
        let gallery = self.gallery(wish.dry_run)?;
        self.flush()?;
        let told = self.told()?;
        let meaning = Arc::new(Meaning::of(&wish.selection, gallery.as_deref(), &told)?);
        let in_view = match &self.running {
            Some(running) => running.in_view.erase(&meaning, wish.dry_run)?,
            None => 0,
        };
        // Tracks that ended before are in the gallery now, and in the outbox what is told of those in view.
        self.flush()?;
        let survey = gallery.as_ref().map(|gallery| gallery.survey(&wish.selection));
        let survey = survey.transpose()?.unwrap_or_else(Survey::default);
        let mut report = Report { in_view, ..Report::of(survey, wish.dry_run) };
        report.keeps_told(&meaning, &told);
        self.of_memory(&meaning, &mut report);
        self.of_outbox(wish, &meaning, &mut report)?;
        self.of_alerts(wish, &meaning, &mut report)?;
        self.of_feedback(wish, &meaning, &mut report)?;
        if let Some(gallery) = gallery.filter(|_| !wish.dry_run) {
            let erased = gallery.erase(&wish.selection, false)?;
            (report.tracks, report.track_pictures) = (erased.records, erased.pictures);
            self.again_of_history(&meaning, &mut report);
        }
        if !wish.dry_run {
            tracing::warn!(
                tracks = report.tracks,
                pictures = report.track_pictures,
                in_view,
                messages = report.messages,
                waiting_pictures = report.waiting_pictures,
                verdicts = report.verdicts,
                crops = report.waiting_crops,
                held = report.held.iter().map(|held| held.tracks).sum::<usize>(),
                "Persons were erased on request."
            );
            for held in &report.held {
                let (hold, reason, tracks) = (held.hold, &held.reason, held.tracks);
                tracing::warn!(hold, reason, tracks, "Persons were not erased: they are held.");
            }
        }
        Ok(report)
    }

    /// The gallery with everybody in it who has left the picture; `None` where there is none.
    ///
    /// # Errors
    /// As [`Eraser::open`].
    pub(crate) fn kept(&self, only_look: bool) -> Result<Option<Arc<Gallery>>> {
        let gallery = self.gallery(only_look)?;
        self.flush()?;
        Ok(gallery)
    }

    /// What time it is.
    pub(crate) fn wall(&self) -> Wall {
        Wall::new(self.clock.wall(), None)
    }

    fn now(&self) -> Timestamp {
        self.wall().at
    }

    fn flush(&self) -> Result<()> {
        self.crops.as_ref().map_or(Ok(()), feedback::Flusher::flush)?;
        let flusher = self.running.as_ref().and_then(|running| running.flusher.as_ref());
        flusher.map_or(Ok(()), Flusher::flush)
    }

    /// Sightings that the outbox and the page know.
    pub(crate) fn told(&self) -> Result<Vec<Trace>> {
        let mut told = messages::told(&self.outbox.kept()?);
        if let Some(running) = &self.running {
            let shown = running.board.snapshot().sightings;
            told.extend(shown.iter().map(|shown| messages::of_sighting(&shown.sighting)));
        }
        told.extend(self.shelf.iter().flat_map(|shelf| shelf.traces()));
        Ok(told)
    }

    fn of_memory(&self, meaning: &Meaning, report: &mut Report) {
        let Some(Running { history, board, .. }) = &self.running else { return };
        let is_meant = |passed: &Passed| meaning.means(&of_passed(passed));
        if report.dry_run {
            report.judged_by = history.meant(is_meant);
            let shown = board.snapshot().sightings;
            let is_meant = |sighting| meaning.means(&messages::of_sighting(sighting));
            report.shown = shown.iter().filter(|shown| is_meant(&shown.sighting)).count();
        } else {
            report.judged_by = history.forget(is_meant);
            report.shown = board.forget(|sighting| meaning.means(&messages::of_sighting(sighting)));
        }
    }

    /// Who was brought into the history while the gallery still had them, as a bundle that is opened does.
    fn again_of_history(&self, meaning: &Meaning, report: &mut Report) {
        if let Some(Running { history, .. }) = &self.running {
            report.judged_by += history.forget(|passed| meaning.means(&of_passed(passed)));
        }
    }

    fn of_outbox(&self, wish: &Wish, meaning: &Meaning, report: &mut Report) -> Result<()> {
        let kept = self.outbox.kept()?;
        let doomed = messages::doomed(&kept, meaning);
        let count = |class| doomed.iter().filter(|kept| kept.class == class).count();
        (report.messages, report.waiting_pictures) = (count(Class::Event), count(Class::Picture));
        let with_damaged = takes_damaged(wish, meaning);
        if !with_damaged {
            report.unreadable += self.outbox.damaged();
        }
        if report.dry_run {
            report.damaged += if with_damaged { self.outbox.damaged() } else { 0 };
            return Ok(());
        }
        self.of_backlog(meaning);
        let rows: Vec<RowId> = doomed.iter().map(|kept| kept.row).collect();
        report.damaged += self.outbox.erase(&rows, with_damaged)?;
        Ok(())
    }

    /// Alerts that are like somebody who goes: in the gallery the person is still known by then.
    fn of_alerts(&self, wish: &Wish, meaning: &Meaning, report: &mut Report) -> Result<()> {
        let Some(alerts) = &self.alerts else { return Ok(()) };
        let doomed = seeds::doomed(alerts.seeds()?, &wish.selection, meaning);
        report.alerts = doomed.len();
        match (takes_damaged(wish, meaning), wish.dry_run) {
            (false, _) => report.unreadable += alerts.damaged(),
            (true, true) => report.damaged += alerts.damaged(),
            (true, false) => report.damaged += alerts.erase_damaged()?,
        }
        if !wish.dry_run && !doomed.is_empty() {
            alerts.erase(&doomed)?;
            let named: Vec<&str> = doomed.iter().map(AlertId::as_str).collect();
            tracing::warn!(
                alerts = named.join(", "),
                "Alerts are withdrawn: whom they are like is erased."
            );
        }
        Ok(())
    }

    /// What staff said of sightings, and what was learnt from it.
    fn of_feedback(&self, wish: &Wish, meaning: &Meaning, report: &mut Report) -> Result<()> {
        let with_damaged = takes_damaged(wish, meaning);
        let is_meant = |trace: &Trace| meaning.means(trace);
        let erased =
            self.shelf.as_ref().map(|shelf| shelf.erase(is_meant, with_damaged, wish.dry_run));
        let erased = erased.transpose()?.unwrap_or_default();
        (report.verdicts, report.verdict_pictures) = (erased.verdicts, erased.pictures);
        report.waiting_crops = erased.waiting;
        report.damaged += erased.damaged;
        report.unreadable += erased.unreadable;
        if let Some(store) = &self.bundles {
            report.bundles = bundles::trained(store, &erased.sightings, meaning);
        }
        for Trained { bundle, current, .. } in report.bundles.iter().filter(|_| !wish.dry_run) {
            tracing::warn!(bundle, current, "A bundle was trained on persons who are erased.");
        }
        Ok(())
    }

    /// Sightings that a full disk has not taken.
    fn of_backlog(&self, meaning: &Meaning) {
        let Some(Running { outlet, .. }) = &self.running else { return };
        let now = self.now();
        let mut outlet = outlet.lock().unwrap_or_else(PoisonError::into_inner);
        outlet.forget(|message| {
            let kept: [Kept; 1] = [messages::of_message(message, now)];
            !messages::doomed(&kept, meaning).is_empty()
        });
    }
}

/// Whether damaged files go too: who was in them nobody can say. The rule of the gallery.
fn takes_damaged(wish: &Wish, meaning: &Meaning) -> bool {
    let is_narrow = matches!(wish.selection, Selection::Record(_) | Selection::Sighting(_));
    !is_narrow && !meaning.holds()
}

/// A track that texts are calibrated on.
fn of_passed(passed: &Passed) -> Trace {
    let ends = passed.looks.first().zip(passed.looks.last());
    let span = ends.map_or_else(Default::default, |(first, last)| last.at.since(first.at));
    let span = SignedDuration::try_from(span).unwrap_or_default();
    Trace {
        camera: passed.camera.clone(),
        track: Some(passed.track.0),
        first: passed.at.saturating_sub(span).unwrap_or(Timestamp::MIN),
        last: passed.at,
        sighting: None,
    }
}
