//! Runs every stage of a package on reference inputs and compares what comes out with the
//! reference.
//!
//! The reference file is safetensors. `text.ids` `[n, 77]` gives `text.hidden` and `text.pooled`;
//! these with `micro_conds` `[n, 5]` give `prologue.*`; with `step.ids` `[n, h, w]`, no guidance
//! and all positions they give `step.*`; `decode.ids` gives `decode.pixels`, and `encode.pixels`
//! gives `encode.latents` and `encode.ids`. Every stage is fed from the file, so an error shows at
//! the stage that makes it.

use std::{collections::BTreeMap, fmt, path::Path};

use pocketmuse::{
    Loading, Options,
    internals::{
        Decoder, Encoder, Network as _, Package, Predict as _, Predictor, Primed, Prologue, Tensor,
        Text, TextEncoder,
    },
};
use pocketmuse_package::{ATTENTION, Result, Stage};

use crate::golden::{Golden, bad};

/// How far a float may be from its reference, and how far more for each unit of the reference. Sums
/// over thousands of f32 products in another order differ by about a tenth of this.
pub const TOLERANCE: f32 = 1e-4;

/// One tensor, compared with its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The tensor's name in the reference file.
    pub name: String,
    /// What came out.
    pub outcome: Outcome,
}

/// What came of comparing a tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Floats, compared within [`TOLERANCE`].
    Close {
        /// The reference's shape.
        shape: Vec<usize>,
        /// The largest distance from the reference.
        max_abs_error: f32,
        /// The largest distance in units of what is allowed there: up to 1 holds.
        worst_ratio: f32,
    },
    /// Ids, which must be equal.
    Exact {
        /// The reference's shape.
        shape: Vec<usize>,
        /// How many are not.
        different: usize,
    },
    /// The reference file has no such tensor, or not what goes in.
    NotInFile,
    /// The package cannot show this value.
    NotInPackage,
}

impl Check {
    /// Whether the tensor agrees, as far as it could be compared.
    pub fn holds(&self) -> bool {
        match self.outcome {
            Outcome::Close { worst_ratio, .. } => worst_ratio <= 1.0,
            Outcome::Exact { different, .. } => different == 0,
            Outcome::NotInFile | Outcome::NotInPackage => true,
        }
    }

    /// Whether there was something to compare.
    pub fn is_compared(&self) -> bool {
        matches!(self.outcome, Outcome::Close { .. } | Outcome::Exact { .. })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        let verdict = if self.holds() { "holds" } else { "FAILS" };
        match &self.outcome {
            Outcome::Close { shape, max_abs_error, worst_ratio } => write!(
                f,
                "{name} {shape:?}: {verdict}, largest error {max_abs_error:.3e}, \
                {worst_ratio:.3} of what is allowed"
            ),
            Outcome::Exact { shape, different } => {
                write!(f, "{name} {shape:?}: {verdict}, {different} differ")
            }
            Outcome::NotInFile => write!(f, "{name}: not in this file"),
            Outcome::NotInPackage => write!(f, "{name}: not in this package"),
        }
    }
}

/// Compares every stage of the package with the reference file `golden`, one check for each tensor,
/// in the order of the data.
///
/// # Errors
///
/// What opening a package fails with; `Io` or `BadInput` for the reference file: not safetensors,
/// of other sizes than the model, or with nothing to compare.
pub fn verify(package: &Path, golden: &Path, options: &Options) -> Result<Vec<Check>> {
    let package = Package::open(package, options)?.with_taps(|name| !name.starts_with(ATTENTION));
    let checks = Verifier { package: &package, golden: &Golden::open(golden)?, checks: Vec::new() }
        .run()
        .map_err(|error| error.within(golden.display()))?;
    if !checks.iter().any(Check::is_compared) {
        let detail = "expected reference tensors such as text.ids with text.hidden, found none";
        return Err(bad(&golden.display().to_string(), detail));
    }
    Ok(checks)
}

/// What came out, by reference name, sample after sample, in the reference's order of axes.
type Found = BTreeMap<String, Vec<f32>>;

struct Verifier<'a> {
    package: &'a Package,
    golden: &'a Golden,
    checks: Vec<Check>,
}

