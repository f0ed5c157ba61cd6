//! Images as the world has them: each fixture of `faults` gives its right result, and so do others
//! of the same kinds, made here.

use std::{fs, io::Cursor, path::PathBuf};

use image::{
    DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, Luma, Rgb, RgbImage, Rgba,
    RgbaImage,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, tiff::TiffEncoder, webp::WebPEncoder},
};
use pocketmuse::{
    ErrorKind,
    pixels::{self, Image},
};

fn fault(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/faults").join(name)
}

fn open(name: &str) -> RgbImage {
    image::open(fault(name)).expect(name).into_rgb8()
}

fn worst(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

fn from(bytes: &[u8]) -> Image {
    pixels::from_bytes(bytes.to_vec(), u64::MAX).expect("an image")
}

fn sample() -> RgbImage {
    RgbImage::from_fn(40, 24, |x, y| Rgb([(6 * x) as u8, (10 * y) as u8, 120]))
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

/// A PNG's chunk, with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

/// `png` with `chunks` before its pixels, behind them, and behind its end.
fn with_chunks(png: &[u8], chunks: &[u8]) -> [Vec<u8>; 3] {
    let place = |kind: &[u8]| png.windows(4).position(|four| four == kind).expect("a chunk") - 4;
    [place(b"IDAT"), place(b"IEND"), png.len()].map(|at| [&png[..at], chunks, &png[at..]].concat())
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::ZlibEncoder::new(bytes, flate2::Compression::best());
    std::io::Read::read_to_end(&mut encoder, &mut packed).expect("packed");
    packed
}

#[test]
fn a_jpeg_ends_where_its_image_ends() {
    let base = open("motion-photo/base.jpg");
    let read = pixels::read(&fault("motion-photo/motion.jpg")).expect("an image");
    assert_eq!((read.image, read.warnings), (base, vec![]));
    let jpeg = fs::read(fault("motion-photo/base.jpg")).expect("a fixture");
    for trailer in [&b"\xff\xda\xff"[..], b"\xff\xd8\xff\xe1\0\x04ab", &jpeg, &jpeg[..500]] {
        assert_eq!(from(&[&jpeg, trailer].concat()).image, from(&jpeg).image);
    }
    // Without its end marker it is whole still.
    assert_eq!(from(&jpeg[..jpeg.len() - 2]).image, from(&jpeg).image);
    for part in [30, 50, 80, 95] {
        let cut = &jpeg[..jpeg.len() * part / 100];
        for trailer in [&b""[..], &jpeg] {
            let error = pixels::from_bytes([cut, trailer].concat(), u64::MAX).expect_err("cut");
            assert!(error.detail().contains("cut short"), "{part}: {error}");
        }
    }
}

#[test]
fn an_orientation_counts_wherever_it_stands() {
    let read = pixels::read(&fault("orientation-behind-the-pixels/photo.png")).expect("an image");
    assert_eq!(read.image, open("orientation-behind-the-pixels/upright.png"));
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let digits: String = exif.iter().map(|byte| format!("{byte:02x}")).collect();
    let raw = format!("\nexif\n{:8}\n{digits}\n", exif.len());
    let keyword = &b"Raw profile type exif\0"[..];
    let png = encoded(&sample().into(), ImageFormat::Png);
    let turned = DynamicImage::from(sample()).rotate90().into_rgb8();
    for chunk in [
        chunk(b"eXIf", exif),
        chunk(b"eXIf", &[b"Exif\0\0", &exif[..]].concat()),
        chunk(b"tEXt", &[keyword, raw.as_bytes()].concat()),
        chunk(b"zTXt", &[keyword, &[0], &packed(raw.as_bytes())[..]].concat()),
    ] {
        let [before, behind, after] = with_chunks(&png, &chunk);
        assert_eq!(from(&before).image, turned);
        assert_eq!(from(&behind).image, turned);
        assert_eq!(from(&after).image, sample(), "behind the end is no part of it");
        let mut damaged = before;
        let at = damaged.windows(4).position(|four| four == b"IDAT").expect("pixels") - 5;
        damaged[at] ^= 1; // the checksum
        assert_eq!(from(&damaged).image, sample());
    }
}

#[test]
fn a_request_is_found_in_any_chunk_and_any_place() {
    let made = pixels::read_request(&fault("request-in-another-chunk/made.png")).expect("inside");
    let moved = fault("request-in-another-chunk/after-idat.png");
    assert_eq!(pixels::read_request(&moved).expect("inside"), made);
    let png = encoded(&sample().into(), ImageFormat::Png);
    let text = "ein M\u{fc}ll: \u{20ac}";
    let latin: Vec<u8> = "ein M\u{fc}ll".chars().map(|letter| letter as u8).collect();
    let head = &b"pocketmuse\0"[..];
    for (kind, data, expected) in [
        (b"tEXt", [head, text.as_bytes()].concat(), text),
        (b"tEXt", [head, &latin[..]].concat(), "ein M\u{fc}ll"),
        (b"zTXt", [head, &[0], &packed(text.as_bytes())[..]].concat(), text),
        (b"iTXt", [head, b"\0\0\0\0", text.as_bytes()].concat(), text),
        (b"iTXt", [head, b"\0\0de\0Wort\0", text.as_bytes()].concat(), text),
        (b"iTXt", [head, b"\x01\0\0\0", &packed(text.as_bytes())[..]].concat(), text),
    ] {
        let other = chunk(kind, b"pocketmuse-other\0\0\0\0\0\0");
        let chunks = [other, chunk(kind, &data)].concat();
        let [before, behind, after] = with_chunks(&png, &chunks);
        for bytes in [before, behind] {
            let found = pixels::note_in(&bytes, "pocketmuse").expect("readable");
            assert_eq!(found.as_deref(), Some(expected));
        }
        assert_eq!(pixels::note_in(&after, "pocketmuse").expect("readable"), None);
    }
}

#[test]
fn text_is_bounded_while_it_is_unpacked() {
    let bomb = fault("from-itxt-bomb/bomb-64MB.png");
    let error = pixels::read_request(&bomb).expect_err("64 MB");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.detail().contains("at most 16 MB, found more"), "{error}");
    pixels::read(&bomb).expect("its pixels are harmless");
    let png = encoded(&sample().into(), ImageFormat::Png);
    let zeros = packed(&vec![b'0'; 40 << 20]);
    for (kind, head) in [
        (b"zTXt", &b"pocketmuse\0\0"[..]),
        (b"iTXt", b"pocketmuse\0\x01\0\0\0"),
        (b"zTXt", b"Raw profile type exif\0\0"),
        (b"iCCP", b"profile\0\0"),
    ] {
        let [bytes, ..] = with_chunks(&png, &chunk(kind, &[head, &zeros].concat()));
        let is_ours = head.starts_with(b"pocketmuse");
        assert_eq!(pixels::note_in(&bytes, "pocketmuse").is_err(), is_ours);
        let read = from(&bytes);
        assert_eq!((read.image, read.warnings.len()), (sample(), usize::from(kind == b"iCCP")));
    }
}

#[test]
fn colours_are_shown_as_a_viewer_shows_them() {
    let read = pixels::read(&fault("colour-profile/p3.png")).expect("an image");
    assert_eq!(read.warnings, Vec::<String>::new());
    let (shown, stored) = (open("colour-profile/shown-p3.png"), open("colour-profile/p3.png"));
    assert!(worst(&read.image, &shown) <= 2, "{}", worst(&read.image, &shown));
    // The same profile in every format that holds one, and in pieces that are damaged.
    let mut decoder =
        image::ImageReader::open(fault("colour-profile/p3.png")).expect("a fixture").into_decoder();
    let profile = image::ImageDecoder::icc_profile(decoder.as_mut().expect("a PNG"));
    let profile = profile.expect("readable").expect("a profile");
    let with_profile = |format: ImageFormat, profile: &[u8]| {
        let mut bytes = Cursor::new(Vec::new());
        let (width, height) = stored.dimensions();
        let profile = profile.to_vec();
        macro_rules! written {
            ($encoder:expr) => {{
                let mut encoder = $encoder;
                encoder.set_icc_profile(profile).expect("held");
                encoder.write_image(&stored, width, height, ExtendedColorType::Rgb8)
            }};
        }
        match format {
            ImageFormat::Jpeg => written!(JpegEncoder::new_with_quality(&mut bytes, 100)),
            ImageFormat::WebP => written!(WebPEncoder::new_lossless(&mut bytes)),
            ImageFormat::Tiff => written!(TiffEncoder::new(&mut bytes)),
            _ => written!(PngEncoder::new(&mut bytes)),
        }
        .expect("encoded");
        bytes.into_inner()
    };
    for (format, allowed) in [
        (ImageFormat::Png, 2),
        (ImageFormat::WebP, 2),
        (ImageFormat::Tiff, 2),
        (ImageFormat::Jpeg, 40),
    ] {
        let read = from(&with_profile(format, &profile));
        assert_eq!(read.warnings, Vec::<String>::new(), "{format:?}");
        assert!(worst(&read.image, &shown) <= allowed, "{format:?}");
        let plain = from(&encoded(&stored.clone().into(), ImageFormat::Png)).image;
        for broken in [&b"no profile"[..], &profile[..100], &profile[..profile.len() / 2]] {
            let read = from(&with_profile(format, broken));
            assert_eq!(read.warnings.len(), 1, "{format:?}: {:?}", read.warnings);
            assert!(read.warnings[0].contains("profile is"), "{:?}", read.warnings);
            assert!(worst(&read.image, &plain) <= allowed);
        }
    }
}

#[test]
fn a_png_says_its_colours_by_cicp_too() {
    let png = encoded(&sample().into(), ImageFormat::Png);
    // Primaries, transfer, matrix, range; whether colours change, and how many warnings.
    for (cicp, changes, warnings) in [
        ([1, 13, 0, 1], false, 0), // sRGB
        ([12, 13, 0, 1], true, 0), // Display P3
        ([9, 16, 0, 1], true, 0),  // BT.2100, PQ
        ([9, 18, 0, 1], true, 0),  // BT.2100, HLG
        ([12, 13, 0, 0], false, 1),
        ([12, 13, 9, 1], false, 1),
        ([2, 2, 0, 1], false, 1),
        ([255, 255, 0, 1], false, 1),
    ] {
        let [bytes, ..] = with_chunks(&png, &chunk(b"cICP", &cicp));
        let read = from(&bytes);
        assert_eq!((read.image != sample(), read.warnings.len()), (changes, warnings), "{cicp:?}");
    }
    let gamma = |value: u32| chunk(b"gAMA", &value.to_be_bytes());
    for (chunks, warnings) in [
        (gamma(45_455), 0),
        (gamma(100_000), 1),
        ([gamma(100_000), chunk(b"sRGB", &[0])].concat(), 0),
        (chunk(b"cHRM", &[0; 32]), 1),
    ] {
        let [bytes, ..] = with_chunks(&png, &chunks);
        let read = from(&bytes);
        assert_eq!((read.image, read.warnings.len()), (sample(), warnings));
    }
}

#[test]
fn a_masks_transparent_pixels_ask_for_nothing() {
    let mask = pixels::read_mask(&fault("mask-with-alpha/white-on-nothing.png")).expect("a mask");
    let half = mask.image.width() / 2;
    for (x, _, value) in mask.image.enumerate_pixels() {
        assert_eq!(value.0[0], if x < half { 255 } else { 0 });
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mask");
    let transparent = RgbaImage::from_pixel(4, 4, Rgba([255, 255, 255, 0]));
    for (format, expected, warnings) in [(ImageFormat::Png, 0, 0), (ImageFormat::Bmp, 255, 1)] {
        let bytes = encoded(&transparent.clone().into(), format);
        fs::write(&path, &bytes).expect("written");
        let mask = pixels::read_mask(&path).expect("a mask");
        assert_eq!(pixels::mask_from_bytes(bytes, u64::MAX).expect("a mask"), mask);
        assert_eq!(mask.image.get_pixel(0, 0), &Luma([expected]), "{format:?}");
        assert_eq!(mask.warnings.len(), warnings);
    }
}

#[test]
fn an_image_without_any_opacity_is_opaque() {
    let read = pixels::read(&fault("bmp-with-empty-alpha/v5.bmp")).expect("an image");
    assert_eq!(read.image, open("bmp-with-empty-alpha/base.png"));
    assert_eq!((read.opacity, read.warnings.len()), (None, 1));
}

#[test]
fn claims_are_checked_before_anything_is_reserved() {
    let error = pixels::read(&fault("picture-claims/webp-claims-4GB.webp")).expect_err("4 GB");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    // A chunk that begins before the end and says behind it how long it is.
    let read = pixels::read(&fault("picture-claims/webp-claims-4GB-at-its-end.webp"));
    assert_eq!(read.map(|read| read.image.dimensions()).expect("it is no part of it"), (9, 7));
    let image: DynamicImage = sample().into();
    let side = 7000u16;
    let put = |format: ImageFormat, at: &[usize], is_big_endian: bool| {
        let mut bytes = encoded(&image, format);
        for at in at {
            let side = if is_big_endian { side.to_be_bytes() } else { side.to_le_bytes() };
            bytes[*at..at + 2].copy_from_slice(&side);
        }
        bytes
    };
    let jpeg = encoded(&image, ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
    let gif = encoded(&image, ImageFormat::Gif);
    let descriptor = 13 + (3 << ((gif[10] & 7) + 1)) * usize::from(gif[10] >> 7);
    let descriptor =
        descriptor + gif[descriptor..].iter().position(|byte| *byte == 0x2c).expect("a frame");
    let mut png = put(ImageFormat::Png, &[18, 22], true);
    let header = chunk(b"IHDR", &png[16..29]);
    png[8..33].copy_from_slice(&header);
    for (name, bytes) in [
        ("bmp", put(ImageFormat::Bmp, &[18, 22], false)),
        ("gif's screen", put(ImageFormat::Gif, &[6, 8], false)),
        ("gif's frame", put(ImageFormat::Gif, &[descriptor + 5, descriptor + 7], false)),
        ("jpeg", put(ImageFormat::Jpeg, &[frame + 5, frame + 7], true)),
        ("png", png),
        ("pnm", b"P6 7000 7000 255\n123456".to_vec()),
    ] {
        let error = pixels::from_bytes(bytes, u64::MAX).map(|_| ()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::BadInput, "{name}: {error}");
        assert!(
            error.detail().contains("claim to be 7000 x 7000") || name == "gif's frame",
            "{name}: {error}"
        );
    }
}

#[test]
fn memory_counts_what_comes_in() {
    let large = RgbImage::from_pixel(2000, 2000, Rgb([9; 3]));
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp] {
        let bytes = encoded(&large.clone().into(), format);
        let error =
            pixels::from_bytes(bytes.clone(), 10 << 20).map(|_| ()).expect_err("too little");
        assert_eq!(error.kind(), ErrorKind::NotEnoughMemory, "{format:?}");
        assert!(error.to_string().starts_with("memory: expected "), "{error}");
        pixels::from_bytes(bytes, 120 << 20).expect("enough");
    }
}

#[test]
#[cfg(unix)]
fn only_files_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("a command");
    assert!(made.success());
    for path in [pipe, "/dev/zero".into(), folder.path().to_owned()] {
        let kinds = [
            pixels::read(&path).map(|_| ()),
            pixels::read_mask(&path).map(|_| ()),
            pixels::read_request(&path).map(|_| ()),
        ];
        for found in kinds {
            assert_eq!(found.expect_err("no file").kind(), ErrorKind::BadInput, "{path:?}");
        }
    }
}
