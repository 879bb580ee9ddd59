//! Where a person is and how sure that is: a Kalman filter whose steps have any length.
//!
//! The state is the middle of the upper edge (the head), the width and the height of the box, each
//! with its speed. The head, because it is what stays in sight: others and the frame's edge hide
//! legs first. All noise is in shares of the person's size, which is a length of about 1.7 m, so
//! one set of numbers serves near and far persons and every picture size. The four axes do not
//! influence each other, so each is a filter of two numbers.

use super::edge::{Picture, Side};
use crate::geometry::BBox;

/// Noise of a box that a detector drew around a fully visible person, in shares of the scale: as
/// measured on the street scenes, rounded up. Widths swing with the gait.
const MEASURED: [f64; 4] = [0.03, 0.025, 0.07, 0.05];
/// Speed of a new track, standard deviation in scales per second: 1.3 m/s across, less in depth.
const START_SPEED: [f64; 4] = [0.75, 0.3, 0.3, 0.25];
/// How speeds change, scales per second squared: 0.7 m/s² across, as when a walker
/// starts, stops or turns within two seconds.
const ACCELERATION: [f64; 4] = [0.42, 0.18, 0.28, 0.18];
/// Seconds after which a speed that nothing confirms has faded to a third: persons go on walking,
/// but what made a box grow ends soon.
const FADING_S: [f64; 4] = [4.0, 4.0, 0.7, 1.0];
/// Width of a walking person in shares of the height.
const USUAL_WIDTH: f32 = 0.35;
/// Who is inside by less of the box is as good as gone.
const MOSTLY_OUT: f32 = 0.55;
/// Scales per second from which on somebody walks rather than stands: 0.25 m/s.
const WALKS: f64 = 0.15;
/// No person is smaller on a frame that a detector sees.
const SMALLEST_PX: f64 = 1.0;

/// A value and its speed, with their covariance.
#[derive(Clone, Copy, Debug)]
struct Axis {
    value: f64,
    speed: f64,
    value_variance: f64,
    covariance: f64,
    speed_variance: f64,
}

impl Axis {
    fn new(value: f64, deviation: f64, speed_deviation: f64) -> Self {
        Self {
            value,
            speed: 0.0,
            value_variance: deviation * deviation,
            covariance: 0.0,
            speed_variance: speed_deviation * speed_deviation,
        }
    }

    fn predict(&mut self, seconds: f64, acceleration: f64, fading: f64) {
        let kept = (-seconds / fading).exp();
        let moved = fading * (1.0 - kept);
        self.value += moved * self.speed;
        self.speed *= kept;
        let (p, c, v) = (self.value_variance, self.covariance, self.speed_variance);
        // White noise on the acceleration; the fading is slow against a step.
        let q = acceleration * acceleration * seconds * seconds;
        self.value_variance = p + 2.0 * moved * c + moved * moved * v + q * seconds * seconds / 4.0;
        self.covariance = kept * (c + moved * v) + q * seconds / 2.0;
        self.speed_variance = kept * kept * v + q;
    }

    fn update(&mut self, measured: f64, deviation: f64) {
        let off = measured - self.value;
        let total = self.value_variance + deviation * deviation;
        let (gain, speed_gain) = (self.value_variance / total, self.covariance / total);
        self.value += gain * off;
        self.speed += speed_gain * off;
        self.speed_variance -= speed_gain * self.covariance;
        self.covariance *= 1.0 - gain;
        self.value_variance *= 1.0 - gain;
    }

    fn scale(&mut self, factor: f64) {
        self.value *= factor;
        self.speed *= factor;
        self.value_variance *= factor * factor;
        self.covariance *= factor * factor;
        self.speed_variance *= factor * factor;
    }
}

/// How far a box lies from where a person is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Surprise {
    /// Squared distance of the head in standard deviations; two degrees of freedom.
    pub place: f64,
    /// Squared distance of width and height in standard deviations; two degrees of freedom.
    pub size: f64,
    /// Logarithm of how much wider the uncertainty of the head is than that of a single box: what a
    /// person who was not seen for long pays for fitting everywhere.
    pub vagueness: f64,
    /// By how much the box is higher than can be expected, in shares of the expected height.
    pub growth: f64,
}

