//! The towers as the daemon runs them: everything that no input can change is a constant.
//!
//! Prompts are constant keys and values; the start of a text is a constant prefix; the last block
//! computes only the token that becomes the embedding; an adapter is part of its MLP. `unfolded`
//! writes the same function the long way; tests hold the two against each other.

use super::arithmetic::{Arithmetic, Operand};
use super::block::{self, Affine, Block, normalised, wide};
use super::contract::{Opening, close};
use super::fold::{FoldedBlock, Matrix, fold_projection, narrow};
use super::graph::{Graph, Value};
use super::layout::{Side, TOKEN_TABLE, VISION_POSITIONS};
use super::{Config, MASKED, Weights, stem};
use crate::{Result, manifest::Precision};

/// [`vision_tower`] in f32.
///
/// # Errors
/// As [`vision_tower`].
pub fn folded_vision(weights: &Weights, config: &Config) -> Result<Vec<u8>> {
    vision_tower(weights, config, Precision::F32)
}

/// [`text_tower`] in f32.
///
/// # Errors
/// As [`vision_tower`].
pub fn folded_text(weights: &Weights, config: &Config) -> Result<Vec<u8>> {
    text_tower(weights, config, Precision::F32)
}

/// The vision tower as an ONNX model: `pixels` f32 `[N,3,height,width]`, normalised, to `embedding`
/// f32 `[N,embed]` of unit length, whatever the precision in between.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) that names the tensor or setting that does not fit, or
/// where f16 cannot hold a weight, [`Error::Invalid`](crate::Error::Invalid) where the file would
/// exceed 2 GiB.
pub fn vision_tower(weights: &Weights, config: &Config, precision: Precision) -> Result<Vec<u8>> {
    let Opening { graph, input, batch } = Opening::new(weights, config, Side::Vision)?;
    let mut tower = Tower { graph, batch, arithmetic: Arithmetic::new(precision) };
    let ln_pre = Affine::read(weights, "visual.ln_pre", config.vision_width)?;
    let mut x = tower.patches(weights, config, &input, ln_pre)?;
    for index in 0..config.vision_layers {
        let folded = FoldedBlock::new(&Block::read(weights, config, Side::Vision, index)?);
        let mut rows = block::prompts(weights, config, Side::Vision, index)?;
        if index == 0 {
            rows = rows.iter().map(|row| ln_pre.apply(row)).collect();
        }
        tower.graph.enter(format!("vision.{index}"));
        x = if index + 1 < config.vision_layers {
            tower.block(&folded, &rows, &x, None)
        } else {
            let class = tower.graph.entry(&x, 0, config.vision_width);
            tower.last_block(&folded, &rows, [&x, &class], None)
        };
    }
    let ln_post = Affine::read(weights, "visual.ln_post", config.vision_width)?;
    let projection = weights.get("visual.proj", &[config.vision_width, config.embed])?;
    tower.finish(&x, projection, ln_post)
}

/// The text tower as an ONNX model: `ids` i64 `[N,L]` (start of text, at most
/// [`Config::word_limit`] words, end of text, zeros) to `embedding` f32 `[N,embed]` of unit length.
/// `L` is at least 2; padding costs time and changes nothing.
///
/// # Errors
/// As [`vision_tower`].
pub fn text_tower(weights: &Weights, config: &Config, precision: Precision) -> Result<Vec<u8>> {
    let Opening { graph, input, batch } = Opening::new(weights, config, Side::Text)?;
    let mut tower = Tower { graph, batch, arithmetic: Arithmetic::new(precision) };
    let mut start = start_of_text(weights, config)?;
    let words = tower.words(weights, config, &input)?;
    let mut x = words.embedded.clone();
    for index in 0..config.text_layers {
        let folded = FoldedBlock::new(&Block::read(weights, config, Side::Text, index)?);
        let mut rows = vec![start.clone()];
        rows.extend(block::prompts(weights, config, Side::Text, index)?);
        if index == 0 {
            add_positions(weights, config, &mut rows[1..][..config.prompt_positions()])?;
        }
        folded.advance_alone(&mut start);
        tower.graph.enter(format!("text.{index}"));
        let mask = words.mask(rows.len());
        x = if index + 1 < config.text_layers {
            tower.block(&folded, &rows, &x, mask.map(|mask| &mask.all))
        } else {
            let last = tower.graph.row_of_each(&x, &words.end);
            tower.last_block(&folded, &rows, [&x, &last], mask.map(|mask| &mask.end))
        };
    }
    let ln_final = Affine::read(weights, "ln_final", config.text_width)?;
    let projection = weights.get("text_projection", &[config.text_width, config.embed])?;
    tower.finish(&x, projection, ln_final)
}

