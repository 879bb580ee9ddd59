//! `manifest.json`: what a bundle is, by whom, from what, and the hash of every file in it.
//!
//! Written by the exporter and read from folders that anybody may have filled: everything in it is
//! checked before it is used. It must not open other files; `bundle` does that.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Generation, Result, preprocess::Preprocess, tokenize, towers::Config};

/// Name of the manifest's file.
pub const FILE: &str = "manifest.json";

/// Name of the probe's file.
pub const PROBE_FILE: &str = "probe.safetensors";

/// Name of the background cohort's file, where a bundle has one.
pub const COHORT_FILE: &str = "cohort.safetensors";

/// Name of the file with the words of the training captions, where a bundle has one.
pub const VOCABULARY_FILE: &str = "vocabulary.json";

/// The version of the manifest's layout that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// Largest manifest that is read, in bytes; one with a full list of token ids has half a megabyte.
pub const MAX_BYTES: u64 = 4 << 20;

/// Largest file in a bundle, in bytes: what a protobuf message, and so an ONNX file, can hold.
pub const MAX_FILE_BYTES: u64 = 1 << 31;

/// Longest name of a bundle in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// Longest statement of a licence or an intended use in bytes.
const MAX_STATEMENT_BYTES: usize = 4096;

/// The number format of a tower.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point, the reference.
    #[default]
    F32,
    /// 16-bit floating point, for GPUs.
    F16,
    /// Products of 8-bit integers, for processors.
    Int8,
}

impl Precision {
    /// All of them, most exact first.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Int8];

    /// The name in file names, configurations and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
        }
    }

    /// Name of the vision tower's file.
    pub fn vision_file(self) -> String {
        format!("vision.{}.onnx", self.name())
    }

    /// Name of the text tower's file.
    pub fn text_file(self) -> String {
        format!("text.{}.onnx", self.name())
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == text).ok_or_else(|| {
            Error::invalid("precision", format!("`{text}` is none of f32, f16, int8"))
        })
    }
}

/// Everything a bundle says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout, [`SCHEMA`].
    pub schema: u32,
    /// What people call the bundle; 1 to 128 bytes without control characters.
    pub name: String,
    /// When it was exported, RFC 3339.
    pub created_at: String,
    /// The bundle it was trained from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Generation>,
    /// The weights it was made from.
    pub lineage: Lineage,
    /// Shapes of the towers.
    pub config: Config,
    /// How a crop becomes the vision tower's input.
    pub preprocess: Preprocess,
    /// How a text becomes the text tower's input.
    pub tokenizer: TokenizerRecord,
    /// The number formats it holds; each with both towers, none twice.
    pub precisions: Vec<Precision>,
    /// Every file but the manifest, by name.
    pub files: BTreeMap<String, FileRecord>,
    /// Under which terms it may be used.
    pub licence: Licence,
    /// What the trained tensors were trained on; `None` where it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
    /// What the backbone's makers say it is meant for, in up to 4096 bytes; `None` where they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_use: Option<String>,
    /// What its evaluation measured; free for the trainer to fill.
    #[serde(default)]
    pub evaluation: serde_json::Map<String, serde_json::Value>,
    /// Name of the file with golden inputs and outputs, [`PROBE_FILE`].
    pub probe: String,
    /// Name of the file with persons whom no alert means, [`COHORT_FILE`]; `None` where the bundle
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<String>,
    /// Name of the file with the words of the training captions, [`VOCABULARY_FILE`]; `None` where the
    /// bundle has none, as those that were made before there was such a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<String>,
}

/// Hashes of the weights that a bundle was folded from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The file of the frozen base model; `None` where it never was a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// The file of the trained tensors; `None` where nothing was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<Digest>,
}

/// What a model was trained on, so that the same data are recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// Hash of the training annotations.
    pub sha256: Digest,
    /// Persons in them.
    pub persons: u64,
    /// Pictures of these persons.
    pub pictures: u64,
    /// Captions of these pictures.
    pub captions: u64,
}

