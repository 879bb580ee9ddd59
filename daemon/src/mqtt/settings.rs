//! Which broker, how it is trusted, and who we are to it. Secrets are read from files at every
//! connect, so that a new password or certificate needs no restart, and are never logged.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rumqttc::{
    Broker, TlsConfiguration, Transport,
    tokio_rustls::rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::topics::Topics;
use crate::error::{Error, Result};

/// How the link reaches its broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of this device.
    pub topics: Topics,
    /// Name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether and how the connection is protected.
    pub security: Security,
    /// Permits [`Security::Plaintext`] to a host that is not this machine: everybody on the way can
    /// read and forge alerts and sightings then.
    pub allow_plaintext: bool,
    /// File with the user's name in its first line and the password in its second.
    pub login_file: Option<PathBuf>,
    /// Whether commands on the device's command topic are taken.
    pub commands: Commands,
    /// How often the connection is probed where nothing else is sent.
    pub keep_alive: Duration,
    /// How long the broker keeps what it has for us while we are away.
    pub session_expiry: Duration,
    /// Messages sent and not yet acknowledged, at most.
    pub window_messages: u16,
    /// Their bytes, at most; one message is always let through.
    pub window_bytes: usize,
    /// Longest wait before the first try after a failure.
    pub backoff_base: Duration,
    /// Longest wait before a try while the broker is away: how late a guard may hear of somebody
    /// after the broker is back.
    pub backoff_cap: Duration,
    /// Longest wait before a try that is not expected to help, as another client has our id.
    pub backoff_hopeless: Duration,
}

impl Settings {
    /// A broker at `host:port` with values that suit a site: keep-alive 20 s, session kept for a week,
    /// 32 messages or 4 MiB under way, waits from 0.5 s to 10 s.
    pub fn new(topics: Topics, host: impl Into<String>, port: u16, security: Security) -> Self {
        Self {
            topics,
            host: host.into(),
            port,
            security,
            allow_plaintext: false,
            login_file: None,
            commands: Commands::Ignored,
            keep_alive: Duration::from_secs(20),
            session_expiry: Duration::from_secs(7 * 24 * 3600),
            window_messages: 32,
            window_bytes: 4 << 20,
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(10),
            backoff_hopeless: Duration::from_secs(60),
        }
    }
}

/// Whether the device takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    /// The topic is not subscribed to.
    Ignored,
    /// They are handed to the handler.
    Accepted,
}

/// How the connection is protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all: for a broker on this machine.
    Plaintext,
    /// TLS 1.2 or 1.3; the broker's certificate must be signed by `ca` and carry the host's name.
    Tls {
        /// PEM file with the certificates that may sign the broker's.
        ca: PathBuf,
        /// Our own certificate, where the broker asks for one.
        identity: Option<Identity>,
    },
}

/// A client certificate with its key, each a PEM file.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Who we are to the broker. Shows no secret.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("password", &"***").finish()
    }
}

impl Settings {
    /// Checks what can be checked without the broker.
    ///
    /// # Errors
    /// [`Error::Config`] where the connection would be unprotected without leave, where a file does not
    /// hold what it should, or for limits of zero; [`Error::Io`] where a file cannot be read.
    pub fn check(&self) -> Result<()> {
        let address: Option<IpAddr> = self.host.parse().ok();
        let is_local = self.host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        match &self.security {
            Security::Plaintext if !is_local && !self.allow_plaintext => {
                return Err(Error::config(
                    format!("broker {}", self.host),
                    "is not on this machine and the connection would be open to everybody on the \
                     way: name its CA certificate, or set allow_plaintext = true",
                ));
            }
            Security::Tls { .. } if address.is_some_and(|ip| ip.is_ipv6()) => {
                let reason = "TLS needs the broker's name (or an IPv4 address), as its certificate \
                              carries it";
                return Err(Error::config(format!("broker {}", self.host), reason));
            }
            _ => {}
        }
        if self.host.is_empty() || self.port == 0 || self.window_messages == 0 {
            let reason = "host, port and the number of messages under way must not be empty or 0";
            return Err(Error::config("broker", reason));
        }
        if self.keep_alive < Duration::from_secs(1) {
            let reason =
                "must be at least a second: a connection that only seems open is found by it";
            return Err(Error::config("broker keep-alive", reason));
        }
        self.transport()?;
        self.login().map(drop)
    }

