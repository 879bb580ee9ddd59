//! Plots as SVG text, coloured by the page's style.

use std::fmt::Write as _;

use super::escape;

/// Width of a plot in its own units; the page scales it.
const WIDTH: f64 = 560.0;
/// Height of a plot.
const HEIGHT: f64 = 320.0;
/// Where the drawing begins: room for numbers and the axis' name to its left.
const LEFT: f64 = 62.0;
/// Where the drawing ends.
const RIGHT: f64 = WIDTH - 16.0;
/// Room for the names of series above the drawing.
const TOP: f64 = 30.0;
/// Room for numbers and the axis' name below the drawing.
const BOTTOM: f64 = HEIGHT - 46.0;
/// How many colours the style has.
const COLOURS: usize = 6;
/// A little more than a letter is wide on average.
const LETTER: f64 = 7.0;
/// About how many numbers stand at an axis.
const TICKS: f64 = 6.0;

/// An axis.
#[derive(Clone, Copy, Debug, Default)]
pub struct Axis<'a> {
    /// What it measures, with the unit.
    pub name: &'a str,
    /// Whether equal distances are equal ratios; values that are not above zero are left out then.
    pub logarithmic: bool,
    /// Its ends; `None` where the values give them.
    pub range: Option<[f64; 2]>,
    /// Whether zero is on it in any case.
    pub zero: bool,
}

impl<'a> Axis<'a> {
    /// An axis whose ends the values give.
    pub fn new(name: &'a str) -> Self {
        Self { name, ..Self::default() }
    }

    /// An axis with these ends.
    pub fn from_to(name: &'a str, from: f64, to: f64) -> Self {
        Self { name, range: Some([from, to]), ..Self::default() }
    }

    /// An axis from zero, whose other end the values give.
    pub fn from_zero(name: &'a str) -> Self {
        Self { name, zero: true, ..Self::default() }
    }

    /// The same axis, logarithmic.
    pub fn logarithmic(self) -> Self {
        Self { logarithmic: true, ..self }
    }
}

/// Values of one kind.
#[derive(Clone, Debug, Default)]
pub struct Series<'a> {
    /// What they are.
    pub name: &'a str,
    /// Where they are.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub dots: bool,
    /// Whether the points are joined.
    pub line: bool,
    /// Whether the area below the line is filled.
    pub filled: bool,
    /// An interval of y around each point, in the same order; empty where there are none.
    pub intervals: Vec<[f64; 2]>,
    /// What is written beside each point where there is room, in the same order; empty where there is
    /// nothing.
    pub labels: Vec<String>,
}

impl<'a> Series<'a> {
    /// Points joined by a line.
    pub fn line(name: &'a str, points: Vec<(f64, f64)>) -> Self {
        Self { name, points, line: true, ..Self::default() }
    }

    /// Points marked and not joined.
    pub fn dots(name: &'a str, points: Vec<(f64, f64)>) -> Self {
        Self { name, points, dots: true, ..Self::default() }
    }
}

/// An axis with its ends, and the way from values to places on it.
struct Scale {
    logarithmic: bool,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn new(axis: &Axis<'_>, values: impl Iterator<Item = f64>, [start, end]: [f64; 2]) -> Self {
        let usable = |value: &f64| value.is_finite() && (!axis.logarithmic || *value > 0.0);
        let (mut from, mut to) = values
            .chain(axis.range.into_iter().flatten())
            .chain(axis.zero.then_some(0.0))
            .filter(usable)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
        if let Some([low, high]) = axis.range {
            (from, to) = (low, high);
        } else if from <= to && !axis.logarithmic {
            let room = 0.04 * (to - from);
            (from, to) =
                (if from >= 0.0 { (from - room).max(0.0) } else { from - room }, to + room);
        }
        // Nothing to show, or one value only.
        if from > to {
            (from, to) = if axis.logarithmic { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        if to - from <= 1e-12 * to.abs().max(1e-300) {
            let room = if axis.logarithmic { 0.5 * from } else { (0.1 * from.abs()).max(0.5) };
            (from, to) = (from - room, to + room);
        }
        Self { logarithmic: axis.logarithmic, from, to, start, end }
    }

    /// The place of a value; `None` where it has none on this axis.
    fn place(&self, value: f64) -> Option<f64> {
        let usable = value.is_finite() && (!self.logarithmic || value > 0.0);
        let share = match self.logarithmic {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        usable.then(|| self.start + share.clamp(0.0, 1.0) * (self.end - self.start))
    }

    /// Round values along the axis.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let (low, high) = (self.from.log10(), self.to.log10());
            let steps: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let powers = (low.floor().max(-12.0) as i32)..=(high.ceil().min(15.0) as i32);
            let all = powers.flat_map(|power| steps.iter().map(move |s| s * 10f64.powi(power)));
            let (from, to) = (self.from * (1.0 - 1e-9), self.to * (1.0 + 1e-9));
            return all.filter(|value| (from..=to).contains(value)).collect();
        }
        let rough = (self.to - self.from) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.from / step).ceil();
        let count = ((self.to / step + 1e-9).floor() - first).clamp(0.0, 40.0) as u32;
        (0..=count).map(|n| (first + f64::from(n)) * step).collect()
    }
}

