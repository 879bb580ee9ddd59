//! Room on the disk that is kept back for events: a file of a fixed size, deleted when the disk is
//! full, so that sightings still find room when a log file has eaten the rest.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

/// The file that holds room back, or the wish for it.
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Takes the room if it is there. A disk that is full now is no error: the reserve counts as
    /// released and is taken later.
    pub(super) fn new(path: PathBuf, bytes: u64) -> Self {
        let mut reserve = Self { path, bytes, held: false };
        if let Err(error) = reserve.take() {
            tracing::warn!(%error, path = %reserve.path.display(), "No room for the outbox's reserve.");
        }
        reserve
    }

    /// Whether the room is held back now.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Its size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the room, whole or not at all.
    pub(super) fn take(&mut self) -> io::Result<()> {
        if self.held || self.bytes == 0 {
            self.held = true;
            return Ok(());
        }
        let taken = File::create(&self.path).and_then(|file| self.fill(file));
        match taken {
            Ok(()) => self.held = true,
            // Half a reserve would be room that nobody can use.
            Err(_) => drop(fs::remove_file(&self.path)),
        }
        taken
    }

    fn fill(&self, mut file: File) -> io::Result<()> {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // A file system that cannot allocate ahead gets real blocks.
        let block = [0x5a; 64 * 1024];
        let mut left = self.bytes;
        while left > 0 {
            let now = left.min(block.len() as u64);
            file.write_all(block.get(..now as usize).unwrap_or(&block))?;
            left -= now;
        }
        file.sync_all()
    }

    /// Gives the room to whoever writes next; says whether there was any to give.
    pub(super) fn release(&mut self) -> bool {
        let was_held = std::mem::take(&mut self.held);
        if was_held
            && self.bytes > 0
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "Outbox's reserve not released.");
        }
        was_held
    }
}
