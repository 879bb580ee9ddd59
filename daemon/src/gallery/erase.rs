//! Erasing: no byte of what is erased is left in a file of the folder, whatever happens meanwhile.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use super::{
    Gallery, Writer,
    hold::{Hold, HoldId, Placed, Release, Why},
    layout::{HEAD, Place},
    record::Stored,
    segment::{Row, Segment},
    selection::{Selection, Sure},
};
use crate::error::{Error, Result};

/// What an erasure did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Records that are gone.
    pub records: usize,
    /// Portraits that are gone with them.
    pub pictures: usize,
    /// Records that were meant and stay, because they are held.
    pub held: usize,
    /// Damaged parts of files that are gone: who was in them nobody can say any more.
    pub damaged: usize,
}

/// Rows of one file that are to go.
pub(super) type Doomed = (Arc<Segment>, Vec<usize>);

impl Gallery {
    /// Erases what is selected, for good: when this returns, neither the files of the folder nor
    /// memory have a byte of its vectors, times or portraits. What is held stays and is counted,
    /// unless `force` is set. An erasure that a crash cuts short is finished at the next start. Parts
    /// of files that are damaged go too, unless single records are selected or anything is held:
    /// nobody can say any more who was in them.
    ///
    /// # Errors
    /// [`Error::Io`]: what is erased so far can be found by nobody; the rest is finished at the next
    /// start, or by the same call.
    pub fn erase(&self, selection: &Selection, force: bool) -> Result<Erased> {
        self.may_write()?;
        let mut writer = self.writer();
        let (doomed, held) = self.select(selection, force)?;
        let mut erased = self.remove(&mut writer, &doomed)?;
        erased.held = held;
        if self.buries_damaged(selection, force) {
            erased.damaged = self.bury_damaged(&mut writer)?;
        }
        tracing::info!(
            records = erased.records,
            pictures = erased.pictures,
            held,
            damaged = erased.damaged,
            "Erased from the gallery."
        );
        Ok(erased)
    }

    /// Keeps what is selected from being deleted by retention and from being erased, over restarts. `request`
    /// is the id by which it is known that the same is said twice.
    ///
    /// # Errors
    /// [`Error::Config`] beyond [`MAX_HOLDS`](super::MAX_HOLDS), or for the id of another request;
    /// [`Error::Io`] where it cannot be written: nothing is held then.
    pub fn hold(&self, selection: Selection, why: Why, request: Option<&str>) -> Result<Placed> {
        self.may_write()?;
        let _writer = self.writer();
        self.shared_mut().holds.add(selection, why, request)
    }

    /// The hold that [`Gallery::hold`] would find to be the same; `None` where it would make one.
    ///
    /// # Errors
    /// [`Error::Config`] as there.
    pub fn known_hold(
        &self,
        selection: &Selection,
        why: &Why,
        request: Option<&str>,
    ) -> Result<Option<Hold>> {
        let shared = self.shared();
        match shared.holds.known(selection, why, request)? {
            Some(known) => Ok(Some(known.clone())),
            None => shared.holds.has_room().map(|()| None),
        }
    }

    /// Ends a hold: what it alone held expires by the rules of all.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written: it holds on then.
    pub fn release(&self, id: HoldId, why: Why) -> Result<Release> {
        self.may_write()?;
        let _writer = self.writer();
        self.shared_mut().holds.release(id, why)
    }

    /// All holds.
    pub fn holds(&self) -> Vec<Hold> {
        self.shared().holds.list.clone()
    }

    /// The rows that a selection means, without those that are held, and how many are held.
    fn select(&self, selection: &Selection, force: bool) -> Result<(Vec<Doomed>, usize)> {
        let (segments, holds) = (self.shared().segments.clone(), self.holds());
        let (mut doomed, mut held) = (Vec::new(), 0);
        for segment in segments {
            let live: Vec<(usize, Row)> = live(&segment);
            let mut rows = Vec::new();
            for (index, row) in live {
                if !self.means(selection, &segment, &row)? {
                    continue;
                }
                if !force && self.is_held(&holds, &segment, &row)? {
                    held += 1;
                } else {
                    rows.push(index);
                }
            }
            if !rows.is_empty() {
                doomed.push((segment, rows));
            }
        }
        Ok((doomed, held))
    }

    /// Whether damaged parts go with it: where it may mean who was in them, and nothing is held.
    pub(super) fn buries_damaged(&self, selection: &Selection, force: bool) -> bool {
        let is_wide = matches!(selection, Selection::Span { .. } | Selection::Camera(_));
        is_wide && (force || self.shared().holds.list.is_empty())
    }

    pub(super) fn means(
        &self,
        selection: &Selection,
        segment: &Segment,
        row: &Row,
    ) -> Result<bool> {
        self.means_of(selection, segment, row, &mut None)
    }

    /// As [`Gallery::means`], for several selections: the record is read once at most, into `record`.
    pub(super) fn means_of(
        &self,
        selection: &Selection,
        segment: &Segment,
        row: &Row,
        record: &mut Option<Option<Stored>>,
    ) -> Result<bool> {
        let id = segment.id(row);
        let sure = selection.row(id, row, |camera| self.shared().camera(camera));
        if sure != Sure::Ask {
            return Ok(sure == Sure::Yes);
        }
        let read = match record {
            Some(read) => read,
            None => {
                let stored = segment.stored(row.offset).map_err(Error::io(&segment.path))?;
                record.insert(stored.map(|(_, stored)| stored))
            }
        };
        Ok(read.as_ref().is_some_and(|stored| selection.record(id, stored)))
    }

