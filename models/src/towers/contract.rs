//! What a tower looks like from outside: the same for the folded and the unfolded export.

use super::graph::{Element, Graph, Size, Value};
use super::layout::Side;
use super::{Config, Weights};
use crate::Result;

/// A graph with its input declared.
pub(super) struct Opening {
    pub(super) graph: Graph,
    /// Vision: pixels f32 [N,3,height,width]. Text: ids i64 [N,L].
    pub(super) input: Value,
    /// The shape `[N,1,1]`, to repeat constants for the whole batch.
    pub(super) batch: Value,
}

impl Opening {
    /// Checks the weights and starts the graph of a tower.
    pub(super) fn new(weights: &Weights, config: &Config, side: Side) -> Result<Self> {
        weights.check(config)?;
        let mut graph = Graph::new(side.name());
        let many = Size::Named("N");
        let input = match side {
            Side::Vision => {
                let [height, width] = [config.height, config.width].map(Size::Fixed);
                graph.input("pixels", Element::F32, &[many, Size::Fixed(3), height, width])
            }
            Side::Text => graph.input("ids", Element::I64, &[many, Size::Named("L")]),
        };
        let size = graph.size(&input, 0);
        let ones = graph.ints(&[1, 1]);
        let batch = graph.concat(&[&size, &ones], 0);
        Ok(Self { graph, input, batch })
    }
}

/// Scales vectors `[N,embed]` to unit length, makes them the output `embedding` and writes the
/// model.
pub(super) fn close(mut graph: Graph, embedding: &Value, embed: usize) -> Result<Vec<u8>> {
    let embedding = graph.unit_length(embedding);
    graph.output("embedding", &embedding, &[Size::Named("N"), Size::Fixed(embed)]);
    graph.finish()
}
