//! Tokens to pixels.

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{Network, outputs::one};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
};

/// The decoder, loaded.
pub struct Decoder {
    session: Session,
    pixels_per_token: usize,
}

/// A decoded image, channels first, red green blue, about 0 to 1 and not clipped.
pub struct Pixels {
    tensor: Tensor,
    height: usize,
    width: usize,
}

impl Network for Decoder {
    const STAGE: Stage = Stage::Decoder;

    fn of(package: &Package, session: Session) -> Result<Self> {
        let pixels_per_token = package.manifest().model.pixels_per_token as usize;
        Ok(Self { session, pixels_per_token })
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Decoder {
    /// Decodes one image's tokens, a row-major grid of `height` rows and `width` columns.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails or returns a number that is not finite.
    pub fn decode(&mut self, tokens: &[i64], [height, width]: [usize; 2]) -> Result<Pixels> {
        let outputs = self.session.run(&[("tokens", Input::I64(&[1, height, width], tokens))])?;
        let tensor = one("decoder", outputs)?.to_f32()?;
        let (height, width) = (height * self.pixels_per_token, width * self.pixels_per_token);
        let values = tensor.shaped(&[1, 3, height, width])?;
        if let Some(found) = values.iter().find(|value| !value.is_finite()) {
            let detail = format!("expected finite pixels, found {found}");
            return Err(Error::new(ErrorKind::EngineFailed, "decoder", detail));
        }
        Ok(Pixels { tensor, height, width })
    }

    /// Tapped values of the last run.
    #[cfg(feature = "measure")]
    pub fn taps(&self) -> &std::collections::BTreeMap<String, Tensor> {
        self.session.taps()
    }
}

impl Pixels {
    /// The values, `[3, height, width]` row-major.
    pub fn values(&self) -> Result<&[f32]> {
        self.tensor.as_f32()
    }

    /// Height and width in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }
}
