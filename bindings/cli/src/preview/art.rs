//! An image as what a terminal understands: the protocols of kitty and iTerm2, sixels, and half
//! blocks. Knows no terminal.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use color_quant::NeuQuant;
use image::RgbImage;

use crate::png;

/// The colours of a sixel image: what terminals hold.
const COLOURS: usize = 256;
/// The pixels, about, that a palette is learned from: more take longer and look the same.
const LEARNED: usize = 20_000;
/// The pixels that a line of sixels is high.
const BAND: u32 = 6;
/// The most bytes of base64 in one of kitty's messages, a multiple of 4.
const MESSAGE: usize = 4096;

/// kitty's graphics protocol: a PNG, pixel for pixel, in place of the one that has this `id`.
pub(super) fn kitty(image: &RgbImage, id: u32) -> String {
    let base64 = BASE64_STANDARD.encode(png::encode(image));
    let mut text = String::new();
    let mut keys = format!("a=T,f=100,i={id},C=1,q=2,");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (message, after) = rest.split_at(rest.len().min(MESSAGE));
        let more = u8::from(!after.is_empty());
        text.push_str(&format!("\x1b_G{keys}m={more};{message}\x1b\\"));
        (keys, rest) = (String::from("q=2,"), after);
    }
    text
}

/// iTerm2's inline images: a PNG, `rows` lines high.
pub(super) fn iterm(image: &RgbImage, rows: u32) -> String {
    let png = png::encode(image);
    let (size, base64) = (png.len(), BASE64_STANDARD.encode(png));
    format!("\x1b]1337;File=inline=1;size={size};height={rows};preserveAspectRatio=1:{base64}\x07")
}

/// DEC's sixels, in up to [`COLOURS`] colours whose parts are whole percents.
pub(super) fn sixel(image: &RgbImage) -> String {
    let (width, height) = image.dimensions();
    let (palette, places) = indexed(image);
    let mut text = format!("\x1bP0;1;0q\"1;1;{width};{height}");
    for (place, [r, g, b]) in palette.iter().enumerate() {
        let _ = write!(text, "#{place};2;{r};{g};{b}"); // a string takes everything
    }
    for band in places.chunks((width * BAND) as usize) {
        let colours: BTreeSet<u8> = band.iter().copied().collect();
        for colour in colours {
            let _ = write!(text, "#{colour}");
            run_lengths(
                &mut text,
                (0..width as usize).map(|x| sixel_of(band, width as usize, x, colour)),
            );
            text.push('$'); // back to the start of the line
        }
        text.push('-');
    }
    text + "\x1b\\"
}

/// A bit for each of six pixels, the upper first.
fn sixel_of(band: &[u8], width: usize, x: usize, colour: u8) -> u8 {
    let column = band.iter().skip(x).step_by(width).enumerate();
    column.filter(|(_, place)| **place == colour).map(|(y, _)| 1 << y).sum()
}

fn run_lengths(text: &mut String, sixels: impl Iterator<Item = u8>) {
    let mut sixels = sixels.peekable();
    while let Some(sixel) = sixels.next() {
        let mut count = 1;
        while sixels.next_if_eq(&sixel).is_some() {
            count += 1;
        }
        let character = char::from(b'?' + sixel);
        match count {
            1..=3 => (0..count).for_each(|_| text.push(character)),
            _ => text.push_str(&format!("!{count}{character}")),
        }
    }
}

/// The colours in percents, and which each pixel has: its own where there are few enough, else the
/// nearest.
fn indexed(image: &RgbImage) -> (Vec<[u8; 3]>, Vec<u8>) {
    let percent = |value: u8| ((u32::from(value) * 100 + 127) / 255) as u8;
    let exact: Vec<[u8; 3]> = image.pixels().map(|pixel| pixel.0.map(percent)).collect();
    let palette: Vec<[u8; 3]> =
        exact.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    if palette.len() <= COLOURS {
        let places: HashMap<_, _> = palette.iter().zip(0..=u8::MAX).collect();
        return (palette.clone(), exact.iter().map(|colour| places[colour]).collect());
    }
    let opaque: Vec<u8> =
        image.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    let share = (exact.len() / LEARNED).clamp(1, 30) as i32;
    let network = NeuQuant::new(share, COLOURS, &opaque);
    let palette = network
        .color_map_rgb()
        .as_chunks()
        .0
        .iter()
        .map(|colour: &[u8; 3]| colour.map(percent))
        .collect();
    (palette, opaque.chunks_exact(4).map(|pixel| network.index_of(pixel) as u8).collect())
}

