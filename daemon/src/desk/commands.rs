//! What this device is told to do over the broker, where its configuration allows it.

use serde::Deserialize;
use serde_json::{Value, json};
use spotter_models::{Generation, bundle::Installed};

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

/// What every command may say besides. A field that is not known is refused: a slip of the pen must not do something
/// else than was meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default, rename = "schema")]
    _schema: Option<Value>,
    #[serde(rename = "command")]
    _command: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UseBundle {
    #[serde(default, rename = "schema")]
    _schema: Option<Value>,
    #[serde(rename = "command")]
    _command: String,
    bundle: String,
    /// Whether it is compared with the serving one first.
    #[serde(default)]
    shadow: bool,
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
            (CommandName::UseBundle, "use-bundle") => self.use_bundle(payload)?,
            (CommandName::UseBundle, "rollback") => {
                read::<Plain>(payload)?;
                json!({"bundle": self.bundles.rollback()?.to_string()})
            }
            (CommandName::UseBundle, _) => self.list_bundles()?,
        };
        answer["command"] = json!(command);
        Ok((answer, Vec::new()))
    }

    /// Has a generation of the store be the current one, which the daemon then serves by, or the candidate.
    fn use_bundle(&self, payload: &[u8]) -> Result<Value> {
        let UseBundle { bundle, shadow, .. } = read(payload)?;
        let generation: Generation = bundle.parse()?;
        match shadow {
            true => self.bundles.nominate(generation)?,
            false => self.bundles.promote(generation)?,
        }
        Ok(json!({"bundle": generation.to_string(), "shadow": shadow}))
    }

    fn list_bundles(&self) -> Result<Value> {
        let installed: Vec<Value> = self.bundles.list()?.iter().map(told).collect();
        let candidate = self.bundles.candidate()?.map(|candidate| candidate.to_string());
        Ok(json!({"bundles": installed, "candidate": candidate}))
    }
}

/// What is said of an installed generation.
fn told(installed: &Installed) -> Value {
    let mut told =
        json!({"bundle": installed.generation.to_string(), "current": installed.current});
    match &installed.manifest {
        Ok(manifest) => {
            told["name"] = json!(manifest.name);
            told["created_at"] = json!(manifest.created_at);
            told["parent"] = json!(manifest.parent.map(|parent| parent.to_string()));
        }
        Err(error) => told["broken"] = json!(error.to_string()),
    }
    told
}
