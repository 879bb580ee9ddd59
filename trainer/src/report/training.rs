//! A training's page: what its log and its validation say, as curves and in words.

use std::path::Path;

use spotter_models::page::{self, Axis, Page, Series, number};

use super::csv;
use crate::{
    error::{Error, Result},
    run::{self, Diverged, Ended, Origin},
};

/// One line for each step that was logged.
pub const LOG_FILE: &str = "log.csv";
/// One line for each validation.
pub const VALIDATION_FILE: &str = "validation.csv";
/// The page.
pub const PAGE_FILE: &str = "report.html";

/// Largest table that is read, in bytes: a million steps have a tenth of it.
const MAX_BYTES: u64 = 1 << 30;

/// Steps that a median is taken over, and how many of them are needed for one.
const WINDOW: usize = 50;
const LEAST_WINDOW: usize = 10;
/// A gradient this many times its median before is a jump.
const JUMP: f64 = 10.0;
/// A loss this many times its median before is a spike,
const SPIKE: f64 = 2.0;
/// where it is also this many median deviations above it: losses of small batches always scatter.
const SPIKE_DEVIATIONS: f64 = 10.0;
/// Fewest validations without a new best that count as a fall, and the share of all of them.
const LEAST_PATIENCE: usize = 3;
const PATIENCE: f64 = 0.2;
/// How far, in points, validation R@1 has to be below its best.
const FALL: f64 = 1.0;
/// Points of a curve that are drawn; more would only be a thicker line.
const MOST_POINTS: usize = 400;

/// Columns of numbers by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    names: Vec<String>,
    rows: Vec<Vec<f64>>,
}

impl Table {
    /// Reads comma-separated numbers below a line of names, the first of which is `step`. A last line
    /// that was cut is left out. Where steps start again, as they do when a training goes on from a
    /// checkpoint, the later lines count. A field that is empty is NaN. `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Model`] of kind corrupt, with the line, where the text is no such table.
    pub fn parse(name: &Path, text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::from(spotter_models::Error::corrupt(name, reason));
        let (lines, _) = csv::parse(text);
        let mut lines = lines.into_iter();
        let names = lines.next().unwrap_or_default();
        if names.first().is_none_or(|first| first != "step") {
            return Err(wrong("does not begin with the line of names `step,…`".into()));
        }
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for (line, number) in lines.zip(2u32..) {
            let value = |field: &String| match field.trim() {
                "" => Some(f64::NAN),
                field => field.parse().ok(),
            };
            let row: Option<Vec<f64>> = line.iter().map(value).collect();
            let Some(row) = row.filter(|row| row.len() == names.len()) else {
                let reason = format!("line {number} has not one number for each of {names:?}");
                return Err(wrong(reason));
            };
            let step = row.first().copied().unwrap_or(f64::NAN);
            if step.is_nan() {
                return Err(wrong(format!("line {number} has no step")));
            }
            while rows.last().and_then(|row| row.first()).is_some_and(|last| *last >= step) {
                rows.pop();
            }
            rows.push(row);
        }
        Ok(Self { names, rows })
    }

    /// Reads a file; `None` where there is none, or nothing in it.
    ///
    /// # Errors
    /// Those of [`Table::parse`], and where the file cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let io = |error| Error::from(spotter_models::Error::io(path)(error));
        match path.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            // A run that was killed before its first step may leave it so.
            Ok(found) if found.is_file() && found.len() == 0 => return Ok(None),
            Ok(found) if found.len() > MAX_BYTES => {
                let reason = format!("is larger than the {MAX_BYTES} bytes that are read");
                return Err(spotter_models::Error::corrupt(path, reason).into());
            }
            Ok(_) => {}
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(io)?).map(Some)
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no lines.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The values of a column; empty where there is none of this name.
    pub fn column(&self, name: &str) -> Vec<f64> {
        let at = self.names.iter().position(|other| other == name);
        at.map(|at| self.rows.iter().filter_map(|row| row.get(at).copied()).collect())
            .unwrap_or_default()
    }

    /// Points of a column over the steps.
    fn over_steps(&self, name: &str) -> Vec<(f64, f64)> {
        self.column("step").into_iter().zip(self.column(name)).collect()
    }
}

