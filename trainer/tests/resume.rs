//! Runs that are stopped, killed, moved and tampered with: what goes on as if nothing had happened, and
//! what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]
#![expect(clippy::disallowed_methods, reason = "a deadline of a real process")]

mod common;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{CSKT, Room, SCRATCH, change_records, losses, program, said};
use spotter_models::towers::Weights;
use spotter_trainer::{
    base::Base,
    export::Model,
    recipe::Recipe,
    report::training,
    run::{Finished, Job, Outcome, Progress, train},
};

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
    assert_eq!(losses(&room, "whole"), losses(&room, "killed"));
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
    assert_eq!(losses(&room, "whole"), losses(&room, "cut"));
    // The table was replaced, not emptied and written again.
    let old = std::io::read_to_string(before).unwrap();
    assert!(old.starts_with(&three) && old.ends_with("4,2.0000,1."), "{old}");
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
    assert_eq!(losses(&room, "whole"), losses(&room, "cut"));
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

/// A sitting of one step.
fn stopped(job: &Job) {
    let outcome = train(job, &AtomicBool::new(true), &mut Progress::new(true)).unwrap();
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
}

/// The kind and words with which a sitting is refused.
fn refused(job: &Job) -> (spotter_models::Kind, String) {
    let error = train(job, &AtomicBool::new(false), &mut Progress::new(true)).unwrap_err();
    (error.kind(), error.to_string())
}

/// `train` of a room's recipe by the command line: its status, and what it says.
fn train_command(room: &Room, out: &Path, base: Option<&Path>) -> (Option<i32>, String) {
    let mut command = program(room, "");
    command.arg("--out").arg(out);
    base.map(|base| command.arg("--base").arg(base));
    said(&mut command)
}

/// Flips a bit of a file's byte.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Everything in a folder, with the content of files.
fn content(folder: &Path) -> Vec<(std::ffi::OsString, Option<Vec<u8>>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries.map(|e| (e.file_name(), fs::read(e.path()).ok())).collect();
    all.sort();
    all
}

#[test]
fn a_run_never_lies_where_something_else_does() {
    let room = Room::new();
    let base = room.base();
    fs::write(room.path("long.toml"), CSKT.replace("epochs = 3", "epochs = 1")).unwrap();
    fs::create_dir(room.path("strange")).unwrap();
    fs::write(room.path("strange/letter.txt"), "dear").unwrap();
    fs::write(room.path("file"), "a file").unwrap();
    std::os::unix::fs::symlink(room.path("data"), room.path("link")).unwrap();
    for (out, word) in [
        ("scratch/base", "in the folder of the base model"),
        ("scratch/base/run", "in the folder of the base model"),
        ("scratch/base/../base/new/run", "in the folder of the base model"),
        ("scratch", "holds the base model"),
        ("data", "in the folder of the data"),
        ("data/runs/1", "in the folder of the data"),
        ("link/run", "in the folder of the data"),
        ("not-there/../data/run", "in the folder of the data"),
        ("strange", "no run.json, but letter.txt"),
        ("file", "is no folder; choose"),
        ("file/run", "is no folder; choose"),
    ] {
        let folders = ["scratch", "scratch/base", "data", "strange"];
        let before = folders.map(|folder| content(&room.path(folder)));
        let (code, said) = train_command(&room, &room.path(out), Some(&base));
        assert_eq!(code, Some(2), "{out}: {said}");
        assert!(said.contains(word) && said.contains("choose"), "{out}: {said}");
        assert_eq!(before, folders.map(|folder| content(&room.path(folder))), "{out}");
    }
    assert!(!room.path("not-there").exists());
    // An empty folder, and what a run leaves that is killed at its beginning.
    fs::create_dir(room.path("new")).unwrap();
    for left in ["", "lock", "log.csv"] {
        if !left.is_empty() {
            fs::remove_dir_all(room.path("new")).unwrap();
            fs::create_dir(room.path("new")).unwrap();
            fs::write(room.path("new").join(left), "").unwrap();
        }
        let (code, said) = train_command(&room, &room.path("new"), Some(&base));
        assert_eq!(code, Some(0), "{left}: {said}");
    }
}

