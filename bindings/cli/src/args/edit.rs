//! The flags of `edit`: those of `generate`, and the picture that it starts from.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Request;

use super::{GenerateArgs, parse_numbers};

const EDIT_HELP: &str = "\
The image may be PNG, JPEG, WebP, GIF (its first frame), BMP, PNM or TIFF of up to 256 MiB of
pixels; it is turned as its EXIF orientation says, its colours become sRGB, and what is transparent
is laid on white.

Size: --width and --height where given; one alone brings the other by the picture's proportions. Else the picture's own
size; if it has more pixels than the model's own pictures, as many as those. Sides are rounded down
to whole tokens, and what then stands over is cropped evenly from both sides. With --extend sides are
rounded up and nothing is cropped; the exact size with --width or --height crops what that adds.

Without a mask the whole picture is remade (image to image): --strength 0.3 changes little, 1 starts from scratch. With
--mask, --alpha or --box only that part is (inpainting): a token is repainted if at least half of it is white, and outside
the mask the picture's own pixels are put back, with an edge one token wide. A mask of another size is stretched.

Examples:
  pocketmuse edit house.png \"a blue house in the snow\" --strength 0.6
  pocketmuse edit photo.jpg \"a red robot\" --mask mask.png -o robot.png
  pocketmuse edit photo.jpg \"a balloon\" --box 40,0,64,64 --seed 3
  pocketmuse edit house.png \"a red house in a meadow\" --extend left=64,right=64";

/// The flags of `edit`: those of `generate`, and what it starts from.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = EDIT_HELP, allow_negative_numbers = true)]
pub struct EditArgs {
    /// The picture to start from
    #[arg(value_name = "PICTURE")]
    pub picture: PathBuf,
    /// How much changes, 0 to 1: the part of the steps that is run [default: 0.5, with a mask 1]
    #[arg(long, value_name = "NUMBER")]
    pub strength: Option<f64>,
    /// Repaint what is white in this picture and keep the rest
    #[arg(long, value_name = "MASK", group = "where")]
    pub mask: Option<PathBuf>,
    /// Repaint what is transparent in the picture
    #[arg(long, group = "where")]
    pub alpha: bool,
    /// Repaint a box, in pixels of the picture
    #[arg(long = "box", value_name = "LEFT,TOP,WIDTH,HEIGHT", value_parser = parse_box, group = "where", allow_hyphen_values = true)]
    pub area: Option<[u32; 4]>,
    /// Add pixels at the sides and repaint them; the picture itself stays
    #[arg(long, value_name = "left=PIXELS,top=..,right=..,bottom=..", value_parser = parse_sides)]
    pub extend: Option<[u32; 4]>,
    /// With a mask: do not put the picture's own pixels back outside it
    #[arg(long)]
    pub no_paste: bool,
    /// Let strength 1 without a mask keep everything, as the reference pipeline does
    #[arg(long)]
    pub reference_strength: bool,
    /// All flags of generate
    #[command(flatten)]
    pub generate: GenerateArgs,
}

impl EditArgs {
    /// `base` with everything the flags say changed.
    pub fn request(&self, base: Request) -> Request {
        let request = self.generate.request(base);
        Request {
            strength: self.strength.or(request.strength),
            reference_strength: self.reference_strength || request.reference_strength,
            ..request
        }
    }
}

/// Reads `40,0,64,64`.
fn parse_box(text: &str) -> Result<[u32; 4], String> {
    parse_numbers(text)
        .ok_or_else(|| format!("expected four whole numbers with commas between, found {text:?}"))
}

/// Reads `left=64,top=32` as left, top, right and bottom.
fn parse_sides(text: &str) -> Result<[u32; 4], String> {
    let wrong = || format!("expected sides such as left=64,top=32, found {text:?}");
    let mut sides = [0; 4];
    for part in text.split(',') {
        let (name, pixels) = part.split_once('=').ok_or_else(wrong)?;
        let side = ["left", "top", "right", "bottom"]
            .iter()
            .position(|side| *side == name.trim())
            .ok_or_else(wrong)?;
        let pixels = pixels.trim();
        sides[side] = pixels.parse().map_err(|_| {
            format!("expected 0 to {} pixels at the {}, found {pixels:?}", u32::MAX, name.trim())
        })?;
    }
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn edit(words: &[&str]) -> Result<EditArgs, clap::Error> {
        match Cli::try_parse_from(["pocketmuse", "edit", "a.png"].iter().chain(words))?.command {
            Command::Edit(args) => Ok(*args),
            other => panic!("expected edit, found {other:?}"),
        }
    }

    #[test]
    fn an_edit_takes_a_picture_and_then_what_generate_takes() {
        let args = edit(&["a tree", "--strength", "0.6", "--seed", "3", "--reference-strength"])
            .expect("valid");
        let expected = Request {
            prompt: "a tree".to_owned(),
            seed: 3,
            strength: Some(0.6),
            reference_strength: true,
            ..Request::default()
        };
        assert_eq!(
            (args.picture.clone(), args.request(Request::default())),
            (PathBuf::from("a.png"), expected)
        );
        let base = Request { strength: Some(0.3), ..Request::default() };
        let args = edit(&["a", "--extend", "right=8, top=16"]).expect("valid");
        assert_eq!(args.extend, Some([0, 16, 8, 0]));
        let args = edit(&["a", "--box", "1, 2,3,4", "--no-paste"]).expect("valid");
        assert_eq!(
            (args.area, args.no_paste, args.request(base).strength),
            (Some([1, 2, 3, 4]), true, Some(0.3))
        );
        let wrong: [&[&str]; 6] = [
            &["a", "--extend", "up=3"],
            &["a", "--extend", "left=-1"],
            &[],
            &["a", "--box", "1,2,3"],
            &["a", "--alpha", "--mask", "m.png"],
            &["a", "--strength", "x"],
        ];
        for words in wrong {
            assert_eq!(edit(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
