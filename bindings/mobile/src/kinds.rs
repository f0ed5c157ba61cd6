//! The kinds that a request chooses from, for both languages. Each is the runtime's of that name.

use crate::error::PocketMuseError;

/// A kind that crosses the border to the runtime and, if it says so, `back`.
macro_rules! kind {
    (
        $(#[$meta:meta])*
        back $Name:ident { $($(#[$variant_meta:meta])* $Variant:ident),+ $(,)? }
    ) => {
        kind! { $(#[$meta])* $Name { $($(#[$variant_meta])* $Variant),+ } }

        impl From<pocketmuse::$Name> for $Name {
            fn from(kind: pocketmuse::$Name) -> Self {
                match kind {
                    $(pocketmuse::$Name::$Variant => Self::$Variant,)+
                }
            }
        }
    };
    (
        $(#[$meta:meta])*
        $Name:ident { $($(#[$variant_meta:meta])* $Variant:ident),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, uniffi::Enum)]
        pub enum $Name {
            $($(#[$variant_meta])* $Variant,)+
        }

        impl From<$Name> for pocketmuse::$Name {
            fn from(kind: $Name) -> Self {
                match kind {
                    $($Name::$Variant => Self::$Variant,)+
                }
            }
        }
    };
}

kind! {
    /// The graphs of a package that run.
    Flavour {
        /// Linear layers, embeddings and the decoder's convolutions in 8-bit integers: small and
        /// fast on every processor.
        Int8,
        /// As `Int8`, with the weights of linear layers in 4 bits: smallest, and slower.
        Int4,
        /// Every weight and every product in 32-bit float: the yardstick.
        F32,
        /// Every weight and every value in 16-bit float, in operators that NPUs and GPUs take; slow
        /// on a processor.
        F16,
        /// Every value in 16-bit integers of measured ranges, every weight in 8 bits, in operators
        /// that NPUs take; slow on a processor.
        Qdq,
    }
}

impl TryFrom<pocketmuse::Flavour> for Flavour {
    type Error = PocketMuseError;

    /// # Errors
    ///
    /// `Unsupported` for one that this library does not know.
    fn try_from(flavour: pocketmuse::Flavour) -> Result<Self, PocketMuseError> {
        Ok(match flavour {
            pocketmuse::Flavour::Int8 => Self::Int8,
            pocketmuse::Flavour::Int4 => Self::Int4,
            pocketmuse::Flavour::F32 => Self::F32,
            pocketmuse::Flavour::F16 => Self::F16,
            pocketmuse::Flavour::Qdq => Self::Qdq,
            _ => return Err(PocketMuseError::Unsupported { what: format!("flavour {flavour}") }),
        })
    }
}

kind! {
    /// A part of a model, by when it runs.
    back Stage {
        /// Makes features of the prompt.
        TextEncoder,
        /// Makes of them what every step needs.
        Prologue,
        /// Predicts tokens, once a step.
        Step,
        /// Makes an image of tokens.
        Decoder,
        /// Makes tokens of an image, for edits.
        Encoder,
    }
}

kind! {
    /// Who computes a stage.
    back Provider {
        /// ONNX Runtime's own kernels. The same request makes the same image on every CPU.
        Cpu,
        /// Intel's OpenVINO, as a plug-in; its CPU device.
        OpenVino,
        /// Qualcomm's NPUs, as a plug-in.
        Qnn,
        /// GPUs, as a plug-in.
        WebGpu,
        /// Apple's NPUs. Known, but not in this build.
        CoreMl,
        /// NVIDIA's GPUs. Known, but not in this build.
        Cuda,
        /// Android's deprecated interface. Known, but not in this build.
        Nnapi,
        /// Kernels for phones' CPUs. Known, but not in this build.
        Xnnpack,
        /// Whoever has a library, fits the budget, computes what the CPU does and is fastest; else
        /// the CPU. Found by measuring when a job runs.
        Auto,
    }
}

kind! {
    /// Which tokens are chosen in a step.
    back Sampler {
        /// Those the model is surest of, with noise; the rest are masked again.
        Confidence,
        /// The next ones of the Halton order, spread evenly over the image.
        Halton,
    }
}

kind! {
    /// How guidance grows over the steps.
    back GuidanceSchedule {
        /// The same at every step.
        Constant,
        /// From 1, no guidance, at the first step evenly to the whole at the last.
        Linear,
        /// From 1 to the whole along a quarter of a cosine: fast at first.
        Cosine,
        /// None in the first half of the steps, which takes half of their time, then the whole.
        Late,
    }
}

kind! {
    /// How the number of masked tokens falls over the steps.
    back MaskingSchedule {
        /// Slowly at first: `cos(ratio * pi / 2)`.
        Cosine,
        /// Evenly: `1 - ratio`.
        Linear,
    }
}

kind! {
    /// Which generator draws the numbers of a request.
    back RngKind {
        /// The same numbers on every platform, whatever the order or the threads.
        Own,
        /// Exactly those of the reference pipeline on a CPU: slow, for comparing.
        Torch,
    }
}

kind! {
    /// Which edges of an image meet, so that copies of it can lie side by side.
    back Tileable {
        /// None.
        No,
        /// The left and the right.
        Across,
        /// The top and the bottom.
        Down,
        /// All four.
        Both,
    }
}

/// The temperature of the re-masking noise over the steps: finite, at least 0.
#[derive(Clone, Copy, Debug, PartialEq, uniffi::Enum)]
pub enum Temperature {
    /// From the first value at the first step to the last at the last step, evenly.
    Range {
        /// At the first step: finite, at least 0.
        first: f32,
        /// At the last step: finite, at least 0.
        last: f32,
    },
    /// From this value down to 0.01.
    Decaying {
        /// At the first step: finite, at least 0.
        first: f32,
    },
}

impl From<Temperature> for pocketmuse::Temperature {
    fn from(temperature: Temperature) -> Self {
        match temperature {
            Temperature::Range { first, last } => Self::Range([first, last]),
            Temperature::Decaying { first } => Self::Decaying(first),
        }
    }
}

impl From<pocketmuse::Temperature> for Temperature {
    fn from(temperature: pocketmuse::Temperature) -> Self {
        match temperature {
            pocketmuse::Temperature::Range([first, last]) => Self::Range { first, last },
            pocketmuse::Temperature::Decaying(first) => Self::Decaying { first },
        }
    }
}
