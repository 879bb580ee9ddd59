//! `table.csv`: one line for each training and set.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use toml::Value;

use super::{Finished, Job};
use crate::{
    error::{Error, Result},
    evaluate::Report,
    report::csv,
};

/// Its name in the output folder.
pub const FILE: &str = "table.csv";

/// Largest table that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Settings that have a column of their own; empty where a row has none of that name.
const SETTINGS: [&str; 9] = [
    "method",
    "initialisation",
    "prompts.total",
    "prompts.coupling",
    "prompts.depth",
    "prompts.place",
    "adapters.ratio",
    "loss.kind",
    "data.share",
];

/// Names of the columns before those of [`SETTINGS`].
const COLUMNS: [&str; 26] = [
    "settings",
    "row",
    "seed",
    "set",
    "trained_parameters",
    "minutes",
    "minutes_limit",
    "out_of_time",
    "steps",
    "peak_memory_mib",
    "queries",
    "pictures",
    "identities",
    "R@1",
    "R@1_low",
    "R@1_high",
    "R@5",
    "R@5_low",
    "R@5_high",
    "mAP",
    "mAP_low",
    "mAP_high",
    "R@10",
    "mINP",
    "AUROC",
    "chance",
];

/// Columns that tables of earlier versions lack.
const ADDED: [&str; 2] = ["minutes_limit", "out_of_time"];

/// A line of the table: columns by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(BTreeMap<String, String>);

impl Line {
    /// A column; empty where there is none.
    pub fn text(&self, column: &str) -> &str {
        self.0.get(column).map_or("", String::as_str)
    }

    /// A column that is a number.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// The table, on disk and in memory.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    lines: Vec<Line>,
}

impl Table {
    /// Opens the table of an output folder, or begins it. A last line that was cut when a process died
    /// is taken away; a table of an earlier version gets the columns that it lacks, empty.
    ///
    /// # Errors
    /// Where the file is another table or cannot be read or written.
    pub fn open(out: &Path) -> Result<Self> {
        let path = out.join(FILE);
        let io = |error| Error::from(spotter_models::Error::io(&path)(error));
        let wrong = |reason: &str| Error::from(spotter_models::Error::corrupt(&path, reason));
        let names: Vec<&str> = COLUMNS.into_iter().chain(SETTINGS).collect();
        let text = match path.metadata() {
            Ok(found) if found.len() > MAX_BYTES => return Err(wrong("is too large for a table")),
            Ok(_) => fs::read_to_string(&path).map_err(io)?,
            Err(_) => String::new(),
        };
        let (mut rows, whole) = csv::parse(&text);
        let head = if rows.is_empty() { Vec::new() } else { rows.remove(0) };
        let earlier: Vec<&str> =
            names.iter().copied().filter(|name| !ADDED.contains(name)).collect();
        if !head.is_empty() && head != names && head != earlier {
            return Err(wrong("has other columns than this program writes; choose another folder"));
        }
        let line = |fields: Vec<String>| {
            let is_whole = fields.len() == head.len();
            is_whole.then(|| Line(head.iter().cloned().zip(fields).collect()))
        };
        let lines: Option<Vec<Line>> = rows.into_iter().map(line).collect();
        let lines = lines.ok_or_else(|| wrong("has a line with too few or too many fields"))?;
        if head != names || whole < text.len() {
            let row = |line: &Line| {
                csv::line(&names.iter().map(|name| line.text(name)).collect::<Vec<_>>()) + "\n"
            };
            let text = csv::line(&names) + "\n" + &lines.iter().map(row).collect::<String>();
            let part = path.with_extension("csv.part");
            fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).map_err(io)?;
        }
        Ok(Self { path, lines })
    }

    /// Whether the lines of a job are there, one for each of its sets.
    pub fn has(&self, job: &Job) -> bool {
        job.sets.iter().all(|set| self.line(job, &set.name).is_some())
    }

    /// The line of a job and a set.
    pub fn line(&self, job: &Job, set: &str) -> Option<&Line> {
        self.lines
            .iter()
            .find(|line| line.text("settings") == job.settings && line.text("set") == set)
    }

    /// Appends the lines of a job: all of them are on disk afterwards, or none.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn append(&mut self, job: &Job, finished: &Finished) -> Result<()> {
        let io = |error| Error::from(spotter_models::Error::io(&self.path)(error));
        let rows: Vec<Vec<String>> = (job.sets.iter().zip(&finished.reports))
            .map(|(set, report)| fields(job, &set.name, finished, report))
            .collect();
        let text: String = rows.iter().map(|row| csv::line(row) + "\n").collect();
        // In one write, so that a process that dies leaves at most one cut line, at the end; of lines
        // before it, a job with fewer lines than sets is done again.
        let mut file = fs::OpenOptions::new().append(true).open(&self.path).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        let names = || COLUMNS.into_iter().chain(SETTINGS).map(str::to_owned);
        self.lines.extend(rows.into_iter().map(|row| Line(names().zip(row).collect())));
        Ok(())
    }
}

/// The fields of a line, in the order of the columns.
fn fields(job: &Job, set: &str, finished: &Finished, report: &Report) -> Vec<String> {
    let (metrics, counts) = (&report.metrics, &report.counts);
    let with = |value: f64, interval: Option<[f64; 2]>| {
        let ends = interval.map(|ends| ends.map(|end| format!("{end:.3}"))).unwrap_or_default();
        [format!("{value:.3}")].into_iter().chain(ends).collect::<Vec<String>>()
    };
    let intervals = report.intervals.as_ref();
    let mut fields = vec![
        job.settings.clone(),
        job.row.clone(),
        job.seed.to_string(),
        set.to_owned(),
        finished.trained_parameters.to_string(),
        format!("{:.2}", finished.minutes),
        job.minutes.map(|minutes| minutes.to_string()).unwrap_or_default(),
        if finished.out_of_time { "yes" } else { "no" }.to_owned(),
        finished.steps.to_string(),
        finished.peak_memory_mib.map(|peak| format!("{peak:.0}")).unwrap_or_default(),
        counts.queries.to_string(),
        counts.pictures.to_string(),
        counts.identities.to_string(),
    ];
    fields.extend(with(metrics.r1, intervals.map(|i| i.r1)));
    fields.extend(with(metrics.r5, intervals.map(|i| i.r5)));
    fields.extend(with(metrics.map, intervals.map(|i| i.map)));
    fields.push(format!("{:.3}", metrics.r10));
    fields.push(format!("{:.3}", metrics.minp));
    fields.push(report.open_set.as_ref().map(|o| format!("{:.3}", o.auroc)).unwrap_or_default());
    fields.push(format!("{:.3}", report.chance));
    fields.extend(SETTINGS.map(|name| match job.setting(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Table(_) | Value::Array(_)) | None => String::new(),
        Some(value) => value.to_string(),
    }));
    fields
}

/// What a finished job is told in one line.
pub(super) fn headline(finished: &Finished) -> String {
    let ranks: Vec<String> =
        finished.reports.iter().map(|report| format!("{:.2} %", report.metrics.r1)).collect();
    let cut = if finished.out_of_time { ", which were over before its epochs" } else { "" };
    format!("R@1 {}, {:.1} minutes{cut}", ranks.join(", "), finished.minutes)
}
