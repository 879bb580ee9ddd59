//! `[mqtt]`: which broker, and as whom.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    mqtt::{Commands, Identity, Security, Settings, Topics},
};

/// Where Debian keeps the certificates of the authorities that the system knows.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The broker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// `embedded`, `mqtts://HOST[:PORT]`, or `mqtt://HOST[:PORT]` on this machine.
    pub broker: String,
    /// First level of every topic.
    pub prefix: String,
    /// The authority that signed the broker's certificate; the system's where it is not named.
    pub ca_file: Option<PathBuf>,
    /// This device's certificate, where the broker wants one; with `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// The certificate's key.
    pub key_file: Option<PathBuf>,
    /// User in the first line, password in the second.
    pub login_file: Option<PathBuf>,
    /// Permits `mqtt://` to another machine: everybody on the way can read and forge messages then.
    pub allow_plaintext: bool,
    /// Port of the embedded broker on the loopback address.
    pub embedded_port: u16,
    /// Commands that are taken from whoever may write to this device's command topic.
    pub commands: Vec<CommandName>,
}

/// What this device may be told to do over the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandName {
    /// Erase persons from everything that it keeps.
    Erase,
    /// Keep persons from being deleted, end that, and say who is kept so: `hold`, `release` and `holds`.
    Hold,
    /// Serve by another bundle of the store: `use-bundle`, `rollback` and `bundles`.
    UseBundle,
}

impl CommandName {
    /// All of them.
    pub const ALL: [CommandName; 3] =
        [CommandName::Erase, CommandName::Hold, CommandName::UseBundle];

    /// As payloads and the configuration have it.
    pub fn as_str(self) -> &'static str {
        match self {
            CommandName::Erase => "erase",
            CommandName::Hold => "hold",
            CommandName::UseBundle => "use-bundle",
        }
    }

    /// The commands that it allows, as payloads have them.
    pub fn allows(self) -> &'static [&'static str] {
        match self {
            CommandName::Erase => &["erase"],
            CommandName::Hold => &["hold", "release", "holds"],
            CommandName::UseBundle => &["use-bundle", "rollback", "bundles"],
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            broker: "embedded".into(),
            prefix: "spotter".into(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            login_file: None,
            allow_plaintext: false,
            embedded_port: 1883,
            commands: Vec::new(),
        }
    }
}

impl Mqtt {
    /// Whether the daemon runs a broker of its own, on the loopback address only.
    pub fn is_embedded(&self) -> bool {
        self.broker == "embedded"
    }

    /// The link's settings.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn settings(&self, topics: Topics) -> Result<Settings> {
        let mut settings = if self.is_embedded() {
            Settings::new(topics, "127.0.0.1", self.embedded_port, Security::Plaintext)
        } else {
            let (host, port, encrypted) = self.address()?;
            Settings::new(topics, host, port, self.security(encrypted)?)
        };
        settings.allow_plaintext = self.allow_plaintext;
        settings.login_file = self.login_file.clone();
        if !self.commands.is_empty() {
            settings.commands = Commands::Accepted;
        }
        settings.check()?;
        Ok(settings)
    }

    fn address(&self) -> Result<(String, u16, bool)> {
        let wrong = || {
            let advice = "use \"embedded\", \"mqtts://HOST[:PORT]\" or \"mqtt://HOST[:PORT]\"";
            Error::config("mqtt.broker", format!("{:?} is no broker; {advice}", self.broker))
        };
        let (encrypted, rest) = match self.broker.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        if rest.contains('@') {
            let reason = "holds a user or password; put them into a file and name it in login_file";
            return Err(Error::config("mqtt.broker", reason));
        }
        let default = if encrypted { 8883 } else { 1883 };
        let rest = rest.trim_end_matches('/');
        // An IPv6 address stands in brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !port.contains(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (rest, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() { Err(wrong()) } else { Ok((host.to_owned(), port, encrypted)) }
    }

    /// Whose signature the broker's certificate must have; `None` where there is none to be checked.
    pub fn authority(&self) -> Option<PathBuf> {
        self.broker.starts_with("mqtts://").then(|| self.signer())
    }

    fn signer(&self) -> PathBuf {
        self.ca_file.clone().unwrap_or_else(|| SYSTEM_CA.into())
    }

    /// This device's certificate, where it has one.
    ///
    /// # Errors
    /// [`Error::Config`] where only one of the two files is named.
    pub fn identity(&self) -> Result<Option<Identity>> {
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Identity { certificate: certificate.clone(), key: key.clone() }))
            }
            (None, None) => Ok(None),
            _ => {
                let reason = "certificate_file and key_file belong together";
                Err(Error::config("mqtt", reason))
            }
        }
    }

    fn security(&self, encrypted: bool) -> Result<Security> {
        let identity = self.identity()?;
        match encrypted {
            true => Ok(Security::Tls { ca: self.signer(), identity }),
            false if self.ca_file.is_some() || identity.is_some() => Err(Error::config(
                "mqtt.broker",
                "is mqtt://, which is not encrypted, but certificates are given; use mqtts://",
            )),
            false => Ok(Security::Plaintext),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(broker: &str) -> Result<Settings> {
        let mqtt = Mqtt { broker: broker.into(), ..Mqtt::default() };
        mqtt.settings(Topics::new("spotter", "site", "box").unwrap())
    }

    #[test]
    fn addresses() {
        for (broker, host, port) in [
            ("embedded", "127.0.0.1", 1883),
            ("mqtt://localhost", "localhost", 1883),
            ("mqtts://broker.site", "broker.site", 8883),
            ("mqtts://broker.site:99/", "broker.site", 99),
            ("mqtt://[::1]:1884", "::1", 1884),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let settings = settings(broker).unwrap();
            assert_eq!((settings.host.as_str(), settings.port), (host, port), "{broker}");
        }
        for wrong in ["", "broker", "mqtt://", "http://x", "mqtt://h:x", "mqtt://u:p@localhost"] {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
        let error = settings("mqtt://10.0.0.1").unwrap_err().to_string();
        assert!(error.contains("allow_plaintext"), "{error}");
    }
}
