//! Which tensors a model has: names, shapes and the distribution training starts from.
//!
//! The frozen backbone goes by OpenAI's CLIP names, the trained parts by `bpt.*` (prompts and
//! their couplings) and `dat.*` (adapters).

use super::Config;

/// One tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its name in weight files.
    pub name: String,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// What its values are before training.
    pub start: Start,
}

/// A normal distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// The mean.
    pub mean: f32,
    /// The standard deviation; 0 where all values are the mean.
    pub deviation: f32,
}

/// Whether a tensor belongs to the trained parts rather than to the frozen backbone.
pub fn is_trained(name: &str) -> bool {
    name.starts_with("bpt.") || name.starts_with("dat.")
}

/// Whether a trained tensor carries one tower's prompts over into the other: four fifths of what CSKT
/// trains, which a site leaves as the vendor trained it.
pub fn is_coupling(name: &str) -> bool {
    name.starts_with("bpt.text_to_vision.") || name.starts_with("bpt.vision_to_text.")
}

/// Deviation of CLIP's token table and of all of CSKT's own weights.
const SMALL: f32 = 0.02;

/// Every tensor that a valid `config` asks for.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let mut layout = Layout::default();
    layout.vision_ends(config);
    layout.text_ends(config);
    for side in Side::BOTH {
        for block in 0..side.layers(config) {
            layout.block(&side.block_prefix(block), side.width(config), side.layers(config));
            let bottleneck = side.bottleneck(config);
            if bottleneck > 0 {
                layout.adapter(&side.adapter_prefix(block), side.width(config), bottleneck);
            }
        }
    }
    if config.prompts > 0 {
        layout.prompts(config);
    }
    layout.specs
}

/// One of the two towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Vision,
    Text,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Vision, Side::Text];

    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Vision => "vision",
            Side::Text => "text",
        }
    }

    pub(super) fn width(self, config: &Config) -> usize {
        match self {
            Side::Vision => config.vision_width,
            Side::Text => config.text_width,
        }
    }

    pub(super) fn layers(self, config: &Config) -> usize {
        match self {
            Side::Vision => config.vision_layers,
            Side::Text => config.text_layers,
        }
    }

    pub(super) fn heads(self, config: &Config) -> usize {
        match self {
            Side::Vision => config.vision_heads,
            Side::Text => config.text_heads,
        }
    }

    pub(super) fn bottleneck(self, config: &Config) -> usize {
        match self {
            Side::Vision => config.vision_bottleneck,
            Side::Text => config.text_bottleneck,
        }
    }

    pub(super) fn scale(self, config: &Config) -> f32 {
        match self {
            Side::Vision => config.vision_scale,
            Side::Text => config.text_scale,
        }
    }

    /// What the names of a block's tensors start with.
    pub(super) fn block_prefix(self, block: usize) -> String {
        match self {
            Side::Vision => format!("visual.transformer.resblocks.{block}"),
            Side::Text => format!("transformer.resblocks.{block}"),
        }
    }

    /// What the names of a block's adapter start with.
    pub(super) fn adapter_prefix(self, block: usize) -> String {
        format!("dat.{}.{block}", self.name())
    }
}

#[derive(Default)]
struct Layout {
    specs: Vec<TensorSpec>,
}

impl Layout {
    fn push(&mut self, name: impl Into<String>, shape: &[usize], mean: f32, deviation: f32) {
        let start = Start { mean, deviation };
        self.specs.push(TensorSpec { name: name.into(), shape: shape.to_vec(), start });
    }

    fn normal(&mut self, name: impl Into<String>, shape: &[usize], deviation: f32) {
        self.push(name, shape, 0.0, deviation);
    }

    fn norm(&mut self, prefix: &str, width: usize) {
        self.push(format!("{prefix}.weight"), &[width], 1.0, 0.0);
        self.push(format!("{prefix}.bias"), &[width], 0.0, 0.0);
    }

    fn linear(&mut self, prefix: &str, outputs: usize, inputs: usize, deviation: f32) {
        self.normal(format!("{prefix}.weight"), &[outputs, inputs], deviation);
        self.normal(format!("{prefix}.bias"), &[outputs], 0.0);
    }

    fn vision_ends(&mut self, config: &Config) {
        let width = config.vision_width;
        let deviation = (width as f32).powf(-0.5);
        self.stem(&config.stem);
        let (channels, side) = config.patch_inputs();
        // PyTorch's start of a convolution: uniform within the square root of 1 / its inputs.
        let convolution = ((3 * channels * side * side) as f32).powf(-0.5);
        self.normal("visual.class_embedding", &[width], deviation);
        self.normal("visual.conv1.weight", &[width, channels, side, side], convolution);
        self.normal(VISION_POSITIONS, &[config.patches() + 1, width], deviation);
        self.norm("visual.ln_pre", width);
        self.norm("visual.ln_post", width);
        self.normal("visual.proj", &[width, config.embed], deviation);
    }

