//! Ablation: the same training many times, each with something changed, and one table of what came out.
//!
//! A [`Plan`] is expanded into [`Job`]s. Each that the table lacks is trained and judged by a function
//! that [`run`] is given, and its lines are appended to the table when it is done, all at once. Nothing
//! else is kept, so an interruption costs at most the job at work, and running the plan again goes on
//! with it.

mod child;
mod page;
mod plan;
mod table;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
};

pub use child::{Child, end_with_parent};
pub use plan::{Job, Machine, Plan, Set};
pub use table::{Line, Table};

use crate::{
    base::Base,
    dataset::Dataset,
    error::{Error, Result},
    evaluate::Report,
    run,
};

/// The page in the output folder.
pub const PAGE_FILE: &str = "report.html";

/// What a finished job measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Numbers that training changed.
    pub trained_parameters: u64,
    /// How long training took.
    pub minutes: f64,
    /// How many steps it made.
    pub steps: u64,
    /// Whether its minutes were over before its epochs were.
    pub out_of_time: bool,
    /// Most memory that the training held at once, in MiB; `None` where it does not say.
    pub peak_memory_mib: Option<f64>,
    /// One report for each of the job's sets, in their order.
    pub reports: Vec<Report>,
}

/// How often somebody asked to stop. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: Arc<AtomicUsize>,
    /// The last signal; 0: none.
    signal: Arc<AtomicI32>,
}

impl Stop {
    /// Asks to stop.
    pub fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// How often somebody asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The signal by which somebody asked last; `None` where none came.
    pub fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|signal| *signal > 0)
    }

    /// Asks at each SIGINT (Ctrl-C) and SIGTERM from now on, instead of ending the process.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub fn on_signals(&self) -> Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let fault = |error| spotter_models::Error::internal("signals", error);
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(fault)?;
        let stop = self.clone();
        std::thread::spawn(move || {
            signals.forever().for_each(|signal| {
                stop.signal.store(signal, Ordering::Relaxed);
                stop.ask();
            });
        });
        Ok(())
    }
}

/// What came of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that were done now.
    pub done: usize,
    /// Jobs that the table had already.
    pub kept: usize,
    /// Jobs that went wrong, and how.
    pub failed: Vec<(String, String)>,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// Sees that everything is there that jobs are trained and judged with, each folder once, and that it fits
/// what they ask of it.
///
/// # Errors
/// All folders that are missing or hold no base model or data set, and all recipes and sets that do not fit
/// theirs, with the reason.
pub fn check(jobs: &[&Job]) -> Result<()> {
    let bases: BTreeSet<&PathBuf> = jobs.iter().filter_map(|job| job.base.as_ref()).collect();
    let judged = jobs.iter().flat_map(|job| &job.sets).map(|set| &set.data);
    let sets: BTreeSet<&PathBuf> = jobs.iter().map(|job| &job.data).chain(judged).collect();
    let bases = bases.iter().map(|folder| fits_base(folder, jobs));
    let sets = sets.iter().map(|folder| fits_data(folder, jobs));
    // Rows and seeds often share what does not fit.
    let found: BTreeSet<String> =
        bases.chain(sets).filter_map(Result::err).map(|error| error.to_string()).collect();
    let found: Vec<String> = found.into_iter().collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(
            "plan",
            format!(
                "nothing was begun, as something it names cannot be used: {}",
                found.join("; ")
            ),
        )),
    }
}

/// Whether the jobs on a base can be trained on it.
fn fits_base(folder: &Path, jobs: &[&Job]) -> Result<()> {
    let base = Base::open(folder).map_err(|error| Error::invalid("base", error.to_string()))?;
    for job in jobs.iter().filter(|job| job.base.as_deref() == Some(folder)) {
        job.recipe
            .config(base.config())
            .map_err(|error| Error::invalid(format!("row `{}`", job.row), error.to_string()))?;
    }
    Ok(())
}

