//! The two towers: weights in, folded ONNX graphs out.

mod config;

pub use config::Config;
