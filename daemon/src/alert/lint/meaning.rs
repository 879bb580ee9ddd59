//! What the model makes nothing of, or something else than its author meant.

use spotter_models::vocabulary::Vocabulary;

use super::{
    lists,
    words::{Word, quote, quoted},
};

/// Most words that one message names.
const NAMED: usize = 6;

/// A denial, with what it denies.
pub(super) struct Denial {
    /// The phrase.
    pub(super) phrase: String,
    /// What the person does not have; empty where that is not clear.
    pub(super) object: String,
}

/// The first denial: "no hat", "isn't wearing a coat", "hatless".
pub(super) fn denial(words: &[Word]) -> Option<Denial> {
    let index = words
        .iter()
        .position(|word| lists::NEGATIONS.has(&word.lower) || lists::LACKING.has(&word.lower))?;
    let word = words.get(index)?;
    if lists::LACKING.has(&word.lower) {
        let object = word.lower.trim_end_matches("less").to_owned();
        let words = words.get(index..=index)?;
        return Some(Denial { phrase: quoted(words), object });
    }
    let rest = words.get(index + 1..).unwrap_or_default();
    let joined = rest.iter().take_while(|word| !word.after_break).count();
    let verbs = [
        "have", "having", "with", "any", "a", "an", "the", "wearing", "wear", "carrying", "carry",
        "holding", "has", "been", "be",
    ];
    let skipped =
        rest.iter().take(joined).take_while(|w| verbs.contains(&w.lower.as_str())).count();
    let object = rest.get(skipped..joined).unwrap_or_default();
    let ends = |word: &&Word| !lists::FUNCTION.has(&word.lower);
    let length = object.iter().take(3).take_while(ends).count();
    // Up to the thing itself: "no hair walks" denies hair.
    let thing = object.iter().take(length).position(|word| lists::THINGS.has_form(&word.lower));
    let length = thing.map_or(length, |thing| thing + 1);
    let object = object.get(..length).unwrap_or_default();
    let lower: Vec<&str> = object.iter().map(|word| word.lower.as_str()).collect();
    let words = words.get(index..=index + skipped + length)?;
    Some(Denial { phrase: quoted(words), object: lower.join(" ") })
}

/// Words that cannot be true of one person together.
pub(super) fn contradiction(words: &[Word]) -> Option<(String, String)> {
    let first = |list: &lists::Words| words.iter().find(|word| list.has(&word.lower));
    if let (Some(man), Some(woman)) = (first(&lists::MALE), first(&lists::FEMALE)) {
        return Some((man.written.clone(), woman.written.clone()));
    }
    let has = |wanted: &str| lengths(words).any(|length| length == wanted);
    if has("short") && has("long") {
        return Some(("short hair".into(), "long hair".into()));
    }
    let is_there = |wanted: &str| words.iter().any(|word| word.lower == wanted);
    (is_there("bald") && has("long")).then(|| ("bald".into(), "long hair".into()))
}

/// The lengths that are said of hair: "short dark hair", "long-haired".
fn lengths(words: &[Word]) -> impl Iterator<Item = &str> {
    let is_hair = |word: &Word| matches!(word.lower.as_str(), "hair" | "haired");
    let hair = (0..words.len()).filter(move |index| words.get(*index).is_some_and(is_hair));
    hair.flat_map(move |index| {
        let mut at = index;
        let mut found = Vec::new();
        // Back over the adjectives of this hair, not over another thing or a comma.
        while let Some(before) = at.checked_sub(1)
            && words.get(at).is_some_and(|word| !word.after_break)
            && let Some(word) = words.get(before)
            && index - before <= 4
            && !lists::THINGS.has_form(&word.lower)
            && !lists::FUNCTION.has(&word.lower)
        {
            found.push(word.lower.as_str());
            at = before;
        }
        found
    })
}

/// Whether a text holds these words in a row, and does not deny them there.
pub(super) fn holds(text: &[Word], item: &[Word]) -> bool {
    let content: Vec<&str> = content(item).map(|(_, word)| word.lower.as_str()).collect();
    if content.is_empty() {
        return false;
    }
    text.windows(content.len()).enumerate().any(|(at, part)| {
        let denies = |word: &Word| lists::NEGATIONS.has(&word.lower);
        let denied =
            text.get(at.saturating_sub(2)..at).is_some_and(|before| before.iter().any(denies));
        !denied && part.iter().map(|word| word.lower.as_str()).eq(content.iter().copied())
    })
}

/// The words that carry a meaning, with their places: no articles, no single letters.
pub(super) fn content(words: &[Word]) -> impl Iterator<Item = (usize, &Word)> {
    words.iter().enumerate().filter(|(_, word)| {
        !lists::FUNCTION.has(&word.lower) && word.lower.chars().count() > 1 || word.has_digit()
    })
}

/// Words of one kind that the model cannot use.
pub(super) struct Unused {
    /// Their places.
    pub(super) places: Vec<usize>,
    /// The words as a message names them.
    pub(super) shown: String,
}