/// Lines of half blocks, two pixels each.
pub(super) fn blocks(image: &RgbImage) -> String {
    let mut text = String::new();
    for line in 0..image.height().div_ceil(2) {
        for x in 0..image.width() {
            let [r, g, b] = image.get_pixel(x, 2 * line).0;
            text.push_str(&format!("\x1b[38;2;{r};{g};{b}m"));
            if let Some([r, g, b]) = image.get_pixel_checked(x, 2 * line + 1).map(|pixel| pixel.0) {
                text.push_str(&format!("\x1b[48;2;{r};{g};{b}m"));
            }
            text.push('\u{2580}');
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// Many colours and sides that are no multiples of six.
    fn example(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8 * 9, y as u8 * 11, (x * y) as u8]))
    }

    fn decoded(base64: &str) -> RgbImage {
        let png = BASE64_STANDARD.decode(base64).expect("base64");
        image::load_from_memory(&png).expect("a PNG").to_rgb8()
    }

    #[test]
    fn kitty_gets_the_image_in_messages_it_takes() {
        for image in [example(1, 1), example(200, 170)] {
            let text = kitty(&image, 5);
            let messages: Vec<_> = text.split_terminator("\x1b\\").collect();
            let mut base64 = String::new();
            for (index, message) in messages.iter().enumerate() {
                let (keys, part) = message
                    .strip_prefix("\x1b_G")
                    .expect("a message")
                    .split_once(';')
                    .expect("data");
                assert_eq!(keys.contains("a=T,f=100,i=5,C=1,"), index == 0, "{keys}");
                assert!(keys.contains("q=2"), "a terminal must not answer: {keys}");
                assert_eq!(keys.ends_with("m=1"), index + 1 < messages.len(), "{keys}");
                assert!(part.len() <= 4096 && (part.len() % 4 == 0));
                base64.push_str(part);
            }
            assert_eq!((decoded(&base64), messages.len() > 1), (image.clone(), image.width() > 1));
        }
    }

    #[test]
    fn iterm_gets_the_image_and_its_height() {
        let image = example(20, 13);
        let text = iterm(&image, 7);
        let (keys, base64) =
            text.strip_prefix("\x1b]1337;File=").expect("a file").split_once(':').expect("data");
        let base64 = base64.strip_suffix('\x07').expect("an end");
        let size = BASE64_STANDARD.decode(base64).expect("base64").len();
        assert_eq!(keys, format!("inline=1;size={size};height=7;preserveAspectRatio=1"));
        assert_eq!(decoded(base64), image);
    }

    /// Reads sixels as a terminal does; colours in percents, `None` where nothing was drawn.
    fn draw(text: &str) -> (Vec<Option<[u8; 3]>>, [usize; 2]) {
        let body = text
            .strip_prefix("\x1bP0;1;0q\"")
            .expect("sixels")
            .strip_suffix("\x1b\\")
            .expect("an end");
        let start = body.find(|at: char| at != ';' && !at.is_ascii_digit()).expect("sixels");
        let sizes: Vec<usize> =
            body[..start].split(';').map(|number| number.parse().expect("a number")).collect();
        let [width, height] = [sizes[2], sizes[3]];
        let mut pixels = vec![None; width * height.next_multiple_of(6)];
        let (mut palette, mut colour) = (HashMap::new(), 0);
        let (mut x, mut top, mut rest) = (0, 0, &body[start..]);
        while let Some(command) = rest.chars().next() {
            rest = &rest[1..];
            let end = rest.find(|at: char| at != ';' && !at.is_ascii_digit()).unwrap_or(rest.len());
            let numbers: Vec<usize> =
                rest[..end].split(';').filter_map(|number| number.parse().ok()).collect();
            let mut count = 1;
            match command {
                '#' => {
                    colour = numbers[0];
                    if let [_, 2, r, g, b] = numbers[..] {
                        palette.insert(colour, [r as u8, g as u8, b as u8]);
                    }
                    rest = &rest[end..];
                    continue;
                }
                '$' => x = 0,
                '-' => (x, top) = (0, top + 6),
                '!' => (count, rest) = (numbers[0], &rest[end..]),
                _ => rest = &body[body.len() - rest.len() - 1..],
            }
            if command == '$' || command == '-' {
                continue;
            }
            let bits = rest.as_bytes()[0] - b'?';
            rest = &rest[1..];
            for x in x..x + count {
                for y in (0..6).filter(|y| bits >> y & 1 == 1) {
                    pixels[(top + y) * width + x] = Some(palette[&colour]);
                }
            }
            x += count;
        }
        (pixels, [width, height])
    }

    #[test]
    fn sixels_are_the_pixels_where_colours_are_few() {
        // 51 is 20 percent, 102 is 40, and so on: nothing is lost.
        let few = |width, height| {
            RgbImage::from_fn(width, height, |x, y| {
                Rgb([x % 6, y % 6, (x + y / 5) % 6].map(|v| 51 * v as u8))
            })
        };
        for image in [few(1, 1), few(7, 6), few(31, 20), RgbImage::new(300, 3)] {
            let (pixels, sides) = draw(&sixel(&image));
            assert_eq!(sides, [image.width() as usize, image.height() as usize]);
            let expected: Vec<_> = image
                .pixels()
                .map(|pixel| Some(pixel.0.map(|value| (u32::from(value) * 20 / 51) as u8)))
                .collect();
            assert_eq!(pixels[..expected.len()], expected);
            assert!(pixels[expected.len()..].iter().all(Option::is_none), "nothing is drawn below");
        }
    }

    #[test]
    fn sixels_are_near_the_pixels_where_colours_are_many() {
        let image = RgbImage::from_fn(64, 50, |x, y| Rgb([4 * x as u8, 5 * y as u8, 128]));
        let (pixels, _) = draw(&sixel(&image));
        let off = image.pixels().zip(&pixels).flat_map(|(pixel, found)| {
            let found = found.expect("drawn");
            (0..3).map(move |channel| {
                (f64::from(pixel[channel]) / 2.55 - f64::from(found[channel])).abs()
            })
        });
        let mean = off.sum::<f64>() / f64::from(3 * image.width() * image.height());
        // Cells of 3.5 x 3.5 colours would be 1.1 off.
        assert!(mean < 2.0, "{mean} percent: 256 colours for 3200");
    }

    #[test]
    fn two_pixels_share_a_block() {
        let image = RgbImage::from_fn(1, 3, |_, y| Rgb([y as u8, 5, 6]));
        let expected =
            "\x1b[38;2;0;5;6m\x1b[48;2;1;5;6m\u{2580}\x1b[0m\n\x1b[38;2;2;5;6m\u{2580}\x1b[0m\n";
        assert_eq!(blocks(&image), expected);
    }
}
