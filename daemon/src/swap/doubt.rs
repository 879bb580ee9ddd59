//! When what staff reject says that a bundle brings more false alarms than its alerts may.

use std::time::Duration;

/// Fewest rejected sightings that say anything.
const FEWEST: u64 = 5;

/// How unlikely so many are within the budget before a bundle is taken back: it is asked every second.
const UNLIKELY: f64 = 1e-4;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a bundle that brought so many rejected sightings in this time leaves the budget, where it does: alerts that
/// together may bring `per_day` false alarms a day bring so many once in ten thousand times.
pub(super) fn why(rejected: u64, span: Duration, per_day: f64) -> Option<String> {
    let allowed = per_day * span.as_secs_f64() / DAY.as_secs_f64();
    if rejected < FEWEST || !allowed.is_finite() || at_least(rejected, allowed) > UNLIKELY {
        return None;
    }
    let hours = span.as_secs_f64() / 3600.0;
    Some(format!(
        "staff rejected {rejected} of its sightings in {hours:.1} hours, in which the budgets of the alerts allow \
         {allowed:.1} false alarms: the bundle that served before serves again"
    ))
}

/// How likely at least so many events are where `mean` are expected (Poisson).
fn at_least(count: u64, mean: f64) -> f64 {
    let mut term = (-mean).exp();
    let mut below = 0.0;
    for number in 0..count {
        below += term;
        term *= mean / (number + 1) as f64;
    }
    (1.0 - below).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poissons_tail_is_as_tables_have_it() {
        for (count, mean, tail) in [(0, 3.0, 1.0), (1, 0.1, 0.095_163), (5, 1.0, 0.003_660)] {
            let got = at_least(count, mean);
            assert!((got - tail).abs() < 1e-5, "{count} of {mean}: {got}");
        }
    }

    #[test]
    fn a_bundle_is_taken_back_only_far_beyond_its_budget() {
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(why(4, day, 0.01), None, "too few to say anything");
        assert_eq!(why(12, day, 8.0), None, "a bad day");
        assert_eq!(why(40, day, 40.0), None, "many alerts may bring many");
        let reason = why(12, day, 2.0).unwrap();
        assert!(reason.contains("12") && reason.contains("24.0 hours"), "{reason}");
        assert!(why(6, day / 12, 2.0).is_some(), "within two hours");
        assert_eq!(why(100, day, f64::NAN), None);
    }
}
