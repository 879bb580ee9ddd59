//! Sets in each layout, what is broken in them, and pictures from files and tar members.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use spotter_trainer::dataset::{Cause, Dataset, Split, is_in_share};
use tempfile::{TempDir, tempdir};

/// A PNG of one colour.
fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn record(split: &str, id: i64, file: &str, captions: &[&str]) -> Value {
    json!({"split": split, "id": id, "file_path": file, "captions": captions, "more": {"a": [1]}})
}

/// A folder with an annotation file.
fn set(name: &str, records: &Value) -> TempDir {
    let folder = tempdir().unwrap();
    write(folder.path().join(name), records.to_string());
    folder
}

fn open_error(folder: &Path) -> String {
    Dataset::open(folder).err().unwrap().to_string()
}

/// The colour of a picture of one colour.
fn colour(dataset: &Dataset, record: usize) -> [u8; 3] {
    let picture = dataset.picture(record).unwrap();
    <[u8; 3]>::try_from(&picture.data()[..3]).unwrap()
}

#[test]
fn published_layouts_are_recognised_by_their_files() {
    for (file, name) in [
        ("reid_raw.json", "CUHK-PEDES"),
        ("ICFG-PEDES.json", "ICFG-PEDES"),
        ("ICFG_PEDES.json", "ICFG-PEDES"),
    ] {
        let folder = set(
            file,
            &json!([
                record("train", 1, "cam/1.png", &["A man.", "A man in red."]),
                record("val", 2, "cam/2.png", &["A woman."]),
                record("test", 3, "cam/3.png", &["A child."]),
            ]),
        );
        write(folder.path().join("imgs/cam/1.png"), png(4, 8, [255, 0, 0]));
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!((dataset.name(), dataset.records().len()), (name, 3));
        let first = &dataset.records()[0];
        assert_eq!((first.person, first.split, first.captions.len()), (1, Split::Train, 2));
        assert_eq!(dataset.split(Some(Split::Test)), [2]);
        assert_eq!(dataset.split(None), [0, 1, 2]);
        assert_eq!(colour(&dataset, 0), [255, 0, 0]);
        assert!(dataset.problems().is_empty());
    }
    let folder = set(
        "data_captions.json",
        &json!([{"id": 0, "img_path": "0.png", "split": "train", "captions": ["A man."]}]),
    );
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!((dataset.name(), dataset.records()[0].file.as_str()), ("RSTPReid", "0.png"));
}

#[test]
fn an_own_folder_keeps_pictures_under_it_under_imgs_or_in_tar_files() {
    let records = json!([
        record("train", 1, "imgs/a.png", &["A man."]),
        record("train", 2, "b.png", &["A man."]),
        record("train", 3, "imgs/c.png", &["A man."]),
        record("train", 4, "d.png", &["A man."]),
        record("train", 5, "e.png", &["A man."]),
    ]);
    let folder = set("captions.json", &records);
    write(folder.path().join("imgs/a.png"), png(1, 1, [1, 0, 0]));
    write(folder.path().join("imgs/b.png"), png(1, 1, [2, 0, 0]));
    write(folder.path().join("c.png"), png(1, 1, [3, 0, 0]));
    for (shard, name, colour) in [(0, "imgs/d.png", [4, 0, 0]), (1, "./e.png", [5, 0, 0])] {
        let path = folder.path().join(format!("shard-00{shard}.tar"));
        let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
        for (name, bytes) in [("first.png", png(9, 9, [9; 3])), (name, png(1, 1, colour))] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        tar.finish().unwrap();
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.name(), folder.path().file_name().unwrap().to_str().unwrap());
    for record in 0..5 {
        assert_eq!(colour(&dataset, record), [record as u8 + 1, 0, 0]);
    }
}

