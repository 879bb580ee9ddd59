//! Real short trainings on pictures that are drawn here: what is trained, what stays, and what is said
//! of data and recipes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use common::{CSKT, Room, SCRATCH, change_records, losses, program, said};
use spotter_models::towers::layout::is_trained;
use spotter_trainer::{
    ablate::Plan,
    adapt::Settings,
    base::Base,
    dataset::Dataset,
    export::Model,
    recipe::Recipe,
    report::training,
    run::{Finished, Progress, train},
};

#[test]
fn a_backbone_from_nothing_learns_and_cskt_leaves_it_as_it_is() {
    let room = Room::new();
    let base = room.base();
    let scratch = Finished::open(&room.path("scratch")).unwrap();
    println!("{:?}", scratch.ended);
    let losses = losses(&room, "scratch");
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
        assert_eq!(losses(&room, name).len() as u64, run.ended.steps, "{name}");
        if name == "many" {
            assert_eq!(run.config.word_limit(), 75, "prompts in front take no words");
        }
    }
}

#[test]
fn parts_and_recomputation_change_no_gradient() {
    let room = Room::new();
    let base = room.base();
    room.train(CSKT, Some(&base), "whole");
    for (name, to) in [
        ("parts", "size = 16\npart = 5"),
        ("again", "size = 16\nrecompute = true"),
        ("both", "size = 16\npart = 7\nrecompute = true"),
    ] {
        room.train(&CSKT.replace("size = 16", to), Some(&base), name);
        for (step, (a, b)) in losses(&room, "whole").iter().zip(losses(&room, name)).enumerate() {
            assert!((a - b).abs() < 2e-3 * a.abs().max(1.0), "{name}, step {step}: {a} and {b}");
        }
    }
}

#[test]
fn data_that_mean_little_for_the_recipe_are_told_before_the_first_step() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 1");
    let begin = |recipe: &str, out: &str| {
        fs::write(room.path("long.toml"), recipe).unwrap();
        said(&mut program(&room, out))
    };
    let (code, said) = begin(&recipe, "fine");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (code, said) = begin(&recipe.replace("size = 30", "size = 61"), "large");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("batch.size is 61, but there are 60 pairs"), "{said}");
    assert_eq!(begin(&recipe.replace("size = 30", "size = 60"), "exact").1, "");

    for (given, word) in [
        ("share = 1e-9", "data.share: 0.000000001 leaves 0 of 30 persons of data's split `train`"),
        ("persons = [3, 3]", "data.persons: [3, 3] leaves 1 of 30 persons"),
        ("persons = [0, 9]\nshare = 1e-9", "data.share: 0.000000001 leaves 0 of 9 persons"),
    ] {
        let recipe = recipe.replace("[data]", &format!("[data]\n{given}"));
        let (code, said) = begin(&recipe, "few");
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    }
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
    change_records(&room, |record| record["split"] = "val".into());
    let (code, said) = begin(&recipe, "alone");
    assert!(code == Some(2) && said.contains("nobody to train on"), "{said}");
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
    for part in [
        "Wrong in the data, and left out unless it says kept: 1 unknown split",
        "1 empty caption (0_1.png)",
    ] {
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
        if path.ends_with("adapt.toml") {
            // The one file there that holds more than a recipe.
            let usual = Settings::usual().unwrap();
            assert_eq!(Settings::read(&path).unwrap_or_else(|error| panic!("{error}")), usual);
        } else if path.extension().is_some_and(|end| end == "toml") {
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