/// Which tokenizer a text tower was trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecord {
    /// The algorithm.
    pub kind: TokenizerKind,
    /// Hash of the vocabulary file.
    pub sha256: Digest,
}

impl TokenizerRecord {
    /// The tokenizer of this program.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the constant in [`tokenize`] is no hash: a broken build.
    pub fn clip() -> Result<Self> {
        Ok(Self { kind: TokenizerKind::ClipBpe, sha256: tokenize::VOCABULARY_SHA256.parse()? })
    }
}

/// The algorithms that turn text into ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenizerKind {
    /// CLIP's byte pair encoding with OpenAI's clean-up.
    #[serde(rename = "clip-bpe")]
    ClipBpe,
}

/// How to recognise a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Hash of its content.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
}

/// Terms of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Of the weights, for example an SPDX expression.
    pub weights: String,
    /// Of the data they were trained on.
    pub data: String,
}

impl Manifest {
    /// Reads and checks a manifest; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] that names the field and what to do.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        check_schema(path, bytes, SCHEMA, "manifest", "export the bundle again")?;
        let manifest: Self = read(path, bytes, "manifest")?;
        manifest.validate().map_err(|error| Error::corrupt(path, error.to_string()))?;
        Ok(manifest)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// As [`Manifest::validate`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.validate()?;
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| Error::internal("manifest", error))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::invalid("manifest", too_large()));
        }
        Ok(bytes)
    }

    /// Checks that the fields are possible and fit together.
    ///
    /// # Errors
    /// [`Error::Mismatch`] or [`Error::Invalid`] that names the field.
    pub fn validate(&self) -> Result<()> {
        check_text("name", &self.name, MAX_NAME_BYTES)?;
        check_text("licence.weights", &self.licence.weights, MAX_STATEMENT_BYTES)?;
        check_text("licence.data", &self.licence.data, MAX_STATEMENT_BYTES)?;
        if let Some(text) = &self.intended_use {
            check_text("intended_use", text, MAX_STATEMENT_BYTES)?;
        }
        check_time(&self.created_at)?;
        self.config.validate()?;
        self.preprocess.validate()?;
        self.check_inputs()?;
        self.check_files()
    }

    /// Names of the files that such a bundle holds besides its manifest.
    pub fn expected_files(&self) -> Vec<String> {
        let towers = self.precisions.iter().flat_map(|p| [p.vision_file(), p.text_file()]);
        let optional = self.cohort.iter().chain(&self.vocabulary).cloned();
        towers.chain([self.probe.clone()]).chain(optional).collect()
    }

    fn check_inputs(&self) -> Result<()> {
        let (input, config) = (&self.preprocess, &self.config);
        if (input.height, input.width) != (config.height, config.width) {
            return Err(Error::mismatch(
                "preprocess",
                format!(
                    "makes {}x{} (height x width) for a tower of {}x{}",
                    input.height, input.width, config.height, config.width
                ),
            ));
        }
        let known = TokenizerRecord::clip()?;
        if self.tokenizer != known {
            return Err(Error::mismatch(
                "tokenizer",
                format!(
                    "vocabulary {} is not this program's {}; export the bundle again",
                    self.tokenizer.sha256, known.sha256
                ),
            ));
        }
        if config.vocab != tokenize::VOCABULARY_SIZE {
            return Err(Error::mismatch(
                "config.vocab",
                format!(
                    "{} ids, and the tokenizer has {}; a reduced vocabulary belongs into \
                     `token_ids`",
                    config.vocab,
                    tokenize::VOCABULARY_SIZE
                ),
            ));
        }
        Ok(())
    }

    fn check_files(&self) -> Result<()> {
        check_precisions(&self.precisions)?;
        let named = [
            ("probe", Some(&self.probe), PROBE_FILE),
            ("cohort", self.cohort.as_ref(), COHORT_FILE),
            ("vocabulary", self.vocabulary.as_ref(), VOCABULARY_FILE),
        ];
        for (field, name, meant) in named {
            if let Some(name) = name.filter(|name| *name != meant) {
                let reason = format!("`{}` is not `{meant}`", printable(name));
                return Err(Error::mismatch(field, reason));
            }
        }
        // Exactly these names, so that none can leave the folder or hide something in it.
        let expected = self.expected_files();
        for name in self.files.keys() {
            if !expected.contains(name) {
                return Err(Error::mismatch(
                    "files",
                    format!(
                        "`{}` is no file of a bundle; expected {}",
                        printable(name),
                        expected.join(", ")
                    ),
                ));
            }
        }
        for name in &expected {
            let Some(record) = self.files.get(name) else {
                return Err(Error::mismatch("files", format!("`{name}` is not listed")));
            };
            if record.bytes == 0 || record.bytes > MAX_FILE_BYTES {
                return Err(Error::mismatch(
                    format!("files.{name}"),
                    format!("{} bytes are not between 1 and {MAX_FILE_BYTES}", record.bytes),
                ));
            }
        }
        Ok(())
    }
}

