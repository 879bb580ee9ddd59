//! What a person sees who types something wrong or hands over something broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use spotter_e2e::program::{Run, data, spotterd, tiny_bundle};
use spotter_models::assets::Asset;

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
fn the_towers_of_a_bundle_are_chosen_by_precision() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle").display().to_string();
    let random = ["bench", "random-bundle", "--size", "tiny", "--precisions", "f32,int8"];
    let run = spotterd(&[&random[..], &["--out", &bundle]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    let verify = |precision| spotterd(&["bundle", "verify", &bundle, "--precision", precision]);
    for precision in ["f32", "int8"] {
        let run = verify(precision);
        assert_eq!(run.code, 0, "{precision}: {}{}", run.out, run.err);
    }
    refused(&verify("f16"), 2, &["choose f32 or int8"]);
    refused(&verify("f64"), 2, &["f32, f16 or int8"]);

    let good = data("images/000000000785.jpg").display().to_string();
    let scores = |precision| {
        let arguments = ["--precision", precision, "--text", "a man", "--json", &good];
        let run = spotterd(&[&["match", "--bundle", &bundle][..], &arguments].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        run.out
    };
    let (exact, int8) = (scores("f32"), scores("int8"));
    assert!(exact != int8, "{exact}");
    assert_eq!(scores("int8"), int8);
}

#[test]
fn the_towers_are_measured_at_batch_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("embeddings.json").display().to_string();
    let bench = |arguments: &[&str]| {
        let tower = ["bench", "tower", "--bundle", tiny_bundle()];
        spotterd(&[&tower[..], arguments].concat())
    };
    let short = ["--batches", "1,3", "--seconds", "0.01", "--embeddings", &at, "--json"];
    let run = bench(&short);
    assert_eq!(run.code, 0, "{}", run.err);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&report["provider"], &report["gpu"]), (&"cpu".into(), &serde_json::Value::Null));
    for (index, inputs) in ["crops", "texts"].iter().enumerate() {
        let tower = &report["towers"][index];
        assert_eq!(tower["inputs"], *inputs);
        let gflop = tower["gflop"].as_f64().unwrap();
        for (batch, size) in tower["batches"].as_array().unwrap().iter().zip([1.0, 3.0]) {
            let number = |name: &str| batch[name].as_f64().unwrap();
            let ms = batch["ms"]["median"].as_f64().unwrap();
            assert!(ms > 0.0 && gflop > 0.0, "{batch}");
            assert!((number("per_second") * ms / (1e3 * size) - 1.0).abs() < 1e-6, "{batch}");
            assert!((number("tflops") * ms / (gflop * size) - 1.0).abs() < 1e-6, "{batch}");
        }
    }
    // Those of both batch sizes, crops and then texts; what is in a batch of three is in that of one.
    let rows: Vec<Vec<f32>> = serde_json::from_slice(&fs::read(&at).unwrap()).unwrap();
    assert_eq!(rows.len(), 8);
    let product =
        |a: usize, b: usize| rows[a].iter().zip(&rows[b]).map(|(a, b)| a * b).sum::<f32>();
    assert!((product(0, 1) - 1.0).abs() < 1e-5 && (product(4, 5) - 1.0).abs() < 1e-5);
    assert!(product(1, 2) < 0.999_99, "other crops");

    let run = bench(&["--nodes", "--batches", "2"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.out.contains("CPUExecutionProvider") && run.out.contains("LayerNorm"),
        "{}",
        run.out
    );
    refused(&bench(&["--provider", "cuda"]), 3, &["execution provider cuda", "choose"]);
    refused(&bench(&["--provider", "vulkan"]), 2, &["cpu, cuda or tensorrt"]);
    refused(&bench(&["--batches", "1,0"]), 2, &["use 1 to 256"]);
    refused(&bench(&["--seconds", "0"]), 2, &["use 0.001 to 600"]);
    refused(&bench(&["--precision", "int8"]), 2, &["holds no int8 towers"]);
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
fn a_cohort_is_put_into_a_copy_of_a_bundle_and_judged_by() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let cohort = |pictures: &str, out: &str| {
        let bundle = tiny_bundle();
        let arguments = ["--bundle", bundle, "--pictures", pictures, "--out", out];
        spotterd(&[&["bundle", "cohort"][..], &arguments].concat())
    };
    let persons = data("persons").display().to_string();
    let run = cohort(&persons, &at("with"));
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("a cohort of 48 persons"), "{}", run.out);
    let run = spotterd(&["bundle", "verify", &at("with")]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(spotterd(&["bundle", "show", &at("with")]).out.contains("cohort      48 persons"));

    // The policy needs one; no deviation above the mean is for everybody, ten are for nobody.
    let video = data("one-by-one.mp4").display().to_string();
    fs::write(at("alerts"), r#"["woman in a red coat", "man with a suitcase"]"#).unwrap();
    let alerts = at("alerts");
    let replay = |bundle: &str, policy: &str| {
        let fixed = ["--video", &video, "--alerts", &alerts, "--json", "-", "--rate", "2"];
        let given = ["--bundle", bundle, "--policy", policy];
        spotterd(&[&["replay"][..], &fixed, &given].concat())
    };
    refused(&replay(tiny_bundle(), "zscore=3"), 2, &["zscore=3", "spotterd bundle cohort"]);
    let count = |policy: &str| {
        let run = replay(&at("with"), policy);
        assert_eq!(run.code, 0, "{}", run.err);
        let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        report["sightings"].as_array().unwrap().len()
    };
    assert!(count("zscore=-100") > 0);
    assert_eq!(count("zscore=100"), 0);

    // What is no picture is named, and counts in the exit status; too few make no cohort.
    let some = folder.path().join("some");
    fs::create_dir(&some).unwrap();
    refused(&cohort(&at("some"), &at("none")), 2, &["some", "no .jpg"]);
    for (index, entry) in fs::read_dir(&persons).unwrap().take(33).enumerate() {
        fs::copy(entry.unwrap().path(), some.join(format!("{index}.jpg"))).unwrap();
    }
    let whole = fs::read(some.join("0.jpg")).unwrap();
    fs::write(some.join("0.jpg"), &whole[..whole.len() / 2]).unwrap();
    refused(&cohort(&at("some"), &at("most")), 1, &["0.jpg", "32 persons", "1 of 33"]);
    fs::remove_file(some.join("1.jpg")).unwrap();
    refused(&cohort(&at("some"), &at("few")), 3, &["31 persons; 32 to"]);
    assert!(!Path::new(&at("few")).exists());
    refused(&cohort(&persons, &at("with")), 2, &["exists already"]);
}

#[test]
fn a_text_is_read_without_a_broker_and_with_the_words_of_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let lint = |arguments: &[&str]| spotterd(&[&["alert", "lint"][..], arguments].concat());
    let run = lint(&["woman in a red coat with a black backpack"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(run.out.starts_with("nothing to note\n"), "{}", run.out);
    assert!(run.out.contains("woman, red coat, black backpack"), "{}", run.out);
    for (text, word) in [
        ("black man", "skin"),
        ("🙂", "no words"),
        ("red\u{1b}[31m coat", "U+001B"),
        (&"x".repeat(2001), "2000"),
    ] {
        let run = lint(&[text]);
        assert_eq!(run.code, 1, "{text}");
        assert!(run.out.starts_with("refused: ") && run.out.contains(word), "{}", run.out);
        assert!(!run.out.contains('\u{1b}'), "{:?}", run.out);
    }
    let run = lint(&[&"red coat ".repeat(100)]);
    assert!(run.code == 0 && run.out.contains("not searched for: "), "{}", run.out);
    let run = lint(&["man in a red coat", "--without", "no hat", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &report["refused"]), (0, &false.into()));
    assert_eq!(report["findings"][0]["code"], "negation");

    let bundle = |bundle: &str, captions: &str, out: &str| {
        let arguments = ["--bundle", bundle, "--captions", captions, "--out", out];
        spotterd(&[&["bundle", "vocabulary"][..], &arguments].concat())
    };
    let records = r#"[{"split": "train", "captions": ["a red coat"]},
        {"split": "test", "captions": ["a fuchsia poncho"]}]"#;
    fs::write(at("captions.json"), records).unwrap();
    let run = bundle(tiny_bundle(), &at("captions.json"), &at("with"));
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("3 words of 1 captions"), "{}", run.out);
    assert!(spotterd(&["bundle", "show", &at("with")]).out.contains("vocabulary  3 words"));
    let run = lint(&["a red poncho", "--bundle", &at("with")]);
    assert!(run.code == 0 && run.out.contains("not seen \"poncho\""), "{}", run.out);
    assert!(!lint(&["a red poncho"]).out.contains("not seen"));
    fs::write(at("broken.json"), "[{}]").unwrap();
    refused(&bundle(tiny_bundle(), &at("broken.json"), &at("no")), 2, &["captions"]);
    fs::write(at("empty.txt"), "").unwrap();
    refused(&bundle(tiny_bundle(), &at("empty.txt"), &at("no")), 2, &["0 words"]);
    assert!(!Path::new(&at("no")).exists());
}

