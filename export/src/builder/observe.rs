//! Ranges of values as outputs that calibration reads.

use pocketmuse_package::RANGE;

use super::{Builder, Value, shapes::To};

impl Builder {
    /// Makes the range of each channel of `x` `[1, channels, h, w]` a tap, `[2, channels]`:
    /// smallest values, largest ones. Calibration reads them by [`Self::path`]. Does nothing in a
    /// graph that is not to be observed.
    pub fn observe(&mut self, name: &str, x: &Value) {
        if !self.observes {
            return;
        }
        let channels = x.extent(1);
        let [least, most] = ["ReduceMin", "ReduceMax"].map(|op| {
            let range = self.reduce(op, x, &[0, 2, 3]);
            self.reshape(&range, &[To::Is(1), To::Is(channels)])
        });
        let range = self.concat(&[&least, &most], 0);
        let name = format!("{RANGE}{}", self.path(name));
        self.tap(&name, &range);
    }
}
