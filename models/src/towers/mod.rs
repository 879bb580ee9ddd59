//! The two towers: weights in, folded ONNX graphs out.
//!
//! `weights` reads and checks tensors, `layout` says which ones a model has, `fold` holds the
//! algebra that removes what no input can change, `arithmetic` how each precision multiplies, `folded`
//! and `unfolded` write the graphs between the inputs and outputs of `contract`. Nothing here runs a
//! model; a picture or text never comes in.

mod arithmetic;
mod attention;
mod block;
mod config;
mod contract;
mod cost;
mod fold;
mod folded;
mod graph;
mod half;
pub mod layout;
mod onnx;
pub mod positions;
mod random;
mod start;
mod stem;
mod tensor;
mod unfolded;
mod weights;

pub use attention::fuse_attention;
pub use config::{Config, Coupling, PromptPlace};
pub use cost::{text_operations, vision_operations};
pub use folded::{folded_text, folded_vision, text_tower, vision_tower};
pub use layout::{Start, TensorSpec, is_coupling, is_trained, tensors};
pub use random::random;
pub use start::starting_weights;
pub use tensor::Tensor;
pub use unfolded::{unfolded_text, unfolded_vision};
pub use weights::{Weights, save};

/// What is added to a score that must not count: `exp` of it is zero, and half precision holds it.
const MASKED: f32 = -30_000.0;

/// What CLIP's normalisations add to the variance.
const NORM_EPSILON: f32 = 1e-5;
