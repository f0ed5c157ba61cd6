//! ONNX operators of our own, for graphs of integers: what ONNX Runtime does in several passes over
//! floats is one pass over bytes, or one over floats. They know no network. Which nodes they stand
//! for is [`fusion`](super::fusion)'s to know.
//!
//! Images are u8, channels last, `[1, height, width, channels]`. Rows are shared among ONNX
//! Runtime's own threads. Whatever a graph gives them, they fail and do not panic.

mod addition;
#[cfg(target_arch = "x86_64")]
mod attention;
mod gelu;
mod last;
mod lookup;
mod norm;
mod rows;
mod statistics;
mod values;
mod wide;

use std::ops::RangeInclusive;

use ort::{
    Result,
    operator::{
        ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    },
    value::TensorElementType,
};

pub(super) use pocketmuse_package::graph::OWN_DOMAIN as DOMAIN;

/// The version of the domain. Whoever changes what an operator takes or makes counts on: graphs
/// that were optimised before are then made again.
pub(crate) const VERSION: u64 = 4;

pub(super) const LOOKUP: &str = "Lookup";
pub(super) const LOOKUP_FLOATS: &str = "LookupFloats";
pub(super) const LAST_ROWS: &str = "LastRows";
pub(super) const ADDITION: &str = "ScaledAddition";
pub(super) const STATISTICS: &str = "Statistics";
pub(super) const MODULATED_RMS_NORM: &str = "ModulatedRmsNorm";
pub(super) const MODULATED_LAYER_NORM: &str = "ModulatedLayerNorm";
pub(super) const GATED_GELU: &str = "GatedGelu";
pub(super) const SELF_ATTENTION: &str = "SelfAttention";
pub(super) const CROSS_ATTENTION: &str = "CrossAttention";

/// Whether this processor has our operators of attention, for heads so wide.
#[cfg(target_arch = "x86_64")]
pub(super) fn makes_attention_of(width: i64) -> bool {
    (1..=attention::COLUMNS as i64).contains(&width) && attention::is_possible()
}

/// No other processor has them.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn makes_attention_of(_width: i64) -> bool {
    false
}

/// What computes an operator.
type Compute = fn(&ComputeContext) -> Result<()>;

/// An operator: its name, what it takes and makes, what computes it. Types after the required ones
/// are of optional inputs.
struct Own {
    name: &'static str,
    required: &'static [TensorElementType],
    optional: &'static [TensorElementType],
    outputs: &'static [TensorElementType],
    compute: Compute,
}

impl Operator for Own {
    type Kernel<'attr> = Compute;

    fn name(&self) -> &str {
        self.name
    }

    fn versions(&self) -> RangeInclusive<u32> {
        1..=i32::MAX as u32
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let required = self.required.iter().map(|&input| OperatorInput::required(input));
        required.chain(self.optional.iter().map(|&input| OperatorInput::optional(input)))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.outputs.iter().map(|&output| OperatorOutput::required(output))
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> Result<Compute> {
        Ok(self.compute)
    }
}

/// All of them.
///
/// # Errors
///
/// If ONNX Runtime does not take one.
pub(super) fn domain() -> Result<OperatorDomain> {
    use TensorElementType::{Float32, Int64, Uint8};
    let lookup = Own {
        name: LOOKUP,
        required: &[Uint8, Uint8],
        optional: &[Int64, Int64, Int64, Uint8],
        outputs: &[Uint8],
        compute: lookup::bytes,
    };
    let lookup_floats = Own {
        name: LOOKUP_FLOATS,
        required: &[Uint8, Float32],
        optional: &[Int64, Int64, Int64, Float32],
        outputs: &[Float32],
        compute: lookup::floats,
    };
    let addition = Own {
        name: ADDITION,
        required: &[Uint8, Uint8],
        optional: &[Float32, Float32, Int64, Int64],
        outputs: &[Uint8],
        compute: addition::compute,
    };
    let last_rows = Own {
        name: LAST_ROWS,
        required: &[Uint8],
        optional: &[Int64, Int64],
        outputs: &[Uint8],
        compute: last::compute,
    };
    let statistics = Own {
        name: STATISTICS,
        required: &[Uint8],
        optional: &[],
        outputs: &[Float32, Float32],
        compute: statistics::compute,
    };
    let bytes = OperatorDomain::new(DOMAIN)?.add(lookup)?.add(lookup_floats)?;
    let bytes = bytes.add(last_rows)?.add(addition)?.add(statistics)?;
    let of_floats = |name, required, compute| Own {
        name,
        required,
        optional: &[],
        outputs: &[Float32],
        compute,
    };
    let all = bytes
        .add(of_floats(MODULATED_RMS_NORM, &[Float32; 5], norm::rms))?
        .add(of_floats(MODULATED_LAYER_NORM, &[Float32; 5], norm::layer))?
        .add(of_floats(GATED_GELU, &[Float32], gelu::compute))?;
    #[cfg(target_arch = "x86_64")]
    let all = all
        .add(of_floats(SELF_ATTENTION, &[Float32, Int64], attention::of_itself))?
        .add(of_floats(CROSS_ATTENTION, &[Float32; 3], attention::of_others))?;
    Ok(all)
}
