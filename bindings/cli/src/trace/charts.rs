//! The charts of one traced image: its words, its steps, and each word step by step.

use image::{RgbImage, imageops};
use pocketmuse::{Trace, trace::TracedStep};

use super::{
    data::Chart,
    heat::{self, Panel},
};
use crate::outputs;

/// Panels in a row of words.
const WORDS: usize = 6;
/// The most steps of a chart: more are left out evenly.
const STEPS: usize = 16;
/// The longer side of the image among its maps.
const IMAGE: u32 = 128;

/// All charts of an image; their names begin with `prefix`.
pub(super) fn of(trace: &Trace, image: usize, pixels: &RgbImage, prefix: &str) -> Vec<Chart> {
    let mut charts = vec![Chart::new(format!("{prefix}steps"), &steps(trace, image))];
    if trace.has_attention {
        charts.push(Chart::new(format!("{prefix}words"), &words(trace, image, pixels)));
        for (index, word) in
            trace.words.iter().enumerate().filter(|(_, word)| !word.tokens.is_empty())
        {
            let name = format!("{prefix}word-{:02}-{}", index + 1, outputs::slug(&word.text));
            charts.push(Chart::new(name, &word_by_step(trace, image, index)));
        }
    }
    charts
}

/// The image, and what it looked at for each word, all on one scale: a word that was ignored is
/// dark.
fn words(trace: &Trace, image: usize, pixels: &RgbImage) -> RgbImage {
    let maps: Vec<_> = (0..trace.words.len()).map(|word| trace.map(image, word)).collect();
    let most = maps.iter().flatten().flatten().copied().fold(0.0, f32::max);
    let mut panels = vec![Panel {
        title: "image".to_owned(),
        note: format!("scale 0-{most:.3}"),
        image: small(pixels),
    }];
    for (index, (word, map)) in trace.words.iter().zip(&maps).enumerate() {
        let note = match (trace.share(image, index), word.tokens.is_empty()) {
            (Some(share), false) => format!("{share:.2} of average"),
            (_, true) => "cut off".to_owned(),
            _ => "no step".to_owned(),
        };
        let values: Vec<_> = map
            .iter()
            .flatten()
            .map(|value| Some(*value).filter(|_| !word.tokens.is_empty()))
            .collect();
        panels.push(Panel {
            title: word.text.clone(),
            note,
            image: heat::map(&values, trace.attention_grid, [0.0, most]),
        });
    }
    heat::sheet(&panels, WORDS)
}

/// Each step: which tokens were fixed when, with what probability, and how undecided the model was.
fn steps(trace: &Trace, image: usize) -> RgbImage {
    let all = &trace.images[image];
    let fixed = trace.fixed(image);
    let bits = all.iter().flat_map(|step| &step.entropy).flatten().copied().fold(0.0, f32::max);
    let mut panels = Vec::new();
    for step in shown(all) {
        let so_far: Vec<_> = fixed
            .iter()
            .map(|fixed| fixed.filter(|fixed| *fixed <= step.step).map(|fixed| fixed as f32))
            .collect();
        let now = fixed.iter().filter(|fixed| **fixed == Some(step.step)).count();
        let last = all.last().map_or(0, |last| last.step) as f32;
        let sure = mean(&step.confidence);
        let undecided = mean(&step.entropy);
        let maps = [
            (
                format!("step {}", step.step + 1),
                format!("fixed: {now}"),
                so_far,
                [0.0, last.max(1.0)],
            ),
            (
                "probability".to_owned(),
                format!("0-1 mean {sure:.2}"),
                step.confidence.clone(),
                [0.0, 1.0],
            ),
            (
                "entropy, bits".to_owned(),
                format!("0-{bits:.0} mean {undecided:.1}"),
                step.entropy.clone(),
                [0.0, bits],
            ),
        ];
        panels.extend(maps.map(|(title, note, values, range)| Panel {
            title,
            note,
            image: heat::map(&values, trace.grid, range),
        }));
    }
    heat::sheet(&panels, WORDS)
}

/// A word's map at each step, on a scale of its own.
fn word_by_step(trace: &Trace, image: usize, word: usize) -> RgbImage {
    let maps: Vec<_> = shown(&trace.images[image])
        .filter_map(|step| step.words.get(word).map(|map| (step.step, map)))
        .collect();
    let most = maps.iter().flat_map(|(_, map)| *map).copied().fold(0.0, f32::max);
    let panels: Vec<_> = maps
        .into_iter()
        .map(|(step, map)| Panel {
            title: format!("{} {}", step + 1, trace.words[word].text),
            note: format!("0-{most:.3}"),
            image: heat::map(
                &map.iter().map(|value| Some(*value)).collect::<Vec<_>>(),
                trace.attention_grid,
                [0.0, most],
            ),
        })
        .collect();
    heat::sheet(&panels, WORDS)
}

/// At most [`STEPS`] of the steps, the first and the last among them.
fn shown(steps: &[TracedStep]) -> impl Iterator<Item = &TracedStep> {
    let (count, most) = (steps.len(), steps.len().min(STEPS));
    let index = move |shown: usize| if most > 1 { shown * (count - 1) / (most - 1) } else { 0 };
    (0..most).map(move |shown| &steps[index(shown)])
}

/// The mean of what is there, 0 if nothing is.
pub(super) fn mean(values: &[Option<f32>]) -> f32 {
    let count = values.iter().flatten().count().max(1);
    values.iter().flatten().sum::<f32>() / count as f32
}

/// An image as large as the maps.
fn small(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height).max(1);
    let side = |side: u32| (side * IMAGE / longest).max(1);
    imageops::thumbnail(image, side(width), side(height))
}

#[cfg(test)]
mod tests {
    use pocketmuse::trace::Rest;

    use super::*;

    #[test]
    fn many_steps_are_thinned_out_evenly() {
        let step = |step| TracedStep {
            step,
            tokens: vec![],
            confidence: vec![],
            entropy: vec![],
            words: vec![],
            rest: Rest::default(),
        };
        for (count, expected) in
            [(0, vec![]), (1, vec![0]), (3, vec![0, 1, 2]), (31, (0..31).step_by(2).collect())]
        {
            let steps: Vec<_> = (0..count).map(step).collect();
            assert_eq!(shown(&steps).map(|step| step.step).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_mean_is_of_what_is_there() {
        assert_eq!(mean(&[Some(1.0), None, Some(2.0)]), 1.5);
        assert_eq!(mean(&[None]), 0.0);
    }
}