/// The first token as it enters the first block: nothing in a text can change it.
fn start_of_text(weights: &Weights, config: &Config) -> Result<Vec<f64>> {
    let width = config.text_width;
    let table = weights.get(TOKEN_TABLE, &[config.token_rows(), width])?;
    let mut start = wide(&table[config.token_row(config.start_of_text()) * width..][..width]);
    let positions = weights.get("positional_embedding", &[config.context, width])?;
    start.iter_mut().zip(positions).for_each(|(x, position)| *x += f64::from(*position));
    Ok(start)
}

/// Text prompts of the first block that stand in positions get those from 1 on.
fn add_positions(weights: &Weights, config: &Config, prompts: &mut [Vec<f64>]) -> Result<()> {
    let width = config.text_width;
    let positions = weights.get("positional_embedding", &[config.context, width])?;
    for (prompt, position) in prompts.iter_mut().zip(positions.chunks_exact(width).skip(1)) {
        prompt.iter_mut().zip(position).for_each(|(x, position)| *x += f64::from(*position));
    }
    Ok(())
}

/// What the text tower derives from its input.
struct Words {
    /// Words, end of text and padding, with positions: [N,M,width], where M = L - 1.
    embedded: Value,
    /// Where the end of the text is among the M: [N].
    end: Value,
    /// One for each number of rows in front of the words that occurs.
    masks: Vec<Mask>,
}

impl Words {
    /// The mask of a block with this many rows in front.
    fn mask(&self, prefix: usize) -> Option<&Mask> {
        self.masks.iter().find(|mask| mask.prefix == prefix)
    }
}

/// What to add to scores, so that no token sees a later one.
struct Mask {
    /// Rows in front of the words, which every token sees.
    prefix: usize,
    /// For scores [N,heads,M,prefix+M].
    all: Value,
    /// The row of the end of the text: [N,1,prefix+M].
    end: Value,
}

/// A tower under construction.
struct Tower {
    graph: Graph,
    /// The shape `[N,1,1]`, to repeat constants for the whole batch.
    batch: Value,
    arithmetic: Arithmetic,
}

impl Tower {
    /// The class token and the patches as they enter the first block: [N,1+patches,width].
    fn patches(
        &mut self,
        weights: &Weights,
        config: &Config,
        pixels: &Value,
        ln_pre: Affine<'_>,
    ) -> Result<Value> {
        let width = config.vision_width;
        let graph = &mut self.graph;
        let patches = stem::patches(graph, self.arithmetic, weights, config, pixels)?;
        let table = weights.get(VISION_POSITIONS, &[config.patches() + 1, width])?;
        let (class_position, positions) = table.split_at(width);
        let positions = graph.floats("positions", &[1, config.patches(), width], positions);
        let patches = graph.add(&patches, &positions);
        let scale = graph.floats("ln_pre.weight", &[width], ln_pre.weight);
        let shift = graph.floats("ln_pre.bias", &[width], ln_pre.bias);
        let patches = graph.layer_norm(&patches, &scale, &shift);

        let class = weights.get("visual.class_embedding", &[width])?;
        let class = class.iter().zip(class_position).map(|(a, b)| f64::from(*a) + f64::from(*b));
        let class = narrow(&ln_pre.apply(&class.collect::<Vec<_>>()));
        let class = graph.floats("class", &[1, 1, width], &class);
        let class = graph.expand(&class, &self.batch);
        Ok(graph.concat(&[&class, &patches], 1))
    }

    /// Embeds the words and prepares the masks. The first id, the start of the text, is not read:
    /// it is part of the constants.
    fn words(&mut self, weights: &Weights, config: &Config, ids: &Value) -> Result<Words> {
        let (width, most) = (config.text_width, config.word_limit() + 1);
        let graph = &mut self.graph;
        let ids = graph.slice_at(ids, 1, i64::MAX, 1);
        let end = graph.largest(&ids);
        let zero = graph.ints(&[0]);
        let count = graph.size(&ids, 1);

        let positions = weights.get("positional_embedding", &[config.context, width])?;
        let positions = &positions[(1 + config.prompt_positions()) * width..][..most * width];
        let positions = graph.floats("positions", &[most, width], positions);
        let positions = graph.slice(&positions, &zero, &count, 0);
        let rows = match config.rows_of_ids() {
            Some(map) => {
                let map = graph.ints(&map);
                graph.rows(&map, &ids)
            }
            None => ids,
        };
        let shape = [config.token_rows(), width];
        let table = weights.get(TOKEN_TABLE, &shape)?;
        let tokens = self.arithmetic.look_up(graph, table, shape, &rows);
        let embedded = graph.add(&tokens, &positions);

        // The start of text is in front of the words of every block, prompts in some.
        let mut prefixes = vec![1];
        if config.prompted_layers() > 0 {
            prefixes.push(1 + config.prompt_tokens());
        }
        let masks = prefixes.iter().map(|&prefix| self.mask(prefix, most, &count, &end));
        Ok(Words { embedded, masks: masks.collect(), end })
    }

