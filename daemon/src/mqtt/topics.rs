//! The topics of the contract: built from validated ids, parsed into what they mean.
//!
//! Every part of a topic is a configured name or a validated id, never a text that somebody wrote. A
//! topic that is not one of the contract's parses to `None`; no topic is guessed at.

use std::fmt;

use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// Longest id, in bytes.
const ID_MAX: usize = 64;

/// Whether `text` may be one level of a topic, a file name and a metric's label: 1 to 64 of `a-z 0-9 _ -`.
pub fn is_id(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    !text.is_empty() && text.len() <= ID_MAX && text.bytes().all(allowed)
}

fn id(what: &str, text: &str) -> Result<String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let place = format!("{what} {:?}", text.chars().take(ID_MAX + 1).collect::<String>());
    Err(Error::config(place, "must be 1 to 64 of a-z, 0-9, '_' and '-'"))
}

/// Where answers to a request go: `{prefix}/{site}/replies/{client}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTopic(String);

impl ReplyTopic {
    /// The topic.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a message for this device is about, by its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inbound {
    /// The desired state of the alert with this id.
    Alert(String),
    /// A second person's approval of the alert with this id.
    Approval(String),
    /// An alert that is to be tried, not armed.
    Preview,
    /// What became of a sighting.
    Feedback,
    /// A question to the gallery.
    Search,
    /// How a device of the site is, by its name; this one too.
    Status(String),
    /// A command to this device.
    Command,
    /// This device's own marker, that ends the reading of the retained set.
    Marker,
}

/// The names that a device's topics are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// `{prefix}/{site}`.
    site_root: String,
    /// `{prefix}/{site}/{device}`.
    device_root: String,
    site: String,
    device: String,
}

/// Names of levels that a device cannot have, since the site uses them.
const RESERVED: [&str; 6] = ["alerts", "approvals", "preview", "feedback", "search", "replies"];

impl Topics {
    /// Topics of `device` at `site`. The prefix may have several levels, as in `security/spotter`.
    ///
    /// # Errors
    /// [`Error::Config`] where a name is none that a topic may have.
    pub fn new(prefix: &str, site: &str, device: &str) -> Result<Self> {
        for level in prefix.split('/') {
            id("mqtt.prefix", level)?;
        }
        let (site, device) = (id("site", site)?, id("device", device)?);
        if RESERVED.contains(&device.as_str()) {
            let reason = "is a name that the site's own topics use: name the device otherwise";
            return Err(Error::config(format!("device {device:?}"), reason));
        }
        let site_root = format!("{prefix}/{site}");
        let device_root = format!("{site_root}/{device}");
        Ok(Self { site_root, device_root, site, device })
    }

