//! The table as a page with plots.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use spotter_models::page::{self, Axis, Bar, Page, Series, number};
use toml::Value;

use super::{Job, Line, Plan, Table};
use crate::error::Result;

const HEAD: [&str; 9] =
    ["row", "R@1, %", "R@5, %", "mAP, %", "trained", "minutes", "steps", "MiB at most", "seeds"];
const BARS: &str = "R@1. Intervals: with one seed, 95 % over identities; with several, from the \
    lowest to the highest seed.";
const TRAINED: &str = "R@1 over the numbers that training changed. Rows that train nothing are left \
    out.";
/// Settings that rows may vary: name, value where it is absent, axis, and what is said below the plot.
const SETTINGS: [(&str, Option<f64>, &str, &str); 2] = [
    (
        "prompts.total",
        None,
        "prompts in a block",
        "R@1 over prompts. Rows that differ in nothing else are joined.",
    ),
    (
        "data.share",
        Some(1.0),
        "share of the identities",
        "R@1 over the share of the identities trained on. Rows that differ in nothing else are joined.",
    ),
];

/// A row as judged by a set, over its seeds.
struct Cell<'a> {
    job: &'a Job,
    set: &'a str,
    lines: Vec<&'a Line>,
}

impl Cell<'_> {
    /// The mean of a column over the seeds; NaN where it is missing.
    fn mean(&self, column: &str) -> f64 {
        let values: Vec<f64> = self.lines.iter().filter_map(|line| line.number(column)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// The largest of a column over the seeds.
    fn most(&self, column: &str) -> Option<f64> {
        self.lines.iter().filter_map(|line| line.number(column)).reduce(f64::max)
    }

    /// The interval of a figure: over seeds, or that of the only one.
    fn interval(&self, figure: &str) -> Option<[f64; 2]> {
        let (low, high) = match self.lines.as_slice() {
            [line] => {
                (line.number(&format!("{figure}_low")), line.number(&format!("{figure}_high")))
            }
            lines => {
                let values = || lines.iter().filter_map(|line| line.number(figure));
                (values().reduce(f64::min), values().reduce(f64::max))
            }
        };
        Some([low?, high?])
    }

    /// The row's name and minutes, where a training of it was ended by those.
    fn out_of_time(&self) -> Option<String> {
        let is_cut = self.lines.iter().any(|line| line.text("out_of_time") == "yes");
        let limit = self.job.minutes.map(|minutes| format!(" ({minutes} minutes)"));
        is_cut.then(|| format!("{}{}", self.job.row, limit.unwrap_or_default()))
    }

    fn row(&self) -> Vec<String> {
        let figure = |name: &str| {
            let ends = self.interval(name).map(|[low, high]| format!(" ({low:.1} – {high:.1})"));
            format!("{:.2}{}", self.mean(name), ends.unwrap_or_default())
        };
        vec![
            self.job.row.clone(),
            figure("R@1"),
            figure("R@5"),
            figure("mAP"),
            number(self.mean("trained_parameters")),
            format!("{:.1}", self.mean("minutes")),
            format!("{:.0}", self.mean("steps")),
            self.most("peak_memory_mib").map_or("–".into(), |peak| format!("{peak:.0}")),
            self.lines.len().to_string(),
        ]
    }
}

/// Writes the page. Jobs that are not done yet are named.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write(path: &Path, plan: &Plan, jobs: &[Job], table: &Table) -> Result<()> {
    let mut page = Page::new(&plan.title);
    let missing: Vec<String> = jobs.iter().filter(|job| !table.has(job)).map(Job::title).collect();
    if !missing.is_empty() {
        page.note(&format!("Not done: {}.", missing.join(", ")));
    }
    let cells = cells(jobs, table);
    let cut: Vec<String> = cells.iter().filter_map(Cell::out_of_time).collect();
    if !cut.is_empty() {
        // A row has a cell for each set.
        let cut: BTreeSet<String> = cut.into_iter().collect();
        page.note(&format!(
            "Ended by their minutes before their epochs were over, at a learning rate that had not \
             fallen to its end: {}.",
            cut.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    for set in sets(&cells) {
        let of_set: Vec<&Cell<'_>> = cells.iter().filter(|cell| cell.set == set).collect();
        page.heading(&format!("Judged by {set}"));
        page.table(&HEAD, &of_set.iter().map(|cell| cell.row()).collect::<Vec<_>>());
        let bar = |cell: &&Cell<'_>| Bar {
            name: cell.job.row.clone(),
            value: cell.mean("R@1"),
            interval: cell.interval("R@1"),
        };
        let bars: Vec<Bar> = of_set.iter().map(bar).collect();
        page.plots(&[(page::bars(&format!("R@1 by {set}"), &Axis::new("R@1, %"), &bars), BARS)]);
    }
    page.heading("What R@1 depends on");
    let plots = plots(&cells);
    if plots.is_empty() {
        page.paragraph(
            "No two rows differ in trained parameters, prompts or the share of the data.",
        );
    }
    page.plots(&plots);
    Ok(page.write(path)?)
}

/// One for each row and set that has lines, in the order of the plan.
fn cells<'a>(jobs: &'a [Job], table: &'a Table) -> Vec<Cell<'a>> {
    let mut cells: Vec<Cell<'a>> = Vec::new();
    for job in jobs {
        for set in &job.sets {
            let Some(line) = table.line(job, &set.name) else { continue };
            let same = |cell: &&mut Cell<'_>| cell.job.row == job.row && cell.set == set.name;
            match cells.iter_mut().find(same) {
                Some(cell) => cell.lines.push(line),
                None => cells.push(Cell { job, set: &set.name, lines: vec![line] }),
            }
        }
    }
    cells
}

fn sets<'a>(cells: &[Cell<'a>]) -> Vec<&'a str> {
    let mut sets = Vec::new();
    for cell in cells {
        if !sets.contains(&cell.set) {
            sets.push(cell.set);
        }
    }
    sets
}