/// Lines and points over common axes. `title` is what a reader hears who cannot see the plot.
pub fn lines(title: &str, x: &Axis<'_>, y: &Axis<'_>, series: &[Series<'_>]) -> String {
    let xs = series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
    let around = series.iter().flat_map(|series| series.intervals.iter().flatten().copied());
    let ys = series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let across = Scale::new(x, xs, [LEFT, RIGHT]);
    let up = Scale::new(y, ys.chain(around), [BOTTOM, TOP]);
    let mut svg = open(title);
    grid(&mut svg, &across, &up, x.name, y.name);
    let mut taken = Taken::new();
    for (index, series) in series.iter().enumerate() {
        draw(&mut svg, (&across, &up), (index, series), &mut taken);
    }
    let names: Vec<&str> = series.iter().map(|series| series.name).collect();
    legend(&mut svg, &names);
    svg + "</svg>"
}

/// Horizontal bars from zero, each with its interval where it has one.
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// An interval around its end.
    pub interval: Option<[f64; 2]>,
}

/// Bars one below the other; `axis` gives unit and ends.
pub fn bars(title: &str, axis: &Axis<'_>, bars: &[Bar]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 170.0;
    let height = 50.0 + ROW * bars.len() as f64;
    let values =
        bars.iter().flat_map(|bar| [Some(0.0), Some(bar.value), bar.interval.map(|i| i[1])]);
    let scale = Scale::new(axis, values.flatten(), [NAMES, RIGHT - 48.0]);
    let mut svg = open_sized(title, height);
    for tick in scale.ticks() {
        let Some(at) = scale.place(tick) else { continue };
        let bottom = height - 40.0;
        push(
            &mut svg,
            format_args!(
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"6\" y2=\"{bottom:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                number(tick)
            ),
        );
    }
    for (row, bar) in bars.iter().enumerate() {
        let top = 6.0 + ROW * row as f64;
        let middle = top + ROW / 2.0;
        let start = scale.place(0.0).unwrap_or(NAMES);
        let end = scale.place(bar.value).unwrap_or(start);
        push(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{start:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" \
             fill=\"var(--s0)\"><title>{}: {}</title></rect>",
                NAMES - 8.0,
                middle + 4.0,
                escape(&short(&bar.name, 26)),
                top + 4.0,
                (end - start).max(0.0),
                ROW - 8.0,
                escape(&bar.name),
                number(bar.value)
            ),
        );
        let interval = bar.interval.map(|i| i.map(|value| scale.place(value).unwrap_or(end)));
        if let Some([low, high]) = interval {
            push(
                &mut svg,
                format_args!(
                    "<path d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {0:.1}v8M{high:.1} {0:.1}v8\" \
                 stroke=\"var(--fg)\" stroke-width=\"1.5\" fill=\"none\"/>",
                    middle - 4.0
                ),
            );
        }
        let after = interval.map_or(end, |i| i[1].max(end)) + 6.0;
        push(
            &mut svg,
            format_args!(
                "<text x=\"{after:.1}\" y=\"{:.1}\">{}</text>",
                middle + 4.0,
                number(bar.value)
            ),
        );
    }
    push(
        &mut svg,
        format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></svg>",
            (NAMES + RIGHT) / 2.0,
            height - 6.0,
            escape(axis.name)
        ),
    );
    svg
}

fn open(title: &str) -> String {
    open_sized(title, HEIGHT)
}

fn open_sized(title: &str, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(title))
}

fn grid(svg: &mut String, across: &Scale, up: &Scale, x: &str, y: &str) {
    for tick in across.ticks() {
        let Some(at) = across.place(tick) else { continue };
        push(
            svg,
            format_args!(
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 17.0,
                number(tick)
            ),
        );
    }
    for tick in up.ticks() {
        let Some(at) = up.place(tick) else { continue };
        push(
            svg,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(tick)
            ),
        );
    }
    push(
        svg,
        format_args!(
            "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(x),
            (TOP + BOTTOM) / 2.0,
            escape(y)
        ),
    );
}

/// Left, top, right and bottom of what is written already.
type Taken = Vec<[f64; 4]>;

fn draw(
    svg: &mut String,
    (across, up): (&Scale, &Scale),
    (index, series): (usize, &Series<'_>),
    taken: &mut Taken,
) {
    let colour = format!("var(--s{})", index % COLOURS);
    let placed = |&(x, y): &(f64, f64)| Some((across.place(x)?, up.place(y)?));
    if series.line {
        draw_line(svg, series, &colour, placed);
    }
    for (n, point) in series.points.iter().enumerate() {
        let Some((x, y)) = placed(point) else { continue };
        if let Some([low, high]) = series.intervals.get(n).map(|i| i.map(|v| up.place(v))) {
            let (low, high) = (low.unwrap_or(y), high.unwrap_or(y));
            push(
                svg,
                format_args!(
                    "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" \
                     stroke-width=\"1.5\"/>"
                ),
            );
        }
        let label = series.labels.get(n);
        if series.dots {
            push(
                svg,
                format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"><title>{} {}: \
                     {}, {}</title></circle>",
                    escape(series.name),
                    escape(label.map_or("", String::as_str)),
                    number(point.0),
                    number(point.1)
                ),
            );
        }
        label.into_iter().for_each(|label| write_label(svg, (x, y), label, taken));
    }
}

