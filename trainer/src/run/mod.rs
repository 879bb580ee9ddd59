//! A training run: from a recipe, a base and pictures to trained tensors.
//!
//! A run can be stopped and killed at any time and goes on from its last checkpoint, bit for bit as if
//! nothing had happened, on the same machine with the same number of threads.

mod checkpoint;
mod finished;
mod folder;
mod inputs;
mod judge;
mod model;
mod place;
mod progress;
mod step;

pub use finished::Finished;
pub use folder::{
    ADAPTERS, Counts, Diverged, DivergedPair, Ended, Origin, RESULT, ThreadChange, is_at_chance,
    unchecked,
};
pub(crate) use folder::{LOCK, lock};
pub(crate) use inputs::check_persons;
pub(crate) use place::refuse_inside;
pub use progress::{Now, Progress};
pub use step::{Inputs, Measured, Trainee, device, gradients};

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::Digest as _;
use spotter_models::{
    Digest,
    towers::{Config, Weights},
};
use tch::Device;

use crate::{
    base::Base,
    bounded,
    dataset::{Batch, Dataset, Loader, LoaderSettings, Order, Pair, Split},
    error::{Error, Result},
    memory,
    method::Method,
    recipe::{Keep, Recipe},
    stopwatch,
};
use checkpoint::{Position, Restored};
use folder::Folder;
use inputs::There;
use judge::Judge;

/// Time between two checkpoints within an epoch.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// How to train.
    pub recipe: Recipe,
    /// The folder of the base model; `None` for a backbone from nothing.
    pub base: Option<PathBuf>,
    /// A whole model to go on from, in the place of a base and the recipe's initialisation.
    pub start: Option<Start>,
    /// The folder of the pictures.
    pub data: PathBuf,
    /// Where the run is kept; goes on where one is there already.
    pub out: PathBuf,
    /// Where to compute.
    pub device: Device,
    /// Threads of libtorch.
    pub threads: usize,
    /// Threads that decode and change pictures.
    pub workers: usize,
    /// Bytes of memory for decoded pictures.
    pub cache_bytes: usize,
    /// Stop after this much work in this sitting, to go on later.
    pub sitting: Option<Duration>,
    /// End after this much work over all sittings, though there were more epochs to come.
    pub budget: Option<Duration>,
}

/// A model that was trained before.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// All of its tensors.
    pub weights: Weights,
    /// Its shapes, which the recipe's say nothing of.
    pub config: Config,
}

/// What tells a model from others: a hash of its tensors and shapes.
pub fn sha256_of(weights: &Weights, config: &Config) -> Digest {
    let mut all = sha2::Sha256::new();
    for (name, tensor) in weights.iter() {
        all.update(name.as_bytes());
        tensor.values().iter().for_each(|value| all.update(value.to_le_bytes()));
    }
    all.update(format!("{config:?}").as_bytes());
    Digest::of(&all.finalize())
}

/// How a sitting ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The run is complete.
    Finished(Ended),
    /// It was stopped and can go on.
    Stopped {
        /// Steps so far.
        step: u64,
        /// Steps there will be.
        steps: u64,
    },
}

/// Trains until the end, or until `stop` is set.
///
/// # Errors
/// Where inputs do not fit, a file cannot be read or written, or training diverges. What was
/// checkpointed stays.
pub fn train(job: &Job, stop: &AtomicBool, progress: &mut Progress) -> Result<Outcome> {
    job.recipe.validate()?;
    place::check(job)?;
    train_on(job, inputs::data(job)?, stop, progress)
}

