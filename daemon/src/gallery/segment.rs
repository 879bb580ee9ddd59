//! One file of tracks, and what is kept of it in memory.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::Timestamp;
use spotter_models::kernel::{FineCodes, Packed, Planes, Rotation};

use super::{
    layout::{self, BadHead, FILE_HEAD, FileHead, HEAD, Head, Part, Place},
    record::{self, Stored},
};
use crate::error::{Error, Result};

/// What is kept in memory of one record, besides its code: 40 bytes, read
/// only of those that may be found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// When it was seen first, in milliseconds since 1970.
    pub(super) first: i64,
    /// Its id above the file's first.
    id: u32,
    /// Where its head is in the file; 0 once it is erased.
    pub(super) offset: u32,
    /// How long it was seen, in milliseconds.
    span: u32,
    /// The low half of the track's number.
    pub(super) track: u32,
    /// The file of its portrait; 0 where it has none.
    pub(super) picture: u32,
    /// Index of the camera.
    pub(super) camera: u16,
    /// Whether anything was told of it.
    pub(super) sighted: bool,
}

impl Row {
    /// When it was seen last, in milliseconds since 1970.
    pub(super) fn last(&self) -> i64 {
        self.first.saturating_add(i64::from(self.span))
    }

    /// Whether it was seen for longer than can be said here, some seven weeks.
    pub(super) fn is_endless(&self) -> bool {
        self.span == u32::MAX
    }

    /// Whether it is still there.
    pub(super) fn is_live(&self) -> bool {
        self.offset != 0
    }
}

/// How the vectors of a file are kept in memory.
pub(super) enum Code {
    /// 8 bits a component, while the file grows.
    Exact(Packed),
    /// One bit a component of what is left beyond `centre`, rotated.
    Bits(Bits),
}

/// Signs of all vectors of a file, and what makes products of sums over them.
pub(super) struct Bits {
    pub(super) planes: Planes,
    pub(super) centre: Vec<f32>,
    /// What turns a sum over signs into a product.
    pub(super) factors: Vec<f32>,
    /// How many bits of a row are set.
    pub(super) ones: Vec<u16>,
}

/// The records of a file, in the order of their ids.
pub(super) struct Rows {
    pub(super) list: Vec<Row>,
    pub(super) code: Code,
    pub(super) live: usize,
}

/// One file of tracks, all of one generation.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) head: FileHead,
    file: File,
    rows: RwLock<Rows>,
}

/// What was found when a file was opened.
#[derive(Default)]
pub(super) struct Findings {
    /// Erasures that a crash cut short: where, and the head.
    pub(super) unfinished: Vec<(u64, Head)>,
    /// Damaged parts: from and to.
    pub(super) damaged: Vec<(u64, u64)>,
    /// Bytes at the end that were cut off.
    pub(super) torn: u64,
    /// Ends of the portraits in their files.
    pub(super) pictures: Vec<Place>,
    /// The file's length from now on.
    pub(super) length: u64,
    pub(super) newest_id: u64,
}

/// Milliseconds since 1970.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