fn draw_line(
    svg: &mut String,
    series: &Series<'_>,
    colour: &str,
    placed: impl Fn(&(f64, f64)) -> Option<(f64, f64)>,
) {
    // A value that has no place interrupts the line instead of bending it.
    let mut path = String::new();
    for run in series.points.split(|point| placed(point).is_none()) {
        let places: Vec<(f64, f64)> = run.iter().filter_map(&placed).collect();
        for (n, (x, y)) in places.iter().enumerate() {
            push(&mut path, format_args!("{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' }));
        }
        if let Some(first) = places.first().filter(|_| series.filled) {
            push(&mut path, format_args!("V{BOTTOM}H{:.1}Z", first.0));
        }
    }
    let fill = if series.filled { colour } else { "none" };
    push(
        svg,
        format_args!(
            "<path d=\"{path}\" fill=\"{fill}\" fill-opacity=\".25\" stroke=\"{colour}\" \
             stroke-width=\"2\" stroke-linejoin=\"round\"/>"
        ),
    );
}

/// Writes beside a point, where nothing is written yet; nowhere rather than over another label.
fn write_label(svg: &mut String, (x, y): (f64, f64), label: &str, taken: &mut Taken) {
    let label = short(label, 24);
    let width = LETTER * label.chars().count() as f64;
    let free = [(true, -6.0), (false, -6.0), (true, 15.0), (false, 15.0)].into_iter().find_map(
        |(is_right, dy)| {
            let left = if is_right { x + 7.0 } else { x - 7.0 - width };
            let place = [left, y + dy - 11.0, left + width, y + dy + 3.0];
            let is_inside = left >= LEFT && left + width <= WIDTH && place[3] <= BOTTOM;
            let meets = |other: &[f64; 4]| {
                place[0] < other[2]
                    && other[0] < place[2]
                    && place[1] < other[3]
                    && other[1] < place[3]
            };
            (is_inside && !taken.iter().any(meets)).then_some((place, dy))
        },
    );
    if let Some((place, dy)) = free {
        taken.push(place);
        let (x, y) = (place[0], y + dy);
        push(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(&label)));
    }
}

/// Names above the drawing; one series alone needs none.
fn legend(svg: &mut String, names: &[&str]) {
    if names.len() < 2 {
        return;
    }
    let mut x = LEFT;
    for (index, name) in names.iter().enumerate() {
        push(
            svg,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"9\" width=\"12\" height=\"12\" rx=\"2\" fill=\"var(--s{})\"/>\
             <text x=\"{:.1}\" y=\"19\">{}</text>",
                index % COLOURS,
                x + 17.0,
                escape(name)
            ),
        );
        x += 34.0 + LETTER * name.chars().count() as f64;
    }
}

/// A number as people write it: as many digits as tell it apart, thousands and millions by letter.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let (scaled, letter) = match size {
        _ if !size.is_finite() => return "–".into(),
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.01.. => 3,
        0.0 => 0,
        _ => return format!("{value:.1e}"),
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{letter}")
}

fn short(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn push(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = svg.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let linear = Scale::new(&Axis::from_to("", 0.0, 100.0), [].into_iter(), [0.0, 1.0]);
        assert_eq!(linear.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let log = Axis::from_to("", 0.001, 1.0).logarithmic();
        let log = Scale::new(&log, [].into_iter(), [0.0, 1.0]);
        assert_eq!(log.ticks().len(), 4, "{:?}", log.ticks());
        assert!((log.place(0.031_622_776).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(log.place(0.0), None);
    }

    #[test]
    fn any_values_make_a_drawing() {
        let odd = [
            vec![],
            vec![(0.0, 0.0)],
            vec![(1.0, f64::NAN), (f64::INFINITY, 2.0)],
            vec![(-1.0, 1e300)],
        ];
        for points in odd {
            for axis in [Axis::new("x"), Axis::new("x").logarithmic()] {
                let series =
                    Series { dots: true, filled: true, ..Series::line("a", points.clone()) };
                let svg = lines("t", &axis, &axis, &[series]);
                assert!(
                    svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"),
                    "{svg}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let pairs = [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.3456, "12.3"),
            (100.0, "100"),
            (12_117_888.0, "12.1 M"),
            (0.001, "1.0e-3"),
            (3000.0, "3000"),
            (25_000.0, "25 k"),
            (f64::NAN, "–"),
        ];
        for (value, text) in pairs {
            assert_eq!(number(value), text);
        }
    }
}
