//! Real short trainings on pictures that are drawn here: what is trained, what stays, and that a run
//! which is killed goes on as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]
#![expect(clippy::disallowed_methods, reason = "a deadline of a real process")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use spotter_models::towers::{Weights, layout::is_trained};
use spotter_trainer::{
    ablate::Plan,
    base::Base,
    dataset::Dataset,
    export::Model,
    recipe::Recipe,
    report::training,
    run::{Finished, Job, Outcome, Progress, train},
};
use tch::Device;

const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [200, 30, 30]),
    ("green", [30, 160, 40]),
    ("blue", [30, 50, 200]),
    ("yellow", [220, 210, 40]),
    ("white", [235, 235, 235]),
    ("black", [20, 20, 20]),
];

/// Persons of two colours: 36 of them, two pictures each, the last few to judge by.
fn pictures(folder: &Path) {
    fs::create_dir_all(folder.join("imgs")).unwrap();
    let mut records = Vec::new();
    for (upper, (top, top_colour)) in COLOURS.iter().enumerate() {
        for (lower, (bottom, bottom_colour)) in COLOURS.iter().enumerate() {
            let person = 6 * upper + lower;
            for view in 0..2u32 {
                let picture = RgbImage::from_fn(24, 48, |x, y| {
                    let colour = if y < 24 + view { top_colour } else { bottom_colour };
                    let noise = ((x * 7 + y * 13 + view * 5) % 11) as u8;
                    Rgb(colour.map(|value| value.saturating_add(noise)))
                });
                let file = format!("{person}_{view}.png");
                picture.save(folder.join("imgs").join(&file)).unwrap();
                records.push(serde_json::json!({
                    "split": if person % 6 == 5 { "val" } else { "train" },
                    "id": person,
                    "file_path": file,
                    "captions": [
                        format!("a person in a {top} shirt and {bottom} trousers"),
                        format!("{top} top, {bottom} pants"),
                    ],
                }));
            }
        }
    }
    fs::write(folder.join("captions.json"), serde_json::to_vec(&records).unwrap()).unwrap();
}

const SCRATCH: &str = r#"
method = "scratch"
seed = 5
[loss]
kind = "itc"
temperature = 0.07
[optimiser]
learning_rate = 2e-3
epsilon = 1e-8
decoupled = true
weight_decay = 0.02
bias_factor = 1.0
clip = 2.0
[schedule]
epochs = 12
warmup_epochs = 1
each = "step"
[batch]
size = 30
[data]
sampler = "pictures"
[validation]
every = 4
[backbone]
name = "tiny"
height = 48
width = 16
patch = 16
stem = [8, 16]
vision_width = 32
vision_heads = 2
text_width = 32
text_heads = 2
layers = 2
embed = 32
context = 77
"#;

const CSKT: &str = r#"
method = "cskt"
initialisation = "zero-up"
seed = 5
[optimiser]
epsilon = 1e-8
learning_rate = 1e-3
[schedule]
epochs = 3
warmup_epochs = 1
[batch]
size = 16
[data.image]
flip = 0.5
"#;

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        pictures(&folder.path().join("data"));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job(&self, recipe: &str, base: Option<&Path>, out: &str) -> Job {
        Job {
            recipe: Recipe::parse(recipe).unwrap(),
            base: base.map(Path::to_owned),
            data: self.path("data"),
            out: self.path(out),
            device: Device::Cpu,
            threads: 1,
            workers: 1,
            cache_bytes: 1 << 20,
            sitting: None,
            budget: None,
        }
    }

    fn train(&self, recipe: &str, base: Option<&Path>, out: &str) -> Finished {
        let job = self.job(recipe, base, out);
        let outcome = train(&job, &AtomicBool::new(false), &mut Progress::new(true)).unwrap();
        assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
        Finished::open(&job.out).unwrap()
    }

    /// A backbone, trained once.
    fn base(&self) -> PathBuf {
        self.train(SCRATCH, None, "scratch");
        self.path("scratch/base")
    }
}

