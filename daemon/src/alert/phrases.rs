//! The parts of a description that explain a match: "woman", "red coat", "black backpack".
//!
//! Rules, no parser: descriptions of persons are short and built alike. A phrase is what stands between
//! two words that join things ("in", "with", "wearing"), without articles. What a text denies is no
//! phrase: its score would explain nothing.

use super::lint::lists;

/// Most phrases of a text.
pub const MAX_PHRASES: usize = 6;
/// Most words of a phrase; of a longer one the last, as the noun comes last.
const MAX_WORDS: usize = 6;
/// Longest word that is taken, in bytes.
const MAX_WORD_BYTES: usize = 40;

/// Words between phrases.
const SEPARATORS: &[&str] = &[
    "and",
    "with",
    "in",
    "wearing",
    "wears",
    "wear",
    "worn",
    "carrying",
    "carries",
    "carry",
    "has",
    "have",
    "had",
    "having",
    "holding",
    "holds",
    "hold",
    "over",
    "under",
    "underneath",
    "beneath",
    "plus",
    "but",
    "or",
    "by",
    "to",
    "from",
    "at",
    "near",
    "behind",
    "beside",
    "who",
    "which",
    "that",
    "while",
    "is",
    "are",
    "was",
    "were",
    "dressed",
    "dresses",
    "clad",
    "seen",
    "shows",
    "looks",
    "looking",
    "for",
    "as",
    "below",
    "above",
    "around",
    "through",
    "towards",
    "into",
    "walks",
    "walked",
    "walk",
    "stands",
    "standing",
    "sits",
    "sitting",
    "runs",
    "pulling",
    "pulls",
    "pushing",
    "pushes",
    "riding",
    "rides",
    "using",
    "uses",
    "talking",
    "talks",
    "going",
    "goes",
    "smiling",
    "facing",
    "hanging",
    "hangs",
    "covering",
    "covers",
    "leans",
    "leaning",
    "reaches",
    "reaching",
    "falling",
    "falls",
    "out",
    "smiles",
    "being",
    "been",
    "be",
    "he",
    "she",
    "they",
    "it",
    "him",
    "them",
    "i",
    "we",
    "then",
    "there",
    "also",
    "please",
    "find",
    "search",
    "like",
    "away",
];
/// Words that begin a phrase and are none of it.
const ARTICLES: &[&str] = &[
    "a", "an", "the", "this", "these", "those", "his", "her", "their", "its", "some", "my", "our",
    "any",
];
/// Verbs that are part of a thing's name where one follows: "walking boots".
const DOING: &[&str] = &["walking", "running", "jogging", "hiking", "riding", "rolling"];
/// Words that deny what follows.
const DENIALS: &[&str] = &["no", "not", "without", "never", "neither", "nor", "lacking", "lacks"];

/// The noun phrases of a description in lower case, in their order, at most [`MAX_PHRASES`] of 1 to 6
/// words; none where it is a single phrase, which its own score explains.
pub fn phrases(text: &str) -> Vec<String> {
    let mut cutter = Cutter::default();
    let tokens = tokens(text);
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1).filter(|_| !token.breaks_after);
        cutter.take(&token.word, next.map(|next| next.word.as_str()));
        if token.breaks_after {
            cutter.close();
            cutter.denies = false;
        }
    }
    cutter.close();
    let mut found = cutter.found;
    found.truncate(MAX_PHRASES);
    if found.len() < 2 { Vec::new() } else { found }
}

/// A word, and whether a comma or another mark stands behind it.
struct Token {
    word: String,
    breaks_after: bool,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    // "coat/hat" and "coat & hat" are two things.
    let apart = text.replace(['/', '+', '&'], " , ");
    for part in apart.split_whitespace() {
        let is_mark = |c: char| !c.is_alphanumeric();
        let word = part.trim_matches(is_mark);
        let begins_apart = part.starts_with(['(', ',', ';', '"', '“', '-', '–', '—']);
        if (begins_apart || word.is_empty())
            && !part.is_empty()
            && let Some(last) = tokens.last_mut()
        {
            last.breaks_after = true;
        }
        if word.is_empty() || word.len() > MAX_WORD_BYTES {
            continue;
        }
        // "coat,hat" was meant as two.
        let inner: Vec<&str> = word.split([',', ';', ':', '(', ')', '!', '?']).collect();
        let last = inner.len() - 1;
        for (at, word) in inner.into_iter().enumerate().filter(|(_, word)| !word.is_empty()) {
            let breaks_after =
                at < last || part.ends_with([',', '.', ';', ':', '!', '?', ')', '"', '”']);
            tokens.push(Token { word: word.to_lowercase().replace('’', "'"), breaks_after });
        }
    }
    tokens
}

