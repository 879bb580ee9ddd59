//! Pictures of persons with captions, in the layouts in which they are published.
//!
//! [`Dataset::open`] reads annotations; pictures stay on disk (or in tar files) until they are asked
//! for. What is broken in a set of tens of thousands of records is counted and reported by
//! [`Problems`]; a run goes on without it.

mod annotations;
mod attributes;
mod loader;
mod market;
mod order;
mod pictures;
mod problems;

pub use loader::{Batch, Batches, Loader, Settings as LoaderSettings, evaluation_pixels};
pub use order::{Order, Pair, Sampler};
pub use problems::{Cause, Found, Problems};

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use spotter_models::{Digest, Rgb};

use crate::error::{Error, Result};
use pictures::Pictures;

/// Which part of a set a record belongs to. No person is in two of them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose settings by.
    Val,
    /// To report figures on.
    Test,
}

impl Split {
    /// Its name in annotation files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

/// A picture and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whom it shows.
    pub person: i64,
    /// The picture's path as the annotations have it: relative, without `..`.
    pub file: String,
    /// The part of the set.
    pub split: Split,
    /// At least one, none of them empty.
    pub captions: Vec<String>,
    /// Whom the captions mean, where that is somebody else: a pair that staff rejected.
    pub meant: Option<i64>,
}

impl Record {
    /// Whom the captions mean.
    pub fn about(&self) -> i64 {
        self.meant.unwrap_or(self.person)
    }
}

/// Pictures that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Present {
    /// How many.
    pub pictures: usize,
    /// Hash of their paths in the annotations and of their lengths.
    pub sha256: Digest,
}

/// Annotations in memory; pictures on disk. It can be shared by threads.
pub struct Dataset {
    name: String,
    root: PathBuf,
    records: Vec<Record>,
    pictures: Pictures,
    problems: Problems,
}

impl Dataset {
    /// Reads a folder's annotations. The layout is told by its files: CUHK-PEDES (`reid_raw.json`),
    /// ICFG-PEDES (`ICFG-PEDES.json`, `ICFG_PEDES.json`), RSTPReid (`data_captions.json`), any folder
    /// with `captions.json` in the form of CUHK-PEDES, and Market-1501 (`bounding_box_train/`, with
    /// its attributes as `market_attribute.json`). Pictures lie under the folder, under its `imgs/`,
    /// or in its `shard-*.tar`. Where one of these was cut, the pictures that are lost are counted
    /// ([`Dataset::problems`]); their records stay.
    ///
    /// # Errors
    /// [`Error::Invalid`] where no layout is recognised or a person is in two splits;
    /// [`Error::Model`] where a file cannot be read or no record of it can be used.
    pub fn open(path: &Path) -> Result<Self> {
        let mut problems = Problems::default();
        let (name, records) = annotations::read(path, &mut problems)?;
        if records.is_empty() {
            let reason = match problems.is_empty() {
                true => "it has no records".to_owned(),
                false => format!("no record can be used: {problems}"),
            };
            return Err(spotter_models::Error::corrupt(path, reason).into());
        }
        refuse_shared_persons(path, &records)?;
        note_listed_twice(&records, &mut problems);
        let pictures = Pictures::index(path, &mut problems)?;
        if problems.count(Cause::BrokenShard) > 0 {
            // How much is lost, told now and not by the first training that misses it.
            for record in &records {
                if let Err(cause) = pictures.length(&record.file) {
                    problems.note(cause, || record.file.clone());
                }
            }
        }
        Ok(Self { name, root: path.to_owned(), records, pictures, problems })
    }

    /// A set of these records, whose paths are below `root`.
    pub(crate) fn of_records(root: &Path, name: String, records: Vec<Record>) -> Result<Self> {
        let mut problems = Problems::default();
        let pictures = Pictures::index(root, &mut problems)?;
        Ok(Self { name, root: root.to_owned(), records, pictures, problems })
    }

    /// One set of several, whose persons must be others already. Its folder is called that of the first.
    pub(crate) fn join(name: String, parts: Vec<Self>) -> Self {
        let root = parts.first().map(|part| part.root.clone()).unwrap_or_default();
        let (mut records, mut pictures, mut problems) = (vec![], vec![], Problems::default());
        for (number, part) in parts.into_iter().enumerate() {
            let named =
                |record: Record| Record { file: pictures::in_part(number, &record.file), ..record };
            records.extend(part.records.into_iter().map(named));
            pictures.push(part.pictures);
            problems.add(&part.problems);
        }
        Self { name, root, records, pictures: Pictures::join(pictures), problems }
    }

    /// What people call it: the published name, or the folder's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder it was read from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All records, in the order of the annotations.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Indexes of the records of a split, ascending; `None`: of all.
    pub fn split(&self, split: Option<Split>) -> Vec<usize> {
        let wanted = |record: &Record| split.is_none_or(|split| record.split == split);
        let records = self.records.iter().enumerate();
        records.filter(|(_, record)| wanted(record)).map(|(index, _)| index).collect()
    }

