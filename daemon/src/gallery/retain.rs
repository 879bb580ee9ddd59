//! Retention: what is old goes, portraits before tracks, the oldest first, never what is held.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use jiff::Timestamp;

use super::{
    Gallery, Writer,
    erase::{Doomed, live},
    hold::HoldId,
    segment::{Row, Segment, millis},
};
use crate::{alert::Wall, aside, error::Result};

/// Most records that one call deletes for their age or number: others wait to append meanwhile.
const AT_ONCE: usize = 20_000;

/// Records that are over a limit and stay, by the hold that keeps them.
type Spared = BTreeMap<HoldId, usize>;

/// What was last told of what is held beyond the limits.
#[derive(Default)]
pub(super) struct Told {
    spared: Spared,
    is_over: bool,
}

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
        let are_pictures_over = self.drop_pictures()?;
        let (mut by_age, mut by_number) = (Spared::new(), Spared::new());
        let mut damaged = Ok(());
        if wall.believed() {
            let oldest = self.oldest(wall);
            damaged = self.expire_damaged(&mut writer, oldest);
            let doomed = self.first_that(|row| row.last() < oldest, AT_ONCE, &mut by_age)?;
            self.expire(&mut writer, &doomed)?;
        }
        let by_bytes = self.drop_bytes(&mut writer)?;
        let records = self.counts().records;
        let surplus = records.saturating_sub(self.settings.max_tracks).min(AT_ONCE);
        let doomed = self.first_that(|_| true, surplus, &mut by_number)?;
        self.expire(&mut writer, &doomed)?;
        let is_over = are_pictures_over || by_bytes.is_some();
        let mut spared = by_age;
        for (hold, records) in by_number.into_iter().chain(by_bytes.unwrap_or_default()) {
            let known = spared.entry(hold).or_default();
            *known = records.max(*known);
        }
        self.tell_spared(&mut writer, spared, is_over);
        self.sync_files(&mut writer)?;
        damaged
    }

    /// Deletes what is damaged and too old, unless anything is held: who is held may be in it. Nobody can say of
    /// when a damaged part is, but what stands behind it in its file is of later; and nothing is of later than
    /// the last change of its file.
    fn expire_damaged(&self, writer: &mut Writer, oldest: i64) -> Result<()> {
        if !self.holds().is_empty() {
            return Ok(());
        }
        let before = Timestamp::from_millisecond(oldest).unwrap_or(Timestamp::MIN);
        let before = SystemTime::try_from(before).unwrap_or(SystemTime::UNIX_EPOCH);
        aside::expire(self.set_aside()?, before)?;
        let is_old = |(segment, _, to): &(Arc<Segment>, u64, u64)| {
            let rows = segment.rows();
            let has_old_after = rows
                .list
                .iter()
                .any(|row| row.is_live() && u64::from(row.offset) >= *to && row.last() < oldest);
            let changed = segment.path.metadata().and_then(|file| file.modified());
            // Everybody else of the file is gone.
            let is_left = rows.live == 0 && !rows.list.is_empty();
            has_old_after || is_left || changed.is_ok_and(|changed| changed < before)
        };
        let damaged = std::mem::take(&mut writer.damaged);
        let (old, young): (Vec<_>, Vec<_>) = damaged.into_iter().partition(is_old);
        writer.damaged = young;
        if old.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.bury(&old) {
            writer.damaged.extend(old);
            return Err(error);
        }
        tracing::info!(parts = old.len(), "Damaged parts of files are deleted: they are too old.");
        for (segment, ..) in old {
            let is_active = writer.active.values().any(|(active, _)| Arc::ptr_eq(active, &segment));
            let stays =
                is_active || writer.damaged.iter().any(|(other, ..)| Arc::ptr_eq(other, &segment));
            let is_there = self.shared().segments.iter().any(|other| Arc::ptr_eq(other, &segment));
            if segment.rows().live == 0 && !stays && is_there {
                self.drop_segment(writer, &segment)?;
            }
        }
        Ok(())
    }

    /// What was last seen before it is too old, in milliseconds since 1970.
    pub(super) fn oldest(&self, wall: Wall) -> i64 {
        let age = i64::try_from(self.settings.max_age.as_millis()).unwrap_or(i64::MAX);
        millis(wall.at).saturating_sub(age)
    }

    /// Logs what stays as it is held: each hold when it keeps the first record, and whenever it keeps twice
    /// what was told.
    fn tell_spared(&self, writer: &mut Writer, spared: Spared, is_over: bool) {
        let holds = self.holds();
        writer.told.spared.retain(|hold, _| spared.contains_key(hold));
        for (id, tracks) in spared {
            let told = writer.told.spared.entry(id).or_default();
            let Some(hold) = holds.iter().find(|hold| hold.id == id) else { continue };
            if tracks >= (2 * *told).max(1) {
                *told = tracks;
                let (hold, reason) = (id.0, &hold.why.reason);
                tracing::info!(hold, reason, tracks, "Old tracks are not deleted: they are held.");
            }
        }
        if is_over && !std::mem::replace(&mut writer.told.is_over, is_over) {
            tracing::warn!(
                "The gallery cannot keep within its bytes, as what is held stays; all others are deleted the \
                 sooner. Release what is over (spotterd hold list), or allow more ([gallery] track_bytes, \
                 picture_bytes)."
            );
        }
        writer.told.is_over = is_over;
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

    /// The oldest rows that are `meant` and not held, at most `limit`; those that are held are counted.
    fn first_that(
        &self,
        meant: impl Fn(&Row) -> bool,
        limit: usize,
        spared: &mut Spared,
    ) -> Result<Vec<Doomed>> {
        let (mut doomed, mut left) = (Vec::new(), limit);
        if limit == 0 {
            return Ok(doomed);
        }
        let (segments, holds) = (self.shared().segments.clone(), self.holds());
        for segment in segments {
            let mut rows = Vec::new();
            for (index, row) in live(&segment) {
                if rows.len() >= left || !meant(&row) {
                    continue;
                }
                match self.holder(&holds, &segment, &row)? {
                    Some(hold) => *spared.entry(hold.id).or_default() += 1,
                    None => rows.push(index),
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
    /// held. Says whether these are too many.
    fn drop_pictures(&self) -> Result<bool> {
        let (mut is_held, fits) = (false, self.settings.max_picture_bytes);
        let files: Vec<u32> = self.shared().pictures.files.keys().copied().collect();
        for file in files {
            if self.shared().pictures.bytes() <= fits {
                break;
            }
            if self.has_held_picture(file)? {
                is_held = true;
                continue;
            }
            let mut shared = self.shared_mut();
            let live = shared.pictures.files.get(&file).map_or(0, |known| known.live);
            shared.pictures.remove(file)?;
            shared.counts.pictures_expired += live as u64;
            tracing::debug!(pictures = live, "Old portraits deleted.");
        }
        Ok(is_held && self.shared().pictures.bytes() > fits)
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

    /// Deletes the oldest files of tracks until they fit. What is held in them stays, with its file; what
    /// that is, where it is too much.
    fn drop_bytes(&self, writer: &mut Writer) -> Result<Option<Spared>> {
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|s| s.bytes()).sum::<u64>();
        let (segments, holds) = (self.shared().segments.clone(), self.holds());
        let mut over = bytes(&segments).saturating_sub(self.settings.max_bytes);
        let mut spared = Spared::new();
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
                match self.holder(&holds, &segment, &row)? {
                    Some(hold) => *spared.entry(hold.id).or_default() += 1,
                    None => rows.push(index),
                }
            }
            let (size, live) = (segment.bytes(), segment.rows().live);
            let stays = rows.len() < live || self.keeps_damaged(writer, &segment);
            if !stays {
                over = over.saturating_sub(size);
            }
            if live == 0 {
                if !stays {
                    self.drop_segment(writer, &segment)?;
                }
                continue;
            }
            self.expire(writer, &[(segment, rows)])?;
        }
        Ok((over > 0 && !spared.is_empty()).then_some(spared))
    }
}
