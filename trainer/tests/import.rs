//! A tiny CLIP in the layouts of three libraries, against their names and outputs; and what is none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use spotter_models::{Digest, towers::Weights};
use spotter_trainer::{
    base::Base,
    import::{Activation, Imported, Layout, Options, import},
    net::{Captions, Net, Parameters},
};
use tch::{Device, Kind, Tensor};
use tempfile::{TempDir, tempdir};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import").join(name)
}

/// At the size that the tiny model was made for; its heads are not of 64.
fn square() -> Options {
    let (vision_heads, text_heads) = (Some(4), Some(2));
    Options { height: 224, width: 224, vision_heads, text_heads, ..Options::default() }
}

fn error(path: &Path, options: &Options) -> String {
    import(path, options).err().unwrap().to_string()
}

/// Raw tensors: name, shape, bytes in 32 bits.
type Raw = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn raw(path: &Path) -> Raw {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (String, TensorView<'_>)| {
        assert_eq!(view.dtype(), Dtype::F32);
        (name, (view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(entry).collect()
}

fn write_raw(path: &Path, raw: &Raw) {
    let views = raw.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The tiny model as OpenCLIP writes it, changed.
fn open_clip(config: &Value, change: impl FnOnce(&mut Raw)) -> TempDir {
    let folder = tempdir().unwrap();
    let mut tensors = raw(&golden("expected-names.safetensors"));
    change(&mut tensors);
    write_raw(&folder.path().join("open_clip_model.safetensors"), &tensors);
    fs::write(folder.path().join("open_clip_config.json"), config.to_string()).unwrap();
    folder
}

fn open_clip_config() -> Value {
    json!({
        "model_cfg": {
            "embed_dim": 48, "quick_gelu": true,
            "vision_cfg": {"image_size": 224, "layers": 3, "width": 64, "patch_size": 16,
                           "head_width": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 512, "width": 32, "heads": 2,
                         "layers": 3}
        },
        "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073],
                           "std": [0.26862954, 0.26130258, 0.27577711]}
    })
}

/// Hugging Face's folder with another configuration.
fn hugging_face(change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = tempdir().unwrap();
    let config = fs::read(golden("hf-tiny/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(golden("hf-tiny/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

/// The three layouts of one model.
fn all() -> (TempDir, Vec<(Layout, PathBuf)>) {
    let folder = open_clip(&open_clip_config(), |_| ());
    let layouts = vec![
        (Layout::Openai, golden("openai-tiny.pt")),
        (Layout::Hf, golden("hf-tiny")),
        (Layout::OpenClip, folder.path().to_owned()),
    ];
    (folder, layouts)
}

#[test]
fn names_and_values_are_openais() {
    let expected = Weights::read(&[golden("expected-names.safetensors")]).unwrap();
    let names: Vec<&str> =
        expected.iter().map(|(name, _)| name).filter(|name| *name != "logit_scale").collect();
    let (_folder, layouts) = all();
    for (layout, path) in layouts {
        let Imported { weights, config, origin } = import(&path, &square()).unwrap();
        assert_eq!(origin.layout, layout.name());
        assert_eq!(weights.iter().map(|(name, _)| name).collect::<Vec<_>>(), names, "{layout:?}");
        for (name, tensor) in weights.iter() {
            let wanted = expected.get(name, tensor.shape()).unwrap();
            let apart = tensor.values().iter().zip(wanted).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0.0, f32::max);
            assert!(apart == 0.0, "{layout:?} {name}: {apart:e}");
        }
        assert_eq!((config.prompts, config.vision_bottleneck, config.vision_layers), (0, 0, 3));
        assert_eq!((config.vision_heads, config.text_heads, config.embed), (4, 2, 48));
        assert_eq!((config.vocab, config.context, config.patch), (512, 77, 16));
    }
}

#[test]
fn outputs_are_those_of_transformers() {
    let bytes = fs::read(golden("outputs.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| {
        let view = file.tensor(name).unwrap();
        let kind = if view.dtype() == Dtype::I64 { Kind::Int64 } else { Kind::Float };
        let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    let unit = |rows: Tensor| &rows / rows.norm_scalaropt_dim(2, [-1], true);
    let ids = Vec::<i64>::try_from(tensor("ids").flatten(0, 1)).unwrap();
    let words: Vec<Vec<u32>> = ids
        .chunks(77)
        .map(|row| row[1..].iter().take_while(|id| **id < 510).map(|id| *id as u32).collect())
        .collect();
    let words: Vec<&[u32]> = words.iter().map(Vec::as_slice).collect();
    let (_folder, layouts) = all();
    for (layout, path) in layouts {
        let Imported { weights, config, .. } = import(&path, &square()).unwrap();
        let parameters = Parameters::new(&weights, &config, Device::Cpu, |_| false).unwrap();
        let net = Net::new(&config, &parameters).unwrap();
        let captions = Captions::new(&words, &config, Device::Cpu).unwrap();
        for (name, got) in [
            ("image_features", net.images(&tensor("pixels")).unwrap()),
            ("text_features", net.texts(&captions).unwrap()),
        ] {
            let apart = (got - unit(tensor(name))).abs().max().double_value(&[]);
            println!("{layout:?} {name}: {apart:e} apart");
            assert!(apart < 1e-4, "{layout:?} {name}: {apart}");
        }
    }
}

#[test]
fn positions_are_fitted_and_the_folder_can_be_opened() {
    let (_folder, layouts) = all();
    let out = tempdir().unwrap();
    for (layout, path) in layouts {
        let options = Options {
            height: 384,
            width: 128,
            name: Some("Tiny".into()),
            licence: Some("CC0-1.0".into()),
            ..square()
        };
        let Imported { weights, config, origin } = import(&path, &options).unwrap();
        assert_eq!(weights.tensor("visual.positional_embedding").unwrap().shape(), [193, 64]);
        let folder = out.path().join(layout.name());
        Base::write(&folder, &weights, &config, &origin).unwrap();
        let base = Base::open(&folder).unwrap();
        assert_eq!((base.weights(), base.config(), base.origin()), (&weights, &config, &origin));
        assert_eq!((origin.name.as_str(), origin.licence.as_str()), ("Tiny", "CC0-1.0"));
    }
    // As many patches in another grid are another table.
    let square = import(&golden("hf-tiny"), &square()).unwrap();
    let options = Options { height: 448, width: 112, ..Options::default() };
    let tall = import(&golden("hf-tiny"), &options).unwrap();
    let positions = |imported: &Imported| {
        imported.weights.tensor("visual.positional_embedding").unwrap().clone()
    };
    assert_eq!(positions(&square).shape(), positions(&tall).shape());
    assert_ne!(positions(&square), positions(&tall));
    let options = Options { height: 390, ..Options::default() };
    assert!(error(&golden("hf-tiny"), &options).contains("multiple of the patch"));
    // What is asked for is wrong, not the model.
    for (height, width) in [(0, 128), (384, 0), (390, 128), (1 << 20, 1 << 20)] {
        let options = Options { height, width, ..Options::default() };
        let error = import(&golden("hf-tiny"), &options).unwrap_err();
        assert_eq!(error.kind(), spotter_models::Kind::Config, "{error}");
        assert!(error.to_string().starts_with("--"), "{error}");
    }
}

#[test]
fn the_hash_is_checked_and_recorded() {
    let path = golden("openai-tiny.pt");
    let right = Digest::of(&fs::read(&path).unwrap());
    let options = Options { sha256: Some(right), ..square() };
    let imported = import(&path, &options).unwrap();
    assert_eq!(imported.origin.source_sha256, Some(right));
    assert_eq!(imported.origin.licence, "not stated");
    let options = Options { sha256: Some(Digest::of(b"other")), ..square() };
    let message = error(&path, &options);
    assert!(message.contains(&right.to_string()), "{message}");
}

#[test]
fn weights_in_several_files_are_one_model() {
    let folder = hugging_face(|_| ());
    let whole = folder.path().join("model.safetensors");
    let tensors = raw(&whole);
    fs::remove_file(whole).unwrap();
    let mut map = BTreeMap::new();
    let parts = [("model-1.safetensors", "text_"), ("model-2.safetensors", "")];
    let mut left = tensors;
    for (file, prefix) in parts {
        let (taken, rest): (Raw, Raw) =
            left.into_iter().partition(|(name, _)| name.starts_with(prefix));
        left = rest;
        map.extend(taken.keys().map(|name| (name.clone(), file)));
        write_raw(&folder.path().join(file), &taken);
    }
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    let whole = import(&golden("hf-tiny"), &square()).unwrap();
    assert_eq!(import(folder.path(), &square()).unwrap().weights, whole.weights);
    fs::write(&index, json!({"weight_map": {"a": "../model-1.safetensors"}}).to_string()).unwrap();
    assert!(error(folder.path(), &square()).contains("no file of this folder"));
    fs::write(&index, json!({"weight_map": {"a": "model-3.safetensors"}}).to_string()).unwrap();
    assert!(error(folder.path(), &square()).contains("model-3.safetensors"));
}

#[test]
fn a_file_that_is_cut_short_is_an_error_everywhere() {
    let folder = hugging_face(|_| ());
    for (name, path) in [
        ("cut.pt", golden("openai-tiny.pt")),
        ("model.safetensors", golden("hf-tiny/model.safetensors")),
    ] {
        let bytes = fs::read(path).unwrap();
        let cut = folder.path().join(name);
        for part in 0..10 {
            fs::write(&cut, &bytes[..bytes.len() * part / 10]).unwrap();
            let message = error(&cut, &square());
            assert!(message.contains(name) || message.contains("cut"), "{name} {part}: {message}");
        }
        fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
        error(&cut, &square());
    }
    // The right end, but the middle is gone: libtorch itself must refuse.
    let bytes = fs::read(golden("openai-tiny.pt")).unwrap();
    let mut holed = bytes.clone();
    holed[620_000..640_000].fill(0);
    let path = folder.path().join("holed.pt");
    fs::write(&path, holed).unwrap();
    let message = error(&path, &square());
    assert!(message.contains("holed.pt"), "{message}");
}

#[test]
fn archives_of_another_kind_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.pt");
    for (bytes, word) in [
        (b"no zip at all".to_vec(), "is neither a zip file, as OpenAI's archives are, nor"),
        (vec![], "is neither a zip file"),
        ([&b"PK\x03\x04"[..], &[0; 100]].concat(), "cut short"),
        (empty_zip("archive/other.txt"), "none with PyTorch's tensors"),
        (empty_zip("archive/data.pkl"), "torch.save"),
    ] {
        fs::write(&path, bytes).unwrap();
        let message = error(&path, &square());
        assert!(message.contains(word), "{word}: {message}");
    }
    fs::write(&path, b"no zip at all").unwrap();
    let options = Options { layout: Layout::Openai, ..square() };
    assert!(error(&path, &options).contains("no TorchScript archive"));
}

/// A zip file with one empty member.
fn empty_zip(name: &str) -> Vec<u8> {
    let length = (name.len() as u16).to_le_bytes();
    let local = [&b"PK\x03\x04"[..], &[0; 22], &length, &[0; 2], name.as_bytes()].concat();
    let directory = [&b"PK\x01\x02"[..], &[0; 24], &length, &[0; 16], name.as_bytes()].concat();
    let size = (directory.len() as u32).to_le_bytes();
    let offset = (local.len() as u32).to_le_bytes();
    let end = [&b"PK\x05\x06"[..], &[0; 4], &[1, 0, 1, 0], &size, &offset, &[0; 2]].concat();
    [local, directory, end].concat()
}

#[test]
fn values_that_are_not_finite_are_refused_by_name() {
    let name = "transformer.resblocks.1.mlp.c_fc.weight";
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let folder = open_clip(&open_clip_config(), |raw| {
            raw.get_mut(name).unwrap().1[40..44].copy_from_slice(&value.to_le_bytes());
        });
        let message = error(folder.path(), &square());
        assert!(message.contains(name) && message.contains("value 10"), "{message}");
        // Not kept, but a sign.
        let folder = open_clip(&open_clip_config(), |raw| {
            raw.get_mut("logit_scale").unwrap().1.copy_from_slice(&value.to_le_bytes());
        });
        let message = error(folder.path(), &square());
        assert!(message.contains("logit_scale holds values that are not finite"), "{message}");
    }
}

#[test]
fn other_architectures_are_refused_with_what_was_found() {
    type Change = fn(&mut Raw);
    let cases: [(&str, Change); 9] = [
        ("ResNet", |raw| {
            raw.retain(|name, _| !name.starts_with("visual."));
            raw.insert("visual.layer1.0.conv1.weight".into(), (vec![1], vec![0; 4]));
        }),
        ("timm", |raw| {
            raw.insert("visual.trunk.stem.weight".into(), (vec![1], vec![0; 4]));
        }),
        ("text tower of its own", |raw| {
            raw.insert("text.transformer.layer.weight".into(), (vec![1], vec![0; 4]));
        }),
        ("no picture tower", |raw| raw.retain(|name, _| !name.starts_with("visual."))),
        ("no text tower", |raw| raw.retain(|name, _| name.starts_with("visual."))),
        ("no class token", |raw| {
            raw.remove("visual.class_embedding");
        }),
        ("another architecture", |raw| {
            raw.insert("visual.transformer.resblocks.0.ls_1.gamma".into(), (vec![1], vec![0; 4]));
        }),
        ("transformer.resblocks.1.ln_2.bias", |raw| {
            raw.remove("transformer.resblocks.1.ln_2.bias");
        }),
        ("ln_final.weight", |raw| {
            raw.insert("ln_final.weight".into(), (vec![8, 4], vec![0; 128]));
        }),
    ];
    for (word, change) in cases {
        let folder = open_clip(&open_clip_config(), change);
        let message = error(folder.path(), &square());
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn configurations_that_ask_for_other_mathematics_are_refused() {
    type Change = fn(&mut Value);
    let hugging: [(&str, Change); 4] = [
        ("siglip", |config| config["model_type"] = json!("siglip")),
        ("clip_vision_model", |config| config["model_type"] = json!("clip_vision_model")),
        ("vision_config.hidden_act is gelu", |config| {
            config["vision_config"]["hidden_act"] = json!("gelu");
        }),
        ("text_config.layer_norm_eps", |config| {
            config["text_config"]["layer_norm_eps"] = json!(1e-6);
        }),
    ];
    for (word, change) in hugging {
        let folder = hugging_face(change);
        let message = error(folder.path(), &square());
        assert!(message.contains(word), "{word}: {message}");
    }
    let open: [(&str, Change); 4] = [
        ("GELU", |config| config["model_cfg"]["quick_gelu"] = json!(false)),
        ("GELU", |config| *config = json!({"model_cfg": {}})),
        ("convnext", |config| {
            config["model_cfg"]["vision_cfg"]["timm_model_name"] = json!("convnext_base");
        }),
        ("preprocess_cfg.mean", |config| {
            config["preprocess_cfg"]["mean"] = json!([0.5, 0.5, 0.5]);
        }),
    ];
    for (word, change) in open {
        let mut config = open_clip_config();
        change(&mut config);
        let folder = open_clip(&config, |_| ());
        let message = error(folder.path(), &square());
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn weights_that_are_not_what_the_configuration_says_are_refused() {
    for (place, tower) in [("vision_config", "vision_model"), ("text_config", "text_model")] {
        let folder = hugging_face(|_| ());
        let file = folder.path().join("model.safetensors");
        let mut tensors = raw(&file);
        let last = format!("{tower}.encoder.layers.2.");
        tensors.retain(|name, _| !name.starts_with(&last));
        write_raw(&file, &tensors);
        let message = error(folder.path(), &square());
        let wanted = format!("{place}.num_hidden_layers is 3, but the tensors have 2");
        assert!(message.contains(&wanted), "{message}");
    }
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 5] = [
        ("vision_config.image_size is 9999", |config| {
            config["vision_config"]["image_size"] = json!(9999);
        }),
        ("vision_config.patch_size is 7", |config| {
            config["vision_config"]["patch_size"] = json!(7);
        }),
        ("projection_dim is 49", |config| config["projection_dim"] = json!(49)),
        ("vision_config.hidden_size is 65", |config| {
            config["vision_config"]["hidden_size"] = json!(65);
        }),
        ("text_config.hidden_size is 33", |config| {
            config["text_config"]["hidden_size"] = json!(33);
        }),
    ];
    for (word, change) in cases {
        let folder = hugging_face(change);
        let message = error(folder.path(), &square());
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn options_that_contradict_the_configuration_are_refused() {
    let source = golden("hf-tiny");
    for (options, word) in [
        (Options { text_heads: Some(1), ..square() }, "--text-heads: 1 is not what"),
        (Options { vision_heads: Some(1), ..square() }, "--vision-heads: 1 is not what"),
        (Options { activation: Some(Activation::Gelu), ..square() }, "--activation gelu"),
        (Options { layout: Layout::Openai, ..square() }, "is a folder; with --layout openai"),
    ] {
        let message = error(&source, &options);
        assert!(message.contains(word), "{word}: {message}");
    }
    let quick = Options { activation: Some(Activation::QuickGelu), ..square() };
    import(&source, &quick).unwrap();
    let mut config = open_clip_config();
    config["model_cfg"]["quick_gelu"] = json!(false);
    let folder = open_clip(&config, |_| ());
    assert!(error(folder.path(), &quick).contains("says the opposite"));
    let file = source.join("model.safetensors");
    let message = error(&file, &Options { layout: Layout::Openai, ..square() });
    assert!(message.contains("Leave --layout out"), "{message}");
}

#[test]
fn a_file_alone_needs_its_activation() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("alone.safetensors");
    fs::copy(golden("expected-names.safetensors"), &path).unwrap();
    assert!(error(&path, &square()).contains("--activation quick-gelu"));
    let with = |activation| Options { activation: Some(activation), ..square() };
    import(&path, &with(Activation::QuickGelu)).unwrap();
    assert!(error(&path, &with(Activation::Gelu)).contains("GELU"));
    let unknown = Options { vision_heads: None, ..with(Activation::QuickGelu) };
    // A width of 64 is one head of 64, which is wrong here and right in every published CLIP.
    assert_eq!(import(&path, &unknown).unwrap().config.vision_heads, 1);
    let unknown = Options { text_heads: None, ..with(Activation::QuickGelu) };
    assert!(error(&path, &unknown).contains("--text-heads"));
    // Heads that do not divide the width.
    let wrong = Options { text_heads: Some(5), ..with(Activation::QuickGelu) };
    assert!(error(&path, &wrong).contains("text_heads"));
    // Of transformers, without the configuration.
    fs::copy(golden("hf-tiny/model.safetensors"), &path).unwrap();
    assert!(error(&path, &square()).contains("no picture tower"));
}

#[test]
fn folders_without_weights_say_what_is_looked_for() {
    let folder = tempdir().unwrap();
    assert!(error(folder.path(), &square()).contains("open_clip_config.json"));
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(error(folder.path(), &square()).contains("pytorch_model.bin"));
    assert!(error(&folder.path().join("none"), &square()).contains("none"));
}

#[test]
fn the_command_writes_a_base_model_and_explains_itself() {
    let run = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_spotter-trainer");
        let output = std::process::Command::new(program).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let folder = tempdir().unwrap();
    let out = folder.path().join("base");
    let (source, out) = (golden("hf-tiny"), out.to_str().unwrap());
    let source = source.to_str().unwrap();
    let (code, text) = run(&["import", source, "--out", out, "--licence", "CC0-1.0"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("85 tensors") && text.contains("CC0-1.0"), "{text}");
    let (code, text) = run(&["base", out]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("384x128"), "{text}");
    let (code, text) = run(&["import", source, "--out", out]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("exists already"), "{text}");
    let hash = Digest::of(b"other").to_string();
    let (code, text) = run(&["import", source, "--out", "other", "--sha256", &hash]);
    assert_eq!(code, Some(3), "{text}");
    let (code, text) = run(&["import", "--help"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("import only files from somebody you trust"), "{text}");
}
