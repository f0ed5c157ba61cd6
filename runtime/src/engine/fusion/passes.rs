//! Passes over floats that one operator makes at once: norms that are scaled and shifted, and GELU.

use pocketmuse_package::graph::MICROSOFT_DOMAIN;

use super::{
    NewNode,
    scope::{Name, Node, Scope},
};
use crate::engine::operators::{GATED_GELU, MODULATED_LAYER_NORM, MODULATED_RMS_NORM};

impl<'a> Scope<'a> {
    /// The norm to which the `Add` `last` adds a shift of each branch.
    pub(super) fn modulated_norm(&self, last: &Node<'a>) -> Option<NewNode> {
        let &[scaled, shift] = last.inputs.as_slice() else { return None };
        let [weighed, scale] = self.operands(scaled, "Mul")?;
        let [normal, weight] = self.operands(weighed, "Mul")?;
        let [x, root] = self.operands(normal, "Div")?;
        let &[shifted] = self.plain(root, "Sqrt")?.1.inputs.as_slice() else { return None };
        let [mean, epsilon] = self.operands(shifted, "Add")?;
        let squares = self.mean_of(mean)?;
        let [squared, two] = self.operands(squares, "Pow")?;
        let is_norm = squared == x
            && self.holds(two, &2f32.to_le_bytes())
            && [shift, scale].iter().all(|name| self.is_given(name));
        let centred = self.operands(x, "Sub").and_then(|[x, mean]| {
            let is_mean = self.mean_of(mean)? == x;
            is_mean.then_some(x)
        });
        let (operator, x) = match centred {
            Some(x) => (MODULATED_LAYER_NORM, x),
            None => (MODULATED_RMS_NORM, x),
        };
        let inputs = [x, weight, epsilon, scale, shift];
        is_norm.then(|| NewNode::own(operator, &inputs, &last.outputs))
    }

    /// The `Mul` `last` as GELU, which may be that of one half of a row times the other half.
    pub(super) fn gelu(&self, last: &Node<'a>) -> Option<NewNode> {
        let &[one, other] = last.inputs.as_slice() else { return None };
        if let Some(x) = self.gelu_of([one, other]) {
            return Some(NewNode::own("Gelu", &[x], &last.outputs).within(MICROSOFT_DOMAIN));
        }
        let x = self.gelu_of(self.operands(other, "Mul")?)?;
        let split = self.made_by(x, "Split").filter(|node| node.is_of_last_axis)?;
        let both = (split.outputs == [one, x]).then(|| split.inputs.first())??;
        Some(NewNode::own(GATED_GELU, &[both], &last.outputs))
    }

    /// What two factors are the GELU of: `x * (erf(x / sqrt(2)) + 1)` and 0.5.
    fn gelu_of(&self, [product, half]: [Name<'a>; 2]) -> Option<Name<'a>> {
        let [x, shifted] = self.operands(product, "Mul")?;
        let [erf, one] = self.operands(shifted, "Add")?;
        let &[scaled] = self.plain(erf, "Erf")?.1.inputs.as_slice() else { return None };
        let [divided, root] = self.operands(scaled, "Div")?;
        let constants = [(half, 0.5), (one, 1.0), (root, std::f32::consts::SQRT_2)];
        let mut all = constants.into_iter();
        let is_gelu = divided == x
            && all.all(|(name, value): (_, f32)| self.holds(name, &value.to_le_bytes()));
        is_gelu.then_some(x)
    }

    /// What `value` is the mean of, over the last axis.
    fn mean_of(&self, value: Name<'_>) -> Option<Name<'a>> {
        let [x, axes] = self.operands(value, "ReduceMean")?;
        (self.integers(axes)? == [-1]).then_some(x)
    }
}
