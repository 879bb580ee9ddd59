//! One camera's eyes: from a frame's detections to the views of persons that are worth embedding.
//!
//! The same steps for a live camera and for a replay; who calls decides about threads.

use std::{sync::Arc, time::Duration};

use spotter_models::Rgb;

use crate::{
    crop::{self, Quality, SelectionRules, Selector, sharpness},
    detect::{Detection, Found},
    error::Result,
    frame::{CameraId, Frame},
    geometry::BBox,
    metrics::{self, Stage, Stopwatch},
    motion::{self, Motion},
    scene::Scene,
    track::{Rules, State, TrackId, TrackIds, TrackView, Tracker},
};

/// Longest time that another view of a track waits for a moment at which it costs little.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A person cut out of a frame.
pub struct View {
    /// Who, within this run.
    pub track: TrackId,
    /// Where in the frame, as the detector saw it.
    pub bbox: BBox,
    /// How much can be seen.
    pub quality: Quality,
    /// The pixels.
    pub crop: Rgb,
    /// The frame it was cut from, made small; one for all views of a frame. `None` where its pixels
    /// could not be had.
    pub scene: Option<Arc<Scene>>,
}

impl View {
    /// The same without the frame around it, for who looks at the person only.
    pub fn without_scene(&self) -> Self {
        let Self { track, bbox, quality, crop, scene: _ } = self;
        Self { track: *track, bbox: *bbox, quality: *quality, crop: crop.clone(), scene: None }
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.crop.data().len() + self.scene.as_ref().map_or(0, |scene| scene.bytes())
    }
}

/// What one frame brought.
pub struct Step {
    /// Persons in view: tracks that are believed.
    pub persons: Vec<TrackView>,
    /// Views to embed.
    pub views: Vec<View>,
    /// Tracks that are over.
    pub ended: Vec<TrackId>,
}

/// A camera's tracks and what was chosen of them.
pub struct Watch {
    camera: CameraId,
    tracker: Tracker,
    selector: Selector,
    /// What says whether anything moves, unless every frame is looked at.
    motion: Option<Motion>,
    /// Whether the box has time for more than the first view of a track.
    has_time: bool,
}

impl Watch {
    /// Nobody in view yet. `ids` is one for all cameras of a process.
    pub fn new(camera: CameraId, ids: Arc<TrackIds>) -> Self {
        Self {
            camera,
            tracker: Tracker::new(Rules::default(), ids),
            selector: Selector::new(SelectionRules::default()),
            motion: Some(Motion::default()),
            has_time: true,
        }
    }

    /// Looks at every frame, whether or not anything moves.
    pub fn with_every_look(self) -> Self {
        Self { motion: None, ..self }
    }

    /// Says whether the box has time for views of tracks that have one already.
    pub fn set_has_time(&mut self, has_time: bool) {
        self.has_time = has_time;
    }

    /// Whether a detector need not look at this frame: nobody is followed and nothing moves. Every frame that could be
    /// looked at is to be asked for.
    pub fn is_still(&mut self, frame: &Frame) -> bool {
        let Some(motion) = &mut self.motion else { return false };
        let (across, down) = motion::CELLS;
        match frame.pixels.scaled(across, down) {
            Ok(picture) => !motion.wants(&picture, frame.pts, !self.tracker.is_idle()),
            Err(error) => {
                tracing::debug!(camera = %self.camera, %error, "Whether anything moves is not known.");
                false
            }
        }
    }

    /// Takes what was found in a frame.
    ///
    /// A view whose pixels cannot be had is counted and left out; the camera goes on.
    pub fn see(&mut self, frame: &Frame, found: &Found, stopwatch: &mut Stopwatch) -> Step {
        let size = (frame.width, frame.height);
        metrics::entered(Stage::Track, &self.camera, found.detections.len() as u64);
        let update = stopwatch
            .time(Stage::Track, || self.tracker.update(frame.pts, size, &found.detections));
        metrics::dropped(Stage::Track, &self.camera, "too_many", u64::from(update.refused));
        let mut persons = update.tracks;
        persons.retain(|track| track.state == State::Confirmed);
        metrics::left(Stage::Track, &self.camera, persons.len() as u64);
        let views = stopwatch.time(Stage::Crop, || self.views(frame, found, &persons));
        metrics::left(Stage::Crop, &self.camera, views.len() as u64);
        let ended: Vec<TrackId> = update.ended.iter().map(|track| track.id).collect();
        ended.iter().for_each(|id| self.selector.forget(*id));
        Step { persons, views, ended }
    }

    /// A chosen view was not embedded after all: its track is chosen anew.
    pub fn retry(&mut self, track: TrackId) {
        self.selector.forget(track);
    }

    fn views(&mut self, frame: &Frame, found: &Found, persons: &[TrackView]) -> Vec<View> {
        let boxes: Vec<BBox> = persons.iter().map(|person| person.bbox).collect();
        let mut views = Vec::new();
        for (index, person) in persons.iter().enumerate() {
            let mut others = boxes.clone();
            others.swap_remove(index);
            match self.view(frame, person, &others) {
                Ok(view) => views.extend(view),
                Err(error) => {
                    metrics::failed(Stage::Crop, &self.camera);
                    tracing::debug!(camera = %self.camera, %error, "A crop cannot be had.");
                }
            }
        }
        if !views.is_empty() {
            // Only now: most frames bring no view.
            match Scene::new(frame, &found.detections) {
                Ok(scene) => views.iter_mut().for_each(|view| view.scene = Some(scene.clone())),
                Err(error) => {
                    tracing::debug!(camera = %self.camera, %error, "A scene cannot be had.");
                }
            }
        }
        views
    }

    /// Touches pixels only for a view that geometry alone would take.
    fn view(&mut self, frame: &Frame, person: &TrackView, others: &[BBox]) -> Result<Option<View>> {
        let TrackView { id, bbox, score, .. } = *person;
        let size = (frame.width, frame.height);
        let quality = Quality::of_box(&Detection { bbox, score }, others, size);
        // Somebody who was seen already can wait, though not for ever: looks may never meet a cheap moment.
        let can_wait =
            |last: Duration| !self.has_time || (last < LONGEST_WAIT && !frame.pixels.is_at_hand());
        if self.selector.since_last(id, frame.pts).is_some_and(can_wait) {
            return Ok(None);
        }
        if self.selector.consider(id, frame.pts, &bbox, &quality).is_none() {
            return Ok(None);
        }
        let Some(rect) = crop::rectangle(&bbox, frame.width, frame.height) else {
            return Ok(None);
        };
        let crop = frame.pixels.region(rect)?;
        let quality = quality.with_sharpness(sharpness(&crop));
        let taken = self.selector.take(id, frame.pts, &bbox, &quality);
        Ok(taken.map(|_| View { track: id, bbox, quality, crop, scene: None }))
    }
}