#[test]
fn a_backbone_from_nothing_learns_and_cskt_leaves_it_as_it_is() {
    let room = Room::new();
    let base = room.base();
    let scratch = Finished::open(&room.path("scratch")).unwrap();
    println!("{:?}", scratch.ended);
    let log = fs::read_to_string(room.path("scratch/log.csv")).unwrap();
    let losses: Vec<f64> =
        log.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect();
    assert_eq!(losses.len(), 24);
    assert!(losses[20..].iter().sum::<f64>() < 0.8 * losses[..4].iter().sum::<f64>(), "{losses:?}");
    // Six persons of new pairs of colours: chance is 17 %.
    assert!(scratch.ended.r1.unwrap() > 40.0, "{:?}", scratch.ended);
    assert!(!scratch.ended.is_at_chance());

    let before = Base::open(&base).unwrap();
    let cskt = room.train(CSKT, Some(&base), "cskt");
    let after = Base::open(&base).unwrap();
    assert_eq!(before.sha256(), after.sha256());
    for (name, tensor) in cskt.weights.iter() {
        match is_trained(name) {
            true => assert!(before.weights().tensor(name).is_none(), "{name}"),
            false => assert_eq!(Some(tensor), before.weights().tensor(name), "{name}"),
        }
    }
    let trained: usize =
        cskt.weights.iter().filter(|(n, _)| is_trained(n)).map(|(_, t)| t.values().len()).sum();
    assert_eq!(cskt.ended.trained, trained);

    // A bundle of it knows the words of the training captions, as long as these are still the same.
    let model = Model::of_run(&room.path("cskt")).unwrap();
    let words = model.vocabulary().unwrap();
    assert_eq!((words.count("shirt"), words.count("Trousers"), words.count("hat")), (60, 60, 0));
    let captions = room.path("data/captions.json");
    let other = fs::read_to_string(&captions).unwrap().replace("shirt", "hat");
    fs::write(&captions, other).unwrap();
    let model = Model::of_run(&room.path("cskt")).unwrap();
    assert!(model.vocabulary().unwrap_err().contains("other annotations"));
}

#[test]
fn every_method_trains_what_it_names() {
    let room = Room::new();
    let base = room.base();
    for (method, prompts, adapters) in [
        ("bpt", true, false),
        ("dat", false, true),
        ("cskt", true, true),
        ("zero-shot", false, false),
    ] {
        let recipe = CSKT.replace("\"cskt\"", &format!("\"{method}\""));
        let run = room.train(&recipe, Some(&base), method);
        let has = |prefix: &str| run.weights.iter().any(|(name, _)| name.starts_with(prefix));
        assert_eq!((has("bpt."), has("dat.")), (prompts, adapters), "{method}");
        assert_eq!(run.ended.steps > 0, method != "zero-shot", "{method}");
        let same = |(name, tensor): (&str, _)| run.weights.tensor(name) == Some(tensor);
        assert!(run.base.weights().iter().all(same), "{method}");
    }
    let full = CSKT.replace("\"cskt\"", "\"full\"");
    let run = room.train(&full, Some(&base), "full");
    let base = Base::open(&base).unwrap();
    let changed = |name: &str| run.weights.tensor(name) != base.weights().tensor(name);
    assert!(changed("visual.proj") && changed("token_embedding.weight"), "nothing was trained");
    assert_eq!(run.ended.trained, run.ended.total);
}

#[test]
fn every_coupling_loss_and_place_of_prompts_trains() {
    let room = Room::new();
    let base = room.base();
    for (name, change, to) in [
        ("t2v", "[schedule]", "[prompts]\ncoupling = \"text-to-vision\"\n[schedule]"),
        ("v2t", "[schedule]", "[prompts]\ncoupling = \"vision-to-text\"\n[schedule]"),
        ("free", "[schedule]", "[prompts]\ncoupling = \"none\"\n[schedule]"),
        ("many", "[schedule]", "[prompts]\ntotal = 128\n[schedule]"),
        ("shallow", "[schedule]", "[prompts]\ndepth = 1\nwords = \"a photo of a\"\n[schedule]"),
        ("itc", "[schedule]", "[loss]\nkind = \"itc\"\n[schedule]"),
        ("tal", "[schedule]", "[loss]\nkind = \"tal\"\ntemperature = 0.015\n[schedule]"),
        ("bf16", "size = 16", "size = 16\nprecision = \"bf16\""),
        ("parts", "size = 16", "size = 16\npart = 5\nrecompute = true"),
    ] {
        let recipe = CSKT.replace(change, to).replace("epochs = 3", "epochs = 2");
        let run = room.train(&recipe, Some(&base), name);
        let losses = fs::read_to_string(room.path(name).join("log.csv")).unwrap();
        assert_eq!(losses.lines().count() as u64, run.ended.steps + 1, "{name}");
        if name == "many" {
            assert_eq!(run.config.word_limit(), 75, "prompts in front take no words");
        }
    }
}

