//! What a training run does, as a TOML file says it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use spotter_models::towers::{Config, Coupling, PromptPlace, layout::is_coupling};
use tch::Tensor;

use crate::{
    adam,
    augment::{ImageAugment, TextAugment},
    bounded,
    dataset::Sampler,
    error::{Error, Result},
    loss::LossKind,
    method::{Initialisation, Method},
    schedule::Schedule,
};

/// Fewest word positions that inserted prompts may leave: enough for two sentences.
const FEWEST_WORDS: usize = 48;

/// A training run. What is absent is as published (`cskt.md` 1.5).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What is trained.
    pub method: Method,
    /// Decides everything that is random.
    pub seed: u64,
    /// What prompts and adapters start from.
    pub initialisation: Initialisation,
    /// The prompts.
    pub prompts: Prompts,
    /// The adapters.
    pub adapters: Adapters,
    /// What is minimised.
    pub loss: Loss,
    /// How steps are made.
    pub optimiser: adam::Settings,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// How a step is computed.
    pub batch: Batch,
    /// What is learnt from.
    pub data: Data,
    /// How progress is judged.
    pub validation: Validation,
    /// The shapes of a backbone from nothing; only for the method `scratch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Backbone>,
}

/// Bidirectional prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prompts {
    /// How many each tower sees in a block, 8 to 128 and even.
    pub total: usize,
    /// Which are carried over into the other tower.
    pub coupling: Coupling,
    /// How many of the first blocks have prompts; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Where the text tower's stand; absent: in positions as published, or, where those would leave
    /// fewer than 48 words, in front.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PromptPlace>,
    /// Words whose embeddings the first block's text prompts start from, such as "a photo of a".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// Holds the couplings between the towers fixed, for a model that is trained further: they are four of
    /// five trained numbers, and what changes stays small enough to be sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hold_couplings: bool,
}

impl Default for Prompts {
    fn default() -> Self {
        Self {
            total: 8,
            coupling: Coupling::Both,
            depth: None,
            place: None,
            words: None,
            hold_couplings: false,
        }
    }
}

/// Dual adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adapters {
    /// The bottleneck's share of a tower's width, 0.01 to 0.5.
    pub ratio: f64,
    /// Factor on the vision adapters' output.
    pub vision_scale: f32,
    /// Factor on the text adapters' output.
    pub text_scale: f32,
}

impl Default for Adapters {
    fn default() -> Self {
        Self { ratio: 0.125, vision_scale: 0.1, text_scale: 4.0 }
    }
}

/// What is minimised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    /// Which loss.
    pub kind: LossKind,
    /// Divides the cosines; 0.02 in the paper, 0.015 is published for `tal`.
    pub temperature: f64,
    /// Whether the temperature is trained too, as CLIP's is, from the value above; not below 0.01.
    pub learnt: bool,
    /// How much nearer the right person must be; only `tal`.
    pub margin: f64,
}

impl Default for Loss {
    fn default() -> Self {
        Self { kind: LossKind::Sdm, temperature: 0.02, learnt: false, margin: 0.1 }
    }
}

/// A trained temperature goes no lower.
const LOWEST_TEMPERATURE: f64 = 0.01;

impl Loss {
    /// The loss of a batch: `images` and `texts` `[N, embed]` of unit length, `persons` `[N]`, and the
    /// logarithm of the reciprocal temperature where that is trained.
    ///
    /// # Errors
    /// [`Error::Torch`] where shapes do not fit or memory runs out.
    pub fn of(
        &self,
        images: &Tensor,
        texts: &Tensor,
        persons: &Tensor,
        scale: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Some(scale) = scale else {
            return self.kind.of([images, texts], persons, self.temperature, self.margin);
        };
        // Cosines are linear in the captions: scaling those scales the scores.
        let scale = scale.f_exp()?.f_clamp_max(LOWEST_TEMPERATURE.recip())?;
        self.kind.of([images, &texts.f_mul(&scale)?], persons, 1.0, self.margin)
    }
}

/// A number format of activations and frozen weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit.
    #[default]
    F32,
    /// 16-bit with the range of 32-bit; what is trained stays 32-bit.
    Bf16,
}

/// How a step is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Pairs that are contrasted with each other.
    pub size: usize,
    /// Pairs that go through the towers together: the loss sees the whole batch, the memory holds a
    /// part of it (gradient caching, arXiv 2101.06983). 0: all at once.
    pub part: usize,
    /// Computes blocks again instead of keeping what they need for gradients.
    pub recompute: bool,
    /// Number format.
    pub precision: Precision,
}

