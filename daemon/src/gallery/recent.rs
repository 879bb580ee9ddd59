//! The newest records' looks: what a calibration is made from.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use spotter_models::{Embedding, Generation};

use super::{
    Gallery, RecordId,
    record::{Look, Stored},
    segment::Segment,
    selection::{Filter, RowFilter},
};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// A record's looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Recent {
    /// The record.
    pub id: RecordId,
    /// Who saw it.
    pub camera: CameraId,
    /// The track's number there.
    pub track: u64,
    /// When it was last looked at.
    pub last: Timestamp,
    /// Its views, in 8 bits by now.
    pub looks: Vec<Look>,
}

/// Reads records one by one; those that are erased meanwhile are left out.
pub struct RecentLooks {
    places: std::vec::IntoIter<(Arc<Segment>, u32)>,
}

impl Gallery {
    /// The bundles that saw somebody who is kept, each with how many tracks.
    pub fn generations(&self) -> BTreeMap<Generation, usize> {
        let mut tracks = BTreeMap::new();
        for segment in &self.shared().segments {
            *tracks.entry(segment.head.generation).or_default() += segment.rows().list.len();
        }
        tracks.retain(|_, tracks| *tracks > 0);
        tracks
    }

    /// The looks of the newest `n` records of a generation, the newest first, only of these cameras
    /// where any are named. Which ones is settled now; they are read one by one.
    pub fn recent(&self, n: usize, cameras: &[CameraId], generation: Generation) -> RecentLooks {
        let filter = Filter { cameras: cameras.to_vec(), ..Filter::default() };
        let (segments, filter) = {
            let shared = self.shared();
            let filter = RowFilter::new(&filter, |camera| shared.camera(camera));
            (shared.of_generation(generation), filter)
        };
        let mut places = Vec::new();
        for segment in segments.iter().rev() {
            let rows = segment.rows();
            let taken = rows.list.iter().rev().filter(|row| filter.takes(row));
            places.extend(taken.take(n - places.len()).map(|row| (segment.clone(), row.offset)));
            if places.len() >= n {
                break;
            }
        }
        RecentLooks { places: places.into_iter() }
    }
}

impl Iterator for RecentLooks {
    type Item = Result<Recent>;

    fn next(&mut self) -> Option<Result<Recent>> {
        loop {
            let (segment, offset) = self.places.next()?;
            match read(&segment, offset) {
                Ok(None) => {}
                Ok(Some(recent)) => return Some(Ok(recent)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn read(segment: &Segment, offset: u32) -> Result<Option<Recent>> {
    let stored = segment.stored(offset).map_err(Error::io(&segment.path))?;
    let Some((head, mut stored)) = stored else { return Ok(None) };
    let mut looks = Vec::with_capacity(stored.looks.len());
    for (quality, codes) in std::mem::take(&mut stored.looks) {
        let embedding = Embedding::new(codes.to_f32(), segment.head.generation)?;
        looks.push(Look { quality, embedding });
    }
    let id = RecordId(head.id);
    let Stored { camera, track, last, .. } = stored;
    Ok(Some(Recent { id, camera, track, last, looks }))
}
