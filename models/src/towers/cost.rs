//! How much the folded towers compute: the products of their matrices, which are nearly all of it.

use super::Config;

/// Floating-point operations of one picture in the folded vision tower: two for each multiplication
/// with its addition. Normalisations, softmax and the like are left out.
pub fn vision_operations(config: &Config) -> u64 {
    let (width, tokens) = (config.vision_width, config.patches() + 1);
    let (channels, side) = config.patch_inputs();
    let patches = product(config.patches(), channels * side * side, width);
    let side = Side {
        width,
        tokens,
        layers: config.vision_layers,
        heads: config.vision_heads,
        hidden: 4 * width + config.vision_bottleneck,
        in_front: [config.prompt_tokens(), 0],
    };
    stem(config) + patches + side.operations(config)
}

/// The same of one text of `length` ids, start and end among them, in the folded text tower.
pub fn text_operations(config: &Config, length: usize) -> u64 {
    let side = Side {
        width: config.text_width,
        // The start of the text is a constant.
        tokens: length.saturating_sub(1),
        layers: config.text_layers,
        heads: config.text_heads,
        hidden: 4 * config.text_width + config.text_bottleneck,
        in_front: [1 + config.prompt_tokens(), 1],
    };
    side.operations(config)
}

/// One tower's blocks.
struct Side {
    width: usize,
    tokens: usize,
    layers: usize,
    heads: usize,
    /// Columns between the two halves of the MLP and of the adapter beside it.
    hidden: usize,
    /// Constant keys and values of blocks with prompts and of those without.
    in_front: [usize; 2],
}

impl Side {
    fn operations(&self, config: &Config) -> u64 {
        let blocks = (0..self.layers).map(|index| {
            let is_prompted = index < config.prompted_layers();
            let seen = self.tokens + self.in_front[usize::from(!is_prompted)];
            if index + 1 < self.layers { self.block(seen) } else { self.last_block(seen) }
        });
        blocks.sum::<u64>() + product(1, self.width, config.embed)
    }

    /// A whole block, whose tokens see `seen`.
    fn block(&self, seen: usize) -> u64 {
        let Self { width, tokens, .. } = *self;
        4 * product(tokens, width, width) + 2 * product(tokens, width, seen) + self.mlp(tokens)
    }

    /// The last one, of one token: its query goes through the keys' matrix, and what it attends to
    /// through that of the values.
    fn last_block(&self, seen: usize) -> u64 {
        let Self { width, heads, .. } = *self;
        4 * product(1, width, width) + 2 * product(heads, width, seen) + self.mlp(1)
    }

    fn mlp(&self, tokens: usize) -> u64 {
        2 * product(tokens, self.width, self.hidden)
    }
}

/// The convolutions in front of the patches, where a model has them.
fn stem(config: &Config) -> u64 {
    let mut inputs = 3;
    let stages = config.stem.iter().enumerate().map(|(stage, &outputs)| {
        let places = (config.height >> (stage + 1)) * (config.width >> (stage + 1));
        // The first has one of 5x5; the others 3x3 twice, and 1x1 beside them.
        let kernels = if stage == 0 { 25 * inputs } else { 10 * inputs + 9 * outputs };
        inputs = outputs;
        product(places, kernels, outputs)
    });
    stages.sum()
}

/// A product of matrices `[rows,inner]` and `[inner,columns]`.
fn product(rows: usize, inner: usize, columns: usize) -> u64 {
    2 * rows as u64 * inner as u64 * columns as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_tower_is_counted_by_hand() {
        let config = Config {
            vision_width: 8,
            vision_layers: 2,
            vision_heads: 2,
            height: 32,
            width: 16,
            text_width: 4,
            text_layers: 1,
            text_heads: 2,
            embed: 6,
            prompts: 1,
            vision_bottleneck: 3,
            text_bottleneck: 0,
            ..Config::vit_b16()
        };
        // Two patches and the class token see each other and two prompts; 35 columns in the MLP.
        let patches = 2 * 768 * 8;
        let block = 4 * 3 * 8 * 8 + 2 * 3 * 8 * 5 + 2 * 3 * 8 * 35;
        let last = 4 * 8 * 8 + 2 * 2 * 8 * 5 + 2 * 8 * 35;
        assert_eq!(vision_operations(&config), 2 * (patches + block + last + 8 * 6));
        // Four tokens behind the start and two prompts, of which the last is computed.
        let last = 4 * 4 * 4 + 2 * 2 * 4 * (4 + 3) + 2 * 4 * 16;
        assert_eq!(text_operations(&config, 5), 2 * (last + 4 * 6));
    }

    #[test]
    fn a_full_tower_is_of_the_known_size() {
        let config = Config::vit_b16();
        assert_eq!(vision_operations(&config) / 100_000_000, 322);
        assert_eq!(text_operations(&config, 69) / 100_000_000, 49);
        let stem = Config { stem: vec![24, 48], ..config.clone() };
        assert!(vision_operations(&stem) > vision_operations(&config));
    }
}
