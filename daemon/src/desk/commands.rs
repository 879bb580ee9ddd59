//! What this device is told to do over the broker, where its configuration allows it.

use serde::Deserialize;
use serde_json::json;

use super::{
    Clerk,
    requests::{Answer, read},
};
use crate::{
    config::CommandName,
    erase::Fields,
    error::{Error, Result},
};

/// A command before its own fields are read.
#[derive(Deserialize)]
struct Named {
    command: String,
}

impl Clerk {
    /// Carries a command out; the answer says what it did.
    pub(super) fn command(&mut self, payload: &[u8]) -> Result<Answer> {
        let Named { command } = read(payload)?;
        let known = CommandName::ALL.into_iter().find(|known| known.as_str() == command);
        match known {
            Some(name) if !self.commands.contains(&name) => {
                let reason = format!("does not hold {command:?}: this device does not take it");
                Err(Error::config("mqtt.commands", reason))
            }
            Some(CommandName::Erase) => {
                let report = self.eraser.erase(&Fields::parse(payload)?.wish()?)?;
                let mut answer = json!(report);
                answer["command"] = json!(command);
                Ok((answer, Vec::new()))
            }
            None => {
                let known = CommandName::ALL.map(CommandName::as_str).join(", ");
                let reason = format!("is none that this version knows; known are: {known}");
                Err(Error::config("command", reason))
            }
        }
    }
}
