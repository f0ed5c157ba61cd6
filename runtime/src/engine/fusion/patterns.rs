//! What is looked for: nodes that one operator of our own stands for. Each is found from its last
//! node backwards.

use super::scope::{Name, Node, Scope};

/// Scale 1 and zero point 128, as bytes: units of an image between layers.
const CENTRED: [&[u8]; 2] = [&1f32.to_le_bytes(), &[128]];

/// The axis of rows, as a list of axes.
const ROWS: &[u8] = &1i64.to_le_bytes();

/// The axis of pixels, as a list of axes.
const PIXELS: &[u8] = &0i64.to_le_bytes();

/// A scale and a zero point.
pub(super) type Step<'a> = [Name<'a>; 2];

/// An image of bytes, or some of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows<'a> {
    pub(super) image: Name<'a>,
    /// The first, and the one behind the last.
    pub(super) range: Option<[Name<'a>; 2]>,
}

/// `silu(DequantizeLinear(rows) * scale + shift)`: `QuantizeLinear` of it, and rows added around
/// that; or rows added around it, channels first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Activation<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) read: Step<'a>,
    pub(super) scale: Name<'a>,
    pub(super) shift: Name<'a>,
    /// The step of the bytes that are made; floats without one.
    pub(super) made: Option<Step<'a>>,
    /// The pads and what fills them.
    pub(super) pads: Option<[Name<'a>; 2]>,
    pub(super) output: Name<'a>,
    /// The nodes that make no more: the last of them, where the operator goes, is the first here.
    pub(super) replaced: Vec<usize>,
}

/// `QuantizeLinear` of the sum of two images, each times a factor for each channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addition<'a> {
    pub(super) one: Name<'a>,
    pub(super) other: Rows<'a>,
    pub(super) factors: [Option<Name<'a>>; 2],
    pub(super) output: Name<'a>,
}

/// The sums of pixels and of their squares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statistics<'a> {
    pub(super) pixels: Name<'a>,
    pub(super) outputs: [Name<'a>; 2],
    /// The other node that makes no more.
    pub(super) squares: usize,
}

