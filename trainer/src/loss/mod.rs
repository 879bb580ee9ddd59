//! What training minimises, from unit embeddings of pictures and captions.

mod sdm;

pub use sdm::sdm;