    /// The client id that this device connects with.
    pub fn client_id(&self) -> String {
        format!("spotter-{}-{}", self.site, self.device)
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Retained: online, stopped or offline.
    pub fn status(&self) -> String {
        format!("{}/status", self.device_root)
    }

    /// Retained: how a camera is.
    pub fn camera(&self, camera: &CameraId) -> String {
        format!("{}/cameras/{camera}", self.device_root)
    }

    /// Retained: what this device made of an alert. `None` where `alert` is no valid id: an answer to
    /// it has no topic to go to.
    pub fn alert_state(&self, alert: &str) -> Option<String> {
        is_id(alert).then(|| format!("{}/alerts/{alert}", self.device_root))
    }

    /// Sightings, one JSON each.
    pub fn sightings(&self) -> String {
        format!("{}/sightings", self.device_root)
    }

    /// Pictures of sightings.
    pub fn snapshots(&self) -> String {
        format!("{}/snapshots", self.device_root)
    }

    /// Retained: the bundle that serves.
    pub fn model(&self) -> String {
        format!("{}/model", self.device_root)
    }

    /// Retained: what Home Assistant needs to show this device.
    pub fn discovery(&self) -> String {
        format!("homeassistant/device/{}/config", self.device)
    }

    /// What the device tells itself to find the end of the retained set.
    pub fn marker(&self) -> String {
        format!("{}/marker", self.device_root)
    }

    /// Commands to this device.
    pub fn command(&self) -> String {
        format!("{}/command", self.device_root)
    }

    /// What to subscribe to for the retained set: the desired state.
    pub fn retained_filters(&self) -> [String; 2] {
        ["alerts/+", "approvals/+"].map(|end| format!("{}/{end}", self.site_root))
    }

    /// The topic of an alert's or an approval's desired state; `None` for what has no such state.
    pub fn desired(&self, of: &Inbound) -> Option<String> {
        let (kind, alert) = match of {
            Inbound::Alert(alert) => ("alerts", alert),
            Inbound::Approval(alert) => ("approvals", alert),
            _ => return None,
        };
        is_id(alert).then(|| format!("{}/{kind}/{alert}", self.site_root))
    }

    /// What to subscribe to for how the site's devices are, which is retained too.
    pub fn status_filter(&self) -> String {
        format!("{}/+/status", self.site_root)
    }

    /// What to subscribe to beside it, commands excepted.
    pub fn request_filters(&self) -> [String; 3] {
        ["preview", "feedback", "search"].map(|end| format!("{}/{end}", self.site_root))
    }

    /// What a topic of an incoming message means; `None` for one that this device has not asked for.
    pub fn parse(&self, topic: &str) -> Option<Inbound> {
        if let Some(end) = topic.strip_prefix(&self.device_root).and_then(|t| t.strip_prefix('/')) {
            return match end {
                "command" => Some(Inbound::Command),
                "marker" => Some(Inbound::Marker),
                "status" => Some(Inbound::Status(self.device.clone())),
                _ => None,
            };
        }
        let end = topic.strip_prefix(&self.site_root)?.strip_prefix('/')?;
        match end {
            "preview" => return Some(Inbound::Preview),
            "feedback" => return Some(Inbound::Feedback),
            "search" => return Some(Inbound::Search),
            _ => {}
        }
        let (kind, alert) = end.split_once('/')?;
        let alert = is_id(alert).then(|| alert.to_owned())?;
        match kind {
            "alerts" => Some(Inbound::Alert(alert)),
            "approvals" => Some(Inbound::Approval(alert)),
            _ if is_device(kind) && alert == "status" => Some(Inbound::Status(kind.to_owned())),
            _ => None,
        }
    }

    /// A response topic that somebody asked for; `None` where it is not below the site's replies: a
    /// device must not write wherever a request says.
    pub fn reply(&self, topic: &str) -> Option<ReplyTopic> {
        let client = topic.strip_prefix(&self.site_root)?.strip_prefix("/replies/")?;
        is_id(client).then(|| ReplyTopic(topic.to_owned()))
    }
}

/// Whether a level of a topic may be a device's name.
fn is_device(level: &str) -> bool {
    is_id(level) && !RESERVED.contains(&level)
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device_root)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics() -> Topics {
        Topics::new("spotter", "harbour", "gate-1").unwrap()
    }

    #[test]
    fn the_contract() {
        let topics = topics();
        let camera = CameraId::new("dock-3").unwrap();
        for (built, contract) in [
            (topics.status(), "spotter/harbour/gate-1/status"),
            (topics.camera(&camera), "spotter/harbour/gate-1/cameras/dock-3"),
            (topics.alert_state("a").unwrap(), "spotter/harbour/gate-1/alerts/a"),
            (topics.sightings(), "spotter/harbour/gate-1/sightings"),
            (topics.snapshots(), "spotter/harbour/gate-1/snapshots"),
            (topics.model(), "spotter/harbour/gate-1/model"),
            (topics.discovery(), "homeassistant/device/gate-1/config"),
            (topics.command(), "spotter/harbour/gate-1/command"),
        ] {
            assert_eq!(built, contract);
        }
        for (topic, meaning) in [
            ("spotter/harbour/alerts/red-coat", Inbound::Alert("red-coat".into())),
            ("spotter/harbour/approvals/red-coat", Inbound::Approval("red-coat".into())),
            ("spotter/harbour/preview", Inbound::Preview),
            ("spotter/harbour/feedback", Inbound::Feedback),
            ("spotter/harbour/search", Inbound::Search),
            ("spotter/harbour/gate-1/command", Inbound::Command),
            ("spotter/harbour/gate-1/marker", Inbound::Marker),
            ("spotter/harbour/gate-1/status", Inbound::Status("gate-1".into())),
            ("spotter/harbour/gate-2/status", Inbound::Status("gate-2".into())),
            ("spotter/harbour/alerts/status", Inbound::Alert("status".into())),
            ("spotter/harbour/approvals/status", Inbound::Approval("status".into())),
        ] {
            assert_eq!(topics.parse(topic), Some(meaning), "{topic}");
        }
    }

