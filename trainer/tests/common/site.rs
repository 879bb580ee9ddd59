//! A site whose staff say what they think of sightings.

use std::{fs, path::Path};

use image::{Rgb, RgbImage};
use spotter_models::{
    Generation,
    feedback::{Feedback, Judgement, Picture, SCHEMA, Verdict},
};
use spotter_trainer::export::{Model, Said, Target, export};

use super::{COLOURS, CSKT, Room};

/// Settings for pictures that are drawn here.
pub const SETTINGS: &str = r#"
texts = 8
blend = 0.9
[limits]
min_height = 32
held_out = 0.3
[replay]
ratio = 1.0
least = 60
[gate]
reference_loss = 8.0
persons = 4
[recipe]
method = "cskt"
seed = 5
[recipe.prompts]
hold_couplings = true
[recipe.loss]
kind = "itc"
temperature = 0.05
[recipe.optimiser]
learning_rate = 1e-2
epsilon = 1e-8
decoupled = true
weight_decay = 0.0
bias_factor = 1.0
[recipe.schedule]
epochs = 12
warmup_epochs = 0.5
each = "step"
[recipe.batch]
size = 32
[recipe.validation]
keep = "last"
[recipe.data]
sampler = "pictures"
"#;

/// A room with a vendor's pack that was trained on `data`, and settings.
pub fn site() -> Room {
    let room = Room::new();
    let base = room.base();
    room.train(CSKT, Some(&base), "vendor");
    let model = Model::of_run(&room.path("vendor")).unwrap();
    let manifest = Said {
        name: "vendor".into(),
        created_at: "2026-11-01T00:00:00Z".into(),
        data_licence: "CC0-1.0".into(),
        evaluation: serde_json::Map::new(),
    };
    let probe = model.probe().unwrap();
    export(&room.path("pack"), &model, &manifest, &probe, None, Target::Pack).unwrap();
    fs::write(room.path("settings.toml"), SETTINGS).unwrap();
    room
}

/// A person as the site's camera sees them: dim, and everything bluish.
pub fn crop(top: [u8; 3], bottom: [u8; 3], view: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(24, 48, |x, y| {
        let [r, g, b] = if y < 23 + view { top } else { bottom };
        let noise = ((x * 5 + y * 11 + view * 7) % 13) as u8;
        Rgb([r / 3 * 2 + noise, g / 5 * 4 + noise, b / 5 * 4 + 25 + noise])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

pub fn text(top: usize, bottom: usize) -> String {
    format!("a person in a {} shirt and {} trousers", COLOURS[top].0, COLOURS[bottom].0)
}

/// What staff say of a person of these two colours who was told for this text.
pub fn verdict(number: usize, text: String, track: usize, fits: bool, pictures: usize) -> Verdict {
    Verdict {
        schema: SCHEMA,
        sighting: format!("01S{number:05}"),
        verdict: if fits { Judgement::Confirmed } else { Judgement::Rejected },
        by: format!("guard-{}", number % 2),
        at: "2026-11-27T06:00:00Z".into(),
        alert: format!("alert-{number}"),
        text,
        corrected: None,
        note: None,
        camera: "gate".into(),
        track: track.to_string(),
        seen: "2026-11-27T05:00:00Z".into(),
        bundle: Generation::of_manifest(b"vendor"),
        pictures: (0..pictures)
            .map(|at| Picture { file: format!("{at}.jpg"), size: [24, 48], quality: 0.8 })
            .collect(),
    }
}

/// Verdicts about all 36 persons: each confirmed, and somebody else rejected for the same text. `said` turns
/// what is true into what staff say.
pub fn staff(folder: &Path, said: impl Fn(bool) -> bool) {
    let feedback = Feedback::create(folder).unwrap();
    for person in 0..36 {
        let (top, bottom) = (person / 6, person % 6);
        let colours = |person: usize| (COLOURS[person / 6].1, COLOURS[person % 6].1);
        for (offset, fits) in [(0, true), (7, false)] {
            let shown = (person + offset) % 36;
            let (upper, lower) = colours(shown);
            let pictures: Vec<Vec<u8>> = (0..3).map(|view| crop(upper, lower, view)).collect();
            let number = 2 * person + usize::from(!fits);
            let verdict = verdict(number, text(top, bottom), shown, said(fits), pictures.len());
            feedback.put(&verdict, &pictures).unwrap();
        }
    }
}