/// A detector that computes nothing but NaN finds nobody, and would say nothing.
#[test]
fn a_damaged_detector_is_refused_before_anything_is_searched() {
    let folder = tempfile::tempdir().unwrap();
    let path = Asset::find("yolox-nano").unwrap().path().to_owned();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40_000].fill(0xff);
    let detector = folder.path().join("damaged.onnx");
    fs::write(&detector, bytes).unwrap();
    let (video, detector) =
        (data("one-by-one.mp4").display().to_string(), detector.display().to_string());
    let run = spotterd(&["replay", "--video", &video, "--detector", &detector]);
    refused(&run, 3, &["damaged.onnx", "copy it again"]);
}

/// A telephone that was held upright writes its pictures lying and says how to turn them.
#[test]
fn a_recording_is_turned_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let ffmpeg = |arguments: &[&str]| {
        let status = Command::new("ffmpeg").args(["-v", "error"]).args(arguments).status();
        assert!(status.expect("ffmpeg is needed").success());
    };
    let scene = data("scenes/street-a.mp4").display().to_string();
    ffmpeg(&["-i", &scene, "-t", "8", "-vf", "transpose=1", "-c:v", "libx264", &at("lying.mp4")]);
    let turn = ["-metadata:s:v:0", "rotate=90", "-c", "copy"];
    ffmpeg(&[&["-i", &at("lying.mp4")][..], &turn, &[&at("turned.mp4")]].concat());
    let tracks = |name: &str| {
        let run = spotterd(&["replay", "--video", &at(name), "--json", "-"]);
        assert_eq!(run.code, 0, "{}", run.err);
        let report: Value = serde_json::from_str(&run.out).unwrap();
        report["summary"]["tracks"].as_u64().unwrap()
    };
    let (lying, turned) = (tracks("lying.mp4"), tracks("turned.mp4"));
    assert!(turned >= 2 && turned > lying, "{turned} tracks turned, {lying} lying");
}

