//! Making a bundle from weights.

use std::{collections::BTreeMap, path::Path};

use crate::{
    Digest, Error, Generation, Result,
    bundle::{
        Bundle,
        aside::{self, Aside},
    },
    cohort::Cohort,
    manifest::{
        self, DataRecord, FileRecord, Licence, Lineage, MAX_FILE_BYTES, Manifest, Precision,
        TokenizerRecord,
    },
    preprocess::Preprocess,
    probe::Probe,
    towers::{Config, Weights, text_tower, vision_tower},
    vocabulary::Vocabulary,
};

/// What a bundle is made from.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What people call it.
    pub name: String,
    /// Now, RFC 3339; given, because this crate has no clock.
    pub created_at: String,
    /// The bundle it was trained from.
    pub parent: Option<Generation>,
    /// Hashes of the weights' files.
    pub lineage: Lineage,
    /// Terms of use.
    pub licence: Licence,
    /// What the trained tensors were trained on, if that is known.
    pub data: Option<DataRecord>,
    /// What the backbone's makers say it is meant for, if they do.
    pub intended_use: Option<String>,
    /// What its evaluation measured.
    pub evaluation: serde_json::Map<String, serde_json::Value>,
    /// The weights of both towers.
    pub weights: &'a Weights,
    /// Their shapes.
    pub config: &'a Config,
    /// The number formats to write, at least one and none twice; both towers in each.
    pub precisions: &'a [Precision],
    /// How crops become inputs.
    pub preprocess: Preprocess,
    /// Golden inputs and outputs of these weights.
    pub probe: &'a Probe,
    /// Persons whom no alert means, embedded with these weights, if there are any.
    pub cohort: Option<&'a Cohort>,
    /// The words of the captions it was trained on, where they are known.
    pub vocabulary: Option<&'a Vocabulary>,
}

/// Writes a bundle into the new folder `dir`, which appears complete and on disk, or not at all.
///
/// # Errors
/// [`Error::Invalid`] where `dir` exists, [`Error::Mismatch`] where the parts of the draft do not fit
/// together, [`Error::Unavailable`] where `dir` cannot be written, [`Error::Io`].
pub fn write(dir: &Path, draft: &Draft<'_>) -> Result<Generation> {
    make_room(dir)?;
    let aside = Aside::create(aside::beside(dir)?)?;
    let generation = fill(draft, |name, bytes| aside.bytes(name, bytes))?;
    aside.finish(dir)?;
    Ok(generation)
}

/// Hands every file of a bundle to `sink`, the manifest last, and returns its generation.
///
/// # Errors
/// [`Error::Mismatch`] where the parts of the draft do not fit together; those of `sink`.
pub(super) fn fill(
    draft: &Draft<'_>,
    mut sink: impl FnMut(&str, &[u8]) -> Result<()>,
) -> Result<Generation> {
    // Before minutes of folding: most mistakes show without the files.
    draft.probe.check_shapes(draft.config)?;
    draft.cohort.map_or(Ok(()), |cohort| cohort.check_shapes(draft.config))?;
    manifest_of(draft, placeholder_files(draft))?.validate()?;
    let mut files = BTreeMap::new();
    let mut add = |name: String, bytes: Vec<u8>| -> Result<()> {
        let length = bytes.len() as u64;
        if length > MAX_FILE_BYTES {
            return Err(Error::invalid(name, format!("{length} bytes are too many for ONNX")));
        }
        sink(&name, &bytes)?;
        files.insert(name, FileRecord { sha256: Digest::of(&bytes), bytes: length });
        Ok(())
    };
    // One after the other: at full size each tower has hundreds of megabytes.
    for &precision in draft.precisions {
        let (weights, config) = (draft.weights, draft.config);
        add(precision.vision_file(), vision_tower(weights, config, precision)?)?;
        add(precision.text_file(), text_tower(weights, config, precision)?)?;
    }
    add(manifest::PROBE_FILE.into(), draft.probe.to_bytes()?)?;
    if let Some(cohort) = draft.cohort {
        add(manifest::COHORT_FILE.into(), cohort.to_bytes()?)?;
    }
    if let Some(vocabulary) = draft.vocabulary {
        add(manifest::VOCABULARY_FILE.into(), vocabulary.to_bytes()?)?;
    }
    let bytes = manifest_of(draft, files)?.to_bytes()?;
    sink(manifest::FILE, &bytes)?;
    Ok(Generation::of_manifest(&bytes))
}