#[test]
fn parts_and_recomputation_change_no_gradient() {
    let room = Room::new();
    let base = room.base();
    let last_loss = |name: &str| -> Vec<f64> {
        let log = fs::read_to_string(room.path(name).join("log.csv")).unwrap();
        log.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect()
    };
    room.train(CSKT, Some(&base), "whole");
    for (name, to) in [
        ("parts", "size = 16\npart = 5"),
        ("again", "size = 16\nrecompute = true"),
        ("both", "size = 16\npart = 7\nrecompute = true"),
    ] {
        room.train(&CSKT.replace("size = 16", to), Some(&base), name);
        for (step, (a, b)) in last_loss("whole").iter().zip(last_loss(name)).enumerate() {
            assert!((a - b).abs() < 2e-3 * a.abs().max(1.0), "{name}, step {step}: {a} and {b}");
        }
    }
}

/// The program, which can be killed.
fn program(room: &Room, out: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command
        .arg("train")
        .arg(room.path("long.toml"))
        .arg("--data")
        .arg(room.path("data"))
        .arg("--out")
        .arg(room.path(out))
        .args(["--threads", "1", "--json"])
        .stdout(Stdio::null());
    command
}

#[test]
fn a_run_that_is_killed_goes_on_bit_for_bit() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 160").replace("every = 4", "every = 8");
    fs::write(room.path("long.toml"), recipe).unwrap();
    assert!(program(&room, "whole").status().unwrap().success());
    let mut kills = 0;
    loop {
        let mut child = program(&room, "killed").spawn().unwrap();
        // The first kills come early on any machine; longer each time, so that the end is reached.
        let patience = Instant::now() + Duration::from_millis(400 + 300 * kills);
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break true;
            }
            if Instant::now() > patience {
                break false;
            }
            thread::sleep(Duration::from_millis(10));
        };
        if ended {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 40, "it never ends");
    }
    println!("{kills} kills");
    assert!(kills > 0, "it ended before it could be killed");
    let weights =
        |run: &str| Weights::read(&[room.path(run).join("base/base.safetensors")]).unwrap();
    assert_eq!(weights("whole"), weights("killed"));
    let losses = |run: &str| -> Vec<String> {
        let log = fs::read_to_string(room.path(run).join("log.csv")).unwrap();
        log.lines().map(|row| row.split(',').nth(3).unwrap().to_owned()).collect()
    };
    assert_eq!(losses("whole"), losses("killed"));
    let validation = |run: &str| fs::read_to_string(room.path(run).join("validation.csv")).unwrap();
    assert_eq!(validation("whole"), validation("killed"));

    // A stop asks for a checkpoint in the middle of what is averaged.
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 4");
    room.train(&recipe, None, "through");
    let job = room.job(&recipe, None, "stopped");
    let stopped = train(&job, &AtomicBool::new(true), &mut Progress::new(true)).unwrap();
    assert!(matches!(stopped, Outcome::Stopped { step: 1, .. }), "{stopped:?}");
    room.train(&recipe, None, "stopped");
    assert_eq!(validation("through"), validation("stopped"));
}

#[test]
fn a_stop_is_clean_and_another_recipe_is_refused() {
    let room = Room::new();
    let base = room.base();
    let job = room.job(CSKT, Some(&base), "stopped");
    let stop = AtomicBool::new(true);
    let outcome = train(&job, &stop, &mut Progress::new(true)).unwrap();
    assert!(matches!(outcome, Outcome::Stopped { step: 1, .. }), "{outcome:?}");
    assert!(Finished::open(&job.out).unwrap_err().to_string().contains("go on"));
    let mut other = room.job(&CSKT.replace("seed = 5", "seed = 6"), Some(&base), "stopped");
    stop.store(false, Ordering::Relaxed);
    let refused = train(&other, &stop, &mut Progress::new(true)).unwrap_err().to_string();
    assert!(refused.contains("another recipe"), "{refused}");
    other.recipe = job.recipe.clone();
    let held = fs::File::open(job.out.join("lock")).unwrap();
    held.lock().unwrap();
    let refused = train(&other, &stop, &mut Progress::new(true)).unwrap_err().to_string();
    assert!(refused.contains("another training"), "{refused}");
    drop(held);
    assert!(matches!(
        train(&other, &stop, &mut Progress::new(true)).unwrap(),
        Outcome::Finished(_)
    ));
}

