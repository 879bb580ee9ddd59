//! `spotterd bundle keygen` and `sign`, and the options that name keys.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use spotter_models::{bundle, signature::SecretKey};

use crate::{
    bounded,
    cmd::print,
    config::{Bundles, Config, Signatures},
    error::Error,
};

/// Longest password that is read, in bytes; minisign's limit.
const MAX_PASSWORD_BYTES: u64 = 1024;

/// Whose bundles are trusted.
#[derive(clap::Args)]
pub struct KeyArgs {
    /// Public key of whoever makes the bundles: what it does not vouch for is refused; give it again for
    /// more
    #[arg(long, value_name = "FILE")]
    vendor_key: Vec<PathBuf>,
    /// Public key of whoever trains at the site, whose deltas of the vendor's bundles are trusted too
    #[arg(long, value_name = "FILE", requires = "vendor_key")]
    site_key: Vec<PathBuf>,
    /// The daemon's configuration, whose section [bundles] says the same
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vendor_key", "site_key"])]
    config: Option<PathBuf>,
}

impl KeyArgs {
    /// What is trusted.
    pub(super) fn bundles(&self) -> crate::Result<Bundles> {
        if let Some(path) = &self.config {
            return Ok(Config::load(path)?.bundles);
        }
        let signatures = match self.vendor_key.is_empty() {
            true => Signatures::Optional,
            false => Signatures::Required,
        };
        let (vendor_keys, site_keys) = (self.vendor_key.clone(), self.site_key.clone());
        Ok(Bundles { signatures, vendor_keys, site_keys, ..Bundles::default() })
    }
}

/// Make a pair of keys: FOLDER/NAME.key signs, FOLDER/NAME.pub is given to those who check
///
/// The files are those of minisign, the standard tool, which can sign and check as well.
#[derive(clap::Args)]
pub struct KeygenArgs {
    /// The folder; made where it is missing
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What the files are called, such as vendor or site
    #[arg(long, default_value = "spotter")]
    name: String,
    /// A file whose first line becomes the password of the secret key; without one whoever reads that key
    /// can sign
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Sign a bundle or a delta
///
/// The signature lies beside manifest.json or delta.json, as manifest.json.minisig or delta.json.minisig.
#[derive(clap::Args)]
pub struct SignArgs {
    /// The bundle, a store whose current one is meant, or a delta
    bundle: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A file whose first line is the key's password, where it has one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) fn keygen(args: &KeygenArgs) -> Result<ExitCode> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if args.name.is_empty() || !args.name.chars().all(is_plain) {
        let reason = format!("`{}` is not of letters, digits, - and _", args.name);
        return Err(Error::config("--name", reason).into());
    }
    let password = password(args.password_file.as_deref())?;
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    let secret = args.out.join(format!("{}.key", args.name));
    let public = args.out.join(format!("{}.pub", args.name));
    for path in [&secret, &public] {
        if path.symlink_metadata().is_ok() {
            let reason = "exists already; choose another name, since a key is never replaced";
            return Err(Error::config(path.display().to_string(), reason).into());
        }
    }
    let (key, text) = match &password {
        Some(password) => SecretKey::generate_with_password(password)?,
        None => {
            let key = SecretKey::generate()?;
            let text = key.to_text()?;
            (key, text)
        }
    };
    write_new(&secret, &text, 0o600)?;
    let known = key.public()?;
    write_new(&public, &known.to_text()?, 0o644)?;
    let note = match password {
        Some(_) => "opened by its password",
        None => "WITHOUT a password: who reads this file can sign; keep it off the devices",
    };
    print(&format!(
        "key     {}\nsecret  {} ({note})\npublic  {}\n",
        known.id(),
        secret.display(),
        public.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign(args: &SignArgs) -> Result<ExitCode> {
    let password = password(args.password_file.as_deref())?;
    let key = SecretKey::read(&args.key, password.as_deref())?;
    let path = bundle::sign(&args.bundle, &key)?;
    print(&format!("{}: signed by key {}\n", path.display(), key.public()?.id()))?;
    Ok(ExitCode::SUCCESS)
}

/// The first line of a file.
fn password(path: Option<&Path>) -> crate::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let text = bounded::text(path, MAX_PASSWORD_BYTES)?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(password) => Ok(Some(password.to_owned())),
        None => Err(Error::config(path.display().to_string(), "has no password in its first line")),
    }
}

/// Writes a new file of this mode, and waits until it is on disk.
fn write_new(path: &Path, text: &str, mode: u32) -> crate::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(Error::io(path))
}
