//! Vectors in 8 bits and one scale.

/// A vector as whole numbers from -127 to 127 and a scale: component `i` is `scale * values[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// The whole numbers.
    pub values: Vec<i8>,
    /// What one is worth; 0 for a vector of zeros.
    pub scale: f32,
}

impl Codes {
    /// The vector that they stand for.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|v| self.scale * f32::from(*v)).collect()
    }

    /// The product of that vector with another one of its size, in f32.
    pub fn product(&self, other: &[f32]) -> f32 {
        const LANES: usize = 16;
        let mut sums = [0f32; LANES];
        let (codes, values) = (self.values.chunks_exact(LANES), other.chunks_exact(LANES));
        let rest = codes.remainder().iter().zip(values.remainder());
        let rest: f32 = rest.map(|(code, value)| f32::from(*code) * value).sum();
        for (codes, values) in codes.zip(values) {
            for (sum, (code, value)) in sums.iter_mut().zip(codes.iter().zip(values)) {
                *sum += f32::from(*code) * value;
            }
        }
        self.scale * (sums.iter().sum::<f32>() + rest)
    }

    /// How long that vector is.
    pub fn length(&self) -> f32 {
        // Up to 2^17 components cannot overflow.
        let squares: i32 = self.values.iter().map(|v| i32::from(*v) * i32::from(*v)).sum();
        (f64::from(self.scale) * f64::from(squares).sqrt()) as f32
    }
}

/// Rounds a vector to 8 bits, its largest component to 127. Components that are not finite count
/// as 0: an [`Embedding`](crate::Embedding) has none.
pub fn quantise(values: &[f32]) -> Codes {
    let largest = values.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0f32, f32::max);
    let scale = largest / 127.0;
    if !scale.is_normal() {
        return Codes { values: vec![0; values.len()], scale: 0.0 };
    }
    // A cast of floats saturates, and makes 0 of what is no number.
    let round =
        |v: &f32| if v.is_finite() { (v / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
    Codes { values: values.iter().map(round).collect(), scale }
}
