//! Deltas and signatures: who may bring what into a store, and how everything else is refused.
#![expect(clippy::unwrap_used, reason = "what these tests prepare must work; if not, they fail")]

mod small;

use std::{
    fs,
    path::{Path, PathBuf},
};

use small::{assert_corrupt, blank_probe, cohort, config, flip_a_bit, names_in};
use spotter_models::{
    Error, Generation, Kind,
    bundle::{
        self, Bundle, Draft, Pack, Store,
        delta::{self, Delta},
        pack, sign,
    },
    cohort::Cohort,
    manifest::{Licence, Lineage, Precision},
    preprocess::Preprocess,
    probe::Probe,
    signature::{Keys, Role, SecretKey},
    towers::{Config, Tensor, Weights, is_coupling, is_trained, starting_weights},
    vocabulary::Vocabulary,
};
use tempfile::TempDir;

/// A name and two widths of tensors that were trained.
const CHANGED: [&str; 3] = ["bpt.text_prompts", "dat.text.1.up.weight", "dat.vision.0.ln.weight"];
const BOTH: &[Precision] = &[Precision::F32, Precision::Int8];
const MANIFEST_SIGNATURE: &str = "manifest.json.minisig";

/// A vendor with a pack and its signed bundle in a store, and a site.
struct Room {
    folder: TempDir,
    vendor: SecretKey,
    site: SecretKey,
    store: Store,
    parent: Generation,
}

impl Room {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (vendor, site) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let at = |name: &str| folder.path().join(name);
        write_pack(folder.path(), "pack", 1, &config());
        let parent = bundle::fold(&at("pack"), &at("bundle"), BOTH).unwrap();
        sign(&at("bundle"), &vendor).unwrap();
        let store = Store::new(at("store")).requiring(keys(&vendor, &site));
        assert_eq!(store.install(&at("bundle")).unwrap(), parent);
        Self { folder, vendor, site, store, parent }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pack(&self) -> Pack {
        Pack::open(&self.at("pack")).unwrap()
    }

    /// Writes a delta of a few tensors, not signed.
    fn delta(&self, name: &str) -> PathBuf {
        self.delta_with(name, &blank_probe(), Some(&cohort(16)))
    }

    fn delta_with(&self, name: &str, probe: &Probe, cohort: Option<&Cohort>) -> PathBuf {
        let changed = self.pack().change(&trained(&self.pack(), name)).unwrap();
        let path = self.at(name);
        let draft = draft(name, self.parent, probe, cohort);
        delta::write(&path, &changed, &draft).unwrap();
        path
    }

    fn signed(&self, name: &str, key: &SecretKey) -> PathBuf {
        let path = self.delta(name);
        sign(&path, key).unwrap();
        path
    }

    fn apply(&self, delta: &Path) -> Result<Generation, Error> {
        self.store.apply(delta, &self.at("pack"), |_| Ok(()))
    }

    fn generation(&self, id: Generation) -> PathBuf {
        self.store.root().join("generations").join(id.to_string())
    }
}

fn keys(vendor: &SecretKey, site: &SecretKey) -> Keys {
    Keys::new(vec![vendor.public().unwrap()], vec![site.public().unwrap()]).unwrap()
}

fn write_pack(folder: &Path, name: &str, seed: u64, config: &Config) {
    let all = spotter_models::towers::random(config, seed).unwrap();
    let (mut base, mut adapters) = (Weights::default(), Weights::default());
    for (name, tensor) in all.iter() {
        let part = if is_trained(name) { &mut adapters } else { &mut base };
        part.insert(name, tensor.clone());
    }
    let bytes = |weights: &Weights| {
        let path = folder.join("weights");
        weights.write(&path).unwrap();
        fs::read(&path).unwrap()
    };
    let (probe, words) = (blank_probe(), Vocabulary::of_captions(["a red coat"]).unwrap());
    let draft = Draft {
        name: "vendor".into(),
        created_at: "2026-01-31T12:00:00Z".into(),
        parent: None,
        lineage: Lineage::default(),
        licence: Licence { weights: "MIT".into(), data: "CC0-1.0".into() },
        data: None,
        intended_use: Some("research".into()),
        evaluation: serde_json::Map::new(),
        weights: &all,
        config,
        precisions: BOTH,
        preprocess: Preprocess::clip(config.height, config.width),
        probe: &probe,
        cohort: None,
        vocabulary: Some(&words),
    };
    pack(&folder.join(name), &draft, &bytes(&base), Some(&bytes(&adapters))).unwrap();
}

