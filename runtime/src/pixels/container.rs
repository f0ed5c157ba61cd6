//! The container of an animated WebP around single images that the crate `image` encodes, which
//! writes no animation itself. Layout: "WebP Container Specification" (RFC 9649, section 2.7),
//! chunks VP8X, ANIM, ANMF. Knows no file.

use std::{
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use image::{ImageError, RgbImage, codecs::webp::WebPEncoder};

/// `RIFF`, a size and `WEBP`, with which every image that the crate `image` writes begins too.
const HEAD_BYTES: usize = 12;
/// VP8X: there is an animation.
const ANIMATED: u8 = 0b10;
/// ANMF: the frame replaces what was there.
const NO_BLENDING: u8 = 0b10;

/// An animated WebP in the making: lossless, shown without end.
pub(super) struct Webp<W> {
    out: W,
    delay: Duration,
    /// Bytes after the size of the whole.
    bytes: u64,
}

impl<W: Write + Seek> Webp<W> {
    pub(super) fn new(out: W, delay: Duration) -> Self {
        Self { out, delay, bytes: 0 }
    }

    /// Writes a frame; before the first one, what says how large they are.
    pub(super) fn add(&mut self, image: &RgbImage) -> io::Result<()> {
        let [width, height] =
            [image.width(), image.height()].map(|side| three(side.saturating_sub(1)));
        if self.bytes == 0 {
            self.write(&[b"RIFF\0\0\0\0"])?; // the size is known at the end
            self.bytes = 0;
            self.write(&[b"WEBP"])?;
            self.chunk(*b"VP8X", &[&[ANIMATED, 0, 0, 0], &width, &height])?;
            self.chunk(*b"ANIM", &[&[255; 4], &[0, 0]])?; // white where nothing is, no end
        }
        let mut encoded = Vec::new();
        image.write_with_encoder(WebPEncoder::new_lossless(&mut encoded)).map_err(|error| {
            match error {
                ImageError::IoError(error) => error,
                error => io::Error::other(error),
            }
        })?;
        let image = encoded.get(HEAD_BYTES..).unwrap_or_default();
        let delay = three(u32::try_from(self.delay.as_millis()).unwrap_or(u32::MAX).min(0xff_ffff));
        self.chunk(*b"ANMF", &[&[0; 6], &width, &height, &delay, &[NO_BLENDING], image])
    }

    /// Fills in the size of the whole. Returns what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let bytes = u32::try_from(self.bytes)
            .map_err(|_| io::Error::other("expected at most 4.2 GB of frames"))?;
        self.out.seek(SeekFrom::Start(4))?;
        self.out.write_all(&bytes.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// A chunk: its name, its size, its parts, and a byte more if the size is odd.
    fn chunk(&mut self, name: [u8; 4], parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let size = u32::try_from(bytes)
            .map_err(|_| io::Error::other("expected at most 4.2 GB in a frame"))?;
        self.write(&[&name, &size.to_le_bytes()])?;
        self.write(parts)?;
        self.write(&[&[0][..bytes % 2]])
    }

    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.out.write_all(part)?;
            self.bytes += part.len() as u64;
        }
        Ok(())
    }
}

/// The low 24 bits, least byte first.
fn three(number: u32) -> [u8; 3] {
    let [first, second, third, _] = number.to_le_bytes();
    [first, second, third]
}
