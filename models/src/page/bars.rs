//! Bars with intervals.

use super::{
    axis::{Axis, Scale, number},
    escape,
    plot::{RIGHT, open, push, short},
};

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
    let mut svg = open(title, 0.0, height);
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
