//! Reads a description before it is armed: what the model cannot use, what the site does not search for.
//!
//! Rules over words and phrases, not a model: whoever is refused can be told which words did it. Findings
//! never change a text; a person does. The languages are told by a short list of frequent words: a
//! library that knows eighty languages guesses on texts as short as these, and would be one more
//! dependency for a warning.

pub(super) mod lists;
mod meaning;
mod sensitive;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spotter_models::vocabulary::Vocabulary;

use super::{Code, Refusal, Spec};
use meaning::Unused;
use words::Word;

/// What is never searched for, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refuse {
    /// Names of persons.
    Names,
    /// What only a face tells.
    Faces,
    /// Origin, skin colour, religion, health, orientation, gender identity, political opinion, union.
    ProtectedTraits,
}

impl Refuse {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Names, Self::Faces, Self::ProtectedTraits];
}

/// What becomes of an alert that will not do what its author expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubtful {
    /// It is armed with a warning.
    #[default]
    Warn,
    /// It is rejected.
    Refuse,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The alert is not armed.
    Refused,
    /// It is armed, and may find nobody or somebody else than is meant.
    Warning,
    /// Worth knowing.
    Hint,
}

/// The kinds of findings; stable names for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// There is no word in it.
    NoWords,
    /// A name of a person.
    Name,
    /// What only a face tells.
    Face,
    /// A protected trait of persons.
    ProtectedTrait,
    /// The model can use no word of it.
    Unusable,
    /// It is too long; the last words are not searched for.
    LostWords,
    /// It is not English.
    Language,
    /// It says what is not there.
    Negation,
    /// Two of its words cannot both be true.
    Contradiction,
    /// Words that were in no training caption.
    UnknownWords,
    /// Left and right.
    Side,
    /// Where somebody is.
    Place,
    /// When somebody is there.
    Time,
    /// What somebody does or is taken for.
    Action,
    /// Numbers.
    Number,
    /// Symbols and emoji.
    Symbol,
    /// It fits a great many people.
    Generic,
    /// Another alert looks for the same.
    Duplicate,
}

/// What a person should know of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub code: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong and what would be right, as a sentence without a full stop.
    pub message: String,
}

impl Finding {
    fn new(code: Kind, severity: Severity, message: impl Into<String>) -> Self {
        Self { code, severity, message: message.into() }
    }

    fn warning(code: Kind, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message)
    }

    /// Why the alert is rejected, where it is.
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self.code {
            Kind::Name => Code::RefusedName,
            Kind::Face => Code::RefusedFace,
            Kind::ProtectedTrait => Code::RefusedTrait,
            Kind::Unusable => Code::Unusable,
            _ => Code::Unreadable,
        };
        (self.severity == Severity::Refused).then(|| Refusal::new(code, self.message.clone()))
    }
}

/// Reads texts by a site's policy and what the bundle's model has met.
#[derive(Clone, Copy, Debug)]
pub struct Lint<'a> {
    /// What is never searched for.
    pub refuse: &'a BTreeSet<Refuse>,
    /// What becomes of a text of which the model can use nothing.
    pub unusable: Doubtful,
    /// The words of the model's training captions, where the bundle has them.
    pub vocabulary: Option<&'a Vocabulary>,
}

