//! What is wrong with some records of a set: counted, with a few examples.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How many examples of each cause are kept.
const EXAMPLES: usize = 3;

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A field is missing or of another type than it must be.
    WrongType,
    /// A split other than train, val and test.
    UnknownSplit,
    /// A picture's path is absolute or leaves the folder.
    PathLeavesFolder,
    /// Half of a character that takes two escapes in JSON, or a NUL, in a path or caption.
    HalfCharacter,
    /// A record without a caption that could be used.
    NoCaption,
    /// One caption that has no text; the record's others are used.
    EmptyCaption,
    /// One caption that is longer than any description; the record's others are used.
    LongCaption,
    /// A person whose attributes are not in the attribute file.
    NoAttributes,
    /// A tar file that cannot be read to its end.
    BrokenShard,
    /// A picture that is nowhere.
    MissingPicture,
    /// A picture that cannot be read or decoded.
    BrokenPicture,
}

impl Cause {
    /// Why a picture could not be had.
    pub fn of_picture(error: &Error) -> Self {
        match error {
            Error::Model(spotter_models::Error::Unavailable { .. }) => Cause::MissingPicture,
            _ => Cause::BrokenPicture,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Cause::WrongType => "field missing or of a wrong type",
            Cause::UnknownSplit => "unknown split",
            Cause::PathLeavesFolder => "path leaves the folder",
            Cause::HalfCharacter => "half of a character",
            Cause::NoCaption => "no caption",
            Cause::EmptyCaption => "empty caption",
            Cause::LongCaption => "caption too long",
            Cause::NoAttributes => "no attributes",
            Cause::BrokenShard => "broken tar file",
            Cause::MissingPicture => "picture missing",
            Cause::BrokenPicture => "picture broken",
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
            write!(f, "{separator}{} {} ({examples}", found.count, cause.text())?;
            f.write_str(if found.count > found.examples.len() { ", ...)" } else { ")" })?;
        }
        Ok(())
    }
}
