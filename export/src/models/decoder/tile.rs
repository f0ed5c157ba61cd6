//! Rows of an image that are computed together, and the border that a convolution of them sees.
//! Images are channels last, `[1, h, w, channels]`.

use pocketmuse_package::Dim;

use super::phases::Phases;
use crate::builder::{Builder, Conv, Step, Value};

/// What a tile's height is called.
const ROWS: &str = "rows";

/// Some rows of an image, or all.
pub(super) enum Tile {
    /// All rows: convolutions add what is around the image.
    Whole,
    /// As many rows as every other tile has.
    Rows(Box<Rows>),
}

/// Where a tile is. Values are vectors of one integer but for `pads`.
pub(super) struct Rows {
    rows: usize,
    start: Value,
    end: Value,
    /// The same with one row more on each side, inside the image.
    border_start: Value,
    border_end: Value,
    /// What is missing of those rows outside the image, as padding of an image.
    pads: Value,
}

impl Tile {
    /// Tile number `round` of an image of `height` rows, a multiple of `rows`.
    pub(super) fn of_round(b: &mut Builder, round: &Value, rows: usize, height: &Value) -> Self {
        let [zero, one, count] = [0, 1, rows as i64].map(|number| b.ints(&[number]));
        let start = b.mul(round, &count);
        let end = b.add(&start, &count);
        let (before, behind) = (b.sub(&start, &one), b.add(&end, &one));
        let (border_start, border_end) = (b.max(&before, &zero), b.min(&behind, height));
        let (top, bottom) = (b.sub(&border_start, &before), b.sub(&behind, &border_end));
        let two = b.ints(&[0, 0]);
        let pads = b.concat(&[&zero, &top, &two, &zero, &bottom, &two], 0);
        Self::Rows(Box::new(Rows { rows, start, end, border_start, border_end, pads }))
    }

    /// The tile's rows of an image.
    pub(super) fn rows(&self, b: &mut Builder, x: &Value) -> Value {
        match self {
            Self::Whole => x.clone(),
            Self::Rows(at) => b.slice(x, &at.start, &at.end, 1, ROWS.into()),
        }
    }

    /// The tile's rows and one more on each side, where the image has them.
    pub(super) fn with_border(&self, b: &mut Builder, x: &Value) -> Value {
        match self {
            Self::Whole => x.clone(),
            Self::Rows(at) => {
                b.slice(x, &at.border_start, &at.border_end, 1, "rows and border".into())
            }
        }
    }

    /// What [`Self::with_border`] gave, with rows that stand for 0 where the image had none.
    pub(super) fn framed(&self, b: &mut Builder, x: &Value, step: Step) -> Value {
        let zero = b.byte(step.zero_point);
        self.filled(b, x, &zero)
    }

    /// The same for f32.
    pub(super) fn framed_float(&self, b: &mut Builder, x: &Value) -> Value {
        let zero = b.scalar(0.0);
        self.filled(b, x, &zero)
    }

    fn filled(&self, b: &mut Builder, x: &Value, zero: &Value) -> Value {
        let Self::Rows(at) = self else { return x.clone() };
        let shape: Vec<Dim> = x
            .shape()
            .iter()
            .enumerate()
            .map(|(axis, dim)| if axis == 1 { "frame".into() } else { dim.clone() })
            .collect();
        b.pad(x, &at.pads, zero, &shape)
    }

    /// How a `side x side` convolution that keeps the tile's size moves over a framed tile.
    pub(super) fn conv(&self, side: i64) -> Conv {
        let [rows, columns] = [self.outside(side / 2), side / 2];
        Conv { pads: [rows, columns, rows, columns], ..Conv::same(0) }
    }

    /// What a phase of an upsample reads of a framed tile, and how its convolution moves over that.
    pub(super) fn phase(
        &self,
        b: &mut Builder,
        framed: &Value,
        row: usize,
        column: usize,
    ) -> (Value, Conv) {
        let conv = Phases::conv(row, column);
        let Self::Rows(at) = self else { return (framed.clone(), conv) };
        let [start, end] = [row, row + at.rows + 1].map(|number| b.ints(&[number as i64]));
        let part = b.slice(framed, &start, &end, 1, "rows of a phase".into());
        let [_, left, _, right] = conv.pads;
        (part, Conv { pads: [0, left, 0, right], ..conv })
    }

    /// The height and width of what comes of the tile of `x`.
    pub(super) fn size(&self, x: &Value) -> [Dim; 2] {
        let height = match self {
            Self::Whole => x.shape()[1].clone(),
            Self::Rows(_) => ROWS.into(),
        };
        [height, x.shape()[2].clone()]
    }

    fn outside(&self, rows: i64) -> i64 {
        if matches!(self, Self::Whole) { rows } else { 0 }
    }
}
