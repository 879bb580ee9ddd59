//! What is to be compared: settings that all rows share, and what each row changes.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use spotter_models::Digest;
use toml::{Table, Value};

use crate::{
    error::{Error, Result},
    evaluate::{Choice, Ids, Part},
};

/// Largest plan that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most jobs of a plan: more would be a mistake.
const MOST_JOBS: usize = 10_000;
/// The setting of a recipe that makes two trainings of one row different.
const SEED: &str = "seed";

/// A plan's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What the page is called.
    #[serde(default = "default_title")]
    pub title: String,
    /// Settings of the recipe that all rows share.
    #[serde(default)]
    pub recipe: Table,
    /// Each row is trained once with each of these.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u32>,
    /// What every model is judged by.
    #[serde(default)]
    pub evaluate: Vec<Set>,
    /// What is compared.
    #[serde(default, rename = "row")]
    pub rows: Vec<RowPlan>,
}

/// One row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowPlan {
    /// Its name, which is a part of a folder's name too.
    pub name: String,
    /// What it changes in the shared recipe; a table within it changes only what it names.
    #[serde(default)]
    pub recipe: Table,
    /// Seeds instead of the plan's.
    pub seeds: Option<Vec<u32>>,
    /// Sets instead of the plan's.
    pub evaluate: Option<Vec<Set>>,
}

/// Something that models are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// What tables call it.
    pub name: String,
    /// The data set's folder; relative to the folder that the program was started in.
    pub data: PathBuf,
    /// Which split of it.
    #[serde(default)]
    pub split: Part,
    /// Whether equal captions of one person ask once.
    #[serde(default)]
    pub distinct: bool,
    /// Only these persons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
}

impl Set {
    /// What is judged of the data set.
    pub fn choice(&self) -> Choice {
        Choice { split: self.split, distinct: self.distinct, ids: self.ids.clone() }
    }
}

/// One training: a row with a seed.
#[derive(Clone, Debug)]
pub struct Job {
    /// The row's name.
    pub row: String,
    /// The seed, which is in the recipe too.
    pub seed: u32,
    /// The whole recipe.
    pub recipe: Table,
    /// What its model is judged by.
    pub sets: Vec<Set>,
    /// The first 16 digits of a hash over recipe and sets: the same settings have the same.
    pub settings: String,
}

impl Job {
    /// What people call it.
    pub fn title(&self) -> String {
        format!("{} (seed {})", self.row, self.seed)
    }

    /// Name of its folder: other settings never meet in one.
    pub fn folder(&self) -> String {
        format!("{}-{}-{}", self.row, self.seed, self.settings.get(..8).unwrap_or_default())
    }

    /// A setting of the recipe by its name, wherever in it that is; at the top first.
    pub fn setting(&self, name: &str) -> Option<&Value> {
        find(&self.recipe, name)
    }

    /// The recipe without one setting and without the seed, as text: equal for jobs that differ in
    /// nothing else.
    pub fn all_but(&self, name: &str) -> String {
        let mut text = String::new();
        canonical(&Value::Table(self.recipe.clone()), &[name, SEED], &mut text);
        text
    }
}

fn default_title() -> String {
    "Ablation".into()
}

fn default_seeds() -> Vec<u32> {
    vec![1]
}

