//! The bytes around records: heads of files and of records, and how a file is read that may be
//! damaged.

use crc32fast::hash;
use spotter_models::Generation;

/// Version of both kinds of file. A newer one is refused, not guessed at.
pub(super) const VERSION: u32 = 1;
/// Bytes of a file's head, of either kind.
pub(super) const FILE_HEAD: usize = 64;
/// Bytes of a record's head in a file of tracks.
pub(super) const HEAD: usize = 48;
/// Where in its head a record says whether it was erased.
pub(super) const STATE_AT: u64 = 4;
/// Bytes before a JPEG in a file of pictures.
pub(super) const PICTURE_HEAD: usize = 24;
/// Longest record: 16 looks of the largest size.
pub(super) const MAX_BODY: usize = 1 << 18;

pub(super) const TRACKS: &[u8; 8] = b"SpotTrks";
pub(super) const PICTURES: &[u8; 8] = b"SpotPics";
const RECORD: u32 = 0x6b72_5473;
const PICTURE: u32 = 0x6369_5073;
const LIVE: u32 = 0x4556_494c;
/// What [`STATE_AT`] holds from the first moment of an erasure on.
pub(super) const ERASED: u32 = 0x4445_5345;

/// The head of a file of tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHead {
    pub(super) generation: Generation,
    pub(super) size: usize,
    pub(super) first_id: u64,
}

/// Why a head cannot be used.
pub(super) enum BadHead {
    /// Written by a newer program, in this version.
    Newer(u32),
    /// Not such a file, or damaged.
    Damaged,
}

/// `[magic 8][version 4][size 4][generation 16][first id 8][zeros][crc 4]`.
pub(super) fn file_head(magic: &[u8; 8], head: &FileHead) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((head.size as u32).to_le_bytes());
    bytes.extend(head.generation.0);
    bytes.extend(head.first_id.to_le_bytes());
    bytes.resize(FILE_HEAD - 4, 0);
    bytes.extend(hash(&bytes).to_le_bytes());
    bytes
}

pub(super) fn parse_file_head(magic: &[u8; 8], bytes: &[u8]) -> Result<FileHead, BadHead> {
    let bytes = bytes.get(..FILE_HEAD).ok_or(BadHead::Damaged)?;
    let version = u32_at(bytes, 8);
    if bytes.get(..8) != Some(magic.as_slice()) {
        return Err(BadHead::Damaged);
    }
    // Before the sum: a newer version may sum something else.
    if version > VERSION {
        return Err(BadHead::Newer(version));
    }
    let sum = bytes.get(..FILE_HEAD - 4).map(hash);
    if sum != Some(u32_at(bytes, FILE_HEAD - 4)) || version == 0 {
        return Err(BadHead::Damaged);
    }
    let generation = bytes.get(16..32).and_then(|part| part.try_into().ok());
    let generation = Generation(generation.ok_or(BadHead::Damaged)?);
    Ok(FileHead { generation, size: u32_at(bytes, 12) as usize, first_id: u64_at(bytes, 32) })
}

/// Where a record's portrait is. `file` 0: it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) length: u32,
    pub(super) offset: u64,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) length: usize,
    pub(super) sum: u32,
    pub(super) picture: Place,
    pub(super) erased: bool,
}

/// A record's bytes, head and body, to be written at once.
pub(super) fn record(id: u64, picture: Place, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend(RECORD.to_le_bytes());
    bytes.extend(LIVE.to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(hash(body).to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(picture.file.to_le_bytes());
    bytes.extend(picture.length.to_le_bytes());
    bytes.extend(picture.offset.to_le_bytes());
    let sum = head_sum(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

/// The sum leaves the state out, which changes in place.
fn head_sum(bytes: &[u8]) -> u32 {
    hash(bytes.get(8..40).unwrap_or_default())
}

/// The head at the start of `bytes`; `None` where there is none.
pub(super) fn parse_head(bytes: &[u8]) -> Option<Head> {
    let bytes = bytes.get(..HEAD)?;
    let length = u32_at(bytes, 8) as usize;
    let good = u32_at(bytes, 0) == RECORD && u32_at(bytes, 40) == head_sum(bytes);
    (good && length <= MAX_BODY).then(|| Head {
        id: u64_at(bytes, 16),
        length,
        sum: u32_at(bytes, 12),
        picture: Place {
            file: u32_at(bytes, 24),
            length: u32_at(bytes, 28),
            offset: u64_at(bytes, 32),
        },
        erased: u32_at(bytes, 4) == ERASED,
    })
}

/// A portrait's bytes with its head: whose it is, how long, and a sum.
pub(super) fn picture(id: u64, jpeg: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PICTURE_HEAD + jpeg.len());
    bytes.extend(PICTURE.to_le_bytes());
    bytes.extend((jpeg.len() as u32).to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(hash(jpeg).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend_from_slice(jpeg);
    bytes
}

/// The JPEG of a record in the bytes of [`picture`]; `None` where they are not whole.
pub(super) fn parse_picture(bytes: &[u8], id: u64) -> Option<&[u8]> {
    let (head, jpeg) = bytes.split_at_checked(PICTURE_HEAD)?;
    let good = u32_at(head, 0) == PICTURE
        && u32_at(head, 4) as usize == jpeg.len()
        && u64_at(head, 8) == id
        && u32_at(head, 16) == hash(jpeg);
    good.then_some(jpeg)
}

/// What a part of a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A record with a head that is whole; the body is where the head says.
    Record(Head),
    /// A record whose body is not what was written.
    DamagedBody(Head),
    /// Bytes up to there are no record; one follows.
    Damaged { to: usize },
    /// From here on a write was cut short.
    Torn,
    /// From here on nothing can be made out.
    Lost,
}

/// What is at `at` in the bytes of a file of tracks; `None` at its end.
pub(super) fn next(bytes: &[u8], at: usize) -> Option<Part> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    if let Some(head) = parse_head(rest) {
        return Some(match rest.get(HEAD..HEAD + head.length) {
            None => match resync(bytes, at + 1) {
                // A length that reaches past the end and still records behind it: the length lies.
                Some(to) => Part::Damaged { to },
                None => Part::Torn,
            },
            Some(body) if head.erased || hash(body) == head.sum => Part::Record(head),
            Some(_) => Part::DamagedBody(head),
        });
    }
    match resync(bytes, at + 1) {
        Some(to) => Some(Part::Damaged { to }),
        None if rest.len() < HEAD || rest.iter().all(|byte| *byte == 0) => Some(Part::Torn),
        None => Some(Part::Lost),
    }
}

/// Where the next record's head is.
fn resync(bytes: &[u8], from: usize) -> Option<usize> {
    let magic = RECORD.to_le_bytes();
    let rest = bytes.get(from..)?;
    let hits = rest.windows(4).enumerate().filter(|(_, window)| *window == magic);
    hits.map(|(at, _)| from + at)
        .find(|at| parse_head(bytes.get(*at..).unwrap_or_default()).is_some())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    part.map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
    part.map_or(0, u64::from_le_bytes)
}
