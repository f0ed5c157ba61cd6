//! Short lines of text on images, in a bitmap font of 8 x 8 pixels. Knows not what they say.

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage};

/// The width and the height of a letter in pixels.
pub(crate) const LETTER: u32 = 8;

/// Writes `text` with its first letter's corner at `x`, `y`. What does not fit `width` pixels is
/// cut and ends in two dots; what the font lacks is a question mark.
pub(crate) fn write(
    image: &mut RgbImage,
    [x, y]: [u32; 2],
    width: u32,
    text: &str,
    colour: Rgb<u8>,
) {
    let room = (width / LETTER) as usize;
    let count = text.chars().count();
    let kept = if count > room { room.saturating_sub(2) } else { count };
    let dots = if count > room { room.min(2) } else { 0 };
    let letters = text.chars().take(kept).chain(std::iter::repeat_n('.', dots));
    for (index, letter) in (0..).zip(letters) {
        for (row, bits) in (0..).zip(glyph(letter)) {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                if let Some(pixel) =
                    image.get_pixel_mut_checked(x + index * LETTER + column, y + row)
                {
                    *pixel = colour;
                }
            }
        }
    }
}

/// Whether the font has every letter of a text.
pub(crate) fn can_show(text: &str) -> bool {
    let mut letters = text.chars().filter(|letter| !letter.is_whitespace());
    letters.all(|letter| !letter.is_control() && glyph_of(letter).is_some())
}

fn glyph(letter: char) -> [u8; 8] {
    glyph_of(letter).or_else(|| glyph_of('?')).unwrap_or_default()
}

fn glyph_of(letter: char) -> Option<[u8; 8]> {
    let fonts = [BASIC_FONTS.get(letter), LATIN_FONTS.get(letter), GREEK_FONTS.get(letter)];
    fonts.into_iter().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Rgb<u8> = Rgb([0; 3]);

    fn written(text: &str, width: u32) -> String {
        let mut image = RgbImage::from_pixel(width, LETTER, Rgb([255; 3]));
        write(&mut image, [0, 0], width, text, BLACK);
        let row = |y| {
            (0..width)
                .map(|x| if image.get_pixel(x, y) == &BLACK { '#' } else { '.' })
                .collect::<String>()
        };
        (0..LETTER).map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn letters_are_readable() {
        let l = "####....\n.##.....\n.##.....\n.##.....\n.##...#.\n.##..##.\n#######.\n........";
        assert_eq!(written("L", 8), l);
        assert_ne!(written("ü", 8), written("?", 8));
        assert_eq!(written("漢", 8), written("?", 8));
        for (text, expected) in [
            ("a (red:1.3) house, größer Ω", true),
            ("a\n\u{3000}b", true), // broken into lines there
            ("漢", false),
            ("بيت", false),
            ("\u{1f680}", false),
            ("e\u{301}", false),
            ("\u{200d}", false),
            ("\u{1b}", false),
        ] {
            assert_eq!(can_show(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        assert_eq!(written("lighthouse", 40), written("lig..", 40));
        assert_eq!(written("light", 40).len(), 8 * 41 - 1);
        assert_eq!(written("ab", 8), written(".", 8));
        write(&mut RgbImage::new(4, 4), [2, 2], 80, "over the edge", BLACK);
    }
}