/// Writes a copy of a bundle into the new folder `dir`, with this cohort in place of its own, if it
/// has one. The copy is another generation with the same parent and the same evaluation.
///
/// # Errors
/// As [`write`], and [`Error::Corrupt`] where the source changed meanwhile.
pub fn write_with_cohort(dir: &Path, source: &Bundle, cohort: &Cohort) -> Result<Generation> {
    make_room(dir)?;
    cohort.check_shapes(&source.manifest().config)?;
    let mut manifest = source.manifest().clone();
    manifest.cohort = Some(manifest::COHORT_FILE.into());
    write_with(dir, source, manifest, (manifest::COHORT_FILE, &cohort.to_bytes()?))
}

/// Writes a copy of a bundle into the new folder `dir`, with this vocabulary in place of its own, if
/// it has one. The copy is another generation with the same parent and the same evaluation.
///
/// # Errors
/// As [`write`], and [`Error::Corrupt`] where the source changed meanwhile.
pub fn write_with_vocabulary(
    dir: &Path,
    source: &Bundle,
    vocabulary: &Vocabulary,
) -> Result<Generation> {
    make_room(dir)?;
    let mut manifest = source.manifest().clone();
    manifest.vocabulary = Some(manifest::VOCABULARY_FILE.into());
    write_with(dir, source, manifest, (manifest::VOCABULARY_FILE, &vocabulary.to_bytes()?))
}

/// A copy of a bundle with one file that is new or other than the source's.
fn write_with(
    dir: &Path,
    source: &Bundle,
    mut manifest: Manifest,
    (other, bytes): (&str, &[u8]),
) -> Result<Generation> {
    let aside = Aside::create(aside::beside(dir)?)?;
    manifest.files.remove(other);
    for name in manifest.files.keys() {
        aside
            .file(name, |file| source.stream(name, |part| std::io::Write::write_all(file, part)))?;
    }
    aside.bytes(other, bytes)?;
    let record = FileRecord { sha256: Digest::of(bytes), bytes: bytes.len() as u64 };
    manifest.files.insert(other.into(), record);
    let bytes = manifest.to_bytes()?;
    aside.bytes(manifest::FILE, &bytes)?;
    aside.finish(dir)?;
    Ok(Generation::of_manifest(&bytes))
}

/// Makes room for the folder: its parent is made, an older one of its name is not touched.
pub(super) fn make_room(dir: &Path) -> Result<()> {
    if dir.symlink_metadata().is_ok() {
        return Err(Error::invalid(
            format!("bundle folder {}", dir.display()),
            "exists already; choose a new name or remove it",
        ));
    }
    match dir.parent() {
        Some(parent) => std::fs::create_dir_all(parent).map_err(aside::writing(parent)),
        None => Ok(()),
    }
}

fn manifest_of(draft: &Draft<'_>, files: BTreeMap<String, FileRecord>) -> Result<Manifest> {
    Ok(Manifest {
        schema: manifest::SCHEMA,
        name: draft.name.clone(),
        created_at: draft.created_at.clone(),
        parent: draft.parent,
        lineage: draft.lineage.clone(),
        config: draft.config.clone(),
        preprocess: draft.preprocess,
        tokenizer: TokenizerRecord::clip()?,
        precisions: draft.precisions.to_vec(),
        files,
        licence: draft.licence.clone(),
        data: draft.data.clone(),
        intended_use: draft.intended_use.clone(),
        evaluation: draft.evaluation.clone(),
        probe: manifest::PROBE_FILE.into(),
        cohort: draft.cohort.map(|_| manifest::COHORT_FILE.into()),
        vocabulary: draft.vocabulary.map(|_| manifest::VOCABULARY_FILE.into()),
    })
}

/// Records of the right names, to check the rest of a manifest before the files exist.
fn placeholder_files(draft: &Draft<'_>) -> BTreeMap<String, FileRecord> {
    let record = FileRecord { sha256: Digest::of(&[]), bytes: 1 };
    let towers = draft.precisions.iter().flat_map(|p| [p.vision_file(), p.text_file()]);
    towers
        .chain([manifest::PROBE_FILE.into()])
        .chain(draft.cohort.map(|_| manifest::COHORT_FILE.into()))
        .chain(draft.vocabulary.map(|_| manifest::VOCABULARY_FILE.into()))
        .map(|name| (name, record.clone()))
        .collect()
}
