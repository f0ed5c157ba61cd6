//! What an integer of 16 bits stands for.

/// A u16 `q` stands for `scale (q - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) scale: f32,
    pub(super) zero_point: u16,
}

impl Step {
    /// The finest step that holds a range and 0.
    pub(super) fn holding([least, most]: [f32; 2]) -> Self {
        let (least, most) = (least.min(0.0), most.max(0.0));
        let scale = (most - least) / f32::from(u16::MAX);
        if scale < f32::MIN_POSITIVE {
            return Self { scale: 1.0, zero_point: 0 };
        }
        Self { scale, zero_point: (-least / scale).round() as u16 }
    }

    /// The finest scale of signed integers, with 0 in their middle, that hold the same.
    pub(super) fn symmetric(self) -> f32 {
        let most = self.zero_point.max(u16::MAX - self.zero_point);
        self.scale * f32::from(most) / f32::from(i16::MAX)
    }

    /// The bytes of the nearest integers.
    pub(super) fn bytes(self, values: &[f32]) -> Vec<u8> {
        let nearest = |value: &f32| {
            let units = (value / self.scale).round_ties_even() + f32::from(self.zero_point);
            units.clamp(0.0, f32::from(u16::MAX)) as u16
        };
        values.iter().flat_map(|value| nearest(value).to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_its_range_and_zero() {
        let step = Step::holding([-1.0, 3.0]);
        assert_eq!(step, Step { scale: 4.0 / 65535.0, zero_point: 16384 });
        let values = [-1.0, 0.0, 3.0, 9.0].map(|value| step.bytes(&[value]));
        assert_eq!(
            values.map(|two| [two[0], two[1]]),
            [[0, 0], 16384u16.to_le_bytes(), [255, 255], [255, 255]]
        );
        assert_eq!(step.symmetric(), 4.0 / 65535.0 * 49151.0 / 32767.0, "up to 3 either way");
        assert_eq!(Step::holding([2.0, 4.0]).zero_point, 0);
        assert_eq!(Step::holding([0.0; 2]), Step { scale: 1.0, zero_point: 0 });
    }
}