#[test]
fn a_tar_file_that_was_cut_is_told_on_opening_with_what_is_lost() {
    let names: Vec<String> = (0..4).map(|n| format!("{n}.png")).collect();
    let records: Vec<Value> = names.iter().map(|n| record("train", 1, n, &["A man."])).collect();
    let folder = set("captions.json", &json!(records));
    let mut tar = tar::Builder::new(Vec::new());
    let bytes = png(30, 60, [1, 2, 3]);
    let size = bytes.len();
    for name in &names {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let whole = tar.into_inner().unwrap();
    // A header and its picture, padded, four times; then two blocks of zeros.
    let member = (whole.len() - 1024) / 4;
    let counts = |length: usize| {
        write(folder.path().join("shard-000.tar"), &whole[..length]);
        let dataset = Dataset::open(folder.path()).unwrap();
        let problems = dataset.problems();
        let readable = (0..4).filter(|record| dataset.picture(*record).is_ok()).count();
        let causes = [Cause::BrokenShard, Cause::MissingPicture, Cause::BrokenPicture];
        (causes.map(|cause| problems.count(cause)), readable, problems.to_string())
    };
    for (length, expected, readable) in [
        (whole.len(), [0, 0, 0], 4),
        (whole.len() - 512, [0, 0, 0], 4),
        // Between two members, within a picture, within a header.
        (whole.len() - 1024, [1, 0, 0], 4),
        (2 * member, [1, 2, 0], 2),
        (member + 512 + size / 2, [1, 2, 1], 1),
        (member + 100, [1, 3, 0], 1),
    ] {
        let (found, left, said) = counts(length);
        assert_eq!((found, left), (expected, readable), "{length}: {said}");
        assert_eq!(said.contains("get the file again"), expected[0] > 0, "{length}: {said}");
    }
}

#[test]
fn broken_records_are_counted_and_the_others_used() {
    let folder = set(
        "captions.json",
        &json!([
            record("train", 1, "good.png", &["A man.", " ", &"x".repeat(10_000)]),
            record("train", 2, "empty.png", &[]),
            record("train", 3, "blank.png", &["\t"]),
            record("train", 4, "../outside.png", &["A man."]),
            record("train", 5, "/etc/passwd", &["A man."]),
            record("holdout", 6, "split.png", &["A man."]),
            {"split": "train", "id": "7", "file_path": "7.png", "captions": ["A man."]},
            {"split": "train", "id": 8, "captions": ["A man."]},
            {"split": "train", "id": 9, "file_path": "9.png", "captions": "A man."},
            {"split": "train", "id": 10, "file_path": "10.png", "captions": ["A man.", 5]},
            "no record",
            null,
        ]),
    );
    let dataset = Dataset::open(folder.path()).unwrap();
    let files: Vec<&str> = dataset.records().iter().map(|r| r.file.as_str()).collect();
    assert_eq!(files, ["good.png", "10.png"]);
    assert_eq!(dataset.records()[0].captions, ["A man."]);
    let problems = dataset.problems();
    for (cause, count) in [
        (Cause::NoCaption, 2),
        (Cause::EmptyCaption, 2),
        (Cause::LongCaption, 1),
        (Cause::PathLeavesFolder, 2),
        (Cause::UnknownSplit, 1),
        (Cause::WrongType, 6),
    ] {
        assert_eq!(problems.count(cause), count, "{cause:?} in {problems}");
    }
    assert_eq!(problems.total(), 14);
    assert!(problems.to_string().contains("holdout"), "{problems}");
    assert!(problems.to_string().contains("record 4: /etc/passwd"), "{problems}");
}

#[test]
fn missing_and_broken_pictures_are_told_apart_when_they_are_read() {
    let names = ["none.png", "cut.png", "text.png", "huge.png", "gone.tar.png"];
    let records: Vec<Value> = names.iter().map(|n| record("train", 1, n, &["A man."])).collect();
    let folder = set("captions.json", &json!(records));
    write(folder.path().join("cut.png"), &png(40, 40, [1, 2, 3])[..60]);
    write(folder.path().join("text.png"), "no picture");
    write(folder.path().join("huge.png"), png(9000, 1, [0; 3]));
    // A tar file that says there are more bytes than it has.
    let mut header = tar::Header::new_gnu();
    header.set_path("gone.tar.png").unwrap();
    header.set_size(5000);
    header.set_cksum();
    write(folder.path().join("shard-000.tar"), header.as_bytes());
    write(folder.path().join("shard-001.tar"), [7u8; 700]);
    let dataset = Dataset::open(folder.path()).unwrap();
    let problems = dataset.problems();
    assert_eq!(problems.count(Cause::BrokenShard), 2, "{problems}");
    assert_eq!(
        [Cause::MissingPicture, Cause::BrokenPicture].map(|cause| problems.count(cause)),
        [1, 1],
        "only what needs no decoding is found on opening: {problems}"
    );
    for (record, cause) in [
        (0, Cause::MissingPicture),
        (1, Cause::BrokenPicture),
        (2, Cause::BrokenPicture),
        (3, Cause::BrokenPicture),
        (4, Cause::BrokenPicture),
    ] {
        let error = dataset.picture(record).unwrap_err();
        assert_eq!(Cause::of_picture(&error), cause, "{error}");
        assert!(error.to_string().contains(names[record]), "{error}");
    }
    assert!(dataset.picture(5).unwrap_err().to_string().contains("5 records"));
}

#[test]
fn a_byte_order_mark_and_half_a_character_cost_no_more_than_their_record() {
    let folder = tempdir().unwrap();
    let write_all = |text: &[u8]| write(folder.path().join("captions.json"), text);
    let text = "[{\"split\": \"train\", \"id\": 1, \"file_path\": \"a.png\", \"captions\": [\"A man.\"]},
        {\"split\": \"train\", \"id\": 2, \"file_path\": \"b.png\", \"captions\": [\"A \\ud83d man.\"]},
        {\"split\": \"train\", \"id\": 3, \"file_path\": \"\\uDE00.png\", \"captions\": [\"A man.\"]},
        {\"split\": \"train\", \"id\": 5, \"file_path\": \"e.png\", \"captions\": [\"A \\u0000 man.\"]},
        {\"split\": \"train\", \"id\": 4, \"file_path\": \"d.png\", \"more\": \"\\ud800\",
         \"captions\": [\"A \\\\ud83d \\ud83d\\ude00 \\u00e9.\"]}]";
    write_all(&["\u{feff}".as_bytes(), text.as_bytes()].concat());
    let dataset = Dataset::open(folder.path()).unwrap();
    let persons: Vec<i64> = dataset.records().iter().map(|record| record.person).collect();
    assert_eq!(persons, [1, 4]);
    assert_eq!(dataset.records()[1].captions, ["A \\ud83d \u{1f600} \u{e9}."]);
    assert_eq!(dataset.problems().count(Cause::HalfCharacter), 2);
    assert_eq!(dataset.problems().count(Cause::NulCharacter), 1);
    let said = dataset.problems().to_string();
    assert!(said.contains("2 halves of characters (record 1"), "{said}");
    // Escapes at the end of a text that was cut.
    for end in ["\\", "\\u", "\\ud8", "\\ud800", "\\ud800\\u"] {
        write_all(format!("[\"{end}").as_bytes());
        assert!(open_error(folder.path()).contains("get the file again"));
    }
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin = [&text.as_bytes()[..70], b"\xe9", &text.as_bytes()[70..]].concat();
    for bytes in [[b"\xff\xfe", &utf16[..]].concat(), latin] {
        write_all(&bytes);
        assert!(open_error(folder.path()).contains("UTF-8"), "{}", open_error(folder.path()));
    }
}

#[test]
fn data_behind_the_end_of_a_tar_file_are_told() {
    let names = ["a.png", "b.png"];
    let records = names.map(|name| record("train", 1, name, &["A man."]));
    let folder = set("captions.json", &json!(records));
    let member = |name: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let bytes = png(2, 2, [1; 3]);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        let mut whole = tar.into_inner().unwrap();
        whole.truncate(whole.len() - 1024);
        whole
    };
    let [a, b] = names.map(member);
    let problems = |between: usize, after: usize| {
        let parts = [a.clone(), vec![0; between], b.clone(), vec![0; after]];
        write(folder.path().join("shard-000.tar"), parts.concat());
        Dataset::open(folder.path()).unwrap().problems().clone()
    };
    // Tar files are padded to 10 KiB, and readers may be handed more.
    assert!(problems(0, 1024).is_empty() && problems(0, 100_000).is_empty());
    for zeros in [512, 1024, 20 * 512] {
        let found = problems(zeros, 1024);
        let said = found.to_string();
        let counts = [Cause::BrokenShard, Cause::MissingPicture].map(|cause| found.count(cause));
        assert_eq!(counts, [1, 1], "{said}");
        assert!(said.contains("has data behind its end") && said.contains("(b.png)"), "{said}");
    }
}

#[test]
fn pictures_that_are_listed_twice_are_told_and_kept() {
    let folder = set(
        "captions.json",
        &json!([
            record("train", 1, "a.png", &["A man."]),
            record("train", 1, "./imgs//a.png", &["A tall man."]),
            record("train", 2, "b.png", &["A man."]),
            record("train", 3, "imgs/b.png", &["A man."]),
            record("val", 4, "./b.png", &["A man."]),
            record("val", 5, "c/b.png", &["A man."]),
        ]),
    );
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.records().len(), 6);
    let problems = dataset.problems();
    for cause in [Cause::ListedTwice, Cause::TwoPersons, Cause::TwoSplits] {
        assert_eq!(problems.count(cause), 1, "{cause:?} in {problems}");
    }
    assert_eq!(problems.total(), 3);
    assert!(problems.to_string().contains("./b.png (persons 2 and 4)"), "{problems}");
}

#[test]
fn a_tar_file_of_rubbish_is_told_without_its_bytes() {
    let folder = set("captions.json", &json!([record("train", 1, "a.png", &["A man."])]));
    let rubbish: Vec<u8> =
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    write(folder.path().join("shard-000.tar"), rubbish);
    let said = Dataset::open(folder.path()).unwrap().problems().to_string();
    assert!(said.contains("is no tar file from byte 0 on"), "{said}");
    assert!(said.is_ascii() && !said.contains(|sign: char| sign.is_control()), "{said:?}");
}

#[test]
fn what_cannot_be_used_at_all_says_why() {
    let empty = tempdir().unwrap();
    let message = open_error(empty.path());
    for looked in ["reid_raw.json", "data_captions.json", "captions.json", "bounding_box_train"] {
        assert!(message.contains(looked), "{message}");
    }
    assert!(open_error(&empty.path().join("none")).contains("no folder"));
    let broken = set("captions.json", &json!([record("train", 1, "a.png", &[])]));
    assert!(
        open_error(broken.path())
            .contains("no record can be used: 1 record without a caption (a.png)")
    );
    for text in ["", "{}", "[{\"id\": 1", "[] []", "\u{0}"] {
        let folder = tempdir().unwrap();
        write(folder.path().join("captions.json"), text);
        assert!(open_error(folder.path()).contains("captions.json"), "{text}");
    }
    let shared = set(
        "captions.json",
        &json!([record("train", 7, "a.png", &["A"]), record("test", 7, "b.png", &["B"])]),
    );
    let message = open_error(shared.path());
    assert!(message.contains("person 7 is in two splits"), "{message}");
}

#[test]
fn the_fingerprint_is_that_of_what_is_used() {
    let one = record("train", 1, "a.png", &["A man."]);
    let two = record("val", 2, "b.png", &["A woman."]);
    let of = |records: Value| {
        Dataset::open(set("captions.json", &records).path()).unwrap().fingerprint()
    };
    let both = of(json!([one, two]));
    let mut other = one.clone();
    other["unused"] = json!(true);
    assert_eq!(of(json!([other, two])), both);
    let mut renamed = one.clone();
    renamed["captions"] = json!(["A man", "."]);
    for changed in [json!([one]), json!([two, one]), json!([renamed, two])] {
        assert_ne!(of(changed), both);
    }
    let folder = set("captions.json", &json!([one, two]));
    let mut dataset = Dataset::open(folder.path()).unwrap();
    dataset.retain(|record| record.person < 2);
    assert_eq!(dataset.fingerprint(), of(json!([one])));
    assert_eq!(dataset.split(None), [0]);
}

#[test]
fn a_share_of_persons_is_about_that_share_and_grows() {
    let count = |share: f64| (1..=10_000).filter(|person| is_in_share(*person, share)).count();
    assert_eq!((count(0.0), count(1.0)), (0, 10_000));
    for share in [0.01, 0.1, 0.5] {
        let apart = (count(share) as f64 - share * 1e4).abs();
        // Four standard deviations of a binomial.
        assert!(apart < 4.0 * (share * (1.0 - share) * 1e4).sqrt(), "{share}: {}", count(share));
    }
    assert!((1..1000).all(|person| !is_in_share(person, 0.2) || is_in_share(person, 0.3)));
}

/// Market-1501 with two persons, one of them without attributes.
fn market() -> TempDir {
    let attributes = json!({
        "train": {
            "image_index": ["0002"], "gender": [2], "hair": [2], "age": [1], "up": [2], "down": [1],
            "clothes": [2], "hat": [1], "backpack": [2], "bag": [1], "handbag": [2], "upred": [2],
            "upblue": [1], "downblack": [2]
        },
        "test": {"image_index": [1501], "gender": [1], "up": [1], "down": [2], "clothes": [2]},
    });
    let folder = set("market_attribute.json", &attributes);
    for file in [
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c2s1_000451_03.jpg",
        "bounding_box_train/0007_c1s1_000451_03.jpg",
        "bounding_box_train/Thumbs.db",
        "bounding_box_train/other.jpg",
        "bounding_box_test/-1_c1s1_000451_03.jpg",
        "bounding_box_test/0000_c1s1_000451_03.jpg",
        "bounding_box_test/1501_c1s1_000451_03.jpg",
        "query/1501_c4s1_000451_00.jpg",
    ] {
        write(folder.path().join(file), png(64, 128, [8; 3]));
    }
    folder
}

#[test]
fn market_1501_is_captioned_from_attributes() {
    let folder = market();
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.name(), "Market-1501");
    assert_eq!(dataset.split(Some(Split::Train)).len(), 2);
    assert_eq!(dataset.split(Some(Split::Test)).len(), 2);
    assert_eq!(dataset.problems().count(Cause::NoAttributes), 1);
    assert_eq!(dataset.problems().count(Cause::WrongType), 1);
    assert_eq!(dataset.picture(0).unwrap().height(), 128);
    for record in dataset.records() {
        assert_eq!(record.captions.len(), 2);
        assert_ne!(record.captions[0], record.captions[1]);
        for caption in &record.captions {
            let words: &[&str] = match record.person {
                2 => &["woman", "red", "short-sleeved", "black long trousers", "backpack"],
                _ => &["man", "long-sleeved", "shorts"],
            };
            assert!(words.iter().all(|word| caption.contains(word)), "{caption}");
            assert!(!caption.contains("  ") && !caption.contains(".."), "{caption}");
            assert!(caption.ends_with('.') && caption.starts_with(char::is_uppercase), "{caption}");
        }
    }
    let again = Dataset::open(folder.path()).unwrap();
    assert_eq!(again.records(), dataset.records());
    fs::remove_file(folder.path().join("market_attribute.json")).unwrap();
    assert!(open_error(folder.path()).contains("market_attribute.json"));
    write(folder.path().join("market_attribute.json"), "{\"train\": {\"age\": [1]}}");
    assert!(open_error(folder.path()).contains("image_index"));
}
