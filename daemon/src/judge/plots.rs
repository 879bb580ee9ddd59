//! The plots of what was judged, each with what it shows in plain words.

use spotter_models::page::{self, Axis, Series};

use super::{Histogram, Judged, Kept, Row, Table};

/// A drawing, and the sentence below it.
type Plot = (String, String);

/// The least mean over scenes that is not none: one in all of them.
fn one_of(scenes: usize) -> f64 {
    1.0 / scenes.max(1) as f64
}

/// Where none at all is drawn on a logarithmic axis: below the least value, and on no round number, so
/// that no tick names it.
fn below(least: f64) -> f64 {
    least * 0.2_f64.sqrt()
}

/// Misses, promises and delays of the policies, then how scores lie on each policy's scale.
pub(super) fn all(judged: &Judged) -> Vec<Plot> {
    let table = &judged.table;
    let mut all =
        vec![misses(table), promises(&judged.promises, table.scenes.len()), delays(table)];
    let of_policies = table.histograms.iter().zip(&table.rows);
    all.extend(of_policies.map(|(counts, row)| histogram(counts, row.cut)));
    all
}

/// A detection error trade-off (Martin and others, The DET curve in assessment of detection task
/// performance, 1997), its false alarms counted a scene and on a logarithmic axis.
fn misses(table: &Table) -> Plot {
    let none = below(one_of(table.scenes.len()));
    let point = |[alarms, share]: [f64; 2]| (alarms.max(none), 100.0 * (1.0 - share));
    // Where the last curve has come down as far as it ever does.
    let end = |curve: &[[f64; 2]]| {
        let [_, share] = curve.last().copied()?;
        curve.iter().find(|point| point[1] >= share).map(|point| point[0])
    };
    let most = table.curves.iter().filter_map(|(_, curve)| end(curve));
    let most = most.chain(table.rows.iter().map(|row| row.false_alarms_per_scene));
    let most = 1.2 * most.fold(10.0 * none, f64::max);
    let missed = table.curves.iter().flat_map(|(_, curve)| curve).map(|point| 1.0 - point[1]);
    let worst = 100.0 * missed.fold(0.1, f64::max);
    let curves = table.curves.iter().map(|(name, curve)| {
        let points: Vec<(f64, f64)> = curve.iter().copied().map(point).collect();
        Series::line(name, steps(&points))
    });
    let cuts = table.rows.iter().enumerate().map(|(index, row)| {
        let own = point([row.false_alarms_per_scene, row.detection]);
        own_dots(index, vec![own])
    });
    let series: Vec<Series<'_>> = curves.chain(cuts).collect();
    let x = Axis::from_to("false alarms a recording, over all texts", none, most).logarithmic();
    let y = Axis::from_to("persons missed, %", 0.0, worst);
    let caption = "Misses against false alarms (DET): as a policy's cut falls, it goes to the right, with \
        more false alarms, and down, with fewer persons missed. Lower is better. The dot is where the \
        policy's own cut lies. The left edge is no false alarm at all.";
    (page::lines("Misses against false alarms", &x, &y, &series), caption.into())
}

fn promises(promises: &[Kept], scenes: usize) -> Plot {
    /// Less than this is drawn as this.
    const LEAST: f64 = 1e-6;
    let promised = |kept: &Kept| kept.promised.max(LEAST);
    let least = promises.iter().map(promised).fold(one_of(scenes), f64::min);
    let none = below(least);
    let seen = |value: f64| value.max(none);
    let most = promises.iter().map(|kept| kept.observed_interval[1].max(kept.near));
    let most = 1.5 * most.chain(promises.iter().map(promised)).fold(10.0 * least, f64::max);
    let ends: Vec<f64> = promises.iter().map(promised).collect();
    let points = |value: fn(&Kept) -> f64| {
        promises.iter().map(|kept| (promised(kept), seen(value(kept)))).collect()
    };
    let observed = Series {
        intervals: promises.iter().map(|kept| kept.observed_interval.map(seen)).collect(),
        line: true,
        ..Series::dots("false alarms, with 95 %", points(|kept| kept.observed))
    };
    let near = Series::dots("near ones told", points(|kept| kept.near));
    let as_promised =
        Series::reference("as promised", ends.iter().map(|end| (*end, *end)).collect());
    let x = Axis::from_to("false alarms promised a recording", none, most).logarithmic();
    let y = Axis::from_to("false alarms observed a recording", none, most).logarithmic();
    let caption = format!(
        "What the budget policy promises against what came of it, over all texts: on the dashed line it \
         makes as many false alarms as promised, below it fewer, above it more. Persons who fit a text \
         nearly are no false alarms and are counted apart. The lower edge is none at all. Intervals are \
         over {scenes} resampled recordings{}.",
        if scenes < 10 { ", too few to be trusted" } else { "" }
    );
    (page::lines("Promised against observed", &x, &y, &[observed, near, as_promised]), caption)
}

