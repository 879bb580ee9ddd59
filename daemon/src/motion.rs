//! MOTION: whether anything moves in a camera's picture, before a detector is asked who.
//!
//! A picture of a few thousand cells is compared with what the camera has shown lately. Whoever comes into view changes
//! some cells by more than the picture's own noise. It is asked only while nobody is in view: who stands still and is
//! followed is looked for all the same. What it cannot tell, such as who comes into view too slowly or too far away, is
//! found by the look that is due every few seconds whatever moves.

use std::time::Duration;

use spotter_models::Rgb;

use crate::frame::Pts;

/// Cells across and down: of 640x360 each has 5x5 pixels, of a person who is worth a crop at least a dozen.
pub const CELLS: (u32, u32) = (128, 72);

/// Levels, of 255, by which a cell differs at least before it counts.
const LEAST_CHANGE: u16 = 10;

/// How many times the picture's noise a change must be.
const NOISES: u16 = 8;

/// Levels by which most of the picture changes beyond its usual noise where the light does, or the camera turns.
const LARGE_CHANGE: f32 = 8.0;

/// Cells that change together before it is motion: one alone is noise.
const FEWEST_CELLS: usize = 3;

/// Every how-manieth part of a difference what is known of the picture follows a look.
const FOLLOWS: i32 = 8;

/// A look is due this long after the last one, whatever moves.
const LONGEST_REST: Duration = Duration::from_secs(3);

/// How long everything is looked at after somebody was in view.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What a camera has shown lately.
#[derive(Default)]
pub struct Motion {
    /// Brightness of each cell, in sixteenths.
    known: Vec<i32>,
    /// By how much most cells have changed from look to look lately, in levels.
    noise: f32,
    /// When the detector looked last.
    looked: Option<Pts>,
    /// When somebody was in view last.
    occupied: Option<Pts>,
}

impl Motion {
    /// Whether a detector should look at this picture of [`CELLS`], taken then. `in_view` says whether anybody is
    /// followed.
    pub fn wants(&mut self, picture: &Rgb, at: Pts, in_view: bool) -> bool {
        let cells = brightness(picture);
        let moved = self.moved(&cells);
        self.follow(&cells);
        if in_view {
            self.occupied = Some(at);
        }
        let within = |last: Option<Pts>, span: Duration| {
            last.is_some_and(|last| last <= at && at.0.saturating_sub(last.0) < span)
        };
        let wants = in_view
            || moved
            || within(self.occupied, AFTERMATH)
            || !within(self.looked, LONGEST_REST);
        if wants {
            self.looked = Some(at);
        }
        wants
    }

    fn moved(&mut self, cells: &[i32]) -> bool {
        if self.known.len() != cells.len() {
            self.noise = 0.0;
            return true;
        }
        let change = |(now, known): (&i32, &i32)| ((now - known).unsigned_abs() / 16) as u16;
        let changes: Vec<u16> = cells.iter().zip(&self.known).map(change).collect();
        // Most cells show the same as before: what half of them differ by is noise, or the light.
        let mut sorted = changes.clone();
        let middle = sorted.len() / 2;
        let (_, noise, _) = sorted.select_nth_unstable(middle);
        let limit = LEAST_CHANGE.max(NOISES * *noise);
        let (usual, noise) = (self.noise, f32::from(*noise));
        self.noise += (noise - usual) / FOLLOWS as f32;
        if noise > 3.0 * usual + LARGE_CHANGE {
            // The whole picture is another: in it nobody could be told apart.
            return true;
        }
        changes.iter().filter(|change| **change > limit).count() >= FEWEST_CELLS
    }

    fn follow(&mut self, cells: &[i32]) {
        if self.known.len() != cells.len() {
            self.known = cells.to_vec();
            return;
        }
        for (known, now) in self.known.iter_mut().zip(cells) {
            *known += (now - *known) / FOLLOWS;
        }
    }
}

