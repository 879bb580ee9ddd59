//! Reads texts with the running bundle: tokenizer and text tower.

use spotter_models::{
    Error, Generation, Result,
    session::TextTower,
    tokenize::{TextInput, Tokenizer},
};

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
        let read = self.read_all(&[text]).pop();
        read.unwrap_or_else(|| Err(no_embedding()))
    }

    fn read_all(&mut self, texts: &[&str]) -> Vec<Result<Text>> {
        let words: Vec<Result<Words>> = texts.iter().map(|text| self.words(text)).collect();
        let inputs: Vec<TextInput> =
            words.iter().flatten().map(|words| words.input.clone()).collect();
        let mut all = self.tower.embed(&inputs).ok().map(Vec::into_iter);
        let text = |words: Result<Words>| {
            let words = words?;
            let embedding = match &mut all {
                Some(all) => all.next(),
                // One text must not spoil the others: each again, alone.
                None => self.tower.embed(std::slice::from_ref(&words.input))?.pop(),
            };
            let embedding = embedding.ok_or_else(no_embedding)?;
            Ok(Text { understood: words.understood, lost: words.lost, embedding })
        };
        words.into_iter().map(text).collect()
    }
}

/// A text as the tower takes it.
struct Words {
    understood: String,
    lost: Option<String>,
    input: TextInput,
}

impl TowerReader {
    fn words(&self, text: &str) -> Result<Words> {
        let words = self.tokenizer.encode(text)?;
        let input = words.fit(self.tower.config())?;
        let lost = input.lost().map(str::to_owned);
        Ok(Words { understood: words.text().to_owned(), lost, input })
    }
}

fn no_embedding() -> Error {
    Error::internal("text tower", "gave no embedding for a text")
}