#[test]
fn shapes_that_were_changed_are_refused_as_tensors_are() {
    let room = Room::new();
    let base = room.base();
    room.train(CSKT, Some(&base), "cskt");
    let change = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(room.path(file)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(room.path(file), text.replace(from, to)).unwrap();
    };
    let trainer = |command: &str, run: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        program.arg(command).arg("--run").arg(room.path(run));
        match command {
            "export" => program.args(["--precisions", "f32", "--out"]).arg(room.path("bundle")),
            _ => program.args(["--split", "val", "--data"]).arg(room.path("data")),
        };
        said(&mut program)
    };
    // What the files still allow, and what makes another model of the same tensors.
    for (run, file, from, to, code) in [
        ("cskt", "cskt/config.json", "\"vision_scale\": 0.1", "\"vision_scale\": 0.9", 3),
        ("cskt", "cskt/config.json", "\"text_heads\": 2", "\"text_heads\": 4", 3),
        ("scratch", "scratch/config.json", "\"text_heads\": 2", "\"text_heads\": 4", 3),
        ("scratch", "scratch/base/config.json", "\"text_heads\": 2", "\"text_heads\": 4", 3),
        ("cskt", "scratch/base/config.json", "\"text_heads\": 2", "\"text_heads\": 4", 2),
    ] {
        change(file, from, to);
        for command in ["evaluate", "export"] {
            let (found, said) = trainer(command, run);
            assert_eq!(found, Some(code), "{command} {file}: {said}");
            assert!(said.contains("was changed since") && said.contains(file), "{file}: {said}");
        }
        change(file, to, from);
    }
    assert_eq!(trainer("evaluate", "cskt").0, Some(0));
    assert_eq!(trainer("evaluate", "scratch").0, Some(0));
    // A sitting does not go on with it either, and writes the run's own file anew.
    let job = room.job(CSKT, Some(&base), "stopped");
    stopped(&job);
    change("scratch/base/config.json", "\"text_heads\": 2", "\"text_heads\": 4");
    let (kind, said) = refused(&job);
    assert_eq!(kind, spotter_models::Kind::Config);
    assert!(said.contains("base model's config.json was changed"), "{said}");
    change("scratch/base/config.json", "\"text_heads\": 4", "\"text_heads\": 2");
    change("stopped/config.json", "\"vision_scale\": 0.1", "\"vision_scale\": 0.9");
    assert_eq!(room.train(CSKT, Some(&base), "stopped").config.vision_scale, 0.1);
}

#[test]
fn a_result_of_an_older_version_is_said_not_to_be_checked() {
    let room = Room::new();
    let base = room.base();
    room.train(&CSKT.replace("epochs = 3", "epochs = 1"), Some(&base), "cskt");
    let trainer = |command: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        program.arg(command);
        match command {
            "report" => program.arg(room.path("cskt")),
            "export" => program.args(["--pack", "--out"]).arg(room.path("pack")),
            _ => program.args(["--split", "val", "--data"]).arg(room.path("data")),
        };
        if command != "report" {
            program.arg("--run").arg(room.path("cskt"));
        }
        let (code, mut told) = said(&mut program);
        assert_eq!(code, Some(0), "{command}: {told}");
        if command == "report" {
            told += &fs::read_to_string(room.path("cskt/report.html")).unwrap();
        } else {
            let _ = fs::remove_dir_all(room.path("pack"));
        }
        told
    };
    let commands = ["evaluate", "export", "report"];
    assert!(!commands.map(trainer).concat().contains("cannot be checked"));
    for (file, names) in [
        ("cskt/run.json", &["base_config_sha256"][..]),
        ("cskt/result.json", &["sha256", "config_sha256"]),
    ] {
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(room.path(file)).unwrap()).unwrap();
        for name in names {
            json.as_object_mut().unwrap().remove(*name).unwrap();
        }
        fs::write(room.path(file), json.to_string()).unwrap();
        for command in commands {
            let said = trainer(command);
            assert!(said.contains("cannot be checked"), "{command}: {said}");
            assert!(said.contains("made by an older version"), "{command}: {said}");
            let tensors = said.contains("its trained tensors");
            assert_eq!(tensors, names.contains(&"sha256"), "{command}: {said}");
        }
    }
}