/// Brightness of each pixel in sixteenths.
fn brightness(picture: &Rgb) -> Vec<i32> {
    let luma = |[red, green, blue]: &[u8; 3]| {
        5 * i32::from(*red) + 9 * i32::from(*green) + 2 * i32::from(*blue)
    };
    picture.data().as_chunks::<3>().0.iter().map(luma).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// A grey picture with noise, and a darker patch of so many cells, from this column on.
    fn picture(random: &mut SmallRng, noise: u8, patch: Option<(u32, u32, u8)>) -> Rgb {
        let (width, height) = CELLS;
        let mut data = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let mut level = 120 + random.random_range(0..=2 * noise) - noise;
                if let Some((column, size, darker)) = patch
                    && (column..column + size).contains(&x)
                    && (20..20 + 2 * size).contains(&y)
                {
                    level -= darker;
                }
                data.extend_from_slice(&[level; 3]);
            }
        }
        Rgb::new(width, height, data).unwrap()
    }

    fn at(tenths: u64) -> Pts {
        Pts(Duration::from_millis(100 * tenths))
    }

    /// A minute of a picture in which nothing happens, two looks a second: those that were wanted.
    fn quiet(motion: &mut Motion, random: &mut SmallRng, noise: u8) -> usize {
        let looks = (0..120)
            .filter(|number| motion.wants(&picture(random, noise, None), at(5 * number), false));
        looks.count()
    }

    #[test]
    fn a_picture_in_which_nothing_moves_is_looked_at_every_few_seconds() {
        for noise in [0, 3, 12, 40] {
            let mut random = SmallRng::seed_from_u64(7);
            let looks = quiet(&mut Motion::default(), &mut random, noise);
            assert!((20..=24).contains(&looks), "noise {noise}: {looks}");
        }
    }

    #[test]
    fn whoever_comes_into_view_is_looked_at_at_once() {
        for (noise, size, darker) in [(0, 2, 15), (3, 3, 30), (12, 6, 90)] {
            let mut random = SmallRng::seed_from_u64(7);
            let mut motion = Motion::default();
            quiet(&mut motion, &mut random, noise);
            // Just looked at: only motion makes another look.
            let mut now = 600;
            while !motion.wants(&picture(&mut random, noise, None), at(now), false) {
                now += 1;
            }
            assert!(!motion.wants(&picture(&mut random, noise, None), at(now + 1), false));
            for step in 0..8_u32 {
                let patch = Some((10 + 4 * step, size, darker));
                let moving = picture(&mut random, noise, patch);
                let wanted = motion.wants(&moving, at(now + 2 + u64::from(step)), false);
                assert!(wanted, "noise {noise}, step {step}");
            }
        }
    }

    #[test]
    fn nobody_who_is_followed_is_passed_over_nor_who_just_was() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut motion = Motion::default();
        quiet(&mut motion, &mut random, 2);
        for tenth in 600..700 {
            assert!(motion.wants(&picture(&mut random, 2, None), at(tenth), true));
        }
        let after = (700..800)
            .filter(|tenth| motion.wants(&picture(&mut random, 2, None), at(*tenth), false));
        let after: Vec<u64> = after.collect();
        assert_eq!(after[..49], (700..749).collect::<Vec<u64>>());
        assert!(after.len() < 53, "{}", after.len());
    }

    #[test]
    fn another_size_a_time_that_goes_back_and_the_light_make_a_look() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut motion = Motion::default();
        quiet(&mut motion, &mut random, 2);
        let other = Rgb::new(16, 9, vec![7; 16 * 9 * 3]).unwrap();
        assert!(motion.wants(&other, at(600), false));
        assert!(!motion.wants(&other, at(601), false));
        assert!(motion.wants(&other, at(10), false), "the clock went back");
        // The light goes on in half of the picture.
        let mut half = vec![7; 16 * 9 * 3];
        half[..16 * 4 * 3].fill(90);
        assert!(motion.wants(&Rgb::new(16, 9, half).unwrap(), at(11), false));
    }

    #[test]
    fn the_light_goes_on_everywhere() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut motion = Motion::default();
        quiet(&mut motion, &mut random, 2);
        let (width, height) = CELLS;
        let bright = Rgb::new(width, height, vec![190; (3 * width * height) as usize]).unwrap();
        // Just looked at.
        let mut now = 600;
        while !motion.wants(&picture(&mut random, 2, None), at(now), false) {
            now += 1;
        }
        assert!(!motion.wants(&picture(&mut random, 2, None), at(now + 1), false));
        assert!(motion.wants(&bright, at(now + 2), false));
        assert!(motion.wants(&bright, at(now + 3), false), "until it is known");
    }
}
