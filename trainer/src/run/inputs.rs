//! What a run learns from: its base model, and the pictures that its recipe asks for.

use std::{collections::BTreeSet, path::Path};

use super::{Counts, Job};
use crate::{
    base::{Base, WEIGHTS_FILE},
    dataset::{Dataset, Problems, Split, is_in_share},
    error::{Error, Result},
    method::Method,
    recipe::Recipe,
};

/// Reads a base model.
///
/// # Errors
/// Those of [`Base::open`]; where there is none, with the option that names one.
pub(super) fn base(folder: &Path) -> Result<Base> {
    if let Ok(false) = folder.join(WEIGHTS_FILE).try_exists() {
        let reason = format!(
            "holds no base model, which has a {WEIGHTS_FILE}; where it was moved, name its folder with \
             --base FOLDER"
        );
        return Err(Error::invalid(folder.display().to_string(), reason));
    }
    Base::open(folder)
}

/// The pictures of the recipe's persons; of persons to judge by, all.
///
/// # Errors
/// Those of [`Dataset::open`]; where too few persons are left to learn from, with what left them.
pub(super) fn data(job: &Job) -> Result<Dataset> {
    let mut data = Dataset::open(&job.data)?;
    check_persons(&data, &job.recipe)?;
    let Wanted { numbers: [first, last], share } = Wanted::of(&job.recipe);
    data.retain(|record| {
        let is_numbered = (first..=last).contains(&record.person);
        record.split != Split::Train || is_numbered && is_in_share(record.person, share)
    });
    Ok(data)
}

/// Persons of the split `train` that a recipe asks for.
struct Wanted {
    numbers: [i64; 2],
    share: f64,
}

impl Wanted {
    fn of(recipe: &Recipe) -> Self {
        let data = &recipe.data;
        let numbers = data.persons.unwrap_or([i64::MIN, i64::MAX]);
        Self { numbers, share: data.share.unwrap_or(1.0) }
    }
}

/// Sees that enough persons of a set are those that a recipe asks for.
///
/// # Errors
/// Where too few are left to learn from, with what left them.
pub(crate) fn check_persons(data: &Dataset, recipe: &Recipe) -> Result<()> {
    let Wanted { numbers: [first, last], share } = Wanted::of(recipe);
    let train = data.records().iter().filter(|record| record.split == Split::Train);
    let persons: BTreeSet<i64> = train.map(|record| record.person).collect();
    let all = persons.len();
    let numbered = || persons.iter().filter(|person| (first..=last).contains(*person));
    let left = numbered().filter(|person| is_in_share(**person, share)).count();
    let numbered = numbered().count();
    // With one person every pair is right, and no loss is about anything.
    if left > 1 || left == 1 && !recipe.method.learns() {
        return Ok(());
    }
    let name = data.name();
    let (what, reason) = if left < numbered {
        let reason = format!("{share} leaves {left} of {numbered} persons");
        ("data.share".to_owned(), format!("{reason} of {name}'s split `train`; choose more"))
    } else if left < all {
        let reason = format!("[{first}, {last}] leaves {left} of {all} persons");
        ("data.persons".to_owned(), format!("{reason} of {name}'s split `train`; choose more"))
    } else {
        let persons = match left {
            0 => "nobody to train on",
            _ => "one person to train on, and nobody to tell it apart from",
        };
        let reason = format!("{name} has {persons}; add persons of the split `train`");
        (data.root().display().to_string(), reason)
    };
    Err(Error::invalid(what, reason))
}

/// Pictures to train on that are there, and those of the splits `train` and `val` that are not.
pub(super) struct There {
    /// Records of the split `train`.
    pub(super) train: Vec<usize>,
    /// How many of that split are not there.
    pub(super) lost: usize,
    /// What is the matter with those of both splits.
    absent: Problems,
    /// Records of both splits.
    all: usize,
}

impl There {
    /// Looks at the pictures, which takes some microseconds for each.
    ///
    /// # Errors
    /// Where the pictures that are there show fewer than two persons to learn from (one, where nothing is learnt).
    pub(super) fn look(data: &Dataset, method: Method) -> Result<Self> {
        let of = |split| data.split(Some(split));
        let (train, val) = (of(Split::Train), of(Split::Val));
        let all = [train.as_slice(), &val].concat();
        let (there, absent) = (data.there(&train).0, data.there(&all).1);
        let lost = train.len() - there.len();
        let found = Self { train: there, lost, absent, all: all.len() };
        let least = if method.learns() { 2 } else { 1 };
        match count(data, &found.train).persons < least {
            true => {
                let reason = format!("too few pictures to train on are there: {found}");
                Err(Error::invalid(data.root().display().to_string(), reason))
            }
            false => Ok(found),
        }
    }

    /// Whether no picture is lacking.
    pub(super) fn is_whole(&self) -> bool {
        self.absent.is_empty()
    }
}

impl std::fmt::Display for There {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { absent, all, .. } = self;
        write!(
            f,
            "{} of {all} pictures of the splits `train` and `val` cannot be read: {absent}. Put them where \
             file_path says, below the folder of the data or its imgs/, or take their records out of the \
             annotations",
            absent.total()
        )
    }
}

/// How much data some records are.
pub(super) fn count(data: &Dataset, records: &[usize]) -> Counts {
    let records = || records.iter().filter_map(|record| data.records().get(*record));
    let persons: BTreeSet<i64> = records().map(|record| record.person).collect();
    Counts {
        pictures: records().count(),
        captions: records().map(|record| record.captions.len()).sum(),
        persons: persons.len(),
    }
}
