//! Who vouches for a file: Ed25519 signatures in the format of
//! [minisign](https://jedisct1.github.io/minisign/), so that they can be made and checked with the standard
//! tool as well.
//!
//! Two kinds of keys are told apart. The vendor's vouch for whole bundles; a site's only for what was
//! trained there. `bundle` decides what each may bring in, this module only who signed.

use std::{
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use ct_codecs::{Base64, Decoder};

use crate::{Error, Result};

/// What the name of a signature's file adds to that of the file it signs.
pub const SUFFIX: &str = ".minisig";

/// Largest key or signature that is read, in bytes; each has a few lines.
pub(crate) const MAX_BYTES: u64 = 16 << 10;

/// Base64 digits of an Ed25519 signature of 64 bytes.
const SIGNATURE_DIGITS: usize = 88;

/// What a key vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Bundles and deltas.
    Vendor,
    /// Deltas of a vendor's bundle.
    Site,
}

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// Reads the text of a `.pub` file; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |reason: String| {
            Error::corrupt(path, format!("is no public key of minisign: {reason}"))
        };
        let key = minisign::PublicKeyBox::from_string(text)
            .and_then(minisign::PublicKeyBox::into_public_key)
            .map_err(|error| wrong(error.to_string()))?;
        match key.to_bytes().starts_with(b"Ed") {
            true => Ok(Self(key)),
            false => Err(wrong("its algorithm is not Ed25519".into())),
        }
    }

    /// Reads a `.pub` file.
    ///
    /// # Errors
    /// As [`PublicKey::parse`], and [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_text(path)?)
    }

    /// The text of a `.pub` file.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn to_text(&self) -> Result<String> {
        let key = self.0.to_box().map_err(|error| Error::internal("public key", error))?;
        Ok(key.into_string())
    }

    /// Its identity as minisign prints it: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        id_of(self.0.keynum())
    }
}

/// A key that signs. Has no `Debug`: it would show the secret.
pub struct SecretKey(minisign::SecretKey);

impl SecretKey {
    /// A new key, from the system's random numbers.
    ///
    /// # Errors
    /// [`Error::Internal`] where the system gives none.
    pub fn generate() -> Result<Self> {
        let pair = minisign::KeyPair::generate_unencrypted_keypair()
            .map_err(|error| Error::internal("new key", error))?;
        Ok(Self(pair.sk))
    }

    /// A new key with the text of its file, which only `password` opens.
    ///
    /// # Errors
    /// [`Error::Internal`] where the system gives no random numbers.
    pub fn generate_with_password(password: &str) -> Result<(Self, String)> {
        let fault = |error: minisign::PError| Error::internal("new key", error);
        let pair =
            minisign::KeyPair::generate_encrypted_keypair(Some(password.into())).map_err(fault)?;
        let text = pair.sk.to_box(Some(ENCRYPTED)).map_err(fault)?.into_string();
        let key = Self::parse(Path::new("new key"), &text, Some(password))?;
        Ok((key, text))
    }

    /// Reads the text of a key's file, `path` being what errors call it; `password` where it has one.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a password is missing, [`Error::Corrupt`] where it is wrong or the
    /// text is no key.
    pub fn parse(path: &Path, text: &str, password: Option<&str>) -> Result<Self> {
        let key = minisign::SecretKeyBox::from_string(text).and_then(|key| match password {
            Some(password) => key.into_secret_key(Some(password.into())),
            None => key.into_unencrypted_secret_key(),
        });
        let key = match key {
            Err(error) if password.is_none() => without_checksum(text).ok_or(error),
            other => other,
        };
        match key {
            Ok(key) => Ok(Self(key)),
            // The library's word for a key with a password that is read without one.
            Err(error) if password.is_none() && error.to_string().contains("encrypted") => {
                Err(Error::invalid(
                    format!("secret key {}", path.display()),
                    "has a password; name the file that holds it with --password-file",
                ))
            }
            Err(error) => {
                Err(Error::corrupt(path, format!("is no secret key of minisign: {error}")))
            }
        }
    }

    /// Reads a key's file.
    ///
    /// # Errors
    /// As [`SecretKey::parse`], and [`Error::Io`].
    pub fn read(path: &Path, password: Option<&str>) -> Result<Self> {
        Self::parse(path, &read_text(path)?, password)
    }

    /// The text of its file, without a password.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn to_text(&self) -> Result<String> {
        let text = self.0.to_box(Some(PLAIN));
        Ok(text.map_err(|error| Error::internal("secret key", error))?.into_string())
    }

    /// The key that its signatures are checked with.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn public(&self) -> Result<PublicKey> {
        minisign::PublicKey::from_secret_key(&self.0)
            .map(PublicKey)
            .map_err(|error| Error::internal("secret key", error))
    }
}

/// A key without a password as minisign 0.11 and later write it (`-G -W`): with zeros for a checksum, which
/// the library takes for damage. That its halves belong together is seen at the first signature.
fn without_checksum(text: &str) -> Option<minisign::SecretKey> {
    /// Before the checksum: names of three algorithms, salt, two limits, number, secret and public key.
    const HEAD: usize = 3 * 2 + 32 + 2 * 8 + 8 + 64;
    let bytes = Base64::decode_to_vec(text.lines().nth(1)?.trim(), None).ok()?;
    let (head, checksum) = bytes.split_at_checked(HEAD)?;
    if !head.starts_with(b"Ed\0\0") || checksum != [0; 32] {
        return None;
    }
    minisign::SecretKey::from_bytes(&bytes).ok()
}

