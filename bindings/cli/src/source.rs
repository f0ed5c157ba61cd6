//! What an edit starts from: an image and its mask, in files that may be read again later.

use std::path::{Path, PathBuf};

use image::RgbImage;
use pocketmuse::{Budget, Source, pixels};
use pocketmuse_package::{Digest, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::{args::SourceArgs, console::Console};

/// The files of an edit and what is repainted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceFiles {
    #[serde(rename = "picture")]
    image: PinnedFile,
    mask: Option<PinnedFile>,
    alpha: bool,
    area: Option<[u32; 4]>,
    #[serde(default)]
    extend: Option<[u32; 4]>,
    paste: bool,
}

/// A file as it was when the job began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedFile {
    path: PathBuf,
    sha256: Digest,
}

impl PinnedFile {
    /// # Errors
    ///
    /// `Io` or `BadInput` for what cannot be read.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        if !path.metadata().map_err(|error| Error::io(path, error))?.is_file() {
            let detail = "expected an image file, found no file";
            return Err(Error::new(ErrorKind::BadInput, path.display().to_string(), detail));
        }
        Ok(Self { sha256: Digest::of_file(path)?, path: path.to_owned() })
    }

    /// The same, to be found from any folder.
    ///
    /// # Errors
    ///
    /// `Io` if there is no current folder.
    pub(crate) fn absolute(&self) -> Result<Self> {
        Ok(Self { path: absolute(&self.path)?, ..self.clone() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, if it is as it was.
    ///
    /// # Errors
    ///
    /// `BadInput` if it was changed; `Io` if it cannot be read.
    pub(crate) fn check(&self) -> Result<&Path> {
        let found = Digest::of_file(&self.path)?;
        if found == self.sha256 {
            return Ok(&self.path);
        }
        let detail =
            format!("expected SHA-256 {}, found {found}: the image was changed", self.sha256);
        Err(Error::new(ErrorKind::BadInput, self.path.display().to_string(), detail))
    }
}

impl SourceFiles {
    /// # Errors
    ///
    /// `Io` or `BadInput` for a file.
    pub(crate) fn new(args: &SourceArgs) -> Result<Self> {
        Ok(Self {
            image: PinnedFile::new(&args.image)?,
            mask: args.mask.as_deref().map(PinnedFile::new).transpose()?,
            alpha: args.alpha,
            area: args.area,
            extend: args.extend,
            paste: !args.no_paste,
        })
    }

    /// The same, to be found from any folder.
    ///
    /// # Errors
    ///
    /// `Io` if there is no current folder.
    pub(crate) fn absolute(&self) -> Result<Self> {
        let mask = self.mask.as_ref().map(PinnedFile::absolute).transpose()?;
        Ok(Self { image: self.image.absolute()?, mask, ..self.clone() })
    }

    /// The files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = [Some(&self.image), self.mask.as_ref()];
        files.into_iter().flatten().map(|file| file.path.as_path())
    }

    /// Reads the image, and the mask if one is asked for, within `memory`. What people should know
    /// of them is added to `warnings`.
    ///
    /// # Errors
    ///
    /// `Io` or `BadInput` for a file, changed ones too; `NotEnoughMemory` for one that needs more;
    /// `BadRequest` for a box outside the image.
    pub(crate) fn open(
        &self,
        memory: Option<Budget>,
        warnings: &mut Vec<String>,
    ) -> Result<Source> {
        let most_bytes = most_bytes(memory);
        let path = self.image.check()?;
        let read = pixels::read_within(path, most_bytes)?;
        warnings.extend(read.warnings);
        let image_bytes = read.image.as_raw().len() as u64;
        let source = Source::new(read.image).with_paste(self.paste);
        let source = match (&self.mask, self.area, self.alpha) {
            (Some(mask), ..) => {
                let left = most_bytes.saturating_sub(image_bytes);
                let mask = pixels::read_mask_within(mask.check()?, left)?;
                warnings.extend(mask.warnings);
                Ok(source.with_mask(mask.image))
            }
            (_, Some(area), _) => source.with_box(area),
            (_, _, true) => match read.opacity {
                Some(opacity) => Ok(source.with_opacity(opacity)),
                None => {
                    let detail = "expected an image with an alpha channel, found none";
                    Err(Error::new(ErrorKind::BadInput, path.display().to_string(), detail))
                }
            },
            _ => Ok(source),
        }?;
        match self.extend {
            Some(sides) => source.extended(sides),
            None => Ok(source),
        }
    }
}

/// Reads an image within `memory`, and warns of what people should know of it.
///
/// # Errors
///
/// As for [`pixels::read_within`] and [`Console::warning`].
pub(crate) fn read_image(
    path: &Path,
    memory: Option<Budget>,
    console: &Console,
) -> Result<RgbImage> {
    let read = pixels::read_within(path, most_bytes(memory))?;
    read.warnings.iter().try_for_each(|warning| console.warning(warning))?;
    Ok(read.image)
}

/// The bytes of a budget that says some.
fn most_bytes(memory: Option<Budget>) -> u64 {
    match memory {
        Some(Budget::Bytes(bytes)) => bytes,
        Some(Budget::Auto) | None => u64::MAX,
    }
}

/// A path that means the same in any folder.
///
/// # Errors
///
/// `Io` if there is no current folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::io(path, error))
}
