//! Attention as one node, for a GPU.
//!
//! A tower's file has attention as the products, softmax and transposes that every library runs. On a GPU
//! these cost more than they compute: scores go to memory and come back, and the 201 keys of a picture fit
//! no tensor core. ONNX Runtime's `MultiHeadAttention` keeps scores on the chip (FlashAttention, Dao et
//! al., arXiv 2205.14135). It is put in when a tower is opened, so that the file stays what every
//! library reads.

use std::collections::{HashMap, HashSet};

use prost::Message as _;

use super::onnx::{Attribute, Constant, GraphProto, Model, Node, OperatorSet};
use crate::{Error, Result};

/// The operators of ONNX Runtime's own.
const DOMAIN: &str = "com.microsoft";
/// To [N,heads,T,head] and back.
const BY_HEAD: [i64; 4] = [0, 2, 1, 3];
/// To [N,heads,head,T].
const BY_HEAD_TRANSPOSED: [i64; 4] = [0, 2, 3, 1];

/// The model with attention that has no mask as one node each, and how many these are. A model that is
/// not of our writing comes back as it is, with 0.
///
/// # Errors
/// [`Error::Internal`] where the bytes are no ONNX model.
pub fn fuse_attention(model: &[u8]) -> Result<(Vec<u8>, usize)> {
    let unread = |error| Error::internal("a tower's graph", error);
    let mut decoded = Model::decode(model).map_err(unread)?;
    // What we do not know of ONNX's format would be lost.
    let is_whole = decoded.encoded_len() == model.len();
    let Some(graph) = decoded.graph.as_mut().filter(|_| is_whole) else {
        return Ok((model.to_vec(), 0));
    };
    let found = find(graph);
    let count = found.len();
    if count == 0 {
        return Ok((model.to_vec(), 0));
    }
    let gone: HashSet<String> =
        found.iter().flat_map(|attention| attention.nodes.iter().cloned()).collect();
    let mut last: HashMap<String, Node> =
        found.into_iter().map(|attention| (attention.last, attention.node)).collect();
    let nodes = std::mem::take(&mut graph.node);
    graph.node = nodes
        .into_iter()
        .filter_map(|node| match last.remove(&node.name) {
            Some(fused) => Some(fused),
            None => (!gone.contains(&node.name)).then_some(node),
        })
        .collect();
    decoded.opset_import.push(OperatorSet { domain: DOMAIN.into(), version: Some(1) });
    Ok((decoded.encode_to_vec(), count))
}

/// An attention that was found.
struct Attention {
    /// Names of its nodes.
    nodes: Vec<String>,
    /// The one of them after which everything it reads is there.
    last: String,
    /// What computes the same.
    node: Node,
}

fn find(graph: &GraphProto) -> Vec<Attention> {
    let reader = Reader::new(graph);
    graph.node.iter().filter_map(|node| reader.around(node)).collect()
}

