//! Ablation with trainings that take no time: what is done, kept, repeated and shown.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use spotter_models::{
    Digest,
    towers::{Config, random},
};
use spotter_trainer::{
    Error,
    ablate::{Child, Finished, Job, Plan, Stop, Summary, Table, run},
    base::{Base, Origin},
    evaluate::{Counts, DataRecord, Intervals, ModelRecord, Part, Ranking, Report},
    recipe::Recipe,
};
use tempfile::TempDir;

const PLAN: &str = r#"
title = "Prompts and data"
seeds = [1, 2]
base = "bases/small"
data = "persons"
[machine]
threads = 2
[recipe]
schedule.epochs = 9
prompts = { total = 8, coupling = "both" }
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
name = "cskt-16"
recipe.prompts.total = 16
[[row]]
name = "half"
recipe.data.share = 0.5
seeds = [1]
"#;

/// For trainings that read nothing.
const ANY: fn(&[&Job]) -> spotter_trainer::Result<()> = |_| Ok(());

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

/// A training in no time, whose R@1 is known.
fn quick(job: &Job) -> Finished {
    let prompts = job.recipe.prompts.total;
    let r1 = 2.5 * prompts as f64 + f64::from(job.seed);
    Finished {
        trained_parameters: 500 * prompts as u64,
        minutes: 1.5,
        steps: 200,
        out_of_time: job.minutes.is_some(),
        // Differs by seed, as real ones do.
        peak_memory_mib: Some(1230.0 + 1000.0 * f64::from(job.seed)),
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
    let summary = run(&plan(text), out, &Stop::default(), &ANY, &mut train, &mut |_| ()).unwrap();
    (summary, trained)
}

#[test]
fn a_row_changes_what_it_names_and_the_same_settings_have_the_same_hash() {
    let jobs = plan(PLAN).jobs().unwrap();
    let titles: Vec<String> = jobs.iter().map(Job::title).collect();
    let expected =
        ["cskt (seed 1)", "cskt (seed 2)", "cskt-16 (seed 1)", "cskt-16 (seed 2)", "half (seed 1)"];
    assert_eq!(titles, expected);
    let sixteen = &jobs[2];
    assert_eq!(sixteen.setting("prompts.total").unwrap().as_integer(), Some(16));
    assert_eq!(
        sixteen.setting("prompts.coupling").unwrap().as_str(),
        Some("both"),
        "the rest stays"
    );
    assert_eq!(sixteen.setting("loss.kind").unwrap().as_str(), Some("sdm"), "a default");
    assert_eq!((sixteen.setting("prompts.depth"), sixteen.setting("a.b")), (None, None));
    assert_eq!((sixteen.recipe.seed, sixteen.recipe.schedule.epochs), (1, 9.0));
    assert_eq!(sixteen.all_but("prompts.total"), jobs[0].all_but("prompts.total"));
    assert_ne!(sixteen.all_but("prompts.coupling"), jobs[0].all_but("prompts.coupling"));
    let hashes: Vec<&str> = jobs.iter().map(|job| job.settings.as_str()).collect();
    for (n, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..n].contains(hash), "{hash} twice");
    }
    let first = |text: &str| plan(text).jobs().unwrap()[0].settings.clone();
    for (from, to) in [
        (r#"total = 8, coupling = "both""#, r#"coupling = "both", total = 8"#),
        ("schedule.epochs = 9", "schedule.epochs = 9\nloss.kind = \"sdm\""),
        ("threads = 2", "threads = 1"),
    ] {
        assert_eq!(first(&PLAN.replace(from, to)), jobs[0].settings, "{to}");
    }
    for (from, to) in [
        ("total = 8", "total = 10"),
        ("1-100", "1-99"),
        ("bases/small", "bases/large"),
        ("\"persons\"", "\"others\""),
    ] {
        assert_ne!(first(&PLAN.replace(from, to)), jobs[0].settings, "{to}");
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
        (&PLAN.replace("cskt-16", "cskt"), "two rows `cskt`"),
        (&PLAN.replace("cskt-16", "../x"), "no name"),
        (&PLAN.replace("cskt-16", "a b"), "no name"),
        (&PLAN.replace(r#"name = "few""#, r#"name = "val""#), "two evaluation sets `val`"),
        (&PLAN.replace("[1, 2]", "[1, 1]"), "two trainings `cskt (seed 1)`"),
        (&PLAN.replace("1-100", "x"), "x"),
        (&PLAN.replace("total = 8", "total = 7"), "prompts.total"),
        (&PLAN.replace("schedule.epochs", "schedule.epoch"), "epoch"),
        (&PLAN.replace("base = ", "bases = "), "bases"),
        (&PLAN.replace("base = \"bases/small\"", ""), "base model"),
        (&PLAN.replace("data = \"persons\"", ""), "learn from"),
        (&PLAN.replace("split = \"val\"", "split = \"dev\""), "dev"),
        (&PLAN.replace("seeds = [1, 2]", "minutes = 0"), "minutes must be above 0"),
        (&PLAN.replace("seeds = [1]", "minutes = nan"), "row `half`: minutes"),
        (&PLAN.replace("seeds = [1]", "minutes = 2e6"), "up to 1000000"),
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
        format!("{PLAN}[[row]]\nname = \"sixteen\"\nseeds = [3]\nrecipe.prompts.total = 32\n");
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
        ("peak_memory_mib", "4230"),
        ("prompts.total", "32"),
        ("prompts.coupling", "both"),
        ("method", "cskt"),
        ("data.share", ""),
        ("queries", "10"),
    ] {
        assert_eq!(line.text(column), value, "{column}");
    }
    fs::write(out.join("table.csv"), "a,b\n1,2\n").unwrap();
    assert!(Table::open(&out).unwrap_err().to_string().contains("other columns"));
}

#[test]
fn minutes_are_a_setting_that_the_table_and_the_page_tell() {
    let folder = TempDir::new().unwrap();
    let hashes = |text: &str| -> Vec<String> {
        plan(text).jobs().unwrap().into_iter().map(|job| job.settings).collect()
    };
    let minutes = PLAN.replace("seeds = [1, 2]", "seeds = [1, 2]\nminutes = 50");
    let own = minutes.replace("recipe.data.share = 0.5", "recipe.data.share = 0.5\nminutes = 2.5");
    let given = |text: &str| -> Vec<Option<f64>> {
        plan(text).jobs().unwrap().iter().map(|job| job.minutes).collect()
    };
    assert_eq!(given(PLAN), [None; 5]);
    assert_eq!(given(&own), [50.0, 50.0, 50.0, 50.0, 2.5].map(Some));
    assert!(hashes(PLAN).iter().zip(hashes(&minutes)).all(|(a, b)| *a != b));
    assert_eq!(hashes(&minutes)[..4], hashes(&own)[..4]);
    carry_out(PLAN, folder.path());
    let before = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(!before.contains("Ended by their minutes"), "{before}");
    let (summary, trained) = carry_out(&own, folder.path());
    assert_eq!((summary.done, trained.len()), (5, 5), "other settings");
    let table = Table::open(folder.path()).unwrap();
    let (with, without) = (plan(&own).jobs().unwrap(), plan(PLAN).jobs().unwrap());
    let text = |job: &Job, column: &str| table.line(job, "val").unwrap().text(column).to_owned();
    let columns = ["minutes", "minutes_limit", "out_of_time"];
    assert_eq!(columns.map(|column| text(&with[4], column)), ["1.50", "2.5", "yes"]);
    assert_eq!(columns.map(|column| text(&without[4], column)), ["1.50", "", "no"]);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(
        page.contains("cskt (50 minutes), cskt-16 (50 minutes), half (2.5 minutes)."),
        "{page}"
    );
}

#[test]
fn a_table_of_an_earlier_version_is_gone_on_with() {
    let folder = TempDir::new().unwrap();
    carry_out(PLAN, folder.path());
    let path = folder.path().join("table.csv");
    let now = fs::read_to_string(&path).unwrap();
    // Without the two columns after `minutes`, which is the sixth.
    let earlier: String = now
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split(',').collect();
            fields.drain(6..8);
            fields.join(",") + "\n"
        })
        .collect();
    assert!(!earlier.contains("out_of_time"));
    fs::write(&path, format!("{earlier}cut,")).unwrap();
    let (summary, _) = carry_out(PLAN, folder.path());
    assert_eq!((summary.kept, summary.done), (5, 0));
    let after = fs::read_to_string(&path).unwrap();
    assert_eq!(
        after,
        now.replace(",1.50,,no,200,", ",1.50,,,200,"),
        "the same, but for what it lacked"
    );
}

