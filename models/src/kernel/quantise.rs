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

    /// How long that vector is.
    pub fn length(&self) -> f32 {
        let squares: i64 = self.values.iter().map(|v| i64::from(*v) * i64::from(*v)).sum();
        (f64::from(self.scale) * (squares as f64).sqrt()) as f32
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
    let round = |v: &f32| if v.is_finite() { (v / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
    Codes { values: values.iter().map(round).collect(), scale }
}