/// The pack's trained tensors, a few of them with other values, which differ by `name`.
fn trained(pack: &Pack, name: &str) -> Weights {
    let mut trained = Weights::default();
    let by = 0.001 * (1.0 + name.len() as f32);
    for (name, tensor) in pack.weights().iter().filter(|(name, _)| is_trained(name)) {
        let mut values = tensor.values().to_vec();
        if CHANGED.contains(&name) {
            values.iter_mut().for_each(|value| *value += by);
        }
        trained.insert(name, Tensor::new(tensor.shape(), values).unwrap());
    }
    trained
}

fn draft<'a>(
    name: &str,
    parent: Generation,
    probe: &'a Probe,
    cohort: Option<&'a Cohort>,
) -> delta::Draft<'a> {
    let object = |value: serde_json::Value| value.as_object().unwrap().clone();
    delta::Draft {
        name: name.into(),
        created_at: "2026-02-28T12:00:00Z".into(),
        parent,
        precisions: BOTH,
        probe,
        cohort,
        evaluation: object(serde_json::json!({"R@1": 71.5})),
        provenance: object(serde_json::json!({"verdicts": {"right": 40, "wrong": 12}})),
    }
}

#[track_caller]
fn assert_says(error: &Error, words: &[&str]) {
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn a_delta_gives_the_parent_with_the_tensors_that_it_holds() {
    let room = Room::new();
    let path = room.delta("site");
    let names = ["cohort.safetensors", "delta.json", "probe.safetensors", "tensors.safetensors"];
    assert_eq!(names_in(&path), names);
    let tensors = Weights::read(&[path.join("tensors.safetensors")]).unwrap();
    assert_eq!(tensors.iter().map(|(name, _)| name).collect::<Vec<_>>(), CHANGED);

    let delta = Delta::open(&path).unwrap();
    let generation = delta::apply(&delta, room.pack(), &room.at("out")).unwrap();
    assert_eq!(generation, delta.record().result);
    let (made, parent) =
        (Bundle::open(&room.at("out")).unwrap(), Bundle::open(&room.at("bundle")).unwrap());
    let (made, parent) = (made.manifest(), parent.manifest());
    assert_eq!((made.name.as_str(), made.parent), ("site", Some(room.parent)));
    assert_eq!(made.evaluation.get("R@1"), Some(&serde_json::json!(71.5)));
    assert_eq!(made.lineage.base, parent.lineage.base);
    assert_eq!(made.lineage.adapters, Some(delta.record().tensors.sha256));
    assert_eq!(made.precisions, BOTH);
    assert_eq!((&made.config, &made.preprocess), (&parent.config, &parent.preprocess));
    assert_eq!((&made.licence, &made.tokenizer), (&parent.licence, &parent.tokenizer));
    assert_eq!(made.files.get("vocabulary.json"), parent.files.get("vocabulary.json"));

    // The same bundle as one that is written of these weights: rounded first, folded then.
    let changed = room.pack().change(&trained(&room.pack(), "site")).unwrap();
    for (name, tensor) in changed.weights().iter() {
        let own = room.pack();
        let expected = tensors.tensor(name).or_else(|| own.weights().tensor(name)).unwrap();
        assert_eq!(tensor, expected, "{name}");
    }
    let tower = |weights: &Weights| {
        spotter_models::towers::vision_tower(weights, &config(), Precision::F32).unwrap()
    };
    assert!(fs::read(room.at("out").join("vision.f32.onnx")).unwrap() == tower(changed.weights()));
}

#[test]
fn tensors_that_no_delta_may_hold_are_refused() {
    let room = Room::new();
    let of = |name: &str, shape: &[usize], values: Vec<f32>| {
        let mut weights = Weights::default();
        weights.insert(name, Tensor::new(shape, values).unwrap());
        weights
    };
    let refused = |weights: &Weights| room.pack().change(weights).unwrap_err();
    let size = config().vision_width;
    let good = "dat.vision.0.ln.weight";
    for (name, word) in
        [("visual.proj", "no trained tensor"), ("dat.vision.9.ln.weight", "trained")]
    {
        assert_says(&refused(&of(name, &[1], vec![0.0])), &[name, word]);
    }
    assert_says(&refused(&of(good, &[size + 1], vec![0.0; size + 1])), &[good, "shape"]);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![0.5; size];
        values[3] = value;
        assert_says(&refused(&of(good, &[size], values)), &[good, "diverged"]);
    }
    assert_says(&refused(&of(good, &[size], vec![1e6; size])), &[good, "half precision"]);
    let own = room.pack();
    let same = own.weights().tensor(good).unwrap().clone();
    let mut unchanged = Weights::default();
    unchanged.insert(good, same);
    assert_says(&refused(&unchanged), &["changes nothing"]);
}

