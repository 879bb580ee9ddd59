//! Bundles: written, opened, damaged in every way, and kept in a store.
#![expect(clippy::unwrap_used, reason = "what these tests prepare must work; if not, they fail")]

mod small;

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

use small::{assert_corrupt, blank_probe, cohort, config, flip_a_bit, lock, names_in, weights};
use spotter_models::{
    Digest, Error, Generation, Kind,
    bundle::{
        Bundle, Draft, Store, fold, is_pack, pack, pack_with_vocabulary, write, write_with_cohort,
        write_with_vocabulary,
    },
    cohort::Cohort,
    manifest::{DataRecord, Licence, Lineage, Precision},
    preprocess::Preprocess,
    probe::{Inputs, Probe},
    towers::{Config, Weights},
    vocabulary::Vocabulary,
};
use tempfile::TempDir;

fn draft<'a>(name: &str, weights: &'a Weights, config: &'a Config, probe: &'a Probe) -> Draft<'a> {
    Draft {
        name: name.into(),
        created_at: "2026-01-31T12:00:00Z".into(),
        parent: None,
        lineage: Lineage::default(),
        licence: Licence { weights: "CC0-1.0".into(), data: "random".into() },
        data: None,
        intended_use: None,
        evaluation: serde_json::Map::new(),
        weights,
        config,
        precisions: &[Precision::F32],
        preprocess: Preprocess::clip(config.height, config.width),
        probe,
        cohort: None,
        vocabulary: None,
    }
}

/// Writes a bundle of this name beneath a folder.
fn bundle_in(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    write(&path, &draft(name, &weights(1), &config(), &blank_probe())).unwrap();
    path
}

const FILES: [&str; 3] = ["probe.safetensors", "text.f32.onnx", "vision.f32.onnx"];

#[test]
fn what_is_written_is_what_is_opened() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("b");
    let probe = blank_probe();
    let (weights, config) = (weights(1), config());
    let generation = write(&path, &draft("b", &weights, &config, &probe)).unwrap();
    assert_eq!(names_in(folder.path()), ["b"], "nothing is left beside the bundle");
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.generation(), generation);
    assert_eq!(bundle.manifest().config, config);
    assert_eq!(Probe::of(&bundle).unwrap(), probe);
    for name in FILES {
        assert_eq!(bundle.read(name).unwrap(), fs::read(path.join(name)).unwrap());
    }
    let again = folder.path().join("again");
    assert_eq!(write(&again, &draft("b", &weights, &config, &probe)).unwrap(), generation);
    for name in ["manifest.json", "../b/manifest.json", "", "/etc/passwd"] {
        assert_eq!(bundle.read(name).unwrap_err().kind(), Kind::Config, "{name}");
    }
}

#[test]
fn a_cohort_travels_in_a_bundle_or_is_put_into_a_copy_of_it() {
    let folder = TempDir::new().unwrap();
    let plain = Bundle::open(&bundle_in(folder.path(), "plain")).unwrap();
    assert_eq!(Cohort::of(&plain).unwrap(), None);
    let path = folder.path().join("with");
    let generation = write_with_cohort(&path, &plain, &cohort(16)).unwrap();
    let with = Bundle::open(&path).unwrap();
    assert_eq!(with.generation(), generation);
    assert_ne!(generation, plain.generation());
    assert_eq!(Cohort::of(&with).unwrap(), Some(cohort(16)));
    for name in FILES {
        assert_eq!(with.read(name).unwrap(), plain.read(name).unwrap());
    }
    // Written with its cohort, it is the same bundle; put in again, it changes nothing.
    let (weights, config, probe) = (weights(1), config(), blank_probe());
    let cohort_16 = cohort(16);
    let whole = Draft { cohort: Some(&cohort_16), ..draft("plain", &weights, &config, &probe) };
    assert_eq!(write(&folder.path().join("whole"), &whole).unwrap(), generation);
    let again = write_with_cohort(&folder.path().join("again"), &with, &cohort_16);
    assert_eq!(again.unwrap(), generation);
    // That of another model is refused, and nothing is left.
    let refused = folder.path().join("refused");
    let error = write_with_cohort(&refused, &plain, &cohort(8)).unwrap_err().to_string();
    assert!(error.contains("cohort: 8 values where the model has 16"), "{error}");
    assert!(!refused.exists());
    flip_a_bit(&path.join("cohort.safetensors"));
    assert_corrupt(&Bundle::open(&path).unwrap_err(), &["cohort.safetensors"]);
}