#[test]
fn a_training_that_goes_wrong_does_not_stop_the_others_and_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let mut calls = 0;
    let mut train = |job: &Job, _: &Path| {
        calls += 1;
        match job.row.as_str() {
            "cskt-16" => Err(Error::invalid("memory", "ran out")),
            _ => Ok(Some(quick(job))),
        }
    };
    let mut said = Vec::new();
    let mut say = |line: &str| said.push(line.to_owned());
    let summary =
        run(&plan(PLAN), folder.path(), &Stop::default(), &ANY, &mut train, &mut say).unwrap();
    assert_eq!((calls, summary.done, summary.failed.len()), (5, 3, 2));
    assert!(summary.failed[0].1.contains("ran out") && !summary.stopped);
    assert!(said.iter().any(|line| line.contains("cskt-16") && line.contains("ran out")));
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("Not done: cskt-16 (seed 1), cskt-16 (seed 2)."));
    assert_eq!(carry_out(PLAN, folder.path()).1, ["cskt-16 (seed 1)", "cskt-16 (seed 2)"]);
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
    let summary = run(&plan(PLAN), folder.path(), &stop, &ANY, &mut train, &mut |_| ()).unwrap();
    assert_eq!((summary.done, summary.stopped), (2, true));
    // Broken off within the third.
    let mut train = |_: &Job, _: &Path| Ok(None);
    let summary =
        run(&plan(PLAN), folder.path(), &Stop::default(), &ANY, &mut train, &mut |_| ()).unwrap();
    assert_eq!((summary.kept, summary.done, summary.stopped), (2, 0, true));
    assert_eq!(carry_out(PLAN, folder.path()).0.done, 3);
}

