//! What is made of the times of one thing that was done several times.

use std::cmp::Ordering;

/// When the slowest of the same takes longer than the fastest by more than this, all is measured
/// again, once.
pub const MOST_SPREAD: f64 = 1.15;

/// How many times the least the most is.
pub fn spread(numbers: impl Iterator<Item = f64> + Clone) -> f64 {
    numbers.clone().fold(0.0, f64::max) / numbers.fold(f64::MAX, f64::min).max(f64::MIN_POSITIVE)
}

/// The middle one; of an even count the upper of the two; zero of none.
pub fn median<T: Copy + Default + PartialOrd>(numbers: impl IntoIterator<Item = T>) -> T {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
