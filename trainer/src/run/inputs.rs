//! What a run learns from: its base model, and the pictures that its recipe asks for.

use std::path::Path;

use super::{Counts, Job};
use crate::{
    base::{Base, WEIGHTS_FILE},
    dataset::{Dataset, Split, is_in_share},
    error::{Error, Result},
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
    let wanted = &job.recipe.data;
    let [first, last] = wanted.persons.unwrap_or([i64::MIN, i64::MAX]);
    let share = wanted.share.unwrap_or(1.0);
    let all = train_persons(&data);
    data.retain(|record| record.split != Split::Train || (first..=last).contains(&record.person));
    let numbered = train_persons(&data);
    data.retain(|record| record.split != Split::Train || is_in_share(record.person, share));
    let left = train_persons(&data);
    // With one person every pair is right, and no loss is about anything.
    if left > 1 || left == 1 && !job.recipe.method.learns() {
        return Ok(data);
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
        (job.data.display().to_string(), reason)
    };
    Err(Error::invalid(what, reason))
}

fn train_persons(data: &Dataset) -> usize {
    count(data, &data.split(Some(Split::Train))).persons
}

/// How much data some records are.
pub(super) fn count(data: &Dataset, records: &[usize]) -> Counts {
    let records = || records.iter().filter_map(|record| data.records().get(*record));
    let persons: std::collections::BTreeSet<i64> = records().map(|record| record.person).collect();
    Counts {
        pictures: records().count(),
        captions: records().map(|record| record.captions.len()).sum(),
        persons: persons.len(),
    }
}