/// What the curves mean, in sentences: over-fitting and unstable steps, each with the rule that found it.
pub fn findings(log: &Table, validation: &Table) -> Vec<String> {
    let found = [not_finite(log), jumps(log), spikes(log), over_fitting(validation)];
    found.into_iter().flatten().collect()
}

fn not_finite(log: &Table) -> Option<String> {
    let (step, _) = log.over_steps("loss").into_iter().find(|(_, loss)| !loss.is_finite())?;
    Some(format!(
        "The loss is no number from step {step} on: training diverged. Start again with a lower \
         learning rate, a longer warm-up, or without half precision."
    ))
}

fn jumps(log: &Table) -> Option<String> {
    let jumps = above_median(&log.over_steps("gradient_norm"), JUMP, 0.0);
    let first = jumps.first()?;
    Some(format!(
        "Unstable: the length of the gradient jumped at {}, first at step {first}. Rule: more than \
         {JUMP} times the median of the {WINDOW} logged steps before. Prompts that are coupled through \
         projections do this at a high learning rate; lower it, clip gradients, or try free prompts.",
        times(jumps.len())
    ))
}

fn spikes(log: &Table) -> Option<String> {
    let spikes = above_median(&log.over_steps("loss"), SPIKE, SPIKE_DEVIATIONS);
    let first = spikes.first()?;
    Some(format!(
        "Unstable: the loss spiked at {}, first at step {first}. Rule: more than {SPIKE} times the \
         median of the {WINDOW} logged steps before, and {SPIKE_DEVIATIONS} median deviations above it. \
         Lower the learning rate or clip gradients.",
        times(spikes.len())
    ))
}

fn times(count: usize) -> String {
    if count == 1 { "one logged step".into() } else { format!("{count} logged steps") }
}

/// Steps whose value is above `factor` times the median of those before, and so many median absolute
/// deviations above it.
fn above_median(points: &[(f64, f64)], factor: f64, deviations: f64) -> Vec<f64> {
    let mut steps = Vec::new();
    let mut before: Vec<f64> = Vec::new();
    for (step, value) in points.iter().filter(|(_, value)| value.is_finite()) {
        let window = before.get(before.len().saturating_sub(WINDOW)..).unwrap_or_default();
        if window.len() >= LEAST_WINDOW {
            let middle = median(window.iter().copied());
            let deviation = median(window.iter().map(|value| (value - middle).abs()));
            let limit = (factor * middle).max(middle + deviations * deviation);
            if middle > 0.0 && *value > limit {
                steps.push(*step);
            }
        }
        before.push(*value);
    }
    steps
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn over_fitting(validation: &Table) -> Option<String> {
    let (ranks, losses) = (validation.column("R@1"), validation.column("loss_train"));
    let finite = ranks.iter().enumerate().filter(|(_, rank)| rank.is_finite());
    // Of equal ones the last: a plateau is no fall. Named is the first, which training keeps.
    let (best, top) = finite.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let since = ranks.len() - 1 - best;
    let patience = LEAST_PATIENCE.max((PATIENCE * ranks.len() as f64).ceil() as usize);
    if since < patience {
        return None;
    }
    let tail = ranks.get(ranks.len() - LEAST_PATIENCE..)?;
    let now = tail.iter().sum::<f64>() / tail.len() as f64;
    let (loss_then, loss_now) = (losses.get(best)?, losses.last()?);
    let (kept, _) = first_best(validation)?;
    let is_over_fitting = now <= top - FALL && loss_now < loss_then;
    is_over_fitting.then(|| {
        format!(
            "Over-fitting: validation R@1 was best at step {kept} with {top:.1} % and has been lower for \
             {since} validations, lately {now:.1} %, while the training loss went on falling from \
             {} to {}. Rule: no new best for {patience} validations ({LEAST_PATIENCE} at least, a \
             fifth of all), the mean of the last {LEAST_PATIENCE} at least {FALL} point below the \
             best, and a lower training loss than then. Take the model of step {kept}; fewer epochs, more \
             augmentation or fewer trained numbers help.",
            number(*loss_then),
            number(*loss_now),
        )
    })
}

/// Writes `report.html` into a run's folder from its `log.csv` and `validation.csv`.
///
/// # Errors
/// Where there is no log, a table is broken, or the page cannot be written.
pub fn write(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        let reason = "is no folder that is there; name the folder of a run";
        return Err(Error::invalid(folder.display().to_string(), reason));
    }
    let path = folder.join(LOG_FILE);
    let log = Table::read(&path)?.unwrap_or_default();
    let diverged = Diverged::read(folder)?;
    if log.is_empty() && diverged.is_none() {
        let reason = "has no steps yet; is this the folder of a run?";
        return Err(Error::invalid(path.display().to_string(), reason));
    }
    let validation = Table::read(&folder.join(VALIDATION_FILE))?.unwrap_or_default();
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found: Vec<String> = diverged.iter().map(stopped).collect();
    let origin = Origin::read(folder)?;
    let chance = origin.as_ref().and_then(|origin| origin.chance);
    found.extend(chance.and_then(|chance| at_chance(&validation, chance)));
    found.extend(findings(&log, &validation));
    found.extend(origin.as_ref().and_then(other_threads));
    if let (Some(origin), Some(ended)) = (&origin, Ended::read(folder)?) {
        found.extend(run::unchecked(origin, &ended).map(|what| format!("Not checked: {what}.")));
    }
    let mut page = page(&name, &log, &validation, &found);
    if let Some(origin) = origin.filter(|origin| !origin.left_out.is_empty()) {
        page.heading("Data");
        page.paragraph(&format!(
            "Wrong in the data, and left out unless it says kept: {}",
            origin.left_out
        ));
    }
    Ok(page.write(&folder.join(PAGE_FILE))?)
}

