//! The ranges of a network's inner values, which static quantization needs: measured by the
//! runtime, used by the exporter. Knows neither.

use std::collections::BTreeMap;

use crate::{Error, ErrorKind, Result};

/// What the tap of a value's range is called before the value's name.
pub const RANGE: &str = "range.";

/// Smallest and largest value of each channel of a network's inner values, by the values' names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges(BTreeMap<String, Vec<[f32; 2]>>);

impl Ranges {
    /// Widens the range of the value `name` so that it holds `least` and `most` of each channel.
    ///
    /// # Errors
    ///
    /// `BadInput` for another number of channels than before, none, or a number that is not finite.
    pub fn widen(&mut self, name: &str, least: &[f32], most: &[f32]) -> Result<()> {
        let wrong = |detail| Error::new(ErrorKind::BadInput, name, detail);
        if let Some(found) = least.iter().chain(most).find(|value| !value.is_finite()) {
            return Err(wrong(format!("expected finite values, found {found}")));
        }
        let channels = self.0.get(name).map_or(least.len(), Vec::len);
        if channels == 0 || [least.len(), most.len()] != [channels; 2] {
            return Err(wrong(format!(
                "expected {channels} channels, found {} and {}",
                least.len(),
                most.len()
            )));
        }
        let known =
            self.0.entry(name.to_owned()).or_insert_with(|| vec![[f32::MAX, f32::MIN]; channels]);
        for (range, (least, most)) in known.iter_mut().zip(least.iter().zip(most)) {
            *range = [range[0].min(*least), range[1].max(*most)];
        }
        Ok(())
    }

    /// The range of each of `channels` channels of the value `name`.
    ///
    /// # Errors
    ///
    /// `BadInput` if it was not measured or has another number of channels.
    pub fn channels(&self, name: &str, channels: usize) -> Result<&[[f32; 2]]> {
        let found = self.0.get(name).map_or(0, Vec::len);
        match self.0.get(name) {
            Some(ranges) if found == channels => Ok(ranges),
            _ => {
                let detail =
                    format!("expected the measured ranges of {channels} channels, found {found}");
                Err(Error::new(ErrorKind::BadInput, name, detail))
            }
        }
    }

    /// The range of all channels of the value `name`.
    ///
    /// # Errors
    ///
    /// As for [`Self::channels`].
    pub fn whole(&self, name: &str, channels: usize) -> Result<[f32; 2]> {
        let join =
            |[least, most]: [f32; 2], range: &[f32; 2]| [least.min(range[0]), most.max(range[1])];
        Ok(self.channels(name, channels)?.iter().fold([f32::MAX, f32::MIN], join))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_all_that_was_seen() {
        let mut ranges = Ranges::default();
        ranges.widen("x", &[-1.0, 0.5], &[1.0, 2.0]).expect("two channels");
        ranges.widen("x", &[0.0, -3.0], &[4.0, 1.0]).expect("two channels");
        assert_eq!(ranges.channels("x", 2).expect("known"), [[-1.0, 4.0], [-3.0, 2.0]]);
        assert_eq!(ranges.whole("x", 2).expect("known"), [-3.0, 4.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut ranges = Ranges::default();
        ranges.widen("x", &[0.0], &[1.0]).expect("one channel");
        let cases = [
            ranges.clone().widen("x", &[0.0; 2], &[1.0; 2]),
            ranges.clone().widen("x", &[0.0], &[1.0; 2]),
            ranges.clone().widen("y", &[], &[]),
            ranges.clone().widen("x", &[f32::NAN], &[1.0]),
            ranges.channels("x", 2).map(drop),
            ranges.whole("y", 1).map(drop),
        ];
        for case in cases {
            assert_eq!(case.expect_err("does not fit").kind(), ErrorKind::BadInput);
        }
    }
}