#[test]
fn a_vocabulary_travels_in_a_bundle_or_is_put_into_a_copy_of_it() {
    let folder = TempDir::new().unwrap();
    let plain = Bundle::open(&bundle_in(folder.path(), "plain")).unwrap();
    assert_eq!(Vocabulary::of(&plain).unwrap(), None);
    let words = Vocabulary::of_captions(["a red coat", "a hat"]).unwrap();
    let path = folder.path().join("with");
    let generation = write_with_vocabulary(&path, &plain, &words).unwrap();
    let with = Bundle::open(&path).unwrap();
    assert_ne!(generation, plain.generation());
    assert_eq!(Vocabulary::of(&with).unwrap(), Some(words.clone()));
    // Written with it, it is the same bundle; a cohort that is put in leaves it where it is.
    let (weights, config, probe) = (weights(1), config(), blank_probe());
    let whole = Draft { vocabulary: Some(&words), ..draft("plain", &weights, &config, &probe) };
    assert_eq!(write(&folder.path().join("whole"), &whole).unwrap(), generation);
    let both = folder.path().join("both");
    write_with_cohort(&both, &with, &cohort(16)).unwrap();
    assert_eq!(Vocabulary::of(&Bundle::open(&both).unwrap()).unwrap(), Some(words));
    flip_a_bit(&path.join("vocabulary.json"));
    assert_corrupt(&Bundle::open(&path).unwrap_err(), &["vocabulary.json"]);
}

#[test]
fn a_pack_carries_a_vocabulary_into_its_bundle() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (weights, config, probe) = (weights(1), config(), blank_probe());
    weights.write(&at("base")).unwrap();
    let base = fs::read(at("base")).unwrap();
    let words = Vocabulary::of_captions(["a red coat"]).unwrap();
    let plain = draft("packed", &weights, &config, &probe);
    pack(&at("old"), &plain, &base, None).unwrap();
    let said = fs::read_to_string(at("old").join("pack.json")).unwrap();
    assert!(!said.contains("vocabulary"), "as packs were before there were vocabularies");
    fold(&at("old"), &at("old-folded"), &[Precision::F32]).unwrap();
    assert_eq!(Vocabulary::of(&Bundle::open(&at("old-folded")).unwrap()).unwrap(), None);
    pack_with_vocabulary(&at("new"), &at("old"), &words).unwrap();
    let written = Draft { vocabulary: Some(&words), ..plain };
    pack(&at("same"), &written, &base, None).unwrap();
    for name in names_in(&at("same")) {
        let [new, same] = ["new", "same"].map(|pack| fs::read(at(pack).join(&name)).unwrap());
        assert!(new == same, "{name}");
    }
    fold(&at("new"), &at("new-folded"), &[Precision::F32]).unwrap();
    let folded = Bundle::open(&at("new-folded")).unwrap();
    assert_eq!(Vocabulary::of(&folded).unwrap(), Some(words));
    assert!(is_pack(&at("new")) && !is_pack(&at("new-folded")));
    fs::write(at("new").join("vocabulary.json"), "[]").unwrap();
    let error = fold(&at("new"), &at("broken"), &[Precision::F32]).unwrap_err();
    assert_corrupt(&error, &["vocabulary.json"]);
}

#[test]
fn a_bundle_is_never_written_over_another() {
    let folder = TempDir::new().unwrap();
    let path = bundle_in(folder.path(), "b");
    let before = fs::read(path.join("manifest.json")).unwrap();
    let (weights, config, probe) = (weights(2), config(), blank_probe());
    let error = write(&path, &draft("other", &weights, &config, &probe)).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(fs::read(path.join("manifest.json")).unwrap(), before);
}

