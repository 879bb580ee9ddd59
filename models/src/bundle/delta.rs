//! A delta: what a site trained, without what the vendor's bundle has already.
//!
//! ```text
//! delta.json              what it applies to, what comes out, hashes of the other files
//! delta.json.minisig      signature of delta.json, and so of all
//! tensors.safetensors     the trained tensors that differ from the parent's, in half precision
//! probe.safetensors       golden inputs and outputs of the result
//! cohort.safetensors      persons whom no alert means, embedded with the result; may be absent
//! ```
//! About 5 MB where the bundle has hundreds. It is folded where it is used, from the vendor's pack: base,
//! configuration, preprocessing, tokenizer, licence and vocabulary stay the vendor's, whoever made the
//! delta.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{
    aside::{self, Aside},
    folder::Folder,
    pack::{Changed, Pack},
    trust,
    write::{self, fill, make_room},
};
use crate::{
    Digest, Error, Generation, Result,
    cohort::Cohort,
    manifest::{self, COHORT_FILE, FileRecord, Lineage, PROBE_FILE, Precision},
    probe::Probe,
    signature::{self, Keys},
    towers::Weights,
};

/// Name of the file that says what a delta is.
pub const FILE: &str = "delta.json";

/// Name of its signature's file.
pub const SIGNATURE_FILE: &str = "delta.json.minisig";

/// Name of the file with the tensors.
pub const TENSORS_FILE: &str = "tensors.safetensors";

/// What a store keeps of a delta beside the bundle that it gave.
pub(super) const KEPT: [&str; 3] = [FILE, SIGNATURE_FILE, TENSORS_FILE];

/// The version of the layout that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// Largest file of a delta that is read, in bytes: the trained tensors of the largest model that is
/// meant here, couplings and all, ten times over.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What to do about a damaged delta.
const AGAIN: &str = "copy or make the delta again";

/// `delta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this layout, [`SCHEMA`].
    pub schema: u32,
    /// What people call the result; 1 to 128 bytes without control characters.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// The vendor's bundle that it applies to.
    pub parent: Generation,
    /// The weights that the parent was folded from.
    pub lineage: Lineage,
    /// The number formats of the result.
    pub precisions: Vec<Precision>,
    /// [`TENSORS_FILE`].
    pub tensors: FileRecord,
    /// `probe.safetensors`.
    pub probe: FileRecord,
    /// `cohort.safetensors`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<FileRecord>,
    /// What its evaluation measured; free for the trainer to fill.
    #[serde(default)]
    pub evaluation: serde_json::Map<String, serde_json::Value>,
    /// What it was trained on, such as counts of verdicts and the hash of their list; free for the
    /// trainer to fill.
    #[serde(default)]
    pub provenance: serde_json::Map<String, serde_json::Value>,
    /// The bundle that comes out.
    pub result: Generation,
}

impl Record {
    /// Reads and checks the file's bytes; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] that names the field and what to do.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        manifest::check_schema(path, bytes, SCHEMA, "delta", "make the delta again")?;
        let record: Self = manifest::read(path, bytes, "delta")?;
        record.validate().map_err(|error| Error::corrupt(path, error.to_string()))?;
        Ok(record)
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        self.validate()?;
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| Error::internal(FILE, error))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > manifest::MAX_BYTES {
            let reason = format!("is larger than {} bytes", manifest::MAX_BYTES);
            return Err(Error::invalid(FILE, reason));
        }
        Ok(bytes)
    }

    fn validate(&self) -> Result<()> {
        manifest::check_text("name", &self.name, manifest::MAX_NAME_BYTES)?;
        manifest::check_time(&self.created_at)?;
        manifest::check_precisions(&self.precisions)?;
        if self.lineage.base.is_none() || self.lineage.adapters.is_none() {
            let reason = "must name the parent's base and its trained tensors";
            return Err(Error::mismatch("lineage", reason));
        }
        if self.parent == self.result {
            return Err(Error::mismatch("result", "is the parent; a delta gives another bundle"));
        }
        for (name, file) in self.files() {
            if file.bytes == 0 || file.bytes > MAX_FILE_BYTES {
                let reason = format!("{} bytes are not 1 to {MAX_FILE_BYTES}", file.bytes);
                return Err(Error::mismatch(name, reason));
            }
        }
        Ok(())
    }

    /// The files beside it.
    pub(super) fn files(&self) -> BTreeMap<&'static str, &FileRecord> {
        let cohort = self.cohort.as_ref().map(|record| (COHORT_FILE, record));
        let always = [(TENSORS_FILE, &self.tensors), (PROBE_FILE, &self.probe)];
        always.into_iter().chain(cohort).collect()
    }
}

