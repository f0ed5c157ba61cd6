//! Protobuf wire bytes, which ONNX files are made of. Knows wire types, no message.

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
}