impl Lint<'_> {
    /// All findings on an alert's text and on what the person should not have, most severe first.
    pub fn alert(&self, spec: &Spec) -> Vec<Finding> {
        if spec.like.is_some() {
            // There are no words.
            return Vec::new();
        }
        let mut findings = self.text(&spec.text);
        for item in &spec.without {
            findings.extend(self.without(&spec.text, item));
        }
        findings.sort_by_key(|finding| finding.severity);
        findings
    }

    /// Findings on a text alone, most severe first.
    pub fn text(&self, text: &str) -> Vec<Finding> {
        let plain = words::plain(text);
        let words = words::split(&plain);
        if words.is_empty() {
            return vec![no_words()];
        }
        let mut findings = self.refused(&words);
        let language = meaning::language(&words);
        findings.extend(language.map(foreign));
        findings.extend(meaning::denial(&words).map(|denial| negation(&denial)));
        findings.extend(meaning::contradiction(&words).map(|(one, other)| {
            let message = format!(
                "\"{one}\" and \"{other}\" contradict each other; describe one person in one alert"
            );
            Finding::warning(Kind::Contradiction, message)
        }));
        let useless = self.useless(&words);
        let is_understood = language.is_none() && useless.iter().all(|f| f.code != Kind::Unusable);
        if is_understood && meaning::is_generic(&words) {
            let message = format!(
                "{} fits a great many people; add clothes, colours and what is carried",
                words::quote(text.trim())
            );
            findings.push(Finding::warning(Kind::Generic, message));
        }
        findings.extend(useless);
        findings.extend(symbols(&plain));
        findings.sort_by_key(|finding| finding.severity);
        findings
    }

    /// Findings on what the person should not have.
    fn without(&self, text: &str, item: &str) -> Vec<Finding> {
        let plain = words::plain(item);
        let words = words::split(&plain);
        let shown = words::quote(item.trim());
        let mut findings = if words.is_empty() { vec![no_words()] } else { self.refused(&words) };
        if let Some(denial) = meaning::denial(&words) {
            let object = if denial.object.is_empty() { "hat".to_owned() } else { denial.object };
            let message = format!(
                "{} denies twice; name the thing itself, such as \"{object}\"",
                denial.phrase
            );
            findings.push(Finding::warning(Kind::Negation, message));
        } else if meaning::holds(&words::split(&words::plain(text)), &words) {
            let message = format!(
                "{shown} is in the text as well, which looks for it; leave it out of one of the two"
            );
            findings.push(Finding::warning(Kind::Contradiction, message));
        }
        findings.extend(self.useless(&words));
        for finding in &mut findings {
            finding.message = format!("in without {shown}: {}", finding.message);
        }
        findings
    }

    /// What the site does not search for.
    fn refused(&self, words: &[Word]) -> Vec<Finding> {
        // In a language that writes nouns with a capital letter, each would be a name.
        let is_english = meaning::language(words).is_none();
        let names = || is_english.then(|| sensitive::name(words, self.vocabulary)).flatten();
        let mut findings = Vec::new();
        for refuse in self.refuse {
            let (code, reason) = match refuse {
                Refuse::Names => (Kind::Name, names()),
                Refuse::Faces => (Kind::Face, sensitive::face(words)),
                Refuse::ProtectedTraits => {
                    (Kind::ProtectedTrait, sensitive::protected_trait(words))
                }
            };
            let refused = |reason| Finding::new(code, Severity::Refused, reason);
            findings.extend(reason.map(refused));
        }
        findings
    }

    /// Words that the model cannot use, by kind, and whether any is left.
    fn useless(&self, words: &[Word]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut places = BTreeSet::new();
        let mut note = |unused: Option<Unused>, code, severity, message: fn(&str) -> String| {
            let Some(unused) = unused else { return };
            let fresh = unused.places.iter().any(|place| !places.contains(place));
            places.extend(unused.places);
            if fresh {
                findings.push(Finding::new(code, severity, message(&unused.shown)));
            }
        };
        use Severity::{Hint, Warning};
        note(meaning::times(words), Kind::Time, Warning, |shown| {
            format!("the model knows no times: leave {shown} out and use a schedule")
        });
        note(meaning::places(words), Kind::Place, Warning, |shown| {
            format!("the model sees the person only: leave {shown} out and name cameras or zones")
        });
        note(meaning::actions(words), Kind::Action, Warning, |shown| {
            format!("{shown} cannot be seen in one picture; describe clothes and what is carried")
        });
        note(meaning::sides(words), Kind::Side, Hint, |shown| {
            format!("the model does not tell left from right: {shown} changes nothing")
        });
        note(meaning::numbers(words), Kind::Number, Hint, |shown| {
            format!("the model does not read numbers: leave {shown} out")
        });
        if let Some(vocabulary) = self.vocabulary {
            note(meaning::unknown(words, vocabulary), Kind::UnknownWords, Warning, |shown| {
                format!("the model has not seen {shown} in training; it may ignore that")
            });
        }
        let is_left = |index: usize| !places.contains(&index);
        let has_words = !words.is_empty();
        if has_words && !meaning::content(words).any(|(index, _)| is_left(index)) {
            let severity = match self.unusable {
                Doubtful::Warn => Warning,
                Doubtful::Refuse => Severity::Refused,
            };
            let message = "the model can use no word of this and finds people by chance; describe \
                           clothes, colours and what is carried, in English";
            findings.insert(0, Finding::new(Kind::Unusable, severity, message));
        }
        findings
    }
}

fn no_words() -> Finding {
    let message = "has no words; describe the person, for example \"a man in a red jacket\"";
    Finding::new(Kind::NoWords, Severity::Refused, message)
}

fn foreign(language: &'static str) -> Finding {
    let message =
        format!("this looks like {language}, and the model learnt from English: write in English");
    Finding::warning(Kind::Language, message)
}

fn negation(denial: &meaning::Denial) -> Finding {
    let advice = match denial.object.as_str() {
        "" => "say what is there instead".to_owned(),
        object => format!("leave it out and give without: [{}]", words::quote(object)),
    };
    let message = format!("the model does not understand {}; {advice}", denial.phrase);
    Finding::warning(Kind::Negation, message)
}

fn symbols(plain: &str) -> Option<Finding> {
    let shown = meaning::symbols(plain)?;
    let message = format!("the model does not read symbols such as {shown}; write words");
    Some(Finding::new(Kind::Symbol, Severity::Hint, message))
}

/// What a person is told of words that are not searched for.
pub fn lost(words: &str) -> Finding {
    /// Characters of the lost words that are repeated; the field `lost` of a state has all of them.
    const SHOWN: usize = 80;
    let shown: String = words.chars().take(SHOWN).collect();
    let more = if shown.len() < words.len() { "…" } else { "" };
    let message =
        format!("the text is too long; these last words are not searched for: {shown}{more}");
    Finding::warning(Kind::LostWords, message)
}

/// What a person is told where another alert looks for the same.
pub fn duplicate(other: &str) -> Finding {
    let message = format!("the alert {other} looks for the same text; one of the two is enough");
    Finding::new(Kind::Duplicate, Severity::Hint, message)
}
