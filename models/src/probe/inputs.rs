//! The inputs of a probe: synthetic pictures and a few texts, the same on every machine.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Result, Rgb};

/// Pictures and texts to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Pictures of varied size, so that scaling down, up, and neither occur.
    pub pictures: Vec<Rgb>,
    /// Texts as an operator may write them.
    pub texts: Vec<String>,
}

/// Width and height of the pictures in pixels: of CLIP's person crops exactly, larger, smaller,
/// wide, and tiny.
const SIZES: [(u32, u32); 6] = [(128, 384), (170, 420), (48, 130), (97, 301), (120, 60), (5, 9)];

/// Ordinary descriptions, and what clean-up and the word limit act on.
const TEXTS: [&str; 6] = [
    "A man wearing a black jacket, blue jeans and white shoes.",
    "the woman in the red coat carries a small brown bag",
    "a person",
    "1990s T-shirt &amp; khaki trousers, she\u{2019}s on a bicycle \u{2014} caf\u{e9}!",
    "\u{7ea2}\u{8272}\u{5916}\u{5957} zebra quokka",
    "The young woman has long dark hair and wears a light green dress with short sleeves, a thin \
     white belt, black tights and flat brown shoes; over her left shoulder hangs a large grey \
     handbag with a silver buckle, in her right hand she holds a folded yellow umbrella, and she \
     walks slowly beside an elderly man with a hat, a walking stick, a dark suit and round glasses \
     who looks at his phone.",
];

impl Inputs {
    /// The inputs of every new bundle.
    ///
    /// # Errors
    /// None in practice; a picture's constructor checks its size.
    pub fn standard() -> Result<Self> {
        let mut source = ChaCha8Rng::seed_from_u64(0x005b_077e);
        let pictures = SIZES
            .into_iter()
            .map(|(width, height)| picture(&mut source, width, height))
            .collect::<Result<_>>()?;
        Ok(Self { pictures, texts: TEXTS.map(String::from).to_vec() })
    }
}

/// A shaded background with three blocks of colour, where head, trunk and legs would be, and noise.
fn picture(source: &mut ChaCha8Rng, width: u32, height: u32) -> Result<Rgb> {
    let colours: [[u8; 4]; 4] = std::array::from_fn(|_| source.next_u32().to_le_bytes());
    let mut data = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            let inside = (width / 4..width - width / 4).contains(&x);
            let part = match (inside, 8 * y / height) {
                (true, 1) => 1,
                (true, 2..=4) => 2,
                (true, 5..=6) => 3,
                _ => 0,
            };
            let shade = 96 * y / height;
            let noise = source.next_u32().to_le_bytes();
            let colour = colours.get(part).copied().unwrap_or_default();
            for (base, noise) in colour.into_iter().zip(noise).take(3) {
                let value = u32::from(base) / 2 + shade + u32::from(noise) / 8;
                data.push(u8::try_from(value).unwrap_or(u8::MAX));
            }
        }
    }
    Rgb::new(width, height, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, tokenize::Tokenizer, towers::Config};

    /// A changed input would change every new bundle's hash: that must be a decision.
    #[test]
    fn the_standard_inputs_do_not_change() {
        let inputs = Inputs::standard().unwrap();
        let mut bytes = Vec::new();
        inputs.pictures.iter().for_each(|picture| bytes.extend_from_slice(picture.data()));
        inputs.texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "5950bbee1d59e3edd226ed1a22cb535efddd59c0cdba38fe934f631f82ef1449"
        );
    }

    #[test]
    fn one_text_is_longer_than_a_model_can_hold() {
        let tokenizer = Tokenizer::clip().unwrap();
        let lost: Vec<bool> = Inputs::standard()
            .unwrap()
            .texts
            .iter()
            .map(|text| tokenizer.encode(text).unwrap().fit(&Config::vit_b16()).unwrap())
            .map(|input| input.lost().is_some())
            .collect();
        assert_eq!(lost, [false, false, false, false, false, true]);
    }
}
