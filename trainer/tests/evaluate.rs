//! Judging: figures with known answers, and one model through both of its engines.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{fs, path::Path, process::Command};

use spotter_models::{
    Rgb,
    bundle::{Bundle, Draft, write},
    manifest::{Licence, Lineage},
    preprocess::Preprocess,
    probe::{Inputs, Probe},
    session::{Precision, Runtime, SessionOptions},
    tokenize::{TextInput, VOCABULARY_SIZE},
    towers::{Config, Weights, random},
};
use spotter_trainer::{
    Error, Result,
    base::{Base, Origin},
    dataset::Dataset,
    evaluate::{
        BundleEmbedder, Choice, Embedder, Ids, Judged, ModelRecord, NetEmbedder, Part, Ranking,
        bootstrap::intervals,
        embed::{images, texts},
        evaluate, judge,
        openset::{absent, open_set},
        page,
    },
    net::{Net, Parameters},
};
use tch::Device;
use tempfile::TempDir;

fn judged(person: i64, first: usize) -> Judged {
    let (right, wrong) = if first == 1 { (0.5, 0.3) } else { (0.2, 0.3) };
    let share = 1.0 / first as f64;
    Judged { person, first, precision: share, penalty: share, chance: 0.1, right, wrong }
}

#[test]
fn a_query_is_judged_as_by_hand() {
    let (row, gallery) = ([0.9, 0.8, 0.7, 0.6], [1, 2, 1, 3]);
    let one = Judged::new(&row, 1, &gallery).unwrap();
    // Right at ranks 1 and 3.
    assert_eq!((one.first, one.right, one.wrong, one.chance), (1, 0.9, 0.8, 0.5));
    assert!((one.precision - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    assert!((one.penalty - 2.0 / 3.0).abs() < 1e-12);
    let last = Judged::new(&row, 3, &gallery).unwrap();
    assert_eq!((last.first, last.precision, last.penalty), (4, 0.25, 0.25));
    assert_eq!(last.shares()[..3], [0.0, 1.0, 1.0]);
    assert_eq!(Judged::new(&row, 4, &gallery), None);
    // Of equal scores the earlier picture is before the later one.
    assert_eq!(Judged::new(&[0.5, 0.5], 2, &[1, 2]).unwrap().first, 2);
    assert_eq!(Judged::new(&[0.5], 1, &[1]).unwrap().wrong, f32::NEG_INFINITY);
}

#[test]
fn every_pair_has_its_place_in_the_histogram() {
    let texts = [vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 0.0]];
    let pictures = [vec![1.0, 0.0], vec![0.6, 0.8]];
    let scored = judge(&texts, &[1, 2, 9], &pictures, &[1, 2]).unwrap();
    assert_eq!(scored.queries.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(Ranking::of(&scored.judged()).unwrap().r1, 100.0);
    assert_eq!(scored.histogram.right.iter().sum::<u64>(), 2);
    assert_eq!(scored.histogram.wrong.iter().sum::<u64>(), 4);
    assert_eq!(scored.histogram.right.last(), Some(&1), "a cosine of 1 is in the last bin");
    let nan = [vec![f32::NAN, 0.0]];
    assert!(judge(&nan, &[1], &pictures, &[1, 2]).unwrap_err().to_string().contains("NaN"));
    assert!(judge(&texts, &[1, 2], &pictures, &[1, 2]).is_err());
    assert!(judge(&texts, &[7, 8, 9], &pictures, &[1, 2]).is_err(), "nobody can be found");
}

#[test]
fn an_interval_is_a_point_where_nothing_varies_and_narrows_with_identities() {
    let right: Vec<Judged> = (0..20).map(|person| judged(person, 1)).collect();
    let all = intervals(&right, 200, 1).unwrap();
    for ends in [all.r1, all.r5, all.r10, all.map, all.minp] {
        assert_eq!(ends, [100.0, 100.0]);
    }
    let half = |n| (0..n).map(|p| judged(p, if p % 2 == 0 { 1 } else { 20 })).collect::<Vec<_>>();
    let width = |n| {
        let [low, high] = intervals(&half(n), 1000, 1).unwrap().r1;
        assert!(low < 50.0 && high > 50.0, "{low} to {high}");
        high - low
    };
    // The standard error of a share of one half is 50 / sqrt(n), and 1.96 of them are to each side.
    for n in [50, 200, 800] {
        let expected = 2.0 * 1.96 * 50.0 / (n as f64).sqrt();
        assert!((width(n) / expected - 1.0).abs() < 0.15, "{n}: {} for {expected}", width(n));
    }
    assert_eq!(intervals(&half(50), 1000, 1), intervals(&half(50), 1000, 1));
    assert_ne!(intervals(&half(50), 1000, 1), intervals(&half(50), 1000, 2));
}

#[test]
fn more_captions_about_the_same_persons_do_not_narrow_an_interval() {
    let once: Vec<Judged> = (0..40).map(|p| judged(p, 1 + (p as usize % 3))).collect();
    let often: Vec<Judged> = once.iter().flat_map(|query| [*query; 10]).collect();
    let (a, b) = (intervals(&once, 500, 1).unwrap(), intervals(&often, 500, 1).unwrap());
    for (a, b) in a.r1.iter().chain(&a.map).zip(b.r1.iter().chain(&b.map)) {
        assert!((a - b).abs() < 1e-9, "{a} and {b}");
    }
    assert_eq!(intervals(&[judged(1, 1), judged(1, 2)], 500, 1), None, "one identity");
    assert_eq!(intervals(&[], 500, 1), None);
}

#[test]
fn a_threshold_lets_as_many_absent_persons_through_as_its_level_says() {
    // Every person's strangers score differently; the scores are in no order of the persons.
    let wrong = |person: i64| (person * 37 % 101) as f32 / 200.0;
    let query = |person: i64| {
        let right = wrong(person) + if person % 4 == 0 { -0.01 } else { 0.1 };
        let first = if right > wrong(person) { 1 } else { 2 };
        Judged { right, wrong: wrong(person), ..judged(person, first) }
    };
    let queries: Vec<Judged> = (0..100).map(query).collect();
    let open = open_set(&queries, 7).unwrap();
    let gone = absent(0..100, 7);
    assert_eq!((gone.len(), open.absent_queries, open.present_queries), (50, 50, 50));
    // Independently: the sixth highest stranger among the absent lets five of fifty through.
    let mut strangers: Vec<f32> = gone.iter().map(|person| wrong(*person)).collect();
    strangers.sort_by(|a, b| b.total_cmp(a));
    let level = &open.levels[0];
    assert_eq!(
        (level.fpir, level.threshold, level.false_positives),
        (10.0, Some(strangers[5]), Some(5))
    );
    let present = || queries.iter().filter(|query| !gone.contains(&query.person));
    let found = present().filter(|q| q.first == 1 && q.right > strangers[5]).count();
    assert!((level.dir.unwrap() - 2.0 * found as f64).abs() < 1e-9);
    assert!(found > 0 && found < 50, "{found} would show nothing");
    let wins: f64 = present()
        .flat_map(|query| strangers.iter().map(move |s| (query.right.max(query.wrong), *s)))
        .map(|(best, stranger)| {
            if best > stranger {
                1.0
            } else if best == stranger {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    assert!((open.auroc - 100.0 * wins / 2500.0).abs() < 1e-9);
    assert_eq!(open.curve.last().map(|point| point.0), Some(1.0));
    assert!(open.curve.windows(2).all(|pair| pair[0] <= pair[1]), "more alarms, more found");
    assert_eq!(open_set(&queries, 7).unwrap(), open);
    assert_ne!(absent(0..100, 8), gone);
}

#[test]
fn scores_that_tell_nothing_or_everything_have_the_figures_of_that() {
    let all = |first| (0..60).map(|person| judged(person, first)).collect::<Vec<_>>();
    let perfect = open_set(&all(1), 1).unwrap();
    assert_eq!((perfect.auroc, perfect.levels[0].dir), (100.0, Some(100.0)));
    assert_eq!(perfect.levels[0].threshold, Some(0.3));
    let blind = open_set(&all(2), 1).unwrap();
    assert_eq!((blind.auroc, blind.levels[0].dir), (50.0, Some(0.0)));
}

#[test]
fn too_few_queries_for_a_level_have_no_figure() {
    for (persons, expected) in [
        (58, [false, false, false]),
        (60, [true, false, false]),
        (600, [true, true, false]),
        (6000, [true; 3]),
    ] {
        let queries: Vec<Judged> = (0..persons).map(|person| judged(person, 1)).collect();
        let open = open_set(&queries, 1).unwrap();
        for (level, expected) in open.levels.iter().zip(expected) {
            assert_eq!(level.dir.is_some(), expected, "{persons} persons, {level:?}");
            assert_eq!(level.threshold.is_some(), expected);
            assert_eq!(level.missing.is_none(), expected);
        }
    }
    assert_eq!(open_set(&[judged(1, 1)], 1), None);
}

#[test]
fn persons_are_chosen_by_number() {
    let ids: Ids = "7, 10-12,3501-".parse().unwrap();
    for (id, expected) in [
        (6, false),
        (7, true),
        (9, false),
        (10, true),
        (12, true),
        (13, false),
        (3501, true),
        (9999, true),
    ] {
        assert_eq!(ids.contains(id), expected, "{id}");
    }
    assert_eq!(ids.to_string(), "7,10-12,3501-");
    for wrong in ["", "x", "5-3", "-5", "1,,2", "1-2-3", "99999999999999999999"] {
        let error = wrong.parse::<Ids>().unwrap_err().to_string();
        assert!(error.contains("1-3500"), "{wrong}: {error}");
    }
}

/// Knows of a picture how bright it is, and of a caption how long.
struct Plain(Config);

impl Embedder for Plain {
    fn config(&self) -> &Config {
        &self.0
    }
    fn preprocess(&self) -> Preprocess {
        Preprocess { mean: [0.0; 3], std: [1.0; 3], ..Preprocess::clip(16, 16) }
    }
    fn batch(&self) -> usize {
        2
    }
    fn record(&self) -> ModelRecord {
        record("plain")
    }
    fn pixels(&mut self, pixels: &[f32], count: usize) -> Result<Vec<Vec<f32>>> {
        assert!(count <= 2 && pixels.len() == count * 3 * 16 * 16);
        Ok(pixels.chunks_exact(3 * 16 * 16).map(|p| vec![p[0] * 255.0]).collect())
    }
    fn words(&mut self, captions: &[TextInput]) -> Result<Vec<Vec<f32>>> {
        assert!(captions.len() <= 2);
        Ok(captions.iter().map(|input| vec![input.ids().len() as f32]).collect())
    }
}

fn record(kind: &str) -> ModelRecord {
    ModelRecord {
        kind: kind.into(),
        name: "tiny".into(),
        identity: "0".repeat(32),
        precision: "f32".into(),
        engine: "libtorch".into(),
        input: [48, 16],
        trained_parameters: None,
    }
}

#[test]
fn what_cannot_be_read_has_its_reason_in_its_place() {
    let mut plain = Plain(tiny());
    let picture = |grey: u8| Rgb::new(8, 20, vec![grey; 8 * 20 * 3]).map_err(Error::from);
    let mut pictures = [10u8, 20, 0, 30, 0, 40, 50].into_iter().map(|grey| match grey {
        0 => Err(Error::invalid("picture", "is broken")),
        grey => picture(grey),
    });
    let rows = images(&mut plain, &mut pictures).unwrap();
    let grey = |row: &Result<Vec<f32>>| row.as_ref().ok().map(|row| row[0].round());
    let got: Vec<Option<f32>> = rows.iter().map(grey).collect();
    assert_eq!(got, [Some(10.0), Some(20.0), None, Some(30.0), None, Some(40.0), Some(50.0)]);
    let rows = texts(&mut plain, &["a man in red", "&nbsp;", "a man", "a"]).unwrap();
    let got: Vec<Option<f32>> = rows.iter().map(grey).collect();
    assert_eq!(got, [Some(6.0), None, Some(4.0), Some(3.0)]);
    assert!(rows[1].as_ref().unwrap_err().to_string().contains("no words"));
}

/// Small towers on CLIP's whole vocabulary.
fn tiny() -> Config {
    Config {
        vision_width: 32,
        vision_layers: 2,
        vision_heads: 2,
        patch: 16,
        height: 48,
        width: 16,
        text_width: 32,
        text_layers: 2,
        text_heads: 2,
        vocab: VOCABULARY_SIZE,
        context: 77,
        embed: 16,
        prompts: 2,
        vision_bottleneck: 4,
        text_bottleneck: 4,
        vision_scale: 0.1,
        text_scale: 4.0,
        ..Config::vit_b16()
    }
}

const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [200, 30, 30]),
    ("green", [30, 160, 40]),
    ("blue", [30, 40, 190]),
    ("white", [235, 235, 235]),
    ("black", [20, 20, 20]),
    ("yellow", [220, 210, 40]),
];

/// A data set in CUHK-PEDES' form: a person for each colour, three pictures of each, and two captions of
/// each picture, one of which all pictures of the person share.
fn data_set(folder: &Path) {
    fs::create_dir(folder.join("imgs")).unwrap();
    let mut list = Vec::new();
    for (person, (name, [r, g, b])) in COLOURS.into_iter().enumerate() {
        for number in 0..3u8 {
            let file = format!("{person}_{number}.png");
            let shade = |value: u8, y: u32| value.saturating_sub((y / 6) as u8 * (number + 1));
            let picture = image::RgbImage::from_fn(30, 90, |_, y| {
                image::Rgb([shade(r, y), shade(g, y), shade(b, y)])
            });
            picture.save(folder.join("imgs").join(&file)).unwrap();
            list.push(serde_json::json!({
                "split": if person < 4 { "test" } else { "train" },
                "id": person + 1,
                "file_path": file,
                "captions": [format!("A person in {name}."), format!("{name} clothes, view {number}")],
            }));
        }
    }
    fs::write(folder.join("captions.json"), serde_json::to_vec(&list).unwrap()).unwrap();
}

fn net(weights: &Weights, config: &Config) -> NetEmbedder {
    let parameters = Parameters::new(weights, config, Device::Cpu, |_| false).unwrap();
    NetEmbedder::new(Net::new(config, &parameters).unwrap(), Device::Cpu, record("run"))
}

fn write_bundle(folder: &Path, weights: &Weights, config: &Config, precisions: &[Precision]) {
    let inputs = Inputs::standard().unwrap();
    let unit = |count| vec![[vec![1.0], vec![0.0; config.embed - 1]].concat(); count];
    let (pictures, captions) = (unit(inputs.pictures.len()), unit(inputs.texts.len()));
    let probe = Probe::new(inputs, pictures, captions).unwrap();
    let draft = Draft {
        name: "tiny".into(),
        created_at: "2026-01-31T12:00:00Z".into(),
        parent: None,
        lineage: Lineage::default(),
        licence: Licence { weights: "CC0-1.0".into(), data: "random".into() },
        data: None,
        intended_use: None,
        evaluation: serde_json::Map::new(),
        weights,
        config,
        precisions,
        preprocess: Preprocess::clip(config.height, config.width),
        probe: &probe,
        cohort: None,
        vocabulary: None,
    };
    write(folder, &draft).unwrap();
}

#[test]
fn a_bundle_and_the_net_it_was_made_from_have_the_same_figures() {
    let folder = TempDir::new().unwrap();
    data_set(folder.path());
    let (config, path) = (tiny(), folder.path().join("bundle"));
    let weights = random(&config, 3).unwrap();
    write_bundle(&path, &weights, &config, &[Precision::F32]);
    let runtime = Runtime::load(None).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let options = SessionOptions::default();
    let mut exported = BundleEmbedder::open(&runtime, &bundle, Precision::F32, &options).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    let choice = Choice { split: Part::All, ..Choice::default() };
    let mut pictures = 0;
    let a = evaluate(&mut exported, &dataset, &choice, &mut || pictures += 1).unwrap();
    let b = evaluate(&mut net(&weights, &config), &dataset, &choice, &mut || ()).unwrap();
    assert_eq!(pictures, 18);
    let rows = |outcome: &'_ spotter_trainer::evaluate::Outcome| {
        outcome.images.iter().chain(&outcome.texts).flatten().copied().collect::<Vec<f32>>()
    };
    let apart = rows(&a).iter().zip(rows(&b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("embeddings are {apart:e} apart");
    assert_eq!(rows(&a).len(), (18 + 36) * config.embed);
    assert!(apart < 1e-5, "{apart:e}");
    assert_eq!(a.report.metrics, b.report.metrics);
    assert_eq!(
        a.report.open_set.as_ref().unwrap().auroc,
        b.report.open_set.as_ref().unwrap().auroc
    );
    assert_eq!(a.report.model.identity, bundle.generation().to_string());
    let held = BundleEmbedder::open(&runtime, &bundle, Precision::Int8, &options).err().unwrap();
    assert!(held.to_string().contains("int8"), "{held}");
}

#[test]
fn a_bundle_without_f32_towers_is_judged_by_those_it_holds() {
    let folder = TempDir::new().unwrap();
    data_set(folder.path());
    let weights = random(&tiny(), 3).unwrap();
    let evaluate = |bundle: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.args(["evaluate", "--json", "--data"]).arg(folder.path());
        let output = command.arg("--bundle").arg(bundle).args(more).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (json["model"]["precision"].as_str().unwrap().to_owned(), said)
    };
    use Precision::{F16, F32, Int8};
    for (name, held, taken) in
        [("one", &[Int8][..], "int8"), ("two", &[Int8, F16], "f16"), ("all", &[Int8, F32], "f32")]
    {
        let path = folder.path().join(name);
        write_bundle(&path, &weights, &tiny(), held);
        let (precision, said) = evaluate(&path, &[]);
        assert_eq!(precision, taken);
        let is_said = said.contains(&format!("no f32 towers; its {taken} towers are judged"));
        assert_eq!(is_said, taken != "f32", "{said}");
    }
    assert_eq!(evaluate(&folder.path().join("two"), &["--precision", "int8"]).0, "int8");
}

#[test]
fn captions_and_pictures_are_those_that_were_chosen() {
    let folder = TempDir::new().unwrap();
    data_set(folder.path());
    let config = tiny();
    let weights = random(&config, 3).unwrap();
    let counts = |choice: &Choice| {
        let dataset = Dataset::open(folder.path()).unwrap();
        let outcome = evaluate(&mut net(&weights, &config), &dataset, choice, &mut || ()).unwrap();
        let counts = outcome.report.counts;
        assert!((outcome.report.chance - 100.0 / counts.identities as f64).abs() < 1e-9);
        (counts.queries, counts.pictures, counts.identities)
    };
    let all = Choice { split: Part::All, ..Choice::default() };
    assert_eq!(counts(&all), (36, 18, 6));
    // Of each person the shared caption counts once: four are left of six.
    assert_eq!(counts(&Choice { distinct: true, ..all.clone() }), (24, 18, 6));
    assert_eq!(counts(&Choice::default()), (24, 12, 4), "the test split");
    assert_eq!(counts(&Choice { split: Part::Train, ..all.clone() }), (12, 6, 2));
    assert_eq!(counts(&Choice { ids: Some("2-3".parse().unwrap()), ..all.clone() }), (12, 6, 2));
    let nobody = Choice { ids: Some("100-".parse().unwrap()), ..all };
    let dataset = Dataset::open(folder.path()).unwrap();
    let error = evaluate(&mut net(&weights, &config), &dataset, &nobody, &mut || ()).err().unwrap();
    assert!(error.to_string().contains("--ids"), "{error}");
}

#[test]
fn a_broken_picture_is_counted_and_the_page_is_whole() {
    let folder = TempDir::new().unwrap();
    data_set(folder.path());
    fs::write(folder.path().join("imgs/2_1.png"), "no picture").unwrap();
    let config = tiny();
    let weights = random(&config, 3).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    let choice = Choice { split: Part::All, ..Choice::default() };
    let outcome = evaluate(&mut net(&weights, &config), &dataset, &choice, &mut || ()).unwrap();
    assert_eq!((outcome.report.counts.pictures, outcome.report.counts.broken_pictures), (17, 1));
    assert!(outcome.report.notes.iter().any(|note| note.contains("1 picture was left out")));
    let path = folder.path().join("report.html");
    page::write(&path, &outcome, &dataset).unwrap();
    let html = fs::read_to_string(&path).unwrap();
    for part in
        ["R@1", "mINP", "prefers-color-scheme:dark", "data:image/jpeg;base64,", "<svg", "FPIR"]
    {
        assert!(html.contains(part), "{part} is not on the page");
    }
    for part in ["<script", "http:", "https:", "src=\"/", "NaN"] {
        assert!(!html.contains(part), "{part} is on the page");
    }
    assert!(html.contains("class=\"right\"") && html.contains("class=\"wrong\""));
}

#[test]
fn a_pack_in_place_of_a_bundle_is_told_how_to_become_one() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pack.json"), "{}").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
    command.args(["evaluate", "--data", "nowhere", "--bundle"]).arg(folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("spotterd bundle fold"), "{said}");
}

#[test]
fn a_page_that_cannot_be_written_is_told_before_anything_is_computed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for page in ["", "none/page.html", "file/page.html", "/dev/full"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        // What it would read first: that nobody comes so far shows in the message.
        command.args(["evaluate", "--base", "nowhere", "--data", "nowhere", "--html"]);
        let output = command.arg(folder.path().join(page)).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--html") && !said.contains("nowhere"), "{said}");
    }
}

#[test]
fn the_command_prints_the_figures_as_json() {
    let folder = TempDir::new().unwrap();
    let (data, base, page) =
        (folder.path().join("data"), folder.path().join("base"), folder.path().join("page.html"));
    fs::create_dir(&data).unwrap();
    data_set(&data);
    let config = Config { prompts: 0, vision_bottleneck: 0, text_bottleneck: 0, ..tiny() };
    let origin = Origin {
        name: "random".into(),
        layout: "spotter-trainer".into(),
        source_sha256: None,
        licence: "CC0-1.0".into(),
        data: "none".into(),
        intended_use: "tests".into(),
    };
    Base::write(&base, &random(&config, 1).unwrap(), &config, &origin).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotter-trainer"));
        command.args(["evaluate", "--split", "all"]).arg("--data").arg(&data).args(more);
        command.output().unwrap()
    };
    let (base, page_text) = (base.to_str().unwrap(), page.to_str().unwrap());
    let output = run(&["--base", base, "--json", "--html", page_text, "--distinct"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["R@1", "R@5", "R@10", "mAP", "mINP"] {
        let value = json["metrics"][name].as_f64().unwrap();
        let [low, high] = [0, 1].map(|end| json["intervals"][name][end].as_f64().unwrap());
        assert!(low <= value && value <= high, "{name}: {low} {value} {high}");
    }
    assert_eq!(json["counts"]["queries"], 24);
    assert_eq!(json["data"]["split"], "all");
    assert_eq!(json["data"]["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(json["model"]["kind"], "base");
    assert!(json["open_set"]["AUROC"].is_number() && json["chance"].is_number());
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
    assert_eq!(run(&[]).status.code(), Some(2), "no model");
    assert_eq!(run(&["--base", base, "--bundle", base]).status.code(), Some(2), "two models");
    assert_eq!(run(&["--base", base, "--ids", "x"]).status.code(), Some(2));
    for option in [["--precision", "int8"], ["--threads", "1"], ["--library", "onnxruntime.so"]] {
        let output = run(&["--base", base, option[0], option[1]]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{}: is only for --bundle", option[0])), "{said}");
        assert!(said.contains("spotter-trainer export"), "{said}");
    }
}
