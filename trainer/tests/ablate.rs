//! Ablation with trainings that take no time: what is done, kept, repeated and shown.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use spotter_models::Digest;
use spotter_trainer::{
    Error,
    ablate::{Child, Finished, Job, Plan, Stop, Summary, Table, run},
    evaluate::{Counts, DataRecord, Intervals, ModelRecord, Part, Ranking, Report},
};
use tempfile::TempDir;

const PLAN: &str = r#"
title = "Prompts and data"
seeds = [1, 2]
recipe = { base = "base", model = { prompts = 4, coupling = "both" } }
[[evaluate]]
name = "val"
data = "data"
split = "val"
[[evaluate]]
name = "few"
data = "data"
split = "test"
distinct = true
ids = "1-100"
[[row]]
name = "cskt"
[[row]]
name = "cskt-8"
recipe = { model = { prompts = 8 } }
[[row]]
name = "half"
recipe = { fraction = 0.5 }
seeds = [1]
"#;

fn plan(text: &str) -> Plan {
    Plan::parse(Path::new("plan.toml"), text).unwrap()
}

fn report(r1: f64) -> Report {
    let around = [r1 - 5.0, r1 + 5.0];
    Report {
        metrics: Ranking { r1, r5: r1 + 10.0, r10: r1 + 20.0, map: r1 - 1.0, minp: r1 - 2.0 },
        intervals: Some(Intervals {
            r1: around,
            r5: around,
            r10: around,
            map: around,
            minp: around,
        }),
        open_set: None,
        chance: 1.0,
        counts: Counts { queries: 10, pictures: 5, identities: 2, ..Counts::default() },
        data: DataRecord {
            name: "data".into(),
            fingerprint: Digest::of(b"data"),
            split: Part::Val,
            distinct: false,
            ids: None,
        },
        model: ModelRecord {
            kind: "run".into(),
            name: "tiny".into(),
            identity: "0".into(),
            precision: "f32".into(),
            engine: "libtorch".into(),
            input: [48, 16],
            trained_parameters: None,
        },
        notes: Vec::new(),
    }
}

/// A training in no time, whose R@1 is known: ten times the prompts, plus the seed.
fn quick(job: &Job) -> Finished {
    let prompts = job.setting("prompts").unwrap().as_integer().unwrap();
    let r1 = 10.0 * prompts as f64 / 2.0 + f64::from(job.seed);
    Finished {
        trained_parameters: 1000 * prompts as u64,
        minutes: 1.5,
        steps: 200,
        peak_memory_mib: 321.0,
        reports: job.sets.iter().map(|_| report(r1)).collect(),
    }
}

/// Runs a plan and says which jobs were trained.
fn carry_out(text: &str, out: &Path) -> (Summary, Vec<String>) {
    let mut trained = Vec::new();
    let mut train = |job: &Job, folder: &Path| {
        assert!(folder.is_dir() && folder.starts_with(out));
        trained.push(job.title());
        Ok(Some(quick(job)))
    };
    let summary = run(&plan(text), out, &Stop::default(), &mut train, &mut |_| ()).unwrap();
    (summary, trained)
}

