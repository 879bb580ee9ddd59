//! A site with one device: what its commands say, and who is kept.

#![expect(clippy::panic, reason = "a test that cannot go on says so")]

use std::time::Duration;

use serde_json::Value;

use crate::{
    daemon::{Daemon, Plan, within},
    program::{Run, spotterd},
    rig::Mosquitto,
};

/// How long the first person may take to come and go, on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(180);

/// The broker and the configuration of the device.
pub struct Site {
    /// The broker.
    pub broker: Mosquitto,
    config: String,
}

impl Site {
    /// Of this plan's daemon.
    pub fn new(broker: Mosquitto, plan: &Plan) -> Self {
        Self { broker, config: plan.file().display().to_string() }
    }

    /// Runs a command of the device. `command` may be several words.
    pub fn run(&self, command: &str, arguments: &[&str]) -> Run {
        let words: Vec<&str> = command.split(' ').collect();
        spotterd(&[&words[..], &["--config", &self.config], arguments].concat())
    }

    /// What a command says as JSON.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn done(&self, command: &str, arguments: &[&str]) -> Value {
        let run = self.run(command, &[arguments, &["--json"]].concat());
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        match serde_json::from_str(&run.out) {
            Ok(answer) => answer,
            Err(error) => panic!("{error}: {}", run.out),
        }
    }

    /// The numbers of everybody who is kept.
    pub fn kept(&self) -> Vec<u64> {
        let run = self.run("search", &["somebody in a coat", "--limit", "100", "--json"]);
        let answers: Value = serde_json::from_str(&run.out).unwrap_or_default();
        let results = answers["answers"][0]["results"].as_array().cloned().unwrap_or_default();
        results.iter().filter_map(|found| found["id"].as_u64()).collect()
    }

    /// The same once there are some.
    ///
    /// # Panics
    /// Where they do not come within [`WITHIN`].
    #[track_caller]
    pub fn until_kept(&self, many: usize) -> Vec<u64> {
        within(WITHIN, || Some(self.kept()).filter(|kept| kept.len() >= many))
    }
}

/// Stops a daemon, which has to end well.
///
/// # Panics
/// Where it does not.
#[track_caller]
pub fn stop(daemon: Daemon) {
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