fn unused(words: &[Word], is_meant: impl Fn(usize, &Word) -> bool) -> Option<Unused> {
    let meant = |(index, word): &(usize, &Word)| is_meant(*index, word);
    let places: Vec<usize> =
        words.iter().enumerate().filter(meant).map(|(index, _)| index).collect();
    let mut names: Vec<&str> = Vec::new();
    for index in &places {
        let name = words.get(*index).map_or("", |word| word.written.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = if names.len() > NAMED { " and more" } else { "" };
    let named: Vec<String> = names.iter().take(NAMED).map(|name| quote(name)).collect();
    (!places.is_empty()).then(|| Unused { places, shown: named.join(", ") + more })
}

fn next_is_thing(words: &[Word], index: usize) -> bool {
    words
        .get(index + 1)
        .is_some_and(|next| !next.after_break && lists::THINGS.has_form(&next.lower))
}

/// Left and right.
pub(super) fn sides(words: &[Word]) -> Option<Unused> {
    unused(words, |_, word| ["left", "right"].contains(&word.lower.as_str()))
}

/// Times: "at 3 pm", "yesterday"; not an evening dress.
pub(super) fn times(words: &[Word]) -> Option<Unused> {
    unused(words, |index, word| {
        let is_clock = |at: usize| {
            words.get(at).is_some_and(|next| matches!(next.lower.as_str(), "am" | "pm" | "o'clock"))
        };
        let is_pm = word.lower.strip_suffix("pm").or_else(|| word.lower.strip_suffix("am"));
        let is_joined = is_pm.is_some_and(|hour| {
            !hour.is_empty() && hour.chars().all(|character| character.is_ascii_digit())
        });
        lists::TIMES.has(&word.lower) && !next_is_thing(words, index)
            || word.has_digit() && is_clock(index + 1)
            || is_joined
    })
}

/// Places: "near the gate"; not a bar on a shirt.
pub(super) fn places(words: &[Word]) -> Option<Unused> {
    let said = |index: usize| {
        let from = index.saturating_sub(3);
        let before = words.get(from..index).unwrap_or_default();
        let parted = words.get(from + 1..=index).unwrap_or_default();
        let where_at = before.iter().rposition(|word| {
            lists::WHERE.has(&word.lower) || ["in", "on", "behind"].contains(&word.lower.as_str())
        });
        let joined = |at| parted.get(at..).is_some_and(|rest| rest.iter().all(|w| !w.after_break));
        where_at.is_some_and(joined)
    };
    unused(words, |index, word| {
        lists::PLACES.has(&word.lower) && !next_is_thing(words, index) && said(index)
    })
}

/// What somebody does or is taken for.
pub(super) fn actions(words: &[Word]) -> Option<Unused> {
    unused(words, |_, word| lists::ACTIONS.has(&word.lower))
}

/// Numbers, number plates and the like.
pub(super) fn numbers(words: &[Word]) -> Option<Unused> {
    unused(words, |_, word| word.has_digit())
}

/// Words that the model has never met beside a picture.
pub(super) fn unknown(words: &[Word], vocabulary: &Vocabulary) -> Option<Unused> {
    unused(words, |_, word| {
        let is_content = content(std::slice::from_ref(word)).next().is_some();
        is_content && !word.has_digit() && !is_seen(&word.lower, vocabulary)
    })
}

/// Whether the model has met a word, its singular or its plural.
fn is_seen(word: &str, vocabulary: &Vocabulary) -> bool {
    let seen = |word: &str| vocabulary.count(word) > 0;
    let mut parts = spotter_models::vocabulary::words(word);
    parts.all(|part| {
        seen(&part)
            || lists::singulars(&part).any(|singular| seen(&singular))
            || ["s", "es"].iter().any(|ending| seen(&format!("{part}{ending}")))
    })
}

/// The language of a text, where it is plainly not English.
pub(super) fn language(words: &[Word]) -> Option<&'static str> {
    let letters =
        || words.iter().flat_map(|word| word.written.chars()).filter(|c| c.is_alphabetic());
    let latin = letters().filter(|c| u32::from(*c) < 0x250).count();
    if latin * 2 < letters().count() {
        return Some("a language in other letters");
    }
    let count = |list: &lists::Words| words.iter().filter(|w| list.has(&w.lower)).count();
    let (language, foreign) = lists::LANGUAGES
        .iter()
        .map(|(name, list)| (*name, count(list)))
        .max_by_key(|(_, count)| *count)?;
    let lists = [&lists::FUNCTION, &lists::PERSONS, &lists::COLOURS, &lists::THINGS, &lists::LOOKS];
    let english = words.iter().filter(|w| lists.iter().any(|list| list.has_form(&w.lower))).count();
    (foreign > english || foreign >= 2 && foreign == english).then_some(language)
}

/// Whether a text says nothing but that somebody is there.
pub(super) fn is_generic(words: &[Word]) -> bool {
    let mut telling = content(words)
        .filter(|(_, word)| !lists::PERSONS.has(&word.lower) && !lists::BUILD.has(&word.lower));
    words.len() == 1 || telling.next().is_none()
}

/// Symbols and emoji of a text.
pub(super) fn symbols(text: &str) -> Option<String> {
    let is_symbol = |c: &char| {
        u32::from(*c) >= 0x2190
            && !c.is_alphanumeric()
            && !(0x3000..0x3040).contains(&u32::from(*c))
            && !c.is_whitespace()
    };
    let found: String = text.chars().filter(is_symbol).take(NAMED).collect();
    (!found.is_empty()).then(|| quote(&found))
}
