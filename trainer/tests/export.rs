//! What is exported computes what was trained: every precision, packs, cohorts, and refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
    thread,
};

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use spotter_models::{
    bundle::{
        self, Bundle, Pack,
        delta::{self, Delta},
    },
    cohort::Cohort,
    manifest::Precision,
    session::Runtime,
    towers::{
        Config, Coupling, PromptPlace, Tensor, Weights, is_coupling, layout::is_trained, random,
    },
};
use spotter_trainer::{
    base::{Base, Origin},
    export::{Model, Said, Target, check, export},
};

const ALL: [Precision; 3] = Precision::ALL;

fn small() -> Config {
    Config {
        vision_width: 32,
        vision_layers: 2,
        vision_heads: 2,
        patch: 16,
        height: 48,
        width: 32,
        text_width: 32,
        text_layers: 2,
        text_heads: 2,
        embed: 16,
        prompts: 2,
        vision_bottleneck: 4,
        text_bottleneck: 4,
        token_ids: Some(vec![267, 320, 537, 593, 786, 1449, 2533, 49_406, 49_407]),
        ..Config::vit_b16()
    }
}

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    /// A base of these shapes and its trained tensors beside it.
    fn model(config: &Config) -> (Self, Model) {
        let room = Self { folder: tempfile::tempdir().unwrap() };
        let weights = random(config, 3).unwrap();
        let (mut frozen, mut trained) = (Weights::default(), Weights::default());
        for (name, tensor) in weights.iter() {
            if is_trained(name) { &mut trained } else { &mut frozen }.insert(name, tensor.clone());
        }
        let plain = Config {
            prompts: 0,
            vision_bottleneck: 0,
            text_bottleneck: 0,
            coupling: Coupling::Both,
            prompt_place: PromptPlace::Inserted,
            prompt_depth: None,
            ..config.clone()
        };
        let origin = Origin {
            name: "small".into(),
            layout: "test".into(),
            source_sha256: None,
            licence: "MIT".into(),
            data: "none".into(),
            intended_use: "tests".into(),
        };
        Base::write(&room.path("base"), &frozen, &plain, &origin).unwrap();
        trained.write(&room.path("adapters.safetensors")).unwrap();
        let base = Base::open(&room.path("base")).unwrap();
        let adapters = room.path("adapters.safetensors");
        let model = Model::of_base(&base, Some((&adapters, config))).unwrap();
        (room, model)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn manifest() -> Said {
    Said {
        name: "test".into(),
        created_at: "2026-01-31T12:00:00Z".into(),
        data_licence: "CC0-1.0".into(),
        evaluation: serde_json::Map::new(),
    }
}

#[test]
fn every_shape_in_every_precision_agrees_with_libtorch() {
    let runtime = Runtime::load(None).unwrap();
    for (name, config) in [
        ("published", small()),
        ("free", Config { coupling: Coupling::None, ..small() }),
        ("one way", Config { coupling: Coupling::TextToVision, prompt_depth: Some(1), ..small() }),
        ("in front", Config { prompts: 64, prompt_place: PromptPlace::Prefix, ..small() }),
        ("stem", Config { stem: vec![8, 12, 16], ..small() }),
        ("plain", Config { prompts: 0, vision_bottleneck: 0, text_bottleneck: 0, ..small() }),
    ] {
        let (room, model) = Room::model(&config);
        let out = room.path("bundle");
        let probe = model.probe().unwrap();
        export(&out, &model, &manifest(), &probe, None, Target::Bundle(&ALL)).unwrap();
        for precision in ALL {
            let (_, agreement) = check(&runtime, &out, precision)
                .unwrap_or_else(|error| panic!("{name}, {precision}: {error}"));
            println!("{name}, {precision}: {agreement}");
        }
    }
}

#[test]
fn a_pack_folds_to_the_same_bundle_each_time() {
    let (room, model) = Room::model(&small());
    let probe = model.probe().unwrap();
    let unit = |at: usize| (0..16).map(|i| if i == at % 16 { 1.0 } else { 0.0 }).collect();
    let cohort = Cohort::new((0..40).map(unit).collect()).unwrap();
    let target = Target::Bundle(&[Precision::F32, Precision::Int8]);
    export(&room.path("direct"), &model, &manifest(), &probe, Some(&cohort), target).unwrap();
    export(&room.path("pack"), &model, &manifest(), &probe, Some(&cohort), Target::Pack).unwrap();
    let precisions = [Precision::F32, Precision::Int8];
    for out in ["first", "second"] {
        bundle::fold(&room.path("pack"), &room.path(out), &precisions).unwrap();
    }
    let generation = |name: &str| Bundle::open(&room.path(name)).unwrap().generation();
    assert_eq!(generation("first"), generation("second"));
    assert_eq!(generation("first"), generation("direct"));

    let adapters = room.path("pack/adapters.safetensors");
    let mut bytes = fs::read(&adapters).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&adapters, bytes).unwrap();
    let error = bundle::fold(&room.path("pack"), &room.path("third"), &precisions).unwrap_err();
    assert!(error.to_string().contains("adapters.safetensors"), "{error}");
    assert!(!room.path("third").exists());
}