#[test]
fn a_draft_that_does_not_fit_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("b");
    let (weights, config, probe) = (weights(1), config(), blank_probe());
    let good = || draft("b", &weights, &config, &probe);
    let other = Config { embed: 8, ..config.clone() };
    let wide = cohort(17);
    let drafts = [
        ("embed", Draft { config: &other, ..good() }),
        ("name", Draft { name: String::new(), ..good() }),
        ("created_at", Draft { created_at: "today".into(), ..good() }),
        ("preprocess", Draft { preprocess: Preprocess::clip(16, 48), ..good() }),
        ("cohort", Draft { cohort: Some(&wide), ..good() }),
        ("precisions", Draft { precisions: &[], ..good() }),
        ("precisions", Draft { precisions: &[Precision::F16; 2], ..good() }),
        ("intended_use", Draft { intended_use: Some(" ".into()), ..good() }),
    ];
    for (word, draft) in drafts {
        let error = write(&path, &draft).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert_eq!(names_in(folder.path()), [""; 0], "{word}");
    }
}

#[test]
fn leftovers_of_a_crashed_writer_are_replaced() {
    let folder = TempDir::new().unwrap();
    let leftover = folder.path().join(".b.partial");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("vision.f32.onnx"), "half").unwrap();
    bundle_in(folder.path(), "b");
    assert_eq!(names_in(folder.path()), ["b"]);
}

#[test]
fn a_writer_that_is_still_at_work_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let busy = folder.path().join(".b.partial");
    fs::create_dir(&busy).unwrap();
    let _other = lock(&busy);
    let (weights, config, probe) = (weights(1), config(), blank_probe());
    let path = folder.path().join("b");
    let error = write(&path, &draft("b", &weights, &config, &probe)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("another process"), "{error}");
    assert!(busy.is_dir());
}

#[test]
fn every_damage_is_refused_by_the_name_of_the_file() {
    for name in FILES {
        let folder = TempDir::new().unwrap();
        let path = bundle_in(folder.path(), "b");
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            let error = Bundle::open(&path).unwrap_err();
            assert_corrupt(&error, &[name, &format!("{length} bytes"), "again"]);
        }
        fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &[name, "bytes"]);
        fs::write(&file, &whole).unwrap();
        flip_a_bit(&file);
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &[name, "sha256"]);

        fs::remove_file(&file).unwrap();
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &["lacks", name]);
        fs::create_dir(&file).unwrap();
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &[name, "no plain file"]);
        fs::remove_dir(&file).unwrap();
        // The same bytes through a link are refused too: what it points at may change.
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, &whole).unwrap();
        symlink(&elsewhere, &file).unwrap();
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &[name, "symbolic link"]);
        fs::remove_file(&file).unwrap();
        // Opening a pipe would wait for ever.
        let mode = rustix::fs::Mode::RUSR;
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, mode, 0).unwrap();
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &[name, "no plain file"]);
    }
}

#[test]
fn a_damaged_manifest_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = bundle_in(folder.path(), "b");
    let file = path.join("manifest.json");
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, whole.len() / 2] {
        fs::write(&file, &whole[..length]).unwrap();
        assert_corrupt(&Bundle::open(&path).unwrap_err(), &["manifest.json"]);
    }
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    assert_corrupt(&Bundle::open(&path).unwrap_err(), &["manifest.json", "larger"]);
    fs::remove_file(&file).unwrap();
    assert_corrupt(&Bundle::open(&path).unwrap_err(), &["manifest.json", "missing"]);
    symlink("/dev/zero", &file).unwrap();
    assert_corrupt(&Bundle::open(&path).unwrap_err(), &["manifest.json", "symbolic link"]);
}

#[test]
fn extra_entries_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = bundle_in(folder.path(), "b");
    fs::write(path.join("vision.int8.onnx"), "x").unwrap();
    fs::create_dir(path.join(".hidden")).unwrap();
    fs::write(path.join(std::ffi::OsStr::from_bytes(b"\xff\x1b[31m")), "x").unwrap();
    let error = Bundle::open(&path).unwrap_err();
    assert_corrupt(&error, &["`vision.int8.onnx`", "`.hidden`", "does not list"]);
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
}

