//! The report as a page: figures, curves, and the queries that went best and worst.

use std::path::Path;

use spotter_models::{
    embedding::dot,
    page::{self, Axis, Page, Series, escape, number},
};

use super::{Histogram, Judged, OpenSet, Outcome, Report, order};
use crate::{dataset::Dataset, error::Result, report::inline_jpeg};

/// How many of the best and how many of the worst queries are shown.
const SHOWN_QUERIES: usize = 6;
/// How many pictures are shown for each.
const SHOWN_PICTURES: usize = 5;
/// Up to which rank the curve of R@k reaches.
const DEEPEST: usize = 100;

/// Writes the page of an evaluation.
///
/// # Errors
/// Where a picture cannot be read again or the file cannot be written.
pub fn write(path: &Path, outcome: &Outcome, dataset: &Dataset) -> Result<()> {
    let report = &outcome.report;
    let mut page = Page::new(&format!("How well {} finds persons", report.model.name));
    subject(&mut page, report);
    report.notes.iter().for_each(|note| page.note(note));
    page.heading("Figures");
    page.table(&["figure", "value", "95 % interval"], &figures(report));
    page.paragraph(&format!(
        "R@k: the share of captions for which one of the first k pictures shows the right person. \
         A model that guesses has R@1 {} %. Intervals come from drawing identities anew, {} times.",
        number(report.chance),
        super::bootstrap::RESAMPLES
    ));
    page.plots(&[(curve_of_ranks(outcome), RANKS), (histogram(&outcome.scored.histogram), SCORES)]);
    page.heading("Persons who are not there");
    match &report.open_set {
        Some(open) => open_set(&mut page, open),
        None => page.paragraph("A single identity cannot be both there and not there."),
    }
    queries(&mut page, outcome, dataset)?;
    Ok(page.write(path)?)
}

const RANKS: &str = "R@k over k. It begins at R@1; the higher it starts, the better.";
const SCORES: &str = "Scores of captions with pictures of the right and of wrong persons, each as a \
    share of its kind. The less they overlap, the better a threshold works.";
const OPEN: &str = "The share of present persons that are found, over the share of captions about \
    absent persons that find somebody. Left and high is good.";

fn subject(page: &mut Page, report: &Report) {
    let (model, data, counts) = (&report.model, &report.data, &report.counts);
    let only = data.ids.as_ref().map(|ids| format!(", persons {ids}")).unwrap_or_default();
    let split = format!("{:?}", data.split).to_lowercase();
    page.html(&format!(
        "<p class=\"soft\">{} <code>{}</code>, {} in {}, pictures of {}×{} pixels (height × width).\
         <br>Data {}, split {split}{}: {} captions{} about {} persons, {} pictures; annotations \
         <code>{}</code>.</p>",
        escape(&model.kind),
        escape(model.identity.get(..16).unwrap_or(&model.identity)),
        escape(&model.precision),
        escape(&model.engine),
        model.input[0],
        model.input[1],
        escape(&data.name),
        escape(&only),
        counts.queries,
        if data.distinct { " (each once for a person)" } else { "" },
        counts.identities,
        counts.pictures,
        data.fingerprint.to_string().get(..16).unwrap_or_default(),
    ));
}

/// Rows of the table of figures.
fn figures(report: &Report) -> Vec<Vec<String>> {
    let (m, i) = (&report.metrics, report.intervals.as_ref());
    let rows = [
        ("R@1", m.r1, i.map(|i| i.r1)),
        ("R@5", m.r5, i.map(|i| i.r5)),
        ("R@10", m.r10, i.map(|i| i.r10)),
        ("mAP", m.map, i.map(|i| i.map)),
        ("mINP", m.minp, i.map(|i| i.minp)),
    ];
    let between = |[low, high]: [f64; 2]| format!("{low:.1} – {high:.1} %");
    let row = |(name, value, interval): (&str, f64, Option<[f64; 2]>)| {
        vec![name.into(), format!("{value:.2} %"), interval.map_or("–".into(), between)]
    };
    rows.into_iter().map(row).collect()
}

