//! Plots as SVG text, coloured by the page's style.

use std::fmt::Write as _;

use super::{
    axis::{Axis, Scale, number},
    escape,
};

/// Width of a plot in its own units; the page scales it.
const WIDTH: f64 = 560.0;
/// Height of a plot.
const HEIGHT: f64 = 320.0;
/// Where the drawing begins: room for numbers and the axis' name to its left.
const LEFT: f64 = 62.0;
/// Where the drawing ends.
pub(super) const RIGHT: f64 = WIDTH - 16.0;
/// Room for the names of series above the drawing.
const TOP: f64 = 30.0;
/// Room for numbers and the axis' name below the drawing.
const BOTTOM: f64 = HEIGHT - 46.0;
/// How far the rows of the legend lie apart.
const ROW: f64 = 18.0;
/// How many colours the style has.
const COLOURS: usize = 6;
/// A little more than a letter is wide on average.
const LETTER: f64 = 7.0;

/// Values of one kind.
#[derive(Clone, Debug, Default)]
pub struct Series<'a> {
    /// What they are; without a name they are not in the legend.
    pub name: &'a str,
    /// The number of the colour; `None` takes the series' own place.
    pub colour: Option<usize>,
    /// Where they are.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub dots: bool,
    /// Whether the points are joined.
    pub line: bool,
    /// Whether the line is dashed: a bound or a reference, not a measurement.
    pub dashed: bool,
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

    /// A dashed line in the colour of text, for a bound or what is promised.
    pub fn reference(name: &'a str, points: Vec<(f64, f64)>) -> Self {
        Self { dashed: true, ..Self::line(name, points) }
    }

    /// How it is drawn as the series of this place.
    fn paint(&self, index: usize) -> String {
        match self.dashed {
            true => "var(--fg)".into(),
            false => format!("var(--s{})", self.colour.unwrap_or(index) % COLOURS),
        }
    }
}

/// Lines and points over common axes. `title` is what a reader hears who cannot see the plot.
pub fn lines(title: &str, x: &Axis<'_>, y: &Axis<'_>, series: &[Series<'_>]) -> String {
    let xs = series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
    let around = series.iter().flat_map(|series| series.intervals.iter().flatten().copied());
    let ys = series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let across = Scale::new(x, xs, [LEFT, RIGHT]);
    let up = Scale::new(y, ys.chain(around), [BOTTOM, TOP]);
    let named = named(series);
    // Further rows of names lie above the plot's usual top, so that all drawings are equally high.
    let above = ROW * (named.last().map_or(0, |name| name.row)) as f64;
    let mut svg = open(title, 0.0 - above, HEIGHT + above);
    grid(&mut svg, &across, &up, x.name, y.name);
    let mut taken = Taken::new();
    for (index, series) in series.iter().enumerate() {
        draw(&mut svg, (&across, &up), (index, series), &mut taken);
    }
    legend(&mut svg, above, &named);
    svg + "</svg>"
}

/// Begins a drawing from this top on.
pub(super) fn open(title: &str, top: f64, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 {top} {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    )
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
    let colour = series.paint(index);
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
    let dashes = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let fill = if series.filled { colour } else { "none" };
    push(
        svg,
        format_args!(
            "<path d=\"{path}\" fill=\"{fill}\" fill-opacity=\".25\" stroke=\"{colour}\" \
             stroke-width=\"2\" stroke-linejoin=\"round\"{dashes}/>"
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

/// A name of the legend, where it stands, and its colour.
struct Named<'a> {
    name: &'a str,
    colour: String,
    left: f64,
    row: usize,
}

/// The names of the series and where they stand, in as many rows as they need; one series alone needs
/// no name.
fn named<'a>(series: &[Series<'a>]) -> Vec<Named<'a>> {
    let mut all = Vec::new();
    let (mut left, mut row) = (LEFT, 0);
    for (index, series) in series.iter().enumerate().filter(|(_, series)| !series.name.is_empty()) {
        let name = series.name;
        let width = 34.0 + LETTER * name.chars().count() as f64;
        if left > LEFT && left + width > WIDTH {
            (left, row) = (LEFT, row + 1);
        }
        all.push(Named { name, colour: series.paint(index), left, row });
        left += width;
    }
    if all.len() < 2 { Vec::new() } else { all }
}

/// Names above the drawing, whose rows begin so far above the usual top.
fn legend(svg: &mut String, above: f64, named: &[Named<'_>]) {
    for Named { name, colour, left, row } in named {
        let top = 9.0 - above + ROW * *row as f64;
        push(
            svg,
            format_args!(
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"12\" height=\"12\" rx=\"2\" \
                 fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left + 17.0,
                top + 10.0,
                escape(name)
            ),
        );
    }
}

pub(super) fn short(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

pub(super) fn push(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = svg.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn many_names_stand_in_rows_within_the_drawing() {
        let long = "a policy of a certain age";
        let series = |count| vec![Series::line(long, vec![(0.0, 1.0), (1.0, 2.0)]); count];
        let svg = |count| lines("t", &Axis::new("x"), &Axis::new("y"), &series(count));
        assert!(svg(1).contains("viewBox=\"0 0 560 320\"") && !svg(1).contains(long));
        assert!(svg(2).contains("viewBox=\"0 0 560 320\"") && svg(2).contains(long));
        assert!(svg(3).contains("viewBox=\"0 -18 560 338\""), "{}", svg(3));
        let nameless = Series { name: "", ..Series::dots("", vec![(0.5, 1.0)]) };
        let both = [series(2), vec![Series { colour: Some(1), ..nameless }]].concat();
        let svg = lines("t", &Axis::new("x"), &Axis::new("y"), &both);
        assert_eq!(svg.matches(long).count(), 2, "{svg}");
        assert_eq!(svg.matches("var(--s1)").count(), 3, "name, line and dot: {svg}");
    }

    #[test]
    fn a_reference_is_dashed_in_the_colour_of_text() {
        let line = Series::reference("cut", vec![(0.0, 0.0), (0.0, 1.0)]);
        let svg = lines("t", &Axis::new("x"), &Axis::new("y"), &[line]);
        assert!(svg.contains("stroke=\"var(--fg)\"") && svg.contains("stroke-dasharray"), "{svg}");
    }
}
