//! Colours become sRGB, as a viewer would show them: by an ICC profile, or by PNG's `cICP`. The
//! only module that names the colour library. Knows no file.

use std::sync::LazyLock;

use image::DynamicImage;
use moxcms::{
    CicpColorPrimaries, CicpProfile, CmsError, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, ParsingOptions, ToneReprCurve, TransferCharacteristics, TransformExecutor,
    TransformOptions,
};

use super::metadata::MAX_PROFILE_BYTES;

/// A profile that moves no colour by more is sRGB, whatever it is called; such an image keeps its
/// bytes.
const NEAR: u8 = 1;
/// Pixels that are converted at once.
const PIXELS: usize = 4096;
/// Entries of a table for a curve.
const ENTRIES: usize = 4096;
/// How bright white is on a screen where 1 is 10,000 candela, as ITU-R BT.2408 has it.
const PQ_WHITE: f64 = 203.0 / 10_000.0;
/// The same where 1 is 1,000.
const HLG_WHITE: f64 = 203.0 / 1_000.0;

static SRGB: LazyLock<ColorProfile> = LazyLock::new(ColorProfile::new_srgb);

/// The colours that an image's numbers stand for.
pub(super) struct Colours {
    profile: ColorProfile,
}

/// Numbers of a pixel as the colour library knows them.
trait Sample: Copy + Default + 'static {
    fn transform(
        profile: &ColorProfile,
        from: Layout,
        into: Layout,
    ) -> Result<Executor<Self>, CmsError>;
}

type Executor<T> = std::sync::Arc<dyn TransformExecutor<T> + Send + Sync>;

impl Sample for u8 {
    fn transform(
        profile: &ColorProfile,
        from: Layout,
        into: Layout,
    ) -> Result<Executor<Self>, CmsError> {
        profile.create_transform_8bit(from, &SRGB, into, TransformOptions::default())
    }
}

impl Sample for u16 {
    fn transform(
        profile: &ColorProfile,
        from: Layout,
        into: Layout,
    ) -> Result<Executor<Self>, CmsError> {
        profile.create_transform_16bit(from, &SRGB, into, TransformOptions::default())
    }
}

impl Colours {
    /// Reads an ICC profile.
    ///
    /// # Errors
    ///
    /// A sentence, for one that is damaged or of colours that images do not have.
    pub(super) fn of_profile(bytes: &[u8]) -> Result<Self, String> {
        let options = ParsingOptions { max_profile_size: MAX_PROFILE_BYTES, ..Default::default() };
        let profile = ColorProfile::new_from_slice_with_options(bytes, options)
            .map_err(|error| error.to_string())?;
        match profile.color_space {
            DataColorSpace::Rgb | DataColorSpace::Gray | DataColorSpace::Cmyk => {
                Ok(Self { profile })
            }
            other => Err(format!("expected one of RGB, grey or CMYK, found {other:?}")),
        }
    }

    /// Reads PNG's `cICP`.
    ///
    /// # Errors
    ///
    /// A sentence, for colours that are none of a PNG, or unknown.
    pub(super) fn of_cicp([primaries, transfer, matrix, range]: [u8; 4]) -> Result<Self, String> {
        if matrix != 0 || range != 1 {
            return Err(format!("expected matrix 0 and range 1, found {matrix} and {range}"));
        }
        let unknown = |error: CmsError| error.to_string();
        let transfer_characteristics =
            TransferCharacteristics::try_from(transfer).map_err(unknown)?;
        let is_bright = matches!(transfer, 16 | 18);
        let mut profile = ColorProfile::new_from_cicp(CicpProfile {
            color_primaries: CicpColorPrimaries::try_from(primaries).map_err(unknown)?,
            transfer_characteristics: if is_bright {
                TransferCharacteristics::Linear
            } else {
                transfer_characteristics
            },
            matrix_coefficients: MatrixCoefficients::Identity,
            full_range: true,
        });
        if !profile.is_matrix_shaper() {
            return Err(format!("expected known colours, found {primaries} and {transfer}"));
        }
        profile.cicp = None; // its curves say the same, or more
        if is_bright {
            let curve = if transfer == 16 { pq } else { hlg };
            let entry = |at| 65_535.0 * curve(at as f64 / (ENTRIES - 1) as f64).clamp(0.0, 1.0);
            let table =
                ToneReprCurve::Lut((0..ENTRIES).map(|at| entry(at).round() as u16).collect());
            profile.red_trc = Some(table.clone());
            profile.green_trc = Some(table.clone());
            profile.blue_trc = Some(table);
        }
        Ok(Self { profile })
    }

