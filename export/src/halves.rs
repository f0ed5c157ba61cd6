//! Graph to graph: every 32-bit float becomes a half, inputs and outputs too. Knows operators, no
//! model.
//!
//! What the graph computes must stay within the halves' range: `Form::Halves` does. Taps are left
//! out, since reference files hold 32-bit floats.

use half::f16;
use pocketmuse_package::{Dtype, TensorSpec};

use crate::{
    error::Result,
    graph::{Data, Graph, Initializer, Recipe},
};

/// The graph in halves.
pub(crate) fn rewrite(graph: Graph) -> Graph {
    let Graph { name, inputs, outputs, nodes, initializers, .. } = graph;
    let specs = |specs: Vec<TensorSpec>| specs.into_iter().map(spec).collect();
    let initializers = initializers.into_iter().map(initializer).collect();
    let (inputs, outputs) = (specs(inputs), specs(outputs));
    Graph { name, inputs, outputs, nodes, initializers, ..Graph::default() }
}

fn spec(spec: TensorSpec) -> TensorSpec {
    let dtype = if spec.dtype == Dtype::F32 { Dtype::F16 } else { spec.dtype };
    TensorSpec { dtype, ..spec }
}

fn initializer(initializer: Initializer) -> Initializer {
    let Initializer { name, shape, data } = initializer;
    let data = match data {
        Data::Inline(Dtype::F32, bytes) => Data::Inline(Dtype::F16, halves(&bytes)),
        Data::Recipe(Dtype::F32, recipe) => computed(move || recipe.compute()),
        Data::Weight(weight) => computed(move || Ok(crate::graph::little_endian(weight.values()?))),
        other => other,
    };
    Initializer { name, shape, data }
}

fn computed(values: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Data {
    Data::Recipe(Dtype::F16, Recipe::new(move || Ok(halves(&values()?))))
}

/// The nearest halves of 32-bit floats, both little-endian; what is beyond their range becomes its
/// end.
fn halves(bytes: &[u8]) -> Vec<u8> {
    let (values, _) = bytes.as_chunks::<4>();
    let nearest = |value: f32| f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
    values.iter().flat_map(|value| nearest(f32::from_le_bytes(*value)).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builder::Builder, checkpoint::Weight};

    #[test]
    fn every_float_is_a_half_and_integers_stay() {
        let mut b = Builder::new("test");
        let rows = b.input("rows", Dtype::I32, &["n".into()]);
        let x = b.input("x", Dtype::F32, &["n".into(), 3.into()]);
        let table = b.weight("table", &Weight::constant(&[1, 3], vec![1.0, 1e6, -1e6]));
        let picked = b.gather(&table, &rows);
        let scale = b.scalar(0.1);
        let scaled = b.mul(&picked, &scale);
        let y = b.add(&scaled, &x);
        b.tap("reference", &y);
        b.output("y", &y);
        let graph = rewrite(b.finish());
        let dtypes = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.dtype).collect::<Vec<_>>();
        assert_eq!(dtypes(&graph.inputs), [Dtype::I32, Dtype::F16]);
        assert_eq!(dtypes(&graph.outputs), [Dtype::F16]);
        assert!(graph.taps.is_empty());
        let values = |name: &str| -> Vec<f32> {
            let found = graph.initializers.iter().find(|found| found.name == name).expect(name);
            assert_eq!(found.dtype(), Dtype::F16);
            let bytes = found.values().expect("in memory");
            assert_eq!(bytes.len(), found.bytes());
            let (halves, _) = bytes.as_chunks::<2>();
            halves.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect()
        };
        assert_eq!(values("table"), [1.0, 65504.0, -65504.0]);
        assert_eq!(values("constant_0"), [0.099_975_586]); // numpy.float16(0.1)
    }
}