#[test]
fn a_row_changes_what_it_names_and_the_same_settings_have_the_same_hash() {
    let jobs = plan(PLAN).jobs().unwrap();
    let titles: Vec<String> = jobs.iter().map(Job::title).collect();
    let expected =
        ["cskt (seed 1)", "cskt (seed 2)", "cskt-8 (seed 1)", "cskt-8 (seed 2)", "half (seed 1)"];
    assert_eq!(titles, expected);
    let eight = &jobs[2];
    assert_eq!(eight.setting("prompts").unwrap().as_integer(), Some(8));
    assert_eq!(eight.setting("coupling").unwrap().as_str(), Some("both"), "the rest stays");
    assert_eq!(eight.setting("seed").unwrap().as_integer(), Some(1));
    assert_eq!(eight.all_but("prompts"), jobs[0].all_but("prompts"));
    assert_ne!(eight.all_but("coupling"), jobs[0].all_but("coupling"));
    let hashes: Vec<&str> = jobs.iter().map(|job| job.settings.as_str()).collect();
    for (n, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..n].contains(hash), "{hash} twice");
    }
    let turned =
        PLAN.replace(r#"prompts = 4, coupling = "both""#, r#"coupling = "both", prompts = 4"#);
    assert_eq!(plan(&turned).jobs().unwrap()[0].settings, jobs[0].settings);
    for (from, to) in
        [("prompts = 4", "prompts = 5"), ("1-100", "1-99"), (r#""base""#, r#""other""#)]
    {
        assert_ne!(plan(&PLAN.replace(from, to)).jobs().unwrap()[0].settings, jobs[0].settings);
    }
    // A name is no setting.
    let renamed = PLAN.replace(r#"name = "cskt""#, r#"name = "paper""#);
    assert_eq!(plan(&renamed).jobs().unwrap()[0].settings, jobs[0].settings);
}

#[test]
fn a_plan_that_cannot_be_is_refused_with_the_reason() {
    for (text, word) in [
        ("", "rows"),
        ("[[row]]\nname = \"a\"", "[[evaluate]]"),
        ("rows = 3", "rows"),
        ("[[row]]\nname = 3", "row[0].name"),
        (&PLAN.replace("seeds = [1, 2]", "seeds = []"), "seed"),
        (&PLAN.replace("cskt-8", "cskt"), "two rows `cskt`"),
        (&PLAN.replace("cskt-8", "../x"), "no name"),
        (&PLAN.replace("cskt-8", "a b"), "no name"),
        (&PLAN.replace(r#"name = "few""#, r#"name = "val""#), "two evaluation sets `val`"),
        (&PLAN.replace("[1, 2]", "[1, 1]"), "two trainings `cskt (seed 1)`"),
        (&PLAN.replace("1-100", "x"), "x"),
        (&PLAN.replace("split = \"val\"", "split = \"dev\""), "dev"),
    ] {
        let error = Plan::parse(Path::new("plan.toml"), text).unwrap_err().to_string();
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn what_the_table_has_is_not_done_again() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let (summary, trained) = carry_out(PLAN, &out);
    assert_eq!((summary.done, summary.kept, trained.len()), (5, 0, 5));
    let text = fs::read_to_string(out.join("table.csv")).unwrap();
    assert_eq!(text.lines().count(), 1 + 5 * 2, "a line for each training and set");
    let (summary, trained) = carry_out(PLAN, &out);
    assert_eq!((summary.done, summary.kept, trained.len()), (0, 5, 0));
    assert_eq!(fs::read_to_string(out.join("table.csv")).unwrap(), text);
    let more =
        format!("{PLAN}[[row]]\nname = \"sixteen\"\nseeds = [3]\nrecipe.model.prompts = 16\n");
    let (summary, trained) = carry_out(&more, &out);
    assert_eq!((summary.kept, trained), (5, vec!["sixteen (seed 3)".to_owned()]));
    // Killed while it wrote: the line that is not whole, and so its training, is done again.
    let text = fs::read_to_string(out.join("table.csv")).unwrap();
    fs::write(out.join("table.csv"), &text[..text.len() - 10]).unwrap();
    let (_, trained) = carry_out(&more, &out);
    assert_eq!(trained, ["sixteen (seed 3)"]);
    let table = Table::open(&out).unwrap();
    let job = plan(&more).jobs().unwrap().pop().unwrap();
    let line = table.line(&job, "few").unwrap();
    for (column, value) in [
        ("row", "sixteen"),
        ("seed", "3"),
        ("R@1", "83.000"),
        ("R@1_low", "78.000"),
        ("R@1_high", "88.000"),
        ("mAP", "82.000"),
        ("trained_parameters", "16000"),
        ("minutes", "1.50"),
        ("steps", "200"),
        ("peak_memory_mib", "321"),
        ("prompts", "16"),
        ("coupling", "both"),
        ("fraction", ""),
        ("queries", "10"),
    ] {
        assert_eq!(line.text(column), value, "{column}");
    }
    fs::write(out.join("table.csv"), "a,b\n1,2\n").unwrap();
    assert!(Table::open(&out).unwrap_err().to_string().contains("other columns"));
}

#[test]
fn a_training_that_goes_wrong_does_not_stop_the_others_and_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let mut calls = 0;
    let mut train = |job: &Job, _: &Path| {
        calls += 1;
        match job.row.as_str() {
            "cskt-8" => Err(Error::invalid("memory", "ran out")),
            _ => Ok(Some(quick(job))),
        }
    };
    let mut said = Vec::new();
    let mut say = |line: &str| said.push(line.to_owned());
    let summary = run(&plan(PLAN), folder.path(), &Stop::default(), &mut train, &mut say).unwrap();
    assert_eq!((calls, summary.done, summary.failed.len()), (5, 3, 2));
    assert!(summary.failed[0].1.contains("ran out") && !summary.stopped);
    assert!(said.iter().any(|line| line.contains("cskt-8") && line.contains("ran out")));
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("Not done: cskt-8 (seed 1), cskt-8 (seed 2)."));
    assert_eq!(carry_out(PLAN, folder.path()).1, ["cskt-8 (seed 1)", "cskt-8 (seed 2)"]);
}

#[test]
fn stopping_between_or_within_trainings_keeps_what_is_done() {
    let folder = TempDir::new().unwrap();
    let stop = Stop::default();
    let mut train = |job: &Job, _: &Path| {
        // Asked during the second: it still ends by itself.
        if job.title() == "cskt (seed 2)" {
            stop.ask();
        }
        Ok(Some(quick(job)))
    };
    let summary = run(&plan(PLAN), folder.path(), &stop, &mut train, &mut |_| ()).unwrap();
    assert_eq!((summary.done, summary.stopped), (2, true));
    // Broken off within the third.
    let mut train = |_: &Job, _: &Path| Ok(None);
    let summary =
        run(&plan(PLAN), folder.path(), &Stop::default(), &mut train, &mut |_| ()).unwrap();
    assert_eq!((summary.kept, summary.done, summary.stopped), (2, 0, true));
    assert_eq!(carry_out(PLAN, folder.path()).0.done, 3);
}

#[test]
fn two_ablations_never_work_in_one_folder() {
    let folder = TempDir::new().unwrap();
    let second = RefCell::new(String::new());
    let mut train = |job: &Job, _: &Path| {
        let mut nothing = |_: &Job, _: &Path| panic!("the second began");
        let error = run(&plan(PLAN), folder.path(), &Stop::default(), &mut nothing, &mut |_| ());
        *second.borrow_mut() = error.unwrap_err().to_string();
        Ok(Some(quick(job)))
    };
    run(&plan(PLAN), folder.path(), &Stop::default(), &mut train, &mut |_| ()).unwrap();
    assert!(second.borrow().contains("another ablation"), "{}", second.borrow());
}

#[test]
fn the_page_compares_rows_over_their_seeds() {
    let folder = TempDir::new().unwrap();
    carry_out(PLAN, folder.path());
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    for part in [
        "Prompts and data",
        "Judged by val",
        "Judged by few",
        "cskt-8",
        // Means of seeds 1 and 2, from the lower to the higher.
        "21.50 (21.0 – 22.0)",
        "41.50 (41.0 – 42.0)",
        // One seed: the interval over identities.
        "21.00 (16.0 – 26.0)",
        "R@1 over trained parameters",
        "R@1 over prompts",
    ] {
        assert!(page.contains(part), "{part} is not on the page");
    }
    // `half` alone has a share of the data: nothing to compare it with.
    assert!(!page.contains("R@1 over share of the identities"));
    let shares = PLAN.replace("recipe = { base", "recipe = { fraction = 1.0, base");
    let other = TempDir::new().unwrap();
    carry_out(&shares, other.path());
    let page = fs::read_to_string(other.path().join("report.html")).unwrap();
    assert!(page.contains("R@1 over share of the identities"));
}

/// A program in place of `spotter-trainer`, which writes down how it was called.
fn program(folder: &Path, train: &str) -> PathBuf {
    let report = folder.join("report.json");
    fs::write(&report, serde_json::to_vec(&report_of_child()).unwrap()).unwrap();
    let path = folder.join("program");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >> '{0}/calls'\nif [ \"$1\" = train ]; then\n{train}\nelse\n\
         cat '{1}'\nfi\n",
        folder.display(),
        report.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn report_of_child() -> Report {
    report(42.0)
}

const TRAINS: &str = "mkdir -p \"$4\"\nprintf 'step,seconds\\n10,60\\n20,120\\n' > \"$4/log.csv\"\n\
    printf '{\"trained_parameters\": 77, \"more\": 1}' > \"$4/run.json\"";

#[test]
fn a_job_in_processes_of_its_own_is_trained_and_judged() {
    let folder = TempDir::new().unwrap();
    let child = Child::new(program(folder.path(), TRAINS), Stop::default());
    let job = plan(PLAN).jobs().unwrap().remove(1);
    let finished = child.carry_out(&job, folder.path()).unwrap().unwrap();
    assert_eq!((finished.trained_parameters, finished.steps, finished.minutes), (77, 20, 2.0));
    assert_eq!(finished.reports, [report_of_child(), report_of_child()]);
    assert!(finished.peak_memory_mib > 0.0);
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let run = folder.path().join("run");
    let expected = [
        format!("train {} --out {}", folder.path().join("recipe.toml").display(), run.display()),
        format!("evaluate --run {} --json --data data --split val", run.display()),
        format!(
            "evaluate --run {} --json --data data --split test --distinct --ids 1-100",
            run.display()
        ),
    ];
    assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
    let recipe = fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
    assert_eq!(recipe.parse::<toml::Table>().unwrap(), job.recipe);
}

#[test]
fn zero_shot_judges_the_base_and_trains_nothing() {
    let folder = TempDir::new().unwrap();
    let child = Child::new(program(folder.path(), "exit 9"), Stop::default());
    let text =
        format!("{PLAN}[[row]]\nname = \"none\"\nseeds = [1]\nrecipe.method = \"zero-shot\"\n");
    let job = plan(&text).jobs().unwrap().pop().unwrap();
    let finished = child.carry_out(&job, folder.path()).unwrap().unwrap();
    assert_eq!((finished.trained_parameters, finished.steps, finished.reports.len()), (0, 0, 2));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    assert!(calls.starts_with("evaluate --base base --json"), "{calls}");
}

#[test]
fn a_process_that_fails_is_quoted_and_one_that_is_stopped_is_asked_once() {
    let folder = TempDir::new().unwrap();
    let job = plan(PLAN).jobs().unwrap().remove(0);
    let child = Child::new(program(folder.path(), "echo no memory >&2\nexit 3"), Stop::default());
    let error = child.carry_out(&job, folder.path()).unwrap_err().to_string();
    assert!(error.contains("no memory") && error.contains('3'), "{error}");
    // It saves what it has when it is interrupted.
    let saves = "trap 'echo saved >> saved; exit 1' INT\ntouch began\nwhile :; do sleep 0.05; done";
    let saves = saves.replace("saved;", &format!("'\\''{}/saved'\\'';", folder.path().display()));
    let saves = saves.replace("touch began", &format!("touch '{}/began'", folder.path().display()));
    let stop = Stop::default();
    let child = Child::new(program(folder.path(), &saves), stop.clone());
    let finished = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| child.carry_out(&job, folder.path()));
        while !folder.path().join("began").exists() {
            assert!(!waiting.is_finished(), "it ended without having begun");
            std::thread::yield_now();
        }
        stop.ask();
        waiting.join().unwrap()
    });
    assert_eq!(finished.unwrap(), None);
    assert_eq!(fs::read_to_string(folder.path().join("saved")).unwrap(), "saved\n");
}
