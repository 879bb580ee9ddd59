//! Pictures that are not there: told before the first step, and never drawn.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, process::Command, thread};

use common::{Room, SCRATCH, losses, program, said};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use spotter_trainer::run::Finished;

#[test]
fn missing_pictures_are_told_at_the_start_and_left_out_of_the_epochs() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 2").replace("size = 30", "size = 15");
    fs::write(room.path("long.toml"), &recipe).unwrap();
    // 30 of 60 to train on, and two of those to judge by.
    for person in (0..36).filter(|person| person % 6 != 5).chain([5, 11]) {
        fs::remove_file(room.path(&format!("data/imgs/{person}_1.png"))).unwrap();
    }
    let (code, told) = said(&mut program(&room, "half"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("32 of 72 pictures of the splits `train` and `val`"), "{told}");
    assert!(told.contains("32 pictures missing (0_1.png, 1_1.png, 2_1.png, ...)"), "{told}");
    let told_once = told.lines().filter(|line| line.contains("missing")).count();
    assert_eq!(told_once, 1, "{told}");
    let run = Finished::open(&room.path("half")).unwrap();
    assert_eq!((run.ended.steps, losses(&room, "half").len()), (4, 4), "batches keep their size");
    assert_eq!(run.origin.counts.pictures, 30);

    for person in 1..36 {
        let _ = fs::remove_file(room.path(&format!("data/imgs/{person}_0.png")));
        let _ = fs::remove_file(room.path(&format!("data/imgs/{person}_1.png")));
    }
    let (code, told) = said(&mut program(&room, "none"));
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("too few pictures to train on are there: 71 of 72"), "{told}");
    assert!(!room.path("none").exists(), "nothing was begun");
}

#[test]
fn a_pipe_among_the_pictures_is_left_out_and_not_waited_for() {
    let room = Room::new();
    let recipe = SCRATCH.replace("epochs = 12", "epochs = 1");
    fs::write(room.path("long.toml"), &recipe).unwrap();
    let (pipe, device) = (room.path("data/imgs/5_0.png"), room.path("data/imgs/7_1.png"));
    fs::remove_file(&pipe).unwrap();
    fs::remove_file(&device).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    let mut command = Command::new("timeout");
    let trainer = program(&room, "piped");
    command.args(["-s", "KILL", "60"]).arg(trainer.get_program()).args(trainer.get_args());
    let (code, told) = said(command.stdout(std::process::Stdio::null()));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("2 pictures are no regular files (7_1.png, 5_0.png)"), "{told}");
    assert_eq!(Finished::open(&room.path("piped")).unwrap().origin.counts.pictures, 59);
}

#[test]
fn a_folder_that_may_not_be_read_is_not_taken_for_one_without_a_set() {
    let room = Room::new();
    fs::write(room.path("long.toml"), SCRATCH).unwrap();
    for mode in [0o111, 0o444] {
        fs::set_permissions(room.path("data"), fs::Permissions::from_mode(mode)).unwrap();
        let mut command = program(&room, "run");
        // Root reads everywhere, but for a thread that gave this right away; its children inherit that.
        let (code, told) = thread::scope(|scope| {
            let run = scope.spawn(|| {
                if rustix::process::geteuid().is_root() {
                    for right in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
                        remove_capability_from_bounding_set(right).unwrap();
                    }
                }
                said(&mut command)
            });
            run.join().unwrap()
        });
        fs::set_permissions(room.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("data") && told.contains("Permission denied"), "{told}");
        assert!(!told.contains("no known set"), "{told}");
    }
}
