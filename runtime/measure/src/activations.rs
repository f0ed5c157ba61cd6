//! The ranges of all values inside the stages that make images, for the flavour qdq. Knows not what
//! they are for.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use pocketmuse::{
    Flavour, Intermediates, Loading, Options, Weights,
    internals::{
        Decoder, Network as _, Package, Philox, Predict as _, Predictor, Primed, Prologue, Purpose,
        Tensor, Text, TextEncoder, Tokenizer, give_back,
    },
};
use pocketmuse_package::{Error, ErrorKind, RANGE, Ranges, Result, Stage};

/// How much of an image is masked, in the order of its making.
const MASKED: [f64; 8] = [1.0, 0.98, 0.9, 0.75, 0.55, 0.35, 0.15, 0.01];

/// Guidance in turn: none, the usual, and the most that the flavour tells apart.
const GUIDANCE: [f32; 4] = [10.0, 1.0, 20.0, 4.0];

/// How many parts of an image are measured, the image itself among them.
const PARTS: usize = 3;

/// Where no guidance is measured the prompt is told of an image so many times as large as those that
/// are made.
const LARGER: u32 = 4;

/// The aesthetic score that is asked for.
const SCORE: f32 = 6.0;

/// Memory for intermediate values goes back as soon as it is free.
const PACKED: Loading = Loading { intermediates: Intermediates::Freed, weights: Weights::Packed };

/// What decoders are measured with, which packed are no faster.
pub(crate) const MAPPED: Loading = Loading { weights: Weights::Mapped, ..PACKED };

/// What a draft is measured with.
pub(crate) struct Samples<'a> {
    /// What images show, with images that show it; then images that show nothing.
    pub(crate) prompts: &'a [String],
    /// Their tokens.
    pub(crate) images: &'a [Vec<u32>],
    /// Rows and columns of tokens.
    pub(crate) grid: [usize; 2],
    /// Sides of grids are multiples of this.
    pub(crate) multiple: usize,
}

/// Measures the range of every tap of the draft's flavour qdq that is named as [`RANGE`] says, by
/// stage. `go_on` is asked before each sample.
///
/// # Errors
///
/// As for a package that cannot be opened or run; `Cancelled` if `go_on` broke.
pub(crate) fn activations(
    draft: &Path,
    options: &Options,
    samples: &Samples<'_>,
    mut go_on: impl FnMut() -> ControlFlow<()>,
) -> Result<BTreeMap<Stage, Ranges>> {
    let options = Options { flavour: Some(Flavour::Qdq), ..options.clone() };
    let package = Package::open(draft, &options)?.with_taps(|name| name.starts_with(RANGE));
    let mut go_on = || match go_on() {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            Err(Error::new(ErrorKind::Cancelled, "", "the measuring was cancelled"))
        }
    };
    let mut found = BTreeMap::new();
    // A prompt goes all the way at once: what the prologue leaves of one takes 50 MB of a full-size
    // model.
    let tokenizer = Tokenizer::load(package.tokenizer_folder()?, package.manifest())?;
    let mut encoder = TextEncoder::load(&package, PACKED)?;
    let mut prologue = Prologue::load(&package, PACKED)?;
    let mut predictor = Predictor::load(&package, PACKED)?;
    let mut text = |prompt: &str, found: &mut BTreeMap<_, _>| -> Result<Text> {
        let text = encoder.encode(&[tokenizer.encode(prompt)?.ids])?;
        widen(found.entry(Stage::TextEncoder).or_default(), encoder.taps())?;
        Ok(text)
    };
    let nothing = text("", &mut found)?;
    for (image, (prompt, tokens)) in samples.prompts.iter().zip(samples.images).enumerate() {
        go_on()?;
        let alone = text(prompt, &mut found)?;
        let mut prime = |text: &Text, times| -> Result<Primed> {
            let primed = prologue.prime(text, micro_conds(samples, &package, times))?;
            widen(found.entry(Stage::Prologue).or_default(), prologue.taps())?;
            Ok(primed)
        };
        let both = prime(&Text::join([&nothing, &alone].into_iter())?, 1)?;
        let alone = prime(&alone, LARGER)?;
        let ranges = found.entry(Stage::Step).or_default();
        for (state, share) in MASKED.into_iter().enumerate() {
            let (tokens, grid) = samples.part(tokens, state + image);
            let guidance = GUIDANCE[(image + state) % GUIDANCE.len()];
            let (primed, weights) = if guidance > 1.0 {
                (&both, vec![1.0 - guidance, guidance])
            } else {
                (&alone, vec![1.0])
            };
            let shown = shown(&tokens, share, image);
            let mut prompted = predictor.with(primed, &weights, grid)?;
            prompted.predict(0, &shown, &[0])?;
            widen(ranges, prompted.taps())?;
        }
    }
    drop((encoder, prologue, predictor));
    give_back();
    let mut decoder = Decoder::load(&package, MAPPED)?;
    let ranges = found.entry(Stage::Decoder).or_default();
    for tokens in samples.images {
        for part in 0..PARTS {
            go_on()?;
            let (tokens, grid) = samples.part(tokens, part);
            let ids: Vec<_> = tokens.into_iter().map(i64::from).collect();
            decoder.decode(&ids, grid)?;
            widen(ranges, decoder.taps())?;
        }
    }
    Ok(found)
}

impl Samples<'_> {
    /// In turn an image, its first quarter and the first quarter of that: norms over a whole image
    /// differ by its size.
    fn part(&self, tokens: &[u32], at: usize) -> (Vec<u32>, [usize; 2]) {
        let part = |side: usize| (side >> (at % PARTS)) / self.multiple * self.multiple;
        let [height, width] = self.grid.map(|side| part(side).max(self.multiple));
        let rows = tokens.chunks(self.grid[1]).take(height);
        (rows.flat_map(|row| &row[..width]).copied().collect(), [height, width])
    }
}

/// Width, height, corner and score of an image `times` as large as the samples.
fn micro_conds(samples: &Samples<'_>, package: &Package, times: u32) -> [f32; 5] {
    let unit = (package.manifest().model.pixels_per_token * times) as f32;
    let [height, width] = samples.grid.map(|side| side as f32 * unit);
    [width, height, 0.0, 0.0, SCORE]
}

/// The tokens of an image of which a share is masked.
fn shown(tokens: &[u32], share: f64, image: usize) -> Vec<Option<u32>> {
    let philox = Philox::new(image as u64);
    let is_masked = |place| philox.uniform(Purpose::Token, image, 0, place) < share;
    let shown = |(place, token): (usize, &u32)| (!is_masked(place)).then_some(*token);
    tokens.iter().enumerate().map(shown).collect()
}

/// Each range tap is smallest values, then as many largest ones.
pub(crate) fn widen(ranges: &mut Ranges, taps: &BTreeMap<String, Tensor>) -> Result<()> {
    let taps = taps.iter().filter_map(|(name, tap)| Some((name.strip_prefix(RANGE)?, tap)));
    for (name, tap) in taps {
        let values = tap.as_f32()?;
        let (least, most) = values.split_at(values.len() / 2);
        ranges.widen(name, least, most)?;
    }
    Ok(())
}