/// A person's motion.
#[derive(Clone, Debug)]
pub(super) struct Motion {
    /// Middle of the upper edge (x, y), width, height.
    axes: [Axis; 4],
}

/// The four measured numbers of a box.
fn numbers(bbox: &BBox) -> [f64; 4] {
    let (x, _) = bbox.centre();
    [x, bbox.y1(), bbox.width(), bbox.height()].map(f64::from)
}

impl Motion {
    /// A person seen first in `bbox`.
    pub(super) fn new(bbox: &BBox, picture: Picture) -> Self {
        let bbox = picture.completed(bbox, USUAL_WIDTH * bbox.height(), 0.0);
        let values = numbers(&bbox);
        let scale = scale_of(values[2], values[3]);
        let axis = |i: usize| Axis::new(values[i], MEASURED[i] * scale, START_SPEED[i] * scale);
        Self { axes: [axis(0), axis(1), axis(2), axis(3)] }
    }

    /// Pixels of a person's length, also of one whose legs are not in the picture.
    pub(super) fn scale(&self) -> f64 {
        scale_of(self.axes[2].value, self.axes[3].value)
    }

    /// Height in pixels.
    pub(super) fn height(&self) -> f64 {
        self.axes[3].value
    }

    /// Moves on by `seconds`, at least 0.
    pub(super) fn predict(&mut self, seconds: f64) {
        let scale = self.scale();
        for (i, axis) in self.axes.iter_mut().enumerate() {
            axis.predict(seconds, ACCELERATION[i] * scale, FADING_S[i]);
        }
        self.keep_a_size();
    }

    /// Takes a box that shows this person. `blur` is how many times the usual its noise is, from 1:
    /// more where the detector is unsure, or where others hide a part.
    pub(super) fn update(&mut self, bbox: &BBox, picture: Picture, blur: [f64; 4]) {
        let scale = self.scale();
        let values = numbers(&self.completed(bbox, picture));
        for (i, (axis, value)) in self.axes.iter_mut().zip(values).enumerate() {
            axis.update(value, MEASURED[i] * scale * blur[i]);
        }
        self.keep_a_size();
    }

    /// How surprising a box would be.
    pub(super) fn surprise(&self, bbox: &BBox, picture: Picture, blur: [f64; 4]) -> Surprise {
        let scale = self.scale();
        let values = numbers(&self.completed(bbox, picture));
        let noise = |i: usize| (MEASURED[i] * scale).powi(2);
        let total = |i: usize| self.axes[i].value_variance + noise(i) * blur[i] * blur[i];
        let squared = |i: usize| (values[i] - self.axes[i].value).powi(2) / total(i);
        Surprise {
            place: squared(0) + squared(1),
            size: squared(2) + squared(3),
            growth: (values[3] - self.axes[3].value - 2.0 * self.axes[3].value_variance.sqrt())
                / self.axes[3].value,
            vagueness: ((total(0) / noise(0)).ln() + (total(1) / noise(1)).ln()) / 2.0,
        }
    }

    /// Where the person is expected; `None` where that is nowhere near a frame any more.
    pub(super) fn bbox(&self) -> Option<BBox> {
        let [x, top, width, height] = self.axes.map(|axis| axis.value);
        let corners = [x - width / 2.0, top, x + width / 2.0, top + height].map(|v| v as f32);
        BBox::new(corners[0], corners[1], corners[2], corners[3])
    }

    /// Whether the person is on the way out through a side of the picture and mostly there.
    pub(super) fn leaves(&self, picture: Picture) -> bool {
        let outward = self.axes[0].speed / self.scale();
        let Some(place) = self.bbox() else { return true };
        picture.share_inside(&place) < MOSTLY_OUT
            && match picture.side(&place) {
                Side::Left => outward < -WALKS,
                Side::Right => outward > WALKS,
                Side::Neither => false,
            }
    }

    /// Speed of the head in pixels per second.
    pub(super) fn speed(&self) -> (f32, f32) {
        (self.axes[0].speed as f32, self.axes[1].speed as f32)
    }