/// What is no plain file of a sane length is refused at once: it would block, or take all memory.
#[test]
fn pipes_and_endless_devices_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (pipe, video) = (pipe.display().to_string(), data("one-by-one.mp4").display().to_string());
    let bundle = tiny_bundle();
    let with = |alerts: &str| {
        spotterd(&["replay", "--bundle", bundle, "--video", &video, "--alerts", alerts])
    };
    refused(&spotterd(&["replay", "--video", &pipe]), 3, &["pipe", "is no file"]);
    refused(&with(&pipe), 2, &["is no file"]);
    refused(&with("/dev/zero"), 2, &["/dev/zero", "is no file"]);
    refused(&spotterd(&["check", "/dev/zero"]), 2, &["is no file"]);
    refused(&spotterd(&["replay", "--video", &video, "--threads", "99999999"]), 2, &["1 to 256"]);
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
    refused(&run, 2, &["text 1"]);
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
        // The tiny bundle has no cohort, which the default policy needs.
        let policy =
            if text.contains("[decision]") { "" } else { "[decision]\npolicy = \"fixed=0.3\"\n" };
        let storage = format!("{policy}[storage]\nfolder = {:?}\n", folder.path().join("state"));
        fs::write(&path, text + &storage).unwrap();
        spotterd(&["check", &path.display().to_string()])
    };
    let bundle = tiny_bundle();
    let camera = "[[camera]]\nid = \"door\"\nurl = \"test:ball\"\n";
    let run = config(format!("bundle = \"{bundle}\"\n{camera}"));
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let budget = format!("bundle = \"{bundle}\"\n{camera}[decision]\npolicy = \"budget=2\"\n");
    refused(&config(budget), 1, &["WRONG  decision", "spotterd bundle cohort"]);
    refused(&config(format!("bundel = \"{bundle}\"\n{camera}")), 2, &["spotterd.toml:1", "bundel"]);
    refused(&config(format!("bundle = \"/nowhere\"\n{camera}")), 1, &["WRONG  bundle", "/nowhere"]);
    let decoder = format!("bundle = \"{bundle}\"\n{camera}decoder = \"nvh264dec\"\n");
    refused(&config(decoder), 1, &["WRONG  door", "nvh264dec"]);
    let provider = format!("bundle = \"{bundle}\"\n{camera}[inference]\nprovider = \"cuda\"\n");
    refused(&config(provider), 1, &["WRONG", "cuda"]);
    for (url, word) in [
        ("test:nope", "no such pattern"),
        ("v4l2:/dev/null", "no camera's device file"),
        ("v4l2:/dev/video-none", "/dev/video-none"),
        ("file:/nowhere.mp4", "/nowhere.mp4"),
        ("file:/tmp", "is no file"),
    ] {
        let camera = camera.replace("test:ball", url);
        let run = config(format!("bundle = \"{bundle}\"\n{camera}"));
        refused(&run, 1, &["WRONG  door", word]);
    }
    let decoder = format!("bundle = \"{bundle}\"\n{camera}decoder = \"jpegdec\"\n");
    let run = config(decoder);
    assert_eq!(run.code, 0, "a decoder that probe lists: {}", run.out);
    let secret =
        camera.replace("test:ball", "rtsp://127.0.0.1:1/user=a&password=hunter2&channel=1");
    let run = config(format!("bundle = \"{bundle}\"\n{secret}"));
    assert!(run.out.contains("127.0.0.1:1/…") && !run.out.contains("hunter2"), "{}", run.out);
    let text = format!("bundle = \"{bundle}\"\n{camera}[storage]\nfolder = \"/etc/passwd/x\"\n");
    fs::write(&path, text).unwrap();
    let run = spotterd(&["check", &path.display().to_string()]);
    refused(&run, 1, &["WRONG  storage", "/etc/passwd is no folder"]);
    let run = spotterd(&["run", &path.display().to_string()]);
    refused(&run, 2, &["storage.folder /etc/passwd/x"]);

    // What would keep it from starting late, when alerts are open already: said, and the end.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let token = folder.path().join("token");
    fs::write(&token, "short").unwrap();
    let page = format!("[page]\ntoken_file = {token:?}\n");
    let broker = format!("[mqtt]\nbroker = \"embedded\"\nembedded_port = {taken}\n");
    for (part, word) in [(page, "page.token_file"), (broker, taken.to_string().as_str())] {
        let text = format!("bundle = \"{bundle}\"\n{camera}{part}");
        refused(&config(text), 1, &["WRONG", word]);
        let run = spotterd(&["run", &path.display().to_string()]);
        assert!(run.code != 0 && run.err.contains(word), "{}", run.err);
    }
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