impl Default for Batch {
    fn default() -> Self {
        Self { size: 128, part: 0, recompute: false, precision: Precision::F32 }
    }
}

/// What is learnt from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// What an epoch is.
    pub sampler: Sampler,
    /// Share of the persons; absent: all. Which ones depends on their numbers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// First and last person's number; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persons: Option<[i64; 2]>,
    /// Changes of pictures.
    pub image: ImageAugment,
    /// Changes of captions.
    pub text: TextAugment,
}

/// How progress is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Epochs between two judgements.
    pub every: usize,
    /// Which state is kept in the end.
    pub keep: Keep,
}

impl Default for Validation {
    fn default() -> Self {
        Self { every: 1, keep: Keep::Best }
    }
}

/// Which state of a run is its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The one with the best R@1 on validation persons.
    #[default]
    Best,
    /// The last one.
    Last,
}

/// Shapes of a backbone that is trained from nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// What people call it.
    pub name: String,
    /// Under which terms it may be used; absent: those of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Height of its input in pixels.
    pub height: usize,
    /// Width of its input in pixels.
    pub width: usize,
    /// Pixels between two patches.
    pub patch: usize,
    /// Channels of the stages of its stem.
    #[serde(default)]
    pub stem: Vec<usize>,
    /// Width of the vision blocks.
    pub vision_width: usize,
    /// Attention heads of the vision blocks.
    pub vision_heads: usize,
    /// Width of the text blocks.
    pub text_width: usize,
    /// Attention heads of the text blocks.
    pub text_heads: usize,
    /// Blocks of each tower.
    pub layers: usize,
    /// Size of the common embedding.
    pub embed: usize,
    /// Positions of the text tower.
    pub context: usize,
}

impl Backbone {
    /// Its configuration with a row for each of these token ids and one for all others.
    pub fn config(&self, mut token_ids: Vec<u32>) -> Config {
        let clip = Config::vit_b16();
        token_ids.extend([clip.start_of_text(), clip.end_of_text()]);
        token_ids.sort_unstable();
        token_ids.dedup();
        Config {
            vision_width: self.vision_width,
            vision_layers: self.layers,
            vision_heads: self.vision_heads,
            patch: self.patch,
            height: self.height,
            width: self.width,
            text_width: self.text_width,
            text_layers: self.layers,
            text_heads: self.text_heads,
            context: self.context,
            embed: self.embed,
            prompts: 0,
            vision_bottleneck: 0,
            text_bottleneck: 0,
            token_ids: Some(token_ids),
            stem: self.stem.clone(),
            ..clip
        }
    }
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// Where the file cannot be read, or names and values are not possible; says where.
    pub fn read(path: &Path) -> Result<Self> {
        let text = bounded::text(path, "recipe")?;
        let what = || format!("recipe {}", path.display());
        Self::parse(&text).map_err(|error| Error::invalid(what(), error.to_string()))
    }

    /// Reads the text of a recipe.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let recipe: Self =
            toml::from_str(text).map_err(|error| Error::invalid("recipe", error.to_string()))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Reads the settings of a recipe.
    ///
    /// # Errors
    /// As [`Recipe::read`], with the setting's name.
    pub fn from_table(table: toml::Table) -> Result<Self> {
        let recipe: Self = serde_path_to_error::deserialize(toml::Value::Table(table))
            .map_err(|error| Error::invalid(error.path().to_string(), error.inner().message()))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The text of the recipe, with every value written out.
    ///
    /// # Errors
    /// [`Error::Model`] for a bug.
    pub fn to_text(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| spotter_models::Error::internal("TOML", error).into())
    }