/// Says where no validation was better than guessing, whose R@1 is `chance` percent.
pub fn at_chance(validation: &Table, chance: f64) -> Option<String> {
    let (step, best) = first_best(validation)?;
    run::is_at_chance(best, chance).then(|| {
        format!(
            "Learnt nothing: at chance. The best validation R@1 was {best:.2} % at step {step}, and \
             guessing has {chance:.2} %. Rule: not above twice guessing's, or, where that is above a \
             third, not above the middle between it and 100 %. Try another learning rate, a longer \
             warm-up, or more epochs; see whether captions and pictures belong together."
        )
    })
}

/// The step and value of the best R@1; of equal ones the first, which is the one that is kept.
fn first_best(validation: &Table) -> Option<(f64, f64)> {
    let ranks = validation.over_steps("R@1").into_iter().rev();
    ranks.filter(|(_, rank)| rank.is_finite()).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Says where a run did not keep its number of threads.
fn other_threads(origin: &Origin) -> Option<String> {
    let changes: Vec<String> = origin.thread_changes.iter().map(ToString::to_string).collect();
    (!changes.is_empty()).then(|| {
        format!(
            "Another number of threads: the run began with {} and went on with {}. Sums are rounded in \
             another order since, so that it is not bit for bit a run without an interruption; how \
             good the model is does not depend on it.",
            origin.threads,
            changes.join(", then with "),
        )
    })
}

fn stopped(diverged: &Diverged) -> String {
    if diverged.pairs.is_empty() {
        return format!(
            "After step {}, with a learning rate of {}: {}.",
            diverged.step, diverged.learning_rate, diverged.error
        );
    }
    format!(
        "Training diverged: at step {}, with a learning rate of {}, loss or gradient was no number, and \
         the run stopped before that step changed anything. The step's {} pairs are in diverged.json. \
         Start again in a new folder with a lower learning rate, a longer warm-up, or clipped gradients.",
        diverged.step,
        diverged.learning_rate,
        diverged.pairs.len(),
    )
}

fn page(name: &str, log: &Table, validation: &Table, findings: &[String]) -> Page {
    let mut page = Page::new(&format!("Training {name}"));
    summary(&mut page, log, validation);
    findings.iter().for_each(|finding| page.note(finding));
    if findings.is_empty() {
        page.paragraph(
            "Nothing stands out: no jump of the gradient, no spike of the loss, no over-fitting.",
        );
    }
    if !log.is_empty() {
        page.heading("Curves");
        page.plots(&plots(log, validation));
    }
    page
}

fn plots(log: &Table, validation: &Table) -> Vec<(String, &'static str)> {
    let curve = |name: &'static str, table: &Table, column: &str| {
        Series::line(name, thinned(&table.over_steps(column), mean))
    };
    let over_steps = |title: &str, axis: &Axis<'_>, series: &[Series<'_>]| {
        page::lines(title, &Axis::new("step"), axis, series)
    };
    let mut losses = vec![curve("training", log, "loss")];
    if validation.column("loss_val").iter().any(|loss| loss.is_finite()) {
        losses.push(curve("validation", validation, "loss_val"));
    }
    let caption = "Loss. Of a long training each point is the mean of several steps.";
    let mut plots = vec![(over_steps("Loss over steps", &Axis::new("loss"), &losses), caption)];
    if !validation.is_empty() {
        let dots = validation.len() <= 60;
        let ranks =
            ["R@1", "R@5", "mAP"].map(|name| Series { dots, ..curve(name, validation, name) });
        let svg = over_steps("Validation over steps", &Axis::from_zero("percent"), &ranks);
        plots.push((svg, "Validation: R@1, R@5 and mAP."));
    }
    let rate = [curve("learning rate", log, "learning_rate")];
    let svg = over_steps("Learning rate over steps", &Axis::new("learning rate"), &rate);
    plots.push((svg, "Learning rate."));
    let speed = [curve("speed", log, "pairs_per_second")];
    let svg = over_steps("Speed over steps", &Axis::from_zero("pairs a second"), &speed);
    plots.push((svg, "Pairs of picture and caption a second."));
    let largest = |values: &[f64]| values.iter().copied().fold(f64::NAN, f64::max);
    let norm = [Series::line("gradient", thinned(&log.over_steps("gradient_norm"), largest))];
    let axis = Axis::new("length of the gradient").logarithmic();
    let caption = "Length of the gradient. Of a long training each point is the largest of several \
                   steps.";
    plots.push((over_steps("Gradient over steps", &axis, &norm), caption));
    plots
}

