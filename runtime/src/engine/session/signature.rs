//! What a graph says it takes and makes, against what the manifest says.

use crate::engine::providers::Sizes;
use ort::value::{Outlet, TensorElementType, ValueType};
use pocketmuse_package::{Dim, Dtype, Error, ErrorKind, Result, TensorSpec};

/// Compares what the manifest says with what the graph says: names, order, types, and every extent
/// both know. Named ones are fixed if the graph is compiled for `sizes`.
pub(super) fn check_signature(
    (what, sizes): (&str, Option<Sizes>),
    expected: &[TensorSpec],
    found: &[Outlet],
) -> Result<()> {
    let names =
        |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let damaged = |detail| Error::new(ErrorKind::PackageDamaged, "", detail);
    if !expected.iter().map(|spec| spec.name.as_str()).eq(found.iter().map(Outlet::name)) {
        let expected = names(expected.iter().map(|spec| spec.name.as_str()).collect());
        let found = names(found.iter().map(Outlet::name).collect());
        return Err(damaged(format!("expected the {what}s {expected}, found {found}")));
    }
    for (spec, outlet) in expected.iter().zip(found) {
        let agrees = signature(outlet.dtype()).is_some_and(|(dtype, extents)| {
            dtype == spec.dtype
                && extents.len() == spec.shape.0.len()
                && spec.shape.0.iter().zip(extents).all(|(dim, &extent)| match dim {
                    Dim::Fixed(fixed) => {
                        extent < 0 || usize::try_from(extent).is_ok_and(|extent| extent == *fixed)
                    }
                    Dim::Named(_) => {
                        let fixed = sizes.and_then(|sizes| sizes.extent(dim));
                        extent < 0 || usize::try_from(extent).ok() == fixed
                    }
                })
        });
        if !agrees {
            return Err(damaged(format!("expected the {what} {spec}, found {}", outlet.dtype())));
        }
    }
    Ok(())
}

/// The type and extents of a tensor, -1 where unknown; `None` for anything that a package cannot
/// hold.
pub(super) fn signature(value: &ValueType) -> Option<(Dtype, &[i64])> {
    let ValueType::Tensor { ty, shape, .. } = value else { return None };
    let dtype = match ty {
        TensorElementType::Float32 => Dtype::F32,
        TensorElementType::Float16 => Dtype::F16,
        TensorElementType::Bfloat16 => Dtype::Bf16,
        TensorElementType::Int8 => Dtype::I8,
        TensorElementType::Uint8 => Dtype::U8,
        TensorElementType::Int16 => Dtype::I16,
        TensorElementType::Uint16 => Dtype::U16,
        TensorElementType::Int32 => Dtype::I32,
        TensorElementType::Int64 => Dtype::I64,
        TensorElementType::Bool => Dtype::Bool,
        _ => return None,
    };
    Some((dtype, shape))
}

/// An output as the graph itself declares it; what is unknown there may be any extent.
#[cfg(feature = "measure")]
pub(super) fn spec_of(outlet: &Outlet) -> Result<TensorSpec> {
    let (dtype, extents) = signature(outlet.dtype()).ok_or_else(|| {
        let detail = format!("expected a tensor as output, found {}", outlet.dtype());
        Error::new(ErrorKind::EngineFailed, outlet.name(), detail)
    })?;
    let dim = |(axis, &extent): (usize, &i64)| {
        usize::try_from(extent).map_or_else(|_| Dim::Named(format!("axis{axis}")), Dim::Fixed)
    };
    let shape = extents.iter().enumerate().map(dim).collect();
    Ok(TensorSpec { name: outlet.name().to_owned(), dtype, shape })
}