/// As [`train`], on pictures that were read already; [`Job::data`] is only what the run's origin calls them.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    job: &Job,
    data: Dataset,
    stop: &AtomicBool,
    progress: &mut Progress,
) -> Result<Outcome> {
    job.recipe.validate()?;
    tch::set_num_threads(i32::try_from(job.threads).unwrap_or(i32::MAX));
    let base = job.base.as_deref().map(inputs::base).transpose()?;
    let data = Arc::new(data);
    if !data.problems().is_empty() {
        progress.say(&format!(
            "Wrong in the data, and left out unless it says kept: {}",
            data.problems()
        ));
    }
    let mut run = Run::begin(job, base.as_ref(), data)?;
    run.warn(progress);
    run.resume(progress)?;
    let outcome = run.work(stop, progress)?;
    progress.end();
    Ok(outcome)
}

/// A run in progress.
struct Run<'a> {
    job: &'a Job,
    base: Option<&'a Base>,
    folder: Folder,
    trainee: Trainee,
    data: Arc<Dataset>,
    there: There,
    loader: Loader,
    order: Order,
    judge: Judge,
    /// Steps of an epoch.
    per_epoch: u64,
    /// Steps of the run.
    steps: u64,
    position: Position,
    /// What `run.json` says.
    origin: Origin,
}

impl<'a> Run<'a> {
    fn begin(job: &'a Job, base: Option<&'a Base>, data: Arc<Dataset>) -> Result<Self> {
        let recipe = &job.recipe;
        let there = There::look(&data, recipe.method)?;
        let train = &there.train;
        let counts = inputs::count(&data, train);
        let order = Order::new(&data, train, recipe.data.sampler, recipe.seed);
        let per_epoch = (order.len() as u64).div_ceil(recipe.batch.size as u64);
        let steps = ((recipe.schedule.epochs * per_epoch as f64).round() as u64).max(1);
        let (config, trainee) = model::make(job, base, &data, train)?;
        let settings = LoaderSettings {
            batch: recipe.batch.size,
            workers: job.workers,
            cache_bytes: job.cache_bytes,
            seed: recipe.seed,
            image: recipe.data.image.clone(),
            text: recipe.data.text.clone(),
        };
        let loader = Loader::new(Arc::clone(&data), train, &config, settings)?;
        let judge = Judge::new(Arc::clone(&data), &config)?;
        let folder = Folder::open(&job.out)?;
        let origin = Origin {
            base_from_run: job.base.as_deref().and_then(|base| seen_from(&job.out, base)),
            base: job.base.as_deref().map(std::path::absolute).transpose().unwrap_or(None),
            base_sha256: base.map(Base::sha256),
            base_config_sha256: base.map(Base::config_sha256),
            data: std::path::absolute(&job.data).unwrap_or_else(|_| job.data.clone()),
            data_name: data.name().to_owned(),
            data_sha256: data.fingerprint(),
            present: Some(data.present(&[Split::Train, Split::Val])),
            counts,
            left_out: data.problems().clone(),
            chance: judge.chance(),
            threads: job.threads,
            thread_changes: vec![],
        };
        let recipe_text = recipe.to_text()?;
        let mut identity = format!("{recipe_text}{:?}{}", origin.base_sha256, origin.data_sha256);
        if let Some(start) = &job.start {
            identity += &format!(" from {}", sha256_of(&start.weights, &start.config));
        }
        if there.lost > 0 {
            // Earlier versions drew lost pictures too: their epochs have other steps.
            identity += " without lost pictures";
        }
        let position =
            Position { job: Digest::of(identity.as_bytes()).to_string(), ..Position::default() };
        if !job.out.join(checkpoint::FILE).exists() {
            // A result that lies here from before is not of what begins now.
            folder.remove(folder::RESULT)?;
            // What says that the folder is a run's comes before anything else of the run.
            folder.json(folder::RUN, &origin)?;
            folder.text(folder::RECIPE, &recipe_text)?;
            folder.json(folder::CONFIG, &config)?;
        }
        Ok(Self {
            job,
            base,
            folder,
            trainee,
            data,
            there,
            loader,
            order,
            judge,
            per_epoch,
            steps,
            position,
            origin,
        })
    }

