//! The flags of `edit`: those of `generate`, and the image that it starts from.

use std::path::PathBuf;

use clap::Args;

use super::{generate::GenerateArgs, values};

const IN_SHORT: &str = "\
Without a mask the whole image is remade; with --mask, --alpha or --box only that part is. \
`pocketmuse man edit` tells of sizes and masks.

Examples:
  pocketmuse edit house.png \"a blue house in the snow\" --strength 0.6
  pocketmuse edit photo.jpg \"a balloon\" --box 40,0,64,64 -s 3
  pocketmuse edit house.png \"a red house in a meadow\" --extend left=64,right=64";

const EDIT_HELP: &str = "\
The image may be PNG, JPEG, WebP, GIF (its first frame), BMP, PNM or TIFF of up to 268 MB of \
pixels; it is turned as its EXIF orientation says, its colours become sRGB, and what is \
transparent is laid on white.

Size: --width and --height where given; one alone brings the other by the image's proportions. \
Else the image's own size; if it has more pixels than the model's own images, as many as those. \
Sides are rounded down to whole tokens, and what then stands over is cropped evenly from both \
sides. With --extend sides are rounded up and nothing is cropped; the exact size with --width or \
--height crops what that adds.

Without a mask the whole image is remade (image to image): --strength 0.3 changes little, 1 \
starts from scratch. With --mask, --alpha or --box only that part is (inpainting): a token is \
repainted if at least half of it is white, and outside the mask the image's own pixels are put \
back, with an edge one token wide. A mask of another size is stretched.

Examples:
  pocketmuse edit house.png \"a blue house in the snow\" --strength 0.6
  pocketmuse edit photo.jpg \"a red robot\" --mask mask.png -o robot.png
  pocketmuse edit photo.jpg \"a balloon\" --box 40,0,64,64 --seed 3
  pocketmuse edit house.png \"a red house in a meadow\" --extend left=64,right=64";

/// The flags of `edit`: those of `generate`, and what it starts from.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = IN_SHORT, after_long_help = EDIT_HELP, allow_negative_numbers = true,
          mut_arg("tileable", |arg| arg.hide(true)), mut_arg("variation", |arg| arg.hide(true)),
          mut_arg("skip_existing", |arg| arg.hide(true)))]
pub struct EditArgs {
    /// What it starts from
    #[command(flatten)]
    pub source: SourceArgs,
    /// How much changes, 0 to 1 [default: 0.5, with a mask 1]
    ///
    /// The part of the steps that is run.
    #[arg(long, alias = "denoising-strength", value_name = "NUMBER")]
    pub strength: Option<f64>,
    /// Let strength 1 without a mask keep everything
    ///
    /// As the reference pipeline does.
    #[arg(long)]
    pub reference_strength: bool,
    /// All flags of generate
    #[command(flatten)]
    pub generate: GenerateArgs,
}

/// The image to start from, and which part of it is repainted.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct SourceArgs {
    /// The image to start from; may also be given as -i IMAGE
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Repaint what is white in this image and keep the rest
    #[arg(long, alias = "mask-image", value_name = "MASK", group = "where")]
    pub mask: Option<PathBuf>,
    /// Repaint what is transparent in the image
    #[arg(long, group = "where")]
    pub alpha: bool,
    /// Repaint a box, in pixels of the image
    #[arg(long = "box", value_name = "LEFT,TOP,WIDTH,HEIGHT", value_parser = values::area,
          group = "where", allow_hyphen_values = true)]
    pub area: Option<[u32; 4]>,
    /// Add pixels, such as left=64,top=32, and repaint them
    ///
    /// At the sides left, top, right and bottom; the image itself stays.
    #[arg(long, value_name = "SIDE=PIXELS,..", value_parser = values::sides)]
    pub extend: Option<[u32; 4]>,
    /// With a mask: do not put the image's own pixels back outside it
    #[arg(long)]
    pub no_paste: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        edit: EditArgs,
    }

    fn parse(words: &[&str]) -> Result<EditArgs, clap::Error> {
        Line::try_parse_from(["test", "a.png"].iter().chain(words)).map(|line| line.edit)
    }

    #[test]
    fn an_edit_takes_an_image_and_then_what_generate_takes() {
        let args = parse(&["a tree", "--strength", "0.6", "--seed", "3", "--reference-strength"])
            .expect("valid");
        assert_eq!(args.source.image, PathBuf::from("a.png"));
        assert_eq!((args.strength, args.reference_strength), (Some(0.6), true));
        let generate = args.generate;
        assert_eq!((generate.prompt.as_deref(), generate.request.seed), (Some("a tree"), Some(3)));
        let args = parse(&["a", "--extend", "right=8, top=16"]).expect("valid");
        assert_eq!(args.source.extend, Some([0, 16, 8, 0]));
        let args = parse(&["a", "--box", "1, 2,3,4", "--no-paste"]).expect("valid");
        assert_eq!((args.source.area, args.source.no_paste), (Some([1, 2, 3, 4]), true));
        let wrong: [&[&str]; 6] = [
            &["a", "--extend", "up=3"],
            &["a", "--extend", "left=-1"],
            &[],
            &["a", "--box", "1,2,3"],
            &["a", "--alpha", "--mask", "m.png"],
            &["a", "--strength", "x"],
        ];
        for words in wrong {
            assert_eq!(parse(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
