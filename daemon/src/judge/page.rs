//! The tables as a page: one file, nothing from outside, no script.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::Table;
use crate::error::{Error, Result};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884}\
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem}\
table{border-collapse:collapse}td,th{padding:.25rem .75rem;border-bottom:1px solid var(--line);text-align:right}\
td:first-child,th:first-child{text-align:left}svg{width:100%;max-width:44rem}\
svg text{font-size:13px;fill:currentColor}.axis{stroke:currentColor;opacity:.4}";

/// Colours of the curves that stay apart in light and dark.
const COLOURS: [&str; 3] = ["#2f9e44", "#e8590c", "#4c6ef5"];
/// Size of a plot, and the room around its drawing.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 44.0;

/// Writes the page into a folder, which is made where it is missing, and says where.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write(folder: &Path, tables: &[(&str, &Table)]) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut body = String::new();
    for (name, table) in tables {
        add(&mut body, format_args!("<h2>{}</h2>", escape(name)));
        add_table(&mut body, table);
        add_curves(&mut body, table);
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Spotter: report</title>\
         <style>{STYLE}</style><h1>How good the decisions are</h1>{body}</html>\n"
    );
    let path = folder.join("index.html");
    fs::write(&path, page).map_err(Error::io(&path))?;
    Ok(path)
}

fn add_table(body: &mut String, table: &Table) {
    add(
        body,
        format_args!(
            "<p>{} recordings, {} texts, {} tracks. Each policy may make {} false alarms a recording, over \
             all its texts. Shares in percent, with the middle 95 % over resampled recordings.</p>\
             <table><tr><th>policy<th>cut by<th>found<th>share<th>false alarms<th>median delay\
             <th>the first finds more by</tr>",
            table.scenes.len(),
            table.texts,
            table.tracks,
            table.budget
        ),
    );
    for row in &table.rows {
        let share = |[from, to]: [f64; 2]| format!("{:.1} to {:.1}", 100.0 * from, 100.0 * to);
        add(
            body,
            format_args!(
                "<tr><td>{}<td>{}<td>{} of {}<td>{:.1} ({})<td>{}<td>{}<td>{}</tr>",
                escape(&row.policy),
                row.cut_by,
                row.found,
                row.meant,
                100.0 * row.detection,
                share(row.detection_interval),
                row.false_alarms,
                row.median_delay_s.map_or("–".into(), |delay| format!("{delay:.1} s")),
                share(row.first_is_better_by)
            ),
        );
    }
    body.push_str("</table>");
}

/// The share found against false alarms a recording, each policy a line, false alarms by their square
/// root so that the few that matter have room.
fn add_curves(body: &mut String, table: &Table) {
    let most = (4.0 * table.budget).max(4.0);
    let x = |alarms: f64| LEFT + (alarms / most).sqrt() * (WIDTH - LEFT - 16.0);
    let y = |share: f64| 16.0 + (1.0 - share) * (HEIGHT - 16.0 - BOTTOM);
    add(
        body,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>found against false alarms</title>"
        ),
    );
    for step in 0..=4 {
        let (share, alarms) = (f64::from(step) / 4.0, most * f64::from(step * step) / 16.0);
        add(
            body,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.0} %</text>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{alarms:.2}</text>",
                WIDTH - 16.0,
                LEFT - 6.0,
                y(share) + 4.0,
                100.0 * share,
                x(alarms),
                HEIGHT - BOTTOM + 18.0,
                y = y(share)
            ),
        );
    }
    let middle = (LEFT + WIDTH) / 2.0;
    add(
        body,
        format_args!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">false alarms a recording</text>",
            HEIGHT - 6.0
        ),
    );
    for (index, (name, points)) in table.curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let inside = points.iter().filter(|[alarms, _]| *alarms <= most);
        let line: Vec<String> =
            inside.map(|[alarms, share]| format!("{:.1},{:.1}", x(*alarms), y(*share))).collect();
        add(
            body,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
                 <text x=\"{}\" y=\"{}\" fill=\"{colour}\" style=\"fill:{colour}\">{}</text>",
                line.join(" "),
                LEFT + 12.0,
                34.0 + 18.0 * index as f64,
                escape(name)
            ),
        );
    }
    body.push_str("</svg>");
}

fn add(body: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = body.write_fmt(text);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
