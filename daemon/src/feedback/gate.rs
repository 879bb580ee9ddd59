//! Which views are good enough to learn from.

use crate::crop::Quality;

/// Least height on [`Quality::size`]'s scale: 48 pixels.
const SMALL: f32 = 0.33;
/// Least share that the frame's edge leaves.
const CUT: f32 = 0.7;
/// Least share that nearer persons leave: with less, somebody else is in the middle of the crop.
const HIDDEN: f32 = 0.7;
/// Least sharpness; persons blurred by 2 % of their height have 0.14.
const BLURRED: f32 = 0.2;

/// Why a view is in no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The person is too small.
    Tiny,
    /// The frame's edge cuts the person.
    Cut,
    /// Other persons overlap it.
    Hidden,
    /// It is blurred.
    Blurred,
    /// Better ones of the track are there.
    Surplus,
}

impl Cause {
    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Tiny => "tiny",
            Cause::Cut => "cut",
            Cause::Hidden => "hidden",
            Cause::Blurred => "blurred",
            Cause::Surplus => "surplus",
        }
    }
}

/// Why a view is not good enough; `None` where it is.
pub fn refused(quality: &Quality) -> Option<Cause> {
    let causes = [
        (quality.size < SMALL, Cause::Tiny),
        (quality.uncut < CUT, Cause::Cut),
        (quality.unhidden < HIDDEN, Cause::Hidden),
        (quality.sharpness.is_none_or(|sharpness| sharpness < BLURRED), Cause::Blurred),
    ];
    causes.into_iter().find(|(is_so, _)| *is_so).map(|(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detect::Detection, geometry::BBox};

    fn quality(bbox: [f32; 4], others: &[BBox], sharpness: f32) -> Quality {
        let bbox = BBox::new(bbox[0], bbox[1], bbox[2], bbox[3]).unwrap();
        let seen = Detection { bbox, score: 0.9 };
        Quality::of_box(&seen, others, (1280, 720)).with_sharpness(sharpness)
    }

    #[test]
    fn each_weakness_has_its_cause() {
        let whole = [600.0, 200.0, 680.0, 400.0];
        let near = BBox::new(560.0, 220.0, 660.0, 430.0).unwrap();
        for (seen, cause) in [
            (quality(whole, &[], 0.6), None),
            (quality([600.0, 200.0, 616.0, 246.0], &[], 0.6), Some(Cause::Tiny)),
            (quality([600.0, 200.0, 617.0, 250.0], &[], 0.6), None),
            (quality([-0.5, 200.0, 33.0, 400.0], &[], 0.6), Some(Cause::Cut)),
            (quality([600.0, 0.0, 700.0, 200.0], &[], 0.6), Some(Cause::Cut)),
            (quality(whole, &[near], 0.6), Some(Cause::Hidden)),
            (quality(whole, &[], 0.1), Some(Cause::Blurred)),
            (Quality { sharpness: None, ..quality(whole, &[], 0.6) }, Some(Cause::Blurred)),
        ] {
            assert_eq!(refused(&seen), cause, "{seen:?}");
        }
    }
}
