//! Captions from the attributes of Market-1501 (Lin et al., "Improving person re-identification by
//! attribute and identity learning", Pattern Recognition 2019), by whose names and numbers they are
//! read: mostly 1 for no and 2 for yes.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use serde::Deserialize;

use super::{annotations::read_json, market::Person};
use crate::error::{Error, Result};

const FILE: &str = "market_attribute.json";

/// The member of the published structure that names the persons.
const PERSONS: &str = "image_index";

const YES: i64 = 2;

/// Colours of the upper body, `up...` in the file.
const UPPER: [(&str, &str); 8] = [
    ("upblack", "black"),
    ("upwhite", "white"),
    ("upred", "red"),
    ("uppurple", "purple"),
    ("upyellow", "yellow"),
    ("upgray", "grey"),
    ("upblue", "blue"),
    ("upgreen", "green"),
];

/// Colours of the lower body, `down...` in the file.
const LOWER: [(&str, &str); 9] = [
    ("downblack", "black"),
    ("downwhite", "white"),
    ("downpink", "pink"),
    ("downpurple", "purple"),
    ("downyellow", "yellow"),
    ("downgray", "grey"),
    ("downblue", "blue"),
    ("downgreen", "green"),
    ("downbrown", "brown"),
];

/// The attributes of all persons.
pub(super) struct Attributes {
    persons: HashMap<i64, Person>,
}

/// A person's number or an attribute's.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Number(f64),
    Text(String),
}

impl Entry {
    fn number(&self) -> Option<i64> {
        match self {
            Entry::Number(number) if number.fract() == 0.0 => Some(*number as i64),
            Entry::Number(_) => None,
            Entry::Text(text) => text.trim().parse().ok(),
        }
    }
}

/// A split's attributes: a list for each, in the order of `image_index`.
type Columns = BTreeMap<String, Vec<Entry>>;

impl Attributes {
    /// Reads the published structure as JSON: `{"train": {"image_index": ["0002", ...], "age":
    /// [2, ...], ...}, "test": {...}}`.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            let reason = format!(
                "Market-1501 has no captions; they are made from {FILE}, which is missing. \
                 docs/guide/training.md says how to write it from market_attribute.mat"
            );
            return Err(Error::invalid(folder.display().to_string(), reason));
        }
        let corrupt = |reason: String| spotter_models::Error::corrupt(&path, reason);
        let splits: BTreeMap<String, Columns> = serde_json::from_slice(&read_json(&path)?)
            .map_err(|error| corrupt(error.to_string()))?;
        let mut persons = HashMap::new();
        for (split, columns) in splits {
            let Some(ids) = columns.get(PERSONS) else {
                return Err(corrupt(format!("{split} has no {PERSONS}")).into());
            };
            for (row, id) in ids.iter().enumerate() {
                let Some(id) = id.number() else {
                    return Err(corrupt(format!("{split}.{PERSONS}[{row}] is no number")).into());
                };
                let value = |(name, column): (&String, &Vec<Entry>)| {
                    Some((name.clone(), column.get(row)?.number()?))
                };
                persons.insert(id, columns.iter().filter_map(value).collect());
            }
        }
        Ok(Self { persons })
    }

    /// Two captions of a person's picture, none where nothing is known of the person. Which of the
    /// sentences are used depends on the file's name alone.
    pub(super) fn captions(&self, person: i64, file: &str) -> Vec<String> {
        let Some(attributes) = self.persons.get(&person) else { return vec![] };
        let words = Words::of(attributes);
        // FNV-1a, so that neighbouring pictures differ.
        let hash = file.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let first = (hash >> 32) as usize % SENTENCES;
        // Any other than the first.
        let second = (first + 1 + (hash >> 16) as usize % (SENTENCES - 1)) % SENTENCES;
        vec![words.sentence(first), words.sentence(second)]
    }
}

/// How many ways there are to say the same.
const SENTENCES: usize = 4;

