//! The towers as the daemon runs them: everything that no input can change is a constant.
//!
//! Prompts are constant keys and values; the start of a text is a constant prefix; the last block
//! computes only the token that becomes the embedding; an adapter is part of its MLP. `unfolded`
//! writes the same function the long way; tests hold the two against each other.

use super::block::{self, Affine, Block, normalised, wide};
use super::contract::{Opening, close};
use super::fold::{FoldedBlock, Matrix, fold_projection, narrow};
use super::graph::{Graph, Value};
use super::layout::{Side, TOKEN_TABLE, VISION_POSITIONS};
use super::{Config, MASKED, Weights};
use crate::Result;

/// The vision tower as an ONNX model: `pixels` f32 `[N,3,height,width]`, normalised, to `embedding`
/// f32 `[N,embed]` of unit length.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) that names the tensor or setting that does not fit,
/// [`Error::Invalid`](crate::Error::Invalid) where the file would exceed 2 GiB.
pub fn folded_vision(weights: &Weights, config: &Config) -> Result<Vec<u8>> {
    let Opening { graph, input, batch } = Opening::new(weights, config, Side::Vision)?;
    let mut tower = Tower { graph, batch };
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
/// As [`folded_vision`].
pub fn folded_text(weights: &Weights, config: &Config) -> Result<Vec<u8>> {
    let Opening { graph, input, batch } = Opening::new(weights, config, Side::Text)?;
    let mut tower = Tower { graph, batch };
    let mut start = start_of_text(weights, config)?;
    let words = tower.words(weights, config, &input)?;
    let mut x = words.embedded.clone();
    for index in 0..config.text_layers {
        let folded = FoldedBlock::new(&Block::read(weights, config, Side::Text, index)?);
        let mut rows = vec![start.clone()];
        rows.extend(block::prompts(weights, config, Side::Text, index)?);
        if index == 0 {
            add_positions(weights, config, &mut rows[1..])?;
        }
        folded.advance_alone(&mut start);
        tower.graph.enter(format!("text.{index}"));
        x = if index + 1 < config.text_layers {
            tower.block(&folded, &rows, &x, Some(&words.mask))
        } else {
            let last = tower.graph.row_of_each(&x, &words.end);
            tower.last_block(&folded, &rows, [&x, &last], Some(&words.end_mask))
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

/// Text prompts of the first block follow the start of text, so they get positions 1 and up.
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
    /// What to add to the scores [N,heads,M,prefix+M], so that no token sees a later one.
    mask: Value,
    /// Where the end of the text is among the M: [N].
    end: Value,
    /// The mask's row of the end of the text: [N,1,prefix+M].
    end_mask: Value,
}

/// A tower under construction.
struct Tower {
    graph: Graph,
    /// The shape `[N,1,1]`, to repeat constants for the whole batch.
    batch: Value,
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
        let (width, patch) = (config.vision_width, config.patch);
        let graph = &mut self.graph;
        let kernel_shape = [width, 3, patch, patch];
        let kernel = weights.get("visual.conv1.weight", &kernel_shape)?;
        let kernel = graph.floats("conv1", &kernel_shape, kernel);
        let patches = graph.patches(pixels, &kernel, patch);
        let patches = graph.reshape(&patches, &[0, width as i64, -1]);
        let patches = graph.transpose(&patches, &[0, 2, 1]);

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
        let prefix = 1 + config.prompt_tokens();
        let graph = &mut self.graph;
        let ids = graph.slice_at(ids, 1, i64::MAX, 1);
        let end = graph.largest(&ids);
        let zero = graph.ints(&[0]);
        let count = graph.size(&ids, 1);

        let positions = weights.get("positional_embedding", &[config.context, width])?;
        let positions = &positions[prefix * width..][..most * width];
        let positions = graph.floats("positions", &[most, width], positions);
        let positions = graph.slice(&positions, &zero, &count, 0);
        let table = weights.get(TOKEN_TABLE, &[config.token_rows(), width])?;
        let table = graph.floats("tokens", &[config.token_rows(), width], table);
        let rows = match config.rows_of_ids() {
            Some(map) => {
                let map = graph.ints(&map);
                graph.rows(&map, &ids)
            }
            None => ids,
        };
        let tokens = graph.rows(&table, &rows);
        let embedded = graph.add(&tokens, &positions);

        let mask = causal_mask(most, prefix);
        let mask = graph.floats("mask", &[most, prefix + most], &mask);
        let constant = graph.ints(&[prefix as i64]);
        let seen = graph.add(&count, &constant);
        let mask = graph.slice(&mask, &zero, &seen, 1);
        let end_mask = graph.rows(&mask, &end);
        let end_mask = graph.reshape(&end_mask, &[0, 1, -1]);
        let mask = graph.slice(&mask, &zero, &count, 0);
        Ok(Words { embedded, mask, end, end_mask })
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
        let normal = self.graph.normalise(x, width);
        let queries = self.linear("query", &normal, &block.query, &block.query_bias);
        let keys = self.multiply("key", &normal, &block.key);
        let keys = self.prefixed("key", &prefix.keys, width, &keys);
        let values = self.multiply("value", &normal, &block.value);
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
    /// `shares . (n value)` as `(shares . n) value`: no other token needs a key or a value.
    fn last_block(
        &mut self,
        block: &FoldedBlock,
        rows: &[Vec<f64>],
        [x, own]: [&Value; 2],
        mask: Option<&Value>,
    ) -> Value {
        let (width, heads) = (block.width as i64, block.heads as i64);
        let head = width / heads;
        let rows: Vec<f64> = rows.iter().flat_map(|row| normalised(row)).collect();
        let seen = self.graph.normalise(x, block.width);
        let seen = self.prefixed("prefix", &narrow(&rows), block.width, &seen);

        let own_normal = self.graph.normalise(own, block.width);
        let query = self.linear("query", &own_normal, &block.query, &block.query_bias);
        let query = self.graph.reshape(&query, &[0, heads, 1, head]);
        let head_shape = [block.heads, head as usize, block.width];
        let keys = self.graph.floats("key", &head_shape, &block.key.transposed());
        let query = self.graph.matmul(&query, &keys);
        let query = self.graph.reshape(&query, &[0, heads, width]);
        let seen_by_column = self.graph.transpose(&seen, &[0, 2, 1]);
        let mut scores = self.graph.matmul(&query, &seen_by_column);
        if let Some(mask) = mask {
            scores = self.graph.add(&scores, mask);
        }
        let shares = self.graph.softmax(&scores);
        let attended = self.graph.matmul(&shares, &seen);
        let attended = self.graph.reshape(&attended, &[0, heads, 1, width]);
        let head_shape = [block.heads, block.width, head as usize];
        let values = self.graph.floats("value", &head_shape, &block.value.by_head(block.heads));
        let attended = self.graph.matmul(&attended, &values);
        let attended = self.graph.reshape(&attended, &[0, width]);
        self.after_attention(block, own, &attended)
    }

    /// `x` [N,T,width] after rows that are the same for every input: [N,rows+T,width].
    fn prefixed(&mut self, name: &str, rows: &[f32], width: usize, x: &Value) -> Value {
        if rows.is_empty() {
            return x.clone();
        }
        let constant = self.graph.floats(name, &[1, rows.len() / width, width], rows);
        let constant = self.graph.expand(&constant, &self.batch);
        self.graph.concat(&[&constant, x], 1)
    }

    /// Projection, MLP and adapter.
    fn after_attention(&mut self, block: &FoldedBlock, x: &Value, attended: &Value) -> Value {
        let attended = self.linear("out", attended, &block.out, &block.out_bias);
        let x = self.graph.add(x, &attended);
        let normal = self.graph.normalise(&x, block.width);
        let hidden = self.linear("expand", &normal, &block.expand, &block.expand_bias);
        let active = self.activate(block, &hidden);
        let change = self.linear("contract", &active, &block.contract, &block.contract_bias);
        self.graph.add(&x, &change)
    }

    fn activate(&mut self, block: &FoldedBlock, hidden: &Value) -> Value {
        let graph = &mut self.graph;
        if block.bottleneck == 0 {
            return silu(graph, hidden);
        }
        let bottleneck = block.bottleneck as i64;
        let [mlp, adapter] =
            graph.split(hidden, [block.expand.outputs as i64 - bottleneck, bottleneck]);
        let mlp = silu(graph, &mlp);
        let adapter = graph.relu(&adapter);
        graph.concat(&[&mlp, &adapter], -1)
    }

    fn multiply(&mut self, name: &str, x: &Value, matrix: &Matrix) -> Value {
        let weight = self.graph.floats(name, &[matrix.inputs, matrix.outputs], &matrix.weight);
        self.graph.matmul(x, &weight)
    }

    fn linear(&mut self, name: &str, x: &Value, matrix: &Matrix, bias: &[f32]) -> Value {
        let product = self.multiply(name, x, matrix);
        let bias = self.graph.floats(&format!("{name}.bias"), &[matrix.outputs], bias);
        self.graph.add(&product, &bias)
    }

    /// The embedding of the tokens `x` [N,width].
    fn finish(mut self, x: &Value, projection: &[f32], affine: Affine<'_>) -> Result<Vec<u8>> {
        self.graph.enter("embedding");
        let (projection, bias) = fold_projection(projection, affine);
        let normal = self.graph.normalise(x, projection.inputs);
        let embedding = self.linear("projection", &normal, &projection, &bias);
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