    /// Reads and decodes a record's picture.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an index that is none; [`Error::Model`] where the picture is missing,
    /// larger than any sensible crop, or cannot be decoded ([`Cause::of_picture`] says which).
    pub fn picture(&self, record: usize) -> Result<Rgb> {
        match self.records.get(record) {
            Some(record) => self.pictures.read(&record.file),
            None => {
                let reason = format!("the set has {} records", self.records.len());
                Err(Error::invalid(format!("record {record}"), reason))
            }
        }
    }

    /// Keeps only some records, for example those of fewer persons ([`is_in_share`]).
    pub fn retain(&mut self, is_wanted: impl FnMut(&Record) -> bool) {
        self.records.retain(is_wanted);
    }

    /// A hash of all that is used of the annotations: equal for equal records in equal order, wherever
    /// they lie. Of the pictures it has the paths, not the content.
    pub fn fingerprint(&self) -> Digest {
        let mut all = sha2::Sha256::new();
        for record in &self.records {
            let mut part = |bytes: &[u8]| {
                all.update((bytes.len() as u64).to_le_bytes());
                all.update(bytes);
            };
            part(&record.person.to_le_bytes());
            part(record.split.name().as_bytes());
            part(record.file.as_bytes());
            part(&(record.captions.len() as u64).to_le_bytes());
            record.captions.iter().for_each(|caption| part(caption.as_bytes()));
            // Where nothing was rejected the hash is that of before there was such a field.
            if let Some(meant) = record.meant {
                part(&meant.to_le_bytes());
            }
        }
        // The digest's own type can be made from bytes only by hashing them.
        Digest::of(&all.finalize())
    }

    /// Which pictures of these splits are there. Only lengths are looked at, which takes some
    /// microseconds for each picture on a local disk: a picture of the same length is taken for the same.
    pub fn present(&self, splits: &[Split]) -> Present {
        let mut all = sha2::Sha256::new();
        let mut pictures = 0;
        for record in self.records.iter().filter(|record| splits.contains(&record.split)) {
            if let Ok(length) = self.pictures.length(&record.file) {
                pictures += 1;
                all.update(format!("{}\0{length}\0", record.file));
            }
        }
        Present { pictures, sha256: Digest::of(&all.finalize()) }
    }

    /// Those of some records whose pictures are there, by [`Dataset::present`]'s look at them, and why the
    /// others are not.
    pub fn there(&self, records: &[usize]) -> (Vec<usize>, Problems) {
        let (mut there, mut absent) = (Vec::with_capacity(records.len()), Problems::default());
        for index in records {
            let Some(record) = self.records.get(*index) else { continue };
            match self.pictures.length(&record.file) {
                Ok(_) => there.push(*index),
                Err(cause) => absent.note(cause, || record.file.clone()),
            }
        }
        (there, absent)
    }

    /// What was wrong in the annotations and tar files.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }
}

/// Whether a person belongs to the share (0 to 1) of persons that a smaller run uses. It depends on
/// nothing but the arguments, and a larger share has all persons of a smaller one.
pub fn is_in_share(person: i64, share: f64) -> bool {
    // Finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the id moves every bit.
    let mut bits = (person as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 53 bits are what an f64 holds exactly.
    ((bits >> 11) as f64 / (1u64 << 53) as f64) < share
}

/// Counts pictures that are listed again, by what makes that worst.
fn note_listed_twice(records: &[Record], problems: &mut Problems) {
    let mut first: HashMap<PathBuf, &Record> = HashMap::with_capacity(records.len());
    for record in records {
        // One path by two names: components leave out `.` and a second `/`.
        let path: PathBuf = Path::new(&record.file)
            .components()
            .filter(|part| !matches!(part, std::path::Component::CurDir))
            .collect();
        let path = path.strip_prefix(pictures::SUBFOLDER).map(Path::to_owned).unwrap_or(path);
        let earlier = *first.entry(path).or_insert(record);
        let (one, other, file) = (earlier.person, record.person, &record.file);
        if earlier.split != record.split {
            problems.note(Cause::TwoSplits, || format!("{file} (persons {one} and {other})"));
        } else if one != other {
            problems.note(Cause::TwoPersons, || format!("{file} (persons {one} and {other})"));
        } else if !std::ptr::eq(earlier, record) {
            problems.note(Cause::ListedTwice, || file.clone());
        }
    }
}

/// A person that is learnt from and then searched for would be found too easily.
fn refuse_shared_persons(path: &Path, records: &[Record]) -> Result<()> {
    let mut first: HashMap<i64, &Record> = HashMap::new();
    for record in records {
        let earlier = first.entry(record.person).or_insert(record);
        if earlier.split != record.split {
            let reason = format!(
                "person {} is in two splits, {} ({}) and {} ({}); give the persons of each split \
                 ids of their own",
                record.person,
                earlier.split.name(),
                earlier.file,
                record.split.name(),
                record.file
            );
            return Err(Error::invalid(path.display().to_string(), reason));
        }
    }
    Ok(())
}
