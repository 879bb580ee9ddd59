//! Learning on site: from verdicts to a candidate, or to the reasons why there is none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]
#![expect(clippy::disallowed_methods, reason = "a deadline of a real process")]

mod common;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use common::{
    COLOURS, Room, said,
    site::{SETTINGS, crop, site, staff, text, verdict},
};
use spotter_models::{
    bundle::{Pack, delta, delta::Delta},
    feedback::Feedback,
    signature::{Keys, Role, SecretKey},
    towers::layout::{is_coupling, is_trained},
};
use spotter_trainer::adapt::{LeftOut, Report};

fn adapt(room: &Room, feedback: &str, out: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command.arg("adapt").args(["--threads", "1", "--precisions", "f32", "--json"]);
    for (option, name) in [
        ("--pack", "pack"),
        ("--feedback", feedback),
        ("--reference", "data"),
        ("--settings", "settings.toml"),
        ("--out", out),
    ] {
        command.arg(option).arg(room.path(name));
    }
    command.args(["--created-at", "2026-11-27T00:00:00Z"]);
    command
}

/// Runs it: its status and what it reports.
fn report(command: &mut Command) -> (Option<i32>, Report) {
    let output = command.output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

#[test]
fn what_staff_said_makes_a_better_model_that_applies_to_the_vendors_pack() {
    let room = site();
    staff(&room.path("feedback"), |fits| fits);
    let (status, first) = report(&mut adapt(&room, "feedback", "out"));
    assert_eq!(status, Some(0), "{first:#?}");
    assert!(first.passed && first.reasons.is_empty());
    let compared = first.site.as_ref().unwrap();
    assert!(compared.figures.iter().any(|figure| figure.gain() > 0.0), "{compared:#?}");
    assert_eq!(first.verdicts.verdicts, 72);
    assert_eq!(first.doubt.agreement.map(|agreement| agreement > 0.5), Some(true));
    // The delta gives the candidate that the report names, and holds prompts and adapters alone.
    let delta = Delta::open(&room.path("out/delta")).unwrap();
    let pack = || Pack::open(&room.path("pack")).unwrap();
    let candidate = delta::apply(&delta, pack(), &room.path("bundle")).unwrap();
    assert_eq!(Some(candidate), first.candidate);
    let tensors = delta.tensors().unwrap();
    assert!(tensors.iter().all(|(name, _)| is_trained(name) && !is_coupling(name)));
    assert!(tensors.iter().count() > 8);
    let learnt = &delta.record().provenance["sightings"];
    assert_eq!(
        learnt.as_array().unwrap().len(),
        first.verdicts.confirmed + first.verdicts.rejected
    );
    assert!(fs::read_to_string(room.path("out/report.html")).unwrap().contains("may serve"));
    let status = fs::read_to_string(room.path("out/status.json")).unwrap();
    assert!(status.contains("\"passed\""), "{status}");
    // Signed with the site's key, and by nobody else.
    let key = SecretKey::generate().unwrap();
    fs::write(room.path("site.key"), key.to_text().unwrap()).unwrap();
    let mut signed = adapt(&room, "feedback", "signed");
    signed.arg("--key").arg(room.path("site.key"));
    assert_eq!(report(&mut signed).0, Some(0));
    let site = Keys::new(vec![], vec![key.public().unwrap()]).unwrap();
    let delta = Delta::open(&room.path("signed/delta")).unwrap();
    assert_eq!(delta.signer(&site).unwrap().role, Role::Site);
    assert!(Delta::open(&room.path("out/delta")).unwrap().signer(&site).is_err());
    // The same again is the same.
    let (_, again) = report(&mut adapt(&room, "feedback", "again"));
    assert_eq!(again.candidate, first.candidate);
    // What forgets is refused, and kept for inspection.
    let forgetful = SETTINGS
        .replace("reference_loss = 8.0", "reference_loss = 0.0")
        .replace("least = 60", "least = 0")
        .replace("ratio = 1.0", "ratio = 0.0")
        .replace("learning_rate = 1e-2", "learning_rate = 1e-1");
    fs::write(room.path("settings.toml"), forgetful).unwrap();
    let (status, worse) = report(&mut adapt(&room, "feedback", "worse"));
    assert_eq!((status, worse.passed), (Some(1), false), "{worse:#?}");
    assert!(worse.reasons.join(" ").contains("on the reference set"), "{worse:#?}");
    assert!(room.path("worse/refused/delta.json").exists());
    assert!(!room.path("worse/delta").exists());
}

#[test]
fn verdicts_that_mislead_are_refused_or_do_no_harm() {
    let room = site();
    let refusal = |feedback: &str| {
        let (status, report) = report(&mut adapt(&room, feedback, &format!("out-{feedback}")));
        assert_eq!((status, report.passed), (Some(1), false), "{feedback}: {report:#?}");
        assert!(report.candidate.is_none(), "{feedback}");
        (report.reasons.join("; "), report)
    };
    // Confirm taken for reject.
    staff(&room.path("inverted"), |fits| !fits);
    let (reasons, _) = refusal("inverted");
    assert!(reasons.contains("mixed up"), "{reasons}");
    // One person only, and that 300 times with the same pictures.
    let feedback = Feedback::create(&room.path("copies")).unwrap();
    let picture = crop(COLOURS[0].1, COLOURS[1].1, 0);
    for number in 0..300 {
        let copy = verdict(number, text(0, 1), number, true, 1);
        feedback.put(&copy, std::slice::from_ref(&picture)).unwrap();
    }
    let (reasons, copies) = refusal("copies");
    assert!(reasons.contains("wait for more"), "{reasons}");
    assert_eq!(copies.verdicts.left_out[&LeftOut::SamePicture], 299);
    assert_eq!(copies.verdicts.pictures, 1);
    // Nothing, texts that are none, files that are none, pictures that show nothing.
    let feedback = Feedback::create(&room.path("rubbish")).unwrap();
    for (number, text) in ["", "?!", &"word ".repeat(20_000)].into_iter().enumerate() {
        let mut broken = verdict(number, text.into(), number, true, 1);
        broken.text.truncate(30_000);
        feedback.put(&broken, std::slice::from_ref(&picture)).unwrap();
    }
    let broken = verdict(10, text(0, 1), 10, true, 1);
    feedback.put(&broken, &[b"no picture".to_vec()]).unwrap();
    let mut tiny = verdict(11, text(0, 2), 11, true, 1);
    tiny.pictures[0].size = [8, 16];
    feedback.put(&tiny, std::slice::from_ref(&picture)).unwrap();
    fs::create_dir(room.path("rubbish/01X")).unwrap();
    let (reasons, rubbish) = refusal("rubbish");
    assert!(reasons.contains("wait for more"), "{reasons}");
    let left_out = &rubbish.verdicts.left_out;
    assert_eq!(left_out[&LeftOut::UnusableText], 3, "{left_out:?}");
    assert_eq!(left_out[&LeftOut::PoorPicture], 1, "{left_out:?}");
    assert_eq!(left_out[&LeftOut::BrokenVerdict], 1, "{left_out:?}");
    Feedback::create(&room.path("empty")).unwrap();
    assert!(refusal("empty").0.contains("wait for more"));
}

#[test]
fn a_killed_adaptation_goes_on_and_another_one_begins_anew() {
    let room = site();
    staff(&room.path("feedback"), |fits| fits);
    let (_, whole) = report(&mut adapt(&room, "feedback", "whole"));
    for killed in 0..3 {
        let mut child = adapt(&room, "feedback", "killed").spawn().unwrap();
        let log = room.path("killed/run/log.csv");
        let until = Instant::now() + Duration::from_secs(60);
        let lines = || fs::read_to_string(&log).map_or(0, |log| log.lines().count());
        while lines() < 2 + killed && Instant::now() < until && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!room.path("killed/delta").exists());
    }
    let (_, after) = report(&mut adapt(&room, "feedback", "killed"));
    assert_eq!(after.candidate, whole.candidate);
    // One more verdict is another night: nothing of the one before is used.
    let feedback = Feedback::open(&room.path("feedback")).unwrap();
    assert!(feedback.remove("01S00000").unwrap());
    let (_, next) = report(&mut adapt(&room, "feedback", "killed"));
    assert_eq!(next.verdicts.verdicts, 71);
    assert_ne!(next.candidate, whole.candidate);
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let room = site();
    staff(&room.path("feedback"), |fits| fits);
    let refused = |change: &dyn Fn(&mut Command)| {
        let mut command = adapt(&room, "feedback", "refused");
        change(&mut command);
        let (status, text) = said(&mut command);
        assert_eq!(status, Some(2), "{text}");
        text
    };
    let nowhere = |option: &'static str, path: PathBuf| {
        move |command: &mut Command| {
            let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            *command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
            let mut replaced = false;
            for arg in args {
                let is_value = std::mem::replace(&mut replaced, arg == *option);
                command.arg(if is_value { path.as_os_str().to_owned() } else { arg });
            }
        }
    };
    let text = refused(&nowhere("--feedback", room.path("data")));
    assert!(text.contains("holds no verdicts of staff"), "{text}");
    // A second one keeps its hands off, and one that cannot begin says so to who reads its status.
    fs::create_dir(room.path("busy")).unwrap();
    let lock = fs::File::create(room.path("busy/lock")).unwrap();
    lock.try_lock().unwrap();
    let text = refused(&nowhere("--out", room.path("busy")));
    assert!(text.contains("another training works in this folder"), "{text}");
    drop(lock);
    refused(&nowhere("--pack", room.path("nowhere")));
    let status = fs::read_to_string(room.path("refused/status.json")).unwrap();
    assert!(status.contains("\"failed\""), "{status}");
    let text = refused(&nowhere("--out", room.path("data")));
    assert!(text.contains("no adaptation") && text.contains("new or an empty folder"), "{text}");
    fs::write(room.path("other.toml"), SETTINGS.replace("hold_couplings = true", "")).unwrap();
    let text = refused(&nowhere("--settings", room.path("other.toml")));
    assert!(text.contains("hold_couplings"), "{text}");
    assert!(room.path("data/captions.json").exists());
    // The pack is looked at as a whole.
    fs::write(room.path("pack/adapters.safetensors"), b"other").unwrap();
    let (status, text) = said(&mut adapt(&room, "feedback", "refused"));
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains("copy the pack again"), "{text}");
}