#[test]
fn what_is_no_bundle_is_refused() {
    let folder = TempDir::new().unwrap();
    assert_corrupt(&Bundle::open(folder.path()).unwrap_err(), &["manifest.json", "missing"]);
    let error = Bundle::open(&folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("nowhere"), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(Bundle::open(&file).is_err());
    for i in 0..100 {
        fs::write(folder.path().join(format!("holiday-{i}.jpg")), "x").unwrap();
    }
    assert_corrupt(&Bundle::open(folder.path()).unwrap_err(), &["manifest.json"]);
}

#[test]
fn a_file_that_changes_after_opening_is_not_handed_out() {
    let folder = TempDir::new().unwrap();
    let path = bundle_in(folder.path(), "b");
    let bundle = Bundle::open(&path).unwrap();
    flip_a_bit(&path.join("text.f32.onnx"));
    assert_corrupt(&bundle.read("text.f32.onnx").unwrap_err(), &["text.f32.onnx", "sha256"]);
    assert!(bundle.read("vision.f32.onnx").is_ok());
    // Another bundle under the same name: the open one still reads its own files.
    let other = bundle_in(folder.path(), "other");
    fs::rename(&path, folder.path().join("old")).unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(bundle.read("text.f32.onnx").is_err());
    assert!(bundle.read("vision.f32.onnx").is_ok());
}

/// A store, and three bundles installed in it.
struct Fixture {
    folder: TempDir,
    store: Store,
    ids: Vec<Generation>,
}

impl Fixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::new(folder.path().join("store"));
        let ids = ["a", "b", "c"]
            .map(|name| store.install(&bundle_in(folder.path(), name)).unwrap())
            .to_vec();
        Self { folder, store, ids }
    }

    fn path_of(&self, index: usize) -> PathBuf {
        self.store.root().join("generations").join(self.ids[index].to_string())
    }
}

#[test]
fn a_store_opens_its_current_generation() {
    let Fixture { store, ids, .. } = &Fixture::new();
    assert_eq!(store.current().unwrap(), None);
    let error = Bundle::open(store.root()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("promote"), "{error}");
    store.promote(ids[1]).unwrap();
    let bundle = Bundle::open(store.root()).unwrap();
    assert_eq!((bundle.generation(), bundle.manifest().name.as_str()), (ids[1], "b"));
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 3);
    for entry in &listed {
        assert_eq!(entry.current, entry.generation == ids[1]);
        assert!(entry.manifest.is_ok());
    }
    assert_eq!(names_in(store.root()), ["current", "generations", "history"]);
}

#[test]
fn rollback_goes_back_step_by_step() {
    let Fixture { store, ids, .. } = &Fixture::new();
    assert_eq!(store.rollback().unwrap_err().kind(), Kind::Config);
    for id in ids {
        store.promote(*id).unwrap();
        store.promote(*id).unwrap();
    }
    assert_eq!(store.rollback().unwrap(), ids[1]);
    assert_eq!(store.current().unwrap(), Some(ids[1]));
    assert_eq!(store.rollback().unwrap(), ids[0]);
    assert_eq!(store.rollback().unwrap_err().kind(), Kind::Config);
    // Promoting from there forgets what came after.
    store.promote(ids[2]).unwrap();
    assert_eq!(store.rollback().unwrap(), ids[0]);
}

#[test]
fn a_crash_between_history_and_switch_changes_nothing() {
    let Fixture { store, ids, .. } = &Fixture::new();
    store.promote(ids[0]).unwrap();
    store.promote(ids[1]).unwrap();
    // What `promote(ids[2])` has written when it is stopped before the link.
    let history = format!("{}\n{}\n{}\n", ids[0], ids[1], ids[2]);
    fs::write(store.root().join("history"), history).unwrap();
    symlink("generations/none", store.root().join(".current.partial")).unwrap();
    assert_eq!(store.current().unwrap(), Some(ids[1]));
    assert_eq!(store.rollback().unwrap(), ids[0]);
    store.promote(ids[2]).unwrap();
    assert_eq!(store.rollback().unwrap(), ids[0]);
    assert_eq!(names_in(store.root()), ["current", "generations", "history"]);
}