impl Verifier<'_> {
    fn run(mut self) -> Result<Vec<Check>> {
        self.text()?;
        self.prologue_and_step()?;
        self.decoder()?;
        self.encoder()?;
        Ok(self.checks)
    }

    fn text(&mut self) -> Result<()> {
        let mut found = Found::new();
        let ids = self.golden.i64("text.ids", 2)?;
        if let Some((shape, ids)) = ids {
            self.expect(Stage::TextEncoder, "input_ids", "text.ids", shape)?;
            let ids = tokens("text.ids", ids, u32::MAX)?;
            let prompts: Vec<_> = ids.chunks(shape[1]).map(<[u32]>::to_vec).collect();
            let text = TextEncoder::load(self.package, Loading::of(Stage::TextEncoder))?
                .encode(&prompts)?;
            found.insert("text.hidden".to_owned(), text.hidden.as_f32()?.to_vec());
            found.insert("text.pooled".to_owned(), text.pooled.as_f32()?.to_vec());
        }
        self.close("text.hidden", 3, ids.is_some(), &found)?;
        self.close("text.pooled", 2, ids.is_some(), &found)
    }

    fn prologue_and_step(&mut self) -> Result<()> {
        let mut found = Found::new();
        let primed = self.prime(&mut found)?;
        self.close("prologue.cond", 2, primed.is_some(), &found)?;
        self.close("prologue.text", 3, primed.is_some(), &found)?;
        let ids = self.golden.i64("step.ids", 3)?;
        let given = ids.is_some() && primed.is_some();
        if let (Some((shape, ids)), Some(primed)) = (ids, primed) {
            self.step(shape, ids, &primed, &mut found)?;
        }
        for (name, rank) in [
            ("step.embed", 4),
            ("step.down_block", 4),
            ("step.layer0", 3),
            ("step.layer_last", 3),
            ("step.up_block", 4),
            ("step.logits", 4),
        ] {
            self.close(name, rank, given, &found)?;
        }
        Ok(())
    }

    /// Runs the prologue for each sample on its own.
    fn prime(&self, found: &mut Found) -> Result<Option<Vec<Primed>>> {
        let (hidden, pooled) =
            (self.golden.f32("text.hidden", 3)?, self.golden.f32("text.pooled", 2)?);
        let micro_conds = self.golden.f32("micro_conds", 2)?;
        let (
            Some((hidden_shape, hidden)),
            Some((pooled_shape, pooled)),
            Some((micro_shape, micro_conds)),
        ) = (hidden, pooled, micro_conds)
        else {
            return Ok(None);
        };
        self.expect(Stage::Prologue, "hidden", "text.hidden", hidden_shape)?;
        self.expect(Stage::Prologue, "pooled", "text.pooled", pooled_shape)?;
        self.expect(Stage::Prologue, "micro_conds", "micro_conds", micro_shape)?;
        let samples = hidden_shape[0];
        same_samples("text.pooled", pooled_shape, samples)?;
        same_samples("micro_conds", micro_shape, samples)?;
        let mut prologue = Prologue::load(self.package, Loading::of(Stage::Prologue))?;
        let mut primed = Vec::with_capacity(samples);
        for sample in 0..samples {
            let row = |name: &str, shape: &[usize], values: &[f32]| {
                let row = values.chunks(values.len() / samples).nth(sample).unwrap_or_default();
                Tensor::f32(name, &[&[1], &shape[1..]].concat(), row.to_vec())
            };
            let text = Text {
                hidden: row("hidden", hidden_shape, hidden)?,
                pooled: row("pooled", pooled_shape, pooled)?,
            };
            let micro_conds = micro_conds.as_chunks().0.get(sample).copied().unwrap_or_default();
            primed.push(prologue.prime(&text, micro_conds)?);
            collect(prologue.taps(), found)?;
        }
        Ok(Some(primed))
    }

    fn step(
        &self,
        shape: &[usize],
        ids: &[i64],
        primed: &[Primed],
        found: &mut Found,
    ) -> Result<()> {
        let model = &self.package.manifest().model;
        same_samples("step.ids", shape, primed.len())?;
        let grid = self.grid("step.ids", shape)?;
        let ids = tokens("step.ids", ids, model.vocab_size)?;
        let positions: Vec<usize> = (0..grid[0] * grid[1]).collect();
        let mut predictor = Predictor::load(self.package, Loading::of(Stage::Step))?;
        for (ids, primed) in ids.chunks(positions.len()).zip(primed) {
            let ids: Vec<_> =
                ids.iter().map(|&id| Some(id).filter(|&id| id != model.mask_token_id)).collect();
            let mut prompted = predictor.with(primed, &vec![1.0; primed.branches], grid)?;
            let logits = channels_first(
                prompted.predict(0, &ids, &positions)?,
                model.codebook_size as usize,
            );
            found.entry("step.logits".to_owned()).or_default().extend(logits);
            collect(prompted.taps(), found)?;
        }
        Ok(())
    }

    fn decoder(&mut self) -> Result<()> {
        let mut found = Found::new();
        let ids = self.golden.i64("decode.ids", 3)?;
        if let Some((shape, ids)) = ids {
            let [height, width] = self.grid("decode.ids", shape)?;
            tokens("decode.ids", ids, self.package.manifest().model.codebook_size)?;
            let mut decoder = Decoder::load(self.package, Loading::of(Stage::Decoder))?;
            for ids in ids.chunks(height * width) {
                let pixels = decoder.decode(ids, [height, width])?;
                found.entry("decode.pixels".to_owned()).or_default().extend(pixels.values()?);
            }
        }
        self.close("decode.pixels", 4, ids.is_some(), &found)
    }

    fn encoder(&mut self) -> Result<()> {
        let pixels = self.golden.f32("encode.pixels", 4)?;
        let has_encoder = self.package.entry(Stage::Encoder).is_ok();
        let (mut found, mut ids) = (Found::new(), Vec::new());
        if let Some((shape, pixels)) = pixels.filter(|_| has_encoder) {
            let size = self.image("encode.pixels", shape)?;
            let mut encoder = Encoder::load(self.package, Loading::of(Stage::Encoder))?;
            for pixels in pixels.chunks(pixels.len() / shape[0]) {
                ids.extend_from_slice(encoder.encode(pixels, size)?.as_i64()?);
                collect(encoder.taps(), &mut found)?;
            }
        }
        self.close("encode.latents", 4, pixels.is_some(), &found)?;
        let outcome = match self.golden.i64("encode.ids", 3)? {
            Some((shape, reference)) if pixels.is_some() && has_encoder => {
                same_length("encode.ids", shape, reference.len(), ids.len())?;
                let different =
                    ids.iter().zip(reference).filter(|(id, reference)| id != reference).count();
                Outcome::Exact { shape: shape.to_vec(), different }
            }
            Some(_) if pixels.is_some() => Outcome::NotInPackage,
            _ => Outcome::NotInFile,
        };
        self.checks.push(Check { name: "encode.ids".to_owned(), outcome });
        Ok(())
    }

    /// Compares what came out under `name`; `given` says whether the file has what goes in.
    fn close(&mut self, name: &str, rank: usize, given: bool, found: &Found) -> Result<()> {
        let outcome = match (self.golden.f32(name, rank)?.filter(|_| given), found.get(name)) {
            (None, _) => Outcome::NotInFile,
            (Some(_), None) => Outcome::NotInPackage,
            (Some((shape, reference)), Some(found)) => {
                same_length(name, shape, reference.len(), found.len())?;
                let (max_abs_error, worst_ratio) = distance(found, reference);
                Outcome::Close { shape: shape.to_vec(), max_abs_error, worst_ratio }
            }
        };
        self.checks.push(Check { name: name.to_owned(), outcome });
        Ok(())
    }

    /// Checks that the tensor `name` fits the input `input` of `stage`.
    fn expect(&self, stage: Stage, input: &str, name: &str, shape: &[usize]) -> Result<()> {
        let inputs = &self.package.entry(stage)?.inputs;
        match inputs.iter().find(|spec| spec.name == input) {
            Some(spec) if !spec.shape.admits(shape) => {
                Err(bad(name, format!("expected {} {}, found {shape:?}", spec.dtype, spec.shape)))
            }
            _ => Ok(()),
        }
    }

    /// The rows and columns of `[n, rows, columns]` tokens.
    fn grid(&self, name: &str, shape: &[usize]) -> Result<[usize; 2]> {
        let multiple = self.package.manifest().model.grid_multiple as usize;
        let grid = [shape[1], shape[2]];
        if grid.iter().any(|extent| extent % multiple != 0) {
            return Err(bad(
                name,
                format!("expected rows and columns in multiples of {multiple}, found {grid:?}"),
            ));
        }
        Ok(grid)
    }

    /// The height and width of `[n, 3, height, width]` pixels.
    fn image(&self, name: &str, shape: &[usize]) -> Result<[usize; 2]> {
        let multiple = self.package.manifest().model.pixels_per_token as usize;
        let fits = shape[1] == 3 && shape[2..].iter().all(|extent| extent % multiple == 0);
        if !fits {
            return Err(bad(
                name,
                format!(
                    "expected f32 [n, 3, H, W], sides multiples of {multiple}, found {shape:?}"
                ),
            ));
        }
        Ok([shape[2], shape[3]])
    }
}

