//! The plain step computes what the folded one does, and the command says what both take.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{fs, path::PathBuf, process::Command};

use safetensors::SafeTensors;
use serde_json::Value;
use spotter_models::towers::{Config, Coupling, Weights, layout::is_trained, random};
use spotter_trainer::{
    bench::{Bench, Plain, Setup, Size, Spread, Variant},
    loss::sdm,
    net::{Captions, Net, Parameters},
    recipe::Precision,
};
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(name)
}

/// The golden pixels.
fn pixels() -> Tensor {
    let bytes = fs::read(golden("tiny-forward.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("pixels").unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
    Tensor::from_data_size(view.data(), &shape, Kind::Float)
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// What one kind of towers makes of the golden inputs.
struct Made {
    images: Tensor,
    texts: Tensor,
    gradients: Vec<(String, Tensor)>,
}

impl Made {
    fn by(parameters: &Parameters, images: Tensor, texts: Tensor) -> Self {
        let persons = Tensor::from_slice(&[0i64, 1, 2, 2, 3, 4]);
        sdm(&images, &texts, &persons, 0.02).unwrap().backward();
        let gradients = parameters
            .trained()
            .map(|(name, parameter)| {
                let gradient = parameter.grad();
                let copy = gradient.copy();
                let _ = parameter.grad().zero_();
                (name.to_owned(), copy)
            })
            .collect();
        Self { images: images.detach(), texts: texts.detach(), gradients }
    }
}

/// The published towers' inputs and weights, by both kinds.
fn both(kind: Kind) -> [Made; 2] {
    let tiny: Value = serde_json::from_slice(&fs::read(golden("tiny.json")).unwrap()).unwrap();
    let config: Config = serde_json::from_value(tiny["config"].clone()).unwrap();
    let words: Vec<Vec<u32>> = serde_json::from_value(tiny["captions"].clone()).unwrap();
    let weights = Weights::read(&[golden("tiny-weights.safetensors")]).unwrap();
    let mut parameters = Parameters::new(&weights, &config, Device::Cpu, is_trained).unwrap();
    parameters.compute_in(kind).unwrap();
    let captions = Captions::new(&words, &config, Device::Cpu).unwrap();
    let net = Net::new(&config, &parameters).unwrap();
    let (images, texts) = (net.images(&pixels()).unwrap(), net.texts(&captions).unwrap());
    let folded = Made::by(&parameters, images, texts);
    let plain = Plain::new(&config, &parameters).unwrap();
    let (images, texts) = (plain.images(&pixels()).unwrap(), plain.texts(&words).unwrap());
    [folded, Made::by(&parameters, images, texts)]
}

#[test]
fn the_plain_towers_have_the_same_embeddings_and_gradients() {
    let [folded, plain] = both(Kind::Float);
    let (images, texts) =
        (apart(&folded.images, &plain.images), apart(&folded.texts, &plain.texts));
    println!("images {images:e}, texts {texts:e} apart");
    assert!(images < 1e-5 && texts < 1e-5);
    assert!(!folded.gradients.is_empty());
    let mut worst: f64 = 0.0;
    for ((name, a), (_, b)) in folded.gradients.iter().zip(&plain.gradients) {
        let length = b.norm().double_value(&[]);
        assert!(length > 0.0, "{name} has no gradient");
        let relative = (a - b).norm().double_value(&[]) / length;
        worst = worst.max(relative);
        assert!(relative < 1e-4, "{name}: {relative:e}");
    }
    println!("gradients {worst:e} apart");
}

#[test]
fn in_16_bits_both_round_alike() {
    let ([folded, plain], [exact, _]) = (both(Kind::BFloat16), both(Kind::Float));
    for (a, b, exact) in [
        (&folded.images, &plain.images, &exact.images),
        (&folded.texts, &plain.texts, &exact.texts),
    ] {
        let (a, b) = (apart(a, exact), apart(b, exact));
        println!("folded {a:e}, plain {b:e} from 32 bits");
        assert!(a > 0.0 && b > 0.0, "nothing was rounded");
        assert!(a < 0.05 && b < 0.05);
    }
}

#[test]
fn other_layouts_are_refused() {
    let tiny = Size::Tiny.config();
    for config in [
        Config { coupling: Coupling::None, ..tiny.clone() },
        Config { prompt_depth: Some(1), ..tiny.clone() },
        Config { text_bottleneck: 0, ..tiny.clone() },
        Config { stem: vec![4, 8], ..tiny.clone() },
        Config { prompts: 0, ..tiny },
    ] {
        let weights = random(&config, 1).unwrap();
        let parameters = Parameters::new(&weights, &config, Device::Cpu, is_trained).unwrap();
        let error = Plain::new(&config, &parameters).err().unwrap();
        assert!(error.to_string().contains("published layout"), "{error}");
    }
}

#[test]
fn steps_of_both_kinds_change_the_same_model() {
    let setup =
        Setup { size: Size::Tiny, batch: 4, precision: Precision::F32, part: 2, recompute: true };
    let mut bench = Bench::new(&setup).unwrap();
    for variant in [Variant::Folded, Variant::Plain, Variant::Folded] {
        let took = bench.step(variant).unwrap();
        assert!(took.wall > 0.0 && took.cpu > 0.0);
    }
    for batch in [0, 1, 1 << 20] {
        assert!(Bench::new(&Setup { batch, part: 0, ..setup }).is_err());
    }
    assert!(Bench::new(&Setup { part: 5, ..setup }).is_err(), "a part above the batch");
    for size in [Size::VitB16, Size::Small, Size::Tiny] {
        size.config().validate().unwrap();
    }
}

#[test]
fn a_median_lies_between() {
    let spread = |values: &[f64]| Spread::of(values.iter().copied());
    assert_eq!(spread(&[]), None);
    let of = |median, lowest, highest| Some(Spread { median, lowest, highest });
    assert_eq!(spread(&[3.0, 1.0, 2.0]), of(2.0, 1.0, 3.0));
    assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), of(2.5, 1.0, 4.0));
}

fn bench(options: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_spotter-trainer")).arg("bench").args(options).output().unwrap()
}

#[test]
fn the_command_prints_json() {
    let options = ["--size", "tiny", "--batch", "4", "--steps", "2", "--threads", "1"];
    for more in [&["--json"][..], &["--json", "--precision", "bf16", "--part", "2", "--recompute"]]
    {
        let output = bench(&[&options, more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.lines().filter(|line| line.contains("s of processors")).count(), 6);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{report}");
        for kind in ["folded", "plain"] {
            let seconds = &report[kind]["seconds"];
            let of = |name: &str| seconds[name].as_f64().unwrap();
            assert!(of("lowest") > 0.0 && of("lowest") <= of("median"));
            assert!(of("median") <= of("highest"));
            let rate = report[kind]["pairs_per_second"].as_f64().unwrap();
            assert!((rate * of("median") - 4.0).abs() < 1e-6);
            assert!(report[kind]["processor_seconds"]["median"].as_f64().unwrap() > 0.0);
            // More than libtorch alone is hard to say; more than nothing is not.
            assert!(report["memory"][kind]["peak_memory_mib"].as_f64().unwrap() > 10.0);
        }
        assert!(report["ratio"]["median"].as_f64().unwrap() > 0.0);
        assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
        assert_eq!((&report["setup"]["size"], &report["steps"]), (&"tiny".into(), &2.into()));
    }
}

#[test]
fn the_command_prints_a_table_and_refuses_nonsense() {
    let output = bench(&["--size", "tiny", "--batch", "2", "--steps", "1", "--threads", "1"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && table.contains("times as fast"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    for wrong in [["--batch", "1"], ["--steps", "0"], ["--part", "17"], ["--size", "huge"]] {
        let output = bench(&[&["--size", "tiny"][..], &wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    // Before a process is started for its memory.
    for batch in ["0", "4097"] {
        let said = String::from_utf8(bench(&["--batch", batch]).stderr).unwrap();
        assert!(said.contains("--batch") && !said.contains("in a process"), "{said}");
    }
    let help = String::from_utf8(bench(&["--help"]).stdout).unwrap();
    assert!(help.contains("Pairs in a step, 2 to 4096"), "{help}");
}
