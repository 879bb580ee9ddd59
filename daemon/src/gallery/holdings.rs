//! What holds keep, and what that takes.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Gallery, Selection, Settings, erase::live, survey::reach};
use crate::{alert::Wall, error::Result, frame::CameraId};

/// What one hold keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Records.
    pub records: usize,
    /// Portraits of these.
    pub pictures: usize,
    /// When the first of them was first seen, in whole milliseconds.
    pub first: Option<Timestamp>,
    /// When the last of them was last seen.
    pub last: Option<Timestamp>,
    /// Those that would be deleted by their age.
    pub overdue: usize,
}

/// What all of some holds keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Of each alone, in their order: a record that several mean counts for each.
    pub each: Vec<Holding>,
    /// Records that any of them keeps.
    pub records: usize,
    /// Those of them that would be deleted by their age.
    pub overdue: usize,
    /// Bytes of the files of tracks that stay: a file stays whole with one record in it.
    pub track_bytes: u64,
    /// The same of the portraits' files.
    pub picture_bytes: u64,
    /// Damaged files and parts of files: nobody can say who is in them.
    pub damaged: usize,
    /// The cameras of whom there are records.
    pub cameras: Vec<CameraId>,
}

impl Gallery {
    /// What these selections keep, or would keep. A moment that is not believed makes nothing overdue.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where a file cannot be read.
    pub fn holdings(&self, selections: &[Selection], wall: Wall) -> Result<Holdings> {
        let oldest = if wall.believed() { self.oldest(wall) } else { i64::MIN };
        let writer = self.writer();
        let (segments, cameras, pictures) = {
            let shared = self.shared();
            (shared.segments.clone(), shared.cameras.clone(), shared.pictures.files.clone())
        };
        let each = vec![Holding::default(); selections.len()];
        let mut held = Holdings { each, cameras, ..Holdings::default() };
        let mut files = BTreeSet::new();
        for segment in segments {
            let before = held.records;
            for (_, row) in live(&segment) {
                let (mut record, mut is_held) = (None, false);
                let has_picture = pictures.contains_key(&row.picture);
                for (selection, holding) in selections.iter().zip(&mut held.each) {
                    if !self.means_of(selection, &segment, &row, &mut record)? {
                        continue;
                    }
                    is_held = true;
                    holding.records += 1;
                    holding.pictures += usize::from(has_picture);
                    holding.overdue += usize::from(row.last() < oldest);
                    reach(&mut holding.first, &mut holding.last, &row);
                }
                held.records += usize::from(is_held);
                held.overdue += usize::from(is_held && row.last() < oldest);
                if is_held && has_picture {
                    files.insert(row.picture);
                }
            }
            held.track_bytes += if held.records > before { segment.bytes() } else { 0 };
        }
        let sizes = files.iter().filter_map(|file| pictures.get(file));
        held.picture_bytes = sizes.map(|known| known.bytes).sum();
        held.damaged = self.damaged(&writer)?;
        Ok(held)
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
