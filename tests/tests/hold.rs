//! Persons are held by a running daemon, told over the broker, and by its files while none runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Plan, within},
    program::{data, spotterd},
    rig::Mosquitto,
    site::{Site, WITHIN, stop},
};

const WHY: [&str; 4] = ["--reason", "case 2031", "--by", "J. Weber, legal"];

/// An argument list with who asks and why.
fn why<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &WHY[..]].concat()
}

fn holds(site: &Site) -> Vec<Value> {
    site.done("hold list", &[])["holds"].as_array().unwrap().clone()
}

#[test]
fn who_is_held_outlives_erasures_and_kills_until_the_hold_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let camera = format!("[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n");
    let broker = Mosquitto::start_open();
    let mut plan = Plan::new(folder.path(), broker.port, &camera);
    let mut site = Site::new(broker, &plan);

    // Who may have persons erased may not hold them yet: said plainly.
    plan.mqtt += "\ncommands = [\"erase\"]";
    let daemon = plan.start();
    site.until_kept(1);
    let refused = site.run("hold", &why(&["--camera", "gate"]));
    assert_eq!(refused.code, 2, "{}{}", refused.out, refused.err);
    for words in ["a daemon runs", "commands = [\"erase\", \"hold\"]", "systemctl stop spotterd"] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
    stop(daemon);
    plan.mqtt = plan.mqtt.replace("[\"erase\"]", "[\"erase\", \"hold\"]");
    let daemon = plan.start();
    let kept = site.until_kept(2);
    let one = format!("box/{}", kept[0]);

    // Said in full, or not done.
    for (missing, word) in [(&["--by", "J. Weber"], "--reason"), (&["--reason", "case"], "--by")] {
        let run = site.run("hold", &[&["--id", &one][..], missing].concat());
        assert!(run.code == 2 && run.err.contains(word), "{}", run.err);
    }
    let nobody = site.run("hold", &why(&["--id", "box/999999"]));
    assert!(nobody.code == 2 && nobody.err.contains("nobody of that number"), "{}", nobody.err);
    let dry = site.done("hold", &why(&["--id", &one, "--dry-run"]));
    assert_eq!((&dry["hold"], &dry["tracks"]), (&Value::Null, &json!(1)), "{dry}");
    assert!(holds(&site).is_empty());
    let held = site.done("hold", &why(&["--id", &one]));
    assert_eq!(
        (&held["hold"], &held["tracks"], &held["known"]),
        (&json!(1), &json!(1), &json!(false))
    );
    daemon.says(WITHIN, &["Persons are held on request", "case 2031", "J. Weber, legal"]);
    let again = site.run("hold", &why(&["--id", &one]));
    assert!(again.code == 0 && again.out.starts_with("Held already, as hold 1"), "{}", again.out);

    // As any client says it, once more than once.
    let tell = |payload: Value| {
        site.broker.publish("spotter/hall/box/command", &payload.to_string(), &[]);
    };
    let camera = json!({"schema": 1, "command": "hold", "camera": "gate", "reason": "case 2032",
        "by": "desk", "request": "2032-1"});
    tell(json!({"command": "hold", "camera": "gate", "reason": "", "by": "desk"}));
    tell(camera.clone());
    tell(camera.clone());
    let listed = within(WITHIN, || Some(holds(&site)).filter(|holds| holds.len() > 1));
    let of = |listed: &[Value], name: &str| -> Vec<Value> {
        listed.iter().map(|hold| hold[name].clone()).collect()
    };
    assert_eq!(of(&listed, "hold"), [json!(1), json!(2)]);
    assert_eq!(of(&listed, "reason"), [json!("case 2031"), json!("case 2032")]);
    assert!(listed[1]["tracks"].as_u64() >= Some(2), "{listed:?}");
    let text = site.run("hold list", &[]).out;
    assert!(text.contains("Hold 2 by desk on ") && text.contains("camera gate: "), "{text}");

    // Nobody is erased, and the answer says why.
    let erased = site.run("erase", &["--camera", "gate", "--yes"]);
    assert_eq!(erased.code, 1, "{}{}", erased.out, erased.err);
    for words in ["Nothing is erased", "held by hold 1 (case 2031)", "held by hold 2 (case 2032)"] {
        assert!(erased.out.contains(words), "{words}: {}", erased.out);
    }
    assert!(kept.iter().all(|id| site.kept().contains(id)));

    // Released over the broker, then killed: what holds, holds.
    tell(json!({"command": "release", "hold": 2, "reason": "closed", "by": "desk"}));
    within(WITHIN, || (holds(&site).len() == 1).then_some(()));
    tell(camera);
    let log = daemon.kill();
    assert!(log.iter().any(|line| line.contains("A hold was released on request")), "{log:?}");
    let daemon = plan.start();
    within(WITHIN, || site.kept().contains(&kept[0]).then_some(()));
    assert_eq!(of(&holds(&site), "hold"), [json!(1)], "a message that came late holds nobody anew");
    let erased = site.run("erase", &["--camera", "gate", "--yes"]);
    assert!(erased.code == 1 && erased.out.contains("hold 1 (case 2031)"), "{}", erased.out);
    daemon.says(WITHIN, &["Persons were not erased: they are held.", "case 2031"]);
    let left = site.kept();
    assert!(left.contains(&kept[0]) && !left.contains(&kept[1]), "{kept:?} {left:?}");

    // The broker is away: what to do is said.
    site.broker.stop();
    for command in ["hold list", "hold release 1 --reason over --by desk"] {
        let refused = site.run(command, &[]);
        assert_eq!(refused.code, 3, "{}{}", refused.out, refused.err);
        for words in ["a daemon runs on it and cannot be asked", "stop the daemon"] {
            assert!(refused.err.contains(words), "{words}: {}", refused.err);
        }
    }
    stop(daemon);

    // While none runs, its files are worked on.
    let state = plan.state().display().to_string();
    let list = spotterd(&["hold", "list", "--state", &state, "--json"]);
    let list: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!((&list["holds"][0]["hold"], &list["most"]), (&json!(1), &json!(100)), "{list}");
    let release = ["1", "--reason", "case 2031 is closed", "--by", "J. Weber, legal"];
    let dry = site.done("hold release", &[&release[..], &["--dry-run"]].concat());
    assert_eq!((&dry["tracks"], holds(&site).len()), (&json!(1), 1), "{dry}");
    site.done("hold release", &release);
    let before = site.run("hold release", &release);
    assert!(before.code == 0 && before.out.contains("was released before"), "{}", before.out);
    let unknown = site.run("hold release", &["7", "--reason", "over", "--by", "desk"]);
    assert!(unknown.code == 2 && unknown.err.contains("hold list"), "{}", unknown.err);
    assert!(site.run("hold list", &[]).out.contains("Nothing is held."));
    let erased = site.done("erase", &["--id", &one, "--yes"]);
    assert_eq!((&erased["tracks"], &erased["held"]), (&json!(1), &json!([])), "{erased}");

    // A list that cannot be read is refused, with what to do.
    std::fs::write(plan.state().join("gallery/holds.json"), "{").unwrap();
    let broken = site.run("hold list", &[]);
    assert_eq!(broken.code, 2, "{}", broken.err);
    for words in ["holds.json", "put it right"] {
        assert!(broken.err.contains(words), "{words}: {}", broken.err);
    }
}
