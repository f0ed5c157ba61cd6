//! Pixels to tokens.

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{Network, outputs::one};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
};

/// The encoder, loaded.
pub struct Encoder {
    session: Session,
    pixels_per_token: usize,
    codebook_size: u32,
}

impl Network for Encoder {
    const STAGE: Stage = Stage::Encoder;

    fn of(package: &Package, session: Session) -> Result<Self> {
        let model = &package.manifest().model;
        let (pixels_per_token, codebook_size) =
            (model.pixels_per_token as usize, model.codebook_size);
        Ok(Self { session, pixels_per_token, codebook_size })
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Encoder {
    /// The tokens of one image, as [`Self::encode`] takes it, row-major.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails or returns anything but as many tokens as the image has.
    pub fn tokens(&mut self, pixels: &[f32], size: [usize; 2]) -> Result<Vec<u32>> {
        let tokens = self.encode(pixels, size)?;
        let [rows, columns] = size.map(|side| side / self.pixels_per_token);
        let tokens = tokens
            .as_i64()?
            .iter()
            .map(|&token| u32::try_from(token).ok().filter(|token| *token < self.codebook_size));
        match tokens.collect::<Option<Vec<_>>>() {
            Some(tokens) if tokens.len() == rows * columns => Ok(tokens),
            _ => {
                let detail = format!(
                    "expected {rows} x {columns} tokens below {}, found others",
                    self.codebook_size
                );
                Err(Error::new(ErrorKind::EngineFailed, "encoder", detail))
            }
        }
    }

    /// Encodes one image, `[3, height, width]` in 0 to 1, row-major. Returns tokens, `[1, rows,
    /// columns]`.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails.
    pub fn encode(&mut self, pixels: &[f32], [height, width]: [usize; 2]) -> Result<Tensor> {
        one("encoder", self.session.run(&[("pixels", Input::F32(&[1, 3, height, width], pixels))])?)
    }

    /// Tapped values of the last run.
    #[cfg(feature = "measure")]
    pub fn taps(&self) -> &std::collections::BTreeMap<String, Tensor> {
        self.session.taps()
    }
}