    #[test]
    fn what_is_not_ours_means_nothing() {
        for topic in [
            "",
            "spotter",
            "spotter/harbour/alerts",
            "spotter/harbour/alerts/",
            "spotter/harbour/alerts/a/b",
            "spotter/harbour/alerts/Red",
            "spotter/harbour/alerts/ü",
            "spotter/harbour/alerts/+",
            "spotter/harbour/gate-2/command",
            "spotter/harbour/replies/status",
            "spotter/harbour/preview/status",
            "spotter/harbour/Gate/status",
            "spotter/harbour/gate-2/status/x",
            "spotter/harbour/status",
            "spotter/harbour/gate-1/alerts/a",
            "spotter/harbour/gate-11/command",
            "spotter/harbour2/preview",
            "other/spotter/harbour/preview",
            "/spotter/harbour/preview",
            "spotter/harbour/preview/",
        ] {
            assert_eq!(topics().parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn answers_stay_below_the_sites_replies() {
        let topics = topics();
        assert!(topics.reply("spotter/harbour/replies/desk-2").is_some());
        for topic in [
            "spotter/harbour/replies",
            "spotter/harbour/replies/",
            "spotter/harbour/replies/a/b",
            "spotter/harbour/replies/#",
            "spotter/harbour/alerts/a",
            "spotter/other/replies/a",
        ] {
            assert_eq!(topics.reply(topic), None, "{topic}");
        }
    }

    #[test]
    fn names_that_no_topic_may_have_are_refused() {
        for (prefix, site, device) in [
            ("", "s", "d"),
            ("a//b", "s", "d"),
            ("a/#", "s", "d"),
            ("$sys", "s", "d"),
            ("p", "s/t", "d"),
            ("p", "S", "d"),
            ("p", "s", "+"),
            ("p", "s", "alerts"),
            ("p", "s", "replies"),
            ("p", "s", ""),
        ] {
            assert!(Topics::new(prefix, site, device).is_err(), "{prefix} {site} {device}");
        }
        assert!(Topics::new("security/spotter", "s", "d").is_ok());
        assert!(Topics::new("p", &"s".repeat(64), "d").is_ok());
        assert!(Topics::new("p", &"s".repeat(65), "d").is_err());
    }

    proptest! {
        #[test]
        fn any_topic_is_parsed_without_a_panic_and_only_valid_ids_come_out(
            topic in prop_oneof![
                ".*",
                "spotter/harbour/(alerts|approvals|replies|gate-1|preview)/?.{0,70}",
            ],
        ) {
            let topics = topics();
            match topics.parse(&topic) {
                Some(Inbound::Alert(alert)) => {
                    prop_assert!(is_id(&alert));
                    prop_assert_eq!(format!("spotter/harbour/alerts/{}", alert), &*topic);
                }
                Some(Inbound::Approval(alert)) => {
                    prop_assert_eq!(format!("spotter/harbour/approvals/{}", alert), &*topic);
                }
                _ => {}
            }
            if let Some(reply) = topics.reply(&topic) {
                prop_assert_eq!(reply.as_str(), topic);
            }
        }

        #[test]
        fn what_is_built_for_an_alert_is_parsed_back(
            prefix in "[a-z0-9_-]{1,9}(/[a-z0-9_-]{1,9}){0,2}",
            site in "[a-z0-9_-]{1,64}",
            device in "[a-z0-9_-]{1,64}",
            alert in "[a-z0-9_-]{1,64}",
        ) {
            prop_assume!(!RESERVED.contains(&device.as_str()));
            let topics = Topics::new(&prefix, &site, &device).unwrap();
            let [alerts, approvals] = topics.retained_filters();
            let filled = |filter: String| filter.replace('+', &alert);
            prop_assert_eq!(topics.parse(&filled(alerts)), Some(Inbound::Alert(alert.clone())));
            prop_assert_eq!(topics.parse(&filled(approvals)), Some(Inbound::Approval(alert.clone())));
            let meaning = Inbound::Alert(alert.clone());
            prop_assert_eq!(topics.parse(&topics.desired(&meaning).unwrap()), Some(meaning));
            prop_assert_eq!(topics.parse(&topics.command()), Some(Inbound::Command));
        }
    }
}