    /// The mask of `count` (a vector of one number) of at most `most` words, the last being `end`, [N].
    fn mask(&mut self, prefix: usize, most: usize, count: &Value, end: &Value) -> Mask {
        let graph = &mut self.graph;
        let mask = causal_mask(most, prefix);
        let mask = self.arithmetic.constant(graph, "mask", &[most, prefix + most], &mask);
        let (zero, constant) = (graph.ints(&[0]), graph.ints(&[prefix as i64]));
        let seen = graph.add(count, &constant);
        let mask = graph.slice(&mask, &zero, &seen, 1);
        let end = graph.rows(&mask, end);
        let end = graph.reshape(&end, &[0, 1, -1]);
        Mask { prefix, all: graph.slice(&mask, &zero, count, 0), end }
    }

    /// A whole block: [N,T,width] to the same.
    fn block(
        &mut self,
        block: &FoldedBlock,
        rows: &[Vec<f64>],
        x: &Value,
        mask: Option<&Value>,
    ) -> Value {
        let width = block.width;
        let prefix = block.prefix(rows);
        let normal = self.normalised_operand(x, width);
        let queries = self.linear("query", &normal, &block.query, &block.query_bias);
        let keys = self.arithmetic.multiply(&mut self.graph, "key", &normal, &block.key);
        let keys = self.prefixed("key", &prefix.keys, width, &keys);
        let values = self.arithmetic.multiply(&mut self.graph, "value", &normal, &block.value);
        let values = self.prefixed("value", &prefix.values, width, &values);

        let (graph, head) = (&mut self.graph, width / block.heads);
        let [queries, keys, values] = [queries, keys, values]
            .map(|all| graph.reshape(&all, &[0, 0, block.heads as i64, head as i64]));
        let queries = graph.transpose(&queries, &[0, 2, 1, 3]);
        let keys = graph.transpose(&keys, &[0, 2, 3, 1]);
        let values = graph.transpose(&values, &[0, 2, 1, 3]);
        let mut scores = graph.matmul(&queries, &keys);
        if let Some(mask) = mask {
            scores = graph.add(&scores, mask);
        }
        let shares = graph.softmax(&scores);
        let attended = graph.matmul(&shares, &values);
        let attended = graph.transpose(&attended, &[0, 2, 1, 3]);
        let attended = graph.reshape(&attended, &[0, 0, width as i64]);
        self.after_attention(block, x, &attended)
    }

    /// The last block, for one token of each picture or text only, which is `own` [N,width] of `x`:
    /// [N,width].
    ///
    /// With one query a text or picture, `q . (n key)` is cheaper as `(q key^T) . n`, and
    /// `shares . (n value)` as `(shares . n) value`: no other token needs a key or a value. What is
    /// left of the products is too small to be worth whole numbers.
    fn last_block(
        &mut self,
        block: &FoldedBlock,
        rows: &[Vec<f64>],
        [x, own]: [&Value; 2],
        mask: Option<&Value>,
    ) -> Value {
        let (width, heads) = (block.width as i64, block.heads as i64);
        let (head, arithmetic) = (width / heads, self.arithmetic.unquantised());
        let rows: Vec<f64> = rows.iter().flat_map(|row| normalised(row)).collect();
        let seen = self.normalise(x, block.width);
        let seen = self.prefixed("prefix", &narrow(&rows), block.width, &seen);
        let own_normal = Operand::Whole(self.normalise(own, block.width));

        let graph = &mut self.graph;
        let query = (&block.query, &*block.query_bias);
        let query = arithmetic.linear(graph, "query", &own_normal, query);
        let query = graph.reshape(&query, &[0, heads, 1, head]);
        let shape = [block.heads, head as usize, block.width];
        let keys = arithmetic.constant(graph, "key", &shape, &block.key.transposed());
        let query = graph.matmul(&query, &keys);
        let query = graph.reshape(&query, &[0, heads, width]);
        let seen_by_column = graph.transpose(&seen, &[0, 2, 1]);
        let mut scores = graph.matmul(&query, &seen_by_column);
        if let Some(mask) = mask {
            scores = graph.add(&scores, mask);
        }
        let shares = graph.softmax(&scores);
        let attended = graph.matmul(&shares, &seen);
        let attended = graph.reshape(&attended, &[0, heads, 1, width]);
        let shape = [block.heads, block.width, head as usize];
        let values = block.value.by_head(block.heads);
        let values = arithmetic.constant(graph, "value", &shape, &values);
        let attended = graph.matmul(&attended, &values);
        let attended = graph.reshape(&attended, &[0, width]);
        self.after_attention(block, own, &attended)
    }

