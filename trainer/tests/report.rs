//! A training's page: tables as they are left by trainings that were killed and continued, and what is
//! said about curves of known shape.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{fmt::Write as _, fs, path::Path, process::Command};

use spotter_trainer::report::training::{self, Table, findings};
use tempfile::TempDir;

const LOG: &str = "step,epoch,seconds,loss,learning_rate,pairs_per_second,gradient_norm\n";
const VALIDATION: &str = "step,epoch,loss_train,R@1,R@5,R@10,mAP,mINP,loss_val\n";

fn table(text: &str) -> Table {
    Table::parse(Path::new("table.csv"), text).unwrap()
}

/// A log whose loss and gradient are functions of the step.
fn log(steps: u32, loss: impl Fn(u32) -> f64, gradient: impl Fn(u32) -> f64) -> String {
    let mut text = LOG.to_owned();
    for step in 1..=steps {
        let seconds = f64::from(step) / 2.0;
        let (loss, gradient) = (loss(step), gradient(step));
        writeln!(text, "{step},{},{seconds},{loss},0.001,250.5,{gradient}", step / 100).unwrap();
    }
    text
}

/// Validations every hundred steps with these R@1, and a training loss that falls or stays.
fn validation(ranks: &[f64], is_falling: bool) -> String {
    let mut text = VALIDATION.to_owned();
    for (n, rank) in (1..).zip(ranks) {
        let loss = if is_falling { 5.0 / f64::from(n) } else { 5.0 };
        writeln!(text, "{},{n},{loss},{rank},80,90,50,40,6", n * 100).unwrap();
    }
    text
}

#[test]
fn a_table_that_was_cut_and_continued_is_read() {
    let whole = "step,loss\n10,5\n20,4\n30,\n";
    let table = table(&format!("{whole}20,4.5\n40,3\n50,2.")); // killed while it wrote step 50
    assert_eq!(table.column("step"), [10.0, 20.0, 40.0], "from step 20 on the later lines count");
    assert_eq!(table.column("loss"), [5.0, 4.5, 3.0]);
    assert!(table.column("nothing").is_empty());
    for (text, word) in [
        ("", "step"),
        ("epoch,step\n1,2\n", "step"),
        ("step,loss\n1,2\n2,3,4\n", "line 3"),
        ("step,loss\n1,x\n", "line 2"),
        ("step,loss\n,1\n", "line 2"),
        ("step,loss\nNaN,1\n", "line 2"),
    ] {
        let error = Table::parse(Path::new("log.csv"), text).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("log.csv"), "{text:?}: {error}");
    }
}

#[test]
fn the_time_of_a_continued_training_is_that_of_its_stretches() {
    let continued = "step,seconds\n1,10\n2,20\n3,5\n4,15\n";
    assert_eq!(training::seconds(&table(continued)), 35.0);
    assert_eq!(training::seconds(&table("step,seconds\n1,10\n2,20\n")), 20.0);
    assert_eq!(training::seconds(&Table::default()), 0.0);
}

#[test]
fn a_quiet_training_has_no_findings() {
    let quiet = log(300, |step| 5.0 / f64::from(step).sqrt(), |step| 1.0 + f64::from(step % 7));
    let rising = [10.0, 20.0, 30.0, 35.0, 38.0, 38.2];
    assert_eq!(findings(&table(&quiet), &table(&validation(&rising, true))), [""; 0]);
    assert_eq!(findings(&table(&quiet), &Table::default()), [""; 0]);
    // A plateau is no fall, and one bad validation no trend.
    for ranks in [&[30.0; 9][..], &[10.0, 30.0, 29.8, 29.9, 30.0, 29.9], &[10.0, 20.0, 30.0, 12.0]]
    {
        assert_eq!(
            findings(&table(&quiet), &table(&validation(ranks, true))),
            [""; 0],
            "{ranks:?}"
        );
    }
}

#[test]
fn over_fitting_is_said_with_the_step_to_go_back_to() {
    let ranks = [10.0, 20.0, 30.0, 28.0, 27.0, 26.0, 25.0];
    let calm = table(&log(20, |_| 1.0, |_| 1.0));
    let said = findings(&calm, &table(&validation(&ranks, true)));
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["Over-fitting", "step 300", "30.0 %", "26.0 %", "4 validations"] {
        assert!(said[0].contains(part), "{part}: {}", said[0]);
    }
    // Of equal best ones the first is named, which training keeps; the fall counts from the last.
    let tied = [10.0, 30.0, 20.0, 30.0, 28.0, 27.0, 26.0, 25.0];
    let said = findings(&calm, &table(&validation(&tied, true)));
    let named = said[0].contains("best at step 200 with") && said[0].contains("model of step 200;");
    assert!(named && said[0].contains("lower for 4 validations"), "{said:?}");
    // Where the training loss does not fall, something else is wrong.
    assert_eq!(findings(&calm, &table(&validation(&ranks, false))), [""; 0]);
}

