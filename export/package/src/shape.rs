//! Element types and shapes, as they are written in manifests and in messages.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::named_enum;

named_enum! {
    /// The type of a tensor's elements.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Dtype at "dtype" {
        /// 32-bit float.
        F32 = "f32",
        /// 16-bit float.
        F16 = "f16",
        /// 16-bit float with the exponent of an f32.
        Bf16 = "bf16",
        /// 8-bit signed integer.
        I8 = "i8",
        /// 8-bit unsigned integer.
        U8 = "u8",
        /// 16-bit signed integer.
        I16 = "i16",
        /// 16-bit unsigned integer.
        U16 = "u16",
        /// 32-bit signed integer.
        I32 = "i32",
        /// 64-bit signed integer.
        I64 = "i64",
        /// True or false, one byte.
        Bool = "bool",
    }
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// One extent of a shape: a number, or a name where it is chosen at run time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Known at export.
    Fixed(usize),
    /// Chosen at run time; the same name is the same number within a graph.
    Named(String),
}

impl Dim {
    /// Of an extent that is chosen at run time: how many times which name it is, as 8 and `height`
    /// of `8 * height`.
    pub fn multiple(&self) -> Option<(usize, &str)> {
        let Self::Named(name) = self else { return None };
        match name.split_once(" * ") {
            Some((factor, name)) => Some((factor.parse().ok()?, name)),
            None => Some((1, name)),
        }
    }
}

impl From<usize> for Dim {
    fn from(extent: usize) -> Self {
        Self::Fixed(extent)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(extent) => write!(f, "{extent}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Extents, outermost first. Prints as `[1, 77, 768]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// The extents as numbers, if all are known.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.0
            .iter()
            .map(|dim| if let Dim::Fixed(extent) = dim { Some(*extent) } else { None })
            .collect()
    }

    /// Whether `extents` is a shape this one stands for: same rank, and equal wherever this one is
    /// fixed.
    pub fn admits(&self, extents: &[usize]) -> bool {
        self.0.len() == extents.len()
            && self
                .0
                .iter()
                .zip(extents)
                .all(|(dim, extent)| !matches!(dim, Dim::Fixed(fixed) if fixed != extent))
    }
}

impl<D: Into<Dim>> FromIterator<D> for Shape {
    fn from_iter<I: IntoIterator<Item = D>>(extents: I) -> Self {
        Self(extents.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            dim.fmt(f)?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_people_write_it() {
        let shape: Shape = ["batch".into(), Dim::Fixed(77), Dim::Fixed(768)].into_iter().collect();
        assert_eq!(format!("{} {shape}", Dtype::F16), "f16 [batch, 77, 768]");
    }

    #[test]
    fn a_multiple_has_a_factor_and_a_name() {
        assert_eq!(Dim::from("8 * height").multiple(), Some((8, "height")));
        assert_eq!(Dim::from("height").multiple(), Some((1, "height")));
        assert_eq!(Dim::from("x * height").multiple(), None);
        assert_eq!(Dim::Fixed(8).multiple(), None);
    }

    #[test]
    fn admits_what_it_stands_for() {
        let shape: Shape = ["batch".into(), Dim::Fixed(77)].into_iter().collect();
        assert!(shape.admits(&[2, 77]));
        assert!(!shape.admits(&[2, 76]));
        assert!(!shape.admits(&[77]));
        assert_eq!(shape.fixed(), None);
    }
}
