//! What a run leaves on disk.
//!
//! `recipe.toml` (every value written out), `run.json` (what it was made from), `config.json` (shapes of
//! the result), `log.csv`, `validation.csv`, `checkpoint.safetensors` (to go on from), `best.safetensors`
//! (the best state so far). When it is finished: `adapters.safetensors`, or, where the backbone itself
//! was trained, the folder `base`; and `result.json`.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use spotter_models::{Digest, towers::Weights};

use super::checkpoint::{self, is_zero};
use crate::{
    base::{read_json, write_json},
    bounded,
    dataset::{Present, Problems},
    error::{Error, Result},
};

/// The recipe, every value written out.
pub const RECIPE: &str = "recipe.toml";
/// What the run was made from.
pub const RUN: &str = "run.json";
/// Shapes of the result.
pub const CONFIG: &str = "config.json";
/// A row for each step.
pub const LOG: &str = "log.csv";
/// A row for each judgement.
pub const VALIDATION: &str = "validation.csv";
/// The best state so far.
pub const BEST: &str = "best.safetensors";
/// The trained tensors, when finished.
pub const ADAPTERS: &str = "adapters.safetensors";
/// The backbone, where that was trained, when finished.
pub const BASE: &str = "base";
/// Held by whoever works on the run.
pub const LOCK: &str = "lock";
/// The step that left the numbers, where one did.
pub const DIVERGED: &str = "diverged.json";
/// Figures of the result, when finished.
pub const RESULT: &str = "result.json";

const LOG_HEAD: &str = "step,epoch,seconds,loss,learning_rate,pairs_per_second,gradient_norm";
const VALIDATION_HEAD: &str = "step,epoch,loss_train,R@1,R@5,R@10,mAP,mINP,loss_val";

/// Largest log or table of validations that is read, in bytes: a million steps have a tenth of it.
const MAX_TABLE_BYTES: u64 = 1 << 30;

/// What a run was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The base's folder; `None` for a backbone from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// The same as seen from the run's folder, so that both can be moved together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_from_run: Option<PathBuf>,
    /// Hash of its weights, which decides whether what lies there is the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_sha256: Option<Digest>,
    /// Hash of its `config.json`, which decides as well: other shapes or factors are another model.
    /// Absent in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_config_sha256: Option<Digest>,
    /// The data's folder.
    pub data: PathBuf,
    /// The data's name.
    pub data_name: String,
    /// Hash of the annotations that are used.
    pub data_sha256: Digest,
    /// Pictures of the splits `train` and `val` that were there. Absent in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<Present>,
    /// Pictures, captions and persons that are learnt from.
    pub counts: Counts,
    /// What was wrong in the annotations; left out unless its cause says otherwise.
    #[serde(default, skip_serializing_if = "Problems::is_empty")]
    pub left_out: Problems,
    /// R@1 of guessing on validation persons, in percent, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Threads of libtorch that it began with; another number gives other rounding.
    pub threads: usize,
    /// Where it went on with another number of threads, in the order of the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread_changes: Vec<ThreadChange>,
}

/// A run went on with another number of threads: from here on its numbers are rounded otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadChange {
    /// The last step with the number before.
    pub after: u64,
    /// Threads of libtorch from then on.
    pub threads: usize,
}

impl std::fmt::Display for ThreadChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after step {}", self.threads, self.after)
    }
}

impl Origin {
    /// Takes over what an earlier sitting wrote about threads, for a run that goes on after `step`
    /// with `self.threads`, or is complete. Returns the number before, where it was another one.
    pub(super) fn continue_from(
        &mut self,
        earlier: Self,
        step: u64,
        is_complete: bool,
    ) -> Option<usize> {
        let now = std::mem::replace(&mut self.threads, earlier.threads);
        self.thread_changes = earlier.thread_changes;
        // Steps after the checkpoint were lost, and so was what they were computed with.
        self.thread_changes.retain(|change| change.after < step);
        let before = self.thread_changes.last().map_or(self.threads, |change| change.threads);
        (before != now && !is_complete).then(|| {
            self.thread_changes.push(ThreadChange { after: step, threads: now });
            before
        })
    }