#[test]
fn two_ablations_never_work_in_one_folder() {
    let folder = TempDir::new().unwrap();
    let second = RefCell::new(String::new());
    let mut train = |job: &Job, _: &Path| {
        let mut nothing = |_: &Job, _: &Path| panic!("the second began");
        let error =
            run(&plan(PLAN), folder.path(), &Stop::default(), &ANY, &mut nothing, &mut |_| ());
        *second.borrow_mut() = error.unwrap_err().to_string();
        Ok(Some(quick(job)))
    };
    run(&plan(PLAN), folder.path(), &Stop::default(), &ANY, &mut train, &mut |_| ()).unwrap();
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
        "cskt-16",
        // Means of seeds 1 and 2, from the lower to the higher.
        "21.50 (21.0 – 22.0)",
        "41.50 (41.0 – 42.0)",
        // One seed: the interval over identities.
        "21.00 (16.0 – 26.0)",
        // The most of two seeds, to the MiB.
        "<td>3230</td>",
        "R@1 over trained parameters",
        "R@1 over prompts in a block",
        // `half` against `cskt`, which names no share and has all.
        "R@1 over share of the identities",
    ] {
        assert!(page.contains(part), "{part} is not on the page");
    }
    // A method without prompts varies nothing by them, and is no point of that curve.
    let other = TempDir::new().unwrap();
    carry_out(&PLAN.replace("[recipe]", "[recipe]\nmethod = \"dat\""), other.path());
    let page = fs::read_to_string(other.path().join("report.html")).unwrap();
    assert!(
        !page.contains("R@1 over prompts") && page.contains("R@1 over share of the identities")
    );
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

