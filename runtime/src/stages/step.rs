//! One step: tokens to logits of the positions asked for, guidance applied.

use std::collections::BTreeMap;

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{Network, outputs::one, prologue::Primed};
#[cfg(feature = "measure")]
use crate::sampler::Predict;
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
    sampler::margin::Margin,
};

/// The input that says which positions get logits.
const POSITIONS: &str = "positions";

/// The step graph, loaded, without a prompt.
pub struct Predictor {
    session: Session,
    codebook_size: usize,
    mask: i64,
    /// Whether the graph makes the logits of some positions; else those of all.
    takes_positions: bool,
    /// Whether it is compiled for all positions.
    is_fixed: bool,
}

/// The step graph with what it is asked: what the sampler asks.
#[cfg(feature = "measure")]
pub struct Prompted<'a> {
    predictor: &'a mut Predictor,
    asked: Asked<'a>,
}

/// What the step graph is given besides tokens, and what it said last: a prompt and an image's
/// size. Outlives the graph, which may be loaded again in between.
pub(crate) struct Asked<'a> {
    primed: &'a Primed,
    guidance: Vec<f32>,
    /// Guidance by step; where there is none it stays as it is.
    scales: Vec<f32>,
    margin: Margin,
    logits: Option<Tensor>,
}

impl Network for Predictor {
    const STAGE: Stage = Stage::Step;

    fn of(package: &Package, session: Session) -> Result<Self> {
        let model = &package.manifest().model;
        Ok(Self {
            is_fixed: session.is_fixed(),
            session,
            codebook_size: model.codebook_size as usize,
            mask: model.mask_token_id.into(),
            takes_positions: package.takes(Self::STAGE, POSITIONS)?,
        })
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Predictor {
    /// Tapped values of the last prediction.
    pub(crate) fn taps(&self) -> &BTreeMap<String, Tensor> {
        self.session.taps()
    }

    /// Takes a prompt, for images of `grid` rows and columns of tokens.
    ///
    /// `guidance` weighs the branches of `primed`, in their order.
    ///
    /// # Errors
    ///
    /// `BadRequest` if there are not as many weights as branches.
    #[cfg(feature = "measure")]
    pub fn with<'a>(
        &'a mut self,
        primed: &'a Primed,
        guidance: &[f32],
        grid: [usize; 2],
    ) -> Result<Prompted<'a>> {
        Ok(Prompted { predictor: self, asked: Asked::new(primed, guidance, grid)? })
    }
}

#[cfg(feature = "measure")]
impl Prompted<'_> {
    /// The same with another guidance at each step, if there are two branches: negative prompt and
    /// prompt.
    pub fn guided(self, scales: Vec<f32>) -> Self {
        Self { asked: Asked { scales, ..self.asked }, ..self }
    }

    /// Tapped values of the last prediction.
    pub fn taps(&self) -> &BTreeMap<String, Tensor> {
        self.predictor.taps()
    }
}

#[cfg(feature = "measure")]
impl Predict for Prompted<'_> {
    type Error = Error;

    fn begin(&mut self, step: usize) {
        self.asked.begin(step);
    }

    /// Logits of one image, `[positions, codebook size]` row-major. Images differ by their tokens
    /// alone.
    fn predict(
        &mut self,
        _image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        self.asked.predict(self.predictor, tokens, positions)
    }
}

impl<'a> Asked<'a> {
    /// A prompt, for images of `grid` rows and columns of tokens; `guidance` weighs the branches of
    /// `primed`, in their order.
    ///
    /// # Errors
    ///
    /// `BadRequest` if there are not as many weights as branches.
    pub(crate) fn new(primed: &'a Primed, guidance: &[f32], grid: [usize; 2]) -> Result<Self> {
        if guidance.len() != primed.branches {
            let detail = format!("expected {} weights, found {}", primed.branches, guidance.len());
            return Err(Error::new(ErrorKind::BadRequest, "guidance", detail));
        }
        let (guidance, scales, margin) = (guidance.to_vec(), Vec::new(), Margin::none(grid));
        Ok(Self { primed, guidance, scales, margin, logits: None })
    }

    /// The same with another guidance at each step, if there are two branches, and for tileable
    /// images: the graph sees the grid with its margin.
    pub(crate) fn within(self, scales: Vec<f32>, margin: Margin) -> Self {
        Self { scales, margin, ..self }
    }

    /// Takes the guidance of a step.
    pub(crate) fn begin(&mut self, step: usize) {
        if let (Some(scale), [negative, positive]) =
            (self.scales.get(step), self.guidance.as_mut_slice())
        {
            (*negative, *positive) = (1.0 - scale, *scale);
        }
    }

    /// Asks `predictor`. Returns the logits of one image, `[positions, codebook size]` row-major. A
    /// negative prompt that has no weight is not asked, unless the graph is compiled for two.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails; `Cancelled` if it was stopped.
    pub(crate) fn predict(
        &mut self,
        predictor: &mut Predictor,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        let Predictor { session, codebook_size, mask, takes_positions, is_fixed } = predictor;
        let tokens: Vec<i64> = tokens.iter().map(|token| token.map_or(*mask, i64::from)).collect();
        let tokens = self.margin.wrap(&tokens);
        let [rows, columns] = self.margin.outer();
        let grid = [1, rows, columns];
        let wanted = positions.iter().map(|position| self.margin.outer_position(*position) as i64);
        let wanted: Vec<i64> = wanted.collect();
        let all: Vec<i64> = if *is_fixed { (0..tokens.len() as i64).collect() } else { Vec::new() };
        let asked = if *is_fixed { &all } else { &wanted };
        let is_alone = !*is_fixed && matches!(self.guidance[..], [0.0, _]);
        let guidance = if is_alone { &self.guidance[1..] } else { &self.guidance[..] };
        let primed = if is_alone { Input::LastRow } else { Input::Tensor };
        let (count, branches) = ([asked.len()], [guidance.len()]);
        let mut inputs = vec![
            ("tokens", Input::I64(&grid, &tokens)),
            ("guidance", Input::F32(&branches, guidance)),
        ];
        if *takes_positions {
            inputs.push((POSITIONS, Input::I64(&count, asked)));
        }
        inputs
            .extend(self.primed.values.iter().map(|(name, value)| (name.as_str(), primed(value))));
        self.logits = None; // the last ones are as large as the next
        let mut logits = one("step", session.run(&inputs)?)?.to_f32()?;
        if *is_fixed || !*takes_positions {
            logits = picked(&logits, &wanted, [rows * columns, *codebook_size])?;
        }
        self.logits.insert(logits).shaped(&[positions.len(), *codebook_size])
    }
}

/// The rows at `positions` of logits `[rows, columns]`.
fn picked(logits: &Tensor, positions: &[i64], [rows, columns]: [usize; 2]) -> Result<Tensor> {
    let values = logits.shaped(&[rows, columns])?;
    let rows = positions.iter().flat_map(|&position| {
        let row = usize::try_from(position).unwrap_or(usize::MAX);
        values.chunks_exact(columns).nth(row).unwrap_or_default()
    });
    Tensor::f32("logits", &[positions.len(), columns], rows.copied().collect())
}