impl Segment {
    /// Makes a file; what is there of a failed try is overwritten.
    pub(super) fn create(folder: &Path, number: u32, head: FileHead) -> Result<Self> {
        let path = folder.join(format!("{number:08}.tracks"));
        let make = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
            file.write_all_at(&layout::file_head(layout::TRACKS, &head), 0)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
            Ok(file)
        };
        let file = make().map_err(|error| {
            let _ = fs::remove_file(&path);
            Error::io(&path)(error)
        })?;
        let code = Code::Exact(Packed::new(head.size));
        let rows = RwLock::new(Rows { list: Vec::new(), code, live: 0 });
        Ok(Self { number, path, head, file, rows })
    }

    /// Opens a file: reads every record, cuts off what a crash left of the last one unless it is `only_read`.
    /// `camera` numbers the cameras.
    ///
    /// # Errors
    /// [`Error::Config`] for a file of a newer version; [`spotter_models::Error::Corrupt`] for what is
    /// no such file; [`Error::Io`].
    pub(super) fn open(
        path: &Path,
        number: u32,
        only_read: bool,
        camera: &mut dyn FnMut(&crate::frame::CameraId) -> Result<u16>,
    ) -> Result<(Self, Findings)> {
        let io = || Error::io(path);
        let file = OpenOptions::new().read(true).write(!only_read).open(path).map_err(io())?;
        let bytes = fs::read(path).map_err(io())?;
        let head = parse_head(path, layout::TRACKS, &bytes)?;
        let code = Code::Exact(Packed::new(head.size));
        let mut rows = Rows { list: Vec::new(), code, live: 0 };
        let mut found = Findings::default();
        let mut at = FILE_HEAD;
        while let Some(part) = layout::next(&bytes, at) {
            at = match part {
                Part::Record(record) => {
                    let end = at + HEAD + record.length;
                    let body = bytes.get(at + HEAD..end).unwrap_or_default();
                    found.pictures.push(record.picture);
                    found.newest_id = found.newest_id.max(record.id);
                    if record.erased {
                        if body.iter().any(|byte| *byte != 0) {
                            found.unfinished.push((at as u64, record));
                        }
                    } else if let Some(stored) = Stored::parse(body, head.size) {
                        let camera = camera(&stored.camera)?;
                        rows.push(&head, record, at as u64, camera, &stored)?;
                    } else {
                        found.damaged.push((at as u64, end as u64));
                    }
                    end
                }
                Part::DamagedBody(record) => {
                    let end = at + HEAD + record.length;
                    found.pictures.push(record.picture);
                    found.newest_id = found.newest_id.max(record.id);
                    found.damaged.push((at as u64, end as u64));
                    end
                }
                Part::Damaged { to } => {
                    found.damaged.push((at as u64, to as u64));
                    to
                }
                Part::Torn => {
                    found.torn = (bytes.len() - at) as u64;
                    break;
                }
                Part::Lost => {
                    if !only_read {
                        set_aside(path, bytes.get(at..).unwrap_or_default(), at)?;
                    }
                    found.damaged.push((at as u64, at as u64));
                    break;
                }
            };
        }
        if at < bytes.len() && !only_read {
            file.set_len(at as u64).and_then(|()| file.sync_all()).map_err(io())?;
        }
        found.length = at as u64;
        let rows = RwLock::new(rows);
        Ok((Self { number, path: path.to_path_buf(), head, file, rows }, found))
    }

    /// The rows, to read.
    pub(super) fn rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of a row.
    pub(super) fn id(&self, row: &Row) -> u64 {
        self.head.first_id + u64::from(row.id)
    }

    /// Whether a record with this id can still stand in this file.
    pub(super) fn can_hold(&self, id: u64) -> bool {
        u32::try_from(id.saturating_sub(self.head.first_id)).is_ok()
    }

    /// The row of a record.
    pub(super) fn find(&self, id: u64) -> Option<(usize, Row)> {
        let wanted = u32::try_from(id.checked_sub(self.head.first_id)?).ok()?;
        let rows = self.rows();
        let index = rows.list.binary_search_by_key(&wanted, |row| row.id).ok()?;
        rows.list.get(index).filter(|row| row.is_live()).map(|row| (index, *row))
    }

    /// Writes a record at `length`, the end of the file. What a failed write left is cut off again.
    pub(super) fn write(&self, bytes: &[u8], length: u64) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, length);
        if written.is_err() {
            // What cannot be cut off either is overwritten by the next record, or cut off at the next
            // start.
            let _ = self.file.set_len(length);
        }
        written
    }

    /// Adds a record that is in the file.
    pub(super) fn push(&self, head: Head, offset: u64, camera: u16, stored: &Stored) -> Result<()> {
        self.rows_mut().push(&self.head, head, offset, camera, stored)
    }

    /// Turns the vectors into bits, once the file grows no more.
    pub(super) fn seal(&self, rotation: &Rotation) {
        let bits = match &*self.rows() {
            Rows { code: Code::Exact(packed), list, .. } => encode(packed, list, rotation),
            Rows { code: Code::Bits(_), .. } => return,
        };
        let mut rows = self.rows_mut();
        if let Code::Exact(packed) = &mut rows.code {
            packed.wipe();
        }
        rows.code = Code::Bits(bits);
    }

    /// The cosine of a query of unit length and the pooled vector of a record; `None` where that was
    /// erased. `buffer` is used again by the next call.
    pub(super) fn cosine(
        &self,
        offset: u32,
        query: &[f32],
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<f32>> {
        buffer.resize(record::pooled_bytes(self.head.size), 0);
        self.file.read_exact_at(buffer, u64::from(offset) + HEAD as u64)?;
        Ok(FineCodes::cosine(buffer.get(4..).unwrap_or_default(), query))
    }

    /// The head of a record.
    pub(super) fn record_head(&self, offset: u32) -> io::Result<Option<Head>> {
        let mut bytes = [0; HEAD];
        self.file.read_exact_at(&mut bytes, u64::from(offset))?;
        Ok(layout::parse_head(&bytes))
    }

    /// A whole record; `None` where it was erased or is damaged by now.
    pub(super) fn stored(&self, offset: u32) -> io::Result<Option<(Head, Stored)>> {
        let Some(head) = self.record_head(offset)?.filter(|head| !head.erased) else {
            return Ok(None);
        };
        let mut body = vec![0; head.length];
        self.file.read_exact_at(&mut body, u64::from(offset) + HEAD as u64)?;
        let stored =
            (crc32fast::hash(&body) == head.sum).then(|| Stored::parse(&body, self.head.size));
        Ok(stored.flatten().map(|stored| (head, stored)))
    }

    /// Says in the file that a record is erased; on disk after [`Segment::sync`].
    pub(super) fn mark_erased(&self, offset: u64) -> io::Result<()> {
        self.file.write_all_at(&layout::ERASED.to_le_bytes(), offset + layout::STATE_AT)
    }

    /// Overwrites a part of the file with zeros.
    pub(super) fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        zero(&self.file, from, to)
    }

    /// Overwrites damaged bytes with erased records, so that they are found in order next time.
    pub(super) fn bury(&self, from: u64, to: u64) -> io::Result<()> {
        self.zero(from, to)?;
        let mut at = from;
        while to.saturating_sub(at) >= HEAD as u64 {
            let room = (to - at) as usize - HEAD;
            // What is left over must have room for a head of its own.
            let length = if room <= layout::MAX_BODY { room } else { layout::MAX_BODY - HEAD };
            let head = layout::record(0, Place::default(), &vec![0; length]);
            self.file.write_all_at(head.get(..HEAD).unwrap_or_default(), at)?;
            self.mark_erased(at)?;
            at += (HEAD + length) as u64;
        }
        Ok(())
    }

    /// Overwrites what memory has of some rows.
    pub(super) fn forget(&self, indices: &[usize]) {
        self.rows_mut().forget(indices);
    }

    /// Puts on disk what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }
}