/// What a finished training leaves behind.
const TRAINS: &str = "mkdir -p \"$4\"\nprintf '{\"steps\": 20, \"kept\": 10, \"r1\": null, \
    \"seconds\": 120.0, \"trained\": 77, \"total\": 100, \"peak_memory_mib\": 55.5}' > \"$4/result.json\"";

fn child(folder: &Path, train: &str, stop: &Stop) -> Child {
    Child::new(program(folder, train), plan(PLAN).machine, stop.clone())
}

#[test]
fn a_job_in_processes_of_its_own_is_trained_and_judged() {
    let folder = TempDir::new().unwrap();
    let job = plan(&format!("minutes = 50\n{PLAN}")).jobs().unwrap().remove(1);
    let child = child(folder.path(), TRAINS, &Stop::default());
    let finished = child.carry_out(&job, folder.path()).unwrap().unwrap();
    assert_eq!((finished.trained_parameters, finished.steps, finished.minutes), (77, 20, 2.0));
    assert_eq!(finished.reports, [report_of_child(), report_of_child()]);
    assert_eq!(finished.peak_memory_mib, Some(55.5));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let (run, recipe) = (folder.path().join("run"), folder.path().join("recipe.toml"));
    let (run, recipe) = (run.display(), recipe.display());
    let expected = [
        format!(
            "train {recipe} --out {run} --data persons --base bases/small --minutes 50 --threads 2"
        ),
        format!("evaluate --run {run} --json --data data --split val"),
        format!("evaluate --run {run} --json --data data --split test --distinct --ids 1-100"),
    ];
    assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
    assert_eq!(Recipe::read(&folder.path().join("recipe.toml")).unwrap(), job.recipe);
}

