//! The towers written out as the reference computes them: prompts are tokens that go through every
//! block and are replaced in each, adapters stand beside their MLPs, nothing is merged.
//!
//! Slower than `folded` and equal to it; tests and benchmarks hold the two against each other.

use super::arithmetic::Arithmetic;
use super::block::{self, Affine, Block, Linear};
use super::contract::{Opening, close};
use super::fold::narrow;
use super::graph::{Graph, Value};
use super::layout::{Side, TOKEN_TABLE, VISION_POSITIONS};
use super::{Config, MASKED, PromptPlace, Weights, stem};
use crate::{Result, manifest::Precision};

/// The vision tower with the inputs and outputs of [`folded_vision`](super::folded_vision).
///
/// # Errors
/// As [`folded_vision`](super::folded_vision).
pub fn unfolded_vision(weights: &Weights, config: &Config) -> Result<Vec<u8>> {
    let Opening { graph, input: pixels, batch } = Opening::new(weights, config, Side::Vision)?;
    let mut tower = Tower { graph, weights, config, side: Side::Vision, batch };
    let tokens = tower.patches(&pixels)?;
    let mut x = match tower.prompts(0)? {
        Some(prompts) => tower.graph.concat(&[&tokens, &prompts], 1),
        None => tokens,
    };
    x = tower.layer_norm("visual.ln_pre", &x)?;
    for index in 0..config.vision_layers {
        if index > 0 && index <= config.prompted_layers() {
            let kept = tower.graph.slice_at(&x, 0, config.patches() as i64 + 1, 1);
            x = match tower.prompts(index)? {
                Some(prompts) => tower.graph.concat(&[&kept, &prompts], 1),
                None => kept,
            };
        }
        x = tower.block(index, &x, None)?;
    }
    x = tower.layer_norm("visual.ln_post", &x)?;
    let class = tower.graph.entry(&x, 0, config.vision_width);
    tower.finish(&class, "visual.proj")
}

/// The text tower with the inputs and outputs of [`folded_text`](super::folded_text).
///
/// # Errors
/// As [`folded_vision`](super::folded_vision).
pub fn unfolded_text(weights: &Weights, config: &Config) -> Result<Vec<u8>> {
    let Opening { graph, input: ids, batch } = Opening::new(weights, config, Side::Text)?;
    let mut tower = Tower { graph, weights, config, side: Side::Text, batch };
    let mut x = tower.tokens(&ids)?;
    // Prompts in positions take them from the words; those of a prefix have none.
    if config.prompt_place == PromptPlace::Prefix {
        x = tower.add_positions(&ids, &x)?;
    }
    x = tower.with_text_prompts(0, &x)?;
    if config.prompt_place == PromptPlace::Inserted {
        x = tower.add_positions(&ids, &x)?;
    }
    let masks = [0, config.prompt_tokens()].map(|prompts| tower.mask(&ids, prompts));
    for index in 0..config.text_layers {
        if index > 0 {
            x = tower.with_text_prompts(index, &x)?;
        }
        let mask = &masks[usize::from(tower.prompts_within(index) > 0)];
        x = tower.block(index, &x, Some(mask))?;
    }
    x = tower.layer_norm("ln_final", &x)?;
    let end = tower.graph.largest(&ids);
    let inserted = tower.prompts_within(config.text_layers - 1);
    let inserted = tower.graph.ints(&[inserted as i64]);
    let end = tower.graph.add(&end, &inserted);
    let end = tower.graph.row_of_each(&x, &end);
    tower.finish(&end, "text_projection")
}

/// A tower under construction.
struct Tower<'a> {
    graph: Graph,
    weights: &'a Weights,
    config: &'a Config,
    side: Side,
    /// The shape `[N,1,1]`, to repeat constants for the whole batch.
    batch: Value,
}