    /// What was other when the run was begun as `earlier` says, in words; where either does not say it,
    /// nothing is known.
    pub(super) fn changes_since(&self, earlier: &Self) -> Vec<String> {
        fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.zip(b).is_some_and(|(a, b)| a != b)
        }
        let mut changes = Vec::new();
        if self.base_sha256 != earlier.base_sha256 {
            changes.push("the base model is another one".to_owned());
        } else if differ(self.base_config_sha256, earlier.base_config_sha256) {
            changes.push("the base model's config.json was changed".to_owned());
        }
        if self.data_sha256 != earlier.data_sha256 {
            let [now, then] = [self.counts, earlier.counts];
            changes.push(match now == then {
                true => "the annotations were changed".to_owned(),
                false => format!("there are {now} to learn from instead of {then}"),
            });
        } else if let (Some(now), Some(then)) = (self.present, earlier.present)
            && now != then
        {
            changes.push(match now.pictures == then.pictures {
                true => "pictures have other lengths, or others are there".to_owned(),
                false => format!(
                    "{} pictures of the splits `train` and `val` are there instead of {}",
                    now.pictures, then.pictures
                ),
            });
        }
        changes
    }

    /// Reads it from a run's folder; `None` where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        read_if_there(&run.join(RUN))
    }
}

/// How much data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Pictures.
    pub pictures: usize,
    /// Captions.
    pub captions: usize,
    /// Persons.
    pub persons: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pictures, captions, persons } = self;
        write!(f, "{pictures} pictures, {captions} captions and {persons} persons")
    }
}

/// The step at which a training left the numbers, for whoever looks for the cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diverged {
    /// Which one, from 1 on.
    pub step: u64,
    /// The learning rate it was or would have been made with.
    pub learning_rate: f64,
    /// What is no number, in words: JSON has no NaN.
    pub error: String,
    /// What it was made of; none where the weights were found to be no numbers after it.
    pub pairs: Vec<DivergedPair>,
}

/// A picture and the caption that was drawn for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DivergedPair {
    /// The picture's path as the annotations have it.
    pub file: String,
    /// Whom it shows.
    pub id: i64,
    /// What was said of it, before changes.
    pub caption: String,
}

fn read_if_there<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    path.exists().then(|| read_json(path)).transpose()
}

/// What of a run's files earlier versions kept no hash of, so that nobody can tell whether it was
/// changed; `None`: all can be checked.
pub fn unchecked(origin: &Origin, ended: &Ended) -> Option<String> {
    let lacking = [
        ("its trained tensors", ended.sha256.is_none()),
        ("its config.json", ended.config_sha256.is_none()),
        (
            "its base model's config.json",
            origin.base_sha256.is_some() && origin.base_config_sha256.is_none(),
        ),
    ];
    let names: Vec<&str> =
        lacking.iter().filter(|(_, lacks)| *lacks).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} cannot be checked: the run was made by an older version, which kept no SHA-256 of this",
            names.join(" and ")
        )
    })
}

impl Ended {
    /// Reads it from a run's folder; `None` where the run is not finished.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        read_if_there(&run.join(RESULT))
    }

    /// Whether the model finds persons no better than guessing does.
    pub fn is_at_chance(&self) -> bool {
        self.r1.zip(self.chance).is_some_and(|(r1, chance)| is_at_chance(r1, chance))
    }
}

/// Whether an R@1 is not told apart from that of guessing, both in percent: not above twice as much,
/// or, where guessing is often right, not above half of what it leaves. Where it is always right
/// nothing can be said.
pub fn is_at_chance(r1: f64, chance: f64) -> bool {
    chance < 100.0 && r1 <= chance + chance.min((100.0 - chance) / 2.0)
}

impl Diverged {
    /// Reads it from a run's folder; `None` where the run did not diverge.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        read_if_there(&run.join(DIVERGED))
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Steps that were made.
    pub steps: u64,
    /// The step whose state was kept.
    pub kept: u64,
    /// R@1 on validation persons of that state, in percent, where there are any.
    pub r1: Option<f64>,
    /// R@1 of guessing on these persons, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Seconds of work.
    pub seconds: f64,
    /// Numbers that were trained.
    pub trained: usize,
    /// Numbers of the model.
    pub total: usize,
    /// Whether its minutes were over before its epochs were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_time: bool,
    /// Most memory that the training held at once, in MiB, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_mib: Option<f64>,
    /// Batches that were left out because they held a single pair, which is contrasted with nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub single: u64,
    /// Hash of the trained tensors' file: of `adapters.safetensors`, or of the weights in `base` where
    /// the backbone was trained. Absent in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Hash of `config.json`, the shapes and factors with which the tensors are a model. Absent in results
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<Digest>,
    /// Where it went on with another number of threads: the result is not bit for bit that of an
    /// uninterrupted run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread_changes: Vec<ThreadChange>,
}