#[test]
fn trained_tensors_that_were_changed_are_refused() {
    let room = Room::new();
    let base = room.base();
    let run = room.train(CSKT, Some(&base), "cskt");
    assert_eq!(run.ended.sha256, run.adapters_sha256);
    assert!(run.ended.sha256.is_some());
    let scratch = Finished::open(&room.path("scratch")).unwrap();
    assert_eq!(scratch.ended.sha256, Some(scratch.base.sha256()));
    let evaluate = |run: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.args(["evaluate", "--split", "val", "--json", "--data"]).arg(room.path("data"));
        command.arg("--run").arg(room.path(run)).output().unwrap()
    };
    let export = |run: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.arg("export").arg("--out").arg(room.path("bundle"));
        command.arg("--run").arg(room.path(run)).output().unwrap()
    };
    assert!(evaluate("cskt").status.success());
    for (run, file) in
        [("cskt", "cskt/adapters.safetensors"), ("scratch", "scratch/base/base.safetensors")]
    {
        let mut bytes = fs::read(room.path(file)).unwrap();
        // One bit of one number: the file is as readable a model as before.
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        fs::write(room.path(file), bytes).unwrap();
        for output in [evaluate(run), export(run)] {
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{run}: {said}");
            assert!(said.contains("changed since") && said.contains(file), "{run}: {said}");
        }
    }
    assert!(!room.path("bundle").exists());
    // What the message advises.
    room.train(SCRATCH, None, "scratch");
    assert!(room.path("scratch/base/base.safetensors").exists());
}

#[test]
fn files_beyond_their_length_are_refused_before_they_are_read() {
    let room = Room::new();
    let base = room.base();
    let grow = |file: &Path, length: u64| {
        let file = fs::File::options().write(true).create(true).truncate(false).open(file).unwrap();
        file.set_len(length).unwrap();
    };
    // Sparse: the disk does not hold them, and memory would not either.
    let weights = base.join("base.safetensors");
    grow(&weights, (8 << 30) + 1);
    let said = Base::open(&base).unwrap_err().to_string();
    assert!(said.contains("at most 8589934592 are read") && said.contains("base.saf"), "{said}");
    let said = Model::of_run(&room.path("scratch")).unwrap_err().to_string();
    assert!(said.contains("at most 8589934592 are read"), "{said}");
    fs::remove_file(&weights).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &weights).unwrap();
    let said = Base::open(&base).unwrap_err().to_string();
    assert!(said.contains("no regular file"), "{said}");
    grow(&base.join("origin.json"), (64 << 20) + 1);
    let said = Base::open(&base).unwrap_err().to_string();
    assert!(said.contains("at most 67108864 are read"), "{said}");
    grow(&room.path("long.toml"), 1 << 40);
    let error = Recipe::read(&room.path("long.toml")).unwrap_err();
    assert!(error.to_string().contains("larger than 1048576 bytes"), "{error}");
    assert_eq!(error.kind(), spotter_models::Kind::Config);
    let error = Recipe::read(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("larger than 1048576 bytes"), "{error}");
}