#[test]
fn towers_that_do_not_agree_are_refused() {
    let runtime = Runtime::load(None).unwrap();
    let (room, model) = Room::model(&small());
    let (_other, other) = Room::model(&Config { text_scale: 1.0, ..small() });
    let out = room.path("bundle");
    // The probe of another model: what a wrong export would look like.
    let probe = other.probe().unwrap();
    let target = Target::Bundle(&[Precision::F32]);
    export(&out, &model, &manifest(), &probe, None, target).unwrap();
    assert!(check(&runtime, &out, Precision::F32).is_err());
}

/// `export` of a room's model by the command line.
fn command(room: &Room) -> Command {
    fs::write(room.path("config.json"), serde_json::to_vec(&small()).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command.arg("export").arg("--base").arg(room.path("base"));
    command.arg("--adapters").arg(room.path("adapters.safetensors"));
    command.arg("--config").arg(room.path("config.json")).args(["--precisions", "f32"]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_cohort_of_too_few_persons_is_refused_with_both_numbers() {
    let (room, _) = Room::model(&small());
    fs::create_dir(room.path("data")).unwrap();
    let picture = image::RgbImage::from_pixel(20, 50, image::Rgb([60, 90, 200]));
    let mut records = Vec::new();
    for person in 0..33 {
        picture.save(room.path("data").join(format!("{person}.png"))).unwrap();
        records.push(serde_json::json!({
            "split": if person < 32 { "train" } else { "val" }, "id": person,
            "file_path": format!("{person}.png"), "captions": ["a person in blue"],
        }));
    }
    let annotations = serde_json::to_vec(&records).unwrap();
    fs::write(room.path("data/captions.json"), annotations).unwrap();
    let export = |out: &str, more: &[&str]| {
        let mut command = command(&room);
        command.arg("--cohort").arg(room.path("data")).arg("--out").arg(room.path(out));
        command.args(more).output().unwrap()
    };
    let output = export("enough", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("without a cohort"), "{}", said(&output));
    let output = command(&room).arg("--out").arg(room.path("without")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("without a cohort, by which the daemon's default policy `budget`")
    );
    fs::remove_file(room.path("data/7.png")).unwrap();
    let output = export("few", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for part in ["has 31 persons", "needs 32 at least", "--cohort"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    assert!(!room.path("few").exists());
    let output = export("few", &["--cohort-persons", "31"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("32"), "{}", said(&output));
    let help = command(&room).arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("32 at least"), "{help:?}");
}

#[test]
fn a_place_that_may_not_be_written_is_told_before_anything_is_computed() {
    let (room, _) = Room::model(&small());
    fs::create_dir(room.path("closed")).unwrap();
    fs::set_permissions(room.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    for out in ["closed/bundle", "closed/deep/bundle"] {
        let mut export = command(&room);
        // What it would read first: that nobody comes so far shows in the message.
        export.arg("--judge").arg(format!("{}:val", room.path("nowhere").display()));
        export.arg("--out").arg(room.path(out));
        // Root writes everywhere, but for a thread that gave this right away; its children inherit that.
        let output = thread::scope(|scope| {
            let run = scope.spawn(|| {
                if rustix::process::geteuid().is_root() {
                    remove_capability_from_bounding_set(CapabilitySet::DAC_OVERRIDE).unwrap();
                }
                export.output().unwrap()
            });
            run.join().unwrap()
        });
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        for part in ["--out", "closed", "Permission denied"] {
            assert!(said(&output).contains(part), "{part}: {}", said(&output));
        }
    }
    let output = command(&room).args(["--out", "new"]).args(["--precisions", "int8,int8"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("names int8 twice"), "{}", said(&output));
    let output = command(&room).arg("--out").arg(room.path("base")).output().unwrap();
    assert!(said(&output).contains("exists already"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(2));
    let mut none = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    let output = none.args(["export", "--out"]).arg(room.path("none")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    for option in ["--run", "--base"] {
        assert!(said(&output).contains(option), "{option}: {}", said(&output));
    }
}

#[test]
fn a_delta_of_a_pack_gives_what_was_trained() {
    let (room, vendors) = Room::model(&small());
    let probe = vendors.probe().unwrap();
    export(&room.path("pack"), &vendors, &manifest(), &probe, None, Target::Pack).unwrap();
    let base = Base::open(&room.path("base")).unwrap();
    let mut trained = Weights::default();
    let sites = |name: &str| is_trained(name) && !is_coupling(name);
    for (name, tensor) in vendors.weights.iter().filter(|(name, _)| is_trained(name)) {
        let by = if sites(name) { 1.01 } else { 1.0 };
        let values = tensor.values().iter().map(|value| value * by).collect();
        trained.insert(name, Tensor::new(tensor.shape(), values).unwrap());
    }
    trained.write(&room.path("site.safetensors")).unwrap();
    fs::write(room.path("config.json"), serde_json::to_vec(&small()).unwrap()).unwrap();
    let text = |name: &str| room.path(name).display().to_string();
    let run = |base: &str, out: &str| {
        Command::new(env!("CARGO_BIN_EXE_spotter-trainer"))
            .args([
                "export",
                "--delta-of",
                &text("pack"),
                "--base",
                &text(base),
                "--adapters",
                &text("site.safetensors"),
                "--config",
                &text("config.json"),
                "--out",
                &text(out),
                "--precisions",
                "f32",
            ])
            .output()
            .unwrap()
    };
    let done = run("base", "delta");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let delta = Delta::open(&room.path("delta")).unwrap();
    let tensors = Weights::read(&[room.path("delta/tensors.safetensors")]).unwrap();
    let held: Vec<&str> = tensors.iter().map(|(name, _)| name).collect();
    let meant: Vec<&str> =
        trained.iter().map(|(name, _)| name).filter(|name| sites(name)).collect();
    assert_eq!(held, meant);
    let parent = bundle::fold(&room.path("pack"), &room.path("parent"), &[Precision::F32]).unwrap();
    assert_eq!(delta.record().parent, parent);
    // What comes out computes what libtorch does with the rounded tensors.
    let pack = Pack::open(&room.path("pack")).unwrap();
    let result = delta::apply(&delta, pack, &room.path("bundle")).unwrap();
    let runtime = Runtime::load(None).unwrap();
    assert_eq!(check(&runtime, &room.path("bundle"), Precision::F32).unwrap().0, result);
    // Another base is refused.
    let other = random(&small(), 9).unwrap();
    let mut frozen = Weights::default();
    for (name, tensor) in other.iter().filter(|(name, _)| !is_trained(name)) {
        frozen.insert(name, tensor.clone());
    }
    Base::write(&room.path("other"), &frozen, base.config(), base.origin()).unwrap();
    let refused = run("other", "refused");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--delta-of: has another base"), "{said}");
    assert!(!room.path("refused").exists());
}
