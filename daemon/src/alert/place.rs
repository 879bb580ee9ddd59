//! Where an alert counts: cameras by name or pattern, zones of a camera's picture.
//!
//! Zones are drawn in the configuration; alerts only name them. A person is where the feet are: the
//! middle of the box's lower edge.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{Code, Refusal, Spec, ZoneName, fields::quoted, id::MAX_NAME};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// Most corners of a zone.
const MAX_CORNERS: usize = 64;
/// How far from an edge, in shares of the picture, a point still counts as on it: f32 rounding of
/// box coordinates.
const EDGE: f32 = 1e-5;

/// A camera's name in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CameraGlob(Arc<str>);

impl CameraGlob {
    /// # Errors
    /// [`Code::BadField`] where it has other characters or a wrong length.
    pub fn new(pattern: &str) -> Result<Self, Refusal> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*".contains(c);
        if pattern.is_empty() || pattern.len() > MAX_NAME || !pattern.chars().all(allowed) {
            let reason = format!(
                "camera {} must be 1 to {MAX_NAME} of a-z, 0-9, '_', '-' and '*'",
                quoted(pattern)
            );
            return Err(Refusal::new(Code::BadField, reason));
        }
        Ok(Self(pattern.into()))
    }

    /// Whether it means this camera. Takes at most pattern times name steps, for any pattern.
    pub fn fits(&self, camera: &CameraId) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| camera.as_str().strip_prefix(first))
        else {
            return false;
        };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The leftmost place leaves most for the parts that follow.
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for CameraGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A closed area of a picture, in shares of its width and height.
#[derive(Clone, Debug, PartialEq)]
pub struct Polygon {
    corners: Vec<[f32; 2]>,
}

impl Polygon {
    /// # Errors
    /// [`Error::Config`] where there are fewer than 3 or more than 64 corners, one lies outside of
    /// the picture, or nothing is enclosed.
    pub fn new(name: &ZoneName, corners: &[[f32; 2]]) -> Result<Self> {
        Self::enclosing(&format!("zone {name}"), corners)
    }

    /// The same for what is no zone; `what` is what errors call it.
    ///
    /// # Errors
    /// As [`Polygon::new`].
    pub fn enclosing(what: &str, corners: &[[f32; 2]]) -> Result<Self> {
        let refuse = |reason: String| Error::config(what, reason);
        if !(3..=MAX_CORNERS).contains(&corners.len()) {
            let reason = format!("has {} corners; 3 to {MAX_CORNERS} are possible", corners.len());
            return Err(refuse(reason));
        }
        // Not `any(outside)`: NaN is neither inside nor outside.
        let inside = |corner: &&[f32; 2]| corner.iter().all(|v| (0.0..=1.0).contains(v));
        if let Some([x, y]) = corners.iter().find(|corner| !inside(corner)) {
            return Err(refuse(format!(
                "the corner [{x}, {y}] lies outside of the picture; coordinates are shares of its \
                 width and height, from 0 to 1"
            )));
        }
        let polygon = Self { corners: corners.to_vec() };
        let area: f32 = polygon.edges().map(|([ax, ay], [bx, by])| ax * by - bx * ay).sum();
        if area.abs() / 2.0 < EDGE {
            return Err(refuse("encloses nothing; give its corners in order around it".into()));
        }
        Ok(polygon)
    }

    /// Its edges from corner to corner, the last one back to the first.
    pub fn edges(&self) -> impl Iterator<Item = ([f32; 2], [f32; 2])> + '_ {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().copied().zip(next.copied())
    }

    /// Whether a point lies in it or on its edge. Where edges cross, what is enclosed twice is out.
    pub fn holds(&self, [x, y]: [f32; 2]) -> bool {
        let mut inside = false;
        for (a, b) in self.edges() {
            if on_edge([x, y], a, b) {
                return true;
            }
            let ([ax, ay], [bx, by]) = (a, b);
            if (ay > y) != (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax {
                inside = !inside;
            }
        }
        inside
    }
}

/// Whether a point lies on a line between two corners: persons cut off by the picture's lower edge
/// have their foot point exactly on the edge of a zone that reaches to it.
fn on_edge([x, y]: [f32; 2], [ax, ay]: [f32; 2], [bx, by]: [f32; 2]) -> bool {
    let (dx, dy) = (bx - ax, by - ay);
    let length = (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
    let along = (((x - ax) * dx + (y - ay) * dy) / length).clamp(0.0, 1.0);
    let (ex, ey) = (ax + along * dx - x, ay + along * dy - y);
    ex * ex + ey * ey <= EDGE * EDGE
}

/// Where a person stands: `bbox` is left, top, width and height in shares of the picture's sides.
pub fn foot([left, top, width, height]: [f32; 4]) -> [f32; 2] {
    // A box may reach beyond the picture, a person's place does not.
    [(left + width / 2.0).clamp(0.0, 1.0), (top + height).clamp(0.0, 1.0)]
}

/// The cameras of this device and the zones drawn in their pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    cameras: BTreeSet<CameraId>,
    zones: BTreeMap<ZoneName, BTreeMap<CameraId, Vec<Polygon>>>,
}

impl Places {
    /// No cameras yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a camera.
    pub fn camera(&mut self, camera: CameraId) {
        self.cameras.insert(camera);
    }

    /// Adds a part of a zone to a camera's picture; a zone may have parts in several.
    pub fn zone(&mut self, zone: ZoneName, camera: CameraId, polygon: Polygon) {
        self.zones.entry(zone).or_default().entry(camera).or_default().push(polygon);
    }