/// Refuses a file that is too large or of another schema than `known`. Before the fields: a later version
/// may have others, and its reader should hear "newer", not "unknown field".
pub(crate) fn check_schema(
    path: &Path,
    bytes: &[u8],
    known: u32,
    what: &str,
    again: &str,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::corrupt(path, too_large()));
    }
    let Version { schema } = read(path, bytes, what)?;
    if schema == known {
        return Ok(());
    }
    let advice = match schema > known {
        true => "made by a newer Spotter; update this program".to_owned(),
        false => format!("made by an older Spotter; {again}"),
    };
    let reason = format!("schema {schema} is not the {known} read here: {advice}");
    Err(Error::corrupt(path, reason))
}

/// Parses JSON; an error names the field.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    what: &str,
) -> Result<T> {
    let is_none =
        |error: &dyn std::fmt::Display| Error::corrupt(path, format!("is no {what}: {error}"));
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| is_none(&error))?;
    json.end().map_err(|error| is_none(&error))?;
    Ok(value)
}

fn too_large() -> String {
    format!("is larger than the {MAX_BYTES} bytes that a manifest may have")
}

/// A text that people will see: not empty, not endless, nothing that a terminal would obey.
pub(crate) fn check_text(field: &str, text: &str, limit: usize) -> Result<()> {
    if text.trim().is_empty() || text.len() > limit || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("must be 1 to {limit} bytes of text without control characters"),
        ));
    }
    Ok(())
}

/// The time that something was made at.
pub(crate) fn check_time(created_at: &str) -> Result<()> {
    if is_rfc3339(created_at) {
        return Ok(());
    }
    let reason = format!("`{}` is no time like 2026-01-31T12:00:00Z", printable(created_at));
    Err(Error::invalid("created_at", reason))
}

/// The number formats of a bundle.
pub(crate) fn check_precisions(named: &[Precision]) -> Result<()> {
    let mut precisions = named.to_vec();
    precisions.sort_unstable();
    precisions.dedup();
    if precisions.is_empty() || precisions.len() != named.len() {
        let reason = "must name at least one, and none twice";
        return Err(Error::mismatch("precisions", reason));
    }
    Ok(())
}