    /// Whether they are of four inks, which only [`Self::mix_inks`] converts.
    pub(super) fn are_inks(&self) -> bool {
        self.profile.color_space == DataColorSpace::Cmyk
    }

    /// `image` in sRGB. One that is in sRGB already keeps its bytes.
    ///
    /// # Errors
    ///
    /// The image as it was and a sentence, if the profile is of other colours than the image, or
    /// has no conversion.
    pub(super) fn to_srgb(
        &self,
        image: DynamicImage,
    ) -> Result<DynamicImage, (DynamicImage, String)> {
        let is_grey = !image.color().has_color();
        match self.profile.color_space {
            DataColorSpace::Gray if is_grey => self.grey_to_srgb(image),
            DataColorSpace::Rgb => self.rgb_to_srgb(image),
            other => {
                let found = if is_grey { "grey" } else { "RGB" };
                let detail = format!("expected colours of {other:?}, found an image of {found}");
                Err((image, detail))
            }
        }
    }

    fn rgb_to_srgb(&self, image: DynamicImage) -> Result<DynamicImage, (DynamicImage, String)> {
        match self.moves(Layout::Rgb, &probe()) {
            Ok(true) => (),
            Ok(false) => return Ok(image),
            Err(error) => return Err((image, error.to_string())),
        }
        let has_alpha = image.color().has_alpha();
        let is_deep = image.color().bytes_per_pixel() / image.color().channel_count() > 1;
        let mut image = match (has_alpha, is_deep) {
            (false, false) => DynamicImage::ImageRgb8(image.into_rgb8()),
            (true, false) => DynamicImage::ImageRgba8(image.into_rgba8()),
            (false, true) => DynamicImage::ImageRgb16(image.into_rgb16()),
            (true, true) => DynamicImage::ImageRgba16(image.into_rgba16()),
        };
        let converted = match &mut image {
            DynamicImage::ImageRgb8(image) => self.convert(image, Layout::Rgb),
            DynamicImage::ImageRgba8(image) => self.convert(image, Layout::Rgba),
            DynamicImage::ImageRgb16(image) => self.convert(image, Layout::Rgb),
            DynamicImage::ImageRgba16(image) => self.convert(image, Layout::Rgba),
            _ => Ok(()),
        };
        match converted {
            Ok(()) => Ok(image),
            Err(error) => Err((image, error.to_string())),
        }
    }

    /// By a table of all shades, since grey stays grey.
    fn grey_to_srgb(
        &self,
        mut image: DynamicImage,
    ) -> Result<DynamicImage, (DynamicImage, String)> {
        let table = || -> Result<Option<Vec<u16>>, CmsError> {
            let ramp: Vec<u8> = (0..=255).collect();
            if !self.moves(Layout::Gray, &ramp)? {
                return Ok(None);
            }
            let ramp: Vec<u16> = (0..=u16::MAX).collect();
            let mut rgb = vec![0; 3 * ramp.len()];
            u16::transform(&self.profile, Layout::Gray, Layout::Rgb)?.transform(&ramp, &mut rgb)?;
            Ok(Some(rgb.as_chunks::<3>().0.iter().map(|[red, ..]| *red).collect()))
        };
        let table = match table() {
            Ok(Some(table)) => table,
            Ok(None) => return Ok(image),
            Err(error) => return Err((image, error.to_string())),
        };
        let shallow = |value: &mut u8| {
            let found = u32::from(table[usize::from(*value) * 257]);
            *value = ((found + 128) / 257) as u8;
        };
        let deep = |value: &mut u16| *value = table[usize::from(*value)];
        match &mut image {
            DynamicImage::ImageLuma8(image) => image.iter_mut().for_each(shallow),
            DynamicImage::ImageLumaA8(image) => image.iter_mut().step_by(2).for_each(shallow),
            DynamicImage::ImageLuma16(image) => image.iter_mut().for_each(deep),
            DynamicImage::ImageLumaA16(image) => image.iter_mut().step_by(2).for_each(deep),
            _ => (),
        }
        Ok(image)
    }

    /// Inks, 0 for none and 255 for all: cyan, magenta, yellow and black of each pixel. Returns
    /// red, green and blue.
    ///
    /// # Errors
    ///
    /// A sentence, if the profile has no conversion.
    pub(super) fn mix_inks(&self, inks: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = |error: CmsError| error.to_string();
        let transform = u8::transform(&self.profile, Layout::Rgba, Layout::Rgb).map_err(wrong)?;
        let mut rgb = vec![0; inks.len() / 4 * 3];
        for (inks, rgb) in inks.chunks(4 * PIXELS).zip(rgb.chunks_mut(3 * PIXELS)) {
            transform.transform(inks, rgb).map_err(wrong)?;
        }
        Ok(rgb)
    }

