//! What training minimises, from unit embeddings of pictures and captions.

mod itc;
mod sdm;
mod tal;

pub use itc::itc;
pub use sdm::sdm;
pub use tal::tal;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::Result;

/// Which loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// Similarity distribution matching, the paper's.
    #[default]
    Sdm,
    /// Plain contrastive.
    Itc,
    /// Triplet alignment, which bears wrong captions better.
    Tal,
}

impl LossKind {
    /// The loss of a batch: `images` and `texts` `[N, embed]` of unit length, `persons` `[N]` whom each
    /// pair shows. `temperature` divides the cosines; `margin` is for [`LossKind::Tal`].
    ///
    /// # Errors
    /// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
    pub fn of(
        self,
        [images, texts]: [&Tensor; 2],
        persons: &Tensor,
        temperature: f64,
        margin: f64,
    ) -> Result<Tensor> {
        match self {
            LossKind::Sdm => sdm(images, texts, persons, temperature),
            LossKind::Itc => itc(images, texts, persons, temperature),
            LossKind::Tal => tal(images, texts, persons, temperature, margin),
        }
    }
}

/// `[N, N]`, true where two pairs show the same person.
fn same(persons: &Tensor) -> Result<Tensor> {
    Ok(persons.f_unsqueeze(0)?.f_eq_tensor(&persons.f_unsqueeze(1)?)?)
}

/// An even distribution over the same person in each row.
fn even(persons: &Tensor) -> Result<Tensor> {
    let same = same(persons)?.f_to_kind(Kind::Float)?;
    Ok(same.f_div(&same.f_sum_dim_intlist([1].as_slice(), true, Kind::Float)?)?)
}

/// Cosines of each caption (row) with each picture (column).
fn cosines(images: &Tensor, texts: &Tensor) -> Result<Tensor> {
    Ok(texts.f_matmul(&images.f_transpose(0, 1)?)?)
}