/// A short piece of a scene, and what a break in the middle leaves of it.
fn short(folder: &Path, name: &str, seconds: &str) -> String {
    let path = folder.join(name).display().to_string();
    let scene = data("scenes/street-a.mp4");
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(scene)
        .args(["-t", seconds, "-c", "copy", "-movflags", "+faststart", &path])
        .status()
        .unwrap();
    assert!(status.success());
    path
}

#[test]
fn one_broken_recording_does_not_throw_away_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let good = short(folder.path(), "gate.mp4", "6");
    let again = folder.path().join("b");
    fs::create_dir(&again).unwrap();
    let again = short(&again, "gate.mp4", "6");
    let empty = folder.path().join("empty.mp4").display().to_string();
    fs::write(&empty, []).unwrap();
    let cut = short(folder.path(), "cut.mp4", "12");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let run = spotterd(&[
        "replay", "--video", &good, "--video", &empty, "--video", &cut, "--video", &again,
        "--json", "-",
    ]);
    refused(&run, 1, &["empty.mp4", "cut.mp4"]);
    let result: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert!(result["tracks"]["gate"].is_object() && result["tracks"]["gate-2"].is_object());
    assert_eq!(
        result["tracks"]["gate"].as_object().unwrap().len(),
        result["tracks"]["gate-2"].as_object().unwrap().len()
    );
    assert!(result["summary"]["broken"][&empty].is_string());
    assert!(result["summary"]["broken"][&cut].is_string());
}

#[test]
fn a_truth_of_another_recording_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let video = short(folder.path(), "short.mp4", "6");
    let truth = data("scenes/street-a.truth.json").display().to_string();
    let run = spotterd(&["replay", "--video", &video, "--truth", &truth, "--rate", "1"]);
    refused(&run, 2, &["--truth", "45 s"]);
}

#[test]
fn a_reader_who_has_heard_enough_is_no_error() {
    let bundle = tiny_bundle();
    let program = spotter_e2e::program::path("spotterd").display().to_string();
    let script = format!("{program} bundle show --json {bundle} | true; exit ${{PIPESTATUS[0]}}");
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("panicked"), "{said}");
    let full = format!("{program} bundle show {bundle} > /dev/full");
    let output = std::process::Command::new("bash").args(["-c", &full]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("standard output"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_store_is_filled_switched_and_switched_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store").display().to_string();
    let other = folder.path().join("other").display().to_string();
    let made =
        spotterd(&["bench", "random-bundle", "--size", "tiny", "--seed", "2", "--out", &other]);
    assert_eq!(made.code, 0, "{}", made.err);
    for bundle in [tiny_bundle(), other.as_str()] {
        let run = spotterd(&["bundle", "promote", &store, bundle]);
        assert_eq!(run.code, 0, "{}", run.err);
    }
    let current = || {
        let run = spotterd(&["bundle", "list", &store]);
        assert_eq!(run.out.lines().count(), 2, "{}{}", run.out, run.err);
        run.out.lines().find(|line| line.starts_with('*')).unwrap().to_owned()
    };
    assert!(current().contains("random-2"));
    let run = spotterd(&["bundle", "rollback", &store]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(current().contains("random-1"));
    let run = spotterd(&["bundle", "verify", &store]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
}