#[derive(Default)]
struct Cutter {
    /// The words of the phrase that is being read.
    words: Vec<String>,
    /// Whether what is read is denied.
    denies: bool,
    found: Vec<String>,
}

impl Cutter {
    fn take(&mut self, word: &str, next: Option<&str>) {
        let joins = |word: &str| ["of", "on"].contains(&word);
        let is_after_join = self.words.last().is_some_and(|last| joins(last));
        if DENIALS.contains(&word) || word.ends_with("n't") {
            self.close();
            self.denies = true;
        } else if word == "and" && self.joins_colours(next) {
            self.words.push(word.to_owned());
        } else if DOING.contains(&word) {
            match next.is_some_and(|next| lists::THINGS.has_form(next) || next == "suitcase") {
                true => self.words.push(word.to_owned()),
                false => self.close(),
            }
        } else if SEPARATORS.contains(&word) || lists::ACTIONS.has(word) {
            self.close();
        } else if ARTICLES.contains(&word) {
            if !is_after_join {
                self.close();
            }
        } else if !(joins(word) && self.words.is_empty() || lists::LACKING.has(word)) {
            self.words.push(word.to_owned());
        }
    }

    /// "black and white shirt": one thing of two colours.
    fn joins_colours(&self, next: Option<&str>) -> bool {
        let is_colour = |word: &str| lists::COLOURS.has(word);
        self.words.last().is_some_and(|last| is_colour(last)) && next.is_some_and(is_colour)
    }

