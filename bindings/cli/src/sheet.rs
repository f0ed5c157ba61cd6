//! Images in columns and rows on one sheet, a label above each column and beside each row. Knows
//! not what they show.

use image::{Rgb, RgbImage, imageops};

use crate::label::{self, LETTER};

const GAP: u32 = 6;
/// The height of a line.
const LINE: u32 = LETTER + 3;
/// The width of a row's label.
const ASIDE: u32 = 17 * LETTER;
const INK: Rgb<u8> = Rgb([20, 20, 20]);
const PAPER: Rgb<u8> = Rgb([255; 3]);

/// Lays `images`, row after row, on a sheet. Columns are as many as their labels; without labels
/// of rows there is no room for them.
pub(crate) fn lay(images: &[RgbImage], columns: &[String], rows: &[String]) -> RgbImage {
    let most = |of: fn(&RgbImage) -> u32| images.iter().map(of).max().unwrap_or(1);
    let (width, height) = (most(RgbImage::width).max(8 * LETTER), most(RgbImage::height));
    let aside = if rows.iter().all(String::is_empty) { 0 } else { ASIDE + GAP };
    let above: Vec<_> = columns.iter().map(|label| lines(label, width)).collect();
    let top = above.iter().map(Vec::len).max().unwrap_or(0) as u32 * LINE + GAP;
    let beside: Vec<_> = rows.iter().map(|label| lines(label, ASIDE)).collect();
    let (left, down) = (aside + GAP, |row: usize| top + row as u32 * (height + GAP));
    let across = |column: usize| left + column as u32 * (width + GAP);
    let mut sheet = RgbImage::from_pixel(across(columns.len()), down(rows.len()), PAPER);
    let mut write = |corner: [u32; 2], width: u32, lines: &[String]| {
        for (line, text) in (0..).zip(lines) {
            label::write(&mut sheet, [corner[0], corner[1] + line * LINE], width, text, INK);
        }
    };
    above
        .iter()
        .enumerate()
        .for_each(|(column, lines)| write([across(column), GAP / 2], width, lines));
    for (row, lines) in beside.iter().enumerate() {
        let room = (height / LINE) as usize;
        write([GAP, down(row)], ASIDE, &lines[..lines.len().min(room)]);
    }
    for (index, image) in images.iter().enumerate() {
        let (column, row) = (index % columns.len().max(1), index / columns.len().max(1));
        imageops::replace(&mut sheet, image, across(column).into(), down(row).into());
    }
    sheet
}

/// Breaks a text into lines of so many pixels: between words or after a hyphen where that is
/// possible.
fn lines(text: &str, width: u32) -> Vec<String> {
    let room = (width / LETTER).max(1) as usize;
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let mut gap = usize::from(!line.is_empty());
        for part in word.split_inclusive('-').map(|part| part.chars().collect::<Vec<_>>()) {
            for part in part.chunks(room) {
                if line.chars().count() + gap + part.len() > room {
                    lines.push(std::mem::take(&mut line));
                    gap = 0;
                }
                line.extend(std::iter::repeat_n(' ', std::mem::take(&mut gap)));
                line.extend(part);
            }
        }
    }
    lines.extend(Some(line).filter(|line| !line.is_empty()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_broken_between_words() {
        assert_eq!(lines("a red house", 64), ["a red", "house"]);
        assert_eq!(lines("num-inference-steps 12", 64), ["num-", "inferenc", "e-steps", "12"]);
        assert_eq!(lines("guidance-scale 1.5", 128), ["guidance-scale", "1.5"]);
        assert_eq!(lines("  ", 64), [""; 0]);
        assert_eq!(lines("äöü", 8), ["ä", "ö", "ü"]);
        assert_eq!(lines("ab", 0), ["a", "b"]);
    }

    #[test]
    fn images_do_not_cover_each_other_or_their_labels() {
        let images: Vec<_> =
            (1..=6).map(|value| RgbImage::from_pixel(80, 40, Rgb([value; 3]))).collect();
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let columns = names(&["seed 1", "seed 2", "a label of many words in some lines"]);
        let sheet = lay(&images, &columns, &names(&["sampler confidence", "sampler halton"]));
        let count = |sheet: &RgbImage, colour: Rgb<u8>| {
            sheet.pixels().filter(|pixel| **pixel == colour).count()
        };
        (1..=6).for_each(|value| assert_eq!(count(&sheet, Rgb([value; 3])), 80 * 40));
        let first =
            sheet.enumerate_pixels().find(|(.., pixel)| pixel.0 == [5; 3]).map(|(x, y, _)| (x, y));
        assert_eq!(
            first,
            Some((ASIDE + 2 * GAP + 80 + GAP, 4 * LINE + GAP + 40 + GAP)),
            "second row, second column"
        );
        let ink = count(&sheet, INK);
        let bare = lay(&images, &names(&["", "", ""]), &names(&["", ""]));
        assert!(ink > 500 && count(&bare, INK) == 0 && bare.width() == GAP + 3 * (80 + GAP));
    }
}
