//! What a trace says of a word, in words. Knows numbers, not charts.

use pocketmuse::Trace;

/// A word with less than this share of an average word's attention is called ignored, one with more
/// than the second dominant.
const BOUNDS: [f32; 2] = [0.5, 1.5];
/// Maps that correlate so much have their peaks in the same places.
const ALIKE: f32 = 0.8;
/// Attention that is nowhere so many times its mean is spread evenly.
const PEAK: f32 = 1.5;

/// Words that name nothing and get little attention in every prompt.
const SMALL_WORDS: [&str; 14] =
    ["a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "the", "to", "with"];

/// Whether a word may be missing in the image for a reason that a trace shows: it did not reach
/// the model, the model may not know it, or other words outweighed it.
pub(super) fn is_doubtful(trace: &Trace, image: usize, word: usize) -> bool {
    trace.words.get(word).is_some_and(|found| {
        let is_little = trace.share(image, word).is_some_and(|share| share < BOUNDS[0]);
        found.tokens.is_empty() || found.pieces.len() > 1 || is_little && !is_small(&found.text)
    })
}

fn is_small(word: &str) -> bool {
    SMALL_WORDS.contains(&word.to_lowercase().as_str())
}

/// One or more sentences about a word in an image.
pub(super) fn of(trace: &Trace, image: usize, word: usize) -> String {
    let Some(found) = trace.words.get(word) else { return String::new() };
    if found.tokens.is_empty() {
        return "Cut off: the prompt is too long for the model, and this word had no effect."
            .to_owned();
    }
    let pieces = match found.pieces.len() {
        0 | 1 => String::new(),
        _ => {
            format!(
                "The vocabulary lacks it: it is read as {}, and the model may not know it. ",
                found.pieces.join(" + ")
            )
        }
    };
    let Some(share) = trace.share(image, word) else {
        return format!("{pieces}No map of attention.");
    };
    format!("{pieces}{}.", attention(trace, image, word, share))
}

/// How much a word was looked for, and where.
fn attention(trace: &Trace, image: usize, word: usize, share: f32) -> String {
    let map = trace.map(image, word).unwrap_or_default();
    let place =
        format!("{}{}", place(&map, trace.attention_grid), companion(trace, image, word, &map));
    let [little, much] = BOUNDS;
    let when = if trace.unseen_steps > 0 { " in these steps" } else { "" };
    if share < little && is_small(&trace.words[word].text) {
        format!(
            "A small word: it got {share:.2} of an average word's attention{when}, as such words do"
        )
    } else if share < little {
        format!(
            "Mostly ignored{when}: it got {share:.2} of an average word's attention{}",
            rival(trace, image, word)
        )
    } else if share > much {
        format!("Dominant{when}: it got {share:.2} times an average word's attention, {place}")
    } else {
        format!("Heeded{when}: it got {share:.2} of an average word's attention, {place}")
    }
}

/// The word that got the most, if it is another.
fn rival(trace: &Trace, image: usize, word: usize) -> String {
    let shares =
        (0..trace.words.len()).filter_map(|other| Some((other, trace.share(image, other)?)));
    match shares.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((most, share)) if most != word => {
            format!("; “{}” got {share:.2}", trace.words[most].text)
        }
        _ => String::new(),
    }
}

/// The word that is looked for in the same places, if there is one: what it names is drawn there,
/// or competes.
fn companion(trace: &Trace, image: usize, word: usize, map: &[f32]) -> String {
    let heeded = |other: usize| trace.share(image, other).filter(|share| *share >= BOUNDS[0]);
    let others = (0..trace.words.len()).filter(|other| *other != word && heeded(*other).is_some());
    let alike = others.filter_map(|other| Some((other, likeness(map, &trace.map(image, other)?))));
    match alike.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((other, likeness)) if likeness >= ALIKE => {
            format!(", where “{}” is looked for too", trace.words[other].text)
        }
        _ => String::new(),
    }
}

