//! One step: tokens to logits of the positions asked for, guidance applied.

use std::collections::BTreeMap;

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{outputs::one, prologue::Primed};
use crate::{
    engine::{
        loading::Loading,
        session::{Input, Session, Taps, Tensor},
    },
    package::Package,
    sampler::{Predict, margin::Margin},
};

/// The step graph, loaded, without a prompt.
pub struct Predictor {
    session: Session,
    codebook_size: usize,
    mask: i64,
}

/// The step graph with a prompt and an image's size: what the sampler asks.
pub struct Prompted<'a> {
    predictor: &'a mut Predictor,
    primed: &'a Primed,
    guidance: Vec<f32>,
    /// Guidance by step; where there is none it stays as it is.
    scales: Vec<f32>,
    margin: Margin,
    logits: Option<Tensor>,
}

impl Predictor {
    /// Loads the stage of `package`.
    ///
    /// # Errors
    ///
    /// As for [`Package::load`].
    pub fn load(package: &Package, loading: Loading) -> Result<Self> {
        Ok(Self::of(package, package.load(Stage::Step, loading)?))
    }

    /// The same with the tapped values that `taps` wants.
    pub fn load_tapped(package: &Package, loading: Loading, taps: Taps) -> Result<Self> {
        Ok(Self::of(package, package.load_tapped(Stage::Step, loading, Some(taps))?))
    }

    fn of(package: &Package, session: Session) -> Self {
        let model = &package.manifest().model;
        Self {
            session,
            codebook_size: model.codebook_size as usize,
            mask: model.mask_token_id.into(),
        }
    }

    /// Takes a prompt, for images of `grid` rows and columns of tokens.
    ///
    /// `guidance` weighs the branches of `primed`, in their order.
    ///
    /// # Errors
    ///
    /// `BadRequest` if there are not as many weights as branches.
    pub fn with<'a>(
        &'a mut self,
        primed: &'a Primed,
        guidance: &[f32],
        grid: [usize; 2],
    ) -> Result<Prompted<'a>> {
        if guidance.len() != primed.branches {
            let detail = format!("expected {} weights, found {}", primed.branches, guidance.len());
            return Err(Error::new(ErrorKind::BadRequest, "guidance", detail));
        }
        Ok(Prompted {
            predictor: self,
            primed,
            guidance: guidance.to_vec(),
            scales: Vec::new(),
            margin: Margin::none(grid),
            logits: None,
        })
    }
}

impl Prompted<'_> {
    /// The same with another guidance at each step, if there are two branches: negative prompt and
    /// prompt.
    pub fn guided(self, scales: Vec<f32>) -> Self {
        Self { scales, ..self }
    }

    /// The same for tileable images: the graph sees the grid with its margin.
    pub(crate) fn within(self, margin: Margin) -> Self {
        Self { margin, ..self }
    }

    /// The logits of the last prediction.
    ///
    /// # Errors
    ///
    /// `Internal` if there was none.
    pub fn logits(&self) -> Result<&[f32]> {
        let none = || Error::new(ErrorKind::Internal, "step", "expected a prediction, found none");
        self.logits.as_ref().ok_or_else(none)?.as_f32()
    }

    /// Tapped values of the last prediction.
    pub fn taps(&self) -> &BTreeMap<String, Tensor> {
        self.predictor.session.taps()
    }
}

impl Predict for Prompted<'_> {
    type Error = Error;

    fn begin(&mut self, step: usize) {
        if let (Some(scale), [negative, positive]) =
            (self.scales.get(step), self.guidance.as_mut_slice())
        {
            (*negative, *positive) = (1.0 - scale, *scale);
        }
    }

    /// Logits of one image, `[positions, codebook size]` row-major. Images differ by their tokens
    /// alone.
    fn predict(
        &mut self,
        _image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        let Predictor { session, codebook_size, mask } = &mut *self.predictor;
        let tokens: Vec<i64> = tokens.iter().map(|token| token.map_or(*mask, i64::from)).collect();
        let tokens = self.margin.wrap(&tokens);
        let [rows, columns] = self.margin.outer();
        let grid = [1, rows, columns];
        let wanted = positions.iter().map(|position| self.margin.outer_position(*position) as i64);
        let wanted: Vec<i64> = wanted.collect();
        let (count, branches) = ([positions.len()], [self.guidance.len()]);
        let mut inputs = vec![
            ("tokens", Input::I64(&grid, &tokens)),
            ("positions", Input::I64(&count, &wanted)),
            ("guidance", Input::F32(&branches, &self.guidance)),
        ];
        inputs.extend(
            self.primed.values.iter().map(|(name, value)| (name.as_str(), Input::Tensor(value))),
        );
        self.logits = None; // the last ones are as large as the next
        let logits = one("step", session.run(&inputs)?)?;
        self.logits.insert(logits).shaped(&[positions.len(), *codebook_size])
    }
}