/// Whether a data set has what jobs learn from and are judged by.
fn fits_data(folder: &Path, jobs: &[&Job]) -> Result<()> {
    let data = Dataset::open(folder).map_err(|error| Error::invalid("data", error.to_string()))?;
    for set in jobs.iter().flat_map(|job| &job.sets).filter(|set| set.data == folder) {
        set.choice().records(&data).map_err(|error| {
            Error::invalid(format!("evaluate `{}`", set.name), error.to_string())
        })?;
    }
    for job in jobs.iter().filter(|job| job.data == folder) {
        run::check_persons(&data, &job.recipe)
            .map_err(|error| Error::invalid(format!("row `{}`", job.row), error.to_string()))?;
    }
    Ok(())
}

/// Carries out a plan in a folder, which holds the table, the page and a folder for each job. `check`
/// sees all jobs that are to be done before the first of them begins ([`check()`]). `train`
/// trains and judges one job in its folder, and returns `None` where it was stopped; `say` hears what
/// goes on. A job that goes wrong does not keep the others from being done.
///
/// # Errors
/// Where the plan or the table is wrong, another process works in the folder, or it cannot be written.
pub fn run(
    plan: &Plan,
    out: &Path,
    stop: &Stop,
    check: &dyn Fn(&[&Job]) -> Result<()>,
    train: &mut dyn FnMut(&Job, &Path) -> Result<Option<Finished>>,
    say: &mut dyn FnMut(&str),
) -> Result<Summary> {
    let jobs = plan.jobs()?;
    for job in &jobs {
        let bases = job.base.iter().map(|folder| ("base model", folder.as_path()));
        let judged = job.sets.iter().map(|set| ("data", set.data.as_path()));
        let all: Vec<_> = bases.chain(judged).chain([("data", job.data.as_path())]).collect();
        run::refuse_inside(out, &all)?;
    }
    if out.metadata().is_ok_and(|found| !found.is_dir()) {
        let reason = "is no folder; choose a new name";
        return Err(Error::invalid(format!("--out {}", out.display()), reason));
    }
    // A plan that is refused leaves no folder.
    let is_new = out.symlink_metadata().is_err();
    if is_new {
        check(&jobs.iter().collect::<Vec<_>>())?;
    }
    fs::create_dir_all(out).map_err(spotter_models::Error::io(out))?;
    let _lock = lock(out)?;
    let mut table = Table::open(out)?;
    if !is_new {
        check(&jobs.iter().filter(|job| !table.has(job)).collect::<Vec<_>>())?;
    }
    let mut summary = Summary::default();
    for (job, number) in jobs.iter().zip(1..) {
        let title = format!("{number}/{} {}", jobs.len(), job.title());
        if table.has(job) {
            summary.kept += 1;
            continue;
        }
        if stop.asked() > 0 {
            summary.stopped = true;
            break;
        }
        say(&format!("{title}: starts"));
        match attempt(job, out, train) {
            Ok(Some(finished)) => {
                table.append(job, &finished)?;
                page::write(&out.join(PAGE_FILE), plan, &jobs, &table)?;
                summary.done += 1;
                say(&format!("{title}: {}", table::headline(&finished)));
            }
            Ok(None) => {
                summary.stopped = true;
                break;
            }
            Err(error) => {
                say(&format!("{title}: {error}"));
                summary.failed.push((job.title(), error.to_string()));
            }
        }
    }
    page::write(&out.join(PAGE_FILE), plan, &jobs, &table)?;
    Ok(summary)
}

fn attempt(
    job: &Job,
    out: &Path,
    train: &mut dyn FnMut(&Job, &Path) -> Result<Option<Finished>>,
) -> Result<Option<Finished>> {
    let folder: PathBuf = out.join(job.folder());
    fs::create_dir_all(&folder).map_err(spotter_models::Error::io(&folder))?;
    let finished = train(job, &folder)?;
    match finished {
        Some(finished) if finished.reports.len() != job.sets.len() => {
            let reason = format!("{} for {} sets", finished.reports.len(), job.sets.len());
            Err(spotter_models::Error::internal("reports", reason).into())
        }
        finished => Ok(finished),
    }
}

/// Keeps a second process from training the same jobs; held as long as the file is open.
fn lock(out: &Path) -> Result<fs::File> {
    let path = out.join(".lock");
    let file = fs::File::create(&path).map_err(spotter_models::Error::io(&path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |_| {
            Error::invalid(
                out.display().to_string(),
                "another ablation works in this folder; wait for it",
            )
        },
    )?;
    Ok(file)
}
