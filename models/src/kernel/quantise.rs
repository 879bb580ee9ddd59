//! Vectors in 8 or 16 bits and one scale.

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

/// As [`Codes`], in 16 bits from -32767 to 32767: where the order of near neighbours counts.
#[derive(Clone, Debug, PartialEq)]
pub struct FineCodes {
    /// The whole numbers.
    pub values: Vec<i16>,
    /// What one is worth; 0 for a vector of zeros.
    pub scale: f32,
}

impl FineCodes {
    /// Rounds a vector, as [`quantise`] does.
    pub fn new(values: &[f32]) -> Self {
        let largest =
            values.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0f32, f32::max);
        let scale = largest / 32767.0;
        if !scale.is_normal() {
            return Self { values: vec![0; values.len()], scale: 0.0 };
        }
        // A cast of floats saturates, and makes 0 of what is no number.
        let round = |v: &f32| if v.is_finite() { (v / scale).round() as i16 } else { 0 };
        Self { values: values.iter().map(round).collect(), scale }
    }

    /// The vector that they stand for.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|v| self.scale * f32::from(*v)).collect()
    }

    /// The cosine of a vector whose whole numbers are given as bytes, the lower one first, and one of
    /// unit length; `None` for a vector of zeros. The scale does not matter.
    pub fn cosine(bytes: &[u8], unit: &[f32]) -> Option<f32> {
        const LANES: usize = 16;
        let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
        let (pairs, _) = bytes.as_chunks::<2>();
        for (codes, values) in pairs.chunks(LANES).zip(unit.chunks(LANES)) {
            let lanes = products.iter_mut().zip(&mut squares);
            for ((product, square), (code, value)) in lanes.zip(codes.iter().zip(values)) {
                let code = f32::from(i16::from_le_bytes(*code));
                *product += code * value;
                *square += code * code;
            }
        }
        let length = squares.iter().sum::<f32>().sqrt();
        (length > 0.0).then(|| (products.iter().sum::<f32>() / length).clamp(-1.0, 1.0))
    }
}