impl Plan {
    /// Reads a plan's file.
    ///
    /// # Errors
    /// Where it cannot be read or is no plan; the message names the setting.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |error| Error::from(spotter_models::Error::io(path)(error));
        if path.metadata().map_err(io)?.len() > MAX_BYTES {
            return Err(Error::invalid(path.display().to_string(), "is too large for a plan"));
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(io)?)
    }

    /// Reads a plan; `name` is what errors call it.
    ///
    /// # Errors
    /// Where it is no plan.
    pub fn parse(name: &Path, text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::invalid(format!("plan {}", name.display()), reason);
        let table = toml::Deserializer::parse(text).map_err(|error| wrong(error.to_string()))?;
        let plan: Self =
            serde_path_to_error::deserialize(table).map_err(|error| wrong(error.to_string()))?;
        plan.jobs()?;
        Ok(plan)
    }

    /// All trainings, row by row.
    ///
    /// # Errors
    /// [`Error::Invalid`] where rows, seeds or sets are missing, named twice, or impossible names.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        if self.rows.is_empty() {
            return Err(Error::invalid("plan", "has no rows; write [[row]] with a name for each"));
        }
        distinct("row", self.rows.iter().map(|row| row.name.as_str()))?;
        let mut jobs = Vec::new();
        for row in &self.rows {
            let what = format!("row `{}`", row.name);
            check_name(&what, &row.name)?;
            let sets = row.evaluate.as_ref().unwrap_or(&self.evaluate);
            let seeds = row.seeds.as_ref().unwrap_or(&self.seeds);
            if sets.is_empty() || seeds.is_empty() {
                let reason = "needs a seed and something to be judged by; write [[evaluate]]";
                return Err(Error::invalid(what, reason));
            }
            distinct("evaluation set", sets.iter().map(|set| set.name.as_str()))?;
            let mut recipe = self.recipe.clone();
            merge(&mut recipe, &row.recipe);
            for seed in seeds {
                jobs.push(job(&row.name, *seed, &recipe, sets)?);
            }
        }
        if jobs.len() > MOST_JOBS {
            let reason = format!("asks for {} trainings; {MOST_JOBS} are allowed", jobs.len());
            return Err(Error::invalid("plan", reason));
        }
        let titles: Vec<String> = jobs.iter().map(Job::title).collect();
        distinct("training", titles.iter().map(String::as_str))?;
        Ok(jobs)
    }
}

fn job(row: &str, seed: u32, recipe: &Table, sets: &[Set]) -> Result<Job> {
    let mut recipe = recipe.clone();
    recipe.insert(SEED.into(), Value::Integer(seed.into()));
    let mut text = String::new();
    canonical(&Value::Table(recipe.clone()), &[], &mut text);
    let sets_text = serde_json::to_string(sets)
        .map_err(|error| spotter_models::Error::internal("sets", error))?;
    let digest = Digest::of(format!("{text}\n{sets_text}").as_bytes()).to_string();
    let settings = digest.get(..16).unwrap_or_default().to_owned();
    Ok(Job { row: row.to_owned(), seed, recipe, sets: sets.to_vec(), settings })
}

/// Puts what `changes` names into `table`; tables are merged, everything else is replaced.
fn merge(table: &mut Table, changes: &Table) {
    for (name, change) in changes {
        match (table.get_mut(name), change) {
            (Some(Value::Table(inner)), Value::Table(changes)) => merge(inner, changes),
            _ => {
                table.insert(name.clone(), change.clone());
            }
        }
    }
}

fn find<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    let inner = || table.values().filter_map(Value::as_table).find_map(|inner| find(inner, name));
    table.get(name).or_else(inner)
}

/// A value as text that does not depend on the order in which settings were written.
fn canonical(value: &Value, without: &[&str], text: &mut String) {
    match value {
        Value::Table(table) => {
            let names: BTreeSet<&String> = table.keys().collect();
            text.push('{');
            for name in names.into_iter().filter(|name| !without.contains(&name.as_str())) {
                // Writing into a String cannot fail.
                let _ = write!(text, "{name:?}=");
                table.get(name).iter().for_each(|inner| canonical(inner, without, text));
                text.push(';');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                canonical(value, without, text);
                text.push(';');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(is_plain) {
        let reason = "is no name: use up to 64 letters, digits, `-`, `_`, `+` and `.`";
        return Err(Error::invalid(what, reason));
    }
    Ok(())
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    let twice = names.into_iter().find(|name| !seen.insert(*name));
    twice.map_or(Ok(()), |name| Err(Error::invalid("plan", format!("has two {what}s `{name}`"))))
}
