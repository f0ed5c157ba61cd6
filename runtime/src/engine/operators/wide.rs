//! Loops that the compiler vectorizes: for any processor, and once more for x86 with AVX2, which is
//! chosen when they run. The same results.

/// Defines a function whose body is compiled for what each processor is known to have.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident($($argument:ident: $kind:ty),*) $body:block) => {
        $(#[$meta])*
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "a function for processors that have AVX2")
        )]
        pub(super) fn $name($($argument: $kind),*) {
            #[inline(always)]
            fn plain($($argument: $kind),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2($($argument: $kind),*) {
                    plain($($argument),*);
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: this processor has AVX2.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            plain($($argument),*);
        }
    };
}

use crate::arithmetic::ROUND_F32;

wide! {
    /// The sum of two rows of pixels, each with a factor for each channel.
    fn add(rows: [&[u8]; 2], factors: [&[f32]; 2], made: &mut [u8]) {
        let channels = factors[0].len();
        let [one, other] = rows.map(|row| row.chunks_exact(channels));
        for ((one, other), made) in one.zip(other).zip(made.chunks_exact_mut(channels)) {
            let units = one.iter().zip(other).zip(factors[0].iter().zip(factors[1]));
            for (((one, other), (factor, other_factor)), made) in units.zip(made) {
                let [one, other] = [*one, *other].map(|unit| (i32::from(unit) - 128) as f32);
                let sum = (one * factor + other * other_factor).clamp(-128.0, 127.0);
                *made = ((sum + ROUND_F32).to_bits() as u8).wrapping_add(128); // the lowest bits
            }
        }
    }
}

wide! {
    /// Adds the units of pixels to `units` and their squares to `squares`, by channel. At most 2^16
    /// pixels.
    fn sum(pixels: &[u8], units: &mut [i32], squares: &mut [i32]) {
        for pixel in pixels.chunks_exact(units.len()) {
            for ((byte, unit), square) in pixel.iter().zip(&mut *units).zip(&mut *squares) {
                let centred = i16::from(*byte) - 128;
                *unit += i32::from(centred);
                *square += i32::from(centred * centred); // at most 128 * 128
            }
        }
    }
}

/// Sums that are added up side by side.
const LANES: usize = 16;

/// The sum of what `term` makes of each number, added up in [`LANES`] lanes.
#[inline(always)]
fn sum_of(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += term(*x);
        }
    }
    sums.into_iter().sum::<f32>() + rest.iter().map(|x| term(*x)).sum::<f32>()
}

/// What a norm is multiplied by and shifted by, and what keeps it from dividing by 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modulation<'a> {
    pub(super) epsilon: f32,
    pub(super) weight: &'a [f32],
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
}

/// `(x - mean) / root * weight * scale + shift`.
#[inline(always)]
fn modulated(x: &[f32], (mean, squares): (f32, f32), how: Modulation<'_>, made: &mut [f32]) {
    let root = (squares / x.len() as f32 + how.epsilon).sqrt();
    let units = how.weight.iter().zip(how.scale.iter().zip(how.shift));
    for ((made, x), (weight, (scale, shift))) in made.iter_mut().zip(x).zip(units) {
        *made = (x - mean) / root * weight * scale + shift;
    }
}

wide! {
    /// A row of an RMS norm, modulated.
    fn modulated_rms_norm(x: &[f32], how: Modulation<'_>, made: &mut [f32]) {
        modulated(x, (0.0, sum_of(x, |x| x * x)), how, made);
    }
}

wide! {
    /// A row of a layer norm, modulated.
    fn modulated_layer_norm(x: &[f32], how: Modulation<'_>, made: &mut [f32]) {
        let mean = sum_of(x, |x| x) / x.len() as f32;
        modulated(x, (mean, sum_of(x, |x| (x - mean) * (x - mean))), how, made);
    }
}

/// The error function, 5e-7 off at most: `x` times a fraction of polynomials of `x^2`, from Eigen.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_4e-10,
        2.770_681_5e-8,
        -2.101_024e-6,
        -5.692_506_2e-5,
        -7.349_906_4e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let [above, below] = [&ABOVE[..], &BELOW[..]]
        .map(|factors| factors.iter().fold(0.0, |sum, factor| sum * (x * x) + factor));
    x * above / below
}

