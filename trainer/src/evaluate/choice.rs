//! Which part of a data set is judged.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{
    dataset::{Dataset, Record, Split},
    error::{Error, Result},
};

/// A part of a data set by the split that its authors gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Every picture and caption.
    All,
    /// What models are trained on.
    Train,
    /// What settings are chosen by.
    Val,
    /// What is measured at the end.
    #[default]
    Test,
}

impl Part {
    /// The split; `None` for all of them.
    pub fn split(self) -> Option<Split> {
        match self {
            Part::All => None,
            Part::Train => Some(Split::Train),
            Part::Val => Some(Split::Val),
            Part::Test => Some(Split::Test),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.split().map_or("all", Split::name))
    }
}

/// What is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Which split.
    #[serde(default)]
    pub split: Part,
    /// Whether equal captions of one person ask once. The protocol lets every caption ask.
    #[serde(default)]
    pub distinct: bool,
    /// Only these persons, in queries and gallery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
}

impl Choice {
    /// Whether a record's person is meant; its split is looked at elsewhere.
    pub fn takes(&self, record: &Record) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(record.person))
    }

    /// The records of a set that are chosen, ascending.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none.
    pub fn records(&self, data: &Dataset) -> Result<Vec<usize>> {
        let is_meant =
            |at: &usize| data.records().get(*at).is_some_and(|record| self.takes(record));
        let chosen: Vec<usize> =
            data.split(self.split.split()).into_iter().filter(is_meant).collect();
        if chosen.is_empty() {
            let reason = "holds nothing of what was chosen; look at --split and --ids";
            return Err(Error::invalid(format!("data set {}", data.name()), reason));
        }
        Ok(chosen)
    }
}

/// Persons by number: `7`, `1-3500`, `3501-`, or several of these with commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ids(Vec<RangeInclusive<i64>>);

impl Ids {
    /// Whether a person is among them.
    pub fn contains(&self, person: i64) -> bool {
        self.0.iter().any(|range| range.contains(&person))
    }
}

impl std::str::FromStr for Ids {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let range = |part: &str| -> Option<RangeInclusive<i64>> {
            let number = |text: &str| text.trim().parse::<u32>().ok().map(i64::from);
            match part.split_once('-') {
                None => number(part).map(|id| id..=id),
                Some((from, to)) if to.trim().is_empty() => Some(number(from)?..=i64::MAX),
                Some((from, to)) => Some(number(from)?..=number(to)?).filter(|r| !r.is_empty()),
            }
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self).ok_or_else(|| {
            let reason = "are no persons' numbers; write 7, 1-3500, 3501-, or several with commas";
            Error::invalid(format!("ids `{text}`"), reason)
        })
    }
}

impl TryFrom<String> for Ids {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Ids> for String {
    fn from(ids: Ids) -> Self {
        ids.to_string()
    }
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match (range.start(), range.end()) {
                (from, to) if from == to => write!(f, "{from}")?,
                (from, &i64::MAX) => write!(f, "{from}-")?,
                (from, to) => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}
