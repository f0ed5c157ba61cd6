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

/// 1.5 * 2^23: whatever of at most 2^22 is added to it is rounded to the nearest even integer,
/// which then stands in its lowest bits.
const ROUND: f32 = 12_582_912.0;

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
                *made = ((sum + ROUND).to_bits() as u8).wrapping_add(128); // the lowest bits
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
}
