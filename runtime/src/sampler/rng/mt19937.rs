//! MT19937 and the way torch turns its words into numbers on a CPU, for parity tests.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::arithmetic;

/// Words of the state.
const WORDS: usize = 624;
/// Distance between the words that are mixed.
const SHIFT: usize = 397;
/// A stored twister that claims more words than any job draws is refused: it would take hours to
/// come back.
const MAX_DRAWN: u64 = 1 << 40;

/// The Mersenne twister, with torch's uniform and exponential numbers. Words that are passed over
/// cost nothing before the next one is drawn, then about a nanosecond each.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Mt19937 {
    seed: u32,
    state: [u32; WORDS],
    /// Words of the state that were given out.
    used: usize,
    /// Words that were passed over, and the state was not brought past yet.
    owed: u64,
    /// Words given out or passed over since the seed.
    drawn: u64,
}

/// A twister's place in its stream.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Stored {
    seed: u32,
    drawn: u64,
}

impl Mt19937 {
    /// The twister as `init_genrand(seed)` leaves it.
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        for index in 1..WORDS {
            let last = state[index - 1];
            state[index] =
                (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
        }
        Self { seed, state, used: WORDS, owed: 0, drawn: 0 }
    }

    /// The next word.
    pub fn word(&mut self) -> u32 {
        if self.owed > 0 {
            self.catch_up();
        }
        if self.used == WORDS {
            self.twist();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        self.drawn += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// How many words were drawn since the seed.
    pub(crate) fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Passes over `words` words.
    pub fn skip(&mut self, words: u64) {
        self.owed += words;
        self.drawn += words;
    }

    /// Brings the state past the words that were passed over.
    fn catch_up(&mut self) {
        let mut left = std::mem::take(&mut self.owed);
        while left > 0 {
            if self.used == WORDS {
                self.twist();
            }
            let passed = left.min((WORDS - self.used) as u64);
            self.used += usize::try_from(passed).expect("at most 624");
            left -= passed;
        }
    }

    /// torch's f32 uniform number of [0, 1): one word, 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// torch's f64 uniform number of [0, 1): two words, 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        let word = u64::from(self.word()) << 32 | u64::from(self.word());
        (word & ((1 << 53) - 1)) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// torch's f32 number with density `exp(-x)`: two words.
    pub fn exponential(&mut self) -> f32 {
        exponential(self.uniform_f64())
    }

    fn twist(&mut self) {
        let mix = |high: u32, low: u32| {
            let word = high & 0x8000_0000 | low & 0x7fff_ffff;
            word >> 1 ^ (word & 1).wrapping_neg() & 0x9908_b0df
        };
        for index in 0..WORDS - SHIFT {
            self.state[index] =
                self.state[index + SHIFT] ^ mix(self.state[index], self.state[index + 1]);
        }
        for index in WORDS - SHIFT..WORDS - 1 {
            self.state[index] =
                self.state[index + SHIFT - WORDS] ^ mix(self.state[index], self.state[index + 1]);
        }
        self.state[WORDS - 1] = self.state[SHIFT - 1] ^ mix(self.state[WORDS - 1], self.state[0]);
        self.used = 0;
    }
}

/// The exponential number that belongs to a uniform one: `-ln(1 - uniform)`, rounded to f32 once.
///
/// A `uniform` with 53 bits makes `1 - uniform` exact.
pub(crate) fn exponential(uniform: f64) -> f32 {
    -arithmetic::ln(1.0 - uniform) as f32
}

/// The seed and the place say all: the state follows from them.
impl PartialEq for Mt19937 {
    fn eq(&self, other: &Self) -> bool {
        (self.seed, self.drawn) == (other.seed, other.drawn)
    }
}

impl Eq for Mt19937 {}

impl TryFrom<Stored> for Mt19937 {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        if stored.drawn > MAX_DRAWN {
            return Err(format!(
                "expected at most {MAX_DRAWN} words drawn, found {}",
                stored.drawn
            ));
        }
        let mut twister = Self::new(stored.seed);
        twister.skip(stored.drawn);
        Ok(twister)
    }
}

impl From<Mt19937> for Stored {
    fn from(twister: Mt19937) -> Self {
        Self { seed: twister.seed, drawn: twister.drawn }
    }
}

impl fmt::Debug for Mt19937 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mt19937")
            .field("seed", &self.seed)
            .field("drawn", &self.drawn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np; r = np.random.RandomState(12345); w = np.frombuffer(r.bytes(8000), '<u4')
    #[test]
    fn gives_numpys_words() {
        let mut twister = Mt19937::new(12345);
        let words: Vec<_> = (0..2000).map(|_| twister.word()).collect();
        assert_eq!(words[..3], [3_992_670_690, 3_823_185_381, 1_358_822_685]); // w[:3]
        assert_eq!(words[623..626], [2_940_097_750, 3_957_348_375, 3_514_278_914]); // w[623:626]
        assert_eq!(words[1998..], [1_325_449_228, 3_374_551_203]); // w[-2:]
    }

    #[test]
    fn skipping_is_drawing() {
        for words in [0, 1, 623, 624, 625, 5000] {
            let (mut drawn, mut skipped) = (Mt19937::new(3), Mt19937::new(3));
            (0..words).for_each(|_| {
                drawn.word();
            });
            skipped.skip(words / 2);
            skipped.skip(words - words / 2);
            assert_eq!(drawn, skipped, "{words}");
            assert_eq!((drawn.word(), drawn.drawn()), (skipped.word(), skipped.drawn()), "{words}");
        }
    }

    // The same words, through torch's formulas in numpy (sampler reference of the model's
    // specification).
    #[test]
    fn gives_torchs_numbers() {
        let three = |number: fn(&mut Mt19937) -> f64| {
            let mut twister = Mt19937::new(12345);
            [number(&mut twister), number(&mut twister), number(&mut twister)]
        };
        assert_eq!(
            three(|twister| twister.uniform().into()).map(|x| x as f32),
            [0.9817182, 0.87960654, 0.99214345]
        );
        assert_eq!(
            three(Mt19937::uniform_f64),
            [0.8537458849690976, 0.9371476796661825, 0.6657276343152506]
        );
        assert_eq!(
            three(|twister| twister.exponential().into()).map(|x| x as f32),
            [1.9224097, 2.7669675, 1.0957992]
        );
    }

    #[test]
    fn gives_a_hundred_thousand_exponential_numbers_to_the_last_bit() {
        let mut twister = Mt19937::new(12345);
        let numbers: Vec<_> = (0..100_000).map(|_| twister.exponential()).collect();
        // e = -np.log1p(-uniform_f64(100000)); np.bitwise_xor.reduce(e.astype('f4').view('u4')),
        // e.astype('f4').astype('f8').sum()
        assert_eq!(numbers.iter().fold(0, |all, number| all ^ number.to_bits()), 0x787f_b380);
        let sum: f64 = numbers.iter().map(|number| f64::from(*number)).sum();
        // Both sum in f64, in another order.
        assert!((sum - 99_936.578_563_726_74).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn refuses_a_place_that_no_job_reaches() {
        let stored = format!("{{\"seed\":1,\"drawn\":{}}}", u64::MAX);
        assert!(
            serde_json::from_str::<Mt19937>(&stored)
                .expect_err("too far")
                .to_string()
                .contains("words drawn")
        );
    }
}
