//! Pictures that are drawn here, recipes that are trained on them in seconds, and a room for both.
#![allow(dead_code, reason = "not every test file needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

pub mod site;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use image::{Rgb, RgbImage};
use spotter_trainer::{
    recipe::Recipe,
    run::{Finished, Job, Outcome, Progress, train},
};
use tch::Device;

pub const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [200, 30, 30]),
    ("green", [30, 160, 40]),
    ("blue", [30, 50, 200]),
    ("yellow", [220, 210, 40]),
    ("white", [235, 235, 235]),
    ("black", [20, 20, 20]),
];

/// Persons of two colours: 36 of them, two pictures each, the last few to judge by.
pub fn pictures(folder: &Path) {
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

pub const SCRATCH: &str = r#"
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

pub const CSKT: &str = r#"
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

pub struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        pictures(&folder.path().join("data"));
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn job(&self, recipe: &str, base: Option<&Path>, out: &str) -> Job {
        Job {
            start: None,
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

    pub fn train(&self, recipe: &str, base: Option<&Path>, out: &str) -> Finished {
        let job = self.job(recipe, base, out);
        let outcome = train(&job, &AtomicBool::new(false), &mut Progress::new(true)).unwrap();
        assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
        Finished::open(&job.out).unwrap()
    }

    /// A backbone, trained once.
    pub fn base(&self) -> PathBuf {
        self.train(SCRATCH, None, "scratch");
        self.path("scratch/base")
    }
}

/// The program, which can be killed; `out` empty: the caller names it.
pub fn program(room: &Room, out: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command
        .arg("train")
        .arg(room.path("long.toml"))
        .arg("--data")
        .arg(room.path("data"))
        .args(["--threads", "1", "--json"])
        .stdout(Stdio::null());
    if !out.is_empty() {
        command.arg("--out").arg(room.path(out));
    }
    command
}

/// Runs a command to its end: its status, and what it says on standard error.
pub fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Changes the annotations of a room's data.
pub fn change_records(room: &Room, change: impl Fn(&mut serde_json::Value)) {
    let path = room.path("data/captions.json");
    let mut records: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    records.iter_mut().for_each(change);
    fs::write(&path, serde_json::to_vec(&records).unwrap()).unwrap();
}

/// The losses in a run's log; they are written so that no bit is lost.
pub fn losses(room: &Room, run: &str) -> Vec<f64> {
    let log = fs::read_to_string(room.path(run).join("log.csv")).unwrap();
    log.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect()
}
