//! One step of either kind, on the same parameters and the same batch.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use spotter_models::towers::{Config, layout::is_trained, random};
use tch::{Device, Kind, Tensor};

use super::Plain;
use crate::{
    adam::Adam,
    dataset::Batch,
    error::{Error, Result},
    net::{Net, Parameters},
    recipe::{Precision, Recipe},
    run::Trainee,
};

/// Words of captions, in BPE tokens: a mean of 27 and a tail, as descriptions of CUHK-PEDES have, whose
/// mean is 23.5 words (arXiv 1702.05729) before punctuation and splitting.
const LENGTHS: [usize; 16] = [22, 31, 18, 26, 24, 38, 20, 27, 35, 23, 29, 25, 19, 45, 24, 28];
/// Largest batch: what fits no machine that this is for is a slip.
pub const LARGEST_BATCH: usize = 4096;

/// Shapes to measure, each in the published layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// CLIP's ViT-B/16 at 384x128: the paper's
    #[value(name = "vit-b16")]
    #[serde(rename = "vit-b16")]
    VitB16,
    /// Towers 384 and 256 wide at 384x128, 12 blocks
    Small,
    /// Towers 64 and 32 wide at 96x32, 3 blocks: to try the command
    Tiny,
}

impl Size {
    /// Its shapes.
    pub fn config(self) -> Config {
        let published = Config::vit_b16();
        match self {
            Size::VitB16 => published,
            Size::Small => Config {
                vision_width: 384,
                vision_heads: 6,
                text_width: 256,
                text_heads: 4,
                embed: 256,
                vision_bottleneck: 48,
                text_bottleneck: 32,
                ..published
            },
            Size::Tiny => Config {
                vision_width: 64,
                vision_layers: 3,
                vision_heads: 4,
                height: 96,
                width: 32,
                text_width: 32,
                text_layers: 3,
                text_heads: 2,
                vocab: 512,
                embed: 48,
                vision_bottleneck: 8,
                text_bottleneck: 4,
                ..published
            },
        }
    }
}

/// How a step is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// As training does.
    Folded,
    /// As the paper's reference does.
    Plain,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Shapes.
    pub size: Size,
    /// Pairs in a step.
    pub batch: usize,
    /// Number format of both variants.
    pub precision: Precision,
    /// Pairs that go through the folded towers together; 0: all. The plain step has no parts.
    pub part: usize,
    /// Whether the folded step computes blocks again; the plain one keeps all.
    pub recompute: bool,
}

/// What a step took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Took {
    /// On the clock.
    pub wall: f64,
    /// Seconds of processors, all threads together: what others do on the machine counts less.
    pub cpu: f64,
}

/// A model with random weights, and a batch.
pub struct Bench {
    trainee: Trainee,
    plain: Plain,
    recipe: Recipe,
    batch: Batch,
}

impl Bench {
    /// Draws weights, pixels and captions.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch that cannot be; [`Error::Torch`] where memory runs out.
    pub fn new(setup: &Setup) -> Result<Self> {
        if !(2..=LARGEST_BATCH).contains(&setup.batch) {
            return Err(Error::invalid("batch", format!("must be 2 to {LARGEST_BATCH}")));
        }
        let config = setup.size.config();
        let mut recipe = Recipe::default();
        recipe.batch.size = setup.batch;
        recipe.batch.part = setup.part;
        recipe.batch.recompute = setup.recompute;
        recipe.batch.precision = setup.precision;
        recipe.validate()?;
        let weights = random(&config, 1)?;
        let mut parameters = Parameters::new(&weights, &config, Device::Cpu, is_trained)?;
        drop(weights);
        if setup.precision == Precision::Bf16 {
            parameters.compute_in(Kind::BFloat16)?;
        }
        let net = Net::new(&config, &parameters)?;
        let plain = Plain::new(&config, &parameters)?;
        let batch = batch(&config, setup.batch)?;
        let trainee = Trainee { parameters, net, adam: Adam::new(recipe.optimiser) };
        Ok(Self { trainee, plain, recipe, batch })
    }

    /// Makes a step.
    ///
    /// # Errors
    /// As [`Trainee::step`].
    pub fn step(&mut self, variant: Variant) -> Result<Took> {
        let [wall, cpu] = times();
        match variant {
            Variant::Folded => {
                self.trainee.step(&self.batch, &self.recipe, 1.0)?;
            }
            Variant::Plain => self.plain_step()?,
        }
        let [wall_now, cpu_now] = times();
        let seconds = |now: Duration, then| now.saturating_sub(then).as_secs_f64();
        Ok(Took { wall: seconds(wall_now, wall), cpu: seconds(cpu_now, cpu) })
    }

    /// What [`Trainee::step`] does, with the plain towers.
    fn plain_step(&mut self) -> Result<()> {
        let Self { trainee, plain, recipe, batch } = self;
        let persons = Tensor::f_from_slice(&batch.persons)?;
        let (images, texts) = (plain.images(&batch.pixels)?, plain.texts(&batch.words)?);
        let loss = recipe.loss.of(&images, &texts, &persons, None)?;
        loss.f_backward()?;
        let (loss, gradient) = (loss.f_double_value(&[])?, trainee.adam.clip(&trainee.parameters)?);
        if !loss.is_finite() || !gradient.is_finite() {
            return Err(Error::diverged_step(loss, gradient));
        }
        trainee.adam.step(&trainee.parameters, 1.0)
    }
}

/// Random pixels and captions, each of another person.
fn batch(config: &Config, size: usize) -> Result<Batch> {
    let mut source = ChaCha8Rng::seed_from_u64(7);
    let words = LENGTHS.iter().cycle().take(size);
    let words = words
        .map(|length| {
            let length = (*length).min(config.word_limit());
            (0..length).map(|_| source.random_range(1..config.start_of_text())).collect()
        })
        .collect();
    let shape = [size as i64, 3, config.height as i64, config.width as i64];
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| source.random_range(-1.7..1.7)).collect();
    let pixels = Tensor::f_from_slice(&values)?.f_reshape(shape)?;
    let persons: Vec<i64> = (0..size as i64).collect();
    Ok(Batch { pixels, words, meant: persons.clone(), persons, pairs: Vec::new() })
}

/// On the clock, and of all this process's threads.
fn times() -> [Duration; 2] {
    [ClockId::Monotonic, ClockId::ProcessCPUTime].map(|clock| {
        let time = clock_gettime(clock);
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
    })
}
