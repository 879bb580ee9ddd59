//! Tracks that truly match, among those that a null distribution is fitted to.
//!
//! Where a text separates well they stand apart above the others, as a bump. It is looked for as a
//! mixture of two parts, fitted by expectation and maximisation to a histogram: the bulk as a two-piece
//! normal distribution, which has one skew more than a normal one, and the bump as a normal one that
//! stands at least [`APART`] deviations above the bulk's mode. A bump that explains the sample hardly
//! better than the bulk alone is none: confusable persons thicken a tail without a bump.

use super::Scored;

/// Bins of the histogram.
const BINS: usize = 128;

/// Rounds of expectation and maximisation.
const ROUNDS: usize = 60;

/// Least distance of the bump from the bulk's mode, in deviations of the bulk's upper side.
const APART: f64 = 2.0;

/// Where the bump is looked for first, in deviations above the median; the better result counts.
const STARTS: [f64; 2] = [2.6, 3.6];

/// Most of the tracks that can match: were it more, nothing would tell the bump from the bulk.
const MAX_SHARE: f64 = 0.25;

/// By how much the logarithm of the likelihood must rise for a bump to be believed: at least so much in
/// all, and so much for each track. A bulk that is not quite two halves of normal distributions gains
/// with every track as well, but less than one in twenty who match.
const GAIN: f64 = 20.0;
const GAIN_PER_TRACK: f64 = 0.0125;

/// Widths of the bump, in deviations of the bulk.
const WIDTHS: (f64, f64) = (0.25, 1.0);

/// Tracks that seem to match.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    share: f64,
    /// The centre of the first bin, and the width of all.
    first: f64,
    width: f64,
    /// How likely a track of each bin matches; never falls.
    posterior: Vec<f64>,
}

impl Matches {
    /// The share of the tracks that seem to match.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// How likely a track with this score matches, 0 to 1.
    pub(super) fn posterior(&self, score: f32) -> f64 {
        let at = ((f64::from(score) - self.first) / self.width).clamp(0.0, (BINS - 1) as f64);
        let (bin, inside) = (at as usize, at.fract());
        let low = self.posterior[bin];
        let high = self.posterior[(bin + 1).min(BINS - 1)];
        low + inside * (high - low)
    }
}

/// The tracks of a sorted sample that seem to match; `None` where there is no bump.
pub(super) fn find(sorted: &[Scored]) -> Option<Matches> {
    let histogram = Histogram::new(sorted)?;
    let alone = histogram.likelihood(&Bulk::fit(&histogram, |_| 1.0), None);
    let fits = STARTS.map(|start| histogram.separate(start));
    let [first, second] = fits;
    let best = if first.likelihood >= second.likelihood { first } else { second };
    let enough = GAIN.max(GAIN_PER_TRACK * histogram.total);
    (best.likelihood - alone >= enough).then(|| best.matches(&histogram))
}

/// A sample in units of its own spread: the median is 0, the quartiles lie where those of a normal
/// distribution would.
struct Histogram {
    weights: [f64; BINS],
    total: f64,
    /// The first bin's centre and the bins' width, in deviations.
    first: f64,
    width: f64,
    median: f64,
    deviation: f64,
}

impl Histogram {
    fn new(sorted: &[Scored]) -> Option<Self> {
        let total: f64 = sorted.iter().map(|scored| f64::from(scored.weight)).sum();
        let quantile = |share: f64| {
            let mut below = 0.0;
            let at = sorted.iter().find(|scored| {
                below += f64::from(scored.weight);
                below >= share * total
            });
            at.map_or(0.0, |scored| f64::from(scored.score))
        };
        let median = quantile(0.5);
        let deviation = (quantile(0.75) - quantile(0.25)) / 1.349;
        let highest = f64::from(sorted.last()?.score);
        let lowest = f64::from(sorted.first()?.score);
        if deviation <= 0.0 {
            return None;
        }
        let low = ((lowest - median) / deviation).max(-5.0);
        let high = ((highest - median) / deviation).min(12.0);
        let width = (high - low) / BINS as f64;
        if width <= 0.0 {
            return None;
        }
        let mut weights = [0.0; BINS];
        for scored in sorted {
            let at = (f64::from(scored.score) - median) / deviation;
            let bin = ((at - low) / width).clamp(0.0, (BINS - 1) as f64) as usize;
            weights[bin] += f64::from(scored.weight);
        }
        Some(Self { weights, total, first: low + 0.5 * width, width, median, deviation })
    }

    /// The centre and the weight of each bin.
    fn bins(&self) -> impl Iterator<Item = (f64, f64)> {
        let centre = |bin: usize| self.first + bin as f64 * self.width;
        self.weights.iter().enumerate().map(move |(bin, weight)| (centre(bin), *weight))
    }

    fn likelihood(&self, bulk: &Bulk, bump: Option<&Bump>) -> f64 {
        let logarithm = |at| match bump {
            None => bulk.log_density(at),
            Some(bump) => {
                sum_of_exponentials(bump.rest() + bulk.log_density(at), bump.log_density(at))
            }
        };
        self.bins().map(|(at, weight)| weight * logarithm(at)).sum()
    }

