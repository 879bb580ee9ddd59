//! What is known of one alert: the message that counts, and what was approved.
//!
//! The message that counts is a maximum: of the messages with a revision the highest one, of two
//! with the same revision the one whose bytes are greater. A maximum does not depend on the order
//! in which it is taken, nor on how often, so late and duplicate messages change nothing.

use std::{cmp::Ordering, sync::Arc};

use jiff::Timestamp;

use super::{
    Refusal, Rules, Spec, Wall,
    approval::Approvals,
    lint::{Finding, Severity},
    policy::plain_text_refused,
    schema::Message,
};

/// The place of a message among those of its alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// What the message carries; `None` where it carries none.
    pub revision: Option<u64>,
    /// Counts messages without a revision (a plain text, an empty payload) that came after it: they
    /// mean "from now on" and can only be placed by their arrival.
    pub step: u32,
}

/// How a payload was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON object with a revision.
    Revision,
    /// A plain text.
    Plain,
    /// An empty payload.
    Empty,
    /// Something without a revision that cannot be read.
    Garbage,
}

/// What the message that counts asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Wanted { spec: Arc<Spec>, warnings: Vec<String> },
    Withdrawn { by: Withdrawal, warnings: Vec<String> },
    Refused(Refusal),
}

/// Why an alert is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// A message said so.
    Message,
    /// An empty payload came.
    Empty,
    /// The broker does not hold it any more.
    NotRetained,
    /// The person whom it is like was erased.
    Erased,
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It cannot be watched for.
    Rejected(Refusal),
    /// It waits for a second person.
    PendingApproval,
    /// It is watched for.
    Armed,
    /// Its author switched it off.
    Disabled,
    /// Its time is over.
    Expired,
    /// It is not wanted any more.
    Withdrawn(Withdrawal),
}

impl Status {
    /// Whether it counts against the number of alerts a device holds.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::PendingApproval | Self::Armed | Self::Disabled)
    }
}

/// The message that counts.
#[derive(Clone, Debug)]
pub(super) struct Top {
    pub(super) order: Order,
    pub(super) kind: Kind,
    pub(super) payload: Arc<[u8]>,
    pub(super) content: Content,
    /// When it came; `None` until the box believes its clock.
    pub(super) received: Option<Timestamp>,
    /// Another message with the same revision asked for something else.
    pub(super) conflict: bool,
    /// The broker does not hold it any more.
    pub(super) missing: bool,
    /// Something that cannot be read and has no revision came later.
    pub(super) garbage: Option<Refusal>,
}

impl Top {
    /// A message, read. `place` is where a plain text and an empty payload stand.
    pub(super) fn new(payload: &[u8], message: Message, place: Order, now: Wall) -> Self {
        let (order, kind, content) = match message {
            Message::Alert { revision, spec, warnings } => {
                let content = Content::Wanted { spec: spec.into(), warnings };
                (Order::of(revision), Kind::Revision, content)
            }
            Message::Withdrawn { revision, warnings } => {
                let content = Content::Withdrawn { by: Withdrawal::Message, warnings };
                (Order::of(revision), Kind::Revision, content)
            }
            Message::Unreadable { revision: Some(revision), refusal } => {
                (Order::of(revision), Kind::Revision, Content::Refused(refusal))
            }
            Message::Unreadable { revision: None, refusal } => {
                (Order::default(), Kind::Garbage, Content::Refused(refusal))
            }
            Message::Plain(spec) => {
                let content = Content::Wanted { spec: spec.into(), warnings: Vec::new() };
                (place, Kind::Plain, content)
            }
            Message::Empty => {
                let by = Withdrawal::Empty;
                (place, Kind::Empty, Content::Withdrawn { by, warnings: Vec::new() })
            }
        };
        // What cannot be read is not kept: it may be as large as the broker allows.
        let payload = if kind == Kind::Garbage { &[] } else { payload };
        Self {
            order,
            kind,
            payload: payload.into(),
            content,
            received: now.believed().then_some(now.at),
            conflict: false,
            missing: false,
            garbage: None,
        }
    }
}

