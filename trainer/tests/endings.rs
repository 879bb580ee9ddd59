//! How trainings end: left alone with one pair, out of the numbers, stopped, unheard, or with the program
//! that started them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod common;

use std::fs;

use common::{CSKT, Room, SCRATCH, change_records, losses, program, said};
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