#[test]
fn a_checkpoint_with_a_flipped_bit_is_refused() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 2");
    let job = room.job(&recipe, None, "run");
    stopped(&job);
    let file = room.path("run/checkpoint.safetensors");
    let whole = fs::read(&file).unwrap();
    let head = 8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let at = |text: &str| whole.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
    // In a number of a tensor, in the position, in the hash and its name.
    let places = [
        head + 2,
        whole.len() - 1,
        at("\\\"seconds\\\"") + 13,
        at("\"sha256\"") + 12,
        at("\"sha256\"") + 6,
        at("\"position\"") + 3,
    ];
    for place in places {
        flip(&file, place);
        let (kind, said) = refused(&job);
        assert_eq!(kind, spotter_models::Kind::Corrupt, "{place}: {said}");
        assert!(said.contains("checkpoint.safetensors") && said.contains("remove it"), "{said}");
        fs::write(&file, &whole).unwrap();
    }
    room.train(&recipe, None, "run");
    assert_eq!(losses(&room, "run").len(), 4);
}

#[test]
fn a_best_state_that_is_damaged_or_missing_is_refused_at_the_start() {
    let room = Room::new();
    // The first judgement is the best: nothing is learnt after it.
    let recipe = SCRATCH
        .replace("epochs = 12", "epochs = 3")
        .replace("every = 4", "every = 1")
        .replace("learning_rate = 2e-3", "learning_rate = 1e-12");
    room.train(&recipe, None, "whole");
    let mut job = room.job(&recipe, None, "run");
    // Two steps an epoch; after the third the checkpoint is not of the best state.
    (0..3).for_each(|_| stopped(&job));
    let best = room.path("run/best.safetensors");
    let whole = fs::read(&best).unwrap();
    flip(&best, whole.len() - 1);
    let (kind, said) = refused(&job);
    assert_eq!(kind, spotter_models::Kind::Corrupt, "{said}");
    assert!(said.contains("was damaged") && said.contains("begin again"), "{said}");
    fs::remove_file(&best).unwrap();
    let (kind, said) = refused(&job);
    assert_eq!(kind, spotter_models::Kind::Corrupt, "{said}");
    assert!(said.contains("best.safetensors") && said.contains("is missing"), "{said}");
    assert!(said.contains("remove checkpoint.safetensors to begin again"), "{said}");
    // Killed after the checkpoint, before the best state had its place.
    fs::write(room.path("run/best.safetensors.part"), &whole).unwrap();
    stopped(&job);
    assert_eq!(fs::read(&best).unwrap(), whole);
    // Killed while a state was written that the checkpoint does not know.
    fs::write(room.path("run/best.safetensors.part"), b"half of").unwrap();
    job.sitting = None;
    room.train(&recipe, None, "run");
    assert!(!room.path("run/best.safetensors.part").exists());
    let weights =
        |run: &str| Weights::read(&[room.path(run).join("base/base.safetensors")]).unwrap();
    assert_eq!(weights("whole"), weights("run"));
    let validation = |run: &str| fs::read_to_string(room.path(run).join("validation.csv")).unwrap();
    assert_eq!(validation("whole"), validation("run"), "a stop after an epoch's last step");
    // Of equal judgements the first one's state is kept.
    let ended = Finished::open(&room.path("run")).unwrap().ended;
    assert_eq!((ended.kept, ended.steps), (2, 6));
}