/// The way from one folder to another, both without symbolic links.
pub(super) fn way(from: &Path, to: &Path) -> PathBuf {
    let mut rest = from.components();
    let mut forward = to.components();
    while let (Some(a), Some(b)) = (rest.clone().next(), forward.clone().next())
        && a == b
    {
        rest.next();
        forward.next();
    }
    rest.map(|_| std::path::Component::ParentDir).chain(forward).collect()
}

/// The folder of a run in progress.
pub(super) struct Folder {
    path: PathBuf,
    log: File,
    validation: File,
    /// Held as long as the run is worked on.
    _lock: File,
}

impl Folder {
    /// Makes the folder, or opens it again.
    pub(super) fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(spotter_models::Error::io(path))?;
        Ok(Self {
            _lock: lock(path)?,
            path: path.to_owned(),
            log: table(&path.join(LOG), LOG_HEAD)?,
            validation: table(&path.join(VALIDATION), VALIDATION_HEAD)?,
        })
    }

    /// Leaves out rows of steps after `step`, which will be made again. Returns how many of the log's
    /// stay.
    pub(super) fn rewind(&mut self, step: u64) -> Result<u64> {
        self.remove(DIVERGED)?;
        let rows;
        (self.log, rows) = rewind(&self.path.join(LOG), LOG_HEAD, step)?;
        (self.validation, _) = rewind(&self.path.join(VALIDATION), VALIDATION_HEAD, step)?;
        Ok(rows)
    }

    pub(super) fn log(&mut self, row: &str) -> Result<()> {
        self.append(row, false)
    }

    pub(super) fn validation(&mut self, row: &str) -> Result<()> {
        self.append(row, true)
    }

    fn append(&mut self, row: &str, judged: bool) -> Result<()> {
        let (name, file) = match judged {
            true => (VALIDATION, &mut self.validation),
            false => (LOG, &mut self.log),
        };
        let io = spotter_models::Error::io(self.path.join(name));
        Ok(file.write_all(format!("{row}\n").as_bytes()).map_err(io)?)
    }

    /// Writes a JSON file whole or not at all.
    pub(super) fn json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let part = self.path.join(format!("{name}.part"));
        write_json(&part, value)?;
        self.place(&part, name)
    }

    /// Writes the best state beside the one before, and returns its hash. It takes that one's place with
    /// [`Folder::place_best`], once the checkpoint has the hash: a kill in between leaves both.
    pub(super) fn write_best(&self, weights: &Weights) -> Result<Digest> {
        let part = self.best_part();
        weights.write(&part)?;
        File::open(&part)
            .and_then(|file| file.sync_all())
            .map_err(spotter_models::Error::io(&part))?;
        Ok(Digest::of(&bounded::weights(&part)?))
    }

    /// Gives the best state its place, where one was written.
    pub(super) fn place_best(&self) -> Result<()> {
        match self.best_part().exists() {
            true => self.place(&self.best_part(), BEST),
            false => Ok(()),
        }
    }

    /// After a kill: gives the best state its place where it is the one of this hash, which the
    /// checkpoint has, and removes it where it came after the checkpoint.
    pub(super) fn settle_best(&self, sha256: Option<Digest>) -> Result<()> {
        let part = self.best_part();
        if !part.exists() {
            return Ok(());
        }
        match sha256 == Some(Digest::of(&bounded::weights(&part)?)) {
            true => self.place_best(),
            false => self.remove(&format!("{BEST}.part")),
        }
    }

    fn best_part(&self) -> PathBuf {
        self.path.join(format!("{BEST}.part"))
    }

    /// Reads the best state, which must be the one of this hash; checkpoints of earlier versions have
    /// none.
    pub(super) fn read_best(&self, sha256: Option<Digest>) -> Result<Weights> {
        let path = self.path.join(BEST);
        let lost = |reason: &str| {
            let reason = format!(
                "{reason}, and it holds the best state so far; get it back from a copy, or remove {} \
                 to begin again",
                checkpoint::FILE
            );
            spotter_models::Error::corrupt(&path, reason)
        };
        if !path.exists() {
            return Err(lost("is missing").into());
        }
        let bytes = bounded::weights(&path)?;
        if sha256.is_some_and(|stated| stated != Digest::of(&bytes)) {
            return Err(lost("was damaged: its SHA-256 is not the checkpoint's").into());
        }
        Ok(Weights::from_bytes(&path, &bytes)?)
    }

    /// Writes weights whole or not at all.
    pub(super) fn weights(&self, name: &str, weights: &Weights) -> Result<()> {
        let part = self.path.join(format!("{name}.part"));
        weights.write(&part)?;
        self.place(&part, name)
    }

    pub(super) fn text(&self, name: &str, text: &str) -> Result<()> {
        let part = self.path.join(format!("{name}.part"));
        std::fs::write(&part, text).map_err(spotter_models::Error::io(&part))?;
        self.place(&part, name)
    }

    /// Removes a file where it is there.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(spotter_models::Error::io(&path)(error).into())
            }
            _ => Ok(()),
        }
    }

    fn place(&self, part: &Path, name: &str) -> Result<()> {
        let sync = File::open(part).and_then(|file| file.sync_all());
        let placed = sync.and_then(|()| std::fs::rename(part, self.path.join(name)));
        Ok(placed.map_err(spotter_models::Error::io(part))?)
    }
}