/// What a delta says besides the tensors.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What people call the result.
    pub name: String,
    /// Now, RFC 3339.
    pub created_at: String,
    /// The vendor's bundle that it applies to, folded from the pack that was changed.
    pub parent: Generation,
    /// The number formats of the result.
    pub precisions: &'a [Precision],
    /// Golden inputs and outputs of the changed weights.
    pub probe: &'a Probe,
    /// Persons whom no alert means, embedded with the changed weights. The parent's do not count: they
    /// were embedded with other weights.
    pub cohort: Option<&'a Cohort>,
    /// What its evaluation measured.
    pub evaluation: serde_json::Map<String, serde_json::Value>,
    /// What it was trained on.
    pub provenance: serde_json::Map<String, serde_json::Value>,
}

/// Writes a delta into the new folder `dir`, which appears complete or not at all, and returns what it
/// says. The result is folded once to know its generation; only the delta is written.
///
/// # Errors
/// [`Error::Invalid`] where `dir` exists, [`Error::Mismatch`] where parts do not fit together,
/// [`Error::Unavailable`] where `dir` cannot be written, [`Error::Io`].
pub fn write(dir: &Path, changed: &Changed, draft: &Draft<'_>) -> Result<Record> {
    make_room(dir)?;
    let tensors = changed.tensors().to_half_bytes()?;
    let probe = draft.probe.to_bytes()?;
    let cohort = draft.cohort.map(Cohort::to_bytes).transpose()?;
    let file = |bytes: &[u8]| FileRecord { sha256: Digest::of(bytes), bytes: bytes.len() as u64 };
    let mut record = Record {
        schema: SCHEMA,
        name: draft.name.clone(),
        created_at: draft.created_at.clone(),
        parent: draft.parent,
        lineage: changed.pack().lineage().clone(),
        precisions: draft.precisions.to_vec(),
        tensors: file(&tensors),
        probe: file(&probe),
        cohort: cohort.as_deref().map(file),
        evaluation: draft.evaluation.clone(),
        provenance: draft.provenance.clone(),
        // Known below, and no part of what is folded.
        result: Generation([0; 16]),
    };
    record.validate()?;
    let bundle = bundle_draft(changed, &record, draft.probe, draft.cohort);
    record.result = fill(&bundle, |_, _| Ok(()))?;
    let aside = Aside::create(aside::beside(dir)?)?;
    aside.bytes(TENSORS_FILE, &tensors)?;
    aside.bytes(PROBE_FILE, &probe)?;
    if let Some(cohort) = &cohort {
        aside.bytes(COHORT_FILE, cohort)?;
    }
    aside.bytes(FILE, &record.to_bytes()?)?;
    aside.finish(dir)?;
    Ok(record)
}

/// Folds a delta onto the parent's pack into the bundle `out`, a new folder, and returns its generation.
/// Signatures are not looked at: [`Delta::signer`] does that, and `Store::apply` all of it.
///
/// # Errors
/// As [`Delta::open`] and [`Pack::change`]; [`Error::Mismatch`] where the pack is not that of the
/// delta's parent, or another bundle comes out than the delta says.
pub fn apply(delta: &Delta, pack: Pack, out: &Path) -> Result<Generation> {
    make_room(out)?;
    let aside = Aside::create(aside::beside(out)?)?;
    let generation = delta.fold(pack, |name, bytes| aside.bytes(name, bytes))?;
    aside.finish(out)?;
    Ok(generation)
}