impl Tower<'_> {
    fn constant(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        let values = self.weights.get(name, shape)?;
        Ok(self.graph.floats(name, shape, values))
    }

    /// Class token and patches with their positions: [N,1+patches,width].
    fn patches(&mut self, pixels: &Value) -> Result<Value> {
        let width = self.config.vision_width;
        let exact = Arithmetic::new(Precision::F32);
        let patches = stem::patches(&mut self.graph, exact, self.weights, self.config, pixels)?;
        let class = self.constant("visual.class_embedding", &[width])?;
        let class = self.graph.reshape(&class, &[1, 1, width as i64]);
        let class = self.graph.expand(&class, &self.batch);
        let tokens = self.graph.concat(&[&class, &patches], 1);
        let positions = self.constant(VISION_POSITIONS, &[self.config.patches() + 1, width])?;
        Ok(self.graph.add(&tokens, &positions))
    }

    /// The embeddings of `ids` [N,L]: [N,L,width].
    fn tokens(&mut self, ids: &Value) -> Result<Value> {
        let table =
            self.constant(TOKEN_TABLE, &[self.config.token_rows(), self.config.text_width])?;
        Ok(match self.config.rows_of_ids() {
            Some(map) => {
                let map = self.graph.ints(&map);
                let rows = self.graph.rows(&map, ids);
                self.graph.rows(&table, &rows)
            }
            None => self.graph.rows(&table, ids),
        })
    }

    /// Prompts between the tokens of a text that go through a block.
    fn prompts_within(&self, index: usize) -> usize {
        if index < self.config.prompted_layers() { self.config.prompt_tokens() } else { 0 }
    }

    /// The L ids and `inserted` prompts, a vector of one number.
    fn length(&mut self, ids: &Value, inserted: usize) -> Value {
        let inserted = self.graph.ints(&[inserted as i64]);
        let length = self.graph.size(ids, 1);
        self.graph.add(&length, &inserted)
    }

    fn add_positions(&mut self, ids: &Value, x: &Value) -> Result<Value> {
        let shape = [self.config.context, self.config.text_width];
        let positions = self.constant("positional_embedding", &shape)?;
        let zero = self.graph.ints(&[0]);
        let length = self.length(ids, self.config.prompt_positions());
        let positions = self.graph.slice(&positions, &zero, &length, 0);
        Ok(self.graph.add(x, &positions))
    }

    /// Causal mask of the L ids and the prompts between them.
    fn mask(&mut self, ids: &Value, prompts: usize) -> Value {
        let most = self.config.context + prompts;
        let zero = self.graph.ints(&[0]);
        let length = self.length(ids, prompts);
        let mask: Vec<f32> = (0..most * most)
            .map(|cell| if cell % most > cell / most { MASKED } else { 0.0 })
            .collect();
        let mask = self.graph.floats("mask", &[most, most], &mask);
        let mask = self.graph.slice(&mask, &zero, &length, 0);
        self.graph.slice(&mask, &zero, &length, 1)
    }

    /// The prompts of a block for the whole batch: [N,prompts,width].
    fn prompts(&mut self, index: usize) -> Result<Option<Value>> {
        let rows = block::prompts(self.weights, self.config, self.side, index)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let shape = [1, rows.len(), self.side.width(self.config)];
        let rows = self.graph.floats("prompts", &shape, &narrow(&rows.concat()));
        Ok(Some(self.graph.expand(&rows, &self.batch)))
    }

    /// Puts a block's prompts after the first token, in place of those of the block before.
    fn with_text_prompts(&mut self, index: usize, x: &Value) -> Result<Value> {
        let old = index.checked_sub(1).map_or(0, |before| self.prompts_within(before));
        let prompts = self.prompts(index)?;
        if old == 0 && prompts.is_none() {
            return Ok(x.clone());
        }
        let start = self.graph.slice_at(x, 0, 1, 1);
        let words = self.graph.slice_at(x, 1 + old as i64, i64::MAX, 1);
        let parts: Vec<&Value> = [&start].into_iter().chain(&prompts).chain([&words]).collect();
        Ok(self.graph.concat(&parts, 1))
    }

    fn block(&mut self, index: usize, x: &Value, mask: Option<&Value>) -> Result<Value> {
        let block = Block::read(self.weights, self.config, self.side, index)?;
        self.graph.enter(format!("{}.{index}", self.side.name()));
        let attended = self.attention(&block, x, mask);
        let x = self.graph.add(x, &attended);
        let normal = self.norm(&x, block.ln_2);
        let hidden = self.linear(&normal, &block.expansion);
        let factor = self.graph.floats("quick_gelu", &[1], &[1.702]);
        let gate = self.graph.mul(&hidden, &factor);
        let gate = self.graph.sigmoid(&gate);
        let hidden = self.graph.mul(&hidden, &gate);
        let change = self.linear(&hidden, &block.contraction);
        let sum = self.graph.add(&x, &change);
        let Some(adapter) = &block.adapter else { return Ok(sum) };
        let normal = self.norm(&x, adapter.ln);
        let hidden = self.linear(&normal, &adapter.down);
        let hidden = self.graph.relu(&hidden);
        let change = self.linear(&hidden, &adapter.up);
        let scale = self.graph.floats("scale", &[1], &[adapter.scale]);
        let change = self.graph.mul(&change, &scale);
        Ok(self.graph.add(&sum, &change))
    }

    fn attention(&mut self, block: &Block<'_>, x: &Value, mask: Option<&Value>) -> Value {
        let (width, heads) = (block.width as i64, block.heads as i64);
        let normal = self.norm(x, block.ln_1);
        let all = self.linear(&normal, &block.attention);
        let graph = &mut self.graph;
        let parts = graph.split(&all, [width; 3]);
        let [queries, keys, values] =
            parts.map(|part| graph.reshape(&part, &[0, 0, heads, width / heads]));
        let queries = graph.transpose(&queries, &[0, 2, 1, 3]);
        let scale = (block.head_width() as f32).powf(-0.5);
        let scale = graph.floats("scale", &[1], &[scale]);
        let queries = graph.mul(&queries, &scale);
        let keys = graph.transpose(&keys, &[0, 2, 3, 1]);
        let values = graph.transpose(&values, &[0, 2, 1, 3]);
        let mut scores = graph.matmul(&queries, &keys);
        if let Some(mask) = mask {
            scores = graph.add(&scores, mask);
        }
        let shares = graph.softmax(&scores);
        let attended = graph.matmul(&shares, &values);
        let attended = graph.transpose(&attended, &[0, 2, 1, 3]);
        let attended = graph.reshape(&attended, &[0, 0, width]);
        self.linear(&attended, &block.projection)
    }

    fn linear(&mut self, x: &Value, linear: &Linear<'_>) -> Value {
        let shape = [linear.inputs, linear.outputs];
        let weight = self.graph.floats("weight", &shape, &linear.transposed(|_, weight| weight));
        let bias = self.graph.floats("bias", &[linear.outputs], linear.bias);
        let product = self.graph.matmul(x, &weight);
        self.graph.add(&product, &bias)
    }

    fn layer_norm(&mut self, prefix: &str, x: &Value) -> Result<Value> {
        let affine = Affine::read(self.weights, prefix, self.side.width(self.config))?;
        Ok(self.norm(x, affine))
    }

    fn norm(&mut self, x: &Value, affine: Affine<'_>) -> Value {
        let scale = self.graph.floats("norm.weight", &[affine.weight.len()], affine.weight);
        let shift = self.graph.floats("norm.bias", &[affine.bias.len()], affine.bias);
        self.graph.layer_norm(x, &scale, &shift)
    }

    /// The embedding of the tokens `x` [N,width].
    fn finish(mut self, x: &Value, projection: &str) -> Result<Vec<u8>> {
        self.graph.enter("embedding");
        let shape = [self.side.width(self.config), self.config.embed];
        let projection = self.constant(projection, &shape)?;
        let embedding = self.graph.matmul(x, &projection);
        close(self.graph, &embedding, self.config.embed)
    }
}
