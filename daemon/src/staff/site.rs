//! The contract's topics as staff see them: all devices of one site.

use crate::{
    alert::AlertId,
    error::Result,
    mqtt::{Inbound, Topics},
};

/// A device's name for what needs one and uses none: staff are no device.
const NO_DEVICE: &str = "staff";

/// The topics of one site.
#[derive(Clone, Debug)]
pub struct Site {
    prefix: String,
    site: String,
    /// What [`Topics`] knows of the site; its device means nothing.
    topics: Topics,
}

/// Who says what on a topic of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Staff: the desired state of an alert.
    Alert(AlertId),
    /// A device: what it made of an alert.
    State {
        /// Which device.
        device: String,
        /// Which alert.
        alert: AlertId,
    },
    /// A device, or the broker for it: whether it is there.
    Status(String),
    /// A device: somebody was seen.
    Sighting(String),
    /// A device: a picture of somebody who was seen.
    Snapshot(String),
}

impl Site {
    /// # Errors
    /// [`crate::Error::Config`] where a name is none that a topic may have.
    pub fn new(prefix: &str, site: &str) -> Result<Self> {
        let topics = Topics::new(prefix, site, NO_DEVICE)?;
        Ok(Self { prefix: prefix.to_owned(), site: site.to_owned(), topics })
    }

    /// The site's name.
    pub fn name(&self) -> &str {
        &self.site
    }

    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    fn below(&self, end: &str) -> String {
        format!("{}/{}/{end}", self.prefix, self.site)
    }

    /// Retained: the desired state of an alert.
    pub fn alert(&self, alert: &AlertId) -> String {
        self.below(&format!("alerts/{alert}"))
    }

    /// Filter of all alerts.
    pub fn alerts(&self) -> String {
        self.below("alerts/+")
    }

    /// Filter of what the devices made of one alert.
    pub fn states_of(&self, alert: &AlertId) -> String {
        self.below(&format!("+/alerts/{alert}"))
    }

    /// Filter of what the devices made of all alerts.
    pub fn states(&self) -> String {
        self.below("+/alerts/+")
    }

    /// Filter of whether the devices are there.
    pub fn statuses(&self) -> String {
        self.below("+/status")
    }

    /// Filter of the sightings.
    pub fn sightings(&self) -> String {
        self.below("+/sightings")
    }

    /// Filter of the pictures.
    pub fn snapshots(&self) -> String {
        self.below("+/snapshots")
    }

    /// Where what an alert would bring is asked.
    pub fn preview(&self) -> String {
        self.below("preview")
    }

    /// Where those who passed are searched.
    pub fn search(&self) -> String {
        self.below("search")
    }

    /// Where what became of a sighting is said.
    pub fn feedback(&self) -> String {
        self.below("feedback")
    }

    /// Where one device is told to do something.
    pub fn command(&self, device: &str) -> String {
        self.below(&format!("{device}/command"))
    }

    /// Where answers to this client would go; nobody writes there unless asked.
    pub(super) fn replies(&self, client: &str) -> String {
        self.below(&format!("replies/{client}"))
    }

    /// What a topic means; `None` for one that staff do not read.
    pub fn parse(&self, topic: &str) -> Option<Said> {
        if let Some(Inbound::Alert(alert)) = self.topics.parse(topic) {
            return AlertId::new(&alert).ok().map(Said::Alert);
        }
        let end = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let (device, end) = end.strip_prefix(&self.site)?.strip_prefix('/')?.split_once('/')?;
        // "alerts/status" fits the filter of the statuses as well, and is an alert's name.
        Topics::new(&self.prefix, &self.site, device).ok()?;
        let device = device.to_owned();
        match end.split_once('/') {
            Some(("alerts", alert)) => {
                AlertId::new(alert).ok().map(|alert| Said::State { device, alert })
            }
            Some(_) => None,
            None if end == "status" => Some(Said::Status(device)),
            None if end == "sightings" => Some(Said::Sighting(device)),
            None if end == "snapshots" => Some(Said::Snapshot(device)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_apart_also_where_an_alert_is_called_like_a_topic() {
        let site = Site::new("security/spotter", "harbour").unwrap();
        let alert = |name| AlertId::new(name).unwrap();
        let gate = || "gate-1".to_owned();
        for (end, said) in [
            ("alerts/red", Some(Said::Alert(alert("red")))),
            ("alerts/status", Some(Said::Alert(alert("status")))),
            ("gate-1/alerts/red", Some(Said::State { device: gate(), alert: alert("red") })),
            ("gate-1/status", Some(Said::Status(gate()))),
            ("gate-1/sightings", Some(Said::Sighting(gate()))),
            ("gate-1/snapshots", Some(Said::Snapshot(gate()))),
            ("approvals/status", None),
            ("replies/sightings", None),
            ("gate-1/cameras/dock", None),
            ("gate-1/alerts/Red", None),
            ("gate-1/alerts/a/b", None),
            ("gate-1", None),
        ] {
            assert_eq!(site.parse(&format!("security/spotter/harbour/{end}")), said, "{end}");
        }
        assert_eq!(site.parse("spotter/harbour/gate-1/status"), None);
        assert_eq!(site.parse("security/spotter/harbour2/gate-1/status"), None);
    }
}