#[test]
fn a_damaged_history_does_not_stop_a_promotion() {
    let Fixture { store, ids, .. } = &Fixture::new();
    store.promote(ids[0]).unwrap();
    fs::write(store.root().join("history"), b"\xff\xfe garbage\n../../etc\n").unwrap();
    assert_eq!(store.rollback().unwrap_err().kind(), Kind::Config);
    store.promote(ids[1]).unwrap();
    assert_eq!(store.current().unwrap(), Some(ids[1]));
}

#[test]
fn installing_again_changes_nothing_and_repairs_damage() {
    let fixture = Fixture::new();
    let Fixture { folder, store, ids } = &fixture;
    store.promote(ids[0]).unwrap();
    assert_eq!(store.install(&folder.path().join("a")).unwrap(), ids[0]);
    flip_a_bit(&fixture.path_of(0).join("text.f32.onnx"));
    assert_corrupt(&Bundle::open(store.root()).unwrap_err(), &["text.f32.onnx"]);
    assert_corrupt(&store.promote(ids[0]).unwrap_err(), &["text.f32.onnx"]);
    assert_eq!(store.install(&folder.path().join("a")).unwrap(), ids[0]);
    assert!(Bundle::open(store.root()).is_ok());
    assert_eq!(names_in(&store.root().join("generations")).len(), 3);
}

#[test]
fn leftovers_of_a_crash_are_removed_by_the_next_install() {
    let Fixture { folder, store, .. } = &Fixture::new();
    let generations = store.root().join("generations");
    fs::create_dir_all(generations.join(".installing/deep")).unwrap();
    fs::write(generations.join(".installing/vision.f32.onnx"), "half").unwrap();
    fs::create_dir(generations.join(".removing-x")).unwrap();
    let d = bundle_in(folder.path(), "d");
    store.install(&d).unwrap();
    let names = names_in(&generations);
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

#[test]
fn a_damaged_bundle_is_not_installed() {
    let Fixture { folder, store, .. } = &Fixture::new();
    let d = bundle_in(folder.path(), "d");
    flip_a_bit(&d.join("vision.f32.onnx"));
    assert_corrupt(&store.install(&d).unwrap_err(), &["vision.f32.onnx"]);
    assert_eq!(names_in(&store.root().join("generations")).len(), 3);
}

#[test]
fn a_folder_under_the_wrong_id_is_refused() {
    let fixture = Fixture::new();
    let Fixture { store, ids, .. } = &fixture;
    fs::remove_dir_all(fixture.path_of(0)).unwrap();
    fs::rename(fixture.path_of(1), fixture.path_of(0)).unwrap();
    assert_corrupt(&store.promote(ids[0]).unwrap_err(), &[&ids[1].to_string()]);
    let error = store.promote(ids[1]).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("not installed"), "{error}");
    // A link in the place of a generation is none, even if it leads to the right one.
    fs::rename(fixture.path_of(0), fixture.folder.path().join("real")).unwrap();
    symlink(fixture.folder.path().join("real"), fixture.path_of(1)).unwrap();
    assert_corrupt(&store.promote(ids[1]).unwrap_err(), &["no folder"]);
}

#[test]
fn the_current_link_cannot_lead_out_of_the_store() {
    let Fixture { folder, store, ids } = &Fixture::new();
    store.promote(ids[0]).unwrap();
    let link = store.root().join("current");
    let outside = folder.path().join("b");
    let deep = format!("generations/../../{}", ids[0]);
    for target in [outside.as_path(), Path::new("/"), Path::new(&deep), Path::new("generations/x")]
    {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        assert_corrupt(&Bundle::open(store.root()).unwrap_err(), &["current", "no generation"]);
    }
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    assert_corrupt(&Bundle::open(store.root()).unwrap_err(), &["no symbolic link"]);
}

