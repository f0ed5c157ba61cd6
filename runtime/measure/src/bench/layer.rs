//! One linear layer by itself, for measuring what the machine can do.

use pocketmuse::{
    Intermediates, Loading, Weights,
    internals::{Package, Session},
};
use pocketmuse_package::{Dim, Dtype, Result};

use crate::graph::Graph;

/// The fastest.
const LOADING: Loading = Loading { intermediates: Intermediates::Arena, weights: Weights::Packed };

/// How a linear layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// As in the int8 flavour: u8 activations whose range is found at run time, s8 weights with a
    /// scale per column.
    Int8,
    /// As in the f32 flavour.
    F32,
}

/// A layer from `x` f32 `[rows, inner]` to `y` f32 `[rows, columns]`, of any rows, with some weights,
/// run as the graphs of `package` are.
///
/// # Errors
///
/// `EngineFailed` if ONNX Runtime refuses.
pub(super) fn linear_layer(
    package: &Package,
    [inner, columns]: [usize; 2],
    precision: Precision,
) -> Result<Session> {
    let name = format!("a linear layer from {inner} to {columns}");
    package.load_model(&name, &model([inner, columns], precision), LOADING)
}

fn model([inner, columns]: [usize; 2], precision: Precision) -> Vec<u8> {
    let rows = |columns: usize| [Dim::from("rows"), Dim::from(columns)];
    let mut graph = Graph::default();
    graph.input("x", rows(inner)).output("y", rows(columns));
    match precision {
        Precision::F32 => {
            let weight = floats(inner * columns, |at| (at % 97) as f32 / 97.0 - 0.5);
            graph.constant("w", Dtype::F32, [inner, columns], &weight);
            graph.node("MatMul", &["x", "w"], &["y"]);
        }
        Precision::Int8 => {
            let weight: Vec<_> =
                (0..inner * columns).map(|at| ((at % 127) as i8 - 63).cast_unsigned()).collect();
            let scale = floats(columns, |at| (at % 97) as f32 / 97.0 + 0.5);
            graph
                .constant("w", Dtype::I8, [inner, columns], &weight)
                .constant("w_scale", Dtype::F32, [1, columns], &scale)
                .node("DynamicQuantizeLinear", &["x"], &["u8", "scale", "zero_point"])
                .node("MatMulInteger", &["u8", "w", "zero_point"], &["i32"])
                .cast("i32", Dtype::F32, "unscaled")
                .node("Mul", &["scale", "w_scale"], &["both"])
                .node("Mul", &["unscaled", "both"], &["y"]);
        }
    }
    graph.into_model()
}

fn floats(count: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
    (0..count).flat_map(|at| value(at).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, ops::ControlFlow};

    use pocketmuse::{
        Runtime,
        internals::{Form, Input, Settings},
    };
    use pocketmuse_setup::Event;

    use super::*;

    /// ONNX Runtime, brought if there is none.
    fn runtime() -> &'static Runtime {
        Runtime::start(None).unwrap_or_else(|_| {
            let watch = |event: Event<'_>| {
                if let Event::Note(line) = event {
                    println!("{line}");
                }
                ControlFlow::Continue(())
            };
            pocketmuse_setup::ensure(false, watch).expect("ONNX Runtime, through a package client");
            Runtime::start(None).expect("the library that was brought")
        })
    }

    /// The layer by itself, in one thread.
    fn load(layer: [usize; 2], precision: Precision, form: Form<'_>) -> Session {
        let settings = Settings { form, ..Settings::new(1, LOADING) };
        Session::of_model(runtime(), "a layer", &model(layer, precision), settings)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn multiplies() {
        let x: Vec<f32> = (0..32).map(|at| at as f32 / 31.0).collect();
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Int8, 2e-2)] {
            let mut session = load([16, 3], precision, Form::Exported);
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
        let saved = folder.path().join("graph.onnx");
        load([16, 3], Precision::Int8, Form::Saved(&saved));
        let optimized = fs::read(saved).expect("the optimized graph");
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
