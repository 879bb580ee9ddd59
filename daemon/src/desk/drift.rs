//! Whether a camera's persons score as those that the thresholds rest on.

use std::collections::BTreeMap;

use crate::{frame::CameraId, score::Upper};

/// Texts that are compared each time; more say little more, since the same persons pass for all.
const MOST_TEXTS: usize = 64;

/// Scores of so many new persons are enough to say something of a camera.
const ENOUGH: u64 = 64;

/// Most cameras that are followed.
const MOST_CAMERAS: usize = 256;

/// From how many times as many high scores as promised, or as few, a camera has drifted.
const DRIFTED: f64 = 2.0;

/// Counts, for each camera, how many of its newest scores lie where one in ten was promised to.
#[derive(Default)]
pub(super) struct Drifts {
    texts: usize,
    cameras: BTreeMap<CameraId, Counted>,
}

/// Of one camera since it was judged last.
#[derive(Default)]
struct Counted {
    persons: u64,
    /// The most persons that any text was compared with in this pass.
    in_pass: u64,
    above: u64,
    scores: u64,
}

/// What was found of a camera.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drift {
    pub(super) camera: CameraId,
    /// How many times as many high scores as promised; 1 where all is as it was.
    pub(super) ratio: f64,
    pub(super) persons: u64,
}

impl Drift {
    /// Whether staff should know.
    pub(super) fn is_large(&self) -> bool {
        !(1.0 / DRIFTED..=DRIFTED).contains(&self.ratio)
    }
}

impl Drifts {
    /// Whether another text is to be compared in this pass.
    pub(super) fn wants_more(&self) -> bool {
        self.texts < MOST_TEXTS
    }

    /// What one text scored on the persons who are new to its thresholds.
    pub(super) fn note(&mut self, upper: Vec<(CameraId, Upper)>) {
        self.texts += usize::from(!upper.is_empty());
        for (camera, Upper { above, tracks }) in upper {
            if !self.cameras.contains_key(&camera) && self.cameras.len() >= MOST_CAMERAS {
                continue;
            }
            let counted = self.cameras.entry(camera).or_default();
            counted.in_pass = counted.in_pass.max(tracks);
            counted.above += above;
            counted.scores += tracks;
        }
    }

    /// All texts of this pass were compared: the cameras of which enough persons are new by now.
    pub(super) fn judge(&mut self) -> Vec<Drift> {
        self.texts = 0;
        for counted in self.cameras.values_mut() {
            counted.persons += std::mem::take(&mut counted.in_pass);
        }
        let judged = self.cameras.extract_if(.., |_, counted| counted.persons >= ENOUGH);
        let drift = |(camera, counted): (CameraId, Counted)| Drift {
            camera,
            ratio: counted.above as f64 / (counted.scores as f64 * Upper::PROMISED),
            persons: counted.persons,
        };
        judged.map(drift).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    #[test]
    fn a_camera_is_judged_once_enough_persons_are_new() {
        let mut drifts = Drifts::default();
        for pass in 0..3 {
            for _ in 0..MOST_TEXTS {
                assert!(drifts.wants_more());
                let upper = Upper { above: 9, tracks: 30 };
                drifts.note(vec![(camera("gate"), upper)]);
            }
            assert!(!drifts.wants_more());
            let judged = drifts.judge();
            match pass {
                2 => {
                    assert_eq!((judged.len(), judged[0].persons), (1, 90));
                    assert!((judged[0].ratio - 3.0).abs() < 1e-9 && judged[0].is_large());
                }
                _ => assert_eq!(judged, []),
            }
        }
        assert_eq!(drifts.judge(), [], "begins anew");
        for (ratio, large) in [(1.0, false), (0.6, false), (1.9, false), (0.4, true), (2.1, true)] {
            assert_eq!(Drift { camera: camera("a"), ratio, persons: 64 }.is_large(), large);
        }
    }

    #[test]
    fn cameras_are_bounded_and_nothing_says_nothing() {
        let mut drifts = Drifts::default();
        drifts.note(Vec::new());
        assert_eq!(drifts.texts, 0, "a text without new persons costs no place");
        for number in 0..1000 {
            drifts.note(vec![(camera(&format!("c{number}")), Upper { above: 0, tracks: 1 })]);
        }
        assert_eq!(drifts.cameras.len(), MOST_CAMERAS);
    }
}
