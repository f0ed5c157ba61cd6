//! Elementary functions of sums, products and quotients alone, which round alike everywhere: the
//! same bits on every platform.

/// `1 / n!`, the coefficients of the exponential.
const INVERSE_FACTORIALS: [f64; 15] = {
    let mut values = [1.0; 15];
    let mut n = 1;
    while n < 15 {
        values[n] = values[n - 1] / n as f64;
        n += 1;
    }
    values
};

/// Adding and subtracting 1.5 * 2^23 rounds a small f32 to an integer, which stands in the low bits
/// of the sum.
pub(crate) const ROUND_F32: f32 = 12_582_912.0;
/// The same for f64: 1.5 * 2^52.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;

/// `exp(x)` for `x <= 0`, within 2 units in the last place; 0 below -87; NaN for NaN.
///
/// Written so that a loop over it becomes vector code: no branch, no call. For `x > 0` the value is
/// meaningless.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    const C: [f32; 8] = {
        let mut values = [0.0; 8];
        let mut n = 0;
        while n < 8 {
            values[n] = INVERSE_FACTORIALS[n] as f32;
            n += 1;
        }
        values
    };
    // ln 2 in two parts; the first has so few bits that its product with the power is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;
    let rounded = x * std::f32::consts::LOG2_E + ROUND_F32;
    let power = rounded - ROUND_F32;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    let series = C[0]
        + r * (C[1] + r * (C[2] + r * (C[3] + r * (C[4] + r * (C[5] + r * (C[6] + r * C[7]))))));
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    let value = series * scale;
    if x < -87.0 { 0.0 } else { value }
}

/// `exp(x)` for `x <= 0`, within 2 units in the last place; 0 below -708; NaN for NaN.
#[inline]
pub(crate) fn exp_f64(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // 32 bits
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10; // ln 2 minus the above
    let rounded = x * std::f64::consts::LOG2_E + ROUND_F64;
    let power = rounded - ROUND_F64;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    let series =
        INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, coefficient| sum * r + coefficient);
    let scale = f64::from_bits((rounded.to_bits() << 52).wrapping_add(1023 << 52));
    let value = series * scale;
    if x < -708.0 { 0.0 } else { value }
}

/// The natural logarithm, within 2 units in the last place, for normal `x > 0`.
///
/// `x = 2^k m` with `m` around 1, and `ln m = 2 artanh((m - 1) / (m + 1))`.
pub(crate) fn ln(x: f64) -> f64 {
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // The difference of the bits counts in its upper part how often x is twice the root of a half.
    let power = x.to_bits().wrapping_sub(SQRT_HALF).cast_signed() >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub((power << 52).cast_unsigned()));
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (1..=11).rev().fold(0.0, |sum, n| (sum + 1.0 / f64::from(2 * n + 1)) * square);
    let power = power as f64;
    power * LN_2_HIGH + (power * LN_2_LOW + (2.0 * s * series + 2.0 * s))
}

/// The cosine for `0 <= x <= pi / 2`, within 1e-16.
pub(crate) fn cos(x: f64) -> f64 {
    let square = x * x;
    (1..=12).rev().fold(1.0, |series, n| 1.0 - series * square / f64::from((2 * n - 1) * 2 * n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for bits in (0.0f32.to_bits()..87f32.to_bits()).step_by(997) {
            let x = -f32::from_bits(bits);
            let exact = f64::from(x).exp();
            let unit = f64::from(f32::EPSILON) * 2f64.powf(exact.log2().floor());
            worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst}");
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn exp_f64_rounds_to_the_nearest_f32() {
        for step in 0..200_000 {
            let x = f64::from(step) * -5e-4;
            let (found, exact) = (exp_f64(x), x.exp());
            assert!((found - exact).abs() <= 2.0 * f64::EPSILON * exact, "{x}: {found} {exact}");
            assert_eq!(found as f32, exact as f32, "{x}");
        }
        assert_eq!((exp_f64(0.0), exp_f64(f64::NEG_INFINITY)), (1.0, 0.0));
        assert!(exp_f64(f64::NAN).is_nan());
    }

    #[test]
    fn ln_is_within_two_units_in_the_last_place() {
        let mut x = 1e-30;
        while x < 1e30 {
            let (found, exact) = (ln(x), f64::ln(x));
            assert!(
                (found - exact).abs() <= 2.0 * f64::EPSILON * exact.abs(),
                "{x}: {found} {exact}"
            );
            x *= 1.000_123;
        }
        assert_eq!(ln(1.0), 0.0);
        for x in
            [1.0 - f64::EPSILON, 1.0 + f64::EPSILON, 0.999_999, 0.5, 2.0, 3.402_823_466e38, 1e-20]
        {
            let exact = f64::ln(x);
            assert!((ln(x) - exact).abs() <= 2.0 * f64::EPSILON * exact.abs(), "{x}");
        }
    }

    #[test]
    fn cos_is_exact_to_the_last_bits() {
        for step in 0..=10_000 {
            let x = f64::from(step) / 10_000.0 * std::f64::consts::FRAC_PI_2;
            // Two units in the last place of numbers below 1.
            assert!((cos(x) - x.cos()).abs() <= 2e-16, "{x}: {} {}", cos(x), x.cos());
        }
    }
}