fn curve_of_ranks(outcome: &Outcome) -> String {
    let judged = outcome.scored.judged();
    let deepest = DEEPEST.min(outcome.gallery.len()).max(2);
    let point = |k: usize| {
        let within = judged.iter().filter(|query| query.first <= k).count();
        (k as f64, 100.0 * within as f64 / judged.len().max(1) as f64)
    };
    let series = Series::line("R@k", (1..=deepest).map(point).collect());
    let x = Axis::from_to("k", 1.0, deepest as f64).logarithmic();
    page::lines("R@k over k", &x, &Axis::from_to("R@k, %", 0.0, 100.0), &[series])
}

fn histogram(histogram: &Histogram) -> String {
    let used = |counts: &[u64]| {
        let first = counts.iter().position(|count| *count > 0);
        first.zip(counts.iter().rposition(|count| *count > 0))
    };
    let ends: Vec<(usize, usize)> =
        [&histogram.wrong, &histogram.right].into_iter().filter_map(|c| used(c)).collect();
    let first = ends.iter().map(|(first, _)| *first).min().unwrap_or(0);
    let last = ends.iter().map(|(_, last)| *last).max().unwrap_or(0);
    // Bins are joined, the more the fewer right pairs there are: single ones would be ragged.
    let pairs = histogram.right.iter().sum::<u64>() as f64;
    let shown = (2.0 * pairs.sqrt()).clamp(12.0, 60.0) as usize;
    let joined = (last - first) / shown + 1;
    let shares = |counts: &[u64]| -> Vec<(f64, f64)> {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let kept = counts.get(first..=last).unwrap_or_default();
        let share = |(n, bins): (usize, &[u64])| {
            let at = Histogram::centre(first + n * joined)
                + Histogram::centre(first + n * joined + bins.len() - 1);
            (at / 2.0, 100.0 * bins.iter().sum::<u64>() as f64 / total)
        };
        kept.chunks(joined).enumerate().map(share).collect()
    };
    let filled = |name, counts| Series { filled: true, ..Series::line(name, shares(counts)) };
    let series =
        [filled("wrong person", &histogram.wrong), filled("right person", &histogram.right)];
    page::lines("Scores of pairs", &Axis::new("score (cosine)"), &Axis::new("share, %"), &series)
}

fn open_set(page: &mut Page, open: &OpenSet) {
    page.paragraph(&format!(
        "For {} of the identities every picture was taken out of the gallery: {} captions ask for \
         somebody who is not there, {} for somebody who is. A caption about an absent person has a \
         lower best score than one about a present person in {:.1} % of all pairs of the two (AUROC; \
         50 is guessing).",
        open.absent_identities, open.absent_queries, open.present_queries, open.auroc
    ));
    let row = |level: &super::openset::Level| {
        let figures = match (level.dir, level.threshold, level.false_positives) {
            (Some(dir), Some(threshold), Some(count)) => {
                [format!("{dir:.1} %"), format!("{threshold:.4}"), count.to_string()]
            }
            _ => ["too few queries".into(), "–".into(), "–".into()],
        };
        [format!("{} %", level.fpir)].into_iter().chain(figures).collect()
    };
    let rows: Vec<Vec<String>> = open.levels.iter().map(row).collect();
    let head =
        ["false positives allowed (FPIR)", "found and right (DIR)", "threshold", "false positives"];
    page.table(&head, &rows);
    let missing: Vec<&str> =
        open.levels.iter().filter_map(|level| level.missing.as_deref()).collect();
    page.html(&format!("<p class=\"soft\">{}</p>", escape(&missing.join("; "))));
    let points = open.curve.iter().map(|(fpir, dir)| (100.0 * fpir, 100.0 * dir)).collect();
    let least = 100.0 / open.absent_queries.max(2) as f64;
    let x = Axis::from_to("false positive identification rate, %", least.min(50.0), 100.0)
        .logarithmic();
    let y = Axis::from_to("found and right, %", 0.0, 100.0);
    page.plots(&[(page::lines("DIR over FPIR", &x, &y, &[Series::line("DIR", points)]), OPEN)]);
}

