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
    hold,
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
        let allows = |known: &CommandName| known.allows().contains(&command.as_str());
        let Some(name) = CommandName::ALL.into_iter().find(allows) else {
            let known: Vec<&str> =
                CommandName::ALL.iter().flat_map(|name| name.allows()).copied().collect();
            let reason =
                format!("is none that this version knows; known are: {}", known.join(", "));
            return Err(Error::config("command", reason));
        };
        if !self.commands.contains(&name) {
            let reason = format!("does not hold {:?}: this device does not take it", name.as_str());
            return Err(Error::config("mqtt.commands", reason));
        }
        let eraser = &self.eraser;
        let mut answer = match (name, command.as_str()) {
            (CommandName::Erase, _) => json!(eraser.erase(&Fields::parse(payload)?.wish()?)?),
            (CommandName::Hold, "hold") => {
                json!(hold::place(eraser, &hold::Fields::parse(payload)?.wish()?)?)
            }
            (CommandName::Hold, "release") => {
                json!(hold::release(eraser, &hold::ReleaseFields::parse(payload)?.wish()?)?)
            }
            (CommandName::Hold, _) => json!(hold::list(eraser)?),
        };
        answer["command"] = json!(command);
        Ok((answer, Vec::new()))
    }
}
