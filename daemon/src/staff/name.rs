//! An alert's id from its text, so that a guard need not invent one.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use crate::alert::AlertId;

/// Longest id that is made, in characters: it has to be typed again to remove the alert.
const MAX: usize = 40;
/// Words that tell no alert from another.
const FILLERS: [&str; 10] = ["a", "an", "the", "in", "with", "and", "of", "on", "his", "her"];

/// An id such as `woman-red-coat` for "A woman in a red coat". `None` where the text has no Latin
/// letter and no digit.
pub fn id_of(text: &str) -> Option<AlertId> {
    let plain: String = text
        .nfkd()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let telling: Vec<&str> = words.iter().copied().filter(|word| !FILLERS.contains(word)).collect();
    let mut id = String::new();
    for word in if telling.is_empty() { words } else { telling } {
        let word: String = word.chars().take(MAX).collect();
        let hyphen = usize::from(!id.is_empty());
        if id.len() + hyphen + word.len() > MAX {
            break;
        }
        if !id.is_empty() {
            id.push('-');
        }
        id.push_str(&word);
    }
    AlertId::new(&id).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_that_tell() {
        for (text, id) in [
            ("A woman in a red coat, with a black backpack", "woman-red-coat-black-backpack"),
            ("man in a café apron", "man-cafe-apron"),
            ("the", "the"),
            ("2 boys", "2-boys"),
        ] {
            assert_eq!(id_of(text).unwrap().as_str(), id);
        }
        assert_eq!(id_of("穿红色外套的女人"), None);
        assert_eq!(id_of(" … "), None);
        let long = id_of(&"a tall man in a very long grey coat with a hat and a stick ".repeat(9));
        assert_eq!(long.unwrap().as_str(), "tall-man-very-long-grey-coat-hat-stick");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_valid_id_or_none(text in ".*") {
            if let Some(id) = id_of(&text) {
                prop_assert!(id.as_str().len() <= MAX);
            }
        }
    }
}
