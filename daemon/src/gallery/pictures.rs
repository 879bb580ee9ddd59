//! Files of portraits: written beside the tracks, read only where somebody looks, dropped first.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use spotter_models::Generation;

use super::{
    layout::{self, FILE_HEAD, FileHead, PICTURE_HEAD, Place},
    segment::{parse_head, zero},
};
use crate::error::{Error, Result};

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) bytes: u64,
    /// Portraits in it that belong to a record.
    pub(super) live: usize,
}

/// All files of portraits by number.
#[derive(Default)]
pub(super) struct Pictures {
    folder: PathBuf,
    pub(super) files: BTreeMap<u32, Known>,
    open: Option<(u32, File)>,
    last: u32,
    dirty: bool,
}

impl Pictures {
    /// Looks what is there; opens no file.
    pub(super) fn new(folder: &Path, numbers: &[u32]) -> Result<Self> {
        let mut all = Self { folder: folder.to_path_buf(), ..Self::default() };
        for number in numbers {
            let path = all.path(*number);
            let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
            all.files.insert(*number, Known { bytes, live: 0 });
            all.last = all.last.max(*number);
        }
        Ok(all)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}.pictures"))
    }

    /// Checks the heads, and cuts off what belongs to no record: a crash came between the portrait
    /// and its record. `ends` are the portraits of all records.
    pub(super) fn settle(&mut self, ends: &BTreeMap<u32, u64>) -> Result<()> {
        for number in self.files.keys().copied().collect::<Vec<_>>() {
            let path = self.path(number);
            let mut head = vec![0; FILE_HEAD];
            let file = OpenOptions::new().read(true).write(true).open(&path);
            let file = file.map_err(Error::io(&path))?;
            let read = file.read_exact_at(&mut head, 0);
            let whole = read.is_ok()
                && match parse_head(&path, layout::PICTURES, &head) {
                    Ok(_) => true,
                    Err(error @ Error::Config { .. }) => return Err(error),
                    Err(_) => false,
                };
            let Some(known) = self.files.get_mut(&number) else { continue };
            if !whole || known.live == 0 {
                // Nobody could find or erase what is in it.
                let why = if whole { "no track that can be read has any" } else { "is damaged" };
                let path = path.display();
                tracing::error!(%path, "A file of portraits is deleted: {why}.");
                self.files.remove(&number);
                let path = self.path(number);
                fs::remove_file(&path).map_err(Error::io(&path))?;
                continue;
            }
            let end = ends.get(&number).copied().unwrap_or(0).max(FILE_HEAD as u64);
            if known.bytes > end {
                file.set_len(end).map_err(Error::io(&path))?;
                known.bytes = end;
            }
        }
        Ok(())
    }

    /// Writes a portrait; where it is then. What a failed write left is cut off again.
    pub(super) fn write(&mut self, id: u64, jpeg: &[u8], roll: u64) -> io::Result<Place> {
        let is_full = |number: &u32| self.files.get(number).is_none_or(|known| known.bytes >= roll);
        if self.open.as_ref().is_none_or(|(number, _)| is_full(number)) {
            self.sync()?;
            self.open = Some(self.create(id)?);
        }
        let Some((number, file)) = &self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let known = self.files.entry(*number).or_default();
        let bytes = layout::picture(id, jpeg);
        if let Err(error) = file.write_all_at(&bytes, known.bytes) {
            let _ = file.set_len(known.bytes);
            return Err(error);
        }
        let place = Place { file: *number, length: bytes.len() as u32, offset: known.bytes };
        known.bytes += bytes.len() as u64;
        known.live += 1;
        self.dirty = true;
        Ok(place)
    }

    fn create(&mut self, id: u64) -> io::Result<(u32, File)> {
        let number = self.last + 1;
        let path = self.path(number);
        let make = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
            let head = FileHead { generation: Generation([0; 16]), size: 0, first_id: id };
            file.write_all_at(&layout::file_head(layout::PICTURES, &head), 0)?;
            file.sync_all()?;
            File::open(&self.folder)?.sync_all()?;
            Ok(file)
        };
        let file = make().inspect_err(|_| drop(fs::remove_file(&path)))?;
        self.last = number;
        self.files.insert(number, Known { bytes: FILE_HEAD as u64, live: 0 });
        Ok((number, file))
    }

    /// Takes the last portrait back, whose record could not be written.
    pub(super) fn undo(&mut self, place: Place) {
        let Some((number, file)) = self.open.as_ref().filter(|(n, _)| *n == place.file) else {
            return;
        };
        if let Some(known) = self.files.get_mut(number)
            && file.set_len(place.offset).is_ok()
        {
            known.bytes = place.offset;
            known.live = known.live.saturating_sub(1);
        }
    }

    /// The JPEG of a record; `None` where it was dropped or is damaged.
    pub(super) fn read(&self, place: Place, id: u64) -> Result<Option<Vec<u8>>> {
        if !self.files.contains_key(&place.file) {
            return Ok(None);
        }
        let path = self.path(place.file);
        let mut bytes = vec![0; (place.length as usize).min(PICTURE_HEAD + super::MAX_PORTRAIT)];
        let file = File::open(&path).map_err(Error::io(&path))?;
        match file.read_exact_at(&mut bytes, place.offset) {
            Ok(()) => Ok(layout::parse_picture(&bytes, id).map(<[u8]>::to_vec)),
            // A power cut took the end of the file.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Overwrites portraits with zeros, on disk when it returns; a file in which none is left goes as
    /// a whole. Gives how many were there.
    pub(super) fn erase(&mut self, places: &[Place]) -> Result<usize> {
        let mut by_file: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        places.iter().for_each(|place| by_file.entry(place.file).or_default().push(*place));
        let mut erased = 0;
        for (number, places) in by_file {
            let Some(known) = self.files.get_mut(&number) else { continue };
            erased += places.len();
            known.live = known.live.saturating_sub(places.len());
            let is_open = self.open.as_ref().is_some_and(|(open, _)| *open == number);
            if known.live == 0 && !is_open {
                self.remove(number)?;
                continue;
            }
            let path = self.path(number);
            let wipe = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).open(&path)?;
                let length = file.metadata()?.len();
                for place in &places {
                    let end = place.offset.saturating_add(u64::from(place.length)).min(length);
                    zero(&file, place.offset, end)?;
                }
                file.sync_data()
            };
            wipe().map_err(Error::io(&path))?;
        }
        Ok(erased)
    }

    /// Overwrites whatever is in no `kept` portrait of any file, on disk when it returns.
    pub(super) fn erase_others(&self, mut kept: BTreeMap<u32, Vec<Place>>) -> Result<()> {
        for number in self.files.keys() {
            let mut places = kept.remove(number).unwrap_or_default();
            places.sort_by_key(|place| place.offset);
            let path = self.path(*number);
            let wipe = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).open(&path)?;
                let mut at = FILE_HEAD as u64;
                for place in &places {
                    zero(&file, at, place.offset)?;
                    at = at.max(place.offset.saturating_add(u64::from(place.length)));
                }
                zero(&file, at, file.metadata()?.len())?;
                file.sync_data()
            };
            wipe().map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// Deletes a file.
    pub(super) fn remove(&mut self, number: u32) -> Result<()> {
        if self.open.as_ref().is_some_and(|(open, _)| *open == number) {
            self.open = None;
        }
        let path = self.path(number);
        self.files.remove(&number);
        fs::remove_file(&path).map_err(Error::io(&path))
    }

    /// Puts on disk what was written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty)
            && let Some((_, file)) = &self.open
        {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|known| known.bytes).sum()
    }
}
