//! What a site allows: fields it requires, how long an alert may live, who must agree, which terms
//! are never looked for.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spotter_models::vocabulary::Vocabulary;
use unicode_normalization::UnicodeNormalization;

use super::{
    Code, Refusal, Spec,
    lint::{Doubtful, Finding, Lint, Refuse},
};
use crate::error::{Error, Result};

/// Longest lifetime that can be configured, in hours: ten years.
const MAX_HOURS: u32 = 87_600;

/// Most findings that are told of one alert, whose texts may be 65.
const MAX_FINDINGS: usize = 16;

/// A field that a site may require on top of `text`, `revision` and `expires_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Required {
    /// Why the person is looked for.
    Purpose,
    /// Who asked.
    CreatedBy,
    /// On which cameras: no alert for the whole site.
    Cameras,
    /// How many false alarms a day can be borne.
    BudgetPerDay,
}

/// What a site allows: a section of the configuration. Reloadable; a change decides anew over all
/// alerts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Fields without which an alert is rejected. Default: none.
    pub required: BTreeSet<Required>,
    /// Whether somebody else than the author has to approve an alert before it is armed. Default:
    /// no.
    pub second_person: bool,
    /// Longest time an alert may live from its receipt, in hours. Default: 168, a week.
    pub longest_lifetime_h: u32,
    /// Whether a payload that is not JSON is taken as the text. Default: no.
    pub plain_text: bool,
    /// How long an alert lives that came as plain text, in hours. Default: 24.
    pub default_lifetime_h: u32,
    /// Terms that are never looked for: whole words, in any case. Default: none.
    pub refused_terms: Vec<String>,
    /// What is never looked for, by kind. Default: names, faces and protected traits.
    pub refuse: BTreeSet<Refuse>,
    /// What becomes of a text of which the model can use nothing. Default: it is armed with a warning.
    pub unusable: Doubtful,
    /// What becomes of an alert whose false alarms cannot be kept within its budget, as far as is known
    /// when it is armed. Default: it is armed with a warning.
    pub over_budget: Doubtful,
    /// Most alerts that are armed, disabled or wait for approval at one time. Default: 10,000.
    pub max_alerts: usize,
    /// Most ended alerts (withdrawn, expired, rejected) that are remembered, so that late messages
    /// do not revive them; beyond it the one that ended first is forgotten. Default: 10,000.
    pub max_ended: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            required: BTreeSet::new(),
            second_person: false,
            longest_lifetime_h: 168,
            plain_text: false,
            default_lifetime_h: 24,
            refused_terms: Vec::new(),
            refuse: Refuse::ALL.into(),
            unusable: Doubtful::Warn,
            over_budget: Doubtful::Warn,
            max_alerts: 10_000,
            max_ended: 10_000,
        }
    }
}

/// A policy that holds together, ready to decide.
#[derive(Clone, Debug)]
pub struct Rules {
    policy: Policy,
    /// Each refused term: as it was written, and as words.
    terms: Vec<(String, Vec<String>)>,
    /// The words of the running bundle's training captions, where it has them.
    vocabulary: Option<Arc<Vocabulary>>,
}

impl Rules {
    /// Checks a policy.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key and what would be right.
    pub fn new(policy: Policy) -> Result<Self> {
        let refuse =
            |key: &str, reason: String| Err(Error::config(format!("policy.{key}"), reason));
        let hours = 1..=MAX_HOURS;
        if !hours.contains(&policy.longest_lifetime_h) {
            return refuse("longest_lifetime_h", format!("must be 1 to {MAX_HOURS} hours"));
        }
        if !(1..=policy.longest_lifetime_h).contains(&policy.default_lifetime_h) {
            let longest = policy.longest_lifetime_h;
            let reason = format!("must be 1 to longest_lifetime_h, which is {longest}");
            return refuse("default_lifetime_h", reason);
        }
        for (key, number) in [("max_alerts", policy.max_alerts), ("max_ended", policy.max_ended)] {
            if number == 0 {
                return refuse(key, "must be at least 1".into());
            }
        }
        if policy.plain_text && !policy.required.is_empty() {
            let reason = "must be off where fields are required: a plain text cannot carry them";
            return refuse("plain_text", reason.into());
        }
        let mut terms = Vec::new();
        for term in &policy.refused_terms {
            let parts = words(term);
            if parts.is_empty() {
                return refuse("refused_terms", format!("{term:?} holds no word"));
            }
            terms.push((term.clone(), parts));
        }
        Ok(Self { policy, terms, vocabulary: None })
    }

