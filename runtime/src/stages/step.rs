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
    last: Option<Answered>,
    /// Where the first step's answer is kept, and perhaps was before.
    first: Option<&'a mut Option<Answered>>,
}

/// What was asked, and what the answer was.
pub(crate) struct Answered {
    question: Question,
    pub(crate) logits: Tensor,
}

/// All that the logits of a prompt depend on.
#[derive(PartialEq)]
struct Question {
    tokens: Vec<i64>,
    positions: Vec<i64>,
    guidance: Vec<f32>,
}

/// What the step graph said.
pub(crate) struct Answer<'a> {
    /// Of one image, `[positions, codebook size]` row-major.
    pub(crate) logits: &'a [f32],
    /// Whether it ran for that. It does not for what it was asked last, such as the first step of
    /// another image: nothing is known then.
    pub(crate) is_new: bool,
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
        let answer = self.asked.predict(self.predictor, tokens, positions);
        answer.map(|answer| answer.logits)
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
        Ok(Self { primed, guidance, scales, margin, last: None, first: None })
    }

    /// The same with another guidance at each step, if there are two branches, and for tileable
    /// images: the graph sees the grid with its margin.
    pub(crate) fn within(self, scales: Vec<f32>, margin: Margin) -> Self {
        Self { scales, margin, ..self }
    }

    /// The same with the answer to the question of nothing but masked tokens kept in `first`, which
    /// may have one already, to the same prompt and grid.
    pub(crate) fn keeping(self, first: &'a mut Option<Answered>) -> Self {
        Self { first: Some(first), ..self }
    }

    /// Takes the guidance of a step.
    pub(crate) fn begin(&mut self, step: usize) {
        if let (Some(scale), [negative, positive]) =
            (self.scales.get(step), self.guidance.as_mut_slice())
        {
            (*negative, *positive) = (1.0 - scale, *scale);
        }
    }

    /// Asks `predictor` for the logits of one image. A negative prompt that has no weight is not
    /// asked, unless the graph is compiled for two.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails; `Cancelled` if it was stopped.
    pub(crate) fn predict(
        &mut self,
        predictor: &mut Predictor,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<Answer<'_>> {
        let mask = predictor.mask;
        let tokens: Vec<i64> = tokens.iter().map(|token| token.map_or(mask, i64::from)).collect();
        let wanted = positions.iter().map(|position| self.margin.outer_position(*position) as i64);
        let question = Question {
            tokens: self.margin.wrap(&tokens),
            positions: wanted.collect(),
            guidance: self.guidance.clone(),
        };
        let is_first = question.tokens.iter().all(|token| *token == mask);
        // Others are dropped before: they are as large as the next.
        let known = self.place(is_first).take().filter(|known| known.question == question);
        let is_new = known.is_none();
        let answered = match known {
            Some(known) => known,
            None => Answered { logits: self.asked(predictor, &question)?, question },
        };
        let Answered { logits, .. } = self.place(is_first).insert(answered);
        let logits = logits.shaped(&[positions.len(), predictor.codebook_size])?;
        Ok(Answer { logits, is_new })
    }

    /// Where the last answer is kept: that of the first step by itself, if that is to be.
    fn place(&mut self, is_first: bool) -> &mut Option<Answered> {
        match &mut self.first {
            Some(first) if is_first => first,
            _ => &mut self.last,
        }
    }

    /// Runs the graph.
    fn asked(&self, predictor: &mut Predictor, question: &Question) -> Result<Tensor> {
        let Predictor { session, codebook_size, takes_positions, is_fixed, .. } = predictor;
        let Question { tokens, positions, guidance } = question;
        let [rows, columns] = self.margin.outer();
        let grid = [1, rows, columns];
        let all: Vec<i64> = if *is_fixed { (0..tokens.len() as i64).collect() } else { Vec::new() };
        let asked = if *is_fixed { &all } else { positions };
        let is_alone = !*is_fixed && matches!(guidance[..], [0.0, _]);
        let guidance = if is_alone { &guidance[1..] } else { &guidance[..] };
        let primed = if is_alone { Input::LastRow } else { Input::Tensor };
        let (count, branches) = ([asked.len()], [guidance.len()]);
        let mut inputs = vec![
            ("tokens", Input::I64(&grid, tokens)),
            ("guidance", Input::F32(&branches, guidance)),
        ];
        if *takes_positions {
            inputs.push((POSITIONS, Input::I64(&count, asked)));
        }
        inputs
            .extend(self.primed.values.iter().map(|(name, value)| (name.as_str(), primed(value))));
        let logits = one("step", session.run(&inputs)?)?.to_f32()?;
        if *is_fixed || !*takes_positions {
            return picked(&logits, positions, [rows * columns, *codebook_size]);
        }
        Ok(logits)
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

#[cfg(all(test, feature = "measure"))]
mod tests {
    use super::*;
    use crate::engine::{loading::Loading, runtime::Runtime, session::Settings};

    // g = make_graph([make_node("RandomUniform", [], ["logits"], shape=[4, 2])], "g",
    // [make_tensor_value_info("tokens", 7, [1, "r", "c"]),
    // make_tensor_value_info("guidance", 1, ["b"])],
    // [make_tensor_value_info("logits", 1, [4, 2])]); print(make_model(g,
    // opset_imports=[make_opsetid("", 17)], ir_version=9).SerializeToString().hex())
    const RANDOM: &str = "\
        08093a7f0a2712066c6f67697473220d52616e646f6d556e69666f726d2a0e0a\
        05736861706540044002a001071201675a1e0a06746f6b656e7312140a120807\
        120e0a0208010a031201720a031201635a170a0867756964616e6365120b0a09\
        080112050a0312016262180a066c6f67697473120e0a0c080112080a0208040a\
        02080242040a001011";

    #[test]
    fn the_same_question_is_asked_once() {
        let byte = |at| u8::from_str_radix(&RANDOM[at..at + 2], 16).expect("hexadecimal");
        let model: Vec<_> = (0..RANDOM.len()).step_by(2).map(byte).collect();
        let settings = Settings::new(1, Loading::of(Stage::Step));
        let session = Session::of_model(Runtime::for_tests(), "random", &model, settings);
        let mut predictor = Predictor {
            session: session.expect("a graph"),
            codebook_size: 2,
            mask: 9,
            takes_positions: false,
            is_fixed: false,
        };
        let primed = Primed { values: Vec::new(), branches: 2 };
        let mut asked = Asked::new(&primed, &[-1.0, 2.0], [2, 2]).expect("two weights");
        asked = asked.within(vec![2.0, 2.0, 3.0], Margin::none([2, 2]));
        let mut ask = |step: usize, tokens: [Option<u32>; 4], positions: &[usize]| {
            asked.begin(step);
            let answer = asked.predict(&mut predictor, &tokens, positions).expect("logits");
            (answer.is_new, answer.logits.to_vec())
        };
        let (masked, all) = ([None; 4], [0, 1, 2, 3]);
        let (_, first) = ask(0, masked, &all);
        assert_eq!(ask(0, masked, &all), (false, first.clone()), "of another image");
        assert_eq!(ask(1, masked, &all), (false, first.clone()), "of a step as guided");
        let known = [None, None, Some(3), None];
        let mut last = first;
        for (step, tokens, positions) in
            [(2, masked, &all[..]), (2, known, &all), (2, known, &all[..2]), (0, masked, &all)]
        {
            let (is_new, found) = ask(step, tokens, positions);
            assert!(is_new && found != last, "{step} {tokens:?} {positions:?}");
            last = found;
        }
    }
}
