//! A description as words with what stands between them.

use unicode_normalization::UnicodeNormalization;

/// Characters of a word or phrase that a message repeats.
const SHOWN: usize = 40;

/// A word of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// As it is written.
    pub(super) written: String,
    /// In lower case; apostrophes are straight.
    pub(super) lower: String,
    /// Whether a comma or another mark stands before it, or nothing does.
    pub(super) after_break: bool,
    /// Whether it begins a sentence.
    pub(super) begins: bool,
}

impl Word {
    /// Whether it begins with a capital letter.
    pub(super) fn is_capitalised(&self) -> bool {
        self.written.chars().next().is_some_and(char::is_uppercase)
    }

    /// Whether it has at least two letters and all of them are capital.
    pub(super) fn is_all_capitals(&self) -> bool {
        let mut letters = self.written.chars().filter(|c| c.is_alphabetic()).peekable();
        let count = letters.clone().count();
        letters.peek().is_some() && count > 1 && letters.all(char::is_uppercase)
    }

    /// Whether it is a number or has one in it.
    pub(super) fn has_digit(&self) -> bool {
        self.written.chars().any(char::is_numeric)
    }
}

/// A description in one form, compatibility-composed and without joiners, so that "ＲＥＤ" is "RED".
pub(super) fn plain(text: &str) -> String {
    text.nfkc().filter(|c| !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0f}')).collect()
}

/// The words of a plain text: runs of letters and digits, with apostrophes inside them. A hyphen parts
/// words but is no break.
pub(super) fn split(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let (mut written, mut after_break, mut begins) = (String::new(), true, true);
    let mut characters = text.chars().chain(['\n']).peekable();
    while let Some(character) = characters.next() {
        let is_inside = matches!(character, '\'' | '’' | '`')
            && !written.is_empty()
            && characters.peek().is_some_and(|next| next.is_alphanumeric());
        if character.is_alphanumeric() || is_inside {
            written.push(if is_inside { '\'' } else { character });
            continue;
        }
        if !written.is_empty() {
            let lower = written.to_lowercase();
            let written = std::mem::take(&mut written);
            words.push(Word { written, lower, after_break, begins });
            (after_break, begins) = (false, false);
        }
        match character {
            '-' | '‐' | '‑' | '/' | '\'' | '’' => {}
            c if c.is_whitespace() && c != '\n' => {}
            '.' | '!' | '?' | ':' | ';' | '\n' | '"' | '“' | '(' | '•' => {
                (after_break, begins) = (true, true);
            }
            _ => after_break = true,
        }
    }
    words
}

/// Words of a description as a message repeats them.
pub(super) fn quoted(words: &[Word]) -> String {
    let text: Vec<&str> = words.iter().map(|word| word.written.as_str()).collect();
    quote(&text.join(" "))
}

/// A text as a message repeats it: bounded, nothing that a terminal would obey.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_what_stands_before_them() {
        let words = split(&plain("A man, who isn’t ＴＡＬＬ. He has a T-shirt's"));
        let lower: Vec<&str> = words.iter().map(|word| word.lower.as_str()).collect();
        assert_eq!(lower, ["a", "man", "who", "isn't", "tall", "he", "has", "a", "t", "shirt's"]);
        let breaks: Vec<usize> = (0..words.len()).filter(|n| words[*n].after_break).collect();
        let begins: Vec<usize> = (0..words.len()).filter(|n| words[*n].begins).collect();
        assert_eq!((breaks, begins), (vec![0, 2, 5], vec![0, 5]));
        assert!(words[4].is_all_capitals() && !words[5].is_all_capitals());
        assert!(split("  -- 🙂 ").is_empty());
    }

    #[test]
    fn what_is_repeated_is_short_and_harmless() {
        let shown = quote(&format!("{}\u{1b}[31m", "x".repeat(100)));
        assert!(shown.chars().count() <= SHOWN + 3 && !shown.contains('\u{1b}'), "{shown}");
    }
}
