//! The boundaries of the architecture: who may link what, and under which licences.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

const DENY: &str = include_str!("../../deny.toml");

struct Graph {
    /// Package id -> (name, licence).
    packages: BTreeMap<String, (String, String)>,
    /// Package id -> the ids it links (build scripts' dependencies are not linked).
    links: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--offline", "--all-features"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let packages = metadata["packages"].as_array().unwrap().iter();
        let packages =
            packages.map(|p| (text(&p["id"]), (text(&p["name"]), text(&p["license"])))).collect();
        let is_linked = |dep: &&Value| {
            dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
        };
        let links = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| {
            let deps = node["deps"].as_array().unwrap().iter().filter(is_linked);
            (text(&node["id"]), deps.map(|dep| text(&dep["pkg"])).collect())
        });
        Self { packages, links: links.collect() }
    }

    /// Names of everything that a package links, itself included.
    fn linked_by(&self, name: &str) -> BTreeSet<&str> {
        let root = self.packages.iter().find(|(_, (n, _))| n == name);
        let mut open = vec![root.unwrap_or_else(|| panic!("no package {name}")).0];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&self.links[id]);
            }
        }
        seen.into_iter().map(|id| self.packages[id].0.as_str()).collect()
    }
}

#[test]
fn the_daemon_links_no_libtorch_and_neither_trainer_nor_models_any_video() {
    let graph = Graph::read();
    let daemon = graph.linked_by("spotterd");
    assert!(daemon.contains("gstreamer") && daemon.contains("ort"), "the test looks at nothing");
    assert!(!daemon.contains("torch-sys") && !daemon.contains("tch"));
    let trainer = graph.linked_by("spotter-trainer");
    assert!(trainer.contains("tch"));
    assert!(!trainer.contains("gstreamer") && !trainer.contains("rumqttc"));
    let models = graph.linked_by("spotter-models");
    assert!(models.contains("tokenizers"));
    for forbidden in ["gstreamer", "torch-sys", "tokio", "rumqttc"] {
        assert!(!models.contains(forbidden), "spotter-models links {forbidden}");
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let deny: toml::Table = DENY.parse().unwrap();
    let allowed: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().filter_map(|v| v.as_str()).collect();
    let graph = Graph::read();
    for (name, licence) in graph.packages.values() {
        // Older packages write `/` for OR. Every alternative of one AND-part may be chosen.
        let expression = licence.replace('/', " OR ").replace(['(', ')'], "");
        let fits = expression
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|one| allowed.contains(one.trim())));
        assert!(fits, "{name} is under {licence:?}, which deny.toml does not allow");
    }
}