    /// What can be meant so, but seldom is.
    fn warn(&self, progress: &Progress) {
        let recipe = &self.job.recipe;
        let (size, pairs) = (recipe.batch.size, self.order.len());
        if !self.there.is_whole() {
            progress.warn(&format!("{}; they are left out", self.there));
        }
        if size > pairs && recipe.method.learns() {
            progress.warn(&format!(
                "batch.size is {size}, but there are {pairs} pairs of picture and caption an epoch: each \
                 step contrasts only these, and an epoch is one step"
            ));
        }
        if size < pairs && pairs % size == 1 && recipe.method.learns() {
            progress.warn(&format!(
                "of the {pairs} pairs of an epoch in batches of {size}, one is left alone: the batch of a \
                 single pair contrasts it with nothing and is left out, another pair in each epoch"
            ));
        }
        if self.judge.is_empty() && recipe.validation.keep == Keep::Best {
            progress.warn(
                "validation.keep is `best`, but the data have no pictures of the split `val` that can be \
                 used: nothing tells how good the model gets, and the last state is kept. Move some \
                 persons to the split `val`, or say keep = \"last\"",
            );
        }
    }

    fn resume(&mut self, progress: &Progress) -> Result<()> {
        self.refuse_changes()?;
        let Trainee { parameters, adam, .. } = &mut self.trainee;
        let restored = checkpoint::restore(&self.job.out, &self.position.job, parameters, adam)?;
        if let Some(Restored { position, is_checked }) = restored {
            progress.say(&format!("going on after step {} of {}", position.step, self.steps));
            progress.from(position.step);
            self.position = position;
            self.see_best()?;
            self.take_over(progress)?;
            if !is_checked {
                progress.warn(&format!(
                    "{} cannot be checked: made by an older version, which kept no SHA-256",
                    checkpoint::FILE
                ));
            }
        }
        // Where there is no checkpoint, no state can be the best yet.
        self.folder.settle_best(self.position.best_sha256)?;
        let (rows, step) = (self.folder.rewind(self.position.step)?, self.position.step);
        // Steps that nothing could be read for have no row.
        let made = u64::try_from(self.position.optimiser_steps).unwrap_or(0);
        if rows < made {
            progress.warn(&format!(
                "{} has {rows} rows until step {step}, where {made} steps were made: the others were \
                 lost or taken away, and the report's curves lack them",
                folder::LOG
            ));
        }
        Ok(())
    }

    /// Refuses to go on with another base or other data than the run was begun with: its result would be
    /// that of neither.
    fn refuse_changes(&self) -> Result<()> {
        let Some(earlier) = Origin::read(&self.job.out)? else { return Ok(()) };
        let mut changes = self.origin.changes_since(&earlier);
        if changes.is_empty() {
            return Ok(());
        }
        // It may be why what is learnt from is other.
        if Recipe::read(&self.job.out.join(folder::RECIPE))? != self.job.recipe {
            changes.insert(0, "the recipe is another one".into());
        }
        let reason = format!(
            "holds a run that was begun with something else: {}; get back what it was begun with, or \
             choose a new folder",
            changes.join("; ")
        );
        Err(Error::invalid(self.job.out.display().to_string(), reason))
    }

