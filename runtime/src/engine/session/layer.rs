//! One linear layer by itself, for measuring what the machine can do.

use ort::{
    editor::{Graph, Model, Node, ONNX_DOMAIN, Opset},
    memory::Allocator,
    operator::Attribute,
    value::{
        Outlet, PrimitiveTensorElementType, Shape, SymbolicDimensions, Tensor, TensorElementType,
        ValueType,
    },
};
use pocketmuse_package::{Dim, Dtype, Result, TensorSpec};

use super::{Runtime, Session, Settings, builder, failed};

/// How a linear layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// As in the int8 flavour: u8 activations whose range is found at run time, s8 weights with a
    /// scale per column.
    Int8,
    /// As in the f32 flavour.
    F32,
}

impl Session {
    /// A layer from `x` f32 `[rows, inner]` to `y` f32 `[rows, columns]`, with some weights.
    ///
    /// # Errors
    ///
    /// `Runtime` if ONNX Runtime refuses.
    pub(crate) fn linear_layer(
        runtime: &Runtime,
        [rows, inner, columns]: [usize; 3],
        precision: Precision,
        settings: Settings<'_>,
    ) -> Result<Self> {
        let at = format!("a linear layer of {rows} rows from {inner} to {columns}");
        let session = graph([rows, inner, columns], precision).and_then(|model| {
            let builder = builder(runtime, settings)?;
            model.into_session(&builder)
        });
        let inner = session.map_err(|error| failed(at.as_str(), &error))?;
        let shape = [rows, columns].into_iter().map(Dim::from).collect();
        let outputs = vec![TensorSpec { name: "y".to_owned(), dtype: Dtype::F32, shape }];
        Ok(Self { inner, at, outputs, tap_names: Default::default(), taps: Default::default() })
    }
}

fn graph([rows, inner, columns]: [usize; 3], precision: Precision) -> ort::Result<Model> {
    let mut graph = Graph::new()?;
    graph.set_inputs([matrix("x", [rows, inner])])?;
    graph.set_outputs([matrix("y", [rows, columns])])?;
    match precision {
        Precision::F32 => {
            graph.add_initializer(
                "w",
                constant([inner, columns], |at| (at % 97) as f32 / 97.0 - 0.5)?,
                false,
            )?;
            graph.add_node(node("MatMul", &["x", "w"], &["y"])?)?;
        }
        Precision::Int8 => {
            graph.add_initializer(
                "w",
                constant([inner, columns], |at| (at % 127) as i8 - 63)?,
                false,
            )?;
            graph.add_initializer(
                "w_scale",
                constant([1, columns], |at| (at % 97) as f32 / 97.0 + 0.5)?,
                false,
            )?;
            graph.add_node(node(
                "DynamicQuantizeLinear",
                &["x"],
                &["u8", "scale", "zero_point"],
            )?)?;
            graph.add_node(node("MatMulInteger", &["u8", "w", "zero_point"], &["i32"])?)?;
            let to = Attribute::new("to", Dtype::F32.onnx())?;
            graph.add_node(Node::new("Cast", ONNX_DOMAIN, "cast", ["i32"], ["unscaled"], [to])?)?;
            graph.add_node(node("Mul", &["scale", "w_scale"], &["both"])?)?;
            graph.add_node(node("Mul", &["unscaled", "both"], &["y"])?)?;
        }
    }
    let mut model = Model::new([Opset::new(ONNX_DOMAIN, 21)?])?;
    model.set_graph(graph)?;
    Ok(model)
}

fn matrix(name: &str, extents: [usize; 2]) -> Outlet {
    let shape = Shape::new(extents.map(|extent| extent as i64));
    let ty = TensorElementType::Float32;
    Outlet::new(
        name,
        ValueType::Tensor { ty, shape, dimension_symbols: SymbolicDimensions::empty(2) },
    )
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> ort::Result<Node> {
    Node::new(op, ONNX_DOMAIN, format!("{}/{op}", outputs[0]), inputs, outputs, [])
}

fn constant<T: PrimitiveTensorElementType + std::fmt::Debug>(
    extents: [usize; 2],
    value: impl Fn(usize) -> T,
) -> ort::Result<Tensor<T>> {
    let mut tensor = Tensor::new(&Allocator::default(), extents.map(|extent| extent as i64))?;
    let (_, values) = tensor.extract_tensor_mut();
    values.iter_mut().enumerate().for_each(|(at, place)| *place = value(at));
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        engine::loading::Loading,
        engine::session::{Form, Input},
        engine::threads::Sharing,
    };

    const LOADING: Loading = Loading { arena: true, prepacking: true };
    const SETTINGS: Settings<'_> = Settings {
        threads: 1,
        sharing: Sharing { sleeping_threads: false, dynamic_block_base: None },
        loading: LOADING,
        form: Form::Exported,
        taps: None,
        profile: None,
    };

    fn runtime() -> &'static Runtime {
        Runtime::for_tests()
    }

    #[test]
    fn multiplies() {
        let x: Vec<f32> = (0..32).map(|at| at as f32 / 31.0).collect();
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Int8, 2e-2)] {
            let mut session =
                Session::linear_layer(runtime(), [2, 16, 3], precision, SETTINGS).expect("a layer");
            let found = session.run(&[("x", Input::F32(&[2, 16], &x))]).expect("runs");
            let found = found[0].shaped(&[2, 3]).expect("its shape");
            for (at, found) in found.iter().enumerate() {
                let (row, column) = (at / 3, at % 3);
                let weight = |k: usize| match precision {
                    Precision::F32 => ((k * 3 + column) % 97) as f32 / 97.0 - 0.5,
                    Precision::Int8 => {
                        (((k * 3 + column) % 127) as f32 - 63.0) * (column as f32 / 97.0 + 0.5)
                    }
                };
                let expected: f32 = (0..16).map(|k| x[row * 16 + k] * weight(k)).sum();
                assert!(
                    (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
                    "{found}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn the_integer_layer_is_one_kernel() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("optimized.onnx");
        let builder = builder(runtime(), SETTINGS)
            .expect("a session")
            .with_optimized_model_path(&target)
            .expect("a path");
        graph([2, 16, 3], Precision::Int8)
            .and_then(|model| model.into_session(&builder))
            .expect("a session");
        let optimized = fs::read(target).expect("the optimized graph");
        let has = |op: &&str| {
            let field = [&[0x22, op.len() as u8], op.as_bytes()].concat(); // NodeProto.op_type
            optimized.windows(field.len()).any(|window| window == field)
        };
        let all = [
            "DynamicQuantizeLinear",
            "MatMulInteger",
            "MatMulIntegerToFloat",
            "Cast",
            "Mul",
            "DynamicQuantizeMatMul",
        ];
        assert_eq!(all.into_iter().filter(has).collect::<Vec<_>>(), ["DynamicQuantizeMatMul"]);
    }
}
