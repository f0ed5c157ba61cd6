//! The fitted source of an edit within a state's bytes: pixels as they are, since they are small
//! beside what a step costs, and nothing that is unpacked can become larger than it says.
//!
//! ```text
//! flags, 1 byte: 1 an image, 2 a mask of tokens, 4 a mask of pixels, 8 an extension, 16 a crop
//! image: width, height, each 4 bytes; red, green, blue of each pixel
//! mask of tokens: feather and how many, each 4 bytes; 1 byte each, 1 if it is repainted
//! mask of pixels: 1 byte for each pixel of the image
//! extension: 4 bytes each of the image's width and height, and what is added left, top, right, down
//! crop: left and top, each 4 bytes
//! ```

use image::{GrayImage, RgbImage};
use pocketmuse_package::Result;

use super::rest::{Rest, bad, cut};
use crate::request::{
    MAX_SIDE,
    extension::Extension,
    fitted::{FittedSource, Mask},
};

const IMAGE: u8 = 1;
const TOKENS: u8 = 2;
const PIXELS: u8 = 4;
const EXTENSION: u8 = 8;
const CROP: u8 = 16;

/// Appends `source`, or that there is none.
pub(super) fn write(source: Option<&FittedSource>, bytes: &mut Vec<u8>) {
    let Some(FittedSource { image, mask, extension, crop, .. }) = source else {
        return bytes.push(0);
    };
    let pixels = mask.as_ref().and_then(|mask| mask.pixels.as_ref());
    let flag = |flag: u8, is_there: bool| if is_there { flag } else { 0 };
    bytes.push(
        IMAGE
            | flag(TOKENS, mask.is_some())
            | flag(PIXELS, pixels.is_some())
            | flag(EXTENSION, extension.is_some())
            | flag(CROP, crop.is_some()),
    );
    let numbers = |bytes: &mut Vec<u8>, numbers: &[u32]| {
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    };
    numbers(bytes, &[image.width(), image.height()]);
    bytes.extend(image.as_raw());
    if let Some(mask) = mask {
        numbers(bytes, &[mask.feather, mask.tokens.len() as u32]);
        bytes.extend(mask.tokens.iter().map(|repaint| u8::from(*repaint)));
    }
    bytes.extend(pixels.iter().flat_map(|pixels| pixels.as_raw()));
    if let Some(extension) = extension {
        numbers(bytes, &extension.image());
        numbers(bytes, &extension.added());
    }
    numbers(bytes, crop.as_ref().map_or(&[], |crop| crop));
}

/// Reads what [`write()`] appended.
///
/// # Errors
///
/// `BadInput` if it did not.
pub(super) fn read(rest: &mut Rest<'_>) -> Result<Option<FittedSource>> {
    let flags = rest.byte()?;
    let has = |flag: u8| flags & flag != 0;
    if flags == 0 {
        return Ok(None);
    }
    let known = IMAGE | TOKENS | PIXELS | EXTENSION | CROP;
    if !has(IMAGE) || flags & !known != 0 || (has(PIXELS) && !has(TOKENS)) {
        return Err(bad(format!("expected an image or none, found the flags {flags:#04x}")));
    }
    let [width, height] = [rest.number()?, rest.number()?];
    if width == 0 || height == 0 {
        return Err(bad(format!("expected an image with pixels, found {width} x {height}")));
    }
    let plane = usize::try_from(u64::from(width) * u64::from(height)).map_err(|_| cut())?;
    let bytes = rest.take(plane.checked_mul(3).ok_or_else(cut)?)?;
    let image = RgbImage::from_raw(width, height, bytes.to_vec()).ok_or_else(cut)?;
    let mask = match has(TOKENS) {
        true => Some(read_mask(rest, has(PIXELS).then_some((plane, [width, height])))?),
        false => None,
    };
    let extension = match has(EXTENSION) {
        true => Some(read_extension(rest)?),
        false => None,
    };
    let crop = if has(CROP) { Some([rest.number()?, rest.number()?]) } else { None };
    Ok(Some(FittedSource { extension, crop, ..FittedSource::new(image, mask) }))
}

fn read_mask(rest: &mut Rest<'_>, pixels: Option<(usize, [u32; 2])>) -> Result<Mask> {
    let (feather, count) = (rest.number()?, rest.length()?);
    let tokens = rest.take(count)?;
    if tokens.iter().any(|repaint| *repaint > 1) {
        return Err(bad("expected a mask of 0 and 1, found others"));
    }
    let pixels = match pixels {
        Some((plane, [width, height])) => {
            let bytes = rest.take(plane)?.to_vec();
            Some(GrayImage::from_raw(width, height, bytes).ok_or_else(cut)?)
        }
        None => None,
    };
    Ok(Mask { pixels, tokens: tokens.iter().map(|repaint| *repaint == 1).collect(), feather })
}

