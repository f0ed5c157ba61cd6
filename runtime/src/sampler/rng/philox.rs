//! Philox4x32-10, a counter-based generator: a number is a function of the seed and of its place.
//!
//! From "Parallel random numbers: as easy as 1, 2, 3" (Salmon and others, 2011). Pinned: changing
//! anything here changes every image.

use serde::{Deserialize, Serialize};

/// What a number is for; numbers for different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// Which token a masked position gets.
    Token = 0,
    /// The noise on a position's confidence.
    Confidence = 1,
    /// Whether a token of an image to edit is masked before the first step.
    Noise = 2,
    /// Where an image begins in the Halton order.
    Order = 3,
    /// The seed of a video's frame.
    Frame = 4,
    /// The seed of what variations draw anew.
    Variation = 5,
}

/// The generator: the seed is the key, the counter is (purpose, image, step, position).
///
/// It has no state, so order, threads and resuming cannot change a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Philox {
    seed: u64,
    /// What is added to the number of an image; told anew by whoever needs it, and not stored.
    #[serde(skip)]
    first_image: usize,
}

impl Philox {
    /// A generator; its low half of `seed` is the first word of the key.
    pub fn new(seed: u64) -> Self {
        Self { seed, first_image: 0 }
    }

    /// The same numbers, of which image 0 gets those of image `first`, and so on.
    #[must_use]
    #[allow(clippy::wrong_self_convention, reason = "`from` is where the numbers begin")]
    pub fn from_image(self, first: usize) -> Self {
        Self { first_image: first, ..self }
    }

    /// A generator with numbers of its own, one for each `index`.
    #[must_use]
    pub fn child(&self, purpose: Purpose, index: usize) -> Self {
        Self::new(self.uniform(purpose, index, 0, 0).to_bits())
    }

    /// A number of the open interval (0, 1), uniform: 52 bits and a half, `(n + 0.5) / 2^52`.
    ///
    /// Of each of `image`, `step` and `position` the low 32 bits count.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "measure")] {
    /// use pocketmuse::internals::{Philox, Purpose};
    /// let rng = Philox::new(42);
    /// let number = rng.uniform(Purpose::Token, 0, 3, 17);
    /// assert_eq!(number, rng.uniform(Purpose::Token, 0, 3, 17));
    /// assert_ne!(number, rng.uniform(Purpose::Confidence, 0, 3, 17));
    /// # }
    /// ```
    pub fn uniform(&self, purpose: Purpose, image: usize, step: usize, position: usize) -> f64 {
        let [first, second, ..] = block(
            [
                purpose as u32,
                low(self.first_image.wrapping_add(image) as u64),
                low(step as u64),
                low(position as u64),
            ],
            [low(self.seed), low(self.seed >> 32)],
        );
        let bits = (u64::from(first) << 32 | u64::from(second)) >> 12;
        (bits as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
    }
}

fn low(word: u64) -> u32 {
    word as u32
}

/// Ten rounds over one counter.
fn block(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let even = u64::from(counter[0]) * 0xD251_1F53;
        let odd = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            low(odd >> 32) ^ counter[1] ^ key[0],
            low(odd),
            low(even >> 32) ^ counter[3] ^ key[1],
            low(even),
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_known_answers() {
        // Random123 1.14, tests/kat_vectors, lines "philox4x32 10"
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(block(counter, key), expected);
        }
    }

    #[test]
    fn uniform_is_pinned() {
        let expected = ((0x6627_e8d5_e169_c58du64 >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        assert_eq!(Philox::new(0).uniform(Purpose::Token, 0, 0, 0), expected);
    }

    #[test]
    fn every_part_of_the_place_counts() {
        let at = |seed, purpose, image, step, position| {
            Philox::new(seed).uniform(purpose, image, step, position)
        };
        let numbers = [
            at(1, Purpose::Token, 0, 0, 0),
            at(1 << 32, Purpose::Token, 0, 0, 0),
            at(1, Purpose::Confidence, 0, 0, 0),
            at(1, Purpose::Token, 1, 0, 0),
            at(1, Purpose::Token, 0, 1, 0),
            at(1, Purpose::Token, 0, 0, 1),
        ];
        for (index, number) in numbers.iter().enumerate() {
            assert!(*number > 0.0 && *number < 1.0);
            assert!(!numbers[..index].contains(number));
        }
    }

    #[test]
    fn images_begin_anywhere_and_children_differ() {
        let rng = Philox::new(3);
        assert_eq!(
            rng.from_image(2).uniform(Purpose::Token, 1, 4, 5),
            rng.uniform(Purpose::Token, 3, 4, 5)
        );
        let children = [
            rng,
            rng.child(Purpose::Frame, 0),
            rng.child(Purpose::Frame, 1),
            rng.child(Purpose::Variation, 0),
        ];
        let numbers = children.map(|child| child.uniform(Purpose::Token, 0, 0, 0));
        assert!((1..4).all(|index| !numbers[..index].contains(&numbers[index])), "{numbers:?}");
    }

    #[test]
    fn is_uniform() {
        let rng = Philox::new(5);
        let numbers: Vec<_> =
            (0..100_000).map(|position| rng.uniform(Purpose::Token, 0, 0, position)).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        // The seed is fixed, so neither tips: four standard errors of the mean and of a count.
        assert!((mean - 0.5).abs() < 4.0 * (1.0f64 / 12.0 / 1e5).sqrt(), "{mean}");
        for bin in 0..10 {
            let count = numbers.iter().filter(|number| (**number * 10.0) as usize == bin).count();
            assert!((9_600..10_400).contains(&count), "bin {bin}: {count}");
        }
    }
}
