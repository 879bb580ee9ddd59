//! Text to token ids: CLIP's byte pair encoding with OpenAI's clean-up, and the word limit.
//!
//! The one tokenizer of trainer and daemon. It must never see a model: which ids a model can take
//! and how many is asked of its [`Config`] in [`Words::fit`].

mod entities;

use std::{
    borrow::Cow,
    io::{BufRead, BufReader},
    ops::Range,
    sync::OnceLock,
};

use flate2::read::GzDecoder;
use tokenizers::{
    Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{byte_level::ByteLevel, split::Split, split::SplitPattern},
};

use crate::{Error, Result, towers::Config};

/// OpenAI's vocabulary file as published; `vocabulary/NOTICE` has its licence.
const VOCABULARY: &[u8] = include_bytes!("../vocabulary/bpe_simple_vocab_16e6.txt.gz");

/// SHA-256 of the vocabulary file, as manifests record it.
pub const VOCABULARY_SHA256: &str =
    "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a";

/// Token ids of CLIP's vocabulary, start and end of text included.
pub const VOCABULARY_SIZE: usize = 49_408;

/// Merges that CLIP uses; the file holds more.
const MERGES: usize = VOCABULARY_SIZE - 2 - 2 * 256;

/// Longest text that is read, in bytes of UTF-8. A hundred times what a model can hold; keeps the
/// clean-up, which is slower than linear on some inputs, within milliseconds.
pub const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Contractions, runs of letters, single digits, runs of anything else. OpenAI's pattern also knows
/// its special tokens; a text must not be able to write one, so here they are ordinary characters.
const PATTERN: &str = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Marks the last piece of a word in the vocabulary.
const END_OF_WORD: &str = "</w>";

/// CLIP's tokenizer.
pub struct Tokenizer {
    bpe: BPE,
    split: Split,
    bytes: ByteLevel,
}

impl Tokenizer {
    /// The tokenizer of CLIP, built at the first call (about 100 ms) and kept.
    ///
    /// # Errors
    /// [`Error::Internal`] where the vocabulary that was compiled in does not yield one: a broken
    /// build.
    pub fn clip() -> Result<&'static Self> {
        static CLIP: OnceLock<Tokenizer> = OnceLock::new();
        if let Some(tokenizer) = CLIP.get() {
            return Ok(tokenizer);
        }
        // Two first callers may both build it: the same result, and no lock held meanwhile.
        let built = Self::from_vocabulary(VOCABULARY)?;
        Ok(CLIP.get_or_init(|| built))
    }

    fn from_vocabulary(compressed: &[u8]) -> Result<Self> {
        let wrong = |reason: &dyn std::fmt::Display| Error::internal("CLIP vocabulary", reason);
        let merges = read_merges(compressed)?;
        let vocabulary = token_table(&merges);
        if vocabulary.len() != VOCABULARY_SIZE - 2 {
            return Err(wrong(&format!("{} distinct tokens", vocabulary.len())));
        }
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .end_of_word_suffix(END_OF_WORD.into())
            .build()
            .map_err(|error| wrong(&error))?;
        let pattern = SplitPattern::Regex(PATTERN.into());
        // Inverted and removed: what the pattern matches is kept, what lies between is dropped.
        let split = Split::new(pattern, SplitDelimiterBehavior::Removed, true)
            .map_err(|error| wrong(&error))?;
        Ok(Self { bpe, split, bytes: ByteLevel::new(false, false, false) })
    }

    /// Cleans a text and cuts it into BPE words.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is longer than [`MAX_TEXT_BYTES`] or holds no words.
    pub fn encode(&self, text: &str) -> Result<Words> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::invalid(
                "text",
                format!(
                    "{} bytes are more than the {MAX_TEXT_BYTES} that are read; a description \
                     needs one or two sentences",
                    text.len()
                ),
            ));
        }
        let words = self.pieces(clean(text)?)?;
        if words.ids.is_empty() {
            return Err(Error::invalid(
                "text",
                "has no words; describe the person, for example \"a man in a red jacket\"",
            ));
        }
        Ok(words)
    }

    /// Byte pair encoding of a text that is clean.
    fn pieces(&self, text: String) -> Result<Words> {
        let fault = |error: tokenizers::Error| Error::internal("tokenizer", error);
        let mut pieces = PreTokenizedString::from(text.as_str());
        self.split.pre_tokenize(&mut pieces).map_err(fault)?;
        self.bytes.pre_tokenize(&mut pieces).map_err(fault)?;
        pieces.tokenize(|piece| self.bpe.tokenize(piece.get())).map_err(fault)?;
        let mut ids = Vec::new();
        let mut places = Vec::new();
        for (_, word, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            for token in tokens.iter().flatten() {
                ids.push(token.id);
                places.push(word.0..word.1);
            }
        }
        Ok(Words { ids, text, places })
    }
}

/// A text as BPE words, without start, end and limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    ids: Vec<u32>,
    text: String,
    /// For each id the bytes in `text` of the word that it is a piece of.
    places: Vec<Range<usize>>,
}

