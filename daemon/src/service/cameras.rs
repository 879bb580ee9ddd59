//! The cameras that are watched: started and stopped, and what is told of them.

use std::{sync::Arc, time::Duration};

use super::Service;
use crate::{
    alert::{Wall, rfc3339},
    clock::Mono,
    config::Camera,
    desk::CameraState,
    error::{Error, Result},
    frame::{CameraId, Frame},
    health::STALLED_AFTER,
    mask::Mask,
    metrics,
    mqtt::{LinkState, Topics},
    outbox::{Class, Message},
    page::{CameraShown, CameraState as CameraShownState, Health},
    pipeline::Lane,
    source::{Group, Setup, Slot, SourceSpec, Status, Supervisor, Taker},
};

/// How often a camera's rate is told at most, where nothing else changes.
const RATE_TOLD_EVERY: Duration = Duration::from_secs(5);

/// A camera that is watched.
pub(super) struct Running {
    camera: Camera,
    rate_hz: f64,
    gates_motion: bool,
    lane: Arc<Lane>,
    /// What persons are found in.
    pub(super) supervisor: Supervisor,
    /// Where crops come from, where that is another stream.
    large: Option<Supervisor>,
    /// What staff were told last.
    told: Option<Told>,
}

/// What staff were told of a camera.
struct Told {
    state: &'static str,
    reason: Option<&'static str>,
    fps: Option<f32>,
    /// To one digit.
    drift: Option<f64>,
    at: Mono,
}

impl Told {
    /// Whether it holds no longer: as state or reason changed, or the rate did by a quarter. The rate
    /// is measured only once frames flow, and moves a little all the time.
    fn is_outdated(&self, now: &Told) -> bool {
        let apart = |(old, new): (f32, f32)| (old - new).abs() > 0.25 * old.max(new);
        (self.state, self.reason, self.drift) != (now.state, now.reason, now.drift)
            || (self.fps.zip(now.fps).is_some_and(apart)
                && now.at.since(self.at) >= RATE_TOLD_EVERY)
    }
}

impl Running {
    /// Asks its sources to stop.
    pub(super) fn halt(&self) {
        self.supervisor.halt();
        self.large.iter().for_each(Supervisor::halt);
    }

    /// Staff may not know what they were told.
    pub(super) fn was_not_told(&mut self) {
        self.told = None;
    }
}