impl Order {
    fn of(revision: u64) -> Self {
        Self { revision: Some(revision), step: 0 }
    }
}

/// What a message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It counts from now on.
    Changed,
    /// It was known already.
    Duplicate,
    /// A message with a higher place came before; it changes nothing.
    Stale {
        /// The revision that counts.
        newest: Option<u64>,
    },
    /// Another message with the same revision asks for something else. The one whose bytes are
    /// greater counts, on every device.
    Conflict {
        /// The revision.
        revision: u64,
    },
    /// It is refused and changes nothing; what was armed stays armed.
    Refused(Refusal),
    /// It withdraws what nobody knows.
    Nothing,
}

/// One alert.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) top: Option<Top>,
    pub(super) approvals: Approvals,
    /// Grows with each change over all alerts; decides what is forgotten first.
    pub(super) changed: u64,
    /// What the site's rules say to the content.
    verdict: Option<Refusal>,
    /// What a person should know of its texts.
    findings: Vec<String>,
    /// Why the running bundle cannot look for it.
    pub(super) fault: Option<Refusal>,
    /// The person whom it is like was erased.
    pub(super) is_erased: bool,
}

impl Entry {
    /// Takes a message.
    pub(super) fn take(
        &mut self,
        payload: &[u8],
        message: Message,
        rules: &Rules,
        now: Wall,
    ) -> Outcome {
        let message = match message {
            Message::Plain(_) if !rules.policy().plain_text => {
                Message::Unreadable { revision: None, refusal: plain_text_refused() }
            }
            message => message,
        };
        let last = self.top.as_ref().map(|top| top.order).unwrap_or_default();
        let place = Order { step: last.step.saturating_add(1), ..last };
        let outcome = self.merge(Top::new(payload, message, place, now));
        if let Some(revision) = self.revision() {
            self.approvals.forget_before(revision);
        }
        self.judge(rules);
        outcome
    }

    /// The maximum of what counts and a new message.
    fn merge(&mut self, new: Top) -> Outcome {
        let Some(old) = &mut self.top else {
            if new.kind == Kind::Empty {
                return Outcome::Nothing;
            }
            return self.replace(new);
        };
        if new.kind == old.kind && new.kind != Kind::Garbage && new.payload == old.payload {
            // The broker has it again.
            let back = std::mem::take(&mut old.missing);
            return if back { Outcome::Changed } else { Outcome::Duplicate };
        }
        if new.kind == Kind::Garbage && old.kind != Kind::Garbage {
            let Content::Refused(refusal) = new.content else { return Outcome::Nothing };
            old.garbage = Some(refusal.clone());
            return Outcome::Refused(refusal);
        }
        match new.order.cmp(&old.order) {
            Ordering::Greater => self.replace(new),
            Ordering::Less => Outcome::Stale { newest: old.order.revision },
            Ordering::Equal => self.tie(new),
        }
    }

    /// Two messages at one place.
    fn tie(&mut self, mut new: Top) -> Outcome {
        let Some(old) = &mut self.top else { return self.replace(new) };
        // Garbage has no place of its own: the last one is the one that its sender wants explained.
        let Some(revision) = new.order.revision else { return self.replace(new) };
        let differs = !same(&new.content, &old.content);
        let conflict = old.conflict || differs;
        // Whichever counts: the broker holds a message of this revision.
        let back = std::mem::take(&mut old.missing);
        let wins = new.payload > old.payload;
        if wins {
            new.conflict = conflict;
            new.garbage = old.garbage.take();
            self.replace(new);
        } else {
            old.conflict = conflict;
        }
        match (differs, wins || back) {
            (true, _) => Outcome::Conflict { revision },
            (false, true) => Outcome::Changed,
            (false, false) => Outcome::Duplicate,
        }
    }

    fn replace(&mut self, new: Top) -> Outcome {
        (self.fault, self.is_erased) = (None, false);
        self.top = Some(new);
        Outcome::Changed
    }