wide! {
    /// The first half of `row` times the GELU of its second half.
    fn gated_gelu(row: &[f32], made: &mut [f32]) {
        let (gates, units) = row.split_at(made.len());
        for ((made, gate), x) in made.iter_mut().zip(gates).zip(units) {
            *made = gate * (x * (erf(x / std::f32::consts::SQRT_2) + 1.0) * 0.5);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_are_rounded_to_the_nearest_even_and_clipped(
            pixels in prop::collection::vec(any::<[u8; 2]>(), 3 * 40),
            factors in prop::collection::vec(prop::array::uniform2(-3.0f32..3.0), 40),
        ) {
            let of = |at: usize| pixels.iter().map(|pair| pair[at]).collect::<Vec<_>>();
            let [one, other] = [0, 1].map(of);
            let of = |at: usize| factors.iter().map(|pair| pair[at]).collect::<Vec<_>>();
            let [f, g] = [0, 1].map(of);
            let mut made = vec![0; one.len()];
            add([&one, &other], [&f, &g], &mut made);
            for (at, made) in made.into_iter().enumerate() {
                let [a, b] = [one[at], other[at]].map(|unit| f32::from(unit) - 128.0);
                let sum = (a * f[at % 40] + b * g[at % 40]).clamp(-128.0, 127.0);
                prop_assert_eq!(made, (sum.round_ties_even() + 128.0) as u8);
            }
        }

        #[test]
        fn sums_of_channels_are_those_of_their_pixels(
            pixels in prop::collection::vec(any::<[u8; 37]>(), 0..9),
        ) {
            let [mut units, mut squares] = [[0; 37]; 2];
            sum(pixels.as_flattened(), &mut units, &mut squares);
            for channel in 0..37 {
                let of = |pixel: &[u8; 37]| i32::from(pixel[channel]) - 128;
                prop_assert_eq!(units[channel], pixels.iter().map(of).sum::<i32>());
                let square = |pixel| of(pixel) * of(pixel);
                prop_assert_eq!(squares[channel], pixels.iter().map(square).sum::<i32>());
            }
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let mut made = [0; 4];
        add([&[129, 131, 127, 133], &[128; 4]], [&[0.5; 4], &[1.0; 4]], &mut made);
        assert_eq!(made, [128, 130, 128, 130]); // 0.5, 1.5, -0.5, 2.5
    }

    #[test]
    fn erf_is_as_near_as_it_says() {
        // math.erf of Python
        for (x, expected) in [
            (0.0f32, 0.0f64),
            (1e-3, 0.001_128_378_790_969_237_7),
            (0.25, 0.276_326_390_168_236_93),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (9.0, 1.0),
        ] {
            let found = [erf(x), -erf(-x)].map(f64::from);
            assert!(found.iter().all(|y| (y - expected).abs() < 5e-7), "{x}: {found:?}");
        }
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn norms_are_those_of_their_formula() {
        let row: Vec<f32> = (0..37u8).map(|at| f32::from(at % 7) - 2.5).collect();
        let of = |factor: f32| row.iter().map(|x| x * factor + 1.0).collect::<Vec<_>>();
        let (weight, scale, shift) = (of(0.5), of(-0.25), of(2.0));
        let how = Modulation { epsilon: 0.1, weight: &weight, scale: &scale, shift: &shift };
        let formula = |mean: f64| {
            let centred = |x: &f32| f64::from(*x) - mean;
            let squares = row.iter().map(|x| centred(x).powi(2)).sum::<f64>();
            let root = (squares / row.len() as f64 + 0.1).sqrt();
            let one = |at: usize| {
                let [weight, scale, shift] = [weight[at], scale[at], shift[at]].map(f64::from);
                centred(&row[at]) / root * weight * scale + shift
            };
            (0..row.len()).map(one).collect::<Vec<_>>()
        };
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64;
        let mut made = vec![0.0; row.len()];
        modulated_rms_norm(&row, how, &mut made);
        assert_close(&made, &formula(0.0));
        modulated_layer_norm(&row, how, &mut made);
        assert_close(&made, &formula(mean));
    }

    fn assert_close(found: &[f32], expected: &[f64]) {
        let is_close = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 2e-6 * b.abs().max(1.0);
        assert!(found.iter().zip(expected).all(is_close), "{found:?}, expected {expected:?}");
    }
}