    /// Whether the profile changes any of the `probe`'s colours.
    fn moves(&self, layout: Layout, probe: &[u8]) -> Result<bool, CmsError> {
        let channels = layout.channels();
        let mut found = vec![0; probe.len() / channels * 3];
        u8::transform(&self.profile, layout, Layout::Rgb)?.transform(probe, &mut found)?;
        let pairs = probe.chunks(channels).zip(found.as_chunks::<3>().0);
        let is_near = |(from, into): (&[u8], &[u8; 3])| {
            into.iter().zip(from.iter().cycle()).all(|(a, b)| a.abs_diff(*b) <= NEAR)
        };
        Ok(!pairs.into_iter().all(is_near))
    }

    fn convert<T: Sample>(&self, samples: &mut [T], layout: Layout) -> Result<(), CmsError> {
        let transform = T::transform(&self.profile, layout, layout)?;
        let mut before = Vec::new();
        for part in samples.chunks_mut(layout.channels() * PIXELS) {
            before.clear();
            before.extend_from_slice(part);
            transform.transform(&before, part)?;
        }
        Ok(())
    }
}

/// Colours all over the cube, and all shades of grey.
fn probe() -> Vec<u8> {
    let level = |index: usize| (index * 255 / 8) as u8;
    let cube = (0..9usize.pow(3)).map(|at| [level(at / 81), level(at / 9 % 9), level(at % 9)]);
    cube.chain((0..=255).map(|shade| [shade; 3])).flatten().collect()
}

/// The light of a PQ number, 1 for white: SMPTE ST 2084.
fn pq(number: f64) -> f64 {
    let (m1, m2) = (2610.0 / 16_384.0, 2523.0 / 32.0);
    let (c1, c2, c3) = (3424.0 / 4096.0, 2413.0 / 128.0, 2392.0 / 128.0);
    let root = number.powf(1.0 / m2);
    ((root - c1).max(0.0) / (c2 - c3 * root)).powf(1.0 / m1) / PQ_WHITE
}

