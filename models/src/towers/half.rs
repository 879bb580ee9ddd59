//! IEEE 754 half precision.

/// The number that 16 bits mean.
pub(super) fn to_float(bits: u16) -> f32 {
    /// The value of the lowest bit of the smallest halves.
    const SMALLEST: f32 = 1.0 / (1 << 24) as f32;
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => (fraction as f32 * SMALLEST).to_bits(),
        0x1f => 0x7f80_0000 | (fraction << 13),
        // 112 is the difference of the two formats' exponent biases.
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest half, the even one of two; infinite where a number is too large.
pub(super) fn from_float(value: f32) -> u16 {
    /// From here on halves are normal: 2^-14.
    const NORMAL: f32 = 1.0 / (1 << 14) as f32;
    /// The first float that rounds to more than the largest half, 65504.
    const TOO_LARGE: f32 = 65_520.0;
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= TOO_LARGE {
        return sign | 0x7c00;
    }
    if magnitude < NORMAL {
        // In units of the lowest bit, where the count of the smallest normal half is its bits too.
        return sign | (magnitude * (1 << 24) as f32).round_ties_even() as u16;
    }
    let bits = magnitude.to_bits() - (112 << 23);
    // Half of the lowest bit that stays, less one where that bit is even; a carry goes into the
    // exponent, as it should.
    let rounded = bits + 0xfff + ((bits >> 13) & 1);
    sign | (rounded >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_floats() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(to_float(bits), value, "{bits:#x}");
        }
        assert!(to_float(0x7e00).is_nan());
        assert!(to_float(0x8000).is_sign_negative());
    }

    #[test]
    fn every_half_survives_and_what_lies_between_goes_to_the_nearest() {
        for bits in 0..0x7c00u16 {
            let (value, next) = (to_float(bits), to_float(bits + 1));
            for sign in [0, 0x8000] {
                assert_eq!(from_float(to_float(sign | bits)), sign | bits);
            }
            if next.is_finite() {
                let middle = (value + next) / 2.0;
                let even = bits + (bits & 1);
                assert_eq!(from_float(middle), even, "{middle}");
                assert_eq!(from_float(f32::from_bits(middle.to_bits() - 1)), bits);
                assert_eq!(from_float(f32::from_bits(middle.to_bits() + 1)), bits + 1);
            }
        }
        assert_eq!([65_519.9, 65_520.0, f32::INFINITY].map(from_float), [0x7bff, 0x7c00, 0x7c00]);
        assert_eq!([-1e9, -1e-9, 0.0].map(from_float), [0xfc00, 0x8000, 0]);
        assert!(to_float(from_float(f32::NAN)).is_nan());
    }
}