    /// The same for a bundle with this vocabulary.
    pub fn with_vocabulary(self, vocabulary: Option<Arc<Vocabulary>>) -> Self {
        Self { vocabulary, ..self }
    }

    /// What there is to say of an alert's texts, most severe first.
    pub fn lint(&self, spec: &Spec) -> Vec<Finding> {
        let lint = Lint {
            refuse: &self.policy.refuse,
            unusable: self.policy.unusable,
            vocabulary: self.vocabulary.as_deref(),
        };
        let mut findings = lint.alert(spec);
        findings.truncate(MAX_FINDINGS);
        findings
    }

    /// The policy that is applied.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// When an alert ends that was received at `received`; `None` while that is not known.
    pub fn expiry(&self, spec: &Spec, received: Option<Timestamp>) -> Option<Timestamp> {
        spec.expires_at.or_else(|| received.map(|at| later_by(at, self.policy.default_lifetime_h)))
    }

    /// Decides over an alert's content, all but what [`Rules::lint`] says of its texts and its place in
    /// time.
    ///
    /// # Errors
    /// A [`Refusal`] that says which rule and how to keep it.
    pub fn admit(&self, spec: &Spec) -> Result<(), Refusal> {
        for required in &self.policy.required {
            let (name, given) = match required {
                Required::Purpose => ("purpose", spec.purpose.is_some()),
                Required::CreatedBy => ("created_by", spec.created_by.is_some()),
                Required::Cameras => ("cameras", spec.cameras.is_some()),
                Required::BudgetPerDay => ("budget_per_day", spec.budget_per_day.is_some()),
            };
            if !given {
                let reason = format!("{name} is missing; this site requires it");
                return Err(Refusal::new(Code::MissingField, reason));
            }
        }
        if spec.expires_at.is_none() && !self.policy.plain_text {
            return Err(plain_text_refused());
        }
        self.admit_texts(spec)?;
        // The author cannot approve, so without one nobody is known to be somebody else.
        if self.policy.second_person && spec.created_by.is_none() {
            let reason =
                "created_by is missing; this site asks for the approval of a second person";
            return Err(Refusal::new(Code::MissingField, reason));
        }
        Ok(())
    }

    /// Decides over what is looked for alone, as for a search.
    ///
    /// # Errors
    /// A [`Refusal`] that names the term that is never looked for.
    pub fn admit_texts(&self, spec: &Spec) -> Result<(), Refusal> {
        let texts = std::iter::once(&spec.text).chain(&spec.without);
        for text in texts.map(|text| words(text)) {
            if let Some(term) = self.refused_term(&text) {
                let reason =
                    format!("the text holds {term:?}, which this site does not search for");
                return Err(Refusal::new(Code::RefusedTerm, reason));
            }
        }
        Ok(())
    }

    /// Decides over how long an alert lives from its receipt.
    ///
    /// # Errors
    /// A [`Refusal`] with the latest end that is allowed.
    pub fn admit_lifetime(&self, spec: &Spec, received: Timestamp) -> Result<(), Refusal> {
        let latest = later_by(received, self.policy.longest_lifetime_h);
        match spec.expires_at {
            Some(end) if end > latest => Err(Refusal::new(
                Code::LivesTooLong,
                format!(
                    "expires_at is {end} but an alert may live {} hours here, from its receipt \
                     until {latest}",
                    self.policy.longest_lifetime_h
                ),
            )),
            _ => Ok(()),
        }
    }

