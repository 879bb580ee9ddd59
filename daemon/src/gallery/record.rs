//! What is kept of one track, and its bytes.

use jiff::Timestamp;
use spotter_models::{
    Embedding, Generation,
    kernel::{Codes, FineCodes, quantise},
};

use crate::{
    error::{Error, Result},
    frame::CameraId,
    sighting::SightingId,
};

/// Most looks of one record.
pub const MAX_LOOKS: usize = 16;
/// Most sightings that one record names.
pub const MAX_SIGHTINGS: usize = 256;
/// Largest portrait in bytes.
pub const MAX_PORTRAIT: usize = 4 << 20;
/// Most components of an embedding.
pub const MAX_SIZE: usize = 4096;

/// The number of a record: rises with every append, and is never given twice by one gallery, also
/// not after erasures and restarts. Numbers are left out at restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One view of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// How good the view is, 0 to 1.
    pub quality: f32,
    /// Its place among the texts.
    pub embedding: Embedding,
}

impl Look {
    /// For whom the order of the looks is enough.
    pub fn timeless(self) -> crate::score::Look {
        let at = crate::clock::Mono::default();
        crate::score::Look { embedding: self.embedding, quality: self.quality, at }
    }
}

/// A track that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Who saw it.
    pub camera: CameraId,
    /// Its number at that camera.
    pub track: u64,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// The bundle that computed the embeddings.
    pub generation: Generation,
    /// Quality of the best view, 0 to 1.
    pub quality: f32,
    /// What was told of it; at most [`MAX_SIGHTINGS`].
    pub sightings: Vec<SightingId>,
    /// Views in their order; at most [`MAX_LOOKS`].
    pub looks: Vec<Look>,
    /// All views in one.
    pub pooled: Embedding,
    /// The best view as a JPEG file; at most [`MAX_PORTRAIT`] bytes.
    pub portrait: Option<Vec<u8>>,
}

impl Record {
    /// Whether it can be kept as it is.
    ///
    /// # Errors
    /// [`Error::Internal`]: whoever made it has a bug.
    pub(super) fn check(&self) -> Result<()> {
        let size = self.pooled.values().len();
        let fault = |reason: String| Err(Error::internal("a track for the gallery", reason));
        let all = self.looks.iter().map(|look| &look.embedding).chain([&self.pooled]);
        for embedding in all {
            if embedding.generation() != self.generation || embedding.values().len() != size {
                return fault(format!(
                    "an embedding of {} with {} components in a record of {} with {size}",
                    embedding.generation(),
                    embedding.values().len(),
                    self.generation
                ));
            }
        }
        let counts = [
            ("components", size, MAX_SIZE),
            ("looks", self.looks.len(), MAX_LOOKS),
            ("sightings", self.sightings.len(), MAX_SIGHTINGS),
            ("bytes of portrait", self.portrait.as_ref().map_or(0, Vec::len), MAX_PORTRAIT),
        ];
        match counts.iter().find(|(_, count, most)| count > most) {
            Some((what, count, most)) => fault(format!("{count} {what}; at most {most} are kept")),
            None => Ok(()),
        }
    }

    /// The record's bytes without the portrait. The pooled vector comes first, so that a search reads
    /// it without reading the rest; all numbers are little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pooled = FineCodes::new(self.pooled.values());
        bytes.extend(pooled.scale.to_le_bytes());
        pooled.values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        let camera = self.camera.as_str().as_bytes();
        bytes.push(camera.len() as u8);
        bytes.extend_from_slice(camera);
        bytes.extend(self.track.to_le_bytes());
        for at in [self.first, self.last] {
            bytes.extend(at.as_second().to_le_bytes());
            bytes.extend(at.subsec_nanosecond().to_le_bytes());
        }
        bytes.extend(self.quality.to_le_bytes());
        bytes.extend((self.sightings.len() as u16).to_le_bytes());
        self.sightings.iter().for_each(|id| bytes.extend(id.to_bits().to_le_bytes()));
        bytes.push(self.looks.len() as u8);
        for look in &self.looks {
            bytes.extend(look.quality.to_le_bytes());
            put_vector(&mut bytes, &look.embedding);
        }
        bytes
    }
}

fn put_vector(bytes: &mut Vec<u8>, embedding: &Embedding) {
    let codes = quantise(embedding.values());
    bytes.extend(codes.scale.to_le_bytes());
    bytes.extend(codes.values.iter().map(|v| *v as u8));
}

/// A record as the file has it.
pub(super) struct Stored {
    pub(super) pooled: FineCodes,
    pub(super) camera: CameraId,
    pub(super) track: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) quality: f32,
    pub(super) sightings: Vec<SightingId>,
    pub(super) looks: Vec<(f32, Codes)>,
}

impl Stored {
    /// Reads the bytes of [`Record::to_bytes`]; `None` where they are not such.
    pub(super) fn parse(bytes: &[u8], size: usize) -> Option<Self> {
        let mut bytes = Reader(bytes);
        let pooled = fine(bytes.take(pooled_bytes(size))?);
        let camera = usize::from(bytes.array::<1>()?[0]);
        let camera = CameraId::new(std::str::from_utf8(bytes.take(camera)?).ok()?).ok()?;
        let track = u64::from_le_bytes(bytes.array()?);
        let (first, last) = (bytes.time()?, bytes.time()?);
        let quality = bytes.float()?;
        let count = usize::from(u16::from_le_bytes(bytes.array()?));
        let sighting = |bytes: &mut Reader<'_>| {
            Some(SightingId::from_bits(u128::from_le_bytes(bytes.array()?)))
        };
        let sightings = (0..count).map(|_| sighting(&mut bytes)).collect::<Option<_>>()?;
        let count = usize::from(bytes.array::<1>()?[0]);
        let look = |bytes: &mut Reader<'_>| Some((bytes.float()?, bytes.vector(size)?));
        let looks = (0..count).map(|_| look(&mut bytes)).collect::<Option<_>>()?;
        let whole = bytes.0.is_empty();
        whole.then_some(Self { pooled, camera, track, first, last, quality, sightings, looks })
    }
}

/// Bytes of a pooled vector: a scale and 16 bits a component, since 8 bits swap near neighbours.
pub(super) fn pooled_bytes(size: usize) -> usize {
    4 + 2 * size
}

/// The pooled vector at the start of a record.
pub(super) fn fine(bytes: &[u8]) -> FineCodes {
    let (scale, values) = bytes.split_at_checked(4).unwrap_or_default();
    let scale = f32::from_le_bytes(scale.try_into().unwrap_or_default());
    let (pairs, _) = values.as_chunks::<2>();
    FineCodes { scale, values: pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect() }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn float(&mut self) -> Option<f32> {
        self.array().map(f32::from_le_bytes)
    }

    fn vector(&mut self, size: usize) -> Option<Codes> {
        let scale = self.float()?;
        let values = self.take(size)?.iter().map(|v| *v as i8).collect();
        Some(Codes { values, scale })
    }

    fn time(&mut self) -> Option<Timestamp> {
        let second = i64::from_le_bytes(self.array()?);
        let nanosecond = i32::from_le_bytes(self.array()?);
        Timestamp::new(second, nanosecond).ok()
    }
}