    /// Sees that the best state is the one that the checkpoint names, before hours are spent on others.
    fn see_best(&self) -> Result<()> {
        let stated = self.position.best_sha256;
        self.folder.settle_best(stated)?;
        match self.position.best {
            // The checkpoint has this very state.
            Some((step, _)) if step == self.position.step => {
                self.folder.weights(folder::BEST, &self.kept()?)
            }
            Some(_) if self.job.recipe.validation.keep == Keep::Best => {
                self.folder.read_best(stated).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Goes on with what earlier sittings wrote into `run.json`, and says what is other now.
    fn take_over(&mut self, progress: &Progress) -> Result<()> {
        let step = self.position.step;
        let is_complete = self.is_over();
        let before = Origin::read(&self.job.out)?
            .and_then(|run| self.origin.continue_from(run, step, is_complete));
        if let Some(before) = before {
            progress.warn(&format!(
                "the run was computed with --threads {before} so far and goes on with {}; its result \
                 will not be bit for bit that of a run without an interruption, and run.json, \
                 result.json and the report say so",
                self.job.threads
            ));
        }
        self.folder.json(folder::RUN, &self.origin)
    }

    fn work(&mut self, stop: &AtomicBool, progress: &mut Progress) -> Result<Outcome> {
        let began = stopwatch::now();
        let before = self.position.seconds;
        let mut saved = stopwatch::now();
        let sitting = self.job.sitting;
        let is_to_stop = || {
            stop.load(Ordering::Relaxed) || sitting.is_some_and(|limit| began.elapsed() >= limit)
        };
        while !self.is_over() && self.job.recipe.method.learns() {
            let epoch = self.position.step / self.per_epoch;
            let done = usize::try_from(self.position.step % self.per_epoch).unwrap_or(0);
            let pairs = self.order.epoch(epoch);
            let end = self.steps.min((epoch + 1) * self.per_epoch);
            for batch in self.loader.epoch(epoch, pairs, done)? {
                self.step_or_leave_out(&batch?, progress)?;
                self.position.seconds = before + began.elapsed().as_secs_f64();
                // A checkpoint at the end of an epoch comes after its judgement: a later sitting begins
                // with the next epoch, and would never judge this one.
                if self.position.step >= end || self.is_out_of_time() {
                    break;
                }
                if is_to_stop() {
                    self.save_or_say()?;
                    return Ok(Outcome::Stopped { step: self.position.step, steps: self.steps });
                }
                if saved.elapsed() >= BETWEEN_CHECKPOINTS {
                    self.save_or_say()?;
                    saved = stopwatch::now();
                }
            }
            if self.is_out_of_time() {
                break;
            }
            // Also where the last batches of an epoch held nothing that could be read.
            self.position.step = end;
            self.refuse_nothing_made()?;
            self.judge_and_save(progress)?;
            saved = stopwatch::now();
            if is_to_stop() && !self.is_over() {
                return Ok(Outcome::Stopped { step: self.position.step, steps: self.steps });
            }
        }
        if self.is_out_of_time() {
            progress.say(&format!(
                "its minutes are over after step {} of {}",
                self.position.step, self.steps
            ));
            let (_, unjudged) = self.position.losses;
            if unjudged > 0 {
                self.judge_and_save(progress)?;
            }
        }
        self.finish(progress).map(Outcome::Finished)
    }

    /// Whether the time for this run was used up before its steps were.
    fn is_out_of_time(&self) -> bool {
        let spent = Duration::try_from_secs_f64(self.position.seconds).unwrap_or(Duration::MAX);
        self.position.step < self.steps && self.job.budget.is_some_and(|budget| spent >= budget)
    }

    fn is_over(&self) -> bool {
        self.position.step >= self.steps || self.is_out_of_time()
    }

    /// A batch of one pair, as the last of an epoch may be, contrasts it with nothing: every loss is that of
    /// a right answer, and normalisation over the batch has no variance to measure. It is left out.
    fn step_or_leave_out(&mut self, batch: &Batch, progress: &mut Progress) -> Result<()> {
        if batch.pairs.len() > 1 {
            return self.step(batch, progress);
        }
        self.position.step += 1;
        self.position.single += 1;
        Ok(())
    }

    /// Refuses to go on where an epoch had no two pairs together.
    fn refuse_nothing_made(&self) -> Result<()> {
        if self.position.optimiser_steps > 0 {
            return Ok(());
        }
        let reason = format!(
            "no two pictures can be used together: {}; add pictures, or a larger batch.size",
            self.loader.problems()
        );
        Err(Error::invalid(self.data.name(), reason))
    }

    /// Factor on the learning rate of the next step.
    fn factor(&self) -> f64 {
        let epoch = self.position.step as f64 / self.per_epoch as f64;
        self.job.recipe.schedule.factor(epoch)
    }

    fn step(&mut self, batch: &Batch, progress: &mut Progress) -> Result<()> {
        let began = stopwatch::now();
        let recipe = &self.job.recipe;
        let factor = self.factor();
        self.trainee.parameters.set_training(true);
        let measured = self.trainee.step(batch, recipe, factor).inspect_err(|error| {
            self.say_what_diverged(self.position.step + 1, &batch.pairs, error);
        })?;
        self.position.step += 1;
        self.position.optimiser_steps = self.trainee.adam.steps();
        let speed = batch.persons.len() as f64 / began.elapsed().as_secs_f64().max(1e-9);
        let (sum, count) = self.position.losses;
        self.position.losses = ((f64::from_bits(sum) + measured.loss).to_bits(), count + 1);
        self.folder.log(&format!(
            "{},{:.4},{:.1},{},{},{:.1},{}",
            self.position.step,
            self.position.step as f64 / self.per_epoch as f64,
            self.position.seconds,
            measured.loss,
            recipe.optimiser.learning_rate * factor,
            speed,
            measured.gradient,
        ))?;
        progress.now(&Now {
            steps: [self.position.step, self.steps],
            epoch: self.position.step as f64 / self.per_epoch as f64,
            loss: measured.loss,
            speed,
        });
        Ok(())
    }

    /// Which step left the numbers, and what pairs it was made of, for whoever looks for the cause.
    fn say_what_diverged(&self, step: u64, pairs: &[Pair], error: &Error) {
        if !matches!(error, Error::Diverged { .. }) {
            return;
        }
        let pair = |pair: &Pair| {
            let record = self.data.records().get(pair.record)?;
            Some(DivergedPair {
                file: record.file.clone(),
                id: record.person,
                caption: record.captions.get(pair.caption)?.clone(),
            })
        };
        let report = Diverged {
            step,
            learning_rate: self.job.recipe.optimiser.learning_rate * self.factor(),
            error: error.to_string(),
            pairs: pairs.iter().filter_map(pair).collect(),
        };
        // The error itself is told in any case.
        let _ = self.folder.json(folder::DIVERGED, &report);
    }

    /// Judges the state after an epoch and keeps it where it is the best so far.
    fn judge(&mut self, progress: &mut Progress) -> Result<()> {
        let epoch = self.position.step.div_ceil(self.per_epoch);
        let due = epoch.is_multiple_of(self.job.recipe.validation.every as u64) || self.is_over();
        if !due || self.judge.is_empty() {
            return Ok(());
        }
        self.trainee.parameters.set_training(false);
        let figures = self.judge.judge(&self.trainee, &self.job.recipe)?;
        let (sum, count) = std::mem::take(&mut self.position.losses);
        let loss = f64::from_bits(sum) / f64::from(count.max(1));
        let ranking = figures.ranking;
        self.folder.validation(&format!(
            "{},{:.4},{loss},{:.4},{:.4},{:.4},{:.4},{:.4},{}",
            self.position.step,
            self.position.step as f64 / self.per_epoch as f64,
            ranking.r1,
            ranking.r5,
            ranking.r10,
            ranking.map,
            ranking.minp,
            figures.loss,
        ))?;
        progress.say(&format!(
            "epoch {epoch}: loss {loss:.3}; validation R@1 {:.2} R@5 {:.2} mAP {:.2} loss {:.3}",
            ranking.r1, ranking.r5, ranking.map, figures.loss
        ));
        if self.position.best.is_none_or(|(_, best)| ranking.r1 > best) {
            self.position.best = Some((self.position.step, ranking.r1));
            self.position.best_sha256 = Some(self.folder.write_best(&self.kept()?)?);
        }
        Ok(())
    }

    fn judge_and_save(&mut self, progress: &mut Progress) -> Result<()> {
        let judged = self.judge(progress);
        judged.inspect_err(|error| self.say_what_diverged(self.position.step, &[], error))?;
        self.save_or_say()
    }

    fn save_or_say(&mut self) -> Result<()> {
        let before = self.position.peak_memory_mib;
        self.position.peak_memory_mib = before.max(memory::peak_mib().unwrap_or(0.0));
        self.save().inspect_err(|error| self.say_what_diverged(self.position.step, &[], error))
    }

    fn save(&self) -> Result<()> {
        checkpoint::write(
            &self.job.out,
            &self.position,
            &self.trainee.parameters,
            &self.trainee.adam,
        )?;
        self.folder.place_best()
    }

    /// What is to be kept of the present state.
    fn kept(&self) -> Result<Weights> {
        let trained = self.job.recipe.method;
        // Also what was held fixed: the result is whole without the tensors that it began from.
        let weights = self.trainee.parameters.to_weights(|name| trained.trains(name))?;
        crate::net::merged(&weights)
    }

    fn finish(&self, progress: &Progress) -> Result<Ended> {
        let recipe = &self.job.recipe;
        let best = self.position.best.filter(|_| recipe.validation.keep == Keep::Best);
        let weights = match best {
            Some((step, _)) if step < self.position.step => {
                self.folder.read_best(self.position.best_sha256)?
            }
            _ => self.kept()?,
        };
        let sha256 = self.write_result(&weights)?;
        // Written anew: nobody knows what became of it between two sittings.
        self.folder.json(folder::CONFIG, self.trainee.net.config())?;
        let config = bounded::read(&self.job.out.join(folder::CONFIG), bounded::JSON)?;
        let (trained, total) = self.trainee.parameters.counts();
        let ended = Ended {
            steps: self.position.step,
            kept: best.map_or(self.position.step, |(step, _)| step),
            r1: best.or(self.position.best).map(|(_, r1)| r1),
            chance: self.judge.chance(),
            seconds: self.position.seconds,
            trained,
            total,
            out_of_time: self.is_out_of_time(),
            peak_memory_mib: self.peak_memory_mib(),
            single: self.position.single,
            sha256: Some(sha256),
            config_sha256: Some(Digest::of(&config)),
            thread_changes: self.origin.thread_changes.clone(),
        };
        self.folder.json(folder::RESULT, &ended)?;
        if ended.single > 0 {
            let batches = if ended.single == 1 { "batch" } else { "batches" };
            progress
                .say(&format!("Left out of training: {} {batches} of a single pair", ended.single));
        }
        let problems = self.loader.problems();
        if !problems.is_empty() {
            progress.say(&format!("Left out of training: {problems}"));
        }
        Ok(ended)
    }

    /// What the steps took. A later process that only writes the result again says nothing of them.
    fn peak_memory_mib(&self) -> Option<f64> {
        match self.position.step {
            0 => memory::peak_mib(),
            _ => Some(self.position.peak_memory_mib).filter(|peak| *peak > 0.0),
        }
    }

    /// Writes the trained tensors; their file's hash.
    fn write_result(&self, weights: &Weights) -> Result<Digest> {
        let recipe = &self.job.recipe;
        if !recipe.method.trains_backbone() {
            self.folder.weights(folder::ADAPTERS, weights)?;
            let path = self.job.out.join(folder::ADAPTERS);
            return Ok(Digest::of(&bounded::weights(&path)?));
        }
        let origin = model::origin(recipe, self.base, &self.data);
        let path = self.job.out.join(folder::BASE);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(spotter_models::Error::io(&path))?;
        }
        let config = self.trainee.net.config();
        match recipe.method {
            // Nothing that existed before is rounded.
            Method::Scratch => Base::write_half(&path, weights, config, &origin)?,
            _ => Base::write(&path, weights, config, &origin)?,
        }
        Ok(Base::open(&path)?.sha256())
    }
}

/// A folder as seen from a run's; `None` where the system does not tell.
fn seen_from(run: &Path, folder: &Path) -> Option<PathBuf> {
    Some(folder::way(&run.canonicalize().ok()?, &folder.canonicalize().ok()?))
}
