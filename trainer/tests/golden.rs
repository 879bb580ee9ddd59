//! Against an independent implementation of CSKT: forward, loss, gradients, a step, figures.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{fs, path::PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use spotter_models::towers::{Config, Weights, layout::is_trained};
use spotter_trainer::{
    adam::{Adam, Settings},
    evaluate::rank,
    loss::sdm,
    net::{Captions, Net, Parameters},
};
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let own = root.join("tests/golden").join(name);
    if own.exists() { own } else { root.join("../models/tests/golden").join(name) }
}

/// A file's tensors as libtorch has them.
fn tensors(name: &str) -> Vec<(String, Tensor)> {
    let bytes = fs::read(golden(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: safetensors::tensor::TensorView<'_>| {
        let kind = match view.dtype() {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::I64 => Kind::Int64,
            other => panic!("{other:?}"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    file.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect()
}

fn tensor(file: &str, name: &str) -> Tensor {
    tensors(file).into_iter().find(|(other, _)| other == name).unwrap().1
}

/// Largest difference of two values.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

struct Tiny {
    net: Net,
    parameters: Parameters,
    captions: Vec<Vec<u32>>,
    config: Config,
}

impl Tiny {
    fn new() -> Self {
        let tiny: Value = serde_json::from_slice(&fs::read(golden("tiny.json")).unwrap()).unwrap();
        let config: Config = serde_json::from_value(tiny["config"].clone()).unwrap();
        let captions = serde_json::from_value(tiny["captions"].clone()).unwrap();
        let weights = Weights::read(&[golden("tiny-weights.safetensors")]).unwrap();
        let parameters = Parameters::new(&weights, &config, Device::Cpu, is_trained).unwrap();
        let net = Net::new(&config, &parameters).unwrap();
        Self { net, parameters, captions, config }
    }

    fn captions(&self) -> Captions {
        let words: Vec<&[u32]> = self.captions.iter().map(Vec::as_slice).collect();
        Captions::new(&words, &self.config, Device::Cpu).unwrap()
    }

    fn embeddings(&self) -> (Tensor, Tensor) {
        let images = self.net.images(&tensor("tiny-forward.safetensors", "pixels")).unwrap();
        (images, self.net.texts(&self.captions()).unwrap())
    }

    fn loss(&self) -> Tensor {
        let (images, texts) = self.embeddings();
        sdm(&images, &texts, &tensor("tiny-forward.safetensors", "pid"), 0.02).unwrap()
    }
}

#[test]
fn the_towers_and_the_loss_agree() {
    let tiny = Tiny::new();
    let (images, texts) = tiny.embeddings();
    for (name, got) in [("image_embedding", images), ("text_embedding", texts)] {
        let apart = apart(&got, &tensor("tiny-forward.safetensors", name));
        println!("{name}: {apart:e} apart");
        assert!(apart < 1e-5, "{name}: {apart}");
    }
    let wanted = tensor("tiny-forward.safetensors", "sdm_loss").double_value(&[0]);
    let got = tiny.loss().double_value(&[]);
    println!("loss {got} for {wanted}");
    assert!((got - wanted).abs() < 1e-4 * wanted.abs(), "{got} is not {wanted}");
}

#[test]
fn every_gradient_agrees_and_nothing_else_has_one() {
    let tiny = Tiny::new();
    tiny.loss().backward();
    let wanted = tensors("tiny-gradients.safetensors");
    assert_eq!(tiny.parameters.trained().count(), wanted.len());
    for (name, wanted) in &wanted {
        let got = tiny.parameters.get(name).unwrap().grad();
        let difference = (&got - wanted).norm().double_value(&[]);
        let relative = difference / wanted.norm().double_value(&[]).max(1e-12);
        assert!(relative < 1e-4, "{name}: {relative:e}");
    }
    for (name, parameter) in tiny.parameters.iter().filter(|(name, _)| !is_trained(name)) {
        assert!(!parameter.grad().defined(), "{name}");
    }
}

#[test]
fn one_step_agrees_and_leaves_the_backbone_bit_for_bit() {
    let tiny = Tiny::new();
    let before = tiny.parameters.to_weights(|name| !is_trained(name)).unwrap();
    tiny.loss().backward();
    let mut adam = Adam::new(Settings::default());
    adam.step(&tiny.parameters, 1.0).unwrap();
    for (name, wanted) in tensors("tiny-after-one-step.safetensors") {
        let apart = apart(&tiny.parameters.get(&name).unwrap().detach(), &wanted);
        assert!(apart < 1e-6, "{name}: {apart:e}");
    }
    assert_eq!(tiny.parameters.to_weights(|name| !is_trained(name)).unwrap(), before);
    for (name, parameter) in tiny.parameters.trained() {
        assert_eq!(parameter.grad().abs().max().double_value(&[]), 0.0, "{name}");
    }
}

#[test]
fn captions_do_not_depend_on_their_batch_nor_images_on_captions() {
    let tiny = Tiny::new();
    let together = tiny.net.texts(&tiny.captions()).unwrap();
    for (index, words) in tiny.captions.iter().enumerate() {
        let alone = Captions::new(&[words.as_slice()], &tiny.config, Device::Cpu).unwrap();
        let alone = tiny.net.texts(&alone).unwrap().get(0);
        assert!(apart(&alone, &together.get(index as i64)) < 1e-6, "caption {index}");
    }
    let pixels = tensor("tiny-forward.safetensors", "pixels");
    let together = tiny.net.images(&pixels).unwrap();
    let alone = tiny.net.images(&pixels.narrow(0, 3, 1)).unwrap().get(0);
    assert!(apart(&alone, &together.get(3)) < 1e-6);
}

#[test]
fn the_figures_of_a_ranking_agree() {
    let of = |name: &str| tensor("metrics.safetensors", name);
    let scores = Vec::<f32>::try_from(of("similarity").flatten(0, 1)).unwrap();
    let queries = Vec::<i64>::try_from(of("query_pid")).unwrap();
    let gallery = Vec::<i64>::try_from(of("gallery_pid")).unwrap();
    let got = serde_json::to_value(rank(&scores, &queries, &gallery).unwrap()).unwrap();
    let wanted: Value = serde_json::from_slice(&fs::read(golden("metrics.json")).unwrap()).unwrap();
    for (name, wanted) in wanted.as_object().unwrap() {
        let apart = (got[name].as_f64().unwrap() - wanted.as_f64().unwrap()).abs();
        assert!(apart < 1e-4, "{name}: {got} is not {wanted}");
    }
    assert_eq!(got.as_object().unwrap().len(), wanted.as_object().unwrap().len());
    for wrong in [rank(&scores, &queries[1..], &gallery), rank(&scores, &queries, &[])] {
        assert!(wrong.is_err());
    }
    assert!(rank(&[f32::NAN], &[1], &[1]).unwrap_err().to_string().contains("NaN"));
    assert!(rank(&[0.5], &[1], &[2]).is_err(), "nobody to be found");
}

#[test]
fn cskt_on_vit_b16_trains_as_many_numbers_as_published() {
    let config = Config::vit_b16();
    let weights = spotter_models::towers::random(&config, 1).unwrap();
    let parameters = Parameters::new(&weights, &config, Device::Cpu, is_trained).unwrap();
    assert_eq!(parameters.counts(), (12_117_888, 161_735_552));
}

#[test]
fn what_does_not_fit_is_refused() {
    let tiny = Tiny::new();
    let wrong = Tensor::zeros([1, 3, 32, 96], (Kind::Float, Device::Cpu));
    assert!(tiny.net.images(&wrong).unwrap_err().to_string().contains("[N, 3, 96, 32]"));
    for id in [510, 511, 512, u32::MAX] {
        let error = Captions::new(&[&[5, id]], &tiny.config, Device::Cpu).err().unwrap();
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    assert!(Captions::new::<&[u32]>(&[], &tiny.config, Device::Cpu).is_err());
    for (from, count) in [(0, 7), (5, 2), (7, 0), (usize::MAX, 1), (1, usize::MAX)] {
        assert!(tiny.captions().part(from, count).is_err(), "{count} from {from} on");
    }
}