    /// `x` [N,T,width] of a branch after rows that are the same for every input: [N,rows+T,width].
    fn prefixed(&mut self, name: &str, rows: &[f32], width: usize, x: &Value) -> Value {
        if rows.is_empty() {
            return x.clone();
        }
        let shape = [1, rows.len() / width, width];
        let constant = self.arithmetic.constant(&mut self.graph, name, &shape, rows);
        let constant = self.graph.expand(&constant, &self.batch);
        self.graph.concat(&[&constant, x], 1)
    }

    /// Projection, MLP and adapter: from the stream `x` and what the branch `attended` to the stream.
    fn after_attention(&mut self, block: &FoldedBlock, x: &Value, attended: &Value) -> Value {
        let attended = self.arithmetic.operand(&mut self.graph, attended);
        let attended = self.linear("out", &attended, &block.out, &block.out_bias);
        let x = self.add_branch(x, &attended);
        let normal = self.normalised_operand(&x, block.width);
        let hidden = self.linear("expand", &normal, &block.expand, &block.expand_bias);
        let change = self.contract(block, &hidden);
        self.add_branch(&x, &change)
    }

    /// The second half of the MLP and of the adapter beside it.
    fn contract(&mut self, block: &FoldedBlock, hidden: &Value) -> Value {
        let arithmetic = self.arithmetic;
        let graph = &mut self.graph;
        let contract = (&block.contract, &*block.contract_bias);
        if block.bottleneck == 0 {
            let active = silu(graph, hidden);
            let active = arithmetic.operand(graph, &active);
            return arithmetic.linear(graph, "contract", &active, contract);
        }
        let mlp_outputs = block.expand.outputs - block.bottleneck;
        let [mlp, adapter] = graph.split(hidden, [mlp_outputs as i64, block.bottleneck as i64]);
        let mlp = silu(graph, &mlp);
        let adapter = graph.relu(&adapter);
        if !arithmetic.is_quantised() {
            let active = Operand::Whole(graph.concat(&[&mlp, &adapter], -1));
            return arithmetic.linear(graph, "contract", &active, contract);
        }
        // An adapter's weights hold its scale, which makes them many times larger than the MLP's: with
        // one scale for both, the MLP's would have few steps.
        let [of_mlp, of_adapter] = block.contract.split_inputs(mlp_outputs);
        let mlp = arithmetic.operand(graph, &mlp);
        let change = arithmetic.linear(graph, "contract", &mlp, (&of_mlp, contract.1));
        let exact = arithmetic.unquantised();
        let other = exact.multiply(graph, "adapter", &Operand::Whole(adapter), &of_adapter);
        graph.add(&change, &other)
    }

    /// The normalised stream, as branches read it.
    fn normalise(&mut self, x: &Value, width: usize) -> Value {
        let normal = self.graph.normalise(x, width);
        self.arithmetic.enter(&mut self.graph, &normal)
    }

    fn normalised_operand(&mut self, x: &Value, width: usize) -> Operand {
        let normal = self.normalise(x, width);
        self.arithmetic.operand(&mut self.graph, &normal)
    }

    /// The stream with what a branch computed.
    fn add_branch(&mut self, x: &Value, change: &Value) -> Value {
        let change = self.arithmetic.leave(&mut self.graph, change);
        self.graph.add(x, &change)
    }

    fn linear(&mut self, name: &str, x: &Operand, matrix: &Matrix, bias: &[f32]) -> Value {
        self.arithmetic.linear(&mut self.graph, name, x, (matrix, bias))
    }

    /// The embedding of the tokens `x` [N,width].
    fn finish(mut self, x: &Value, projection: &[f32], affine: Affine<'_>) -> Result<Vec<u8>> {
        self.graph.enter("embedding");
        let (projection, bias) = fold_projection(projection, affine);
        let normal = Operand::Whole(self.graph.normalise(x, projection.inputs));
        let exact = Arithmetic::new(Precision::F32);
        let embedding = exact.linear(&mut self.graph, "projection", &normal, (&projection, &bias));
        close(self.graph, &embedding, projection.outputs)
    }
}

fn silu(graph: &mut Graph, x: &Value) -> Value {
    let gate = graph.sigmoid(x);
    graph.mul(x, &gate)
}

/// Row `i` lets the token see the prefix and the tokens up to `i`.
fn causal_mask(tokens: usize, prefix: usize) -> Vec<f32> {
    let row = |token: usize| {
        (0..prefix + tokens).map(move |seen| if seen > prefix + token { MASKED } else { 0.0 })
    };
    (0..tokens).flat_map(row).collect()
}