/// The correlation of two maps, -1 to 1; 0 where one is even.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let mean = |map: &[f32]| map.iter().sum::<f32>() / map.len().max(1) as f32;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let [mut both, mut squares_a, mut squares_b] = [0.0f32; 3];
    for (a, b) in a.iter().zip(b).map(|(a, b)| (a - mean_a, b - mean_b)) {
        both += a * b;
        squares_a += a * a;
        squares_b += b * b;
    }
    let scale = (squares_a * squares_b).sqrt();
    if scale > f32::MIN_POSITIVE { both / scale } else { 0.0 }
}

/// Where a map has its peak.
fn place(map: &[f32], [rows, columns]: [usize; 2]) -> String {
    let mean = map.iter().sum::<f32>() / map.len().max(1) as f32;
    match map.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)) {
        Some((at, most)) if *most >= PEAK * mean && mean > 0.0 => {
            let third = |at: usize, of: usize| (3 * at / of.max(1)).min(2);
            let down = ["top", "middle", "bottom"][third(at / columns.max(1), rows)];
            let across = ["left", "centre", "right"][third(at % columns.max(1), columns)];
            format!("most at the {down} {across}")
        }
        _ => "spread evenly".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse::trace::{Rest, TracedStep, Word};

    use super::*;

    fn trace(maps: &[[f32; 4]]) -> Trace {
        let word = |index: usize| Word {
            text: format!("word{index}"),
            bytes: 0..1,
            tokens: index + 1..index + 2,
            pieces: vec!["word".to_owned(); index % 2 + 1],
        };
        let step = TracedStep {
            step: 0,
            tokens: vec![None; 4],
            confidence: vec![None; 4],
            entropy: vec![None; 4],
            words: maps.iter().map(|map| map.to_vec()).collect(),
            rest: Rest::default(),
        };
        Trace {
            words: (0..maps.len()).map(word).collect(),
            grid: [2, 2],
            attention_grid: [2, 2],
            has_attention: true,
            unseen_steps: 0,
            images: vec![vec![step]],
        }
    }

    #[test]
    fn words_in_one_place_know_of_each_other() {
        let trace = trace(&[[0.1, 0.1, 0.1, 0.4], [0.0, 0.0, 0.0, 0.2], [0.3, 0.0, 0.0, 0.0]]);
        assert!(
            of(&trace, 0, 0).contains("where “word1” is looked for too"),
            "{}",
            of(&trace, 0, 0)
        );
        assert!(!of(&trace, 0, 2).contains("looked for too"), "{}", of(&trace, 0, 2));
        assert_eq!(likeness(&[0.5; 4], &[0.1, 0.2, 0.3, 0.4]), 0.0);
        assert!((likeness(&[1.0, 2.0], &[5.0, 9.0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn says_how_much_and_where() {
        let mut trace = trace(&[[0.01; 4], [0.05, 0.05, 0.05, 0.3], [0.05; 4]]);
        let of = |trace: &Trace| [0, 1, 2].map(|word| super::of(trace, 0, word));
        let [first, second, third] = of(&trace);
        assert_eq!(
            first,
            "Mostly ignored: it got 0.17 of an average word's attention; “word1” got 1.96."
        );
        let unknown =
            "The vocabulary lacks it: it is read as word + word, and the model may not know it. ";
        let dominant =
            "Dominant: it got 1.96 times an average word's attention, most at the middle centre.";
        assert_eq!(second, format!("{unknown}{dominant}"));
        assert_eq!(third, "Heeded: it got 0.87 of an average word's attention, spread evenly.");
        let doubtful = |trace: &Trace| [0, 1, 2].map(|word| is_doubtful(trace, 0, word));
        assert_eq!(doubtful(&trace), [true, true, false], "ignored, unknown, heeded");
        trace.words[0].text = "The".to_owned();
        assert_eq!(
            of(&trace)[0],
            "A small word: it got 0.17 of an average word's attention, as such words do."
        );
        trace.words[2].tokens = 76..76;
        assert_eq!(doubtful(&trace), [false, true, true], "small, unknown, cut off");
        assert!(of(&trace)[2].starts_with("Cut off"));
        trace.images[0].clear();
        assert_eq!(of(&trace)[0], "No map of attention.");
    }
}
