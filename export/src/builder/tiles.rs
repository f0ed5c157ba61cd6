//! Loops whose rounds give parts of a value, and what cuts such parts out.

use pocketmuse_package::{Dim, Dtype};

use super::{Builder, To, Value};
use crate::{
    error::Result,
    graph::{Attribute, Graph},
};

impl Builder {
    /// Runs what `build` adds `count` times. `count` is a vector of one integer; `build` is given
    /// the round, from 0, as another. Returns what it returned, a first axis for the rounds before
    /// the others. Parts of all rounds have the same extents.
    ///
    /// A `Scan`, whose rounds write their parts where they belong. A `Loop` keeps the parts and
    /// copies them into one value when the last is there, which takes their memory twice.
    ///
    /// # Errors
    ///
    /// What `build` returns.
    pub fn repeat(
        &mut self,
        count: &Value,
        rounds: Dim,
        build: impl FnOnce(&mut Self, &Value) -> Result<Vec<Value>>,
    ) -> Result<Vec<Value>> {
        let all = self.range(count, rounds.clone());
        let name = self.fresh("scan");
        let round = Value { name: format!("{name}.round"), dtype: Dtype::I64, shape: vec![] };
        let outside = std::mem::take(&mut self.graph.nodes);
        let at = self.reshape(&round, &[To::Is(1)]);
        let built = build(self, &at);
        let nodes = std::mem::replace(&mut self.graph.nodes, outside);
        let built = built?;
        let outputs = built.iter().map(Value::spec).collect();
        let body = Graph {
            name: name.clone(),
            inputs: vec![round.spec()],
            outputs,
            nodes,
            ..Graph::default()
        };
        let stacked = |index: usize, part: &Value| {
            let shape = [rounds.clone()].into_iter().chain(part.shape.iter().cloned()).collect();
            Value { name: format!("{name}.{index}"), dtype: part.dtype, shape }
        };
        let stacked: Vec<Value> =
            built.iter().enumerate().map(|(index, part)| stacked(index, part)).collect();
        let names = stacked.iter().map(|value| value.name.clone()).collect();
        let attributes = vec![
            ("body", Attribute::Graph(Box::new(body))),
            ("num_scan_inputs", Attribute::Int(1)),
        ];
        self.push("Scan", &[&all], names, attributes);
        Ok(stacked)
    }

    /// The integers from 0 to below `count`, a vector of one integer.
    fn range(&mut self, count: &Value, extent: Dim) -> Value {
        let [zero, one] =
            [0, 1].map(|number: i64| self.inline(Dtype::I64, &[], number.to_le_bytes().to_vec()));
        let count = self.reshape(count, &[]);
        self.node("Range", &[&zero, &count, &one], (Dtype::I64, vec![extent]), vec![])
    }

    /// `x` from `start` to `end`, vectors of one integer, along `axis`, which is then `extent`
    /// long.
    #[track_caller]
    pub fn slice(
        &mut self,
        x: &Value,
        start: &Value,
        end: &Value,
        axis: usize,
        extent: Dim,
    ) -> Value {
        let mut shape = x.shape.clone();
        shape[axis] = extent;
        let axes = self.ints(&[axis as i64]);
        self.node("Slice", &[x, start, end, &axes], (x.dtype, shape), vec![])
    }

    /// `x` with `fill` around it: `pads` are as many integers as twice its axes, before each axis,
    /// then after each.
    #[track_caller]
    pub fn pad(&mut self, x: &Value, pads: &Value, fill: &Value, shape: &[Dim]) -> Value {
        assert_eq!(
            (pads.extent(0), x.dtype),
            (2 * x.shape.len(), fill.dtype),
            "pads of {}",
            x.name
        );
        self.node("Pad", &[x, pads, fill], (x.dtype, shape.to_vec()), vec![])
    }

    /// The larger of `a` and `b`.
    #[track_caller]
    pub fn max(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Max", a, b)
    }

    /// The smaller of `a` and `b`.
    #[track_caller]
    pub fn min(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Min", a, b)
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::TensorSpec;

    use super::*;

    #[test]
    fn what_a_loop_builds_is_inside_it() {
        let mut b = Builder::new("test");
        let x = b.input("x", Dtype::F32, &["rows".into(), 3.into()]);
        let count = b.shape_of(&x, 0, 1);
        let rows = b.repeat(&count, "rows".into(), |b, round| {
            let row = b.gather_axis(&x, round, 0);
            Ok(vec![b.silu(&row)])
        });
        let rows = rows.expect("nothing fails");
        assert_eq!(rows[0].shape(), ["rows".into(), 1.into(), 3.into()]);
        b.output("y", &rows[0]);
        let graph = b.finish();
        assert_eq!(
            graph.nodes.iter().map(|node| node.op).collect::<Vec<_>>(),
            ["Shape", "Reshape", "Range", "Scan"]
        );
        let (_, Attribute::Graph(body)) = &graph.nodes[3].attributes[0] else { panic!("a body") };
        let inside: Vec<_> = body.nodes.iter().map(|node| node.op).collect();
        assert_eq!(inside, ["Reshape", "Gather", "Sigmoid", "Mul"]);
        let of = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.dtype).collect::<Vec<_>>();
        assert_eq!((of(&body.inputs), of(&body.outputs)), (vec![Dtype::I64], vec![Dtype::F32]));
    }
}