/// Replaces the tensors of a delta on disk, with hashes that fit, and signs it anew.
fn replace_tensors(path: &Path, tensors: &[u8], key: &SecretKey) {
    let file = path.join("delta.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json["tensors"]["sha256"] = spotter_models::Digest::of(tensors).to_string().into();
    json["tensors"]["bytes"] = tensors.len().into();
    fs::write(path.join("tensors.safetensors"), tensors).unwrap();
    fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
    sign(path, key).unwrap();
}

#[test]
fn a_signed_delta_with_broken_tensors_is_refused() {
    let room = Room::new();
    let path = room.signed("site", &room.site);
    let width = config().vision_width;
    let of = |name: &str, values: Vec<f32>| {
        let mut weights = Weights::default();
        weights.insert(name, Tensor::new([values.len()], values).unwrap());
        weights
    };
    let good = "dat.vision.0.ln.weight";
    let with_nan = of(good, [vec![f32::NAN], vec![1.0; width - 1]].concat());
    let wide = of(good, vec![1.0; width + 1]);
    let base = of("visual.ln_post.weight", vec![1.0; width]);
    for (weights, words) in [
        (&with_nan, ["NaN", "diverged"]),
        (&wide, [good, "shape"]),
        (&base, ["visual.ln_post.weight", "no trained tensor"]),
        // Fits in every way, but is not what the delta says comes out.
        (&of(good, vec![1.0; width]), ["gives the bundle", "make the delta again"]),
    ] {
        replace_tensors(&path, &weights.to_half_bytes().unwrap(), &room.site);
        assert_says(&room.apply(&path).unwrap_err(), &words);
    }
    let full = room.at("full");
    of(good, vec![0.1; width]).write(&full).unwrap();
    replace_tensors(&path, &fs::read(&full).unwrap(), &room.site);
    assert_says(&room.apply(&path).unwrap_err(), &[good, "F16"]);
    replace_tensors(&path, b"nothing", &room.site);
    assert_corrupt(&room.apply(&path).unwrap_err(), &["tensors.safetensors"]);
    assert_eq!(names_in(&room.store.root().join("generations")), [room.parent.to_string()]);
}

#[test]
fn every_damage_to_a_delta_is_refused_by_the_name_of_the_file() {
    let room = Room::new();
    let path = room.signed("site", &room.site);
    for name in ["cohort.safetensors", "probe.safetensors", "tensors.safetensors"] {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        flip_a_bit(&file);
        assert_corrupt(&room.apply(&path).unwrap_err(), &[name, "sha256"]);
        fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert_corrupt(&room.apply(&path).unwrap_err(), &[name, "bytes"]);
        fs::remove_file(&file).unwrap();
        assert_corrupt(&room.apply(&path).unwrap_err(), &[name, "missing"]);
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert_corrupt(&room.apply(&path).unwrap_err(), &[name, "symbolic link"]);
        fs::remove_file(&file).unwrap();
        fs::write(&file, &whole).unwrap();
    }
    fs::write(path.join("vision.f32.onnx"), "x").unwrap();
    assert_corrupt(&room.apply(&path).unwrap_err(), &["vision.f32.onnx", "does not list"]);
    fs::remove_file(path.join("vision.f32.onnx")).unwrap();
    room.apply(&path).unwrap();
}

#[test]
fn what_delta_json_may_say_is_checked_by_field() {
    let room = Room::new();
    let path = room.delta("site");
    let file = path.join("delta.json");
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (pointer, value, word) in [
        ("/schema", serde_json::json!(2), "newer Spotter"),
        ("/schema", serde_json::json!(0), "make the delta again"),
        ("/name", serde_json::json!("a\u{1b}[31m"), "control"),
        ("/created_at", serde_json::json!("today"), "created_at"),
        ("/precisions", serde_json::json!([]), "precisions"),
        ("/precisions", serde_json::json!(["f32", "f32"]), "precisions"),
        ("/parent", whole["result"].clone(), "is the parent"),
        ("/parent", serde_json::json!("../x"), "parent"),
        ("/lineage", serde_json::json!({}), "lineage"),
        ("/tensors/bytes", serde_json::json!(u64::MAX), "tensors.safetensors"),
        ("/tensors/sha256", serde_json::json!("x"), "tensors.sha256"),
        ("/provenance", serde_json::json!(3), "provenance"),
    ] {
        let mut json = whole.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
        assert_corrupt(&Delta::open(&path).unwrap_err(), &["delta.json", word]);
    }
    let mut json = whole.clone();
    json["base"] = "other".into();
    fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
    assert_corrupt(&Delta::open(&path).unwrap_err(), &["`base`"]);
    for bytes in [&b""[..], b"{", b"null", b"\xff"] {
        fs::write(&file, bytes).unwrap();
        assert_corrupt(&Delta::open(&path).unwrap_err(), &["delta.json"]);
    }
}

#[test]
fn a_sites_delta_is_taken_in_and_opened_with_its_signature() {
    let room = Room::new();
    let path = room.signed("site", &room.site);
    let generation = room.apply(&path).unwrap();
    let bundle = room.store.open(generation).unwrap();
    assert_eq!(bundle.manifest().name, "site");
    for name in ["delta.json", "delta.json.minisig", "tensors.safetensors"] {
        let kept = fs::read(room.generation(generation).join(name)).unwrap();
        assert!(kept == fs::read(path.join(name)).unwrap(), "{name}");
    }
    let keys = keys(&room.vendor, &room.site);
    let signer = room.store.signer(generation, &keys).unwrap();
    assert_eq!((signer.role, signer.parent), (Role::Site, Some(room.parent)));
    assert_eq!(signer.key, room.site.public().unwrap().id());
    room.store.promote(generation).unwrap();
    let (opened, again) = Bundle::open_signed(room.store.root(), &keys).unwrap();
    assert_eq!((opened.generation(), again), (generation, signer));
    // Again, it is not even folded: a pack that is none does not matter.
    let again = room.store.apply(&path, Path::new("/nowhere"), |_| panic!("not looked at"));
    assert_eq!(again.unwrap(), generation);
    // The vendor may sign deltas too, and the parent itself is by the vendor.
    let by_vendor = room.apply(&room.signed("vendors", &room.vendor)).unwrap();
    assert_eq!(room.store.signer(by_vendor, &keys).unwrap().role, Role::Vendor);
    let parent = room.store.signer(room.parent, &keys).unwrap();
    assert_eq!((parent.role, parent.parent), (Role::Vendor, None));
    room.store.promote(room.parent).unwrap();
    assert_eq!(room.store.rollback().unwrap(), generation);
}

#[test]
fn what_nobody_signed_who_may_is_refused_where_signatures_are_required() {
    let room = Room::new();
    let stranger = SecretKey::generate().unwrap();
    // Bundles.
    bundle::fold(&room.at("pack"), &room.at("plain"), &[Precision::F32]).unwrap();
    let install = || room.store.install(&room.at("plain")).unwrap_err();
    assert_eq!(install().kind(), Kind::Config);
    assert_says(&install(), &["is not signed", "bundle sign"]);
    sign(&room.at("plain"), &stranger).unwrap();
    assert_corrupt(&install(), &["none of those trusted", &stranger.public().unwrap().id()]);
    sign(&room.at("plain"), &room.site).unwrap();
    assert_corrupt(&install(), &["a site's key signs deltas only"]);
    fs::copy(room.at("bundle").join(MANIFEST_SIGNATURE), room.at("plain").join(MANIFEST_SIGNATURE))
        .unwrap();
    assert_corrupt(&install(), &[MANIFEST_SIGNATURE, "changed since"]);
    fs::write(room.at("plain").join(MANIFEST_SIGNATURE), "x").unwrap();
    assert_corrupt(&install(), &[MANIFEST_SIGNATURE, "no signature"]);
    // Deltas.
    let path = room.delta("site");
    assert_says(&room.apply(&path).unwrap_err(), &["is not signed", "bundle sign"]);
    sign(&path, &stranger).unwrap();
    assert_corrupt(&room.apply(&path).unwrap_err(), &["none of those trusted"]);
    let other = room.signed("other", &room.site);
    fs::copy(other.join("delta.json.minisig"), path.join("delta.json.minisig")).unwrap();
    assert_corrupt(&room.apply(&path).unwrap_err(), &["changed since"]);
    assert_eq!(names_in(&room.store.root().join("generations")), [room.parent.to_string()]);
}

#[test]
fn a_sites_key_brings_in_no_other_base_or_configuration() {
    let room = Room::new();
    // A pack with another base, and one with another configuration, each with its delta.
    write_pack(room.folder.path(), "other-base", 2, &config());
    let louder = Config { vision_scale: 0.9, ..config() };
    write_pack(room.folder.path(), "other-config", 1, &louder);
    let probe = blank_probe();
    for (name, words) in [
        ("other-base", ["is not that of the bundle", "weights"]),
        ("other-config", ["is not that of the bundle", "config"]),
    ] {
        let pack = || Pack::open(&room.at(name)).unwrap();
        let changed = pack().change(&trained(&pack(), name)).unwrap();
        let path = room.at(&format!("delta-of-{name}"));
        let record =
            delta::write(&path, &changed, &draft(name, room.parent, &probe, None)).unwrap();
        sign(&path, &room.site).unwrap();
        let error = room.store.apply(&path, &room.at(name), |_| Ok(())).unwrap_err();
        assert_says(&error, &words);
        // Put into the store by hand, with everything that a delta leaves there.
        let put = room.generation(record.result);
        delta::apply(&Delta::open(&path).unwrap(), pack(), &put).unwrap();
        for file in ["delta.json", "delta.json.minisig", "tensors.safetensors"] {
            fs::copy(path.join(file), put.join(file)).unwrap();
        }
        let error = room.store.open(record.result).unwrap_err();
        assert_corrupt(&error, &["is not what its delta.json gives", "differs"]);
        assert!(room.store.promote(record.result).is_err());
        // And taken for itself, outside of the store.
        let error = Bundle::open_signed(&put, &keys(&room.vendor, &room.site)).unwrap_err();
        assert_says(&error, &["differs"]);
        let outside = room.at(&format!("outside-{name}"));
        fs::rename(&put, &outside).unwrap();
        let error = room.store.install(&outside).unwrap_err();
        assert_says(&error, &["was made from a delta", "bundle apply"]);
    }
}

#[test]
fn a_delta_needs_its_parent_with_the_vendors_signature() {
    let room = Room::new();
    let generation = room.apply(&room.signed("site", &room.site)).unwrap();
    let parent = room.generation(room.parent);
    let signature = fs::read(parent.join(MANIFEST_SIGNATURE)).unwrap();
    fs::remove_file(parent.join(MANIFEST_SIGNATURE)).unwrap();
    assert_says(&room.store.open(generation).unwrap_err(), &["not signed by the vendor"]);
    // Signed by the site it is no better; nor is a delta of a delta.
    let path = room.at("signed-by-site");
    fs::create_dir(&path).unwrap();
    for name in names_in(&parent) {
        fs::copy(parent.join(&name), path.join(&name)).unwrap();
    }
    sign(&path, &room.site).unwrap();
    fs::copy(path.join(MANIFEST_SIGNATURE), parent.join(MANIFEST_SIGNATURE)).unwrap();
    assert_corrupt(&room.store.open(generation).unwrap_err(), &["signs deltas only"]);
    fs::write(parent.join(MANIFEST_SIGNATURE), &signature).unwrap();
    room.store.open(generation).unwrap();
    let kept = room.at("kept");
    fs::rename(&parent, &kept).unwrap();
    assert_says(&room.store.open(generation).unwrap_err(), &["is not in", "install the vendor's"]);
    let other = room.signed("other", &room.site);
    assert_says(&room.apply(&other).unwrap_err(), &["is not in", "install the vendor's"]);
    fs::rename(&kept, &parent).unwrap();

    let changed = room.pack().change(&trained(&room.pack(), "second")).unwrap();
    let probe = blank_probe();
    let second = room.at("second");
    delta::write(&second, &changed, &draft("second", generation, &probe, None)).unwrap();
    sign(&second, &room.site).unwrap();
    assert_says(&room.apply(&second).unwrap_err(), &["not signed by the vendor"]);
}

#[test]
fn tampering_with_what_a_store_keeps_of_a_delta_is_seen() {
    let room = Room::new();
    let generation = room.apply(&room.signed("site", &room.site)).unwrap();
    let folder = room.generation(generation);
    for name in ["delta.json", "delta.json.minisig", "tensors.safetensors"] {
        let whole = fs::read(folder.join(name)).unwrap();
        flip_a_bit(&folder.join(name));
        let error = room.store.open(generation).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error:?}");
        fs::remove_file(folder.join(name)).unwrap();
        assert!(room.store.open(generation).is_err(), "{name}");
        fs::write(folder.join(name), whole).unwrap();
        room.store.open(generation).unwrap();
    }
    // Applying it again mends it.
    flip_a_bit(&folder.join("delta.json"));
    assert_eq!(room.apply(&room.at("site")).unwrap(), generation);
    room.store.open(generation).unwrap();
}

