//! The Halton order: positions spread as evenly as they can be, whatever the model thinks of them.
//! Knows no model.
//!
//! From "Halton scheduler for masked generative image transformer" (Besnier and others, ICLR 2025).
//! A step chooses the next positions of a fixed order and masks none again. Here as there the order
//! is the two-dimensional Halton sequence with bases 2 and 3; unlike there a token that was chosen
//! stays, since logits of known tokens mean nothing in this model.

use std::f64::consts::FRAC_PI_2;

use crate::arithmetic;

/// Rows and columns of an image, its positions in the order in which they are chosen.
///
/// The sequence's points fall into cells of the grid, row by the base 2, column by the base 3; a
/// cell counts once. The whole order is rolled by `roll` places, so that images begin at different
/// ones.
pub(super) fn order([rows, columns]: [usize; 2], roll: usize) -> Vec<usize> {
    let cells = rows * columns;
    let mut order = Vec::with_capacity(cells);
    let mut seen = vec![false; cells];
    for index in 1.. {
        if order.len() == cells {
            break;
        }
        let cell = scaled(index, 2, rows) * columns + scaled(index, 3, columns);
        if !std::mem::replace(&mut seen[cell], true) {
            order.push(cell);
        }
    }
    if cells > 0 {
        order.rotate_right(roll % cells);
    }
    order
}

/// `floor(side * h)` for the `index`-th number `h` of the Halton sequence of `base`, in whole
/// numbers: the digits of the index, mirrored at the point.
fn scaled(index: u64, base: u64, side: usize) -> usize {
    let (mut rest, mut mirrored, mut power) = (index, 0u64, 1u64);
    while rest > 0 {
        mirrored = mirrored * base + rest % base;
        power *= base;
        rest /= base;
    }
    (u128::from(mirrored) * side as u128 / u128::from(power)) as usize
}

/// How many of `tokens` are chosen after a step, from 0, of `steps`: slowly at first, all after the
/// last.
pub(super) fn chosen(step: usize, steps: usize, tokens: usize) -> usize {
    if step + 1 >= steps {
        return tokens;
    }
    // floor((1 - acos(ratio) / (pi / 2)) tokens), as the largest count whose share of a quarter
    // turn reaches the ratio.
    let ratio = (step + 1) as f64 / steps as f64;
    let (mut reached, mut beyond) = (0, tokens + 1);
    while beyond - reached > 1 {
        let count = reached.midpoint(beyond);
        let left = (tokens - count) as f64 / tokens as f64;
        *if arithmetic::cos(left * FRAC_PI_2) <= ratio { &mut reached } else { &mut beyond } =
            count;
    }
    reached.max(step + 1).min(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_as_the_paper_does() {
        // HaltonSampler.build_halton_mask(16)[:4]
        let places: Vec<_> =
            order([16, 16], 0).into_iter().take(4).map(|cell| (cell / 16, cell % 16)).collect();
        assert_eq!(places, [(8, 5), (4, 10), (12, 1), (2, 7)]);
    }

    #[test]
    fn every_position_comes_once_on_any_grid() {
        for (rows, columns, roll) in
            [(1, 1, 0), (16, 16, 5), (64, 64, 4095), (3, 40, 1_000_000), (256, 2, 7), (0, 5, 3)]
        {
            let mut cells = order([rows, columns], roll);
            cells.sort_unstable();
            assert!(cells.into_iter().eq(0..rows * columns), "{rows} x {columns}");
        }
    }

    #[test]
    fn rolling_moves_the_beginning() {
        let (plain, rolled) = (order([8, 8], 0), order([8, 8], 3));
        assert_eq!(plain[..61], rolled[3..]);
        assert_eq!(plain[61..], rolled[..3]);
    }

    #[test]
    fn as_many_are_chosen_as_the_paper_says() {
        // [max(i + 1, int((1 - math.acos((i + 1) / 8) / (math.pi / 2)) * 256)) for i in range(8)]
        let found: Vec<_> = (0..8).map(|step| chosen(step, 8, 256)).collect();
        assert_eq!(found, CHOSEN);
        assert_eq!(
            (chosen(0, 10, 3), chosen(8, 10, 3), chosen(0, 1, 9), chosen(4, 12, 0)),
            (1, 3, 9, 0)
        );
    }

    const CHOSEN: [usize; 8] = [20, 41, 62, 85, 110, 138, 173, 256];
}
