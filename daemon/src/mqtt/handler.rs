//! What the daemon does with what comes in.

use std::collections::BTreeSet;

use super::topics::{Inbound, ReplyTopic};
use crate::error::Result;

/// A message for this device.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// What it is about.
    pub topic: Inbound,
    /// As it was published. Nothing about it has been checked, its length neither.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it (a state), or it was published just now.
    pub retained: bool,
    /// Where an answer is wanted.
    pub response: Response,
    /// What the asker knows its question by.
    pub correlation: Option<Vec<u8>>,
}

/// Where an answer is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Nowhere.
    None,
    /// On a topic below the site's replies.
    To(ReplyTopic),
    /// On a topic that a device must not write to: to be refused and audited. Cut to 256 characters.
    Forbidden(String),
}

/// How this device is, as its status topic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Connected.
    Online,
    /// Ended on purpose.
    Stopped,
    /// Gone without a word: the broker says so for us.
    Offline,
}

impl Presence {
    /// As the status says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Presence::Online => "online",
            Presence::Stopped => "stopped",
            Presence::Offline => "offline",
        }
    }
}

/// Takes what the link receives. Called on the link's thread, one call at a time: a call that takes
/// longer than the keep-alive costs the connection.
pub trait Handler: Send {
    /// Takes messages in their order, all or none of them. They are acknowledged once this returned
    /// `Ok`: whatever must survive a crash is on disk by then. Many at a time, so that ten thousand
    /// alerts do not wait for the disk one by one. A message that is faulty is answered and taken.
    ///
    /// # Errors
    /// Where they cannot be kept now. They are handed over again after a while, and by the broker
    /// again after a crash; later ones wait behind them.
    fn receive(&mut self, received: &[&Received]) -> Result<()>;

    /// The alerts and approvals that are stored and not withdrawn. Each that the broker seems to have
    /// no longer is asked for by name before it counts as withdrawn: a broker with little room for
    /// messages cuts the retained set short and does not say so.
    fn stored(&mut self) -> BTreeSet<Inbound>;

    /// The desired state was read to its end, after a connect without a session or the first of this
    /// process: `present` was handed over before. Stored alerts and approvals that are not in it were
    /// withdrawn meanwhile.
    ///
    /// # Errors
    /// Where it cannot be acted on now. It is called again after a while.
    fn retained_set_complete(&mut self, present: &BTreeSet<Inbound>) -> Result<()>;

    /// The payload of the device's status topic.
    fn status(&mut self, presence: Presence) -> Vec<u8>;
}
