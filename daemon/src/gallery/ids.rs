//! Numbers of records, reserved on disk before they are given out, so that none is given twice:
//! not after an erasure of the newest, not after a power cut that took the newest.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crc32fast::hash;

use crate::error::{Error, Result};

/// Numbers that are reserved at a time; what is left of them is given up at a restart.
const BLOCK: u64 = 1024;

pub(super) struct Numbers {
    file: File,
    next: u64,
    reserved: u64,
}

impl Numbers {
    /// Goes on above what was ever reserved and above `seen`, the largest number in the files.
    pub(super) fn open(path: &Path, seen: u64) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::io(path))?;
        let mut bytes = [0; 12];
        let read = file.read_exact_at(&mut bytes, 0);
        let (number, sum) = bytes.split_at(8);
        let number = u64::from_le_bytes(number.try_into().unwrap_or_default());
        let is_whole = read.is_ok() && hash(&number.to_le_bytes()).to_le_bytes() == sum;
        if !is_whole && seen > 0 {
            tracing::error!(path = %path.display(), "Numbers of records: the file is damaged.");
        }
        let known = if is_whole { number } else { 1 };
        // Without the file, what was reserved and never seen is at most a block.
        let above = if is_whole { seen + 1 } else { seen + 1 + BLOCK };
        let next = known.max(if seen > 0 { above } else { 1 });
        Ok(Self { file, next, reserved: next })
    }

    /// The next number.
    pub(super) fn next(&mut self) -> io::Result<u64> {
        if self.next >= self.reserved {
            let reserved = self.next + BLOCK;
            let mut bytes = reserved.to_le_bytes().to_vec();
            bytes.extend(hash(&bytes).to_le_bytes());
            self.file.write_all_at(&bytes, 0)?;
            self.file.sync_all()?;
            self.reserved = reserved;
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}