/// Whether a folder holds a delta and not a bundle.
pub fn is_delta(folder: &Path) -> bool {
    folder.join(FILE).is_file() && !folder.join(manifest::FILE).exists()
}

/// The trained tensors of a bundle that was folded from a delta, as a store keeps them with it; `None` where the bundle
/// was folded from none.
///
/// # Errors
/// [`Error::Corrupt`] where they are damaged, or the folder holds no bundle; [`Error::Io`].
pub fn tensors_of(bundle: &Path) -> Result<Option<Weights>> {
    let folder = Folder::open(bundle)?;
    if !folder.has(manifest::FILE)? {
        let reason = format!("holds neither a bundle nor a delta: there is no {}", manifest::FILE);
        return Err(Error::corrupt(bundle, reason));
    }
    let Some(bytes) = folder.read_if_there(FILE, manifest::MAX_BYTES)? else { return Ok(None) };
    let record = Record::parse(&folder.path_of(FILE), &bytes)?;
    let bytes = read_checked(&folder, TENSORS_FILE, &record.tensors)?;
    half(&folder.path_of(TENSORS_FILE), &bytes).map(Some)
}

/// An open delta whose every file is whole.
#[derive(Clone, Debug)]
pub struct Delta {
    path: PathBuf,
    record: Record,
    /// The content of [`FILE`].
    pub(super) bytes: Vec<u8>,
    /// The content of [`SIGNATURE_FILE`], not yet checked.
    pub(super) signature: Option<Vec<u8>>,
    /// The other files.
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Delta {
    /// Opens a delta and verifies size and hash of every file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] that names the file which is missing, too many, changed, cut or a link;
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Folder::open(path)?;
        let bytes = folder.read(FILE, manifest::MAX_BYTES)?;
        let record = Record::parse(&folder.path_of(FILE), &bytes)?;
        let signature = folder.read_if_there(SIGNATURE_FILE, signature::MAX_BYTES)?;
        let mut files = BTreeMap::new();
        for (name, stated) in record.files() {
            files.insert(name, read_checked(&folder, name, stated)?);
        }
        let known = |name: &str| name == FILE || name == SIGNATURE_FILE || files.contains_key(name);
        if let Some(extra) = folder.names()?.iter().find(|name| !known(name)) {
            let extra = manifest::printable(extra);
            let reason = format!("holds `{extra}`, which its {FILE} does not list; {AGAIN}");
            return Err(Error::corrupt(path, reason));
        }
        Ok(Self { path: path.to_path_buf(), record, bytes, signature, files })
    }

    /// What it says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Who of those who may sign deltas, the vendor and the site, signed it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not signed, [`Error::Corrupt`] where the signature is of another
    /// delta or of an unknown key.
    pub fn signer(&self, keys: &Keys) -> Result<trust::Signer> {
        trust::signer_of_delta(&self.path, &self.record, &self.bytes, &self.signature, keys)
    }

    /// The key that its signature claims to be of; nothing is checked. `None`: not signed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the signature's file is none.
    pub fn claimed_signer(&self) -> Result<Option<String>> {
        let path = self.path.join(SIGNATURE_FILE);
        let parse = |bytes: &Vec<u8>| signature::Signature::parse(&path, bytes);
        Ok(self.signature.as_ref().map(parse).transpose()?.map(|it| format!("key {}", it.key_id())))
    }

    /// Hands what a store keeps of it to `sink`.
    pub(super) fn keep(&self, mut sink: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        sink(TENSORS_FILE, self.file(TENSORS_FILE))?;
        if let Some(signature) = &self.signature {
            sink(SIGNATURE_FILE, signature)?;
        }
        sink(FILE, &self.bytes)
    }

