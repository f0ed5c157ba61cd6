//! What `pocketmuse edit` starts from: a picture and its mask, read from files.

use pocketmuse::{Source, pixels};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::args::EditArgs;

/// Reads the picture, and the mask if one is asked for.
///
/// # Errors
///
/// `Io` or `BadInput` for a file; `BadRequest` for a box outside the picture.
pub(super) fn source(args: &EditArgs) -> Result<Source> {
    let picture = pixels::read(&args.picture)?;
    let source = Source::new(picture.image).with_paste(!args.no_paste);
    match (&args.mask, args.area, args.alpha) {
        (Some(mask), ..) => Ok(source.with_mask(pixels::read_mask(mask)?)),
        (_, Some(area), _) => source.with_box(area),
        (_, _, true) => match picture.opacity {
            Some(opacity) => Ok(source.with_opacity(opacity)),
            None => {
                let detail = "expected a picture with an alpha channel, found none";
                Err(Error::new(ErrorKind::BadInput, args.picture.display().to_string(), detail))
            }
        },
        _ => Ok(source),
    }
}
