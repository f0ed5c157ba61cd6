//! The four inks of a CMYK image, as its file holds them. The image library mixes them without a
//! profile; a profile needs them apart.

#[cfg(feature = "tiff")]
use std::io::Cursor;

use image::ImageFormat;
#[cfg(feature = "tiff")]
use tiff::decoder::{Decoder, DecodingResult, Limits};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

/// Cyan, magenta, yellow and black of each pixel, 0 for none and 255 for all; `None` if the image
/// has no four inks.
///
/// # Errors
///
/// A sentence, if it cannot be decoded.
#[cfg_attr(not(feature = "tiff"), expect(unused_variables, reason = "a TIFF's alone"))]
pub(super) fn read(
    format: ImageFormat,
    bytes: &[u8],
    most_bytes: usize,
) -> Result<Option<Vec<u8>>, String> {
    match format {
        ImageFormat::Jpeg => jpeg(bytes),
        #[cfg(feature = "tiff")]
        ImageFormat::Tiff => tiff(bytes, most_bytes),
        _ => Ok(None),
    }
}

/// Whether all pixels of a JPEG without an end are there.
pub(super) fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let options = options(bytes).map(|(_, options)| options.set_strict_mode(true));
    options.is_ok_and(|options| {
        JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().is_ok()
    })
}

/// What is in a JPEG, and how to read it as it is.
fn options(bytes: &[u8]) -> Result<(ColorSpace, DecoderOptions), String> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let colours = decoder.input_colorspace().unwrap_or(ColorSpace::Unknown);
    let into = if colours == ColorSpace::YCbCr { ColorSpace::RGB } else { colours };
    Ok((colours, options.jpeg_set_out_colorspace(into)))
}

/// Inks are written as the light that they leave, as Adobe does.
fn jpeg(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let (colours, options) = options(bytes)?;
    if !matches!(colours, ColorSpace::CMYK | ColorSpace::YCCK) {
        return Ok(None);
    }
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let mut inks = decoder.decode().map_err(|error| error.to_string())?;
    for pixel in inks.as_chunks_mut::<4>().0 {
        if colours == ColorSpace::YCCK {
            let [y, cb, cr, black] = *pixel;
            let [y, cb, cr] = [f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0];
            // ITU-T T.871, section 7
            let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
            let [cyan, magenta, yellow] = rgb.map(|value| value.round().clamp(0.0, 255.0) as u8);
            *pixel = [cyan, magenta, yellow, 255 - black];
        } else {
            *pixel = pixel.map(|light| 255 - light);
        }
    }
    Ok(Some(inks))
}

#[cfg(feature = "tiff")]
fn tiff(bytes: &[u8], most_bytes: usize) -> Result<Option<Vec<u8>>, String> {
    let wrong = |error: tiff::TiffError| error.to_string();
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(wrong)?;
    if !matches!(decoder.colortype().map_err(wrong)?, tiff::ColorType::CMYK(8 | 16)) {
        return Ok(None);
    }
    let mut limits = Limits::default();
    limits.decoding_buffer_size = most_bytes;
    limits.intermediate_buffer_size = most_bytes;
    let mut decoder = decoder.with_limits(limits);
    match decoder.read_image().map_err(wrong)? {
        DecodingResult::U8(inks) => Ok(Some(inks)),
        DecodingResult::U16(inks) => Ok(Some(inks.iter().map(|ink| (ink / 257) as u8).collect())),
        _ => Ok(None),
    }
}
