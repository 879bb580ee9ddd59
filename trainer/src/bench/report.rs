//! What measuring gives.

use serde::{Deserialize, Serialize};

use super::{
    Setup,
    step::{Bench, Took, Variant},
};
use crate::error::{Error, Result};

/// Median and spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half lie above.
    pub median: f64,
    /// The least.
    pub lowest: f64,
    /// The most.
    pub highest: f64,
}

impl Spread {
    /// Of these values; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), lowest, highest })
    }
}

/// The times of one kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Seconds on the clock.
    pub seconds: Spread,
    /// Seconds of processors.
    pub processor_seconds: Spread,
    /// Pairs a second by the median on the clock.
    pub pairs_per_second: f64,
}

/// Steps of both kinds in turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// As training does it.
    pub folded: Times,
    /// As the paper's reference does it.
    pub plain: Times,
    /// How many times faster the folded step is than the plain one right after it, on the clock.
    pub ratio: Spread,
    /// The same in seconds of processors.
    pub processor_ratio: Spread,
}

/// A step of each kind to warm up, then `steps` of each, in turn; `told` hears of each.
///
/// # Errors
/// As [`Bench::step`]; [`Error::Invalid`] for no steps.
pub fn compare(
    bench: &mut Bench,
    setup: &Setup,
    steps: usize,
    told: &mut dyn FnMut(Variant, Took),
) -> Result<Comparison> {
    let mut step = |variant| -> Result<Took> {
        let took = bench.step(variant)?;
        told(variant, took);
        Ok(took)
    };
    let mut pair = || Ok((step(Variant::Folded)?, step(Variant::Plain)?));
    pair()?;
    let (folded, plain): (Vec<Took>, Vec<Took>) =
        (0..steps).map(|_| pair()).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let none = || Error::invalid("steps", "must be 1 or more");
    let ratio = |of: fn(&Took) -> f64| {
        Spread::of(folded.iter().zip(&plain).map(|(folded, plain)| of(plain) / of(folded)))
    };
    Ok(Comparison {
        folded: times(&folded, setup.batch).ok_or_else(none)?,
        plain: times(&plain, setup.batch).ok_or_else(none)?,
        ratio: ratio(|took| took.wall).ok_or_else(none)?,
        processor_ratio: ratio(|took| took.cpu).ok_or_else(none)?,
    })
}

fn times(took: &[Took], batch: usize) -> Option<Times> {
    let seconds = Spread::of(took.iter().map(|took| took.wall))?;
    Some(Times {
        seconds,
        processor_seconds: Spread::of(took.iter().map(|took| took.cpu))?,
        pairs_per_second: batch as f64 / seconds.median,
    })
}

/// The most memory a process held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Weights, gradients, moments, libtorch itself and what a step keeps, in MiB.
    pub peak_memory_mib: f64,
}

/// Makes two steps of one kind, after which nothing more is allocated, and reads what this process
/// held at most: to be called in a process of its own.
///
/// # Errors
/// As [`Bench::step`]; [`Error::Invalid`] on a system that does not say.
pub fn memory(bench: &mut Bench, variant: Variant) -> Result<Memory> {
    bench.step(variant)?;
    bench.step(variant)?;
    let peak_memory_mib = crate::memory::peak_mib().ok_or_else(|| {
        Error::invalid("peak memory", "/proc/self/status does not say; measure on Linux")
    })?;
    Ok(Memory { peak_memory_mib })
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its processor's name.
    pub processor: String,
    /// How many threads it runs at once.
    pub cores: usize,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name"));
        let name = name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { processor: name.to_owned(), cores }
    }
}