/// Keeps a second training out of the folder, as long as the file is open.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(spotter_models::Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let reason =
                "another training works in this folder; wait for it, or choose a new folder";
            Err(Error::invalid(folder.display().to_string(), reason))
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(spotter_models::Error::io(&path)(error).into())
        }
    }
}

fn table(path: &Path, head: &str) -> Result<File> {
    let io = spotter_models::Error::io(path);
    let opened = OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| {
        if file.metadata()?.len() == 0 {
            file.write_all(format!("{head}\n").as_bytes())?;
        }
        Ok(file)
    });
    Ok(opened.map_err(io)?)
}

/// Leaves out the rows of steps after `step`, and a last row that was cut when the process that wrote it
/// was killed. The table is replaced in one step. Returns it with the number of rows that stay.
fn rewind(path: &Path, head: &str, step: u64) -> Result<(File, u64)> {
    let io = |error| Error::from(spotter_models::Error::io(path)(error));
    let bytes = bounded::read(path, MAX_TABLE_BYTES)?;
    let kept = rows_until(path, head, &String::from_utf8_lossy(&bytes), step)?;
    let rows = kept.lines().skip(1).count() as u64;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, kept).map_err(io)?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&part, path).map_err(io)?;
    Ok((OpenOptions::new().append(true).open(path).map_err(io)?, rows))
}

/// The head and the whole rows of a table until a step.
///
/// # Errors
/// Where a row that was ended is none: not the numbers of the head, or a step that is no whole number.
fn rows_until(path: &Path, head: &str, text: &str, step: u64) -> Result<String> {
    let wrong = |line: usize, reason: &str| {
        let reason = format!(
            "line {line} {reason}; take the file away to go on without the earlier rows, or get it \
             back from a copy"
        );
        Error::from(spotter_models::Error::corrupt(path, reason))
    };
    // What follows the last end of a line was being written.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let mut lines = whole.lines().zip(1..);
    if let Some((first, line)) = lines.next()
        && first != head
    {
        return Err(wrong(line, &format!("is not `{head}`")));
    }
    let fields = head.split(',').count();
    let mut kept = format!("{head}\n");
    for (row, line) in lines {
        let numbers = row.split(',').filter(|field| field.parse::<f64>().is_ok()).count();
        if numbers != fields || row.split(',').count() != fields {
            return Err(wrong(line, &format!("has not {fields} numbers")));
        }
        let at: Option<u64> = row.split(',').next().and_then(|first| first.parse().ok());
        match at {
            Some(at) if at <= step => kept += &format!("{row}\n"),
            Some(_) => {}
            None => return Err(wrong(line, "has no step")),
        }
    }
    Ok(kept)
}