/// The queries that went best and worst, with what they found.
fn queries(page: &mut Page, outcome: &Outcome, dataset: &Dataset) -> Result<()> {
    let mut sorted: Vec<&(usize, Judged)> = outcome.scored.queries.iter().collect();
    // The best have the right person first and everybody else far behind.
    let margin = |judged: &Judged| judged.right - judged.wrong;
    sorted.sort_by(|(_, a), (_, b)| a.first.cmp(&b.first).then(margin(b).total_cmp(&margin(a))));
    let best = one_each(sorted.iter().copied(), |judged| judged.first == 1);
    let worst = one_each(sorted.iter().rev().copied(), |judged| judged.first > 1);
    for (title, chosen) in [("Queries that went best", best), ("Queries that went worst", worst)] {
        page.heading(title);
        if chosen.is_empty() {
            page.paragraph("There are none.");
        }
        for (index, judged) in chosen {
            query(page, outcome, dataset, (index, &judged))?;
        }
    }
    Ok(())
}

/// The first queries that are meant, of each person one.
fn one_each<'a>(
    queries: impl Iterator<Item = &'a (usize, Judged)>,
    is_meant: impl Fn(&Judged) -> bool,
) -> Vec<(usize, Judged)> {
    let mut chosen: Vec<(usize, Judged)> = Vec::new();
    for (index, judged) in queries.filter(|(_, judged)| is_meant(judged)) {
        if chosen.len() < SHOWN_QUERIES && chosen.iter().all(|(_, c)| c.person != judged.person) {
            chosen.push((*index, *judged));
        }
    }
    chosen
}

fn query(
    page: &mut Page,
    outcome: &Outcome,
    dataset: &Dataset,
    (index, judged): (usize, &Judged),
) -> Result<()> {
    let (Some(query), Some(text)) = (outcome.queries.get(index), outcome.texts.get(index)) else {
        return Ok(());
    };
    let scores: Vec<f32> = outcome.images.iter().map(|image| dot(text, image)).collect();
    let order = order(&scores);
    let mut found = String::new();
    for (place, at) in order.iter().take(SHOWN_PICTURES).enumerate() {
        found += &picture(outcome, dataset, judged.person, (place + 1, *at, &scores), "")?;
    }
    if let Some(at) = order.get(judged.first - 1).filter(|_| judged.first > SHOWN_PICTURES) {
        found += &picture(outcome, dataset, judged.person, (judged.first, *at, &scores), " apart")?;
    }
    page.html(&format!(
        "<div class=\"query\"><p>“{}”<br><span class=\"soft\">person {}; the first right picture is \
         at rank {} of {}</span></p><div class=\"found\">{found}</div></div>",
        escape(&query.caption),
        query.person,
        judged.first,
        outcome.gallery.len()
    ));
    Ok(())
}

/// A picture of the gallery with its rank and score, framed by whether it is right.
fn picture(
    outcome: &Outcome,
    dataset: &Dataset,
    person: i64,
    (rank, at, scores): (usize, usize, &[f32]),
    class: &str,
) -> Result<String> {
    let shown = outcome.shown.get(at).copied().unwrap_or_default();
    let record = outcome.gallery.get(at).copied().unwrap_or_default();
    let (right, word) = if shown == person { ("right", "right") } else { ("wrong", "wrong") };
    let address = inline_jpeg(&dataset.picture(record)?)?;
    Ok(format!(
        "<figure class=\"{right}{class}\"><img src=\"{address}\" alt=\"person {shown}, {word}\">\
         <figcaption>{rank}. person {shown}, {word}, {:.3}</figcaption></figure>",
        scores.get(at).copied().unwrap_or_default()
    ))
}