    /// Asks the site's rules, which are too slow to be asked at every tick.
    pub(super) fn judge(&mut self, rules: &Rules) {
        (self.verdict, self.findings) = (None, Vec::new());
        if let Some(spec) = self.spec().cloned() {
            let findings = rules.lint(&spec);
            let refused = findings.iter().find_map(Finding::refusal);
            self.verdict = rules.admit(&spec).err().or(refused);
            let told = findings.into_iter().filter(|finding| finding.severity != Severity::Refused);
            self.findings = told.map(|finding| finding.message).collect();
        }
    }

    /// The revision that counts.
    pub(super) fn revision(&self) -> Option<u64> {
        self.top.as_ref()?.order.revision
    }

    /// What is asked for, where anything is.
    pub(super) fn spec(&self) -> Option<&Arc<Spec>> {
        match &self.top.as_ref()?.content {
            Content::Wanted { spec, .. } => Some(spec),
            _ => None,
        }
    }

    /// Who approved what counts.
    pub(super) fn approved_by(&self) -> Option<&str> {
        let author = self.spec()?.created_by.as_deref()?;
        self.approvals.by_other_than(author, self.revision()?)
    }

    /// When it ends, where that is known.
    pub(super) fn expires_at(&self, rules: &Rules) -> Option<Timestamp> {
        rules.expiry(self.spec()?, self.top.as_ref()?.received)
    }

    /// What became of it at this moment; `None` where only approvals are known.
    pub(super) fn status(&self, rules: &Rules, now: Wall) -> Option<Status> {
        let top = self.top.as_ref()?;
        if top.missing {
            return Some(Status::Withdrawn(Withdrawal::NotRetained));
        }
        Some(match &top.content {
            Content::Withdrawn { by, .. } => Status::Withdrawn(*by),
            Content::Refused(refusal) => Status::Rejected(refusal.clone()),
            Content::Wanted { .. } if self.is_erased => Status::Withdrawn(Withdrawal::Erased),
            Content::Wanted { spec, .. } => self.status_of(spec, top.received, rules, now),
        })
    }

    fn status_of(
        &self,
        spec: &Spec,
        received: Option<Timestamp>,
        rules: &Rules,
        now: Wall,
    ) -> Status {
        // Also by a clock that is not believed: one that is behind ends nothing too early, and one
        // that is ahead is put right without loss, since this is decided anew each time.
        if rules.expiry(spec, received).is_some_and(|end| end <= now.at) {
            return Status::Expired;
        }
        let too_long = received.and_then(|at| rules.admit_lifetime(spec, at).err());
        if let Some(refusal) = self.verdict.clone().or(too_long) {
            return Status::Rejected(refusal);
        }
        if !spec.enabled {
            return Status::Disabled;
        }
        if rules.policy().second_person && self.approved_by().is_none() {
            return Status::PendingApproval;
        }
        match &self.fault {
            Some(refusal) => Status::Rejected(refusal.clone()),
            None => Status::Armed,
        }
    }

    /// What a person should know although it is taken.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Some(top) = &self.top else { return Vec::new() };
        let mut warnings = match &top.content {
            Content::Wanted { warnings, .. } | Content::Withdrawn { warnings, .. } => {
                warnings.clone()
            }
            Content::Refused(_) => Vec::new(),
        };
        warnings.extend(self.findings.iter().cloned());
        if top.conflict {
            warnings.push(
                "two different messages carry this revision; publish a higher one to settle it"
                    .to_owned(),
            );
        }
        if let Some(refusal) = &top.garbage {
            warnings.push(format!("a later message was refused: {refusal}"));
        }
        warnings
    }
}

/// Whether two messages ask for the same; how they are written and what was tolerated may differ.
fn same(a: &Content, b: &Content) -> bool {
    match (a, b) {
        (Content::Wanted { spec: a, .. }, Content::Wanted { spec: b, .. }) => a == b,
        (Content::Withdrawn { .. }, Content::Withdrawn { .. }) => true,
        (Content::Refused(a), Content::Refused(b)) => a == b,
        _ => false,
    }
}