#[test]
fn without_keys_nothing_has_to_be_signed_and_signatures_travel() {
    let room = Room::new();
    let store = Store::new(room.at("open-store"));
    store.install(&room.at("bundle")).unwrap();
    let signature = store.root().join("generations").join(room.parent.to_string());
    assert!(signature.join(MANIFEST_SIGNATURE).is_file());
    let path = room.delta("site");
    let generation = store.apply(&path, &room.at("pack"), |_| Ok(())).unwrap();
    store.open(generation).unwrap();
    let listed = store.list().unwrap();
    let signer = |id: Generation| {
        let entry = listed.iter().find(|entry| entry.generation == id).unwrap();
        entry.signer.as_ref().unwrap().clone()
    };
    let id = room.vendor.public().unwrap().id();
    assert_eq!((signer(room.parent), signer(generation)), (Some(format!("key {id}")), None));
    // Signed later and applied again, it is what a store with keys takes.
    let strict = store.clone().requiring(keys(&room.vendor, &room.site));
    assert_says(&strict.open(generation).unwrap_err(), &["is not signed"]);
    assert!(strict.list().unwrap().iter().any(|entry| entry.signer.is_err()));
    sign(&path, &room.site).unwrap();
    assert_eq!(store.apply(&path, &room.at("pack"), |_| Ok(())).unwrap(), generation);
    strict.open(generation).unwrap();
    // A bundle that was installed without its signature gets it.
    fs::remove_file(signature.join(MANIFEST_SIGNATURE)).unwrap();
    strict.install(&room.at("bundle")).unwrap();
    assert!(signature.join(MANIFEST_SIGNATURE).is_file());
}