#[test]
fn a_base_that_was_moved_is_found_by_its_hash() {
    let room = Room::new();
    room.base();
    fs::create_dir(room.path("bases")).unwrap();
    fs::rename(room.path("scratch/base"), room.path("bases/tiny")).unwrap();
    let base = room.path("bases/tiny");
    room.train(&CSKT.replace("epochs = 3", "epochs = 1"), Some(&base), "runs/cskt");
    let stop = AtomicBool::new(true);
    train(&room.job(CSKT, Some(&base), "runs/stopped"), &stop, &mut Progress::new(true)).unwrap();

    // Together: the way from one to the other is the same.
    fs::create_dir(room.path("moved")).unwrap();
    for folder in ["bases", "runs"] {
        fs::rename(room.path(folder), room.path("moved").join(folder)).unwrap();
    }
    Finished::open(&room.path("moved/runs/cskt")).unwrap();
    // Apart: somebody has to say where it is.
    fs::rename(room.path("moved/bases/tiny"), room.path("elsewhere")).unwrap();
    let lost = Finished::open(&room.path("moved/runs/cskt")).unwrap_err();
    assert_eq!(lost.kind(), spotter_models::Kind::Config);
    assert!(lost.to_string().contains("with --base FOLDER"), "{lost}");
    // Another one in its place is not taken for it.
    room.train(&SCRATCH.replace("seed = 5", "seed = 6"), None, "other");
    fs::rename(room.path("other/base"), room.path("moved/bases/tiny")).unwrap();
    let lost = Finished::open(&room.path("moved/runs/cskt")).unwrap_err().to_string();
    assert!(lost.contains("holds another base model"), "{lost}");
    let call = |command: &str, base: &str, more: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        program.arg(command).arg("--run").arg(room.path("moved/runs/cskt"));
        let output = program.arg("--base").arg(room.path(base)).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (data, out) = (room.path("data"), room.path("bundle"));
    let evaluate = ["--split", "val", "--data", data.to_str().unwrap()];
    let export = ["--precisions", "f32", "--out", out.to_str().unwrap()];
    for (command, more) in [("evaluate", &evaluate[..]), ("export", &export[..])] {
        let (code, said) = call(command, "moved/bases/tiny", more);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("holds another base model"), "{said}");
        let (code, said) = call(command, "elsewhere", more);
        assert_eq!(code, Some(0), "{command}: {said}");
    }
    // A run goes on with it too, and remembers the place.
    let run = room.train(CSKT, Some(&room.path("elsewhere")), "moved/runs/stopped");
    assert_eq!(run.origin.base, Some(room.path("elsewhere")));
    assert_eq!(run.origin.base_from_run, Some("../../../elsewhere".into()));
}

#[test]
fn a_row_that_was_cut_is_made_again_and_another_that_is_none_is_refused() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 2").replace("every = 4", "every = 1");
    room.train(&recipe, None, "whole");
    let stop = AtomicBool::new(true);
    for _ in 0..3 {
        let job = room.job(&recipe, None, "cut");
        train(&job, &stop, &mut Progress::new(true)).unwrap();
    }
    let log = room.path("cut/log.csv");
    let three = fs::read_to_string(&log).unwrap();
    assert_eq!(three.lines().count(), 4);
    let go_on = || {
        let job = room.job(&recipe, None, "cut");
        train(&job, &AtomicBool::new(false), &mut Progress::new(true))
    };
    // Such a row was never ended by a run; the checkpoint has its step.
    for (from, to, word) in [
        ("\n2,", "\n2", "line 3 has not 7 numbers"),
        ("\n2,", "\n2,x", "line 3 has not 7 numbers"),
        ("\n2,", "\n2.5,", "line 3 has no step"),
        ("\n2,", "\n\n2,", "line 3 has not 7 numbers"),
        ("step,epoch", "step,epochs", "line 1 is not `step,epoch,"),
    ] {
        let wrong = three.replace(from, to);
        fs::write(&log, &wrong).unwrap();
        let error = go_on().unwrap_err();
        assert!(error.to_string().contains(word), "{to:?}: {error}");
        assert_eq!(error.kind(), spotter_models::Kind::Corrupt);
        assert_eq!(fs::read_to_string(&log).unwrap(), wrong, "it is left as it was");
    }
    // Killed within the fourth row, after its first three fields.
    fs::write(&log, format!("{three}4,2.0000,1.")).unwrap();
    let before = fs::File::open(&log).unwrap();
    assert!(matches!(go_on().unwrap(), Outcome::Finished(_)));
    let losses = |run: &str| -> Vec<String> {
        let log = fs::read_to_string(room.path(run).join("log.csv")).unwrap();
        log.lines().map(|row| row.split(',').nth(3).unwrap().to_owned()).collect()
    };
    assert_eq!(losses("whole"), losses("cut"));
    // The table was replaced, not emptied and written again.
    let old = std::io::read_to_string(before).unwrap();
    assert!(old.starts_with(&three) && old.ends_with("4,2.0000,1."), "{old}");
}

/// Changes the annotations of a room's data.
fn change_records(room: &Room, change: impl Fn(&mut serde_json::Value)) {
    let path = room.path("data/captions.json");
    let mut records: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    records.iter_mut().for_each(change);
    fs::write(&path, serde_json::to_vec(&records).unwrap()).unwrap();
}