/// The first line of a secret key's file without a password.
const PLAIN: &str =
    "minisign secret key of Spotter, WITHOUT a password: who reads this file can sign";

/// The same with a password.
const ENCRYPTED: &str = "minisign encrypted secret key of Spotter";

/// Signs bytes. `comment` is signed too, and shown by minisign; one line.
///
/// # Errors
/// [`Error::Invalid`] for a comment of several lines, [`Error::Internal`].
pub fn sign(bytes: &[u8], key: &SecretKey, comment: &str) -> Result<String> {
    if comment.chars().any(char::is_control) {
        return Err(Error::invalid("comment", "must be one line without control characters"));
    }
    let public = key.public()?;
    let untrusted = format!("signature of Spotter, key {}", public.id());
    let (bytes, comment) = (Cursor::new(bytes), Some(comment));
    let signature = minisign::sign(Some(&public.0), &key.0, bytes, comment, Some(&untrusted))
        .map_err(|error| Error::internal("signature", error))?;
    Ok(signature.into_string())
}

/// The content of a `.minisig` file, not yet checked.
#[derive(Clone)]
pub struct Signature {
    inner: minisign::SignatureBox,
    path: PathBuf,
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({} by {})", self.path.display(), self.key_id())
    }
}

impl Signature {
    /// Reads the text of a `.minisig` file; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: &dyn std::fmt::Display| {
            let reason = format!("is no signature of minisign: {reason}; sign again");
            Error::corrupt(path, reason)
        };
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(&error))?;
        // The library reads 64 bytes of the fourth line without asking how many there are.
        let digits = text.lines().nth(3).map_or(0, |line| line.trim().len());
        if digits != SIGNATURE_DIGITS {
            return Err(wrong(&format!(
                "its fourth line has {digits} characters, not {SIGNATURE_DIGITS}"
            )));
        }
        let inner = minisign::SignatureBox::from_string(text).map_err(|error| wrong(&error))?;
        Ok(Self { inner, path: path.to_path_buf() })
    }

    /// The identity of the key that it claims to be of; as [`PublicKey::id`].
    pub fn key_id(&self) -> String {
        id_of(self.inner.keynum())
    }

    /// Whether `key` signed exactly these bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it did not.
    pub fn verify(&self, bytes: &[u8], key: &PublicKey) -> Result<()> {
        // Quietly, nothing to standard output, and only the current form, which signs a hash.
        minisign::verify(&key.0, &self.inner, Cursor::new(bytes), true, false, false).map_err(
            |error| {
                let reason = format!(
                    "is no valid signature by the key {} of the file beside it ({error}): that \
                     file was changed since, or somebody else signed it; get both again from \
                     whoever made them",
                    key.id()
                );
                Error::corrupt(&self.path, reason)
            },
        )
    }
}

/// The keys of those who are trusted.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    vendor: Vec<PublicKey>,
    site: Vec<PublicKey>,
}

impl Keys {
    /// Takes the keys of the vendor, who may sign everything, and of the site, which may sign deltas.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a key is of both.
    pub fn new(vendor: Vec<PublicKey>, site: Vec<PublicKey>) -> Result<Self> {
        if let Some(both) = site.iter().find(|key| vendor.contains(key)) {
            let reason = "is the vendor's and the site's; whoever signs for the site must not sign \
                          for the vendor, so make another with `spotterd bundle keygen`";
            return Err(Error::invalid(format!("key {}", both.id()), reason));
        }
        Ok(Self { vendor, site })
    }

    /// Reads `.pub` files.
    ///
    /// # Errors
    /// As [`PublicKey::read`] and [`Keys::new`].
    pub fn read(vendor: &[PathBuf], site: &[PathBuf]) -> Result<Self> {
        let read = |paths: &[PathBuf]| -> Result<Vec<PublicKey>> {
            paths.iter().map(|path| PublicKey::read(path)).collect()
        };
        Self::new(read(vendor)?, read(site)?)
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.vendor.is_empty() && self.site.is_empty()
    }

    /// The vendor's keys.
    pub fn vendor(&self) -> &[PublicKey] {
        &self.vendor
    }

    /// Who of them signed these bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where none did, with what to do.
    pub fn signer(&self, bytes: &[u8], signature: &Signature) -> Result<(Role, String)> {
        let id = signature.key_id();
        let vendor = self.vendor.iter().map(|key| (Role::Vendor, key));
        let all = vendor.chain(self.site.iter().map(|key| (Role::Site, key)));
        let mut refused = None;
        for (role, key) in all.filter(|(_, key)| key.id() == id) {
            match signature.verify(bytes, key) {
                Ok(()) => return Ok((role, id)),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let reason = format!(
                "is by the key {id}, which is none of those trusted here; name its .pub file among \
                 the vendor's or the site's keys if you know whose it is"
            );
            Error::corrupt(&signature.path, reason)
        }))
    }
}

fn id_of(number: &[u8]) -> String {
    // minisign shows it as a little-endian number.
    number.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// Reads a small text file.
fn read_text(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::corrupt(path, format!("is larger than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::corrupt(path, "is no text"))
}