/// The light of an HLG number, 1 for white: ITU-R BT.2100, with the gamma of a screen of 1,000
/// candela on each channel.
fn hlg(number: f64) -> f64 {
    let (a, b, c) = (0.178_832_77, 0.284_668_92, 0.559_910_73);
    let scene =
        if number <= 0.5 { number * number / 3.0 } else { (((number - c) / a).exp() + b) / 12.0 };
    scene.powf(1.2) / HLG_WHITE
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageBuffer, LumaA, Rgb, RgbImage, Rgba};
    use proptest::prelude::*;

    use super::*;

    fn read(profile: &ColorProfile) -> Colours {
        Colours::of_profile(&profile.encode().expect("encoded")).expect("a profile")
    }

    fn shades() -> RgbImage {
        RgbImage::from_fn(16, 16, |x, y| Rgb([(17 * x) as u8, (17 * y) as u8, 128]))
    }

    #[test]
    fn srgb_keeps_every_byte_and_others_move() {
        let image = DynamicImage::from(shades());
        for (name, profile, moves) in [
            ("sRGB", ColorProfile::new_srgb(), false),
            ("Display P3", ColorProfile::new_display_p3(), true),
            ("Adobe RGB", ColorProfile::new_adobe_rgb(), true),
            ("ProPhoto", ColorProfile::new_pro_photo_rgb(), true),
            ("BT.2020", ColorProfile::new_bt2020(), true),
        ] {
            let found = read(&profile).to_srgb(image.clone()).map_err(|(_, why)| why);
            assert_eq!(found.expect(name) != image, moves, "{name}");
        }
    }

    #[test]
    fn the_same_colour_comes_out_of_every_depth() {
        // numpy: linear = ((c / 255 + 0.055) / 1.055) ** 2.4, then the rows [1.2249, -0.2247, 0],
        // [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979], and back: (216, 69, 17)
        let colours = read(&ColorProfile::new_display_p3());
        let deep = |value: u16| value * 257;
        let images: [DynamicImage; 4] = [
            RgbImage::from_pixel(3, 2, Rgb([200, 80, 40])).into(),
            ImageBuffer::from_pixel(3, 2, Rgba([200u8, 80, 40, 7])).into(),
            ImageBuffer::from_pixel(3, 2, Rgb([200, 80, 40].map(deep))).into(),
            ImageBuffer::from_pixel(3, 2, Rgba([200, 80, 40, 7].map(deep))).into(),
        ];
        for image in images {
            let found = colours.to_srgb(image).map_err(|(_, why)| why).expect("converted");
            let pixel = found.to_rgba8().get_pixel(2, 1).0;
            let alpha = if found.color().has_alpha() { 7 } else { 255 };
            for (found, expected) in pixel.into_iter().zip([216, 69, 17, alpha]) {
                assert!(found.abs_diff(expected) <= 2, "{pixel:?}");
            }
        }
    }

    #[test]
    fn grey_has_its_own_gamma_and_takes_rgb_profiles_too() {
        let grey = || GrayImage::from_pixel(2, 2, image::Luma([100])).into();
        let of = |profile: ColorProfile, image: DynamicImage| {
            let found = read(&profile).to_srgb(image).map_err(|(_, why)| why);
            found.map(|image| image.to_rgb8().get_pixel(1, 1).0)
        };
        let linear = || ColorProfile::new_gray_with_gamma(1.0);
        assert_eq!(of(linear(), grey()), Ok([168; 3])); // (100/255)^(1/2.4) * 1.055 - 0.055
        let with_alpha = ImageBuffer::from_pixel(2, 2, LumaA([100u8, 3])).into();
        assert_eq!(of(linear(), with_alpha), Ok([168; 3]));
        let deep = ImageBuffer::from_pixel(2, 2, image::Luma([25_700u16])).into();
        assert_eq!(of(linear(), deep), Ok([168; 3]));
        assert_eq!(of(ColorProfile::new_srgb(), grey()), Ok([100; 3]));
        assert_eq!(of(ColorProfile::new_display_p3(), grey()), Ok([100; 3]));
        let colourful = of(linear(), shades().into()).expect_err("another number of channels");
        assert_eq!(colourful, "expected colours of Gray, found an image of RGB");
    }

    /// A profile of four inks, as ICC.1 has it: a table of two entries for each ink whose lightness
    /// falls with every ink.
    fn inks() -> Vec<u8> {
        let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
        for at in 0..9 {
            table.extend(if at % 4 == 0 { 65_536i32 } else { 0 }.to_be_bytes());
        }
        (0..4).for_each(|_| table.extend(0..=255u8));
        for inks in 0..16u32 {
            table.extend([255 - (inks.count_ones() * 63) as u8, 128, 128]);
        }
        (0..3).for_each(|_| table.extend(0..=255u8));
        let mut profile = vec![0; 128];
        profile[8] = 2;
        for (at, word) in [(12, b"prtr"), (16, b"CMYK"), (20, b"Lab "), (36, b"acsp")] {
            profile[at..at + 4].copy_from_slice(word);
        }
        for (at, number) in [(68, 63_190u32), (72, 65_536), (76, 54_061)] {
            profile[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        profile.extend(1u32.to_be_bytes());
        profile.extend(b"A2B0");
        profile.extend([144u32, table.len() as u32].map(u32::to_be_bytes).concat());
        profile.extend(table);
        let length = profile.len() as u32;
        profile[..4].copy_from_slice(&length.to_be_bytes());
        profile
    }

    #[test]
    fn inks_are_mixed_as_their_profile_says() {
        let colours = Colours::of_profile(&inks()).expect("a profile");
        assert!(colours.are_inks());
        let rgb = colours.mix_inks(&[0, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]).expect("rgb");
        let grey: Vec<u8> = rgb.as_chunks::<3>().0.iter().map(|[red, ..]| *red).collect();
        assert!(grey[0] > 250 && (150..220).contains(&grey[1]) && grey[2] < 20, "{rgb:?}");
        let (_, why) = colours.to_srgb(shades().into()).expect_err("no inks");
        assert_eq!(why, "expected colours of Cmyk, found an image of RGB");
    }

    proptest! {
        #[test]
        fn no_damaged_profile_makes_it_panic(
            at: prop::sample::Index,
            byte: u8,
            length: prop::sample::Index,
            of_inks: bool,
        ) {
            let mut bytes = if of_inks {
                inks()
            } else {
                ColorProfile::new_adobe_rgb().encode().expect("encoded")
            };
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(length.index(2 * bytes.len()).max(1));
            if let Ok(colours) = Colours::of_profile(&bytes) {
                let _ = colours.to_srgb(shades().into());
                let _ = colours.mix_inks(&[9; 16]);
            }
        }
    }
}