impl Rows {
    /// Bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        let code = match &self.code {
            Code::Exact(packed) => packed.bytes(),
            Code::Bits(bits) => {
                let parts = [size_of_val(&*bits.centre), size_of_val(&*bits.factors)];
                bits.planes.bytes() + parts.iter().sum::<usize>() + size_of_val(&*bits.ones)
            }
        };
        (code + self.list.capacity() * size_of::<Row>()) as u64
    }

    fn push(
        &mut self,
        file: &FileHead,
        head: Head,
        offset: u64,
        camera: u16,
        stored: &Stored,
    ) -> Result<()> {
        let fault = |_| Error::internal("a file of tracks", "an id or offset beyond its range");
        let span = millis(stored.last).saturating_sub(millis(stored.first)).max(0);
        let row = Row {
            first: millis(stored.first),
            id: u32::try_from(head.id.saturating_sub(file.first_id)).map_err(fault)?,
            offset: u32::try_from(offset).map_err(fault)?,
            span: u32::try_from(span).unwrap_or(u32::MAX),
            track: stored.track as u32,
            picture: head.picture.file,
            camera,
            sighted: !stored.sightings.is_empty(),
        };
        if let Code::Exact(packed) = &mut self.code {
            packed.push(&stored.pooled.to_f32())?;
        }
        self.list.push(row);
        self.live += 1;
        Ok(())
    }

    fn forget(&mut self, indices: &[usize]) {
        for index in indices {
            let Some(row) = self.list.get_mut(*index).filter(|row| row.is_live()) else { continue };
            // The id stays: rows are found by it.
            *row = Row { id: row.id, ..GONE };
            self.live -= 1;
            match &mut self.code {
                // The size is its own and the row is there.
                Code::Exact(packed) => drop(packed.replace(*index, &vec![0.0; packed.size()])),
                Code::Bits(bits) => bits.wipe(*index),
            }
        }
    }
}

