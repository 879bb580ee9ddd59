//! Who is meant by an erasure and who is held, wherever something is known of them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::{
    error::Result,
    frame::CameraId,
    gallery::{Gallery, Hold, Person, Selection},
    sighting::SightingId,
};

/// By how much times of one track may lie beside each other: a record says when its track ended, which is
/// seconds after the last look that a sighting tells of. Longer than any track waits for its person.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Somebody, as far as one place knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Who saw it.
    pub camera: CameraId,
    /// The track's number there, within one run of the daemon.
    pub track: Option<u64>,
    /// Not earlier than this.
    pub first: Timestamp,
    /// Not later than this.
    pub last: Timestamp,
    /// The sighting that it belongs to.
    pub sighting: Option<SightingId>,
}

/// A selection in terms of what every place knows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Parts {
    list: Vec<Part>,
    /// Whoever these told of.
    sightings: BTreeSet<SightingId>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Span { from: Timestamp, to: Timestamp, camera: Option<CameraId> },
    Camera(CameraId),
    Track { camera: CameraId, track: u64 },
    Person { camera: CameraId, track: u64, first: Timestamp, last: Timestamp },
}

/// Who is to be erased: who is meant and not held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meaning {
    meant: Parts,
    /// Oldest hold first.
    held: Vec<(Hold, Parts)>,
}

impl Meaning {
    /// Of a selection, with what the gallery knows; `told` are sightings that are known elsewhere.
    ///
    /// # Errors
    /// Where the gallery cannot be read.
    pub fn of(selection: &Selection, gallery: Option<&Gallery>, told: &[Trace]) -> Result<Self> {
        let mut meaning = Self::held(gallery, told)?;
        meaning.meant.add(selection, gallery, told)?;
        Ok(meaning)
    }

    /// Nobody is meant; only who is held is known.
    ///
    /// # Errors
    /// As [`Meaning::of`].
    pub fn held(gallery: Option<&Gallery>, told: &[Trace]) -> Result<Self> {
        let mut meaning = Self::default();
        for hold in gallery.map(Gallery::holds).unwrap_or_default() {
            let mut parts = Parts::default();
            parts.add(&hold.selection, gallery, told)?;
            meaning.held.push((hold, parts));
        }
        Ok(meaning)
    }

    /// Whether a sighting of which only the id is known is meant: it was told of somebody who is, or was named
    /// in a time in which everybody is.
    pub fn names(&self, id: SightingId) -> bool {
        let named = i64::try_from(id.to_bits() >> 80).ok();
        let Some(named) = named.and_then(|ms| Timestamp::from_millisecond(ms).ok()) else {
            return false;
        };
        self.meant.sightings.contains(&id)
            || self.meant.list.iter().any(|part| match part {
                Part::Span { from, to, camera: None } => *from <= named && named < *to,
                _ => false,
            })
    }

    /// Whether somebody is to be erased.
    pub fn means(&self, trace: &Trace) -> bool {
        self.meant.mean(trace) && self.is_free(trace)
    }

    /// Whether no hold keeps somebody.
    pub fn is_free(&self, trace: &Trace) -> bool {
        !self.held.iter().any(|(_, parts)| parts.mean(trace))
    }

    /// The oldest hold that keeps somebody who is meant.
    pub fn holder(&self, trace: &Trace) -> Option<&Hold> {
        let found = self.held.iter().find(|(_, parts)| parts.mean(trace)).map(|(hold, _)| hold);
        found.filter(|_| self.meant.mean(trace))
    }

    /// Whether anything is held at all.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Parts {
    /// Adds what a selection means. Whoever the gallery has of it is also found by the sightings that told of
    /// them, however late their pictures wait; one sighting leads to all that is known of its person.
    fn add(
        &mut self,
        selection: &Selection,
        gallery: Option<&Gallery>,
        told: &[Trace],
    ) -> Result<()> {
        let is_narrow = matches!(selection, Selection::Sighting(_) | Selection::Record(_));
        match selection.clone() {
            Selection::Span { from, to, camera } => self.list.push(Part::Span { from, to, camera }),
            Selection::Camera(camera) => self.list.push(Part::Camera(camera)),
            Selection::Track { camera, track } => self.list.push(Part::Track { camera, track }),
            Selection::Sighting(id) => drop(self.sightings.insert(id)),
            Selection::Record(_) => {}
        }
        let known = gallery.map_or(Ok(Vec::new()), |g| g.persons(selection, !is_narrow))?;
        for Person { camera, track, first, last, sightings, .. } in known {
            self.sightings.extend(sightings);
            if is_narrow {
                self.list.push(Part::Person { camera, track, first, last });
            }
        }
        let Selection::Sighting(id) = selection else { return Ok(()) };
        let its = told.iter().filter(|trace| trace.sighting == Some(*id));
        self.list.extend(its.filter_map(|trace| {
            let (camera, track) = (trace.camera.clone(), trace.track?);
            Some(Part::Person { camera, track, first: trace.first, last: trace.last })
        }));
        Ok(())
    }