/// How long a training took, by its log. Where seconds start again because it was continued, each
/// stretch counts.
pub fn seconds(log: &Table) -> f64 {
    let (mut sum, mut before) = (0.0, 0.0);
    for now in log.column("seconds").into_iter().filter(|now| now.is_finite()) {
        sum += if now >= before { now - before } else { now };
        before = now;
    }
    sum
}

fn summary(page: &mut Page, log: &Table, validation: &Table) {
    let last = |table: &Table, name: &str| table.column(name).last().copied();
    let whole = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.0}"));
    let mut rows = vec![
        vec!["steps".to_owned(), whole(last(log, "step"))],
        vec!["epoch".to_owned(), last(log, "epoch").map_or("–".into(), number)],
        vec!["minutes".to_owned(), format!("{:.1}", seconds(log) / 60.0)],
        vec!["loss at the end".to_owned(), last(log, "loss").map_or("–".into(), number)],
    ];
    if let Some((step, rank)) = first_best(validation) {
        rows.push(vec!["best validation R@1".to_owned(), format!("{rank:.2} % at step {step}")]);
    }
    page.table(&["", ""], &rows);
}

/// At most [`MOST_POINTS`] points, each of several neighbours: their mean step, and what `of` makes of
/// their values.
fn thinned(points: &[(f64, f64)], of: impl Fn(&[f64]) -> f64) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    let point = |group: &[(f64, f64)]| {
        let (steps, values): (Vec<f64>, Vec<f64>) = group.iter().copied().unzip();
        (mean(&steps), of(&values))
    };
    points.chunks(group).map(point).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
