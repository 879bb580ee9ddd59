//! Whom a bundle must be signed by.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spotter_models::{
    bundle::{Bundle, Store},
    signature::Keys,
};

use crate::{error::Result, swap::Staging};

/// Which bundles are trusted.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bundles {
    /// Whether a bundle must be signed.
    pub signatures: Signatures,
    /// Public keys, files of minisign, of those whose bundles and deltas are trusted.
    pub vendor_keys: Vec<PathBuf>,
    /// Public keys of those whose deltas of the vendor's bundles are trusted.
    pub site_keys: Vec<PathBuf>,
    /// The folder that `spotter-trainer adapt` writes its results to: a candidate that passed there is folded, taken in
    /// and served by.
    pub staging: Option<PathBuf>,
    /// The pack that the vendor's bundle was folded from; needed with `staging`.
    pub pack: Option<PathBuf>,
    /// Seconds that a candidate looks along at least, what it would have told being compared with what is told, before
    /// it is promoted; 0 promotes what the site learnt at once.
    pub shadow_s: u32,
}

impl Default for Bundles {
    fn default() -> Self {
        Self {
            signatures: Signatures::default(),
            vendor_keys: Vec::new(),
            site_keys: Vec::new(),
            staging: None,
            pack: None,
            shadow_s: 3600,
        }
    }
}

/// Whether a bundle must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signatures {
    /// It need not be; one that does not hold is warned of.
    #[default]
    Optional,
    /// One that nobody with one of the keys vouches for is refused.
    Required,
}

impl Bundles {
    /// Refuses a requirement that nothing could meet.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.staging.is_some() != self.pack.is_some() {
            return Err("bundles.staging and bundles.pack belong together: candidates of the one are folded \
                        onto the other"
                .into());
        }
        if self.signatures == Signatures::Required && self.vendor_keys.is_empty() {
            return Err(
                "bundles.signatures is \"required\", and bundles.vendor_keys names no key: \
                        name the .pub file of whoever made the bundle, or one of your own that \
                        `spotterd bundle keygen` makes and `spotterd bundle sign` signs with"
                    .into(),
            );
        }
        Ok(())
    }

    /// The keys.
    ///
    /// # Errors
    /// Where a file cannot be read or is no key, or a key is the vendor's and the site's.
    pub fn keys(&self) -> Result<Keys> {
        Ok(Keys::read(&self.vendor_keys, &self.site_keys)?)
    }

    /// Where candidates of the site come from.
    pub fn staging(&self) -> Option<Staging> {
        let (folder, pack) = (self.staging.clone()?, self.pack.clone()?);
        Some(Staging { folder, pack })
    }

    /// A store of bundles that takes in and opens what is trusted.
    ///
    /// # Errors
    /// As [`Bundles::keys`].
    pub fn store(&self, root: &Path) -> Result<Store> {
        let store = Store::new(root);
        Ok(match self.signatures {
            Signatures::Required => store.requiring(self.keys()?),
            Signatures::Optional => store,
        })
    }

    /// Opens a bundle, or the current one of a store, and says in words who signed it.
    ///
    /// # Errors
    /// Where it is damaged, or signatures are required and nobody vouches for it who may.
    pub fn open(&self, path: &Path) -> Result<(Bundle, String)> {
        let bundle = Bundle::open(path)?;
        match (self.signer(&bundle), self.signatures) {
            (Ok(signer), _) => Ok((bundle, signer)),
            (Err(error), Signatures::Optional) => {
                tracing::warn!(%error, "The bundle is not trusted; it is used, as signatures are optional.");
                Ok((bundle, format!("NOT TRUSTED, which is allowed here: {error}")))
            }
            (Err(error), Signatures::Required) => Err(error),
        }
    }

    /// Who signed a bundle, in words.
    ///
    /// # Errors
    /// Where a signature does not hold, or is missing and required.
    pub fn signer(&self, bundle: &Bundle) -> Result<String> {
        let keys = self.keys()?;
        if self.signatures == Signatures::Optional {
            match bundle.claimed_signer()? {
                None => return Ok("not signed".into()),
                Some(claimed) if keys.is_empty() => {
                    return Ok(format!("signed by {claimed}, not checked as no key is named"));
                }
                Some(_) => {}
            }
        }
        Ok(format!("signed by {}", bundle.signer(&keys)?))
    }
}