    fn mean(&self, trace: &Trace) -> bool {
        trace.sighting.is_some_and(|id| self.sightings.contains(&id))
            || self.list.iter().any(|part| part.means(trace))
    }
}

impl Part {
    fn means(&self, trace: &Trace) -> bool {
        match self {
            Part::Span { from, to, camera } => {
                trace.last >= *from
                    && trace.first < *to
                    && camera.as_ref().is_none_or(|camera| *camera == trace.camera)
            }
            Part::Camera(camera) => *camera == trace.camera,
            Part::Track { camera, track } => *camera == trace.camera && trace.track == Some(*track),
            // Numbers of tracks begin again when the daemon is started: times tell runs apart.
            Part::Person { camera, track, first, last } => {
                *camera == trace.camera
                    && trace.track == Some(*track)
                    && is_near((*first, *last), trace)
            }
        }
    }
}

fn is_near((first, last): (Timestamp, Timestamp), trace: &Trace) -> bool {
    let late = |at: Timestamp| at.saturating_add(SLACK).unwrap_or(Timestamp::MAX);
    trace.first <= late(last) && first <= late(trace.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::{HoldId, Why};

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + at).unwrap()
    }

    fn camera(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    fn trace(name: &str, track: u64, first: i64, last: i64) -> Trace {
        let (first, last) = (second(first), second(last));
        Trace { camera: camera(name), track: Some(track), first, last, sighting: None }
    }

    fn only(selection: &Selection, told: &[Trace]) -> Meaning {
        Meaning::of(selection, None, told).unwrap()
    }

    #[test]
    fn spans_reach_whoever_was_in_view_in_them() {
        let span = Selection::Span { from: second(10), to: second(20), camera: None };
        let means = |first, last| only(&span, &[]).means(&trace("gate", 1, first, last));
        assert!(means(0, 10) && means(19, 30) && means(0, 30) && means(12, 13));
        assert!(!means(0, 9) && !means(20, 30));
        let at = Selection::Span { from: second(10), to: second(20), camera: Some(camera("dock")) };
        assert!(!only(&at, &[]).means(&trace("gate", 1, 12, 13)));
        assert!(only(&Selection::Camera(camera("gate")), &[]).means(&trace("gate", 9, 0, 0)));
    }

    #[test]
    fn a_sighting_leads_to_the_person_and_not_to_one_of_another_run() {
        let id = SightingId::from_bits(7);
        let told = Trace { sighting: Some(id), ..trace("gate", 4, 100, 110) };
        let meaning = only(&Selection::Sighting(id), std::slice::from_ref(&told));
        assert!(meaning.means(&told));
        assert!(meaning.means(&trace("gate", 4, 90, 120)), "the same track");
        assert!(!meaning.means(&trace("gate", 4, 900, 920)), "the same number after a restart");
        assert!(!meaning.means(&trace("dock", 4, 90, 120)));
        let picture = Trace { track: None, sighting: Some(id), ..trace("gate", 0, 500, 500) };
        assert!(meaning.means(&picture), "however late it waits");
        let other = Trace { sighting: Some(SightingId::from_bits(8)), ..picture };
        assert!(!meaning.means(&other));
    }

    #[test]
    fn who_is_held_is_not_meant() {
        let person =
            Part::Person { camera: camera("gate"), track: 4, first: second(0), last: second(9) };
        let sightings = BTreeSet::from([SightingId::from_bits(7)]);
        let mut meaning = only(&Selection::Camera(camera("gate")), &[]);
        let why = Why { reason: "case 2031".into(), by: None, at: None };
        let selection = Selection::Camera(camera("gate"));
        let hold = Hold { id: HoldId(7), selection, why, request: None };
        meaning.held = vec![(hold.clone(), Parts { list: vec![person], sightings })];
        assert!(meaning.holds());
        assert!(!meaning.means(&trace("gate", 4, 5, 6)));
        assert!(meaning.means(&trace("gate", 5, 5, 6)));
        let told = Trace { sighting: Some(SightingId::from_bits(7)), ..trace("gate", 1, 900, 900) };
        assert!(!meaning.means(&told));
        assert_eq!(meaning.holder(&told), Some(&hold));
        assert_eq!(meaning.holder(&trace("gate", 5, 5, 6)), None);
    }
}
