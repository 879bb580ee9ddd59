//! Names of sightings: unique without asking anybody, and in the order of time when sorted as text.

use std::fmt;

use jiff::Timestamp;
use rand::RngCore;

/// Crockford's base 32, as ULIDs use it: no I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of an id: 130 bits for 128.
const LENGTH: u32 = 26;
/// Bits below the time.
const RANDOM_BITS: u32 = 80;

/// A ULID: 48 bits of milliseconds since 1970, 80 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SightingId(u128);

impl fmt::Display for SightingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..LENGTH).rev() {
            let index = (self.0 >> (5 * place)) as usize & 31;
            let letter = ALPHABET.get(index).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl SightingId {
    /// When it was made, to the millisecond.
    pub fn at(self) -> Timestamp {
        let ms = i64::try_from(self.0 >> RANDOM_BITS).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
    }

    /// The id as a number: its time above 80 random bits.
    pub fn to_bits(self) -> u128 {
        self.0
    }

    /// The id of a number.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

/// Text that is no id of a sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of a sighting has 26 of 0-9 and A-Z without I, L, O and U, the first at most 7")]
pub struct IdError;

impl std::str::FromStr for SightingId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != LENGTH as usize || !text.starts_with(|first| ('0'..='7').contains(&first))
        {
            return Err(IdError);
        }
        text.bytes().try_fold(Self(0), |id, letter| {
            let value = ALPHABET.iter().position(|known| *known == letter).ok_or(IdError)?;
            Ok(Self(id.0 << 5 | value as u128))
        })
    }
}

impl fmt::Debug for SightingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SightingId({self})")
    }
}

impl serde::Serialize for SightingId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Makes ids. Within one millisecond each is greater than the one before; a clock that is set back
/// is followed, since an id that shows a wrong time for as long as the error lasted helps nobody.
/// Unique in either case by the random part.
pub struct Ids<R> {
    random: R,
    last: u128,
}

impl<R: RngCore> Ids<R> {
    /// Ids with randomness from `random`.
    pub fn new(random: R) -> Self {
        Self { random, last: 0 }
    }

    /// The next id. Times before 1970 count as 1970.
    pub fn next(&mut self, at: Timestamp) -> SightingId {
        let time = u128::try_from(at.as_millisecond()).unwrap_or(0) & ((1 << 48) - 1);
        if self.last >> RANDOM_BITS == time && self.last != 0 {
            // Carries into the time only after 2^79 ids of one millisecond.
            self.last += 1;
        } else {
            let high = u128::from(self.random.next_u32() & 0xffff);
            // The top bit stays free, so that counting up within a millisecond cannot overflow.
            let random = ((high & 0x7fff) << 64) | u128::from(self.random.next_u64());
            self.last = (time << RANDOM_BITS) | random;
        }
        SightingId(self.last)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn the_text_is_that_of_the_ulid_specification() {
        // The example of the specification: 01ARZ3NDEKTSV4RRFFQ69G5FAV.
        let id = SightingId(0x0156_3E3A_B5D3_D676_4C61_EFB9_9302_BD5B);
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!(SightingId(u128::MAX).to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        for id in [id, SightingId(0), SightingId(u128::MAX)] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(SightingId::from_bits(id.to_bits()), id);
        }
        for wrong in [
            "",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01arz3ndektsv4rrffq69g5fav",
        ] {
            assert_eq!(wrong.parse::<SightingId>(), Err(IdError), "{wrong}");
        }
    }

    #[test]
    fn ids_sort_by_time_and_never_repeat() {
        let mut ids = Ids::new(SmallRng::seed_from_u64(1));
        let mut made = Vec::new();
        for ms in [1_795_000_000_000, 1_795_000_000_000, 1_795_000_000_001, 1_795_000_060_000] {
            for _ in 0..100 {
                made.push(ids.next(Timestamp::from_millisecond(ms).unwrap()).to_string());
            }
        }
        assert!(made.is_sorted_by(|a, b| a < b));
        // A day back, before 1970, and the end of the calendar.
        for at in ["2026-11-17T00:00:00Z", "1960-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            made.push(ids.next(at.parse().unwrap()).to_string());
        }
        made.push(ids.next(Timestamp::MAX).to_string());
        let count = made.len();
        made.sort();
        made.dedup();
        assert_eq!(made.len(), count);
        assert!(made.iter().all(|id| id.len() == 26));
    }
}
