//! What a person sees who types something wrong or hands over something broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{fs, path::Path};

use spotter_e2e::program::{Run, data, spotterd, tiny_bundle};

/// The run was refused with this exit status, its message holds all these words and is no panic.
#[track_caller]
fn refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{}{}", run.out, run.err);
    let said = format!("{}{}", run.out, run.err);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// A copy of the tiny bundle to break.
fn copy_of_bundle(folder: &Path) -> String {
    let copy = folder.join("bundle");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(tiny_bundle()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy.display().to_string()
}

#[test]
fn a_whole_bundle_is_shown_and_verified() {
    let run = spotterd(&["bundle", "show", tiny_bundle()]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("vision.f32.onnx") && run.out.contains("67 words"), "{}", run.out);
    let run = spotterd(&["bundle", "verify", tiny_bundle()]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
}

#[test]
fn a_broken_bundle_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = copy_of_bundle(folder.path());
    let vision = Path::new(&bundle).join("vision.f32.onnx");
    let mut bytes = fs::read(&vision).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&vision, &bytes).unwrap();
    refused(&spotterd(&["bundle", "verify", &bundle]), 3, &["vision.f32.onnx"]);
    fs::remove_file(&vision).unwrap();
    refused(&spotterd(&["bundle", "verify", &bundle]), 3, &["vision.f32.onnx"]);
    refused(&spotterd(&["bundle", "show", "/nowhere/at/all"]), 2, &["/nowhere/at/all"]);
}

#[test]
fn pictures_are_matched_and_a_broken_one_does_not_stop_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("fake.jpg");
    fs::write(&fake, "not a picture").unwrap();
    let good = data("images/000000000785.jpg").display().to_string();
    let run = spotterd(&[
        "match",
        "--bundle",
        tiny_bundle(),
        "--text",
        "a skier in red",
        "--json",
        "--detect",
        &fake.display().to_string(),
        &good,
    ]);
    refused(&run, 1, &["fake.jpg", "no JPEG or PNG picture"]);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(report["results"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["errors"].as_array().unwrap().len(), 1, "{report}");
    assert!(report["results"][0]["scores"][0].as_f64().unwrap().abs() <= 1.0);
}

#[test]
fn a_text_without_words_and_a_wrong_policy_are_refused() {
    let good = data("images/000000000785.jpg").display().to_string();
    let run = spotterd(&["match", "--bundle", tiny_bundle(), "--text", "  ", &good]);
    refused(&run, 2, &["alert 1"]);
    let video = data("scenes/street-a.mp4").display().to_string();
    let run =
        spotterd(&["replay", "--bundle", tiny_bundle(), "--video", &video, "--policy", "fixed=9"]);
    refused(&run, 2, &["fixed", "cosine"]);
}

#[test]
fn a_model_that_is_no_detector_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.onnx");
    fs::write(&wrong, [0_u8; 1000]).unwrap();
    let video = data("scenes/street-a.mp4").display().to_string();
    let run = spotterd(&["replay", "--video", &video, "--detector", &wrong.display().to_string()]);
    refused(&run, 3, &["wrong.onnx"]);
    let tower = format!("{}/vision.f32.onnx", tiny_bundle());
    let run = spotterd(&["replay", "--video", &video, "--detector", &tower]);
    refused(&run, 3, &["vision.f32.onnx", "no person detector"]);
    let run = spotterd(&["replay", "--video", &video, "--detector", "no-such-model"]);
    refused(&run, 2, &["no-such-model", "deimv2-femto"]);
}

#[test]
fn a_video_that_is_none_and_a_text_file_in_its_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.mp4");
    fs::write(&text, "just some notes\n".repeat(100)).unwrap();
    let run = spotterd(&["replay", "--video", &text.display().to_string()]);
    refused(&run, 3, &["notes"]);
    let run = spotterd(&["replay", "--video", "/nowhere/x.mp4"]);
    assert_ne!(run.code, 0);
    assert!(run.err.contains("/nowhere/x.mp4"), "{}", run.err);
}

#[test]
fn check_names_what_is_wrong_with_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spotterd.toml");
    let config = |text: String| {
        fs::write(&path, text).unwrap();
        spotterd(&["check", &path.display().to_string()])
    };
    let bundle = tiny_bundle();
    let camera = "[[camera]]\nid = \"door\"\nurl = \"test:ball\"\n";
    let run = config(format!("bundle = \"{bundle}\"\n{camera}"));
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    refused(&config(format!("bundel = \"{bundle}\"\n{camera}")), 2, &["spotterd.toml:1", "bundel"]);
    refused(&config(format!("bundle = \"/nowhere\"\n{camera}")), 1, &["WRONG  bundle", "/nowhere"]);
    let decoder = format!("bundle = \"{bundle}\"\n{camera}decoder = \"nvh264dec\"\n");
    refused(&config(decoder), 1, &["WRONG  door", "nvh264dec"]);
    let provider = format!("bundle = \"{bundle}\"\n{camera}[inference]\nprovider = \"cuda\"\n");
    refused(&config(provider), 1, &["WRONG", "cuda"]);
}

#[test]
fn a_report_is_a_page_with_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let video = data("scenes/street-a.mp4").display().to_string();
    let page = folder.path().join("page");
    let run = spotterd(&[
        "replay",
        "--video",
        &video,
        "--report",
        &page.display().to_string(),
        "--rate",
        "2",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let html = fs::read_to_string(page.join("index.html")).unwrap();
    assert!(html.contains("scene-0.jpg") && html.contains("track 1"), "{html}");
    assert!(page.join("scene-0.jpg").is_file());
    assert!(!html.contains("<script"));
}
