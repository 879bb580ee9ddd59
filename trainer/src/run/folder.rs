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
use spotter_models::{
    Digest,
    towers::{Config, Weights},
};

use crate::{
    base::{Base, WEIGHTS_FILE, read_json, write_json},
    bounded,
    dataset::Problems,
    error::{Error, Result},
    recipe::Recipe,
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
    /// The data's folder.
    pub data: PathBuf,
    /// The data's name.
    pub data_name: String,
    /// Hash of the annotations that are used.
    pub data_sha256: Digest,
    /// Pictures, captions and persons that are learnt from.
    pub counts: Counts,
    /// What of the annotations could not be used.
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

    /// Reads it from a run's folder; `None` where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        let path = run.join(RUN);
        if !path.exists() {
            return Ok(None);
        }
        read_json(&path).map(Some)
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

/// The step at which a training left the numbers, for whoever looks for the cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diverged {
    /// Which one, from 1 on.
    pub step: u64,
    /// The learning rate it would have been made with.
    pub learning_rate: f64,
    /// Loss and gradient, in words: JSON has no NaN.
    pub error: String,
    /// What it was made of.
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

impl Ended {
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
        let path = run.join(DIVERGED);
        if !path.exists() {
            return Ok(None);
        }
        read_json(&path).map(Some)
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
    /// Hash of the trained tensors' file: of `adapters.safetensors`, or of the weights in `base` where
    /// the backbone was trained. Absent in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Where it went on with another number of threads: the result is not bit for bit that of an
    /// uninterrupted run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread_changes: Vec<ThreadChange>,
}

/// A finished run, read for evaluation and export.
#[derive(Debug)]
pub struct Finished {
    /// Its recipe.
    pub recipe: Recipe,
    /// What it was made from.
    pub origin: Origin,
    /// How it ended.
    pub ended: Ended,
    /// Shapes of the model.
    pub config: Config,
    /// The frozen base, or the one that was trained.
    pub base: Base,
    /// All of the model's tensors.
    pub weights: Weights,
    /// Hash of the trained tensors' file, where those are apart from the base.
    pub adapters_sha256: Option<Digest>,
}

impl Finished {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// Where it is not finished, its base is not where it was or changed, or its trained tensors are not
    /// those that `result.json` states.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, None)
    }

    /// As [`Finished::open`], with the base's folder where that was moved.
    ///
    /// # Errors
    /// As [`Finished::open`], and where `base` is another one than the run was made from.
    pub fn open_with(folder: &Path, base: Option<&Path>) -> Result<Self> {
        if !folder.join(RESULT).exists() {
            let reason = "is no finished run; let `spotter-trainer train` go on with it";
            return Err(Error::invalid(folder.display().to_string(), reason));
        }
        let recipe = Recipe::read(&folder.join(RECIPE))?;
        let origin: Origin = read_json(&folder.join(RUN))?;
        let ended: Ended = read_json(&folder.join(RESULT))?;
        let config: Config = read_json(&folder.join(CONFIG))?;
        if recipe.method.trains_backbone() {
            if base.is_some() {
                let reason =
                    "the backbone was trained too and lies in the run's folder; leave it out";
                return Err(Error::invalid("--base", reason));
            }
            let base = Base::open(&folder.join(BASE))?;
            check_trained(&ended, &base.folder().join(WEIGHTS_FILE), base.sha256())?;
            let weights = base.weights().clone();
            return Ok(Self {
                recipe,
                origin,
                ended,
                config,
                base,
                weights,
                adapters_sha256: None,
            });
        }
        let base = find_base(folder, &origin, base)?;
        let mut weights = base.weights().clone();
        let path = folder.join(ADAPTERS);
        let bytes = bounded::weights(&path)?;
        let sha256 = Digest::of(&bytes);
        check_trained(&ended, &path, sha256)?;
        for (name, tensor) in Weights::from_bytes(&path, &bytes)?.iter() {
            weights.insert(name, tensor.clone());
        }
        weights.check(&config)?;
        let adapters_sha256 = Some(sha256);
        Ok(Self { recipe, origin, ended, config, base, weights, adapters_sha256 })
    }
}

/// The base that a run was made from: where somebody says it is, else where it lies as seen from the run,
/// else where it was. What lies there is told by its hash.
fn find_base(folder: &Path, origin: &Origin, given: Option<&Path>) -> Result<Base> {
    let open = |path: &Path| {
        let base = Base::open(path)?;
        if Some(base.sha256()) == origin.base_sha256 {
            return Ok(base);
        }
        let wanted = origin.base_sha256.map(|hash| format!(", {hash}")).unwrap_or_default();
        let reason = format!(
            "holds another base model, SHA-256 {}, than the run was made from{wanted}",
            base.sha256()
        );
        Err(Error::invalid(path.display().to_string(), reason))
    };
    if let Some(given) = given {
        return open(given);
    }
    let near = origin.base_from_run.as_ref().map(|path| folder.join(path));
    let mut places: Vec<PathBuf> = near.into_iter().chain(origin.base.clone()).collect();
    // One place by two names needs to be looked at, and told, once.
    places.dedup_by_key(|place| place.canonicalize().unwrap_or_else(|_| place.clone()));
    let mut found = Vec::new();
    for place in &places {
        match open(place) {
            Ok(base) => return Ok(base),
            Err(error) => found.push(error.to_string()),
        }
    }
    let found = if found.is_empty() { "run.json names none".into() } else { found.join("; ") };
    let reason =
        format!("its base model is not found: {found}; name its folder with --base FOLDER");
    Err(Error::invalid(folder.display().to_string(), reason))
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

/// Refuses trained tensors that are not those the training ended with.
fn check_trained(ended: &Ended, path: &Path, found: Digest) -> Result<()> {
    match ended.sha256 {
        Some(stated) if stated != found => {
            let reason = format!(
                "was changed since the training ended: its SHA-256 is {found}, and {RESULT} states \
                 {stated}; get the file back from a copy, or run the same `spotter-trainer train` again, \
                 which writes it anew from the checkpoint"
            );
            Err(spotter_models::Error::corrupt(path, reason).into())
        }
        _ => Ok(()),
    }
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

    /// Leaves out rows of steps after `step`, which will be made again.
    pub(super) fn rewind(&mut self, step: u64) -> Result<()> {
        self.remove(DIVERGED)?;
        self.log = rewind(&self.path.join(LOG), LOG_HEAD, step)?;
        self.validation = rewind(&self.path.join(VALIDATION), VALIDATION_HEAD, step)?;
        Ok(())
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

/// Keeps a second training out of the folder.
fn lock(folder: &Path) -> Result<File> {
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
/// was killed. The table is replaced in one step.
fn rewind(path: &Path, head: &str, step: u64) -> Result<File> {
    let io = |error| Error::from(spotter_models::Error::io(path)(error));
    let bytes = bounded::read(path, MAX_TABLE_BYTES)?;
    let kept = rows_until(path, head, &String::from_utf8_lossy(&bytes), step)?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, kept).map_err(io)?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&part, path).map_err(io)?;
    OpenOptions::new().append(true).open(path).map_err(io)
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