#[test]
fn a_checkpoint_of_an_older_version_goes_on_and_is_said_not_to_be_checked() {
    use safetensors::{SafeTensors, serialize};
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 2");
    fs::write(room.path("long.toml"), &recipe).unwrap();
    stopped(&room.job(&recipe, None, "run"));
    let file = room.path("run/checkpoint.safetensors");
    let bytes = fs::read(&file).unwrap();
    let (_, head) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut said_there = head.metadata().clone().unwrap();
    said_there.remove("sha256").unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    fs::write(&file, serialize(tensors.iter(), Some(said_there)).unwrap()).unwrap();
    let (code, said) = train_command(&room, &room.path("run"), None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("checkpoint.safetensors cannot be checked: made by an older"), "{said}");
}

#[test]
fn other_pictures_or_annotations_are_told_at_the_next_sitting() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 2");
    let job = room.job(&recipe, None, "run");
    stopped(&job);
    let (picture, away) = (room.path("data/imgs/7_0.png"), room.path("away.png"));
    fs::rename(&picture, &away).unwrap();
    let (kind, said) = refused(&job);
    assert_eq!(kind, spotter_models::Kind::Config);
    assert!(said.contains("71 pictures") && said.contains("instead of 72"), "{said}");
    fs::copy(room.path("data/imgs/8_0.png"), &picture).unwrap();
    fs::OpenOptions::new().append(true).open(&picture).unwrap().set_len(2000).unwrap();
    assert!(refused(&job).1.contains("other lengths"));
    fs::rename(&away, &picture).unwrap();
    let captions = room.path("data/captions.json");
    let text = fs::read_to_string(&captions).unwrap();
    change_records(&room, |record| record["captions"] = "none".into());
    let broken = refused(&job).1;
    assert!(broken.contains("no record can be used"), "{broken}");
    fs::write(&captions, text.replace("shirt", "coat")).unwrap();
    assert!(refused(&job).1.contains("the annotations were changed"));
    fs::write(&captions, text.replacen("\"a person in a", "\"\", \"a person in a", 1)).unwrap();
    room.train(&recipe, None, "run");
    let share = room.job(&recipe.replace("[data]", "[data]\nshare = 0.5"), None, "run");
    assert!(refused(&share).1.contains("the recipe is another one; there are "));
    fs::write(&captions, text.replacen("\"train\"", "\"learn\"", 1)).unwrap();
    let (kind, said) = refused(&job);
    assert_eq!(kind, spotter_models::Kind::Config);
    assert!(said.contains("59 pictures, 118 captions"), "{said}");
    assert!(said.contains("instead of 60 pictures, 120 captions and 30 persons"), "{said}");
}

#[test]
fn rows_that_are_missing_before_the_checkpoint_are_told() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 3");
    fs::write(room.path("long.toml"), &recipe).unwrap();
    let job = room.job(&recipe, None, "run");
    (0..3).for_each(|_| stopped(&job));
    let log = room.path("run/log.csv");
    let text = fs::read_to_string(&log).unwrap();
    let second = text.lines().nth(2).unwrap();
    fs::write(&log, text.replace(&format!("{second}\n"), "")).unwrap();
    let (code, said) = train_command(&room, &room.path("run"), None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("log.csv has 2 rows until step 3, where 3 steps were made"), "{said}");
}

#[test]
fn a_base_that_is_not_there_is_asked_for_by_its_option() {
    let room = Room::new();
    let base = room.base();
    fs::write(room.path("long.toml"), CSKT).unwrap();
    stopped(&room.job(CSKT, Some(&base), "run"));
    fs::rename(&base, room.path("moved")).unwrap();
    let (code, said) = train_command(&room, &room.path("run"), Some(&base));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--base FOLDER") && said.contains("moved"), "{said}");
    let (code, said) = train_command(&room, &room.path("run"), Some(&room.path("moved")));
    assert_eq!(code, Some(0), "{said}");
}