#[test]
fn jumps_spikes_and_divergence_are_said_with_their_step() {
    let one = |at: u32, value: f64| move |step: u32| if step == at { value } else { 1.0 };
    for (text, word, step) in [
        (log(100, |_| 2.0, one(60, 10.5)), "gradient jumped", "step 60"),
        (log(100, one(40, 2.1), |_| 1.0), "loss spiked", "step 40"),
        (log(100, one(70, f64::NAN), |_| 1.0), "diverged", "step 70"),
        (log(100, one(70, f64::INFINITY), |_| 1.0), "diverged", "step 70"),
    ] {
        let said = findings(&table(&text), &Table::default());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(word) && said[0].contains(step), "{word}, {step}: {}", said[0]);
    }
    // Just below the rule, and before there is a median to compare with.
    let scattered = |step: u32| [0.1, 0.5, 1.0, 1.5, 2.2][step as usize % 5];
    for text in [
        log(100, one(40, 1.9), one(60, 9.5)),
        log(100, one(5, 90.0), one(5, 90.0)),
        log(100, scattered, |_| 1.0),
    ] {
        assert_eq!(findings(&table(&text), &Table::default()), [""; 0]);
    }
}

#[test]
fn a_training_at_chance_learnt_nothing_and_of_equal_validations_the_first_is_best() {
    let flat = table(&validation(&[0.9, 1.9, 1.9], true));
    let said = training::at_chance(&flat, 1.0).unwrap();
    for part in ["Learnt nothing", "1.90 % at step 200", "guessing has 1.00 %"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(training::at_chance(&flat, 0.9), None);
    assert_eq!(training::at_chance(&Table::default(), 1.0), None, "nothing was judged yet");
    // Of two persons guessing finds every second one.
    assert!(training::at_chance(&table(&validation(&[75.0], true)), 50.0).is_some());
    assert_eq!(training::at_chance(&table(&validation(&[76.0], true)), 50.0), None);
    assert_eq!(training::at_chance(&table(&validation(&[100.0], true)), 100.0), None);
}

#[test]
fn a_run_that_diverged_at_its_first_step_has_a_page_that_says_so() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("log.csv"), LOG).unwrap();
    let diverged = r#"{"step":1,"learning_rate":0.5,"error":"training diverged","pairs":
        [{"file":"a.png","id":3,"caption":"a man"}]}"#;
    fs::write(folder.path().join("diverged.json"), diverged).unwrap();
    training::write(folder.path()).unwrap();
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("diverged: at step 1, with a learning rate of 0.5"), "{page}");
    assert!(!page.contains("Nothing stands out"));
}

#[test]
fn the_page_of_a_run_has_its_curves_and_findings() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("first-run");
    fs::create_dir(&run).unwrap();
    let error = training::write(&run).unwrap_err();
    assert!(error.to_string().contains("log.csv: has no steps"), "{error}");
    let error_of = training::write(&folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(error_of.contains("is no folder that is there"), "{error_of}");
    for text in ["", LOG] {
        fs::write(run.join("log.csv"), text).unwrap();
        let other = training::write(&run).unwrap_err();
        assert_eq!((other.to_string(), other.kind()), (error.to_string(), error.kind()));
    }
    fs::write(run.join("log.csv"), log(900, |step| 9.0 / f64::from(step), |_| 1.0)).unwrap();
    let trainer = || Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    // Before the first validation.
    assert!(trainer().arg("report").arg(&run).status().unwrap().success());
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("Training first-run") && !page.contains("Validation: R@1"));
    let ranks = [10.0, 20.0, 30.0, 28.0, 27.0, 26.0, 25.0];
    fs::write(run.join("validation.csv"), validation(&ranks, true)).unwrap();
    let output = trainer().arg("report").arg(&run).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("report.html"));
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Over-fitting", "Validation: R@1", "30.00 % at step 300", "7.5", "Learning rate"] {
        assert!(page.contains(part), "{part} is not on the page");
    }
    assert_eq!(page.matches("<svg").count(), 5);
    assert_eq!(fs::read_dir(&run).unwrap().count(), 3, "nothing else is left in the folder");
    fs::write(run.join("validation.csv"), "rubbish\n").unwrap();
    assert_eq!(trainer().arg("report").arg(&run).status().unwrap().code(), Some(3));
}