    /// Ends a phrase. What is denied is dropped, and the words after it are not denied any more.
    fn close(&mut self) {
        let mut words = std::mem::take(&mut self.words);
        while words
            .last()
            .is_some_and(|word| ["of", "on", "and", "very", "up", "out"].contains(&word.as_str()))
        {
            words.pop();
        }
        let says_nothing = |word: &String| {
            let is_build = lists::BUILD.has(word) && !lists::PERSONS.has(word);
            let is_aside = [
                "back",
                "side",
                "left",
                "right",
                "face",
                "head",
                "neck",
                "chest",
                "shoulder",
                "shoulders",
                "arm",
                "arms",
                "leg",
                "legs",
                "knee",
                "knees",
            ]
            .contains(&word.as_str());
            lists::FUNCTION.has(word)
                || is_build
                || is_aside
                || lists::PLACES.has(word)
                || lists::TIMES.has(word)
                || word.chars().all(char::is_numeric)
        };
        if words.is_empty() {
            return;
        }
        let denied = std::mem::take(&mut self.denies);
        if denied || words.iter().all(says_nothing) {
            return;
        }
        let from = words.len().saturating_sub(MAX_WORDS);
        let phrase = words.get(from..).unwrap_or_default().join(" ");
        if !self.found.contains(&phrase) {
            self.found.push(phrase);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_cut_into_their_parts() {
        let cases: &[(&str, &[&str])] = &[
            ("woman in a red coat with a black backpack", &["woman", "red coat", "black backpack"]),
            (
                "The man wears a black coat, white shirt and white sneakers. He has black hair and carries a brown briefcase.",
                &[
                    "man",
                    "black coat",
                    "white shirt",
                    "white sneakers",
                    "black hair",
                    "brown briefcase",
                ],
            ),
            (
                "a woman in white jeans walks with a black handbag over her shoulder",
                &["woman", "white jeans", "black handbag"],
            ),
            (
                "man, open charcoal grey coat, black jeans, short grey hair",
                &["man", "open charcoal grey coat", "black jeans", "short grey hair"],
            ),
            (
                "This girl with the hood up in a knee-length red overcoat",
                &["girl", "hood", "knee-length red overcoat"],
            ),
            (
                "Dressed in a blue cardigan and a black t-shirt underneath and grey shorts, this male has an orange rucksack",
                &["blue cardigan", "black t-shirt", "grey shorts", "male", "orange rucksack"],
            ),
            (
                "A man in black and white striped trousers",
                &["man", "black and white striped trousers"],
            ),
            (
                "a black and yellow schoolbag and a white cap",
                &["black and yellow schoolbag", "white cap"],
            ),
            ("woman in a red coat, no hat", &["woman", "red coat"]),
            ("man without a bag in a blue jacket", &["man", "blue jacket"]),
            ("he isn't wearing a coat but has a green scarf", &[]),
            ("hatless woman in blue jeans", &["woman", "blue jeans"]),
            ("a pair of black boots with white laces", &["pair of black boots", "white laces"]),
            (
                "a white t-shirt with a red logo on the chest",
                &["white t-shirt", "red logo on chest"],
            ),
            ("the man is pushing a white stroller", &["man", "white stroller"]),
            ("walking boots and a rolling suitcase", &["walking boots", "rolling suitcase"]),
            ("a man walking with running shoes", &["man", "running shoes"]),
            ("red coat", &[]),
            ("a man", &[]),
            ("woman at the gate in a red coat at 3 pm", &["woman", "red coat"]),
            ("coat/hat/bag", &["coat", "hat", "bag"]),
            ("red coat,blue hat;green bag", &["red coat", "blue hat", "green bag"]),
            ("(woman) \"red coat\"", &["woman", "red coat"]),
            ("a, the, with, in", &[]),
            ("red coat and red coat and blue hat", &["red coat", "blue hat"]),
            ("tall, slim man with a beard", &["slim man", "beard"]),
            ("one two three four five six red coat, hat", &["three four five six red coat", "hat"]),
            (
                "a very long wavy blonde curly thick shiny hair and a hat",
                &["wavy blonde curly thick shiny hair", "hat"],
            ),
            ("MAN IN A BLUE COAT WITH A BAG", &["man", "blue coat", "bag"]),
            ("man's jacket & woman's bag", &["man's jacket", "woman's bag"]),
            ("the shirt is red", &["shirt", "red"]),
            (
                "a man with a suit and tie and hat and bag and shoes and belt and gloves",
                &["man", "suit", "tie", "hat", "bag", "shoes"],
            ),
            ("person of unknown age in a green parka", &["person of unknown age", "green parka"]),
            ("seen from behind, a woman with a long plait", &["woman", "long plait"]),
            (
                "wearing a grey hoodie, the boy carries a skateboard",
                &["grey hoodie", "boy", "skateboard"],
            ),
            ("🙂 red coat 🙂 blue hat", &["red coat", "blue hat"]),
            (
                "This man's white shirt hangs out of his brown trousers",
                &["man's white shirt", "brown trousers"],
            ),
            ("mid-length black dress – white shoes", &["mid-length black dress", "white shoes"]),
            ("woman in", &[]),
            ("with with with red coat with", &[]),
            ("a stealing man in a red coat", &["man", "red coat"]),
        ];
        assert!(cases.len() >= 40);
        for (text, expected) in cases {
            assert_eq!(phrases(text), *expected, "{text}");
        }
    }

    #[test]
    fn phrases_are_few_and_short_whatever_the_text() {
        let long = "a red coat with a hat and ".repeat(300);
        let run = "red ".repeat(500) + ", hat";
        let word = format!("{} coat, hat", "x".repeat(2000));
        for text in [long.as_str(), &run, &word, "", "🙂", "\u{1b}[31m, \0", "of of, on on"] {
            let found = phrases(text);
            assert!(found.len() <= MAX_PHRASES && found.len() != 1, "{found:?}");
            for phrase in found {
                assert!((1..=MAX_WORDS).contains(&phrase.split(' ').count()), "{phrase}");
                assert!(phrase.len() <= MAX_WORDS * (MAX_WORD_BYTES + 1), "{phrase}");
            }
        }
    }
}