    /// Carries everything over to a frame of another size.
    pub(super) fn rescale(&mut self, x: f64, y: f64) {
        for (axis, factor) in self.axes.iter_mut().zip([x, y, x, y]) {
            axis.scale(factor);
        }
    }

    /// A box as it would be if the picture did not end.
    fn completed(&self, bbox: &BBox, picture: Picture) -> BBox {
        picture.completed(bbox, self.axes[2].value as f32, self.axes[3].value as f32)
    }

    fn keep_a_size(&mut self) {
        for axis in self.axes.iter_mut().skip(2).filter(|axis| axis.value < SMALLEST_PX) {
            axis.value = SMALLEST_PX;
            axis.speed = axis.speed.max(0.0);
        }
    }
}

/// A person is about 2.5 times as high as wide; where a box is lower, legs are missing.
fn scale_of(width: f64, height: f64) -> f64 {
    height.max(1.5 * width).max(SMALLEST_PX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARP: [f64; 4] = [1.0; 4];

    fn picture() -> Picture {
        Picture::new(100_000, 100_000)
    }

    fn at(x: f32) -> BBox {
        BBox::new(x, 100.0, x + 80.0, 300.0).unwrap()
    }

    /// A walker of 150 px/s, seen at these times.
    fn walked(times: &[f64]) -> Motion {
        let mut motion = Motion::new(&at(1000.0), picture());
        for pair in times.windows(2) {
            motion.predict(pair[1] - pair[0]);
            motion.update(&at(1000.0 + 150.0 * pair[1] as f32), picture(), SHARP);
        }
        motion
    }

    #[test]
    fn the_speed_is_learned_at_any_rate() {
        for step in [1.0 / 15.0, 1.0 / 5.0, 1.0 / 3.0] {
            let times: Vec<f64> =
                (0..).map(|i| f64::from(i) * step).take_while(|t| *t < 2.01).collect();
            let (vx, vy) = walked(&times).speed();
            // Fading keeps it a little low.
            assert!((vx - 150.0).abs() < 15.0 && vy.abs() < 1.0, "{step}: {vx} {vy}");
        }
    }

    #[test]
    fn steps_may_have_different_lengths() {
        let mut motion = walked(&[0.0, 0.07, 0.4, 0.5, 0.9, 1.0, 1.5]);
        motion.predict(0.5);
        let expected = at(1300.0);
        assert!(motion.bbox().unwrap().iou(&expected) > 0.8, "{:?}", motion.bbox());
    }

    #[test]
    fn one_long_step_is_about_as_vague_as_many_short_ones() {
        let (mut once, mut often) = (walked(&[0.0, 0.2, 0.4]), walked(&[0.0, 0.2, 0.4]));
        once.predict(1.0);
        (0..20).for_each(|_| often.predict(0.05));
        let ratio = once.surprise(&at(1000.0), picture(), SHARP).vagueness
            / often.surprise(&at(1000.0), picture(), SHARP).vagueness;
        assert!((0.7..1.4).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_same_offset_surprises_less_after_a_gap() {
        let mut motion = walked(&[0.0, 0.2, 0.4, 0.6]);
        motion.predict(0.2);
        let soon = motion.surprise(&at(1000.0 + 150.0 * 0.8 + 80.0), picture(), SHARP);
        motion.predict(1.3);
        let late = motion.surprise(&at(1000.0 + 150.0 * 2.1 + 80.0), picture(), SHARP);
        assert!(late.place < soon.place / 4.0, "{soon:?} {late:?}");
        assert!(late.vagueness > soon.vagueness + 0.5);
    }

    #[test]
    fn a_bigger_frame_changes_nothing_but_the_unit() {
        let mut motion = walked(&[0.0, 0.2, 0.4]);
        let before = motion.surprise(&at(1090.0), picture(), SHARP);
        motion.rescale(2.0, 2.0);
        let doubled = BBox::new(2180.0, 200.0, 2340.0, 600.0).unwrap();
        let after = motion.surprise(&doubled, picture(), SHARP);
        assert!(
            (before.place - after.place).abs() < 1e-6 && (before.size - after.size).abs() < 1e-6
        );
    }
}