fn read_extension(rest: &mut Rest<'_>) -> Result<Extension> {
    let mut numbers = [0; 6];
    for number in &mut numbers {
        *number = rest.number()?;
    }
    let [width, height, left, top, right, bottom] = numbers;
    Extension::new([width, height], [left, top, right, bottom], MAX_SIDE)
        .ok_or_else(|| bad(format!("expected an image and what is added, found {numbers:?}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image::{Luma, Rgb};
    use std::collections::BTreeMap;

    use pocketmuse_package::{Digest, ErrorKind, Flavour};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::{
        pipeline::state::State,
        request::{Request, RngKind},
        sampler::rng::Rng,
    };

    fn state(image: FittedSource) -> State {
        State {
            package: Digest::of(b"package"),
            flavour: Flavour::F32,
            providers: BTreeMap::new(),
            request: Request::default(),
            source: Some(image.digest),
            next_step: 1,
            tokens: vec![Some(3), None],
            rng: Rng::new(RngKind::Own, 9),
            video: None,
            image: Some(Arc::new(image)),
        }
    }

    /// Every way in which an image of 3 x 2 pixels can be fitted.
    fn sources() -> Vec<FittedSource> {
        let image = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 200]));
        let pixels = GrayImage::from_fn(3, 2, |x, _| Luma([80 * x as u8]));
        let mask = Mask { pixels: None, tokens: vec![true, false], feather: 16 };
        let pasted = Mask { pixels: Some(pixels), ..mask.clone() };
        let extension = Extension::new([2, 2], [1, 0, 0, 0], MAX_SIDE);
        let masks = [None, Some(mask), Some(pasted)];
        let others = [(None, None), (extension, None), (extension, Some([1, 0]))];
        let source = |mask: &Option<Mask>, (extension, crop)| FittedSource {
            extension,
            crop,
            ..FittedSource::new(image.clone(), mask.clone())
        };
        masks.iter().flat_map(|mask| others.map(|others| source(mask, others))).collect()
    }

    fn bytes_of(source: &FittedSource) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(Some(source), &mut bytes);
        bytes
    }

    #[test]
    fn comes_back_as_it_was() {
        for source in sources() {
            let state = state(source);
            assert_eq!(State::from_bytes(&state.to_bytes()).expect("a job"), state);
        }
    }

    #[test]
    fn what_is_cut_or_odd_is_refused() {
        for source in sources() {
            let bytes = bytes_of(&source);
            for end in 0..bytes.len() {
                let error = read(&mut Rest::of(&bytes[..end])).expect_err("cut");
                assert_eq!(error.to_string(), "job: expected more bytes, found the end");
            }
        }
        let odd = |at: usize, byte: u8| {
            let mut bytes = bytes_of(&sources()[8]);
            bytes[at] = byte;
            let error = read(&mut Rest::of(&bytes)).expect_err("odd");
            assert_eq!(error.kind(), ErrorKind::BadInput);
            error.to_string()
        };
        assert_eq!(odd(0, 0x20), "job: expected an image or none, found the flags 0x20");
        assert_eq!(odd(0, 2), "job: expected an image or none, found the flags 0x02");
        assert_eq!(odd(0, 5), "job: expected an image or none, found the flags 0x05");
        assert_eq!(odd(4, 255), "job: expected more bytes, found the end", "its width");
        assert_eq!(odd(8, 255), "job: expected more bytes, found the end", "its height");
        assert_eq!(odd(1, 0), "job: expected an image with pixels, found 0 x 2");
        assert_eq!(odd(5, 0), "job: expected an image with pixels, found 3 x 0");
        assert_eq!(odd(35, 2), "job: expected a mask of 0 and 1, found others");
        assert!(odd(46, 255).starts_with("job: expected an image and what is added, found ["));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            which: proptest::sample::Index,
            at: proptest::sample::Index,
            change in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = bytes_of(which.get(&sources()));
            let at = at.index(bytes.len());
            for (place, byte) in bytes[at..].iter_mut().zip(change) {
                *place = byte;
            }
            if let Ok(Some(found)) = read(&mut Rest::of(&bytes)) {
                let again = read(&mut Rest::of(&bytes_of(&found))).expect("as it was read");
                prop_assert_eq!(again, Some(found));
            }
        }
    }
}
