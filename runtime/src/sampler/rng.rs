//! Random numbers: our own counter-based generator, and the stream of torch for parity. Knows no
//! sampler.

mod mt19937;
mod philox;

use serde::{Deserialize, Serialize};

pub use mt19937::Mt19937;
pub(crate) use mt19937::exponential;
pub use philox::{Philox, Purpose};

use crate::request::RngKind;

/// A seeded generator.
///
/// Serializes as its kind, its seed and how much was drawn, so a job can be stored and go on later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rng {
    /// Has no state but the seed: a number depends on nothing but its place.
    Own(Philox),
    /// Its numbers depend on how many were drawn before.
    Torch(Box<Mt19937>),
}

impl Rng {
    /// A generator at the start of its numbers. Torch mode uses the low 32 bits of the seed, as
    /// torch does.
    pub fn new(kind: RngKind, seed: u64) -> Self {
        match kind {
            RngKind::Own => Self::Own(Philox::new(seed)),
            RngKind::Torch => Self::Torch(Box::new(Mt19937::new(seed as u32))),
        }
    }

    /// The generator after so many words of its stream. Ours has none.
    pub(crate) fn after(kind: RngKind, seed: u64, drawn: u64) -> Self {
        let mut rng = Self::new(kind, seed);
        if let Self::Torch(twister) = &mut rng {
            twister.skip(drawn);
        }
        rng
    }

    /// How many words of its stream were drawn.
    pub(crate) fn drawn(&self) -> u64 {
        match self {
            Self::Own(_) => 0,
            Self::Torch(twister) => twister.drawn(),
        }
    }

    /// Which generator this is.
    pub fn kind(&self) -> RngKind {
        match self {
            Self::Own(_) => RngKind::Own,
            Self::Torch(_) => RngKind::Torch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_being_stored_at_any_place() {
        for kind in [RngKind::Own, RngKind::Torch] {
            let mut rng = Rng::new(kind, 7 << 33 | 3);
            if let Rng::Torch(twister) = &mut rng {
                twister.skip(12_345);
            }
            let stored = serde_json::to_string(&rng).expect("plain data");
            assert!(stored.len() < 60, "{stored}");
            let again: Rng = serde_json::from_str(&stored).expect("what was stored");
            assert_eq!(again, rng);
            assert_eq!(again.kind(), kind);
        }
    }
}
