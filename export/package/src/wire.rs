//! Protobuf wire bytes, which ONNX files are made of: written and read. Knows wire types, no
//! message.

/// The bytes of one message, field after field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80); // the low seven bits
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    /// An integer; negative ones as their 64 bits.
    pub fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    /// A 32-bit float.
    pub fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes.
    pub fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// A text.
    pub fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message inside this one.
    pub fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// An integer.
    Number(u64),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// A float of 32 or 64 bits, passed over.
    Fixed,
}

/// Visits the fields of a message in order, each with its number.
///
/// `None` if the message is cut off or not one, or as soon as `visit` says so. Never panics.
///
/// # Example
///
/// ```
/// use pocketmuse_package::wire::{Field, Message, for_each};
///
/// let mut message = Message::default();
/// message.number(1, 150).text(2, "testing");
/// let mut found = Vec::new();
/// let bytes = message.into_bytes();
/// for_each(&bytes, |number, field| {
///     found.push((number, field));
///     Some(())
/// });
/// assert_eq!(found, [(1, Field::Number(150)), (2, Field::Bytes(b"testing"))]);
/// ```
pub fn for_each<'a>(
    mut message: &'a [u8],
    mut visit: impl FnMut(u64, Field<'a>) -> Option<()>,
) -> Option<()> {
    while !message.is_empty() {
        // Other readers take a key's low 32 bits, and would see another field.
        let key = u64::from(u32::try_from(varint(&mut message)?).ok()?);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => take(&mut message, 8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => take(&mut message, 4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        visit(key >> 3, field)?;
    }
    Some(())
}

/// The integers of a repeated field, which is packed or comes once for each; adds them to
/// `numbers`.
pub fn numbers(field: Field<'_>, numbers: &mut Vec<u64>) -> Option<()> {
    match field {
        Field::Number(number) => numbers.push(number),
        Field::Bytes(mut packed) => {
            while !packed.is_empty() {
                numbers.push(varint(&mut packed)?);
            }
        }
        Field::Fixed => return None,
    }
    Some(())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_the_format_says() {
        let mut message = Message::default();
        // The examples of the protobuf encoding guide: field 1 = 150; field 2 = "testing".
        message.number(1, 150).text(2, "testing");
        assert_eq!(message.0, [&[0x08, 0x96, 0x01, 0x12, 0x07], b"testing".as_slice()].concat());
        let mut negative = Message::default();
        negative.number(3, (-1i64).cast_unsigned());
        assert_eq!(negative.0, [0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }

    #[test]
    fn repeated_integers_are_packed_or_not() {
        let mut found = Vec::new();
        numbers(Field::Number(150), &mut found).expect("one");
        numbers(Field::Bytes(&[0x96, 0x01, 2]), &mut found).expect("two");
        assert_eq!(found, [150, 150, 2]);
        assert_eq!(numbers(Field::Bytes(&[0x96]), &mut found), None);
    }
}