impl Service {
    /// Starts, restarts and stops cameras until they are those of the configuration. Who did not change
    /// is not touched.
    pub(super) fn use_cameras(&mut self) -> Result<()> {
        let default = self.config.detector.rate_hz;
        let wanted: Vec<Camera> =
            self.config.cameras.iter().map(|camera| camera.get_ref().clone()).collect();
        let stays = |running: &Running| {
            wanted.iter().any(|camera| {
                camera.id == running.camera.id
                    && camera.streams_like(&running.camera)
                    && camera.rate_hz.unwrap_or(default) == running.rate_hz
                    && running.gates_motion == self.config.detector.motion_gate
            })
        };
        let before = std::mem::take(&mut self.cameras);
        let (stay, go): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|(_, running)| stays(running));
        self.cameras = stay.into_iter().collect();
        for (id, running) in &go {
            running.halt();
            if running.large.is_some() {
                metrics::large_stream(id, false);
            }
        }
        let is_wanted = |id: &CameraId| wanted.iter().any(|camera| camera.id == *id);
        self.gone.retain(|id| !is_wanted(id));
        self.gone.extend(go.iter().map(|(id, _)| id.clone()).filter(|id| !is_wanted(id)));
        drop(go);
        for camera in wanted {
            if let Some(running) = self.cameras.get_mut(&camera.id) {
                running.lane.use_mask(mask(&camera)?);
                running.camera = camera;
                continue;
            }
            if !self.cameras.contains_key(&camera.id) {
                let running = self.watch(camera, default)?;
                self.cameras.insert(running.camera.id.clone(), running);
            }
        }
        let lanes = self.cameras.values().map(|running| running.lane.clone());
        self.pipeline.use_lanes(lanes.collect());
        self.gone.iter().for_each(metrics::source_gone);
        Ok(())
    }

    fn watch(&self, camera: Camera, default: f64) -> Result<Running> {
        let slot: Arc<Slot<Frame>> = Slot::new(self.signal.clone());
        let rate_hz = camera.rate_hz.unwrap_or(default);
        let group = camera.sub_url.as_ref().map(|_| Group::new(camera.id.clone()));
        let lane = Lane::new(camera.id.clone(), self.ids.clone(), slot.clone(), rate_hz)
            .with_large(group.clone());
        let gates_motion = self.config.detector.motion_gate;
        let lane = match gates_motion {
            true => lane,
            false => lane.with_every_look(),
        };
        lane.use_mask(mask(&camera)?);
        self.history.watching(&camera.id, Wall::new(self.clock.wall(), None).at);
        let invalid = |reason| Error::config(camera.id.to_string(), reason);
        let large = match group {
            Some(group) => {
                Some(self.open(&camera, camera.source().map_err(invalid)?, Taker::Kept(group))?)
            }
            None => None,
        };
        let watched = camera.watched().map_err(invalid)?;
        let supervisor = self.open(&camera, watched, Taker::Newest(slot))?;
        let lane = Arc::new(lane);
        Ok(Running { camera, rate_hz, gates_motion, lane, supervisor, large, told: None })
    }

    fn open(&self, camera: &Camera, spec: SourceSpec, taker: Taker) -> Result<Supervisor> {
        Supervisor::spawn(Setup {
            camera: camera.id.clone(),
            spec,
            decoder: camera.decoder.clone(),
            rules: camera.rules(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            taker,
        })
    }

    /// What staff do not know yet of the cameras. Ends what is open on a camera that went down.
    pub(super) fn news(&mut self) -> Vec<Message> {
        let forgot = self.desk.take_broker_forgot();
        if forgot {
            self.cameras.values_mut().for_each(|running| running.told = None);
        }
        // A state that is empty takes the retained one away.
        let topics = &self.topics;
        let gone = self.gone.iter().map(|id| camera_state(topics, id, Vec::new()));
        let mut messages: Vec<Message> = gone.collect();
        for (id, running) in &mut self.cameras {
            let status = running.supervisor.status();
            let at = self.clock.now();
            let (state, reason, fps, since) = describe(&status, at);
            metrics::source(id, fps.map(f64::from), running.supervisor.counts());
            if let Some(large) = &running.large {
                let is_streaming = matches!(*large.status(), Status::Streaming { .. });
                metrics::large_stream(id, is_streaming);
            }
            if state != "streaming" {
                // Nobody is seen where nothing is.
                metrics::tracks(id, 0);
            }
            let drift = self.history.drift(id).map(|ratio| (ratio * 10.0).round() / 10.0);
            let now = Told { state, reason, fps, drift, at };
            if running.told.as_ref().is_none_or(|told| told.is_outdated(&now)) {
                let is_new = running.told.replace(now).is_none_or(|told| told.state != state);
                if is_new && state == "down" {
                    self.pipeline.end_camera(id.clone());
                }
                let wall = Wall::new(self.clock.wall() - self.clock.now().since(since), None);
                let camera = id.clone();
                let (since, clock_synced) = (rfc3339(wall.at), wall.believed());
                let state = CameraState {
                    schema: 1,
                    camera,
                    state,
                    reason,
                    fps,
                    since,
                    score_drift: drift,
                    clock_synced,
                };
                messages.push(camera_state(topics, id, state.to_json()));
            }
        }
        let wall = Wall::new(self.clock.wall(), None);
        messages.extend(self.swapper.news(topics, forgot, wall));
        messages
    }

    /// What the local page says of the cameras, and monitors of the whole.
    pub(super) fn show(&self) {
        let now = self.clock.now();
        let shown = self.cameras.iter().map(|(id, running)| {
            let status = running.supervisor.status();
            let since = describe(&status, now).3;
            let (state, reason, fps) = match &*status {
                Status::Connecting => (CameraShownState::Connecting, None, None),
                Status::Streaming { fps, .. } => (CameraShownState::Streaming, None, Some(*fps)),
                Status::Down { reason, .. } => {
                    (CameraShownState::Down, Some(reason.to_string()), None)
                }
                Status::Ended => (CameraShownState::Ended, None, None),
            };
            let since = Wall::new(self.clock.wall() - now.since(since), None).at;
            let known = matches!(&*status, Status::Streaming { .. } | Status::Down { .. });
            CameraShown { name: id.to_string(), state, reason, fps, since: known.then_some(since) }
        });
        let shown: Vec<CameraShown> = shown.collect();
        let ready = shown.iter().any(|camera| camera.state != CameraShownState::Connecting);
        self.board.cameras(shown);
        let broker_away = match self.link.state() {
            LinkState::Down { why, .. } => Some(why.to_string()),
            _ => None,
        };
        let stalled = self.hearts.stalled(STALLED_AFTER);
        self.board.health(Health { ready, stalled, broker_away });
    }
}

/// State, reason, frames a second and since when.
fn describe(status: &Status, now: Mono) -> (&'static str, Option<&'static str>, Option<f32>, Mono) {
    match status {
        Status::Connecting => ("connecting", None, None, now),
        Status::Streaming { since, fps, .. } => ("streaming", None, Some(*fps), *since),
        Status::Down { reason, since, .. } => ("down", Some(reason.word()), None, *since),
        Status::Ended => ("down", Some("ended"), None, now),
    }
}

/// What nobody may look at of a camera's picture.
fn mask(camera: &Camera) -> Result<Option<Arc<Mask>>> {
    camera.mask().map_err(|reason| Error::config(camera.id.to_string(), reason))
}

/// A camera's retained state; an empty one takes it away.
fn camera_state(topics: &Topics, camera: &CameraId, payload: Vec<u8>) -> Message {
    let mut message = Message::new(Class::State, topics.camera(camera), payload);
    message.retain = true;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_is_told_anew_as_its_state_changes_or_its_rate_does_for_long() {
        let told = |state, fps, seconds| Told {
            state,
            reason: None,
            fps,
            drift: None,
            at: Mono(Duration::from_secs(seconds)),
        };
        // No rate is measured yet when frames begin to flow.
        let first = told("streaming", Some(0.0), 0);
        for (now, is_outdated) in [
            (told("streaming", Some(0.0), 9), false),
            (told("streaming", Some(14.0), 4), false),
            (told("streaming", Some(14.0), 5), true),
            (told("down", None, 1), true),
        ] {
            assert_eq!(first.is_outdated(&now), is_outdated, "{:?}", now.at);
        }
        let steady = told("streaming", Some(14.0), 5);
        assert!(!steady.is_outdated(&told("streaming", Some(11.0), 99)));
        assert!(steady.is_outdated(&told("streaming", Some(10.0), 99)));
        assert!(steady.is_outdated(&Told { drift: Some(2.1), ..told("streaming", Some(14.0), 5) }));
    }
}