#[test]
fn data_that_mean_little_for_the_recipe_are_told_before_the_first_step() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 1");
    let begin = |recipe: &str, out: &str| {
        fs::write(room.path("long.toml"), recipe).unwrap();
        let output = program(&room, out).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = begin(&recipe, "fine");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (code, said) = begin(&recipe.replace("size = 30", "size = 61"), "large");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("batch.size is 61, but there are 60 pairs"), "{said}");
    assert_eq!(begin(&recipe.replace("size = 30", "size = 60"), "exact").1, "");

    change_records(&room, |record| record["split"] = "train".into());
    let (code, said) = begin(&recipe, "unjudged");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no pictures of the split `val`"), "{said}");
    let keep_last = recipe.replace("every = 4", "every = 4\nkeep = \"last\"");
    assert_eq!(begin(&keep_last, "last").1, "");

    change_records(&room, |record| record["id"] = 7.into());
    let (code, said) = begin(&recipe, "alone");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("one person to train on"), "{said}");
    assert!(!room.path("alone").exists(), "nothing was begun");
}

/// Every file and folder below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn all_that_is_written_has_the_mode_that_the_umask_gives() {
    use std::os::unix::fs::PermissionsExt as _;
    let room = Room::new();
    fs::write(room.path("scratch.toml"), SCRATCH.replace("epochs = 12", "epochs = 1")).unwrap();
    fs::write(room.path("cskt.toml"), CSKT.replace("epochs = 3", "epochs = 1")).unwrap();
    let call = |arguments: &str| {
        // Not the test's own umask, which other threads share.
        let script =
            format!("umask 027; cd '{}'; exec \"$0\" {arguments}", room.path("").display());
        let mut command = Command::new("sh");
        let output = command.args(["-c", &script, env!("CARGO_BIN_EXE_spotter-trainer")]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    };
    call("train scratch.toml --data data --out out/scratch --threads 1");
    call("train cskt.toml --data data --out out/cskt --base out/scratch/base --threads 1");
    call("report out/cskt");
    call("export --run out/cskt --precisions f32 --out out/bundle");
    call("export --run out/cskt --pack --out out/pack");
    let all = below(&room.path("out"));
    for name in ["checkpoint.safetensors", "best.safetensors", "adapters.safetensors"] {
        assert!(all.contains(&room.path("out/cskt").join(name)), "{name}");
    }
    for path in &all {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let expected = if path.is_dir() { 0o750 } else { 0o640 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
    }
    assert!(!all.iter().any(|path| path.extension().is_some_and(|end| end == "part")), "{all:?}");
}

#[test]
fn a_recipe_that_does_not_fit_its_base_is_a_fault_of_the_recipe() {
    let room = Room::new();
    let base = room.base();
    for (change, to, word) in [
        ("[schedule]", "[prompts]\ndepth = 50\n[schedule]", "prompts.depth: 50 is not 1 to 2"),
        ("[schedule]", "[prompts]\ndepth = 0\n[schedule]", "prompts.depth: 0 is not 1 to 2"),
    ] {
        fs::write(room.path("long.toml"), CSKT.replace(change, to)).unwrap();
        let output = program(&room, "unfit").arg("--base").arg(&base).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    }
    fs::write(room.path("long.toml"), SCRATCH.replace("heads = 2", "heads = 3")).unwrap();
    let output = program(&room, "unfit").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("heads"), "{said}");
}

