//! `spotterd report` on the two labelled scenes, with the demo's model: what its page and its JSON say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{fs, path::Path};

use serde_json::Value;
use spotter_e2e::program::{data, spotterd};

/// What the command counts as a policy's.
const POLICIES: [&str; 5] =
    ["budget=1", "fixed, learned", "fixed", "fixed, single looks", "zscore"];

/// Judges the demo's model; gives the bundle's part of the JSON, and the page.
fn judged(folder: &Path) -> (Value, String) {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let bundle = text(&folder.join("bundle"));
    let pack = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo"));
    let run = spotterd(&["bundle", "fold", &pack, "--out", &bundle]);
    assert_eq!(run.code, 0, "{}", run.err);
    let videos = ["scenes/street-a.mp4", "scenes/street-b.mp4"].map(|name| text(&data(name)));
    let [a, b] = &videos;
    let out = text(&folder.join("page"));
    let run = spotterd(&[
        "report", "--bundle", &bundle, "--video", a, "--video", b, "--rate", "3", "--out", &out,
        "--json",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let mut all: Vec<Value> = serde_json::from_str(&run.out).unwrap();
    assert_eq!(all.len(), 1, "one bundle");
    (all.remove(0), fs::read_to_string(folder.join("page/index.html")).unwrap())
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn floats(value: &Value) -> Vec<f64> {
    list(value).iter().map(float).collect()
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn is_rising(values: impl IntoIterator<Item = f64>) -> bool {
    values.into_iter().is_sorted()
}

#[test]
fn a_report_shows_scores_misses_promises_and_delays() {
    let folder = tempfile::tempdir().unwrap();
    let (report, page) = judged(folder.path());
    println!("{report:#}");
    let rows = list(&report["rows"]);
    let policies: Vec<&str> = rows.iter().map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, POLICIES);
    for (index, row) in rows.iter().enumerate() {
        check_scores(&report["histograms"][index], row);
        check_curve(&report["curves"][index], row);
        check_delays(row);
    }
    let as_many = list(&report["as_many"]);
    assert_eq!(as_many.len(), 3, "those that are cut in hindsight");
    for row in as_many {
        assert!(float(&row["false_alarms"]) <= float(&rows[0]["false_alarms"]), "{row}");
        assert!(page.contains(row["cut_by"].as_str().unwrap()), "{row}");
    }
    check_promises(&report, &rows[0]);
    check_page(&page, rows, list(&report["promises"]));
}

/// The histogram agrees with what was told at the cut, and tells matches from others.
fn check_scores(histogram: &Value, row: &Value) {
    assert_eq!(histogram["policy"], row["policy"]);
    let counts = |kind: &str| floats(&histogram[kind]);
    let (from, width) = (float(&histogram["from"]), float(&histogram["width"]));
    let mean = |counts: &[f64]| {
        let sum: f64 = counts.iter().zip(0..).map(|(n, bin)| n * f64::from(bin)).sum();
        sum / counts.iter().sum::<f64>()
    };
    let [matches, others] = ["matches", "others"].map(counts);
    assert!(mean(&matches) > mean(&others) + 5.0, "a trained model: {histogram}");
    // The bin of the cut has some on each side of it; bounds are rounded.
    let cut = float(&row["cut"]);
    let above = |begin: f64| {
        let bins = others.iter().zip(0..);
        let bins = bins.filter(|(_, bin)| from + width * (f64::from(*bin) + begin) >= cut);
        bins.map(|(count, _)| count).sum::<f64>()
    };
    let told = float(&row["false_alarms"]);
    let (least, most) = (above(-0.001), above(1.001));
    assert!(least <= told && told <= most, "{least} to {most}, told {told}: {row}");
    let near: f64 = counts("near").iter().sum();
    assert!(near >= float(&row["near_alarms"]) && near > 0.0, "{histogram}");
}

/// With more false alarms no less is found, and the policy's own cut does no better than the curve.
fn check_curve(curve: &Value, row: &Value) {
    assert_eq!(curve[0], row["policy"]);
    let points: Vec<Vec<f64>> = list(&curve[1]).iter().map(floats).collect();
    assert!(is_rising(points.iter().map(|point| point[0])), "{curve}");
    assert!(is_rising(points.iter().map(|point| point[1])), "{curve}");
    let (first, last) = (&points[0], points.last().unwrap());
    assert!(first[0] <= 0.5 && last[0] > 50.0, "from none to all: {curve}");
    assert!(first[1] < last[1] && last[1] > 0.8 && last[1] <= 1.0, "{curve}");
    let own = [float(&row["false_alarms_per_scene"]), float(&row["detection"])];
    let at_own = points.iter().rfind(|point| point[0] <= own[0]).unwrap();
    assert!(own[1] <= at_own[1] && own[1] > 0.4, "{own:?} against {at_own:?}");
}

fn check_delays(row: &Value) {
    let delays = floats(&row["delays_s"]);
    assert_eq!(delays.len() as f64, float(&row["found"]));
    assert!(is_rising(delays.iter().copied()), "{row}");
    let (median, p95) = (float(&row["median_delay_s"]), float(&row["p95_delay_s"]));
    assert!(delays.contains(&median) && delays.contains(&p95), "{row}");
    let within = |delay: f64| delays.iter().filter(|one| **one <= delay).count() as f64;
    let (half, nearly_all) = (within(median), within(p95));
    assert!(half >= 0.5 * delays.len() as f64 && nearly_all >= 0.95 * delays.len() as f64);
    assert!(0.0 <= median && median <= p95 && p95 < 46.0, "a scene is 45 s long: {row}");
}

/// More is observed where more is promised, and about as much.
fn check_promises(report: &Value, budget: &Value) {
    let promises = list(&report["promises"]);
    let of = |key: &str| promises.iter().map(|kept| float(&kept[key])).collect::<Vec<_>>();
    assert_eq!(of("budget"), [0.1, 0.3, 1.0, 3.0, 10.0]);
    for kept in promises {
        let share = float(&kept["promised"]) / float(&kept["budget"]);
        assert!((0.9..=1.001).contains(&share), "{kept}");
        for figure in ["observed", "near"] {
            let [low, high] = floats(&kept[format!("{figure}_interval")])[..] else {
                panic!("{kept} has no interval")
            };
            let value = float(&kept[figure]);
            assert!(low <= value && value <= high, "{kept}");
        }
    }
    let observed = of("observed");
    assert!(is_rising(observed.iter().copied()) && is_rising(of("near")), "{promises:?}");
    // Measured with two more looks a second: 0, 0.5, 2, 3.5 and 9.5.
    assert!((3.0..=30.0).contains(&observed[4]) && observed[0] <= 1.5, "{observed:?}");
    assert_eq!(observed[2], float(&budget["false_alarms_per_scene"]), "both allow 1");
}

/// Eight plots, each with its sentence, every policy's dots, and nothing from outside.
fn check_page(page: &str, rows: &[Value], promises: &[Value]) {
    assert_eq!(page.matches("<svg").count(), 3 + rows.len());
    assert_eq!(page.matches("</svg><figcaption>").count(), 3 + rows.len());
    // A cut each, median and 95 % each, and two kinds for each promise.
    assert_eq!(page.matches("<circle").count(), 3 * rows.len() + 2 * promises.len());
    for part in [
        "prefers-color-scheme:dark",
        "aria-label=\"Misses against false alarms\"",
        "persons missed, %",
        "false alarms promised a recording",
        "false alarms observed a recording",
        "delay from the first good view to the sighting, s",
        "pairs of text and track",
        "standard deviations",
    ] {
        assert!(page.contains(part), "{part} is not on the page");
    }
    for row in rows {
        let found = format!("<td>{} of {}</td>", row["found"], row["meant"]);
        assert!(page.contains(&found), "{found} is not on the page");
        let policy = row["policy"].as_str().unwrap();
        assert!(page.contains(&format!("aria-label=\"Scores by {policy}\"")), "{policy}");
    }
    for part in ["<script", "http:", "https:", "src=", "href=", "NaN", "inf,", "inf\""] {
        assert!(!page.contains(part), "{part} is on the page");
    }
}