impl<'a> Scope<'a> {
    /// The activation whose `QuantizeLinear` is `last`, node number `at`.
    pub(super) fn activation(&self, at: usize, last: &Node<'a>) -> Option<Activation<'a>> {
        let &[active, ref made @ ..] = last.inputs.as_slice() else { return None };
        let (made, &output) = (self.step(made)?, last.outputs.first()?);
        let unpadded = self.activated(active)?;
        let unpadded = Activation { made: Some(made), output, replaced: vec![at], ..unpadded };
        let padded = self.reader(output, "Pad").and_then(|(pad, node)| match node.inputs[..] {
            [_, pads, fill] => Some((pad, [pads, fill], *node.outputs.first()?)),
            _ => None,
        });
        Some(match padded {
            None => unpadded,
            Some((pad, pads, output)) => {
                Activation { pads: Some(pads), output, replaced: vec![pad, at], ..unpadded }
            }
        })
    }

    /// The activation in floats, padded, whose `Transpose` to channels first is `last`, node number
    /// `at`.
    pub(super) fn planes(&self, at: usize, last: &Node<'a>) -> Option<Activation<'a>> {
        let &[padded] = last.inputs.as_slice() else { return None };
        let &[active, pads, fill] = self.plain(padded, "Pad")?.1.inputs.as_slice() else {
            return None;
        };
        let (pads, &output) = (Some([pads, fill]), last.outputs.first()?);
        Some(Activation { pads, output, replaced: vec![at], ..self.activated(active)? })
    }

    /// What makes `active`, without what is made of it.
    fn activated(&self, active: Name<'_>) -> Option<Activation<'a>> {
        let [one, other] = self.pair(active, "Mul")?;
        let normal = [(one, other), (other, one)].into_iter().find_map(|(normal, gate)| {
            let (_, sigmoid) = self.plain(gate, "Sigmoid")?;
            (sigmoid.inputs == [normal]).then_some(normal)
        })?;
        let (shift, scaled) = self.vector_and_other(self.pair(normal, "Add")?)?;
        let (scale, units) = self.vector_and_other(self.pair(scaled, "Mul")?)?;
        let (read, bytes) = self.dequantized(units)?;
        let (rows, made, pads, output) = (self.rows(bytes), None, None, b"".as_slice());
        Some(Activation { rows, read, scale, shift, made, pads, output, replaced: Vec::new() })
    }

    /// The addition whose `QuantizeLinear` is `last`.
    pub(super) fn addition(&self, last: &Node<'a>) -> Option<Addition<'a>> {
        let &[sum, ref made @ ..] = last.inputs.as_slice() else { return None };
        self.is_centred(self.step(made)?).then_some(())?;
        let [one, other] = self.pair(sum, "Add")?.map(|term| self.term(term));
        let ((one, factor), (other, other_factor)) = (one?, other?);
        let whole = |bytes| self.rows(bytes).range.is_none();
        let &output = last.outputs.first()?;
        let factors = [factor, other_factor];
        Some(match whole(one) || !whole(other) {
            true => Addition { one, other: self.rows(other), factors, output },
            false => {
                let factors = [other_factor, factor];
                Addition { one: other, other: self.rows(one), factors, output }
            }
        })
    }

    /// The sums of which `first` makes one.
    pub(super) fn statistics(&self, first: &Node<'a>) -> Option<Statistics<'a>> {
        let units = self.summed(first)?;
        let (step, pixels) = self.dequantized(units)?;
        self.is_centred(step).then_some(())?;
        let is_matrix = self.plain(pixels, "Reshape").is_some_and(|(_, reshape)| {
            reshape.inputs.get(1).is_some_and(|target| self.is_shape_of_matrix(target))
        });
        is_matrix.then_some(())?;
        let squares = self.nodes.iter().enumerate().find(|(_, node)| {
            let squared = self.summed(node).and_then(|squares| self.pair(squares, "Mul"));
            squared == Some([units; 2])
        });
        let (squares, second) = squares?;
        let outputs = [*first.outputs.first()?, *second.outputs.first()?];
        Some(Statistics { pixels, outputs, squares })
    }

    /// What a `ReduceSum` over pixels adds up.
    fn summed(&self, node: &Node<'a>) -> Option<Name<'a>> {
        match node.inputs[..] {
            [values, axes] if node.operator == b"ReduceSum" && node.is_plain() => {
                self.holds(axes, PIXELS).then_some(values)
            }
            _ => None,
        }
    }

    /// The two inputs of the `operator` that makes `value`.
    fn pair(&self, value: Name<'_>, operator: &str) -> Option<[Name<'a>; 2]> {
        self.plain(value, operator)?.1.inputs.as_slice().try_into().ok()
    }

    fn step(&self, names: &[Name<'a>]) -> Option<Step<'a>> {
        let step: Step<'a> = names.try_into().ok()?;
        self.are_step_of_bytes(step).then_some(step)
    }

    fn is_centred(&self, step: Step<'_>) -> bool {
        step.into_iter().zip(CENTRED).all(|(name, values)| self.holds(name, values))
    }

    /// Of a product or a sum, what is the same for all pixels, and what is not.
    fn vector_and_other(&self, [one, other]: [Name<'a>; 2]) -> Option<(Name<'a>, Name<'a>)> {
        match [one, other].map(|name| self.is_outer_vector(name)) {
            [true, false] => Some((one, other)),
            [false, true] => Some((other, one)),
            _ => None,
        }
    }

    /// The step of a `DequantizeLinear` that makes `floats`, and the bytes that it reads.
    fn dequantized(&self, floats: Name<'_>) -> Option<(Step<'a>, Name<'a>)> {
        let (_, node) = self.plain(floats, "DequantizeLinear")?;
        let (&bytes, step) = node.inputs.split_first()?;
        Some((self.step(step)?, bytes))
    }

    /// The bytes and the factors of a term of a sum.
    fn term(&self, floats: Name<'_>) -> Option<(Name<'a>, Option<Name<'a>>)> {
        let product = self.pair(floats, "Mul").and_then(|pair| self.vector_and_other(pair));
        let (factor, units) = match product {
            Some((factor, units)) => (Some(factor), units),
            None => (None, floats),
        };
        let (step, bytes) = self.dequantized(units)?;
        self.is_centred(step).then_some((bytes, factor))
    }

    /// What `bytes` are rows of, unless these are read for the last time.
    fn rows(&self, bytes: Name<'a>) -> Rows<'a> {
        let sliced = self.plain(bytes, "Slice").and_then(|(_, slice)| self.slice(slice));
        let sliced = sliced.filter(|rows| !self.last.contains(rows.image));
        sliced.unwrap_or(Rows { image: bytes, range: None })
    }

    /// The rows that a `Slice` gives, if they are read for the last time.
    pub(super) fn last_rows(&self, slice: &Node<'a>) -> Option<Rows<'a>> {
        let is_slice = slice.operator == b"Slice" && slice.is_plain();
        self.slice(slice).filter(|rows| is_slice && self.last.contains(rows.image))
    }

    fn slice(&self, slice: &Node<'a>) -> Option<Rows<'a>> {
        match slice.inputs[..] {
            [image, start, end, axes] if self.holds(axes, ROWS) => {
                Some(Rows { image, range: Some([start, end]) })
            }
            _ => None,
        }
    }
}
