//! What is to be compared: settings that all rows share, and what each row changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use spotter_models::Digest;
use toml::{Table, Value};

use crate::{
    bounded,
    error::{Error, Result},
    evaluate::{Choice, Ids, Part},
    method::Method,
    recipe::Recipe,
};

/// Most jobs of a plan: more would be a mistake.
const MOST_JOBS: usize = 10_000;
/// Most minutes that a row may be given: two years.
const MOST_MINUTES: f64 = 1e6;
/// The setting of a recipe that makes two trainings of one row different.
const SEED: &str = "seed";

/// A plan's file. Folders in it are relative to where the program was started.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What the page is called.
    #[serde(default = "default_title")]
    pub title: String,
    /// The folder of the base model.
    pub base: Option<PathBuf>,
    /// The folder of what is learnt from.
    pub data: Option<PathBuf>,
    /// What computes; no part of what tells rows apart.
    #[serde(default)]
    pub machine: Machine,
    /// Settings of the recipe that all rows share.
    #[serde(default)]
    pub recipe: Table,
    /// Each row is trained once with each of these.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u32>,
    /// Most minutes of training that each row may take; absent: as many as its epochs need.
    pub minutes: Option<f64>,
    /// What every model is judged by.
    #[serde(default)]
    pub evaluate: Vec<Set>,
    /// What is compared.
    #[serde(default, rename = "row")]
    pub rows: Vec<RowPlan>,
}

/// What computes: options of `train` of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// cpu or cuda.
    pub device: Option<String>,
    /// Threads of libtorch.
    pub threads: Option<usize>,
    /// Threads that decode pictures.
    pub workers: Option<usize>,
    /// Memory for decoded pictures.
    pub cache_mib: Option<usize>,
}

impl Machine {
    /// Sees that options of `train` can be these.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first that cannot, or a device that is not there.
    pub fn check(&self) -> Result<()> {
        let checks = [
            ("machine.threads", self.threads.is_none_or(|n| (1..=256).contains(&n)), "1 to 256"),
            ("machine.workers", self.workers.is_none_or(|n| n > 0), "1 or more"),
        ];
        if let Some((name, _, meant)) = checks.into_iter().find(|(_, holds, _)| !holds) {
            return Err(Error::invalid(name, format!("must be {meant}")));
        }
        self.device.as_deref().map_or(Ok(()), |name| crate::run::device(name).map(drop))
    }
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
    /// A base instead of the plan's.
    pub base: Option<PathBuf>,
    /// Data instead of the plan's.
    pub data: Option<PathBuf>,
    /// Seeds instead of the plan's.
    pub seeds: Option<Vec<u32>>,
    /// Minutes instead of the plan's.
    pub minutes: Option<f64>,
    /// Sets instead of the plan's.
    pub evaluate: Option<Vec<Set>>,
}