    /// Bulk and bump, from a first guess at where the bump is.
    fn separate(&self, start: f64) -> Fit {
        let mut bulk = Bulk { mode: 0.0, lower: 1.0, upper: 1.05 };
        let mut bump = Bump { share: 0.03, mean: start, width: 0.6 };
        for _ in 0..ROUNDS {
            let belongs = |at| bump.posterior(&bulk, at);
            let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
            for (at, weight) in self.bins() {
                let part = weight * belongs(at);
                sum += part;
                mean += part * at;
                square += part * at * at;
            }
            let next = Bulk::fit(self, |at| 1.0 - belongs(at));
            let share = (sum / self.total).clamp(1e-5, MAX_SHARE);
            if sum > 1e-9 {
                mean /= sum;
                let variance = (square / sum - mean * mean).max(0.0);
                bump.width = variance.sqrt().clamp(WIDTHS.0, WIDTHS.1);
                bump.mean = mean;
            }
            bump.mean = bump.mean.max(next.mode + APART * next.upper);
            (bulk, bump.share) = (next, share);
        }
        Fit { likelihood: self.likelihood(&bulk, Some(&bump)), bulk, bump }
    }
}

/// A fitted mixture.
struct Fit {
    likelihood: f64,
    bulk: Bulk,
    bump: Bump,
}

impl Fit {
    fn matches(&self, histogram: &Histogram) -> Matches {
        // A bump is wider than the bulk at places far below it as well; nobody matches there.
        let mut highest = 0.0_f64;
        let posterior = histogram.bins().map(|(at, _)| {
            if at > self.bulk.mode {
                highest = highest.max(self.bump.posterior(&self.bulk, at));
            }
            highest
        });
        Matches {
            share: self.bump.share,
            posterior: posterior.collect(),
            first: histogram.median + histogram.first * histogram.deviation,
            width: histogram.width * histogram.deviation,
        }
    }
}

/// Two halves of normal distributions of two widths that meet at their mode.
struct Bulk {
    mode: f64,
    lower: f64,
    upper: f64,
}

impl Bulk {
    /// The most likely one for a histogram, each bin taken by a share of its weight. For a given mode
    /// the widths have a closed form (John, Communications in Statistics A 11, 1982); the mode is
    /// searched for.
    fn fit(histogram: &Histogram, share: impl Fn(f64) -> f64) -> Self {
        let bins: Vec<(f64, f64)> =
            histogram.bins().map(|(at, weight)| (at, weight * share(at))).collect();
        let total: f64 = bins.iter().map(|(_, weight)| weight).sum::<f64>().max(1e-12);
        let sides = |mode: f64| {
            let (mut lower, mut upper) = (1e-9, 1e-9);
            for (at, weight) in &bins {
                let side = if *at < mode { &mut lower } else { &mut upper };
                *side += weight * (at - mode) * (at - mode);
            }
            (f64::cbrt(lower), f64::cbrt(upper))
        };
        let mean = bins.iter().map(|(at, weight)| weight * at).sum::<f64>() / total;
        let mode = least(mean - 1.2, mean + 1.2, |mode| {
            let (lower, upper) = sides(mode);
            lower + upper
        });
        let (lower, upper) = sides(mode);
        let width = |side: f64| (side * side * (lower + upper) / total).sqrt().max(1e-3);
        Self { mode, lower: width(lower), upper: width(upper) }
    }

    fn log_density(&self, at: f64) -> f64 {
        let width = if at < self.mode { self.lower } else { self.upper };
        let deviations = (at - self.mode) / width;
        (2.0 / (self.lower + self.upper)).ln() - HALF_LOG_TAU - 0.5 * deviations * deviations
    }
}

/// A normal distribution with a share of all.
struct Bump {
    share: f64,
    mean: f64,
    width: f64,
}

impl Bump {
    /// Logarithm of the share that is left for the bulk.
    fn rest(&self) -> f64 {
        (1.0 - self.share).ln()
    }

    /// Logarithm of the density, times the share.
    fn log_density(&self, at: f64) -> f64 {
        let deviations = (at - self.mean) / self.width;
        self.share.ln() - self.width.ln() - HALF_LOG_TAU - 0.5 * deviations * deviations
    }

    /// How likely what lies here belongs to the bump.
    fn posterior(&self, bulk: &Bulk, at: f64) -> f64 {
        let difference = self.rest() + bulk.log_density(at) - self.log_density(at);
        1.0 / (1.0 + difference.exp())
    }
}

/// Half the logarithm of two pi.
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_8;

fn sum_of_exponentials(a: f64, b: f64) -> f64 {
    let larger = a.max(b);
    larger + ((a - larger).exp() + (b - larger).exp()).ln()
}

/// Where a function with one valley is least, to a hundredth: golden-section search.
fn least(mut low: f64, mut high: f64, value: impl Fn(f64) -> f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let (mut a, mut b) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
    let (mut at_a, mut at_b) = (value(a), value(b));
    while high - low > 0.01 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - GOLDEN * (high - low);
            at_a = value(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + GOLDEN * (high - low);
            at_b = value(b);
        }
    }
    0.5 * (low + high)
}
