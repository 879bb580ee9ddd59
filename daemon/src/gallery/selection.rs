//! Which records are meant: by an erasure, a hold or a search.

use jiff::Timestamp;

use super::{
    record::{RecordId, Stored},
    segment::{Row, millis},
};
use crate::{frame::CameraId, sighting::SightingId};

/// Records that are to be erased or held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everybody who was in view between two moments, at one camera or at all.
    Span {
        /// Who was last seen before it is not meant.
        from: Timestamp,
        /// Who was first seen at it or later is not meant.
        to: Timestamp,
        /// Only at this camera.
        camera: Option<CameraId>,
    },
    /// Everybody at a camera.
    Camera(CameraId),
    /// One track of a camera. Numbers of tracks begin again when the daemon is started: all of them
    /// are meant.
    Track {
        /// The camera.
        camera: CameraId,
        /// The track's number there.
        track: u64,
    },
    /// Those of whom this was told.
    Sighting(SightingId),
    /// One record.
    Record(RecordId),
}

/// What a look at memory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sure {
    No,
    /// Only the record itself can say.
    Ask,
    Yes,
}

impl Sure {
    /// Whether a distance that is known to a millisecond is above 0.
    fn of(distance: i64) -> Self {
        match distance {
            ..-1 => Sure::No,
            -1..=1 => Sure::Ask,
            2.. => Sure::Yes,
        }
    }
}

impl Selection {
    /// The camera that it names, if any.
    pub fn camera(&self) -> Option<&CameraId> {
        match self {
            Selection::Span { camera, .. } => camera.as_ref(),
            Selection::Camera(camera) | Selection::Track { camera, .. } => Some(camera),
            Selection::Sighting(_) | Selection::Record(_) => None,
        }
    }

    /// Whether it may mean a row. `index` gives a camera's number.
    pub(super) fn row(&self, id: u64, row: &Row, index: impl Fn(&CameraId) -> Option<u16>) -> Sure {
        let at = |camera: &CameraId| index(camera) == Some(row.camera);
        let sure = |yes: bool| if yes { Sure::Yes } else { Sure::No };
        match self {
            Selection::Span { from, to, camera } => {
                if !camera.as_ref().is_none_or(at) {
                    return Sure::No;
                }
                let begins = Sure::of(millis(*to).saturating_sub(row.first));
                let ends = match Sure::of(row.last().saturating_sub(millis(*from))) {
                    // A longer span than memory can say.
                    Sure::No if row.is_endless() => Sure::Ask,
                    ends => ends,
                };
                begins.min(ends)
            }
            Selection::Camera(camera) => sure(at(camera)),
            Selection::Track { camera, track } => match at(camera) && row.track == *track as u32 {
                true => Sure::Ask,
                false => Sure::No,
            },
            Selection::Sighting(_) => match row.sighted {
                true => Sure::Ask,
                false => Sure::No,
            },
            Selection::Record(wanted) => sure(wanted.0 == id),
        }
    }

    /// Whether it means a record.
    pub(super) fn record(&self, id: u64, record: &Stored) -> bool {
        match self {
            Selection::Span { from, to, camera } => {
                record.last >= *from
                    && record.first < *to
                    && camera.as_ref().is_none_or(|camera| *camera == record.camera)
            }
            Selection::Camera(camera) => *camera == record.camera,
            Selection::Track { camera, track } => {
                *camera == record.camera && *track == record.track
            }
            Selection::Sighting(sighting) => record.sightings.contains(sighting),
            Selection::Record(wanted) => wanted.0 == id,
        }
    }
}

/// Who is looked for: only those in view between `from` and `to` (whole milliseconds), only at these
/// cameras. The generation is that of the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not those last seen before.
    pub from: Option<Timestamp>,
    /// Not those first seen at it or later.
    pub to: Option<Timestamp>,
    /// Only these cameras; all where it is empty.
    pub cameras: Vec<CameraId>,
}

/// A filter by the numbers that memory has.
pub(super) struct RowFilter {
    from: i64,
    to: i64,
    cameras: Option<Vec<u16>>,
}

impl RowFilter {
    pub(super) fn new(filter: &Filter, index: impl Fn(&CameraId) -> Option<u16>) -> Self {
        let cameras = filter.cameras.iter().filter_map(index).collect();
        Self {
            from: filter.from.map_or(i64::MIN, millis),
            to: filter.to.map_or(i64::MAX, millis),
            cameras: (!filter.cameras.is_empty()).then_some(cameras),
        }
    }

    pub(super) fn takes(&self, row: &Row) -> bool {
        let at = |cameras: &Vec<u16>| cameras.contains(&row.camera);
        row.is_live()
            && row.last() >= self.from
            && row.first < self.to
            && self.cameras.as_ref().is_none_or(at)
    }
}