    /// Whether this very delta is kept in a folder, or the bundle there needs none.
    pub(super) fn is_in(&self, folder: &Folder) -> bool {
        let same = |name: &str, bytes: &Option<Vec<u8>>| {
            let there = folder.read_if_there(name, manifest::MAX_BYTES);
            there.is_ok_and(|there| there == *bytes)
        };
        let is_signed = folder.has(trust::SIGNATURE_FILE).unwrap_or(false);
        is_signed || same(SIGNATURE_FILE, &self.signature) && same(FILE, &Some(self.bytes.clone()))
    }

    /// The content of a file beside `delta.json`.
    pub(super) fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Hands every file of the result to `sink`.
    pub(super) fn fold(
        &self,
        pack: Pack,
        sink: impl FnMut(&str, &[u8]) -> Result<()>,
    ) -> Result<Generation> {
        if *pack.lineage() != self.record.lineage {
            let reason = format!(
                "was made from other weights than the parent {} of the delta {}; name the pack that \
                 the vendor folded that bundle from",
                self.record.parent,
                self.path.display()
            );
            return Err(Error::mismatch("pack", reason));
        }
        let changed = pack.change(&self.tensors()?)?;
        let probe = Probe::parse(&self.path.join(PROBE_FILE), self.file(PROBE_FILE))?;
        let cohort = match &self.record.cohort {
            Some(_) => Some(Cohort::parse(&self.path.join(COHORT_FILE), self.file(COHORT_FILE))?),
            None => None,
        };
        let draft = bundle_draft(&changed, &self.record, &probe, cohort.as_ref());
        let generation = fill(&draft, sink)?;
        if generation != self.record.result {
            let reason = format!(
                "gives the bundle {generation}, and {FILE} says {}: it was made from another pack or by \
                 another version of Spotter; make the delta again",
                self.record.result
            );
            return Err(Error::mismatch(format!("delta {}", self.path.display()), reason));
        }
        Ok(generation)
    }

    /// Its tensors.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the file holds anything else than tensors in half precision.
    pub fn tensors(&self) -> Result<Weights> {
        half(&self.path.join(TENSORS_FILE), self.file(TENSORS_FILE))
    }
}

/// The tensors of a file, all of which are in half precision.
fn half(path: &Path, bytes: &[u8]) -> Result<Weights> {
    let weights = Weights::from_bytes(path, bytes)?;
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| Error::corrupt(path, error.to_string()))?;
    if let Some((name, view)) = file.iter().find(|(_, view)| view.dtype() != Dtype::F16) {
        let reason =
            format!("`{}` is {} and not F16; {AGAIN}", manifest::printable(name), view.dtype());
        return Err(Error::corrupt(path, reason));
    }
    Ok(weights)
}

/// What the result is made from.
fn bundle_draft<'a>(
    changed: &'a Changed,
    record: &'a Record,
    probe: &'a Probe,
    cohort: Option<&'a Cohort>,
) -> write::Draft<'a> {
    write::Draft {
        name: record.name.clone(),
        created_at: record.created_at.clone(),
        parent: Some(record.parent),
        lineage: Lineage { base: record.lineage.base, adapters: Some(record.tensors.sha256) },
        evaluation: record.evaluation.clone(),
        probe,
        cohort,
        ..changed.pack().draft(&record.precisions)
    }
}

/// The content of a file that has the size and hash that `delta.json` states.
pub(super) fn read_checked(folder: &Folder, name: &str, stated: &FileRecord) -> Result<Vec<u8>> {
    let path = folder.path_of(name);
    let bytes = folder.read(name, MAX_FILE_BYTES)?;
    let (length, sha256) = (bytes.len() as u64, Digest::of(&bytes));
    if length != stated.bytes {
        let reason = format!("has {length} bytes, not the {} of {FILE}; {AGAIN}", stated.bytes);
        return Err(Error::corrupt(path, reason));
    }
    if sha256 != stated.sha256 {
        let reason = format!("has sha256 {sha256}, not the {} of {FILE}; {AGAIN}", stated.sha256);
        return Err(Error::corrupt(path, reason));
    }
    Ok(bytes)
}
