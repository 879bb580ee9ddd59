//! Market-1501 (Zheng et al., ICCV 2015): persons without captions, told apart by their file names.

use std::{collections::HashMap, path::Path};

use super::{Cause, Problems, Record, Split, attributes::Attributes};
use crate::error::Result;

/// The folder by which the set is recognised.
pub(super) const TRAIN: &str = "bounding_box_train";

/// The set's folders with crops, and what they are for.
const FOLDERS: [(&str, Split); 3] =
    [(TRAIN, Split::Train), ("bounding_box_test", Split::Test), ("query", Split::Test)];

/// All records, captioned from the persons' attributes.
pub(super) fn read(folder: &Path, problems: &mut Problems) -> Result<Vec<Record>> {
    let attributes = Attributes::read(folder)?;
    let mut records = Vec::new();
    for (name, split) in FOLDERS {
        for file in pictures(&folder.join(name))? {
            let path = format!("{name}/{file}");
            let Some(person) = person_of(&file) else {
                problems.note(Cause::WrongType, || format!("{path}: no name of the set"));
                continue;
            };
            // 0 marks crops that show no whole person, -1 persons that are to be ignored.
            if person <= 0 {
                continue;
            }
            let captions = attributes.captions(person, &file);
            if captions.is_empty() {
                problems.note(Cause::NoAttributes, || path);
                continue;
            }
            records.push(Record { person, file: path, split, captions, meant: None });
        }
    }
    Ok(records)
}

/// Names of the pictures in a folder, sorted; none where there is no such folder.
fn pictures(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let io = |error| spotter_models::Error::io(folder)(error);
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".jpg") || name.ends_with(".png") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The person in `0002_c1s1_000451_03.jpg`: 2.
fn person_of(file: &str) -> Option<i64> {
    let (person, rest) = file.split_once('_')?;
    rest.starts_with('c').then(|| person.parse().ok())?
}

/// A person's attributes by the names and numbers of the published file.
pub(super) type Person = HashMap<String, i64>;

#[cfg(test)]
mod tests {
    use super::person_of;

    #[test]
    fn persons_are_read_from_file_names() {
        let cases = [
            ("0002_c1s1_000451_03.jpg", Some(2)),
            ("-1_c3s2_000001_00.jpg", Some(-1)),
            ("0000_c6s4_002202_01.jpg", Some(0)),
            ("thumbnail_2.jpg", None),
            ("x.jpg", None),
            ("0002_s1.jpg", None),
        ];
        for (file, person) in cases {
            assert_eq!(person_of(file), person, "{file}");
        }
    }
}
