//! Which layout a folder has, and its annotations as records.

use std::path::{Component, Path};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use spotter_models::tokenize::MAX_TEXT_BYTES;

use super::{Cause, Problems, Record, Split, market};
use crate::{
    bounded,
    error::{Error, Result},
};

/// Annotation files and the published set that each one belongs to; `None`: the folder's own name.
const FILES: [(&str, Option<&str>); 5] = [
    ("reid_raw.json", Some("CUHK-PEDES")),
    ("ICFG-PEDES.json", Some("ICFG-PEDES")),
    ("ICFG_PEDES.json", Some("ICFG-PEDES")),
    ("data_captions.json", Some("RSTPReid")),
    ("captions.json", None),
];

/// Largest annotation file that is read: CUHK-PEDES' is a twentieth of it.
const MAX_BYTES: u64 = 1 << 30;

/// A folder's set: its name and records.
pub(super) fn read(folder: &Path, problems: &mut Problems) -> Result<(String, Vec<Record>)> {
    // What may not be listed or entered seems to have none of the files.
    if folder.is_dir() {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        accessat(CWD, folder, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|error| spotter_models::Error::io(folder)(error.into()))?;
    }
    for (file, name) in FILES {
        let path = folder.join(file);
        if path.is_file() {
            let name = name.map_or_else(|| folder_name(folder), str::to_owned);
            return Ok((name, read_records(&path, problems)?));
        }
    }
    if folder.join(market::TRAIN).is_dir() {
        return Ok(("Market-1501".into(), market::read(folder, problems)?));
    }
    let what = folder.display().to_string();
    if !folder.is_dir() {
        return Err(Error::invalid(what, "is no folder that can be read"));
    }
    let files: Vec<&str> = FILES.iter().map(|(file, _)| *file).collect();
    let reason = format!(
        "no known set: there is none of {} and no folder {}; docs/guide/training.md describes the \
         layouts",
        files.join(", "),
        market::TRAIN
    );
    Err(Error::invalid(what, reason))
}

fn folder_name(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    full.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned())
}

/// Reads a JSON file of bounded length. A byte order mark, which editors put in front, is passed over.
pub(super) fn read_json(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = bounded::read(path, MAX_BYTES)?;
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(.."\u{feff}".len());
    }
    Ok(bytes)
}

fn read_records(path: &Path, problems: &mut Problems) -> Result<Vec<Record>> {
    let mut text = read_json(path)?;
    mark_lone_surrogates(&mut text);
    let mut json = serde_json::Deserializer::from_slice(&text);
    let mut records = Vec::new();
    json.deserialize_seq(Entries { records: &mut records, problems })
        .and_then(|()| json.end())
        .map_err(|error| {
            let reason = format!(
                "no list of records in JSON, which is in UTF-8: {error}; get the file again, or write it \
                 in UTF-8"
            );
            spotter_models::Error::corrupt(path, reason)
        })?;
    Ok(records)
}

/// Stands for half a character, which JSON can write and no text has: a code point that Unicode keeps out of
/// texts for ever.
const LONE: char = '\u{ffff}';

/// Replaces escapes such as `\ud83d` that are half of a pair without the other half by those of [`LONE`]:
/// the parser would refuse the whole file for them, and not only the record.
fn mark_lone_surrogates(json: &mut [u8]) {
    let unit = |json: &[u8], at: usize| -> Option<u16> {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(next) = json.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\\')) {
        at += next;
        at += match (unit(json, at), unit(json, at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                json[at + 2..at + 6].copy_from_slice(b"ffff");
                6
            }
            // The sign after it is escaped, be it another backslash.
            _ => 2,
        };
    }
}

/// Takes records one by one, so that the fields that nobody reads never are in memory together.
struct Entries<'a> {
    records: &'a mut Vec<Record>,
    problems: &'a mut Problems,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(entry) = entries.next_element::<Lenient<Entry>>()? {
            self.records.extend(check(number, entry, self.problems));
            number += 1;
        }
        Ok(())
    }
}

/// A value of the type that it should have, or of another.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Right(T),
    Wrong(IgnoredAny),
}

impl<T> Lenient<T> {
    fn right(self) -> Option<T> {
        match self {
            Lenient::Right(value) => Some(value),
            Lenient::Wrong(_) => None,
        }
    }
}

/// A record as files have it; sets differ in the name of the path.
#[derive(Deserialize)]
struct Entry {
    id: Option<Lenient<i64>>,
    #[serde(alias = "img_path")]
    file_path: Option<Lenient<String>>,
    split: Option<Lenient<String>>,
    captions: Option<Lenient<Vec<Lenient<String>>>>,
}

/// A record that can be used, or a problem.
fn check(number: usize, entry: Lenient<Entry>, problems: &mut Problems) -> Option<Record> {
    let mut wrong = |cause, what: &str| {
        problems.note(cause, || format!("record {number}: {what}"));
        None
    };
    let Lenient::Right(entry) = entry else {
        return wrong(Cause::WrongType, "is no record");
    };
    let Some(person) = entry.id.and_then(Lenient::right) else {
        return wrong(Cause::WrongType, "id");
    };
    let Some(file) = entry.file_path.and_then(Lenient::right).filter(|file| !file.is_empty())
    else {
        return wrong(Cause::WrongType, "file_path or img_path");
    };
    let Some(split) = entry.split.and_then(Lenient::right) else {
        return wrong(Cause::WrongType, "split");
    };
    let split = match split.as_str() {
        "train" => Split::Train,
        "val" => Split::Val,
        "test" => Split::Test,
        other => return wrong(Cause::UnknownSplit, other),
    };
    let captions = entry.captions.and_then(Lenient::right);
    let texts = captions.iter().flatten().filter_map(|caption| match caption {
        Lenient::Right(text) => Some(text),
        Lenient::Wrong(_) => None,
    });
    if let Some(cause) = texts.chain([&file]).find_map(|text| unreadable(text)) {
        return wrong(cause, "file_path or captions");
    }
    if !stays_inside(&file) {
        return wrong(Cause::PathLeavesFolder, &file);
    }
    let Some(captions) = captions else {
        return wrong(Cause::WrongType, "captions");
    };
    let captions = usable(&file, captions, problems);
    if captions.is_empty() {
        problems.note(Cause::NoCaption, || file);
        return None;
    }
    Some(Record { person, file, split, captions, meant: None })
}

/// What is in a text that no text may have.
fn unreadable(text: &str) -> Option<Cause> {
    let has = |c: char| text.contains(c);
    match (has(LONE), has('\0')) {
        (true, _) => Some(Cause::HalfCharacter),
        (_, true) => Some(Cause::NulCharacter),
        _ => None,
    }
}

/// The captions that can be read as a description.
fn usable(file: &str, captions: Vec<Lenient<String>>, problems: &mut Problems) -> Vec<String> {
    let mut kept = Vec::with_capacity(captions.len());
    for caption in captions {
        match caption.right() {
            None => problems.note(Cause::WrongType, || format!("{file}: a caption")),
            Some(text) if text.trim().is_empty() => {
                problems.note(Cause::EmptyCaption, || file.to_owned());
            }
            Some(text) if text.len() > MAX_TEXT_BYTES => {
                problems.note(Cause::LongCaption, || file.to_owned());
            }
            Some(text) => kept.push(text),
        }
    }
    kept
}

/// Whether a relative path names something below the folder it is relative to.
fn stays_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && Path::new(file).file_name().is_some()
}