    /// Whether an alert counts for a person at `bbox` (left, top, width, height in shares of the
    /// picture) on this camera. An alert that names zones counts only within them.
    pub fn covers(&self, spec: &Spec, camera: &CameraId, bbox: [f32; 4]) -> bool {
        let meant = |globs: &Vec<CameraGlob>| globs.iter().any(|glob| glob.fits(camera));
        if !spec.cameras.as_ref().is_none_or(meant) {
            return false;
        }
        let Some(zones) = &spec.zones else { return true };
        let point = foot(bbox);
        let parts = zones.iter().filter_map(|name| self.zones.get(name)?.get(camera)).flatten();
        parts.into_iter().any(|polygon| polygon.holds(point))
    }

    /// The cameras of this device on which an alert counts, if only in a part of the picture.
    pub fn watching<'a>(&'a self, spec: &'a Spec) -> impl Iterator<Item = &'a CameraId> {
        let meant = move |camera: &&CameraId| {
            let globs = spec.cameras.as_ref();
            globs.is_none_or(|globs| globs.iter().any(|glob| glob.fits(camera)))
        };
        let has_part = move |camera: &&CameraId| {
            let zones = spec.zones.as_ref();
            let has = |name| self.zones.get(name).is_some_and(|parts| parts.contains_key(*camera));
            zones.is_none_or(|zones| zones.iter().any(has))
        };
        self.cameras.iter().filter(meant).filter(has_part)
    }

    /// What of an alert means nothing on this device. Warnings, no refusals: it may be meant for
    /// another device of the site.
    pub fn warnings(&self, spec: &Spec) -> Vec<String> {
        let fits_one = |glob: &CameraGlob| self.cameras.iter().any(|camera| glob.fits(camera));
        let unknown = spec.cameras.iter().flatten().filter(|glob| !fits_one(glob));
        let cameras = unknown.map(|glob| format!("no camera of this device is called {glob}"));
        let zones = spec.zones.iter().flatten().filter(|name| !self.zones.contains_key(*name));
        let zones = zones.map(|name| format!("no zone of this device is called {name}"));
        cameras.chain(zones).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(corners: &[[f32; 2]]) -> Result<Polygon> {
        Polygon::new(&ZoneName::new("door").unwrap(), corners)
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("dock-*", "dock-7", true),
            ("dock-*", "dock-", true),
            ("dock-*", "dock", false),
            ("dock", "dock-7", false),
            ("*", "entrance", true),
            ("*-north", "dock-north", true),
            ("*-north", "dock-north-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
        ] {
            let camera = CameraId::new(name).unwrap();
            assert_eq!(CameraGlob::new(pattern).unwrap().fits(&camera), fits, "{pattern} {name}");
        }
        for pattern in ["", "Dock", "dock/1", "#", "+"] {
            assert!(CameraGlob::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_person_is_in_a_zone_by_the_feet() {
        let lower = zone(&[[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]).unwrap();
        assert!(lower.holds(foot([0.4, 0.1, 0.1, 0.6])));
        assert!(!lower.holds(foot([0.4, 0.1, 0.1, 0.3])));
        // Cut off by the lower edge, and a box that reaches beyond it.
        assert!(lower.holds(foot([0.4, 0.2, 0.1, 0.8])));
        assert!(lower.holds(foot([0.95, 0.2, 0.2, 0.9])));
        let concave = zone(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.1], [0.0, 1.0]]).unwrap();
        assert!(!concave.holds([0.5, 0.5]) && concave.holds([0.05, 0.5]));
    }

    #[test]
    fn a_zone_outside_of_the_picture_does_not_exist() {
        for (corners, word) in [
            (vec![[0.0, 0.0], [1.0, 0.0]], "corners"),
            (vec![[0.0, 0.0], [1.1, 0.0], [0.5, 0.5]], "outside"),
            (vec![[0.0, 0.0], [f32::NAN, 0.0], [0.5, 0.5]], "outside"),
            (vec![[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]], "encloses nothing"),
            (vec![[0.1, 0.1]; 65], "corners"),
        ] {
            let error = zone(&corners).unwrap_err().to_string();
            assert!(error.contains("zone door") && error.contains(word), "{error}");
        }
    }

    #[test]
    fn alerts_count_on_their_cameras_and_in_their_zones() {
        let (dock, gate) = (CameraId::new("dock-1").unwrap(), CameraId::new("gate").unwrap());
        let door = ZoneName::new("door").unwrap();
        let mut places = Places::new();
        places.camera(dock.clone());
        places.camera(gate.clone());
        let left = zone(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]).unwrap();
        places.zone(door.clone(), dock.clone(), left);
        let mut spec = Spec::of_text("red coat");
        let (at_left, at_right) = ([0.1, 0.1, 0.1, 0.3], [0.8, 0.1, 0.1, 0.3]);
        assert!(places.covers(&spec, &gate, at_right));
        spec.zones = Some(vec![door]);
        assert!(places.covers(&spec, &dock, at_left) && !places.covers(&spec, &dock, at_right));
        assert!(!places.covers(&spec, &gate, at_left), "the zone has no part on this camera");
        assert_eq!(places.watching(&spec).collect::<Vec<_>>(), [&dock]);
        spec.cameras = Some(vec![CameraGlob::new("gate").unwrap()]);
        assert!(!places.covers(&spec, &dock, at_left));
        assert_eq!(places.warnings(&spec), Vec::<String>::new());
        spec.cameras = Some(vec![CameraGlob::new("roof-*").unwrap()]);
        spec.zones = Some(vec![ZoneName::new("pool").unwrap()]);
        assert_eq!(places.warnings(&spec).len(), 2);
        assert_eq!(places.watching(&spec).count(), 0);
    }
}
