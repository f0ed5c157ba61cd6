//! An image file that remembers where it came from: the request and the model that made it, for us
//! and for other programs.

use std::path::Path;

use image::RgbImage;
use pocketmuse::{
    MadeBy, Request,
    pixels::{self, Format},
};
use pocketmuse_package::Result;

/// Writes an image in the format of the path's ending, in place of what was there, once it is
/// whole. Without its request and what made it, the file holds the pixels alone.
///
/// # Errors
///
/// `BadRequest` for an unknown ending; `Io` if the folder cannot be written to or the disk is full.
pub(crate) fn write(
    image: &RgbImage,
    path: &Path,
    told: Option<(&Request, &MadeBy)>,
) -> Result<()> {
    let (request, notes) = beside_pixels(told);
    pixels::write(image, path, request, &notes)
}

/// What [`write`] writes to a file of the format that the path's ending asks for.
///
/// # Errors
///
/// `BadRequest` for an unknown ending, or a format that cannot hold an image so large.
pub(crate) fn to_bytes(
    image: &RgbImage,
    path: &Path,
    told: Option<(&Request, &MadeBy)>,
) -> Result<Vec<u8>> {
    let (request, notes) = beside_pixels(told);
    pixels::to_bytes(image, Format::of(path)?, request, &notes)
}

/// The request, and the notes of an image's file.
fn beside_pixels<'a>(
    told: Option<(&'a Request, &MadeBy)>,
) -> (Option<&'a Request>, Vec<(&'static str, String)>) {
    told.map_or_else(Default::default, |(request, made_by)| (Some(request), made_by.notes(request)))
}

/// Reads the request of an image's file, and what made it if that is in it.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is no PNG, JPEG or WebP, is damaged, or holds no
/// request.
pub(crate) fn read(path: &Path) -> Result<(Request, Option<MadeBy>)> {
    Ok((pixels::read_request(path)?, read_made_by(path)))
}

/// Where an image came from matters less than that it can be made again: what cannot be read is as
/// good as absent.
fn read_made_by(path: &Path) -> Option<MadeBy> {
    serde_json::from_str(&pixels::read_note(path, MadeBy::KEYWORD).ok()??).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pocketmuse::{Flavour, Provider, Stage};
    use pocketmuse_package::{Digest, ErrorKind};

    use super::*;

    fn made_by() -> MadeBy {
        let package = Digest::of(b"abc");
        MadeBy {
            version: "1".to_owned(),
            model: "tiny".to_owned(),
            package,
            flavour: Some(Flavour::F32),
            providers: [(Stage::Step, Provider::OpenVino)].into(),
            provider_options: [(
                Provider::OpenVino,
                [("precision".to_owned(), "bf16".to_owned())].into(),
            )]
            .into(),
            split: BTreeMap::new(),
            image: 2,
        }
    }

    #[test]
    fn a_file_remembers_and_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = RgbImage::from_fn(4, 3, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let request = Request {
            prompt: "ein \"roter\" Leuchtturm \u{1F680}".to_owned(),
            ..Request::default()
        };
        for name in ["a.png", "a.png", "a.webp", "a.webp", "a.jpg", "a.jpg"] {
            let path = folder.path().join(name);
            write(&image, &path, Some((&request, &made_by()))).expect("written");
            assert_eq!(read(&path).expect("inside"), (request.clone(), Some(made_by())));
            let read = image::open(&path).expect("an image").to_rgb8();
            assert!(read == image || name == "a.jpg");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 3);
    }

    #[test]
    fn images_without_a_request_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.jpg", "a.webp", "a.png"] {
            let path = folder.path().join(name);
            write(&RgbImage::new(4, 3), &path, None).expect("written");
            assert_eq!(read(&path).expect_err(name).kind(), ErrorKind::BadInput);
        }
    }
}
