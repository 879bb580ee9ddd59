//! The best view of everybody in view now: the picture for who is found when an alert is armed while
//! he stands there already.

use std::collections::BTreeMap;

use crate::{frame::CameraId, track::TrackId, watch::View};

/// Most memory that all views together take, in bytes: some hundred persons on usual cameras.
const MAX_BYTES: usize = 32 << 20;

/// Views by track, bounded by bytes: the oldest makes room.
#[derive(Default)]
pub struct Portraits {
    kept: BTreeMap<(CameraId, TrackId), Kept>,
    bytes: usize,
    /// Counts what was kept, so that the oldest is known.
    count: u64,
}

struct Kept {
    view: View,
    age: u64,
}

impl Portraits {
    /// Keeps a view where it is the best of its track.
    pub fn keep(&mut self, camera: &CameraId, view: View) {
        let key = (camera.clone(), view.track);
        let value = view.quality.total();
        let is_better = self.kept.get(&key).is_none_or(|kept| kept.view.quality.total() < value);
        if !is_better || view.bytes() > MAX_BYTES {
            return;
        }
        self.forget(&key);
        self.bytes += view.bytes();
        self.count += 1;
        self.kept.insert(key, Kept { view, age: self.count });
        while self.bytes > MAX_BYTES {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.age).map(|(key, _)| key);
            let Some(oldest) = oldest.cloned() else { break };
            self.forget(&oldest);
        }
    }

    /// The best view of a track, while it is kept.
    pub fn of(&self, camera: &CameraId, track: TrackId) -> Option<&View> {
        self.kept.get(&(camera.clone(), track)).map(|kept| &kept.view)
    }

    /// A track is over: its best view, where it was still kept.
    pub fn end(&mut self, camera: &CameraId, track: TrackId) -> Option<View> {
        self.forget(&(camera.clone(), track))
    }

    /// A camera is not watched any more.
    pub fn end_camera(&mut self, camera: &CameraId) {
        let gone: Vec<_> = self.kept.keys().filter(|(of, _)| of == camera).cloned().collect();
        gone.iter().for_each(|key| drop(self.forget(key)));
    }

    fn forget(&mut self, key: &(CameraId, TrackId)) -> Option<View> {
        let kept = self.kept.remove(key)?;
        self.bytes -= kept.view.bytes();
        Some(kept.view)
    }
}

#[cfg(test)]
mod tests {
    use spotter_models::Rgb;

    use super::*;
    use crate::{crop::Quality, detect::Detection, geometry::BBox};

    /// A view of `rows` rows of 1000 pixels.
    fn view(track: u64, rows: u32, score: f32) -> View {
        let bbox = BBox::new(10.0, 10.0, 110.0, 310.0).unwrap();
        let quality = Quality::of_box(&Detection { bbox, score }, &[], (1280, 720));
        let crop = Rgb::new(1000, rows, vec![0; 3000 * rows as usize]).unwrap();
        View { track: TrackId(track), bbox, quality, crop, scene: None }
    }

    #[test]
    fn the_best_view_of_each_track_is_kept_until_the_track_ends() {
        let (door, yard) = (CameraId::new("door").unwrap(), CameraId::new("yard").unwrap());
        let mut portraits = Portraits::default();
        let rows = |portraits: &Portraits, camera, track| {
            portraits.of(camera, TrackId(track)).map(|view| view.crop.height())
        };
        portraits.keep(&door, view(1, 10, 0.6));
        portraits.keep(&door, view(1, 20, 0.9));
        portraits.keep(&door, view(1, 30, 0.5));
        portraits.keep(&yard, view(2, 40, 0.5));
        assert_eq!(rows(&portraits, &door, 1), Some(20));
        assert_eq!(portraits.bytes, 3000 * 60);
        portraits.end(&door, TrackId(1));
        assert_eq!(rows(&portraits, &door, 1), None);
        portraits.end_camera(&yard);
        assert_eq!((rows(&portraits, &yard, 2), portraits.bytes), (None, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_makes_room() {
        let door = CameraId::new("door").unwrap();
        let mut portraits = Portraits::default();
        for track in 0..30 {
            portraits.keep(&door, view(track, 1000, 0.9));
        }
        assert!(portraits.bytes <= MAX_BYTES && portraits.bytes > MAX_BYTES / 2);
        assert!(portraits.of(&door, TrackId(0)).is_none());
        assert!(portraits.of(&door, TrackId(29)).is_some());
        // One that is larger than all room is not kept, and drives nobody out.
        portraits.keep(&door, view(31, 12_000, 0.9));
        assert!(portraits.of(&door, TrackId(31)).is_none());
        assert!(portraits.of(&door, TrackId(29)).is_some());
    }
}
