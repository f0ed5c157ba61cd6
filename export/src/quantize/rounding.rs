//! How values are rounded.

/// The nearest whole number, the even one of two, for magnitudes below 2^22: in one instruction on
/// every processor.
pub(crate) fn nearest(value: f32) -> f32 {
    // Beside this number an f32 has no fraction.
    const WHOLE: f32 = (3 << 22) as f32;
    value + WHOLE - WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_the_even_one_of_two() {
        for (value, expected) in
            [(0.5, 0.0), (1.5, 2.0), (-2.5, -2.0), (126.4999, 126.0), (-126.5001, -127.0)]
        {
            assert_eq!(nearest(value), expected);
        }
    }
}