#[test]
fn a_run_ends_when_its_minutes_are_over_and_goes_on_where_it_is_given_more() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 3").replace("every = 4", "every = 3");
    let whole = room.train(&recipe, None, "whole");
    assert!(!whole.ended.out_of_time);
    let mut job = room.job(&recipe, None, "cut");
    job.budget = Some(Duration::from_nanos(1));
    for _ in 0..2 {
        // The second time there is nothing left to do.
        let outcome = train(&job, &AtomicBool::new(false), &mut Progress::new(true)).unwrap();
        let Outcome::Finished(ended) = outcome else { panic!("{outcome:?}") };
        assert_eq!((ended.steps, ended.out_of_time), (1, true));
        // In the middle of an epoch that was not to be judged: it is, or nothing could be kept.
        assert!(ended.r1.is_some() && ended.kept == 1, "{ended:?}");
        assert_eq!(Finished::open(&job.out).unwrap().ended, ended);
        let rows = fs::read_to_string(room.path("cut/validation.csv")).unwrap();
        assert_eq!(rows.lines().count(), 2, "{rows}");
    }
    let more = room.train(&recipe, None, "cut");
    assert_eq!((more.ended.steps, more.ended.out_of_time), (whole.ended.steps, false));
    let losses = |run: &str| -> Vec<String> {
        let log = fs::read_to_string(room.path(run).join("log.csv")).unwrap();
        log.lines().map(|row| row.split(',').nth(3).unwrap().to_owned()).collect()
    };
    assert_eq!(losses("whole"), losses("cut"));
    fs::write(room.path("long.toml"), &recipe).unwrap();
    let output = program(&room, "none").args(["--minutes", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = program(&room, "short").args(["--minutes", "1e-9"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(Finished::open(&room.path("short")).unwrap().ended.out_of_time);
}

#[test]
fn another_number_of_threads_is_said_and_recorded() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 2");
    fs::write(room.path("long.toml"), &recipe).unwrap();
    let stopped =
        train(&room.job(&recipe, None, "run"), &AtomicBool::new(true), &mut Progress::new(true));
    assert!(matches!(stopped.unwrap(), Outcome::Stopped { step: 1, .. }));
    let go_on = |threads: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.arg("train").arg(room.path("long.toml")).arg("--data").arg(room.path("data"));
        command.arg("--out").arg(room.path("run")).args(["--threads", threads, "--json"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (String::from_utf8(output.stderr).unwrap(), json)
    };
    let (said, result) = go_on("2");
    assert!(said.contains("--threads 1 so far and goes on with 2"), "{said}");
    let change = serde_json::json!([{"after": 1, "threads": 2}]);
    assert_eq!(result["thread_changes"], change);
    let origin = Finished::open(&room.path("run")).unwrap().origin;
    assert_eq!((origin.threads, origin.thread_changes.len()), (1, 1));
    training::write(&room.path("run")).unwrap();
    let page = fs::read_to_string(room.path("run/report.html")).unwrap();
    assert!(page.contains("began with 1 and went on with 2 after step 1."), "{page}");
    // A complete run computes nothing more, whatever it is asked with.
    let (said, result) = go_on("1");
    assert!(!said.contains("--threads"), "{said}");
    assert_eq!(result["thread_changes"], change);
}

#[test]
fn divergence_stops_with_a_report_and_changes_nothing() {
    let room = Room::new();
    let base = room.base();
    let recipe = CSKT
        .replace("learning_rate = 1e-3", "learning_rate = 1e30")
        .replace("epochs = 3", "epochs = 9");
    let job = room.job(&recipe, Some(&base), "diverged");
    let error = train(&job, &AtomicBool::new(false), &mut Progress::new(true)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("learning_rate") && !said.contains("checkpoint"), "{said}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(room.path("diverged/diverged.json")).unwrap()).unwrap();
    let step = report["step"].as_u64().unwrap();
    assert!(step > 1 && report["learning_rate"].as_f64().unwrap() > 1e28, "{report}");
    let pair = &report["pairs"][0];
    assert_eq!(pair["file"].as_str().unwrap().split('_').next().unwrap(), pair["id"].to_string());
    assert!(pair["caption"].as_str().unwrap().contains(' '), "{pair}");
    training::write(&job.out).unwrap();
    let page = fs::read_to_string(job.out.join("report.html")).unwrap();
    assert!(page.contains(&format!("diverged: at step {step},")), "{page}");
    assert!(!page.contains("Nothing stands out"));

    fs::write(room.path("long.toml"), &recipe).unwrap();
    let mut again = program(&room, "again");
    assert_eq!(again.arg("--base").arg(&base).status().unwrap().code(), Some(1));
}

#[test]
fn a_training_that_learns_nothing_says_so() {
    let room = Room::new();
    // Steps too small to change anything.
    let recipe = SCRATCH.replace("learning_rate = 2e-3", "learning_rate = 1e-12");
    fs::write(room.path("long.toml"), recipe.replace("epochs = 12", "epochs = 2")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command.arg("train").arg(room.path("long.toml")).arg("--data").arg(room.path("data"));
    let output = command.arg("--out").arg(room.path("flat")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let ended = Finished::open(&room.path("flat")).unwrap().ended;
    // Six persons with two pictures each.
    assert!((ended.chance.unwrap() - 100.0 / 6.0).abs() < 1e-9, "{ended:?}");
    assert!(said.contains("learnt nothing: at chance"), "{said} {ended:?}");
    training::write(&room.path("flat")).unwrap();
    let page = fs::read_to_string(room.path("flat/report.html")).unwrap();
    assert!(page.contains("Learnt nothing: at chance") && !page.contains("Nothing stands out"));
}

#[test]
fn impossible_numbers_of_threads_are_refused() {
    for threads in ["0", "257", "99999999999"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.args(["train", "none.toml", "--data", "none", "--out", "none", "--threads"]);
        let output = command.arg(threads).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("threads"), "{threads}: {said}");
    }
}

#[test]
fn a_missing_file_and_an_empty_set_are_said_once_and_plainly() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        String::from_utf8(command.args(arguments).output().unwrap().stderr).unwrap()
    };
    let said = run(&["train", "none.toml", "--data", "none", "--out", "none"]);
    assert_eq!(said.matches("os error 2").count(), 1, "{said}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("captions.json"), "[]").unwrap();
    let error = Dataset::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("no records") && !error.contains("nothing was wrong"), "{error}");
}

#[test]
fn what_is_left_out_of_the_annotations_is_told_and_kept() {
    let room = Room::new();
    let captions = room.path("data/captions.json");
    let mut records: serde_json::Value =
        serde_json::from_slice(&fs::read(&captions).unwrap()).unwrap();
    records[0]["split"] = "learn".into();
    records[1]["captions"][1] = "".into();
    fs::write(&captions, records.to_string()).unwrap();
    fs::write(room.path("long.toml"), SCRATCH.replace("epochs = 12", "epochs = 1")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command.arg("train").arg(room.path("long.toml")).arg("--data").arg(room.path("data"));
    let output = command.arg("--out").arg(room.path("left")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["Left out of the annotations: 1 unknown split", "1 empty caption (0_1.png)"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("nothing was"), "{said}");
    let origin = Finished::open(&room.path("left")).unwrap().origin;
    assert_eq!(origin.left_out.total(), 2);
    training::write(&room.path("left")).unwrap();
    let page = fs::read_to_string(room.path("left/report.html")).unwrap();
    assert!(page.contains("1 unknown split"), "{page}");
}

#[test]
fn the_recipes_in_configs_are_possible_and_the_papers_is_as_published() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs/trainer");
    let mut read = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "toml") {
            Recipe::read(&path).unwrap_or_else(|error| panic!("{error}"));
            read += 1;
        }
    }
    assert!(read > 0);
    Recipe::read(&folder.join("ablation/site-base.toml")).unwrap();
    let plan = Plan::read(&folder.join("ablation/site.toml")).unwrap();
    assert!(plan.jobs().unwrap().len() > 10);
    let paper = Recipe::read(&folder.join("paper.toml")).unwrap();
    let published = Recipe { seed: 1, ..Recipe::default() };
    assert_eq!(Recipe { data: published.data.clone(), ..paper.clone() }, published);
    assert_eq!(paper.data.image, spotter_trainer::augment::ImageAugment::paper());
}

#[test]
fn impossible_recipes_are_refused_by_name() {
    for (text, name) in [
        ("[prompts]\ntotal = 7", "prompts.total"),
        ("[prompts]\ntotal = 130", "prompts.total"),
        ("[adapters]\nratio = 0.6", "adapters.ratio"),
        ("[loss]\ntemperature = 0", "loss.temperature"),
        ("[batch]\nsize = 1", "batch.size"),
        ("[schedule]\nepochs = nan", "schedule.epochs"),
        ("method = \"scratch\"", "backbone"),
        ("[optimiser]\nlearning_rate = -1", "optimiser.learning_rate"),
        ("[optimiser]\nlearning_rate = inf", "optimiser.learning_rate: must be finite"),
        ("[data]\nshare = 0", "data.share"),
        ("methd = \"cskt\"", "methd"),
        ("[loss]\nkind = \"l2\"", "l2"),
    ] {
        let error = Recipe::parse(text).unwrap_err().to_string();
        assert!(error.contains(name), "{text}: {error}");
    }
}
