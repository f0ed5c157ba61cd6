//! How much memory may be used. A plain value; asks no system.

use std::{fmt, str::FromStr};

use pocketmuse_package::{Error, ErrorKind, Result};

/// The budget where the system does not tell what it has left.
pub const FALLBACK_BYTES: u64 = 2_000_000_000;

/// How much memory the process may hold while it makes an image.
///
/// # Example
///
/// ```
/// use pocketmuse::Budget;
/// assert_eq!("512MB".parse::<Budget>()?, Budget::Bytes(512_000_000));
/// assert_eq!("1.5 GiB".parse::<Budget>()?, Budget::Bytes(3 << 29));
/// assert_eq!("auto".parse::<Budget>()?, Budget::Auto);
/// # Ok::<(), pocketmuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// Three quarters of what the process holds and the system has left, as they are when the
    /// package is opened; where the system does not tell, [`FALLBACK_BYTES`]. A request that needs
    /// more is tried all the same.
    #[default]
    Auto,
    /// At most so many bytes, resident: anonymous memory and the pages of files that are mapped; on
    /// Apple's systems anonymous memory alone, which is what they count. A request that needs more
    /// is refused before anything is loaded.
    Bytes(u64),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    /// Reads `auto`, or a number of bytes with or without a unit, in either case: B, kB, MB and GB,
    /// which K, M and G alone are too, or KiB, MiB and GiB, those of 1,024.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let detail =
                format!("expected auto or a size such as 512MB, 2G or 1.5GB, found {text:?}");
            Error::new(ErrorKind::BadRequest, "memory", detail)
        };
        let words = text.trim().to_ascii_lowercase();
        if words == "auto" {
            return Ok(Self::Auto);
        }
        let (number, unit) = words.split_at(
            words.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(words.len()),
        );
        let unit = match unit {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "kib" => 1 << 10,
            "m" | "mb" => 1_000_000,
            "mib" => 1 << 20,
            "g" | "gb" => 1_000_000_000,
            "gib" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number = number.trim();
        if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(wrong());
        }
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * f64::from(unit);
        Ok(Self::Bytes(bytes as u64)) // what is beyond u64 becomes its largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_people_write_them() {
        let cases = [
            ("0", 0),
            ("512", 512),
            ("512MB", 512_000_000),
            ("2G", 2_000_000_000),
            ("512m", 512_000_000),
            ("400MiB", 400 << 20),
            ("1GB", 1_000_000_000),
            (" 1.5 gib ", 3 << 29),
            ("64kb", 64_000),
            ("99999999999999GB", u64::MAX),
        ];
        for (text, bytes) in cases {
            let found: Budget = text.parse().expect(text);
            assert_eq!(found, Budget::Bytes(bytes), "{text}");
            assert_eq!(found.to_string().parse::<Budget>().ok(), Some(found), "{text}");
        }
        assert_eq!("Auto".parse::<Budget>().ok(), Some(Budget::Auto));
        for text in ["", "MB", "-1", "1e3", "inf", "NaN", "1.2.3", "12 parsecs", "512MBMB", "ａ"] {
            let error = text.parse::<Budget>().expect_err(text);
            assert!(error.to_string().starts_with("memory: expected auto or a size"), "{error}");
        }
    }
}
