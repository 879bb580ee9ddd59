//! Reads texts with the running bundle: tokenizer and text tower.

use spotter_models::{Error, Generation, Result, session::TextTower, tokenize::Tokenizer};

use super::{ready::TextReader, store::Text};

/// The bundle's text side. Owned by whoever arms alerts.
pub struct TowerReader {
    tokenizer: &'static Tokenizer,
    tower: TextTower,
}

impl TowerReader {
    /// Reads with this tower.
    ///
    /// # Errors
    /// Where the tokenizer cannot be built: a broken build.
    pub fn new(tower: TextTower) -> Result<Self> {
        Ok(Self { tokenizer: Tokenizer::clip()?, tower })
    }
}

impl TextReader for TowerReader {
    fn generation(&self) -> Generation {
        self.tower.generation()
    }

    fn read(&mut self, text: &str) -> Result<Text> {
        let words = self.tokenizer.encode(text)?;
        let input = words.fit(self.tower.config())?;
        let lost = input.lost().map(str::to_owned);
        let embedding = self.tower.embed(&[input])?.pop();
        let embedding = embedding
            .ok_or_else(|| Error::internal("text tower", "gave no embedding for a text"))?;
        Ok(Text { understood: words.text().to_owned(), lost, embedding })
    }
}
