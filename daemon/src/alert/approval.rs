//! The consent of a second person to one revision of an alert.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Refusal,
    fields::{self, Fields, missing},
};

/// Revisions of one alert whose approvals are remembered; the highest are kept.
const MAX_REVISIONS: usize = 16;
/// Approvers remembered for one revision. Two suffice: of two different ones at least one is not
/// the author.
const MAX_APPROVERS: usize = 2;
/// Longest name of an approver, in characters.
const MAX_NAME: usize = 200;

/// One message of the approvals topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Which revision of the alert.
    pub revision: u64,
    /// Who approves.
    pub approved_by: String,
}

impl Approval {
    /// Reads a payload that is not empty.
    ///
    /// # Errors
    /// A [`Refusal`] that says what would be right.
    pub fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::parse(fields::utf8(payload)?)?;
        fields.schema()?;
        let revision = fields.integer("revision")?.ok_or_else(|| {
            missing("revision", "an approval holds for one revision of the alert")
        })?;
        let approved_by = fields
            .text("approved_by", MAX_NAME)?
            .ok_or_else(|| missing("approved_by", "say who approves"))?;
        Ok(Self { revision, approved_by })
    }
}

/// What was approved of one alert; a function of the set of approvals, in any order, as long as no
/// more than 16 revisions wait. Names are kept in lower case: "Ann" cannot approve what "ann"
/// wrote, and three spellings of the author cannot crowd out a second person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals(BTreeMap<u64, BTreeSet<String>>);

impl Approvals {
    /// Adds one; says whether that changed anything.
    pub fn add(&mut self, approval: Approval) -> bool {
        let before = self.clone();
        let approvers = self.0.entry(approval.revision).or_default();
        approvers.insert(approval.approved_by.to_lowercase());
        while approvers.len() > MAX_APPROVERS {
            approvers.pop_last();
        }
        while self.0.len() > MAX_REVISIONS {
            self.0.pop_first();
        }
        *self != before
    }

    /// The newest one, as a message; empty where there is none.
    pub fn newest(&self) -> Vec<u8> {
        let Some((revision, approvers)) = self.0.last_key_value() else { return Vec::new() };
        let approved_by = approvers.first().map(String::as_str).unwrap_or_default();
        let message =
            serde_json::json!({"schema": 1, "revision": revision, "approved_by": approved_by});
        message.to_string().into_bytes()
    }

    /// Forgets what can never count again: approvals of revisions before this one.
    pub fn forget_before(&mut self, revision: u64) {
        self.0 = self.0.split_off(&revision);
    }

    /// Who approved this revision, other than its author.
    pub fn by_other_than(&self, author: &str, revision: u64) -> Option<&str> {
        let author = author.to_lowercase();
        let approvers = self.0.get(&revision)?;
        approvers.iter().find(|name| **name != author).map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.0.iter().flat_map(|(n, names)| names.iter().map(|name| (*n, name.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(revision: u64, by: &str) -> Approval {
        Approval { revision, approved_by: by.into() }
    }

    #[test]
    fn the_author_cannot_approve_nor_hide_who_did() {
        let mut approvals = Approvals::default();
        assert!(approvals.add(approval(3, "ANN")));
        assert_eq!(approvals.by_other_than("ann", 3), None);
        for by in ["Ann", "aNN", "Zoe", "Bob", "ann"] {
            approvals.add(approval(3, by));
        }
        assert!(approvals.by_other_than("ann", 3).is_some());
        assert_eq!(approvals.by_other_than("ann", 4), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut approvals = Approvals::default();
        for n in 0..1000 {
            for by in ["a", "b", "c"] {
                approvals.add(approval(n, by));
            }
        }
        assert_eq!(approvals.iter().count(), MAX_REVISIONS * MAX_APPROVERS);
        approvals.forget_before(999);
        assert_eq!(approvals.iter().count(), MAX_APPROVERS);
    }

    #[test]
    fn broken_approvals_are_refused() {
        let good = Approval::parse(br#"{"schema": 1, "revision": 3, "approved_by": "Ann"}"#);
        assert_eq!(good.unwrap(), approval(3, "Ann"));
        for payload in
            ["", "yes", "{}", r#"{"revision": 1}"#, r#"{"revision": -1, "approved_by": "x"}"#]
        {
            assert!(Approval::parse(payload.as_bytes()).is_err(), "{payload}");
        }
    }
}
