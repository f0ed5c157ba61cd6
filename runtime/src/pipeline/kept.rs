//! What prompts became, which the next job can need again. Knows no graph and no order of things.

use crate::{
    engine::session::Tensor,
    stages::{Answered, Primed},
};

/// All that a [`KeptPrompt`] depends on, in one package.
#[derive(PartialEq)]
pub(crate) struct About {
    /// By guidance branch the ids of its prompt, and what its own tokens weigh.
    pub(crate) branches: Vec<(Vec<u32>, Vec<f32>)>,
    /// As [`Job::micro_conds`](crate::Job).
    pub(crate) micro_conds: [f32; 5],
    /// Rows and columns of tokens, those around the image included.
    pub(crate) grid: [usize; 2],
}

/// What the prompts of an image became.
pub(crate) struct KeptPrompt {
    pub(super) about: About,
    pub(super) primed: Primed,
    /// What the first step answered, if it was asked.
    pub(super) first: Option<Answered>,
}

impl KeptPrompt {
    /// The bytes that it holds.
    pub(super) fn bytes(&self) -> u64 {
        let primed: u64 = self.primed.values.iter().map(|(_, value)| bytes_of(value)).sum();
        primed + self.first.as_ref().map_or(0, |first| bytes_of(&first.logits))
    }
}

/// The bytes of a tensor of f32.
pub(super) fn bytes_of(tensor: &Tensor) -> u64 {
    4 * tensor.shape().iter().product::<usize>() as u64
}