    /// Whether any hold means a row.
    pub(super) fn is_held(&self, holds: &[Hold], segment: &Segment, row: &Row) -> Result<bool> {
        Ok(self.holder(holds, segment, row)?.is_some())
    }

    /// The first hold that means a row.
    pub(super) fn holder<'a>(
        &self,
        holds: &'a [Hold],
        segment: &Segment,
        row: &Row,
    ) -> Result<Option<&'a Hold>> {
        let mut record = None;
        for hold in holds {
            if self.means_of(&hold.selection, segment, row, &mut record)? {
                return Ok(Some(hold));
            }
        }
        Ok(None)
    }

    /// Erases rows. First every one is marked, so that a crash from here on cannot bring any back;
    /// then it goes from memory, then its portrait, then its bytes.
    pub(super) fn remove(&self, writer: &mut Writer, doomed: &[Doomed]) -> Result<Erased> {
        let mut erased = Erased::default();
        let mut marked = Vec::new();
        for (segment, indices) in doomed {
            let io = || Error::io(&segment.path);
            let mut heads = Vec::with_capacity(indices.len());
            for index in indices {
                let row = segment.rows().list.get(*index).copied();
                let Some(row) = row.filter(Row::is_live) else { continue };
                let head = segment.record_head(row.offset).map_err(io())?;
                segment.mark_erased(u64::from(row.offset)).map_err(io())?;
                heads.push((u64::from(row.offset), head));
            }
            segment.sync().map_err(io())?;
            segment.forget(indices);
            erased.records += heads.len();
            marked.push((segment, heads));
        }
        let places: Vec<Place> = marked
            .iter()
            .flat_map(|(_, heads)| heads)
            .filter_map(|(_, head)| head.map(|head| head.picture))
            .filter(|place| place.file != 0)
            .collect();
        erased.pictures = self.shared_mut().pictures.erase(&places)?;
        for (segment, heads) in marked {
            let is_active = writer.active.values().any(|(active, _)| Arc::ptr_eq(active, segment));
            if segment.rows().live == 0 && !is_active && !self.keeps_damaged(writer, segment) {
                self.drop_segment(writer, segment)?;
                continue;
            }
            let io = || Error::io(&segment.path);
            for (at, head) in heads {
                // A head that cannot be read any more still has its record behind it.
                let length = head.map_or(0, |head| head.length as u64);
                let body = at + HEAD as u64;
                segment.zero(body, body + length).map_err(io())?;
            }
            segment.sync().map_err(io())?;
        }
        Ok(erased)
    }

    /// Whether a file has damaged parts that stay as long as anything is held: who is held may be in them.
    pub(super) fn keeps_damaged(&self, writer: &Writer, segment: &Arc<Segment>) -> bool {
        !self.shared().holds.list.is_empty()
            && writer.damaged.iter().any(|(other, ..)| Arc::ptr_eq(other, segment))
    }

    /// Deletes a file of which no record is left.
    pub(super) fn drop_segment(&self, writer: &mut Writer, segment: &Arc<Segment>) -> Result<()> {
        writer.damaged.retain(|(other, ..)| !Arc::ptr_eq(other, segment));
        self.shared_mut().segments.retain(|other| !Arc::ptr_eq(other, segment));
        fs::remove_file(&segment.path).map_err(Error::io(&segment.path))
    }

    /// Overwrites damaged parts of files, deletes what was set aside of them, and overwrites portraits
    /// that belong to nobody any more.
    fn bury_damaged(&self, writer: &mut Writer) -> Result<usize> {
        let aside = self.set_aside()?;
        let damaged = std::mem::take(&mut writer.damaged);
        if aside.is_empty() && damaged.is_empty() {
            return Ok(0);
        }
        self.bury(&damaged)?;
        for path in &aside {
            fs::remove_file(path).map_err(Error::io(path))?;
        }
        Ok(damaged.len().max(aside.len()))
    }

    /// Overwrites damaged parts of files, and portraits that belong to nobody any more.
    pub(super) fn bury(&self, damaged: &[(Arc<Segment>, u64, u64)]) -> Result<()> {
        for (segment, from, to) in damaged {
            let buried = segment.bury(*from, *to).and_then(|()| segment.sync());
            buried.map_err(Error::io(&segment.path))?;
        }
        let mut kept: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        let segments = self.shared().segments.clone();
        for segment in segments {
            for (_, row) in live(&segment).into_iter().filter(|(_, row)| row.picture != 0) {
                let head = segment.record_head(row.offset).map_err(Error::io(&segment.path))?;
                let place = head.map(|head| head.picture);
                kept.entry(row.picture).or_default().extend(place);
            }
        }
        self.shared_mut().pictures.erase_others(kept)
    }

    pub(super) fn set_aside(&self) -> Result<Vec<PathBuf>> {
        let folder = &self.settings.folder;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
            let entry = entry.map_err(Error::io(folder))?;
            if entry.file_name().to_string_lossy().contains(".tracks.damaged") {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// The rows of a file that are there, with their indices.
pub(super) fn live(segment: &Segment) -> Vec<(usize, Row)> {
    let rows = segment.rows();
    rows.list.iter().copied().enumerate().filter(|(_, row)| row.is_live()).collect()
}
