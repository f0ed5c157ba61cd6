//! The micro-conditioning: what a model is told of the image besides a prompt.

/// Numbers of the micro-conditioning: width, height, the crop's two coordinates, the aesthetic
/// score.
pub(crate) const NUMBERS: usize = 5;

/// Each number `v` as `[cos(v f_0) .. | sin(v f_0) ..]`, `f_k = 10000^(-k / half)`, `width` values of
/// each. As the exporter's graph of f32 computes them.
pub(crate) fn sinusoids(numbers: [f32; NUMBERS], width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |k: usize| (-(10000f64.ln() as f32) * k as f32 / half as f32).exp();
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let waves = |number: f32| {
        let angles = frequencies.iter().map(move |frequency| number * frequency);
        angles.clone().map(f32::cos).chain(angles.map(f32::sin))
    };
    numbers.into_iter().flat_map(waves).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_are_those_of_the_reference() {
        // numpy: f = exp(-log(10000) * arange(2) / 2); concatenate([cos(512 * f), sin(512 * f)])
        let found = sinusoids([512.0, 0.0, 0.0, 0.0, 6.0], 4);
        let expected = [-0.996_833_4, 0.396_416_66, 0.079_518_49, -0.918_070_73];
        assert_eq!(found.len(), 20);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}"); // of an angle of 512
        }
        assert_eq!(found[4..8], [1.0, 1.0, 0.0, 0.0]);
    }
}