/// Something that models are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// What tables call it.
    pub name: String,
    /// The data set's folder.
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
    /// The base model's folder.
    pub base: Option<PathBuf>,
    /// The folder of what is learnt from.
    pub data: PathBuf,
    /// How to train.
    pub recipe: Recipe,
    /// The recipe with every value written out.
    table: Table,
    /// Most minutes of training.
    pub minutes: Option<f64>,
    /// What its model is judged by.
    pub sets: Vec<Set>,
    /// The first 16 digits of a hash over all of this but the row's name: equal settings have equal
    /// ones.
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

    /// A setting of the recipe, such as `prompts.total`; `None` where it has none and no default.
    pub fn setting(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.table.get(names.next()?);
        names.fold(first, |value, name| value?.as_table()?.get(name))
    }

    /// Everything but one setting and the seed, as text: equal for jobs that differ in nothing else.
    pub fn all_but(&self, path: &str) -> String {
        let mut table = self.table.clone();
        table.remove(SEED);
        remove(&mut table, path);
        let mut text = format!("{:?} {:?} {:?} ", self.base, self.data, self.minutes);
        canonical(&Value::Table(table), &mut text);
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
        Self::parse(path, &bounded::text(path, "plan")?)
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
            for seed in seeds {
                jobs.push(self.job(row, *seed, sets)?);
            }
        }
        if jobs.len() > MOST_JOBS {
            let reason = format!("asks for {} trainings; {MOST_JOBS} are allowed", jobs.len());
            return Err(Error::invalid("plan", reason));
        }
        let titles: Vec<String> = jobs.iter().map(Job::title).collect();
        distinct("training", titles.iter().map(String::as_str))?;
        refuse_equal(&jobs)?;
        Ok(jobs)
    }

    /// The row's recipe.
    fn recipe(&self, row: &RowPlan, seed: u32) -> Result<Recipe> {
        let of_row = format!("row `{}`", row.name);
        for (place, table) in [("[recipe]", &self.recipe), (of_row.as_str(), &row.recipe)] {
            if table.contains_key(SEED) {
                let reason =
                    "sets seed, which the plan's or the row's `seeds` do: write seeds = [1]";
                return Err(Error::invalid(place, reason));
            }
        }
        let mut table = self.recipe.clone();
        merge(&mut table, &row.recipe);
        table.insert(SEED.into(), Value::Integer(seed.into()));
        Recipe::from_table(table).map_err(|error| {
            // Where the shared settings have the same fault, it is theirs and not the first row's.
            let shared = Recipe::from_table(self.recipe.clone()).err().map(|e| e.to_string());
            let what = match shared.as_ref() == Some(&error.to_string()) {
                true => "[recipe]".to_owned(),
                false => format!("row `{}`", row.name),
            };
            Error::invalid(what, error.to_string())
        })
    }

    fn job(&self, row: &RowPlan, seed: u32, sets: &[Set]) -> Result<Job> {
        let what = |error: &dyn std::fmt::Display| {
            Error::invalid(format!("row `{}`", row.name), error.to_string())
        };
        let recipe = self.recipe(row, seed)?;
        // Every value written out, so that what is left to a default is compared too.
        let table: Table = recipe.to_text()?.parse().map_err(|error| what(&error))?;
        let base = row.base.as_ref().or(self.base.as_ref()).cloned();
        let base = base.filter(|_| recipe.method != Method::Scratch);
        if base.is_none() && recipe.method != Method::Scratch {
            return Err(what(&"needs a base model; write base = \"FOLDER\""));
        }
        let Some(data) = row.data.as_ref().or(self.data.as_ref()).cloned() else {
            return Err(what(&"has nothing to learn from; write data = \"FOLDER\""));
        };
        let minutes = row.minutes.or(self.minutes);
        if minutes.is_some_and(|minutes| !(minutes > 0.0 && minutes <= MOST_MINUTES)) {
            return Err(what(&format!("minutes must be above 0, up to {MOST_MINUTES}")));
        }
        let mut all = format!("{base:?} {data:?} ");
        canonical(&Value::Table(table.clone()), &mut all);
        // Only where there are any: without, the hash is that of versions that knew none.
        all.extend(minutes.map(|minutes| format!(" {minutes} minutes")));
        let judged = serde_json::to_string(sets)
            .map_err(|error| spotter_models::Error::internal("sets", error))?;
        let digest = Digest::of(format!("{all} {judged}").as_bytes()).to_string();
        let settings = digest.get(..16).unwrap_or_default().to_owned();
        let (row, sets) = (row.name.clone(), sets.to_vec());
        Ok(Job { row, seed, base, data, recipe, table, minutes, sets, settings })
    }
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

/// Takes a setting such as `prompts.total` out of a table.
fn remove(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((name, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(name) {
                remove(inner, rest);
            }
        }
    }
}

/// A value as text that does not depend on the order in which settings were written.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Table(table) => {
            let names: BTreeSet<&String> = table.keys().collect();
            text.push('{');
            for name in names {
                // Writing into a String cannot fail.
                let _ = write!(text, "{name:?}=");
                table.get(name).iter().for_each(|inner| canonical(inner, text));
                text.push(';');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                canonical(value, text);
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

/// Refuses to do the same twice under two names: whoever writes that meant another setting.
fn refuse_equal(jobs: &[Job]) -> Result<()> {
    let mut seen: BTreeMap<&str, &Job> = BTreeMap::new();
    for job in jobs {
        if let Some(earlier) = seen.insert(&job.settings, job) {
            let reason = format!(
                "rows `{}` and `{}` ask for the same training; take one away, or change what was meant to \
                 be compared",
                earlier.row, job.row
            );
            return Err(Error::invalid("plan", reason));
        }
    }
    Ok(())
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    let twice = names.into_iter().find(|name| !seen.insert(*name));
    twice.map_or(Ok(()), |name| Err(Error::invalid("plan", format!("has two {what}s `{name}`"))))
}