/// A foreign string for an error message: escaped, and cut where it is long.
pub(crate) fn printable(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut out: String = text.chars().take(SHOWN).collect::<String>().escape_debug().collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// Whether a text has the form of RFC 3339, `2026-01-31T12:00:00[.123](Z|+01:00)`, with every number
/// in its range. The calendar is not consulted: nothing is computed from it.
fn is_rfc3339(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>, allowed: std::ops::RangeInclusive<u32>| {
        text.get(range)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .is_some_and(|value| allowed.contains(&value))
    };
    let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    let fields = number(0..4, 0..=9999)
        && number(5..7, 1..=12)
        && number(8..10, 1..=31)
        && number(11..13, 0..=23)
        && number(14..16, 0..=59)
        // 60 is a leap second.
        && number(17..19, 0..=60)
        && separators.iter().all(|(at, sign)| text.get(*at..at + 1) == Some(sign));
    let Some(mut rest) = text.get(19..).filter(|_| fields) else {
        return false;
    };
    if let Some(fraction) = rest.strip_prefix('.') {
        let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if zone.len() == fraction.len() || fraction.len() - zone.len() > 9 {
            return false;
        }
        rest = zone;
    }
    if rest == "Z" {
        return true;
    }
    let at = text.len() - rest.len();
    rest.len() == 6
        && rest.starts_with(['+', '-'])
        && rest.get(3..4) == Some(":")
        && number(at + 1..at + 3, 0..=23)
        && number(at + 4..at + 6, 0..=59)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        let hash = "0".repeat(64);
        json!({
            "schema": 1,
            "name": "demo",
            "created_at": "2026-01-31T12:00:00Z",
            "lineage": {"base": hash},
            "config": serde_json::to_value(Config::vit_b16()).unwrap(),
            "preprocess": serde_json::to_value(Preprocess::clip(384, 128)).unwrap(),
            "tokenizer": {"kind": "clip-bpe", "sha256": tokenize::VOCABULARY_SHA256},
            "precisions": ["f32"],
            "files": {
                "vision.f32.onnx": {"sha256": hash, "bytes": 10},
                "text.f32.onnx": {"sha256": hash, "bytes": 10},
                "probe.safetensors": {"sha256": hash, "bytes": 10},
                "cohort.safetensors": {"sha256": hash, "bytes": 10},
            },
            "licence": {"weights": "MIT", "data": "CC0-1.0"},
            "data": {"sha256": hash, "persons": 3, "pictures": 7, "captions": 9},
            "intended_use": "research",
            "evaluation": {"R@1": 69.7, "nested": [1, {"a": null}]},
            "probe": "probe.safetensors",
            "cohort": "cohort.safetensors",
        })
    }

    fn parse(value: &Value) -> Result<Manifest> {
        Manifest::parse(Path::new("manifest.json"), &serde_json::to_vec(value).unwrap())
    }

    #[test]
    fn a_manifest_survives_writing_and_reading() {
        let manifest = parse(&good()).unwrap();
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Manifest::parse(Path::new("m"), &bytes).unwrap(), manifest);
    }

    #[test]
    fn manifests_without_the_optional_fields_are_read() {
        let mut older = good();
        for name in ["data", "intended_use", "evaluation"] {
            older.as_object_mut().unwrap().remove(name);
        }
        let manifest = parse(&older).unwrap();
        assert_eq!((&manifest.data, &manifest.intended_use), (&None, &None));
        let bytes = manifest.to_bytes().unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains("intended_use"));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let deep = (0..300).fold(json!(1), |inner, _| json!([inner]));
        let cases = [
            ("/schema", json!(2), "newer Spotter"),
            ("/schema", json!(0), "older Spotter"),
            ("/schema", json!(-1), "no manifest"),
            ("/schema", json!(1e300), "no manifest"),
            ("/name", json!(""), "name"),
            ("/name", json!("a\u{1b}[31m"), "control"),
            ("/name", json!("x".repeat(129)), "128"),
            ("/created_at", json!("yesterday"), "created_at"),
            ("/lineage/base", json!("abc"), "64 hexadecimal"),
            ("/config/prompts", json!(u64::MAX), "prompts"),
            ("/config/vision_width", json!(u64::MAX), "vision_width"),
            ("/config/height", json!(400), "preprocess"),
            ("/config/vocab", json!(512), "token_ids"),
            ("/config/vision_scale", json!(1e39), "config.vision_scale"),
            ("/preprocess/height", json!(1u64 << 40), "preprocess"),
            ("/preprocess/std", json!([1, 1, 0]), "preprocess.std"),
            ("/tokenizer/kind", json!("words"), "clip-bpe"),
            ("/tokenizer/sha256", json!("0".repeat(64)), "export the bundle again"),
            ("/precisions", json!([]), "precisions"),
            ("/precisions", json!(["f32", "f32"]), "precisions"),
            ("/precisions", json!(["f64"]), "f64"),
            ("/precisions", json!(["f32", "int8"]), "vision.int8.onnx"),
            ("/probe", json!("../probe.safetensors"), "../probe"),
            ("/cohort", json!("/etc/passwd"), "/etc/passwd"),
            ("/cohort", json!(null), "`cohort.safetensors` is no file"),
            ("/files/vision.f32.onnx/bytes", json!(u64::MAX), "vision.f32.onnx"),
            ("/files/vision.f32.onnx/bytes", json!(0), "vision.f32.onnx"),
            ("/files/vision.f32.onnx/bytes", json!(-5), "no manifest"),
            ("/licence/weights", json!(" "), "licence.weights"),
            ("/intended_use", json!(""), "intended_use"),
            ("/intended_use", json!("x".repeat(4097)), "4096"),
            ("/data/sha256", json!("abc"), "64 hexadecimal"),
            ("/data/persons", json!(-1), "no manifest"),
            ("/evaluation", json!(3), "no manifest"),
            ("/evaluation", json!({"a": deep}), "recursion"),
            ("/precisions", json!(["f32", 7]), "precisions[1]"),
            ("/files/vision.f32.onnx/sha256", json!(7), "files.vision.f32.onnx.sha256"),
        ];
        for (pointer, value, word) in cases {
            let mut manifest = good();
            *manifest.pointer_mut(pointer).unwrap() = value.clone();
            let error = parse(&manifest).expect_err(pointer);
            assert!(error.to_string().contains(word), "{pointer}: {error}");
            assert!(matches!(error, Error::Corrupt { .. }), "{pointer}: {error:?}");
        }
    }

    #[test]
    fn file_names_cannot_leave_the_folder_or_hide() {
        for name in ["../../etc/passwd", "/etc/passwd", "a/b", ".hidden", "", "manifest.json"] {
            let mut manifest = good();
            manifest["files"][name] = json!({"sha256": "0".repeat(64), "bytes": 1});
            let error = parse(&manifest).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}` is no file of a bundle")), "{error}");
        }
    }

    #[test]
    fn unknown_fields_and_missing_ones_are_named() {
        let mut manifest = good();
        manifest["signature"] = json!("x");
        assert!(parse(&manifest).unwrap_err().to_string().contains("`signature`"));
        let mut manifest = good();
        manifest.as_object_mut().unwrap().remove("licence");
        assert!(parse(&manifest).unwrap_err().to_string().contains("`licence`"));
    }

    #[test]
    fn bytes_that_are_no_manifest_are_refused() {
        let path = Path::new("m");
        for bytes in [&b""[..], b"{", b"[]", b"\xff\xfe", b"null", b"{\"schema\":1}"] {
            assert!(matches!(Manifest::parse(path, bytes), Err(Error::Corrupt { .. })));
        }
        let error = Manifest::parse(path, &vec![b' '; MAX_BYTES as usize + 1]).unwrap_err();
        assert!(error.to_string().contains("larger"), "{error}");
    }

    #[test]
    fn times_are_rfc_3339() {
        for time in [
            "2026-01-31T12:00:00Z",
            "2026-12-31T23:59:60.123456789Z",
            "2026-01-31T12:00:00+01:00",
            "2026-01-31T12:00:00.5-11:30",
        ] {
            assert!(is_rfc3339(time), "{time}");
        }
        for time in [
            "",
            "Z",
            "2026-01-31",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00:00",
            "２０２６-01-31T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-32T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00Zulu",
            "+026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.1234567890Z",
            "2026-01-31T12:00:00+1é:0",
        ] {
            assert!(!is_rfc3339(time), "{time}");
        }
    }

    #[test]
    fn precisions_have_names_and_files() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
        }
        assert!("f64".parse::<Precision>().is_err());
        assert_eq!(Precision::Int8.vision_file(), "vision.int8.onnx");
        assert_eq!(Precision::F32.text_file(), "text.f32.onnx");
    }
}