/// Token ids, all below `end`.
fn tokens(name: &str, ids: &[i64], end: u32) -> Result<Vec<u32>> {
    ids.iter()
        .map(|&id| match u32::try_from(id) {
            Ok(id) if id < end => Ok(id),
            _ => Err(bad(name, format!("expected ids of 0 to {}, found {id}", end - 1))),
        })
        .collect()
}

fn same_samples(name: &str, shape: &[usize], samples: usize) -> Result<()> {
    if shape[0] == samples {
        return Ok(());
    }
    Err(bad(name, format!("expected {samples} samples as in text.hidden, found {shape:?}")))
}

fn same_length(name: &str, shape: &[usize], reference: usize, found: usize) -> Result<()> {
    if reference == found {
        return Ok(());
    }
    Err(bad(
        name,
        format!("expected {found} numbers, as the model makes, found {reference} {shape:?}"),
    ))
}

/// Adds one sample's taps. Step taps on a grid are channels-last, their references channels-first.
fn collect(taps: &BTreeMap<String, Tensor>, found: &mut Found) -> Result<()> {
    for (name, tensor) in taps {
        let (shape, values) = (tensor.shape(), tensor.as_f32()?);
        let samples = found.entry(name.clone()).or_default();
        match (name.as_str(), shape.last()) {
            ("step.embed" | "step.down_block" | "step.up_block", Some(&channels)) => {
                samples.extend(channels_first(values, channels));
            }
            _ => samples.extend_from_slice(values),
        }
    }
    Ok(())
}

