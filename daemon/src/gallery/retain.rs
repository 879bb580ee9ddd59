//! Retention: what is old goes, portraits before tracks, the oldest first, never what is held.

use std::sync::Arc;

use super::{
    Gallery, Writer,
    erase::{Doomed, live},
    segment::{Row, Segment, millis},
};
use crate::{alert::Wall, error::Result};

/// Most records that one call deletes for their age or number: others wait to append meanwhile.
const AT_ONCE: usize = 20_000;

impl Gallery {
    /// Deletes what is over the limits of age, bytes and number, and puts on disk what was appended.
    /// Meant to be called every minute or so; a large backlog takes several calls. `wall` is now:
    /// nothing is too old as long as the clock is not believed.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be written or deleted.
    pub fn upkeep(&self, wall: Wall) -> Result<()> {
        self.may_write()?;
        let mut writer = self.writer();
        self.drop_pictures()?;
        if wall.believed() {
            let age = i64::try_from(self.settings.max_age.as_millis()).unwrap_or(i64::MAX);
            let oldest = millis(wall.at).saturating_sub(age);
            let doomed = self.first_that(|row| row.last() < oldest, AT_ONCE)?;
            self.expire(&mut writer, &doomed)?;
        }
        self.drop_bytes(&mut writer)?;
        let records = self.counts().records;
        let surplus = records.saturating_sub(self.settings.max_tracks).min(AT_ONCE);
        let doomed = self.first_that(|_| true, surplus)?;
        self.expire(&mut writer, &doomed)?;
        self.sync_files(&mut writer)?;
        Ok(())
    }

    fn expire(&self, writer: &mut Writer, doomed: &[Doomed]) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        let erased = self.remove(writer, doomed)?;
        let mut shared = self.shared_mut();
        shared.counts.expired += erased.records as u64;
        tracing::debug!(records = erased.records, "Old tracks deleted.");
        Ok(())
    }

    /// The oldest rows that are `meant` and not held, at most `limit`.
    fn first_that(&self, meant: impl Fn(&Row) -> bool, limit: usize) -> Result<Vec<Doomed>> {
        let (mut doomed, mut left) = (Vec::new(), limit);
        if limit == 0 {
            return Ok(doomed);
        }
        let (segments, holds) = (self.shared().segments.clone(), self.holds());
        for segment in segments {
            let mut rows = Vec::new();
            for (index, row) in live(&segment) {
                if rows.len() < left && meant(&row) && !self.is_held(&holds, &segment, &row)? {
                    rows.push(index);
                }
            }
            left -= rows.len();
            if !rows.is_empty() {
                doomed.push((segment, rows));
            }
            if left == 0 {
                break;
            }
        }
        Ok(doomed)
    }

    /// Deletes the oldest files of portraits until they fit, but for those with a portrait that is
    /// held.
    fn drop_pictures(&self) -> Result<()> {
        let files: Vec<u32> = self.shared().pictures.files.keys().copied().collect();
        for file in files {
            if self.shared().pictures.bytes() <= self.settings.max_picture_bytes {
                break;
            }
            if self.has_held_picture(file)? {
                continue;
            }
            let mut shared = self.shared_mut();
            let live = shared.pictures.files.get(&file).map_or(0, |known| known.live);
            shared.pictures.remove(file)?;
            shared.counts.pictures_expired += live as u64;
            tracing::debug!(pictures = live, "Old portraits deleted.");
        }
        Ok(())
    }

    fn has_held_picture(&self, file: u32) -> Result<bool> {
        let holds = self.holds();
        if holds.is_empty() {
            return Ok(false);
        }
        let segments = self.shared().segments.clone();
        for segment in segments {
            for (_, row) in live(&segment).into_iter().filter(|(_, row)| row.picture == file) {
                if self.is_held(&holds, &segment, &row)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Deletes the oldest files of tracks until they fit. What is held in them stays, with its file.
    fn drop_bytes(&self, writer: &mut Writer) -> Result<()> {
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|s| s.bytes()).sum::<u64>();
        let (segments, holds) = (self.shared().segments.clone(), self.holds());
        let mut over = bytes(&segments).saturating_sub(self.settings.max_bytes);
        for segment in segments {
            let is_active = writer.active.values().any(|(active, _)| Arc::ptr_eq(active, &segment));
            if over == 0 {
                break;
            }
            if is_active {
                continue;
            }
            let mut rows = Vec::new();
            for (index, row) in live(&segment) {
                if !self.is_held(&holds, &segment, &row)? {
                    rows.push(index);
                }
            }
            let size = segment.bytes();
            if rows.len() == segment.rows().live {
                over = over.saturating_sub(size);
            }
            if rows.is_empty() && segment.rows().live == 0 {
                self.drop_segment(writer, &segment)?;
                continue;
            }
            self.expire(writer, &[(segment, rows)])?;
        }
        Ok(())
    }
}