fn plots(cells: &[Cell<'_>]) -> Vec<(String, &'static str)> {
    let mut plots = Vec::new();
    let percent = Axis::new("R@1, %");
    let trained = |set| {
        let parameters = |cell: &Cell<'_>| cell.mean("trained_parameters");
        let chosen = cells.iter().filter(|cell| cell.set == set && parameters(cell) > 0.0);
        series(set, chosen.map(|cell| (parameters(cell), cell)).collect())
    };
    let all: Vec<Series<'_>> = sets(cells).into_iter().filter_map(trained).collect();
    if !all.is_empty() {
        let x = Axis::new("trained parameters").logarithmic();
        plots.push((page::lines("R@1 over trained parameters", &x, &percent, &all), TRAINED));
    }
    for (setting, absent, axis, caption) in SETTINGS {
        let varied = varied(cells, setting, absent);
        let joined = varied.iter().filter_map(|(name, points)| series(name, points.clone()));
        let lines: Vec<Series<'_>> =
            joined.map(|dots| Series { line: true, labels: Vec::new(), ..dots }).collect();
        if !lines.is_empty() {
            let title = format!("R@1 over {axis}");
            plots.push((page::lines(&title, &Axis::new(axis), &percent, &lines), caption));
        }
    }
    plots
}

/// Points with labels and intervals; `None` with fewer than two places, which show nothing.
fn series<'a>(name: &'a str, mut points: Vec<(f64, &Cell<'_>)>) -> Option<Series<'a>> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (points.first()?.0, points.last()?.0);
    let place = |(x, cell): &(f64, &Cell<'_>)| (*x, cell.mean("R@1"));
    let around = |(_, cell): &(f64, &Cell<'_>)| {
        cell.interval("R@1").unwrap_or_else(|| [cell.mean("R@1"); 2])
    };
    (first < last).then(|| Series {
        labels: points.iter().map(|(_, cell)| cell.job.row.clone()).collect(),
        intervals: points.iter().map(around).collect(),
        ..Series::dots(name, points.iter().map(place).collect())
    })
}

/// Groups of cells of one set whose recipes differ in one setting alone, with its value.
fn varied<'a>(
    cells: &'a [Cell<'a>],
    setting: &str,
    absent: Option<f64>,
) -> Vec<(String, Vec<(f64, &'a Cell<'a>)>)> {
    let mut groups: BTreeMap<(String, &str), Vec<(f64, &Cell<'_>)>> = BTreeMap::new();
    // What a method does not have or does not learn, it does not vary.
    let matters = |cell: &&Cell<'_>| {
        let method = cell.job.recipe.method;
        method.learns() && (!setting.starts_with("prompts.") || method.has_prompts())
    };
    for cell in cells.iter().filter(matters) {
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|v| v as f64));
        if let Some(value) = cell.job.setting(setting).map_or(absent, number) {
            groups.entry((cell.job.all_but(setting), cell.set)).or_default().push((value, cell));
        }
    }
    let groups = groups.into_iter().filter(|(_, points)| points.len() > 1);
    let name = |((_, set), points): ((String, &str), Vec<(f64, &'a Cell<'a>)>)| {
        let first = points.first().map_or("", |(_, cell)| cell.job.row.as_str());
        (format!("{set}: {first} …"), points)
    };
    groups.map(name).collect()
}