#[test]
fn prune_keeps_what_is_needed() {
    let Fixture { folder, store, ids } = &Fixture::new();
    let more: Vec<Generation> =
        ["d", "e"].map(|name| store.install(&bundle_in(folder.path(), name)).unwrap()).to_vec();
    store.promote(ids[0]).unwrap();
    store.promote(ids[1]).unwrap();
    assert_eq!(store.prune(3).unwrap(), []);
    let mut removed = store.prune(1).unwrap();
    assert_eq!(removed.len(), 2);
    removed.extend(store.prune(0).unwrap());
    removed.sort();
    let mut others = vec![ids[2], more[0], more[1]];
    others.sort();
    assert_eq!(removed, others);
    assert_eq!(store.rollback().unwrap(), ids[0]);
    assert_eq!(names_in(&store.root().join("generations")).len(), 2);
}

#[test]
fn a_candidate_waits_beside_the_current_generation_until_it_is_promoted_or_withdrawn() {
    let Fixture { store, ids, .. } = &Fixture::new();
    let error = store.nominate(ids[0]).unwrap_err();
    assert!(error.to_string().contains("no current generation"), "{error}");
    store.promote(ids[0]).unwrap();
    assert!(store.nominate(ids[0]).unwrap_err().to_string().contains("nothing to compare"));
    let absent = "ffffffffffffffffffffffffffffffff".parse().unwrap();
    assert_eq!(store.nominate(absent).unwrap_err().kind(), Kind::Config);
    assert_eq!(store.candidate().unwrap(), None);
    store.nominate(ids[1]).unwrap();
    store.nominate(ids[2]).unwrap();
    assert_eq!(
        (store.current().unwrap(), store.candidate().unwrap()),
        (Some(ids[0]), Some(ids[2]))
    );
    // Pruning leaves it, withdrawing another does not take it away.
    assert!(store.is_fresh(ids[1]).unwrap() && !store.is_fresh(ids[0]).unwrap());
    store.withdraw(ids[1]).unwrap();
    assert!(!store.is_fresh(ids[1]).unwrap());
    assert_eq!(store.prune(0).unwrap(), [ids[1]]);
    assert_eq!(store.candidate().unwrap(), Some(ids[2]));
    store.withdraw(ids[2]).unwrap();
    store.withdraw(ids[2]).unwrap();
    assert_eq!(store.candidate().unwrap(), None);
    // One that was promoted is none any more.
    store.nominate(ids[2]).unwrap();
    store.promote(ids[2]).unwrap();
    assert_eq!(store.candidate().unwrap(), None);
    assert_eq!(store.rollback().unwrap(), ids[0]);
    assert_eq!(store.candidate().unwrap(), None, "nor after a rollback");
    // What is no link to a generation is an error, and withdrawing takes it away.
    let link = store.root().join("candidate");
    fs::write(&link, "generations/x").unwrap();
    assert_corrupt(&store.candidate().unwrap_err(), &["candidate"]);
    store.withdraw(ids[2]).unwrap();
    assert_eq!(store.candidate().unwrap(), None);
}

#[test]
fn a_store_that_another_process_changes_is_left_alone() {
    let Fixture { folder, store, ids } = &Fixture::new();
    let other = lock(store.root());
    for error in [
        store.install(&folder.path().join("a")).unwrap_err(),
        store.promote(ids[0]).unwrap_err(),
        store.rollback().unwrap_err(),
        store.prune(0).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("another process"), "{error}");
    }
    drop(other);
    store.promote(ids[0]).unwrap();
}