#[test]
fn a_process_that_fails_is_quoted_and_one_that_is_stopped_is_asked_once() {
    let folder = TempDir::new().unwrap();
    let job = plan(PLAN).jobs().unwrap().remove(0);
    let failing = child(folder.path(), "echo no memory >&2\nexit 3", &Stop::default());
    let error = failing.carry_out(&job, folder.path()).unwrap_err().to_string();
    assert!(error.contains("no memory") && error.contains('3'), "{error}");
    let stopped = child(folder.path(), "exit 143", &Stop::default());
    assert_eq!(stopped.carry_out(&job, folder.path()).unwrap(), None);
    // It saves what it has when it is interrupted.
    let saves = "trap 'echo saved >> saved; exit 1' INT\ntouch began\nwhile :; do sleep 0.05; done";
    let saves = saves.replace("saved;", &format!("'\\''{}/saved'\\'';", folder.path().display()));
    let saves = saves.replace("touch began", &format!("touch '{}/began'", folder.path().display()));
    let stop = Stop::default();
    let child = child(folder.path(), &saves, &stop);
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

/// Two persons to learn from and two to be judged by, and a base of random weights.
fn small_world(folder: &Path) {
    fs::create_dir_all(folder.join("data/imgs")).unwrap();
    let mut list = Vec::new();
    for (person, colour) in ["red", "green", "blue", "white"].into_iter().enumerate() {
        for view in 0..3u8 {
            let file = format!("{person}_{view}.png");
            let grey = 60 * person as u8 + 10 * view;
            let picture = image::RgbImage::from_pixel(20, 50, image::Rgb([grey, 90, 255 - grey]));
            picture.save(folder.join("data/imgs").join(&file)).unwrap();
            list.push(serde_json::json!({
                "split": if person < 2 { "train" } else { "val" },
                "id": person,
                "file_path": file,
                "captions": [format!("a person in {colour}"), format!("{colour}, view {view}")],
            }));
        }
    }
    fs::write(folder.join("data/captions.json"), serde_json::to_vec(&list).unwrap()).unwrap();
    let config = Config {
        vision_width: 32,
        vision_layers: 2,
        vision_heads: 2,
        patch: 16,
        height: 48,
        width: 16,
        text_width: 32,
        text_layers: 2,
        text_heads: 2,
        embed: 16,
        prompts: 0,
        vision_bottleneck: 0,
        text_bottleneck: 0,
        ..Config::vit_b16()
    };
    let origin = Origin {
        name: "random".into(),
        layout: "spotter-trainer".into(),
        source_sha256: None,
        licence: "CC0-1.0".into(),
        data: "none".into(),
        intended_use: "tests".into(),
    };
    Base::write(&folder.join("base"), &random(&config, 1).unwrap(), &config, &origin).unwrap();
    fs::write(folder.join("plan.toml"), SMALL_PLAN).unwrap();
}

const SMALL_PLAN: &str = r#"
base = "base"
data = "data"
[machine]
threads = 1
[recipe]
schedule = { epochs = 2, warmup_epochs = 0 }
batch.size = 4
[[evaluate]]
name = "val"
data = "data"
split = "val"
[[row]]
name = "zero-shot"
recipe.method = "zero-shot"
[[row]]
name = "cskt"
"#;

#[test]
fn the_command_trains_and_judges_for_real_and_does_nothing_twice() {
    let folder = TempDir::new().unwrap();
    small_world(folder.path());
    let ablate = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.args(["ablate", "plan.toml", "--out", "out"]).current_dir(folder.path());
        command.output().unwrap()
    };
    let output = ablate();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let table = Table::open(&folder.path().join("out")).unwrap();
    let jobs = plan(SMALL_PLAN).jobs().unwrap();
    let number = |job: &Job, column: &str| table.line(job, "val").unwrap().number(column).unwrap();
    assert_eq!([0, 1].map(|job| number(&jobs[job], "queries")), [12.0, 12.0]);
    assert_eq!(said.matches(": starts").count(), 2, "{said}");
    // Twelve pairs of caption and picture make three steps an epoch.
    assert_eq!([0, 1].map(|job| number(&jobs[job], "steps")), [0.0, 6.0]);
    assert_eq!(number(&jobs[0], "trained_parameters"), 0.0);
    assert!(number(&jobs[1], "trained_parameters") > 1000.0);
    assert!([0, 1].iter().all(|job| number(&jobs[*job], "peak_memory_mib") > 1.0));
    let before = fs::read_to_string(folder.path().join("out/table.csv")).unwrap();
    let output = ablate();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("0 done now, 2 done before"));
    assert_eq!(fs::read_to_string(folder.path().join("out/table.csv")).unwrap(), before);
    fs::write(folder.path().join("plan.toml"), SMALL_PLAN.replace("\"data\"", "\"nowhere\""))
        .unwrap();
    let output = ablate();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("nowhere").count(), 1, "told once, though two rows need it: {said}");
    assert!(!said.contains("starts"), "{said}");
    // A row that is done needs nothing any more: the second alone is looked at, its base and both sets.
    let more = SMALL_PLAN.replace(
        "name = \"cskt\"",
        "name = \"bpt\"\nrecipe.method = \"bpt\"\n\
        base = \"lost\"\ndata = \"gone\"",
    );
    fs::write(folder.path().join("plan.toml"), more).unwrap();
    let output = ablate();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("lost/config.json"), "{said}");
    assert!(said.contains("gone: is no folder") && !said.contains("starts"), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("out/table.csv")).unwrap(), before);
    fs::write(folder.path().join("plan.toml"), "rows = 1").unwrap();
    assert_eq!(ablate().status.code(), Some(2));
}
