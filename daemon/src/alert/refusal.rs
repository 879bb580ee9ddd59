//! Why an alert is not armed, for a person who can act on it and for a program that counts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of refusal; stable names for dashboards and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// More bytes than a message may have.
    TooLarge,
    /// The bytes are no UTF-8.
    NotUtf8,
    /// Not JSON, and plain text is not allowed here.
    NotJson,
    /// Nested deeper than any alert needs.
    TooDeep,
    /// A schema that this version does not know.
    UnknownSchema,
    /// A field that is missing.
    MissingField,
    /// A field of a wrong type or outside its range.
    BadField,
    /// Characters that would let a text show something else than it is.
    BadCharacter,
    /// The alert would live longer than the site allows.
    LivesTooLong,
    /// The text holds a term that the site refuses.
    RefusedTerm,
    /// The device holds as many alerts as it may.
    Full,
    /// The text cannot be turned into something to look for.
    Unreadable,
    /// The text names a person.
    RefusedName,
    /// The text tells what only a face shows.
    RefusedFace,
    /// The text tells a protected trait of persons.
    RefusedTrait,
    /// The model can use no word of the text, and the site refuses that.
    Unusable,
    /// Its false alarms cannot be kept within its budget, and the site refuses that.
    OverBudget,
    /// The person whom the alert is like is kept by another device.
    Elsewhere,
    /// Nobody is kept here of whom the alert could be like.
    NoPerson,
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its kind.
    pub code: Code,
    /// What is wrong and what would be right, as a sentence without a full stop.
    pub reason: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
