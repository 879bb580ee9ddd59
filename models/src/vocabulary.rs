//! The words of the captions that a model was trained on, with how often each occurred.
//!
//! CLIP's tokenizer takes any text, so nothing in the towers says which words mean something to them.
//! Travels in a bundle, where there is one, so that whoever writes a description is told which of its
//! words the model has never met beside a picture.

use std::{collections::BTreeMap, path::Path};

use crate::{Error, Result, bundle::Bundle, manifest::VOCABULARY_FILE};

/// Most words that are kept; of more, those that occur most often. CUHK-PEDES has about 9,000.
pub const MAX_WORDS: usize = 65_536;

/// Longest word in bytes of UTF-8; longer ones are no words of a description.
pub const MAX_WORD_BYTES: usize = 64;

/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// Words in lower case, each with its count in the training captions, at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    words: BTreeMap<String, u64>,
}

impl Vocabulary {
    /// Counts the words of captions; the same captions in any order give the same vocabulary.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they hold no word.
    pub fn of_captions<'a>(captions: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for word in captions.into_iter().flat_map(words).filter(|word| is_word(word)) {
            let count = counts.entry(word).or_default();
            *count = count.saturating_add(1);
        }
        if counts.len() > MAX_WORDS {
            let mut ranked: Vec<(String, u64)> = counts.into_iter().collect();
            // Stable: of words that occur equally often the first in the alphabet stay.
            ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            ranked.truncate(MAX_WORDS);
            counts = ranked.into_iter().collect();
        }
        Self::new(counts)
    }

    fn new(words: BTreeMap<String, u64>) -> Result<Self> {
        let wrong = |reason: String| Err(Error::invalid("vocabulary", reason));
        if words.is_empty() || words.len() > MAX_WORDS {
            return wrong(format!("{} words; 1 to {MAX_WORDS} are meant", words.len()));
        }
        for (word, count) in &words {
            let same = self::words(word).eq([word.as_str()]);
            if !is_word(word) || !same || *count == 0 {
                let shown: String = word.chars().take(40).flat_map(char::escape_debug).collect();
                return wrong(format!("`{shown}` with count {count} is no word of a caption"));
            }
        }
        Ok(Self { words })
    }

    /// The vocabulary of an open bundle; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the file changed or is no vocabulary.
    pub fn of(bundle: &Bundle) -> Result<Option<Self>> {
        let Some(name) = &bundle.manifest().vocabulary else { return Ok(None) };
        Self::parse(&bundle.path_of(name), &bundle.read(name)?).map(Some)
    }

    /// Reads a vocabulary's file; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::corrupt(path, format!("is no vocabulary: {reason}"));
        if bytes.len() > MAX_BYTES {
            return Err(corrupt(format!("larger than {MAX_BYTES} bytes")));
        }
        let words = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        Self::new(words).map_err(|error| corrupt(error.to_string()))
    }

    /// The bytes of the file: an object from words to counts; the same vocabulary gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is larger than a vocabulary may be.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&self.words)
            .map_err(|error| Error::internal(VOCABULARY_FILE, error))?;
        bytes.push(b'\n');
        if bytes.len() > MAX_BYTES {
            return Err(Error::invalid(
                "vocabulary",
                format!("{} bytes are too many", bytes.len()),
            ));
        }
        Ok(bytes)
    }

    /// How often a word, in any case, occurred in the training captions.
    pub fn count(&self, word: &str) -> u64 {
        self.words.get(&word.to_lowercase()).copied().unwrap_or(0)
    }

    /// How many different words it has.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: a vocabulary has at least one word.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// The words of a text in lower case: runs of letters, as the tokenizer cuts them. "T-shirt" is two,
/// "man's" and "isn't" lose their ends; digits are no words.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    const CONTRACTIONS: [&str; 7] = ["s", "t", "re", "ve", "m", "ll", "d"];
    let mut after_apostrophe = false;
    let mut found = Vec::new();
    let mut word = String::new();
    for character in text.chars().chain([' ']) {
        if character.is_alphabetic() {
            word.extend(character.to_lowercase());
            continue;
        }
        let is_contracted = after_apostrophe && CONTRACTIONS.contains(&word.as_str());
        if !word.is_empty() && !is_contracted {
            found.push(std::mem::take(&mut word));
        }
        word.clear();
        after_apostrophe = matches!(character, '\'' | '’');
    }
    found.into_iter()
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.len() <= MAX_WORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_in_lower_case() {
        for (text, expected) in [
            ("A man's T-shirt, size 42.", "a man t shirt size"),
            ("she ISN’T here; s is a letter", "she isn here s is a letter"),
            ("", ""),
            ("🙂 123 --", ""),
            ("Straße café", "straße café"),
            ("'s", ""),
        ] {
            assert_eq!(words(text).collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn it_counts_and_survives_writing_and_reading() {
        let captions = ["A red coat.", "a Red hat", "the coat"];
        let vocabulary = Vocabulary::of_captions(captions).unwrap();
        assert_eq!((vocabulary.count("red"), vocabulary.count("HAT")), (2, 1));
        assert_eq!((vocabulary.count("blue"), vocabulary.len()), (0, 5));
        let bytes = vocabulary.to_bytes().unwrap();
        assert_eq!(Vocabulary::parse(Path::new("v"), &bytes).unwrap(), vocabulary);
        let mut turned = captions;
        turned.reverse();
        assert_eq!(Vocabulary::of_captions(turned).unwrap().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn of_too_many_words_the_frequent_ones_stay() {
        let name = |n: usize| -> String {
            let digits = n.to_string();
            digits.bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
        };
        let rare: Vec<String> = (0..MAX_WORDS + 100).map(name).collect();
        let texts = rare.iter().map(String::as_str).chain(["zzz often", "often"]);
        let vocabulary = Vocabulary::of_captions(texts).unwrap();
        assert_eq!((vocabulary.len(), vocabulary.count("often")), (MAX_WORDS, 2));
        assert_eq!(vocabulary.count("zzz"), 0);
    }

    #[test]
    fn what_is_no_vocabulary_is_refused_with_the_reason() {
        assert!(Vocabulary::of_captions(["123", "--"]).is_err());
        let long = format!("{{\"{}\": 1}}", "x".repeat(MAX_WORD_BYTES + 1));
        for (bytes, word) in [
            ("", "EOF"),
            ("[]", "map"),
            ("{}", "0 words"),
            (r#"{"red": 0}"#, "count 0"),
            (r#"{"red": -1}"#, "-1"),
            (r#"{"red": "x"}"#, "string"),
            (r#"{"Red": 1}"#, "`Red`"),
            (r#"{"red coat": 1}"#, "`red coat`"),
            (r#"{"re\u0007d": 1}"#, "`re\\u{7}d`"),
            (long.as_str(), "no word"),
        ] {
            let error = Vocabulary::parse(Path::new("v"), bytes.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains(word), "{bytes}: {error}");
        }
        let error = Vocabulary::parse(Path::new("v"), &vec![b' '; MAX_BYTES + 1]).unwrap_err();
        assert!(error.to_string().contains("larger"), "{error}");
    }
}
