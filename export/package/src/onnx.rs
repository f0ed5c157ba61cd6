//! The parts of ONNX's protobuf messages that this project writes and reads: the numbers of their
//! fields and of element types, as `onnx.proto` has them (IR version 10). Knows no operator.

use crate::{
    Dtype,
    wire::{self, Field},
};

/// A module for each message, with the numbers of its fields.
macro_rules! messages {
    ($($(#[$meta:meta])* $message:ident { $($FIELD:ident = $number:literal),+ $(,)? })+) => {
        $(
            $(#[$meta])*
            pub mod $message {
                $(
                    #[doc = concat!("Field ", stringify!($number), ".")]
                    pub const $FIELD: u64 = $number;
                )+
            }
        )+
    };
}

messages! {
    /// `ModelProto`: a whole file.
    model {
        IR_VERSION = 1,
        PRODUCER_NAME = 2,
        PRODUCER_VERSION = 3,
        GRAPH = 7,
        OPSET_IMPORT = 8,
        METADATA = 14,
        TRAINING = 20,
        FUNCTION = 25,
    }
    /// `OperatorSetIdProto`: a version of the operators of a domain.
    opset { DOMAIN = 1, VERSION = 2 }
    /// `GraphProto`: operators, constants, inputs and outputs.
    graph {
        NODE = 1,
        NAME = 2,
        INITIALIZER = 5,
        INPUT = 11,
        OUTPUT = 12,
        SPARSE_INITIALIZER = 15,
    }
    /// `TrainingInfoProto`: graphs that are run only to train.
    training { INITIALIZATION = 1, ALGORITHM = 2 }
    /// `FunctionProto`: an operator made of others.
    function { NODE = 7, ATTRIBUTE = 11 }
    /// `NodeProto`: an operator.
    node { INPUT = 1, OUTPUT = 2, NAME = 3, OP_TYPE = 4, ATTRIBUTE = 5, DOMAIN = 7 }
    /// `AttributeProto`: a parameter of an operator.
    attribute {
        NAME = 1,
        F = 2,
        I = 3,
        S = 4,
        T = 5,
        G = 6,
        INTS = 8,
        TENSORS = 10,
        GRAPHS = 11,
        TYPE = 20,
        SPARSE_TENSOR = 22,
        SPARSE_TENSORS = 23,
    }
    /// `AttributeProto.AttributeType`: which field of an attribute has its value.
    attribute_type { FLOAT = 1, INT = 2, STRING = 3, GRAPH = 5, INTS = 7 }
    /// `TensorProto`: a constant.
    tensor {
        DIMS = 1,
        DATA_TYPE = 2,
        NAME = 8,
        RAW_DATA = 9,
        EXTERNAL_DATA = 13,
        DATA_LOCATION = 14,
    }
    /// `SparseTensorProto`: a constant that is mostly zero.
    sparse { VALUES = 1, INDICES = 2 }
    /// `TensorProto.DataLocation`: where a constant's values are.
    data_location { EXTERNAL = 1 }
    /// `StringStringEntryProto`: a part of `model::METADATA`, and of `tensor::EXTERNAL_DATA`. The keys
    /// of that are [`LOCATION`](super::LOCATION), [`OFFSET`](super::OFFSET) and
    /// [`LENGTH`](super::LENGTH).
    entry { KEY = 1, VALUE = 2 }
    /// `ValueInfoProto`: the name and the type of a value.
    value_info { NAME = 1, TYPE = 2 }
    /// `TypeProto`: the type of a value.
    value_type { TENSOR = 1 }
    /// `TypeProto.Tensor`: the element type and the shape of a tensor.
    tensor_type { ELEM_TYPE = 1, SHAPE = 2 }
    /// `TensorShapeProto`: extents, outermost first.
    shape { DIM = 1 }
    /// `TensorShapeProto.Dimension`: a number or a name.
    dimension { VALUE = 1, PARAM = 2 }
}

/// Key of [`entry`]: the file that holds a constant, relative to the model's.
pub const LOCATION: &str = "location";

/// Key of [`entry`]: where in the file a constant begins.
pub const OFFSET: &str = "offset";

/// Key of [`entry`]: bytes of a constant.
pub const LENGTH: &str = "length";

/// Key of [`entry`]: a digest of a constant, which nobody reads.
pub const CHECKSUM: &str = "checksum";

/// Key and value of an [`entry`]; `None` if it is none.
pub fn entry_of(entry: &[u8]) -> Option<[&[u8]; 2]> {
    let mut found = [&b""[..]; 2];
    wire::for_each(entry, |number, field| {
        match (number, field) {
            (entry::KEY, Field::Bytes(bytes)) => found[0] = bytes,
            (entry::VALUE, Field::Bytes(bytes)) => found[1] = bytes,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

impl Dtype {
    /// Its number in ONNX, `TensorProto.DataType`.
    pub fn onnx(self) -> i64 {
        match self {
            Self::F32 => 1,
            Self::U8 => 2,
            Self::I8 => 3,
            Self::U16 => 4,
            Self::I16 => 5,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F16 => 10,
            Self::Bf16 => 16,
        }
    }
}

/// The name of an element type by its number, `TensorProto.DataType`: those of [`Dtype`], and two
/// that only weights have.
///
/// # Example
///
/// ```
/// use pocketmuse_package::onnx::element_name;
/// assert_eq!([1, 22, 8].map(element_name), [Some("f32"), Some("i4"), None]);
/// ```
pub fn element_name(number: u64) -> Option<&'static str> {
    match number {
        21 => Some("u4"),
        22 => Some("i4"),
        _ => Dtype::ALL
            .into_iter()
            .find(|dtype| dtype.onnx().cast_unsigned() == number)
            .map(Dtype::name),
    }
}

/// The bits of an element by its type's number, `TensorProto.DataType`; `None` for texts and for
/// types of later versions.
pub fn element_bits(number: u64) -> Option<u64> {
    Some(match number {
        25 | 26 => 2,                  // u2, i2
        21..=23 => 4,                  // u4, i4, f4e2m1
        2 | 3 | 9 | 17..=20 | 24 => 8, // u8, i8, bool, f8 in five forms
        4 | 5 | 10 | 16 => 16,         // u16, i16, f16, bf16
        1 | 6 | 12 => 32,              // f32, i32, u32
        7 | 11 | 13 | 14 => 64,        // i64, f64, u64, complex64
        15 => 128,                     // complex128
        _ => return None,
    })
}
