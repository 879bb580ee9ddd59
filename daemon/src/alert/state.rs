//! What staff are told about an alert: the retained payload of `…/{device}/alerts/{alert}`.

use serde::Serialize;
use spotter_models::Generation;

use super::{Code, Refusal, View, Wall, book::Status, lint, place::Places, rfc3339};

/// What the running bundle makes of an alert that is armed.
#[derive(Clone, Debug, PartialEq)]
pub struct Arming {
    /// The text as the tokenizer cleaned it.
    pub understood: String,
    /// The words that did not fit the model's limit; `None` where all did.
    pub lost: Option<String>,
    /// The cosine from which a track fits.
    pub threshold: Option<f32>,
    /// This device's share of the site's budget, in false alarms a day.
    pub budget_share: Option<f64>,
    /// False alarms a day to expect.
    pub expected_per_day: Option<f64>,
    /// How many tracks of the last 24 hours would have fitted.
    pub matched_24h: Option<u64>,
    /// The bundle.
    pub bundle: Generation,
    /// What else a person should know, such as a part of the alert that is not applied.
    pub warnings: Vec<String>,
}

/// The names of the states in payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// Cannot be watched for.
    Rejected,
    /// Waits for a second person.
    PendingApproval,
    /// Is watched for.
    Armed,
    /// Its author switched it off.
    Disabled,
    /// Its time is over.
    Expired,
    /// Is not wanted any more.
    Withdrawn,
}

/// The payload. Fields that do not apply to a state are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertState {
    schema: u32,
    alert: String,
    state: StateName,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_per_day: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_24h: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    warnings: Vec<String>,
    clock_synced: bool,
}

impl AlertState {
    /// The state of an alert on this device. `None` where it is armed but `arming` is not known
    /// yet: nobody is told that a text is watched for before it is.
    pub fn new(view: &View, arming: Option<&Arming>, places: &Places, now: Wall) -> Option<Self> {
        let (state, why) = name(&view.status);
        let arming = match (state, arming) {
            (StateName::Armed, None) => return None,
            (StateName::Armed, arming) => arming,
            _ => None,
        };
        let mut warnings = view.warnings.clone();
        if let (Some(spec), Some(arming)) = (&view.spec, arming) {
            warnings.extend(places.warnings(spec));
            warnings.extend(arming.lost.as_deref().map(|words| lint::lost(words).message));
            warnings.extend(arming.warnings.iter().cloned());
            if !now.believed() && (spec.schedule.is_some() || view.expires_at.is_none()) {
                let warning =
                    "this device does not know the time: the schedule is open, the end not known";
                warnings.push(warning.to_owned());
            }
        }
        let written = view.spec.as_ref().map(|spec| spec.wanted());
        Some(Self {
            schema: 1,
            alert: view.id.to_string(),
            state,
            revision: view.revision,
            code: why.as_ref().map(|why| why.code),
            reason: why.map(|why| why.reason).or_else(|| reason(&view.status)),
            text: arming.map(|arming| arming.understood.clone()).or(written),
            lost: arming.and_then(|arming| arming.lost.clone()),
            threshold: arming.and_then(|arming| arming.threshold),
            budget_share: arming.and_then(|arming| arming.budget_share),
            expected_per_day: arming.and_then(|arming| arming.expected_per_day),
            matched_24h: arming.and_then(|arming| arming.matched_24h),
            bundle: arming.map(|arming| arming.bundle.to_string()),
            approved_by: view.approved_by.clone(),
            expires_at: view.expires_at.map(rfc3339),
            warnings,
            clock_synced: now.believed(),
        })
    }

    /// The state of a message that could not be taken up at all, as when the device is full.
    pub fn refused(alert: &super::AlertId, why: &Refusal, now: Wall) -> Self {
        Self {
            schema: 1,
            alert: alert.to_string(),
            state: StateName::Rejected,
            revision: None,
            code: Some(why.code),
            reason: Some(why.reason.clone()),
            text: None,
            lost: None,
            threshold: None,
            budget_share: None,
            expected_per_day: None,
            matched_24h: None,
            bundle: None,
            approved_by: None,
            expires_at: None,
            warnings: Vec::new(),
            clock_synced: now.believed(),
        }
    }

    /// Which state.
    pub fn state(&self) -> StateName {
        self.state
    }

    /// The bytes to publish.
    pub fn to_json(&self) -> Vec<u8> {
        // Only a map with keys that are no texts or a failing writer could fail, and there is
        // neither.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

pub(crate) fn name(status: &Status) -> (StateName, Option<Refusal>) {
    match status {
        Status::Rejected(refusal) => (StateName::Rejected, Some(refusal.clone())),
        Status::PendingApproval => (StateName::PendingApproval, None),
        Status::Armed => (StateName::Armed, None),
        Status::Disabled => (StateName::Disabled, None),
        Status::Expired => (StateName::Expired, None),
        Status::Withdrawn(_) => (StateName::Withdrawn, None),
    }
}

/// Why an alert is not watched for, where that is no refusal.
fn reason(status: &Status) -> Option<String> {
    use super::book::Withdrawal;
    let reason = match status {
        Status::PendingApproval => "waits for the approval of somebody else than its author",
        Status::Disabled => "switched off by its author (enabled is false)",
        Status::Expired => "expires_at has passed; publish a higher revision to prolong it",
        Status::Withdrawn(Withdrawal::Message) => "withdrawn by a message",
        Status::Withdrawn(Withdrawal::Empty) => "withdrawn by an empty message",
        Status::Withdrawn(Withdrawal::NotRetained) => "the broker does not hold it any more",
        Status::Withdrawn(Withdrawal::Erased) => {
            "the person whom it is like was erased from this device, so nobody is looked for; withdraw it"
        }
        Status::Armed | Status::Rejected(_) => return None,
    };
    Some(reason.to_owned())
}
