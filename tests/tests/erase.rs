//! Persons are erased from a running daemon through the broker, and from its files while none runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use spotter_e2e::{
    daemon::{Plan, alert, publish, within},
    folder::files,
    program::{data, spotterd},
    rig::Mosquitto,
    site::{Site, WITHIN, stop},
};

/// Files in which a JPEG begins.
fn with_pictures(folder: &Path) -> Vec<PathBuf> {
    let has = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(4).any(|window| window == [0xff, 0xd8, 0xff, 0xe0])
    };
    files(folder).into_iter().filter(has).collect()
}

#[test]
fn persons_are_erased_while_the_daemon_runs_and_while_none_does() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let camera = format!("[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n");
    let broker = Mosquitto::start_open();
    let mut plan = Plan::new(folder.path(), broker.port, &camera);
    let mut site = Site::new(broker, &plan);
    let mut everybody = alert("a person", 1);
    everybody["cooldown_s"] = json!(0);

    // Not allowed: said plainly, and nothing is touched.
    let daemon = plan.start();
    publish(&site.broker, "everybody", &everybody.to_string());
    site.until_kept(1);
    let refused = site.run("erase", &["--camera", "gate", "--yes"]);
    assert_eq!(refused.code, 2, "{}{}", refused.out, refused.err);
    for words in ["a daemon runs", "commands = [\"erase\"]", "systemctl stop spotterd"] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
    let state = plan.state().display().to_string();
    let refused = spotterd(&["erase", "--state", &state, "--camera", "gate", "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("--config"), "{}", refused.err);
    stop(daemon);

    // Allowed: the daemon does it.
    plan.mqtt += "\ncommands = [\"erase\"]";
    let daemon = plan.start();
    let kept = site.until_kept(2);
    let dry = site.done("erase", &["--camera", "gate", "--dry-run"]);
    assert!(dry["tracks"].as_u64().unwrap() >= 2 && dry["dry_run"] == true, "{dry}");
    assert!(dry["track_pictures"].as_u64() >= Some(1) && dry["shown"].as_u64() >= Some(1), "{dry}");
    let unasked = site.run("erase", &["--camera", "gate"]);
    assert_eq!(unasked.code, 2, "nobody is there to say yes: {}", unasked.err);
    let (one, other) = (format!("box/{}", kept[0]), format!("elsewhere/{}", kept[0]));
    assert_eq!(site.run("erase", &["--id", &other, "--yes"]).code, 2, "of another device");
    let done = site.done("erase", &["--id", &one, "--yes"]);
    assert_eq!((&done["tracks"], &done["dry_run"]), (&json!(1), &json!(false)), "{done}");
    let left = site.kept();
    assert!(!left.contains(&kept[0]) && left.contains(&kept[1]), "{kept:?} {left:?}");

    // As any client says it. A slip of the pen erases nobody; without a response topic it is done all
    // the same.
    let tell = |payload: &str| site.broker.publish("spotter/hall/box/command", payload, &[]);
    tell(r#"{"command": "erase", "camera": "gate", "form": "2026-11-25T06:00:00Z"}"#);
    tell(r#"{"command": "reboot"}"#);
    assert!(site.kept().contains(&kept[1]));
    tell(r#"{"command": "erase", "camera": "gate"}"#);
    within(WITHIN, || (!site.kept().contains(&kept[1])).then_some(()));
    daemon.says(WITHIN, &["Persons were erased on request."]);

    // Sightings wait while the broker is away. The daemon cannot be asked then: what to do is said.
    site.broker.stop();
    let refused = site.run("erase", &["--camera", "gate", "--yes"]);
    assert_eq!(refused.code, 3, "{}{}", refused.out, refused.err);
    for words in ["a daemon runs on it and cannot be asked", "stop the daemon", "say this again"] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
    // Then nobody runs, and the files are erased as they are.
    within(WITHIN, || {
        daemon
            .metric("spotter_outbox_messages{class=\"picture\"}")
            .filter(|waiting| *waiting >= 1.0)
    });
    stop(daemon);
    assert!(!with_pictures(&plan.state()).is_empty());
    let done = site.done("erase", &["--from", "2020-01-01T00:00:00Z", "--to", "now", "--yes"]);
    assert!(done["waiting_pictures"].as_u64() >= Some(1), "{done}");
    assert_eq!(with_pictures(&plan.state()), Vec::<PathBuf>::new());
    let nobody = site.run("erase", &["--camera", "gate", "--yes"]);
    assert!(nobody.code == 0 && nobody.out.contains("nothing to erase"), "{}", nobody.out);

    // What is left is whole: the daemon goes on with it.
    site.broker.resume();
    let daemon = plan.start();
    assert!(site.until_kept(1).iter().all(|id| *id > kept[0]), "no number comes again");
    stop(daemon);
}