impl Words {
    /// The ids of the BPE words, at least one.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The text as it was read: cleaned and in lower case.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Applies a model's word limit: keeps the first [`Config::word_limit`] words.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where a word is not in the vocabulary of the model.
    pub fn fit(&self, config: &Config) -> Result<TextInput> {
        let (start, end) = (config.start_of_text(), config.end_of_text());
        if let Some(id) = self.ids.iter().find(|&&id| id >= start) {
            return Err(Error::mismatch(
                "vocabulary",
                format!(
                    "the tokenizer's id {id} is beyond the {} of the model, which was made for \
                     another tokenizer",
                    config.vocab
                ),
            ));
        }
        let kept = self.ids.len().min(config.word_limit());
        let mut ids = Vec::with_capacity(kept + 2);
        ids.push(i64::from(start));
        ids.extend(self.ids.iter().take(kept).map(|&id| i64::from(id)));
        ids.push(i64::from(end));
        // From the start of the word that was cut through, which says more than half a word.
        let lost = self
            .places
            .get(kept)
            .and_then(|place| self.text.get(place.start..))
            .map(str::to_string);
        Ok(TextInput { ids, lost })
    }
}

/// What the text tower reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextInput {
    ids: Vec<i64>,
    lost: Option<String>,
}

impl TextInput {
    /// Start of text, the words that fit, end of text.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// The part of the cleaned text that the model does not see, for the operator. `None`: it sees
    /// all.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

/// OpenAI's clean-up: repair of broken encodings, HTML entities twice, white space, lower case.
///
/// # Errors
/// [`Error::Invalid`] where the repair gives up on a text.
fn clean(text: &str) -> Result<String> {
    // The repair runs backtracking expressions and panics where one reaches its step limit. No such
    // text is known, but texts come from outside and must not stop the program.
    let text = without_terminal_escapes(text);
    let repaired = std::panic::catch_unwind(|| plsfix::fix_text(&text, None)).map_err(|_| {
        Error::invalid("text", "its encoding cannot be repaired; type it again as plain text")
    })?;
    let once = entities::unescape(&repaired);
    let text = entities::unescape(&once);
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(words.join(" ").to_lowercase())
}

/// Drops escape sequences that colour a terminal, as ftfy does: plsfix means to, but its expression
/// misspells the escape character.
fn without_terminal_escapes(text: &str) -> Cow<'_, str> {
    const START: &str = "\u{1b}[";
    if !text.contains(START) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(START);
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match rest.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(rest) => out.push_str(rest),
            None => {
                out.push_str(START);
                out.push_str(part);
            }
        }
    }
    Cow::Owned(out)
}

/// The merges of the vocabulary file: after a line with its version, one pair a line, best first.
fn read_merges(compressed: &[u8]) -> Result<Vec<(String, String)>> {
    let wrong = |reason: String| Error::internal("CLIP vocabulary", reason);
    let lines = BufReader::new(GzDecoder::new(compressed)).lines();
    let merges = lines
        .skip(1)
        .take(MERGES)
        .map(|line| {
            let line = line.map_err(|error| wrong(error.to_string()))?;
            match line.split_once(' ') {
                Some((left, right)) => Ok((left.to_string(), right.to_string())),
                None => Err(wrong(format!("`{line}` is no pair"))),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    if merges.len() != MERGES {
        return Err(wrong(format!("{} merges instead of {MERGES}", merges.len())));
    }
    Ok(merges)
}

/// Every token but the special ones, with its id: bytes, bytes that end a word, merges.
fn token_table(merges: &[(String, String)]) -> Vocab {
    let bytes = byte_symbols().map(String::from);
    let endings = byte_symbols().map(|symbol| format!("{symbol}{END_OF_WORD}"));
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    bytes.chain(endings).chain(merged).zip(0..).collect()
}

/// The printable characters that stand for the 256 bytes, in the order of the vocabulary: bytes that
/// are printable in Latin-1 first, as themselves, then the others from U+0100 on.
fn byte_symbols() -> impl Iterator<Item = char> {
    let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
    printable.chain('\u{100}'..='\u{143}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_symbol_for_each_byte() {
        assert_eq!(byte_symbols().count(), 256);
    }

    #[test]
    fn terminal_escapes_are_dropped() {
        for (text, expected) in [
            ("\u{1b}[31mred\u{1b}[0m coat", "red coat"),
            ("\u{1b}[1;36;44ma", "a"),
            ("\u{1b}[", "["),
            ("\u{1b}[31", "[31"),
            ("\u{1b}[é", "[é"),
            ("[31m", "[31m"),
        ] {
            assert_eq!(clean(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_broken_vocabulary_is_an_error() {
        assert!(Tokenizer::from_vocabulary(b"no gzip").is_err());
        assert!(Tokenizer::from_vocabulary(&VOCABULARY[..100_000]).is_err());
        assert!(Tokenizer::from_vocabulary(&[]).is_err());
    }
}
