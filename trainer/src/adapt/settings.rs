//! How a site's verdicts are learnt from, as a TOML file says it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Limits, gate::Rules};
use crate::{
    bounded,
    error::{Error, Result},
    method::Method,
    recipe::{Keep, Recipe},
};

/// What `configs/trainer/adapt.toml` says.
const USUAL: &str = include_str!("../../../configs/trainer/adapt.toml");

/// All settings of an adaptation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Fewest descriptions with a confirmed sighting to learn from.
    pub texts: usize,
    /// How far the candidate goes from the vendor's tensors to the trained ones, above 0 up to 1.
    pub blend: f32,
    /// Which verdicts and pictures are used.
    #[serde(default)]
    pub limits: Limits,
    /// Against forgetting.
    #[serde(default)]
    pub replay: Replay,
    /// What a candidate must hold.
    #[serde(default)]
    pub gate: Rules,
    /// The training.
    pub recipe: Recipe,
}

/// Pictures of the reference set that are learnt from besides the site's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// How many for each of the site's.
    pub ratio: f64,
    /// How many at least.
    pub least: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Self { ratio: 1.0, least: 2000 }
    }
}

impl Settings {
    /// Those that come with the program.
    ///
    /// # Errors
    /// None, but for a broken build.
    pub fn usual() -> Result<Self> {
        Self::parse("the program's own settings", USUAL)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or names and values are not possible; says where.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&path.display().to_string(), &bounded::text(path, "settings")?)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let settings: Self =
            toml::from_str(text).map_err(|error| Error::invalid(name, error.to_string()))?;
        settings.validate()?;
        Ok(settings)
    }

    /// Its text with every value.
    ///
    /// # Errors
    /// None, but for a bug.
    pub fn to_text(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| spotter_models::Error::internal("TOML", error).into())
    }

    fn validate(&self) -> Result<()> {
        self.recipe.validate()?;
        let Self { limits, replay, gate, recipe, .. } = self;
        let checks = [
            ("blend", self.blend > 0.0 && self.blend <= 1.0, "above 0, up to 1"),
            ("limits.min_quality", (0.0..=1.0).contains(&limits.min_quality), "0 to 1"),
            ("limits.held_out", (0.05..=0.5).contains(&limits.held_out), "0.05 to 0.5"),
            ("limits.per_track", limits.per_track > 0, "1 or more"),
            ("limits.per_text", limits.per_text > 0, "1 or more"),
            ("limits.per_author", limits.per_author > 0, "1 or more"),
            ("replay.ratio", (0.0..=100.0).contains(&replay.ratio), "0 to 100"),
            ("gate.reference_loss", (0.0..=100.0).contains(&gate.reference_loss), "0 to 100"),
            (
                "recipe.method",
                recipe.method == Method::Cskt,
                "cskt: a site trains prompts and adapters",
            ),
            (
                "recipe.prompts.hold_couplings",
                recipe.prompts.hold_couplings,
                "true: a delta stays small",
            ),
            (
                "recipe.validation.keep",
                recipe.validation.keep == Keep::Last,
                "last: those who judge it are not used up by choosing",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((name, _, meant)) => Err(Error::invalid(name, format!("must be {meant}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_settings_are_possible_and_others_are_refused_by_name() {
        let usual = Settings::usual().unwrap();
        assert_eq!(Settings::parse("again", &usual.to_text().unwrap()).unwrap(), usual);
        for (from, to, named) in [
            ("hold_couplings = true", "hold_couplings = false", "hold_couplings"),
            ("keep = \"last\"", "keep = \"best\"", "keep"),
            ("held_out = 0.2", "held_out = 0.9", "held_out"),
            ("ratio = 6.0", "ratio = -1.0", "ratio"),
            ("blend = 0.7", "blend = 0.0", "blend"),
            ("texts = ", "words = ", "words"),
        ] {
            assert!(USUAL.contains(from), "{from}");
            let error = Settings::parse("file", &USUAL.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