const GONE: Row =
    Row { first: 0, id: 0, offset: 0, span: 0, track: 0, picture: 0, camera: 0, sighted: false };

impl Bits {
    /// Overwrites what is known of a row.
    fn wipe(&mut self, row: usize) {
        self.planes.wipe(row);
        self.factors.get_mut(row).into_iter().for_each(|factor| *factor = 0.0);
        self.ones.get_mut(row).into_iter().for_each(|ones| *ones = 0);
    }
}

/// Bits of all vectors.
fn encode(packed: &Packed, list: &[Row], rotation: &Rotation) -> Bits {
    let vectors = || (0..packed.len()).map(|row| packed.codes(row).map(|c| c.to_f32()));
    let mut centre = vec![0.0; packed.size()];
    let live = list.iter().filter(|row| row.is_live()).count().max(1);
    for vector in vectors().flatten() {
        centre.iter_mut().zip(vector).for_each(|(sum, v)| *sum += v / live as f32);
    }
    let mut planes = Planes::new(rotation.size());
    let (mut factors, mut all_ones) = (Vec::with_capacity(list.len()), Vec::new());
    let mut rotated = Vec::new();
    for (vector, row) in vectors().zip(list) {
        let mut rest = vector.unwrap_or_default();
        if !row.is_live() {
            rest.clear();
        }
        rest.iter_mut().zip(&centre).for_each(|(v, c)| *v -= c);
        rotation.apply(&rest, &mut rotated);
        // So that the sum over signs times the factor is the product with the vector itself: the
        // estimator of RaBitQ (Gao and Long, SIGMOD 2024).
        let squares: f32 = rotated.iter().map(|v| v * v).sum();
        let absolute: f32 = rotated.iter().map(|v| v.abs()).sum();
        let factor = if absolute > 0.0 { squares / absolute } else { 0.0 };
        let ones = planes.push(&rotated);
        factors.push(factor);
        // A vector has at most 4096 components.
        all_ones.push(ones as u16);
    }
    Bits { planes, centre, factors, ones: all_ones }
}

/// A file's head, or an error that says what to do.
pub(super) fn parse_head(path: &Path, magic: &[u8; 8], bytes: &[u8]) -> Result<FileHead> {
    layout::parse_file_head(magic, bytes).map_err(|bad| match bad {
        BadHead::Newer(version) => Error::config(
            path.display().to_string(),
            format!(
                "was written by a newer spotterd (version {version}, this one knows {}): install that \
                 one again, or move the file away and lose the tracks in it",
                layout::VERSION
            ),
        ),
        BadHead::Damaged => {
            spotter_models::Error::corrupt(path, "the head is damaged: the file is set aside").into()
        }
    })
}

/// Overwrites a part of a file with zeros.
pub(super) fn zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = [0; 1 << 14];
    let mut at = from;
    while at < to {
        let now = usize::try_from(to - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(zeros.get(..now).unwrap_or(&zeros), at)?;
        at += now as u64;
    }
    Ok(())
}

/// Copies bytes that nothing can be made of beside their file, and says so.
fn set_aside(path: &Path, bytes: &[u8], at: usize) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{at}"));
    let aside = PathBuf::from(aside);
    fs::write(&aside, bytes).map_err(Error::io(&aside))?;
    tracing::error!(
        path = %path.display(), aside = %aside.display(), bytes = bytes.len(),
        "The rest of a file of tracks cannot be read: set aside."
    );
    Ok(())
}