    /// Where to connect to.
    pub(crate) fn broker(&self) -> Broker {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => Broker::tcp(format!("[{ip}]"), self.port),
            _ => Broker::tcp(self.host.clone(), self.port),
        }
    }

    /// The protected or open way there, from the files as they are now.
    pub(crate) fn transport(&self) -> Result<Transport> {
        let Security::Tls { ca, identity } = &self.security else {
            return Ok(Transport::Tcp);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| Error::config(place(ca), error.to_string()))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("tls", error))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = certificates(certificate)?;
                let pem = fs::read(key).map_err(Error::io(key))?;
                // What is wrong with a key is not repeated: it might show the key.
                let secret = PrivateKeyDer::from_pem_slice(&pem)
                    .map_err(|_| Error::config(place(key), "holds no private key in PEM form"))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| {
                    Error::config(place(certificate), format!("does not fit its key: {error}"))
                })?
            }
        };
        Ok(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))))
    }

    /// User and password, from the file as it is now.
    pub(crate) fn login(&self) -> Result<Option<Login>> {
        let Some(path) = &self.login_file else { return Ok(None) };
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let mut lines = text.lines();
        let (Some(user), Some(password)) = (lines.next(), lines.next()) else {
            let reason = "must hold the user's name in its first line, the password in its second";
            return Err(Error::config(place(path), reason));
        };
        if user.is_empty() {
            return Err(Error::config(place(path), "the user's name in the first line is empty"));
        }
        Ok(Some(Login { user: user.to_owned(), password: password.to_owned() }))
    }
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).map_err(Error::io(path))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::config(place(path), format!("is no PEM file: {error}")))?;
    if found.is_empty() {
        return Err(Error::config(place(path), "holds no certificate in PEM form"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, security: Security) -> Settings {
        Settings::new(Topics::new("spotter", "s", "d").unwrap(), host, 8883, security)
    }

    #[test]
    fn plaintext_is_for_this_machine_unless_it_is_allowed_by_name() {
        for host in ["localhost", "127.0.0.1", "127.8.0.1", "::1"] {
            assert!(settings(host, Security::Plaintext).check().is_ok(), "{host}");
        }
        for host in ["broker.example", "10.0.0.1", "localhost.example", "0.0.0.0", "fe80::1"] {
            let mut open = settings(host, Security::Plaintext);
            let error = open.check().unwrap_err().to_string();
            assert!(error.contains("allow_plaintext = true"), "{error}");
            open.allow_plaintext = true;
            assert!(open.check().is_ok(), "{host}");
        }
    }

    #[test]
    fn secrets_are_read_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login");
        let mut settings = settings("localhost", Security::Plaintext);
        settings.login_file = Some(path.clone());
        assert!(settings.check().unwrap_err().to_string().contains("login"));
        for bad in ["", "user", "\npassword\n"] {
            fs::write(&path, bad).unwrap();
            assert!(settings.check().is_err(), "{bad:?}");
        }
        fs::write(&path, "gate-1\nhunter2 \n").unwrap();
        let login = settings.login().unwrap().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("gate-1", "hunter2 "));
        assert!(!format!("{login:?} {settings:?}").contains("hunter2"));
    }

    #[test]
    fn files_that_hold_no_certificate_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let tls = Security::Tls { ca: ca.clone(), identity: None };
        let settings = settings("broker.example", tls);
        for text in
            [None, Some(""), Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----")]
        {
            text.into_iter().for_each(|text| fs::write(&ca, text).unwrap());
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains("ca.pem"), "{error}");
        }
    }
}