fn delays(table: &Table) -> Plot {
    /// The least delay that the axis tells from none.
    const AT_ONCE_S: f64 = 0.1;
    let at = |delay: f64| delay.max(below(AT_ONCE_S));
    let share = |count: usize, row: &Row| 100.0 * count as f64 / row.delays_s.len().max(1) as f64;
    let longest = table.rows.iter().filter_map(|row| row.delays_s.last()).copied();
    let longest = 1.2 * longest.fold(1.0, f64::max);
    let lines = table.rows.iter().map(|row| {
        let reached = row.delays_s.iter().enumerate();
        let reached = reached.map(|(index, delay)| (at(*delay), share(index + 1, row)));
        let end = row.delays_s.last().map(|_| (longest, 100.0));
        let all: Vec<(f64, f64)> = [(at(0.0), 0.0)].into_iter().chain(reached).chain(end).collect();
        Series::line(&row.policy, steps(&all))
    });
    let marks = table.rows.iter().enumerate().map(|(index, row)| {
        let marks = [(row.median_delay_s, 50.0), (row.p95_delay_s, 95.0)];
        let points = marks.into_iter().filter_map(|(delay, share)| Some((at(delay?), share)));
        own_dots(index, points.collect())
    });
    let series: Vec<Series<'_>> = lines.chain(marks).collect();
    let x = Axis::from_to("delay from the first good view to the sighting, s", at(0.0), longest);
    let y = Axis::from_to("told by then, % of those found", 0.0, 100.0);
    let caption = "How long until a person who is found is told: the share of those found that was told \
        this many seconds after the first good view, or sooner. Further left is faster; the left edge is at \
        once. Who is not found has no delay. Dots: the median, at 50 %, and what 95 % stay within.";
    (page::lines("Delay of sightings", &x.logarithmic(), &y, &series), caption.into())
}

/// Points of a policy in its curve's colour; the curve has the name in the legend.
fn own_dots<'a>(index: usize, points: Vec<(f64, f64)>) -> Series<'a> {
    Series { colour: Some(index), ..Series::dots("", points) }
}

/// Scores on a policy's scale, with its cut.
fn histogram(histogram: &Histogram, cut: f64) -> Plot {
    /// Where the drawing begins: below one pair.
    const BELOW_ONE: f64 = 0.7;
    let Histogram { policy, scale, from, width, matches, near, others } = histogram;
    let series = |name, counts: &[u64]| {
        let mut points = Vec::new();
        for (bin, count) in counts.iter().enumerate() {
            // A bin without any has no place on a logarithmic axis, and leaves a gap.
            let (left, height) = (from + width * bin as f64, *count as f64);
            points.extend([(left, height), (left + width, height)]);
        }
        Series { filled: true, ..Series::line(name, points) }
    };
    let all = [others, near, matches];
    let most = all.iter().copied().flatten().copied().max().unwrap_or(0).max(5) as f64 * 1.5;
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let [of_others, of_near, of_matches] = all.map(|counts| sum(counts));
    let mut drawn =
        vec![series("others", others), series("persons meant", matches), series("near ones", near)];
    if cut.is_finite() {
        drawn.push(Series::reference("cut", vec![(cut, BELOW_ONE), (cut, most)]));
    }
    let caption = format!(
        "{policy}: how high each pair of a text and a track comes, {of_matches} of persons whom the text \
         means, {of_near} of persons who fit nearly and {of_others} of all others. What lies right of the \
         cut is told: others there are false alarms, persons meant left of it are missed."
    );
    let y = Axis::from_to("pairs of text and track", BELOW_ONE, most).logarithmic();
    (page::lines(&format!("Scores by {policy}"), &Axis::new(scale), &y, &drawn), caption)
}

/// A line that keeps each value until the next place.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::with_capacity(2 * points.len());
    for point in points {
        steps.extend(steps.last().map(|last| (point.0, last.1)));
        steps.push(*point);
    }
    steps
}