/// `[positions, channels]` to `[channels, positions]`.
fn channels_first(values: &[f32], channels: usize) -> Vec<f32> {
    (0..channels)
        .flat_map(|channel| values.iter().copied().skip(channel).step_by(channels))
        .collect()
}

/// The largest error, and the largest in units of what is allowed. Not a number is infinitely far
/// from anything.
fn distance(found: &[f32], reference: &[f32]) -> (f32, f32) {
    found.iter().zip(reference).fold((0.0, 0.0), |(error, ratio): (f32, f32), (a, b)| {
        let off = if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
        (error.max(off), ratio.max(off / (TOLERANCE + TOLERANCE * b.abs()).min(f32::MAX)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_as_numpy_does() {
        // numpy.allclose(a, b, atol=1e-4, rtol=1e-4): |a - b| <= atol + rtol * |b|
        let cases = [
            (1.0, 1.0, true),
            (100.01, 100.0, true),
            (100.02, 100.0, false),
            (0.000_09, 0.0, true),
            (0.000_11, 0.0, false),
            (f32::NAN, 0.0, false),
            (0.0, f32::NAN, false),
            (f32::INFINITY, f32::INFINITY, false),
        ];
        for (found, reference, holds) in cases {
            let (_, worst_ratio) = distance(&[found], &[reference]);
            assert_eq!(worst_ratio <= 1.0, holds, "{found} for {reference}: {worst_ratio}");
        }
    }

    #[test]
    fn channels_come_first() {
        assert_eq!(channels_first(&[1., 2., 3., 4., 5., 6.], 2), [1., 3., 5., 2., 4., 6.]);
    }

    #[test]
    fn a_check_says_what_it_found() {
        let check = |outcome| Check { name: "x".to_owned(), outcome };
        let close = check(Outcome::Close { shape: vec![2], max_abs_error: 2e-4, worst_ratio: 1.5 });
        assert!(!close.holds());
        assert_eq!(
            close.to_string(),
            "x [2]: FAILS, largest error 2.000e-4, 1.500 of what is allowed"
        );
        let missing = check(Outcome::NotInFile);
        assert!(missing.holds() && !missing.is_compared());
        assert_eq!(missing.to_string(), "x: not in this file");
        assert!(check(Outcome::Exact { shape: vec![2], different: 0 }).holds());
    }
}