/// Finds the way through a graph.
struct Reader<'a> {
    by_output: HashMap<&'a str, &'a Node>,
    /// The node that reads a value, where exactly one does.
    only_reader: HashMap<&'a str, Option<&'a Node>>,
    constants: HashMap<&'a str, &'a Constant>,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a GraphProto) -> Self {
        let outputs = |node: &'a Node| node.output.iter().map(move |name| (name.as_str(), node));
        let mut only_reader = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                let readers = only_reader.entry(input.as_str()).or_insert(Some(node));
                if readers.is_some_and(|reader| reader.name != node.name) {
                    *readers = None;
                }
            }
        }
        Self {
            by_output: graph.node.iter().flat_map(outputs).collect(),
            only_reader,
            constants: graph.initializer.iter().map(|one| (one.name.as_str(), one)).collect(),
        }
    }

    /// The attention whose softmax this is: `softmax(q k) v` by heads, without a mask.
    fn around(&self, softmax: &'a Node) -> Option<Attention> {
        let scores = self.before(softmax, 0, "MatMul").filter(|_| softmax.op_type == "Softmax")?;
        let attended = self.after(softmax, "MatMul")?;
        let together = self.after(attended, "Transpose").filter(|node| permutes(node, BY_HEAD))?;
        let end = self.after(together, "Reshape")?;
        let [query, key, value] =
            [(scores, 0, BY_HEAD), (scores, 1, BY_HEAD_TRANSPOSED), (attended, 1, BY_HEAD)]
                .map(|(product, input, order)| self.heads(product, input, order));
        let (query, key, value) = (query?, key?, value?);
        let heads = query.heads;
        if (key.heads, value.heads) != (heads, heads) {
            return None;
        }
        let parts = [&query, &key, &value];
        let mut nodes: Vec<&Node> = parts.iter().flat_map(|part| part.nodes).collect();
        nodes.extend([scores, softmax, attended, together, end]);
        Some(Attention {
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            last: end.name.clone(),
            node: Node {
                input: parts.iter().map(|part| part.source.to_owned()).collect(),
                output: end.output.clone(),
                name: format!("{}/attention", end.name),
                op_type: "MultiHeadAttention".into(),
                attribute: vec![
                    Attribute::int("num_heads", heads),
                    // Ours is part of the query's weights.
                    Attribute::float("scale", 1.0),
                ],
                domain: DOMAIN.into(),
            },
        })
    }

    /// An input of a product that is a value [N,T,width] by heads.
    fn heads(&self, product: &Node, input: usize, order: [i64; 4]) -> Option<Heads<'a>> {
        let transpose = self.before(product, input, "Transpose")?;
        let reshape = self.before(transpose, 0, "Reshape")?;
        let sizes = self.constants.get(reshape.input.get(1)?.as_str())?;
        // Two sizes that stay, then the heads and the width of each.
        let heads = sizes.raw_data.get(16..24)?.try_into().ok().map(i64::from_le_bytes)?;
        let fits = permutes(transpose, order) && sizes.dims == [4] && heads > 0;
        fits.then_some(Heads { source: reshape.input.first()?, heads, nodes: [reshape, transpose] })
    }

    /// The node of this kind that computes an input of `node` and nothing else.
    fn before(&self, node: &Node, input: usize, operator: &str) -> Option<&'a Node> {
        let name = node.input.get(input)?.as_str();
        let before = *self.by_output.get(name)?;
        self.only_reader.get(name)?.filter(|_| before.op_type == operator).map(|_| before)
    }

    /// The node of this kind that alone reads what `node` computes.
    fn after(&self, node: &Node, operator: &str) -> Option<&'a Node> {
        let reader = (*self.only_reader.get(node.output.first()?.as_str())?)?;
        (reader.op_type == operator && reader.input.first() == node.output.first())
            .then_some(reader)
    }
}

/// A value that is cut into heads.
struct Heads<'a> {
    source: &'a str,
    heads: i64,
    nodes: [&'a Node; 2],
}

fn permutes(node: &Node, order: [i64; 4]) -> bool {
    node.attribute.iter().any(|attribute| attribute.name == "perm" && attribute.ints == order)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, random, text_tower, vision_tower};
    use super::*;
    use crate::manifest::Precision;

    #[test]
    fn whole_blocks_without_a_mask_are_fused_and_nothing_else() {
        let config = Config {
            vision_width: 64,
            vision_layers: 3,
            vision_heads: 4,
            text_width: 32,
            text_layers: 3,
            text_heads: 2,
            ..Config::vit_b16()
        };
        let weights = random(&config, 1).unwrap();
        let vision = vision_tower(&weights, &config, Precision::F16).unwrap();
        let (fused, count) = fuse_attention(&vision).unwrap();
        assert_eq!(count, 2);
        let graph = Model::decode(&*fused).unwrap().graph.unwrap();
        let named = |operator| graph.node.iter().filter(|node| node.op_type == operator).count();
        assert_eq!((named("MultiHeadAttention"), named("Softmax")), (2, 1));
        let heads = graph.node.iter().find(|node| node.domain == DOMAIN).unwrap();
        assert_eq!(heads.attribute[0], Attribute::int("num_heads", 4));
        // Once more finds nothing.
        assert_eq!(fuse_attention(&fused).unwrap(), (fused, 0));

        let text = text_tower(&weights, &config, Precision::F16).unwrap();
        assert_eq!(fuse_attention(&text).unwrap(), (text.clone(), 0));
        // What is not of our writing stays: a field that we do not know, number 15, of two bytes.
        let foreign = [&vision[..], &[0x7a, 2, 1, 1]].concat();
        assert_eq!(fuse_attention(&foreign).unwrap(), (foreign, 0));
        assert!(fuse_attention(&text[..text.len() / 2]).is_err());
    }
}