/// sysfs takes no new folders from anybody, root included.
#[test]
fn a_place_that_cannot_be_written_is_said_so() {
    let folder = TempDir::new().unwrap();
    let error = Store::new("/sys/spotter").install(&bundle_in(folder.path(), "a")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("choose another folder"), "{error}");
    let (weights, config, probe) = (weights(1), config(), blank_probe());
    let path = Path::new("/sys/spotter");
    let error = write(path, &draft("b", &weights, &config, &probe)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[cfg(feature = "ort")]
mod towers {
    use super::*;
    use spotter_models::{
        preprocess::Preprocessor,
        session::{Model, Provider, Runtime, SessionOptions, TextTower, VisionTower},
        tokenize::Tokenizer,
    };

    fn runtime() -> Runtime {
        Runtime::load(None).unwrap()
    }

    #[test]
    fn the_library_is_loaded_once() {
        let first = runtime();
        assert_eq!(runtime().library(), first.library());
        assert_eq!(Runtime::load(Some(first.library())).unwrap().library(), first.library());
        let error = Runtime::load(Some(Path::new("/nowhere/other.so"))).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("loaded already"), "{error}");
    }

    fn recorded(runtime: &Runtime, seed: u64) -> Probe {
        let preprocess = Preprocess::clip(48, 16);
        Probe::record(runtime, &weights(seed), &config(), preprocess).unwrap()
    }

    /// An opened bundle of the weights of one seed with the probe of another's.
    fn open(
        runtime: &Runtime,
        folder: &Path,
        seeds: (u64, u64),
    ) -> (Bundle, VisionTower, TextTower) {
        let path = folder.join(format!("{}-{}", seeds.0, seeds.1));
        let probe = recorded(runtime, seeds.1);
        write(&path, &draft("b", &weights(seeds.0), &config(), &probe)).unwrap();
        let bundle = Bundle::open(&path).unwrap();
        let options = SessionOptions::default();
        let vision = VisionTower::open(runtime, &bundle, Precision::F32, &options).unwrap();
        let text = TextTower::open(runtime, &bundle, Precision::F32, &options).unwrap();
        (bundle, vision, text)
    }

    #[test]
    fn the_probe_proves_the_folding() {
        let (runtime, folder) = (runtime(), TempDir::new().unwrap());
        let (bundle, mut vision, mut text) = open(&runtime, folder.path(), (1, 1));
        let report = Probe::of(&bundle).unwrap().run(&mut vision, &mut text).unwrap();
        println!("{report}");
        assert!(report.worst_abs <= 1e-5, "{report}");
        report.check(Precision::F32).unwrap();
    }

    #[test]
    fn every_precision_of_a_bundle_passes_its_probe() {
        let (runtime, folder) = (runtime(), TempDir::new().unwrap());
        let path = folder.path().join("all");
        let (weights, config, probe) = (weights(1), config(), recorded(&runtime, 1));
        let data = Some(DataRecord {
            sha256: Digest::of(b"annotations"),
            persons: 2,
            pictures: 5,
            captions: 9,
        });
        let draft = Draft {
            precisions: &Precision::ALL,
            data: data.clone(),
            intended_use: Some("research".into()),
            ..draft("all", &weights, &config, &probe)
        };
        write(&path, &draft).unwrap();
        let bundle = Bundle::open(&path).unwrap();
        assert_eq!(names_in(&path).len(), 1 + 1 + 2 * Precision::ALL.len());
        assert_eq!((&bundle.manifest().data, bundle.manifest().precisions.len()), (&data, 3));
        let options = SessionOptions::default();
        for precision in Precision::ALL {
            let mut vision = VisionTower::open(&runtime, &bundle, precision, &options).unwrap();
            let mut text = TextTower::open(&runtime, &bundle, precision, &options).unwrap();
            let report = Probe::of(&bundle).unwrap().run(&mut vision, &mut text).unwrap();
            println!("{precision}: {report}");
            report.check(precision).unwrap();
            // Else it would be the same file under another name.
            assert_eq!(precision == Precision::F32, report.worst_abs <= 1e-6, "{report}");
        }
        let gpu = SessionOptions { provider: Provider::Cuda, ..options };
        let error = VisionTower::open(&runtime, &bundle, Precision::Int8, &gpu).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("choose f16 or f32 for cuda"), "{error}");
    }

    #[test]
    fn the_probe_refuses_other_weights() {
        let (runtime, folder) = (runtime(), TempDir::new().unwrap());
        let (bundle, mut vision, mut text) = open(&runtime, folder.path(), (1, 2));
        let report = Probe::of(&bundle).unwrap().run(&mut vision, &mut text).unwrap();
        for precision in Precision::ALL {
            let error = report.check(precision).unwrap_err();
            assert!(error.to_string().contains("other embeddings"), "{error}");
        }
    }

    #[test]
    fn a_batch_changes_no_embedding() {
        let (runtime, folder) = (runtime(), TempDir::new().unwrap());
        let (bundle, mut vision, mut text) = open(&runtime, folder.path(), (1, 1));
        let inputs = Inputs::standard().unwrap();
        let mut preprocessor = Preprocessor::new(*vision.preprocess()).unwrap();
        let size = vision.preprocess().len();
        let mut pixels = vec![0.0; size * inputs.pictures.len()];
        for (slot, picture) in pixels.chunks_exact_mut(size).zip(&inputs.pictures) {
            preprocessor.run(picture.view(), slot).unwrap();
        }
        let together = vision.embed(&pixels, inputs.pictures.len()).unwrap();
        for (slot, row) in pixels.chunks_exact(size).zip(&together) {
            assert_eq!(row.generation(), bundle.generation());
            assert!(vision.embed(slot, 1).unwrap()[0].cosine(row).unwrap() > 0.999_999);
        }
        let texts: Vec<_> = inputs
            .texts
            .iter()
            .map(|words| Tokenizer::clip().unwrap().encode(words).unwrap())
            .map(|words| words.fit(text.config()).unwrap())
            .collect();
        let together = text.embed(&texts).unwrap();
        assert_eq!(together.len(), texts.len());
        for (input, row) in texts.iter().zip(&together) {
            let alone = text.embed(std::slice::from_ref(input)).unwrap();
            assert!(alone[0].cosine(row).unwrap() > 0.999_999);
        }
        assert!(vision.embed(&[], 0).unwrap().is_empty() && text.embed(&[]).unwrap().is_empty());
    }

    #[test]
    fn wrong_inputs_are_refused() {
        let (runtime, folder) = (runtime(), TempDir::new().unwrap());
        let (_, mut vision, mut text) = open(&runtime, folder.path(), (1, 1));
        let size = vision.preprocess().len();
        for (length, batch) in [(size - 1, 1), (size, 2), (size, 0), (0, 1), (size, usize::MAX)] {
            let error = vision.embed(&vec![0.0; length], batch).unwrap_err();
            assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        }
        let error = vision.embed(&vec![f32::NAN; size], 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert!(error.to_string().contains("vision.f32.onnx"), "{error}");
        let longer = Config { context: 90, ..config() };
        let words = Tokenizer::clip().unwrap().encode(&"a ".repeat(90)).unwrap();
        let error = text.embed(&[words.fit(&longer).unwrap()]).unwrap_err();
        assert!(error.to_string().contains("another model"), "{error}");
    }

    #[test]
    fn a_file_that_is_another_model_is_refused() {
        let (runtime, folder) = (runtime(), TempDir::new().unwrap());
        let (bundle, ..) = open(&runtime, folder.path(), (1, 1));
        let options = SessionOptions::default();
        let error = VisionTower::open(&runtime, &bundle, Precision::Int8, &options).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("choose f32"), "{error}");

        let (config, taller) = (config(), Config { height: 96, ..config() });
        let (narrow, name) = (Config { embed: 8, ..config.clone() }, Path::new("model.onnx"));
        let vision = bundle.read("vision.f32.onnx").unwrap();
        let text = bundle.read("text.f32.onnx").unwrap();
        let preprocess = Preprocess::clip(48, 16);
        let generation = bundle.generation();
        let model =
            |bytes, config, preprocess| Model { name, bytes, config, preprocess, generation };
        for (word, model) in [
            ("`ids`", model(&text, &config, preprocess)),
            ("pixels", model(&vision, &taller, Preprocess::clip(96, 16))),
            ("embedding", model(&vision, &narrow, preprocess)),
        ] {
            let error = VisionTower::from_model(&runtime, model, &options).err().unwrap();
            assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
        for length in [0, 10, vision.len() / 2] {
            let model = model(&vision[..length], &config, preprocess);
            let error = VisionTower::from_model(&runtime, model, &options).err().unwrap();
            assert_corrupt(&error, &["model.onnx"]);
        }
    }
}