    /// Checks that the values are possible.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first one that is not.
    pub fn validate(&self) -> Result<()> {
        let total = self.prompts.total;
        let checks = [
            (
                "prompts.total",
                (8..=128).contains(&total) && total.is_multiple_of(2),
                "an even 8 to 128",
            ),
            ("adapters.ratio", (0.01..=0.5).contains(&self.adapters.ratio), "0.01 to 0.5"),
            ("adapters.vision_scale", self.adapters.vision_scale.is_finite(), "a finite number"),
            ("adapters.text_scale", self.adapters.text_scale.is_finite(), "a finite number"),
            ("loss.temperature", (1e-3..=1.0).contains(&self.loss.temperature), "0.001 to 1"),
            ("loss.margin", (0.0..=2.0).contains(&self.loss.margin), "0 to 2"),
            ("batch.size", (2..=1 << 16).contains(&self.batch.size), "2 to 65536"),
            ("batch.part", self.batch.part <= self.batch.size, "no more than batch.size"),
            ("data.share", self.data.share.is_none_or(|s| s > 0.0 && s <= 1.0), "above 0, up to 1"),
            ("data.persons", self.data.persons.is_none_or(|[a, b]| a <= b), "first, then last"),
            ("validation.every", self.validation.every > 0, "1 or more epochs"),
            (
                "backbone",
                self.backbone.is_some() == (self.method == Method::Scratch),
                "there for the method `scratch`, and only there",
            ),
            (
                "batch.part",
                self.method != Method::Scratch || self.batch.part == 0 && !self.batch.recompute,
                "0 for the method `scratch`, with batch.recompute off: its normalisation sees whole batches",
            ),
        ];
        for (name, holds, meant) in checks {
            if !holds {
                return Err(Error::invalid(name, format!("must be {meant}")));
            }
        }
        self.validate_steps()
    }

    fn validate_steps(&self) -> Result<()> {
        let (steps, rate) = (&self.schedule, &self.optimiser);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            (
                "schedule.epochs",
                positive(steps.epochs) && steps.epochs <= 1e6,
                "above 0, up to a million",
            ),
            (
                "schedule.warmup_epochs",
                (0.0..=steps.epochs).contains(&steps.warmup_epochs),
                "0 to schedule.epochs",
            ),
            ("schedule.warmup_from", share(steps.warmup_from), "0 to 1"),
            ("schedule.end", share(steps.end), "0 to 1"),
            ("optimiser.learning_rate", positive(rate.learning_rate), "finite and above 0"),
            ("optimiser.beta_1", (0.0..1.0).contains(&rate.beta_1), "0 to below 1"),
            ("optimiser.beta_2", (0.0..1.0).contains(&rate.beta_2), "0 to below 1"),
            ("optimiser.epsilon", positive(rate.epsilon), "finite and above 0"),
            ("optimiser.weight_decay", share(rate.weight_decay), "0 to 1"),
            ("optimiser.bias_factor", (0.0..=1e3).contains(&rate.bias_factor), "0 to 1000"),
            ("optimiser.clip", rate.clip.is_finite() && rate.clip >= 0.0, "0 or more"),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((name, _, meant)) => Err(Error::invalid(name, format!("must be {meant}"))),
            None => Ok(()),
        }
    }

    /// Whether a step may change the tensor of this name.
    pub fn trains(&self, name: &str) -> bool {
        let is_held = self.prompts.hold_couplings && is_coupling(name);
        self.method.learns() && self.method.trains(name) && !is_held
    }

    /// The shapes of the model that this recipe makes of a base model.
    ///
    /// # Errors
    /// Where they do not fit the base.
    pub fn config(&self, base: &Config) -> Result<Config> {
        let mut config = base.clone();
        if self.method.has_prompts() {
            config.prompts = self.prompts.total / 2;
            config.coupling = self.prompts.coupling;
            config.prompt_depth = self.prompts.depth;
            config.prompt_place = self.prompts.place.unwrap_or_default();
            if self.prompts.place.is_none() && config.word_limit() < FEWEST_WORDS {
                config.prompt_place = PromptPlace::Prefix;
            }
        }
        if self.method.has_adapters() {
            let bottleneck = |width: usize| ((width as f64 * self.adapters.ratio) as usize).max(1);
            config.vision_bottleneck = bottleneck(config.vision_width);
            config.text_bottleneck = bottleneck(config.text_width);
            config.vision_scale = self.adapters.vision_scale;
            config.text_scale = self.adapters.text_scale;
        }
        let blocks = base.vision_layers.min(base.text_layers);
        if let Some(depth) = config.prompt_depth.filter(|depth| !(1..=blocks).contains(depth)) {
            let reason = format!("{depth} is not 1 to {blocks}, the blocks of the base model");
            return Err(Error::invalid("prompts.depth", reason));
        }
        // The base is possible by itself: what is wrong now is the recipe's.
        config.validate().map_err(|error| {
            Error::invalid("recipe", format!("does not fit the base model: {error}"))
        })?;
        Ok(config)
    }
}
