//! Axes: their ends, round values along them, and where a value lies.

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

/// An axis with its ends, and the way from values to places on it.
pub(super) struct Scale {
    logarithmic: bool,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    pub(super) fn new(
        axis: &Axis<'_>,
        values: impl Iterator<Item = f64>,
        [start, end]: [f64; 2],
    ) -> Self {
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
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let usable = value.is_finite() && (!self.logarithmic || value > 0.0);
        let share = match self.logarithmic {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        usable.then(|| self.start + share.clamp(0.0, 1.0) * (self.end - self.start))
    }

    /// Round values along the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
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