#[test]
fn a_refused_or_killed_application_leaves_the_store_as_it_was() {
    let room = Room::new();
    room.store.promote(room.parent).unwrap();
    let path = room.signed("site", &room.site);
    let generations = room.store.root().join("generations");
    let refuse = |_: &Bundle| Err(Error::mismatch("probe", "disagrees"));
    let error = room.store.apply(&path, &room.at("pack"), refuse).unwrap_err();
    assert_says(&error, &["probe", "disagrees"]);
    assert_eq!(names_in(&generations), [room.parent.to_string()]);
    // What a kill in the middle leaves is removed by the next change.
    fs::create_dir(generations.join(".installing")).unwrap();
    fs::write(generations.join(".installing/vision.f32.onnx"), "half").unwrap();
    fs::write(generations.join(".installing/delta.json"), "{").unwrap();
    assert_eq!(room.store.list().unwrap().len(), 1);
    room.store.open(room.parent).unwrap();
    let generation = room.apply(&path).unwrap();
    let mut both = vec![room.parent.to_string(), generation.to_string()];
    both.sort();
    assert_eq!(names_in(&generations), both);
    // While another process changes the store, nothing is done.
    let other = small::lock(room.store.root());
    let error = room.apply(&room.signed("second", &room.site)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    drop(other);
    // What a kill while signing leaves does not stand in the way of the next.
    fs::write(path.join(".delta.json.minisig.partial"), "half").unwrap();
    assert!(Delta::open(&path).is_err());
    sign(&path, &room.site).unwrap();
    Delta::open(&path).unwrap();
    fs::write(room.at("bundle").join(".manifest.json.minisig.partial"), "half").unwrap();
    sign(&room.at("bundle"), &room.vendor).unwrap();
    Bundle::open(&room.at("bundle")).unwrap();
}

#[test]
fn prune_keeps_the_parents_of_deltas_that_are_kept() {
    let room = Room::new();
    let [old, kept] = ["old", "kept-one"].map(|name| {
        let generation = room.apply(&room.signed(name, &room.site)).unwrap();
        room.store.promote(generation).unwrap();
        generation
    });
    // Current and the one before it are deltas of the parent, which was never promoted.
    assert_eq!(room.store.prune(0).unwrap(), []);
    bundle::fold(&room.at("pack"), &room.at("plain"), &[Precision::F32]).unwrap();
    sign(&room.at("plain"), &room.vendor).unwrap();
    let next = room.store.install(&room.at("plain")).unwrap();
    room.store.promote(next).unwrap();
    assert_eq!(room.store.prune(0).unwrap(), [old]);
    assert_eq!(room.store.rollback().unwrap(), kept);
    // When no delta needs it any more, it goes.
    let again = Store::new(room.store.root());
    fs::remove_file(room.generation(kept).join("delta.json")).unwrap();
    for name in ["delta.json.minisig", "tensors.safetensors"] {
        fs::remove_file(room.generation(kept).join(name)).unwrap();
    }
    let mut removed = again.prune(0).unwrap();
    removed.sort();
    let mut expected = vec![room.parent, next];
    expected.sort();
    assert_eq!(removed, expected);
}

#[test]
fn a_probe_or_cohort_of_another_size_is_refused() {
    let room = Room::new();
    let changed = room.pack().change(&trained(&room.pack(), "site")).unwrap();
    let inputs = spotter_models::probe::Inputs::standard().unwrap();
    let row = |count| vec![vec![0.6, 0.8]; count];
    let (images, texts) = (row(inputs.pictures.len()), row(inputs.texts.len()));
    let small = Probe::new(inputs, images, texts).unwrap();
    let blank = blank_probe();
    let wide = cohort(17);
    for (word, draft) in [
        ("probe", draft("site", room.parent, &small, None)),
        ("cohort", draft("site", room.parent, &blank, Some(&wide))),
        ("name", draft("", room.parent, &blank, None)),
    ] {
        let error = delta::write(&room.at("refused"), &changed, &draft).unwrap_err();
        assert_says(&error, &[word]);
        assert!(!room.at("refused").exists());
    }
    // The same in a delta that was signed: replaced beneath fitting hashes.
    let path = room.signed("site", &room.site);
    let file = path.join("delta.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let bytes = small.to_bytes().unwrap();
    json["probe"]["sha256"] = spotter_models::Digest::of(&bytes).to_string().into();
    json["probe"]["bytes"] = bytes.len().into();
    fs::write(path.join("probe.safetensors"), &bytes).unwrap();
    fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
    sign(&path, &room.site).unwrap();
    assert_says(
        &room.apply(&path).unwrap_err(),
        &["probe embeddings", "2 values where the model has 16"],
    );
}

/// What a site trains of CSKT on ViT-B/16: prompts, adapters and their normalisations; the couplings stay.
#[test]
fn at_full_size_a_delta_has_about_five_megabytes() {
    let config = Config::vit_b16();
    let is_sites = |name: &str| is_trained(name) && !is_coupling(name);
    let count = |is: &dyn Fn(&str) -> bool| -> usize {
        let specs = spotter_models::towers::tensors(&config);
        let wanted = specs.iter().filter(|spec| is(&spec.name));
        wanted.map(|spec| spec.shape.iter().product::<usize>()).sum()
    };
    assert_eq!((count(&is_sites), count(&is_coupling)), (2_665_344, 9_452_544));
    let tensors = starting_weights(&config, 5, is_sites).unwrap();
    let bytes = tensors.to_half_bytes().unwrap().len();
    // Two bytes a number, and names and shapes of 194 tensors.
    assert!((5_330_688..5_360_000).contains(&bytes), "{bytes} bytes");
    println!("{bytes} bytes");
}

#[cfg(feature = "ort")]
#[test]
fn a_probe_that_disagrees_keeps_a_delta_out() {
    use spotter_models::session::{Runtime, SessionOptions, TextTower, VisionTower};
    let runtime = Runtime::load(None).unwrap();
    let room = Room::new();
    let check = |bundle: &Bundle| {
        let options = SessionOptions::default();
        let mut vision = VisionTower::open(&runtime, bundle, Precision::F32, &options)?;
        let mut text = TextTower::open(&runtime, bundle, Precision::F32, &options)?;
        Probe::of(bundle)?.run(&mut vision, &mut text)?.check(Precision::F32)
    };
    // The blank probe is of no model.
    let path = room.signed("blank", &room.site);
    let error = room.store.apply(&path, &room.at("pack"), check).unwrap_err();
    assert_says(&error, &["other embeddings than the exporter"]);
    assert_eq!(names_in(&room.store.root().join("generations")), [room.parent.to_string()]);
    // Recorded of the changed weights it passes; of the parent's it does not.
    let changed = room.pack().change(&trained(&room.pack(), "good")).unwrap();
    let record = |weights: &Weights| {
        Probe::record(&runtime, weights, &config(), Preprocess::clip(48, 16)).unwrap()
    };
    let good = room.delta_with("good", &record(changed.weights()), None);
    sign(&good, &room.site).unwrap();
    room.store.apply(&good, &room.at("pack"), check).unwrap();
    let stale = room.delta_with("stale", &record(room.pack().weights()), None);
    sign(&stale, &room.site).unwrap();
    let error = room.store.apply(&stale, &room.at("pack"), check).unwrap_err();
    assert_says(&error, &["other embeddings than the exporter"]);
}
