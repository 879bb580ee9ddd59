//! How trainings end: left alone with one pair, out of the numbers, stopped, unheard, or with the program
//! that started them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]
#![expect(clippy::disallowed_methods, reason = "a deadline of a real process")]

mod common;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{CSKT, Room, SCRATCH, change_records, losses, program, said};
use rustix::process::{Pid, Signal, kill_process};
use spotter_trainer::{report::training, run::Finished};

#[test]
fn a_batch_of_one_pair_is_left_out_and_counted() {
    let room = Room::new();
    // 60 pictures: the second batch of each epoch has one.
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 3").replace("size = 30", "size = 59");
    fs::write(room.path("long.toml"), &recipe).unwrap();
    let (code, said) = said(&mut program(&room, "odd"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of the 60 pairs of an epoch in batches of 59"), "{said}");
    let ended = Finished::open(&room.path("odd")).unwrap().ended;
    assert_eq!((ended.single, ended.steps), (3, 6));
    let losses = losses(&room, "odd");
    assert!(losses.len() == 3 && losses.iter().all(|loss| *loss > 0.0), "{losses:?}");
    // Two pairs are a batch as they always were.
    let two = room.train(&recipe.replace("size = 59", "size = 58"), None, "two");
    assert_eq!((two.ended.single, two.ended.steps), (0, 6));
}

#[test]
fn weights_that_are_no_numbers_are_a_divergence() {
    let room = Room::new();
    let base = room.base();
    // One step an epoch, after which nothing but the judgement or the checkpoint can see it.
    let recipe = CSKT
        .replace("epochs = 3\nwarmup_epochs = 1", "epochs = 2\nwarmup_epochs = 0")
        .replace("size = 16", "size = 120");
    let diverge = |recipe: &str, out: &str, word: &str| {
        fs::write(room.path("long.toml"), recipe).unwrap();
        let (code, said) = said(program(&room, out).arg("--base").arg(&base));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("diverged") && said.contains(word), "{said}");
        let run = room.path(out);
        let report = fs::read_to_string(run.join("diverged.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["step"], &report["pairs"]), (&1.into(), &serde_json::json!([])));
        assert!(!run.join("checkpoint.safetensors").exists());
        training::write(&run).unwrap();
        let page = fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains("After step 1,") && page.contains(word), "{page}");
        assert!(!page.contains("Nothing stands out"));
    };
    diverge(&recipe.replace("1e-3", "1e30"), "judged", "scores of validation pictures");
    change_records(&room, |record| record["split"] = "train".into());
    let all = recipe.replace("size = 120", "size = 144").replace("1e-3", "1e39");
    diverge(&all, "saved", "holds what is no number");
}

/// Waits for something that a process does.
fn wait_for(what: &str, is_done: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        assert!(Instant::now() < patience, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

fn rows(run: &Path) -> usize {
    fs::read_to_string(run.join("log.csv")).unwrap_or_default().lines().count()
}

/// The run's folder of an ablation's only training.
fn training_of(out: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(out).ok()?;
    entries.filter_map(Result::ok).map(|entry| entry.path().join("run")).find(|run| run.is_dir())
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// An ablation of one training that takes minutes, and its folder.
fn ablation(room: &Room) -> (Command, PathBuf) {
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 20000").replace("seed = 5", "");
    let recipe = recipe.replace("every = 4", "every = 10000").replace('[', "[recipe.");
    let recipe = recipe.replace("stem = [recipe.", "stem = [");
    let plan = format!(
        "data = \"{0}\"\n[machine]\nthreads = 1\n[[evaluate]]\nname = \"val\"\ndata = \"{0}\"\n\
         split = \"val\"\n[[row]]\nname = \"long\"\n[recipe]\n{recipe}",
        room.path("data").display()
    );
    fs::write(room.path("plan.toml"), plan).unwrap();
    let out = room.path("ablation");
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command.arg("ablate").arg(room.path("plan.toml")).arg("--out").arg(&out);
    (command, out)
}

#[test]
fn a_training_that_is_stopped_has_a_status_of_its_own() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 20000");
    fs::write(room.path("long.toml"), recipe.replace("every = 4", "every = 10000")).unwrap();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = program(&room, "signalled").spawn().unwrap();
        let before = rows(&room.path("signalled"));
        wait_for("a step", || rows(&room.path("signalled")) > before.max(1));
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(status));
    }
    let sitting = program(&room, "signalled").args(["--sitting", "0.0001"]).status().unwrap();
    assert_eq!(sitting.code(), Some(4));
    assert!(room.path("signalled/checkpoint.safetensors").exists());

    let (mut command, out) = ablation(&room);
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_for("a step", || training_of(&out).is_some_and(|run| rows(&run) > 1));
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_training_ends_with_the_ablation_that_is_killed() {
    let room = Room::new();
    let (mut command, out) = ablation(&room);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for("a step", || training_of(&out).is_some_and(|run| rows(&run) > 1));
    let lock = training_of(&out).unwrap().join("lock");
    let is_held = || matches!(File::open(&lock).unwrap().try_lock(), Err(TryLockError::WouldBlock));
    assert!(is_held());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the training's end", || !is_held());
}

#[test]
fn the_most_memory_is_that_of_the_steps_and_not_of_a_later_process() {
    let room = Room::new();
    room.train(&SCRATCH.replace("epochs = 12", "epochs = 1"), None, "run");
    let peak = || Finished::open(&room.path("run")).unwrap().ended.peak_memory_mib;
    let first = peak().unwrap();
    assert!(first > 10.0, "{first}");
    // The same again has nothing to train, and holds less or, in this process, more.
    room.train(&SCRATCH.replace("epochs = 12", "epochs = 1"), None, "run");
    assert_eq!(peak(), Some(first));
}

#[test]
fn a_training_goes_on_where_nobody_hears_it() {
    let room = Room::new();
    // Warns of the batch at its start.
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 1").replace("size = 30", "size = 61");
    fs::write(room.path("long.toml"), recipe).unwrap();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let status = program(&room, "full").stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(program(&room, "closed").stderr(writer).status().unwrap().code(), Some(0));
    let output = program(&room, "unread").stdout(full()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("standard output"), "{said}");
    assert!(room.path("unread/result.json").exists());
}
