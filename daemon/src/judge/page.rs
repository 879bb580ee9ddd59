//! What was judged as a page: for each bundle its table and its plots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use spotter_models::page::Page;

use super::{Interval, Judged, Row, Table, plots};
use crate::error::{Error, Result};

/// Columns of the table.
const HEAD: [&str; 8] = [
    "policy",
    "cut by",
    "found",
    "share, % (95 %)",
    "false alarms",
    "near ones told",
    "delay, s: median, p95",
    "first finds more by, points",
];

/// Writes the page into a folder, which is made where it is missing, and says where.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write(folder: &Path, all: &[Judged]) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut page = Page::new("How good the decisions are");
    for judged in all {
        page.heading(&judged.name);
        page.paragraph(&what(&judged.table));
        let rows = judged.table.rows.iter().chain(&judged.table.as_many);
        page.table(&HEAD, &rows.map(row).collect::<Vec<_>>());
        page.plots(&plots::all(judged));
    }
    let path = folder.join("index.html");
    page.write(&path)?;
    Ok(path)
}

fn what(table: &Table) -> String {
    format!(
        "{} recordings, {} texts, {} tracks. False alarms that each policy may make a recording, over all \
         its texts: {}. One that promises cuts by its promise, learned from the other recordings; where it \
         says \"best in hindsight\", the cut was chosen on these same recordings, which no site could do. \
         Intervals are the middle 95 % over resampled recordings. A delay is from the first good view of \
         a person to the sighting; 95 % of them are no longer than p95.",
        table.scenes.len(),
        table.texts,
        table.tracks,
        table.budget
    )
}

fn row(row: &Row) -> Vec<String> {
    let percent = |[from, to]: Interval| format!("{:.1} to {:.1}", 100.0 * from, 100.0 * to);
    let seconds = |delay: Option<f64>| delay.map_or("–".into(), |delay| format!("{delay:.1}"));
    vec![
        row.policy.clone(),
        row.cut_by.to_owned(),
        format!("{} of {}", row.found, row.meant),
        format!("{:.1} ({})", 100.0 * row.detection, percent(row.detection_interval)),
        row.false_alarms.to_string(),
        row.near_alarms.to_string(),
        format!("{}, {}", seconds(row.median_delay_s), seconds(row.p95_delay_s)),
        percent(row.first_is_better_by),
    ]
}
