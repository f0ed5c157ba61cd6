//! Tokens that attend to each other or to others, head by head.

use super::{
    NewNode,
    scope::{Name, Node, Scope},
};
use crate::engine::operators::{CROSS_ATTENTION, SELF_ATTENTION, makes_attention_of};

/// The order of axes that takes heads apart or joins them, and that of keys for a product.
const BY_HEAD: [u64; 4] = [0, 2, 1, 3];
const BY_HEAD_TRANSPOSED: [u64; 4] = [0, 2, 3, 1];

impl<'a> Scope<'a> {
    /// The attention whose heads the `Reshape` `last` joins, of queries that are scaled already,
    /// without a mask.
    pub(super) fn attention(&self, last: &Node<'a>) -> Option<NewNode> {
        let &[joined, all] = last.inputs.as_slice() else { return None };
        let joined = self.made_by(joined, "Transpose").filter(|node| node.order == BY_HEAD)?;
        let [weights, values] = self.operands(joined.inputs.first()?, "MatMul")?;
        let softmax = self.made_by(weights, "Softmax").filter(|node| node.is_of_last_axis)?;
        let [queries, keys] = self.operands(softmax.inputs.first()?, "MatMul")?;
        let ([_, _, heads, width], queries, shape) = self.apart(queries, BY_HEAD)?;
        let is_joined = match self.integers(all)?.as_slice() {
            [0, 0, -1] => true,
            &[0, 0, extent] => heads.checked_mul(width) == Some(extent),
            _ => false,
        };
        let is_usual = last.is_plain() && is_joined && heads > 0 && makes_attention_of(width);
        let kept = [values, keys].map(|name| self.is_kept(name));
        let (operator, inputs) = match kept {
            [true, true] => (CROSS_ATTENTION, vec![queries, keys, values]),
            _ => {
                let (_, keys, of_keys) = self.apart(keys, BY_HEAD_TRANSPOSED)?;
                let (_, values, of_values) = self.apart(values, BY_HEAD)?;
                let split = self.made_by(queries, "Split").filter(|node| node.is_of_last_axis)?;
                let is_whole =
                    split.outputs == [queries, keys, values] && [of_keys, of_values] == [shape; 2];
                (SELF_ATTENTION, vec![*split.inputs.first().filter(|_| is_whole)?, shape])
            }
        };
        is_usual.then(|| NewNode::own(operator, &inputs, &last.outputs))
    }

    /// What a `Reshape` and a `Transpose` take apart by heads; before it, to which shape.
    fn apart(&self, value: Name<'_>, order: [u64; 4]) -> Option<([i64; 4], Name<'a>, Name<'a>)> {
        let transpose = self.made_by(value, "Transpose").filter(|node| node.order == order)?;
        let [whole, shape] = self.operands(transpose.inputs.first()?, "Reshape")?;
        let extents: [i64; 4] = self.integers(shape)?.try_into().ok()?;
        (extents[..2] == [0, 0]).then_some((extents, whole, shape))
    }

    /// Whether `name` is given by whoever runs this graph, in these or in other numbers.
    fn is_kept(&self, name: Name<'_>) -> bool {
        let cast = self.made_by(name, "Cast").and_then(|node| node.inputs.first().copied());
        self.is_given(cast.unwrap_or(name))
    }
}