    /// A stem of residual stages (ResNet, arXiv 1512.03385): the first is a convolution of 5x5, each
    /// later one two of 3x3 beside a convolution of 1x1. Normalisation over batches belongs to
    /// training only: it is merged into these weights and biases when a backbone is finished.
    fn stem(&mut self, stages: &[usize]) {
        let mut inputs = 3;
        for (stage, &outputs) in stages.iter().enumerate() {
            if stage == 0 {
                self.convolution(&stem_name(stage, "conv"), outputs, inputs, 5);
            } else {
                self.convolution(&stem_name(stage, "conv_1"), outputs, inputs, 3);
                self.convolution(&stem_name(stage, "conv_2"), outputs, outputs, 3);
                self.convolution(&stem_name(stage, "skip"), outputs, inputs, 1);
            }
            inputs = outputs;
        }
    }

    /// He's start, for what a ReLU follows.
    fn convolution(&mut self, prefix: &str, outputs: usize, inputs: usize, side: usize) {
        let deviation = (2.0 / (inputs * side * side) as f32).sqrt();
        self.normal(format!("{prefix}.weight"), &[outputs, inputs, side, side], deviation);
        self.normal(format!("{prefix}.bias"), &[outputs], 0.0);
    }

    fn text_ends(&mut self, config: &Config) {
        let width = config.text_width;
        self.normal(TOKEN_TABLE, &[config.token_rows(), width], SMALL);
        self.normal("positional_embedding", &[config.context, width], SMALL / 2.0);
        self.norm("ln_final", width);
        self.normal("text_projection", &[width, config.embed], (width as f32).powf(-0.5));
    }

    /// CLIP's start: what a block adds to the stream shrinks with the number of blocks.
    fn block(&mut self, prefix: &str, width: usize, layers: usize) {
        let attention = (width as f32).powf(-0.5);
        let projection = attention * (2.0 * layers as f32).powf(-0.5);
        let expansion = (2.0 * width as f32).powf(-0.5);
        self.norm(&format!("{prefix}.ln_1"), width);
        self.normal(format!("{prefix}.attn.in_proj_weight"), &[3 * width, width], attention);
        self.normal(format!("{prefix}.attn.in_proj_bias"), &[3 * width], 0.0);
        self.linear(&format!("{prefix}.attn.out_proj"), width, width, projection);
        self.norm(&format!("{prefix}.ln_2"), width);
        self.linear(&format!("{prefix}.mlp.c_fc"), 4 * width, width, expansion);
        self.linear(&format!("{prefix}.mlp.c_proj"), width, 4 * width, projection);
    }

    fn adapter(&mut self, prefix: &str, width: usize, bottleneck: usize) {
        self.norm(&format!("{prefix}.ln"), width);
        self.linear(&format!("{prefix}.down"), bottleneck, width, SMALL);
        self.linear(&format!("{prefix}.up"), width, bottleneck, SMALL);
    }

    /// Each tower's prompts of all of its blocks, and per block the couplings that carry the other
    /// tower's over.
    fn prompts(&mut self, config: &Config) {
        let (vision, text) = (config.vision_width, config.text_width);
        let layers = config.prompted_layers();
        self.normal(VISION_PROMPTS, &[layers, config.own_vision_prompts(), vision], SMALL);
        self.normal(TEXT_PROMPTS, &[layers, config.own_text_prompts(), text], SMALL);
        for block in 0..layers {
            if config.coupling.into_vision() {
                self.linear(&format!("bpt.text_to_vision.{block}"), vision, text, SMALL);
            }
            if config.coupling.into_text() {
                self.linear(&format!("bpt.vision_to_text.{block}"), text, vision, SMALL);
            }
        }
    }
}

/// What the names of a convolution of the stem start with.
pub(super) fn stem_name(stage: usize, part: &str) -> String {
    format!("visual.stem.{stage}.{part}")
}

/// The vision tower's position table: the class token's row, then the patches row by row.
pub(super) const VISION_POSITIONS: &str = "visual.positional_embedding";
/// The token table.
pub(super) const TOKEN_TABLE: &str = "token_embedding.weight";
/// The vision tower's own prompts.
pub(super) const VISION_PROMPTS: &str = "bpt.vision_prompts";
/// The text tower's own prompts.
pub(super) const TEXT_PROMPTS: &str = "bpt.text_prompts";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_model_has_the_published_counts() {
        let count = |trained: bool| {
            tensors(&Config::vit_b16())
                .iter()
                .filter(|spec| is_trained(&spec.name) == trained)
                .map(|spec| spec.shape.iter().product::<usize>())
                .sum::<usize>()
        };
        assert_eq!((count(false), count(true)), (149_617_664, 12_117_888));
    }
}
