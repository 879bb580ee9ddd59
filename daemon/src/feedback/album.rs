//! Several good views of everybody in view: what a verdict on them is learnt from.

use std::{collections::BTreeMap, sync::Arc};

use spotter_models::{Rgb, feedback::MAX_PICTURES};

use super::gate::{Cause, refused};
use crate::{frame::CameraId, track::TrackId, watch::View};

/// Most memory that all views together take, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// A view that is good enough.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Its number, which no other view of this run of the process has.
    pub number: u64,
    /// How much can be seen, 0 to 1.
    pub quality: f32,
    /// The pixels.
    pub crop: Arc<Rgb>,
}

/// Views by track, the best [`MAX_PICTURES`] of each; beyond some bytes the track that came first makes room.
#[derive(Default)]
pub struct Album {
    tracks: BTreeMap<(CameraId, TrackId), Track>,
    bytes: usize,
    count: u64,
}

#[derive(Default)]
struct Track {
    shots: Vec<Shot>,
    left_out: BTreeMap<&'static str, u32>,
    age: u64,
}

impl Track {
    fn bytes(&self) -> usize {
        self.shots.iter().map(|shot| shot.crop.data().len()).sum()
    }
}

impl Album {
    /// Keeps a view where it is good enough and among the best of its track.
    pub fn see(&mut self, camera: &CameraId, view: &View) {
        self.count += 1;
        let number = self.count;
        let key = (camera.clone(), view.track);
        let track =
            self.tracks.entry(key).or_insert_with(|| Track { age: number, ..Track::default() });
        let mut leave = |cause: Cause| {
            *track.left_out.entry(cause.name()).or_default() += 1;
            super::left_out(cause.name(), 1);
        };
        if let Some(cause) = refused(&view.quality) {
            return leave(cause);
        }
        let quality = view.quality.total();
        if track.shots.len() >= MAX_PICTURES {
            leave(Cause::Surplus);
            let worst = track.shots.iter().enumerate();
            let worst = worst.min_by(|(_, one), (_, other)| one.quality.total_cmp(&other.quality));
            match worst.map(|(index, shot)| (index, shot.quality)) {
                Some((index, least)) if least < quality => {
                    self.bytes -= track.shots.remove(index).crop.data().len();
                }
                _ => return,
            }
        }
        self.bytes += view.crop.data().len();
        track.shots.push(Shot { number, quality, crop: Arc::new(view.crop.clone()) });
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.bytes > MAX_BYTES {
            let with_shots = self.tracks.iter().filter(|(_, track)| !track.shots.is_empty());
            let oldest = with_shots.min_by_key(|(_, track)| track.age).map(|(key, _)| key.clone());
            let Some(track) = oldest.and_then(|key| self.tracks.get_mut(&key)) else { break };
            self.bytes -= track.bytes();
            super::left_out("memory", track.shots.len() as u64);
            track.shots.clear();
        }
    }

    /// The views of a track, and how many were left out by cause.
    pub fn of(
        &self,
        camera: &CameraId,
        track: TrackId,
    ) -> (Vec<Shot>, BTreeMap<&'static str, u32>) {
        let track = self.tracks.get(&(camera.clone(), track));
        track.map(|track| (track.shots.clone(), track.left_out.clone())).unwrap_or_default()
    }

    /// A track is over, or erased.
    pub fn end(&mut self, camera: &CameraId, track: TrackId) {
        if let Some(track) = self.tracks.remove(&(camera.clone(), track)) {
            self.bytes -= track.bytes();
        }
    }

    /// A camera is not watched any more.
    pub fn end_camera(&mut self, camera: &CameraId) {
        let on_camera = self.tracks.keys().filter(|(of, _)| of == camera);
        let gone: Vec<TrackId> = on_camera.map(|(_, track)| *track).collect();
        gone.into_iter().for_each(|track| self.end(camera, track));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crop::Quality, detect::Detection, geometry::BBox};

    fn view(track: u64, score: f32, sharpness: f32, rows: u32) -> View {
        let bbox = BBox::new(300.0, 110.0, 400.0, 310.0).unwrap();
        let quality = Quality::of_box(&Detection { bbox, score }, &[], (1280, 720));
        let crop = Rgb::new(100, rows, vec![0; 300 * rows as usize]).unwrap();
        let quality = quality.with_sharpness(sharpness);
        View { track: TrackId(track), bbox, quality, crop, scene: None }
    }

    #[test]
    fn the_best_views_are_kept_and_what_is_left_out_is_counted() {
        let door = CameraId::new("door").unwrap();
        let mut album = Album::default();
        for step in 0..10 {
            album.see(&door, &view(1, 0.3 + 0.05 * step as f32, 0.8, 200));
        }
        album.see(&door, &view(1, 0.1, 0.8, 200));
        album.see(&door, &view(1, 0.9, 0.05, 200));
        let (shots, left_out) = album.of(&door, TrackId(1));
        let mut numbers: Vec<u64> = shots.iter().map(|shot| shot.number).collect();
        numbers.sort();
        assert_eq!(numbers, [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(left_out, BTreeMap::from([("blurred", 1), ("surplus", 3)]));
        assert_eq!(album.bytes, 8 * 300 * 200);
        album.end_camera(&door);
        assert_eq!((album.bytes, album.of(&door, TrackId(1)).0.len()), (0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let door = CameraId::new("door").unwrap();
        let mut album = Album::default();
        for track in 0..40 {
            album.see(&door, &view(track, 0.9, 0.8, 10_000));
        }
        assert!(album.bytes <= MAX_BYTES && album.bytes > MAX_BYTES / 2);
        assert!(
            album.of(&door, TrackId(0)).0.is_empty() && !album.of(&door, TrackId(39)).0.is_empty()
        );
    }
}
