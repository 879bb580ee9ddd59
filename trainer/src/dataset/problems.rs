//! What is wrong with some records of a set: counted, with a few examples.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How many examples of each cause are kept.
const EXAMPLES: usize = 3;

/// What is wrong with something, which is left out unless it is said to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A field is missing or of another type than it must be.
    WrongType,
    /// A split other than train, val and test.
    UnknownSplit,
    /// A picture's path is absolute or leaves the folder.
    PathLeavesFolder,
    /// Half of a character that takes two escapes in JSON, in a path or caption.
    HalfCharacter,
    /// A NUL in a path or caption.
    NulCharacter,
    /// A record without a caption that could be used.
    NoCaption,
    /// One caption that has no text; the record's others are used.
    EmptyCaption,
    /// One caption that is longer than any description; the record's others are used.
    LongCaption,
    /// A person whose attributes are not in the attribute file.
    NoAttributes,
    /// A picture that is listed a second time; both records are used.
    ListedTwice,
    /// One that is listed for two persons, of whom it can show only one; both records are used.
    TwoPersons,
    /// One that is learnt from and judged by; both records are used.
    TwoSplits,
    /// A tar file that cannot be read to its end.
    BrokenShard,
    /// A picture that is nowhere.
    MissingPicture,
    /// A picture that cannot be read or decoded.
    BrokenPicture,
    /// A picture's path names what is no file: a folder, a pipe or a device.
    NoFile,
}

impl Cause {
    /// Why a picture could not be had.
    pub fn of_picture(error: &Error) -> Self {
        match error {
            Error::Model(spotter_models::Error::Unavailable { .. }) => Cause::MissingPicture,
            _ => Cause::BrokenPicture,
        }
    }

    /// What one of these is, and several.
    fn texts(self) -> [&'static str; 2] {
        match self {
            Cause::WrongType => {
                ["field missing or of a wrong type", "fields missing or of a wrong type"]
            }
            Cause::UnknownSplit => ["unknown split", "unknown splits"],
            Cause::PathLeavesFolder => ["path leaves the folder", "paths leave the folder"],
            Cause::HalfCharacter => ["half of a character", "halves of characters"],
            Cause::NulCharacter => ["NUL character in a text", "NUL characters in texts"],
            Cause::NoCaption => ["record without a caption", "records without a caption"],
            Cause::EmptyCaption => ["empty caption", "empty captions"],
            Cause::LongCaption => ["caption too long", "captions too long"],
            Cause::NoAttributes => ["picture without attributes", "pictures without attributes"],
            Cause::ListedTwice => ["picture listed twice, kept", "pictures listed twice, kept"],
            Cause::TwoPersons => {
                ["picture listed for two persons, kept", "pictures listed for two persons, kept"]
            }
            Cause::TwoSplits => {
                ["picture listed in two splits, kept", "pictures listed in two splits, kept"]
            }
            Cause::BrokenShard => ["broken tar file", "broken tar files"],
            Cause::MissingPicture => ["picture missing", "pictures missing"],
            Cause::BrokenPicture => ["picture broken", "pictures broken"],
            Cause::NoFile => ["picture is no regular file", "pictures are no regular files"],
        }
    }
}

/// What was found of one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How often.
    pub count: usize,
    /// The first few, with what a person needs to find them.
    pub examples: Vec<String>,
}

/// Counts by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems {
    found: BTreeMap<Cause, Found>,
}

impl Problems {
    /// Counts one; `example` is only called where it is kept.
    pub fn note(&mut self, cause: Cause, example: impl FnOnce() -> String) {
        let found = self.found.entry(cause).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES {
            found.examples.push(example());
        }
    }

    /// Counts what another set found as well.
    pub(super) fn add(&mut self, more: &Self) {
        for (cause, other) in &more.found {
            let found = self.found.entry(*cause).or_default();
            found.count += other.count;
            let room = EXAMPLES.saturating_sub(found.examples.len());
            found.examples.extend(other.examples.iter().take(room).cloned());
        }
    }

    /// How many of one cause.
    pub fn count(&self, cause: Cause) -> usize {
        self.found.get(&cause).map_or(0, |found| found.count)
    }

    /// How many in all.
    pub fn total(&self) -> usize {
        self.found.values().map(|found| found.count).sum()
    }

    /// All causes that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, &Found)> {
        self.found.iter().map(|(cause, found)| (*cause, found))
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing was wrong");
        }
        for (index, (cause, found)) in self.found.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let examples = found.examples.join(", ");
            let [one, several] = cause.texts();
            let text = if found.count == 1 { one } else { several };
            write!(f, "{separator}{} {text} ({examples}", found.count)?;
            f.write_str(if found.count > found.examples.len() { ", ...)" } else { ")" })?;
        }
        Ok(())
    }
}
