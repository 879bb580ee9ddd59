//! The shapes of a two-tower model.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which towers' prompts are carried over into the other one (`cskt.md` 1.2; MaPLe, arXiv 2210.03117,
/// has the first direction only). What is not carried over is replaced by prompts of the tower's own,
/// so that each tower sees as many prompts in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coupling {
    /// Each tower's into the other, as published.
    #[default]
    Both,
    /// Text prompts into the vision tower.
    TextToVision,
    /// Vision prompts into the text tower.
    VisionToText,
    /// None: all prompts are free.
    None,
}

impl Coupling {
    /// Whether text prompts are carried into the vision tower.
    pub fn into_vision(self) -> bool {
        matches!(self, Coupling::Both | Coupling::TextToVision)
    }

    /// Whether vision prompts are carried into the text tower.
    pub fn into_text(self) -> bool {
        matches!(self, Coupling::Both | Coupling::VisionToText)
    }
}

/// Where the text tower's prompts stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptPlace {
    /// In positions after start of text, which they take from the words, as published.
    #[default]
    Inserted,
    /// In no position: more keys and values in front, for more prompts than positions can hold.
    Prefix,
}

/// Shapes and constants of a CSKT model (arXiv 2309.09496): a CLIP ViT with bidirectional prompts
/// and parallel adapters. Zero `prompts` or bottlenecks mean that the part is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Width of the vision tower, for example 768.
    pub vision_width: usize,
    /// Blocks of the vision tower.
    pub vision_layers: usize,
    /// Attention heads of the vision tower.
    pub vision_heads: usize,
    /// Side of a square patch in pixels; also the stride.
    pub patch: usize,
    /// Height of the input in pixels, a multiple of `patch`.
    pub height: usize,
    /// Width of the input in pixels, a multiple of `patch`.
    pub width: usize,
    /// Width of the text tower, for example 512.
    pub text_width: usize,
    /// Blocks of the text tower.
    pub text_layers: usize,
    /// Attention heads of the text tower.
    pub text_heads: usize,
    /// Number of token ids; the two largest are start and end of text.
    pub vocab: usize,
    /// Positions of the text tower, 77 for CLIP.
    pub context: usize,
    /// Size of the common embedding.
    pub embed: usize,
    /// Prompts per direction and block; each tower sees twice as many. 0: no prompts.
    pub prompts: usize,
    /// Width of the vision adapters' bottleneck. 0: no adapters.
    pub vision_bottleneck: usize,
    /// Width of the text adapters' bottleneck. 0: no adapters.
    pub text_bottleneck: usize,
    /// Scale of the vision adapters' output, 0.1 in the paper.
    pub vision_scale: f32,
    /// Scale of the text adapters' output, 4.0 in the paper.
    pub text_scale: f32,
    /// Where the token table is reduced: the token id of each of its rows, ascending, without the
    /// last row, which stands for every id that is not listed. `None`: a row for each id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// Which prompts are carried over into the other tower.
    #[serde(default, skip_serializing_if = "is_default")]
    pub coupling: Coupling,
    /// Where the text tower's prompts stand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt_place: PromptPlace,
    /// How many of the first blocks have prompts; `None`: all. Later blocks see none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_depth: Option<usize>,
    /// Channels of each stage of a convolutional stem in front of the vision blocks; each stage halves
    /// height and width. Empty: none, as in CLIP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stem: Vec<usize>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Config {
    /// CSKT on CLIP ViT-B/16 at 384x128, as published.
    pub fn vit_b16() -> Self {
        Self {
            vision_width: 768,
            vision_layers: 12,
            vision_heads: 12,
            patch: 16,
            height: 384,
            width: 128,
            text_width: 512,
            text_layers: 12,
            text_heads: 8,
            vocab: 49_408,
            context: 77,
            embed: 512,
            prompts: 4,
            vision_bottleneck: 96,
            text_bottleneck: 64,
            vision_scale: 0.1,
            text_scale: 4.0,
            token_ids: None,
            coupling: Coupling::Both,
            prompt_place: PromptPlace::Inserted,
            prompt_depth: None,
            stem: vec![],
        }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names the first setting that does not fit.
    pub fn validate(&self) -> Result<()> {
        let wrong = |name: &str, reason: String| Err(Error::mismatch(name, reason));
        let positive = [
            ("vision_width", self.vision_width),
            ("vision_layers", self.vision_layers),
            ("vision_heads", self.vision_heads),
            ("patch", self.patch),
            ("height", self.height),
            ("width", self.width),
            ("text_width", self.text_width),
            ("text_layers", self.text_layers),
            ("text_heads", self.text_heads),
            ("embed", self.embed),
        ];
        // Far above any model that exists; keeps a hostile manifest from asking for terabytes.
        const LARGEST: usize = 1 << 20;
        const MOST_LAYERS: usize = 1 << 10;
        const MOST_POSITIONS: usize = 1 << 14;
        for (name, value) in positive {
            if value == 0 || value > LARGEST {
                return wrong(name, format!("{value} is not between 1 and {LARGEST}"));
            }
        }
        for (name, value, most) in [
            ("vision_layers", self.vision_layers, MOST_LAYERS),
            ("text_layers", self.text_layers, MOST_LAYERS),
            ("prompts", self.prompts, MOST_POSITIONS),
            ("context", self.context, MOST_POSITIONS),
            ("vision_bottleneck", self.vision_bottleneck, LARGEST),
            ("text_bottleneck", self.text_bottleneck, LARGEST),
        ] {
            if value > most {
                return wrong(name, format!("{value} is above {most}"));
            }
        }
        for (name, side) in [("height", self.height), ("width", self.width)] {
            if side % self.patch != 0 {
                return wrong(name, format!("{side} is no multiple of the patch {}", self.patch));
            }
        }
        if self.patches() > MOST_POSITIONS {
            return wrong(
                "patch",
                format!("{} patches are above {MOST_POSITIONS}", self.patches()),
            );
        }
        self.validate_stem()?;
        let fewest = self.vision_layers.min(self.text_layers);
        if self.prompts > 0 && self.prompt_depth.is_none() && self.vision_layers != self.text_layers
        {
            return wrong(
                "prompts",
                "prompts couple the towers block by block, so that both must \
                                     have as many layers; or set `prompt_depth`"
                    .into(),
            );
        }
        if let Some(depth) = self.prompt_depth
            && (depth == 0 || depth > fewest)
        {
            return wrong("prompt_depth", format!("{depth} is not between 1 and {fewest} blocks"));
        }
        for (name, width, heads) in [
            ("vision_heads", self.vision_width, self.vision_heads),
            ("text_heads", self.text_width, self.text_heads),
        ] {
            if width % heads != 0 {
                return wrong(
                    name,
                    format!("a width of {width} does not split into {heads} heads"),
                );
            }
        }
        if self.vocab < 3 || self.vocab > LARGEST {
            return wrong("vocab", format!("{} is not between 3 and {LARGEST}", self.vocab));
        }
        if self.word_limit() == 0 {
            return wrong("context", format!("{} positions leave no room for words", self.context));
        }
        for (name, scale) in [("vision_scale", self.vision_scale), ("text_scale", self.text_scale)]
        {
            if !scale.is_finite() {
                return wrong(name, format!("{scale} is no finite number"));
            }
        }
        if let Some(ids) = &self.token_ids {
            let ascending = ids.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || ids.last().is_none_or(|&last| last as usize >= self.vocab) {
                return wrong(
                    "token_ids",
                    format!("must be ascending ids below the vocabulary of {}", self.vocab),
                );
            }
            for special in [self.start_of_text(), self.end_of_text()] {
                if ids.binary_search(&special).is_err() {
                    return wrong("token_ids", format!("the special id {special} is missing"));
                }
            }
        }
        Ok(())
    }

    fn validate_stem(&self) -> Result<()> {
        /// 2 to the power of this is already more than any patch.
        const MOST_STAGES: usize = 8;
        const MOST_CHANNELS: usize = 1 << 14;
        let wrong = |reason: String| Err(Error::mismatch("stem", reason));
        if self.stem.len() > MOST_STAGES {
            return wrong(format!("{} stages are above {MOST_STAGES}", self.stem.len()));
        }
        if let Some(channels) = self.stem.iter().find(|c| **c == 0 || **c > MOST_CHANNELS) {
            return wrong(format!("{channels} channels are not between 1 and {MOST_CHANNELS}"));
        }
        if !self.patch.is_multiple_of(1 << self.stem.len()) {
            return wrong(format!(
                "{} stages shrink by {}, which does not divide the patch of {}",
                self.stem.len(),
                1 << self.stem.len(),
                self.patch
            ));
        }
        Ok(())
    }

    /// Prompts that each tower sees in a block that has any: own and transferred.
    pub fn prompt_tokens(&self) -> usize {
        2 * self.prompts
    }

    /// Blocks with prompts, from the first on.
    pub fn prompted_layers(&self) -> usize {
        match self.prompts {
            0 => 0,
            _ => self.prompt_depth.unwrap_or(self.vision_layers),
        }
    }

    /// Prompts of the text tower's own in each block.
    pub fn own_text_prompts(&self) -> usize {
        if self.coupling.into_text() { self.prompts } else { 2 * self.prompts }
    }

    /// Prompts of the vision tower's own in each block.
    pub fn own_vision_prompts(&self) -> usize {
        if self.coupling.into_vision() { self.prompts } else { 2 * self.prompts }
    }

    /// Positions of a text that prompts take from the words.
    pub fn prompt_positions(&self) -> usize {
        match self.prompt_place {
            PromptPlace::Inserted => self.prompt_tokens(),
            PromptPlace::Prefix => 0,
        }
    }

    /// Words (BPE tokens) a text can hold: 67 for CLIP's 77 positions and eight prompts.
    pub fn word_limit(&self) -> usize {
        self.context.saturating_sub(2 + self.prompt_positions())
    }

    /// Channels that the projection into the vision blocks reads, and the side of its kernel.
    pub fn patch_inputs(&self) -> (usize, usize) {
        (self.stem.last().copied().unwrap_or(3), self.patch >> self.stem.len().min(63))
    }

    /// Patches of a picture.
    pub fn patches(&self) -> usize {
        (self.height / self.patch) * (self.width / self.patch)
    }

    /// Rows of the token table.
    pub fn token_rows(&self) -> usize {
        self.token_ids.as_ref().map_or(self.vocab, |ids| ids.len() + 1)
    }

    /// The row of a token id in the token table; unknown ids share the last row.
    pub fn token_row(&self, id: u32) -> usize {
        match &self.token_ids {
            Some(ids) => ids.binary_search(&id).unwrap_or(ids.len()),
            None => id as usize,
        }
    }

    /// Where the token table is reduced: the row of every id of the vocabulary.
    pub(super) fn rows_of_ids(&self) -> Option<Vec<i64>> {
        let ids = self.token_ids.as_ref()?;
        let mut rows = vec![ids.len() as i64; self.vocab];
        for (row, &id) in ids.iter().enumerate() {
            if let Some(entry) = rows.get_mut(id as usize) {
                *entry = row as i64;
            }
        }
        Some(rows)
    }

    /// The id that starts every text.
    pub fn start_of_text(&self) -> u32 {
        (self.vocab - 2) as u32
    }

    /// The id that ends every text: the largest, which is how its position is found.
    pub fn end_of_text(&self) -> u32 {
        (self.vocab - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_shapes_fit() {
        let config = Config::vit_b16();
        config.validate().unwrap();
        assert_eq!((config.patches(), config.word_limit(), config.token_rows()), (192, 67, 49_408));
    }

    #[test]
    fn absurd_numbers_are_refused_by_name() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 19] = [
            ("vision_width", |c| c.vision_width = 0),
            ("text_width", |c| c.text_width = usize::MAX),
            ("vision_layers", |c| c.vision_layers = 1 << 19),
            ("prompts", |c| c.prompts = usize::MAX),
            ("prompts", |c| c.text_layers = 11),
            ("prompt_depth", |c| c.prompt_depth = Some(13)),
            ("prompt_depth", |c| c.prompt_depth = Some(0)),
            ("stem", |c| c.stem = vec![8; 5]),
            ("stem", |c| c.stem = vec![8, 0]),
            ("context", |c| c.context = 10),
            ("context", |c| c.context = usize::MAX),
            ("vision_bottleneck", |c| c.vision_bottleneck = usize::MAX),
            ("height", |c| c.height = 385),
            ("patch", |c| (c.patch, c.height, c.width) = (1, 1 << 20, 1 << 20)),
            ("text_heads", |c| c.text_heads = 7),
            ("vocab", |c| c.vocab = 2),
            ("text_scale", |c| c.text_scale = f32::NAN),
            ("token_ids", |c| c.token_ids = Some(vec![5, 5, 49_406, 49_407])),
            ("token_ids", |c| c.token_ids = Some(vec![5, 49_407])),
        ];
        for (name, change) in cases {
            let mut config = Config::vit_b16();
            change(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{name}: ")), "{name}: {message}");
        }
    }

    #[test]
    fn prompts_as_a_prefix_take_no_words() {
        let config = Config { prompts: 64, prompt_place: PromptPlace::Prefix, ..Config::vit_b16() };
        config.validate().unwrap();
        assert_eq!((config.word_limit(), config.prompt_tokens()), (75, 128));
        let one_way = Config { coupling: Coupling::TextToVision, ..Config::vit_b16() };
        assert_eq!((one_way.own_text_prompts(), one_way.own_vision_prompts()), (8, 4));
    }

    #[test]
    fn a_reduced_table_maps_every_id() {
        let config = Config { vocab: 6, token_ids: Some(vec![1, 4, 5]), ..Config::vit_b16() };
        config.validate().unwrap();
        assert_eq!(config.rows_of_ids().unwrap(), [3, 0, 3, 3, 1, 2]);
        assert_eq!([1, 2, 4].map(|id| config.token_row(id)), [0, 3, 1]);
    }
}
