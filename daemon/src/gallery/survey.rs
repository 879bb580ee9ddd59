//! What an erasure would remove, before it does.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Gallery, RecordId, Writer,
    erase::live,
    hold::{Hold, HoldId},
    segment::Row,
    selection::Selection,
};
use crate::{
    error::{Error, Result},
    frame::CameraId,
    sighting::SightingId,
};

/// Records that a selection means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Records that nothing holds.
    pub records: usize,
    /// Portraits of these.
    pub pictures: usize,
    /// When the first of them was first seen, in whole milliseconds.
    pub first: Option<Timestamp>,
    /// When the last of them was last seen.
    pub last: Option<Timestamp>,
    /// Holds that keep further ones, and how many. One that several hold counts for the oldest hold.
    pub held: Vec<(Hold, usize)>,
    /// Damaged parts of files that would go too.
    pub damaged: usize,
    /// Damaged parts of files that would stay, whoever is in them.
    pub unreadable: usize,
    /// Where a camera is meant that has no record here: those that have.
    pub cameras: Vec<CameraId>,
}

/// One record, without its vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// Its number.
    pub id: RecordId,
    /// Who saw it.
    pub camera: CameraId,
    /// The track's number there.
    pub track: u64,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// What was told of it.
    pub sightings: Vec<SightingId>,
}

impl Gallery {
    /// What [`Gallery::erase`] would do with this selection now, where it is not forced.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn survey(&self, selection: &Selection) -> Result<Survey> {
        let writer = self.writer();
        let (segments, holds) = (self.shared().segments.clone(), self.holds());
        let mut survey = Survey::default();
        let mut held: BTreeMap<HoldId, usize> = BTreeMap::new();
        for segment in segments {
            for (_, row) in live(&segment) {
                if !self.means(selection, &segment, &row)? {
                    continue;
                }
                if let Some(hold) = self.holder(&holds, &segment, &row)? {
                    *held.entry(hold.id).or_default() += 1;
                    continue;
                }
                survey.records += 1;
                survey.pictures +=
                    usize::from(self.shared().pictures.files.contains_key(&row.picture));
                reach(&mut survey.first, &mut survey.last, &row);
            }
        }
        let named = |hold: Hold| held.get(&hold.id).map(|records| (hold, *records));
        survey.held = holds.into_iter().filter_map(named).collect();
        let damaged = self.damaged(&writer)?;
        match self.buries_damaged(selection, false) {
            true => survey.damaged = damaged,
            false => survey.unreadable = damaged,
        }
        let camera = selection.camera();
        if camera.is_some_and(|camera| self.shared().camera(camera).is_none()) {
            survey.cameras.clone_from(&self.shared().cameras);
        }
        Ok(survey)
    }

    /// Damaged files and parts of files.
    pub(super) fn damaged(&self, writer: &Writer) -> Result<usize> {
        let aside = self.set_aside()?.len() + self.shared().headless;
        Ok(writer.damaged.len().max(aside))
    }

    /// The records that are meant, whether held or not; `only_told` leaves those out of whom no sighting told.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn persons(&self, selection: &Selection, only_told: bool) -> Result<Vec<Person>> {
        let segments = self.shared().segments.clone();
        let mut persons = Vec::new();
        for segment in segments {
            for (_, row) in live(&segment) {
                if only_told && !row.sighted || !self.means(selection, &segment, &row)? {
                    continue;
                }
                let stored = segment.stored(row.offset).map_err(Error::io(&segment.path))?;
                persons.extend(stored.map(|(head, stored)| Person {
                    id: RecordId(head.id),
                    camera: stored.camera,
                    track: stored.track,
                    first: stored.first,
                    last: stored.last,
                    sightings: stored.sightings,
                }));
            }
        }
        Ok(persons)
    }
}

/// Widens a time to a record's.
pub(super) fn reach(first: &mut Option<Timestamp>, last: &mut Option<Timestamp>, row: &Row) {
    let time = |ms| Timestamp::from_millisecond(ms).ok();
    *first = [*first, time(row.first)].into_iter().flatten().min();
    *last = [*last, time(row.last())].into_iter().flatten().max();
}
