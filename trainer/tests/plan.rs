//! Plans of ablations that cannot be carried out: refused before the first training, with what is wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod common;

use std::{fs, path::Path, process::Command};

use common::{Room, said};
use spotter_trainer::ablate::Plan;

const PLAN: &str = r#"
base = "scratch/base"
data = "data"
[machine]
threads = 1
[recipe]
schedule = { epochs = 1, warmup_epochs = 0 }
batch.size = 60
[[evaluate]]
name = "val"
data = "data"
split = "val"
[[row]]
name = "a"
[[row]]
name = "b"
recipe.prompts.total = 16
"#;

#[test]
fn what_cannot_be_trained_or_judged_is_found_before_the_first_training() {
    let room = Room::new();
    room.base();
    let ablate = |plan: &str, out: &str| {
        fs::write(room.path("plan.toml"), plan).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.args(["ablate", "plan.toml", "--out", out]).current_dir(room.path(""));
        said(&mut command)
    };
    for (from, to, word) in [
        ("split = \"val\"", "split = \"test\"", "evaluate `val`: data set data: holds nothing"),
        ("split = \"val\"", "split = \"val\"\nids = \"900-\"", "holds nothing of what was chosen"),
        ("base = \"scratch/base\"", "base = \"nobase\"", "base: nobase"),
        ("]]\nname = \"val\"\ndata = \"data\"", "]]\nname = \"val\"\ndata = \"no\"", "data: no: "),
        ("threads = 1", "threads = 0", "machine.threads: must be 1 to 256"),
        ("threads = 1", "threads = 257", "machine.threads"),
        ("threads = 1", "workers = 0", "machine.workers"),
        ("threads = 1", "device = \"tpu\"", "`tpu` is none of cpu, cuda"),
        ("prompts.total = 16", "prompts.depth = 9", "row `b`: prompts.depth: 9 is not 1 to 2"),
        ("prompts.total = 16", "data.persons = [3, 3]", "row `b`: data.persons: [3, 3] leaves 1"),
    ] {
        let (code, told) = ablate(&PLAN.replace(from, to), "out");
        assert_eq!(code, Some(2), "{to}: {told}");
        assert!(told.contains(word) && !told.contains("starts"), "`{word}` is not in: {told}");
        assert!(!room.path("out").exists(), "{to} leaves a folder");
    }
    for (out, word) in [
        ("data/out", "lies in the folder of the data, data"),
        ("scratch/base/../base", "lies in the folder of the base model"),
        ("plan.toml", "is no folder"),
    ] {
        let (code, told) = ablate(PLAN, out);
        assert!(code == Some(2) && told.contains(word), "`{word}` is not in: {told}");
    }
    assert!(!room.path("data/out").exists());
    assert!(!room.path("scratch/base/table.csv").exists());
    if !tch::Cuda::is_available() {
        let (code, told) = ablate(&PLAN.replace("threads = 1", "device = \"cuda\""), "out");
        assert!(code == Some(2) && told.contains("no graphics card"), "{told}");
    }
}

#[test]
fn a_plan_names_the_place_of_its_fault() {
    for (from, to, word) in [
        ("batch.size = 60", "batch.sizes = 60", "[recipe]: batch.sizes: unknown field `sizes`"),
        ("batch.size = 60", "batch.size = 1", "[recipe]: batch.size: must be 2 to 65536"),
        ("batch.size = 60", "seed = 7", "[recipe]: sets seed"),
        ("prompts.total = 16", "seed = 7", "row `b`: sets seed"),
        ("prompts.total = 16", "prompts.total = 7", "row `b`: prompts.total"),
        ("prompts.total = 16", "prompts.total = 8", "rows `a` and `b` ask for the same training"),
    ] {
        let text = PLAN.replace(from, to);
        let error = Plan::parse(Path::new("plan.toml"), &text).unwrap_err().to_string();
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}