/// Parts of a sentence about a person.
struct Words {
    /// Such as "young woman".
    who: String,
    pronoun: &'static str,
    hair: Option<&'static str>,
    upper: String,
    lower: String,
    /// Such as "a hat and a backpack"; empty where there is nothing.
    things: String,
}

impl Words {
    fn of(person: &Person) -> Self {
        let value = |name: &str| person.get(name).copied();
        let age = match value("age") {
            Some(1) => "young ",
            Some(2) => "teenage ",
            Some(4) => "old ",
            _ => "",
        };
        let (noun, pronoun) = match value("gender") {
            Some(1) => ("man", "he"),
            Some(YES) => ("woman", "she"),
            _ => ("person", "the person"),
        };
        let hair = match value("hair") {
            Some(1) => Some("short hair"),
            Some(YES) => Some("long hair"),
            _ => None,
        };
        let sleeves = match value("up") {
            Some(1) => "long-sleeved top",
            Some(YES) => "short-sleeved top",
            _ => "top",
        };
        let is_long = value("down") != Some(2);
        let lower = match (value("clothes"), is_long) {
            (Some(1), true) => "long dress or skirt",
            (Some(1), false) => "short dress or skirt",
            (_, true) => "long trousers",
            (_, false) => "shorts",
        };
        let has = |name: &str| value(name) == Some(YES);
        let things: Vec<&str> = [
            ("hat", "a hat"),
            ("backpack", "a backpack"),
            ("bag", "a bag"),
            ("handbag", "a handbag"),
        ]
        .into_iter()
        .filter(|(name, _)| has(name))
        .map(|(_, thing)| thing)
        .collect();
        let dressed = |colours: &[(&str, &'static str)], garment: &str| {
            let colour = colours.iter().find(|(name, _)| has(name)).map(|(_, colour)| *colour);
            colour.map_or_else(|| garment.to_owned(), |colour| format!("{colour} {garment}"))
        };
        Self {
            who: format!("{age}{noun}"),
            pronoun,
            hair,
            upper: dressed(&UPPER, sleeves),
            lower: dressed(&LOWER, lower),
            things: and(&things),
        }
    }

    fn sentence(&self, index: usize) -> String {
        let Self { who, pronoun, hair, upper, lower, things } = self;
        // "shorts" and "trousers" are many; a dress is one.
        let lower = if lower.ends_with('s') { lower.clone() } else { article(lower) };
        let (subject, upper) = (article(who), article(upper));
        let hair_of = hair.map(|hair| format!(" with {hair}")).unwrap_or_default();
        let carries = |verb: &str| match things.is_empty() {
            true => String::new(),
            false => format!("{verb}{things}"),
        };
        let sentence = match index {
            0 => format!("{subject}{hair_of} in {upper} and {lower}{}.", carries(", with ")),
            1 => format!(
                "the {who} is wearing {upper} and {lower}.{}",
                carries(&format!(" {pronoun} has ")) + if things.is_empty() { "" } else { "." }
            ),
            2 => format!("{subject} dressed in {lower} and {upper}{}.", carries(" and having ")),
            _ => {
                let has: Vec<&str> = hair
                    .iter()
                    .copied()
                    .chain(Some(things.as_str()))
                    .filter(|s| !s.is_empty())
                    .collect();
                let has = match has.is_empty() {
                    true => String::new(),
                    false => format!(" {pronoun} has {}.", has.join(" and ")),
                };
                format!("this {who} wears {upper} with {lower}.{has}")
            }
        };
        capitalised(&sentence)
    }
}

/// "a", or "an" before a vowel.
fn article(noun: &str) -> String {
    match noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {noun}"),
        false => format!("a {noun}"),
    }
}

/// "a", "a and b", "a, b and c".
fn and(things: &[&str]) -> String {
    match things {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Sentences begin with a capital letter.
fn capitalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_start = true;
    for letter in text.chars() {
        match is_start && letter.is_alphabetic() {
            true => out.extend(letter.to_uppercase()),
            false => out.push(letter),
        }
        is_start = letter == '.' || (is_start && letter == ' ');
    }
    out
}
