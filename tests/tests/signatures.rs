//! Keys, signatures and deltas as people use them, and what they read where something is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use spotter_e2e::program::{Run, spotterd, tiny_bundle};
use spotter_models::{
    Generation,
    bundle::{Pack, delta},
    manifest::Precision,
    probe::Probe,
    session::Runtime,
    towers::{Tensor, Weights, is_coupling, is_trained},
};
use tempfile::TempDir;

#[track_caller]
fn refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{}{}", run.out, run.err);
    let said = format!("{}{}", run.out, run.err);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[track_caller]
fn done(run: &Run, words: &[&str]) {
    refused(run, 0, words);
}

struct Room(TempDir);

impl Room {
    /// A folder with the keys of a vendor and a site.
    fn new() -> Self {
        let room = Self(TempDir::new().unwrap());
        for name in ["vendor", "site"] {
            let out = room.at("keys");
            done(&spotterd(&["bundle", "keygen", "--out", &out, "--name", name]), &["WITHOUT"]);
        }
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn sign(&self, folder: &str, key: &str) -> Run {
        let key = self.at(&format!("keys/{key}.key"));
        spotterd(&["bundle", "sign", &self.at(folder), "--key", &key])
    }

    /// A command with the keys that are trusted.
    fn with_keys(&self, arguments: &[&str]) -> Run {
        let (vendor, site) = (self.at("keys/vendor.pub"), self.at("keys/site.pub"));
        spotterd(&[arguments, &["--vendor-key", &vendor, "--site-key", &site]].concat())
    }

    /// A copy of the tiny bundle, without its signature.
    fn bundle(&self, name: &str) -> String {
        let copy = self.path(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(tiny_bundle()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        copy.display().to_string()
    }
}

#[test]
fn keys_are_made_once_and_the_secret_one_is_private() {
    let room = Room::new();
    let mode = |name| fs::metadata(room.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keys/vendor.key"), 0o600);
    let again = ["bundle", "keygen", "--out", &room.at("keys"), "--name", "vendor"];
    refused(&spotterd(&again), 2, &["exists already", "never replaced"]);
    fs::write(room.path("password"), "open\n").unwrap();
    let (out, file) = (room.at("keys"), room.at("password"));
    let new = ["bundle", "keygen", "--out", &out, "--name", "safe", "--password-file", &file];
    done(&spotterd(&new), &["opened by its password"]);
    let bundle = room.bundle("bundle");
    refused(&room.sign("bundle", "safe"), 2, &["has a password", "--password-file"]);
    let key = room.at("keys/safe.key");
    let sign = ["bundle", "sign", &bundle, "--key", &key, "--password-file", &file];
    done(&spotterd(&sign), &["manifest.json.minisig: signed by key"]);
}

#[test]
fn a_bundle_is_signed_shown_and_refused_without_the_signature() {
    let room = Room::new();
    let (bundle, store) = (room.bundle("bundle"), room.at("store"));
    done(&spotterd(&["bundle", "show", &bundle]), &["signature   not signed"]);
    refused(
        &room.with_keys(&["bundle", "promote", &store, &bundle]),
        2,
        &["is not signed", "signatures are required", "bundle sign"],
    );
    refused(&room.with_keys(&["bundle", "verify", &bundle, "--files-only"]), 1, &["NOT TRUSTED"]);
    done(&room.sign("bundle", "site"), &["signed by key"]);
    let promote = || room.with_keys(&["bundle", "promote", &store, &bundle]);
    refused(&promote(), 3, &["a site's key signs deltas only", "bundle apply"]);
    done(&room.sign("bundle", "vendor"), &["signed by key"]);
    done(&spotterd(&["bundle", "show", &bundle]), &["signed by key", "not checked"]);
    done(&room.with_keys(&["bundle", "show", &bundle]), &["signed by the vendor's key"]);
    let verify = room.with_keys(&["bundle", "verify", &bundle]);
    done(&verify, &["signed by the vendor's key", "computes what it should"]);
    done(&promote(), &["is the current bundle"]);
    done(&room.with_keys(&["bundle", "list", &store]), &["* ", "signed by the vendor's key"]);
}

/// A configuration that requires signatures.
fn configuration(room: &Room, bundle: &str) -> String {
    let text = format!(
        "bundle = \"{bundle}\"\n[bundles]\nsignatures = \"required\"\n\
         vendor_keys = [\"{}\"]\nsite_keys = [\"{}\"]\n[mqtt]\nbroker = \"mqtt://127.0.0.1:1\"\n\
         [decision]\npolicy = \"fixed=0.9\"\n[storage]\nfolder = \"{}\"\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n\
         [[camera]]\nid = \"door\"\nurl = \"test:ball\"\n",
        room.at("keys/vendor.pub"),
        room.at("keys/site.pub"),
        room.at("state"),
    );
    let path = room.at("spotterd.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_daemon_runs_no_bundle_that_is_not_signed_where_that_is_required() {
    let room = Room::new();
    let bundle = room.bundle("bundle");
    let config = configuration(&room, &bundle);
    let words = ["is not signed", "bundle sign"];
    refused(&spotterd(&["check", &config]), 1, &["WRONG  bundle", words[0], words[1]]);
    refused(&spotterd(&["run", &config]), 2, &words);
    done(&room.sign("bundle", "vendor"), &[]);
    let run = spotterd(&["check", &config]);
    assert!(run.out.contains("every file whole, signed by the vendor's key"), "{}", run.out);
    // One byte of the manifest, with what it means unchanged.
    let manifest = room.path("bundle").join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}\n")).unwrap();
    refused(&spotterd(&["check", &config]), 1, &["manifest.json.minisig", "changed since"]);
    refused(&spotterd(&["run", &config]), 3, &["manifest.json.minisig", "changed since"]);
    fs::write(room.path("keys/vendor.pub"), "no key").unwrap();
    refused(&spotterd(&["check", &config]), 1, &["vendor.pub", "no public key"]);
}

fn pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo")
}

/// Whose embeddings a delta's probe has.
enum ProbeOf {
    Changed,
    Parent,
}

/// A delta of the demo's pack: its adapters moved a little, as a site's training does.
fn write_delta(path: &Path, parent: Generation, by: f32, of: ProbeOf) -> Generation {
    let mut trained = Weights::default();
    let open = Pack::open(&pack()).unwrap();
    let sites = |name: &str| is_trained(name) && !is_coupling(name);
    for (name, tensor) in open.weights().iter().filter(|(name, _)| sites(name)) {
        let values = tensor.values().iter().map(|value| value * (1.0 + by)).collect();
        trained.insert(name, Tensor::new(tensor.shape(), values).unwrap());
    }
    let changed = open.change(&trained).unwrap();
    let runtime = Runtime::load(None).unwrap();
    let vendors = Pack::open(&pack()).unwrap();
    let weights = match of {
        ProbeOf::Changed => changed.weights(),
        ProbeOf::Parent => vendors.weights(),
    };
    let preprocess = vendors.preprocess();
    let probe = Probe::record(&runtime, weights, changed.config(), preprocess).unwrap();
    let draft = delta::Draft {
        name: "site-a".into(),
        created_at: "2026-02-28T12:00:00Z".into(),
        parent,
        precisions: &[Precision::F32],
        probe: &probe,
        cohort: None,
        evaluation: serde_json::Map::new(),
        provenance: serde_json::Map::from_iter([("verdicts".to_owned(), 52.into())]),
    };
    delta::write(path, &changed, &draft).unwrap().result
}

#[test]
fn a_sites_delta_is_applied_promoted_and_pruned() {
    let room = Room::new();
    let (pack, store) = (pack().display().to_string(), room.at("store"));
    let bundle = room.at("bundle");
    let fold = ["bundle", "fold", &pack, "--out", &bundle, "--precisions", "f32"];
    let run = spotterd(&fold);
    done(&run, &["bundle "]);
    let parent: Generation = run.out.split_whitespace().nth(1).unwrap().parse().unwrap();
    let result = write_delta(&room.path("delta"), parent, 0.01, ProbeOf::Changed);
    let delta = room.at("delta");
    let apply = || {
        room.with_keys(&[
            "bundle",
            "apply",
            &delta,
            "--pack",
            &pack,
            "--store",
            &store,
            "--promote",
        ])
    };
    refused(&apply(), 2, &["is not signed", "bundle sign"]);
    done(&room.sign("delta", "site"), &["delta.json.minisig"]);
    refused(&apply(), 2, &["parent", "install the vendor's bundle"]);
    done(&room.sign("bundle", "vendor"), &[]);
    done(&room.with_keys(&["bundle", "promote", &store, &bundle]), &[]);
    let id = result.to_string();
    done(&apply(), &[&id, "is installed", "is the current bundle"]);
    let listed = room.with_keys(&["bundle", "list", &store]);
    done(&listed, &["signed by the site's key", "as a delta of", "signed by the vendor's key"]);
    done(&room.with_keys(&["bundle", "show", &delta]), &["verdicts", "the site's key", &id]);
    let run = spotterd(&["check", &configuration(&room, &store)]);
    assert!(run.out.contains("signed by the site's key"), "{}{}", run.out, run.err);

    // A delta whose probe is of other weights than its tensors.
    let stale = write_delta(&room.path("stale"), parent, 0.5, ProbeOf::Parent).to_string();
    done(&room.sign("stale", "site"), &[]);
    let folder = room.at("stale");
    let apply = ["bundle", "apply", &folder, "--pack", &pack, "--store", &store];
    refused(&room.with_keys(&apply), 3, &["other embeddings than the exporter"]);
    assert!(!room.with_keys(&["bundle", "list", &store]).out.contains(&stale));

    done(&spotterd(&["bundle", "prune", &store, "--keep", "0"]), &["0 generations removed"]);
    done(&room.with_keys(&["bundle", "rollback", &store]), &[&parent.to_string()]);
    done(&spotterd(&["bundle", "prune", &store, "--keep", "0"]), &["1 generations removed", &id]);
}