    fn refused_term(&self, text: &[String]) -> Option<&str> {
        let holds = |term: &Vec<String>| text.windows(term.len()).any(|part| part == term);
        self.terms.iter().find(|(_, term)| holds(term)).map(|(written, _)| written.as_str())
    }
}

/// Plain text where the site does not take it.
pub(super) fn plain_text_refused() -> Refusal {
    let reason = "not a JSON object; send {\"schema\": 1, \"text\": \"…\", \"revision\": 1, \
                  \"expires_at\": \"…\"} (plain text is not taken at this site)";
    Refusal::new(Code::NotJson, reason)
}

fn later_by(at: Timestamp, hours: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_hours(i64::from(hours))).unwrap_or(Timestamp::MAX)
}

/// The words of a text in one form: compatibility-composed, lower case, without joiners, so that
/// "ＲＥＤ" and "red" are the same word.
fn words(text: &str) -> Vec<String> {
    let plain: String = text
        .nfkc()
        .flat_map(char::to_lowercase)
        .filter(|c| !matches!(c, '\u{200c}' | '\u{200d}'))
        .collect();
    plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(change: impl FnOnce(&mut Policy)) -> Rules {
        let mut policy = Policy { plain_text: true, ..Policy::default() };
        change(&mut policy);
        Rules::new(policy).unwrap()
    }

    #[test]
    fn refused_terms_are_whole_words_in_any_case() {
        let rules = rules(|p| p.refused_terms = vec!["Roma".into(), "sick person".into()]);
        for (text, refused) in [
            ("a roma woman", true),
            ("a ROMA, with a bag", true),
            ("a ｒｏｍａ", true),
            ("ro\u{200d}ma", true),
            ("a romantic dress", false),
            ("a sick   person", true),
            ("a sick-person", true),
            ("a person who is sick", false),
        ] {
            assert_eq!(rules.admit(&Spec::of_text(text)).is_err(), refused, "{text}");
        }
        let mut spec = Spec::of_text("a woman");
        spec.without = vec!["roma".into()];
        assert_eq!(rules.admit(&spec).unwrap_err().code, Code::RefusedTerm);
    }

    #[test]
    fn required_fields() {
        let rules = rules(|p| {
            p.plain_text = false;
            p.required = [Required::Purpose].into();
        });
        let mut spec = Spec::of_text("red coat");
        spec.expires_at = Some(Timestamp::UNIX_EPOCH);
        assert!(rules.admit(&spec).unwrap_err().reason.starts_with("purpose"));
        spec.purpose = Some("case 12".into());
        assert!(rules.admit(&spec).is_ok());
    }

    #[test]
    fn lifetimes_count_from_the_receipt() {
        let rules = rules(|p| (p.longest_lifetime_h, p.default_lifetime_h) = (48, 2));
        let received: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let mut spec = Spec::of_text("red coat");
        let end = rules.expiry(&spec, Some(received)).unwrap();
        assert_eq!(end.to_string(), "2026-11-24T14:00:00Z");
        assert_eq!(rules.expiry(&spec, None), None);
        for (end, fits) in [("2026-11-26T12:00:00Z", true), ("2026-11-26T12:00:01Z", false)] {
            spec.expires_at = Some(end.parse().unwrap());
            assert_eq!(rules.admit_lifetime(&spec, received).is_ok(), fits);
        }
        assert!(rules.admit_lifetime(&spec, Timestamp::MAX).is_ok());
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_refused() {
        let changes: [fn(&mut Policy); 7] = [
            |p| p.longest_lifetime_h = 0,
            |p| p.default_lifetime_h = 169,
            |p| p.max_alerts = 0,
            |p| p.max_ended = 0,
            |p| p.refused_terms = vec!["--".into()],
            |p| (p.plain_text, p.required) = (true, [Required::Purpose].into()),
            |p| p.longest_lifetime_h = u32::MAX,
        ];
        for change in changes {
            let mut policy = Policy::default();
            change(&mut policy);
            let error = Rules::new(policy).unwrap_err().to_string();
            assert!(error.starts_with("policy."), "{error}");
        }
    }
}
